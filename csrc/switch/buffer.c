/* Thresholds of the shared buffer, XOFF and XON. */
#include "switch/buffer.h"

#include <inttypes.h>
#include <stdlib.h>

#include "switch/threshold.h"

int fab_buffer_check(const fab_switch_config_t *config, const fab_net_t *net, fab_problems_t *problems)
{
    const int32_t before = problems->count;
    if (config->link.pause && !(config->link.lossless_classes & 1))
        fab_problems_add(problems, "link.pause.lossless_classes: found %u, but the one data class is class 0 (bit 1)",
                         config->link.lossless_classes);
    fab_threshold_check(config, net, config->link.pause, problems);
    return problems->count > before ? FAB_E_CONFIG : FAB_OK;
}

int fab_buffer_init(fab_switches_t *switches, const fab_fabric_t *fabric)
{
    const fab_switch_config_t *config = switches->config;
    const fab_net_t *net = fabric->net;
    switches->buffers = calloc(net->switch_count + 1, sizeof *switches->buffers);
    if (!switches->buffers)
        return FAB_E_MEMORY;
    switches->count = net->switch_count;
    for (uint32_t s = 0; s < net->slot_count; s++) {
        const fab_node_t *node = &net->nodes[s];
        if (!node->is_switch || !node->port_count || node->network != config->network)
            continue;
        fab_buffer_t *buffer = &switches->buffers[node->index];
        const int64_t ports = node->port_count;
        buffer->shared_bytes = config->buffer_bytes;
        buffer->calm_queue_ps = FAB_NEVER;
        if (!config->link.pause) {
            /* calm: with every queue up to c, c + a frame <= alpha (B - ports c) holds with half to spare */
            const int64_t calm = (fab_threshold_share(config->buffer_bytes, config->alpha_q16) << 16) /
                                     (2 * ((1 << 16) + config->alpha_q16 * ports)) -
                                 config->wire_max_bytes;
            buffer->calm_bytes = fab_max_i64(calm, 0);
            for (uint32_t p = 0; p < node->port_count; p++) {
                const uint32_t l = net->out_link[node->first_link + p];
                fab_port_t *port = &fabric->ports[l];
                const int64_t calm_ps = fab_wire_ps(buffer->calm_bytes, fabric->links[l].ps_per_byte_q16);
                buffer->calm_queue_ps = fab_min_i64(buffer->calm_queue_ps, calm_ps);
                port->calm_limit_ps = (uint32_t)fab_min_i64(port->calm_limit_ps, calm_ps);
                const uint32_t in_q16 = fabric->links[node->first_link + p].ps_per_byte_q16;
                buffer->in_bytes_per_ps_q32 += (UINT64_C(1) << (32 + FAB_WIRE_SHIFT)) / in_q16 + 1;
            }
            continue; /* counts by input are for pauses */
        }
        buffer->in_bytes = calloc(ports, sizeof *buffer->in_bytes);
        buffer->level_bytes = calloc(ports, sizeof *buffer->level_bytes);
        buffer->headroom_bytes = calloc(ports, sizeof *buffer->headroom_bytes);
        const size_t blocks = ports / FAB_BUFFER_BLOCK + 1;
        buffer->release_ps = malloc(blocks * FAB_BUFFER_BLOCK * sizeof *buffer->release_ps);
        buffer->block_ps = malloc(blocks * sizeof *buffer->block_ps);
        buffer->in_paused = calloc(ports / 64 + (size_t)1, sizeof *buffer->in_paused);
        if (!buffer->in_bytes || !buffer->level_bytes || !buffer->headroom_bytes || !buffer->release_ps ||
            !buffer->block_ps || !buffer->in_paused)
            return FAB_E_MEMORY;
        for (size_t p = 0; p < blocks * FAB_BUFFER_BLOCK; p++)
            buffer->release_ps[p] = buffer->block_ps[p / FAB_BUFFER_BLOCK] = FAB_NEVER;
        for (uint32_t p = 0; p < node->port_count; p++)
            buffer->headroom_bytes[p] = fab_threshold_headroom_of_port(config, net, node->first_link + p);
        buffer->shared_bytes -= fab_threshold_headroom(config, net, node);
        buffer->calm_bytes = fab_threshold_calm_input(config, buffer->shared_bytes, ports);
    }
    return FAB_OK;
}

void fab_buffer_free(fab_switches_t *switches)
{
    for (uint32_t i = 0; switches->buffers && i < switches->count; i++) {
        fab_buffer_t *b = &switches->buffers[i];
        free(b->in_bytes);
        free(b->level_bytes);
        free(b->headroom_bytes);
        free(b->release_ps);
        free(b->block_ps);
        free(b->in_paused);
    }
    free(switches->buffers);
    switches->buffers = NULL;
}

void fab_buffer_check_end(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_problems_t *problems)
{
    const fab_net_t *net = fabric->net;
    for (uint32_t s = 0; s < net->slot_count; s++) {
        const fab_node_t *node = &net->nodes[s];
        if (!node->is_switch || !node->port_count || node->network != switches->config->network)
            continue;
        fab_buffer_t *buffer = &switches->buffers[node->index];
        for (uint32_t p = 0; p < node->port_count; p++) {
            const uint32_t l = net->out_link[node->first_link + p];
            if (fabric->ports[l].from)
                fab_buffer_release(buffer, &fabric->links[l], &fabric->ports[l], FAB_NEVER);
        }
        if (buffer->used_bytes || buffer->paused_count)
            fab_problems_add(problems, "switch %u: %" PRId64 " bytes left in the buffer, %u inputs paused", node->index,
                             buffer->used_bytes, buffer->paused_count);
        for (uint32_t p = 0; buffer->in_bytes && p < node->port_count; p++)
            if (buffer->in_bytes[p] || fab_buffer_is_paused(buffer, p))
                fab_problems_add(problems, "switch %u: port %u: %" PRId64 " bytes left, paused %d", node->index, p,
                                 buffer->in_bytes[p], fab_buffer_is_paused(buffer, p));
    }
}

/* Adds up the output queues. */
static void add_up(fab_buffer_t *self, const fab_fabric_t *fabric, const fab_node_t *node, int64_t now_ps)
{
    const fab_net_t *net = fabric->net;
    int64_t used = 0;
    for (uint32_t p = 0; p < node->port_count; p++) {
        const uint32_t l = net->out_link[node->first_link + p];
        const fab_link_t *link = &fabric->links[l];
        const int64_t backlog_ps = fab_max_i64(link->busy_ps - now_ps, 0) + fabric->ports[l].parked_ps;
        used += fab_wire_bytes(backlog_ps, link->ps_per_byte_q16);
    }
    self->seen_ps = now_ps;
    self->seen_bytes = used;
}

/* Could a calm queue be refused although so much is in use? */
static bool is_tight(const fab_switch_config_t *config, const fab_buffer_t *self, const fab_node_t *node, int64_t used)
{
    const int64_t calm = self->calm_bytes * node->port_count + config->wire_max_bytes;
    return fab_threshold_share(config->buffer_bytes - used - calm, config->alpha_q16) <
           self->calm_bytes + 2 * config->wire_max_bytes;
}

bool fab_buffer_admits_output(const fab_switch_config_t *config, fab_buffer_t *self, const fab_fabric_t *fabric,
                              const fab_node_t *node, uint32_t l, uint32_t bytes, int64_t backlog_ps, int64_t now_ps)
{
    const fab_net_t *net = fabric->net;
    const int64_t queue = fab_wire_bytes(backlog_ps, fabric->links[l].ps_per_byte_q16);
    /* No more can be there than was, and what can have come in since: often that settles it. */
    const int64_t since_ps = now_ps - self->seen_ps;
    if (!self->tight && since_ps < (INT64_C(1) << 27)) {
        const int64_t most = self->seen_bytes + node->port_count * config->wire_max_bytes +
                             (int64_t)((uint64_t)since_ps * self->in_bytes_per_ps_q32 >> 32);
        if (fab_threshold_admits(config, config->buffer_bytes - most, queue, bytes) &&
            !is_tight(config, self, node, most))
            return true;
    }
    add_up(self, fabric, node, now_ps);
    const bool tight = is_tight(config, self, node, self->seen_bytes);
    if (tight != self->tight) {
        self->tight = tight;
        for (uint32_t p = 0; p < node->port_count; p++) {
            const uint32_t other = net->out_link[node->first_link + p];
            const fab_port_t *port = &fabric->ports[other];
            fabric->links[other].calm_ps = tight ? 0 : (uint32_t)fab_min_i64(port->max_backlog_ps, port->calm_limit_ps);
        }
    }
    return fab_threshold_admits(config, config->buffer_bytes - self->seen_bytes, queue, bytes);
}

static int64_t xoff_level(const fab_switch_config_t *config, const fab_buffer_t *self)
{
    return fab_threshold_xoff(config, self->shared_bytes, self->used_bytes, self->calm_bytes);
}

/* Sends a pause frame out of a port; the port's counts must be up to date. */
static void send_pause(fab_buffer_t *self, const fab_fabric_t *fabric, fab_worker_t *worker, const fab_node_t *node,
                       uint32_t port, uint32_t kind, int64_t now_ps)
{
    const uint32_t l = fabric->net->out_link[node->first_link + port];
    const fab_packet_t frame = {
        .psn_flags = kind << FAB_KIND_SHIFT | FAB_FLAG_CONTROL | 1, /* the one data class */
        .bytes = FAB_PAUSE_FRAME_BYTES,
    };
    fab_buffer_release(self, &fabric->links[l], &fabric->ports[l], now_ps);
    fab_queue_overtake(worker, fabric, l, frame, now_ps);
    if (kind == FAB_PAUSE)
        worker->pauses++;
    else
        worker->resumes++;
}

bool fab_buffer_attend_input(const fab_switch_config_t *config, fab_buffer_t *self, const fab_fabric_t *fabric,
                             fab_worker_t *worker, const fab_node_t *node, uint32_t in_port, int64_t now_ps)
{
    if (!self->paused_count)
        for (uint32_t p = 0; p < node->port_count; p++) {
            const uint32_t l = fabric->net->out_link[node->first_link + p];
            fab_buffer_release(self, &fabric->links[l], &fabric->ports[l], now_ps);
        }
    if (self->in_bytes[in_port] <= self->calm_bytes) /* it only seemed more: the counts lagged */
        return true;
    if (fab_buffer_is_paused(self, in_port))
        return self->in_bytes[in_port] <= self->level_bytes[in_port] + self->headroom_bytes[in_port];
    if (self->in_bytes[in_port] <= xoff_level(config, self))
        return true;
    self->in_paused[in_port / 64] |= UINT64_C(1) << in_port % 64;
    self->level_bytes[in_port] = self->in_bytes[in_port];
    send_pause(self, fabric, worker, node, in_port, FAB_PAUSE, now_ps);
    if (self->paused_count++ == 0)
        for (uint32_t p = 0; p < node->port_count; p++)
            fab_buffer_watch(self, fabric, node, p);
    else
        fab_buffer_watch(self, fabric, node, in_port);
    return true;
}

void fab_buffer_obey(fab_buffer_t *self, const fab_fabric_t *fabric, fab_worker_t *worker, const fab_node_t *node,
                     uint32_t port, bool pause, int64_t now_ps)
{
    const uint32_t l = fabric->net->out_link[node->first_link + port];
    if (pause) {
        fab_buffer_release(self, &fabric->links[l], &fabric->ports[l], now_ps);
        fab_queue_pause(fabric, l, now_ps);
    } else {
        fab_buffer_release(self, &fabric->links[l], &fabric->ports[l], now_ps);
        fab_queue_resume(worker, fabric, l, now_ps);
    }
    if (self->paused_count)
        fab_buffer_watch(self, fabric, node, port);
}

/* Sends XON to every paused input that has sunk below its level. */
static void resume_inputs(const fab_switch_config_t *config, fab_buffer_t *self, const fab_fabric_t *fabric,
                          fab_worker_t *worker, const fab_node_t *node, int64_t now_ps)
{
    const int64_t level = xoff_level(config, self) - config->link.xon_gap_bytes;
    for (uint32_t first = 0; first < node->port_count; first += 64)
        for (uint64_t left = self->in_paused[first / 64]; left; left &= left - 1) {
            const uint32_t p = first + (uint32_t)__builtin_ctzll(left);
            if (self->in_bytes[p] > fab_max_i64(level, 0))
                continue;
            self->in_paused[p / 64] &= ~(UINT64_C(1) << p % 64);
            self->paused_count--;
            send_pause(self, fabric, worker, node, p, FAB_RESUME, now_ps);
            fab_buffer_watch(self, fabric, node, p);
        }
}

int64_t fab_buffer_next_release_ps(const fab_buffer_t *self, uint32_t port_count)
{
    int64_t next_ps = FAB_NEVER;
    for (uint32_t b = 0; b < (port_count + FAB_BUFFER_BLOCK - 1) / FAB_BUFFER_BLOCK; b++)
        next_ps = fab_min_i64(next_ps, self->block_ps[b]);
    return next_ps;
}

void fab_buffer_release_until(const fab_switch_config_t *config, fab_buffer_t *self, const fab_fabric_t *fabric,
                              fab_worker_t *worker, const fab_node_t *node, int64_t until_ps)
{
    while (self->paused_count) {
        const int64_t now_ps = fab_buffer_next_release_ps(self, node->port_count);
        if (now_ps > until_ps)
            return;
        /* all that leaves at this time, then the XONs */
        for (uint32_t first = 0; first < node->port_count; first += FAB_BUFFER_BLOCK) {
            if (self->block_ps[first / FAB_BUFFER_BLOCK] != now_ps)
                continue;
            for (uint32_t p = first; p < first + FAB_BUFFER_BLOCK; p++) {
                if (self->release_ps[p] != now_ps)
                    continue;
                const uint32_t l = fabric->net->out_link[node->first_link + p];
                fab_buffer_release_one(self, &fabric->links[l], &fabric->ports[l]);
                fab_buffer_watch(self, fabric, node, p);
            }
        }
        resume_inputs(config, self, fabric, worker, node, now_ps);
    }
}
