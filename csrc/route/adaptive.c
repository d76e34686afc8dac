/* Adaptive routing: the shortest paths of ECMP; the switch sends every packet by the least loaded of them. */
#include "route/tables.h"

static void configure(const int64_t *values, fab_route_config_t *config_out)
{
    *config_out = (fab_route_config_t){
        .ops = &fab_route_adaptive,
        .hash_seed = (uint64_t)values[0],
        .reorder = true,
        .adaptive = true,
    };
}

const fab_route_ops_t fab_route_adaptive = {
    .impl = {"route", "adaptive", "equal-cost paths, each packet by the least loaded", fab_route_hash_params, 0},
    .configure = configure,
    .compile = fab_tables_shortest,
};
