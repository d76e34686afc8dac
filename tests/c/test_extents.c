/* Sets of byte ranges against a plain array of bytes. */
#include "check.h"
#include "store/extents.h"

#include <string.h>

enum { BYTES = 96, ROUNDS = 20000 };

/* Sorted, disjoint, not touching, and the same bytes as the array has. */
static void compare(const fab_extents_t *set, const bool *bytes)
{
    int64_t total = 0;
    bool same = true;
    for (uint32_t i = 0; i < set->count; i++) {
        same = same && set->items[i].begin < set->items[i].end;
        same = same && (i == 0 || set->items[i - 1].end < set->items[i].begin);
        for (int64_t b = set->items[i].begin; b < set->items[i].end; b++)
            same = same && bytes[b];
        total += set->items[i].end - set->items[i].begin;
    }
    int64_t wanted = 0;
    for (int b = 0; b < BYTES; b++)
        wanted += bytes[b];
    CHECK(same);
    CHECK_EQ(total, wanted);
    CHECK_EQ(set->bytes, wanted);
}

static void test_random(void)
{
    fab_pool_t pool = {0};
    fab_extents_t set = {0};
    bool bytes[BYTES] = {0};
    dice_t dice = {11};
    for (int round = 0; round < ROUNDS; round++) {
        const uint32_t begin = dice_below(&dice, BYTES), end = begin + dice_below(&dice, BYTES - begin + 1);
        const uint32_t longest = 1 + dice_below(&dice, 12), stop = end - begin > longest ? begin + longest : end;
        const bool add = dice_below(&dice, 2);
        int64_t changed = 0, covered = 0;
        for (uint32_t b = begin; b < stop; b++) {
            covered += bytes[b];
            changed += bytes[b] != add;
        }
        CHECK_EQ(fab_extents_covered(&set, begin, stop), covered);
        CHECK_EQ(add ? fab_extents_add(&set, &pool, begin, stop) : fab_extents_remove(&set, &pool, begin, stop),
                 changed);
        memset(bytes + begin, add, stop - begin);
        compare(&set, bytes);
        const uint32_t at = dice_below(&dice, BYTES), found = fab_extents_find(&set, at);
        CHECK(found == set.count || set.items[found].end > at);
        CHECK(found == 0 || set.items[found - 1].end <= at);
        if (dice_below(&dice, 500) == 0) {
            fab_extents_clear(&set, &pool);
            memset(bytes, 0, sizeof bytes);
        }
    }
    fab_pool_free(&pool);
}

static void test_growing(void)
{
    fab_pool_t pool = {0};
    fab_extents_t set = {0};
    for (int64_t i = 0; i < 1000; i++)
        CHECK_EQ(fab_extents_add(&set, &pool, i * 4096, (i + 1) * 4096), 4096);
    CHECK_EQ(set.count, 1);
    CHECK_EQ(fab_extents_add(&set, &pool, 0, INT64_MAX), INT64_MAX - 1000 * 4096);
    CHECK_EQ(fab_extents_remove(&set, &pool, 4096, 8192), 4096);
    CHECK_EQ(set.count, 2);
    CHECK_EQ(fab_extents_add(&set, &pool, 5, 5), 0);
    CHECK_EQ(fab_extents_remove(&set, &pool, 4096, 8192), 0);
    fab_pool_free(&pool);
}

void test_extents(void)
{
    test_random();
    test_growing();
}
