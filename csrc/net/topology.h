/* The compiled topology: flat arrays in an order made for the sweep.
 *
 * Nodes are numbered by (colour, kind, the user's order); every such group starts at a multiple of
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
} fab_node_t;

typedef struct {
    uint32_t first_slot, end_slot; /* of nodes */
    uint16_t colour;
    bool is_switch;
} fab_group_t;

typedef struct {
    uint32_t host_count, switch_count, slot_count, link_count, group_count, colour_count;
    fab_node_t *nodes;    /* [slot_count] */
    fab_group_t *groups;  /* [group_count], ordered by colour */
    uint32_t *slot_of;    /* [host_count + switch_count] by the user's number */
    uint32_t *component;  /* [slot_count] nodes that reach each other share it */
    uint32_t *out_link;   /* [link_count] the link that leaves by the port that link l arrives at */
    uint32_t *link_name;  /* [link_count] the user's number of the directed link */
    uint32_t *link_of;    /* [link_count] by the user's number */
    uint32_t *rx_slot;    /* [link_count] */
    uint32_t *tx_slot;    /* [link_count] */
    int64_t *rate_mbps;   /* [link_count] */
    int64_t *delay_ps;    /* [link_count] propagation plus the receiver's pipeline */
    int64_t lookahead_ps; /* the least delay */
} fab_net_t;

int fab_net_compile(const fab_topology_t *topology, fab_problems_t *problems, fab_net_t *net_out);
void fab_net_free(fab_net_t *self);

/* The port at the node that out-link `link` leaves by. */
FAB_INLINE uint32_t fab_net_tx_port(const fab_net_t *net, uint32_t link)
{
    return net->out_link[link] - net->nodes[net->tx_slot[link]].first_link;
}

#endif
