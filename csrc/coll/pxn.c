/* All-to-all over rails: what a domain has for a rank of another goes inside the domain to the rank of the same
 * rail, and from there in one message; so every message between domains stays on its rail. NCCL's PXN (release
 * 2.12, "PCI x NVLink"). */
#include "coll/shared.h"

enum { WINDOW_COUNT = FAB_COLL_OWN };

enum { WINDOW_MOST = 6 };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"window_count", "messages", 4, 1, WINDOW_MOST,
     "messages of a rank to other domains that may be under way at once; it collects as many ahead", ""},
    FAB_PARAM_END,
};

/* Turn i is about domain v + i, as seen from domain v; turn 0, about the own one, delivers. In a turn each rank
 * hands every other of its domain what it has for that one's rail, be it nothing; who has all of a turn sends it
 * on. Nobody begins turn i + W before having sent turn i on, so the others are 2W turns ahead at most. */
enum { COLLECT, ACROSS, KIND_BITS = 1 };
enum {
    BEGUN,
    COLLECTED,
    SENT,
    OPEN,
    LEFT,
    COUNTERS,
    COUNTER_BITS = 16
}; /* turns; messages open, still to come; by turn */

static uint32_t domains(const fab_coll_t *c) { return c->count / fab_coll_locals(c); }

/* The rank on the rail of local rank `local`, in the domain of a turn of `c->position`. */
static uint32_t target(const fab_coll_t *c, uint32_t turn, uint32_t local)
{
    const uint32_t locals = fab_coll_locals(c);
    return (c->position / locals + turn) % domains(c) * locals + local % locals;
}

/* What the domain of `from` has for a rank. */
static int64_t bytes_of_domain(const fab_coll_t *c, uint32_t from, uint32_t to)
{
    int64_t bytes = 0;
    const uint32_t locals = fab_coll_locals(c);
    for (uint32_t i = 0; i < locals; i++)
        bytes += fab_coll_between(c, from / locals * locals + i, to);
    return bytes;
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    for (uint32_t ahead = 1; ahead < fab_coll_locals(c); ahead++)
        emit(context, target(c, 0, c->position + ahead), 0);
    for (uint32_t turn = 1; turn < domains(c); turn++)
        emit(context, target(c, turn, c->position), 0);
}

static void begin_turn(const fab_coll_t *c, uint32_t turn, fab_coll_out_t out)
{
    for (uint32_t ahead = 1; ahead < fab_coll_locals(c); ahead++)
        out.send(out.self, target(c, 0, c->position + ahead),
                 fab_coll_between(c, c->position, target(c, turn, c->position + ahead)), turn << KIND_BITS | COLLECT,
                 0);
}

static void send_across(const fab_coll_t *c, fab_coll_state_t *state, uint32_t turn, fab_coll_out_t out)
{
    const uint32_t to = target(c, turn, c->position);
    const int64_t bytes = turn ? bytes_of_domain(c, c->position, to) : 0;
    if (bytes == 0)
        return;
    state->words[OPEN]++;
    out.send(out.self, to, bytes, turn << KIND_BITS | ACROSS, 0);
}

static bool go_on(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    uint32_t *const w = state->words;
    const uint32_t window = (uint32_t)c->values[WINDOW_COUNT], turns = domains(c), others = fab_coll_locals(c) - 1;
    for (;;) {
        const uint32_t counter = w[COLLECTED] % (2 * window);
        if (w[BEGUN] < turns && w[BEGUN] < w[SENT] + window) {
            begin_turn(c, w[BEGUN]++, out);
        } else if (w[COLLECTED] < w[BEGUN] && fab_coll_counter(w + COUNTERS, COUNTER_BITS, counter) == others) {
            fab_coll_count_clear(w + COUNTERS, COUNTER_BITS, counter);
            w[COLLECTED]++;
        } else if (w[SENT] < w[COLLECTED] && w[OPEN] < window) {
            send_across(c, state, w[SENT]++, out);
        } else {
            return w[SENT] == turns && w[LEFT] == 0;
        }
    }
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    state->words[LEFT] = (fab_coll_locals(c) - 1) * domains(c);
    for (uint32_t turn = 1; turn < domains(c); turn++)
        state->words[LEFT] += bytes_of_domain(c, target(c, turn, c->position), c->position) > 0;
    return go_on(c, state, out);
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    if ((step & ((1u << KIND_BITS) - 1)) == COLLECT)
        fab_coll_count(state->words + COUNTERS, COUNTER_BITS,
                       (step >> KIND_BITS) % (2 * (uint32_t)c->values[WINDOW_COUNT]));
    state->words[LEFT]--;
    return go_on(c, state, out);
}

static bool acknowledged(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    state->words[OPEN] -= (step & ((1u << KIND_BITS) - 1)) == ACROSS;
    return go_on(c, state, out);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    const uint32_t turn = step >> KIND_BITS, locals = fab_coll_locals(c);
    const bool collects = (step & ((1u << KIND_BITS) - 1)) == COLLECT;
    for (uint32_t i = 0; i < locals; i++) {
        const uint32_t from = c->position / locals * locals + i, final = collects ? target(c, turn, to) : to;
        if (!collects || from == c->position)
            carry(context, (fab_coll_range_t){(int64_t)from * c->count + final, fab_coll_between(c, from, final)},
                  FAB_COLL_KEPT);
    }
}

const fab_coll_ops_t fab_coll_pxn = {
    .impl = {"coll", "pxn", "all-to-all that gathers in the domain and crosses on the rail", params,
             1u << FAB_OP_ALL_TO_ALL},
    .peers = peers,
    .start = start,
    .received = received,
    .acknowledged = acknowledged,
    .carries = carries,
};
