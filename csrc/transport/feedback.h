/* What senders keep for controllers that measure: when each packet under way left, how much is under way, and how much
 * may be. Only with a controller that wants it: others pay nothing. */
#ifndef FAB_TRANSPORT_FEEDBACK_H
#define FAB_TRANSPORT_FEEDBACK_H

#include "net/telemetry.h"
#include "transport/reliable_state.h"

/* A packet that was sent. */
typedef struct {
    int64_t sent_ps;   /* FAB_FEEDBACK_AGAIN: more than once, its acknowledgement gives no round trip */
    int64_t end_bytes; /* on the wire, of the connection's packets up to and with this one */
} fab_sent_t;

#define FAB_FEEDBACK_AGAIN INT64_C(-1)

/* Beside each fab_tx_t. */
struct fab_feedback {
    fab_sent_t *sent; /* ring by psn: all from una_psn to the newest ever sent */
    uint32_t sent_mask;
    uint64_t newest_psn;           /* one past the newest ever sent */
    int64_t una_bytes, next_bytes; /* end_bytes before una_psn and next_psn */
    int64_t window_bytes;
    uint32_t hop_count; /* switches on the way, for a controller that wants it */
    uint64_t *named;    /* ring of packets to send again, in their order */
    uint32_t named_mask, named_head, named_tail;
};

/* Beside each fab_rx_t, with selective repeat. */
struct fab_gaps {
    uint64_t high_psn;  /* one past the newest that came */
    uint64_t named_psn; /* all before it came or were named */
};

/* Allocates the state of all connections; their controllers must be initialised after it. */
bool fab_feedback_init(fab_transport_t *self);
void fab_feedback_free(fab_transport_t *self);

/* The window as the controller has it now. */
void fab_feedback_renew(fab_transport_t *self, fab_tx_t *tx);

/* A packet leaves, after its psn was counted in next_psn. */
void fab_feedback_sent(fab_transport_t *self, fab_worker_t *worker, fab_tx_t *tx, uint64_t psn, int64_t bytes,
                       int64_t now_ps);

/* An acknowledgement came; una_psn and next_psn are already those after it. */
void fab_feedback_acked(fab_transport_t *self, fab_worker_t *worker, fab_tx_t *tx, bool advances,
                        const fab_packet_t *packet, int64_t now_ps);

/* Gives the packet that was pushed last to a link its telemetry: data a new record, an answer what it answers came with. */
void fab_feedback_add_telemetry(fab_transport_t *self, fab_worker_t *worker, uint32_t link, uint32_t kind);

/* A packet was named missing: it is sent again before new ones. False: it is not under way. */
bool fab_feedback_name(fab_transport_t *self, fab_worker_t *worker, fab_tx_t *tx, uint64_t psn, int64_t now_ps);

/* The first of those named was sent again. */
void fab_feedback_sent_again(fab_transport_t *self, fab_tx_t *tx);

/* A packet came that is not the one expected, and is kept: the first missing psn that is to be named now, and one past
 * the last to look at. What is before that is not named again. */
uint64_t fab_feedback_look_for_gaps(fab_transport_t *self, const fab_rx_t *rx, uint64_t psn, uint64_t *end_out);

/* The sender goes back to una_psn. */
void fab_feedback_went_back(fab_transport_t *self, fab_tx_t *tx, bool timeout, int64_t now_ps);

FAB_INLINE struct fab_feedback *fab_feedback_of(const fab_transport_t *self, const fab_tx_t *tx)
{
    return &self->feedback[tx - self->tx];
}

/* Whether a packet is to be sent again. */
FAB_INLINE bool fab_feedback_pending(const fab_transport_t *self, const fab_tx_t *tx)
{
    const struct fab_feedback *more = fab_feedback_of(self, tx);
    return more->named_head != more->named_tail;
}

FAB_INLINE uint64_t fab_feedback_first_named(const fab_transport_t *self, const fab_tx_t *tx)
{
    const struct fab_feedback *more = fab_feedback_of(self, tx);
    return more->named[more->named_head & more->named_mask];
}

FAB_INLINE bool fab_feedback_window_open(const fab_transport_t *self, const fab_tx_t *tx)
{
    const struct fab_feedback *more = fab_feedback_of(self, tx);
    return more->next_bytes - more->una_bytes < more->window_bytes;
}

#endif
