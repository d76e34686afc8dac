/* The model: a fabric compiled and constant. */
#ifndef FAB_SIM_MODEL_H
#define FAB_SIM_MODEL_H

#include "route/route.h"
#include "store/store.h"
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
    fab_store_config_t stores[FAB_STORES_MAX];
    uint32_t store_count;
    fab_setting_t *coll_settings; /* a copy, for programs */
    int32_t coll_setting_count;
};

/* Whether the switch at the end of a link sends a packet on while it still arrives. least_mbps: of links whose rate
 * changes, the lowest they ever have; NULL: none does. */
bool fab_model_cuts_through(const fab_model_t *self, const int64_t *least_mbps, uint32_t link);

/* stores.c: a file system of the model, compiled; freed whatever it returns. */
int fab_store_compile(const fab_store_spec_t *spec, int32_t store, const fab_setting_t *settings, int32_t count,
                      const fab_net_t *net, uint32_t data_class_count, fab_problems_t *problems,
                      fab_store_config_t *self);
void fab_store_config_free(fab_store_config_t *self);

#endif
