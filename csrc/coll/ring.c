/* Ring all-reduce, reduce-scatter and all-gather: each rank sends to the next what it got from the one before,
 * n-1 times (all-reduce: 2(n-1)). Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", JPDC 2009. */
#include "coll/shared.h"

enum { CHUNK_BYTES = FAB_COLL_OWN, CHANNEL_COUNT };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"chunk_bytes", "bytes", 0, 0, INT64_C(1) << 40,
     "a step's part is cut in chunks that travel on their own; 0: whole parts", ""},
    FAB_COLL_CHANNEL_PARAM(FAB_COLL_CHANNELS_MAX),
    FAB_PARAM_END,
};

enum { RECEIVED };

static uint32_t steps(const fab_coll_t *c) { return (c->kind == FAB_OP_ALL_REDUCE ? 2 : 1) * (c->count - 1); }
static uint32_t channels(const fab_coll_t *c) { return (uint32_t)c->values[CHANNEL_COUNT]; }

static uint32_t pieces(const fab_coll_t *c)
{
    return fab_coll_pieces(c->bytes / c->count / channels(c), c->values[CHUNK_BYTES],
                           (1u << FAB_COLL_STEP_BITS) / ((steps(c) + 1) * channels(c)));
}

/* A message's number: its step of the ring, piece and channel. */
typedef struct {
    uint32_t step, piece, channel;
} message_t;

static uint32_t number(const fab_coll_t *c, message_t m)
{
    return (m.step * pieces(c) + m.piece) * channels(c) + m.channel;
}

static message_t message(const fab_coll_t *c, uint32_t number)
{
    const uint32_t all = number / channels(c), m = pieces(c);
    return (message_t){all / m, all % m, number % channels(c)};
}

static uint32_t next(const fab_coll_t *c, uint32_t channel)
{
    return fab_coll_ring_at(c, channel, (fab_coll_ring_place(c, channel, c->position) + 1) % c->count);
}

/* In step s place i sends the part of place i-s, and receives that of i-s-1. */
static fab_coll_range_t range(const fab_coll_t *c, message_t m)
{
    const uint32_t place = fab_coll_ring_place(c, m.channel, c->position);
    const uint32_t part = fab_coll_ring_at(c, m.channel, (place + 2 * c->count - m.step) % c->count);
    return fab_coll_cut(fab_coll_cut(fab_coll_own(c, part), channels(c), m.channel), pieces(c), m.piece);
}

static void send(const fab_coll_t *c, message_t m, fab_coll_out_t out)
{
    out.send(out.self, next(c, m.channel), range(c, m).bytes, number(c, m), m.channel);
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    for (uint32_t channel = 0; c->count > 1 && channel < channels(c); channel++)
        emit(context, next(c, channel), channel);
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    if (c->count == 1)
        return true;
    for (uint32_t piece = 0; piece < pieces(c); piece++)
        for (uint32_t channel = 0; channel < channels(c); channel++)
            send(c, (message_t){0, piece, channel}, out);
    (void)state;
    return false;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    message_t m = message(c, step);
    if (++m.step < steps(c))
        send(c, m, out);
    return ++state->words[RECEIVED] == steps(c) * pieces(c) * channels(c);
}

static uint64_t rounds(const fab_coll_t *c, uint64_t *messages_out)
{
    *messages_out = (uint64_t)c->count * pieces(c) * channels(c);
    return steps(c);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    (void)to;
    const message_t m = message(c, step);
    carry(context, range(c, m), c->kind != FAB_OP_ALL_GATHER && m.step < c->count - 1 ? FAB_COLL_ADDED : FAB_COLL_KEPT);
}

const fab_coll_ops_t fab_coll_ring = {
    .impl = {"coll", "ring", "rings over the ranks in the order given, one a channel", params,
             1u << FAB_OP_ALL_REDUCE | 1u << FAB_OP_REDUCE_SCATTER | 1u << FAB_OP_ALL_GATHER},
    .peers = peers,
    .rounds = rounds,
    .start = start,
    .received = received,
    .carries = carries,
};
