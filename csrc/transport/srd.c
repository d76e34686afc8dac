/* EFA's Scalable Reliable Datagram: reliable delivery whose packets take many paths and come in any order.
 *
 * Source: Shalev et al., "A cloud-optimized transport protocol for elastic and scalable HPC", IEEE Micro 40(6), 2020.
 * Published: a sender spreads the packets of a connection over many paths, measures the round trip of each, and leads
 * packets away from slow ones; it sends lost packets again on other paths within about a round trip; order is put
 * back above the transport. The numbers and steps are not published: docs/models/transport-srd.md tells our reading.
 *
 * A path is an entropy, which the switches' hash turns into a route there and, on the acknowledgement, a route back. */
#include "transport/srd.h"

static const fab_param_t params[] = {
    {"mtu_bytes", "bytes", 8192, 64, 49152, "payload of a full packet",
     "8 KiB: about the largest message of libfabric's efa-direct; EFA's exact MTU could not be confirmed"},
    {"header_bytes", "bytes", 90, 0, 4096, "what a packet takes on the wire beside its payload, with preamble and gap",
     "Ethernet 38, IPv4 20, UDP 8, and 24 assumed for SRD, whose header is not published"},
    {"min_wire_bytes", "bytes", 84, 1, 1024, "the least that a packet takes on the wire",
     "64-byte Ethernet frame, preamble 8, gap 12"},
    {"ack_bytes", "bytes", 90, 1, 1024, "an acknowledgement on the wire", "headers alone: assumed"},
    {"ack_every_count", "packets", 1, 1, 1024,
     "packets in order an acknowledgement covers; one out of order or the last of a message is answered at once",
     "not published"},
    {"path_count", "paths", 64, 1, SRD_PATHS_MAX, "entropies of a connection", "64: public talks on SRD"},
    {"path_slow_ppm", "ppm", 500000, 1, 100000000,
     "a path whose round trips are longer than the connection's by more than this part of them is set aside",
     "not published"},
    {"path_rest_ps", "ps", 1000000000, 1000, INT64_C(1000000000000),
     "a path that is slow or lost a packet is not used for this long; doubled each time in a row, six times at most",
     "1 ms: not published"},
    {"loss_threshold_count", "packets", 3, 1, 1000,
     "a packet is lost when one that many packets behind it on its path has arrived",
     "3: as TCP, since acknowledgements overtake each other; not published"},
    {"first_rto_ps", "ps", 1000000000, 1000000, INT64_C(10000000000000),
     "time-out of a packet before a round trip was measured", "1 ms: not published"},
    {"min_rto_ps", "ps", 100000000, 1000000, INT64_C(10000000000000), "the least time-out of a packet",
     "below a millisecond: AWS on SRD; the figure is not published"},
    {"max_rto_ps", "ps", INT64_C(2000000000), 1000000, INT64_C(10000000000000), "the longest time-out, when it doubles",
     "not published"},
    {"retry_limit_count", "", 250, 0, 1000000, "time-outs without any progress after which a connection gives up",
     "half a second at the longest time-out, about what InfiniBand's defaults give; not published"},
    {"window_bytes", "bytes", 262144, 0, INT64_C(1) << 40,
     "bytes a connection may have under way, whatever the controller allows; 0: the controller's word alone",
     "100 Gb/s in 20 us; not published"},
    {"reorder_count", "packets", 1024, 64, SRD_REORDER_MAX,
     "packets between the oldest that is missing and the newest sent", "not published"},
    {"reorder_ps", "ps", 0, 0, INT64_C(1000000000),
     "what putting a packet that came early in order adds to its message", "not published"},
    {"cnp_interval_ps", "ps", 50000000, 0, INT64_C(1000000000000),
     "a controller that goes by congestion notifications is told of a mark at most once in this time",
     "50 us: DCQCN, SIGCOMM 2015"},
    {"control_priority", "", 0, 0, 1, "1: acknowledgements travel in a class before data; 0: with data",
     "not published"},
    FAB_PARAM_END,
};

static void configure(const int64_t *v, fab_transport_config_t *config_out)
{
    for (int32_t i = 0; i < SRD_VALUE_COUNT; i++)
        config_out->values[i] = v[i];
    config_out->wire_max_bytes =
        fab_max_i64(fab_max_i64(v[SRD_MTU_BYTES] + v[SRD_HEADER_BYTES], v[SRD_MIN_WIRE_BYTES]), v[SRD_ACK_BYTES]);
    config_out->control_priority = v[SRD_CONTROL_PRIORITY];
    config_out->window_bytes = v[SRD_WINDOW_BYTES];
}

static fab_wire_need_t need(const fab_transport_config_t *config, int64_t bytes)
{
    const int64_t *v = config->values;
    const int64_t mtu = v[SRD_MTU_BYTES], least = v[SRD_MIN_WIRE_BYTES], every = v[SRD_ACK_EVERY_COUNT];
    const int64_t packets = bytes ? (bytes + mtu - 1) / mtu : 1;
    const int64_t full = fab_max_i64(mtu + v[SRD_HEADER_BYTES], least);
    const int64_t last = fab_max_i64(bytes - (packets - 1) * mtu + v[SRD_HEADER_BYTES], least);
    return (fab_wire_need_t){
        .packets = packets,
        .wire_bytes = (packets - 1) * full + last,
        .packet_bytes = packets > 1 ? full : last,
        .ack_bytes = (packets + every - 1) / every * v[SRD_ACK_BYTES],
        .answer_bytes = v[SRD_ACK_BYTES],
    };
}

static void set_user(fab_transport_t *self, fab_user_t user) { self->user = user; }

/* ---- what leaves the host ----------------------------------------------------------------------- */

FAB_INLINE fab_places_t places_of(fab_transport_t *self, const fab_srd_host_t *host)
{
    return (fab_places_t){&self->tx[host->tx_first], sizeof *self->tx};
}

FAB_INLINE bool may_send(const fab_transport_t *self, const fab_srd_tx_t *tx)
{
    return tx->in_flight_bytes < tx->window_bytes &&
           (tx->lost.first || (tx->next_psn < tx->end_psn && tx->next_psn - tx->una_psn < self->window_max));
}

/* Puts a connection in line that may have been idle, and wakes the NIC for it. */
static void schedule(fab_transport_t *self, fab_worker_t *worker, fab_srd_host_t *host, uint32_t qpn, int64_t now_ps)
{
    fab_srd_tx_t *tx = &self->tx[host->tx_first + qpn];
    if (tx->place.in_line || !may_send(self, tx))
        return;
    fab_nic_t *nic = &host->nic;
    const int64_t free_ps = fab_max_i64(now_ps, self->fabric->links[nic->out_link].busy_ps);
    fab_nic_get_in_line(nic, worker, places_of(self, host), qpn, TIMER_PACE | qpn, free_ps);
    if (nic->wake_ps == FAB_NEVER && fab_nic_waits(nic))
        nic->wake_ps = free_ps;
}

/* What a packet's time-out is now: the round trip and its spread (RFC 6298), doubled for each time-out in a row. */
static int64_t rto_ps(const fab_transport_t *self, const fab_srd_tx_t *tx)
{
    const int64_t *v = self->config->values;
    int64_t rto = v[SRD_FIRST_RTO_PS];
    if (tx->srtt_ps)
        rto = fab_max_i64(v[SRD_MIN_RTO_PS], tx->srtt_ps + fab_max_i64(4 * tx->rttvar_ps, tx->srtt_ps / 2));
    const int32_t doublings = tx->retries < 20 ? tx->retries : 20;
    return fab_min_i64(rto << doublings, fab_max_i64(v[SRD_MAX_RTO_PS], rto));
}

/* Slow paths by the majority are no matter of the paths: half of them go on. */
FAB_INLINE uint32_t half_of_paths(const fab_transport_t *self) { return (self->path_count + 1) / 2; }

/* The path of the next packet; one that is sent again takes another than before if there is one. */
FAB_INLINE uint32_t choose_path(const fab_transport_t *self, fab_srd_tx_t *tx, uint32_t before, int64_t now_ps)
{
    if (FAB_UNLIKELY(now_ps >= tx->back_ps))
        fab_srd_take_back(self, tx, now_ps);
    uint32_t p = fab_srd_path_after(tx, tx->path_at);
    while (FAB_UNLIKELY(fab_srd_path_late(self, tx, p, now_ps)) &&
           fab_srd_set_aside(self, tx, p, half_of_paths(self), now_ps))
        p = fab_srd_path_after(tx, p);
    if (FAB_UNLIKELY(p == before))
        p = fab_srd_path_after(tx, p);
    tx->path_at = (uint8_t)p;
    return p;
}

/* Enters the next new packet in the window; returns its place. */
FAB_INLINE uint32_t next_flight(const fab_transport_t *self, fab_srd_tx_t *tx)
{
    const int64_t *v = self->config->values;
    if (tx->next_psn == tx->current.end_psn) {
        tx->messages.at++;
        tx->current = *fab_messages_at(&tx->messages, tx->messages.at);
    }
    const bool last = tx->next_psn + 1 == tx->current.end_psn;
    int64_t wire = self->full_bytes;
    if (last) {
        const int64_t before = (int64_t)(tx->next_psn - tx->current.first_psn) * v[SRD_MTU_BYTES];
        wire = fab_max_i64(tx->current.bytes - before + v[SRD_HEADER_BYTES], v[SRD_MIN_WIRE_BYTES]);
    }
    const uint32_t at = (uint32_t)tx->next_psn++ & tx->flight_mask;
    fab_flight_t *flight = &tx->flights[at];
    flight->bytes = (uint16_t)wire;
    flight->last = last;
    flight->resent = false;
    return at;
}

/* Sends a packet: the oldest that was lost, or a new one. */
FAB_INLINE uint32_t send_packet(fab_transport_t *self, fab_worker_t *worker, fab_srd_host_t *host, fab_srd_tx_t *tx,
                                int64_t now_ps)
{
    uint32_t at, before = FAB_NONE;
    if (FAB_UNLIKELY(tx->lost.first)) {
        at = tx->lost.first - 1u;
        fab_flights_remove(tx->flights, &tx->lost, at);
        tx->flights[at].resent = true;
        before = tx->flights[at].path;
        worker->retransmits++;
    } else {
        at = next_flight(self, tx);
    }
    fab_flight_t *flight = &tx->flights[at];
    const uint32_t p = choose_path(self, tx, before, now_ps);
    fab_path_t *path = &tx->paths[p];
    flight->sent_ps = now_ps;
    flight->path = (uint8_t)p;
    flight->state = FAB_FLIGHT_FLYING;
    flight->turn = ++path->turns;
    fab_flights_append(tx->flights, &path->flights, at);
    tx->in_flight_bytes += flight->bytes;
    const uint64_t psn = tx->una_psn + ((at - tx->una_psn) & tx->flight_mask);
    const fab_packet_t packet = {
        .psn_flags = ((uint32_t)psn & FAB_PSN_MASK) | (flight->last ? FAB_FLAG_LAST : 0) |
                     (uint32_t)tx->place.data_class << FAB_CLASS_SHIFT,
        .dst = tx->dst,
        .qpn = tx->receiver_qpn,
        .bytes = flight->bytes,
        .entropy = fab_srd_path_entropy(tx, p),
    };
    fab_nic_emit(&host->nic, worker, self->fabric, self->config, self->ordered, packet, now_ps);
    return packet.bytes;
}

/* The NIC's turn: the link may be free; sends one packet. */
static void pull(fab_transport_t *self, fab_worker_t *worker, fab_srd_host_t *host, int64_t now_ps)
{
    fab_nic_t *nic = &host->nic;
    const fab_link_t *link = &self->fabric->links[nic->out_link];
    if (link->busy_ps > now_ps) { /* an acknowledgement went in between */
        nic->wake_ps = link->busy_ps;
        return;
    }
    const fab_places_t places = places_of(self, host);
    const uint32_t qpn = fab_nic_leave(nic, places, self->config);
    fab_srd_tx_t *tx = &self->tx[host->tx_first + qpn];
    tx->place.in_line = false;
    if (FAB_LIKELY(may_send(self, tx))) {
        if (FAB_UNLIKELY(!fab_srd_make_room(self, worker, tx))) {
            worker->error = FAB_E_MEMORY;
            return;
        }
        const uint32_t bytes = send_packet(self, worker, host, tx, now_ps);
        const uint64_t pacing_q16 = self->cc->on_send(self->cc_config, &tx->cc, bytes, now_ps);
        if (self->cc->window_bytes)
            fab_srd_set_window(self, tx);
        tx->place.next_send_ps = now_ps + (int64_t)((bytes * pacing_q16 + FAB_WIRE_ONE - 1) >> FAB_WIRE_SHIFT);
        if (!tx->rto_armed) {
            tx->rto_armed = true;
            fab_nic_set_timer(nic, worker, now_ps + rto_ps(self, tx), TIMER_RTO | qpn);
        }
        if (may_send(self, tx))
            fab_nic_get_in_line(nic, worker, places, qpn, TIMER_PACE | qpn, link->busy_ps);
    }
    nic->wake_ps = fab_nic_waits(nic) ? fab_max_i64(now_ps, link->busy_ps) : FAB_NEVER;
}

/* ---- loss --------------------------------------------------------------------------------------- */

/* Takes a packet for lost: it will be sent again, and its path rests; a quarter of the paths go on whatever happens. */
static void lose(fab_transport_t *self, fab_srd_tx_t *tx, uint32_t at, int64_t now_ps)
{
    fab_flight_t *flight = &tx->flights[at];
    fab_flights_remove(tx->flights, &tx->paths[flight->path].flights, at);
    fab_flights_append(tx->flights, &tx->lost, at);
    flight->state = FAB_FLIGHT_LOST;
    tx->in_flight_bytes -= flight->bytes;
    fab_srd_set_aside(self, tx, flight->path, (self->path_count + 3) / 4, now_ps);
}

/* The oldest packets of a path are lost if one far enough behind them has arrived. */
FAB_INLINE bool find_lost(fab_transport_t *self, fab_srd_tx_t *tx, uint32_t p, int64_t now_ps)
{
    const fab_path_t *path = &tx->paths[p];
    bool lost = false;
    while (path->flights.first && (int16_t)(path->arrived - tx->flights[path->flights.first - 1].turn) >=
                                      self->config->values[SRD_LOSS_THRESHOLD_COUNT]) {
        lose(self, tx, path->flights.first - 1u, now_ps);
        lost = true;
    }
    return lost;
}

static void tell_loss(const fab_transport_t *self, fab_srd_tx_t *tx, bool timeout, int64_t now_ps)
{
    if (!self->cc->on_loss)
        return;
    self->cc->on_loss(self->cc_config, &tx->cc, timeout, now_ps);
    fab_srd_set_window(self, tx);
}

/* The timer of a connection: packets that are under way too long are lost. */
static void timed_out(fab_transport_t *self, fab_worker_t *worker, fab_srd_host_t *host, uint32_t qpn, int64_t now_ps)
{
    fab_srd_tx_t *tx = &self->tx[host->tx_first + qpn];
    if (tx->una_psn == tx->next_psn) { /* nothing under way: armed again by the next packet */
        tx->rto_armed = false;
        return;
    }
    const int64_t rto = rto_ps(self, tx), late_ps = now_ps - rto;
    int64_t oldest_ps = FAB_NEVER;
    bool lost = false;
    for (uint64_t psn = tx->una_psn; psn < tx->next_psn; psn++) {
        const fab_flight_t *flight = fab_srd_flight(tx, psn);
        if (flight->state != FAB_FLIGHT_FLYING)
            continue;
        if (flight->sent_ps > late_ps) {
            oldest_ps = fab_min_i64(oldest_ps, flight->sent_ps);
        } else {
            lose(self, tx, (uint32_t)psn & tx->flight_mask, now_ps);
            lost = true;
        }
    }
    if (lost) {
        const bool stalled = tx->progress_ps <= late_ps;
        if (stalled) {
            worker->timeouts++;
            tx->progress_ps = now_ps; /* the next counts from here, whatever else is late by then */
            if (tx->retries++ >= self->config->values[SRD_RETRY_LIMIT_COUNT]) {
                worker->error = FAB_E_TRANSPORT;
                worker->error_connection = (int32_t)(host->tx_first + qpn);
                worker->error_network = (int32_t)self->network;
                return;
            }
        }
        tell_loss(self, tx, stalled, now_ps);
        schedule(self, worker, host, qpn, now_ps);
    }
    fab_nic_set_timer(&host->nic, worker, (oldest_ps == FAB_NEVER ? now_ps : oldest_ps) + rto, TIMER_RTO | qpn);
}

/* ---- acknowledgements --------------------------------------------------------------------------- */

/* Takes in a round trip of a path. */
FAB_INLINE void measure(const fab_transport_t *self, fab_srd_tx_t *tx, uint32_t p, int64_t rtt_ps, int64_t now_ps)
{
    if (FAB_UNLIKELY(!tx->srtt_ps)) {
        tx->srtt_ps = rtt_ps;
        tx->rttvar_ps = rtt_ps / 2;
        return;
    }
    const int64_t off_ps = rtt_ps - tx->srtt_ps;
    tx->rttvar_ps += ((off_ps < 0 ? -off_ps : off_ps) - tx->rttvar_ps) >> 2;
    tx->srtt_ps += off_ps >> 3;
    fab_path_t *path = &tx->paths[p];
    path->excess_ps += (off_ps - path->excess_ps) >> 2;
    if (FAB_UNLIKELY(path->excess_ps > (tx->srtt_ps * self->slow_q16) >> 16))
        fab_srd_set_aside(self, tx, p, half_of_paths(self), now_ps);
    else
        path->strikes = 0;
}

/* A packet has arrived at the other end; returns its bytes. */
FAB_INLINE int64_t settle(fab_srd_tx_t *tx, uint32_t at)
{
    fab_flight_t *flight = &tx->flights[at];
    fab_path_t *path = &tx->paths[flight->path];
    if (FAB_LIKELY(flight->state == FAB_FLIGHT_FLYING)) {
        fab_flights_remove(tx->flights, &path->flights, at);
        tx->in_flight_bytes -= flight->bytes;
        /* of one that was sent again nobody knows which of the two arrived */
        if (!flight->resent && (int16_t)(flight->turn - path->arrived) > 0)
            path->arrived = flight->turn;
    } else { /* it was late, not lost */
        fab_flights_remove(tx->flights, &tx->lost, at);
    }
    flight->state = FAB_FLIGHT_ARRIVED;
    return flight->bytes;
}

/* Messages that end before `una` are done: tells the user. */
static void finish_messages(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, fab_srd_tx_t *tx,
                            int64_t now_ps)
{
    fab_messages_t *messages = &tx->messages;
    while (tx->head_end_psn <= tx->una_psn) {
        const fab_cookie_t cookie = fab_messages_at(messages, messages->head++)->cookie;
        tx->head_end_psn =
            messages->head == messages->tail ? UINT64_MAX : fab_messages_at(messages, messages->head)->end_psn;
        self->user.acknowledged(self->user.self, worker, host_index, cookie, now_ps);
    }
}

/* Tells the controller what it asked for. */
FAB_INLINE void tell_controller(fab_transport_t *self, fab_worker_t *worker, fab_srd_tx_t *tx, fab_packet_t packet,
                                int64_t rtt_ps, int64_t acked_bytes, int64_t now_ps)
{
    const bool marked = packet.psn_flags & FAB_FLAG_CE;
    if (FAB_UNLIKELY(marked) && self->cc->wants_cnp &&
        now_ps - tx->cnp_at_ps >= self->config->values[SRD_CNP_INTERVAL_PS]) {
        tx->cnp_at_ps = now_ps;
        worker->cnps++;
        self->cc->on_cnp(self->cc_config, &tx->cc, now_ps);
    }
    if (self->cc->on_ack) {
        const fab_cc_ack_t ack = {
            .now_ps = now_ps,
            .rtt_ps = rtt_ps,
            .acked_bytes = acked_bytes,
            .in_flight_bytes = tx->in_flight_bytes,
            .acked_psn = tx->una_psn,
            .next_psn = tx->next_psn,
            .marked = marked,
        };
        self->cc->on_ack(self->cc_config, &tx->cc, &ack);
        fab_srd_set_window(self, tx);
    }
}

FAB_INLINE void receive_ack(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, fab_packet_t packet,
                            int64_t now_ps)
{
    fab_srd_host_t *host = &self->hosts[host_index];
    const uint32_t qpn = packet.qpn;
    fab_srd_tx_t *tx = &self->tx[host->tx_first + qpn];
    uint64_t missing;
    const uint64_t named = fab_srd_ack_named(fab_packet_psn(packet), tx->una_psn, &missing);
    int64_t acked_bytes = 0, rtt_ps = -1;
    bool lost = false;
    if (named >= tx->una_psn && named < tx->next_psn) {
        const uint32_t at = (uint32_t)named & tx->flight_mask, p = tx->flights[at].path;
        if (FAB_LIKELY(tx->flights[at].state != FAB_FLIGHT_ARRIVED)) {
            if (FAB_LIKELY(!tx->flights[at].resent))
                rtt_ps = now_ps - tx->flights[at].sent_ps;
            acked_bytes = settle(tx, at);
            if (FAB_LIKELY(rtt_ps >= 0))
                measure(self, tx, p, rtt_ps, now_ps);
            lost = find_lost(self, tx, p, now_ps);
        }
    }
    while (tx->una_psn < tx->next_psn) {
        const uint32_t at = (uint32_t)tx->una_psn & tx->flight_mask;
        if (tx->flights[at].state != FAB_FLIGHT_ARRIVED) {
            if (tx->una_psn >= missing)
                break;
            acked_bytes += settle(tx, at); /* its acknowledgement was coalesced, lost or is late */
            lost |= find_lost(self, tx, tx->flights[at].path, now_ps);
        }
        tx->una_psn++;
    }
    if (!acked_bytes)
        return;
    tx->progress_ps = now_ps;
    tx->retries = 0;
    tell_controller(self, worker, tx, packet, rtt_ps, acked_bytes, now_ps);
    if (FAB_UNLIKELY(lost))
        tell_loss(self, tx, false, now_ps);
    if (FAB_UNLIKELY(tx->una_psn == tx->end_psn))
        fab_srd_rest(self, worker, tx);
    if (FAB_UNLIKELY(tx->head_end_psn <= tx->una_psn))
        finish_messages(self, worker, host_index, tx, now_ps);
    schedule(self, worker, host, qpn, now_ps);
}

/* ---- what comes in ------------------------------------------------------------------------------ */

/* The next message of a connection is in order: tells the user. */
static void deliver(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint32_t qpn, int64_t now_ps)
{
    const uint32_t c = self->hosts[host].rx_first + qpn;
    fab_srd_rx_t *rx = &self->rx[c];
    const fab_cookie_t cookie = fab_mail_take(&rx->mail, &rx->mail_at, self->first_mail[c], &worker->pool);
    self->user.delivered(self->user.self, worker, host, cookie, now_ps);
}

/* All of the next message has come: it is delivered when its packets have been put in order, behind those before it. */
static void complete(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint32_t qpn, int64_t now_ps)
{
    fab_srd_rx_t *rx = &self->rx[self->hosts[host].rx_first + qpn];
    const int64_t work_ps = rx->put_in_order * self->config->values[SRD_REORDER_PS];
    rx->put_in_order = 0;
    if (FAB_LIKELY(!work_ps && rx->ready_ps <= now_ps)) {
        deliver(self, worker, host, qpn, now_ps);
        return;
    }
    rx->ready_ps = fab_max_i64(rx->ready_ps, now_ps) + work_ps;
    fab_nic_set_timer(&self->hosts[host].nic, worker, rx->ready_ps, TIMER_DELIVER | qpn);
}

/* Takes the early packets whose turn has come; returns whether one ended a message. */
static bool take_early(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint32_t qpn, int64_t now_ps)
{
    fab_srd_rx_t *rx = &self->rx[self->hosts[host].rx_first + qpn];
    uint64_t *ends = rx->early + (self->early_mask + 1) / 64;
    bool ended = false;
    while (rx->early_count) {
        const uint64_t at = rx->expected_psn & self->early_mask, bit = UINT64_C(1) << (at % 64);
        if (!(rx->early[at / 64] & bit))
            break;
        rx->early[at / 64] &= ~bit;
        rx->early_count--;
        rx->expected_psn++;
        rx->put_in_order++;
        if (ends[at / 64] & bit) {
            ends[at / 64] &= ~bit;
            ended = true;
            complete(self, worker, host, qpn, now_ps);
        }
    }
    return ended;
}

/* Tells the sender that a packet, number psn, has come, and which is missing; by the path that the packet took. */
FAB_INLINE void acknowledge(fab_transport_t *self, fab_worker_t *worker, const fab_srd_host_t *host,
                            const fab_srd_rx_t *rx, uint64_t psn, fab_packet_t answered, int64_t now_ps)
{
    worker->acks++;
    const fab_packet_t packet = {
        .psn_flags = fab_srd_ack_of(psn, rx->expected_psn) | FAB_ACK << FAB_KIND_SHIFT | FAB_FLAG_CONTROL |
                     (answered.psn_flags & FAB_FLAG_CE),
        .dst = rx->src,
        .qpn = rx->sender_qpn,
        .bytes = (uint16_t)self->config->values[SRD_ACK_BYTES],
        .entropy = answered.entropy,
    };
    fab_nic_emit(&host->nic, worker, self->fabric, self->config, self->ordered, packet, now_ps);
}

FAB_INLINE void receive_data(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, fab_packet_t packet,
                             int64_t now_ps)
{
    fab_srd_host_t *host = &self->hosts[host_index];
    fab_srd_rx_t *rx = &self->rx[host->rx_first + packet.qpn];
    uint64_t psn = fab_psn_unwrap(fab_packet_psn(packet), rx->expected_psn);
    const bool marked = packet.psn_flags & FAB_FLAG_CE;
    bool ends = packet.psn_flags & FAB_FLAG_LAST;
    if (psn == rx->expected_psn) {
        rx->expected_psn++;
        if (ends)
            complete(self, worker, host_index, packet.qpn, now_ps);
        if (rx->early_count) {
            ends |= take_early(self, worker, host_index, packet.qpn, now_ps);
        }
        if (!ends && !marked && ++rx->unanswered < self->config->values[SRD_ACK_EVERY_COUNT])
            return;
    } else if (psn < rx->expected_psn) {
        worker->duplicates++;
        psn = rx->expected_psn - 1;
    } else if (!fab_srd_keep_early(self, worker, rx, psn, ends)) {
        worker->duplicates++;
    }
    rx->unanswered = 0;
    acknowledge(self, worker, host, rx, psn, packet, now_ps);
}

static void receive(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, fab_packet_t packet,
                    int64_t now_ps)
{
    const uint32_t kind = fab_packet_kind(packet);
    if (FAB_UNLIKELY(packet.dst != host_index && kind < FAB_PAUSE)) /* a route led astray: ours, not the user's */
        worker->error = FAB_E_INTERNAL;
    else if (kind == FAB_DATA)
        receive_data(self, worker, host_index, packet, now_ps);
    else if (kind == FAB_ACK)
        receive_ack(self, worker, host_index, packet, now_ps);
    else
        fab_nic_obey(&self->hosts[host_index].nic, worker, self->fabric, self->ordered, kind == FAB_PAUSE,
                     (uint8_t)fab_packet_psn(packet), now_ps);
}

static void timer_fired(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, fab_timer_t timer)
{
    fab_srd_host_t *host = &self->hosts[host_index];
    const uint32_t qpn = (uint32_t)timer.key;
    switch (timer.key & TIMER_KIND_MASK) {
    case TIMER_PACE:
        self->tx[host->tx_first + qpn].place.in_line = false;
        schedule(self, worker, host, qpn, timer.when_ps);
        break;
    case TIMER_RTO: timed_out(self, worker, host, qpn, timer.when_ps); break;
    case TIMER_DELIVER: deliver(self, worker, host_index, qpn, timer.when_ps); break;
    default: self->user.timer(self->user.self, worker, host_index, timer.key, timer.when_ps);
    }
}

/* ---- the host's turn ---------------------------------------------------------------------------- */

static int64_t next_ps(const fab_transport_t *self, uint32_t slot)
{
    const fab_nic_t *nic = &self->hosts[self->fabric->net->nodes[slot].index].nic;
    return fab_min_i64(nic->wake_ps, fab_min_i64(nic->timers.next_ps, self->fabric->heads[nic->in_link]));
}

/* All of a host's events before until_ps, or the first of them only. At one time: the NIC's departure, then timers by
 * key, then the arrival. Returns when the next event is. One function for both, so that the compiler makes one of it. */
static __attribute__((noinline, noclone)) int64_t run_host(fab_transport_t *self, fab_worker_t *worker, uint32_t slot,
                                                           int64_t until_ps, const bool once)
{
    const uint32_t host_index = self->fabric->net->nodes[slot].index;
    fab_srd_host_t *host = &self->hosts[host_index];
    fab_nic_t *nic = &host->nic;
    const uint32_t in = nic->in_link;
    do {
        const int64_t timer_ps = nic->timers.next_ps, arrival_ps = self->fabric->heads[in];
        const int64_t other_ps = fab_min_i64(timer_ps, arrival_ps);
        if (nic->wake_ps <= other_ps) {
            if (nic->wake_ps >= until_ps)
                return nic->wake_ps;
            pull(self, worker, host, nic->wake_ps);
        } else if (other_ps >= until_ps) {
            return other_ps;
        } else if (timer_ps <= arrival_ps) {
            timer_fired(self, worker, host_index, fab_heap_pop(&nic->timers));
        } else {
            const fab_packet_t *packet;
            fab_link_pop(self->fabric, in, arrival_ps, &packet);
            worker->hops++;
            if (FAB_UNLIKELY(worker->record) && !fab_link_record(worker, self->fabric, in, arrival_ps, *packet))
                continue;
            receive(self, worker, host_index, *packet, arrival_ps);
        }
    } while (!once);
    return next_ps(self, slot);
}

static int64_t visit(fab_transport_t *self, fab_worker_t *worker, uint32_t slot, int64_t until_ps)
{
    return run_host(self, worker, slot, until_ps, false);
}

static void turn(fab_transport_t *self, fab_worker_t *worker, uint32_t slot)
{
    run_host(self, worker, slot, FAB_NEVER, true);
}

static void post(fab_transport_t *self, fab_worker_t *worker, uint32_t host_index, uint32_t qpn, int64_t bytes,
                 fab_cookie_t cookie, int64_t now_ps)
{
    fab_srd_host_t *host = &self->hosts[host_index];
    worker->messages++;
    if (!fab_srd_enqueue(self, worker, &self->tx[host->tx_first + qpn], bytes, cookie)) {
        worker->error = FAB_E_MEMORY;
        return;
    }
    schedule(self, worker, host, qpn, now_ps);
}

static bool set_timer(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint64_t key, int64_t when_ps)
{
    return fab_heap_push(&self->hosts[host].nic.timers, &worker->pool, (fab_timer_t){when_ps, key});
}

static void change(fab_transport_t *self, fab_worker_t *worker, uint32_t slot, fab_link_change_t what, int64_t value,
                   int64_t now_ps)
{
    fab_nic_t *nic = &self->hosts[self->fabric->net->nodes[slot].index].nic;
    fab_nic_change(nic, worker, self->fabric, self->ordered, what, value, now_ps);
    fab_link_notify(worker, self->fabric->net, slot, next_ps(self, slot));
}

static bool is_pending(const fab_transport_t *self, uint32_t connection)
{
    return self->tx[connection].una_psn < self->tx[connection].end_psn;
}

const fab_transport_ops_t fab_transport_srd = {
    .impl = {"transport", "srd", "EFA's Scalable Reliable Datagram: many paths, any order", params, 0},
    .takes_many_paths = true,
    .configure = configure,
    .need = need,
    .new = fab_srd_new,
    .free = fab_srd_free,
    .set_user = set_user,
    .next_ps = next_ps,
    .turn = turn,
    .visit = visit,
    .post = post,
    .set_timer = set_timer,
    .change = change,
    .is_pending = is_pending,
    .memory_bytes = fab_srd_memory_bytes,
    .digest = fab_srd_digest,
};
