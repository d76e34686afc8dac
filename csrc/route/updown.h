/* Up/down routes, also for who heals with them. */
#ifndef FAB_ROUTE_UPDOWN_H
#define FAB_ROUTE_UPDOWN_H

#include "route/graph.h"

/* single_path: the destination chooses one of equal ways, else the hash. */
int fab_updown_compile(const fab_route_graph_t *graph, uint64_t hash_seed, bool single_path, fab_route_t *route);

#endif
