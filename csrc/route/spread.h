/* Spreading destinations over equal ports: the place of a host from left to right, and the divisor of each switch. */
#ifndef FAB_ROUTE_SPREAD_H
#define FAB_ROUTE_SPREAD_H

#include "route/graph.h"

/* Lets the destination choose among the ports of every rule: port floor(place / divisor) mod count of them, where a
 * switch's divisor is the hosts below one of its down ports. */
int fab_spread_by_destination(const fab_route_graph_t *graph, fab_route_t *route);

#endif
