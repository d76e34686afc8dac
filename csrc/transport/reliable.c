/* Reliable connections: go-back-N, cumulative (coalesced) acknowledgements, congestion notifications,
 * and a NIC that pulls one packet at a time from its ready connections, round robin.
 *
 * Sources: InfiniBand Architecture Specification vol. 1, ch. 9 (reliable connection, NAK, time-out) and annex
 * A17 (RoCEv2); DCQCN, SIGCOMM 2015 (notification point). A packet is numbered on from the last, whatever the
 * message; the receiver takes packets in their order and names the first missing one in a NAK. With packet
 * spraying it keeps packets that came early (`reorder_count`) instead. */
#include "transport/line.h"

void fab_reliable_configure(const int64_t *v, fab_transport_config_t *config_out)
{
    for (int32_t i = 0; i < RELIABLE_VALUE_COUNT; i++)
        config_out->values[i] = v[i];
    if (config_out->telemetry) {
        config_out->values[RELIABLE_HEADER_BYTES] += v[RELIABLE_TELEMETRY_BYTES];
        config_out->values[RELIABLE_ACK_BYTES] += v[RELIABLE_TELEMETRY_BYTES];
    }
    config_out->qp_count = (uint32_t)v[RELIABLE_QP_COUNT];
    v = config_out->values;
    config_out->values[RELIABLE_MTU_BYTES] *= v[RELIABLE_TRAIN_COUNT]; /* a train is a packet from here on */
    config_out->values[RELIABLE_HEADER_BYTES] *= v[RELIABLE_TRAIN_COUNT];
    config_out->wire_max_bytes = v[RELIABLE_MTU_BYTES] + v[RELIABLE_HEADER_BYTES] + v[RELIABLE_FIRST_HEADER_BYTES];
    config_out->wire_max_bytes =
        fab_max_i64(config_out->wire_max_bytes, fab_max_i64(v[RELIABLE_ACK_BYTES], v[RELIABLE_CNP_BYTES]));
    config_out->control_priority = v[RELIABLE_CONTROL_PRIORITY];
    config_out->window_bytes = v[RELIABLE_WINDOW_BYTES];
}

fab_wire_need_t fab_reliable_need(const fab_transport_config_t *config, int64_t bytes)
{
    const int64_t *v = config->values;
    const int64_t mtu = v[RELIABLE_MTU_BYTES], least = v[RELIABLE_MIN_WIRE_BYTES], every = v[RELIABLE_ACK_EVERY_COUNT];
    const int64_t packets = bytes ? (bytes + mtu - 1) / mtu : 1, payload = bytes - (packets - 1) * mtu;
    const int64_t full = fab_max_i64(((mtu + 3) & ~INT64_C(3)) + v[RELIABLE_HEADER_BYTES], least);
    const int64_t last = ((payload + 3) & ~INT64_C(3)) + fab_line_header_bytes(v, payload);
    const int64_t first = packets > 1 ? full : last;
    return (fab_wire_need_t){
        .packets = packets,
        .wire_bytes = (packets > 1 ? (packets - 2) * full + fab_max_i64(last, least) : 0) +
                      fab_max_i64(first + v[RELIABLE_FIRST_HEADER_BYTES], least),
        .packet_bytes = fab_max_i64(packets > 1 ? full : last + v[RELIABLE_FIRST_HEADER_BYTES], least),
        .ack_bytes = (packets + every - 1) / every * v[RELIABLE_ACK_BYTES],
        .answer_bytes = v[RELIABLE_ACK_BYTES],
    };
}

/* ---- what leaves the host ----------------------------------------------------------------------- */

/* Hands a packet to the host's link. Control packets do not wait for the NIC's turn. */
FAB_INLINE void emit(fab_transport_t *self, fab_worker_t *worker, uint32_t out, fab_packet_t packet, int64_t now_ps,
                     const bool measures)
{
    worker->packets++;
    if (!self->ordered) {
        fab_link_push(worker, self->fabric, out, &packet, 0, now_ps, false);
        if (measures && self->config->telemetry)
            fab_feedback_add_telemetry(self, worker, out, fab_packet_kind(packet));
        return;
    }
    fab_link_t *link = &self->fabric->links[out];
    fab_port_t *port = &self->fabric->ports[out];
    fab_queue_advance(link, port, now_ps);
    if (FAB_UNLIKELY(!fab_queue_room(worker, link, port)))
        return;
    if (self->config->control_priority && packet.psn_flags & FAB_FLAG_CONTROL &&
        (port->paused || link->busy_ps > now_ps))
        fab_queue_overtake(worker, self->fabric, out, packet, now_ps);
    else
        fab_queue_push(worker, self->fabric, out, link, port, &packet, 0, FAB_FROM_NOWHERE, now_ps);
}

/* With credits: a control packet waits at the NIC for its turn, before the data of its lane. */
static void queue_control(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, uint32_t lane,
                          fab_packet_t packet, int64_t now_ps)
{
    if (!fab_reliable_queue_control(worker, host, lane, packet)) {
        worker->error = FAB_E_MEMORY;
        return;
    }
    const int64_t free_ps = fab_max_i64(now_ps, self->fabric->links[host->out_link].busy_ps);
    host->wake_ps = fab_min_i64(host->wake_ps, free_ps);
}

FAB_INLINE void answer(fab_transport_t *self, fab_worker_t *worker, const fab_rx_t *rx, fab_host_t *host, uint32_t kind,
                       uint64_t psn, int64_t now_ps, const bool measures)
{
    const fab_packet_t packet = {
        .psn_flags = ((uint32_t)psn & FAB_PSN_MASK) | kind << FAB_KIND_SHIFT | FAB_FLAG_CONTROL |
                     (uint32_t)rx->data_class << FAB_CLASS_SHIFT,
        .dst = rx->src,
        .qpn = rx->sender_qpn,
        .bytes = (uint16_t)(kind == FAB_CNP ? self->config->values[RELIABLE_CNP_BYTES]
                                            : self->config->values[RELIABLE_ACK_BYTES]),
        .entropy = rx->entropy,
    };
    if (FAB_UNLIKELY(self->config->credit))
        queue_control(self, worker, host, rx->data_class, packet, now_ps);
    else
        emit(self, worker, host->out_link, packet, now_ps, measures);
}

/* ---- the NIC's turn ------------------------------------------------------------------------------ */

/* The link may be free; sends one packet. */
FAB_INLINE void pull(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, int64_t now_ps, const bool measures)
{
    const fab_link_t *link = &self->fabric->links[host->out_link];
    if (link->busy_ps > now_ps) { /* an acknowledgement went in between */
        host->wake_ps = link->busy_ps;
        return;
    }
    if (FAB_UNLIKELY(self->config->credit)) {
        fab_line_pull_with_credits(self, worker, host, now_ps);
        return;
    }
    const uint32_t qpn = fab_line_pop_ready(self, host);
    fab_tx_t *tx = &self->tx[host->tx_first + qpn];
    tx->in_line = false;
    if (FAB_LIKELY(fab_line_may_send(self, tx, measures))) {
        const bool again = measures && fab_feedback_pending(self, tx);
        const fab_packet_t packet =
            again ? fab_line_next_again(self, tx) : fab_line_next_packet(self, tx, fab_line_next_bytes(self, tx));
        emit(self, worker, host->out_link, packet, now_ps, measures);
        fab_line_has_sent(self, worker, host, tx, qpn, packet.bytes, again, now_ps, measures);
    }
    host->wake_ps = host->ready & ~host->paused ? fab_max_i64(now_ps, link->busy_ps) : FAB_NEVER;
}

/* ---- what comes in ------------------------------------------------------------------------------ */

/* What a connection has to send has changed. In line already, its next packet may weigh less now: a NIC that waits for
 * credits looks again. */
FAB_INLINE void go_on(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, uint32_t qpn, int64_t now_ps,
                      const bool measures)
{
    if (!self->tx[host->tx_first + qpn].in_line)
        fab_line_schedule(self, worker, host, qpn, now_ps, measures);
    else if (FAB_UNLIKELY(host->blocked))
        host->wake_ps = fab_min_i64(host->wake_ps, fab_max_i64(now_ps, self->fabric->links[host->out_link].busy_ps));
}

static void go_back(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, uint32_t qpn, bool timeout,
                    int64_t now_ps)
{
    fab_tx_t *tx = &self->tx[host->tx_first + qpn];
    worker->retransmits += (int64_t)(tx->next_psn - tx->una_psn);
    tx->next_psn = tx->una_psn;
    tx->messages.at = tx->messages.head;
    tx->current = *fab_messages_at(&tx->messages, tx->messages.at);
    if (self->measures)
        fab_feedback_went_back(self, tx, timeout, now_ps);
    go_on(self, worker, host, qpn, now_ps, self->measures);
}

/* Messages that end before `una` are done: tells the user, and sets the sender to the message after them. */
static void finish_messages(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, fab_tx_t *tx,
                            uint64_t una, int64_t now_ps)
{
    while (tx->head_end_psn <= una) {
        const fab_cookie_t cookie = fab_messages_at(&tx->messages, tx->messages.head++)->cookie;
        tx->head_end_psn = tx->messages.head == tx->messages.tail
                               ? UINT64_MAX
                               : fab_messages_at(&tx->messages, tx->messages.head)->end_psn;
        self->user.acknowledged(self->user.self, worker, host_index, cookie, now_ps);
    }
    if (tx->messages.head == tx->messages.tail) { /* the next one posted is found from here */
        tx->messages.at = tx->messages.head - 1;
        tx->current.end_psn = una;
    } else if ((int32_t)(tx->messages.head - tx->messages.at) > 0) {
        tx->messages.at = tx->messages.head;
        tx->current = *fab_messages_at(&tx->messages, tx->messages.at);
    }
}

/* Everything before `una` has arrived. */
FAB_INLINE void acknowledge(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index,
                            const fab_packet_t *packet, uint64_t una, int64_t now_ps, const bool measures)
{
    fab_host_t *host = &self->hosts[host_index];
    const uint32_t qpn = packet->qpn;
    fab_tx_t *tx = &self->tx[host->tx_first + qpn];
    if (una <= tx->una_psn || una > tx->end_psn) {
        if (measures) {
            fab_feedback_acked(self, worker, tx, false, packet, now_ps);
            fab_line_schedule(self, worker, host, qpn, now_ps, measures);
        }
        return;
    }
    tx->una_psn = una;
    if (FAB_UNLIKELY(una > tx->next_psn)) /* it had gone back, in vain */
        tx->next_psn = una;
    if (measures)
        fab_feedback_acked(self, worker, tx, true, packet, now_ps);
    tx->progress_ps = now_ps;
    tx->retries = 0;
    if (FAB_UNLIKELY(tx->head_end_psn <= una))
        finish_messages(self, worker, host_index, tx, una, now_ps);
    go_on(self, worker, host, qpn, now_ps, measures);
}

FAB_INLINE void receive_data(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, fab_packet_t packet,
                             int64_t now_ps, const bool measures)
{
    fab_host_t *host = &self->hosts[host_index];
    fab_rx_t *rx = &self->rx[host->rx_first + packet.qpn];
    const int64_t *v = self->config->values;
    const uint64_t psn = fab_psn_unwrap(fab_packet_psn(packet), rx->expected_psn);
    if (FAB_UNLIKELY(packet.psn_flags & FAB_FLAG_CE) && self->cc->wants_cnp &&
        now_ps - rx->cnp_at_ps >= v[RELIABLE_CNP_INTERVAL_PS]) {
        rx->cnp_at_ps = now_ps;
        worker->cnps++;
        answer(self, worker, rx, host, FAB_CNP, 0, now_ps, measures);
    }
    bool ends = packet.psn_flags & FAB_FLAG_LAST;
    if (FAB_LIKELY(psn == rx->expected_psn)) {
        rx->expected_psn++;
        rx->nak_at_ps = -FAB_NEVER;
        if (ends)
            fab_reliable_deliver(self, worker, host_index, packet.qpn, now_ps);
        if (FAB_UNLIKELY(rx->early != NULL))
            ends |= fab_reliable_take_early(self, worker, host_index, packet.qpn, now_ps);
        if (ends || ++rx->unanswered >= v[RELIABLE_ACK_EVERY_COUNT]) {
            rx->unanswered = 0;
            worker->acks++;
            answer(self, worker, rx, host, FAB_ACK, rx->expected_psn, now_ps, measures);
        }
    } else if (psn < rx->expected_psn) {
        worker->duplicates++;
        worker->acks++;
        answer(self, worker, rx, host, FAB_ACK, rx->expected_psn, now_ps, measures);
    } else if (measures && self->gaps) {
        uint64_t end;
        if (fab_reliable_keep_early(self, worker, rx, psn, ends))
            for (uint64_t i = fab_feedback_look_for_gaps(self, rx, psn, &end); i != end; i++)
                if (!fab_reliable_has_early(self, rx, i)) {
                    worker->naks++;
                    answer(self, worker, rx, host, FAB_NAK, i, now_ps, measures);
                }
    } else if (!self->config->reorder || !fab_reliable_keep_early(self, worker, rx, psn, ends)) {
        if (now_ps - rx->nak_at_ps >= v[RELIABLE_NAK_INTERVAL_PS]) {
            rx->nak_at_ps = now_ps;
            worker->naks++;
            answer(self, worker, rx, host, FAB_NAK, rx->expected_psn, now_ps, measures);
        }
    }
}

/* Carries out a pause frame for some data classes. */
static void obey(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, bool pause, uint8_t classes,
                 int64_t now_ps)
{
    fab_link_t *link = &self->fabric->links[host->out_link];
    fab_port_t *port = &self->fabric->ports[host->out_link];
    if (pause)
        host->paused |= classes;
    else
        host->paused &= (uint8_t)~classes;
    if (self->ordered) { /* acknowledgements in the data class wait in the link */
        fab_queue_advance(link, port, now_ps);
        if (pause)
            fab_queue_pause(self->fabric, host->out_link, now_ps);
        else
            fab_queue_resume(worker, self->fabric, host->out_link, now_ps);
    } else if (pause) {
        port->pauses++;
        if (!port->paused)
            port->paused_since_ps = now_ps;
        port->paused = true;
    } else if (port->paused && !host->paused) {
        port->paused = false;
        port->paused_ps += now_ps - port->paused_since_ps;
    }
    if (!(host->ready & ~host->paused))
        host->wake_ps = FAB_NEVER;
    else if (host->wake_ps == FAB_NEVER)
        host->wake_ps = fab_max_i64(now_ps, link->busy_ps);
}

FAB_INLINE void receive(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, fab_packet_t packet,
                        int64_t now_ps, const bool measures)
{
    fab_host_t *host = &self->hosts[host_index];
    const uint32_t kind = fab_packet_kind(packet);
    if (FAB_UNLIKELY(packet.dst != host_index && kind < FAB_PAUSE)) { /* a route led astray: ours, not the user's */
        worker->error = FAB_E_INTERNAL;
        return;
    }
    if (kind == FAB_DATA) {
        receive_data(self, worker, host_index, packet, now_ps, measures);
        return;
    }
    if (kind == FAB_ACK || kind == FAB_NAK) {
        fab_tx_t *tx = &self->tx[host->tx_first + packet.qpn];
        const uint64_t una = fab_psn_unwrap(fab_packet_psn(packet), tx->una_psn);
        if (measures && self->gaps && kind == FAB_NAK) { /* it names one packet, and says nothing of those before */
            fab_feedback_acked(self, worker, tx, false, &packet, now_ps);
            worker->retransmits += fab_feedback_name(self, worker, tx, una, now_ps);
            go_on(self, worker, host, packet.qpn, now_ps, measures);
            return;
        }
        acknowledge(self, worker, host_index, &packet, una, now_ps, measures);
        if (kind == FAB_NAK && una == tx->una_psn && tx->next_psn > una)
            go_back(self, worker, host, packet.qpn, false, now_ps);
    } else if (kind == FAB_CNP) {
        self->cc->on_cnp(self->cc_config, &self->tx[host->tx_first + packet.qpn].cc, now_ps);
    } else {
        obey(self, worker, host, kind == FAB_PAUSE, (uint8_t)fab_packet_psn(packet), now_ps);
    }
}

static void timer_fired(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, fab_timer_t timer)
{
    fab_host_t *host = &self->hosts[host_index];
    const int64_t now_ps = timer.when_ps;
    if (timer.key >= FAB_TIMER_USER) {
        self->user.timer(self->user.self, worker, host_index, timer.key, now_ps);
        return;
    }
    const uint32_t qpn = (uint32_t)timer.key;
    fab_tx_t *tx = &self->tx[host->tx_first + qpn];
    if ((timer.key & TIMER_KIND_MASK) == TIMER_PACE) {
        tx->in_line = false;
        fab_line_schedule(self, worker, host, qpn, now_ps, self->measures);
        return;
    }
    const int64_t rto_ps = self->config->values[RELIABLE_RTO_PS];
    if (tx->una_psn == tx->next_psn) { /* nothing under way: armed again by the next packet */
        tx->rto_armed = false;
    } else if (tx->progress_ps + rto_ps > now_ps) {
        fab_line_set_timer_at(worker, host, tx->progress_ps + rto_ps, timer.key);
    } else {
        worker->timeouts++;
        if (tx->retries++ >= self->config->values[RELIABLE_RETRY_LIMIT_COUNT]) {
            worker->error = FAB_E_TRANSPORT;
            worker->error_connection = (int32_t)((host->tx_first + qpn) / self->config->qp_count);
            worker->error_network = (int32_t)self->network;
            return;
        }
        tx->progress_ps = now_ps;
        fab_line_set_timer_at(worker, host, now_ps + rto_ps, timer.key);
        go_back(self, worker, host, qpn, true, now_ps);
    }
}

/* ---- the host's turn ---------------------------------------------------------------------------- */

/* All of a host's events before until_ps, or the first of them only. At one time: the NIC's departure, then timers by key,
 * then the arrival. Returns when the next event is. One function for both, so that the compiler makes one of it all. */
FAB_INLINE int64_t run_host_as(fab_transport_t *self, fab_worker_t *worker, uint32_t slot, int64_t until_ps,
                               const bool once, const bool measures)
{
    const uint32_t host_index = self->fabric->net->nodes[slot].index;
    fab_host_t *host = &self->hosts[host_index];
    const uint32_t in = host->in_link;
    if (FAB_UNLIKELY(host->blocked)) /* credits may have come since */
        host->wake_ps = fab_min_i64(host->wake_ps, fab_line_unblocked_ps(self, host));
    do {
        const int64_t timer_ps = host->timers.next_ps, arrival_ps = self->fabric->heads[in];
        const int64_t other_ps = fab_min_i64(timer_ps, arrival_ps);
        if (host->wake_ps <= other_ps) {
            if (host->wake_ps >= until_ps)
                return host->wake_ps;
            pull(self, worker, host, host->wake_ps, measures);
        } else if (other_ps >= until_ps) {
            return other_ps;
        } else if (timer_ps <= arrival_ps) {
            timer_fired(self, worker, host_index, fab_heap_pop(&host->timers));
        } else {
            const fab_packet_t *packet;
            fab_link_pop(self->fabric, in, arrival_ps, &packet);
            worker->hops++;
            const bool arrives =
                FAB_LIKELY(!worker->record) || fab_link_record(worker, self->fabric, in, arrival_ps, *packet);
            if (FAB_UNLIKELY(self->config->credit))
                fab_credit_return(&self->fabric->credits[in], worker, self->fabric->net, fab_packet_class(*packet),
                                  fab_credit_size(&self->fabric->credits[in], packet->bytes), arrival_ps, arrival_ps);
            if (measures && self->config->telemetry)
                worker->carried = fab_telemetry_take(self->fabric, in);
            if (FAB_LIKELY(arrives))
                receive(self, worker, host_index, *packet, arrival_ps, measures);
            if (measures && worker->carried) {
                fab_telemetry_drop(worker, worker->carried);
                worker->carried = NULL;
            }
        }
    } while (!once);
    return fab_reliable_next_ps(self, slot);
}

static __attribute__((noinline, noclone)) int64_t run_host(fab_transport_t *self, fab_worker_t *worker, uint32_t slot,
                                                           int64_t until_ps, const bool once)
{
    return run_host_as(self, worker, slot, until_ps, once, false);
}

/* The same with a controller that measures. */
static __attribute__((noinline, noclone)) int64_t run_host_measuring(fab_transport_t *self, fab_worker_t *worker,
                                                                     uint32_t slot, int64_t until_ps, const bool once)
{
    return run_host_as(self, worker, slot, until_ps, once, true);
}

int64_t fab_reliable_visit(fab_transport_t *self, fab_worker_t *worker, uint32_t slot, int64_t until_ps)
{
    return self->measures ? run_host_measuring(self, worker, slot, until_ps, false)
                          : run_host(self, worker, slot, until_ps, false);
}

void fab_reliable_turn(fab_transport_t *self, fab_worker_t *worker, uint32_t slot)
{
    if (self->measures)
        run_host_measuring(self, worker, slot, FAB_NEVER, true);
    else
        run_host(self, worker, slot, FAB_NEVER, true);
}

int64_t fab_reliable_next_ps(const fab_transport_t *self, uint32_t slot)
{
    const fab_host_t *host = &self->hosts[self->fabric->net->nodes[slot].index];
    int64_t next_ps = fab_min_i64(host->wake_ps, fab_min_i64(host->timers.next_ps, self->fabric->heads[host->in_link]));
    if (FAB_UNLIKELY(host->blocked)) /* credits may have come since */
        next_ps = fab_min_i64(next_ps, fab_line_unblocked_ps(self, host));
    return next_ps;
}

void fab_reliable_post(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, uint32_t qpn, int64_t bytes,
                       fab_cookie_t cookie, int64_t now_ps)
{
    fab_host_t *host = &self->hosts[host_index];
    worker->messages++;
    if (FAB_UNLIKELY(self->groups != NULL))
        qpn = fab_reliable_next_of_group(self, host, qpn);
    if (!fab_reliable_enqueue_message(self, worker, &self->tx[host->tx_first + qpn], bytes, cookie)) {
        worker->error = FAB_E_MEMORY;
        return;
    }
    fab_line_schedule(self, worker, host, qpn, now_ps, self->measures);
}

bool fab_reliable_set_timer(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint64_t key, int64_t when_ps)
{
    return fab_heap_push(&self->hosts[host].timers, &worker->pool, (fab_timer_t){when_ps, key});
}

void fab_reliable_change(fab_transport_t *self, fab_worker_t *worker, uint32_t slot, fab_link_change_t what,
                         int64_t value, int64_t now_ps)
{
    fab_host_t *host = &self->hosts[self->fabric->net->nodes[slot].index];
    fab_link_t *link = &self->fabric->links[host->out_link];
    fab_port_t *port = &self->fabric->ports[host->out_link];
    if (what == FAB_LINK_PAUSE || what == FAB_LINK_RESUME) {
        obey(self, worker, host, what == FAB_LINK_PAUSE, (uint8_t)value, now_ps);
        port->pauses -= what == FAB_LINK_PAUSE; /* no frame came */
    } else {
        const int64_t before_ps = link->busy_ps;
        if (self->ordered)
            fab_queue_advance(link, port, now_ps - 1);
        fab_link_change(self->fabric, worker, host->out_link, what, value, self->ordered, now_ps);
        if (host->wake_ps == before_ps)
            host->wake_ps = fab_max_i64(now_ps, link->busy_ps);
    }
    fab_link_notify(worker, self->fabric->net, slot, fab_reliable_next_ps(self, slot));
}
