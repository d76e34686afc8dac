/* Up/down routing on any graph: no way goes up again after it went down, so no credits can wait in a circle
 * (Autonet: Schroeder et al., JSAC 1991; the UPDN engine of OpenSM, doc/current-routing.txt).
 *
 * "Up" is towards the roots, by breadth-first distance, and by number between equals. A switch forwards by destination
 * and does not know where a packet came from; so for each destination it sends either only down or only up: down, if
 * the shortest allowed way can be down all along, and only such switches are gone down through. */
#include "route/updown.h"

#include <stdlib.h>
#include <string.h>

#include "route/spread.h"
#include "route/tables.h"

static const fab_param_t params[] = {
    {"hash_seed", "", 0, 0, INT32_MAX, "seed of the switches' hash salts; another seed is another hash function", ""},
    {"single_path", "", 0, 0, 1,
     "1: the destination chooses one of equally short ways, as forwarding tables of a subnet manager do; 0: the hash "
     "of "
     "the flow does",
     "OpenSM, doc/current-routing.txt"},
    FAB_PARAM_END,
};

static void configure(const int64_t *values, fab_route_config_t *config_out)
{
    *config_out = (fab_route_config_t){
        .ops = &fab_route_updown,
        .hash_seed = (uint64_t)values[0],
        .single_path = values[1],
    };
}

typedef struct {
    const fab_route_graph_t *graph;
    uint32_t *order;    /* [switch_count] place from the top */
    uint32_t *roots;    /* [switch_count] */
    uint16_t *rank;     /* [switch_count] distance from the roots */
    uint16_t *distance; /* [switch][leaf] */
    uint16_t *label;    /* [switch_count] of one leaf */
    uint32_t *queue;    /* [switch_count] */
    uint8_t *single;    /* [switch_count] by island: it has one root */
} updown_t;

/* The switches of an island's highest tier; with `single` the one of them that is nearest to all leaves. */
static uint32_t find_roots(updown_t *u)
{
    const fab_route_graph_t *g = u->graph;
    uint32_t count = 0;
    for (uint32_t island = 0; island < g->switch_count; island++) {
        if (g->island[island] != island)
            continue;
        uint32_t highest = 0, first = count;
        for (uint32_t s = 0; s < g->switch_count; s++)
            if (g->island[s] == island && g->tier[s] != FAB_GRAPH_FAR && g->tier[s] > highest)
                highest = g->tier[s];
        for (uint32_t s = 0; s < g->switch_count; s++)
            if (g->island[s] == island && g->tier[s] == highest)
                u->roots[count++] = s;
        if (count - first < 2 || (highest && !u->single[island]))
            continue;
        uint64_t least = UINT64_MAX;
        for (uint32_t i = first; i < count; i++) {
            fab_graph_distances(g, &u->roots[i], 1, u->rank, u->queue);
            uint64_t farthest = 0, sum = 0;
            for (uint32_t leaf = 0; leaf < g->leaf_count; leaf++) {
                const uint16_t d = g->leaf[leaf] == FAB_NONE ? FAB_GRAPH_FAR : u->rank[g->leaf[leaf]];
                if (d == FAB_GRAPH_FAR)
                    continue;
                farthest = d > farthest ? d : farthest;
                sum += d;
            }
            if ((farthest << 32 | sum) < least) {
                least = farthest << 32 | sum;
                u->roots[first] = u->roots[i];
            }
        }
        count = first + 1;
    }
    return count;
}

/* Numbers all switches from the top: by rank, then as they stand. */
static void put_in_order(updown_t *u)
{
    const fab_route_graph_t *g = u->graph;
    const uint32_t roots = find_roots(u);
    fab_graph_distances(g, u->roots, roots, u->rank, u->queue);
    uint32_t next = 0, deepest = 0;
    for (uint32_t s = 0; s < g->switch_count; s++)
        if (u->rank[s] != FAB_GRAPH_FAR && u->rank[s] > deepest)
            deepest = u->rank[s];
    for (uint32_t rank = 0; rank <= deepest; rank++)
        for (uint32_t s = 0; s < g->switch_count; s++)
            if (u->rank[s] == rank)
                u->order[s] = next++;
    for (uint32_t s = 0; s < g->switch_count; s++) /* islands without a host */
        if (u->rank[s] == FAB_GRAPH_FAR)
            u->order[s] = next++;
}

/* Distances to a switch over allowed ways, and whether they begin upwards. */
static void label_from(updown_t *u, uint32_t leaf_switch)
{
    const fab_route_graph_t *g = u->graph;
    memset(u->label, 0xff, g->switch_count * sizeof *u->label);
    if (leaf_switch == FAB_NONE)
        return;
    uint32_t head = 0, tail = 0;
    u->queue[tail++] = leaf_switch;
    u->label[leaf_switch] = 0;
    for (uint16_t distance = 1; head < tail; distance++) {
        const uint32_t from = head, to = tail;
        head = to;
        for (int pass = 0; pass < 2; pass++) /* going down all along comes before going up first */
            for (uint32_t i = from; i < to; i++) {
                const uint32_t s = u->queue[i];
                if (pass == 0 && u->label[s] & FAB_DISTANCE_UP)
                    continue;
                for (uint32_t at = g->first[s]; at < g->first[s + 1]; at++) {
                    const uint32_t peer = g->peer[at];
                    if (peer == FAB_NONE || u->label[peer] != FAB_GRAPH_FAR)
                        continue;
                    if ((u->order[peer] < u->order[s]) != (pass == 0))
                        continue;
                    u->label[peer] = (uint16_t)(distance | (pass ? FAB_DISTANCE_UP : 0));
                    u->queue[tail++] = peer;
                }
            }
    }
}

/* All labels. Returns whether they join what is joined; where not, the island is to have one root, which always does. */
static bool label_all(updown_t *u)
{
    const fab_route_graph_t *g = u->graph;
    bool joined = true;
    put_in_order(u);
    for (uint32_t leaf = 0; leaf < g->leaf_count; leaf++) {
        label_from(u, g->leaf[leaf]);
        for (uint32_t s = 0; s < g->switch_count; s++)
            u->distance[(size_t)s * g->leaf_count + leaf] = u->label[s];
        for (uint32_t other = 0; other < g->leaf_count && g->leaf[leaf] != FAB_NONE; other++) {
            const uint32_t s = g->leaf[other];
            if (s == FAB_NONE || g->island[s] != g->island[g->leaf[leaf]] || u->label[s] != FAB_GRAPH_FAR)
                continue;
            u->single[g->island[s]] = 1;
            joined = false;
        }
    }
    return joined;
}

int fab_updown_compile(const fab_route_graph_t *graph, uint64_t hash_seed, bool single_path, fab_route_t *route)
{
    int code = FAB_E_MEMORY;
    const size_t n = (size_t)graph->switch_count + 1;
    updown_t u = {
        .graph = graph,
        .order = malloc(n * sizeof *u.order),
        .roots = malloc(n * sizeof *u.roots),
        .rank = malloc(n * sizeof *u.rank),
        .distance = malloc(n * (graph->leaf_count + 1) * sizeof *u.distance),
        .label = malloc(n * sizeof *u.label),
        .queue = malloc(n * sizeof *u.queue),
        .single = calloc(n, sizeof *u.single),
    };
    if (!u.order || !u.roots || !u.rank || !u.distance || !u.label || !u.queue || !u.single)
        goto out;
    if (!label_all(&u) && !label_all(&u)) {
        code = FAB_E_INTERNAL;
        goto out;
    }
    route->loop_free = true;
    code = fab_tables_build(graph, u.distance, u.order, hash_seed, route);
    if (!code && single_path)
        code = fab_spread_by_destination(graph, route);
out:
    free(u.order);
    free(u.roots);
    free(u.rank);
    free(u.distance);
    free(u.label);
    free(u.queue);
    free(u.single);
    return code;
}

static int compile(const fab_route_graph_t *graph, const fab_route_config_t *config, fab_problems_t *problems,
                   fab_route_t *route)
{
    (void)problems;
    return fab_updown_compile(graph, config->hash_seed, config->single_path, route);
}

const fab_route_ops_t fab_route_updown = {
    .impl = {"route", "updown", "ways that never go up after down, on any graph", params, 0},
    .configure = configure,
    .compile = compile,
};
