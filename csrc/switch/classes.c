/* Switches with several data classes: queues, turns, thresholds and pauses by class. */
#include "switch/classes.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/classes.h"
#include "net/telemetry.h"
#include "switch/merge.h"
#include "switch/threshold.h"

enum { CONTROL = FAB_DATA_CLASSES_MAX, QUEUES, FIRST_QUEUE = 8 };

typedef struct {
    fab_packet_t *ring;
    uint16_t *from;          /* input port of each entry */
    fab_telemetry_t **notes; /* of each entry, with telemetry */
    uint32_t mask, head, tail;
    int64_t wire_ps; /* of all that waits */
    int64_t bytes;   /* the same */
} class_queue_t;

/* An output port. */
typedef struct {
    class_queue_t queues[QUEUES];
    fab_turns_t turns;
    int64_t wake_ps;  /* the port's next turn */
    uint32_t offered; /* packets that came for it: numbers its random draws */
    uint32_t frames;  /* pause frames in the control queue: those that came while the link was dark */
    uint8_t paused;   /* bit set of data classes */
} class_port_t;

struct fab_class_switch {
    int64_t used_bytes, shared_bytes, calm_bytes, wake_ps;
    int64_t *in_bytes;       /* [port][class] */
    int64_t *level_bytes;    /* [port][class] in_bytes when XOFF was sent */
    int64_t *headroom_bytes; /* [port] of each lossless class */
    uint8_t *in_paused;      /* [port] bit set of classes */
    class_port_t *ports;     /* [port] */
    uint32_t port_count, paused_count;
};

typedef struct fab_class_switch class_switch_t;

/* What one visit works with. */
typedef struct {
    const fab_switches_t *switches;
    const fab_switch_config_t *config;
    const fab_fabric_t *fabric;
    fab_worker_t *worker;
    const fab_node_t *node;
    class_switch_t *self;
} visit_t;

static uint32_t lossless_count(const fab_switch_config_t *config)
{
    const uint32_t all = (1u << config->data_class_count) - 1;
    return config->link.pause ? (uint32_t)__builtin_popcount(config->link.lossless_classes & all) : 0;
}

static bool is_lossless(const fab_switch_config_t *config, uint32_t c)
{
    return config->link.pause && config->link.lossless_classes >> c & 1;
}

/* ---- making -------------------------------------------------------------------------------------- */

int fab_classes_check(const fab_switch_config_t *config, const fab_net_t *net, fab_problems_t *problems)
{
    const int32_t before = problems->count;
    if (!config->control_priority && config->data_class_count > 1)
        fab_problems_add(problems,
                         "switch.ethernet.data_class_count: several data classes need transport.control_priority = 1");
    else if (!config->control_priority && config->link.pause)
        fab_problems_add(problems, "cc: telemetry on links with pause needs transport.control_priority = 1");
    fab_threshold_check(config, net, lossless_count(config), problems);
    return problems->count > before ? FAB_E_CONFIG : FAB_OK;
}

int fab_classes_init(fab_switches_t *switches, const fab_fabric_t *fabric)
{
    const fab_switch_config_t *config = switches->config;
    const fab_net_t *net = fabric->net;
    switches->class_switches = calloc(net->switch_count + 1, sizeof *switches->class_switches);
    if (!switches->class_switches)
        return FAB_E_MEMORY;
    switches->count = net->switch_count;
    for (uint32_t s = 0; s < net->slot_count; s++) {
        const fab_node_t *node = &net->nodes[s];
        if (!node->is_switch || !node->port_count || node->network != config->network)
            continue;
        const size_t n = node->port_count;
        class_switch_t *self = calloc(1, sizeof *self);
        if (!self)
            return FAB_E_MEMORY;
        switches->class_switches[node->index] = self;
        self->port_count = node->port_count;
        self->wake_ps = FAB_NEVER;
        self->in_bytes = calloc(n * FAB_DATA_CLASSES_MAX, sizeof *self->in_bytes);
        self->level_bytes = calloc(n * FAB_DATA_CLASSES_MAX, sizeof *self->level_bytes);
        self->headroom_bytes = calloc(n, sizeof *self->headroom_bytes);
        self->in_paused = calloc(n, sizeof *self->in_paused);
        self->ports = calloc(n, sizeof *self->ports);
        if (!self->in_bytes || !self->level_bytes || !self->headroom_bytes || !self->in_paused || !self->ports)
            return FAB_E_MEMORY;
        for (uint32_t p = 0; p < node->port_count; p++) {
            self->ports[p].wake_ps = FAB_NEVER;
            self->headroom_bytes[p] = fab_threshold_headroom_of_port(config, net, node->first_link + p);
        }
        self->shared_bytes = config->buffer_bytes - lossless_count(config) * fab_threshold_headroom(config, net, node);
        self->calm_bytes = fab_threshold_calm_input(config, self->shared_bytes, (int64_t)n * config->data_class_count);
    }
    return FAB_OK;
}

void fab_classes_free(fab_switches_t *switches)
{
    for (uint32_t i = 0; switches->class_switches && i < switches->count; i++) {
        class_switch_t *self = switches->class_switches[i];
        if (!self)
            continue;
        free(self->in_bytes);
        free(self->level_bytes);
        free(self->headroom_bytes);
        free(self->in_paused);
        free(self->ports); /* the rings are of the workers' pools */
        free(self);
    }
    free(switches->class_switches);
    switches->class_switches = NULL;
}

/* ---- queues -------------------------------------------------------------------------------------- */

static bool grow(fab_worker_t *worker, class_queue_t *q, bool telemetry)
{
    const uint32_t old = q->ring ? q->mask + 1 : 0, capacity = old ? 2 * old : FIRST_QUEUE;
    fab_packet_t *ring = fab_pool_take(&worker->pool, fab_pool_class(capacity * sizeof *ring));
    uint16_t *from = fab_pool_take(&worker->pool, fab_pool_class(capacity * sizeof *from));
    fab_telemetry_t **notes = telemetry ? fab_pool_take(&worker->pool, fab_pool_class(capacity * sizeof *notes)) : NULL;
    if (!ring || !from || (telemetry && !notes)) {
        worker->error = FAB_E_MEMORY;
        return false;
    }
    for (uint32_t i = q->head; i != q->tail; i++) {
        ring[i & (capacity - 1)] = q->ring[i & q->mask];
        from[i & (capacity - 1)] = q->from[i & q->mask];
        if (telemetry)
            notes[i & (capacity - 1)] = q->notes[i & q->mask];
    }
    if (old) {
        fab_pool_give(&worker->pool, q->ring, fab_pool_class(old * sizeof *ring));
        fab_pool_give(&worker->pool, q->from, fab_pool_class(old * sizeof *from));
        if (telemetry)
            fab_pool_give(&worker->pool, q->notes, fab_pool_class(old * sizeof *notes));
    }
    q->ring = ring;
    q->from = from;
    q->notes = notes;
    q->mask = capacity - 1;
    worker->ring_bytes += (int64_t)((capacity - old) * sizeof *ring);
    return true;
}

/* Puts a packet last in a queue and returns its place; NULL without memory. */
static fab_packet_t *enqueue(const visit_t *v, class_queue_t *q, uint32_t l, const fab_packet_t *packet,
                             uint32_t in_port)
{
    if (q->tail - q->head == (q->ring ? q->mask + 1 : 0) && !grow(v->worker, q, v->config->telemetry))
        return NULL;
    fab_packet_t *slot = &q->ring[q->tail & q->mask];
    *slot = *packet;
    q->from[q->tail & q->mask] = (uint16_t)in_port;
    if (v->config->telemetry)
        q->notes[q->tail & q->mask] = NULL;
    q->wire_ps += fab_link_wire_ps(&v->fabric->links[l], packet->bytes);
    q->bytes += packet->bytes;
    q->tail++;
    return slot;
}

static uint32_t out_link(const visit_t *v, uint32_t port)
{
    return v->fabric->net->out_link[v->node->first_link + port];
}

/* The data classes of a port that have something to send and may. */
static uint32_t waiting(const visit_t *v, const class_port_t *port)
{
    uint32_t set = 0;
    for (uint32_t c = 0; c < v->config->data_class_count; c++)
        set |= (uint32_t)(port->queues[c].head != port->queues[c].tail) << c;
    return set & ~(uint32_t)port->paused;
}

static bool has_turn(const visit_t *v, const class_port_t *port)
{
    return port->queues[CONTROL].head != port->queues[CONTROL].tail || waiting(v, port);
}

static void wake(const visit_t *v, class_port_t *port, uint32_t l, int64_t now_ps)
{
    if (port->wake_ps != FAB_NEVER || !has_turn(v, port))
        return;
    port->wake_ps = fab_max_i64(now_ps, v->fabric->links[l].busy_ps);
    v->self->wake_ps = fab_min_i64(v->self->wake_ps, port->wake_ps);
}

/* ---- pauses -------------------------------------------------------------------------------------- */

static int64_t xoff_level(const visit_t *v)
{
    return fab_threshold_xoff(v->config, v->self->shared_bytes, v->self->used_bytes, v->self->calm_bytes);
}

static void send_pause(const visit_t *v, uint32_t in_port, uint32_t c, uint32_t kind, int64_t now_ps)
{
    const fab_packet_t frame = {
        .psn_flags = kind << FAB_KIND_SHIFT | FAB_FLAG_CONTROL | 1u << c,
        .bytes = FAB_PAUSE_FRAME_BYTES,
    };
    const uint32_t l = out_link(v, in_port);
    class_port_t *port = &v->self->ports[in_port];
    if (FAB_UNLIKELY(v->fabric->ports[l].stops || port->frames)) {
        port->frames += enqueue(v, &port->queues[CONTROL], l, &frame, in_port) != NULL;
        wake(v, port, l, now_ps);
    } else {
        fab_link_push(v->worker, v->fabric, l, &frame, 0, now_ps, false);
        if (v->config->telemetry)
            fab_telemetry_put(v->worker, v->fabric, l, NULL);
    }
    if (kind == FAB_PAUSE)
        v->worker->pauses++;
    else
        v->worker->resumes++;
}

/* Some classes of the packets that leave by a port are paused, or may go again. */
static void set_paused(const visit_t *v, uint32_t out_port, bool pause, uint32_t classes, int64_t now_ps)
{
    class_port_t *port = &v->self->ports[out_port];
    const uint32_t l = out_link(v, out_port);
    fab_port_t *stats = &v->fabric->ports[l];
    if (pause) {
        if (!port->paused)
            stats->paused_since_ps = now_ps;
        port->paused |= (uint8_t)classes;
    } else if (port->paused) {
        port->paused &= (uint8_t)~classes;
        if (!port->paused)
            stats->paused_ps += now_ps - stats->paused_since_ps;
        wake(v, port, l, now_ps);
    }
    stats->paused = port->paused;
}

/* A pause frame came in at a port: it is about the packets that leave there. */
static void obey(const visit_t *v, uint32_t in_port, fab_packet_t frame, int64_t now_ps)
{
    const bool pause = fab_packet_kind(frame) == FAB_PAUSE;
    v->fabric->ports[out_link(v, in_port)].pauses += pause;
    set_paused(v, in_port, pause, fab_packet_psn(frame), now_ps);
}

/* Takes a packet that begins to leave out of the counts, and sends the XONs that are due. */
static void release(const visit_t *v, uint32_t in_port, uint32_t c, uint32_t bytes, int64_t now_ps)
{
    class_switch_t *self = v->self;
    self->in_bytes[in_port * FAB_DATA_CLASSES_MAX + c] -= bytes;
    self->used_bytes -= bytes;
    if (!self->paused_count)
        return;
    const int64_t level = fab_max_i64(xoff_level(v) - v->config->link.xon_gap_bytes, 0);
    for (uint32_t p = 0; p < self->port_count; p++)
        for (uint32_t d = 0; self->in_paused[p] && d < v->config->data_class_count; d++) {
            if (!(self->in_paused[p] >> d & 1) || self->in_bytes[p * FAB_DATA_CLASSES_MAX + d] > level)
                continue;
            self->in_paused[p] &= (uint8_t)~(1u << d);
            self->paused_count--;
            send_pause(v, p, d, FAB_RESUME, now_ps);
        }
}

/* Counts a packet in; false: there is no room for it. */
static bool admit(const visit_t *v, uint32_t in_port, uint32_t c, const class_queue_t *q, const fab_link_t *link,
                  uint32_t bytes, int64_t now_ps)
{
    class_switch_t *self = v->self;
    int64_t *in_bytes = &self->in_bytes[in_port * FAB_DATA_CLASSES_MAX + c];
    if (!is_lossless(v->config, c)) {
        const int64_t queued = fab_wire_bytes(q->wire_ps, link->ps_per_byte_q16);
        if (!fab_threshold_admits(v->config, self->shared_bytes - self->used_bytes, queued, bytes))
            return false;
    }
    *in_bytes += bytes;
    self->used_bytes += bytes;
    if (!is_lossless(v->config, c) || *in_bytes <= self->calm_bytes)
        return true;
    if (self->in_paused[in_port] >> c & 1) {
        if (*in_bytes <= self->level_bytes[in_port * FAB_DATA_CLASSES_MAX + c] + self->headroom_bytes[in_port])
            return true;
        *in_bytes -= bytes;
        self->used_bytes -= bytes;
        return false;
    }
    if (*in_bytes > xoff_level(v)) {
        self->in_paused[in_port] |= (uint8_t)(1u << c);
        self->paused_count++;
        self->level_bytes[in_port * FAB_DATA_CLASSES_MAX + c] = *in_bytes;
        send_pause(v, in_port, c, FAB_PAUSE, now_ps);
    }
    return true;
}

/* ---- the way of a packet ------------------------------------------------------------------------- */

/* Of the ports that a packet may take the one with the least in all its queues; of equals the next one round from where
 * the hash points. */
static uint32_t least_loaded(const visit_t *v, const fab_rule_t *rule, const fab_packet_t *packet, int64_t now_ps)
{
    const fab_candidates_t candidates = fab_route_candidates(v->switches->route, rule, packet->dst);
    uint32_t best = FAB_NONE, i = fab_candidates_hashed(candidates, rule, packet->entropy);
    int64_t least_ps = INT64_MAX;
    for (uint32_t n = 0; n < candidates.count; n++, i = i + 1 < candidates.count ? i + 1 : 0) {
        const uint32_t port = fab_candidates_port(candidates, i);
        int64_t load_ps = fab_max_i64(v->fabric->links[out_link(v, port)].busy_ps - now_ps, 0);
        for (uint32_t q = 0; q < QUEUES; q++)
            load_ps += v->self->ports[port].queues[q].wire_ps;
        if (load_ps < least_ps) {
            least_ps = load_ps;
            best = port;
        }
    }
    return best;
}

static void arrive(const visit_t *v, uint32_t in_port, const fab_packet_t *packet, int64_t now_ps)
{
    if (fab_packet_kind(*packet) >= FAB_PAUSE) {
        obey(v, in_port, *packet, now_ps);
        return;
    }
    const fab_rule_t *rule = &v->switches->route->rules[v->node->index];
    const uint32_t out_port = v->switches->route->adaptive
                                  ? least_loaded(v, rule, packet, now_ps)
                                  : fab_route_port(v->switches->route, rule, packet->dst, packet->entropy);
    if (out_port == FAB_NONE) { /* a fault has cut the destination off */
        v->fabric->ports[out_link(v, in_port)].drops++;
        return;
    }
    const uint32_t l = out_link(v, out_port);
    const fab_link_t *link = &v->fabric->links[l];
    fab_port_t *stats = &v->fabric->ports[l];
    class_port_t *port = &v->self->ports[out_port];
    const bool answer = packet->psn_flags & FAB_FLAG_CONTROL, control = answer && v->config->control_priority;
    const uint32_t c = fab_packet_class(*packet);
    class_queue_t *q = &port->queues[control ? CONTROL : c];
    const uint32_t entry = port->offered++;
    if (!control && !admit(v, in_port, c, q, link, packet->bytes, now_ps)) {
        stats->drops++;
        return;
    }
    const int64_t before_ps = q->wire_ps;
    fab_packet_t *slot = enqueue(v, q, l, packet, in_port);
    if (!slot)
        return;
    if (v->config->telemetry) {
        q->notes[(q->tail - 1) & q->mask] = v->worker->carried;
        v->worker->carried = NULL;
    }
    stats->max_backlog_ps = fab_max_i64(stats->max_backlog_ps, before_ps);
    if (!answer && !(packet->psn_flags & FAB_FLAG_CE) &&
        fab_threshold_marks(v->fabric->seed, stats, entry, before_ps)) {
        slot->psn_flags |= FAB_FLAG_CE;
        stats->marks++;
    }
    wake(v, port, l, now_ps);
}

/* What an output writes on a packet that leaves it, already out of its queue. */
static void write_telemetry(const visit_t *v, const class_port_t *port, uint32_t l, fab_telemetry_t *record,
                            int64_t now_ps)
{
    if (record->count == FAB_HOPS_MAX)
        return;
    int64_t queue_bytes = 0;
    for (uint32_t c = 0; c < QUEUES; c++)
        queue_bytes += port->queues[c].bytes;
    record->hops[record->count++] = (fab_hop_t){
        .when_ps = now_ps,
        .sent_bytes = v->fabric->links[l].bytes,
        .queue_bytes = queue_bytes,
        .rate_mbps = v->fabric->net->rate_mbps[l],
        .link = l,
    };
}

/* A port's turn: sends the first packet of the class whose turn it is. */
static void serve(const visit_t *v, uint32_t out_port, int64_t now_ps)
{
    const uint32_t l = out_link(v, out_port);
    const fab_link_t *link = &v->fabric->links[l];
    class_port_t *port = &v->self->ports[out_port];
    if (link->busy_ps > now_ps) { /* a pause frame went in between, or the link is dark */
        port->wake_ps = link->busy_ps;
        return;
    }
    uint32_t c = CONTROL;
    if (port->queues[CONTROL].head == port->queues[CONTROL].tail) {
        const uint32_t set = waiting(v, port);
        port->wake_ps = FAB_NEVER;
        if (!set) /* paused since */
            return;
        uint16_t head_bytes[FAB_DATA_CLASSES_MAX] = {0};
        for (uint32_t d = 0; d < v->config->data_class_count; d++)
            if (set >> d & 1)
                head_bytes[d] = port->queues[d].ring[port->queues[d].head & port->queues[d].mask].bytes;
        c = fab_classes_pick(&port->turns, v->config->arbitration, (uint32_t)v->config->data_class_count, set,
                             head_bytes, (int32_t)v->config->wire_max_bytes);
    }
    class_queue_t *q = &port->queues[c];
    const fab_packet_t packet = q->ring[q->head & q->mask];
    const uint16_t from = q->from[q->head & q->mask];
    fab_telemetry_t *const record = v->config->telemetry ? q->notes[q->head & q->mask] : NULL;
    q->head++;
    q->wire_ps -= fab_link_wire_ps(link, packet.bytes);
    q->bytes -= packet.bytes;
    if (record && fab_packet_kind(packet) == FAB_DATA)
        write_telemetry(v, port, l, record, now_ps);
    port->frames -= fab_packet_kind(packet) >= FAB_PAUSE;
    fab_link_push(v->worker, v->fabric, l, &packet, 0, now_ps, false);
    if (v->config->telemetry)
        fab_telemetry_put(v->worker, v->fabric, l, record);
    if (c != CONTROL)
        release(v, from, c, packet.bytes, now_ps);
    port->wake_ps = has_turn(v, port) ? link->busy_ps : FAB_NEVER;
}

/* All ports whose turn it is, in their order; then when the next turn is. */
static void serve_all(const visit_t *v, int64_t now_ps)
{
    for (uint32_t p = 0; p < v->self->port_count; p++)
        if (v->self->ports[p].wake_ps == now_ps)
            serve(v, p, now_ps);
    v->self->wake_ps = FAB_NEVER;
    for (uint32_t p = 0; p < v->self->port_count; p++)
        v->self->wake_ps = fab_min_i64(v->self->wake_ps, v->self->ports[p].wake_ps);
}

int64_t fab_classes_visit(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_worker_t *worker,
                          uint32_t slot, int64_t base_ps, int64_t until_ps)
{
    const fab_node_t *node = &fabric->net->nodes[slot];
    const visit_t v = {switches, switches->config, fabric, worker, node, switches->class_switches[node->index]};
    fab_merge_t merge;
    fab_merge_start(&merge, worker, &fabric->heads[node->first_link], node->port_count, base_ps, until_ps);
    for (;;) {
        uint32_t port = 0;
        int64_t now_ps = until_ps;
        const bool arrives = fab_merge_next(&merge, &port, &now_ps);
        if (v.self->wake_ps < until_ps && v.self->wake_ps <= now_ps) { /* departures come before arrivals */
            serve_all(&v, v.self->wake_ps);
            continue;
        }
        if (!arrives)
            break;
        const fab_packet_t *packet;
        const uint32_t l = node->first_link + port;
        fab_merge_replace(&merge, merge.levels, fab_link_pop(fabric, l, now_ps, &packet));
        worker->hops++;
        const bool arrived = !worker->record || fab_link_record(worker, fabric, l, now_ps, *packet);
        if (v.config->telemetry)
            worker->carried = fab_telemetry_take(fabric, l);
        if (arrived)
            arrive(&v, port, packet, now_ps);
        if (worker->carried) { /* its packet was dropped */
            fab_telemetry_drop(worker, worker->carried);
            worker->carried = NULL;
        }
    }
    return fab_min_i64(v.self->wake_ps, fab_merge_end(&merge, &fabric->heads[node->first_link]));
}

/* ---- changes of the fabric ----------------------------------------------------------------------- */

void fab_classes_change(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t l,
                        fab_link_change_t what, int64_t value, int64_t now_ps)
{
    const fab_net_t *net = fabric->net;
    const uint32_t slot = net->tx_slot[l], out_port = fab_net_tx_port(net, l);
    const fab_node_t *node = &net->nodes[slot];
    const visit_t v = {switches, switches->config, fabric, worker, node, switches->class_switches[node->index]};
    class_port_t *port = &v.self->ports[out_port];
    if (what == FAB_LINK_PAUSE || what == FAB_LINK_RESUME) {
        set_paused(&v, out_port, what == FAB_LINK_PAUSE, (uint32_t)value, now_ps);
    } else {
        fab_link_change(fabric, worker, l, what, value, false, now_ps);
        for (uint32_t i = 0; what == FAB_LINK_RATE && i < QUEUES; i++) {
            class_queue_t *q = &port->queues[i];
            q->wire_ps = 0;
            for (uint32_t at = q->head; at != q->tail; at++)
                q->wire_ps += fab_link_wire_ps(&fabric->links[l], q->ring[at & q->mask].bytes);
        }
    }
    fab_link_notify(worker, net, slot, v.self->wake_ps);
}

uint32_t fab_classes_pauses(const fab_switches_t *switches, const fab_fabric_t *fabric, uint32_t l)
{
    const fab_node_t *node = &fabric->net->nodes[fabric->net->rx_slot[l]];
    return switches->class_switches[node->index]->in_paused[l - node->first_link];
}

void fab_classes_check_end(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_problems_t *problems)
{
    const fab_net_t *net = fabric->net;
    for (uint32_t s = 0; s < net->slot_count; s++) {
        const fab_node_t *node = &net->nodes[s];
        if (!node->is_switch || !node->port_count || node->network != switches->config->network)
            continue;
        const class_switch_t *self = switches->class_switches[node->index];
        int64_t in_bytes = 0;
        uint32_t queued = 0;
        for (uint32_t p = 0; p < self->port_count; p++)
            for (uint32_t q = 0; q < QUEUES; q++) {
                queued += self->ports[p].queues[q].tail - self->ports[p].queues[q].head;
                in_bytes += q < FAB_DATA_CLASSES_MAX ? self->in_bytes[p * FAB_DATA_CLASSES_MAX + q] : 0;
            }
        if (self->used_bytes || in_bytes || self->paused_count || queued)
            fab_problems_add(problems,
                             "switch %u: %" PRId64 " bytes left in the buffer (%" PRId64
                             " by input), %u packets in queues, %u inputs paused",
                             node->index, self->used_bytes, in_bytes, queued, self->paused_count);
    }
}
