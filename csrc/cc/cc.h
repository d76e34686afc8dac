/* The congestion-control room: one controller a connection, at the sender, sees only time and bytes.
 *
 * A controller steers by pacing (what on_send returns), by a window (window_bytes), or by both. Rates are
 * kb/s in 64 bits; pacing is picoseconds a byte in Q16, as on the wire. A controller has no timers of its
 * own: it brings itself up to `now_ps` when it is asked, and the answer is the same as if its timers had
 * fired in their order. */
#ifndef FAB_CC_CC_H
#define FAB_CC_CC_H

#include "core/param.h"
#include "core/telemetry.h"
#include "core/wire.h"

enum { FAB_CC_VALUES_MAX = 16 };

/* The window of a controller that does not limit what is under way. */
#define FAB_CC_NO_WINDOW (INT64_C(1) << 60)

/* What a controller keeps a connection; each defines its own layout over it. */
typedef struct {
    int64_t words[10];
    void *more; /* what does not fit: more_bytes of it, zeroed, set before init */
} fab_cc_state_t;

typedef struct {
    int64_t values[FAB_CC_VALUES_MAX]; /* in the order of the controller's parameter table */
} fab_cc_config_t;

/* An acknowledgement, as its sender sees it. */
typedef struct {
    int64_t now_ps;
    int64_t rtt_ps;          /* of the newest packet it covers; -1: not known (it was sent again) */
    int64_t acked_bytes;     /* that it covers anew, on the wire */
    int64_t in_flight_bytes; /* after it */
    uint64_t acked_psn;      /* all packets before it have arrived */
    uint64_t next_psn;       /* the next new packet */
    bool marked;             /* the packet it answers had congestion experienced */
    uint32_t hop_count;      /* switches on the way of the data packet */
    const fab_hop_t *hops;   /* [hop_count] what they wrote, first switch first; NULL unless wanted */
} fab_cc_ack_t;

typedef struct {
    fab_impl_t impl;
    bool wants_cnp; /* receivers answer marked packets with congestion notifications */
    void (*init)(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t line_kbps);
    /* A packet of so many bytes leaves now; returns the pacing from here on. */
    uint64_t (*on_send)(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t bytes, int64_t now_ps);
    /* A congestion notification arrived. */
    void (*on_cnp)(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t now_ps);
    uint32_t more_bytes;
    bool wants_rtt;       /* fills fab_cc_ack_t.rtt_ps: senders keep the time of every packet under way */
    bool wants_hop_count; /* fills fab_cc_ack_t.hop_count from the routes at the start of the run */
    bool wants_hops;      /* fills fab_cc_ack_t.hops: switches write telemetry, receivers send it back */
    /* An acknowledgement arrived; NULL: the controller does not care for them. */
    void (*on_ack)(const fab_cc_config_t *config, fab_cc_state_t *state, const fab_cc_ack_t *ack);
    /* A packet may leave while fewer bytes than this are under way, at least 1; NULL: no window. */
    int64_t (*window_bytes)(const fab_cc_config_t *config, const fab_cc_state_t *state);
    /* A time-out or a loss was found; NULL: the controller does not care. */
    void (*on_loss)(const fab_cc_config_t *config, fab_cc_state_t *state, bool timeout, int64_t now_ps);
} fab_cc_ops_t;

extern const fab_cc_ops_t fab_cc_none, fab_cc_dcqcn, fab_cc_hpcc, fab_cc_timely, fab_cc_swift, fab_cc_ib_cc,
    fab_cc_srd_cc;

/* A rate within its bounds: no less than the least, no more than the line's. */
FAB_INLINE int64_t fab_cc_bounded_kbps(int64_t kbps, int64_t least_mbps, int64_t line_kbps)
{
    return fab_min_i64(fab_max_i64(kbps, least_mbps * 1000), line_kbps);
}

FAB_INLINE uint64_t fab_cc_pacing_q16(int64_t rate_kbps)
{
    const uint64_t byte_at_one_kbps = UINT64_C(8000000000) << FAB_WIRE_SHIFT;
    return (byte_at_one_kbps + (uint64_t)rate_kbps / 2) / (uint64_t)rate_kbps;
}

/* Products and quotients that 64 bits do not hold; all arguments positive, rounded down. */

FAB_INLINE int64_t fab_cc_ppm(int64_t value, int64_t ppm)
{
    return (int64_t)((unsigned __int128)value * (uint64_t)ppm / 1000000);
}

/* The rate that carries so many bytes in a time. */
FAB_INLINE int64_t fab_cc_kbps(int64_t bytes, int64_t time_ps)
{
    return (int64_t)((unsigned __int128)bytes * UINT64_C(8000000000) / (uint64_t)time_ps);
}

/* The bytes that a rate carries in a time. */
FAB_INLINE int64_t fab_cc_bytes(int64_t rate_kbps, int64_t time_ps)
{
    return (int64_t)((unsigned __int128)rate_kbps * (uint64_t)time_ps / UINT64_C(8000000000));
}

#endif
