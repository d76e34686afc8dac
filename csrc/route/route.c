/* Compiles the routes of one network, and looks up what is not arithmetic. */
#include "route/route.h"

#include <stdlib.h>

#include "route/graph.h"
#include "route/torus.h"

uint32_t fab_route_port_otherwise(const fab_route_t *self, const fab_rule_t *rule, uint32_t dst, uint32_t entropy)
{
    if (rule->how & FAB_RULE_TORUS)
        return fab_torus_port(self, rule, dst, entropy);
    const fab_candidates_t candidates = fab_route_candidates(self, rule, dst);
    if (FAB_UNLIKELY(!candidates.count))
        return FAB_NONE;
    const uint32_t i = rule->how & FAB_RULE_BY_DST ? self->place[dst] / rule->salt % candidates.count
                                                   : fab_candidates_hashed(candidates, rule, entropy);
    return fab_candidates_port(candidates, i);
}

int fab_route_compile(const fab_net_t *net, uint32_t network, const fab_route_config_t *config,
                      const uint8_t *dead_links, fab_problems_t *problems, fab_route_t *route_out)
{
    fab_route_graph_t graph = {0};
    fab_route_t route = {
        .first_aside = net->first_aside,
        .class_count = 1,
        .adaptive = config->adaptive,
    };
    const uint32_t hosts = net->host_count, switches = net->switch_count;
    int code = fab_graph_new(net, network, dead_links, &graph);
    if (code)
        goto out;
    code = FAB_E_MEMORY;
    route.rules = calloc((size_t)switches + 1, sizeof *route.rules);
    route.leaf_of = calloc(hosts, sizeof *route.leaf_of);
    route.host_port = calloc(hosts, sizeof *route.host_port);
    route.island = calloc(hosts, sizeof *route.island);
    if (!route.rules || !route.leaf_of || !route.host_port || !route.island)
        goto out;
    for (uint32_t h = 0; h < hosts; h++) {
        const uint32_t leaf = graph.leaf_of[h], s = leaf == FAB_NONE ? FAB_NONE : graph.leaf[leaf];
        route.leaf_of[h] = leaf == FAB_NONE ? 0 : leaf;
        route.host_port[h] = graph.host_port[h];
        route.island[h] = s == FAB_NONE ? FAB_NONE : graph.island[s];
    }
    route.memory_bytes = (int64_t)(switches * sizeof *route.rules + hosts * 10u);
    code = config->ops->compile(&graph, config, problems, &route);
    if (code)
        goto out;
    *route_out = route;
    route = (fab_route_t){0};
out:
    fab_route_free(&route);
    fab_graph_free(&graph);
    return code;
}

void fab_route_free(fab_route_t *self)
{
    free(self->rules);
    free(self->group_port);
    free(self->table);
    free(self->leaf_of);
    free(self->host_port);
    free(self->island);
    free(self->place);
    fab_torus_free(self->torus);
    *self = (fab_route_t){0};
}

enum { WAY_MOST = 255 };

uint32_t fab_route_switches_between(const fab_net_t *net, uint32_t network, const fab_route_t *route, uint32_t src,
                                    uint32_t dst, uint32_t entropy)
{
    uint32_t link = net->out_link[net->host_link[network][src]], count = 0;
    for (; count < WAY_MOST && net->nodes[net->rx_slot[link]].is_switch; count++) {
        const fab_node_t *node = &net->nodes[net->rx_slot[link]];
        const uint32_t port = fab_route_port(route, &route->rules[node->index], dst, entropy);
        if (port == FAB_NONE)
            break;
        link = net->out_link[node->first_link + port];
    }
    return count;
}
