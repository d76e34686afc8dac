/* Builds the graph of one network's switches that routes are computed on. */
#include "route/graph.h"

#include <stdlib.h>
#include <string.h>

void fab_graph_distances(const fab_route_graph_t *self, const uint32_t *roots, uint32_t root_count, uint16_t *distance,
                         uint32_t *queue)
{
    memset(distance, 0xff, self->switch_count * sizeof *distance);
    uint32_t head = 0, tail = 0;
    for (uint32_t i = 0; i < root_count; i++)
        if (roots[i] != FAB_NONE && distance[roots[i]]) {
            distance[roots[i]] = 0;
            queue[tail++] = roots[i];
        }
    while (head < tail) {
        const uint32_t s = queue[head++];
        const uint16_t next = (uint16_t)(distance[s] + 1);
        for (uint32_t at = self->first[s]; at < self->first[s + 1]; at++) {
            const uint32_t peer = self->peer[at];
            if (peer != FAB_NONE && distance[peer] == FAB_GRAPH_FAR) {
                distance[peer] = next;
                queue[tail++] = peer;
            }
        }
    }
}

static bool is_dead(const fab_net_t *net, const uint8_t *dead_links, uint32_t link)
{
    return dead_links && (dead_links[link] || dead_links[net->out_link[link]]);
}

/* Numbers the leaves: first those of hosts that have ranks, in the order of the hosts. */
static void find_leaves(fab_route_graph_t *self, const uint32_t *local, const uint8_t *dead_links,
                        uint32_t *leaf_of_switch)
{
    const fab_net_t *net = self->net;
    bool cut = false;
    for (uint32_t s = 0; s < self->switch_count; s++)
        leaf_of_switch[s] = FAB_NONE;
    for (uint32_t h = 0; h < net->host_count; h++) {
        const uint32_t in = net->host_link[self->network][h];
        self->leaf_of[h] = FAB_NONE;
        if (h == net->first_aside)
            self->rank_leaf_count = self->leaf_count;
        if (h == net->host_count - net->reducer_count)
            self->talk_leaf_count = self->leaf_count;
        if (in == FAB_NONE || !net->nodes[net->tx_slot[in]].is_switch)
            continue; /* two hosts back to back: nothing to route */
        if (is_dead(net, dead_links, in)) {
            cut = true;
            continue;
        }
        const uint32_t s = local[net->tx_slot[in]];
        if (leaf_of_switch[s] == FAB_NONE) {
            leaf_of_switch[s] = self->leaf_count;
            self->leaf[self->leaf_count++] = s;
        }
        self->leaf_of[h] = leaf_of_switch[s];
        self->host_port[h] = (uint16_t)fab_net_tx_port(net, in);
    }
    if (net->first_aside == net->host_count)
        self->rank_leaf_count = self->leaf_count;
    if (!net->reducer_count)
        self->talk_leaf_count = self->leaf_count;
    if (!cut)
        return;
    self->leaf[self->leaf_count] = FAB_NONE;
    for (uint32_t h = 0; h < net->host_count; h++) {
        const uint32_t in = net->host_link[self->network][h];
        if (in != FAB_NONE && is_dead(net, dead_links, in))
            self->leaf_of[h] = self->leaf_count;
    }
    self->leaf_count++;
}

static void find_islands(fab_route_graph_t *self, uint32_t *queue)
{
    for (uint32_t s = 0; s < self->switch_count; s++)
        self->island[s] = FAB_NONE;
    for (uint32_t root = 0; root < self->switch_count; root++) {
        if (self->island[root] != FAB_NONE)
            continue;
        uint32_t head = 0, tail = 0;
        queue[tail++] = root;
        self->island[root] = root;
        while (head < tail) {
            const uint32_t s = queue[head++];
            for (uint32_t at = self->first[s]; at < self->first[s + 1]; at++) {
                const uint32_t peer = self->peer[at];
                if (peer != FAB_NONE && self->island[peer] == FAB_NONE) {
                    self->island[peer] = root;
                    queue[tail++] = peer;
                }
            }
        }
    }
}

int fab_graph_new(const fab_net_t *net, uint32_t network, const uint8_t *dead_links, fab_route_graph_t *graph_out)
{
    int code = FAB_E_MEMORY;
    fab_route_graph_t g = {.net = net, .network = network, .healing = dead_links};
    const size_t n = (size_t)net->switch_count + 1, hosts = net->host_count;
    uint32_t *local = malloc(net->slot_count * sizeof *local);
    uint32_t *scratch = malloc(n * sizeof *scratch);
    g.slot = malloc(n * sizeof *g.slot);
    g.first = malloc(n * sizeof *g.first);
    g.peer = malloc(net->link_count * sizeof *g.peer);
    g.leaf_of = malloc(hosts * sizeof *g.leaf_of);
    g.host_port = calloc(hosts, sizeof *g.host_port);
    g.leaf = malloc(n * sizeof *g.leaf);
    g.island = malloc(n * sizeof *g.island);
    g.tier = malloc(n * sizeof *g.tier);
    if (!local || !scratch || !g.slot || !g.first || !g.peer || !g.leaf_of || !g.host_port || !g.leaf || !g.island ||
        !g.tier)
        goto out;
    for (uint32_t i = 0; i < net->switch_count; i++) {
        const uint32_t slot = net->slot_of[net->host_count + i];
        if (!net->nodes[slot].port_count || net->nodes[slot].network != network)
            continue;
        local[slot] = g.switch_count;
        g.slot[g.switch_count++] = slot;
    }
    uint32_t at = 0;
    for (uint32_t s = 0; s < g.switch_count; s++) {
        const fab_node_t *node = fab_graph_node(&g, s);
        g.first[s] = at;
        for (uint32_t link = node->first_link; link < node->first_link + node->port_count; link++) {
            const uint32_t peer = net->tx_slot[link];
            const bool usable = net->nodes[peer].is_switch && !is_dead(net, dead_links, link);
            g.peer[at++] = usable ? local[peer] : FAB_NONE;
        }
    }
    g.first[g.switch_count] = at;
    find_leaves(&g, local, dead_links, scratch);
    find_islands(&g, scratch);
    fab_graph_distances(&g, g.leaf, g.rank_leaf_count, g.tier, scratch);
    *graph_out = g;
    g = (fab_route_graph_t){0};
    code = FAB_OK;
out:
    fab_graph_free(&g);
    free(local);
    free(scratch);
    return code;
}

void fab_graph_free(fab_route_graph_t *self)
{
    free(self->slot);
    free(self->first);
    free(self->peer);
    free(self->leaf_of);
    free(self->host_port);
    free(self->leaf);
    free(self->island);
    free(self->tier);
    *self = (fab_route_graph_t){0};
}
