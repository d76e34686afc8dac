/* Compiles rules from distances: tables of groups of ports, and their short form as arithmetic. */
#include "route/tables.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint16_t *items;
    uint32_t count, capacity;
} ports_t;

/* The number of a group equal to `ports` among those this switch added since `from`, or a new one. */
static int group_of(ports_t *pool, uint32_t from, const uint16_t *ports, uint32_t n, uint32_t *group_out)
{
    for (uint32_t at = from; at < pool->count; at += 1 + pool->items[at])
        if (pool->items[at] == n && memcmp(&pool->items[at + 1], ports, n * sizeof *ports) == 0) {
            *group_out = (at + 1) << FAB_GROUP_BITS | n;
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
    if (pool->count + 1 + n >= 1u << (32 - FAB_GROUP_BITS))
        return FAB_E_LIMIT;
    pool->items[pool->count] = (uint16_t)n;
    memcpy(&pool->items[pool->count + 1], ports, n * sizeof *ports);
    *group_out = (pool->count + 1) << FAB_GROUP_BITS | n;
    pool->count += 1 + n;
    return FAB_OK;
}

/* Whether the way from s goes on at a switch that is as far as `there`. */
static bool leads(const uint32_t *order, uint32_t s, uint32_t peer, uint16_t here, uint16_t there)
{
    if (!order)
        return there + 1 == here;
    if (here & FAB_DISTANCE_UP)
        return order[peer] < order[s] && (there & ~FAB_DISTANCE_UP) + 1 == (here & ~FAB_DISTANCE_UP);
    return order[peer] > order[s] && there + 1 == here;
}

/* Fills in the table of a switch. */
static int tabulate(const fab_route_graph_t *graph, uint32_t s, const uint16_t *distance, const uint32_t *order,
                    ports_t *pool, uint32_t *table)
{
    const uint32_t groups_from = pool->count, leaves = graph->leaf_count;
    const uint16_t *here = &distance[(size_t)s * leaves];
    for (uint32_t leaf = 0; leaf < leaves; leaf++) {
        uint16_t ports[FAB_PORTS_MAX];
        uint32_t n = 0;
        if (here[leaf] == 0)
            continue;
        table[leaf] = FAB_GROUP_NOWHERE;
        if (here[leaf] == FAB_GRAPH_FAR)
            continue;
        for (uint32_t at = graph->first[s]; at < graph->first[s + 1]; at++) {
            const uint32_t peer = graph->peer[at];
            if (peer != FAB_NONE && leads(order, s, peer, here[leaf], distance[(size_t)peer * leaves + leaf]))
                ports[n++] = (uint16_t)(at - graph->first[s]);
        }
        const int code = group_of(pool, groups_from, ports, n, &table[leaf]);
        if (code)
            return code;
    }
    return FAB_OK;
}

/* Tries to say a switch's table as arithmetic. What most leaves use, and at least one does, is "up". Hosts that can
 * never be asked for (other parts of a network that was never whole) may go anywhere. */
static bool as_arithmetic(const fab_route_graph_t *graph, const uint32_t *table, const uint16_t *group_port,
                          fab_rule_t *rule)
{
    uint32_t up = 0, up_members = 0;
    for (uint32_t leaf = 0; leaf < graph->rank_leaf_count; leaf++) {
        const uint32_t members = table[leaf] & FAB_GROUP_MASK;
        if (members > up_members) {
            up = table[leaf];
            up_members = members;
        }
    }
    const uint16_t *up_ports = &group_port[up >> FAB_GROUP_BITS];
    for (uint32_t i = 1; i < up_members; i++)
        if (up_ports[i] != up_ports[0] + i)
            return false;
    uint32_t low = FAB_NONE, end = 0, first_port = 0, stride = 0;
    for (uint32_t h = 0; h < graph->net->first_aside; h++) {
        if (graph->leaf_of[h] == FAB_NONE)
            continue;
        const uint32_t group = table[graph->leaf_of[h]];
        if (group == FAB_GROUP_NOWHERE && graph->healing)
            return false; /* arithmetic knows no "nowhere" */
        if ((up && group == up) || group == FAB_GROUP_NOWHERE)
            continue;
        if (group && (group & FAB_GROUP_MASK) != 1)
            return false;
        const uint32_t port = group ? group_port[group >> FAB_GROUP_BITS] : graph->host_port[h];
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

int fab_tables_build(const fab_route_graph_t *graph, const uint16_t *distance, const uint32_t *order,
                     uint64_t hash_seed, fab_route_t *route)
{
    ports_t pool = {0};
    const size_t leaves = graph->leaf_count, entries = leaves * graph->switch_count + 1;
    bool needed = false;
    int code = FAB_E_MEMORY;
    route->table = calloc(entries, sizeof *route->table);
    if (!route->table)
        goto out;
    code = FAB_OK;
    for (uint32_t s = 0; s < graph->switch_count; s++) {
        const uint32_t index = fab_graph_node(graph, s)->index;
        uint32_t *table = &route->table[s * leaves];
        fab_rule_t *rule = &route->rules[index];
        code = tabulate(graph, s, distance, order, &pool, table);
        if (code)
            goto out;
        const uint32_t salt = (uint32_t)fab_keyed_draw(hash_seed, FAB_KEY_SALT, index, 0);
        if (as_arithmetic(graph, table, pool.items, rule)) {
            rule->salt = salt;
            route->arithmetic_count++;
            if (graph->net->first_aside < graph->net->host_count) {
                rule->how = FAB_RULE_ASIDE;
                rule->table = table;
            }
        } else {
            *rule = (fab_rule_t){.salt = salt, .how = FAB_RULE_TABLE, .table = table};
        }
        needed |= rule->how != 0;
    }
    route->group_port = pool.items;
    pool.items = NULL;
    if (needed) {
        route->memory_bytes += (int64_t)(entries * sizeof *route->table + pool.capacity * 2u);
    } else { /* no table is looked at: give the memory back */
        free(route->table);
        route->table = NULL;
    }
out:
    free(pool.items);
    return code;
}

int fab_tables_shortest(const fab_route_graph_t *graph, const fab_route_config_t *config, fab_problems_t *problems,
                        fab_route_t *route)
{
    (void)problems;
    int code = FAB_E_MEMORY;
    const uint32_t leaves = graph->leaf_count, switches = graph->switch_count;
    uint16_t *distance = malloc(((size_t)leaves * switches + 1) * sizeof *distance);
    uint16_t *from_leaf = malloc((switches + 1) * sizeof *from_leaf);
    uint32_t *queue = malloc((switches + 1) * sizeof *queue);
    if (!distance || !from_leaf || !queue)
        goto out;
    for (uint32_t leaf = 0; leaf < leaves; leaf++) {
        fab_graph_distances(graph, &graph->leaf[leaf], 1, from_leaf, queue);
        for (uint32_t s = 0; s < switches; s++)
            distance[(size_t)s * leaves + leaf] = from_leaf[s];
    }
    code = fab_tables_build(graph, distance, NULL, config->hash_seed, route);
out:
    free(distance);
    free(from_leaf);
    free(queue);
    return code;
}

const fab_param_t fab_route_hash_params[] = {
    {"hash_seed", "", 0, 0, INT32_MAX, "seed of the switches' hash salts; another seed is another hash function", ""},
    FAB_PARAM_END,
};
