/* Chain broadcast and reduce: the message runs along the ranks from (or to) the root in chunks, as NCCL's ring
 * broadcast does. */
#include "coll/coll.h"

enum { CHUNK_BYTES = FAB_COLL_OWN };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"chunk_bytes", "bytes", 524288, 0, INT64_C(1) << 40, "the message travels in chunks of this size; 0: whole",
     "512 KiB: NCCL's Simple protocol, one step of a 4 MiB buffer"},
    FAB_PARAM_END,
};

enum { RECEIVED };

static uint32_t pieces(const fab_coll_t *c)
{
    return fab_coll_pieces(c->bytes, c->values[CHUNK_BYTES], 1u << (FAB_COLL_STEP_BITS - 2));
}

/* Place in the chain: 0 sends first, count-1 only receives. A broadcast's root is first, a reduce's last. */
static uint32_t place(const fab_coll_t *c)
{
    const uint32_t behind_root = (c->position + c->count - c->root) % c->count;
    return c->kind == FAB_OP_BROADCAST ? behind_root : (behind_root + c->count - 1) % c->count;
}

static uint32_t next(const fab_coll_t *c) { return (c->position + 1) % c->count; }

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    if (c->count > 1 && place(c) != c->count - 1)
        emit(context, next(c), 0);
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    (void)state;
    if (c->count == 1)
        return true;
    if (place(c) != 0)
        return false;
    const uint32_t m = pieces(c);
    for (uint32_t piece = 0; piece < m; piece++)
        out.send(out.self, next(c), fab_coll_part(c->bytes, m, piece), piece, 0);
    return true;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    const uint32_t m = pieces(c);
    if (place(c) != c->count - 1)
        out.send(out.self, next(c), fab_coll_part(c->bytes, m, step), step, 0);
    return ++state->words[RECEIVED] == m;
}

const fab_coll_ops_t fab_coll_chain = {
    .impl = {"coll", "chain", "from rank to rank in chunks, in the order given from the root", params,
             1u << FAB_OP_BROADCAST | 1u << FAB_OP_REDUCE},
    .peers = peers,
    .start = start,
    .received = received,
};
