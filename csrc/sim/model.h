/* The model: a fabric compiled and constant. */
#ifndef FAB_SIM_MODEL_H
#define FAB_SIM_MODEL_H

#include "route/route.h"
#include "switch/switch.h"
#include "transport/transport.h"
#include "work/program.h"

/* What a network is made of. */
typedef struct {
    fab_route_config_t route_config;
    fab_route_t route;
    const fab_switch_ops_t *switch_ops;
    fab_switch_config_t switch_config;
    const fab_transport_ops_t *transport_ops;
    fab_transport_config_t transport_config;
    const fab_cc_ops_t *cc_ops;
    fab_cc_config_t cc_config;
} fab_network_t;

struct fab_model {
    fab_net_t net;
    fab_network_t networks[FAB_NETWORKS_MAX]; /* [net.network_count] */
    fab_setting_t *coll_settings;             /* a copy, for programs */
    int32_t coll_setting_count;
};

#endif
