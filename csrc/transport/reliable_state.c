/* Making connections, and the once-a-message half of the transport: queues of messages, cookies, reordering. */
#include "transport/reliable_state.h"

#include "transport/feedback.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CONTROLS = 8 };

fab_transport_t *fab_reliable_new(const fab_transport_config_t *config, const fab_cc_ops_t *cc,
                                  const fab_cc_config_t *cc_config, const fab_fabric_t *fabric, uint32_t network,
                                  const fab_connections_t *connections)
{
    const fab_net_t *net = fabric->net;
    const uint32_t qps = config->qp_count;
    const size_t n = connections->count ? (size_t)connections->count * qps : 1;
    fab_transport_t *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = (fab_transport_t){.config = config,
                              .cc = cc,
                              .cc_config = cc_config,
                              .fabric = fabric,
                              .network = network,
                              .connections = connections,
                              .connection_count = connections->count * qps};
    self->ordered =
        (config->pause || config->control_priority || fabric->faults) && !config->scheduled && !config->credit;
    self->spray = config->reorder;
    self->full_bytes =
        fab_max_i64(((config->values[RELIABLE_MTU_BYTES] + 3) & ~INT64_C(3)) + config->values[RELIABLE_HEADER_BYTES],
                    config->values[RELIABLE_MIN_WIRE_BYTES]);
    const int64_t window = config->values[RELIABLE_WINDOW_BYTES];
    self->window_packets = window ? (uint64_t)fab_max_i64(1, window / config->values[RELIABLE_MTU_BYTES])
                                  : UINT64_C(1) << (FAB_PSN_BITS - 1);
    if (self->window_packets > UINT64_C(1) << (FAB_PSN_BITS - 1))
        self->window_packets = UINT64_C(1) << (FAB_PSN_BITS - 1); /* more could not be told apart */
    self->hosts = aligned_alloc(FAB_CACHE_LINE, net->host_count * sizeof *self->hosts);
    if (config->credit)
        self->controls = calloc((size_t)net->host_count * FAB_LANES_MAX, sizeof *self->controls);
    self->tx = aligned_alloc(FAB_CACHE_LINE, n * sizeof *self->tx);
    self->rx = aligned_alloc(FAB_CACHE_LINE, n * sizeof *self->rx);
    self->first_mail = calloc(n, sizeof *self->first_mail);
    if (qps > 1) {
        self->groups = calloc((size_t)connections->count + 1, sizeof *self->groups);
        self->complete = calloc(n, sizeof *self->complete);
        if (!self->groups || !self->complete) {
            fab_reliable_free(self);
            return NULL;
        }
    }
    if (!self->hosts || !self->tx || !self->rx || !self->first_mail || (config->credit && !self->controls)) {
        fab_reliable_free(self);
        return NULL;
    }
    memset(self->tx, 0, n * sizeof *self->tx);
    memset(self->rx, 0, n * sizeof *self->rx);
    self->measures = cc->on_ack || cc->window_bytes || cc->on_loss || config->values[RELIABLE_SELECTIVE_REPEAT];
    if (self->measures && !fab_feedback_init(self)) {
        fab_reliable_free(self);
        return NULL;
    }
    for (uint32_t h = 0; h < net->host_count; h++) {
        const uint32_t in = network < net->network_count ? net->host_link[network][h] : FAB_NONE;
        const uint32_t out = in == FAB_NONE ? FAB_NONE : net->out_link[in];
        self->hosts[h] = (fab_host_t){
            .wake_ps = FAB_NEVER,
            .in_link = in == FAB_NONE ? net->link_count : in,
            .out_link = out,
            .tx_first = connections->tx_first[h] * qps,
            .rx_first = connections->rx_first[h] * qps,
        };
        if (self->controls)
            self->hosts[h].controls = &self->controls[(size_t)h * FAB_LANES_MAX];
        fab_heap_init(&self->hosts[h].timers);
        for (uint32_t at = connections->tx_first[h] * qps; at < connections->tx_first[h + 1] * qps; at++) {
            const uint32_t c = at / qps, qp = at % qps;
            fab_tx_t *tx = &self->tx[at];
            tx->dst = connections->tx_dst[c];
            tx->receiver_qpn = (uint16_t)(connections->tx_qpn[c] * qps + qp);
            const int32_t lane = connections->tx_lane[c];
            const uint32_t channel = connections->tx_channel[c];
            tx->entropy =
                (uint16_t)fab_flow_draw(fabric->seed, h, tx->dst, lane, channel, FAB_FLOW_DRAWS * qp + FAB_FLOW_DATA);
            tx->data_class = (uint8_t)fab_min_i64(connections->tx_class[c], config->data_class_count - 1);
            tx->messages.at = UINT32_MAX;
            tx->head_end_psn = UINT64_MAX;
            cc->init(cc_config, &tx->cc, net->rate_mbps[out] * 1000);
            if (self->measures)
                fab_feedback_renew(self, tx);
            if (cc->wants_hop_count)
                fab_feedback_of(self, tx)->hop_count =
                    fabric->switches_between(fabric->switches_context, network, h, tx->dst, tx->entropy);
            fab_rx_t *rx = &self->rx[connections->rx_first[tx->dst] * qps + tx->receiver_qpn];
            rx->src = (uint16_t)h;
            rx->sender_qpn = (uint16_t)(at - self->hosts[h].tx_first);
            rx->data_class = tx->data_class;
            rx->entropy = (uint16_t)fab_flow_draw(fabric->seed, h, tx->dst, lane, channel,
                                                  FAB_FLOW_DRAWS * qp + FAB_FLOW_ANSWERS);
            rx->cnp_at_ps = rx->nak_at_ps = -FAB_NEVER;
        }
    }
    return self;
}

void fab_reliable_free(fab_transport_t *self)
{
    if (!self)
        return;
    free(self->hosts);
    free(self->controls);
    free(self->tx);
    free(self->rx);
    free(self->first_mail);
    free(self->groups);
    free(self->complete);
    fab_feedback_free(self);
    free(self);
}

void fab_reliable_set_user(fab_transport_t *self, fab_user_t user) { self->user = user; }

bool fab_reliable_is_pending(const fab_transport_t *self, uint32_t connection)
{
    return self->tx[connection].una_psn < self->tx[connection].end_psn;
}

int64_t fab_reliable_memory_bytes(const fab_transport_t *self)
{
    return (int64_t)(self->fabric->net->host_count * sizeof *self->hosts +
                     self->connection_count * (sizeof *self->tx + sizeof *self->rx + sizeof *self->first_mail +
                                               (self->measures ? sizeof *self->feedback + self->cc->more_bytes : 0)));
}

uint64_t fab_reliable_digest(const fab_transport_t *self, uint64_t digest)
{
    for (uint32_t c = 0; c < self->connection_count; c++) {
        digest = fab_digest_add(digest, self->tx[c].una_psn);
        digest = fab_digest_add(digest, self->rx[c].expected_psn);
    }
    return digest;
}

/* ---- messages ----------------------------------------------------------------------------------- */

bool fab_reliable_enqueue_message(fab_transport_t *self, fab_worker_t *worker, fab_tx_t *tx, int64_t bytes,
                                  fab_cookie_t cookie)
{
    const int64_t mtu = self->config->values[RELIABLE_MTU_BYTES];
    const uint64_t packets = bytes ? (uint64_t)((bytes + mtu - 1) / mtu) : 1;
    const fab_message_t message = {
        .first_psn = tx->end_psn,
        .end_psn = tx->end_psn + packets,
        .bytes = bytes,
        .cookie = cookie,
    };
    fab_mail_t **first_mail = &self->first_mail[self->hosts[tx->dst].rx_first + tx->receiver_qpn];
    if (!fab_messages_add(&tx->messages, &worker->pool, message) ||
        !fab_mail_put(&tx->mail, &tx->mail_at, first_mail, &worker->pool, cookie))
        return false;
    tx->end_psn += packets;
    if (tx->messages.tail - tx->messages.head == 1)
        tx->head_end_psn = tx->end_psn;
    return true;
}

static void deliver_of(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint32_t c, int64_t now_ps)
{
    fab_rx_t *rx = &self->rx[c];
    const fab_cookie_t cookie = fab_mail_take(&rx->mail, &rx->mail_at, self->first_mail[c], &worker->pool);
    self->user.delivered(self->user.self, worker, host, cookie, now_ps);
}

void fab_reliable_deliver(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint32_t qpn, int64_t now_ps)
{
    const uint32_t c = self->hosts[host].rx_first + qpn;
    if (!self->groups) {
        deliver_of(self, worker, host, c, now_ps);
        return;
    }
    const uint32_t qps = self->config->qp_count;
    uint32_t *turn = &self->groups[c / qps].deliver_turn, *complete = &self->complete[c / qps * qps];
    for (complete[c % qps]++; complete[*turn]; *turn = (*turn + 1) % qps) {
        complete[*turn]--;
        deliver_of(self, worker, host, c / qps * qps + *turn, now_ps);
    }
}

uint32_t fab_reliable_next_of_group(fab_transport_t *self, const fab_host_t *host, uint32_t connection)
{
    const uint32_t qps = self->config->qp_count;
    uint32_t *turn = &self->groups[host->tx_first / qps + connection].post_turn;
    const uint32_t qpn = connection * qps + *turn;
    *turn = (*turn + 1) % qps;
    return qpn;
}

/* ---- control packets that wait for credits ------------------------------------------------------- */

bool fab_reliable_queue_control(fab_worker_t *worker, fab_host_t *host, uint32_t lane, fab_packet_t packet)
{
    fab_control_queue_t *q = &host->controls[lane];
    const uint32_t old = q->ring ? q->mask + 1 : 0;
    if (q->tail - q->head == old) {
        const uint32_t capacity = old ? 2 * old : FIRST_CONTROLS;
        fab_packet_t *ring = fab_pool_take(&worker->pool, fab_pool_class(capacity * sizeof *ring));
        if (!ring)
            return false;
        for (uint32_t i = q->head; i != q->tail; i++)
            ring[i & (capacity - 1)] = q->ring[i & q->mask];
        if (old)
            fab_pool_give(&worker->pool, q->ring, fab_pool_class(old * sizeof *ring));
        q->ring = ring;
        q->mask = capacity - 1;
    }
    q->ring[q->tail++ & q->mask] = packet;
    host->control |= (uint8_t)(1u << lane);
    return true;
}

/* ---- packets that came early -------------------------------------------------------------------- */

static uint32_t reorder_words(const fab_transport_t *self)
{
    return (uint32_t)((self->config->values[RELIABLE_REORDER_COUNT] + 63) / 64);
}

bool fab_reliable_keep_early(fab_transport_t *self, fab_worker_t *worker, fab_rx_t *rx, uint64_t psn, bool ends)
{
    const uint32_t words = reorder_words(self);
    if (psn - rx->expected_psn >= 64 * (uint64_t)words)
        return false;
    if (!rx->early) {
        rx->early = fab_pool_take(&worker->pool, fab_pool_class(2 * words * sizeof *rx->early));
        if (!rx->early) {
            worker->error = FAB_E_MEMORY;
            return true;
        }
        memset(rx->early, 0, 2 * words * sizeof *rx->early);
    }
    const uint64_t at = psn % (64 * (uint64_t)words), bit = UINT64_C(1) << (at % 64);
    if (rx->early[at / 64] & bit) {
        worker->duplicates++;
        return true;
    }
    rx->early[at / 64] |= bit;
    rx->early_count++;
    if (ends)
        rx->early[words + at / 64] |= bit;
    return true;
}

bool fab_reliable_has_early(const fab_transport_t *self, const fab_rx_t *rx, uint64_t psn)
{
    const uint64_t at = psn % (64 * (uint64_t)reorder_words(self));
    return rx->early && rx->early[at / 64] >> (at % 64) & 1;
}

bool fab_reliable_take_early(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint32_t qpn, int64_t now_ps)
{
    fab_rx_t *rx = &self->rx[self->hosts[host].rx_first + qpn];
    const uint32_t words = reorder_words(self);
    bool ended = false;
    while (rx->early_count) {
        const uint64_t at = rx->expected_psn % (64 * (uint64_t)words), bit = UINT64_C(1) << (at % 64);
        if (!(rx->early[at / 64] & bit))
            break;
        rx->early[at / 64] &= ~bit;
        rx->early_count--;
        rx->expected_psn++;
        rx->unanswered++;
        if (rx->early[words + at / 64] & bit) {
            rx->early[words + at / 64] &= ~bit;
            ended = true;
            fab_reliable_deliver(self, worker, host, qpn, now_ps);
        }
    }
    return ended;
}
