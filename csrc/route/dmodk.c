/* D-mod-K: the destination alone chooses among the shortest paths of a tree, so that shifts do not collide (Zahavi,
 * "Fat-tree routing and node ordering providing contention free traffic for MPI global collectives", JPDC 2012). */
#include "route/spread.h"
#include "route/tables.h"

static const fab_param_t params[] = {FAB_PARAM_END};

static void configure(const int64_t *values, fab_route_config_t *config_out)
{
    (void)values;
    *config_out = (fab_route_config_t){.ops = &fab_route_dmodk};
}

static int compile(const fab_route_graph_t *graph, const fab_route_config_t *config, fab_problems_t *problems,
                   fab_route_t *route)
{
    const int code = fab_tables_shortest(graph, config, problems, route);
    return code ? code : fab_spread_by_destination(graph, route);
}

const fab_route_ops_t fab_route_dmodk = {
    .impl = {"route", "dmodk", "equal-cost paths by the destination's place in the tree", params, 0},
    .configure = configure,
    .compile = compile,
};
