/* In-band network telemetry: what the outputs of switches write on a packet as it leaves them. */
#ifndef FAB_CORE_TELEMETRY_H
#define FAB_CORE_TELEMETRY_H

#include "core/base.h"

enum { FAB_HOPS_MAX = 8 };

typedef struct {
    int64_t when_ps;
    int64_t sent_bytes; /* by this output, ever, before this packet */
    int64_t queue_bytes;
    int64_t rate_mbps;
    uint32_t link; /* which output: another one means another path */
} fab_hop_t;

/* On one packet, first switch first; switches beyond FAB_HOPS_MAX write nothing. */
typedef struct fab_telemetry {
    uint32_t count;
    fab_hop_t hops[FAB_HOPS_MAX];
} fab_telemetry_t;

#endif
