/* Collectives that reduce in switches: what each rank ends with, and what its links carry. */
#include "coll_stage.h"

#include <stdlib.h>
#include <string.h>

enum { ALL_MOST = STAGE_POSITIONS };

static uint32_t parent[ALL_MOST], first[ALL_MOST + 1], children[ALL_MOST];
static fab_coll_tree_t tree;

/* A reducer for each `locals` ranks; `above`: one more over them all, else the first is (joined), else each is
 * alone. */
typedef enum { ALONE, FIRST_IS_ROOT, ROOT_ABOVE } above_t;

static void make_tree(uint32_t count, uint32_t locals, above_t above)
{
    const uint32_t leaves = (count + locals - 1) / locals, all = count + leaves + (above == ROOT_ABOVE);
    CHECK(all <= ALL_MOST);
    for (uint32_t i = 0; i < all; i++) {
        const uint32_t root = above == ROOT_ABOVE ? count + leaves : count;
        parent[i] = i < count ? count + i / locals : above == ALONE || i == root ? FAB_NONE : root;
    }
    uint32_t used = 0;
    for (uint32_t i = 0; i < all; i++) {
        first[i] = used;
        for (uint32_t child = 0; child < all; child++)
            if (parent[child] == i)
                children[used++] = child;
    }
    first[all] = used;
    tree = (fab_coll_tree_t){all - count, parent, first, children};
}

static void in_network(uint32_t n, uint32_t locals, above_t above, int64_t bytes, uint64_t seed)
{
    make_tree(n, locals, above);
    const int64_t window = 1 + (int64_t)(seed % 16), chunk = 40 + (int64_t)(seed % 3) * 300;
    const int kinds[] = {FAB_OP_ALL_REDUCE, FAB_OP_REDUCE_SCATTER, FAB_OP_ALL_GATHER, FAB_OP_BROADCAST, FAB_OP_REDUCE};
    for (int k = 0; k < 5; k++) {
        const uint32_t root = (uint32_t)(seed * 5 % n);
        const fab_coll_t coll = {.kind = kinds[k],
                                 .count = n,
                                 .bytes = bytes,
                                 .root = root,
                                 .tree = &tree,
                                 .values = VALUES(chunk, window, 8)};
        stage_play(&fab_coll_in_network, coll, seed);
        for (uint32_t r = 0; n > 1 && r < n; r++) {
            const int64_t own = fab_coll_part(bytes, n, r);
            int64_t sent = bytes, received = bytes; /* once each */
            if (kinds[k] == FAB_OP_REDUCE_SCATTER)
                received = own;
            if (kinds[k] == FAB_OP_ALL_GATHER)
                sent = own;
            if (kinds[k] == FAB_OP_BROADCAST) {
                sent = r == root ? bytes : 0;
                received = bytes - sent;
            }
            if (kinds[k] == FAB_OP_REDUCE)
                received = r == root ? bytes : 0;
            CHECK_EQ(stage_sent_by(r), sent);
            CHECK_EQ(stage_received_by(r), received);
        }
    }
    stage_play(&fab_coll_in_network,
               (fab_coll_t){.kind = FAB_OP_BARRIER, .count = n, .tree = &tree, .values = VALUES(chunk, window, 8)},
               seed);
    CHECK_EQ(stage.messages, n == 1 ? 0 : 2 * (int64_t)(n + tree.reducer_count - 1));
}

static void nvls(uint32_t domains, uint32_t locals, int64_t bytes, uint64_t seed)
{
    const uint32_t n = domains * locals;
    make_tree(n, locals, ALONE);
    const fab_coll_t coll = {.kind = FAB_OP_ALL_REDUCE,
                             .count = n,
                             .bytes = bytes,
                             .local_count = locals,
                             .tree = &tree,
                             .values = VALUES(20 + (int64_t)(seed % 3) * 150, 1 + (int64_t)(seed % 16))};
    stage_play(&fab_coll_nvls_tree, coll, seed);
    for (uint32_t r = 0; n > 1 && r < n; r++) {
        const uint32_t reducer = parent[r];
        const int64_t share = fab_coll_part(bytes, locals, r % locals);
        CHECK_EQ(stage.sent[r][reducer], bytes + share); /* S (1 + 1/L) each way */
        CHECK_EQ(stage.sent[reducer][r], bytes + share);
        const int64_t out = stage_sent_by(r) - bytes - share, in = stage_received_by(r) - bytes - share;
        CHECK(out <= 2 * share + 2 && in <= 2 * share + 2);
        if (domains == 1)
            CHECK(out == 0 && in == 0);
        if (domains == 2) /* half up, half down */
            CHECK(llabs(out - share) <= 2 && llabs(in - share) <= 2);
        for (uint32_t to = 0; to < n; to++)
            if (r % locals != to % locals)
                CHECK_EQ(stage.sent[r][to], 0);
    }
}

static void refusals(void)
{
    fab_coll_t coll = {.kind = FAB_OP_ALL_REDUCE, .count = 8, .bytes = 100, .local_count = 4, .tree = &tree};
    make_tree(8, 4, ALONE);
    CHECK(fab_coll_in_network.refuses(&coll) != NULL);
    CHECK(fab_coll_nvls_tree.refuses(&coll) == NULL);
    coll.local_count = 2;
    CHECK(fab_coll_nvls_tree.refuses(&coll) != NULL);
    make_tree(8, 4, ROOT_ABOVE);
    CHECK(fab_coll_in_network.refuses(&coll) == NULL);
    coll.tree = NULL;
    CHECK(fab_coll_in_network.refuses(&coll) != NULL);
    CHECK(fab_coll_nvls_tree.refuses(&coll) != NULL);
}

void test_coll_network(void)
{
    const int64_t sizes[] = {0, 7, 1201};
    for (int s = 0; s < 3; s++)
        for (uint64_t seed = 1; seed < 4; seed++) {
            const uint32_t counts[] = {1, 2, 3, 8, 13, 24};
            for (int i = 0; i < 6; i++) {
                in_network(counts[i], counts[i], ALONE, sizes[s], seed * 7 + counts[i]);
                in_network(counts[i], 1 + (uint32_t)(seed % 4), FIRST_IS_ROOT, sizes[s], seed * 5 + counts[i]);
                in_network(counts[i], 1 + (uint32_t)(seed % 4), ROOT_ABOVE, sizes[s], seed * 3 + counts[i]);
            }
            const uint32_t shapes[][2] = {{1, 1}, {1, 2}, {1, 8}, {2, 4}, {3, 3}, {4, 2}, {5, 1}, {7, 4}, {1, 24}};
            for (int i = 0; i < 9; i++)
                nvls(shapes[i][0], shapes[i][1], sizes[s], seed * 11 + (uint64_t)i);
        }
    refusals();
}
