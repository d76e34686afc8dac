/* Message by message through a group's connections. */
#include "flow/dry.h"

#include <stdlib.h>
#include <string.h>

#include "core/grow.h"

enum { EVENT_START, EVENT_NIC, EVENT_ARRIVED, EVENT_STEP, EVENT_ACKNOWLEDGED };

/* ---- events ------------------------------------------------------------------------------------- */

static bool before(const fab_dry_event_t *a, const fab_dry_event_t *b)
{
    return a->when_ps < b->when_ps || (a->when_ps == b->when_ps && a->order < b->order);
}

static void push(fab_dry_t *self, int64_t when_ps, uint32_t what, uint32_t edge, uint32_t step)
{
    if (!fab_grow(&self->heap, &self->heap_capacity, self->heap_count + 1, sizeof *self->heap)) {
        self->error = FAB_E_MEMORY;
        return;
    }
    const fab_dry_event_t event = {when_ps, self->order++, what, edge, step, 0};
    uint32_t i = self->heap_count++;
    while (i && before(&event, &self->heap[(i - 1) / 2])) {
        self->heap[i] = self->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    self->heap[i] = event;
}

static fab_dry_event_t pop(fab_dry_t *self)
{
    const fab_dry_event_t top = self->heap[0], last = self->heap[--self->heap_count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= self->heap_count)
            break;
        if (child + 1 < self->heap_count && before(&self->heap[child + 1], &self->heap[child]))
            child++;
        if (!before(&self->heap[child], &last))
            break;
        self->heap[i] = self->heap[child];
        i = child;
    }
    if (self->heap_count)
        self->heap[i] = last;
    return top;
}

/* ---- network interfaces --------------------------------------------------------------------------- */

static uint32_t nic_of(const fab_dry_t *self, const fab_lead_t *lead)
{
    return self->wiring->stops[lead->first_stop].local;
}

/* Brings a resource's queue up to now. */
static void drain(fab_dry_queue_t *queue, int64_t now_ps)
{
    queue->backlog_ps += (queue->rate - 1) * (double)(now_ps - queue->at_ps);
    if (queue->backlog_ps < 0)
        queue->backlog_ps = 0;
    queue->at_ps = now_ps;
}

/* Adds to what a queue pair sends, in bytes a picosecond, all along its way. */
static void add_rate(fab_dry_t *self, uint32_t q, double more, int64_t now_ps)
{
    const fab_lead_t *lead = &self->wiring->leads[2 * q];
    const fab_stop_t *stops = &self->wiring->stops[lead->first_stop];
    for (uint32_t h = 1; h < lead->stop_count; h++) {
        const uint32_t r = stops[h].local;
        if (r == FAB_NONE)
            continue;
        drain(&self->queues[r], now_ps);
        self->queues[r].rate += more * stops[h].share * self->wiring->local_wire[r];
        if (self->queues[r].rate < 0) /* rounding */
            self->queues[r].rate = 0;
    }
}

/* One more or less shares an interface: the others' rates change. */
static void share_anew(fab_dry_t *self, uint32_t n, uint32_t before, uint32_t after)
{
    const fab_dry_nic_t *nic = &self->nics[n];
    const double whole = 1 / self->wiring->local_wire[n];
    const double more = whole / after - whole / before;
    for (uint32_t q = nic->first; q != FAB_NONE; q = self->qps[q].next)
        add_rate(self, q, more, self->now_ps);
    if (nic->ending != FAB_NONE && self->qps[nic->ending].sending == self->qps[nic->ending].head)
        add_rate(self, nic->ending, more, self->now_ps); /* it is not in line again */
}

/* The last bit of a message has left its interface: when it is there, behind what waits on its way. Of several queues the
 * longest counts: what waited in one does not wait in the next. */
static int64_t travel(fab_dry_t *self, fab_dry_qp_t *qp, const fab_dry_message_t *m, int64_t now_ps)
{
    const fab_lead_t *lead = &self->wiring->leads[m->lead];
    const fab_stop_t *stops = &self->wiring->stops[lead->first_stop];
    const double packet = m->packet_bytes, wire0 = self->wiring->local_wire[stops[0].local];
    const double window = self->wiring->edges[qp->edge].window;
    double wait = 0;
    if (window > 0) {
        const double free = qp->window_free > (double)m->begin_ps ? qp->window_free : (double)m->begin_ps;
        qp->window_free = free + m->wire_bytes * window;
        if (qp->window_free > (double)now_ps)
            wait = qp->window_free - (double)now_ps;
    }
    for (uint32_t h = 1; h < lead->stop_count; h++) {
        if (stops[h].local == FAB_NONE)
            continue;
        fab_dry_queue_t *queue = &self->queues[stops[h].local];
        drain(queue, now_ps);
        wait = queue->backlog_ps > wait ? queue->backlog_ps : wait;
    }
    return now_ps + lead->end_delay_ps + (int64_t)(packet * (lead->end_stored - wire0) + wait);
}

static int64_t busy_so_far(const fab_dry_t *self, uint32_t n)
{
    const fab_dry_nic_t *nic = &self->nics[n];
    return nic->busy_ps + (nic->busy_count ? self->now_ps - nic->since_ps : 0);
}

/* ---- turns ---------------------------------------------------------------------------------------- */

/* The queue pair's next message is the one that takes turns. */
static void load(fab_dry_t *self, uint32_t n, uint32_t q, uint32_t message)
{
    fab_dry_qp_t *qp = &self->qps[q];
    fab_dry_message_t *m = &self->messages[message];
    qp->sending = message;
    qp->left = (uint64_t)m->packets;
    qp->packet_ps = m->wire_bytes * self->wiring->local_wire[n] / (double)m->packets;
    m->begin_ps = self->now_ps;
    m->answerer_ps = busy_so_far(self, nic_of(self, &self->wiring->leads[m->lead + 1]));
}

static void get_in_line(fab_dry_t *self, fab_dry_nic_t *nic, uint32_t q)
{
    self->qps[q].next = FAB_NONE;
    if (nic->first == FAB_NONE)
        nic->first = q;
    else
        self->qps[nic->last].next = q;
    nic->last = q;
}

/* A queue pair has something to send, or nothing any more: the shares of all change. */
static void join(fab_dry_t *self, uint32_t n, uint32_t q)
{
    fab_dry_nic_t *nic = &self->nics[n];
    if (nic->busy_count)
        share_anew(self, n, nic->busy_count, nic->busy_count + 1);
    else
        nic->since_ps = self->now_ps;
    nic->busy_count++;
    add_rate(self, q, 1 / self->wiring->local_wire[n] / nic->busy_count, self->now_ps);
}

static void leave(fab_dry_t *self, uint32_t n, uint32_t q)
{
    fab_dry_nic_t *nic = &self->nics[n];
    add_rate(self, q, -1 / self->wiring->local_wire[n] / nic->busy_count, self->now_ps);
    if (nic->busy_count == 1) {
        nic->busy_ps = busy_so_far(self, n);
        nic->since_ps = self->now_ps;
    }
    nic->busy_count--;
    if (nic->busy_count)
        share_anew(self, n, nic->busy_count + 1, nic->busy_count);
}

/* The message that ended is out. */
static void message_out(fab_dry_t *self, uint32_t n)
{
    fab_dry_nic_t *nic = &self->nics[n];
    const uint32_t q = nic->ending;
    fab_dry_qp_t *qp = &self->qps[q];
    const uint32_t gone = qp->head;
    const fab_dry_message_t *m = &self->messages[gone];
    int64_t *newest_ps = &self->delivered[qp->edge];
    *newest_ps = fab_max_i64(*newest_ps, travel(self, qp, m, self->now_ps)); /* a connection keeps its order */
    push(self, *newest_ps, EVENT_ARRIVED, qp->edge, gone);
    nic->ending = FAB_NONE;
    qp->head = m->next;
    if (qp->head == FAB_NONE)
        leave(self, n, q);
}

/* The round that begins with the first in line: how long it takes, and in how many of them somebody comes to an end. */
static double round_of(const fab_dry_t *self, const fab_dry_nic_t *nic, uint64_t *rounds_out)
{
    double round_ps = 0;
    uint64_t least = UINT64_MAX;
    for (uint32_t q = nic->first; q != FAB_NONE; q = self->qps[q].next) {
        round_ps += self->qps[q].packet_ps;
        least = self->qps[q].left < least ? self->qps[q].left : least;
    }
    *rounds_out = least;
    return round_ps;
}

/* Sends what is to be sent before now. */
static void take_turns(fab_dry_t *self, uint32_t n)
{
    fab_dry_nic_t *nic = &self->nics[n];
    const double now_ps = (double)self->now_ps;
    for (;;) {
        if (nic->free_ps > now_ps)
            return;
        if (nic->ending != FAB_NONE)
            message_out(self, n);
        if (nic->first == FAB_NONE)
            return;
        uint64_t rounds;
        const double round_ps = round_of(self, nic, &rounds), whole = (now_ps - nic->free_ps) / round_ps;
        if (rounds > 1 && whole >= 1) {
            const uint64_t passed = whole < (double)(rounds - 1) ? (uint64_t)whole : rounds - 1;
            nic->free_ps += (double)passed * round_ps;
            for (uint32_t q = nic->first; q != FAB_NONE; q = self->qps[q].next)
                self->qps[q].left -= passed;
            continue;
        }
        const uint32_t q = nic->first;
        fab_dry_qp_t *qp = &self->qps[q];
        nic->first = qp->next;
        nic->free_ps += qp->packet_ps;
        if (--qp->left == 0) {
            const uint32_t next = self->messages[qp->sending].next;
            nic->ending = q;
            if (next == FAB_NONE)
                continue;
            load(self, n, q, next);
        }
        get_in_line(self, nic, q);
    }
}

/* Sets the timer for the message that will be out next. */
static void wind_nic(fab_dry_t *self, uint32_t n)
{
    fab_dry_nic_t *nic = &self->nics[n];
    double out_ps = nic->free_ps;
    if (nic->ending == FAB_NONE) {
        if (nic->first == FAB_NONE)
            return;
        uint64_t rounds;
        const double round_ps = round_of(self, nic, &rounds);
        out_ps += (double)(rounds - 1) * round_ps;
        for (uint32_t q = nic->first; q != FAB_NONE; q = self->qps[q].next) {
            out_ps += self->qps[q].packet_ps;
            if (self->qps[q].left == rounds)
                break;
        }
    }
    int64_t when_ps = (int64_t)out_ps;
    when_ps += (double)when_ps < out_ps;
    when_ps = fab_max_i64(when_ps, self->now_ps);
    if (nic->wake_ps >= 0 && nic->wake_ps <= when_ps)
        return; /* it looks again then */
    nic->wake_ps = when_ps;
    push(self, when_ps, EVENT_NIC, n, 0);
}

static void nic_turn(fab_dry_t *self, uint32_t n)
{
    fab_dry_nic_t *nic = &self->nics[n];
    if (nic->wake_ps != self->now_ps)
        return; /* a timer that was too late */
    nic->wake_ps = -1;
    take_turns(self, n);
    wind_nic(self, n);
}

/* ---- messages ----------------------------------------------------------------------------------- */

static uint32_t new_message(fab_dry_t *self)
{
    if (self->free_message != FAB_NONE) {
        const uint32_t m = self->free_message;
        self->free_message = self->messages[m].next;
        return m;
    }
    if (!fab_grow(&self->messages, &self->message_capacity, self->message_count + 1, sizeof *self->messages)) {
        self->error = FAB_E_MEMORY;
        return FAB_NONE;
    }
    return self->message_count++;
}

static void post(fab_dry_t *self, uint32_t e, int64_t bytes, uint32_t step)
{
    const fab_edge_t *edge = &self->wiring->edges[e];
    const fab_network_t *network = &self->model->networks[edge->network];
    const fab_transport_config_t *config = &network->transport_config;
    const uint32_t m = new_message(self);
    if (m == FAB_NONE)
        return;
    if (++self->message_total > self->message_limit) {
        self->error = FAB_E_LIMIT;
        return;
    }
    const fab_wire_need_t need = network->transport_ops->need(config, self->empty ? 0 : bytes);
    const uint32_t qps = config->qp_count > 1 ? config->qp_count : 1, turn = self->turn[e];
    self->turn[e] = turn + 1 == qps ? 0 : turn + 1;
    const uint32_t lead = edge->first_lead + 2 * turn, q = lead / 2;
    self->messages[m] = (fab_dry_message_t){
        .wire_bytes = (double)need.wire_bytes,
        .packet_bytes = (double)need.packet_bytes,
        .ack_bytes = (double)need.ack_bytes,
        .packets = need.packets,
        .step = step,
        .next = FAB_NONE,
        .lead = lead,
    };
    fab_carried_t *carried = &self->carried[e];
    carried->wire_bytes += (double)need.wire_bytes;
    carried->ack_bytes += (double)need.ack_bytes;
    carried->packets += (double)need.packets;
    carried->messages += 1;
    fab_dry_qp_t *qp = &self->qps[q];
    const uint32_t n = nic_of(self, &self->wiring->leads[lead]);
    fab_dry_nic_t *nic = &self->nics[n];
    if (nic->busy_count)
        take_turns(self, n);
    const bool idle = qp->head == FAB_NONE, takes_turns = !idle && !(nic->ending == q && qp->sending == qp->head);
    if (idle)
        qp->head = m;
    else
        self->messages[qp->tail].next = m;
    qp->tail = m;
    if (takes_turns)
        return;
    if (nic->free_ps < (double)self->now_ps)
        nic->free_ps = (double)self->now_ps;
    if (idle)
        join(self, n, q);
    load(self, n, q, m);
    get_in_line(self, nic, q);
    wind_nic(self, n);
}

/* ---- the algorithm ------------------------------------------------------------------------------ */

typedef struct {
    fab_dry_t *dry;
    uint32_t from;
} sender_t;

static int64_t with_overhead(int64_t bytes, int64_t overhead_ppm)
{
    return bytes + (int64_t)((unsigned __int128)bytes * (uint64_t)overhead_ppm / 1000000);
}

static void send(void *context, uint32_t to, int64_t bytes, uint32_t step, uint32_t channel)
{
    const sender_t *s = context;
    fab_dry_t *self = s->dry;
    const uint32_t first = self->wiring->edge_first[s->from], end = self->wiring->edge_first[s->from + 1];
    uint32_t e = self->cursor[s->from];
    for (uint32_t looked = first; looked < end; looked++) {
        e = e + 1 < end ? e + 1 : first;
        if (self->wiring->edges[e].to == to && self->wiring->edges[e].channel == channel)
            break;
    }
    if (first == end || self->wiring->edges[e].to != to || self->wiring->edges[e].channel != channel) {
        self->error = FAB_E_INTERNAL; /* a position that its peers() did not name */
        return;
    }
    self->cursor[s->from] = e;
    bytes = with_overhead(bytes, self->coll.values[FAB_COLL_OVERHEAD_PPM]);
    if (self->wiring->edges[e].network)
        bytes = with_overhead(bytes, self->coll.values[FAB_COLL_UP_OVERHEAD_PPM]);
    post(self, e, bytes, step);
}

static bool is_reducer(const fab_dry_t *self, uint32_t position) { return position >= self->coll.count; }

static void settle(fab_dry_t *self, uint32_t position, bool done, int64_t now_ps)
{
    fab_dry_rank_t *rank = &self->ranks[position];
    if (done && !rank->done) {
        rank->done = true;
        rank->done_ps = now_ps;
    }
}

static void start(fab_dry_t *self, uint32_t position, int64_t now_ps)
{
    fab_dry_rank_t *rank = &self->ranks[position];
    sender_t sender = {self, position};
    fab_coll_t coll = self->coll;
    coll.position = position;
    rank->started = true;
    settle(self, position, self->algorithm->start(&coll, &rank->state, (fab_coll_out_t){&sender, send}), now_ps);
}

static void received(fab_dry_t *self, uint32_t position, uint32_t step, int64_t now_ps)
{
    fab_dry_rank_t *rank = &self->ranks[position];
    sender_t sender = {self, position};
    fab_coll_t coll = self->coll;
    coll.position = position;
    if (!rank->started) /* a reducer begins with its first message */
        start(self, position, now_ps);
    settle(self, position, self->algorithm->received(&coll, &rank->state, step, (fab_coll_out_t){&sender, send}),
           now_ps);
}

static void acknowledged(fab_dry_t *self, uint32_t position, uint32_t step, int64_t now_ps)
{
    fab_dry_rank_t *rank = &self->ranks[position];
    sender_t sender = {self, position};
    fab_coll_t coll = self->coll;
    coll.position = position;
    if (!rank->done)
        settle(self, position,
               self->algorithm->acknowledged(&coll, &rank->state, step, (fab_coll_out_t){&sender, send}), now_ps);
}

/* A message is there. Its answers took turns of the receiver's interface while that was busy. (What they take of the links
 * farther on is the slowest interface's loss already.) */
static void arrived(fab_dry_t *self, uint32_t e, uint32_t number, int64_t now_ps)
{
    const fab_wiring_t *wiring = self->wiring;
    const fab_edge_t *edge = &wiring->edges[e];
    fab_dry_message_t *m = &self->messages[number];
    const fab_lead_t *back = &wiring->leads[m->lead + 1];
    const double ack_bytes = m->ack_bytes;
    const uint32_t step = m->step, n = nic_of(self, back);
    m->next = self->free_message;
    self->free_message = number;
    fab_dry_nic_t *nic = &self->nics[n];
    if (nic->busy_count)
        take_turns(self, n);
    const int64_t took_ps = now_ps - m->begin_ps, busy_ps = busy_so_far(self, n) - m->answerer_ps;
    if (nic->free_ps < (double)now_ps)
        nic->free_ps = (double)now_ps;
    nic->free_ps += ack_bytes * wiring->local_wire[n] * (double)busy_ps / (double)took_ps;
    fab_dry_rank_t *sender = &self->ranks[edge->from];
    sender->acked_ps = fab_max_i64(sender->acked_ps, now_ps + edge->back_ps);
    if (++self->arrived * 2 == self->stop_after)
        self->half_ps = now_ps;
    if (!self->algorithm)
        return;
    if (self->algorithm->acknowledged)
        push(self, now_ps + edge->back_ps, EVENT_ACKNOWLEDGED, e, step);
    const int64_t *values = self->coll.values;
    const int64_t step_ps = values[FAB_COLL_STEP_PS] + (edge->network == 0 ? values[FAB_COLL_NET_STEP_PS] : 0);
    if (step_ps && !is_reducer(self, edge->to))
        push(self, now_ps + step_ps, EVENT_STEP, e, step);
    else
        received(self, edge->to, step, now_ps);
}

/* ---- a run -------------------------------------------------------------------------------------- */

static int prepare(fab_dry_t *self, const fab_model_t *model, const fab_wiring_t *wiring)
{
    const uint32_t qps = wiring->lead_count / 2;
    self->model = model;
    self->wiring = wiring;
    self->heap_count = self->message_count = 0;
    self->free_message = FAB_NONE;
    self->order = self->message_total = self->arrived = 0;
    self->half_ps = 0;
    self->now_ps = self->end_ps = 0;
    self->error = FAB_OK;
    if (!fab_grow(&self->ranks, &self->rank_capacity, wiring->position_count, sizeof *self->ranks) ||
        !fab_grow(&self->cursor, &self->cursor_capacity, wiring->position_count, sizeof *self->cursor) ||
        !fab_grow(&self->nics, &self->local_capacity, wiring->local_count, sizeof *self->nics) ||
        !fab_grow(&self->queues, &self->queue_capacity, wiring->local_count, sizeof *self->queues) ||
        !fab_grow(&self->qps, &self->qp_capacity, qps, sizeof *self->qps) ||
        !fab_grow(&self->turn, &self->turn_capacity, wiring->edge_count, sizeof *self->turn) ||
        !fab_grow(&self->delivered, &self->delivered_capacity, wiring->edge_count, sizeof *self->delivered) ||
        !fab_grow(&self->carried, &self->carried_capacity, wiring->edge_count, sizeof *self->carried))
        return FAB_E_MEMORY;
    for (uint32_t p = 0; p < wiring->position_count; p++) {
        self->ranks[p] = (fab_dry_rank_t){0};
        self->cursor[p] = wiring->edge_first[p + 1] - (wiring->edge_first[p + 1] > wiring->edge_first[p]);
    }
    for (uint32_t r = 0; r < wiring->local_count; r++) {
        self->nics[r] = (fab_dry_nic_t){.first = FAB_NONE, .ending = FAB_NONE, .wake_ps = -1};
        self->queues[r] = (fab_dry_queue_t){0};
    }
    for (uint32_t e = 0; e < wiring->edge_count; e++) {
        self->turn[e] = 0;
        self->delivered[e] = 0;
        self->carried[e] = (fab_carried_t){0};
        const uint32_t first = wiring->edges[e].first_lead / 2;
        const uint32_t end = e + 1 < wiring->edge_count ? wiring->edges[e + 1].first_lead / 2 : qps;
        for (uint32_t q = first; q < end; q++)
            self->qps[q] = (fab_dry_qp_t){.head = FAB_NONE, .tail = FAB_NONE, .edge = e};
    }
    return FAB_OK;
}

static void run(fab_dry_t *self)
{
    while (self->heap_count && !self->error && (!self->stop_after || self->arrived < self->stop_after)) {
        const fab_dry_event_t event = pop(self);
        const fab_edge_t *edges = self->wiring->edges;
        self->now_ps = event.when_ps;
        switch (event.what) {
        case EVENT_NIC: nic_turn(self, event.edge); break;
        case EVENT_ARRIVED: arrived(self, event.edge, event.step, event.when_ps); break;
        case EVENT_STEP: received(self, edges[event.edge].to, event.step, event.when_ps); break;
        case EVENT_ACKNOWLEDGED: acknowledged(self, edges[event.edge].from, event.step, event.when_ps); break;
        default: start(self, event.edge, event.when_ps); break;
        }
    }
}

int fab_dry_collective(fab_dry_t *self, const fab_model_t *model, const fab_wiring_t *wiring, const fab_party_t *party,
                       fab_dry_options_t options, fab_dry_result_t *result_out)
{
    const int code = prepare(self, model, wiring);
    if (code)
        return code;
    self->party = party;
    self->algorithm = fab_party_algorithm(party);
    self->coll = fab_party_coll(party, 0);
    self->coll.bytes = options.bytes;
    self->empty = options.empty;
    self->message_limit = options.message_limit;
    self->stop_after = options.stop_after;
    for (uint32_t p = 0; p < self->coll.count; p++)
        push(self, self->coll.values[FAB_COLL_LAUNCH_PS], EVENT_START, p, 0);
    run(self);
    *result_out = (fab_dry_result_t){.messages = self->message_total, .exceeded = self->error == FAB_E_LIMIT};
    if (result_out->exceeded)
        return FAB_OK;
    const bool stopped = self->stop_after && self->arrived >= self->stop_after;
    result_out->half_ps = self->half_ps;
    result_out->end_ps = stopped ? self->now_ps : 0;
    for (uint32_t p = 0; p < self->coll.count && !self->error && !stopped; p++) {
        const fab_dry_rank_t *rank = &self->ranks[p];
        if (!rank->done)
            self->error = FAB_E_INTERNAL;
        result_out->end_ps = fab_max_i64(result_out->end_ps, fab_max_i64(rank->done_ps, rank->acked_ps));
    }
    return self->error;
}

int fab_dry_send(fab_dry_t *self, const fab_model_t *model, const fab_wiring_t *wiring, int64_t bytes, bool empty,
                 fab_dry_result_t *result_out)
{
    const int code = prepare(self, model, wiring);
    if (code)
        return code;
    self->party = NULL;
    self->algorithm = NULL;
    self->empty = empty;
    self->message_limit = UINT64_MAX;
    self->stop_after = 0;
    post(self, 0, bytes, 0);
    run(self);
    *result_out = (fab_dry_result_t){.end_ps = self->delivered[0], .messages = 1};
    return self->error;
}

void fab_dry_free(fab_dry_t *self)
{
    free(self->heap);
    free(self->messages);
    free(self->ranks);
    free(self->nics);
    free(self->qps);
    free(self->queues);
    free(self->cursor);
    free(self->turn);
    free(self->delivered);
    free(self->carried);
    *self = (fab_dry_t){0};
}
