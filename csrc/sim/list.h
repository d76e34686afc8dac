/* The lists that a name is looked up in. A new implementation is its file and a line in list.c. */
#ifndef FAB_SIM_LIST_H
#define FAB_SIM_LIST_H

#include "coll/list.h"
#include "link/link_room.h"
#include "route/route.h"
#include "store/layout.h"
#include "store/target.h"
#include "switch/switch.h"
#include "transport/transport.h"

extern const fab_switch_ops_t *const fab_list_switches[];
extern const fab_route_ops_t *const fab_list_routes[];
extern const fab_transport_ops_t *const fab_list_transports[];
extern const fab_cc_ops_t *const fab_list_controllers[];
extern const fab_layout_ops_t *const fab_list_layouts[];
extern const fab_target_ops_t *const fab_list_targets[];

#endif
