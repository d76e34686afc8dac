/* Compiles a model: the chosen implementations, their parameters, the network and its routes. */
#include "sim/model.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim/list.h"
#include "work/compile.h"

/* What the settings choose for a room, or its default. */
static const char *chosen(const char *room, const char *standard, const fab_setting_t *settings, int32_t count,
                          fab_problems_t *problems)
{
    const char *impl = NULL;
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(settings[i].room, room) != 0)
            continue;
        if (impl && strcmp(impl, settings[i].impl) != 0)
            fab_problems_add(problems, "%s: both %s and %s are chosen", room, impl, settings[i].impl);
        impl = settings[i].impl;
    }
    return impl ? impl : standard;
}

static bool is_known(const char *room, const char *impl)
{
    for (const fab_impl_t *const *i = fab_implementations; *i; i++)
        if (strcmp((*i)->room, room) == 0 && (!impl || strcmp((*i)->impl, impl) == 0))
            return true;
    return false;
}

static int copy_coll_settings(fab_model_t *self, const fab_setting_t *settings, int32_t count)
{
    self->coll_settings = calloc((size_t)count + 1, sizeof *self->coll_settings);
    if (!self->coll_settings)
        return FAB_E_MEMORY;
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(settings[i].room, "coll") != 0)
            continue;
        fab_setting_t *copy = &self->coll_settings[self->coll_setting_count];
        char **names = calloc((size_t)settings[i].count + 1, sizeof *names);
        int64_t *values = calloc((size_t)settings[i].count + 1, sizeof *values);
        *copy =
            (fab_setting_t){"coll", strdup(settings[i].impl), settings[i].count, (const char *const *)names, values, 0};
        self->coll_setting_count++;
        if (!names || !values || !copy->impl)
            return FAB_E_MEMORY;
        for (int32_t j = 0; j < settings[i].count; j++) {
            values[j] = settings[i].values[j];
            names[j] = strdup(settings[i].names[j]);
            if (!names[j])
                return FAB_E_MEMORY;
        }
    }
    return FAB_OK;
}

/* Settings of file systems are numbered by those, all others by networks. */
static bool is_storage(const fab_setting_t *setting)
{
    return strcmp(setting->room, "store") == 0 || strcmp(setting->room, "target") == 0;
}

/* Every name must be known, wherever it is used. */
static void check_names(const fab_setting_t *settings, int32_t n, int32_t store_count, fab_problems_t *problems)
{
    for (int32_t i = 0; i < n; i++)
        if (!is_known(settings[i].room, NULL))
            fab_problems_add(problems, "%s: no such room", settings[i].room);
        else if (!is_known(settings[i].room, settings[i].impl))
            fab_problems_add(problems, "%s: no such implementation as %s", settings[i].room, settings[i].impl);
        else if (is_storage(&settings[i]) ? settings[i].network < 0 || settings[i].network >= store_count
                                          : settings[i].network < 0 || settings[i].network >= FAB_NETWORKS_MAX)
            fab_problems_add(problems, "%s.%s: found number %d, allowed 0 to %d", settings[i].room, settings[i].impl,
                             settings[i].network, is_storage(&settings[i]) ? store_count - 1 : FAB_NETWORKS_MAX - 1);
}

/* The `n` settings are those of this network. */
static void configure(fab_network_t *self, uint32_t network, const fab_setting_t *settings, int32_t n,
                      fab_problems_t *problems)
{
    int64_t v[64];
    const int32_t before = problems->count;
    const char *switch_name = chosen("switch", "ethernet", settings, n, problems);
    const char *link_name = chosen("link", "lossy", settings, n, problems);
    const char *route_name = chosen("route", "ecmp", settings, n, problems);
    const char *transport_name = chosen("transport", "roce", settings, n, problems);
    const char *cc_name = chosen("cc", "none", settings, n, problems);
    if (problems->count > before)
        return;
    for (const fab_switch_ops_t *const *s = fab_list_switches; *s; s++)
        if (strcmp((*s)->impl.impl, switch_name) == 0)
            self->switch_ops = *s;
    for (const fab_transport_ops_t *const *t = fab_list_transports; *t; t++)
        if (strcmp((*t)->impl.impl, transport_name) == 0)
            self->transport_ops = *t;
    for (const fab_cc_ops_t *const *c = fab_list_controllers; *c; c++)
        if (strcmp((*c)->impl.impl, cc_name) == 0)
            self->cc_ops = *c;

    fab_switch_config_t *sw = &self->switch_config;
    fab_param_resolve("switch", switch_name, self->switch_ops->impl.params, settings, n, v, problems);
    self->switch_ops->configure(v, sw);
    sw->network = network;
    if (strcmp(link_name, "pause") == 0) {
        fab_param_resolve("link", "pause", fab_link_pause.params, settings, n, v, problems);
        fab_link_pause_config(v, &sw->link);
    } else if (strcmp(link_name, "credit") == 0) {
        fab_param_resolve("link", "credit", fab_link_credit.params, settings, n, v, problems);
        fab_link_credit_config(v, &sw->link);
        if (!sw->always_cut_through)
            fab_problems_add(problems, "link.credit: needs input buffers: choose switch.voq");
        if (!self->transport_ops->takes_credits)
            fab_problems_add(problems, "link.credit: transport.%s cannot send over credits", transport_name);
    } else {
        fab_param_resolve("link", "lossy", fab_link_lossy.params, settings, n, v, problems);
    }
    for (const fab_route_ops_t *const *r = fab_list_routes; *r; r++)
        if (strcmp((*r)->impl.impl, route_name) == 0) {
            fab_param_resolve("route", route_name, (*r)->impl.params, settings, n, v, problems);
            (*r)->configure(v, &self->route_config);
        }
    fab_param_resolve("transport", transport_name, self->transport_ops->impl.params, settings, n, v, problems);
    const bool telemetry = self->cc_ops->wants_hops;
    if (telemetry && !(self->switch_ops->writes_telemetry && self->transport_ops->carries_telemetry))
        fab_problems_add(problems, "cc.%s: needs telemetry, which switch.%s with transport.%s does not give", cc_name,
                         switch_name, transport_name);
    sw->telemetry = self->transport_config.telemetry = telemetry;
    sw->scheduled = self->transport_config.scheduled = telemetry || sw->data_class_count > 1;
    self->transport_ops->configure(v, &self->transport_config);
    if (self->transport_config.wire_max_bytes > UINT16_MAX)
        fab_problems_add(problems, "transport.%s: a packet, or train of packets, takes %" PRId64 " bytes, allowed %d",
                         transport_name, self->transport_config.wire_max_bytes, UINT16_MAX);
    self->transport_config.pause = sw->link.pause;
    self->transport_config.reorder = self->route_config.reorder;
    sw->wire_max_bytes = self->transport_config.wire_max_bytes;
    sw->control_priority = self->transport_config.control_priority;
    self->transport_config.data_class_count = (uint32_t)sw->data_class_count;
    self->transport_config.arbitration = sw->arbitration;
    self->transport_config.credit = sw->link.credit;
    self->transport_config.lanes = sw->lanes;
    fab_param_resolve("cc", cc_name, self->cc_ops->impl.params, settings, n, self->cc_config.values, problems);
}

/* Compiles one network of the topology. */
static int compile_network(fab_model_t *self, uint32_t network, const fab_setting_t *all, int32_t count,
                           fab_problems_t *problems)
{
    fab_network_t *made = &self->networks[network];
    fab_setting_t *settings = malloc(((size_t)count + 1) * sizeof *settings);
    if (!settings)
        return FAB_E_MEMORY;
    int32_t n = 0;
    for (int32_t i = 0; i < count; i++)
        if (all[i].network == (int32_t)network && !is_storage(&all[i]))
            settings[n++] = all[i];
    const int32_t before = problems->count;
    configure(made, network, settings, n, problems);
    int code = problems->count > before ? FAB_E_CONFIG : FAB_OK;
    if (!code && self->net.network_count)
        code = fab_route_compile(&self->net, network, &made->route_config, NULL, problems, &made->route);
    if (!code && self->net.network_count && made->switch_config.link.credit)
        code = fab_route_check_loops(&self->net, network, &made->route, (uint32_t)made->switch_config.data_class_count,
                                     problems);
    if (!code && self->net.network_count)
        code = made->switch_ops->check(&made->switch_config, &self->net, problems);
    free(settings);
    return code;
}

/* Compiles the file systems. */
static int compile_stores(fab_model_t *self, const fab_setting_t *settings, int32_t count,
                          const fab_topology_t *topology, fab_problems_t *problems)
{
    const uint32_t classes = (uint32_t)self->networks[0].switch_config.data_class_count;
    int code = FAB_OK;
    for (int32_t s = 0; s < topology->store_count && !code; s++) {
        self->store_count = (uint32_t)s + 1;
        code = fab_store_compile(&topology->stores[s], s, settings, count, &self->net, classes, problems,
                                 &self->stores[s]);
        if (!code && self->stores[s].values[FAB_STORE_DATA_CLASS] != self->stores[0].values[FAB_STORE_DATA_CLASS]) {
            fab_problems_add(problems, "store %d: its data class is not that of store 0", s);
            code = FAB_E_CONFIG;
        }
    }
    return code;
}

int fab_model_new(const fab_topology_t *topology, const fab_setting_t *settings, int32_t setting_count,
                  fab_problems_t *problems, fab_model_t **model_out)
{
    fab_model_t *self = calloc(1, sizeof *self);
    if (!self)
        return FAB_E_MEMORY;
    const int32_t store_count = topology->store_count;
    if (store_count < 0 || store_count > FAB_STORES_MAX)
        fab_problems_add(problems, "stores: found %d, allowed 0 to %d", store_count, FAB_STORES_MAX);
    else
        check_names(settings, setting_count, store_count, problems);
    int code = problems->count ? FAB_E_CONFIG : FAB_OK;
    const int net_code = fab_net_compile(topology, problems, &self->net);
    /* settings are looked at even if the topology is none: all problems at once */
    const uint32_t networks = self->net.network_count ? self->net.network_count : 1;
    for (uint32_t w = 0; w < networks && !code; w++)
        code = compile_network(self, w, settings, setting_count, problems);
    if (!code)
        code = net_code;
    if (!code)
        code = compile_stores(self, settings, setting_count, topology, problems);
    if (!code)
        code = copy_coll_settings(self, settings, setting_count);
    if (code) {
        fab_model_free(self);
        return code;
    }
    *model_out = self;
    return FAB_OK;
}

void fab_model_free(fab_model_t *self)
{
    if (!self)
        return;
    for (int32_t i = 0; self->coll_settings && i < self->coll_setting_count; i++) {
        fab_setting_t *s = &self->coll_settings[i];
        for (int32_t j = 0; s->names && j < s->count; j++)
            free((void *)s->names[j]);
        free((void *)s->names);
        free((void *)s->values);
        free((void *)s->impl);
    }
    free(self->coll_settings);
    for (uint32_t w = 0; w < FAB_NETWORKS_MAX; w++)
        fab_route_free(&self->networks[w].route);
    for (uint32_t s = 0; s < self->store_count; s++)
        fab_store_config_free(&self->stores[s]);
    fab_net_free(&self->net);
    free(self);
}

void fab_model_info(const fab_model_t *self, fab_model_info_t *info_out)
{
    const fab_net_t *net = &self->net;
    *info_out = (fab_model_info_t){
        .lookahead_ps = net->lookahead_ps,
        .node_count = (int32_t)(net->host_count + net->switch_count),
        .host_count = (int32_t)net->host_count,
        .link_count = (int32_t)net->link_count,
        .colour_count = (int32_t)net->colour_count,
        .memory_bytes = (int64_t)net->slot_count * 32 + (int64_t)net->link_count * 37,
    };
    for (uint32_t w = 0; w < net->network_count; w++) {
        info_out->arithmetic_switch_count += (int32_t)self->networks[w].route.arithmetic_count;
        info_out->memory_bytes += self->networks[w].route.memory_bytes;
    }
}

/* Only if no output is faster than the input: else it could run out of bits in the middle. Of an input that is ever
 * slower its lowest rate counts. */
bool fab_model_cuts_through(const fab_model_t *self, const int64_t *least_mbps, uint32_t link)
{
    const fab_net_t *net = &self->net;
    const fab_switch_config_t *config = &self->networks[net->link_network[link]].switch_config;
    const fab_node_t *node = &net->nodes[net->rx_slot[link]];
    const int64_t rate_mbps = least_mbps ? least_mbps[link] : net->rate_mbps[link];
    if (!node->is_switch || config->always_cut_through)
        return node->is_switch;
    for (uint32_t p = 0; config->cut_through && p < node->port_count; p++)
        if (net->rate_mbps[net->out_link[node->first_link + p]] > rate_mbps)
            return false;
    return config->cut_through;
}

int32_t fab_model_path(const fab_model_t *self, int32_t src, int32_t dst, int32_t entropy, int32_t *links_out,
                       int32_t limit)
{
    const fab_net_t *net = &self->net;
    const int32_t hosts = (int32_t)net->host_count;
    if (src < 0 || dst < 0 || src >= hosts || dst >= hosts || src == dst)
        return 0;
    const int32_t network = fab_net_between(net, (uint32_t)src, (uint32_t)dst);
    if (network < 0)
        return 0;
    const fab_route_t *route = &self->networks[network].route;
    uint32_t link = net->out_link[net->host_link[network][src]];
    for (int32_t count = 0;; count++) {
        const fab_node_t *node = &net->nodes[net->rx_slot[link]];
        if (count < limit)
            links_out[count] = (int32_t)net->link_name[link];
        if (!node->is_switch)
            return count + 1;
        const uint32_t port =
            fab_route_port(route, &route->rules[node->index], (uint32_t)dst, (uint32_t)entropy & UINT16_MAX);
        if (port == FAB_NONE)
            return 0;
        link = net->out_link[node->first_link + port];
    }
}

/* Numbers of queue pairs have 16 bits. */
static bool check_queue_pairs(const fab_net_t *net, const fab_connections_t *connections, uint32_t qp_count,
                              fab_problems_t *problems)
{
    for (uint32_t h = 0; h < net->host_count; h++) {
        const uint64_t out = connections->tx_first[h + 1] - connections->tx_first[h],
                       in = connections->rx_first[h + 1] - connections->rx_first[h];
        if ((out > in ? out : in) * qp_count > UINT16_MAX) {
            fab_problems_add(problems,
                             "transport.qp_count: host %u has %" PRIu64 " connections out and %" PRIu64
                             " in, with %u queue pairs each, allowed %d queue pairs",
                             h, out, in, qp_count, UINT16_MAX);
            return false;
        }
    }
    return true;
}

int fab_program_new(const fab_model_t *model, const fab_table_t *table, const int32_t *rank_host, int32_t rank_count,
                    const fab_collectives_t *collectives, fab_problems_t *problems, fab_program_t **program_out)
{
    int64_t classes = 1;
    for (uint32_t w = 0; w < model->net.network_count; w++)
        classes = fab_max_i64(classes, model->networks[w].switch_config.data_class_count);
    fab_program_t *program = NULL;
    const int code = fab_program_compile(&model->net, (uint32_t)classes, model->coll_settings,
                                         model->coll_setting_count, model->stores, model->store_count, table, rank_host,
                                         rank_count, collectives, problems, &program);
    if (code)
        return code;
    for (uint32_t w = 0; w < model->net.network_count; w++)
        if (!check_queue_pairs(&model->net, &program->connections[w], model->networks[w].transport_config.qp_count,
                               problems)) {
            fab_program_free(program);
            return FAB_E_CONFIG;
        }
    *program_out = program;
    return FAB_OK;
}
