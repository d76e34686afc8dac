/* A NIC's line: the next packet of a connection, who may send, and whose turn it is. `measures` is self->measures, a
 * constant wherever speed counts. */
#ifndef FAB_TRANSPORT_LINE_H
#define FAB_TRANSPORT_LINE_H

#include "transport/feedback.h"

/* Headers of a packet with so much payload; of a train, those of all its packets. */
FAB_INLINE int64_t fab_line_header_bytes(const int64_t *v, int64_t payload)
{
    const int64_t header = v[RELIABLE_HEADER_BYTES], trains = v[RELIABLE_TRAIN_COUNT];
    if (FAB_LIKELY(trains == 1))
        return header;
    const int64_t packet = v[RELIABLE_MTU_BYTES] / trains;
    return header / trains * (payload > packet ? (payload + packet - 1) / packet : 1);
}

/* What the next packet of a connection that may send weighs; finds its message. */
FAB_INLINE int64_t fab_line_next_bytes(const fab_transport_t *self, fab_tx_t *tx)
{
    const int64_t *v = self->config->values;
    if (tx->next_psn == tx->current.end_psn) {
        tx->messages.at++;
        tx->current = *fab_messages_at(&tx->messages, tx->messages.at);
    }
    const uint64_t index = tx->next_psn - tx->current.first_psn;
    const bool last = tx->next_psn + 1 == tx->current.end_psn;
    if (!last && index)
        return self->full_bytes;
    const int64_t mtu = v[RELIABLE_MTU_BYTES], payload = last ? tx->current.bytes - (int64_t)index * mtu : mtu;
    const int64_t header = fab_line_header_bytes(v, payload);
    const int64_t wire = ((payload + 3) & ~INT64_C(3)) + header + (index ? 0 : v[RELIABLE_FIRST_HEADER_BYTES]);
    return fab_max_i64(wire, v[RELIABLE_MIN_WIRE_BYTES]);
}

/* Builds the next packet of a connection, of `wire` bytes, and moves its state on. */
FAB_INLINE fab_packet_t fab_line_next_packet(fab_transport_t *self, fab_tx_t *tx, int64_t wire)
{
    const bool last = tx->next_psn + 1 == tx->current.end_psn;
    const fab_packet_t packet = {
        .psn_flags = ((uint32_t)tx->next_psn & FAB_PSN_MASK) | (last ? FAB_FLAG_LAST : 0) |
                     (uint32_t)tx->data_class << FAB_CLASS_SHIFT,
        .dst = tx->dst,
        .qpn = tx->receiver_qpn,
        .bytes = (uint16_t)wire,
        .entropy = self->spray ? (uint16_t)fab_keyed_draw(self->fabric->seed, FAB_KEY_SPRAY, tx->entropy, tx->next_psn)
                               : tx->entropy,
    };
    tx->next_psn++;
    return packet;
}

/* Makes the first packet named missing the next one, and gives back what was. */
typedef struct {
    uint64_t next_psn;
    uint32_t message_at;
    fab_message_t current;
} fab_line_turned_t;

static inline fab_line_turned_t fab_line_turn_back(const fab_transport_t *self, fab_tx_t *tx)
{
    const fab_line_turned_t before = {tx->next_psn, tx->messages.at, tx->current};
    tx->next_psn = fab_feedback_first_named(self, tx);
    tx->messages.at = tx->messages.head;
    while (fab_messages_at(&tx->messages, tx->messages.at)->end_psn <= tx->next_psn)
        tx->messages.at++;
    tx->current = *fab_messages_at(&tx->messages, tx->messages.at);
    return before;
}

static inline void fab_line_turn_forth(fab_tx_t *tx, fab_line_turned_t before)
{
    tx->next_psn = before.next_psn;
    tx->messages.at = before.message_at;
    tx->current = before.current;
}

static inline fab_packet_t fab_line_next_again(fab_transport_t *self, fab_tx_t *tx)
{
    const fab_line_turned_t before = fab_line_turn_back(self, tx);
    const fab_packet_t packet = fab_line_next_packet(self, tx, fab_line_next_bytes(self, tx));
    fab_line_turn_forth(tx, before);
    return packet;
}

FAB_INLINE int64_t fab_line_next_bytes_of_any(const fab_transport_t *self, fab_tx_t *tx)
{
    if (FAB_LIKELY(!self->measures || !fab_feedback_pending(self, tx)))
        return fab_line_next_bytes(self, tx);
    const fab_line_turned_t before = fab_line_turn_back(self, tx);
    const int64_t bytes = fab_line_next_bytes(self, tx);
    fab_line_turn_forth(tx, before);
    return bytes;
}

FAB_INLINE bool fab_line_may_send(const fab_transport_t *self, const fab_tx_t *tx, const bool measures)
{
    if (measures && fab_feedback_pending(self, tx))
        return true;
    return tx->next_psn < tx->end_psn && tx->next_psn - tx->una_psn < self->window_packets &&
           (!measures || fab_feedback_window_open(self, tx));
}

FAB_INLINE void fab_line_push_ready(fab_transport_t *self, fab_host_t *host, uint32_t qpn)
{
    fab_tx_t *txs = &self->tx[host->tx_first];
    const uint32_t c = txs[qpn].data_class;
    txs[qpn].next_ready = FAB_NONE;
    if (host->ready >> c & 1)
        txs[host->ready_last[c]].next_ready = qpn;
    else
        host->ready_first[c] = qpn;
    host->ready_last[c] = qpn;
    host->ready |= (uint8_t)(1u << c);
}

/* Takes the first of a class out of line. */
FAB_INLINE void fab_line_drop_ready(fab_transport_t *self, fab_host_t *host, uint32_t c)
{
    host->ready_first[c] = self->tx[host->tx_first + host->ready_first[c]].next_ready;
    if (host->ready_first[c] == FAB_NONE)
        host->ready &= (uint8_t)~(1u << c);
}

/* Takes the connection whose turn it is: round robin in its class, and among classes as in a switch. */
FAB_INLINE uint32_t fab_line_pop_ready(fab_transport_t *self, fab_host_t *host)
{
    const uint32_t waiting = host->ready & ~(uint32_t)host->paused;
    uint32_t c = 0;
    if (FAB_UNLIKELY(self->config->data_class_count > 1)) {
        /* by packets of one size: what the next ones weigh is only known when they are built */
        const uint16_t one[FAB_DATA_CLASSES_MAX] = {1, 1, 1, 1};
        c = fab_classes_pick(&host->turns, self->config->arbitration, self->config->data_class_count, waiting, one, 1);
    }
    const uint32_t qpn = host->ready_first[c];
    fab_line_drop_ready(self, host, c);
    return qpn;
}

static inline void fab_line_set_timer_at(fab_worker_t *worker, fab_host_t *host, int64_t when_ps, uint64_t key)
{
    if (!fab_heap_push(&host->timers, &worker->pool, (fab_timer_t){when_ps, key}))
        worker->error = FAB_E_MEMORY;
}

/* Puts a connection that may send in line: when the link is free, or when its pacing allows if that is later. */
FAB_INLINE void fab_line_get_in_line(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, fab_tx_t *tx,
                                     uint32_t qpn, int64_t free_ps)
{
    tx->in_line = true;
    if (tx->next_send_ps > free_ps)
        fab_line_set_timer_at(worker, host, tx->next_send_ps, TIMER_PACE | qpn);
    else
        fab_line_push_ready(self, host, qpn);
}

/* The same for one that may have been idle, and wakes the NIC for it. */
FAB_INLINE void fab_line_schedule(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, uint32_t qpn,
                                  int64_t now_ps, const bool measures)
{
    fab_tx_t *tx = &self->tx[host->tx_first + qpn];
    if (tx->in_line || !fab_line_may_send(self, tx, measures))
        return;
    const int64_t free_ps = fab_max_i64(now_ps, self->fabric->links[host->out_link].busy_ps);
    fab_line_get_in_line(self, worker, host, tx, qpn, free_ps);
    if (host->ready & ~host->paused)
        host->wake_ps = fab_min_i64(host->wake_ps, free_ps);
}

/* A connection has sent a packet: paces it, watches over it, and puts it in line again. */
FAB_INLINE void fab_line_has_sent(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, fab_tx_t *tx,
                                  uint32_t qpn, uint32_t bytes, bool again, int64_t now_ps, const bool measures)
{
    const uint64_t pacing_q16 = self->cc->on_send(self->cc_config, &tx->cc, bytes, now_ps);
    if (again)
        fab_feedback_sent_again(self, tx);
    else if (measures)
        fab_feedback_sent(self, worker, tx, tx->next_psn - 1, bytes, now_ps);
    tx->next_send_ps = now_ps + (int64_t)((bytes * pacing_q16 + FAB_WIRE_ONE - 1) >> FAB_WIRE_SHIFT);
    if (!tx->rto_armed) {
        tx->rto_armed = true;
        tx->progress_ps = now_ps;
        fab_line_set_timer_at(worker, host, now_ps + self->config->values[RELIABLE_RTO_PS], TIMER_RTO | qpn);
    }
    if (fab_line_may_send(self, tx, measures))
        fab_line_get_in_line(self, worker, host, tx, qpn, self->fabric->links[host->out_link].busy_ps);
}

/* The NIC's turn on a link with credits; the link is free. */
void fab_line_pull_with_credits(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, int64_t now_ps);

/* When a NIC that waits for credits can go on, as far as is known. */
int64_t fab_line_unblocked_ps(const fab_transport_t *self, const fab_host_t *host);

#endif
