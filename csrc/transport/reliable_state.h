/* The state of reliable connections and hosts, and what is done with it once a message. */
#ifndef FAB_TRANSPORT_RELIABLE_STATE_H
#define FAB_TRANSPORT_RELIABLE_STATE_H

#include "core/digest.h"
#include "link/credit.h"
#include "link/queue.h"
#include "transport/flow.h"
#include "transport/messages.h"
#include "transport/reliable.h"

#define TIMER_KIND_MASK (UINT64_C(0xff) << 56)
#define TIMER_PACE (UINT64_C(1) << 56)
#define TIMER_RTO (UINT64_C(2) << 56)

/* The sending half of a connection. */
typedef struct {
    uint64_t next_psn, una_psn, end_psn; /* to send, oldest not acknowledged, one past what was posted */
    uint64_t head_end_psn;               /* the oldest message ends before it; UINT64_MAX without one */
    int64_t next_send_ps;                /* pacing */
    fab_message_t current;               /* the message of next_psn, or the one that ends there */
    fab_messages_t messages;
    uint32_t next_ready; /* in the NIC's line */
    uint16_t dst, receiver_qpn, entropy;
    bool in_line, rto_armed;
    uint8_t data_class;
    int64_t progress_ps; /* last acknowledgement, for the time-out */
    int32_t retries;
    uint32_t mail_at;
    fab_mail_t *mail; /* chunk being filled */
    fab_cc_state_t cc;
} __attribute__((aligned(FAB_CACHE_LINE))) fab_tx_t;

/* The receiving half. */
typedef struct {
    uint64_t expected_psn;
    int64_t cnp_at_ps, nak_at_ps;
    fab_mail_t *mail; /* chunk being read */
    uint64_t *early;  /* bits of packets that came early, then bits of those that end a message */
    uint32_t mail_at, unanswered;
    uint16_t src, sender_qpn, entropy;
    uint8_t data_class;
    uint32_t early_count;
} __attribute__((aligned(FAB_CACHE_LINE))) fab_rx_t;

typedef struct {
    fab_packet_t *ring;
    uint32_t mask, head, tail;
} fab_control_queue_t;

typedef struct {
    int64_t wake_ps; /* the NIC's next turn */
    fab_heap_t timers;
    uint32_t in_link, out_link, tx_first, rx_first; /* a host without a port here has an in_link that brings nothing */
    /* connections that may send, by data class: lists, and a bit set of those that are not empty */
    uint32_t ready_first[FAB_DATA_CLASSES_MAX], ready_last[FAB_DATA_CLASSES_MAX];
    uint8_t ready, paused;
    fab_turns_t turns;
    /* With credits: control packets that wait for them, by virtual lane. */
    uint8_t control;                     /* bit set of lanes */
    bool blocked;                        /* the link is free, but no lane with packets has credits */
    uint32_t short_bytes[FAB_LANES_MAX]; /* blocked: what the next packet of each lane takes; 0: there is none */
    fab_lane_turns_t lane_turns;
    fab_control_queue_t *controls; /* [lane] */
} __attribute__((aligned(FAB_CACHE_LINE))) fab_host_t;

/* The queue pairs of a connection of the program: consecutive qpns. Whose turn it is, at the sender by the tx index of
 * the connection, at the receiver by the rx index. */
struct fab_group {
    uint32_t post_turn, deliver_turn;
};

struct fab_transport {
    const fab_transport_config_t *config;
    const fab_cc_ops_t *cc;
    const fab_cc_config_t *cc_config;
    const fab_fabric_t *fabric;
    const fab_connections_t *connections;
    uint32_t network;
    fab_user_t user;
    fab_host_t *hosts;             /* [host_count] */
    fab_control_queue_t *controls; /* [host][lane] with credits */
    fab_tx_t *tx;                  /* [connection count] by source host */
    fab_rx_t *rx;                  /* [connection count] by destination host */
    fab_mail_t **first_mail;       /* [connection count] by the rx index; written once by the sender */
    uint64_t window_packets;
    int64_t full_bytes; /* of a full packet on the wire that is not the first of its message */
    bool ordered;       /* links can be paused or overtaken */
    bool spray;
    bool measures;                 /* the controller hears of acknowledgements or has a window, or selective repeat */
    struct fab_feedback *feedback; /* [connection count] beside tx */
    struct fab_group *groups;      /* [connection count of the program], for both sides; NULL: one queue pair each */
    uint32_t *complete;            /* [connection count] by the rx index: messages complete but not delivered */
    uint32_t connection_count;     /* queue pairs: qp_count for each connection of the program */
    struct fab_gaps *gaps;         /* [connection count] beside rx; NULL: go-back-N */
    char *cc_more;                 /* [connection count][more_bytes] of the controller */
};

/* With credits: queues a control packet in its lane; false without memory. */
bool fab_reliable_queue_control(fab_worker_t *worker, fab_host_t *host, uint32_t lane, fab_packet_t packet);

/* Queues a message at its sender and its cookie for the receiver; false without memory. */
bool fab_reliable_enqueue_message(fab_transport_t *self, fab_worker_t *worker, fab_tx_t *tx, int64_t bytes,
                                  fab_cookie_t cookie);

/* The queue pair of a connection that takes its next message. */
uint32_t fab_reliable_next_of_group(fab_transport_t *self, const fab_host_t *host, uint32_t connection);

/* The next message of a queue pair is complete: tells the user of what is complete in the order of posting. */
void fab_reliable_deliver(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint32_t qpn, int64_t now_ps);

/* Keeps a packet that came before its turn; false: too far ahead, drop it. */
bool fab_reliable_keep_early(fab_transport_t *self, fab_worker_t *worker, fab_rx_t *rx, uint64_t psn, bool ends);

/* Whether a packet came early and is kept. */
bool fab_reliable_has_early(const fab_transport_t *self, const fab_rx_t *rx, uint64_t psn);

/* Takes the early packets whose turn has come; returns whether one ended a message. */
bool fab_reliable_take_early(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint32_t qpn, int64_t now_ps);

#endif
