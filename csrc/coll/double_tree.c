/* Double-tree all-reduce: two binary trees over the domains that share no inner node, each for half of the data, and a
 * chain inside each domain; chunks go up and down in a pipeline. Sanders, Speck, Träff, "Two-tree algorithms for full
 * bandwidth broadcast, reduction and scan", Parallel Computing 2009; NCCL's tree algorithm. */
#include "coll/shared.h"

enum { CHUNK_BYTES = FAB_COLL_OWN, CHANNEL_COUNT };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"chunk_bytes", "bytes", 524288, 0, INT64_C(1) << 40, "the data travels in chunks of this size; 0: whole",
     "512 KiB: NCCL's Simple protocol, one step of a 4 MiB buffer"},
    FAB_COLL_CHANNEL_PARAM(FAB_COLL_CHANNELS_MAX),
    FAB_PARAM_END,
};

/* Channel c enters a domain at its head, local rank c; the chain runs head, head + 1, … Only a head has more than one
 * neighbour below, so only it counts by neighbour: three counters a tree. */
enum { LEFT, RIGHT, CHAIN, PARENT, FROM_BITS = 2, TREES = 2 };
enum { RECEIVED, COUNTERS, COUNTER_BITS = 16, HEADS_MOST = 3 };

/* A rank has room to be the head of so many channels. */
static uint32_t channels(const fab_coll_t *c)
{
    const uint32_t most = HEADS_MOST * fab_coll_locals(c);
    return c->values[CHANNEL_COUNT] < most ? (uint32_t)c->values[CHANNEL_COUNT] : most;
}

static uint32_t pieces(const fab_coll_t *c)
{
    const uint32_t most = (1u << (FAB_COLL_STEP_BITS - FROM_BITS)) / (TREES * channels(c));
    return fab_coll_pieces(c->bytes / (TREES * channels(c)), c->values[CHUNK_BYTES],
                           most < (1u << COUNTER_BITS) ? most : (1u << COUNTER_BITS) - 1);
}

/* A way of the data: one tree of one channel, and where this rank is on it. */
typedef struct {
    uint32_t channel, tree;
    uint32_t depth;           /* in the domain's chain; 0: its head */
    uint32_t up, children[3]; /* positions, by LEFT, RIGHT, CHAIN */
    uint32_t from;            /* what this rank is to the one above */
} way_t;

static way_t way(const fab_coll_t *c, uint32_t channel, uint32_t tree)
{
    const uint32_t locals = fab_coll_locals(c), domain = c->position / locals, local = c->position % locals;
    const uint32_t head = channel % locals, domains = c->count / locals;
    way_t w = {channel, tree, (local + locals - head) % locals, FAB_NONE, {FAB_NONE, FAB_NONE, FAB_NONE}, CHAIN};
    if (w.depth + 1 < locals)
        w.children[CHAIN] = domain * locals + (local + 1) % locals;
    if (w.depth) {
        w.up = domain * locals + (local + locals - 1) % locals;
        return w;
    }
    const fab_coll_btree_t t = fab_coll_dtree(domains, domain, tree);
    for (uint32_t i = 0; i < 2; i++)
        if (t.child[i] != FAB_NONE)
            w.children[i] = t.child[i] * locals + head;
    if (t.parent != FAB_NONE) {
        w.up = t.parent * locals + head;
        w.from = fab_coll_dtree(domains, t.parent, tree).child[LEFT] == domain ? LEFT : RIGHT;
    }
    return w;
}

static fab_coll_range_t range(const fab_coll_t *c, uint32_t channel, uint32_t tree, uint32_t piece)
{
    return fab_coll_cut(fab_coll_cut(fab_coll_all(c), TREES * channels(c), TREES * channel + tree), pieces(c), piece);
}

static void send(const fab_coll_t *c, const way_t *w, uint32_t to, uint32_t piece, uint32_t from, fab_coll_out_t out)
{
    const uint32_t number = (piece * channels(c) + w->channel) * TREES + w->tree;
    out.send(out.self, to, range(c, w->channel, w->tree, piece).bytes, number << FROM_BITS | from, w->channel);
}

static void send_down(const fab_coll_t *c, const way_t *w, uint32_t piece, fab_coll_out_t out)
{
    for (uint32_t i = 0; i < 3; i++)
        if (w->children[i] != FAB_NONE)
            send(c, w, w->children[i], piece, PARENT, out);
}

/* A piece has come from all below: it goes up, or turns back at the root. */
static void reduced(const fab_coll_t *c, const way_t *w, uint32_t piece, fab_coll_out_t out)
{
    if (w->up != FAB_NONE)
        send(c, w, w->up, piece, w->from, out);
    else
        send_down(c, w, piece, out);
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    for (uint32_t i = 0; c->count > 1 && i < TREES * channels(c); i++) {
        const way_t w = way(c, i / TREES, i % TREES);
        if (w.up != FAB_NONE)
            emit(context, w.up, w.channel);
        for (uint32_t child = 0; child < 3; child++)
            if (w.children[child] != FAB_NONE)
                emit(context, w.children[child], w.channel);
    }
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    (void)state;
    if (c->count == 1)
        return true;
    for (uint32_t piece = 0; piece < pieces(c); piece++)
        for (uint32_t i = 0; i < TREES * channels(c); i++) {
            const way_t w = way(c, i / TREES, i % TREES);
            if (w.children[LEFT] == FAB_NONE && w.children[RIGHT] == FAB_NONE && w.children[CHAIN] == FAB_NONE)
                reduced(c, &w, piece, out);
        }
    return false;
}

/* Counts a piece from below; pieces of one neighbour come in order. Whether all others have sent it already. */
static bool is_last(const fab_coll_t *c, fab_coll_state_t *state, const way_t *w, uint32_t from)
{
    uint32_t *const words = state->words + COUNTERS;
    const uint32_t first = (w->channel / fab_coll_locals(c) * TREES + w->tree) * 3;
    const uint32_t come = fab_coll_count(words, COUNTER_BITS, first + from);
    for (uint32_t i = 0; i < 3; i++)
        if (w->children[i] != FAB_NONE && fab_coll_counter(words, COUNTER_BITS, first + i) < come)
            return false;
    return true;
}

static uint32_t expected(const fab_coll_t *c)
{
    uint32_t neighbours = 0;
    for (uint32_t i = 0; i < TREES * channels(c); i++) {
        const way_t w = way(c, i / TREES, i % TREES);
        neighbours += w.up != FAB_NONE;
        for (uint32_t child = 0; child < 3; child++)
            neighbours += w.children[child] != FAB_NONE;
    }
    return neighbours * pieces(c);
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    const uint32_t from = step & ((1u << FROM_BITS) - 1), number = step >> FROM_BITS;
    const uint32_t piece = number / TREES / channels(c);
    const way_t w = way(c, number / TREES % channels(c), number % TREES);
    if (from == PARENT)
        send_down(c, &w, piece, out);
    else if (w.depth || is_last(c, state, &w, from))
        reduced(c, &w, piece, out);
    return ++state->words[RECEIVED] == expected(c);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    (void)to;
    const uint32_t from = step & ((1u << FROM_BITS) - 1), number = step >> FROM_BITS;
    carry(context, range(c, number / TREES % channels(c), number % TREES, number / TREES / channels(c)),
          from == PARENT ? FAB_COLL_KEPT : FAB_COLL_ADDED);
}

const fab_coll_ops_t fab_coll_double_tree = {
    .impl = {"coll", "double_tree", "two binary trees over the domains, a chain inside; chunks up and down", params,
             1u << FAB_OP_ALL_REDUCE},
    .peers = peers,
    .start = start,
    .received = received,
    .carries = carries,
};
