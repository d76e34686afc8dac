/* Compiles the file systems of a model: the chosen layout and target with their parameters, servers, layouts, what is
 * slow and what fails. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim/list.h"
#include "sim/model.h"

static const char *chosen(const char *room, const char *standard, int32_t store, const fab_setting_t *settings,
                          int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        if (strcmp(settings[i].room, room) == 0 && settings[i].network == store)
            return settings[i].impl;
    return standard;
}

/* The values of a store's or a target's table: defaults, then the settings of this file system alone. */
static int resolve(const char *room, const fab_impl_t *impl, int32_t store, const fab_setting_t *settings,
                   int32_t count, int64_t *values_out, fab_problems_t *problems)
{
    fab_setting_t *own = malloc(((size_t)count + 1) * sizeof *own);
    if (!own)
        return FAB_E_MEMORY;
    int32_t n = 0;
    for (int32_t i = 0; i < count; i++)
        if (strcmp(settings[i].room, room) == 0 && settings[i].network == store)
            own[n++] = settings[i];
    fab_param_resolve(room, impl->impl, impl->params, own, n, values_out, problems);
    free(own);
    return FAB_OK;
}

static bool is_host(const fab_net_t *net, int32_t host) { return host >= 0 && host < (int32_t)net->host_count; }

static int read_servers(fab_store_config_t *self, const fab_store_spec_t *spec, int32_t store, const fab_net_t *net,
                        fab_problems_t *problems)
{
    const bool local = self->layout_ops->per_client;
    if (spec->data_count < 0 || spec->meta_count < 0 || spec->target_count < 0 ||
        (local ? spec->data_count + spec->meta_count + spec->target_count != 0
               : spec->data_count == 0 || spec->target_count == 0)) {
        fab_problems_add(problems, "store %d: found %d data servers, %d metadata servers and %d targets, allowed: %s",
                         store, spec->data_count, spec->meta_count, spec->target_count,
                         local ? "none, as each client has its own" : "at least 1 data server and 1 target");
        return FAB_E_CONFIG;
    }
    self->data_count = local ? 1 : (uint32_t)spec->data_count;
    self->meta_count = (uint32_t)spec->meta_count;
    self->target_count = local ? 1 : (uint32_t)spec->target_count;
    const uint32_t servers = self->data_count + self->meta_count;
    self->server_host = malloc(servers * sizeof *self->server_host);
    self->server_partner = malloc(servers * sizeof *self->server_partner);
    self->target_server = calloc(self->target_count, sizeof *self->target_server);
    if (!self->server_host || !self->server_partner || !self->target_server)
        return FAB_E_MEMORY;
    self->server_host[0] = self->server_partner[0] = FAB_NONE;
    for (uint32_t i = 0; !local && i < servers; i++) {
        const int32_t host = spec->server_host[i], partner = spec->server_partner ? spec->server_partner[i] : -1;
        if (!is_host(net, host))
            fab_problems_add(problems, "store %d: server %u: found host %d, allowed 0 to %u", store, i, host,
                             net->host_count - 1);
        if (partner < -1 || partner >= (int32_t)servers)
            fab_problems_add(problems, "store %d: server %u: found partner %d, allowed -1 to %u", store, i, partner,
                             servers - 1);
        self->server_host[i] = (uint32_t)host;
        self->server_partner[i] = partner < 0 ? FAB_NONE : (uint32_t)partner;
    }
    for (uint32_t t = 0; !local && t < self->target_count; t++) {
        if (spec->target_server[t] < 0 || spec->target_server[t] >= spec->data_count)
            fab_problems_add(problems, "store %d: target %u: found server %d, allowed 0 to %d", store, t,
                             spec->target_server[t], spec->data_count - 1);
        self->target_server[t] = (uint32_t)spec->target_server[t];
    }
    return FAB_OK;
}

static void check_row(const fab_store_config_t *self, const fab_layout_row_t *row, int32_t store, int32_t i,
                      fab_problems_t *problems)
{
    const int64_t end = row->end_bytes < 0 ? INT64_MAX : row->end_bytes;
    if (row->layout < 0 || row->mirror < 0 || row->mirror >= FAB_LAYOUT_MIRRORS_MAX)
        fab_problems_add(problems, "store %d: layout row %d: found layout %d, mirror %d, allowed 0 up, and 0 to %d",
                         store, i, row->layout, row->mirror, FAB_LAYOUT_MIRRORS_MAX - 1);
    if (row->begin_bytes < 0 || end <= row->begin_bytes)
        fab_problems_add(problems, "store %d: layout row %d: found bytes %" PRId64 " to %" PRId64 ", allowed: a range",
                         store, i, row->begin_bytes, row->end_bytes);
    if (row->stripe_bytes < 4096 || row->stripe_bytes % 4096)
        fab_problems_add(problems,
                         "store %d: layout row %d: stripe_bytes: found %" PRId64 ", allowed: multiples of 4096", store,
                         i, row->stripe_bytes);
    if (row->stripe_count == 0 || row->stripe_count < -1 || row->stripe_count > 2000)
        fab_problems_add(problems, "store %d: layout row %d: stripe_count: found %d, allowed: -1, 1 to 2000", store, i,
                         row->stripe_count);
    if (row->first_target < -1 || row->first_target >= (int32_t)self->target_count)
        fab_problems_add(problems, "store %d: layout row %d: first_target: found %d, allowed -1 to %u", store, i,
                         row->first_target, self->target_count - 1);
    if (row->on_meta && self->meta_count == 0)
        fab_problems_add(problems, "store %d: layout row %d: on_meta needs a metadata server", store, i);
}

/* Rows of a layout cover each mirror without a gap, from 0 to the end of the file. */
static int read_layouts(fab_store_config_t *self, const fab_store_spec_t *spec, int32_t store, fab_problems_t *problems)
{
    if (!self->layout_ops->standard) {
        if (spec->layout_row_count)
            fab_problems_add(problems, "store %d: files of %s have no layouts", store, self->layout_ops->impl.impl);
        return FAB_OK;
    }
    int32_t count = 1;
    for (int32_t i = 0; i < spec->layout_row_count; i++)
        count = spec->layouts[i].layout >= count ? spec->layouts[i].layout + 1 : count;
    self->layouts = calloc((size_t)count, sizeof *self->layouts);
    if (!self->layouts)
        return FAB_E_MEMORY;
    self->layout_count = (uint32_t)count;
    for (int32_t i = 0; i < spec->layout_row_count; i++) {
        const fab_layout_row_t *row = &spec->layouts[i];
        const int32_t before = problems->count;
        check_row(self, row, store, i, problems);
        if (problems->count > before)
            continue;
        fab_layout_t *layout = &self->layouts[row->layout];
        if (layout->component_count == FAB_LAYOUT_COMPONENTS_MAX) {
            fab_problems_add(problems, "store %d: layout %d: has more than %d components", store, row->layout,
                             FAB_LAYOUT_COMPONENTS_MAX);
            continue;
        }
        const fab_layout_component_t *last =
            layout->component_count ? &layout->components[layout->component_count - 1] : NULL;
        const int64_t joins = last && last->mirror == row->mirror ? last->end : 0;
        if (row->begin_bytes != joins || (last && last->mirror != row->mirror && last->end != INT64_MAX))
            fab_problems_add(problems,
                             "store %d: layout row %d: begins at %" PRId64 ", allowed %" PRId64
                             ": components follow one another to the end of the file",
                             store, i, row->begin_bytes, joins);
        const bool on_meta = row->on_meta != 0;
        layout->components[layout->component_count++] = (fab_layout_component_t){
            .begin = row->begin_bytes,
            .end = row->end_bytes < 0 ? INT64_MAX : row->end_bytes,
            .stripe_bytes = row->stripe_bytes,
            .stripe_count = on_meta                 ? 1
                            : row->stripe_count < 0 ? self->target_count
                                                    : (uint32_t)row->stripe_count,
            .first_target = row->first_target < 0 ? FAB_NONE : (uint32_t)row->first_target,
            .mirror = (uint8_t)row->mirror,
            .on_meta = on_meta,
        };
        layout->mirror_count = (uint32_t)row->mirror + 1;
    }
    if (self->layouts[0].component_count == 0)
        self->layout_ops->standard(self, &self->layouts[0]);
    for (int32_t l = 0; l < count; l++) {
        const fab_layout_t *layout = &self->layouts[l];
        for (uint32_t c = 0; c < layout->component_count; c++)
            if (layout->components[c].stripe_count == 0)
                fab_problems_add(problems, "store %d: layout %d: stripe_count: found 0, allowed: -1, 1 to 2000", store,
                                 l);
        if (layout->component_count == 0 || layout->components[layout->component_count - 1].end != INT64_MAX)
            fab_problems_add(problems, "store %d: layout %d: does not reach the end of the file", store, l);
    }
    return FAB_OK;
}

static int compare_slow(const void *a, const void *b)
{
    const fab_store_slow_t *x = a, *y = b;
    if (x->target != y->target)
        return x->target < y->target ? -1 : 1;
    return x->when_ps < y->when_ps ? -1 : x->when_ps > y->when_ps;
}

static int compare_failures(const void *a, const void *b)
{
    const fab_store_failure_t *x = a, *y = b;
    if (x->when_ps != y->when_ps)
        return x->when_ps < y->when_ps ? -1 : 1;
    return x->server < y->server ? -1 : x->server > y->server;
}

static int read_troubles(fab_store_config_t *self, const fab_store_spec_t *spec, int32_t store, const fab_net_t *net,
                         fab_problems_t *problems)
{
    self->slow = calloc((size_t)spec->slow_count + 1, sizeof *self->slow);
    self->failures = calloc((size_t)spec->failure_count + 1, sizeof *self->failures);
    if (!self->slow || !self->failures)
        return FAB_E_MEMORY;
    self->slow_count = (uint32_t)spec->slow_count;
    self->failure_count = (uint32_t)spec->failure_count;
    const uint32_t targets = self->target_count + self->meta_count, servers = fab_store_server_count(self);
    for (int32_t i = 0; i < spec->slow_count; i++) {
        const int64_t *row = &spec->slow[3 * i];
        if (row[0] < 0 || row[1] < 0 || row[1] >= targets || row[2] < 1 || row[2] > 1000000000)
            fab_problems_add(problems,
                             "store %d: slow %d: found time %" PRId64 " ps, target %" PRId64 ", %" PRId64
                             " ppm, allowed: 0 up, 0 to %u, 1 to 10^9",
                             store, i, row[0], row[1], row[2], targets - 1);
        self->slow[i] = (fab_store_slow_t){row[0], (uint32_t)row[1], (uint32_t)row[2]};
    }
    for (int32_t i = 0; i < spec->failure_count; i++) {
        const int64_t *row = &spec->failures[3 * i];
        if (row[0] < 0 || row[1] < 0 || row[1] >= servers || row[2] < row[0] + net->lookahead_ps ||
            row[2] >= FAB_NEVER / 2)
            fab_problems_add(problems,
                             "store %d: failure %d: found time %" PRId64 " ps, server %" PRId64 ", up again %" PRId64
                             " ps, allowed: 0 up, 0 to %u, at least %" PRId64 " ps later",
                             store, i, row[0], row[1], row[2], servers - 1, net->lookahead_ps);
        self->failures[i] = (fab_store_failure_t){row[0], (uint32_t)row[1], row[2]};
    }
    if (self->failure_count && (self->layout_ops->per_client || self->layout_ops->spread))
        fab_problems_add(problems, "store %d: servers of %s do not fail by themselves", store,
                         self->layout_ops->impl.impl);
    qsort(self->slow, self->slow_count, sizeof *self->slow, compare_slow);
    qsort(self->failures, self->failure_count, sizeof *self->failures, compare_failures);
    for (uint32_t i = 0; i < self->failure_count; i++)
        for (uint32_t j = i + 1; j < self->failure_count && self->failures[j].when_ps < self->failures[i].up_ps; j++)
            if (self->failures[j].server == self->failures[i].server)
                fab_problems_add(problems, "store %d: server %u fails at %" PRId64 " ps while it is down", store,
                                 self->failures[i].server, self->failures[j].when_ps);
    return FAB_OK;
}

int fab_store_compile(const fab_store_spec_t *spec, int32_t store, const fab_setting_t *settings, int32_t count,
                      const fab_net_t *net, uint32_t data_class_count, fab_problems_t *problems,
                      fab_store_config_t *self)
{
    const int32_t before = problems->count;
    const char *layout = chosen("store", "lustre", store, settings, count);
    const char *target = chosen("target", "flash", store, settings, count);
    for (const fab_layout_ops_t *const *l = fab_list_layouts; *l; l++)
        if (strcmp((*l)->impl.impl, layout) == 0)
            self->layout_ops = *l;
    for (const fab_target_ops_t *const *t = fab_list_targets; *t; t++)
        if (strcmp((*t)->impl.impl, target) == 0)
            self->target_ops = *t;
    if (!self->layout_ops || !self->target_ops) {
        fab_problems_add(problems, "store %d: no such file system as %s on %s", store, layout, target);
        return FAB_E_CONFIG;
    }
    int code = resolve("store", &self->layout_ops->impl, store, settings, count, self->values, problems);
    if (!code && self->layout_ops->derive)
        self->layout_ops->derive(self->values);
    if (!code)
        code = resolve("target", &self->target_ops->impl, store, settings, count, self->target_values, problems);
    if (!code)
        code = read_servers(self, spec, store, net, problems);
    if (!code)
        code = read_layouts(self, spec, store, problems);
    if (!code)
        code = read_troubles(self, spec, store, net, problems);
    if (!code && self->values[FAB_STORE_DATA_CLASS] >= data_class_count)
        fab_problems_add(problems,
                         "store.%s.data_class: found %" PRId64 ", allowed 0 to %u: see switch.data_class_count", layout,
                         self->values[FAB_STORE_DATA_CLASS], data_class_count - 1);
    if (!code && problems->count > before)
        code = FAB_E_CONFIG;
    return code;
}

void fab_store_config_free(fab_store_config_t *self)
{
    free(self->server_host);
    free(self->server_partner);
    free(self->target_server);
    free(self->layouts);
    free(self->slow);
    free(self->failures);
    *self = (fab_store_config_t){0};
}
