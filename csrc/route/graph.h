/* One network as its routes are computed on: its switches, what is behind their ports, and which have hosts. */
#ifndef FAB_ROUTE_GRAPH_H
#define FAB_ROUTE_GRAPH_H

#include "route/route.h"

#define FAB_GRAPH_FAR UINT16_MAX

struct fab_route_graph {
    const fab_net_t *net;
    uint32_t network;
    bool healing;          /* some links are dead: who is cut off gets no route, instead of any */
    uint32_t switch_count; /* of this network, in the user's order */
    uint32_t *slot;        /* [switch_count] of the node */
    uint32_t *first;       /* [switch_count + 1] of its ports in peer */
    uint32_t *peer;        /* the switch behind each port; FAB_NONE: a host, or a dead cable */
    uint32_t *leaf_of;     /* [host_count] number of the switch it hangs on among leaves; FAB_NONE: none */
    uint16_t *host_port;   /* [host_count] its port there */
    uint32_t *leaf;        /* [leaf_count] switch; the last is FAB_NONE while hosts with a dead cable hang on it */
    uint32_t leaf_count;
    uint32_t rank_leaf_count; /* leaves of hosts that ranks live on come first */
    uint32_t talk_leaf_count; /* then those of servers, which send to all; then of reducers */
    uint32_t *island;         /* [switch_count] switches that reach each other share it */
    uint16_t *tier;           /* [switch_count] cables to the nearest switch with hosts that ranks live on */
};

int fab_graph_new(const fab_net_t *net, uint32_t network, const uint8_t *dead_links, fab_route_graph_t *graph_out);
void fab_graph_free(fab_route_graph_t *self);

FAB_INLINE const fab_node_t *fab_graph_node(const fab_route_graph_t *self, uint32_t s)
{
    return &self->net->nodes[self->slot[s]];
}

/* Distances of all switches from some, by breadth-first search; queue has room for all. */
void fab_graph_distances(const fab_route_graph_t *self, const uint32_t *roots, uint32_t root_count, uint16_t *distance,
                         uint32_t *queue);

#endif
