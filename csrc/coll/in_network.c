/* Collectives through a tree of reducing switches: chunks go up and are added in every switch, the result comes
 * down to those who want it. Every rank sends and receives the data of an all-reduce once. Graham et al., "Scalable
 * hierarchical aggregation protocol (SHARP)", COMHPC 2016. */
#include "coll/shared.h"

enum { CHUNK_BYTES = FAB_COLL_OWN, WINDOW_COUNT, MESSAGE_BYTES, WINDOW_MOST = 16 };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"chunk_bytes", "bytes", 131072, 1, INT64_C(1) << 40, "the data travels in chunks of this size",
     "128 KiB: NCCL's NVLS chunk"},
    {"window_count", "chunks", 8, 1, WINDOW_MOST,
     "chunks of a rank whose result has not come back; a switch has room for so many", ""},
    {"message_bytes", "bytes", 8, 0, 1 << 20, "payload of a barrier's message", ""},
    FAB_PARAM_END,
};

/* A message's step: its chunk, and whether it comes down. Of reduce_scatter and all_gather, chunk q is about the
 * part of rank q mod n. */
enum { UP, DOWN, WAY_BITS = 1, CHUNKS_MOST = 1 << 22 };

/* Of a rank: chunks sent, and its own that came back. Of a reducer: messages that it gets, and arrivals by chunk. A
 * rank sends chunk q only when it has the result of q - window, which all have sent then: so the chunks that a
 * reducer adds at a time are `window` in a row at most. */
enum { RECEIVED, SENT, BACK, EXPECTED = SENT, COUNTERS = 3, COUNTER_BITS = 16 };

static bool is_rank(const fab_coll_t *c) { return c->position < c->count; }
static bool by_parts(const fab_coll_t *c) { return c->kind == FAB_OP_REDUCE_SCATTER || c->kind == FAB_OP_ALL_GATHER; }
static bool adds(const fab_coll_t *c) { return c->kind != FAB_OP_ALL_GATHER && c->kind != FAB_OP_BROADCAST; }

static uint32_t pieces(const fab_coll_t *c)
{
    const uint32_t parts = by_parts(c) ? c->count : 1;
    return fab_coll_pieces(c->bytes / parts, c->values[CHUNK_BYTES], CHUNKS_MOST / parts);
}

static uint32_t chunks(const fab_coll_t *c) { return pieces(c) * (by_parts(c) ? c->count : 1); }

static fab_coll_range_t range(const fab_coll_t *c, uint32_t chunk)
{
    if (c->kind == FAB_OP_BARRIER)
        return (fab_coll_range_t){0, c->values[MESSAGE_BYTES]};
    if (by_parts(c))
        return fab_coll_cut(fab_coll_own(c, chunk % c->count), pieces(c), chunk / c->count);
    return fab_coll_cut(fab_coll_all(c), pieces(c), chunk);
}

/* Whether a rank is at a position or below it. */
static bool is_below(const fab_coll_t *c, uint32_t rank, uint32_t position)
{
    while (rank != position && rank != FAB_NONE)
        rank = c->tree->parent[rank];
    return rank != FAB_NONE;
}

/* What a child gets of a result: who does not want it gets an empty message, that there is room again. */
static bool is_wanted(const fab_coll_t *c, uint32_t child, uint32_t chunk)
{
    switch (c->kind) {
    case FAB_OP_REDUCE_SCATTER: return is_below(c, chunk % c->count, child);
    case FAB_OP_REDUCE: return is_below(c, c->root, child);
    case FAB_OP_BROADCAST: return child != c->root;
    default: return true;
    }
}

static void send_up(const fab_coll_t *c, uint32_t chunk, fab_coll_out_t out)
{
    out.send(out.self, c->tree->parent[c->position], range(c, chunk).bytes, chunk << WAY_BITS | UP, 0);
}

static void send_down(const fab_coll_t *c, uint32_t chunk, fab_coll_out_t out)
{
    for (uint32_t i = c->tree->child_first[c->position]; i < c->tree->child_first[c->position + 1]; i++) {
        const uint32_t child = c->tree->children[i];
        out.send(out.self, child, is_wanted(c, child, chunk) ? range(c, chunk).bytes : 0, chunk << WAY_BITS | DOWN, 0);
    }
}

/* ---- ranks -------------------------------------------------------------------------------------- */

/* Sends its chunks as far as the window allows: all, its own part's of an all_gather, the root's of a broadcast. */
static bool go_on(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    const bool own = c->kind == FAB_OP_ALL_GATHER;
    const uint32_t most = own ? pieces(c) : c->kind != FAB_OP_BROADCAST || c->position == c->root ? chunks(c) : 0;
    while (state->words[SENT] < most && state->words[SENT] < state->words[BACK] + c->values[WINDOW_COUNT]) {
        const uint32_t i = state->words[SENT]++;
        send_up(c, own ? i * c->count + c->position : i, out);
    }
    return state->words[RECEIVED] == chunks(c);
}

/* ---- reducers ----------------------------------------------------------------------------------- */

static uint32_t child_count(const fab_coll_t *c)
{
    return c->tree->child_first[c->position + 1] - c->tree->child_first[c->position];
}

static uint32_t expected(const fab_coll_t *c)
{
    uint32_t messages = c->tree->parent[c->position] != FAB_NONE ? chunks(c) : 0;
    if (adds(c))
        return messages + child_count(c) * chunks(c);
    if (c->kind == FAB_OP_BROADCAST)
        return messages + (is_below(c, c->root, c->position) ? chunks(c) : 0);
    for (uint32_t rank = 0; rank < c->count; rank++)
        messages += is_below(c, rank, c->position) ? pieces(c) : 0;
    return messages;
}

static void came_up(const fab_coll_t *c, fab_coll_state_t *state, uint32_t chunk, fab_coll_out_t out)
{
    uint32_t *const counters = state->words + COUNTERS;
    const uint32_t counter = chunk % (uint32_t)c->values[WINDOW_COUNT];
    if (adds(c)) {
        if (fab_coll_count(counters, COUNTER_BITS, counter) < child_count(c))
            return;
        fab_coll_count_clear(counters, COUNTER_BITS, counter);
    }
    if (c->tree->parent[c->position] != FAB_NONE)
        send_up(c, chunk, out);
    else
        send_down(c, chunk, out);
}

/* ---- both --------------------------------------------------------------------------------------- */

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    if (c->count == 1)
        return;
    if (c->tree->parent[c->position] != FAB_NONE)
        emit(context, c->tree->parent[c->position], 0);
    for (uint32_t i = c->tree->child_first[c->position]; i < c->tree->child_first[c->position + 1]; i++)
        emit(context, c->tree->children[i], 0);
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    if (c->count == 1)
        return true;
    if (is_rank(c))
        return go_on(c, state, out);
    state->words[EXPECTED] = expected(c);
    return false;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    const uint32_t chunk = step >> WAY_BITS;
    state->words[RECEIVED]++;
    if (is_rank(c)) {
        state->words[BACK] += c->kind != FAB_OP_ALL_GATHER || chunk % c->count == c->position;
        return go_on(c, state, out);
    }
    if ((step & ((1u << WAY_BITS) - 1)) == DOWN)
        send_down(c, chunk, out);
    else
        came_up(c, state, chunk, out);
    return state->words[RECEIVED] == state->words[EXPECTED];
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    const uint32_t chunk = step >> WAY_BITS;
    const bool down = (step & ((1u << WAY_BITS) - 1)) == DOWN;
    if (c->kind != FAB_OP_BARRIER && (!down || is_wanted(c, to, chunk)))
        carry(context, range(c, chunk), !down && adds(c) ? FAB_COLL_ADDED : FAB_COLL_KEPT);
}

static const char *refuses(const fab_coll_t *c)
{
    uint32_t roots = 0;
    for (uint32_t i = 0; c->tree && i < c->tree->reducer_count; i++)
        roots += c->tree->parent[c->count + i] == FAB_NONE;
    return roots == 1 ? NULL : "no tree of reducers joins them";
}

const fab_coll_ops_t fab_coll_in_network = {
    .impl = {"coll", "in_network", "through a tree of switches that reduce: up, and the result down", params,
             1u << FAB_OP_ALL_REDUCE | 1u << FAB_OP_REDUCE_SCATTER | 1u << FAB_OP_ALL_GATHER | 1u << FAB_OP_BROADCAST |
                 1u << FAB_OP_REDUCE | 1u << FAB_OP_BARRIER},
    .peers = peers,
    .start = start,
    .received = received,
    .carries = carries,
    .refuses = refuses,
    .reduces_in_network = FAB_REDUCES_IN_FABRIC,
};
