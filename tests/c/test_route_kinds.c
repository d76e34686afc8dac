/* Properties of the kinds of routing on trees and on graphs of any shape: everything arrives, over shortest or allowed
 * ways, evenly; around a dead cable, or not at all where none leads. */
#include "check.h"
#include "walk.h"

#include <string.h>

static world_t world;
static routed_t routed;
static uint32_t load[2 * WORLD_CABLES];

static const fab_route_config_t ecmp = {.ops = &fab_route_ecmp, .hash_seed = 3}, dmodk = {.ops = &fab_route_dmodk},
                                updown = {.ops = &fab_route_updown},
                                updown_single = {.ops = &fab_route_updown, .single_path = true};

/* Hosts and switches at random: a tree of switches, so that all is joined, and some cables more. */
static void random_graph(dice_t *dice)
{
    const int32_t hosts = 2 + (int32_t)dice_below(dice, 14), switches = 1 + (int32_t)dice_below(dice, 9);
    world_start(&world, hosts, switches);
    for (int32_t h = 0; h < hosts; h++)
        world_cable(&world, h, hosts + (int32_t)dice_below(dice, (uint32_t)switches), 100000, 1000);
    for (int32_t s = 1; s < switches; s++)
        world_cable(&world, hosts + s, hosts + (int32_t)dice_below(dice, (uint32_t)s), 100000, 1000);
    for (uint32_t i = dice_below(dice, 12); i; i--) {
        const int32_t a = hosts + (int32_t)dice_below(dice, (uint32_t)switches),
                      b = hosts + (int32_t)dice_below(dice, (uint32_t)switches);
        if (a != b)
            world_cable(&world, a, b, 100000, 1000);
    }
}

/* All pairs, several entropies: shortest, or no longer than twice the way to a root and back. */
static void all_arrive(const fab_route_config_t *config, int32_t dead_cable, bool shortest)
{
    routed_start(&routed, &world, config, dead_cable);
    CHECK_EQ(routed.code, FAB_OK);
    const int32_t hosts = world.topology.host_count;
    for (int32_t src = 0; src < hosts; src++)
        for (int32_t dst = 0; dst < hosts; dst++) {
            if (src == dst)
                continue;
            const uint32_t distance = routed_distance(&world, src, dst, dead_cable);
            CHECK(fab_route_joins(&routed.route, (uint32_t)src, (uint32_t)dst) == (distance != FAB_NONE));
            if (routed.net.out_link[routed.net.host_link[0][src]] / 2 == 0 && distance == FAB_NONE)
                continue;
            for (uint32_t entropy = 0; entropy < 65536; entropy += 9001) {
                uint32_t links[WALK_MOST];
                const uint32_t length = routed_walk(&routed, (uint32_t)src, (uint32_t)dst, entropy, links);
                if (distance == FAB_NONE) {
                    const int32_t own = (int32_t)routed.net.link_name[routed.net.host_link[0][src]] / 2;
                    CHECK(length == 0 || own == dead_cable); /* a host that is cut off itself can send nothing */
                } else if (shortest) {
                    CHECK_EQ(length, distance);
                } else {
                    CHECK(length >= distance);
                }
            }
        }
    fab_problems_clear(&routed.problems);
    if (!shortest)
        CHECK_EQ(fab_route_find_loop(&routed.net, 0, &routed.route, 1, &routed.problems), FAB_OK);
    routed_end(&routed);
}

static void any_graph(void)
{
    dice_t dice = {91};
    for (int round = 0; round < 60; round++) {
        random_graph(&dice);
        const int32_t dead = round % 2 ? (int32_t)dice_below(&dice, (uint32_t)world.topology.cable_count) : -1;
        all_arrive(&ecmp, dead, true);
        all_arrive(&dmodk, dead, true);
        all_arrive(&updown, dead, false);
        all_arrive(&updown_single, dead, false);
    }
}

/* On trees up/down is shortest, and on whole ones nothing needs a table. */
static void trees(void)
{
    for (int32_t k = 2; k <= 6; k += 2) {
        world_fat_tree(&world, k);
        all_arrive(&updown, -1, true);
        all_arrive(&updown_single, -1, true);
        routed_start(&routed, &world, &updown, -1);
        CHECK_EQ(routed.route.arithmetic_count, world.topology.switch_count);
        routed_end(&routed);
        all_arrive(&ecmp, world.topology.cable_count - 1, true);
        all_arrive(&updown, world.topology.cable_count - 1, false);
        all_arrive(&dmodk, 0, true); /* a host's cable */
    }
}

/* The greatest number of ways over one link in any cyclic shift of all hosts. */
static uint32_t worst_shift(void)
{
    const uint32_t hosts = (uint32_t)world.topology.host_count;
    uint32_t worst = 0;
    for (uint32_t shift = 1; shift < hosts; shift++) {
        memset(load, 0, sizeof load);
        for (uint32_t src = 0; src < hosts; src++) {
            uint32_t links[WALK_MOST];
            const uint32_t n = routed_walk(&routed, src, (src + shift) % hosts, src * 7919u & 65535u, links);
            CHECK(n > 0);
            for (uint32_t i = 0; i < n; i++)
                if (++load[links[i]] > worst)
                    worst = load[links[i]];
        }
    }
    return worst;
}

static void shifts_do_not_collide(void)
{
    for (int32_t shape = 0; shape < 7; shape++) {
        if (shape < 3)
            world_fat_tree(&world, 4 + 2 * shape);
        else
            world_leaf_spine(&world, shape == 6 ? 3 : 8, shape - 2, shape - 2);
        routed_start(&routed, &world, &dmodk, -1);
        CHECK_EQ(worst_shift(), 1);
        routed_end(&routed);
    }
    world_fat_tree(&world, 8);
    routed_start(&routed, &world, &ecmp, -1);
    CHECK(worst_shift() > 1);
    routed_end(&routed);
}

/* Tables of trees with shuffled hosts still spread a leaf's hosts evenly over its uplinks. */
static void dmodk_is_even_by_table(void)
{
    world_leaf_spine(&world, 4, 3, 6);
    for (int32_t h = 0; h < 24; h++) /* host h on leaf h % 4, as rails are wired */
        (world.a[h] < 24 ? world.b : world.a)[h] = 24 + h % 4;
    routed_start(&routed, &world, &dmodk, -1);
    CHECK(routed.route.arithmetic_count < 7);
    memset(load, 0, sizeof load);
    for (uint32_t src = 0; src < 24; src++)
        for (uint32_t dst = 0; dst < 24; dst++) {
            uint32_t links[WALK_MOST];
            const uint32_t n = src == dst ? 0 : routed_walk(&routed, src, dst, 0, links);
            for (uint32_t i = 0; i < n; i++)
                load[links[i]]++;
        }
    for (uint32_t l = 0; l < routed.net.link_count; l++)
        if (routed.net.nodes[routed.net.rx_slot[l]].is_switch && routed.net.nodes[routed.net.tx_slot[l]].is_switch)
            CHECK_EQ(load[l], 6 * 18 / 3);
    routed_end(&routed);
}

/* The candidates are what the hash chooses among. */
static void candidates(void)
{
    dice_t dice = {17};
    for (int round = 0; round < 30; round++) {
        if (round < 3)
            world_fat_tree(&world, 2 * round + 2);
        else
            random_graph(&dice);
        const fab_route_config_t config = {.ops = &fab_route_adaptive, .adaptive = true, .reorder = true};
        routed_start(&routed, &world, &config, -1);
        CHECK(routed.route.adaptive);
        for (int32_t s = 0; s < world.topology.switch_count; s++)
            for (int32_t h = 0; h < world.topology.host_count; h++) {
                const fab_rule_t *rule = &routed.route.rules[s];
                const fab_candidates_t c = fab_route_candidates(&routed.route, rule, (uint32_t)h);
                CHECK(c.count > 0);
                for (uint32_t i = 0; i < 8; i++) {
                    const uint32_t entropy = dice_below(&dice, 65536), at = fab_candidates_hashed(c, rule, entropy);
                    CHECK(at < c.count);
                    CHECK_EQ(fab_route_port(&routed.route, rule, (uint32_t)h, entropy), fab_candidates_port(c, at));
                }
            }
        routed_end(&routed);
    }
}

/* Reducers and servers hang on upper switches; ranks keep their arithmetic, and those are found from everywhere. */
static void hosts_aside(int32_t servers)
{
    world_fat_tree(&world, 4);
    const int32_t hosts = 16, cables = world.topology.cable_count;
    for (int32_t c = 0; c < cables; c++) { /* four hosts more: numbers of switches move up */
        world.a[c] += world.a[c] >= hosts ? 4 : 0;
        world.b[c] += world.b[c] >= hosts ? 4 : 0;
    }
    world.topology.host_count = hosts + 4;
    world.topology.reducer_count = 4 - servers;
    world.topology.server_count = servers;
    for (int32_t r = 0; r < 4; r++) /* an edge, two aggregation switches, a core */
        world_cable(&world, hosts + r, (int32_t[]){20, 28, 31, 38}[r], 400000, 1000000);
    all_arrive(&ecmp, -1, true);
    all_arrive(&dmodk, -1, true);
    all_arrive(&updown, -1, false);
    all_arrive(&ecmp, world.topology.cable_count - 1, true);
    routed_start(&routed, &world, &ecmp, -1);
    CHECK_EQ(routed.route.arithmetic_count, 20);
    /* servers of two upper switches send down and up again to each other; up/down routes, checked above, do not */
    const int expected = servers > 1 ? FAB_E_CONFIG : FAB_OK;
    CHECK_EQ(fab_route_check_loops(&routed.net, 0, &routed.route, 1, &routed.problems), expected);
    fab_problems_clear(&routed.problems);
    CHECK_EQ(fab_route_find_loop(&routed.net, 0, &routed.route, 1, &routed.problems), expected);
    fab_problems_clear(&routed.problems);
    routed_end(&routed);
    world.topology.reducer_count = world.topology.server_count = 0;
}

/* Loops are found where they are, named, and nowhere else. */
static void loops(void)
{
    for (int32_t k = 2; k <= 6; k += 2) {
        world_fat_tree(&world, k);
        for (int i = 0; i < 2; i++) {
            routed_start(&routed, &world, i ? &dmodk : &ecmp, -1);
            CHECK_EQ(fab_route_check_loops(&routed.net, 0, &routed.route, 1, &routed.problems), FAB_OK);
            CHECK_EQ(fab_route_find_loop(&routed.net, 0, &routed.route, 1, &routed.problems), FAB_OK);
            routed_end(&routed);
        }
    }
    for (int32_t n = 3; n < 10; n++) { /* on a ring of three no way has two cables, so none waits for another */
        world_ring(&world, n);
        routed_start(&routed, &world, &ecmp, -1);
        const int code = fab_route_check_loops(&routed.net, 0, &routed.route, 1, &routed.problems);
        CHECK_EQ(code, n == 3 ? FAB_OK : FAB_E_CONFIG);
        if (n == 5)
            CHECK(
                strstr(routed.problems.text,
                       "credit loop: link 10 (switch 0 -> switch 1), link 12 (switch 1 -> switch 2), link 14 (switch 2 "
                       "-> switch 3), link 16 (switch 3 -> switch 4), link 18 (switch 4 -> switch 0), and again"));
        routed_end(&routed);
        routed_start(&routed, &world, &updown, -1);
        CHECK_EQ(fab_route_check_loops(&routed.net, 0, &routed.route, 1, &routed.problems), FAB_OK);
        CHECK_EQ(fab_route_find_loop(&routed.net, 0, &routed.route, 1, &routed.problems), FAB_OK);
        routed_end(&routed);
    }
}

void test_route_kinds(void)
{
    any_graph();
    trees();
    shifts_do_not_collide();
    dmodk_is_even_by_table();
    candidates();
    for (int32_t servers = 0; servers <= 4; servers += 2)
        hosts_aside(servers);
    loops();
}
