/* Places of hosts and divisors of switches, which D-mod-K and single-path up/down routing choose ports by. */
#include "route/spread.h"

#include <stdlib.h>

typedef struct {
    const fab_route_graph_t *graph;
    uint32_t *leaf_of_switch; /* [switch_count] FAB_NONE: no host with a rank */
    uint32_t *hosts;          /* [leaf_count] that hang on it */
    uint32_t *seen_by;        /* [switch_count] the newest walk that came by */
    uint32_t *stack, *at;     /* [switch_count] switches on the way down, and the next port of each switch */
    uint32_t *order;          /* [leaf_count] leaves as walks come by */
    uint32_t order_count;
} walk_t;

static void come_by(walk_t *w, uint32_t s, uint32_t walk)
{
    w->seen_by[s] = walk;
    w->at[s] = w->graph->first[s];
    if (w->leaf_of_switch[s] != FAB_NONE)
        w->order[w->order_count++] = w->leaf_of_switch[s];
}

/* Adds the leaves below a switch, ports in their order, that this walk has not seen. */
static void walk_down(walk_t *w, uint32_t root, uint32_t walk)
{
    const fab_route_graph_t *g = w->graph;
    uint32_t depth = 0;
    come_by(w, root, walk);
    w->stack[depth++] = root;
    while (depth) {
        const uint32_t s = w->stack[depth - 1];
        if (w->at[s] == g->first[s + 1]) {
            depth--;
            continue;
        }
        const uint32_t peer = g->peer[w->at[s]++];
        if (peer == FAB_NONE || g->tier[peer] >= g->tier[s] || w->seen_by[peer] == walk)
            continue;
        come_by(w, peer, walk);
        w->stack[depth++] = peer;
    }
}

/* From the highest tier down, so that what hangs together below gets neighbouring places. */
static void place_hosts(walk_t *w, uint32_t *first, uint16_t *place)
{
    const fab_route_graph_t *g = w->graph;
    uint32_t highest = 0;
    for (uint32_t s = 0; s < g->switch_count; s++)
        if (g->tier[s] != FAB_GRAPH_FAR && g->tier[s] > highest)
            highest = g->tier[s];
    w->order_count = 0;
    for (uint32_t tier = highest + 1; tier-- > 0;)
        for (uint32_t s = 0; s < g->switch_count; s++)
            if (g->tier[s] == tier && w->seen_by[s] != 0)
                walk_down(w, s, 0);
    uint32_t next = 0;
    for (uint32_t i = 0; i < w->order_count; i++) {
        first[w->order[i]] = next;
        next += w->hosts[w->order[i]];
    }
    const uint32_t ranks = g->net->first_aside;
    for (uint32_t h = 0; h < ranks; h++)
        if (g->leaf_of[h] != FAB_NONE && g->leaf[g->leaf_of[h]] != FAB_NONE)
            place[h] = (uint16_t)first[g->leaf_of[h]]++;
    for (uint32_t h = ranks; h < g->net->host_count; h++)
        place[h] = (uint16_t)(h - ranks);
}

/* The hosts below a switch; walks are numbered from 1 up. */
static uint32_t hosts_below(walk_t *w, uint32_t s)
{
    uint32_t count = 0;
    w->order_count = 0;
    walk_down(w, s, s + 1);
    for (uint32_t i = 0; i < w->order_count; i++)
        count += w->hosts[w->order[i]];
    return count;
}

int fab_spread_by_destination(const fab_route_graph_t *g, fab_route_t *route)
{
    int code = FAB_E_MEMORY;
    const size_t n = (size_t)g->switch_count + 1, leaves = (size_t)g->leaf_count + 1;
    walk_t w = {
        .graph = g,
        .leaf_of_switch = malloc(n * sizeof *w.leaf_of_switch),
        .hosts = calloc(leaves, sizeof *w.hosts),
        .seen_by = malloc(n * sizeof *w.seen_by),
        .stack = malloc(n * sizeof *w.stack),
        .at = malloc(n * sizeof *w.at),
        .order = malloc(leaves * sizeof *w.order),
    };
    uint32_t *below = calloc(n, sizeof *below);
    uint32_t *first = calloc(leaves, sizeof *first);
    route->place = calloc(g->net->host_count, sizeof *route->place);
    if (!w.leaf_of_switch || !w.hosts || !w.seen_by || !w.stack || !w.at || !w.order || !below || !first ||
        !route->place)
        goto out;
    for (uint32_t s = 0; s < g->switch_count; s++)
        w.leaf_of_switch[s] = w.seen_by[s] = FAB_NONE;
    for (uint32_t leaf = 0; leaf < g->rank_leaf_count; leaf++)
        w.leaf_of_switch[g->leaf[leaf]] = leaf;
    for (uint32_t h = 0; h < g->net->first_aside; h++)
        if (g->leaf_of[h] != FAB_NONE)
            w.hosts[g->leaf_of[h]]++;
    place_hosts(&w, first, route->place);
    for (uint32_t s = 0; s < g->switch_count; s++)
        below[s] = hosts_below(&w, s);
    for (uint32_t s = 0; s < g->switch_count; s++) {
        fab_rule_t *rule = &route->rules[fab_graph_node(g, s)->index];
        uint32_t divisor = 1;
        for (uint32_t at = g->first[s]; at < g->first[s + 1]; at++) {
            const uint32_t peer = g->peer[at];
            if (peer != FAB_NONE && g->tier[peer] < g->tier[s] && below[peer] > divisor)
                divisor = below[peer];
        }
        rule->how |= FAB_RULE_BY_DST;
        rule->salt = divisor;
    }
    route->memory_bytes += (int64_t)(g->net->host_count * sizeof *route->place);
    code = FAB_OK;
out:
    free(w.leaf_of_switch);
    free(w.hosts);
    free(w.seen_by);
    free(w.stack);
    free(w.at);
    free(w.order);
    free(below);
    free(first);
    return code;
}
