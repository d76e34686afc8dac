/* The compiled topology: flat arrays in an order made for the sweep.
 *
 * Nodes are numbered by (colour, kind and network, the user's order); every such group starts at a multiple of
 * FAB_BLOCK_NODES, so that threads share no cache line of activity. Adjacent nodes have different
 * colours: nodes of one colour never touch the same link at the same time. A directed link has the
 * number of the port it arrives at: links of a node's ports lie side by side. */
#ifndef FAB_NET_TOPOLOGY_H
#define FAB_NET_TOPOLOGY_H

#include "core/error.h"

enum {
    FAB_BLOCK_NODES = 8,
    FAB_COLOURS_MAX = 4096,
    FAB_HOSTS_MAX = 65536,
    FAB_SWITCHES_MAX = 1 << 20,
    FAB_PORTS_MAX = 1023
};

typedef struct {
    uint32_t first_link; /* of its in-links; port p arrives on first_link + p */
    uint32_t port_count; /* 0: a slot that only fills up a block */
    uint32_t name;       /* the user's number of the node */
    uint32_t index;      /* among hosts, or among switches */
    uint16_t colour;
    bool is_switch;
    uint8_t network; /* of a switch */
} fab_node_t;

typedef struct {
    uint32_t first_slot, end_slot; /* of nodes */
    uint16_t colour;
    bool is_switch;
    uint8_t network; /* of switches */
} fab_group_t;

typedef struct {
    uint32_t network_count, reducer_count;
    uint32_t first_aside; /* hosts from this one on are servers of storage, then reducers: no ranks */
    uint32_t host_count, switch_count, slot_count, link_count, group_count, colour_count;
    fab_node_t *nodes;                     /* [slot_count] */
    fab_group_t *groups;                   /* [group_count], ordered by colour */
    uint32_t *slot_of;                     /* [host_count + switch_count] by the user's number */
    uint32_t *host_link[FAB_NETWORKS_MAX]; /* [host_count] the link that arrives at a host, or FAB_NONE */
    uint32_t *component[FAB_NETWORKS_MAX]; /* [slot_count] nodes that reach each other share it; FAB_NONE outside */
    uint32_t *out_link;                    /* [link_count] the link that leaves by the port that link l arrives at */
    uint32_t *link_name;                   /* [link_count] the user's number of the directed link */
    uint32_t *link_of;                     /* [link_count] by the user's number */
    uint32_t *rx_slot;                     /* [link_count] */
    uint32_t *tx_slot;                     /* [link_count] */
    uint8_t *link_network;                 /* [link_count] */
    int64_t *rate_mbps;                    /* [link_count] */
    int64_t *delay_ps;                     /* [link_count] propagation plus the receiver's pipeline */
    int64_t lookahead_ps;                  /* the least delay */
} fab_net_t;

int fab_net_compile(const fab_topology_t *topology, fab_problems_t *problems, fab_net_t *net_out);
void fab_net_free(fab_net_t *self);

/* The port at the node that out-link `link` leaves by. */
FAB_INLINE uint32_t fab_net_tx_port(const fab_net_t *net, uint32_t link)
{
    return net->out_link[link] - net->nodes[net->tx_slot[link]].first_link;
}

/* The network over which two hosts talk: the highest that joins them; -1: none does. */
FAB_INLINE int32_t fab_net_between(const fab_net_t *net, uint32_t a, uint32_t b)
{
    for (int32_t w = (int32_t)net->network_count - 1; w >= 0; w--) {
        const uint32_t part = net->component[w][net->slot_of[a]];
        if (part != FAB_NONE && part == net->component[w][net->slot_of[b]])
            return w;
    }
    return -1;
}

#endif
