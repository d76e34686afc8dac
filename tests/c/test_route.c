/* Routes against a search of our own: for every switch, destination and entropy the port must be the one that
 * the documented hash picks from all ports on shortest paths, whether the switch uses arithmetic or a table. */
#include "check.h"
#include "route/route.h"
#include "worlds.h"

#include <string.h>

static world_t world;

enum { FAR = 1 << 20 };

/* Distance of every node to `root`, over switches only, by relaxing until nothing changes. */
static void distances(const fab_topology_t *t, int32_t root, int32_t *distance)
{
    const int32_t nodes = t->host_count + t->switch_count;
    for (int32_t n = 0; n < nodes; n++)
        distance[n] = n == root ? 0 : FAR;
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t i = 0; i < t->cable_count; i++) {
            const int32_t end[2] = {t->cable_a[i], t->cable_b[i]};
            for (int e = 0; e < 2; e++) {
                const int32_t from = end[e], to = end[1 - e];
                if ((from < t->host_count && from != root) || distance[from] + 1 >= distance[to])
                    continue;
                distance[to] = distance[from] + 1;
                changed = true;
            }
        }
    }
}

static uint32_t arithmetic_of(uint64_t hash_seed, uint32_t *differing_out)
{
    const fab_topology_t *t = &world.topology;
    static fab_problems_t problems;
    fab_problems_clear(&problems);
    fab_net_t net = {0};
    fab_route_t route = {0};
    CHECK_EQ(fab_net_compile(t, &problems, &net), FAB_OK);
    const fab_route_config_t config = {.ops = &fab_route_ecmp, .hash_seed = hash_seed};
    CHECK_EQ(fab_route_compile(&net, 0, &config, NULL, &problems, &route), FAB_OK);
    dice_t dice = {41 + hash_seed};
    *differing_out = 0;
    for (int32_t h = 0; h < t->host_count; h++) {
        int32_t distance[WORLD_NODES];
        distances(t, h, distance);
        for (int32_t s = 0; s < t->switch_count; s++) {
            const int32_t node = t->host_count + s;
            uint16_t ports[WORLD_CABLES];
            uint32_t n = 0, port = 0;
            for (int32_t i = 0; i < t->cable_count; i++) {
                if (t->cable_a[i] != node && t->cable_b[i] != node)
                    continue;
                const int32_t peer = t->cable_a[i] == node ? t->cable_b[i] : t->cable_a[i];
                if (distance[peer] == distance[node] - 1 && (peer >= t->host_count || peer == h))
                    ports[n++] = (uint16_t)port;
                port++;
            }
            if (distance[node] >= FAR)
                continue;
            const fab_rule_t *rule = &route.rules[s];
            CHECK(rule->salt == (uint32_t)fab_keyed_draw(hash_seed, FAB_KEY_SALT, (uint64_t)s, 0));
            for (int i = 0; i < 12; i++) {
                const uint32_t entropy = dice_below(&dice, 65536);
                const uint32_t hash = fab_route_hash(entropy, rule->salt);
                CHECK(hash < 65536);
                const uint32_t found = fab_route_port(&route, rule, (uint32_t)h, entropy);
                CHECK_EQ(found, ports[hash * n >> 16]);
                *differing_out += found != ports[hash * n >> 16];
            }
        }
    }
    const uint32_t count = route.arithmetic_count;
    fab_route_free(&route);
    fab_net_free(&net);
    return count;
}

/* Renames hosts at random: the intervals are gone, and with them the arithmetic. */
static void shuffle_hosts(dice_t *dice)
{
    const fab_topology_t *t = &world.topology;
    for (int32_t i = t->host_count - 1; i > 0; i--) {
        const int32_t j = (int32_t)dice_below(dice, (uint32_t)i + 1);
        for (int32_t c = 0; c < t->cable_count; c++) {
            world.a[c] = world.a[c] == i ? j : world.a[c] == j ? i : world.a[c];
            world.b[c] = world.b[c] == i ? j : world.b[c] == j ? i : world.b[c];
        }
    }
}

static void trees(void)
{
    uint32_t differing;
    dice_t dice = {42};
    for (int32_t k = 2; k <= 6; k += 2) {
        world_fat_tree(&world, k);
        CHECK_EQ(arithmetic_of((uint64_t)k, &differing), world.topology.switch_count);
        shuffle_hosts(&dice);
        if (k > 2)
            CHECK(arithmetic_of((uint64_t)k, &differing) < (uint32_t)world.topology.switch_count);
    }
    world_leaf_spine(&world, 4, 3, 6);
    CHECK_EQ(arithmetic_of(1, &differing), world.topology.switch_count);
    shuffle_hosts(&dice);
    CHECK(arithmetic_of(1, &differing) < (uint32_t)world.topology.switch_count);
    world_leaf_spine(&world, 1, 2, 7);
    arithmetic_of(2, &differing);
    world_star(&world, 9);
    CHECK_EQ(arithmetic_of(3, &differing), 1);
}

static void rings_and_meshes(void)
{
    uint32_t differing;
    for (int32_t n = 2; n < 9; n++) {
        world_ring(&world, n);
        arithmetic_of(0, &differing);
    }
    dice_t dice = {43};
    for (int round = 0; round < 30; round++) {
        const int32_t hosts = 2 + (int32_t)dice_below(&dice, 16), switches = 1 + (int32_t)dice_below(&dice, 9);
        world_start(&world, hosts, switches);
        for (int32_t h = 0; h < hosts; h++)
            world_cable(&world, h, hosts + (int32_t)dice_below(&dice, (uint32_t)switches), 100000, 1000);
        for (uint32_t i = dice_below(&dice, 30); i; i--) {
            const int32_t a = hosts + (int32_t)dice_below(&dice, (uint32_t)switches),
                          b = hosts + (int32_t)dice_below(&dice, (uint32_t)switches);
            if (a != b)
                world_cable(&world, a, b, 100000, 1000);
        }
        arithmetic_of((uint64_t)round, &differing);
    }
}

/* 65536 entropies over n ports: each gets its share within 2 %. */
static void hash_is_even(void)
{
    for (uint32_t n = 2; n <= 64; n *= 2) {
        uint32_t seen[64] = {0};
        for (uint32_t entropy = 0; entropy < 65536; entropy++)
            seen[fab_route_hash(entropy, 0x1234567u * n) * n >> 16]++;
        for (uint32_t p = 0; p < n; p++)
            CHECK(seen[p] * n > 65536 * 9 / 10 && seen[p] * n < 65536 * 11 / 10);
    }
}

void test_route(void)
{
    trees();
    rings_and_meshes();
    hash_is_even();
}
