/* Collectives that know of channels, scale-up domains and rails: what each rank ends with, what crosses between domains,
 * and the bytes against the closed forms. */
#include "coll_stage.h"

#include <stdlib.h>

typedef struct {
    uint32_t domains, locals;
} shape_t;

static const shape_t shapes[] = {{1, 1}, {1, 4}, {2, 1}, {2, 2}, {3, 1}, {2, 4},
                                 {3, 3}, {4, 2}, {5, 4}, {7, 1}, {6, 3}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const int64_t sizes[] = {0, 7, 600, 2011};
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

void test_coll_domains(void)
{
    for (int i = 0; i < SHAPES; i++)
        for (int s = 0; s < SIZES; s++)
            for (uint64_t seed = 5 * (uint64_t)i + 1; seed < 5 * (uint64_t)i + 4; seed++) {
                rings(shapes[i], sizes[s], seed);
                double_trees(shapes[i], sizes[s], seed);
            }
    rings_use_all_rails();
    double_trees_share_the_load();
    for (uint32_t n = 1; n <= 33; n++)
        for (int s = 0; s < SIZES; s++)
            halvings(n, sizes[s], n);
}
