/* The collectives' state machines, alone: messages are delivered in random legal order (between two ranks in
 * order, else any), ranks start at random times, acknowledgements come late. Every rank must end, once, with
 * nothing left over, and the bytes must be those of the closed forms. */
#include "coll_stage.h"

#include <stdlib.h>

enum { RANKS = 33 };

static const int64_t sizes[] = {0, 5, 1000, 65537};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void parts_add_up(void)
{
    dice_t dice = {71};
    for (int i = 0; i < 1000; i++) {
        const int64_t bytes = (int64_t)(dice_roll(&dice) >> (18 + dice_below(&dice, 40)));
        const uint32_t parts = 1 + dice_below(&dice, 300);
        int64_t sum = 0, least = INT64_MAX, most = 0;
        for (uint32_t p = 0; p < parts; p++) {
            const int64_t part = fab_coll_part(bytes, parts, p);
            sum += part;
            least = part < least ? part : least;
            most = part > most ? part : most;
        }
        CHECK_EQ(sum, bytes);
        CHECK(most - least <= 1);
    }
    CHECK_EQ(fab_coll_pieces(0, 100, 10), 1);
    CHECK_EQ(fab_coll_pieces(100, 0, 10), 1);
    CHECK_EQ(fab_coll_pieces(100, 100, 10), 1);
    CHECK_EQ(fab_coll_pieces(101, 100, 10), 2);
    CHECK_EQ(fab_coll_pieces(100000, 100, 10), 10);
}

static void ring(uint32_t n, int64_t bytes, uint64_t seed)
{
    const int64_t chunk = seed % 3 == 0 ? 0 : 500 * (int64_t)(1 + seed % 7);
    const int64_t *values = VALUES(chunk, 1);
    stage_play(&fab_coll_ring, (fab_coll_t){.kind = FAB_OP_ALL_REDUCE, .count = n, .bytes = bytes, .values = values},
               seed);
    CHECK_EQ(stage_sent_in_all(), 2 * (int64_t)(n - 1) * bytes);
    for (uint32_t r = 0; r < n; r++) { /* busbw's factor 2 (n-1) / n, up to rounding of parts */
        CHECK(llabs(stage_sent_by(r) * n - 2 * (int64_t)(n - 1) * bytes) <= 2 * (int64_t)n * n);
        CHECK_EQ(stage.sent[r][(r + 1) % n], stage_sent_by(r));
    }
    for (int kind = FAB_OP_REDUCE_SCATTER; kind <= FAB_OP_ALL_GATHER; kind++) {
        stage_play(&fab_coll_ring, (fab_coll_t){.kind = kind, .count = n, .bytes = bytes, .values = values}, seed);
        CHECK_EQ(stage_sent_in_all(), (int64_t)(n - 1) * bytes);
    }
}

static void rooted(uint32_t n, int64_t bytes, uint64_t seed)
{
    const fab_coll_ops_t *const both[] = {&fab_coll_tree, &fab_coll_chain};
    const int64_t *values = VALUES(seed % 3 == 0 ? 0 : bytes / (1 + (int64_t)(seed % 9)) + 1, 1);
    for (int a = 0; a < 2; a++)
        for (int kind = FAB_OP_BROADCAST; kind <= FAB_OP_REDUCE; kind++) {
            const uint32_t root = (uint32_t)(seed * 7 % n);
            stage_play(both[a], (fab_coll_t){.kind = kind, .count = n, .root = root, .bytes = bytes, .values = values},
                       seed);
            CHECK_EQ(stage_sent_in_all(), (int64_t)(n - 1) * bytes);
            for (uint32_t r = 0; r < n; r++) {
                int64_t received = 0;
                for (uint32_t from = 0; from < n; from++)
                    received += stage.sent[from][r];
                if (kind == FAB_OP_BROADCAST) /* everybody but the root gets it once */
                    CHECK_EQ(received, r == root ? 0 : bytes);
                else /* everybody but the root passes its sum on once */
                    CHECK_EQ(stage_sent_by(r), r == root ? 0 : bytes);
            }
        }
    stage_play(&fab_coll_tree, (fab_coll_t){.kind = FAB_OP_ALL_REDUCE, .count = n, .bytes = bytes, .values = values},
               seed);
    CHECK_EQ(stage_sent_in_all(), 2 * (int64_t)(n - 1) * bytes);
}

static void pairwise(uint32_t n, int64_t bytes, uint64_t seed)
{
    const int64_t *values = VALUES(1 + (int64_t)(seed % 9));
    for (int kind = FAB_OP_REDUCE_SCATTER; kind <= FAB_OP_ALL_TO_ALL; kind++) {
        stage_play(&fab_coll_pairwise, (fab_coll_t){.kind = kind, .count = n, .bytes = bytes, .values = values}, seed);
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t to = 0; to < n; to++)
                CHECK_EQ(stage.sent[r][to], r == to ? 0 : fab_coll_part(bytes, n, kind == FAB_OP_ALL_GATHER ? r : to));
        CHECK_EQ(stage_sent_in_all(), (int64_t)(n - 1) * bytes);
    }
    static int64_t splits[RANKS * RANKS];
    dice_t dice = {seed + 5};
    for (uint32_t i = 0; i < n * n; i++)
        splits[i] = dice_below(&dice, 3) ? dice_below(&dice, 5000) : 0;
    for (int by_sender = 0; by_sender < 2; by_sender++) {
        stage_play(&fab_coll_pairwise,
                   (fab_coll_t){.kind = FAB_OP_ALL_TO_ALL,
                                .count = n,
                                .splits = splits,
                                .splits_by_sender = by_sender,
                                .values = values},
                   seed);
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t to = 0; to < n; to++)
                CHECK_EQ(stage.sent[r][to], r == to ? 0 : splits[by_sender ? r * n + to : to]);
    }
}

static void dissemination(uint32_t n, uint64_t seed)
{
    uint32_t rounds = 0;
    while (1u << rounds < n)
        rounds++;
    stage_play(&fab_coll_dissemination, (fab_coll_t){.kind = FAB_OP_BARRIER, .count = n, .values = VALUES(8)}, seed);
    CHECK_EQ(stage.messages, (int64_t)n * rounds);
    CHECK_EQ(stage_sent_in_all(), 8 * (int64_t)n * rounds);
}

/* A barrier ends nowhere before it has begun everywhere. */
static void nobody_leaves_a_barrier_early(void)
{
    for (uint32_t n = 2; n <= RANKS; n++) {
        dice_t dice = {n};
        const uint32_t late = dice_below(&dice, n);
        stage_set(&fab_coll_dissemination, (fab_coll_t){.kind = FAB_OP_BARRIER, .count = n, .values = VALUES(8)});
        for (uint32_t r = 0; r < n; r++)
            if (r != late)
                stage_start(r);
        while (stage.flight_count)
            stage_arrive(&dice);
        for (uint32_t r = 0; r < n; r++)
            CHECK(!stage.ended[r]);
        stage_start(late);
        while (stage.flight_count)
            stage_arrive(&dice);
        for (uint32_t r = 0; r < n; r++)
            CHECK(stage.ended[r]);
    }
}

void test_coll(void)
{
    parts_add_up();
    for (uint32_t n = 1; n <= RANKS; n += n < 6 ? 1 : 4 + n % 2)
        for (int s = 0; s < SIZES; s++)
            for (uint64_t seed = n; seed < n + 2; seed++) {
                ring(n, sizes[s], seed);
                rooted(n, sizes[s], seed);
                pairwise(n, sizes[s], seed);
                dissemination(n, seed);
            }
    nobody_leaves_a_barrier_early();
}
