/* The transport room: how a host turns messages into packets and packets into messages.
 *
 * A connection carries messages one way, in order, from one host to another. Its sender's state belongs
 * to the sending host and its receiver's state to the receiving host, so that hosts never share memory;
 * the only thing handed over is the cookie of each message, through a queue that the sender writes at
 * least one link delay before the receiver reads. */
#ifndef FAB_TRANSPORT_TRANSPORT_H
#define FAB_TRANSPORT_TRANSPORT_H

#include "cc/cc.h"
#include "core/lanes.h"
#include "link/change.h"

/* What a message means to the user of the transport. */
typedef struct {
    uint32_t instance; /* the receiver's */
    uint32_t step;
    uint32_t from_instance; /* the sender's */
} fab_cookie_t;

/* The connections of a program in one network: tx side sorted by source host, rx side by destination host. */
typedef struct {
    uint32_t count;
    uint32_t *tx_first;  /* [host_count + 1] */
    uint32_t *rx_first;  /* [host_count + 1] */
    uint16_t *tx_dst;    /* [count] host */
    uint16_t *tx_qpn;    /* [count] the receiver's index of it */
    int32_t *tx_lane;    /* [count] tells apart connections between the same hosts */
    uint8_t *tx_class;   /* [count] data class */
    uint8_t *tx_channel; /* [count] of a collective */
    uint16_t *rx_src;    /* [count] host */
    uint16_t *rx_qpn;    /* [count] the sender's index of it */
} fab_connections_t;

/* What the transport tells its user, on the thread of the host it happens at. */
typedef struct fab_user {
    void *self;
    void (*delivered)(void *self, fab_worker_t *worker, uint32_t host, fab_cookie_t cookie, int64_t now_ps);
    void (*acknowledged)(void *self, fab_worker_t *worker, uint32_t host, fab_cookie_t cookie, int64_t now_ps);
    void (*timer)(void *self, fab_worker_t *worker, uint32_t host, uint64_t key, int64_t now_ps);
} fab_user_t;

/* Timers with a key from here up are the user's. */
#define FAB_TIMER_USER (UINT64_C(8) << 56)

enum { FAB_TRANSPORT_VALUES_MAX = 32 };

typedef struct {
    int64_t values[FAB_TRANSPORT_VALUES_MAX];
    int64_t wire_max_bytes;
    int64_t window_bytes; /* of messages that a connection may have under way; 0: no limit */
    bool control_priority, pause, credit, reorder;
    uint32_t data_class_count;
    uint32_t qp_count;             /* queue pairs that each connection of a program is, if more than 1 */
    bool telemetry;                /* data packets and acknowledgements carry it; set before configure */
    bool scheduled;                /* links are not given packets that wait for others of their class */
    fab_arbitration_t arbitration; /* among data classes, at the NIC as in the switches */
    fab_lanes_t lanes;             /* with credits: the same, among virtual lanes */
} fab_transport_config_t;

typedef struct fab_transport fab_transport_t; /* the state of all hosts in one network of a run */

/* What a message takes of the wire where nothing disturbs it. */
typedef struct {
    int64_t packets;
    int64_t wire_bytes;   /* of all of them */
    int64_t packet_bytes; /* the largest of them */
    int64_t ack_bytes;    /* what its receiver answers, in all */
    int64_t answer_bytes; /* the last answer, which tells the sender that all has arrived */
} fab_wire_need_t;

typedef struct {
    fab_impl_t impl;
    bool takes_credits;     /* it may send over links with credits */
    bool carries_telemetry; /* its receivers send it back */
    bool takes_many_paths;  /* packets of a connection take many paths, whatever the routing */
    /* The largest frame, and whether acknowledgements have a class of their own. */
    void (*configure)(const int64_t *values, fab_transport_config_t *config_out);
    fab_wire_need_t (*need)(const fab_transport_config_t *config, int64_t bytes);
    fab_transport_t *(*new)(const fab_transport_config_t *config, const fab_cc_ops_t *cc,
                            const fab_cc_config_t *cc_config, const fab_fabric_t *fabric, uint32_t network,
                            const fab_connections_t *connections);
    void (*free)(fab_transport_t *self);
    void (*set_user)(fab_transport_t *self, fab_user_t user);
    /* When a host's next event is, and doing that event. */
    int64_t (*next_ps)(const fab_transport_t *self, uint32_t slot);
    void (*turn)(fab_transport_t *self, fab_worker_t *worker, uint32_t slot);
    /* Both in a loop, for a host of one network: all before until_ps; returns when the next event is. */
    int64_t (*visit)(fab_transport_t *self, fab_worker_t *worker, uint32_t slot, int64_t until_ps);
    /* Hands over a message on the host's connection number `qpn`. */
    void (*post)(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint32_t qpn, int64_t bytes,
                 fab_cookie_t cookie, int64_t now_ps);
    bool (*set_timer)(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint64_t key, int64_t when_ps);
    /* Between phases: carries out a change of the host's link, which everything before now_ps has gone by; NULL: there is
     * nothing to do but what the link does itself. */
    void (*change)(fab_transport_t *self, fab_worker_t *worker, uint32_t slot, fab_link_change_t what, int64_t value,
                   int64_t now_ps);
    /* Whether a connection has something that is not acknowledged. */
    bool (*is_pending)(const fab_transport_t *self, uint32_t connection);
    int64_t (*memory_bytes)(const fab_transport_t *self);
    uint64_t (*digest)(const fab_transport_t *self, uint64_t digest);
} fab_transport_ops_t;

extern const fab_transport_ops_t fab_transport_roce, fab_transport_rc, fab_transport_scale_up, fab_transport_ici,
    fab_transport_srd;

#endif
