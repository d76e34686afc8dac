/* The input-buffered switch `voq`: its parameters, what is checked, and making its state. */
#include "switch/voq.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    VL_COUNT,
    VL0_WEIGHT,
    VL1_WEIGHT,
    VL2_WEIGHT,
    VL3_WEIGHT,
    VL_HIGH_MASK,
    VL_HIGH_LIMIT,
    INPUT_QUEUE,
    FECN_THRESHOLD,
    FECN_MARKING_RATE,
    FECN_PACKET_SIZE,
    FECN_VICTIM_MASK
};

enum { NO_LIMIT = 255, LIMIT_UNIT_BYTES = 4096, THRESHOLD_STEPS = 16, FIRST_PACKETS = 16 };

#define WEIGHT_MEANING "weight in the VL arbitration table, in 64 bytes"
#define WEIGHT_SOURCE "InfiniBand spec vol. 1, ch. 7.6.9: 0 to 255"

static const fab_param_t params[] = {
    {"vl_count", "", 1, 1, FAB_LANES_MAX, "data virtual lanes; `priority` of a trace chooses",
     "InfiniBand spec vol. 1, ch. 7.6: up to 15"},
    {"vl0_weight", "", 64, 1, 255, WEIGHT_MEANING, WEIGHT_SOURCE},
    {"vl1_weight", "", 64, 1, 255, WEIGHT_MEANING, WEIGHT_SOURCE},
    {"vl2_weight", "", 64, 1, 255, WEIGHT_MEANING, WEIGHT_SOURCE},
    {"vl3_weight", "", 64, 1, 255, WEIGHT_MEANING, WEIGHT_SOURCE},
    {"vl_high_mask", "", 0, 0, 15, "bit set of the lanes of the high-priority table; the others are of the low one",
     "InfiniBand spec vol. 1, ch. 7.6.9"},
    {"vl_high_limit", "", NO_LIMIT, 0, NO_LIMIT,
     "high-priority bytes, in 4096, before low priority gets a chance; 0: a packet; 255: no limit",
     "InfiniBand spec vol. 1, ch. 7.6.9"},
    {"input_queue", "", 0, 0, 1, "1: one queue an input and lane, first in, first out; 0: one for each output too",
     "Karol, Hluchyj and Morgan, IEEE Trans. Commun. 1987"},
    {"fecn_threshold", "", 0, 0, 15,
     "0: no marking; else a queue longer than (16 - this) / 16 of a lane's buffer marks",
     "InfiniBand spec vol. 1, annex A10; the share is this model's"},
    {"fecn_marking_rate", "packets", 0, 0, 65535, "mean number of packets between two marked ones",
     "InfiniBand spec vol. 1, annex A10"},
    {"fecn_packet_size", "", 0, 0, 255, "smaller packets are never marked, in credit blocks",
     "InfiniBand spec vol. 1, annex A10"},
    {"fecn_victim_mask", "", 0, 0, 1,
     "1: also queues whose output has no credits mark; 0: only those that are the root of congestion",
     "InfiniBand spec vol. 1, annex A10"},
    FAB_PARAM_END,
};

static void configure(const int64_t *values, fab_switch_config_t *config_out)
{
    config_out->cut_through = config_out->always_cut_through = true;
    config_out->data_class_count = values[VL_COUNT];
    config_out->lanes = (fab_lanes_t){
        .count = (uint32_t)values[VL_COUNT],
        .high = (uint32_t)values[VL_HIGH_MASK],
        .high_limit_bytes =
            values[VL_HIGH_LIMIT] == NO_LIMIT ? FAB_NEVER : fab_max_i64(values[VL_HIGH_LIMIT] * LIMIT_UNIT_BYTES, 1),
    };
    for (uint32_t lane = 0; lane < FAB_LANES_MAX; lane++)
        config_out->lanes.weight[lane] = (int32_t)values[VL0_WEIGHT + lane];
    config_out->input_queue = values[INPUT_QUEUE];
    config_out->fecn_threshold = values[FECN_THRESHOLD];
    config_out->fecn_marking_rate = values[FECN_MARKING_RATE];
    config_out->fecn_packet_blocks = values[FECN_PACKET_SIZE];
    config_out->fecn_victim_mask = values[FECN_VICTIM_MASK];
}

/* Queues of an output are counted in 32 bits, and all inputs can fill one. */
static void check_buffers(const fab_switch_config_t *config, const fab_net_t *net, fab_problems_t *problems)
{
    for (uint32_t s = 0; s < net->slot_count; s++) {
        const fab_node_t *node = &net->nodes[s];
        int64_t bytes = 0;
        for (uint32_t p = 0; node->is_switch && node->network == config->network && p < node->port_count; p++)
            bytes += fab_credit_buffer_bytes(&config->link, net, node->first_link + p, config->wire_max_bytes);
        if (bytes > UINT32_MAX) {
            fab_problems_add(problems,
                             "link.credit.vl_buffer_bytes: the inputs of switch %u have %" PRId64
                             " bytes for a lane, allowed are %" PRIu32,
                             node->name, bytes, UINT32_MAX);
            return;
        }
    }
}

static int check(const fab_switch_config_t *config, const fab_net_t *net, fab_problems_t *problems)
{
    const int32_t before = problems->count;
    if (!config->link.credit)
        fab_problems_add(problems, "switch.voq: needs credits: choose link.credit");
    else
        fab_credit_check(&config->link, net, config->wire_max_bytes, problems);
    if (problems->count == before)
        check_buffers(config, net, problems);
    return problems->count ? FAB_E_CONFIG : FAB_OK;
}

static bool has_faster_output(const fab_net_t *net, const fab_node_t *node)
{
    int64_t slowest = INT64_MAX, fastest = 0;
    for (uint32_t l = node->first_link; l < node->first_link + node->port_count; l++) {
        slowest = fab_min_i64(slowest, net->rate_mbps[l]);
        fastest = fab_max_i64(fastest, net->rate_mbps[net->out_link[l]]);
    }
    return fastest > slowest;
}

static void *take(fab_switches_t *switches, size_t count, size_t size)
{
    const size_t bytes = (count * size + FAB_CACHE_LINE - 1) / FAB_CACHE_LINE * FAB_CACHE_LINE;
    char *block = aligned_alloc(FAB_CACHE_LINE, bytes);
    for (size_t i = 0; block && i < bytes; i++)
        block[i] = 0;
    switches->memory_bytes += (int64_t)bytes;
    return block;
}

static bool init_switch(fab_switches_t *switches, fab_voq_switch_t *self, const fab_fabric_t *fabric,
                        const fab_node_t *node)
{
    const fab_switch_config_t *config = switches->config;
    const size_t ports = node->port_count, lanes = config->lanes.count, words = (ports + 63) / 64;
    self->port_count = node->port_count;
    self->lane_count = config->lanes.count;
    self->words = (uint32_t)words;
    for (self->levels = 1; 2 * ports > (size_t)1 << self->levels;)
        self->levels++;
    self->free = FAB_VOQ_NONE;
    self->release_ps = FAB_NEVER;
    self->wake_ps = take(switches, ports, sizeof *self->wake_ps);
    self->outputs = take(switches, ports, sizeof *self->outputs);
    self->waiting = take(switches, ports * lanes * words, sizeof *self->waiting);
    self->blocked = take(switches, words, sizeof *self->blocked);
    self->queues = take(switches, ports * lanes * ports, sizeof *self->queues);
    self->in_bytes = take(switches, ports * lanes, sizeof *self->in_bytes);
    if (!self->wake_ps || !self->outputs || !self->waiting || !self->blocked || !self->queues || !self->in_bytes)
        return false;
    for (uint32_t p = 0; p < ports; p++) {
        const uint32_t in_link = node->first_link + p;
        const int64_t buffer_bytes =
            fab_credit_buffer_bytes(&config->link, fabric->net, in_link, config->wire_max_bytes);
        self->wake_ps[p] = FAB_NEVER;
        fab_voq_output_t *output = &self->outputs[p];
        output->link_at = fabric->net->out_link[in_link];
        output->link = &fabric->links[output->link_at];
        output->credit = &fabric->credits[output->link_at];
        output->waiting = &self->waiting[p * lanes * words];
        output->queues = &self->queues[p * lanes * ports];
        output->mark_bytes =
            config->fecn_threshold
                ? (uint32_t)(buffer_bytes * (THRESHOLD_STEPS - config->fecn_threshold) / THRESHOLD_STEPS)
                : UINT32_MAX;
    }
    if (fabric->faults || has_faster_output(fabric->net, node)) { /* rates may change */
        self->held_ps = take(switches, ports, sizeof *self->held_ps);
        self->held_for = take(switches, ports, sizeof *self->held_for);
        if (!self->held_ps || !self->held_for)
            return false;
        for (uint32_t p = 0; p < ports; p++)
            self->held_ps[p] = FAB_NEVER;
    }
    if (config->input_queue) {
        self->inputs = take(switches, ports * lanes, sizeof *self->inputs);
        if (!self->inputs)
            return false;
        for (size_t i = 0; i < ports * lanes; i++)
            self->inputs[i].release_ps = FAB_NEVER;
    }
    return true;
}

static int init(fab_switches_t *switches, const fab_fabric_t *fabric)
{
    const fab_net_t *net = fabric->net;
    switches->voq_switches = calloc(net->switch_count + 1, sizeof *switches->voq_switches);
    if (!switches->voq_switches)
        return FAB_E_MEMORY;
    switches->count = net->switch_count;
    for (uint32_t s = 0; s < net->slot_count; s++) {
        const fab_node_t *node = &net->nodes[s];
        if (!node->is_switch || !node->port_count || node->network != switches->config->network)
            continue;
        fab_voq_switch_t *self = calloc(1, sizeof *self);
        switches->voq_switches[node->index] = self;
        if (!self || !init_switch(switches, self, fabric, node))
            return FAB_E_MEMORY;
        switches->memory_bytes += (int64_t)sizeof *self;
    }
    return FAB_OK;
}

static void end(fab_switches_t *switches)
{
    for (uint32_t i = 0; switches->voq_switches && i < switches->count; i++) {
        fab_voq_switch_t *self = switches->voq_switches[i];
        if (!self)
            continue;
        free(self->wake_ps);
        free(self->outputs);
        free(self->waiting);
        free(self->blocked);
        free(self->queues);
        free(self->in_bytes);
        free(self->held_ps);
        free(self->held_for);
        free(self->inputs);
        free(self); /* the pool of packets is of the workers' pools */
    }
    free(switches->voq_switches);
    switches->voq_switches = NULL;
}

/* After a run: whether all credits have come back. */
static void check_end(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_problems_t *problems)
{
    const fab_net_t *net = fabric->net;
    for (uint32_t l = 0; l < net->link_count; l++) {
        if (net->link_network[l] != switches->config->network)
            continue;
        fab_credit_t *credit = &fabric->credits[l];
        fab_credit_collect(credit, FAB_NEVER);
        for (uint32_t lane = 0; lane < switches->config->lanes.count; lane++)
            if (credit->bytes[lane] != credit->buffer_bytes)
                fab_problems_add(problems, "link %u: lane %u has credits for %u of %u bytes", net->link_name[l], lane,
                                 credit->bytes[lane], credit->buffer_bytes);
    }
    for (uint32_t i = 0; i < switches->count; i++) {
        const fab_voq_switch_t *self = switches->voq_switches[i];
        for (uint32_t p = 0; self && p < self->port_count; p++)
            if (self->outputs[p].lanes || self->outputs[p].blocked || self->wake_ps[p] != FAB_NEVER)
                fab_problems_add(problems, "switch %u: packets wait at output %u", i, p);
    }
}

/* Doubles the pool of packets. */
FAB_NOINLINE bool fab_voq_grow(fab_voq_switch_t *self, fab_worker_t *worker)
{
    const uint32_t old = self->pool_capacity, capacity = old ? 2 * old : FIRST_PACKETS;
    if (capacity >= FAB_VOQ_NONE) {
        worker->error = FAB_E_LIMIT;
        return false;
    }
    fab_packet_t *pool = fab_pool_take(&worker->pool, fab_pool_class(capacity * sizeof *pool));
    uint16_t *output = NULL;
    if (pool && self->inputs)
        output = fab_pool_take(&worker->pool, fab_pool_class(capacity * sizeof *output));
    if (!pool || (self->inputs && !output)) {
        worker->error = FAB_E_MEMORY;
        return false;
    }
    for (uint32_t i = 0; i < old; i++)
        pool[i] = self->pool[i];
    for (uint32_t i = 0; output && i < old; i++)
        output[i] = self->pool_output[i];
    for (uint32_t i = old; i < capacity; i++)
        pool[i].delta_ps = (i + 1 < capacity ? i + 1 : self->free) << FAB_VOQ_LANE_BITS;
    if (old)
        fab_pool_give(&worker->pool, self->pool, fab_pool_class(old * sizeof *pool));
    if (old && output)
        fab_pool_give(&worker->pool, self->pool_output, fab_pool_class(old * sizeof *output));
    self->pool = pool;
    self->pool_output = output;
    self->pool_capacity = capacity;
    self->free = old;
    worker->ring_bytes += (int64_t)((capacity - old) * sizeof *pool);
    return true;
}

const fab_switch_ops_t fab_switch_voq = {
    .impl = {"switch", "voq", "input buffers with virtual output queues, credits, virtual lanes, cut-through", params,
             0},
    .configure = configure,
    .check = check,
    .init = init,
    .free = end,
    .visit = fab_voq_visit,
    .check_end = check_end,
};
