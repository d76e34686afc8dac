/* A packet as it lies in a link's ring: 16 bytes, by value.
 *
 * delta_ps is the time between the arrival of the entry before it in the ring and its own: arrivals on
 * a link are ordered, so only the head needs an absolute time, and 32 bits always hold a difference
 * (a serialisation, or an idle gap no longer than the link's delay). */
#ifndef FAB_NET_PACKET_H
#define FAB_NET_PACKET_H

#include "core/base.h"

typedef struct {
    uint32_t delta_ps;
    uint32_t psn_flags; /* low 24 bits: packet sequence number, as in RoCE's BTH; high 8: flags below */
    uint16_t dst;       /* host */
    uint16_t qpn;       /* the destination host's index of the connection */
    uint16_t bytes;     /* on the wire, all headers and gaps */
    uint16_t entropy;   /* the hash of the flow's identity that ECMP switches see */
} __attribute__((aligned(16))) fab_packet_t;

_Static_assert(sizeof(fab_packet_t) == 16, "a packet is 16 bytes");

enum { FAB_PSN_BITS = 24 };
#define FAB_PSN_MASK ((1u << FAB_PSN_BITS) - 1)

enum { FAB_DATA, FAB_ACK, FAB_NAK, FAB_CNP, FAB_PAUSE, FAB_RESUME };

#define FAB_KIND_SHIFT 24
#define FAB_KIND_MASK (7u << FAB_KIND_SHIFT)
#define FAB_FLAG_CE (1u << 27)      /* congestion experienced */
#define FAB_FLAG_LAST (1u << 28)    /* ends its message */
#define FAB_FLAG_CONTROL (1u << 29) /* travels in the control class */
#define FAB_CLASS_SHIFT 30          /* data class, 2 bits */

FAB_INLINE uint32_t fab_packet_kind(fab_packet_t p) { return (p.psn_flags & FAB_KIND_MASK) >> FAB_KIND_SHIFT; }
FAB_INLINE uint32_t fab_packet_class(fab_packet_t p) { return p.psn_flags >> FAB_CLASS_SHIFT; }
FAB_INLINE uint32_t fab_packet_psn(fab_packet_t p) { return p.psn_flags & FAB_PSN_MASK; }

/* The full number that a 24-bit PSN stands for, nearest to `near`. */
FAB_INLINE uint64_t fab_psn_unwrap(uint32_t psn, uint64_t near)
{
    const int32_t off = (int32_t)((psn - (uint32_t)near) << (32 - FAB_PSN_BITS)) >> (32 - FAB_PSN_BITS);
    return near + (uint64_t)(int64_t)off;
}

#endif
