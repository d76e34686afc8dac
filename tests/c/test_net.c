/* Compiling topologies: colours, ports, link numbers, lookahead, and every refusal. */
#include "check.h"
#include "net/topology.h"
#include "worlds.h"

#include <string.h>

static world_t world;
static fab_problems_t problems;

static int compile(fab_net_t *net_out)
{
    fab_problems_clear(&problems);
    *net_out = (fab_net_t){0};
    return fab_net_compile(&world.topology, &problems, net_out);
}

/* What must hold of every compiled topology. */
static void check_net(const fab_net_t *net)
{
    const fab_topology_t *t = &world.topology;
    const int32_t nodes = t->host_count + t->switch_count;
    CHECK_EQ(net->link_count, 2 * t->cable_count);
    CHECK_EQ(net->slot_count % FAB_BLOCK_NODES, 0);
    uint32_t ports = 0;
    for (int32_t n = 0; n < nodes; n++) {
        const fab_node_t *node = &net->nodes[net->slot_of[n]];
        CHECK_EQ(node->name, n);
        CHECK_EQ(node->is_switch, n >= t->host_count);
        CHECK_EQ(node->index, n >= t->host_count ? n - t->host_count : n);
        ports += node->port_count;
    }
    CHECK_EQ(ports, net->link_count);
    int64_t least = INT64_MAX;
    int32_t port_of[WORLD_NODES] = {0};
    for (int32_t i = 0; i < t->cable_count; i++) {
        for (int32_t end = 0; end < 2; end++) {
            /* directed link 2i runs from a to b, 2i+1 back */
            const int32_t from = end ? t->cable_b[i] : t->cable_a[i], to = end ? t->cable_a[i] : t->cable_b[i];
            const uint32_t l = net->link_of[2 * i + end];
            CHECK_EQ(net->link_name[l], 2 * i + end);
            CHECK_EQ(net->nodes[net->tx_slot[l]].name, from);
            CHECK_EQ(net->nodes[net->rx_slot[l]].name, to);
            CHECK(net->nodes[net->tx_slot[l]].colour != net->nodes[net->rx_slot[l]].colour);
            CHECK_EQ(net->component[0][net->tx_slot[l]], net->component[0][net->rx_slot[l]]);
            CHECK_EQ(net->link_name[net->out_link[l]], 2 * i + 1 - end);
            CHECK_EQ(net->rate_mbps[l], t->cable_rate_mbps[i]);
            CHECK_EQ(net->delay_ps[l], t->cable_delay_ps[i] + t->node_latency_ps[to]);
            least = net->delay_ps[l] < least ? net->delay_ps[l] : least;
            /* the order of a node's cables is the order of its ports */
            CHECK_EQ(l - net->nodes[net->rx_slot[l]].first_link, port_of[to]);
            CHECK_EQ(fab_net_tx_port(net, l), port_of[from]);
        }
        port_of[t->cable_a[i]]++;
        port_of[t->cable_b[i]]++;
    }
    CHECK_EQ(net->lookahead_ps, least);
    for (uint32_t g = 0; g < net->group_count; g++) {
        const fab_group_t *group = &net->groups[g];
        CHECK_EQ(group->first_slot % FAB_BLOCK_NODES, 0);
        CHECK(group->colour < net->colour_count);
        CHECK(!g || group->colour >= net->groups[g - 1].colour);
        for (uint32_t s = group->first_slot; s < group->end_slot; s++) {
            CHECK_EQ(net->nodes[s].colour, group->colour);
            CHECK_EQ(net->nodes[s].is_switch, group->is_switch);
        }
    }
}

static void good(uint32_t colours)
{
    fab_net_t net;
    CHECK_EQ(compile(&net), FAB_OK);
    if (problems.count) {
        printf("%s", problems.text);
        return;
    }
    check_net(&net);
    if (colours)
        CHECK_EQ(net.colour_count, colours);
    fab_net_free(&net);
}

static void shapes(void)
{
    world_star(&world, 5);
    world.latency_ps[5] = 700;
    world.latency_ps[0] = 300;
    good(2);
    world_start(&world, 2, 0);
    world_cable(&world, 0, 1, 400000, 500);
    good(2);
    world_leaf_spine(&world, 3, 2, 4);
    good(2);
    world_fat_tree(&world, 4);
    good(2);
    world_fat_tree(&world, 6);
    good(2);
    world_ring(&world, 6);
    good(2);
    world_ring(&world, 5); /* first fit: hosts, then three for an odd ring */
    good(4);
    world_start(&world, 4, 4); /* a full mesh */
    for (int32_t i = 0; i < 4; i++) {
        world_cable(&world, i, 4 + i, 100000, 1000);
        for (int32_t j = 0; j < i; j++)
            world_cable(&world, 4 + i, 4 + j, 100000, 2000 + i);
    }
    good(5);
    world_start(&world, 4, 3); /* two parts, and a switch with nothing */
    for (int32_t i = 0; i < 4; i++)
        world_cable(&world, i, 4 + i / 2, 100000, 1000);
    good(2);
    world_star(&world, 3); /* parallel cables between switches */
    world.topology.switch_count = 2;
    world_cable(&world, 3, 4, 100000, 1000);
    world_cable(&world, 4, 3, 50000, 900);
    good(2);
}

static void random_graphs(void)
{
    dice_t dice = {21};
    for (int round = 0; round < 60; round++) {
        const int32_t hosts = 1 + (int32_t)dice_below(&dice, 20), switches = 1 + (int32_t)dice_below(&dice, 12);
        world_start(&world, hosts, switches);
        for (int32_t h = 0; h < hosts; h++)
            world_cable(&world, h, hosts + (int32_t)dice_below(&dice, (uint32_t)switches), 100000,
                        1 + dice_below(&dice, 5000));
        for (uint32_t i = dice_below(&dice, 40); i; i--) {
            const int32_t a = hosts + (int32_t)dice_below(&dice, (uint32_t)switches),
                          b = hosts + (int32_t)dice_below(&dice, (uint32_t)switches);
            if (a != b)
                world_cable(&world, a, b, 25000, 1 + dice_below(&dice, 5000));
        }
        for (int32_t n = 0; n < hosts + switches; n++)
            world.latency_ps[n] = dice_below(&dice, 1000);
        good(0);
    }
}

static void bad(const char *words)
{
    fab_net_t net;
    CHECK_EQ(compile(&net), FAB_E_TOPOLOGY);
    const bool told = strstr(problems.text, words) != NULL;
    CHECK(told);
    if (!told)
        printf("wanted \"%s\" in:\n%s", words, problems.text);
}

static void refusals(void)
{
    world_star(&world, 2);
    world.a[1] = 9;
    bad("cable 1: joins 9 and 2");
    world_star(&world, 2);
    world.b[0] = -1;
    bad("cable 0: joins 0 and -1");
    world_star(&world, 2);
    world.b[1] = 1;
    bad("to itself");
    world_star(&world, 2);
    world.rate_mbps[0] = 0;
    world.rate_mbps[1] = -5;
    bad("cable 1: rate_mbps is -5");
    CHECK_EQ(problems.count, 2);
    world_star(&world, 2);
    world.rate_mbps[0] = 249;
    bad("rate_mbps is 249");
    world_star(&world, 2);
    world.rate_mbps[0] = INT64_MAX;
    bad("rate_mbps");
    world_star(&world, 2);
    world.delay_ps[0] = 0;
    bad("a delay of zero leaves no window");
    world_star(&world, 2);
    world.delay_ps[0] = -3;
    bad("cable 0: delay_ps is -3");
    world_star(&world, 2);
    world.delay_ps[0] = INT64_C(1) << 40;
    bad("delay_ps");
    world_star(&world, 2);
    world.latency_ps[1] = -1;
    bad("node 1: latency_ps is -1");
    world_star(&world, 2);
    world.topology.cable_count = 1;
    bad("host 1: has no cable");
    world_star(&world, 2);
    world_cable(&world, 0, 2, 100000, 1000);
    bad("host 0: has 2 cables");
    world_star(&world, 2);
    world.topology.host_count = 0;
    world.topology.switch_count = 3;
    bad("0 hosts");
    world_start(&world, 1, 1);
    bad("no cable");
}

/* Numbers whose sums would not fit: refused, not added. */
static void refusals_of_huge_numbers(void)
{
    world_star(&world, 2);
    world.delay_ps[0] = INT64_MAX;
    world.latency_ps[2] = 5;
    bad("delay_ps");
    world_star(&world, 2);
    world.topology.host_count = 3;
    world.topology.switch_count = -1;
    bad("switch");
    world_star(&world, 2);
    world.topology.host_count = INT32_MAX;
    bad("hosts");
}

void test_net(void)
{
    shapes();
    random_graphs();
    refusals();
    refusals_of_huge_numbers();
}
