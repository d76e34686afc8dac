/* Chain broadcast and reduce: the message runs along the ranks from (or to) the root in chunks, as NCCL's ring
 * broadcast does. */
#include "coll/shared.h"

enum { CHUNK_BYTES = FAB_COLL_OWN, CHANNEL_COUNT };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"chunk_bytes", "bytes", 524288, 0, INT64_C(1) << 40, "the message travels in chunks of this size; 0: whole",
     "512 KiB: NCCL's Simple protocol, one step of a 4 MiB buffer"},
    FAB_COLL_CHANNEL_PARAM(FAB_COLL_CHANNELS_MAX),
    FAB_PARAM_END,
};

enum { RECEIVED };

static uint32_t channels(const fab_coll_t *c) { return (uint32_t)c->values[CHANNEL_COUNT]; }

static uint32_t pieces(const fab_coll_t *c)
{
    return fab_coll_pieces(c->bytes / channels(c), c->values[CHUNK_BYTES],
                           (1u << (FAB_COLL_STEP_BITS - 2)) / channels(c));
}

/* Place in a channel's chain: 0 sends first, count-1 only receives. A broadcast's root is first, a reduce's last. */
static uint32_t place(const fab_coll_t *c, uint32_t channel)
{
    const uint32_t root = fab_coll_ring_place(c, channel, c->root);
    const uint32_t behind_root = (fab_coll_ring_place(c, channel, c->position) + c->count - root) % c->count;
    return c->kind == FAB_OP_BROADCAST ? behind_root : (behind_root + c->count - 1) % c->count;
}

static uint32_t next(const fab_coll_t *c, uint32_t channel)
{
    return fab_coll_ring_at(c, channel, (fab_coll_ring_place(c, channel, c->position) + 1) % c->count);
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    for (uint32_t channel = 0; c->count > 1 && channel < channels(c); channel++)
        if (place(c, channel) != c->count - 1)
            emit(context, next(c, channel), channel);
}

/* Message `step` is piece step / channels of channel step % channels. */
static fab_coll_range_t range(const fab_coll_t *c, uint32_t step)
{
    const uint32_t n = channels(c);
    return fab_coll_cut(fab_coll_cut(fab_coll_all(c), n, step % n), pieces(c), step / n);
}

static void pass_on(const fab_coll_t *c, uint32_t step, fab_coll_out_t out)
{
    const uint32_t channel = step % channels(c);
    if (place(c, channel) != c->count - 1)
        out.send(out.self, next(c, channel), range(c, step).bytes, step, channel);
}

/* How many messages come: the first one of a channel gets none. */
static uint32_t expected(const fab_coll_t *c)
{
    uint32_t behind = 0;
    for (uint32_t channel = 0; channel < channels(c); channel++)
        behind += place(c, channel) != 0;
    return behind * pieces(c);
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    (void)state;
    if (c->count == 1)
        return true;
    /* a broadcast's root is first in all channels; a reduce has another first one in each */
    for (uint32_t step = 0; step < pieces(c) * channels(c); step++)
        if (place(c, step % channels(c)) == 0)
            pass_on(c, step, out);
    return expected(c) == 0;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    pass_on(c, step, out);
    return ++state->words[RECEIVED] == expected(c);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    (void)to;
    carry(context, range(c, step), c->kind == FAB_OP_REDUCE ? FAB_COLL_ADDED : FAB_COLL_KEPT);
}

const fab_coll_ops_t fab_coll_chain = {
    .impl = {"coll", "chain", "from rank to rank in chunks, in the order given from the root", params,
             1u << FAB_OP_BROADCAST | 1u << FAB_OP_REDUCE},
    .peers = peers,
    .start = start,
    .received = received,
    .carries = carries,
};
