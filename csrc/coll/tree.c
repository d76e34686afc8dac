/* Binary-tree all-reduce, reduce and broadcast in chunks: up to the root, down from it. Position v (counted from
 * the root) hangs under (v-1)/2. */
#include "coll/shared.h"

enum { CHUNK_BYTES = FAB_COLL_OWN };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"chunk_bytes", "bytes", 524288, 0, INT64_C(1) << 40, "the message travels in chunks of this size; 0: whole",
     "512 KiB: NCCL's Simple protocol, one step of a 4 MiB buffer"},
    FAB_PARAM_END,
};

/* Whom a chunk comes from, in the low bits of its step. */
enum { FROM_LEFT, FROM_RIGHT, FROM_PARENT, FROM_BITS = 2 };

enum { LEFT, RIGHT, DOWN, UP_SENT }; /* chunks so far: by child, from the parent, reduced and passed on */

static uint32_t pieces(const fab_coll_t *c)
{
    return fab_coll_pieces(c->bytes, c->values[CHUNK_BYTES], 1u << (FAB_COLL_STEP_BITS - FROM_BITS));
}

static uint32_t root(const fab_coll_t *c) { return c->kind == FAB_OP_ALL_REDUCE ? 0 : c->root; }
static uint32_t place(const fab_coll_t *c) { return (c->position + c->count - root(c)) % c->count; }
static uint32_t at(const fab_coll_t *c, uint32_t v) { return (v + root(c)) % c->count; }

static void send(const fab_coll_t *c, uint32_t v, uint32_t piece, uint32_t from, fab_coll_out_t out)
{
    out.send(out.self, at(c, v), fab_coll_part(c->bytes, pieces(c), piece), piece << FROM_BITS | from, 0);
}

static void send_down(const fab_coll_t *c, uint32_t piece, fab_coll_out_t out)
{
    const uint32_t v = place(c);
    for (uint32_t child = 2 * v + 1; child <= 2 * v + 2 && child < c->count; child++)
        send(c, child, piece, FROM_PARENT, out);
}

static void send_up(const fab_coll_t *c, uint32_t piece, fab_coll_out_t out)
{
    const uint32_t v = place(c);
    send(c, (v - 1) / 2, piece, v % 2 ? FROM_LEFT : FROM_RIGHT, out);
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    const uint32_t v = place(c);
    if (v && c->kind != FAB_OP_BROADCAST)
        emit(context, at(c, (v - 1) / 2), 0);
    for (uint32_t child = 2 * v + 1; child <= 2 * v + 2 && child < c->count && c->kind != FAB_OP_REDUCE; child++)
        emit(context, at(c, child), 0);
}

/* Passes on the chunks that all children have delivered; returns whether the rank is done. */
static bool reduce_on(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    const uint32_t v = place(c), m = pieces(c);
    const uint32_t left = 2 * v + 1 < c->count ? state->words[LEFT] : m;
    const uint32_t right = 2 * v + 2 < c->count ? state->words[RIGHT] : m;
    for (; state->words[UP_SENT] < (left < right ? left : right); state->words[UP_SENT]++) {
        if (v)
            send_up(c, state->words[UP_SENT], out);
        else if (c->kind == FAB_OP_ALL_REDUCE)
            send_down(c, state->words[UP_SENT], out);
    }
    const bool reduced = state->words[UP_SENT] == m;
    return reduced && (v == 0 || c->kind == FAB_OP_REDUCE || state->words[DOWN] == m);
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    if (c->count == 1)
        return true;
    if (c->kind != FAB_OP_BROADCAST)
        return reduce_on(c, state, out);
    if (place(c))
        return false;
    for (uint32_t piece = 0; piece < pieces(c); piece++)
        send_down(c, piece, out);
    return true;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    const uint32_t from = step & ((1u << FROM_BITS) - 1);
    if (from != FROM_PARENT) {
        state->words[from == FROM_LEFT ? LEFT : RIGHT]++;
        return reduce_on(c, state, out);
    }
    send_down(c, step >> FROM_BITS, out);
    return ++state->words[DOWN] == pieces(c);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    (void)to;
    const uint32_t from = step & ((1u << FROM_BITS) - 1);
    carry(context, fab_coll_cut(fab_coll_all(c), pieces(c), step >> FROM_BITS),
          from == FROM_PARENT ? FAB_COLL_KEPT : FAB_COLL_ADDED);
}

const fab_coll_ops_t fab_coll_tree = {
    .impl = {"coll", "tree", "one binary tree, chunks up and down", params,
             1u << FAB_OP_ALL_REDUCE | 1u << FAB_OP_BROADCAST | 1u << FAB_OP_REDUCE},
    .peers = peers,
    .start = start,
    .received = received,
    .carries = carries,
};
