/* The dry run of a collective: its algorithm's own state machines over a fabric that carries messages, not packets.
 *
 * A network interface sends packets of its queue pairs in turn. What comes faster to a resource than it carries on waits
 * there, first in, first out, as a fluid. No losses, no pauses, no congestion control. */
#ifndef FAB_FLOW_DRY_H
#define FAB_FLOW_DRY_H

#include "flow/wiring.h"

/* What a connection carried. */
typedef struct {
    double wire_bytes, ack_bytes, packets, messages;
} fab_carried_t;

typedef struct {
    int64_t end_ps; /* the last rank has all, and all that it sent is acknowledged */
    uint64_t messages;
    int64_t half_ps; /* when half of the messages had arrived after which it was to stop */
    bool exceeded;   /* more than the limit: it was given up */
} fab_dry_result_t;

typedef struct {
    int64_t when_ps;
    uint64_t order; /* ties: what was entered first */
    uint32_t what, edge, step, pad;
} fab_dry_event_t;

/* A message at its network interface, or on its way. */
typedef struct {
    double wire_bytes, packet_bytes, ack_bytes;
    int64_t packets, begin_ps;
    int64_t answerer_ps; /* how long its receiver's interface had been busy when it began */
    uint32_t step, next; /* of the same queue pair */
    uint32_t lead;
} fab_dry_message_t;

typedef struct {
    fab_coll_state_t state;
    int64_t done_ps, acked_ps;
    bool started, done;
} fab_dry_rank_t;

/* A network interface: queue pairs that have something to send take turns, a packet each. Whole rounds in which nobody comes
 * to an end are passed over at once. */
typedef struct {
    double free_ps;       /* the packet being sent has left */
    int64_t wake_ps;      /* of its timer; -1: none */
    int64_t busy_ps;      /* how long it was ever busy, before it last became so or idle */
    int64_t since_ps;     /* when that was */
    uint32_t first, last; /* queue pairs in line, FAB_NONE */
    uint32_t busy_count;  /* queue pairs with something to send */
    uint32_t ending;      /* queue pair whose message ends with that packet, FAB_NONE */
} fab_dry_nic_t;

/* What comes to a resource on the way, and waits there for it. */
typedef struct {
    double backlog_ps; /* of its wire, as of at_ps */
    double rate;       /* of what comes in, as a part of its own */
    int64_t at_ps;
} fab_dry_queue_t;

typedef struct {
    double packet_ps;    /* of its message's packets, each */
    double window_free;  /* ps: what the window allows */
    uint64_t left;       /* packets of its message that have not begun */
    uint32_t head, tail; /* messages that are not out, FAB_NONE */
    uint32_t sending;    /* the one that `left` is of */
    uint32_t next;       /* in line */
    uint32_t edge;
} fab_dry_qp_t;

typedef struct {
    const fab_model_t *model;
    const fab_wiring_t *wiring;
    const fab_party_t *party;
    const fab_coll_ops_t *algorithm;
    fab_coll_t coll; /* but for the position */
    bool empty;      /* messages carry nothing */
    uint64_t message_limit;
    uint64_t stop_after, arrived; /* messages; 0: all */
    int64_t half_ps;
    fab_dry_event_t *heap;
    fab_dry_message_t *messages;
    fab_dry_rank_t *ranks;
    fab_dry_nic_t *nics;     /* [local_count] by the first hop's resource */
    fab_dry_qp_t *qps;       /* [lead_count / 2] */
    fab_dry_queue_t *queues; /* [local_count] what waits at a resource */
    uint32_t *cursor;        /* [position_count] where the newest connection of each was found */
    uint32_t *turn;          /* [edge_count] queue pair of the next message */
    int64_t *delivered;      /* [edge_count] newest */
    fab_carried_t *carried;  /* [edge_count] */
    uint32_t heap_count, heap_capacity, message_count, message_capacity, free_message, rank_capacity, local_capacity,
        queue_capacity, qp_capacity, cursor_capacity, turn_capacity, delivered_capacity, carried_capacity;
    uint64_t order, message_total;
    int64_t now_ps, end_ps;
    int error;
} fab_dry_t;

/* How a collective is run. */
typedef struct {
    int64_t bytes;          /* instead of the operation's */
    bool empty;             /* messages carry nothing */
    uint64_t message_limit; /* beyond it is given up */
    uint64_t stop_after;    /* ends when so many messages have arrived; 0: when all have */
} fab_dry_options_t;

/* Runs the group's collective. carried[] is filled. */
int fab_dry_collective(fab_dry_t *self, const fab_model_t *model, const fab_wiring_t *wiring, const fab_party_t *party,
                       fab_dry_options_t options, fab_dry_result_t *result_out);

/* The same for one message on the first connection: when it is delivered. */
int fab_dry_send(fab_dry_t *self, const fab_model_t *model, const fab_wiring_t *wiring, int64_t bytes, bool empty,
                 fab_dry_result_t *result_out);
void fab_dry_free(fab_dry_t *self);

#endif
