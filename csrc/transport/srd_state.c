/* Making SRD connections, and the once-a-message half of the transport. */
#include "core/digest.h"
#include "transport/srd.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_FLIGHTS = 16 };

enum { DRAW_PATHS = 2 };

static uint64_t all_paths(const fab_transport_t *self)
{
    return self->path_count == SRD_PATHS_MAX ? UINT64_MAX : (UINT64_C(1) << self->path_count) - 1;
}

static void init_connection(fab_transport_t *self, uint32_t host, uint32_t c)
{
    const fab_connections_t *connections = self->connections;
    fab_srd_tx_t *tx = &self->tx[c];
    tx->dst = connections->tx_dst[c];
    tx->receiver_qpn = connections->tx_qpn[c];
    const int32_t lane = connections->tx_lane[c];
    const uint32_t channel = connections->tx_channel[c];
    tx->path_key = fab_flow_draw(self->fabric->seed, host, tx->dst, lane, channel, DRAW_PATHS);
    tx->place.data_class = (uint8_t)fab_min_i64(connections->tx_class[c], self->config->data_class_count - 1);
    tx->messages.at = UINT32_MAX;
    tx->head_end_psn = UINT64_MAX;
    tx->in_service = all_paths(self);
    tx->back_ps = FAB_NEVER;
    tx->path_at = (uint8_t)(self->path_count - 1);
    tx->flight_mask = FIRST_FLIGHTS - 1;
    tx->progress_ps = tx->cnp_at_ps = -FAB_NEVER;
    if (self->cc_more)
        tx->cc.more = (char *)self->cc_more + (size_t)c * self->cc->more_bytes;
    self->cc->init(self->cc_config, &tx->cc, self->fabric->net->rate_mbps[self->hosts[host].nic.out_link] * 1000);
    fab_srd_set_window(self, tx);
    fab_srd_rx_t *rx = &self->rx[connections->rx_first[tx->dst] + tx->receiver_qpn];
    rx->src = (uint16_t)host;
    rx->sender_qpn = (uint16_t)(c - connections->tx_first[host]);
}

fab_transport_t *fab_srd_new(const fab_transport_config_t *config, const fab_cc_ops_t *cc,
                             const fab_cc_config_t *cc_config, const fab_fabric_t *fabric, uint32_t network,
                             const fab_connections_t *connections)
{
    const int64_t *v = config->values;
    const uint32_t hosts = fabric->net->host_count;
    const size_t n = connections->count ? connections->count : 1;
    fab_transport_t *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = (fab_transport_t){
        .config = config,
        .cc = cc,
        .cc_config = cc_config,
        .fabric = fabric,
        .network = network,
        .connections = connections,
        .full_bytes = fab_max_i64(v[SRD_MTU_BYTES] + v[SRD_HEADER_BYTES], v[SRD_MIN_WIRE_BYTES]),
        .slow_q16 = (v[SRD_PATH_SLOW_PPM] << 16) / 1000000,
        .window_max = (uint64_t)v[SRD_REORDER_COUNT],
        .early_mask = (2u << (31 - __builtin_clz((uint32_t)v[SRD_REORDER_COUNT] - 1))) - 1,
        .path_count = (uint32_t)v[SRD_PATH_COUNT],
        .ordered = (config->pause || config->control_priority || fabric->faults) && config->data_class_count == 1,
        .hosts = aligned_alloc(FAB_CACHE_LINE, hosts * sizeof *self->hosts),
        .tx = aligned_alloc(FAB_CACHE_LINE, n * sizeof *self->tx),
        .rx = aligned_alloc(FAB_CACHE_LINE, n * sizeof *self->rx),
        .first_mail = calloc(n, sizeof *self->first_mail),
    };
    if (cc->more_bytes)
        self->cc_more = calloc(n, cc->more_bytes);
    if (!self->hosts || !self->tx || !self->rx || !self->first_mail || (cc->more_bytes && !self->cc_more)) {
        fab_srd_free(self);
        return NULL;
    }
    memset(self->tx, 0, n * sizeof *self->tx);
    memset(self->rx, 0, n * sizeof *self->rx);
    for (uint32_t h = 0; h < hosts; h++) {
        self->hosts[h] = (fab_srd_host_t){
            .nic = fab_nic_of(fabric->net, network, h),
            .tx_first = connections->tx_first[h],
            .rx_first = connections->rx_first[h],
        };
        for (uint32_t c = connections->tx_first[h]; c < connections->tx_first[h + 1]; c++)
            init_connection(self, h, c);
    }
    return self;
}

void fab_srd_free(fab_transport_t *self)
{
    if (!self)
        return;
    free(self->hosts);
    free(self->tx);
    free(self->rx);
    free(self->first_mail);
    free(self->cc_more);
    free(self);
}

int64_t fab_srd_memory_bytes(const fab_transport_t *self)
{
    return (int64_t)(self->fabric->net->host_count * sizeof *self->hosts +
                     self->connections->count *
                         (sizeof *self->tx + sizeof *self->rx + sizeof *self->first_mail + self->cc->more_bytes));
}

uint64_t fab_srd_digest(const fab_transport_t *self, uint64_t digest)
{
    for (uint32_t c = 0; c < self->connections->count; c++) {
        digest = fab_digest_add(digest, self->tx[c].una_psn);
        digest = fab_digest_add(digest, self->rx[c].expected_psn);
    }
    return digest;
}

bool fab_srd_enqueue(fab_transport_t *self, fab_worker_t *worker, fab_srd_tx_t *tx, int64_t bytes, fab_cookie_t cookie)
{
    const int64_t mtu = self->config->values[SRD_MTU_BYTES];
    const uint64_t packets = bytes ? (uint64_t)((bytes + mtu - 1) / mtu) : 1;
    const fab_message_t message = {
        .first_psn = tx->end_psn,
        .end_psn = tx->end_psn + packets,
        .bytes = bytes,
        .cookie = cookie,
    };
    fab_mail_t **first_mail = &self->first_mail[self->connections->rx_first[tx->dst] + tx->receiver_qpn];
    if (!fab_messages_add(&tx->messages, &worker->pool, message) ||
        !fab_mail_put(&tx->mail, &tx->mail_at, first_mail, &worker->pool, cookie))
        return false;
    tx->end_psn += packets;
    if (tx->messages.tail - tx->messages.head == 1)
        tx->head_end_psn = tx->end_psn;
    return true;
}

/* ---- the window --------------------------------------------------------------------------------- */

/* A place in the window, plus one, when the window is twice as large. */
static uint16_t moved(const fab_srd_tx_t *tx, uint16_t link)
{
    if (!link)
        return 0;
    const uint32_t mask = tx->flight_mask;
    const uint64_t psn = tx->una_psn + ((link - 1u - tx->una_psn) & mask);
    return (uint16_t)((psn & (2 * (uint64_t)mask + 1)) + 1);
}

static bool grow(const fab_transport_t *self, fab_worker_t *worker, fab_srd_tx_t *tx)
{
    const uint32_t old = tx->flight_mask + 1;
    fab_flight_t *flights = fab_pool_take(&worker->pool, fab_pool_class(2 * (size_t)old * sizeof *flights));
    if (!flights)
        return false;
    for (uint64_t psn = tx->una_psn; psn < tx->next_psn; psn++) {
        fab_flight_t *flight = &flights[psn & (2 * (uint64_t)old - 1)];
        *flight = *fab_srd_flight(tx, psn);
        flight->newer = moved(tx, flight->newer);
        flight->older = moved(tx, flight->older);
    }
    for (uint32_t p = 0; p < self->path_count; p++) {
        fab_flight_list_t *list = &tx->paths[p].flights;
        *list = (fab_flight_list_t){moved(tx, list->first), moved(tx, list->last)};
    }
    tx->lost = (fab_flight_list_t){moved(tx, tx->lost.first), moved(tx, tx->lost.last)};
    fab_pool_give(&worker->pool, tx->flights, fab_pool_class(old * sizeof *flights));
    tx->flights = flights;
    tx->flight_mask = 2 * old - 1;
    return true;
}

bool fab_srd_make_room(const fab_transport_t *self, fab_worker_t *worker, fab_srd_tx_t *tx)
{
    if (!tx->paths) {
        const size_t bytes = self->path_count * sizeof *tx->paths;
        tx->paths = fab_pool_take(&worker->pool, fab_pool_class(bytes));
        if (!tx->paths)
            return false;
        memset(tx->paths, 0, bytes);
    }
    if (!tx->flights) {
        tx->flights = fab_pool_take(&worker->pool, fab_pool_class((tx->flight_mask + (size_t)1) * sizeof *tx->flights));
        return tx->flights;
    }
    return tx->lost.first || tx->next_psn - tx->una_psn <= tx->flight_mask || grow(self, worker, tx);
}

void fab_srd_rest(const fab_transport_t *self, fab_worker_t *worker, fab_srd_tx_t *tx)
{
    fab_pool_give(&worker->pool, tx->flights, fab_pool_class((tx->flight_mask + (size_t)1) * sizeof *tx->flights));
    tx->flights = NULL;
    if (tx->in_service != all_paths(self))
        return;
    fab_pool_give(&worker->pool, tx->paths, fab_pool_class(self->path_count * sizeof *tx->paths));
    tx->paths = NULL;
}

/* ---- paths -------------------------------------------------------------------------------------- */

void fab_srd_take_back(const fab_transport_t *self, fab_srd_tx_t *tx, int64_t now_ps)
{
    tx->back_ps = FAB_NEVER;
    for (uint32_t p = 0; p < self->path_count; p++) {
        if (tx->in_service >> p & 1)
            continue;
        fab_path_t *path = &tx->paths[p];
        if (path->rest_until_ps <= now_ps && !path->flights.first) {
            tx->in_service |= UINT64_C(1) << p;
            path->excess_ps = 0;
            continue;
        }
        if (path->rest_until_ps <= now_ps)
            path->rest_until_ps = now_ps + self->config->values[SRD_PATH_REST_PS];
        tx->back_ps = fab_min_i64(tx->back_ps, path->rest_until_ps);
    }
}

/* ---- packets that came early -------------------------------------------------------------------- */

bool fab_srd_keep_early(const fab_transport_t *self, fab_worker_t *worker, fab_srd_rx_t *rx, uint64_t psn, bool ends)
{
    const uint32_t words = (self->early_mask + 1) / 64;
    if (!rx->early) {
        rx->early = fab_pool_take(&worker->pool, fab_pool_class(2 * words * sizeof *rx->early));
        if (!rx->early) {
            worker->error = FAB_E_MEMORY;
            return true;
        }
        memset(rx->early, 0, 2 * words * sizeof *rx->early);
    }
    const uint64_t at = psn & self->early_mask, bit = UINT64_C(1) << (at % 64);
    if (rx->early[at / 64] & bit)
        return false;
    rx->early[at / 64] |= bit;
    rx->early_count++;
    if (ends)
        rx->early[words + at / 64] |= bit;
    return true;
}
