/* All-reduce, reduce-scatter and all-gather on a torus of up to three dimensions: rings in one dimension after
 * another, the data split so that each of its 2 d parts takes the dimensions in another order, or the other way
 * round, and all 2 d links of a chip work at once. Chan, Heimlich, Purkayastha, van de Geijn, "Collective
 * communication", CCPE 2007 (bucket algorithms). */
#include "coll/shared.h"

enum { X_COUNT = FAB_COLL_OWN, Y_COUNT, Z_COUNT, DIMENSIONS_MOST = 3, SIZE_MOST_OF_THREE = 256 };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"x_count", "ranks", 0, 0, 65535, "ranks along x, whose positions follow each other; 0: what y and z leave", ""},
    {"y_count", "ranks", 0, 0, 65535, "ranks along y; 0: 1", ""},
    {"z_count", "ranks", 0, 0, 65535, "ranks along z; 0: 1", ""},
    FAB_PARAM_END,
};

/* The dimensions of more than one rank. */
typedef struct {
    uint32_t dimensions, size[DIMENSIONS_MOST], stride[DIMENSIONS_MOST];
} shape_t;

static shape_t shape(const fab_coll_t *c)
{
    const uint32_t y = c->values[Y_COUNT] ? (uint32_t)c->values[Y_COUNT] : 1;
    const uint32_t z = c->values[Z_COUNT] ? (uint32_t)c->values[Z_COUNT] : 1;
    const uint32_t x = c->values[X_COUNT] ? (uint32_t)c->values[X_COUNT] : (uint32_t)(c->count / ((uint64_t)y * z));
    const uint32_t all[DIMENSIONS_MOST] = {x, y, z}, strides[DIMENSIONS_MOST] = {1, x, x * y};
    shape_t s = {0};
    for (uint32_t d = 0; d < DIMENSIONS_MOST; d++)
        if (all[d] > 1) {
            s.size[s.dimensions] = all[d];
            s.stride[s.dimensions++] = strides[d];
        }
    return s;
}

static const char *refuses(const fab_coll_t *c)
{
    uint64_t product = 1;
    const shape_t s = shape(c);
    for (uint32_t d = 0; d < s.dimensions; d++) {
        product *= s.size[d];
        if (s.dimensions == DIMENSIONS_MOST && s.size[d] > SIZE_MOST_OF_THREE)
            return "a torus of three dimensions has at most 256 ranks in each";
    }
    return product == c->count ? NULL : "x_count, y_count and z_count do not make up the ranks";
}

/* Channel 2 o + w starts with dimension o and goes up (w = 0) or down (w = 1). Phases 0 … d-1 reduce, in dimensions
 * o, o+1, …; phases d … 2d-1 gather, in the same dimensions backwards. */
typedef struct {
    uint32_t channel, phase, dimension;
    bool gathers;
} phase_t;

static phase_t phase_of(const shape_t *s, uint32_t channel, uint32_t phase)
{
    const bool gathers = phase >= s->dimensions;
    const uint32_t turn = gathers ? 2 * s->dimensions - 1 - phase : phase;
    return (phase_t){channel, phase, (channel / 2 + turn) % s->dimensions, gathers};
}

static uint32_t channels(const shape_t *s) { return 2 * s->dimensions; }
static uint32_t first_phase(const fab_coll_t *c, const shape_t *s)
{
    return c->kind == FAB_OP_ALL_GATHER ? s->dimensions : 0;
}

static uint32_t end_phase(const fab_coll_t *c, const shape_t *s)
{
    return (c->kind == FAB_OP_REDUCE_SCATTER ? 1 : 2) * s->dimensions;
}

static uint32_t coordinate(const fab_coll_t *c, const shape_t *s, uint32_t d)
{
    return c->position / s->stride[d] % s->size[d];
}

/* Along a dimension in the channel's direction: from a coordinate to a place and back. */
static uint32_t turned(uint32_t size, uint32_t channel, uint32_t i) { return channel % 2 ? (size - i) % size : i; }

static uint32_t next(const fab_coll_t *c, const shape_t *s, const phase_t *p)
{
    const uint32_t size = s->size[p->dimension], here = coordinate(c, s, p->dimension);
    const uint32_t there = (here + (p->channel % 2 ? size - 1 : 1)) % size;
    return c->position + there * s->stride[p->dimension] - here * s->stride[p->dimension];
}

/* The coordinate whose block goes out in a step: the own one is reduced last, and gathered first. */
static uint32_t block(const fab_coll_t *c, const shape_t *s, const phase_t *p, uint32_t step)
{
    const uint32_t size = s->size[p->dimension];
    const uint32_t place = turned(size, p->channel, coordinate(c, s, p->dimension));
    return turned(size, p->channel, (place + 2 * size - !p->gathers - step) % size);
}

/* Calls carry for the ranges of a block: of an all_reduce the cut by the coordinates so far, else the share of
 * every position that has them. */
static void ranges(const fab_coll_t *c, const shape_t *s, const phase_t *p, uint32_t step, fab_coll_carry_t *carry,
                   void *context)
{
    const uint32_t turns = p->gathers ? 2 * s->dimensions - 1 - p->phase : p->phase;
    uint32_t from[DIMENSIONS_MOST] = {0}, count[DIMENSIONS_MOST] = {1, 1, 1};
    for (uint32_t d = 0; d < s->dimensions; d++)
        count[d] = s->size[d];
    const fab_coll_use_t use = p->gathers ? FAB_COLL_KEPT : FAB_COLL_ADDED;
    fab_coll_range_t range = fab_coll_cut(fab_coll_all(c), channels(s), p->channel);
    for (uint32_t turn = 0; turn <= turns; turn++) {
        const uint32_t d = (p->channel / 2 + turn) % s->dimensions;
        from[d] = turn == turns ? block(c, s, p, step) : coordinate(c, s, d);
        count[d] = 1;
        range = fab_coll_cut(range, s->size[d], from[d]);
    }
    if (c->kind == FAB_OP_ALL_REDUCE) {
        carry(context, range, use);
        return;
    }
    for (uint32_t i = 0; i < count[0] * count[1] * count[2]; i++) {
        const uint32_t a = from[0] + i % count[0], b = from[1] + i / count[0] % count[1];
        const uint32_t position =
            a * s->stride[0] + b * s->stride[1] + (from[2] + i / count[0] / count[1]) * s->stride[2];
        carry(context, fab_coll_cut(fab_coll_own(c, position), channels(s), p->channel), use);
    }
}

static void add_up(void *context, fab_coll_range_t range, fab_coll_use_t use)
{
    (void)use;
    *(int64_t *)context += range.bytes;
}

static int64_t bytes_of(const fab_coll_t *c, const shape_t *s, const phase_t *p, uint32_t step)
{
    int64_t bytes = 0;
    const int64_t share = c->bytes / c->count / channels(s);
    if (c->kind == FAB_OP_ALL_REDUCE || share * c->count * channels(s) != c->bytes) {
        ranges(c, s, p, step, add_up, &bytes);
        return bytes;
    }
    bytes = share * c->count; /* even shares need no sum */
    for (uint32_t turn = 0; turn <= (p->gathers ? 2 * s->dimensions - 1 - p->phase : p->phase); turn++)
        bytes /= s->size[(p->channel / 2 + turn) % s->dimensions];
    return bytes;
}

/* A message's step: channel, phase and step of the ring. */
enum { CHANNEL_BITS = 3, PHASE_BITS = 3 };

static void send(const fab_coll_t *c, const shape_t *s, const phase_t *p, uint32_t step, fab_coll_out_t out)
{
    if (step < s->size[p->dimension] - 1)
        out.send(out.self, next(c, s, p), bytes_of(c, s, p, step),
                 (step << PHASE_BITS | p->phase) << CHANNEL_BITS | p->channel, p->channel);
}

/* Words: all messages that came, and those of each phase of each channel. */
enum { RECEIVED, COUNTERS };

static uint32_t counter_bits(const shape_t *s) { return s->dimensions == DIMENSIONS_MOST ? 8 : 16; }

static uint32_t come(const fab_coll_state_t *state, const shape_t *s, uint32_t channel, uint32_t phase)
{
    return fab_coll_counter(state->words + COUNTERS, counter_bits(s), channel * 2 * s->dimensions + phase);
}

static bool is_complete(const fab_coll_state_t *state, const shape_t *s, uint32_t channel, uint32_t phase)
{
    const phase_t p = phase_of(s, channel, phase);
    return come(state, s, channel, phase) == s->size[p.dimension] - 1;
}

/* Begins a channel's phase, and the next ones as long as all of them has come: others may be phases ahead. What
 * came too early to be reduced is in the order in which the rank before sends. */
static void begin(const fab_coll_t *c, const shape_t *s, fab_coll_state_t *state, uint32_t channel, uint32_t phase,
                  fab_coll_out_t out)
{
    for (; phase < end_phase(c, s); phase++) {
        const phase_t p = phase_of(s, channel, phase);
        send(c, s, &p, 0, out);
        for (uint32_t step = 0; !p.gathers && step < come(state, s, channel, phase); step++)
            send(c, s, &p, step + 1, out);
        if (!is_complete(state, s, channel, phase))
            return;
    }
}

static bool has_begun(const fab_coll_t *c, const shape_t *s, const fab_coll_state_t *state, uint32_t channel,
                      uint32_t phase)
{
    for (uint32_t before = first_phase(c, s); before < phase; before++)
        if (!is_complete(state, s, channel, before))
            return false;
    return true;
}

static uint32_t expected(const fab_coll_t *c, const shape_t *s)
{
    uint32_t steps = 0;
    for (uint32_t phase = first_phase(c, s); phase < end_phase(c, s); phase++)
        steps += s->size[phase_of(s, 0, phase).dimension] - 1;
    return steps * channels(s);
}

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    const shape_t s = shape(c);
    for (uint32_t channel = 0; channel < channels(&s); channel++)
        for (uint32_t phase = 0; phase < s.dimensions; phase++) {
            const phase_t p = phase_of(&s, channel, phase);
            emit(context, next(c, &s, &p), channel);
        }
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    const shape_t s = shape(c);
    for (uint32_t channel = 0; channel < channels(&s); channel++)
        begin(c, &s, state, channel, first_phase(c, &s), out);
    return c->count == 1;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    const shape_t s = shape(c);
    const uint32_t channel = step & ((1u << CHANNEL_BITS) - 1), phase = step >> CHANNEL_BITS & ((1u << PHASE_BITS) - 1);
    const phase_t p = phase_of(&s, channel, phase);
    fab_coll_count(state->words + COUNTERS, counter_bits(&s), channel * 2 * s.dimensions + phase);
    const bool begun = has_begun(c, &s, state, channel, phase);
    if (p.gathers || begun)
        send(c, &s, &p, (step >> CHANNEL_BITS >> PHASE_BITS) + 1, out);
    if (begun && is_complete(state, &s, channel, phase))
        begin(c, &s, state, channel, phase + 1, out);
    return ++state->words[RECEIVED] == expected(c, &s);
}

static void carries(const fab_coll_t *c, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context)
{
    (void)to;
    const shape_t s = shape(c);
    const phase_t p = phase_of(&s, step & ((1u << CHANNEL_BITS) - 1), step >> CHANNEL_BITS & ((1u << PHASE_BITS) - 1));
    ranges(c, &s, &p, step >> CHANNEL_BITS >> PHASE_BITS, carry, context);
}

const fab_coll_ops_t fab_coll_torus = {
    .impl = {"coll", "torus", "rings along the dimensions of a torus, both ways and in every order at once", params,
             1u << FAB_OP_ALL_REDUCE | 1u << FAB_OP_REDUCE_SCATTER | 1u << FAB_OP_ALL_GATHER},
    .peers = peers,
    .start = start,
    .received = received,
    .carries = carries,
    .refuses = refuses,
};
