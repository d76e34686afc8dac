/* Credit loops: links whose packets wait for each other's buffers in a circle (Dally and Seitz, "Deadlock-free message
 * routing in multiprocessor interconnection networks", IEEE ToC 1987).
 *
 * The channel dependency graph has a node a link and class, and an arc from what a packet comes in by to what it may
 * leave by, for all destinations. Without a circle in it there is no deadlock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "route/graph.h"
#include "route/torus.h"

typedef struct {
    const fab_net_t *net;
    const fab_route_t *route;
    uint32_t classes;    /* that channels are told apart by */
    uint64_t *first_arc; /* [link_count + 1] of the arcs from a link */
    uint64_t *arcs;      /* bits: for each link, class, output port, class there */
    uint32_t *seen;      /* [channel_count] the newest walk that came by */
    uint32_t *queue;     /* [channel_count] */
    uint32_t *before;    /* [channel_count] where a search came from */
    uint32_t *in_degree; /* [channel_count] */
    uint32_t walks;
    uint32_t entropies[FAB_TORUS_CHOICES]; /* that make each choice on a torus */
} dependencies_t;

static const fab_node_t *receiver(const dependencies_t *g, uint32_t link)
{
    return &g->net->nodes[g->net->rx_slot[link]];
}

static uint32_t channel_of(const dependencies_t *g, uint32_t link, uint32_t class) { return link * g->classes + class; }

static uint64_t arc_of(const dependencies_t *g, uint32_t channel, uint32_t port, uint32_t class)
{
    const uint32_t link = channel / g->classes, ports = receiver(g, link)->port_count;
    return g->first_arc[link] + ((uint64_t)(channel % g->classes) * ports + port) * g->classes + class;
}

/* ---- finding arcs --------------------------------------------------------------------------------- */

static void go_on(dependencies_t *g, uint32_t channel, uint32_t port, uint32_t class, uint32_t *tail)
{
    const uint32_t out = g->net->out_link[receiver(g, channel / g->classes)->first_link + port];
    if (!receiver(g, out)->is_switch) /* a host always takes what comes */
        return;
    const uint64_t arc = arc_of(g, channel, port, class);
    g->arcs[arc / 64] |= UINT64_C(1) << arc % 64;
    const uint32_t next = channel_of(g, out, class);
    if (g->seen[next] == g->walks)
        return;
    g->seen[next] = g->walks;
    g->queue[(*tail)++] = next;
}

/* Leaves whose hosts send to those of a leaf. Reducers talk to reducers of neighbouring switches only, and that waits
 * for nothing. */
static uint32_t source_count(const fab_route_graph_t *graph, uint32_t leaf)
{
    return leaf < graph->talk_leaf_count ? graph->leaf_count : graph->talk_leaf_count;
}

/* Everything that packets to a host can come by: from one host of each leaf. `choice`: of a torus. `exact`: where the
 * destination chooses among ports, only the one it chooses. */
static void walk_to(dependencies_t *g, const fab_route_graph_t *graph, const uint32_t *host_of_leaf, uint32_t dst,
                    uint32_t choice, bool exact)
{
    uint32_t head = 0, tail = 0;
    g->walks++;
    for (uint32_t leaf = 0; leaf < source_count(graph, graph->leaf_of[dst]); leaf++) {
        const uint32_t src = host_of_leaf[leaf];
        if (src == FAB_NONE || !fab_route_joins(g->route, src, dst))
            continue;
        const uint32_t in = fab_graph_node(graph, graph->leaf[leaf])->first_link + graph->host_port[src];
        g->queue[tail++] = channel_of(g, in, 0);
        g->seen[channel_of(g, in, 0)] = g->walks;
    }
    while (head < tail) {
        const uint32_t channel = g->queue[head++], link = channel / g->classes;
        const fab_node_t *node = receiver(g, link);
        const fab_rule_t *rule = &g->route->rules[node->index];
        if (rule->how & FAB_RULE_TORUS) {
            const uint32_t entropy = g->entropies[choice];
            const uint32_t port = fab_torus_port(g->route, rule, dst, entropy);
            uint32_t class = 0;
            if (port != FAB_NONE && g->classes > 1)
                class =
                    fab_route_next_class(g->route, rule, link - node->first_link, port, channel % g->classes, entropy);
            if (port != FAB_NONE)
                go_on(g, channel, port, class % g->classes, &tail);
            continue;
        }
        if (exact) {
            const uint32_t port = fab_route_port(g->route, rule, dst, 0);
            if (port != FAB_NONE)
                go_on(g, channel, port, 0, &tail);
            continue;
        }
        const fab_candidates_t candidates = fab_route_candidates(g->route, rule, dst);
        for (uint32_t i = 0; i < candidates.count; i++)
            go_on(g, channel, fab_candidates_port(candidates, i), 0, &tail);
    }
}

static void find_arcs(dependencies_t *g, const fab_route_graph_t *graph, const uint32_t *host_of_leaf, bool exact)
{
    memset(g->arcs, 0, (g->first_arc[g->net->link_count] / 64 + 1) * sizeof *g->arcs);
    const uint32_t choices = g->route->torus ? FAB_TORUS_CHOICES : 1;
    for (uint32_t choice = 0; g->route->torus && choice < choices; choice++)
        g->entropies[choice] = fab_torus_entropy(g->route->torus, choice);
    if (exact) {
        for (uint32_t h = 0; h < g->net->host_count; h++)
            if (g->route->island[h] != FAB_NONE)
                walk_to(g, graph, host_of_leaf, h, 0, true);
        return;
    }
    for (uint32_t leaf = 0; leaf < graph->leaf_count; leaf++)
        for (uint32_t choice = 0; choice < choices && host_of_leaf[leaf] != FAB_NONE; choice++)
            walk_to(g, graph, host_of_leaf, host_of_leaf[leaf], choice, false);
}

/* ---- finding a circle ----------------------------------------------------------------------------- */

/* The next channel that `channel` has an arc to, by a cursor that starts at 0; FAB_NONE: no more. */
static uint32_t next_arc(const dependencies_t *g, uint32_t channel, uint32_t *cursor)
{
    const fab_node_t *node = receiver(g, channel / g->classes);
    if (!node->is_switch)
        return FAB_NONE;
    for (const uint32_t end = node->port_count * g->classes; *cursor < end;) {
        const uint32_t port = *cursor / g->classes, class = *cursor % g->classes;
        const uint64_t arc = arc_of(g, channel, port, class);
        ++*cursor;
        if (g->arcs[arc / 64] >> arc % 64 & 1)
            return channel_of(g, g->net->out_link[node->first_link + port], class);
    }
    return FAB_NONE;
}

/* Takes away, again and again, what no channel has an arc to; returns how many channels are left: circles and what
 * they lead to. Those have in_degree > 0 afterwards. */
static uint32_t trim(dependencies_t *g)
{
    const uint32_t channels = g->net->link_count * g->classes;
    uint32_t head = 0, tail = 0, left = 0;
    memset(g->in_degree, 0, channels * sizeof *g->in_degree);
    for (uint32_t c = 0; c < channels; c++)
        for (uint32_t cursor = 0, next; (next = next_arc(g, c, &cursor)) != FAB_NONE;)
            g->in_degree[next]++;
    for (uint32_t c = 0; c < channels; c++)
        if (!g->in_degree[c])
            g->queue[tail++] = c;
    while (head < tail) {
        const uint32_t c = g->queue[head++];
        for (uint32_t cursor = 0, next; (next = next_arc(g, c, &cursor)) != FAB_NONE;)
            if (--g->in_degree[next] == 0)
                g->queue[tail++] = next;
    }
    for (uint32_t c = 0; c < channels; c++)
        left += g->in_degree[c] > 0;
    return left;
}

enum { LOOP_MOST = 64 };

/* The shortest circle through a channel, if shorter than `most`; its length, or 0. */
static uint32_t circle_through(dependencies_t *g, uint32_t start, uint32_t most, uint32_t *loop, int64_t *budget)
{
    uint32_t head = 0, tail = 0;
    g->walks++;
    g->queue[tail++] = start;
    for (uint32_t length = 1; head < tail && length < most; length++)
        for (const uint32_t end = tail; head < end;) {
            const uint32_t c = g->queue[head++];
            for (uint32_t cursor = 0, next; (next = next_arc(g, c, &cursor)) != FAB_NONE; --*budget) {
                if (next == start) {
                    uint32_t at = c;
                    for (uint32_t i = length; i-- > 0; at = g->before[at])
                        loop[i] = at;
                    return length;
                }
                if (g->seen[next] == g->walks)
                    continue;
                g->seen[next] = g->walks;
                g->before[next] = c;
                g->queue[tail++] = next;
            }
        }
    return 0;
}

/* "link 12 (switch 3 -> switch 5)" of each link, in as many lines' worth as fit in one. */
static void tell(const dependencies_t *g, const uint32_t *loop, uint32_t length, fab_problems_t *problems)
{
    char text[160 * 12];
    uint32_t used = 0, told = 0;
    for (; told < length && told < 12; told++) {
        const uint32_t link = loop[told] / g->classes, hosts = g->net->host_count;
        const int n = snprintf(text + used, sizeof text - used, "%slink %u (switch %u -> switch %u)", told ? ", " : "",
                               g->net->link_name[link], g->net->nodes[g->net->tx_slot[link]].name - hosts,
                               receiver(g, link)->name - hosts);
        used += (uint32_t)n;
    }
    fab_problems_add(problems,
                     "credit loop: %s%s, and again the first: packets on each can wait for a buffer of the next; use "
                     "routing that has none, such as updown",
                     text, told < length ? ", and on" : "");
}

int fab_route_find_loop(const fab_net_t *net, uint32_t network, const fab_route_t *route, uint32_t class_count,
                        fab_problems_t *problems)
{
    int code = FAB_E_MEMORY;
    fab_route_graph_t graph = {0};
    dependencies_t g = {.net = net, .route = route, .classes = route->changes_class ? class_count : 1};
    const size_t channels = (size_t)net->link_count * g.classes;
    uint32_t *host_of_leaf = NULL;
    g.first_arc = malloc(((size_t)net->link_count + 1) * sizeof *g.first_arc);
    g.seen = calloc(channels, sizeof *g.seen);
    g.queue = malloc(channels * sizeof *g.queue);
    g.before = malloc(channels * sizeof *g.before);
    g.in_degree = malloc(channels * sizeof *g.in_degree);
    if (!g.first_arc || !g.seen || !g.queue || !g.before || !g.in_degree)
        goto out;
    uint64_t bits = 0;
    for (uint32_t link = 0; link < net->link_count; link++) {
        const fab_node_t *node = receiver(&g, link);
        g.first_arc[link] = bits;
        if (node->is_switch && node->network == network)
            bits += (uint64_t)node->port_count * g.classes * g.classes;
    }
    g.first_arc[net->link_count] = bits;
    g.arcs = malloc((bits / 64 + 1) * sizeof *g.arcs);
    code = fab_graph_new(net, network, NULL, &graph);
    host_of_leaf = malloc((graph.leaf_count + 1) * sizeof *host_of_leaf);
    if (!code && (!g.arcs || !host_of_leaf))
        code = FAB_E_MEMORY;
    if (code)
        goto out;
    bool by_dst = false;
    for (uint32_t s = 0; s < graph.switch_count; s++)
        by_dst |= (route->rules[fab_graph_node(&graph, s)->index].how & FAB_RULE_BY_DST) != 0;
    for (uint32_t leaf = 0; leaf < graph.leaf_count; leaf++)
        host_of_leaf[leaf] = FAB_NONE;
    for (uint32_t h = net->host_count; h-- > 0;)
        if (route->island[h] != FAB_NONE)
            host_of_leaf[graph.leaf_of[h]] = h;
    find_arcs(&g, &graph, host_of_leaf, false);
    uint32_t left = trim(&g);
    if (left && by_dst) {
        find_arcs(&g, &graph, host_of_leaf, true);
        left = trim(&g);
    }
    if (!left)
        goto out;
    uint32_t best[LOOP_MOST], loop[LOOP_MOST], length = 0;
    int64_t budget = 50000000; /* arcs looked at: a big fabric's shortest loop is not worth minutes */
    for (uint32_t i = 0; i < channels && (budget > 0 || !length); i++) { /* in the user's order */
        const uint32_t c = channel_of(&g, net->link_of[i / g.classes], i % g.classes);
        if (!g.in_degree[c])
            continue;
        const uint32_t n = circle_through(&g, c, length ? length : LOOP_MOST + 1, loop, &budget);
        if (!n)
            continue;
        length = n;
        memcpy(best, loop, n * sizeof *loop);
    }
    tell(&g, best, length, problems);
    code = FAB_E_CONFIG;
out:
    fab_graph_free(&graph);
    free(g.first_arc);
    free(g.arcs);
    free(g.seen);
    free(g.queue);
    free(g.before);
    free(g.in_degree);
    free(host_of_leaf);
    return code;
}

enum { FROM_BELOW = 1, FROM_ABOVE = 2 };

/* Whether all that goes to a leaf goes up, then down, by tiers. came: [switch_count]. */
static bool goes_up_then_down(const fab_route_graph_t *graph, const fab_route_t *route, uint32_t leaf, uint8_t *came,
                              uint32_t *queue)
{
    uint32_t head = 0, tail = 0, dst = 0;
    while (graph->leaf_of[dst] != leaf)
        dst++;
    memset(came, 0, graph->switch_count);
    for (uint32_t i = 0; i < source_count(graph, leaf); i++) {
        came[graph->leaf[i]] = FROM_BELOW;
        queue[tail++] = graph->leaf[i];
    }
    while (head < tail) {
        const uint32_t s = queue[head++];
        const fab_rule_t *rule = &route->rules[fab_graph_node(graph, s)->index];
        if (rule->how & FAB_RULE_TORUS)
            return false;
        if (s == graph->leaf[leaf] || graph->island[s] != graph->island[graph->leaf[leaf]])
            continue;
        const fab_candidates_t candidates = fab_route_candidates(route, rule, dst);
        for (uint32_t i = 0; i < candidates.count; i++) {
            const uint32_t peer = graph->peer[graph->first[s] + fab_candidates_port(candidates, i)];
            if (peer == FAB_NONE || graph->tier[peer] == graph->tier[s])
                return false;
            const uint8_t how = graph->tier[peer] > graph->tier[s] ? FROM_BELOW : FROM_ABOVE;
            if (how == FROM_BELOW && came[s] & FROM_ABOVE)
                return false;
            if (came[peer] & how)
                continue;
            came[peer] |= how;
            queue[tail++] = peer;
        }
    }
    return true;
}

/* Whether the routes are those of a tree: then there is no circle, and no graph needs to be built to know it. */
static int is_tree(const fab_net_t *net, uint32_t network, const fab_route_t *route, bool *tree_out)
{
    fab_route_graph_t graph = {0};
    int code = fab_graph_new(net, network, NULL, &graph);
    uint8_t *came = malloc((size_t)graph.switch_count + 1);
    uint32_t *queue = malloc((2 * (size_t)graph.switch_count + 1) * sizeof *queue);
    if (!code && (!came || !queue))
        code = FAB_E_MEMORY;
    bool tree = !code;
    for (uint32_t leaf = 0; leaf < graph.leaf_count && tree; leaf++)
        tree = goes_up_then_down(&graph, route, leaf, came, queue);
    free(came);
    free(queue);
    fab_graph_free(&graph);
    *tree_out = tree;
    return code;
}

int fab_route_check_loops(const fab_net_t *net, uint32_t network, const fab_route_t *route, uint32_t class_count,
                          fab_problems_t *problems)
{
    enum { SEARCHED_MOST = 2048 }; /* hosts: of greater tori the lack of classes is told, and no loop named */
    if (route->class_count > class_count) {
        fab_problems_add(problems, "route: needs %u data classes (virtual lanes) to be without credit loops, found %u",
                         route->class_count, class_count);
        if (net->host_count <= SEARCHED_MOST)
            fab_route_find_loop(net, network, route, class_count, problems);
        return FAB_E_CONFIG;
    }
    if (route->loop_free)
        return FAB_OK;
    bool tree;
    const int code = is_tree(net, network, route, &tree);
    return code || tree ? code : fab_route_find_loop(net, network, route, class_count, problems);
}
