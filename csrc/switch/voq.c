/* What an input-buffered switch does: cut-through, virtual output queues, arbitration of lanes and inputs, credits.
 *
 * Events of a switch are the turns of its outputs and the arrivals at its inputs, in one winner tree: at one time turns
 * come before arrivals, and each in the order of ports. An output has a turn when its link becomes free, or when credits
 * come that it waits for; a packet that finds its output idle needs none. A turn that can send nothing changes nothing
 * but the count of time blocked, so it does not matter how often it is tried.
 *
 * Sources: InfiniBand Architecture Specification vol. 1, ch. 7.6 (lanes, arbitration), 7.9 (credits), annex A10 (marking);
 * Tamir and Frazier, "High-performance multi-queue buffers for VLSI communication switches", ISCA 1988 (queues by output). */
#include "switch/voq.h"

/* What the code is instantiated for: the usual switch with one lane, with several, and everything there is. */
typedef enum { ONE_LANE, LANES, GENERAL } kind_t;

enum { LEAF_BITS = 11 };
#define NOTHING UINT64_MAX

typedef struct {
    const fab_switch_config_t *config;
    const fab_fabric_t *fabric;
    const fab_route_t *route;
    const fab_rule_t *rule;
    fab_worker_t *worker;
    fab_voq_switch_t *self;
    fab_link_t *links;
    fab_credit_t *credits;
    uint64_t *tree;
    uint32_t first_link;
    int64_t base_ps, until_ps;
} visit_t;

FAB_INLINE uint64_t key_of(const visit_t *v, int64_t when_ps, uint32_t leaf)
{
    return when_ps < v->until_ps ? (uint64_t)(when_ps - v->base_ps) << LEAF_BITS | leaf : NOTHING;
}

/* Changes the time of a leaf. `levels` is the tree's, as a constant where speed matters. */
FAB_INLINE void set_leaf(const visit_t *v, const uint32_t levels, uint32_t leaf, int64_t when_ps)
{
    uint64_t *tree = v->tree;
    uint64_t key = key_of(v, when_ps, leaf);
    uint32_t i = (1u << levels) + leaf;
    tree[i] = key;
#pragma GCC unroll 11
    for (uint32_t level = 0; level < levels; level++) {
        const uint64_t other = tree[i ^ 1];
        key = other < key ? other : key;
        i >>= 1;
        tree[i] = key;
    }
}

/* The first bit set at or after `from`, or else the first of all. There is one. */
FAB_INLINE uint32_t next_bit(const uint64_t *set, uint32_t words, uint32_t from, const kind_t kind)
{
    if (kind != GENERAL) {
        const uint64_t behind = *set >> from << from;
        return (uint32_t)__builtin_ctzll(behind ? behind : *set);
    }
    uint64_t word = set[from / 64] >> from % 64 << from % 64;
    for (uint32_t w = from / 64;;) {
        if (word)
            return w * 64 + (uint32_t)__builtin_ctzll(word);
        w = w + 1 == words ? 0 : w + 1;
        word = set[w];
    }
}

FAB_INLINE uint64_t *waiting_of(const fab_voq_switch_t *self, uint32_t output, uint32_t lane, const kind_t kind)
{
    return kind == ONE_LANE ? &self->waiting[output] : &self->waiting[(output * self->lane_count + lane) * self->words];
}

FAB_INLINE fab_voq_t *queue_of(const fab_voq_switch_t *self, uint32_t output, uint32_t lane, uint32_t input,
                               const kind_t kind)
{
    const uint32_t row = kind == ONE_LANE ? output : output * self->lane_count + lane;
    return &self->queues[row * self->port_count + input];
}

/* The packet of a lane whose turn it is, and its input. */
FAB_INLINE const fab_packet_t *candidate(const fab_voq_switch_t *self, uint32_t o, uint32_t lane, uint32_t *input_out,
                                         const kind_t kind)
{
    const uint32_t input =
        next_bit(waiting_of(self, o, lane, kind), self->words, self->outputs[o].next_input[lane], kind);
    *input_out = input;
    return &self->pool[queue_of(self, o, lane, input, kind)->head];
}

/* ---- waiting for credits ------------------------------------------------------------------------- */

/* When an output that waits for credits can go on, as far as is known. */
static int64_t unblocked_ps(const visit_t *v, uint32_t o)
{
    const fab_voq_output_t *output = &v->self->outputs[o];
    const fab_credit_t *credit = &v->credits[output->link];
    int64_t when_ps = FAB_NEVER;
    for (uint32_t lanes = output->lanes; lanes; lanes &= lanes - 1) {
        const uint32_t lane = (uint32_t)__builtin_ctz(lanes);
        uint32_t input;
        const fab_packet_t *packet = candidate(v->self, o, lane, &input, GENERAL);
        when_ps = fab_min_i64(when_ps, fab_credit_available_ps(credit, lane, fab_credit_blocks(credit, packet->bytes)));
    }
    return when_ps;
}

/* A turn that could send nothing. */
static FAB_NOINLINE void block(const visit_t *v, uint32_t o, int64_t now_ps)
{
    fab_voq_output_t *output = &v->self->outputs[o];
    if (!output->blocked) {
        fab_port_t *port = &v->fabric->ports[output->link];
        output->blocked = true;
        v->self->blocked[o / 64] |= UINT64_C(1) << o % 64;
        v->credits[output->link].wanted = true;
        port->paused = true;
        port->paused_since_ps = now_ps;
        port->pauses++;
    }
    v->self->wake_ps[o] = unblocked_ps(v, o);
}

static FAB_NOINLINE void unblock(const visit_t *v, uint32_t o, int64_t now_ps)
{
    fab_voq_output_t *output = &v->self->outputs[o];
    fab_port_t *port = &v->fabric->ports[output->link];
    output->blocked = false;
    v->self->blocked[o / 64] &= ~(UINT64_C(1) << o % 64);
    v->credits[output->link].wanted = false;
    port->paused = false;
    port->paused_ps += now_ps - port->paused_since_ps;
}

/* ---- sending ------------------------------------------------------------------------------------- */

/* Starts a packet on a free link and gives back its credits for when it will have left. */
FAB_INLINE void launch(const visit_t *v, uint32_t o, uint32_t lane, uint32_t blocks, uint32_t input, uint32_t in_lane,
                       const fab_packet_t *packet, int64_t now_ps, const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    fab_voq_output_t *output = &self->outputs[o];
    const uint32_t l = output->link;
    if (FAB_UNLIKELY(output->blocked))
        unblock(v, o, now_ps);
    output->next_input[lane] = (uint16_t)(input + 1 == self->port_count ? 0 : input + 1);
    fab_credit_take(&v->credits[l], lane, blocks);
    fab_link_push(v->worker, v->fabric, l, packet, 0, now_ps, false);
    const int64_t end_ps = v->links[l].busy_ps;
    fab_credit_return(&v->credits[v->first_link + input], v->worker, v->fabric->net, in_lane, blocks, end_ps, now_ps);
    if (kind == GENERAL && self->inputs) {
        self->inputs[input * self->lane_count + in_lane].release_ps = end_ps;
        self->release_ps = fab_min_i64(self->release_ps, end_ps);
    }
}

/* Takes the packet whose turn it is out of its queue and sends it. */
FAB_INLINE void send_queued(const visit_t *v, uint32_t o, uint32_t lane, uint32_t input, uint32_t blocks,
                            int64_t now_ps, const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    fab_voq_output_t *output = &self->outputs[o];
    fab_voq_t *queue = queue_of(self, o, lane, input, kind);
    const uint32_t at = queue->head;
    fab_packet_t *packet = &self->pool[at];
    const uint32_t behind = packet->delta_ps >> FAB_VOQ_LANE_BITS;
    const uint32_t in_lane = kind == ONE_LANE ? 0 : packet->delta_ps & ((1u << FAB_VOQ_LANE_BITS) - 1);
    queue->head = behind;
    if (at == queue->tail) {
        uint64_t *waiting = waiting_of(self, o, lane, kind);
        waiting[kind == GENERAL ? input / 64 : 0] &= ~(UINT64_C(1) << input % 64);
        bool any = false;
        for (uint32_t w = 0; w < (kind == GENERAL ? self->words : 1); w++)
            any |= waiting[w] != 0;
        if (!any)
            output->lanes &= (uint8_t)~(1u << lane);
    }
    output->queued_bytes[lane] -= packet->bytes;
    self->in_blocks[kind == ONE_LANE ? input : input * self->lane_count + in_lane] -= blocks;
    launch(v, o, lane, blocks, input, in_lane, packet, now_ps, kind);
    packet->delta_ps = self->free << FAB_VOQ_LANE_BITS;
    self->free = at;
    self->wake_ps[o] = output->lanes ? v->links[output->link].busy_ps : FAB_NEVER;
}

/* An output's turn: its link is free and packets wait. */
FAB_INLINE void take_turn(const visit_t *v, uint32_t o, int64_t now_ps, const kind_t kind)
{
    const fab_voq_switch_t *self = v->self;
    fab_voq_output_t *output = &self->outputs[o];
    fab_credit_t *credit = &v->credits[output->link];
    if (kind == GENERAL && v->links[output->link].busy_ps > now_ps) { /* the link is dark */
        self->wake_ps[o] = v->links[output->link].busy_ps;
        return;
    }
    uint32_t input[FAB_LANES_MAX], blocks[FAB_LANES_MAX], ready = 0, lane = 0;
    uint16_t bytes[FAB_LANES_MAX] = {0};
    if (kind == ONE_LANE) {
        blocks[0] = fab_credit_blocks(credit, candidate(self, o, 0, &input[0], kind)->bytes);
        ready = fab_credit_available(credit, 0, blocks[0], now_ps);
    } else {
        for (uint32_t lanes = output->lanes; lanes; lanes &= lanes - 1) {
            const uint32_t c = (uint32_t)__builtin_ctz(lanes);
            bytes[c] = candidate(self, o, c, &input[c], kind)->bytes;
            blocks[c] = fab_credit_blocks(credit, bytes[c]);
            ready |= (uint32_t)fab_credit_available(credit, c, blocks[c], now_ps) << c;
        }
    }
    if (FAB_UNLIKELY(!ready)) {
        block(v, o, now_ps);
        return;
    }
    if (kind != ONE_LANE)
        lane = fab_lanes_pick(&v->config->lanes, &output->turns, ready, bytes);
    send_queued(v, o, lane, input[lane], blocks[lane], now_ps, kind);
}

/* ---- arriving ------------------------------------------------------------------------------------ */

/* Whether a packet that joins a long queue is marked (forward explicit congestion notification). */
static FAB_NOINLINE bool is_marked(const visit_t *v, uint32_t o, uint32_t lane, const fab_packet_t *packet,
                                   int64_t now_ps)
{
    fab_voq_output_t *output = &v->self->outputs[o];
    fab_credit_t *credit = &v->credits[output->link];
    const fab_switch_config_t *config = v->config;
    const uint32_t blocks = fab_credit_blocks(credit, packet->bytes);
    if (packet->psn_flags & (FAB_FLAG_CONTROL | FAB_FLAG_CE) || blocks < config->fecn_packet_blocks)
        return false;
    if (!config->fecn_victim_mask && !fab_credit_available(credit, lane, blocks, now_ps))
        return false;
    fab_port_t *port = &v->fabric->ports[output->link];
    const uint64_t draw = fab_keyed_draw(v->fabric->seed, FAB_KEY_MARK, port->name, output->markable++) >> 32;
    if (draw * (uint64_t)(config->fecn_marking_rate + 1) >> 32)
        return false;
    port->marks++;
    return true;
}

/* Puts a packet in the queue of its output. */
FAB_INLINE void join(const visit_t *v, uint32_t o, uint32_t lane, uint32_t input, uint32_t in_lane,
                     const fab_packet_t *packet, int64_t now_ps, const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    fab_voq_output_t *output = &self->outputs[o];
    if (FAB_UNLIKELY(self->free == FAB_VOQ_NONE) && !fab_voq_grow(self, v->worker))
        return;
    const uint32_t at = self->free;
    fab_packet_t *slot = &self->pool[at];
    self->free = slot->delta_ps >> FAB_VOQ_LANE_BITS;
    *slot = *packet;
    slot->delta_ps = in_lane;
    const int64_t queued_bytes = output->queued_bytes[lane];
    if (FAB_UNLIKELY(queued_bytes > output->mark_bytes) && is_marked(v, o, lane, packet, now_ps))
        slot->psn_flags |= FAB_FLAG_CE;
    if (FAB_UNLIKELY(queued_bytes > output->most_bytes)) {
        output->most_bytes = queued_bytes;
        v->fabric->ports[output->link].max_backlog_ps =
            fab_wire_ps(queued_bytes, v->links[output->link].ps_per_byte_q16);
    }
    output->queued_bytes[lane] = queued_bytes + packet->bytes;
    output->lanes |= (uint8_t)(1u << lane);
    fab_voq_t *queue = queue_of(self, o, lane, input, kind);
    uint64_t *waiting = waiting_of(self, o, lane, kind);
    const uint64_t bit = UINT64_C(1) << input % 64;
    if (kind == GENERAL)
        waiting += input / 64;
    if (*waiting & bit) {
        fab_packet_t *last = &self->pool[queue->tail];
        last->delta_ps = (last->delta_ps & ((1u << FAB_VOQ_LANE_BITS) - 1)) | at << FAB_VOQ_LANE_BITS;
    } else {
        *waiting |= bit;
        queue->head = at;
    }
    queue->tail = at;
}

/* Counts a packet in the buffer of its input: what the credits allow always fits. */
FAB_INLINE void occupy(const visit_t *v, uint32_t input, uint32_t in_lane, uint32_t bytes, const kind_t kind)
{
    const fab_credit_t *credit = &v->credits[v->first_link + input];
    uint32_t *blocks = &v->self->in_blocks[kind == ONE_LANE ? input : input * v->self->lane_count + in_lane];
    *blocks += fab_credit_blocks(credit, bytes);
    if (FAB_UNLIKELY(*blocks > credit->buffer_blocks))
        v->worker->error = FAB_E_INTERNAL;
}

/* The slow case: an output that is free but short of credits looks again. */
static FAB_NOINLINE void try_again(const visit_t *v, uint32_t o, int64_t now_ps) { take_turn(v, o, now_ps, GENERAL); }

/* A packet is ready for its output: sends it at once, or queues it. */
FAB_INLINE void forward(const visit_t *v, const uint32_t levels, uint32_t o, uint32_t input, uint32_t in_lane,
                        const fab_packet_t *packet, int64_t now_ps, const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    fab_voq_output_t *output = &self->outputs[o];
    const fab_link_t *link = &v->links[output->link];
    fab_credit_t *credit = &v->credits[output->link];
    const uint32_t lane = in_lane;
    const bool first = !output->lanes, idle = link->busy_ps <= now_ps;
    if (first && idle) {
        const uint32_t blocks = fab_credit_blocks(credit, packet->bytes);
        if (FAB_LIKELY(fab_credit_available(credit, lane, blocks, now_ps))) {
            uint16_t bytes[FAB_LANES_MAX] = {0};
            bytes[lane] = packet->bytes;
            if (kind != ONE_LANE)
                fab_lanes_pick(&v->config->lanes, &output->turns, 1u << lane, bytes);
            launch(v, o, lane, blocks, input, in_lane, packet, now_ps, kind);
            return;
        }
    }
    occupy(v, input, in_lane, packet->bytes, kind);
    join(v, o, lane, input, in_lane, packet, now_ps, kind);
    if (FAB_UNLIKELY(idle))
        try_again(v, o, now_ps);
    else if (first)
        self->wake_ps[o] = link->busy_ps;
    else
        return;
    set_leaf(v, levels, o, self->wake_ps[o]);
}

/* Puts a packet behind others of its input, where inputs are first in, first out; true: it is the first. */
static bool enters_line(const visit_t *v, uint32_t o, uint32_t input, uint32_t in_lane, const fab_packet_t *packet)
{
    fab_voq_switch_t *self = v->self;
    fab_voq_input_t *in = &self->inputs[input * self->lane_count + in_lane];
    if (!in->busy) {
        in->busy = true;
        return true;
    }
    occupy(v, input, in_lane, packet->bytes, GENERAL);
    if (self->free == FAB_VOQ_NONE && !fab_voq_grow(self, v->worker))
        return false;
    const uint32_t at = self->free;
    self->free = self->pool[at].delta_ps >> FAB_VOQ_LANE_BITS;
    self->pool[at] = *packet;
    self->pool_output[at] = (uint16_t)o;
    if (in->has_line)
        self->pool[in->line.tail].delta_ps = at << FAB_VOQ_LANE_BITS;
    else
        in->line.head = at;
    in->line.tail = at;
    in->has_line = true;
    return false;
}

/* Heads that have left by now make room for those behind them, which then wait for a turn of their output. */
static FAB_NOINLINE void release_inputs(const visit_t *v, int64_t now_ps)
{
    fab_voq_switch_t *self = v->self;
    self->release_ps = FAB_NEVER;
    for (uint32_t i = 0; i < self->port_count * self->lane_count; i++) {
        fab_voq_input_t *in = &self->inputs[i];
        if (in->release_ps != now_ps) {
            self->release_ps = fab_min_i64(self->release_ps, in->release_ps);
            continue;
        }
        in->release_ps = FAB_NEVER;
        in->busy = in->has_line;
        if (!in->has_line)
            continue;
        const uint32_t at = in->line.head, o = self->pool_output[at];
        const fab_packet_t packet = self->pool[at];
        in->has_line = at != in->line.tail;
        in->line.head = packet.delta_ps >> FAB_VOQ_LANE_BITS;
        self->pool[at].delta_ps = self->free << FAB_VOQ_LANE_BITS;
        self->free = at;
        join(v, o, i % self->lane_count, i / self->lane_count, i % self->lane_count, &packet, now_ps, GENERAL);
        self->wake_ps[o] = fab_max_i64(now_ps, v->links[self->outputs[o].link].busy_ps);
        set_leaf(v, self->levels, o, self->wake_ps[o]);
    }
}

/* How much longer a packet must be held whose output is faster than its input. */
static int64_t hold_ps(const visit_t *v, uint32_t in_link, uint32_t o, const fab_packet_t *packet)
{
    return fab_link_wire_ps(&v->links[in_link], packet->bytes) -
           fab_link_wire_ps(&v->links[v->self->outputs[o].link], packet->bytes);
}

/* Forgets a packet that was lost on its link, or that no route leads on: its room is free when its last bit has come. */
static FAB_NOINLINE void discard(const visit_t *v, uint32_t l, const fab_packet_t *packet, int64_t now_ps)
{
    fab_credit_t *credit = &v->credits[l];
    fab_credit_return(credit, v->worker, v->fabric->net, fab_packet_class(*packet),
                      fab_credit_blocks(credit, packet->bytes), now_ps + fab_link_wire_ps(&v->links[l], packet->bytes),
                      now_ps);
}

/* The head of an input: its first bit came in, or it has been held long enough. Returns how many packets it took. */
FAB_INLINE int64_t arrive(const visit_t *v, const uint32_t levels, uint32_t input, int64_t now_ps, const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    const uint32_t l = v->first_link + input, leaf = (1u << (levels - 1)) + input;
    const bool was_held = kind == GENERAL && self->held_ps && self->held_ps[input] != FAB_NEVER;
    const fab_link_t *link = &v->links[l];
    const fab_packet_t *packet = &link->ring[link->head & link->mask];
    bool lost = false;
    if (!was_held && FAB_UNLIKELY(v->worker->record))
        lost = !fab_link_record(v->worker, v->fabric, l, now_ps, *packet);
    uint32_t o;
    if (was_held) {
        o = self->held_for[input];
        self->held_ps[input] = FAB_NEVER;
    } else {
        o = fab_route_port(v->route, v->rule, packet->dst, packet->entropy);
        if (kind == GENERAL && (lost || o == FAB_NONE)) { /* faults need the general code */
            v->fabric->ports[self->outputs[input].link].drops += !lost;
            set_leaf(v, levels, leaf, fab_link_pop(v->fabric, l, now_ps, &packet));
            discard(v, l, packet, now_ps);
            return 1;
        }
        const int64_t more_ps = kind == GENERAL && self->held_ps ? hold_ps(v, l, o, packet) : 0;
        if (more_ps > 0) {
            self->held_ps[input] = now_ps + more_ps;
            self->held_for[input] = (uint16_t)o;
            set_leaf(v, levels, leaf, now_ps + more_ps);
            return 0;
        }
    }
    set_leaf(v, levels, leaf, fab_link_pop(v->fabric, l, kind == GENERAL ? v->fabric->heads[l] : now_ps, &packet));
    const uint32_t in_lane = kind == ONE_LANE ? 0 : fab_packet_class(*packet);
    if (kind != GENERAL || !self->inputs || enters_line(v, o, input, in_lane, packet))
        forward(v, levels, o, input, in_lane, packet, now_ps, kind);
    return 1;
}

/* ---- the switch's turn --------------------------------------------------------------------------- */

FAB_INLINE int64_t arrival_ps(const visit_t *v, uint32_t input)
{
    const fab_voq_switch_t *self = v->self;
    const int64_t head_ps = v->fabric->heads[v->first_link + input];
    return FAB_UNLIKELY(self->held_ps != NULL) && self->held_ps[input] != FAB_NEVER ? self->held_ps[input] : head_ps;
}

static void plant_tree(const visit_t *v)
{
    fab_voq_switch_t *self = v->self;
    const uint32_t leaves = 1u << self->levels, half = leaves / 2, ports = self->port_count;
    for (uint32_t w = 0; w < self->words; w++)
        for (uint64_t set = self->blocked[w]; set; set &= set - 1) {
            const uint32_t o = w * 64 + (uint32_t)__builtin_ctzll(set);
            self->wake_ps[o] = fab_max_i64(unblocked_ps(v, o), v->links[self->outputs[o].link].busy_ps);
        }
    uint64_t *tree = v->tree;
    for (uint32_t p = 0; p < ports; p++) {
        tree[leaves + p] = key_of(v, self->wake_ps[p], p);
        tree[leaves + half + p] = key_of(v, arrival_ps(v, p), half + p);
    }
    for (uint32_t p = ports; p < half; p++)
        tree[leaves + p] = tree[leaves + half + p] = NOTHING;
    for (uint32_t i = leaves - 1; i >= 1; i--)
        tree[i] = tree[2 * i] < tree[2 * i + 1] ? tree[2 * i] : tree[2 * i + 1];
}

FAB_INLINE void handle_all(const visit_t *v, const uint32_t levels, const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    const uint32_t half = 1u << (levels - 1);
    int64_t hops = 0;
    for (;;) {
        const uint64_t key = v->tree[1];
        const int64_t now_ps = key == NOTHING ? v->until_ps - 1 : v->base_ps + (int64_t)(key >> LEAF_BITS);
        if (kind == GENERAL && self->release_ps <= now_ps) {
            release_inputs(v, self->release_ps);
            continue;
        }
        if (key == NOTHING)
            break;
        const uint32_t leaf = (uint32_t)key & ((1u << LEAF_BITS) - 1);
        if (leaf < half) {
            take_turn(v, leaf, now_ps, kind);
            set_leaf(v, levels, leaf, self->wake_ps[leaf]);
        } else {
            hops += arrive(v, levels, leaf - half, now_ps, kind);
        }
    }
    v->worker->hops += hops;
}

FAB_INLINE void handle_kind(const visit_t *v, const kind_t kind)
{
    switch (v->self->levels) {
    case 3: handle_all(v, 3, kind); break;
    case 4: handle_all(v, 4, kind); break;
    case 5: handle_all(v, 5, kind); break;
    case 6: handle_all(v, 6, kind); break;
    case 7: handle_all(v, 7, kind); break;
    default: handle_all(v, v->self->levels, kind); break;
    }
}

int64_t fab_voq_visit(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t slot,
                      int64_t base_ps, int64_t until_ps)
{
    const fab_node_t *node = &fabric->net->nodes[slot];
    fab_voq_switch_t *self = switches->voq_switches[node->index];
    const visit_t v = {
        .config = switches->config,
        .fabric = fabric,
        .route = switches->route,
        .rule = &switches->route->rules[node->index],
        .worker = worker,
        .self = self,
        .links = fabric->links,
        .credits = fabric->credits,
        .tree = worker->tree,
        .first_link = node->first_link,
        .base_ps = base_ps,
        .until_ps = until_ps,
    };
    plant_tree(&v);
    if (self->words > 1 || self->held_ps || self->inputs)
        handle_all(&v, self->levels, GENERAL);
    else if (self->lane_count == 1)
        handle_kind(&v, ONE_LANE);
    else
        handle_kind(&v, LANES);
    int64_t next_ps = self->release_ps;
    for (uint32_t p = 0; p < self->port_count; p++)
        next_ps = fab_min_i64(next_ps, fab_min_i64(self->wake_ps[p], arrival_ps(&v, p)));
    return next_ps;
}
