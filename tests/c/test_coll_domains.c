/* Collectives that know of channels, scale-up domains and rails: what each rank ends with, what crosses between
 * domains, and the bytes against the closed forms. */
#include "coll_stage.h"

#include <stdlib.h>

typedef struct {
    uint32_t domains, locals;
} shape_t;

static const shape_t shapes[] = {{1, 1}, {1, 4}, {2, 1}, {2, 2}, {3, 1}, {2, 4},
                                 {3, 3}, {4, 2}, {5, 4}, {7, 1}, {6, 3}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const int64_t sizes[] = {0, 7, 1201};
enum { SIZES = sizeof sizes / sizeof *sizes };

static fab_coll_t coll_of(int32_t kind, shape_t shape, int64_t bytes, const int64_t *values)
{
    return (fab_coll_t){.kind = kind,
                        .count = shape.domains * shape.locals,
                        .bytes = bytes,
                        .local_count = shape.locals,
                        .values = values};
}

/* Bytes that leave a rank's domain. */
static int64_t sent_out_by(uint32_t rank, uint32_t locals)
{
    int64_t bytes = stage_sent_by(rank);
    for (uint32_t to = rank / locals * locals; to < (rank / locals + 1) * locals; to++)
        bytes -= stage.sent[rank][to];
    return bytes;
}

static void rings(shape_t shape, int64_t bytes, uint64_t seed)
{
    const uint32_t n = shape.domains * shape.locals, channels = 1 + (uint32_t)(seed % 5);
    const int64_t *values = VALUES(seed % 3 * 50, channels);
    for (int kind = FAB_OP_ALL_REDUCE; kind <= FAB_OP_ALL_GATHER; kind++) {
        stage_play(&fab_coll_ring, coll_of(kind, shape, bytes, values), seed);
        CHECK_EQ(stage_sent_in_all(), (kind == FAB_OP_ALL_REDUCE ? 2 : 1) * (int64_t)(n - 1) * bytes);
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t to = 0; to < n; to++) /* with an even number of domains it stays on its rail */
                if (r / shape.locals != to / shape.locals && r % shape.locals != to % shape.locals)
                    CHECK(stage.sent[r][to] == 0 || (shape.domains % 2 && to < shape.locals));
    }
    for (int kind = FAB_OP_BROADCAST; kind <= FAB_OP_REDUCE; kind++) {
        fab_coll_t coll = coll_of(kind, shape, bytes, values);
        coll.root = (uint32_t)(seed * 3 % n);
        stage_play(&fab_coll_chain, coll, seed);
        CHECK_EQ(stage_sent_in_all(), (int64_t)(n - 1) * bytes);
    }
}

/* A ring for every local rank: each carries its share in and out of every domain, on its own rail. */
static void rings_use_all_rails(void)
{
    const shape_t shape = {4, 4};
    const int64_t bytes = 1600;
    stage_play(&fab_coll_ring, coll_of(FAB_OP_ALL_REDUCE, shape, bytes, VALUES(0, 4)), 1);
    for (uint32_t r = 0; r < 16; r++) /* 2 (n-1) / n of a quarter of the bytes */
        CHECK_EQ(sent_out_by(r, shape.locals), 2 * 15 * bytes / 16 / 4);
}

/* Up and down both trees: every rank but the two roots sends all up, every rank gets all from above. */
static void double_trees(shape_t shape, int64_t bytes, uint64_t seed)
{
    const uint32_t n = shape.domains * shape.locals, channels = 1 + (uint32_t)(seed % 9);
    stage_play(&fab_coll_double_tree, coll_of(FAB_OP_ALL_REDUCE, shape, bytes, VALUES(seed % 3 * 50, channels)), seed);
    CHECK_EQ(stage_sent_in_all(), 2 * (int64_t)(n - 1) * bytes);
    int64_t crossing = 0;
    for (uint32_t r = 0; r < n; r++) {
        crossing += sent_out_by(r, shape.locals);
        for (uint32_t to = 0; to < n; to++)
            if (r / shape.locals != to / shape.locals && r % shape.locals != to % shape.locals)
                CHECK_EQ(stage.sent[r][to], 0);
    }
    CHECK_EQ(crossing, 2 * (int64_t)(shape.domains - 1) * bytes);
}

/* No domain sends more than the data up and down once, and one of two domains sends half up and half down: the network
 * limit of an all-reduce of two domains is its algorithm bandwidth. */
static void double_trees_share_the_load(void)
{
    for (uint32_t domains = 2; domains <= 24; domains++) {
        const int64_t bytes = 2400;
        stage_play(&fab_coll_double_tree, coll_of(FAB_OP_ALL_REDUCE, (shape_t){domains, 1}, bytes, VALUES(100, 1)),
                   domains);
        for (uint32_t d = 0; d < domains; d++) {
            CHECK(stage_sent_by(d) <= 2 * bytes);
            CHECK(stage_received_by(d) <= 2 * bytes);
            if (domains == 2)
                CHECK_EQ(stage_sent_by(d), bytes);
        }
    }
    stage_play(&fab_coll_double_tree, coll_of(FAB_OP_ALL_REDUCE, (shape_t){2, 8}, 1600, VALUES(0, 8)), 3);
    for (uint32_t r = 0; r < 16; r++) /* a channel a rail */
        CHECK_EQ(sent_out_by(r, 8), 1600 / 8);
}

static void halvings(uint32_t n, int64_t bytes, uint64_t seed)
{
    uint32_t power = 1;
    while (2 * power <= n)
        power *= 2;
    const int64_t pairs = n - power;
    for (int kind = FAB_OP_ALL_REDUCE; kind <= FAB_OP_ALL_GATHER; kind++) {
        stage_play(&fab_coll_halving_doubling, coll_of(kind, (shape_t){n, 1}, bytes, VALUES(0)), seed);
        if (kind == FAB_OP_ALL_REDUCE) /* 2 (p-1) S, and S there and back for each that does not act */
            CHECK_EQ(stage_sent_in_all(), 2 * (int64_t)(power - 1) * bytes + 2 * pairs * bytes);
        else if (pairs == 0)
            CHECK_EQ(stage_sent_in_all(), (int64_t)(n - 1) * bytes);
    }
}

/* BlueConnect's bytes: inside the domain (L-1) / L of all twice, between domains 2 (D-1) / D of a share, on the
 * rail. */
static void hierarchies(shape_t shape, int64_t bytes, uint64_t seed)
{
    const uint32_t locals = shape.locals, n = shape.domains * locals;
    for (int kind = FAB_OP_ALL_REDUCE; kind <= FAB_OP_ALL_GATHER; kind++) {
        const int turns = kind == FAB_OP_ALL_REDUCE ? 2 : 1;
        stage_play(&fab_coll_hierarchical, coll_of(kind, shape, bytes, VALUES(seed % 4 * 101)), seed);
        CHECK_EQ(stage_sent_in_all(), turns * (int64_t)(n - 1) * bytes);
        int64_t crossing = 0;
        for (uint32_t r = 0; r < n; r++) {
            crossing += sent_out_by(r, locals);
            for (uint32_t to = 0; to < n; to++)
                if (r / locals != to / locals &&
                    (r % locals != to % locals || (r / locals + 1) % shape.domains != to / locals))
                    CHECK_EQ(stage.sent[r][to], 0);
        }
        CHECK_EQ(crossing, turns * (int64_t)(shape.domains - 1) * bytes);
    }
}

static void rails_to_all(shape_t shape, int64_t bytes, uint64_t seed)
{
    static int64_t splits[33 * 33];
    const uint32_t locals = shape.locals, n = shape.domains * locals;
    dice_t dice = {seed + 5};
    for (uint32_t i = 0; i < n * n; i++)
        splits[i] = dice_below(&dice, 3) ? dice_below(&dice, 50) : 0;
    for (int way = 0; way < 3; way++) {
        fab_coll_t coll = coll_of(FAB_OP_ALL_TO_ALL, shape, bytes, VALUES(1 + (int64_t)(seed % 6)));
        coll.splits = way ? splits : NULL;
        coll.splits_by_sender = way == 1;
        stage_play(&fab_coll_pxn, coll, seed);
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t to = 0; to < n; to++) {
                if (r / locals == to / locals)
                    continue;
                int64_t wanted = 0; /* all that the domain has for it, if it is on the rail */
                for (uint32_t l = 0; l < locals && r % locals == to % locals; l++) {
                    const uint32_t from = r / locals * locals + l;
                    wanted += way ? splits[way == 1 ? from * n + to : to] : fab_coll_part(bytes, n, to);
                }
                CHECK_EQ(stage.sent[r][to], wanted);
            }
    }
}

/* A torus: the bytes are those of any all-reduce without spare sends, on all links of a chip alike. */
static void tori(uint32_t x, uint32_t y, uint32_t z, int64_t bytes, uint64_t seed)
{
    const uint32_t n = x * y * z;
    for (int kind = FAB_OP_ALL_REDUCE; kind <= FAB_OP_ALL_GATHER; kind++) {
        stage_play(&fab_coll_torus, coll_of(kind, (shape_t){n, 1}, bytes, VALUES(seed % 2 ? x : 0, y, z)), seed);
        CHECK_EQ(stage_sent_in_all(), (kind == FAB_OP_ALL_REDUCE ? 2 : 1) * (int64_t)(n - 1) * bytes);
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t to = 0; to < n; to++) { /* to neighbours only */
                const uint32_t dx = (to % x + x - r % x) % x, dy = (to / x % y + y - r / x % y) % y,
                               dz = (to / x / y + z - r / x / y) % z;
                const bool beside =
                    (dx == 1 || dx + 1 == x) + (dy == 1 || dy + 1 == y) + (dz == 1 || dz + 1 == z) >= 1 &&
                    (dx != 0) + (dy != 0) + (dz != 0) == 1;
                if (!beside)
                    CHECK_EQ(stage.sent[r][to], 0);
            }
    }
}

static void tori_use_all_links(void)
{
    const int64_t bytes = 27 * 6 * 10;
    stage_play(&fab_coll_torus, coll_of(FAB_OP_ALL_REDUCE, (shape_t){27, 1}, bytes, VALUES(3, 3, 3)), 1);
    const uint32_t strides[] = {1, 3, 9};
    for (uint32_t r = 0; r < 27; r++)
        for (int d = 0; d < 3; d++)
            for (uint32_t step = 1; step <= 2; step++) {
                const uint32_t here = r / strides[d] % 3, there = (here + step) % 3;
                CHECK_EQ(stage.sent[r][r + there * strides[d] - here * strides[d]], 2 * 26 * bytes / 27 / 6);
            }
    CHECK(fab_coll_torus.refuses(&(fab_coll_t){.count = 27, .values = VALUES(3, 3, 2)}) != NULL);
    CHECK(fab_coll_torus.refuses(&(fab_coll_t){.count = 27, .values = VALUES(0, 2, 0)}) != NULL);
    CHECK(fab_coll_torus.refuses(&(fab_coll_t){.count = 2000, .values = VALUES(0, 2, 2)}) != NULL);
}

/* n-1 parts to each rank; log2 n messages if a chunk has room for all of a level. */
static void aggregated_trees(uint32_t n, int64_t bytes, uint64_t seed)
{
    const int64_t chunks[] = {0, 1000000, 30, 111};
    uint32_t levels = 0;
    while (1u << levels < n)
        levels++;
    for (int kind = FAB_OP_REDUCE_SCATTER; kind <= FAB_OP_ALL_GATHER; kind++)
        for (int i = 0; i < 4; i++) {
            stage_play(&fab_coll_pat, coll_of(kind, (shape_t){n, 1}, bytes, VALUES(chunks[i])), seed + (uint64_t)i);
            CHECK_EQ(stage_sent_in_all(), (int64_t)(n - 1) * bytes);
            if (i < 2)
                CHECK_EQ(stage.messages, (int64_t)n * levels);
        }
}

void test_coll_domains(void)
{
    for (int i = 0; i < SHAPES; i++)
        for (int s = 0; s < SIZES; s++)
            for (uint64_t seed = 5 * (uint64_t)i + 1; seed < 5 * (uint64_t)i + 3; seed++) {
                rings(shapes[i], sizes[s], seed);
                double_trees(shapes[i], sizes[s], seed);
                hierarchies(shapes[i], sizes[s], seed);
                rails_to_all(shapes[i], sizes[s], seed);
            }
    rings_use_all_rails();
    double_trees_share_the_load();
    for (uint32_t n = 1; n <= 33; n += n < 18 ? 1 : 5)
        for (int s = 0; s < SIZES; s++) {
            halvings(n, sizes[s], n);
            aggregated_trees(n, sizes[s], n);
            tori(n, 1, 1, sizes[s], n);
        }
    const uint32_t shapes_of_tori[][3] = {{2, 2, 2}, {4, 3, 2}, {1, 3, 4}, {5, 1, 3}, {3, 3, 3}, {2, 6, 3}, {1, 1, 5}};
    for (uint32_t i = 0; i < sizeof shapes_of_tori / sizeof *shapes_of_tori; i++)
        for (int s = 0; s < SIZES; s++)
            for (uint64_t seed = 1; seed < 3; seed++)
                tori(shapes_of_tori[i][0], shapes_of_tori[i][1], shapes_of_tori[i][2], sizes[s], seed);
    tori_use_all_links();
}
