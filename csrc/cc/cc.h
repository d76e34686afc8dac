/* The congestion-control room: one controller a connection, at the sender, sees only time and bytes.
 *
 * Rates are kb/s in 64 bits; pacing is picoseconds a byte in Q16, as on the wire. A controller has no
 * timers of its own: it brings itself up to `now_ps` when it is asked, and the answer is the same as
 * if its timers had fired in their order. */
#ifndef FAB_CC_CC_H
#define FAB_CC_CC_H

#include "core/param.h"
#include "core/wire.h"

enum { FAB_CC_VALUES_MAX = 16 };

/* What a controller keeps a connection; each defines its own layout over it. */
typedef struct {
    int64_t words[10];
} fab_cc_state_t;

typedef struct {
    int64_t values[FAB_CC_VALUES_MAX]; /* in the order of the controller's parameter table */
} fab_cc_config_t;

typedef struct {
    fab_impl_t impl;
    bool wants_cnp; /* receivers answer marked packets with congestion notifications */
    void (*init)(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t line_kbps);
    /* A packet of so many bytes leaves now; returns the pacing from here on. */
    uint64_t (*on_send)(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t bytes, int64_t now_ps);
    /* A congestion notification arrived. */
    void (*on_cnp)(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t now_ps);
} fab_cc_ops_t;

extern const fab_cc_ops_t fab_cc_none, fab_cc_dcqcn;

FAB_INLINE uint64_t fab_cc_pacing_q16(int64_t rate_kbps)
{
    const uint64_t byte_at_one_kbps = UINT64_C(8000000000) << FAB_WIRE_SHIFT;
    return (byte_at_one_kbps + (uint64_t)rate_kbps / 2) / (uint64_t)rate_kbps;
}

#endif
