/* Equal-cost multipath: all shortest paths, one of them by a hash: of the flow (RFC 2992), or of the packet (spraying). */
#include "route/tables.h"

static void configure_ecmp(const int64_t *values, fab_route_config_t *config_out)
{
    *config_out = (fab_route_config_t){.ops = &fab_route_ecmp, .hash_seed = (uint64_t)values[0]};
}

static void configure_spray(const int64_t *values, fab_route_config_t *config_out)
{
    *config_out = (fab_route_config_t){.ops = &fab_route_spray, .hash_seed = (uint64_t)values[0], .reorder = true};
}

const fab_route_ops_t fab_route_ecmp = {
    .impl = {"route", "ecmp", "equal-cost paths by a hash of the flow", fab_route_hash_params, 0},
    .configure = configure_ecmp,
    .compile = fab_tables_shortest,
};

const fab_route_ops_t fab_route_spray = {
    .impl = {"route", "spray", "equal-cost paths by a hash of the packet", fab_route_hash_params, 0},
    .configure = configure_spray,
    .compile = fab_tables_shortest,
};
