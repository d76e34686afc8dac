/* Recursive halving and doubling: reduce-scatter by halves with the rank n/2, n/4, … 1 away, all-gather back by 1,
 * 2, … n/2, all-reduce by both. Any count: of n ranks, the first 2 (n - p), p the power of two below, go in pairs
 * of which one acts for both. Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in
 * MPICH", 2005. */
#include "coll/shared.h"

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    FAB_PARAM_END,
};

/* A message's step is its phase: 0 from a rank to the one that acts for it, then the exchanges, last the way back. */
enum {
    ARRIVED = 0,
    ARRIVED_HIGH,
    NEXT
}; /* phases that came, a set of up to 64; the next that this rank takes part in */

typedef struct {
    uint32_t levels, power, pairs; /* p = 2^levels actors, of which the first `pairs` act for two */
    uint32_t actor;                /* among the actors */
    bool acts;
    uint32_t last; /* phase that takes the result back */
} role_t;

static bool halves(const fab_coll_t *c) { return c->kind != FAB_OP_ALL_GATHER; }
static bool doubles(const fab_coll_t *c) { return c->kind != FAB_OP_REDUCE_SCATTER; }

static role_t role(const fab_coll_t *c)
{
    role_t r = {0};
    while (2u << r.levels <= c->count)
        r.levels++;
    r.power = 1u << r.levels;
    r.pairs = c->count - r.power;
    r.acts = c->position >= 2 * r.pairs || c->position % 2 == 0;
    r.actor = c->position < 2 * r.pairs ? c->position / 2 : c->position - r.pairs;
    r.last = 1 + r.levels * (halves(c) + doubles(c));
    return r;
}

static uint32_t position_of(const role_t *r, uint32_t actor) { return actor < r->pairs ? 2 * actor : actor + r->pairs; }

/* The bytes of actors first … end-1: even blocks of an all-reduce, else the parts of all those that they act for. */
static fab_coll_range_t block(const fab_coll_t *c, const role_t *r, uint32_t first, uint32_t end)
{
    const bool even = c->kind == FAB_OP_ALL_REDUCE;
    const uint32_t parts = even ? r->power : c->count;
    const int64_t from = fab_coll_cut(fab_coll_all(c), parts, even ? first : position_of(r, first)).offset;
    const uint32_t stop = even ? end : position_of(r, end);
    return (fab_coll_range_t){from,
                              (stop == parts ? c->bytes : fab_coll_cut(fab_coll_all(c), parts, stop).offset) - from};
}

/* The partner of an exchange, and what this rank sends to it. */
static uint32_t exchange(const fab_coll_t *c, const role_t *r, uint32_t phase, fab_coll_range_t *range_out)
{
    const bool halving = halves(c) && phase <= r->levels;
    const uint32_t distance = halving ? r->power >> phase : 1u << (phase - 1 - (halves(c) ? r->levels : 0));
    const uint32_t partner = r->actor ^ distance;
    const uint32_t mine = (halving ? partner : r->actor) / distance * distance;
    *range_out = block(c, r, mine, mine + distance);
    return position_of(r, partner);
}

/* What an actor gives back to the one that it acts for, or gets from it, in up to two ranges. */
static uint32_t fold(const fab_coll_t *c, bool back, uint32_t silent, fab_coll_range_t ranges_out[2])
{
    const fab_coll_range_t own = fab_coll_own(c, silent);
    if (c->kind == FAB_OP_ALL_REDUCE || (c->kind == FAB_OP_REDUCE_SCATTER && !back)) {
        ranges_out[0] = fab_coll_all(c);
        return 1;
    }
    ranges_out[0] = own;
    if (c->kind == FAB_OP_REDUCE_SCATTER || !back)
        return 1;
    ranges_out[0] = (fab_coll_range_t){0, own.offset};
    ranges_out[1] = (fab_coll_range_t){own.offset + own.bytes, c->bytes - own.offset - own.bytes};
    return 2;
}

/* The ranges of this rank's message of a phase, and to whom; 0 ranges if it sends none. */
static uint32_t message(const fab_coll_t *c, uint32_t phase, uint32_t *to_out, fab_coll_range_t ranges_out[2])
{
    const role_t r = role(c);
    if (phase == 0 || phase == r.last) {
        const bool back = phase == r.last;
        *to_out = c->position ^ 1;
        return c->position < 2 * r.pairs && r.acts == back ? fold(c, back, c->position | 1, ranges_out) : 0;
    }
    if (!r.acts)
        return 0;
    *to_out = exchange(c, &r, phase, ranges_out);
    return 1;
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    uint32_t to = 0;
    fab_coll_range_t ranges[2];
    for (uint32_t phase = 0; c->count > 1 && phase <= role(c).last; phase++)
        if (message(c, phase, &to, ranges))
            emit(context, to, 0);
}

/* Whether this rank gets a message in a phase: a pair's message goes one way, an exchange both. */
static bool gets(const fab_coll_t *c, const role_t *r, uint32_t phase)
{
    if (phase == 0 || phase == r->last)
        return c->position < 2 * r->pairs && r->acts == (phase == 0);
    return r->acts;
}

static bool has_come(const fab_coll_state_t *state, uint32_t phase)
{
    return state->words[ARRIVED + phase / 32] >> phase % 32 & 1;
}

/* Sends what no message is missing for any more: the message of a phase needs those of all phases before. */
static bool go_on(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    const role_t r = role(c);
    while (state->words[NEXT] <= r.last) {
        const uint32_t phase = state->words[NEXT];
        if (phase && gets(c, &r, phase - 1) && !has_come(state, phase - 1))
            return false;
        uint32_t to = 0;
        fab_coll_range_t ranges[2] = {{0, 0}, {0, 0}};
        if (message(c, phase, &to, ranges))
            out.send(out.self, to, ranges[0].bytes + ranges[1].bytes, phase, 0);
        state->words[NEXT]++;
    }
    return !gets(c, &r, r.last) || has_come(state, r.last);
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    return c->count == 1 || go_on(c, state, out);
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    state->words[ARRIVED + step / 32] |= 1u << step % 32;
    return go_on(c, state, out);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    const role_t r = role(c);
    fab_coll_range_t ranges[2];
    const uint32_t count = message(c, step, &to, ranges);
    for (uint32_t i = 0; i < count; i++)
        carry(context, ranges[i], halves(c) && step <= r.levels ? FAB_COLL_ADDED : FAB_COLL_KEPT);
}

const fab_coll_ops_t fab_coll_halving_doubling = {
    .impl = {"coll", "halving_doubling", "exchanges with ranks at distances of powers of two, halves at a time", params,
             1u << FAB_OP_ALL_REDUCE | 1u << FAB_OP_REDUCE_SCATTER | 1u << FAB_OP_ALL_GATHER},
    .peers = peers,
    .start = start,
    .received = received,
    .carries = carries,
};
