/* Compiles shortest-path ECMP routes: one breadth-first search per switch that has hosts. */
#include "route/route.h"

#include <stdlib.h>
#include <string.h>

static const fab_param_t params[] = {
    {"hash_seed", "", 0, 0, INT32_MAX, "seed of the switches' hash salts; another seed is another hash function", ""},
    FAB_PARAM_END,
};

const fab_impl_t fab_route_ecmp = {"route", "ecmp", "equal-cost paths by a hash of the flow", params, 0};
const fab_impl_t fab_route_spray = {"route", "spray", "equal-cost paths by a hash of the packet", params, 0};

enum { GROUP_COUNT_BITS = 10 };

typedef struct {
    uint16_t *items;
    uint32_t count, capacity;
} ports_t;

/* The number of a group equal to `ports` among those this switch added since `from`, or a new one. */
static int group_of(ports_t *pool, uint32_t from, const uint16_t *ports, uint32_t n, uint32_t *group_out)
{
    for (uint32_t at = from; at < pool->count; at += 1 + pool->items[at])
        if (pool->items[at] == n && memcmp(&pool->items[at + 1], ports, n * sizeof *ports) == 0) {
            *group_out = (at + 1) << GROUP_COUNT_BITS | n;
            return FAB_OK;
        }
    if (pool->count + 1 + n > pool->capacity) {
        const uint32_t capacity = 2 * (pool->capacity + 1 + n);
        uint16_t *items = realloc(pool->items, capacity * sizeof *items);
        if (!items)
            return FAB_E_MEMORY;
        pool->items = items;
        pool->capacity = capacity;
    }
    if (pool->count + 1 + n >= 1u << (32 - GROUP_COUNT_BITS))
        return FAB_E_LIMIT;
    pool->items[pool->count] = (uint16_t)n;
    memcpy(&pool->items[pool->count + 1], ports, n * sizeof *ports);
    *group_out = (pool->count + 1) << GROUP_COUNT_BITS | n;
    pool->count += 1 + n;
    return FAB_OK;
}

static void distances(const fab_net_t *net, uint32_t root, uint16_t *distance, uint32_t *queue)
{
    memset(distance, 0xff, net->slot_count * sizeof *distance);
    uint32_t head = 0, tail = 0;
    queue[tail++] = root;
    distance[root] = 0;
    while (head < tail) {
        const fab_node_t *node = &net->nodes[queue[head]];
        const uint16_t next = (uint16_t)(distance[queue[head++]] + 1);
        for (uint32_t p = 0; p < node->port_count; p++) {
            const uint32_t peer = net->tx_slot[node->first_link + p];
            if (net->nodes[peer].is_switch && distance[peer] == UINT16_MAX) {
                distance[peer] = next;
                queue[tail++] = peer;
            }
        }
    }
}

/* Tries to say a switch's table as arithmetic. What most leaves use, and at least one does, is "up". */
static bool as_arithmetic(const fab_route_t *route, const uint32_t *table, uint32_t hosts, uint32_t leaf_count,
                          const uint16_t *group_port, fab_rule_t *rule)
{
    uint32_t up = 0, up_members = 0;
    for (uint32_t leaf = 0; leaf < leaf_count; leaf++) {
        const uint32_t members = table[leaf] & ((1u << GROUP_COUNT_BITS) - 1);
        if (table[leaf] && members > up_members) {
            up = table[leaf];
            up_members = members;
        }
    }
    const uint16_t *up_ports = &group_port[up >> GROUP_COUNT_BITS];
    for (uint32_t i = 1; i < up_members; i++)
        if (up_ports[i] != up_ports[0] + i)
            return false;
    uint32_t low = FAB_NONE, end = 0, first_port = 0, stride = 0;
    for (uint32_t h = 0; h < hosts; h++) {
        const uint32_t group = table[route->leaf_of[h]];
        if (up && group == up)
            continue;
        if (group && (group & ((1u << GROUP_COUNT_BITS) - 1)) != 1)
            return false;
        const uint32_t port = group ? group_port[group >> GROUP_COUNT_BITS] : route->host_port[h];
        if (low == FAB_NONE) {
            low = h;
            first_port = port;
        } else if (h != end) {
            return false;
        }
        end = h + 1;
        if (!stride && port != first_port)
            stride = h - low;
        if (port != first_port + (stride ? (h - low) / stride : 0))
            return false;
    }
    if (low == FAB_NONE)
        low = 0;
    if (!stride)
        stride = end > low ? end - low : 1;
    rule->low = low;
    rule->span = end > low ? end - low : 0;
    rule->stride_inverse = (((uint64_t)1 << 32) + stride - 1) / stride;
    rule->down_first = (uint16_t)first_port;
    rule->up_first = up ? up_ports[0] : 0;
    rule->up_count = (uint16_t)up_members;
    for (uint32_t h = low; h < end; h++) /* the reciprocal must give the very quotient */
        if ((((h - low) * rule->stride_inverse) >> 32) != (h - low) / stride)
            return false;
    return true;
}

int fab_route_compile(const fab_net_t *net, uint64_t hash_seed, bool spray, fab_route_t *route_out)
{
    int code = FAB_E_MEMORY;
    fab_route_t route = {.spray = spray};
    const uint32_t hosts = net->host_count, switches = net->switch_count;
    ports_t pool = {0};
    uint32_t leaf_count = 0;
    uint16_t *distance = malloc(net->slot_count * sizeof *distance);
    uint32_t *queue = malloc(net->slot_count * sizeof *queue);
    uint32_t *leaf_slot = malloc((switches + 1) * sizeof *leaf_slot);
    uint32_t *leaf_of_slot = malloc(net->slot_count * sizeof *leaf_of_slot);
    uint16_t *all_distance = NULL;
    route.rules = calloc(switches + 1, sizeof *route.rules);
    route.leaf_of = calloc(hosts, sizeof *route.leaf_of);
    route.host_port = calloc(hosts, sizeof *route.host_port);
    if (!distance || !queue || !leaf_slot || !leaf_of_slot || !route.rules || !route.leaf_of || !route.host_port)
        goto out;

    for (uint32_t s = 0; s < net->slot_count; s++)
        leaf_of_slot[s] = FAB_NONE;
    for (uint32_t h = 0; h < hosts; h++) {
        const uint32_t in = net->nodes[net->slot_of[h]].first_link, peer = net->tx_slot[in];
        if (!net->nodes[peer].is_switch)
            continue; /* two hosts back to back: nothing to route */
        if (leaf_of_slot[peer] == FAB_NONE) {
            leaf_slot[leaf_count] = peer;
            leaf_of_slot[peer] = leaf_count++;
        }
        route.leaf_of[h] = leaf_of_slot[peer];
        route.host_port[h] = (uint16_t)fab_net_tx_port(net, in);
    }
    all_distance = malloc(((size_t)leaf_count * switches + 1) * sizeof *all_distance);
    route.table = calloc((size_t)leaf_count * switches + 1, sizeof *route.table);
    if (!all_distance || !route.table)
        goto out;
    for (uint32_t leaf = 0; leaf < leaf_count; leaf++) {
        distances(net, leaf_slot[leaf], distance, queue);
        for (uint32_t s = 0; s < net->slot_count; s++)
            if (net->nodes[s].port_count && net->nodes[s].is_switch)
                all_distance[(size_t)net->nodes[s].index * leaf_count + leaf] = distance[s];
    }
    for (uint32_t s = 0; s < net->slot_count; s++) {
        const fab_node_t *node = &net->nodes[s];
        if (!node->is_switch || !node->port_count)
            continue;
        const uint32_t groups_from = pool.count;
        uint32_t *table = &route.table[(size_t)node->index * leaf_count];
        for (uint32_t leaf = 0; leaf < leaf_count; leaf++) {
            const uint16_t here = all_distance[(size_t)node->index * leaf_count + leaf];
            uint16_t ports[FAB_PORTS_MAX];
            uint32_t n = 0;
            if (here == 0 || here == UINT16_MAX)
                continue; /* itself; or another component, which the program's check refuses */
            for (uint32_t p = 0; p < node->port_count; p++) {
                const fab_node_t *peer = &net->nodes[net->tx_slot[node->first_link + p]];
                if (peer->is_switch && all_distance[(size_t)peer->index * leaf_count + leaf] == here - 1)
                    ports[n++] = (uint16_t)p;
            }
            code = group_of(&pool, groups_from, ports, n, &table[leaf]);
            if (code)
                goto out;
        }
        fab_rule_t *rule = &route.rules[node->index];
        rule->salt = (uint32_t)fab_keyed_draw(hash_seed, FAB_KEY_SALT, node->index, 0);
        if (as_arithmetic(&route, table, hosts, leaf_count, pool.items, rule)) {
            route.arithmetic_count++;
        } else {
            *rule = (fab_rule_t){.salt = rule->salt, .table = table};
        }
    }
    route.group_port = pool.items;
    pool.items = NULL;
    route.memory_bytes = (int64_t)(((size_t)leaf_count * switches) * sizeof *route.table + pool.capacity * 2u +
                                   switches * sizeof *route.rules + hosts * 6u);
    if (route.arithmetic_count == switches) { /* no table is looked at: give the memory back */
        free(route.table);
        route.table = NULL;
        route.memory_bytes = (int64_t)(switches * sizeof *route.rules + hosts * 6u);
    }
    *route_out = route;
    route = (fab_route_t){0};
    code = FAB_OK;
out:
    fab_route_free(&route);
    free(pool.items);
    free(distance);
    free(queue);
    free(leaf_slot);
    free(leaf_of_slot);
    free(all_distance);
    return code;
}

void fab_route_free(fab_route_t *self)
{
    free(self->rules);
    free(self->group_port);
    free(self->table);
    free(self->leaf_of);
    free(self->host_port);
    *self = (fab_route_t){0};
}
