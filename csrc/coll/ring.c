/* Ring all-reduce, reduce-scatter and all-gather: each rank sends to the next what it got from the one before,
 * n-1 times (all-reduce: 2(n-1)). Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", JPDC 2009. */
#include "coll/coll.h"

enum { CHUNK_BYTES = FAB_COLL_OWN };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"chunk_bytes", "bytes", 0, 0, INT64_C(1) << 40,
     "a step's part is cut in chunks that travel on their own; 0: whole parts", ""},
    FAB_PARAM_END,
};

enum { RECEIVED };

static uint32_t steps(const fab_coll_t *c) { return (c->kind == FAB_OP_ALL_REDUCE ? 2 : 1) * (c->count - 1); }

static uint32_t pieces(const fab_coll_t *c)
{
    return fab_coll_pieces(c->bytes / c->count, c->values[CHUNK_BYTES], (1u << FAB_COLL_STEP_BITS) / (steps(c) + 1));
}

/* In step s rank i sends part i-s, and receives part i-s-1. */
static void send(const fab_coll_t *c, uint32_t step, uint32_t piece, fab_coll_out_t out)
{
    const uint32_t m = pieces(c), part = (c->position + 2 * c->count - step) % c->count;
    const int64_t bytes = fab_coll_part(fab_coll_part(c->bytes, c->count, part), m, piece);
    out.send(out.self, (c->position + 1) % c->count, bytes, step * m + piece, 0);
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    if (c->count > 1)
        emit(context, (c->position + 1) % c->count, 0);
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    if (c->count == 1)
        return true;
    for (uint32_t piece = 0; piece < pieces(c); piece++)
        send(c, 0, piece, out);
    (void)state;
    return false;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    const uint32_t m = pieces(c), next = step / m + 1;
    if (next < steps(c))
        send(c, next, step % m, out);
    return ++state->words[RECEIVED] == steps(c) * m;
}

const fab_coll_ops_t fab_coll_ring = {
    .impl = {"coll", "ring", "one ring over the ranks in the order given", params,
             1u << FAB_OP_ALL_REDUCE | 1u << FAB_OP_REDUCE_SCATTER | 1u << FAB_OP_ALL_GATHER},
    .peers = peers,
    .start = start,
    .received = received,
};
