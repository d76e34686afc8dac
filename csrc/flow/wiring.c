/* Collects the connections of a group and their ways. */
#include "flow/wiring.h"

#include <stdlib.h>
#include <string.h>

#include "core/grow.h"
#include "transport/flow.h"

static bool start(fab_wiring_t *self, const fab_paths_t *paths, uint32_t position_count)
{
    self->edge_count = self->lead_count = self->stop_count = self->local_count = 0;
    self->position_count = position_count;
    self->qp_count = 1;
    self->signature = position_count;
    self->no_memory = self->hides = false;
    if (!fab_grow(&self->edge_first, &self->position_capacity, position_count + 1, sizeof *self->edge_first))
        return false;
    const uint32_t before = self->resource_capacity;
    if (!fab_grow(&self->local_of, &self->resource_capacity, paths->resource_count, sizeof *self->local_of))
        return false;
    for (uint32_t r = before; r < self->resource_capacity; r++)
        self->local_of[r] = FAB_NONE;
    return true;
}

static void mix(fab_wiring_t *self, uint64_t value) { self->signature = fab_keyed_mix(self->signature ^ value); }

static void mix_real(fab_wiring_t *self, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    mix(self, bits);
}

/* The dry run's number of a resource. */
static uint32_t local(fab_wiring_t *self, const fab_paths_t *paths, uint32_t resource)
{
    const uint32_t before = self->resource_capacity;
    if (!fab_grow(&self->local_of, &self->resource_capacity, resource + 1, sizeof *self->local_of)) {
        self->no_memory = true;
        return FAB_NONE;
    }
    for (uint32_t r = before; r < self->resource_capacity; r++) /* stages that this group made */
        self->local_of[r] = FAB_NONE;
    if (self->local_of[resource] != FAB_NONE)
        return self->local_of[resource];
    if (!fab_grow(&self->local_wire, &self->local_capacity, self->local_count + 1, sizeof *self->local_wire)) {
        self->no_memory = true;
        return FAB_NONE;
    }
    self->local_wire[self->local_count] = paths->ps_per_byte[resource];
    return self->local_of[resource] = self->local_count++;
}

/* Adds a way. */
static int add_lead(fab_wiring_t *self, const fab_paths_t *paths, const fab_way_t *way, bool all_stops)
{
    if (!fab_grow(&self->leads, &self->lead_capacity, self->lead_count + 1, sizeof *self->leads) ||
        !fab_grow(&self->stops, &self->stop_capacity, self->stop_count + way->count, sizeof *self->stops))
        return FAB_E_MEMORY;
    self->leads[self->lead_count++] =
        (fab_lead_t){self->stop_count, way->count, way->end_delay_ps, way->end_stored, way->slowest};
    mix(self, (uint64_t)way->end_delay_ps);
    mix_real(self, way->end_stored);
    mix_real(self, way->slowest);
    for (uint32_t i = 0; i < way->count; i++) {
        const bool seen = all_stops || i == 0 || i + 1 == way->count;
        self->hides |= !seen;
        self->stops[self->stop_count++] = (fab_stop_t){
            .resource = way->resource[i],
            .local = seen ? local(self, paths, way->resource[i]) : FAB_NONE,
            .share = way->share[i],
        };
        if (seen) {
            mix(self, self->stops[self->stop_count - 1].local);
            mix_real(self, paths->ps_per_byte[way->resource[i]]);
            mix_real(self, way->share[i]);
        }
    }
    return FAB_OK;
}

static uint16_t entropy_of(uint64_t seed, uint32_t src, uint32_t dst, int32_t lane, uint32_t channel, uint32_t which)
{
    return (uint16_t)fab_flow_draw(seed, src, dst, lane, channel, which);
}

/* Adds a connection: its ways there, and those of its answers. */
static int add_edge(fab_wiring_t *self, fab_paths_t *paths, fab_edge_t edge, uint32_t src, uint32_t dst, int32_t lane,
                    uint64_t seed)
{
    const int32_t network = fab_net_between(&paths->model->net, src, dst);
    if (network < 0)
        return FAB_E_INTERNAL;
    const fab_network_t *n = &paths->model->networks[network];
    const fab_transport_config_t *config = &n->transport_config;
    const uint32_t qps = config->qp_count > 1 ? config->qp_count : 1;
    const bool all_stops = !self->ends_only || !fab_paths_hashed(paths, network);
    edge.network = (int8_t)network;
    edge.first_lead = self->lead_count;
    self->qp_count = qps > self->qp_count ? qps : self->qp_count;
    mix(self, edge.from | (uint64_t)edge.to << 24 | (uint64_t)edge.channel << 48 | (uint64_t)network << 60);
    for (uint32_t qp = 0; qp < qps; qp++) {
        fab_way_t there, back;
        int code =
            fab_paths_find(paths, src, dst, network,
                           entropy_of(seed, src, dst, lane, edge.channel, FAB_FLOW_DRAWS * qp + FAB_FLOW_DATA), &there);
        if (!code)
            code = fab_paths_find(
                paths, dst, src, network,
                entropy_of(seed, src, dst, lane, edge.channel, FAB_FLOW_DRAWS * qp + FAB_FLOW_ANSWERS), &back);
        if (code)
            return code;
        const fab_wire_need_t one = n->transport_ops->need(config, 1);
        edge.back_ps = fab_way_ps(&back, one.answer_bytes, one.answer_bytes);
        if (config->window_bytes) {
            const fab_wire_need_t full = n->transport_ops->need(config, config->window_bytes);
            const int64_t round_ps = fab_way_ps(&there, full.packet_bytes, full.packet_bytes) + edge.back_ps;
            edge.window = (double)round_ps / (double)full.wire_bytes;
        }
        mix(self, (uint64_t)edge.back_ps);
        mix_real(self, edge.window);
        if ((code = add_lead(self, paths, &there, all_stops)) || (code = add_lead(self, paths, &back, all_stops)))
            return code;
    }
    if (!fab_grow(&self->edges, &self->edge_capacity, self->edge_count + 1, sizeof *self->edges))
        return FAB_E_MEMORY;
    self->edges[self->edge_count++] = edge;
    return self->no_memory ? FAB_E_MEMORY : FAB_OK;
}

static void finish(fab_wiring_t *self)
{
    for (uint32_t h = 0; h < self->stop_count; h++)
        self->local_of[self->stops[h].resource] = FAB_NONE;
}

/* What peers() is called with. */
typedef struct {
    fab_wiring_t *wiring;
    fab_paths_t *paths;
    const fab_party_t *party;
    uint32_t from, from_host;
    int code;
} emit_t;

static void emit(void *context, uint32_t position, uint32_t channel)
{
    emit_t *e = context;
    if (e->code)
        return;
    const fab_edge_t edge = {.from = e->from, .to = position, .channel = channel};
    e->code =
        add_edge(e->wiring, e->paths, edge, e->from_host,
                 fab_program_host_at(e->party->program, e->party->group, position), e->party->lane, e->party->seed);
}

int fab_wiring_collective(fab_wiring_t *self, fab_paths_t *paths, const fab_party_t *party)
{
    const fab_program_t *program = party->program;
    const fab_coll_ops_t *algorithm = fab_party_algorithm(party);
    const uint32_t positions = fab_program_positions(program, party->group);
    if (!start(self, paths, positions))
        return FAB_E_MEMORY;
    emit_t e = {self, paths, party, 0, 0, FAB_OK};
    for (uint32_t p = 0; p < positions && !e.code; p++) {
        const fab_coll_t coll = fab_party_coll(party, p);
        self->edge_first[p] = self->edge_count;
        e.from = p;
        e.from_host = fab_program_host_at(program, party->group, p);
        algorithm->peers(&coll, emit, &e);
    }
    self->edge_first[positions] = self->edge_count;
    finish(self);
    return e.code;
}

int fab_wiring_pair(fab_wiring_t *self, fab_paths_t *paths, uint32_t src_host, uint32_t dst_host, int32_t lane,
                    uint64_t seed)
{
    if (!start(self, paths, 2))
        return FAB_E_MEMORY;
    self->edge_first[0] = 0;
    const int code = add_edge(self, paths, (fab_edge_t){.from = 0, .to = 1}, src_host, dst_host, lane, seed);
    self->edge_first[1] = self->edge_first[2] = self->edge_count;
    finish(self);
    return code;
}

void fab_wiring_free(fab_wiring_t *self)
{
    free(self->edges);
    free(self->edge_first);
    free(self->leads);
    free(self->stops);
    free(self->local_wire);
    free(self->local_of);
    *self = (fab_wiring_t){0};
}
