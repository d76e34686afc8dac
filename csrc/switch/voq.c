/* What an input-buffered switch does: cut-through, virtual output queues, arbitration of lanes and inputs, credits.
 *
 * Events of a switch are the turns of its outputs and the arrivals at its inputs, in one winner tree: at one time turns
 * come before arrivals, and each in the order of ports. An output has a turn when its link becomes free, or when credits
 * come that it waits for; a packet that finds its output idle needs none. A turn that can send nothing changes nothing
 * but the count of time blocked, so it does not matter how often it is tried.
 *
 * Sources: InfiniBand Architecture Specification vol. 1, ch. 7.6 (lanes, arbitration), 7.9 (credits), annex A10
 * (marking); Tamir and Frazier, "High-performance multi-queue buffers for VLSI communication switches", ISCA 1988
 * (queues by output). */
#include "switch/voq.h"

/* What the code is instantiated for: the usual switch with one lane, with several, and everything there is. */
typedef enum { ONE_LANE, LANES, GENERAL } kind_t;

enum { LEAF_BITS = 11, FETCH_FROM_LINKS = 4096 };
#define NOTHING UINT64_MAX

typedef struct {
    const fab_switch_config_t *config;
    const fab_fabric_t *fabric;
    const fab_route_t *route;
    const fab_rule_t *rule;
    fab_worker_t *worker;
    fab_voq_switch_t *self;
    fab_credit_t *in_credits; /* [input] */
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

/* The same where the time becomes earlier. */
FAB_INLINE void advance_leaf(const visit_t *v, const uint32_t levels, uint32_t leaf, int64_t when_ps)
{
    uint64_t *tree = v->tree;
    const uint64_t key = key_of(v, when_ps, leaf);
    for (uint32_t i = (1u << levels) + leaf; i && key < tree[i]; i >>= 1)
        tree[i] = key;
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

FAB_INLINE uint64_t *waiting_of(const fab_voq_switch_t *self, const fab_voq_output_t *output, uint32_t lane,
                                const kind_t kind)
{
    return kind == ONE_LANE ? output->waiting : &output->waiting[kind == LANES ? lane : lane * self->words];
}

FAB_INLINE fab_voq_t *queue_of(const fab_voq_switch_t *self, const fab_voq_output_t *output, uint32_t lane,
                               uint32_t input, const kind_t kind)
{
    return &output->queues[kind == ONE_LANE ? input : lane * self->port_count + input];
}

FAB_INLINE uint32_t *in_bytes_of(const fab_voq_switch_t *self, uint32_t input, uint32_t in_lane, const kind_t kind)
{
    return &self->in_bytes[kind == ONE_LANE ? input : input * self->lane_count + in_lane];
}

FAB_INLINE uint16_t *next_input_of(fab_voq_output_t *output, uint32_t lane, const kind_t kind)
{
    return kind == ONE_LANE || !lane ? &output->next_input : &output->next_input_of[lane];
}

/* The packet of a lane whose turn it is, and its input. */
FAB_INLINE const fab_packet_t *candidate(const fab_voq_switch_t *self, fab_voq_output_t *output, uint32_t lane,
                                         uint32_t *input_out, const kind_t kind)
{
    const uint32_t input =
        next_bit(waiting_of(self, output, lane, kind), self->words, *next_input_of(output, lane, kind), kind);
    *input_out = input;
    return &self->pool[queue_of(self, output, lane, input, kind)->head];
}

/* ---- waiting for credits ------------------------------------------------------------------------- */

/* When an output that waits for credits can go on, as far as is known. */
static int64_t unblocked_ps(const fab_voq_switch_t *self, const fab_voq_output_t *output)
{
    int64_t when_ps = FAB_NEVER;
    for (uint32_t lane = 0; lane < self->lane_count; lane++)
        if (output->short_bytes[lane])
            when_ps = fab_min_i64(when_ps, fab_credit_available_ps(output->credit, lane, output->short_bytes[lane]));
    return when_ps;
}

/* A turn that could send nothing: `sizes` are what the next packets of the lanes in line take. */
static FAB_NOINLINE void block(const visit_t *v, uint32_t o, const uint32_t *sizes, int64_t now_ps)
{
    fab_voq_output_t *output = &v->self->outputs[o];
    if (!output->blocked) {
        fab_port_t *port = &v->fabric->ports[output->link_at];
        output->blocked = true;
        v->self->blocked[o / 64] |= UINT64_C(1) << o % 64;
        output->credit->wanted = true;
        port->paused = true;
        port->paused_since_ps = now_ps;
        port->pauses++;
    }
    for (uint32_t lane = 0; lane < v->self->lane_count; lane++)
        output->short_bytes[lane] = output->lanes >> lane & 1 ? sizes[lane] : 0;
    v->self->wake_ps[o] = unblocked_ps(v->self, output);
}

static FAB_NOINLINE void unblock(const visit_t *v, uint32_t o, int64_t now_ps)
{
    fab_voq_output_t *output = &v->self->outputs[o];
    fab_port_t *port = &v->fabric->ports[output->link_at];
    output->blocked = false;
    v->self->blocked[o / 64] &= ~(UINT64_C(1) << o % 64);
    output->credit->wanted = false;
    port->paused = false;
    port->paused_ps += now_ps - port->paused_since_ps;
}

/* ---- sending ------------------------------------------------------------------------------------- */

/* Starts a packet on a free link and gives back its credits for when it will have left. */
FAB_INLINE void launch(const visit_t *v, uint32_t o, uint32_t lane, uint32_t size, uint32_t input, uint32_t in_lane,
                       const fab_packet_t *packet, int64_t now_ps, const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    fab_voq_output_t *output = &self->outputs[o];
    if (FAB_UNLIKELY(output->blocked))
        unblock(v, o, now_ps);
    *next_input_of(output, lane, kind) = (uint16_t)(input + 1 == self->port_count ? 0 : input + 1);
    fab_credit_take(output->credit, lane, size);
    fab_link_start(v->worker, v->fabric, output->link_at, output->link, packet, now_ps);
    const int64_t end_ps = output->link->busy_ps;
    fab_credit_return(&v->in_credits[input], v->worker, v->fabric->net, in_lane, size, end_ps, now_ps);
    if (kind == GENERAL && self->inputs) {
        self->inputs[input * self->lane_count + in_lane].release_ps = end_ps;
        self->release_ps = fab_min_i64(self->release_ps, end_ps);
    }
}

/* Takes the packet whose turn it is out of its queue and sends it. */
FAB_INLINE void send_queued(const visit_t *v, uint32_t o, uint32_t lane, uint32_t input, uint32_t size, int64_t now_ps,
                            const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    fab_voq_output_t *output = &self->outputs[o];
    fab_voq_t *queue = queue_of(self, output, lane, input, kind);
    const uint32_t at = queue->head;
    fab_packet_t *packet = &self->pool[at];
    const uint32_t in_lane = kind == ONE_LANE ? 0 : packet->delta_ps & ((1u << FAB_VOQ_LANE_BITS) - 1);
    queue->head = packet->delta_ps >> FAB_VOQ_LANE_BITS;
    if (at == queue->tail) {
        uint64_t *waiting = waiting_of(self, output, lane, kind);
        waiting[kind == GENERAL ? input / 64 : 0] &= ~(UINT64_C(1) << input % 64);
        bool any = false;
        for (uint32_t w = 0; w < (kind == GENERAL ? self->words : 1); w++)
            any |= waiting[w] != 0;
        if (!any)
            output->lanes &= (uint8_t)~(1u << lane);
    }
    output->queued_bytes[lane] -= packet->bytes;
    *in_bytes_of(self, input, in_lane, kind) -= size;
    launch(v, o, lane, size, input, in_lane, packet, now_ps, kind);
    packet->delta_ps = self->free << FAB_VOQ_LANE_BITS;
    self->free = at;
    self->wake_ps[o] = output->lanes ? output->link->busy_ps : FAB_NEVER;
}

/* An output's turn: its link is free and packets wait. */
FAB_INLINE void take_turn(const visit_t *v, uint32_t o, int64_t now_ps, const kind_t kind)
{
    const fab_voq_switch_t *self = v->self;
    fab_voq_output_t *output = &self->outputs[o];
    fab_credit_t *credit = output->credit;
    if (kind == GENERAL && output->link->busy_ps > now_ps) { /* the link is dark */
        self->wake_ps[o] = output->link->busy_ps;
        return;
    }
    uint32_t input[FAB_LANES_MAX], sizes[FAB_LANES_MAX], ready = 0, lane = 0;
    uint16_t bytes[FAB_LANES_MAX];
    if (kind == ONE_LANE) {
        sizes[0] = fab_credit_size(credit, candidate(self, output, 0, &input[0], kind)->bytes);
        ready = fab_credit_available(credit, 0, sizes[0], now_ps);
    } else {
        /* Without a high list the first lane that is ready is the one: most often the first that is asked. */
        const bool one_list = !v->config->lanes.high;
        const uint32_t first = one_list ? fab_lanes_first(&output->turns) : 0;
        uint32_t lanes =
            (output->lanes | (uint32_t)output->lanes << FAB_LANES_MAX) >> first & ((1u << FAB_LANES_MAX) - 1);
        for (; lanes && !(one_list && ready); lanes &= lanes - 1) {
            lane = (first + (uint32_t)__builtin_ctz(lanes)) % FAB_LANES_MAX;
            bytes[lane] = candidate(self, output, lane, &input[lane], kind)->bytes;
            sizes[lane] = fab_credit_size(credit, bytes[lane]);
            ready |= (uint32_t)fab_credit_available(credit, lane, sizes[lane], now_ps) << lane;
        }
        if (ready && one_list)
            fab_lanes_charge(&v->config->lanes, &output->turns, 0, lane, bytes[lane]);
        else if (ready)
            lane = fab_lanes_pick(&v->config->lanes, &output->turns, ready, bytes);
    }
    if (FAB_UNLIKELY(!ready))
        block(v, o, sizes, now_ps);
    else
        send_queued(v, o, lane, input[lane], sizes[lane], now_ps, kind);
}

/* ---- joining a queue ----------------------------------------------------------------------------- */

/* Whether a packet that joins a long queue is marked (forward explicit congestion notification). */
static FAB_NOINLINE bool is_marked(const visit_t *v, uint32_t o, uint32_t lane, const fab_packet_t *packet,
                                   int64_t now_ps)
{
    fab_voq_output_t *output = &v->self->outputs[o];
    const fab_switch_config_t *config = v->config;
    const uint32_t size = fab_credit_size(output->credit, packet->bytes);
    if (packet->psn_flags & (FAB_FLAG_CONTROL | FAB_FLAG_CE) ||
        size < config->fecn_packet_blocks * config->link.credit_block_bytes)
        return false;
    if (!config->fecn_victim_mask && !fab_credit_available(output->credit, lane, size, now_ps))
        return false;
    fab_port_t *port = &v->fabric->ports[output->link_at];
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
    const uint32_t queued_bytes = output->queued_bytes[lane];
    if (FAB_UNLIKELY(queued_bytes > output->watch_bytes)) {
        if (queued_bytes > output->mark_bytes && is_marked(v, o, lane, packet, now_ps))
            slot->psn_flags |= FAB_FLAG_CE;
        if (queued_bytes > output->most_bytes) {
            output->most_bytes = queued_bytes;
            output->watch_bytes = queued_bytes < output->mark_bytes ? queued_bytes : output->mark_bytes;
            v->fabric->ports[output->link_at].max_backlog_ps = fab_wire_ps(queued_bytes, output->link->ps_per_byte_q16);
        }
    }
    output->queued_bytes[lane] = queued_bytes + packet->bytes;
    output->lanes |= (uint8_t)(1u << lane);
    fab_voq_t *queue = queue_of(self, output, lane, input, kind);
    uint64_t *waiting = waiting_of(self, output, lane, kind);
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
FAB_INLINE void occupy(const visit_t *v, uint32_t input, uint32_t in_lane, uint32_t size, const kind_t kind)
{
    uint32_t *bytes = in_bytes_of(v->self, input, in_lane, kind);
    *bytes += size;
    if (FAB_UNLIKELY(*bytes > v->in_credits[input].buffer_bytes))
        v->worker->error = FAB_E_INTERNAL;
}

/* The turn of an output that only this lane wants. */
FAB_INLINE void count_turn(const fab_lanes_t *lanes, fab_lane_turns_t *turns, uint32_t lane, uint16_t bytes)
{
    if (!lanes->high) {
        fab_lanes_charge(lanes, turns, 0, lane, bytes);
        return;
    }
    uint16_t all[FAB_LANES_MAX];
    all[lane] = bytes;
    fab_lanes_pick(lanes, turns, 1u << lane, all);
}

/* The slow case: an output that is free but short of credits looks again. */
static FAB_NOINLINE void try_again(const visit_t *v, uint32_t o, int64_t now_ps) { take_turn(v, o, now_ps, GENERAL); }

/* A packet is ready for its output: sends it at once, or queues it. */
FAB_INLINE void forward(const visit_t *v, const uint32_t levels, uint32_t o, uint32_t lane, uint32_t input,
                        uint32_t in_lane, const fab_packet_t *packet, int64_t now_ps, const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    fab_voq_output_t *output = &self->outputs[o];
    fab_credit_t *credit = output->credit;
    const uint32_t size = fab_credit_size(credit, packet->bytes);
    const int64_t busy_ps = output->link->busy_ps;
    const bool first = !output->lanes;
    if (first && busy_ps <= now_ps && FAB_LIKELY(fab_credit_available(credit, lane, size, now_ps))) {
        if (kind != ONE_LANE)
            count_turn(&v->config->lanes, &output->turns, lane, packet->bytes);
        launch(v, o, lane, size, input, in_lane, packet, now_ps, kind);
        return;
    }
    occupy(v, input, in_lane, size, kind);
    join(v, o, lane, input, in_lane, packet, now_ps, kind);
    if (FAB_UNLIKELY(busy_ps <= now_ps)) {
        try_again(v, o, now_ps);
        set_leaf(v, levels, o, self->wake_ps[o]);
    } else if (first) {
        self->wake_ps[o] = busy_ps;
        advance_leaf(v, levels, o, busy_ps);
    }
}

/* ---- inputs that are first in, first out --------------------------------------------------------- */

/* Puts a packet behind others of its input; true: it is the first, and offered to its output. */
static bool enters_line(const visit_t *v, uint32_t o, uint32_t input, uint32_t in_lane, const fab_packet_t *packet)
{
    fab_voq_switch_t *self = v->self;
    fab_voq_input_t *in = &self->inputs[input * self->lane_count + in_lane];
    if (!in->busy) {
        in->busy = true;
        return true;
    }
    occupy(v, input, in_lane, fab_credit_size(&v->in_credits[input], packet->bytes), GENERAL);
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
        join(v, o, fab_packet_class(packet), i / self->lane_count, i % self->lane_count, &packet, now_ps, GENERAL);
        self->wake_ps[o] = fab_max_i64(now_ps, self->outputs[o].link->busy_ps);
        set_leaf(v, self->levels, o, self->wake_ps[o]);
    }
}

/* ---- arriving ------------------------------------------------------------------------------------ */

/* Of the ports that a packet may take the one with the shortest queue in time, those that have credits for it first; of
 * equals the next one round from where the hash points. */
static FAB_NOINLINE uint32_t least_loaded(const visit_t *v, const fab_packet_t *packet, int64_t now_ps)
{
    const fab_candidates_t candidates = fab_route_candidates(v->route, v->rule, packet->dst);
    const uint32_t lane = fab_packet_class(*packet);
    uint32_t best = FAB_NONE, i = fab_candidates_hashed(candidates, v->rule, packet->entropy);
    int64_t least_ps = INT64_MAX;
    for (uint32_t n = 0; n < candidates.count; n++, i = i + 1 < candidates.count ? i + 1 : 0) {
        const uint32_t port = fab_candidates_port(candidates, i);
        const fab_voq_output_t *output = &v->self->outputs[port];
        int64_t queued_bytes = 0;
        for (uint32_t c = 0; c < v->self->lane_count; c++)
            queued_bytes += output->queued_bytes[c];
        int64_t load_ps =
            fab_max_i64(output->link->busy_ps - now_ps, 0) + fab_wire_ps(queued_bytes, output->link->ps_per_byte_q16);
        if (!fab_credit_available(output->credit, lane, fab_credit_size(output->credit, packet->bytes), now_ps))
            load_ps += FAB_NEVER;
        if (load_ps < least_ps) {
            least_ps = load_ps;
            best = port;
        }
    }
    return best;
}

FAB_INLINE uint32_t choose_output(const visit_t *v, const fab_packet_t *packet, int64_t now_ps, const kind_t kind)
{
    return kind == GENERAL && v->route->adaptive ? least_loaded(v, packet, now_ps)
                                                 : fab_route_port(v->route, v->rule, packet->dst, packet->entropy);
}

/* Forgets a packet that was lost on its link, or that no route leads on: its room is free when its last bit has come. */
static FAB_NOINLINE void discard(const visit_t *v, uint32_t input, const fab_packet_t *packet, int64_t now_ps)
{
    const fab_link_t *link = &v->fabric->links[v->first_link + input];
    fab_credit_t *credit = &v->in_credits[input];
    fab_credit_return(credit, v->worker, v->fabric->net, fab_packet_class(*packet),
                      fab_credit_size(credit, packet->bytes), now_ps + fab_link_wire_ps(link, packet->bytes), now_ps);
}

/* Where some output is faster than some input: whether the packet at the head of an input, which has come now, must be
 * held for its output, and until when. */
static FAB_NOINLINE bool hold(const visit_t *v, uint32_t input, int64_t now_ps)
{
    fab_voq_switch_t *self = v->self;
    const fab_link_t *link = &v->fabric->links[v->first_link + input];
    const fab_packet_t *packet = &link->ring[link->head & link->mask];
    const uint32_t o = choose_output(v, packet, now_ps, GENERAL);
    self->held_for[input] = o;
    if (o == FAB_NONE)
        return false;
    const int64_t more_ps = fab_link_taken_ps(v->fabric, v->first_link + input, packet->bytes, now_ps) -
                            fab_link_wire_ps(self->outputs[o].link, packet->bytes);
    if (more_ps <= 0)
        return false;
    self->held_ps[input] = now_ps + more_ps;
    return true;
}

/* The head of an input: its first bit came in, or it has been held long enough. Returns how many packets it took. */
FAB_INLINE int64_t arrive(const visit_t *v, const uint32_t levels, uint32_t input, int64_t now_ps, const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    const uint32_t l = v->first_link + input, leaf = (1u << (levels - 1)) + input;
    const bool may_hold = kind == GENERAL && self->held_ps;
    const bool was_held = may_hold && self->held_ps[input] != FAB_NEVER;
    bool lost = false;
    if (FAB_UNLIKELY(v->worker->record) && !was_held) {
        const fab_link_t *link = &v->fabric->links[l];
        lost = !fab_link_record(v->worker, v->fabric, l, now_ps, link->ring[link->head & link->mask]);
    }
    if (may_hold && !was_held && !lost && hold(v, input, now_ps)) {
        set_leaf(v, levels, leaf, self->held_ps[input]);
        return 0;
    }
    if (was_held)
        self->held_ps[input] = FAB_NEVER;
    const fab_packet_t *packet;
    set_leaf(v, levels, leaf, fab_link_pop(v->fabric, l, kind == GENERAL ? v->fabric->heads[l] : now_ps, &packet));
    const uint32_t o = lost ? FAB_NONE : may_hold ? self->held_for[input] : choose_output(v, packet, now_ps, kind);
    if (kind == GENERAL && o == FAB_NONE) { /* where there are faults; a packet that was lost is counted already */
        v->fabric->ports[self->outputs[input].link_at].drops += !lost;
        discard(v, input, packet, now_ps);
        return 1;
    }
    const uint32_t in_lane = kind == ONE_LANE ? 0 : fab_packet_class(*packet);
    uint32_t lane = in_lane;
    fab_packet_t changed;
    if (kind == GENERAL && v->route->changes_class) {
        lane = fab_route_next_class(v->route, v->rule, input, o, in_lane, packet->entropy);
        changed = *packet;
        changed.psn_flags = (packet->psn_flags & ~(3u << FAB_CLASS_SHIFT)) | lane << FAB_CLASS_SHIFT;
        packet = &changed;
    }
    if (kind != GENERAL || !self->inputs || enters_line(v, o, input, in_lane, packet))
        forward(v, levels, o, lane, input, in_lane, packet, now_ps, kind);
    return 1;
}

/* ---- the switch's turn --------------------------------------------------------------------------- */

FAB_INLINE int64_t arrival_ps(const visit_t *v, uint32_t input, bool may_hold)
{
    const fab_voq_switch_t *self = v->self;
    return may_hold && self->held_ps[input] != FAB_NEVER ? self->held_ps[input]
                                                         : v->fabric->heads[v->first_link + input];
}

FAB_INLINE void plant_tree(const visit_t *v, const uint32_t levels, const bool may_hold)
{
    fab_voq_switch_t *self = v->self;
    for (uint32_t w = 0; w < self->words; w++)
        for (uint64_t set = self->blocked[w]; set; set &= set - 1) {
            const uint32_t o = w * 64 + (uint32_t)__builtin_ctzll(set);
            const int64_t busy_ps = self->outputs[o].link->busy_ps;
            const bool dark = v->fabric->faults && busy_ps >= v->base_ps; /* it looks again once it is lit */
            self->wake_ps[o] = dark ? busy_ps : unblocked_ps(self, &self->outputs[o]);
        }
    uint64_t *tree = v->tree;
    const uint32_t leaves = 1u << levels, half = leaves / 2, ports = self->port_count;
    for (uint32_t p = 0; p < ports; p++) {
        tree[leaves + p] = key_of(v, self->wake_ps[p], p);
        tree[leaves + half + p] = key_of(v, arrival_ps(v, p, may_hold), half + p);
    }
    for (uint32_t p = ports; p < half; p++)
        tree[leaves + p] = tree[leaves + half + p] = NOTHING;
    for (uint32_t i = leaves - 1; i >= 1; i--)
        tree[i] = tree[2 * i] < tree[2 * i + 1] ? tree[2 * i] : tree[2 * i + 1];
}

/* What a visit is about to need, asked for together: in large fabrics no cache holds it from one visit to the next. (8192
 * hosts: 1.35 times as fast; below a thousand it only costs.) */
FAB_INLINE void fetch_ahead(const visit_t *v)
{
    const fab_voq_switch_t *self = v->self;
    const int64_t *heads = &v->fabric->heads[v->first_link];
    const fab_link_t *links = &v->fabric->links[v->first_link];
    for (uint32_t p = 0; p < self->port_count; p++) {
        __builtin_prefetch(self->outputs[p].link, 1);
        __builtin_prefetch(self->outputs[p].credit, 1);
        if (heads[p] < v->until_ps) {
            __builtin_prefetch(&links[p], 1);
            __builtin_prefetch(&v->in_credits[p], 1);
        }
    }
    for (uint32_t p = 0; p < self->port_count; p++) {
        const fab_link_t *out = self->outputs[p].link;
        __builtin_prefetch(&out->ring[out->tail & out->mask], 1);
        if (heads[p] < v->until_ps) {
            const fab_credit_t *credit = &v->in_credits[p];
            __builtin_prefetch(&links[p].ring[links[p].head & links[p].mask]);
            __builtin_prefetch(&credit->ring[credit->tail & credit->mask], 1);
        }
    }
}

/* All events before until_ps; returns when the next one is. */
FAB_INLINE int64_t handle_all(const visit_t *v, const uint32_t levels, const kind_t kind)
{
    fab_voq_switch_t *self = v->self;
    const bool may_hold = kind == GENERAL && self->held_ps;
    const uint32_t half = 1u << (levels - 1);
    int64_t hops = 0;
    if (v->fabric->net->link_count > FETCH_FROM_LINKS)
        fetch_ahead(v);
    plant_tree(v, levels, may_hold);
    for (;;) {
        const uint64_t key = v->tree[1];
        if (kind == GENERAL) {
            const int64_t next_ps = key == NOTHING ? v->until_ps - 1 : v->base_ps + (int64_t)(key >> LEAF_BITS);
            if (self->release_ps <= next_ps) {
                release_inputs(v, self->release_ps);
                continue;
            }
        }
        if (key == NOTHING)
            break;
        const int64_t now_ps = v->base_ps + (int64_t)(key >> LEAF_BITS);
        const uint32_t leaf = (uint32_t)key & ((1u << LEAF_BITS) - 1);
        if (leaf < half) {
            take_turn(v, leaf, now_ps, kind);
            set_leaf(v, levels, leaf, self->wake_ps[leaf]);
        } else {
            hops += arrive(v, levels, leaf - half, now_ps, kind);
        }
    }
    v->worker->hops += hops;
    int64_t next_ps = kind == GENERAL ? self->release_ps : FAB_NEVER;
    for (uint32_t p = 0; p < self->port_count; p++)
        next_ps = fab_min_i64(next_ps, fab_min_i64(self->wake_ps[p], arrival_ps(v, p, may_hold)));
    return next_ps;
}

FAB_INLINE int64_t handle_kind(const visit_t *v, const kind_t kind)
{
    switch (v->self->levels) {
    case 3: return handle_all(v, 3, kind);
    case 4: return handle_all(v, 4, kind);
    case 5: return handle_all(v, 5, kind);
    case 6: return handle_all(v, 6, kind);
    case 7: return handle_all(v, 7, kind);
    default: return handle_all(v, v->self->levels, kind);
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
        .in_credits = &fabric->credits[node->first_link],
        .tree = worker->tree,
        .first_link = node->first_link,
        .base_ps = base_ps,
        .until_ps = until_ps,
    };
    if (self->words > 1 || self->held_ps || self->inputs || v.route->adaptive || v.route->changes_class)
        return handle_all(&v, self->levels, GENERAL);
    return self->lane_count == 1 ? handle_kind(&v, ONE_LANE) : handle_kind(&v, LANES);
}
