/* The NIC's turn on a link with credits: lanes that have them for their next packet take turns as at a switch, and what a
 * lane answers goes before its data (InfiniBand Architecture Specification vol. 1, ch. 7.6 and 7.9). */
#include "transport/line.h"

/* The data connection whose turn it is in a lane, among those that may send; NULL: there is none. */
FAB_INLINE fab_tx_t *first_ready(fab_transport_t *self, fab_host_t *host, uint32_t lane)
{
    while (host->ready >> lane & 1) {
        fab_tx_t *tx = &self->tx[host->tx_first + host->ready_first[lane]];
        if (FAB_LIKELY(fab_line_may_send(self, tx, self->measures)))
            return tx;
        fab_line_drop_ready(self, host, lane);
        tx->in_line = false;
    }
    return NULL;
}

int64_t fab_line_unblocked_ps(const fab_transport_t *self, const fab_host_t *host)
{
    const fab_credit_t *credit = &self->fabric->credits[host->out_link];
    int64_t when_ps = FAB_NEVER;
    for (uint32_t lane = 0; lane < self->config->lanes.count; lane++)
        if (host->short_bytes[lane])
            when_ps = fab_min_i64(when_ps, fab_credit_available_ps(credit, lane, host->short_bytes[lane]));
    return when_ps;
}

/* No lane has credits for its next packet: `sizes` are what those take, 0 where there is none. */
static void block(fab_transport_t *self, fab_host_t *host, const uint32_t *sizes, int64_t now_ps)
{
    if (!host->blocked) {
        fab_port_t *port = &self->fabric->ports[host->out_link];
        host->blocked = port->paused = self->fabric->credits[host->out_link].wanted = true;
        port->paused_since_ps = now_ps;
        port->pauses++;
    }
    for (uint32_t lane = 0; lane < self->config->lanes.count; lane++)
        host->short_bytes[lane] = sizes[lane];
    host->wake_ps = fab_line_unblocked_ps(self, host);
}

static void unblock(fab_transport_t *self, fab_host_t *host, int64_t now_ps)
{
    fab_port_t *port = &self->fabric->ports[host->out_link];
    host->blocked = port->paused = self->fabric->credits[host->out_link].wanted = false;
    port->paused_ps += now_ps - port->paused_since_ps;
}

/* Sends one packet of a lane that has credits for it: a control packet before data. */
FAB_INLINE void pull_lanes(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, int64_t now_ps,
                           const bool one_lane)
{
    fab_credit_t *credit = &self->fabric->credits[host->out_link];
    fab_link_t *link = &self->fabric->links[host->out_link];
    uint32_t sizes[FAB_LANES_MAX] = {0}, ready = 0, waiting = 0, lane = 0;
    uint16_t bytes[FAB_LANES_MAX] = {0};
    for (uint32_t lanes = host->control | host->ready; lanes; lanes &= lanes - 1) {
        lane = one_lane ? 0 : (uint32_t)__builtin_ctz(lanes);
        if (host->control >> lane & 1) {
            const fab_control_queue_t *q = &host->controls[lane];
            bytes[lane] = q->ring[q->head & q->mask].bytes;
        } else {
            fab_tx_t *tx = first_ready(self, host, lane);
            if (FAB_UNLIKELY(!tx))
                continue;
            bytes[lane] = (uint16_t)fab_line_next_bytes_of_any(self, tx);
        }
        sizes[lane] = fab_credit_size(credit, bytes[lane]);
        waiting |= 1u << lane;
        ready |= (uint32_t)fab_credit_available(credit, lane, sizes[lane], now_ps) << lane;
    }
    if (!ready) {
        host->wake_ps = FAB_NEVER;
        if (waiting)
            block(self, host, sizes, now_ps);
        else if (host->blocked)
            unblock(self, host, now_ps);
        return;
    }
    if (host->blocked)
        unblock(self, host, now_ps);
    if (!one_lane)
        lane = fab_lanes_pick(&self->config->lanes, &host->lane_turns, ready, bytes);
    worker->packets++;
    fab_credit_take(credit, lane, sizes[lane]);
    if (host->control >> lane & 1) {
        fab_control_queue_t *q = &host->controls[lane];
        fab_link_start(worker, self->fabric, host->out_link, link, &q->ring[q->head++ & q->mask], now_ps);
        if (q->head == q->tail)
            host->control &= (uint8_t)~(1u << lane);
    } else {
        const uint32_t qpn = host->ready_first[lane];
        fab_tx_t *tx = &self->tx[host->tx_first + qpn];
        fab_line_drop_ready(self, host, lane);
        tx->in_line = false;
        const bool again = self->measures && fab_feedback_pending(self, tx);
        const fab_packet_t packet =
            FAB_UNLIKELY(again) ? fab_line_next_again(self, tx) : fab_line_next_packet(self, tx, bytes[lane]);
        fab_link_start(worker, self->fabric, host->out_link, link, &packet, now_ps);
        fab_line_has_sent(self, worker, host, tx, qpn, bytes[lane], again, now_ps, self->measures);
    }
    host->wake_ps = host->control | host->ready ? link->busy_ps : FAB_NEVER;
}

void fab_line_pull_with_credits(fab_transport_t *self, fab_worker_t *worker, fab_host_t *host, int64_t now_ps)
{
    if (self->config->lanes.count == 1)
        pull_lanes(self, worker, host, now_ps, true);
    else
        pull_lanes(self, worker, host, now_ps, false);
}
