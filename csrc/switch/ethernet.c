/* An Ethernet switch: output queues in one shared buffer, store-and-forward or cut-through, ECN marking
 * as RED at enqueue, dynamic thresholds (lossy) or PFC by input (lossless).
 *
 * Queue lengths are read off the clock, not counted: departures are fixed at enqueue, so an output queue
 * is what its link is still busy with. Limits that depend on the whole buffer are compared with bounds
 * first (`calm`): below them the answer cannot depend on what the other ports hold. */
#include "switch/switch.h"

#include "link/queue.h"
#include "switch/buffer.h"
#include "switch/classes.h"
#include "switch/merge.h"
#include "switch/threshold.h"

enum {
    BUFFER_BYTES,
    CUT_THROUGH,
    ECN,
    ECN_KMIN_BYTES,
    ECN_KMAX_BYTES,
    ECN_PMAX_PPM,
    DYNAMIC_ALPHA_PPM,
    DATA_CLASS_COUNT,
    CLASS_ROUND_ROBIN
};

static const fab_param_t params[] = {
    {"buffer_bytes", "bytes", 32 << 20, 1 << 14, INT64_C(1) << 32, "packet buffer that all ports share",
     "16 to 64 MB: Trident, Tomahawk and Spectrum class data sheets"},
    {"cut_through", "", 0, 0, 1,
     "1: a packet is sent on while it still arrives, if no output of the switch is faster than its input; 0: store and "
     "forward",
     ""},
    {"ecn", "", 1, 0, 1, "1: mark congestion experienced between kmin and kmax", "RFC 3168; DCQCN, SIGCOMM 2015"},
    {"ecn_kmin_bytes", "bytes", 400000, 0, INT64_C(1) << 32, "output queue below which nothing is marked",
     "100 KB per 25 Gb/s: HPCC's simulator"},
    {"ecn_kmax_bytes", "bytes", 1600000, 1, INT64_C(1) << 32, "output queue above which everything is marked",
     "400 KB per 25 Gb/s: HPCC's simulator"},
    {"ecn_pmax_ppm", "ppm", 200000, 1, 1000000, "marking probability just below kmax", "0.2: HPCC's simulator"},
    {"dynamic_alpha_ppm", "ppm", 1000000, 1000, 64000000,
     "a lossy output queue may hold this share of the buffer that is free",
     "Choudhury and Hahne, Dynamic queue length thresholds, ToN 1998"},
    {"data_class_count", "", 1, 1, FAB_DATA_CLASSES_MAX,
     "data classes, each with its own queues, marking and pauses; `priority` of a trace chooses",
     "IEEE 802.1Q has 8 priorities"},
    {"class_round_robin", "", 0, 0, 1, "1: data classes take turns by bytes; 0: the higher class always goes first",
     "deficit round robin: Shreedhar and Varghese, SIGCOMM 1995"},
    FAB_PARAM_END,
};

static void configure(const int64_t *values, fab_switch_config_t *config_out)
{
    config_out->buffer_bytes = values[BUFFER_BYTES];
    config_out->cut_through = values[CUT_THROUGH];
    config_out->ecn = values[ECN];
    config_out->ecn_kmin_bytes = values[ECN_KMIN_BYTES];
    config_out->ecn_kmax_bytes = values[ECN_KMAX_BYTES];
    config_out->ecn_pmax_ppm = values[ECN_PMAX_PPM];
    config_out->alpha_q16 = (values[DYNAMIC_ALPHA_PPM] << 16) / 1000000;
    config_out->data_class_count = values[DATA_CLASS_COUNT];
    config_out->arbitration = values[CLASS_ROUND_ROBIN] ? FAB_ROUND_ROBIN : FAB_STRICT;
}

enum { DROP = -1 };

/* Looks at a packet whose output queue is not calm: high water, admission, marking. Returns the flags to add, or DROP. */
static FAB_NOINLINE int64_t attend(const fab_switches_t *self, const fab_fabric_t *fabric, const fab_node_t *node,
                                   uint32_t l, const fab_packet_t *packet, int64_t backlog_ps, int64_t now_ps)
{
    fab_link_t *link = &fabric->links[l];
    fab_port_t *port = &fabric->ports[l];
    fab_buffer_t *buffer = &self->buffers[node->index];
    if (backlog_ps > buffer->calm_queue_ps || buffer->tight) {
        if (!fab_buffer_admits_output(self->config, buffer, fabric, node, l, packet->bytes, backlog_ps, now_ps)) {
            port->drops++;
            return DROP;
        }
    }
    if (backlog_ps > port->max_backlog_ps)
        port->max_backlog_ps = backlog_ps;
    if (link->calm_ps < port->calm_limit_ps && !buffer->tight)
        link->calm_ps = (uint32_t)fab_min_i64(port->max_backlog_ps, port->calm_limit_ps);
    const uint32_t entry = link->tail + (uint32_t)port->packets_before; /* packets this link was handed before */
    if (packet->psn_flags & (FAB_FLAG_CONTROL | FAB_FLAG_CE) ||
        !fab_threshold_marks(fabric->seed, port, entry, backlog_ps))
        return 0;
    port->marks++;
    return FAB_FLAG_CE;
}

/* What one visit of a switch works with, in registers as far as they go. */
typedef struct {
    const fab_switches_t *self;
    const fab_fabric_t *fabric;
    fab_worker_t *worker;
    const fab_node_t *node;
    const fab_rule_t *rule;
    const uint32_t *out_link; /* by port */
    fab_buffer_t *buffer;
    fab_link_t *links;
    uint32_t first_link;
} visit_t;

/* Of the ports that a packet may take the one whose queue is the shortest in time; of equals the next one round from
 * where the hash points. */
static FAB_NOINLINE uint32_t least_loaded(const visit_t *v, const fab_packet_t *packet, int64_t now_ps,
                                          const bool may_pause)
{
    const fab_candidates_t candidates = fab_route_candidates(v->self->route, v->rule, packet->dst);
    uint32_t best = FAB_NONE, i = fab_candidates_hashed(candidates, v->rule, packet->entropy);
    int64_t least_ps = INT64_MAX;
    for (uint32_t n = 0; n < candidates.count; n++, i = i + 1 < candidates.count ? i + 1 : 0) {
        const uint32_t port = fab_candidates_port(candidates, i), l = v->out_link[port];
        const int64_t parked_ps = may_pause ? v->fabric->ports[l].parked_ps : 0;
        const int64_t load_ps = fab_max_i64(v->links[l].busy_ps - now_ps, 0) + parked_ps;
        if (load_ps < least_ps) {
            least_ps = load_ps;
            best = port;
        }
    }
    return best;
}

FAB_INLINE uint32_t choose_port(const visit_t *v, const fab_packet_t *packet, int64_t now_ps, const bool may_pause,
                                const bool adaptive)
{
    return adaptive ? least_loaded(v, packet, now_ps, may_pause)
                    : fab_route_port(v->self->route, v->rule, packet->dst, packet->entropy);
}

/* A packet for a host that a fault has cut off; counted at the link back to where it came from. */
static FAB_NOINLINE void drop_unroutable(const visit_t *v, uint32_t in_port)
{
    v->fabric->ports[v->out_link[in_port]].drops++;
}

/* The path that a fabric without pause and classes needs: one queue a port, first in first out. */
FAB_INLINE void forward_plain(const visit_t *v, uint32_t in_port, const fab_packet_t *packet, int64_t now_ps,
                              const bool storing, const bool adaptive)
{
    const uint32_t out_port = choose_port(v, packet, now_ps, false, adaptive);
    if (FAB_UNLIKELY(out_port == FAB_NONE)) {
        drop_unroutable(v, in_port);
        return;
    }
    const uint32_t l = v->out_link[out_port];
    const fab_link_t *link = &v->links[l];
    const int64_t backlog_ps = link->busy_ps - now_ps;
    int64_t flags = 0;
    if (FAB_UNLIKELY(backlog_ps > (int64_t)link->calm_ps)) {
        flags = attend(v->self, v->fabric, v->node, l, packet, backlog_ps, now_ps);
        if (flags == DROP)
            return;
    }
    fab_link_push(v->worker, v->fabric, l, packet, (uint32_t)flags, now_ps, storing);
}

/* How a fabric's queues are ordered: what the loop over packets is instantiated for. */
typedef enum {
    PLAIN_STORING,
    PLAIN,
    CONTROL_FIRST,
    PAUSES,
    PAUSES_CONTROL_FIRST,
    CHANGING /* any of them, in a run whose links change: so all links are ordered */
} order_t;

/* Makes room on an output link, and brings its counts up to now: out of line, it is rare. */
static FAB_NOINLINE void settle(fab_buffer_t *buffer, fab_worker_t *worker, fab_link_t *link, fab_port_t *port,
                                int64_t now_ps)
{
    fab_buffer_release(buffer, link, port, now_ps);
    fab_queue_room(worker, link, port);
}

/* The same with priority flow control, or with a control class that overtakes. */
FAB_INLINE void forward_ordered(const visit_t *v, uint32_t in_port, const fab_packet_t *packet, int64_t now_ps,
                                const order_t order, const bool adaptive)
{
    const fab_fabric_t *fabric = v->fabric;
    fab_buffer_t *buffer = v->buffer;
    if (order >= PAUSES && FAB_UNLIKELY(fab_packet_kind(*packet) >= FAB_PAUSE)) {
        fab_buffer_obey(buffer, fabric, v->worker, v->node, in_port, fab_packet_kind(*packet) == FAB_PAUSE, now_ps);
        return;
    }
    const uint32_t out_port = choose_port(v, packet, now_ps, order >= PAUSES, adaptive);
    if (FAB_UNLIKELY(out_port == FAB_NONE)) {
        drop_unroutable(v, in_port);
        return;
    }
    const uint32_t l = v->out_link[out_port];
    fab_link_t *link = &v->links[l];
    fab_port_t *port = &fabric->ports[l];
    const int64_t busy_ps = link->busy_ps;
    const int64_t backlog_ps = fab_max_i64(busy_ps - now_ps, 0) + (order >= PAUSES ? port->parked_ps : 0);
    const fab_switch_config_t *config = v->self->config;
    const bool priority = order == CHANGING ? config->control_priority : order != PAUSES;
    const bool control = priority && packet->psn_flags & FAB_FLAG_CONTROL;
    int64_t flags = 0;
    if (FAB_UNLIKELY(backlog_ps > (int64_t)link->calm_ps)) {
        flags = attend(v->self, fabric, v->node, l, packet, backlog_ps, now_ps);
        if (flags == DROP)
            return;
    }
    const bool counted = (order == CHANGING ? config->link.pause : order >= PAUSES) && !control;
    if (counted &&
        !fab_buffer_admit_input(config, buffer, fabric, v->worker, v->node, in_port, packet->bytes, now_ps)) {
        port->drops++;
        return;
    }
    if (control && (backlog_ps > 0 || port->paused)) {
        fab_buffer_release(buffer, link, port, now_ps);
        fab_queue_overtake(v->worker, fabric, l, *packet, now_ps);
    } else {
        /* an idle link has sent all that it had; then the cursor need not cross the gap */
        if (busy_ps <= now_ps)
            fab_buffer_release_idle(buffer, link, port);
        if (FAB_UNLIKELY(link->tail - port->cursor > link->mask || link->tail - link->head > link->mask))
            settle(buffer, v->worker, link, port, now_ps);
        fab_queue_push(v->worker, fabric, l, link, port, packet, (uint32_t)flags,
                       counted ? (uint16_t)in_port : FAB_FROM_NOWHERE, now_ps);
    }
    if (order >= PAUSES && FAB_UNLIKELY(buffer->paused_count))
        fab_buffer_watch(buffer, fabric, v->node, out_port);
}

/* Takes what comes in before the window ends, in order. Instantiated for each depth of the merge tree. */
FAB_INLINE void take_all(const visit_t *v, fab_merge_t *merge, const uint32_t levels, const order_t order,
                         const bool adaptive)
{
    const bool record = v->worker->record;
    int64_t hops = 0, now_ps;
    uint32_t port;
    while (fab_merge_next(merge, &port, &now_ps)) {
        const fab_packet_t *packet;
        const uint32_t l = v->first_link + port;
        fab_merge_replace(merge, levels, fab_link_pop(v->fabric, l, now_ps, &packet));
        hops++;
        if (FAB_UNLIKELY(record) && !fab_link_record(v->worker, v->fabric, l, now_ps, *packet))
            continue;
        if (order >= PAUSES && FAB_UNLIKELY(v->buffer->paused_count))
            fab_buffer_release_until(v->self->config, v->buffer, v->fabric, v->worker, v->node, now_ps);
        if (order <= PLAIN)
            forward_plain(v, port, packet, now_ps, order == PLAIN_STORING, adaptive);
        else
            forward_ordered(v, port, packet, now_ps, order, adaptive);
    }
    v->worker->hops += hops;
}

FAB_INLINE int64_t visit_order(const fab_switches_t *self, const fab_fabric_t *fabric, fab_worker_t *worker,
                               uint32_t slot, int64_t base_ps, int64_t until_ps, const order_t order,
                               const bool adaptive)
{
    const fab_node_t *node = &fabric->net->nodes[slot];
    const visit_t v = {
        .self = self,
        .fabric = fabric,
        .worker = worker,
        .node = node,
        .rule = &self->route->rules[node->index],
        .out_link = &fabric->net->out_link[node->first_link],
        .buffer = &self->buffers[node->index],
        .links = fabric->links,
        .first_link = node->first_link,
    };
    fab_merge_t merge;
    fab_merge_start(&merge, worker, &fabric->heads[node->first_link], node->port_count, base_ps, until_ps);
    switch (adaptive || order == CHANGING ? UINT32_MAX : merge.levels) {
    case 0: take_all(&v, &merge, 0, order, adaptive); break;
    case 1: take_all(&v, &merge, 1, order, adaptive); break;
    case 2: take_all(&v, &merge, 2, order, adaptive); break;
    case 3: take_all(&v, &merge, 3, order, adaptive); break;
    case 4: take_all(&v, &merge, 4, order, adaptive); break;
    case 5: take_all(&v, &merge, 5, order, adaptive); break;
    case 6: take_all(&v, &merge, 6, order, adaptive); break;
    default: take_all(&v, &merge, merge.levels, order, adaptive); break;
    }
    int64_t next_ps = fab_merge_end(&merge, &fabric->heads[node->first_link]);
    if (order >= PAUSES && FAB_UNLIKELY(v.buffer->paused_count)) {
        fab_buffer_release_until(self->config, v.buffer, fabric, worker, node, until_ps - 1);
        if (v.buffer->paused_count)
            next_ps = fab_min_i64(next_ps, fab_buffer_next_release_ps(v.buffer, node->port_count));
    }
    return next_ps;
}

FAB_INLINE int64_t visit_any(const fab_switches_t *self, const fab_fabric_t *fabric, fab_worker_t *worker,
                             uint32_t slot, int64_t base_ps, int64_t until_ps, const bool adaptive)
{
    const fab_switch_config_t *config = self->config;
    if (config->link.pause)
        return config->control_priority
                   ? visit_order(self, fabric, worker, slot, base_ps, until_ps, PAUSES_CONTROL_FIRST, adaptive)
                   : visit_order(self, fabric, worker, slot, base_ps, until_ps, PAUSES, adaptive);
    if (config->control_priority)
        return visit_order(self, fabric, worker, slot, base_ps, until_ps, CONTROL_FIRST, adaptive);
    return config->cut_through ? visit_order(self, fabric, worker, slot, base_ps, until_ps, PLAIN, adaptive)
                               : visit_order(self, fabric, worker, slot, base_ps, until_ps, PLAIN_STORING, adaptive);
}

static FAB_NOINLINE int64_t visit_changing(const fab_switches_t *self, const fab_fabric_t *fabric, fab_worker_t *worker,
                                           uint32_t slot, int64_t base_ps, int64_t until_ps)
{
    return visit_order(self, fabric, worker, slot, base_ps, until_ps, CHANGING, self->route->adaptive);
}

static FAB_NOINLINE int64_t visit_adaptive(const fab_switches_t *self, const fab_fabric_t *fabric, fab_worker_t *worker,
                                           uint32_t slot, int64_t base_ps, int64_t until_ps)
{
    return visit_any(self, fabric, worker, slot, base_ps, until_ps, true);
}

static int64_t visit(const fab_switches_t *self, const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t slot,
                     int64_t base_ps, int64_t until_ps)
{
    if (self->config->scheduled)
        return fab_classes_visit(self, fabric, worker, slot, base_ps, until_ps);
    if (FAB_UNLIKELY(fabric->faults != NULL))
        return visit_changing(self, fabric, worker, slot, base_ps, until_ps);
    if (FAB_UNLIKELY(self->route->adaptive))
        return visit_adaptive(self, fabric, worker, slot, base_ps, until_ps);
    return visit_any(self, fabric, worker, slot, base_ps, until_ps, false);
}

/* Thresholds of marking in time of a link's wire. */
static void set_marking(const fab_switch_config_t *config, const fab_fabric_t *fabric, uint32_t l)
{
    fab_port_t *port = &fabric->ports[l];
    const uint32_t q16 = fabric->links[l].ps_per_byte_q16;
    port->kmin_ps = config->ecn ? fab_wire_ps(config->ecn_kmin_bytes, q16) : FAB_NEVER;
    port->kmax_ps = config->ecn ? fab_wire_ps(config->ecn_kmax_bytes, q16) : FAB_NEVER;
    if (config->ecn && port->kmax_ps > port->kmin_ps)
        port->mark_slope_q16 = (uint64_t)((((unsigned __int128)config->ecn_pmax_ppm << 48) / 1000000) /
                                          (uint64_t)(port->kmax_ps - port->kmin_ps));
}

static int init(fab_switches_t *self, const fab_fabric_t *fabric)
{
    const fab_switch_config_t *config = self->config;
    const fab_net_t *net = fabric->net;
    for (uint32_t l = 0; l < net->link_count; l++) {
        if (!net->nodes[net->tx_slot[l]].is_switch || net->link_network[l] != config->network)
            continue;
        set_marking(config, fabric, l);
        fabric->ports[l].calm_limit_ps = (uint32_t)fab_min_i64(fabric->ports[l].kmin_ps, UINT32_MAX);
    }
    return config->scheduled ? fab_classes_init(self, fabric) : fab_buffer_init(self, fabric);
}

static int check(const fab_switch_config_t *config, const fab_net_t *net, fab_problems_t *problems)
{
    if (config->ecn && config->ecn_kmin_bytes > config->ecn_kmax_bytes)
        fab_problems_add(problems, "switch.ethernet.ecn_kmin_bytes: is above ecn_kmax_bytes");
    const int code =
        config->scheduled ? fab_classes_check(config, net, problems) : fab_buffer_check(config, net, problems);
    return problems->count ? FAB_E_CONFIG : code;
}

static void end(fab_switches_t *self)
{
    fab_classes_free(self);
    fab_buffer_free(self);
}

/* The levels that are below all thresholds (calm) were made for the full rate: they hold at any lower one too. */
static void change(const fab_switches_t *self, const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t l,
                   fab_link_change_t what, int64_t value, int64_t now_ps)
{
    const fab_net_t *net = fabric->net;
    const uint32_t slot = net->tx_slot[l], p = fab_net_tx_port(net, l);
    const fab_node_t *node = &net->nodes[slot];
    if (self->config->scheduled) {
        fab_classes_change(self, fabric, worker, l, what, value, now_ps);
    } else {
        fab_buffer_t *buffer = &self->buffers[node->index];
        if (what == FAB_LINK_PAUSE || what == FAB_LINK_RESUME) {
            fab_buffer_obey(buffer, fabric, worker, node, p, what == FAB_LINK_PAUSE, now_ps);
            fabric->ports[l].pauses -= what == FAB_LINK_PAUSE; /* no frame came */
        } else {
            fab_buffer_release(buffer, &fabric->links[l], &fabric->ports[l], now_ps - 1);
            fab_link_change(fabric, worker, l, what, value, true, now_ps);
        }
        if (buffer->paused_count) {
            fab_buffer_watch(buffer, fabric, node, p);
            fab_link_notify(worker, net, slot, buffer->release_ps[p]);
        }
    }
    if (what == FAB_LINK_RATE)
        set_marking(self->config, fabric, l);
}

static uint32_t pauses(const fab_switches_t *self, const fab_fabric_t *fabric, uint32_t l)
{
    const fab_node_t *node = &fabric->net->nodes[fabric->net->rx_slot[l]];
    if (self->config->scheduled)
        return fab_classes_pauses(self, fabric, l);
    const fab_buffer_t *buffer = &self->buffers[node->index];
    return buffer->in_paused && fab_buffer_is_paused(buffer, l - node->first_link);
}

static void check_end(const fab_switches_t *self, const fab_fabric_t *fabric, fab_problems_t *problems)
{
    if (self->config->scheduled)
        fab_classes_check_end(self, fabric, problems);
    else
        fab_buffer_check_end(self, fabric, problems);
}

const fab_switch_ops_t fab_switch_ethernet = {
    .impl = {"switch", "ethernet", "shared buffer, ECN, dynamic thresholds or PFC", params, 0},
    .writes_telemetry = true,
    .configure = configure,
    .check = check,
    .init = init,
    .free = end,
    .visit = visit,
    .change = change,
    .pauses = pauses,
    .check_end = check_end,
};
