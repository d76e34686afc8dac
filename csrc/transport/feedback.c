/* What senders keep for controllers that measure, and what they tell them. */
#include "transport/feedback.h"

#include <stdlib.h>

enum { FIRST_SENT = 8, FIRST_NAMED = 8 };

bool fab_feedback_init(fab_transport_t *self)
{
    const size_t n = self->connection_count;
    self->feedback = calloc(n + 1, sizeof *self->feedback);
    self->cc_more = calloc(n + 1, self->cc->more_bytes + 1);
    if (!self->feedback || !self->cc_more)
        return false;
    if (self->config->values[RELIABLE_SELECTIVE_REPEAT] && !(self->gaps = calloc(n + 1, sizeof *self->gaps)))
        return false;
    for (size_t c = 0; c < n; c++)
        self->tx[c].cc.more = self->cc_more + c * self->cc->more_bytes;
    return true;
}

void fab_feedback_free(fab_transport_t *self)
{
    free(self->feedback); /* the rings are of the workers' pools */
    free(self->gaps);
    free(self->cc_more);
}

void fab_feedback_renew(fab_transport_t *self, fab_tx_t *tx)
{
    fab_feedback_of(self, tx)->window_bytes =
        self->cc->window_bytes ? self->cc->window_bytes(self->cc_config, &tx->cc) : FAB_CC_NO_WINDOW;
}

static bool grow(fab_worker_t *worker, struct fab_feedback *more, const fab_tx_t *tx)
{
    const uint32_t old = more->sent ? more->sent_mask + 1 : 0, capacity = old ? 2 * old : FIRST_SENT;
    fab_sent_t *sent = fab_pool_take(&worker->pool, fab_pool_class(capacity * sizeof *sent));
    if (!sent) {
        worker->error = FAB_E_MEMORY;
        return false;
    }
    for (uint64_t i = tx->una_psn; i != more->newest_psn; i++)
        sent[i & (capacity - 1)] = more->sent[i & more->sent_mask];
    if (old)
        fab_pool_give(&worker->pool, more->sent, fab_pool_class(old * sizeof *sent));
    more->sent = sent;
    more->sent_mask = capacity - 1;
    return true;
}

void fab_feedback_sent(fab_transport_t *self, fab_worker_t *worker, fab_tx_t *tx, uint64_t psn, int64_t bytes,
                       int64_t now_ps)
{
    struct fab_feedback *more = fab_feedback_of(self, tx);
    more->next_bytes += bytes;
    if (psn - tx->una_psn >= (more->sent ? more->sent_mask + UINT64_C(1) : 0) && !grow(worker, more, tx))
        return;
    const bool again = psn < more->newest_psn;
    more->sent[psn & more->sent_mask] =
        (fab_sent_t){.sent_ps = again ? FAB_FEEDBACK_AGAIN : now_ps, .end_bytes = more->next_bytes};
    if (!again)
        more->newest_psn = psn + 1;
    fab_feedback_renew(self, tx);
}

void fab_feedback_acked(fab_transport_t *self, fab_worker_t *worker, fab_tx_t *tx, bool advances,
                        const fab_packet_t *packet, int64_t now_ps)
{
    struct fab_feedback *more = fab_feedback_of(self, tx);
    fab_cc_ack_t ack = {
        .now_ps = now_ps,
        .rtt_ps = -1,
        .acked_psn = tx->una_psn,
        .next_psn = tx->next_psn,
        .hop_count = more->hop_count,
        .marked = packet->psn_flags & FAB_FLAG_CE,
    };
    if (advances) {
        const fab_sent_t newest = more->sent[(tx->una_psn - 1) & more->sent_mask];
        if (newest.sent_ps != FAB_FEEDBACK_AGAIN)
            ack.rtt_ps = now_ps - newest.sent_ps;
        ack.acked_bytes = newest.end_bytes - more->una_bytes;
        more->una_bytes = newest.end_bytes;
        more->next_bytes = fab_max_i64(more->next_bytes, more->una_bytes); /* it had gone back, in vain */
        while (fab_feedback_pending(self, tx) && fab_feedback_first_named(self, tx) < tx->una_psn)
            more->named_head++;
    }
    if (worker->carried) {
        ack.hop_count = worker->carried->count;
        ack.hops = worker->carried->hops;
    }
    ack.in_flight_bytes = more->next_bytes - more->una_bytes;
    if (self->cc->on_ack)
        self->cc->on_ack(self->cc_config, &tx->cc, &ack);
    fab_feedback_renew(self, tx);
}

void fab_feedback_add_telemetry(fab_transport_t *self, fab_worker_t *worker, uint32_t link, uint32_t kind)
{
    fab_telemetry_t *record = NULL;
    if (kind == FAB_DATA) {
        record = fab_telemetry_new(worker);
    } else if (kind != FAB_CNP) {
        record = worker->carried;
        worker->carried = NULL;
    }
    fab_telemetry_put(worker, self->fabric, link, record);
}

void fab_feedback_went_back(fab_transport_t *self, fab_tx_t *tx, bool timeout, int64_t now_ps)
{
    struct fab_feedback *more = fab_feedback_of(self, tx);
    more->next_bytes = more->una_bytes;
    more->named_head = more->named_tail;
    if (self->cc->on_loss)
        self->cc->on_loss(self->cc_config, &tx->cc, timeout, now_ps);
    fab_feedback_renew(self, tx);
}

bool fab_feedback_name(fab_transport_t *self, fab_worker_t *worker, fab_tx_t *tx, uint64_t psn, int64_t now_ps)
{
    struct fab_feedback *more = fab_feedback_of(self, tx);
    if (psn < tx->una_psn || psn >= tx->next_psn)
        return false;
    const uint32_t old = more->named ? more->named_mask + 1 : 0;
    if (more->named_tail - more->named_head == old) {
        const uint32_t capacity = old ? 2 * old : FIRST_NAMED;
        uint64_t *named = fab_pool_take(&worker->pool, fab_pool_class(capacity * sizeof *named));
        if (!named) {
            worker->error = FAB_E_MEMORY;
            return false;
        }
        for (uint32_t i = more->named_head; i != more->named_tail; i++)
            named[i & (capacity - 1)] = more->named[i & more->named_mask];
        if (old)
            fab_pool_give(&worker->pool, more->named, fab_pool_class(old * sizeof *named));
        more->named = named;
        more->named_mask = capacity - 1;
    }
    more->named[more->named_tail++ & more->named_mask] = psn;
    if (self->cc->on_loss)
        self->cc->on_loss(self->cc_config, &tx->cc, false, now_ps);
    fab_feedback_renew(self, tx);
    return true;
}

void fab_feedback_sent_again(fab_transport_t *self, fab_tx_t *tx)
{
    struct fab_feedback *more = fab_feedback_of(self, tx);
    more->sent[fab_feedback_first_named(self, tx) & more->sent_mask].sent_ps = FAB_FEEDBACK_AGAIN;
    more->named_head++;
    fab_feedback_renew(self, tx);
}

uint64_t fab_feedback_look_for_gaps(fab_transport_t *self, const fab_rx_t *rx, uint64_t psn, uint64_t *end_out)
{
    struct fab_gaps *gaps = &self->gaps[rx - self->rx];
    const uint64_t distance =
        self->config->reorder ? (uint64_t)self->config->values[RELIABLE_REORDER_DISTANCE_COUNT] : 1;
    gaps->high_psn = psn + 1 > gaps->high_psn ? psn + 1 : gaps->high_psn;
    const uint64_t first = gaps->named_psn > rx->expected_psn ? gaps->named_psn : rx->expected_psn;
    *end_out = first;
    if (gaps->high_psn > first + distance) {
        *end_out = gaps->high_psn - distance;
        gaps->named_psn = *end_out;
    }
    return first;
}
