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

/* The sender goes back to una_psn. */
void fab_feedback_went_back(fab_transport_t *self, fab_tx_t *tx, bool timeout, int64_t now_ps);

FAB_INLINE struct fab_feedback *fab_feedback_of(const fab_transport_t *self, const fab_tx_t *tx)
{
    return &self->feedback[tx - self->tx];
}

FAB_INLINE bool fab_feedback_window_open(const fab_transport_t *self, const fab_tx_t *tx)
{
    const struct fab_feedback *more = fab_feedback_of(self, tx);
    return more->next_bytes - more->una_bytes < more->window_bytes;
}

#endif
