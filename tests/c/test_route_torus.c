/* The torus: shortest ways, even loads, no credit loop, and errors that name the cable. */
#include "check.h"
#include "walk.h"

#include <string.h>

#include "route/torus.h"

static world_t world;
static routed_t routed;
static uint32_t load[2 * WORLD_CABLES];

static fab_route_config_t config_of(const int32_t size[3], bool twisted, bool two_orders)
{
    return (fab_route_config_t){
        .ops = &fab_route_torus,
        .hash_seed = 5,
        .size = {(uint32_t)size[0], (uint32_t)size[1], (uint32_t)size[2]},
        .twisted = twisted,
        .multipath = true,
        .two_orders = two_orders,
    };
}

static uint32_t hop_distance(uint32_t root, uint16_t *distance)
{
    const fab_net_t *net = &routed.net;
    uint32_t queue[WORLD_NODES], head = 0, tail = 0, sum = 0;
    memset(distance, 0xff, WORLD_NODES * sizeof *distance);
    queue[tail++] = root;
    distance[root] = 0;
    while (head < tail) {
        const uint32_t s = queue[head++];
        const fab_node_t *node = &net->nodes[net->slot_of[net->host_count + s]];
        sum += distance[s];
        for (uint32_t p = 0; p < node->port_count; p++) {
            const fab_node_t *peer = &net->nodes[net->tx_slot[node->first_link + p]];
            if (peer->is_switch && distance[peer->index] == UINT16_MAX) {
                distance[peer->index] = (uint16_t)(distance[s] + 1);
                queue[tail++] = peer->index;
            }
        }
    }
    return sum;
}

/* All pairs over all choices: shortest; returns the greatest load of a link, in messages a pair, times the choices. */
static uint32_t worst_load(void)
{
    const uint32_t hosts = routed.net.host_count;
    memset(load, 0, sizeof load);
    for (uint32_t dst = 0; dst < hosts; dst++) {
        uint16_t distance[WORLD_NODES];
        hop_distance(dst, distance);
        for (uint32_t choice = 0; choice < FAB_TORUS_CHOICES; choice++) {
            const uint32_t entropy = fab_torus_entropy(routed.route.torus, choice);
            for (uint32_t src = 0; src < hosts; src++) {
                uint32_t links[WALK_MOST];
                if (src == dst)
                    continue;
                const uint32_t n = routed_walk(&routed, src, dst, entropy, links);
                CHECK_EQ(n, distance[src] + 2);
                for (uint32_t i = 1; i + 1 < n; i++)
                    load[links[i]]++;
            }
        }
    }
    uint32_t worst = 0;
    for (uint32_t l = 0; l < routed.net.link_count; l++)
        worst = load[l] > worst ? load[l] : worst;
    return worst;
}

/* Compiles; its ways have no loop with the classes they ask for. */
static void start(const int32_t size[3], int32_t wrap_least, bool twisted, bool two_orders)
{
    world_torus(&world, size, wrap_least, twisted);
    const fab_route_config_t config = config_of(size, twisted, two_orders);
    routed_start(&routed, &world, &config, -1);
    CHECK_EQ(routed.code, FAB_OK);
    if (routed.code)
        printf("%s", routed.problems.text);
    CHECK_EQ(fab_route_find_loop(&routed.net, 0, &routed.route, routed.route.class_count, &routed.problems), FAB_OK);
}

static void published_loads(void)
{
    const int32_t size[3] = {4, 4, 8};
    start(size, 3, false, true);
    CHECK_EQ(worst_load(), 128 * FAB_TORUS_CHOICES);
    routed_end(&routed);
    start(size, 3, true, true);
    CHECK_EQ(worst_load() * 3, 220 * FAB_TORUS_CHOICES); /* 73.33 */
    CHECK_EQ(routed.route.class_count, 4);
    routed_end(&routed);
}

/* Every link of a twisted torus carries the same: the sum of all distances, over all links. */
static void even_loads(void)
{
    static const int32_t sizes[][3] = {{3, 3, 6}, {3, 6, 3},  {6, 3, 3}, {3, 6, 6}, {6, 3, 6}, {4, 8, 1},
                                       {8, 4, 1}, {1, 5, 10}, {2, 2, 4}, {4, 2, 2}, {2, 4, 4}, {2, 4, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint16_t distance[WORLD_NODES];
        start(sizes[i], 2, true, i % 2);
        const uint32_t hosts = routed.net.host_count, links = routed.net.link_count - 2 * hosts;
        const uint32_t sum = hop_distance(0, distance);
        CHECK_EQ((uint64_t)worst_load() * links, (uint64_t)sum * hosts * FAB_TORUS_CHOICES);
        routed_end(&routed);
    }
}

static void plain_shapes(void)
{
    static const int32_t sizes[][3] = {{4, 4, 4}, {5, 3, 2}, {1, 6, 1}, {4, 1, 1},
                                       {2, 2, 2}, {3, 4, 2}, {1, 1, 1}, {7, 4, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int32_t wrap_least = 2; wrap_least < 5; wrap_least++) {
            start(sizes[i], wrap_least, false, i % 2 == 0);
            worst_load();
            routed_end(&routed);
        }
}

/* With too few classes the routes are refused, and a ring of the torus is named. */
static void needs_classes(void)
{
    const int32_t size[3] = {4, 4, 1};
    start(size, 3, false, false);
    CHECK_EQ(routed.route.class_count, 2);
    CHECK_EQ(fab_route_check_loops(&routed.net, 0, &routed.route, 2, &routed.problems), FAB_OK);
    CHECK_EQ(fab_route_check_loops(&routed.net, 0, &routed.route, 1, &routed.problems), FAB_E_CONFIG);
    CHECK(strstr(routed.problems.text, "needs 2 data classes"));
    CHECK(strstr(routed.problems.text, "credit loop: link "));
    routed_end(&routed);
    start(size, 3, false, true);
    CHECK_EQ(fab_route_check_loops(&routed.net, 0, &routed.route, 2, &routed.problems), FAB_E_CONFIG);
    routed_end(&routed);
}

static void expect(const int32_t size[3], bool twisted, const char *text)
{
    const fab_route_config_t config = config_of(size, twisted, true);
    routed_start(&routed, &world, &config, -1);
    CHECK(routed.code == FAB_E_TOPOLOGY || routed.code == FAB_E_CONFIG);
    CHECK(strstr(routed.problems.text, text));
    if (!strstr(routed.problems.text, text))
        printf("%s", routed.problems.text);
    routed_end(&routed);
}

static void errors_name_the_cable(void)
{
    const int32_t size[3] = {4, 3, 2}, other[3] = {4, 4, 2}, twist[3] = {4, 4, 8};
    world_torus(&world, size, 3, false);
    expect(other, false, "4 x 4 x 2 routers, but network 0 has 24 switches");
    expect(size, true, "allowed: k and 2k");
    world.b[24 + 5] = 24 + 11; /* router 5 = (1, 1, 0): +x to (3, 2, 0) */
    expect(size, false, "cable 29: joins switch 5 and switch 11, which are no neighbours in the torus of 4 x 3 x 2");
    expect(size, false, "switch 5: no cable to switch 6, its neighbour to +x in the torus");
    world_torus(&world, twist, 3, false);
    expect(twist, true, "which are no neighbours in the twisted torus of 4 x 4 x 8");
}

/* Without a cable all still arrive, over ways without loops in any class. */
static void broken(void)
{
    const int32_t size[3] = {4, 4, 2};
    for (int32_t dead = 0; dead < 96; dead += 13) {
        world_torus(&world, size, 3, false);
        const fab_route_config_t config = config_of(size, false, true);
        routed_start(&routed, &world, &config, dead);
        CHECK_EQ(routed.code, FAB_OK);
        CHECK(routed.route.changes_class == (dead < 32));
        for (uint32_t src = 0; src < 32; src++)
            for (uint32_t dst = 0; dst < 32; dst++) {
                uint32_t links[WALK_MOST];
                if (src == dst || (int32_t)src == dead)
                    continue;
                const uint32_t n = routed_walk(&routed, src, dst, src * 77, links);
                CHECK((n > 0) == ((int32_t)dst != dead));
                CHECK(fab_route_joins(&routed.route, src, dst) == (n > 0));
                for (uint32_t i = 0; i < n; i++)
                    CHECK(routed.net.link_name[links[i]] / 2 != (uint32_t)dead);
            }
        CHECK_EQ(fab_route_find_loop(&routed.net, 0, &routed.route, 4, &routed.problems), FAB_OK);
        routed_end(&routed);
    }
}

void test_route_torus(void)
{
    published_loads();
    even_loads();
    plain_shapes();
    needs_classes();
    errors_name_the_cable();
    broken();
}
