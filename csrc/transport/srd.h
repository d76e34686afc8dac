/* The state of SRD connections and hosts, and what is done with it once a message. */
#ifndef FAB_TRANSPORT_SRD_H
#define FAB_TRANSPORT_SRD_H

#include "transport/flow.h"
#include "transport/messages.h"
#include "transport/nic.h"

enum {
    SRD_MTU_BYTES,
    SRD_HEADER_BYTES,
    SRD_MIN_WIRE_BYTES,
    SRD_ACK_BYTES,
    SRD_ACK_EVERY_COUNT,
    SRD_PATH_COUNT,
    SRD_PATH_SLOW_PPM,
    SRD_PATH_REST_PS,
    SRD_LOSS_THRESHOLD_COUNT,
    SRD_FIRST_RTO_PS,
    SRD_MIN_RTO_PS,
    SRD_MAX_RTO_PS,
    SRD_RETRY_LIMIT_COUNT,
    SRD_WINDOW_BYTES,
    SRD_REORDER_COUNT,
    SRD_REORDER_PS,
    SRD_CNP_INTERVAL_PS,
    SRD_CONTROL_PRIORITY,
    SRD_VALUE_COUNT
};

enum { SRD_PATHS_MAX = 64, SRD_STRIKES_MAX = 6, SRD_REORDER_MAX = 8192 };

#define TIMER_KIND_MASK (UINT64_C(0xff) << 56)
#define TIMER_PACE (UINT64_C(1) << 56)
#define TIMER_RTO (UINT64_C(2) << 56)
#define TIMER_DELIVER (UINT64_C(3) << 56)

/* A list of packets of the window: places in it plus one, 0 at the ends. */
typedef struct {
    uint16_t first, last;
} fab_flight_list_t;

typedef enum { FAB_FLIGHT_ARRIVED, FAB_FLIGHT_FLYING, FAB_FLIGHT_LOST } fab_flight_state_t;

/* A packet of the window, which reaches from the oldest not acknowledged to the newest sent. */
typedef struct {
    int64_t sent_ps;
    uint16_t newer, older; /* on its path, or among the lost */
    uint16_t turn;         /* its number among the packets of its path */
    uint16_t bytes;        /* on the wire */
    uint8_t path, state;
    bool last, resent;
} fab_flight_t;

typedef struct {
    int64_t excess_ps;         /* by which its round trips are longer than the connection's, smoothed */
    int64_t rest_until_ps;     /* not used before, unless it is in service */
    fab_flight_list_t flights; /* that fly on it, in the order they were sent */
    uint16_t turns, arrived;   /* packets sent on it; the newest of them that is known to have arrived */
    uint8_t strikes;           /* how often in a row it was set aside; a round trip in time forgives all */
} fab_path_t;

/* The sending half of a connection. */
typedef struct {
    fab_place_t place;                   /* first: fab_places_t */
    uint64_t next_psn, una_psn, end_psn; /* to send, oldest not acknowledged, one past what was posted */
    uint64_t head_end_psn;               /* the oldest message ends before it; UINT64_MAX without one */
    int64_t in_flight_bytes, window_bytes;
    fab_flight_t *flights; /* [flight_mask + 1] while anything is under way */
    fab_path_t *paths;     /* [path_count] while anything is under way, or a path is out of service */
    uint64_t in_service;   /* bit set of paths */
    int64_t back_ps;       /* when the first path may come back */
    int64_t srtt_ps, rttvar_ps;
    int64_t progress_ps; /* the newest acknowledgement of anything, or the newest time-out */
    int64_t cnp_at_ps;
    uint64_t path_key; /* of the draws of its paths' entropies */
    uint32_t flight_mask;
    int32_t retries;
    fab_flight_list_t lost; /* to be sent again */
    uint16_t dst, receiver_qpn;
    uint8_t path_at; /* the newest packet's */
    bool rto_armed;
    fab_message_t current; /* the message of next_psn, or the one that ends there */
    fab_messages_t messages;
    fab_mail_t *mail; /* chunk being filled */
    uint32_t mail_at;
    fab_cc_state_t cc;
} __attribute__((aligned(FAB_CACHE_LINE))) fab_srd_tx_t;

/* The receiving half. */
typedef struct {
    uint64_t expected_psn;
    uint64_t *early;  /* bits of packets that came early, then bits of those that end a message */
    fab_mail_t *mail; /* chunk being read */
    int64_t ready_ps; /* when the newest complete message has been put in order */
    uint32_t early_count, unanswered, mail_at;
    uint32_t put_in_order; /* packets of the message that is arriving that came early */
    uint16_t src, sender_qpn;
} __attribute__((aligned(FAB_CACHE_LINE))) fab_srd_rx_t;

typedef struct {
    fab_nic_t nic;
    uint32_t tx_first, rx_first;
} __attribute__((aligned(FAB_CACHE_LINE))) fab_srd_host_t;

struct fab_transport {
    const fab_transport_config_t *config;
    const fab_cc_ops_t *cc;
    const fab_cc_config_t *cc_config;
    const fab_fabric_t *fabric;
    const fab_connections_t *connections;
    uint32_t network;
    fab_user_t user;
    fab_srd_host_t *hosts;   /* [host_count] */
    fab_srd_tx_t *tx;        /* [connection count] by source host */
    fab_srd_rx_t *rx;        /* [connection count] by destination host */
    fab_mail_t **first_mail; /* [connection count] by the rx index; written once by the sender */
    void *cc_more;           /* [connection count] of what the controller asked for */
    int64_t full_bytes;      /* of a full packet on the wire */
    int64_t slow_q16;        /* part of the round trip that a path may be slower by */
    uint64_t window_max;     /* packets */
    uint32_t early_mask;     /* bits of a receiver for packets that came early, less 1 */
    uint32_t path_count;
    bool ordered; /* links can be paused or overtaken */
};

fab_transport_t *fab_srd_new(const fab_transport_config_t *config, const fab_cc_ops_t *cc,
                             const fab_cc_config_t *cc_config, const fab_fabric_t *fabric, uint32_t network,
                             const fab_connections_t *connections);
void fab_srd_free(fab_transport_t *self);
int64_t fab_srd_memory_bytes(const fab_transport_t *self);
uint64_t fab_srd_digest(const fab_transport_t *self, uint64_t digest);

/* Queues a message at its sender and its cookie for the receiver; false without memory. */
bool fab_srd_enqueue(fab_transport_t *self, fab_worker_t *worker, fab_srd_tx_t *tx, int64_t bytes, fab_cookie_t cookie);

/* Room in the window for one more packet, and the state of paths; false without memory. */
bool fab_srd_make_room(const fab_transport_t *self, fab_worker_t *worker, fab_srd_tx_t *tx);

/* Gives back what a connection with nothing under way does not need. */
void fab_srd_rest(const fab_transport_t *self, fab_worker_t *worker, fab_srd_tx_t *tx);

/* Keeps a packet that came before its turn; false: it had come before. */
bool fab_srd_keep_early(const fab_transport_t *self, fab_worker_t *worker, fab_srd_rx_t *rx, uint64_t psn, bool ends);

/* The bytes that may be under way: the controller's word, and the parameter's. */
FAB_INLINE void fab_srd_set_window(const fab_transport_t *self, fab_srd_tx_t *tx)
{
    const int64_t most = self->config->values[SRD_WINDOW_BYTES];
    tx->window_bytes = most ? most : INT64_MAX;
    if (self->cc->window_bytes)
        tx->window_bytes = fab_min_i64(tx->window_bytes, self->cc->window_bytes(self->cc_config, &tx->cc));
}

/* ---- what an acknowledgement says --------------------------------------------------------------- */

/* The number of the packet that it answers, in 18 bits, and how far behind that the first missing one is: in steps of 16
 * rounded down, 6 bits, of which the least value tells nothing. */
enum { SRD_NAMED_BITS = 18, SRD_BEHIND_BITS = 6, SRD_BEHIND_STEP = 16 };
_Static_assert(SRD_NAMED_BITS + SRD_BEHIND_BITS == FAB_PSN_BITS, "an acknowledgement's number is full");
enum { SRD_BEHIND_MOST = (1 << (SRD_BEHIND_BITS - 1)) - 1, SRD_BEHIND_NOTHING = -(1 << (SRD_BEHIND_BITS - 1)) };

FAB_INLINE uint32_t fab_srd_ack_of(uint64_t named, uint64_t missing)
{
    int64_t behind = (int64_t)(missing - named) >> 4;
    behind = fab_max_i64(fab_min_i64(behind, SRD_BEHIND_MOST), SRD_BEHIND_NOTHING);
    return ((uint32_t)named << SRD_BEHIND_BITS | ((uint32_t)behind & ((1u << SRD_BEHIND_BITS) - 1))) & FAB_PSN_MASK;
}

/* The packet it names, nearest to `near`; everything before *missing_out has arrived. */
FAB_INLINE uint64_t fab_srd_ack_named(uint32_t said, uint64_t near, uint64_t *missing_out)
{
    const int32_t off =
        (int32_t)(((said >> SRD_BEHIND_BITS) - (uint32_t)near) << (32 - SRD_NAMED_BITS)) >> (32 - SRD_NAMED_BITS);
    const uint64_t named = near + (uint64_t)(int64_t)off;
    const int32_t behind = (int32_t)(said << (32 - SRD_BEHIND_BITS)) >> (32 - SRD_BEHIND_BITS);
    const int64_t missing = (int64_t)named + behind * SRD_BEHIND_STEP;
    *missing_out = behind == SRD_BEHIND_NOTHING || missing < 0 ? 0 : (uint64_t)missing;
    return named;
}

/* ---- lists of packets --------------------------------------------------------------------------- */

FAB_INLINE fab_flight_t *fab_srd_flight(const fab_srd_tx_t *tx, uint64_t psn)
{
    return &tx->flights[psn & tx->flight_mask];
}

FAB_INLINE void fab_flights_append(fab_flight_t *flights, fab_flight_list_t *list, uint32_t at)
{
    const uint16_t link = (uint16_t)(at + 1);
    flights[at].older = list->last;
    flights[at].newer = 0;
    if (list->last)
        flights[list->last - 1].newer = link;
    else
        list->first = link;
    list->last = link;
}

FAB_INLINE void fab_flights_remove(fab_flight_t *flights, fab_flight_list_t *list, uint32_t at)
{
    const uint16_t newer = flights[at].newer, older = flights[at].older;
    if (newer)
        flights[newer - 1].older = older;
    else
        list->last = older;
    if (older)
        flights[older - 1].newer = newer;
    else
        list->first = newer;
}

/* ---- paths -------------------------------------------------------------------------------------- */

/* Takes a path out of service for a while, but leaves at least so many; returns whether it could. */
FAB_INLINE bool fab_srd_set_aside(const fab_transport_t *self, fab_srd_tx_t *tx, uint32_t p, uint32_t least,
                                  int64_t now_ps)
{
    const uint64_t bit = UINT64_C(1) << p;
    if (tx->in_service & bit && (uint32_t)__builtin_popcountll(tx->in_service) <= least)
        return false;
    fab_path_t *path = &tx->paths[p];
    path->rest_until_ps = now_ps + (self->config->values[SRD_PATH_REST_PS] << path->strikes);
    if (tx->in_service & bit && path->strikes < SRD_STRIKES_MAX)
        path->strikes++;
    tx->in_service &= ~bit;
    tx->back_ps = fab_min_i64(tx->back_ps, path->rest_until_ps);
    return true;
}

/* Puts paths back in service whose rest is over; one with packets under way rests on. */
void fab_srd_take_back(const fab_transport_t *self, fab_srd_tx_t *tx, int64_t now_ps);

/* The path in service behind path p, round robin. */
FAB_INLINE uint32_t fab_srd_path_after(const fab_srd_tx_t *tx, uint32_t p)
{
    const uint64_t above = tx->in_service & ~((UINT64_C(2) << p) - 1);
    return (uint32_t)__builtin_ctzll(above ? above : tx->in_service);
}

/* The oldest packet of a path is under way for longer than makes a path slow: what it will measure is late already. */
FAB_INLINE bool fab_srd_path_late(const fab_transport_t *self, const fab_srd_tx_t *tx, uint32_t p, int64_t now_ps)
{
    const uint32_t oldest = tx->paths[p].flights.first;
    return oldest && tx->srtt_ps &&
           now_ps - tx->flights[oldest - 1].sent_ps > tx->srtt_ps + ((tx->srtt_ps * self->slow_q16) >> 16);
}

/* What switches see of a packet on a path. */
FAB_INLINE uint16_t fab_srd_path_entropy(const fab_srd_tx_t *tx, uint32_t p)
{
    return (uint16_t)fab_keyed_mix(tx->path_key ^ p);
}

#endif
