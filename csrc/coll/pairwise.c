/* Pairwise exchange: every rank sends to every other its own part, rank i to i+1, i+2, … with at most so many
 * not acknowledged at once. All-to-all, and direct all-gather and reduce-scatter. */
#include "coll/shared.h"

enum { WINDOW_COUNT = FAB_COLL_OWN };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"window_count", "messages", 8, 1, 65536, "messages of a rank that may be under way at once",
     "eight connections at a time: NCCL's point-to-point rounds"},
    FAB_PARAM_END,
};

enum { NEXT, OPEN, RECEIVED, EXPECTED };

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    for (uint32_t i = 1; i < c->count; i++)
        if (fab_coll_between(c, c->position, (c->position + i) % c->count) > 0)
            emit(context, (c->position + i) % c->count, 0);
}

static bool go_on(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    while (state->words[NEXT] < c->count && state->words[OPEN] < c->values[WINDOW_COUNT]) {
        const uint32_t to = (c->position + state->words[NEXT]++) % c->count;
        const int64_t bytes = fab_coll_between(c, c->position, to);
        if (bytes == 0)
            continue;
        state->words[OPEN]++;
        out.send(out.self, to, bytes, 0, 0);
    }
    return state->words[NEXT] == c->count && state->words[RECEIVED] == state->words[EXPECTED];
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    for (uint32_t i = 0; i < c->count; i++)
        state->words[EXPECTED] += i != c->position && fab_coll_between(c, i, c->position) > 0;
    state->words[NEXT] = 1;
    return go_on(c, state, out);
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    (void)step;
    state->words[RECEIVED]++;
    return go_on(c, state, out);
}

static bool acknowledged(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    (void)step;
    state->words[OPEN]--;
    return go_on(c, state, out);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    (void)step;
    if (c->kind == FAB_OP_ALL_TO_ALL)
        carry(context, (fab_coll_range_t){(int64_t)c->position * c->count + to, fab_coll_between(c, c->position, to)},
              FAB_COLL_KEPT);
    else
        carry(context, fab_coll_own(c, c->kind == FAB_OP_ALL_GATHER ? c->position : to),
              c->kind == FAB_OP_REDUCE_SCATTER ? FAB_COLL_ADDED : FAB_COLL_KEPT);
}

const fab_coll_ops_t fab_coll_pairwise = {
    .impl = {"coll", "pairwise", "every rank straight to every other, a window at a time", params,
             1u << FAB_OP_ALL_TO_ALL | 1u << FAB_OP_ALL_GATHER | 1u << FAB_OP_REDUCE_SCATTER},
    .peers = peers,
    .start = start,
    .received = received,
    .acknowledged = acknowledged,
    .carries = carries,
};
