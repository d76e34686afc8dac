/* PAT (parallel aggregated trees) all-gather and reduce-scatter: each rank's part goes along a binomial tree of its
 * own, far distances first, and parts that take the same way at the same time share messages up to a chunk: log2 n
 * messages a rank if they fit. Reduce-scatter is the same backwards. Jeaugey, "PAT: a new algorithm for all-gather
 * and reduce-scatter operations at scale", arXiv 2506.20252; in NCCL since 2.23. */
#include "coll/shared.h"

enum { CHUNK_BYTES = FAB_COLL_OWN };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"chunk_bytes", "bytes", 524288, 0, INT64_C(1) << 40,
     "most bytes of a message: parts are cut to it, smaller ones share one; 0: no limit",
     "512 KiB: NCCL's Simple protocol, one step of a 4 MiB buffer"},
    FAB_PARAM_END,
};

/* Words: all messages that came, and those of each level. A message's step is its number in its level, and the
 * level. */
enum { RECEIVED, COUNTERS, COUNTER_BITS = 16, LEVEL_BITS = 4 };

/* On level k, y sends to y + 2^k in an all_gather, y + 2^k to y in a reduce_scatter: the parts of y - o for all
 * multiples o of 2^(k+1) with o + 2^k < n. They go in `groups` messages of `group` parts for every piece of the
 * parts. */
typedef struct {
    uint32_t levels, pieces, group;
} plan_t;

static plan_t plan(const fab_coll_t *c)
{
    plan_t p = {0, 1, c->count};
    while (1u << p.levels < c->count)
        p.levels++;
    const int64_t chunk = c->values[CHUNK_BYTES], part = c->bytes / c->count;
    p.pieces = fab_coll_pieces(part, chunk, ((1u << COUNTER_BITS) - 1) / (c->count / 2 + 1));
    const int64_t fit = chunk && part ? chunk / ((part + p.pieces - 1) / p.pieces) : c->count;
    p.group = fit < 1 ? 1 : fit > c->count ? c->count : (uint32_t)fit;
    return p;
}

/* How many parts go on a level. */
static uint32_t parts(const fab_coll_t *c, uint32_t level)
{
    return (c->count - 1 - (1u << level)) / (2u << level) + 1;
}

static uint32_t groups(const fab_coll_t *c, const plan_t *p, uint32_t level)
{
    return (parts(c, level) + p->group - 1) / p->group;
}

static bool gathers(const fab_coll_t *c) { return c->kind == FAB_OP_ALL_GATHER; }

static uint32_t peer(const fab_coll_t *c, uint32_t level)
{
    const uint32_t distance = 1u << level;
    return (c->position + (gathers(c) ? distance : c->count - distance)) % c->count;
}

/* How many messages of level `of` must have come before message i of `level` may go: an all_gather's parts came on
 * the levels above, a reduce_scatter's are summed up from those below; pieces follow each other. Grows with i. */
static uint32_t needed(const fab_coll_t *c, const plan_t *p, uint32_t level, uint32_t i, uint32_t of)
{
    const uint32_t all = groups(c, p, of), piece = i / groups(c, p, level), group = i % groups(c, p, level);
    const uint64_t own = 1u << level, first = 1u << of, n = c->count;
    uint64_t end = (uint64_t)(group + 1) * p->group; /* parts so far; those at distances o, o + 2^level < n */
    uint64_t before = 0;                             /* parts of level `of` that these need */
    if (gathers(c)) {
        const uint64_t limit = end * 2 * own < n - own ? end * 2 * own : n - own; /* they came to first, 3 first, … */
        before = limit > first ? (limit - first - 1) / (2 * first) + 1 : 0;
    } else {
        const uint64_t fed = n > own + first ? (n - own - first - 1) / (2 * own) + 1 : 0; /* parts to which `of` adds */
        end = end < fed ? end : fed;
        before = end ? (own + (end - 1) * 2 * own) / (2 * first) + 1 : 0;
    }
    const uint64_t messages = (before + p->group - 1) / p->group;
    return piece * all + (messages < all ? (uint32_t)messages : all);
}

/* Whether what a level needs comes on another. */
static bool depends(const fab_coll_t *c, uint32_t level, uint32_t of) { return gathers(c) ? of > level : of < level; }

static bool is_ready(const fab_coll_t *c, const plan_t *p, const fab_coll_state_t *state, uint32_t level, uint32_t i)
{
    for (uint32_t of = 0; of < p->levels; of++)
        if (depends(c, level, of) &&
            fab_coll_counter(state->words + COUNTERS, COUNTER_BITS, of) < needed(c, p, level, i, of))
            return false;
    return true;
}

static void ranges(const fab_coll_t *c, const plan_t *p, uint32_t level, uint32_t i, fab_coll_carry_t *carry,
                   void *context)
{
    const uint32_t piece = i / groups(c, p, level), first = i % groups(c, p, level) * p->group;
    const uint32_t y = (c->position + (gathers(c) ? 0 : c->count - (1u << level))) % c->count;
    for (uint32_t j = first; j < first + p->group && j < parts(c, level); j++) {
        const uint32_t whose = (y + c->count - j * (2u << level)) % c->count;
        carry(context, fab_coll_cut(fab_coll_own(c, whose), p->pieces, piece),
              gathers(c) ? FAB_COLL_KEPT : FAB_COLL_ADDED);
    }
}

static void add_up(void *context, fab_coll_range_t range, fab_coll_use_t use)
{
    (void)use;
    *(int64_t *)context += range.bytes;
}

static void send(const fab_coll_t *c, const plan_t *p, uint32_t level, uint32_t i, fab_coll_out_t out)
{
    int64_t bytes = 0;
    const int64_t piece = c->bytes / c->count / p->pieces;
    const uint32_t first = i % groups(c, p, level) * p->group, rest = parts(c, level) - first;
    if (piece * p->pieces * c->count == c->bytes) /* even pieces need no sum */
        bytes = piece * (rest < p->group ? rest : p->group);
    else
        ranges(c, p, level, i, add_up, &bytes);
    out.send(out.self, peer(c, level), bytes, i << LEVEL_BITS | level, 0);
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    for (uint32_t level = 0; level < plan(c).levels; level++)
        emit(context, peer(c, level), 0);
}

static uint32_t expected(const fab_coll_t *c, const plan_t *p)
{
    uint32_t messages = 0;
    for (uint32_t level = 0; level < p->levels; level++)
        messages += p->pieces * groups(c, p, level);
    return messages;
}

/* Sends the messages of a level from number i on that are ready. */
static void send_ready(const fab_coll_t *c, const plan_t *p, const fab_coll_state_t *state, uint32_t level, uint32_t i,
                       fab_coll_out_t out)
{
    for (; i < p->pieces * groups(c, p, level) && is_ready(c, p, state, level, i); i++)
        send(c, p, level, i, out);
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    const plan_t p = plan(c);
    for (uint32_t l = 0; l < p.levels; l++)
        send_ready(c, &p, state, gathers(c) ? p.levels - 1 - l : l, 0, out);
    return c->count == 1;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    const plan_t p = plan(c);
    const uint32_t of = step & ((1u << LEVEL_BITS) - 1);
    const uint32_t come = fab_coll_count(state->words + COUNTERS, COUNTER_BITS, of);
    for (uint32_t l = 0; l < p.levels; l++) {
        const uint32_t level = gathers(c) ? p.levels - 1 - l : l;
        if (!depends(c, level, of))
            continue;
        /* the first message that needs this one: those before it have gone as far as they were ready */
        uint32_t low = 0, high = p.pieces * groups(c, &p, level);
        while (low < high) {
            const uint32_t middle = (low + high) / 2;
            if (needed(c, &p, level, middle, of) < come)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < p.pieces * groups(c, &p, level) && needed(c, &p, level, low, of) == come)
            send_ready(c, &p, state, level, low, out);
    }
    return ++state->words[RECEIVED] == expected(c, &p);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    (void)to;
    const plan_t p = plan(c);
    ranges(c, &p, step & ((1u << LEVEL_BITS) - 1), step >> LEVEL_BITS, carry, context);
}

const fab_coll_ops_t fab_coll_pat = {
    .impl = {"coll", "pat", "a binomial tree for each part, far distances first, parts together in messages", params,
             1u << FAB_OP_REDUCE_SCATTER | 1u << FAB_OP_ALL_GATHER},
    .peers = peers,
    .start = start,
    .received = received,
    .carries = carries,
};
