/* Compiled routes of a world, and walks along them. */
#include "walk.h"

#include <string.h>

#include "check.h"

void routed_start(routed_t *self, const world_t *world, const fab_route_config_t *config, int32_t dead_cable)
{
    static uint8_t dead[2 * WORLD_CABLES];
    memset(self, 0, sizeof *self);
    CHECK_EQ(fab_net_compile(&world->topology, &self->problems, &self->net), FAB_OK);
    memset(dead, 0, sizeof dead);
    if (dead_cable >= 0)
        dead[self->net.link_of[2 * dead_cable]] = dead[self->net.link_of[2 * dead_cable + 1]] = 1;
    self->code = fab_route_compile(&self->net, 0, config, dead_cable < 0 ? NULL : dead, &self->problems, &self->route);
}

void routed_end(routed_t *self)
{
    fab_route_free(&self->route);
    fab_net_free(&self->net);
}

uint32_t routed_walk(const routed_t *self, uint32_t src, uint32_t dst, uint32_t entropy, uint32_t links[WALK_MOST])
{
    const fab_net_t *net = &self->net;
    uint32_t link = net->out_link[net->host_link[0][src]], count = 0;
    for (;;) {
        links[count++] = link;
        const fab_node_t *node = &net->nodes[net->rx_slot[link]];
        if (!node->is_switch) {
            CHECK_EQ(node->index, dst);
            return count;
        }
        const uint32_t port = fab_route_port(&self->route, &self->route.rules[node->index], dst, entropy);
        if (port == FAB_NONE)
            return 0;
        if (port >= node->port_count || count == WALK_MOST) {
            CHECK(!"a way that ends nowhere");
            return 0;
        }
        link = net->out_link[node->first_link + port];
    }
}

uint32_t routed_distance(const world_t *world, int32_t src, int32_t dst, int32_t dead_cable)
{
    const fab_topology_t *t = &world->topology;
    uint32_t distance[WORLD_NODES];
    for (int32_t n = 0; n < t->host_count + t->switch_count; n++)
        distance[n] = n == src ? 0 : FAB_NONE;
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t i = 0; i < 2 * t->cable_count; i++) {
            const int32_t from = i & 1 ? t->cable_b[i / 2] : t->cable_a[i / 2],
                          to = i & 1 ? t->cable_a[i / 2] : t->cable_b[i / 2];
            if (i / 2 == dead_cable || distance[from] == FAB_NONE || (from < t->host_count && from != src) ||
                distance[from] + 1 >= distance[to])
                continue;
            distance[to] = distance[from] + 1;
            changed = true;
        }
    }
    return distance[dst];
}
