/* From distances to rules: groups of ports that lead nearer, as a table a switch or, where it has the shape of a
 * tree, as arithmetic. */
#ifndef FAB_ROUTE_TABLES_H
#define FAB_ROUTE_TABLES_H

#include "route/graph.h"

/* In a distance: the way from here begins upwards (up/down routing only). */
#define FAB_DISTANCE_UP 0x8000u

/* distance: [switch][leaf], FAB_GRAPH_FAR where there is no way. order: NULL, or the place of each switch from the
 * top: then a way goes up until it goes down. */
int fab_tables_build(const fab_route_graph_t *graph, const uint16_t *distance, const uint32_t *order,
                     uint64_t hash_seed, fab_route_t *route);

/* Shortest paths, all of them, without more. */
int fab_tables_shortest(const fab_route_graph_t *graph, const fab_route_config_t *config, fab_problems_t *problems,
                        fab_route_t *route);

/* The parameter table of those that only hash: hash_seed. */
extern const fab_param_t fab_route_hash_params[];

#endif
