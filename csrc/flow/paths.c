/* Finds the ways of connections: link by link as the switches route, or stage by stage where packets are spread. */
#include "flow/paths.h"

#include <stdlib.h>
#include <string.h>

int fab_paths_new(const fab_model_t *model, fab_paths_t *self)
{
    const fab_net_t *net = &model->net;
    *self = (fab_paths_t){
        .model = model,
        .resource_count = net->link_count,
        .resource_capacity = net->link_count + 64,
        .ps_per_byte = malloc((net->link_count + (size_t)64) * sizeof *self->ps_per_byte),
        .seen = calloc(net->slot_count + (size_t)1, sizeof *self->seen),
        .cuts = malloc((net->link_count + (size_t)1) * sizeof *self->cuts),
    };
    for (int i = 0; i < 3; i++)
        self->scratch[i] = calloc(net->link_count + net->slot_count + (size_t)1, sizeof *self->scratch[i]);
    if (!self->ps_per_byte || !self->seen || !self->cuts || !self->scratch[0] || !self->scratch[1] ||
        !self->scratch[2]) {
        fab_paths_free(self);
        return FAB_E_MEMORY;
    }
    const fab_torus_t *torus = model->networks[0].route.torus;
    for (uint32_t c = 0; torus && c < FAB_TORUS_CHOICES; c++)
        self->torus_entropy[c] = (uint16_t)fab_torus_entropy(torus, c);
    for (uint32_t l = 0; l < net->link_count; l++) {
        self->cuts[l] = fab_model_cuts_through(model, NULL, l);
        self->ps_per_byte[l] = (double)fab_wire_ps_per_byte_q16(net->rate_mbps[l]) / (double)FAB_WIRE_ONE;
    }
    return FAB_OK;
}

void fab_paths_free(fab_paths_t *self)
{
    free(self->ps_per_byte);
    free(self->stages);
    free(self->members);
    fab_map_free(&self->by_links);
    free(self->seen);
    free(self->cuts);
    for (int i = 0; i < 3; i++)
        free(self->scratch[i]);
    *self = (fab_paths_t){0};
}

bool fab_paths_spread(const fab_paths_t *self, int32_t network)
{
    const fab_network_t *n = &self->model->networks[network];
    return n->route_config.reorder || n->transport_ops->takes_many_paths;
}

bool fab_paths_hashed(const fab_paths_t *self, int32_t network)
{
    const fab_route_t *route = &self->model->networks[network].route;
    return !fab_paths_spread(self, network) && !route->place && !route->torus;
}

/* ---- stages ------------------------------------------------------------------------------------- */

static bool same_links(const fab_paths_t *self, uint32_t stage, const uint32_t *links, uint32_t count)
{
    const fab_stage_t *s = &self->stages[stage];
    return s->count == count && memcmp(&self->members[s->first], links, count * sizeof *links) == 0;
}

static bool make_room(fab_paths_t *self, uint32_t count)
{
    const uint32_t stage_count = self->resource_count - self->model->net.link_count;
    if (self->resource_count == self->resource_capacity) {
        const uint32_t capacity = 2 * self->resource_capacity;
        double *longer = realloc(self->ps_per_byte, capacity * sizeof *longer);
        if (!longer)
            return false;
        self->ps_per_byte = longer;
        self->resource_capacity = capacity;
    }
    if (stage_count == self->stage_capacity) {
        const uint32_t capacity = self->stage_capacity ? 2 * self->stage_capacity : 64;
        fab_stage_t *longer = realloc(self->stages, capacity * sizeof *longer);
        if (!longer)
            return false;
        self->stages = longer;
        self->stage_capacity = capacity;
    }
    if (self->member_count + count > self->member_capacity) {
        const uint32_t capacity = 2 * (self->member_count + count);
        uint32_t *longer = realloc(self->members, capacity * sizeof *longer);
        if (!longer)
            return false;
        self->members = longer;
        self->member_capacity = capacity;
    }
    return true;
}

/* The resource that some links are: the link, or their stage; FAB_NONE without memory. */
static uint32_t resource_of(fab_paths_t *self, const uint32_t *links, uint32_t count)
{
    if (count == 1)
        return links[0];
    const uint32_t first_stage = self->model->net.link_count;
    uint64_t hash = count;
    for (uint32_t i = 0; i < count; i++)
        hash = fab_keyed_mix(hash ^ links[i]);
    uint32_t found;
    for (; (found = fab_map_get(&self->by_links, hash)) != FAB_NONE; hash = fab_keyed_mix(hash))
        if (same_links(self, found, links, count))
            return first_stage + found;
    const uint32_t made = self->resource_count - first_stage;
    if (!make_room(self, count) || !fab_map_add(&self->by_links, hash, made))
        return FAB_NONE;
    self->stages[made] = (fab_stage_t){self->member_count, count};
    memcpy(&self->members[self->member_count], links, count * sizeof *links);
    self->member_count += count;
    double bytes_per_ps = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes_per_ps += 1 / self->ps_per_byte[links[i]];
    self->ps_per_byte[self->resource_count] = 1 / bytes_per_ps;
    return self->resource_count++;
}

/* All links that packets to a host may take out of some switches. */
static uint32_t next_links(fab_paths_t *self, const fab_route_t *route, const uint32_t *slots, uint32_t slot_count,
                           uint32_t dst, uint32_t *links_out)
{
    const fab_net_t *net = &self->model->net;
    uint32_t count = 0;
    for (uint32_t s = 0; s < slot_count; s++) {
        const fab_node_t *node = &net->nodes[slots[s]];
        const fab_rule_t *rule = &route->rules[node->index];
        const fab_candidates_t candidates = fab_route_candidates(route, rule, dst);
        for (uint32_t i = 0; i < candidates.count; i++)
            links_out[count++] = net->out_link[node->first_link + fab_candidates_port(candidates, i)];
    }
    return count;
}

/* The nodes at the ends of some links, each once. */
static uint32_t ends_of(fab_paths_t *self, const uint32_t *links, uint32_t count, uint32_t *slots_out)
{
    const fab_net_t *net = &self->model->net;
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t slot = net->rx_slot[links[i]];
        if (!self->seen[slot])
            slots_out[n++] = slot;
        self->seen[slot] = 1;
    }
    for (uint32_t i = 0; i < n; i++)
        self->seen[slots_out[i]] = 0;
    return n;
}

/* ---- ways --------------------------------------------------------------------------------------- */

/* How the first bit and the last of a packet come along, for each byte of it. */
typedef struct {
    double head, tail;
    int64_t delay_ps;
} front_t;

/* Adds a resource to a way; `link` stands for it. */
static void add(const fab_paths_t *self, fab_way_t *way, front_t *front, uint32_t resource, uint32_t link)
{
    const fab_net_t *net = &self->model->net;
    const double wire = self->ps_per_byte[link];
    const uint32_t i = way->count++;
    if (i) { /* the switch before has the head, or must have all: and never runs out of bits */
        const double earliest = front->tail - wire;
        front->head = front->head > earliest ? front->head : earliest;
    }
    way->resource[i] = resource;
    way->share[i] = 1;
    front->tail = front->head + wire;
    front->delay_ps += net->delay_ps[link];
    if (!self->cuts[link])
        front->head = front->tail;
    if (self->ps_per_byte[resource] > way->slowest)
        way->slowest = self->ps_per_byte[resource];
    way->end_delay_ps = front->delay_ps;
    way->end_stored = front->tail;
}

/* Where packets are sent round a torus by several ways each link has its share of them. */
static int add_other_ways(fab_paths_t *self, uint32_t dst, fab_way_t *way)
{
    const fab_net_t *net = &self->model->net;
    const fab_route_t *route = &self->model->networks[way->network].route;
    uint32_t *place = self->scratch[2]; /* by link; only of those on the way it is true */
    const uint32_t first = net->rx_slot[way->resource[0]], last = way->resource[--way->count];
    for (uint32_t i = 0; i < way->count; i++) {
        place[way->resource[i]] = i;
        way->share[i] = i ? 1.0 / FAB_TORUS_CHOICES : 1;
    }
    for (uint32_t c = 1; c < FAB_TORUS_CHOICES; c++) {
        for (uint32_t slot = first; net->nodes[slot].is_switch;) {
            const fab_node_t *node = &net->nodes[slot];
            const uint32_t port = fab_route_port(route, &route->rules[node->index], dst, self->torus_entropy[c]);
            if (port == FAB_NONE)
                return FAB_E_INTERNAL;
            const uint32_t l = net->out_link[node->first_link + port];
            slot = net->rx_slot[l];
            if (l == last)
                break;
            uint32_t at = place[l];
            if (at >= way->count || way->resource[at] != l) {
                if (way->count + 1 == FAB_WAY_MOST)
                    return FAB_E_INTERNAL;
                at = place[l] = way->count++;
                way->resource[at] = l;
                way->share[at] = 0;
            }
            way->share[at] += 1.0 / FAB_TORUS_CHOICES;
        }
    }
    way->resource[way->count] = last;
    way->share[way->count++] = 1;
    return FAB_OK;
}

int fab_paths_find(fab_paths_t *self, uint32_t src, uint32_t dst, int32_t network, uint16_t entropy, fab_way_t *way_out)
{
    const fab_net_t *net = &self->model->net;
    const fab_route_t *route = &self->model->networks[network].route;
    const bool round = route->torus && fab_paths_spread(self, network);
    const bool spread = !round && fab_paths_spread(self, network);
    if (round)
        entropy = self->torus_entropy[0];
    way_out->count = 0;
    way_out->slowest = 0;
    way_out->network = network;
    front_t front = {0};
    uint32_t *links = self->scratch[0], *slots = self->scratch[1];
    links[0] = net->out_link[net->host_link[network][src]];
    add(self, way_out, &front, links[0], links[0]);
    uint32_t slot_count = 1;
    slots[0] = net->rx_slot[links[0]];
    while (slot_count && net->nodes[slots[0]].is_switch) {
        uint32_t count = 1;
        if (spread) {
            count = next_links(self, route, slots, slot_count, dst, links);
        } else {
            const fab_node_t *node = &net->nodes[slots[0]];
            const uint32_t port = fab_route_port(route, &route->rules[node->index], dst, entropy);
            count = port != FAB_NONE;
            if (count)
                links[0] = net->out_link[node->first_link + port];
        }
        if (!count || way_out->count == FAB_WAY_MOST)
            return FAB_E_INTERNAL;
        const uint32_t resource = resource_of(self, links, count);
        if (resource == FAB_NONE)
            return FAB_E_MEMORY;
        add(self, way_out, &front, resource, links[0]);
        slot_count = ends_of(self, links, count, slots);
    }
    return round ? add_other_ways(self, dst, way_out) : FAB_OK;
}
