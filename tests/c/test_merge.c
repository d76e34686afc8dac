/* The winner tree: arrivals of all ports come out in order of (time, port). */
#include "check.h"
#include "switch/merge.h"

#include <string.h>

enum { PORTS = 70, ENTRIES = 12 };

static void against_a_search(dice_t *dice, uint32_t ports, int64_t span)
{
    static uint64_t tree[4 * PORTS + 8];
    static uint16_t tree_port[PORTS + 1];
    fab_worker_t worker = {.tree = tree, .tree_port = tree_port};
    int64_t when[PORTS][ENTRIES + 1], heads[PORTS];
    uint32_t at[PORTS] = {0};
    const int64_t base = INT64_C(1) << (dice_below(dice, 60)), until = base + 1000;
    for (uint32_t p = 0; p < ports; p++) {
        int64_t now = base + dice_below(dice, (uint32_t)span);
        const uint32_t count = dice_below(dice, ENTRIES + 1);
        for (uint32_t i = 0; i <= ENTRIES; i++) {
            when[p][i] = i < count ? now : FAB_NEVER;
            now += dice_below(dice, (uint32_t)span);
        }
        heads[p] = when[p][0];
    }
    fab_merge_t merge;
    fab_merge_start(&merge, &worker, heads, ports, base, until);
    CHECK(merge.active <= 1u << merge.levels && (merge.levels == 0 || merge.active > 1u << (merge.levels - 1)));
    for (;;) {
        uint32_t wanted = 0;
        for (uint32_t p = 1; p < ports; p++)
            if (when[p][at[p]] < when[wanted][at[wanted]])
                wanted = p;
        const bool more = when[wanted][at[wanted]] < until;
        uint32_t port = 0;
        int64_t now = 0;
        const bool found = fab_merge_next(&merge, &port, &now);
        CHECK_EQ(found, more);
        if (!more || !found) {
            CHECK_EQ(fab_merge_end(&merge, heads), when[wanted][at[wanted]]);
            break;
        }
        CHECK_EQ(port, wanted);
        CHECK_EQ(now, when[wanted][at[wanted]]);
        if (port != wanted)
            break;
        at[wanted]++;
        heads[wanted] = when[wanted][at[wanted]];
        fab_merge_replace(&merge, merge.levels, heads[wanted]);
    }
}

void test_merge(void)
{
    dice_t dice = {31};
    for (uint32_t ports = 1; ports <= PORTS; ports++)
        for (int round = 0; round < 12; round++)
            against_a_search(&dice, ports, round % 3 == 0 ? 3 : round % 3 == 1 ? 300 : 1500);
}
