/* Routing: from a destination and an entropy to the output port of a switch.
 *
 * An implementation compiles, for one network, a rule a switch. Where the table of a switch has the shape of a tree
 * (an interval of hosts below it, an even number of them a port, everything else up any of some ports side by side)
 * it is kept as arithmetic; elsewhere as a table by the switch that the destination hangs on.
 * The ECMP hash, documented in docs/models/routing.md: a multiplicative hash of the 16-bit entropy of
 * the flow (or, with spraying, of the packet) and a salt of the switch. */
#ifndef FAB_ROUTE_ROUTE_H
#define FAB_ROUTE_ROUTE_H

#include "core/keyed.h"
#include "core/param.h"
#include "net/topology.h"

/* What a rule does that is not arithmetic and the hash; bits. */
enum {
    FAB_RULE_TABLE = 1,  /* all destinations by table */
    FAB_RULE_ASIDE = 2,  /* arithmetic, but servers of storage and reducers by table */
    FAB_RULE_BY_DST = 4, /* the destination chooses among ports, not the hash */
    FAB_RULE_TORUS = 8
};

/* A switch's. */
typedef struct {
    uint32_t low, span;      /* hosts low … low+span-1 lie below */
    uint64_t stride_inverse; /* ceil(2^32 / hosts per port) */
    uint32_t salt;           /* with FAB_RULE_BY_DST: what the destination's order is divided by */
    uint16_t down_first, up_first, up_count;
    uint16_t how;          /* bits FAB_RULE_* */
    const uint32_t *table; /* by leaf: first << 10 | count, 0: the leaf is this switch */
} fab_rule_t;

enum { FAB_GROUP_BITS = 10, FAB_GROUP_MASK = (1 << FAB_GROUP_BITS) - 1 };

/* A table's entry for a leaf that cannot be reached. */
enum { FAB_GROUP_NOWHERE = 1 << FAB_GROUP_BITS };

typedef struct {
    fab_rule_t *rules;    /* [switch_count of the net] those of other networks are empty */
    uint16_t *group_port; /* ports of the groups that tables name */
    uint32_t *table;      /* backs rules[].table */
    uint32_t *leaf_of;    /* [host_count] index of the switch it hangs on among such switches */
    uint16_t *host_port;  /* [host_count] the port of that switch */
    uint32_t *island;     /* [host_count] hosts that reach each other share it; FAB_NONE: not in this network */
    uint16_t *place;      /* [host_count] from left to right, with FAB_RULE_BY_DST */
    struct fab_torus *torus;
    uint32_t first_aside; /* host */
    uint32_t arithmetic_count;
    int64_t memory_bytes;
    uint32_t class_count; /* 1, or how many data classes (virtual lanes) fab_route_next_class gives */
    bool changes_class;   /* a packet's class is the route's to choose, and changes on its way */
    bool loop_free;       /* no credit loop, by construction, with class_count classes */
    bool adaptive;        /* the switch takes the least loaded of the candidates */
} fab_route_t;

typedef struct fab_route_ops fab_route_ops_t;
typedef struct fab_route_graph fab_route_graph_t;

typedef struct {
    const fab_route_ops_t *ops;
    uint64_t hash_seed;
    bool reorder; /* packets of a connection may overtake each other: a new entropy a packet */
    bool adaptive, single_path;
    uint32_t size[3]; /* torus */
    bool twisted, multipath, two_orders;
} fab_route_config_t;

struct fab_route_ops {
    fab_impl_t impl;
    void (*configure)(const int64_t *values, fab_route_config_t *config_out);
    /* Fills in the rules and what they need. */
    int (*compile)(const fab_route_graph_t *graph, const fab_route_config_t *config, fab_problems_t *problems,
                   fab_route_t *route);
};

extern const fab_route_ops_t fab_route_ecmp, fab_route_spray, fab_route_adaptive, fab_route_dmodk, fab_route_updown,
    fab_route_torus;

/* Compiles the routes of one network. dead_links: by link, not 0: its cable is not to be used; NULL: all are alive.
 * Where hosts are cut off from each other the routes say so (fab_route_joins); a switch has no port for them. */
int fab_route_compile(const fab_net_t *net, uint32_t network, const fab_route_config_t *config,
                      const uint8_t *dead_links, fab_problems_t *problems, fab_route_t *route_out);
void fab_route_free(fab_route_t *self);

/* Refuses routes by which the packets of a fabric with credits can wait for each other for ever, and names the links of
 * a loop; class_count: data classes (virtual lanes) of the switches. find_loop always searches; check_loops looks at
 * what the routes are first. */
int fab_route_check_loops(const fab_net_t *net, uint32_t network, const fab_route_t *route, uint32_t class_count,
                          fab_problems_t *problems);
int fab_route_find_loop(const fab_net_t *net, uint32_t network, const fab_route_t *route, uint32_t class_count,
                        fab_problems_t *problems);

/* Whether two hosts reach each other in this network. */
FAB_INLINE bool fab_route_joins(const fab_route_t *self, uint32_t a, uint32_t b)
{
    return self->island[a] != FAB_NONE && self->island[a] == self->island[b];
}

FAB_INLINE uint32_t fab_route_hash(uint32_t entropy, uint32_t salt)
{
    uint32_t x = (entropy * 2654435761u) ^ salt;
    x ^= x >> 15;
    x *= 0x85EBCA6Bu;
    return x >> 16;
}

/* The rules that are not arithmetic, out of line. */
uint32_t fab_route_port_otherwise(const fab_route_t *self, const fab_rule_t *rule, uint32_t dst, uint32_t entropy);

/* The output port for a packet; FAB_NONE: its destination cannot be reached. */
FAB_INLINE uint32_t fab_route_port(const fab_route_t *self, const fab_rule_t *rule, uint32_t dst, uint32_t entropy)
{
    const uint32_t below = dst - rule->low;
    if (below < rule->span)
        return rule->down_first + (uint32_t)((below * rule->stride_inverse) >> 32);
    if (FAB_LIKELY(!rule->how))
        return rule->up_first + ((fab_route_hash(entropy, rule->salt) * rule->up_count) >> 16);
    return fab_route_port_otherwise(self, rule, dst, entropy);
}

/* How many switches a packet passes; on a way that is cut, those before the cut. */
uint32_t fab_route_switches_between(const fab_net_t *net, uint32_t network, const fab_route_t *route, uint32_t src,
                                    uint32_t dst, uint32_t entropy);

/* The class that a packet of class `class` came in by in_port has on the link that it leaves by; only with
 * changes_class. Where it comes from a host, the entropy chooses. */
uint32_t fab_route_next_class(const fab_route_t *self, const fab_rule_t *rule, uint32_t in_port, uint32_t out_port,
                              uint32_t class, uint32_t entropy);

/* The ports that a packet may take, for a switch that chooses itself. */
typedef struct {
    const uint16_t *ports; /* NULL: first, first+1, … */
    uint32_t first, count; /* 0: the destination cannot be reached */
} fab_candidates_t;

FAB_INLINE fab_candidates_t fab_route_candidates(const fab_route_t *self, const fab_rule_t *rule, uint32_t dst)
{
    const uint32_t below = dst - rule->low;
    if (below < rule->span)
        return (fab_candidates_t){NULL, rule->down_first + (uint32_t)((below * rule->stride_inverse) >> 32), 1};
    if (!(rule->how & FAB_RULE_TABLE) && (FAB_LIKELY(!rule->how) || dst < self->first_aside))
        return (fab_candidates_t){NULL, rule->up_first, rule->up_count};
    const uint32_t group = rule->table[self->leaf_of[dst]];
    if (!group)
        return (fab_candidates_t){&self->host_port[dst], 0, 1};
    return (fab_candidates_t){&self->group_port[group >> FAB_GROUP_BITS], 0, group & FAB_GROUP_MASK};
}

FAB_INLINE uint32_t fab_candidates_port(fab_candidates_t self, uint32_t i)
{
    return self.ports ? self.ports[i] : self.first + i;
}

/* The candidate that the hash picks; ties of an adaptive switch start there and go round. */
FAB_INLINE uint32_t fab_candidates_hashed(fab_candidates_t self, const fab_rule_t *rule, uint32_t entropy)
{
    return (fab_route_hash(entropy, rule->salt) * self.count) >> 16;
}

#endif
