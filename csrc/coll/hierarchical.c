/* Hierarchical all-reduce, reduce-scatter and all-gather over both networks: ranks of a scale-up domain reduce each
 * a share, straight from one another; equal local ranks of all domains run a ring with it over the scale-out
 * network; what is final goes straight to the others of the domain. The data goes in slices, each on its own, so
 * that both networks work at once. Cho, Finkler, Serrano, Kung, Hunter, "BlueConnect", MLSys 2019. */
#include "coll/shared.h"

enum { SLICE_BYTES = FAB_COLL_OWN };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"slice_bytes", "bytes", 4194304, 0, INT64_C(1) << 40,
     "the data is cut in slices of this size, at most 10; 0: one slice", ""},
    FAB_PARAM_END,
};

/* A message's step is 4 * (index * slices + slice) + kind. The index is the ring's step, or the part that is given
 * on. */
enum { REDUCE, RING, GIVE, KIND_BITS = 2 };

/* Words: all messages that came; of each slice, those from the domain to be reduced, and those of the ring. */
enum { RECEIVED, SLICES, SLICES_MOST = 10, COUNTER_BITS = 16 };

static uint32_t domains(const fab_coll_t *c) { return c->count / fab_coll_locals(c); }
static uint32_t domain(const fab_coll_t *c) { return c->position / fab_coll_locals(c); }
static uint32_t local(const fab_coll_t *c) { return c->position % fab_coll_locals(c); }
static uint32_t slices(const fab_coll_t *c) { return fab_coll_pieces(c->bytes, c->values[SLICE_BYTES], SLICES_MOST); }

/* Local rank `ahead` further in the domain. */
static uint32_t neighbour(const fab_coll_t *c, uint32_t ahead)
{
    return domain(c) * fab_coll_locals(c) + (local(c) + ahead) % fab_coll_locals(c);
}

static uint32_t next_domain(const fab_coll_t *c)
{
    return (domain(c) + 1) % domains(c) * fab_coll_locals(c) + local(c);
}

/* The ring's steps: 0 … D-2 reduce, D-1 … 2D-3 gather. */
static uint32_t first_step(const fab_coll_t *c) { return c->kind == FAB_OP_ALL_GATHER ? domains(c) - 1 : 0; }
static uint32_t end_step(const fab_coll_t *c) { return (c->kind == FAB_OP_REDUCE_SCATTER ? 1 : 2) * (domains(c) - 1); }

/* What the ring of a local rank treats as its part `of` a domain. */
static fab_coll_range_t part(const fab_coll_t *c, uint32_t slice, uint32_t local_rank, uint32_t of)
{
    if (c->kind != FAB_OP_ALL_REDUCE)
        return fab_coll_cut(fab_coll_own(c, of * fab_coll_locals(c) + local_rank), slices(c), slice);
    const fab_coll_range_t whole = fab_coll_cut(fab_coll_all(c), slices(c), slice);
    return fab_coll_cut(fab_coll_cut(whole, fab_coll_locals(c), local_rank), domains(c), of);
}

/* The part that goes out in a step of the ring: a rank's own one is reduced last, and gathered first. */
static uint32_t part_of_step(const fab_coll_t *c, uint32_t step)
{
    return (domain(c) + 2 * domains(c) - 1 - step) % domains(c);
}

static int64_t share_bytes(const fab_coll_t *c, uint32_t slice, uint32_t local_rank)
{
    int64_t bytes = 0;
    for (uint32_t of = 0; of < domains(c); of++)
        bytes += part(c, slice, local_rank, of).bytes;
    return bytes;
}

static uint32_t number(const fab_coll_t *c, uint32_t kind, uint32_t index, uint32_t slice)
{
    return (index * slices(c) + slice) << KIND_BITS | kind;
}

static void send_ring(const fab_coll_t *c, uint32_t slice, uint32_t step, fab_coll_out_t out)
{
    if (step < end_step(c))
        out.send(out.self, next_domain(c), part(c, slice, local(c), part_of_step(c, step)).bytes,
                 number(c, RING, step, slice), 0);
}

static void give(const fab_coll_t *c, uint32_t slice, uint32_t of, fab_coll_out_t out)
{
    for (uint32_t ahead = 1; ahead < fab_coll_locals(c) && c->kind != FAB_OP_REDUCE_SCATTER; ahead++)
        out.send(out.self, neighbour(c, ahead), part(c, slice, local(c), of).bytes, number(c, GIVE, of, slice), 0);
}

/* A message of the ring takes effect: its part goes on, and is given to the domain if it is final. */
static void ring_came(const fab_coll_t *c, uint32_t slice, uint32_t step, fab_coll_out_t out)
{
    if (step + 2 >= domains(c))
        give(c, slice, part_of_step(c, step + 1), out);
    send_ring(c, slice, step + 1, out);
}

/* The domain's share of a slice is reduced here: the ring may run, with what of it has come already. */
static void share_ready(const fab_coll_t *c, fab_coll_state_t *state, uint32_t slice, fab_coll_out_t out)
{
    if (domains(c) == 1)
        give(c, slice, 0, out);
    send_ring(c, slice, 0, out);
    const uint32_t come = fab_coll_counter(state->words + SLICES, COUNTER_BITS, 2 * slice + 1);
    for (uint32_t step = 0; step < come; step++)
        ring_came(c, slice, step, out);
}

static uint32_t expected(const fab_coll_t *c)
{
    const uint32_t others = fab_coll_locals(c) - 1;
    return slices(c) * ((c->kind != FAB_OP_ALL_GATHER) * others + end_step(c) - first_step(c) +
                        (c->kind != FAB_OP_REDUCE_SCATTER) * others * domains(c));
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    for (uint32_t ahead = 1; ahead < fab_coll_locals(c); ahead++)
        emit(context, neighbour(c, ahead), 0);
    if (domains(c) > 1)
        emit(context, next_domain(c), 0);
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    for (uint32_t slice = 0; slice < slices(c); slice++) {
        if (c->kind == FAB_OP_ALL_GATHER) {
            give(c, slice, domain(c), out);
            send_ring(c, slice, first_step(c), out);
            continue;
        }
        for (uint32_t ahead = 1; ahead < fab_coll_locals(c); ahead++) {
            const uint32_t to = neighbour(c, ahead);
            out.send(out.self, to, share_bytes(c, slice, to % fab_coll_locals(c)), number(c, REDUCE, 0, slice), 0);
        }
        if (fab_coll_locals(c) == 1)
            share_ready(c, state, slice, out);
    }
    return expected(c) == 0;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    const uint32_t kind = step & ((1u << KIND_BITS) - 1), index = (step >> KIND_BITS) / slices(c);
    const uint32_t slice = (step >> KIND_BITS) % slices(c), others = fab_coll_locals(c) - 1;
    uint32_t *const counters = state->words + SLICES;
    if (kind == REDUCE) {
        if (fab_coll_count(counters, COUNTER_BITS, 2 * slice) == others)
            share_ready(c, state, slice, out);
    } else if (kind == RING && c->kind == FAB_OP_ALL_GATHER) {
        ring_came(c, slice, index, out);
    } else if (kind == RING) {
        fab_coll_count(counters, COUNTER_BITS, 2 * slice + 1);
        if (fab_coll_counter(counters, COUNTER_BITS, 2 * slice) == others)
            ring_came(c, slice, index, out);
    }
    return ++state->words[RECEIVED] == expected(c);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    const uint32_t kind = step & ((1u << KIND_BITS) - 1), index = (step >> KIND_BITS) / slices(c);
    const uint32_t slice = (step >> KIND_BITS) % slices(c);
    if (kind == RING)
        carry(context, part(c, slice, local(c), part_of_step(c, index)),
              index < domains(c) - 1 ? FAB_COLL_ADDED : FAB_COLL_KEPT);
    else if (kind == GIVE)
        carry(context, part(c, slice, local(c), index), FAB_COLL_KEPT);
    for (uint32_t of = 0; kind == REDUCE && of < domains(c); of++)
        carry(context, part(c, slice, to % fab_coll_locals(c), of), FAB_COLL_ADDED);
}

const fab_coll_ops_t fab_coll_hierarchical = {
    .impl = {"coll", "hierarchical", "straight inside scale-up domains, a ring a rail between them", params,
             1u << FAB_OP_ALL_REDUCE | 1u << FAB_OP_REDUCE_SCATTER | 1u << FAB_OP_ALL_GATHER},
    .peers = peers,
    .start = start,
    .received = received,
    .carries = carries,
};
