/* Routing: from a destination and an entropy to the output port of a switch.
 *
 * Shortest paths, all of them (ECMP). Where a switch's table has the shape of a tree (an interval of
 * hosts below it, an even number of them a port, everything else up any of some ports side by side) it
 * is kept as arithmetic; elsewhere as a table by the switch that the destination hangs on.
 * The ECMP hash, documented in docs/models/routing.md: a multiplicative hash of the 16-bit entropy of
 * the flow (or, with spraying, of the packet) and a salt of the switch. */
#ifndef FAB_ROUTE_ROUTE_H
#define FAB_ROUTE_ROUTE_H

#include "core/keyed.h"
#include "core/param.h"
#include "net/topology.h"

typedef struct {
    uint32_t low, span;      /* hosts low … low+span-1 lie below */
    uint64_t stride_inverse; /* ceil(2^32 / hosts per port) */
    uint32_t salt;
    uint16_t down_first, up_first, up_count;
    const uint32_t *table; /* NULL: arithmetic; else by leaf: first << 10 | count, 0: the leaf is this switch */
} fab_rule_t;

typedef struct {
    fab_rule_t *rules;    /* [switch_count] */
    uint16_t *group_port; /* ports of the groups that tables name */
    uint32_t *table;      /* backs rules[].table */
    uint32_t *leaf_of;    /* [host_count] index of the switch it hangs on among such switches */
    uint16_t *host_port;  /* [host_count] the port of that switch */
    uint32_t arithmetic_count;
    int64_t memory_bytes;
    bool spray; /* a new entropy a packet */
} fab_route_t;

extern const fab_impl_t fab_route_ecmp, fab_route_spray;

int fab_route_compile(const fab_net_t *net, uint64_t hash_seed, bool spray, fab_route_t *route_out);
void fab_route_free(fab_route_t *self);

FAB_INLINE uint32_t fab_route_hash(uint32_t entropy, uint32_t salt)
{
    uint32_t x = (entropy * 2654435761u) ^ salt;
    x ^= x >> 15;
    x *= 0x85EBCA6Bu;
    return x >> 16;
}

FAB_INLINE uint32_t fab_route_port(const fab_route_t *self, const fab_rule_t *rule, uint32_t dst, uint32_t entropy)
{
    const uint32_t below = dst - rule->low;
    if (below < rule->span)
        return rule->down_first + (uint32_t)((below * rule->stride_inverse) >> 32);
    const uint32_t hash = fab_route_hash(entropy, rule->salt);
    if (FAB_LIKELY(!rule->table))
        return rule->up_first + ((hash * rule->up_count) >> 16);
    const uint32_t group = rule->table[self->leaf_of[dst]];
    if (!group)
        return self->host_port[dst];
    return self->group_port[(group >> 10) + ((hash * (group & 1023)) >> 16)];
}

#endif
