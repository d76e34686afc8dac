/* NVLS and NVLSTree all-reduce: the switch of each scale-up domain adds up what its ranks have, share by share for
 * the rank that owns it; equal local ranks reduce their share over two trees of domains; the owner writes the
 * result to all of its domain through the switch. One domain: multimem.ld_reduce and multimem.st, each link
 * carrying S (1 + 1/L) each way. NVIDIA, NCCL 2.17 (NVLS) and 2.18 (NVLSTree). */
#include "coll/shared.h"

enum { CHUNK_BYTES = FAB_COLL_OWN, WINDOW_COUNT, WINDOW_MOST = 16 };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"chunk_bytes", "bytes", 131072, 1, INT64_C(1) << 40, "a share travels in chunks of this size",
     "128 KiB: NCCL's NVLS chunk"},
    {"window_count", "chunks", 16, 1, WINDOW_MOST, "chunks of a rank that the switch has not added up yet", ""},
    FAB_PARAM_END,
};

/* Chunk q is piece q / (2 L) of the half that goes by tree q / L mod 2, of the share of local rank q mod L. A
 * message's step is 8 q + kind: to the switch, a rank's data, or a result to be written to all; from the switch, a
 * chunk added up (to others than its owner only that it is), or a result; between owners, as in double_tree. */
enum { DATA, RESULT, SUM, WRITE, LEFT, RIGHT, PARENT, KIND_BITS = 3, TREES = 2 };

/* Of a rank: chunks sent; chunks added up; those of its own share by tree: from its switch and its children. Of a
 * reducer: arrivals by chunk. Ranks send the chunks in the same order, so they are added up in order. */
enum { RECEIVED, SENT, SUMMED, COUNTERS, COUNTER_BITS = 16 };

static uint32_t locals(const fab_coll_t *c) { return fab_coll_locals(c); }
static bool is_rank(const fab_coll_t *c) { return c->position < c->count; }

static uint32_t pieces(const fab_coll_t *c)
{
    const uint32_t most = (1u << (FAB_COLL_STEP_BITS - KIND_BITS)) / (TREES * locals(c));
    return fab_coll_pieces(c->bytes / (TREES * locals(c)), c->values[CHUNK_BYTES],
                           most < (1u << COUNTER_BITS) ? most : (1u << COUNTER_BITS) - 1);
}

static uint32_t chunks(const fab_coll_t *c) { return pieces(c) * TREES * locals(c); }
static uint32_t tree_of(const fab_coll_t *c, uint32_t chunk) { return chunk / locals(c) % TREES; }

static fab_coll_range_t range(const fab_coll_t *c, uint32_t chunk)
{
    const fab_coll_range_t share = fab_coll_cut(fab_coll_all(c), locals(c), chunk % locals(c));
    return fab_coll_cut(fab_coll_cut(share, TREES, tree_of(c, chunk)), pieces(c), chunk / locals(c) / TREES);
}

static void send(const fab_coll_t *c, uint32_t to, uint32_t chunk, uint32_t kind, bool data, fab_coll_out_t out)
{
    out.send(out.self, to, data ? range(c, chunk).bytes : 0, chunk << KIND_BITS | kind, 0);
}

/* ---- owners and their trees --------------------------------------------------------------------- */

static fab_coll_btree_t neighbours(const fab_coll_t *c, uint32_t tree)
{
    const uint32_t l = locals(c);
    fab_coll_btree_t t = fab_coll_dtree(c->count / l, c->position / l, tree);
    uint32_t *const all[] = {&t.parent, &t.child[0], &t.child[1]};
    for (int i = 0; i < 3; i++)
        if (*all[i] != FAB_NONE)
            *all[i] = *all[i] * l + c->position % l;
    return t;
}

/* A chunk is reduced over all domains: on to the domains below, and into the own one. */
static void spread(const fab_coll_t *c, const fab_coll_btree_t *t, uint32_t chunk, fab_coll_out_t out)
{
    for (int i = 0; i < 2; i++)
        if (t->child[i] != FAB_NONE)
            send(c, t->child[i], chunk, PARENT, true, out);
    send(c, c->tree->parent[c->position], chunk, RESULT, true, out);
}

/* A chunk of the own share came from the switch (kind SUM) or a child: if from all, it goes up, or turns at the
 * root. */
static void add(const fab_coll_t *c, fab_coll_state_t *state, uint32_t chunk, uint32_t kind, fab_coll_out_t out)
{
    const uint32_t tree = tree_of(c, chunk), first = 3 * tree;
    const fab_coll_btree_t t = neighbours(c, tree);
    uint32_t *const counters = state->words + COUNTERS;
    const uint32_t come = fab_coll_count(counters, COUNTER_BITS, first + (kind == SUM ? 0 : kind - LEFT + 1));
    if (fab_coll_counter(counters, COUNTER_BITS, first) < come)
        return;
    for (uint32_t i = 0; i < 2; i++)
        if (t.child[i] != FAB_NONE && fab_coll_counter(counters, COUNTER_BITS, first + 1 + i) < come)
            return;
    if (t.parent == FAB_NONE) {
        spread(c, &t, chunk, out);
        return;
    }
    const fab_coll_t above = {.count = c->count, .local_count = c->local_count, .position = t.parent};
    send(c, t.parent, chunk, neighbours(&above, tree).child[0] == c->position ? LEFT : RIGHT, true, out);
}

/* ---- ranks and reducers ------------------------------------------------------------------------- */

static uint32_t expected(const fab_coll_t *c)
{
    if (!is_rank(c)) /* everybody's data, and every result */
        return (locals(c) + 1) * chunks(c);
    uint32_t messages = 2 * chunks(c); /* added up, and written */
    for (uint32_t tree = 0; tree < TREES; tree++) {
        const fab_coll_btree_t t = neighbours(c, tree);
        messages += ((t.parent != FAB_NONE) + (t.child[0] != FAB_NONE) + (t.child[1] != FAB_NONE)) * pieces(c);
    }
    return messages;
}

static void fill_window(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    while (state->words[SENT] < chunks(c) && state->words[SENT] < state->words[SUMMED] + c->values[WINDOW_COUNT])
        send(c, c->tree->parent[c->position], state->words[SENT]++, DATA, true, out);
}

static void at_rank(const fab_coll_t *c, fab_coll_state_t *state, uint32_t chunk, uint32_t kind, fab_coll_out_t out)
{
    const bool own = chunk % locals(c) == c->position % locals(c);
    if (kind == PARENT) {
        const fab_coll_btree_t t = neighbours(c, tree_of(c, chunk));
        spread(c, &t, chunk, out);
    } else if (kind != WRITE && own) {
        add(c, state, chunk, kind, out);
    }
    if (kind == SUM) {
        state->words[SUMMED]++;
        fill_window(c, state, out);
    }
}

static void at_reducer(const fab_coll_t *c, fab_coll_state_t *state, uint32_t chunk, uint32_t kind, fab_coll_out_t out)
{
    uint32_t *const counters = state->words + COUNTERS;
    const uint32_t counter = chunk % (uint32_t)c->values[WINDOW_COUNT];
    if (kind == DATA) {
        if (fab_coll_count(counters, COUNTER_BITS, counter) < locals(c))
            return;
        fab_coll_count_clear(counters, COUNTER_BITS, counter);
    }
    for (uint32_t i = c->tree->child_first[c->position]; i < c->tree->child_first[c->position + 1]; i++) {
        const uint32_t rank = c->tree->children[i];
        const bool data = kind == RESULT || chunk % locals(c) == rank % locals(c);
        send(c, rank, chunk, kind == RESULT ? WRITE : SUM, data, out);
    }
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    if (c->count == 1)
        return;
    for (uint32_t i = c->tree->child_first[c->position]; !is_rank(c) && i < c->tree->child_first[c->position + 1]; i++)
        emit(context, c->tree->children[i], 0);
    if (!is_rank(c))
        return;
    emit(context, c->tree->parent[c->position], 0);
    for (uint32_t tree = 0; tree < TREES; tree++) {
        const fab_coll_btree_t t = neighbours(c, tree);
        const uint32_t all[] = {t.parent, t.child[0], t.child[1]};
        for (int i = 0; i < 3; i++)
            if (all[i] != FAB_NONE)
                emit(context, all[i], 0);
    }
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    if (c->count > 1 && is_rank(c))
        fill_window(c, state, out);
    return c->count == 1;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    const uint32_t chunk = step >> KIND_BITS, kind = step & ((1u << KIND_BITS) - 1);
    (is_rank(c) ? at_rank : at_reducer)(c, state, chunk, kind, out);
    return ++state->words[RECEIVED] == expected(c);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    const uint32_t chunk = step >> KIND_BITS, kind = step & ((1u << KIND_BITS) - 1);
    fab_coll_use_t use = kind == RESULT || kind == WRITE || kind == PARENT ? FAB_COLL_KEPT : FAB_COLL_ADDED;
    if (kind == DATA && chunk % locals(c) == c->position % locals(c))
        use = FAB_COLL_HANDED_OVER; /* it is in the sum that comes back */
    if (kind != SUM || chunk % locals(c) == to % locals(c))
        carry(context, range(c, chunk), use);
}

static const char *refuses(const fab_coll_t *c)
{
    const uint32_t l = locals(c);
    for (uint32_t rank = 0; rank < c->count; rank++) {
        const uint32_t reducer = c->tree ? c->tree->parent[rank] : FAB_NONE;
        if (reducer == FAB_NONE || reducer != c->tree->parent[rank / l * l] ||
            c->tree->child_first[reducer + 1] - c->tree->child_first[reducer] != l)
            return "each must share a reducer with just the ranks of its domain, as many in each domain and one after "
                   "another";
    }
    return NULL;
}

const fab_coll_ops_t fab_coll_nvls_tree = {
    .impl = {"coll", "nvls_tree", "added up and multicast by the domain's switch, two trees between domains", params,
             1u << FAB_OP_ALL_REDUCE},
    .peers = peers,
    .start = start,
    .received = received,
    .carries = carries,
    .refuses = refuses,
    .reduces_in_network = FAB_REDUCES_IN_DOMAIN,
};
