/* Links and the nodes' calendar: the state that packets move through.
 *
 * A directed link is a cache line of hot state, written by its sender and, for `head`, by its receiver,
 * which never work at the same time (they have different colours). Its ring holds packets by value in
 * arrival order. heads[link] is the arrival of the first one, so that a node starts without touching
 * rings. Whether a ring's times are of the first or the last bit is the receiver's choice (cut-through
 * or store-and-forward). */
#ifndef FAB_NET_LINK_H
#define FAB_NET_LINK_H

#include "core/heap.h"
#include "core/wire.h"
#include "net/packet.h"
#include "net/topology.h"

#define FAB_DELAY_CUT_THROUGH 0x80000000u /* in delay_ps: arrival is that of the first bit */

typedef struct {
    fab_packet_t *ring;
    uint32_t mask;
    uint32_t head;     /* the receiver's */
    uint32_t tail;     /* the sender's: one past the newest entry */
    uint32_t visible;  /* one past the newest entry whose time is fixed; behind it wait paused packets */
    uint32_t delay_ps; /* with FAB_DELAY_CUT_THROUGH */
    uint32_t ps_per_byte_q16;
    int64_t busy_ps; /* the last bit of the newest visible entry leaves */
    int64_t last_ps; /* arrival of the newest visible entry */
    int64_t bytes;   /* ever sent */
    uint32_t rx_slot;
    uint32_t calm_ps; /* a backlog up to this needs no attention (marking, admission, high water) */
} __attribute__((aligned(FAB_CACHE_LINE))) fab_link_t;

_Static_assert(sizeof(fab_link_t) == FAB_CACHE_LINE, "a link is a cache line");

/* The rest of a link, which its sender keeps. The first cache line is what an ordered link needs for a packet. */
typedef struct {
    uint16_t *from;         /* beside the ring: input port of each entry, or FAB_FROM_NOWHERE; NULL in plain fabrics */
    int64_t cursor_ps;      /* arrival of the entry at the cursor, if cursor != visible */
    int64_t parked_ps;      /* wire time of the entries behind visible */
    uint32_t cursor;        /* the oldest entry that has not left entirely */
    uint32_t control_end;   /* one past the newest control entry that overtook */
    uint32_t calm_limit_ps; /* no reason to look at a backlog up to this but the high water */
    bool paused;            /* by its receiver */
    uint8_t stops;          /* why packets not begun stay in the ring behind visible; bits FAB_STOP_* */
    int64_t max_backlog_ps; /* high water, in time of this wire */
    int64_t kmin_ps, kmax_ps; /* marking thresholds in time of this wire; FAB_NEVER without marking */
    uint64_t mark_slope_q16;  /* chance (in 2^-32) a picosecond above kmin, Q16 */
    int64_t marks, drops;
    int64_t paused_since_ps, paused_ps, pauses;
    int64_t packets_before; /* packets that tail does not count: it wraps, and moves of the head pass it by */
    uint32_t tail_seen;
    uint32_t name;
} __attribute__((aligned(FAB_CACHE_LINE))) fab_port_t;

#define FAB_FROM_NOWHERE UINT16_MAX

enum { FAB_STOP_PAUSED = 1, FAB_STOP_DARK = 2 };

/* What can be wrong with a link, in a run whose fabric changes; its receiver's, but for changes between phases. */
typedef struct {
    int64_t live_ps;      /* what left the sender before this is lost; FAB_NEVER: it is down */
    uint64_t bad_bit_q64; /* chance of a bit to arrive wrong, in 2^-64 */
    int64_t arrivals;     /* numbers the draws */
    int64_t lost;
    int64_t down_since_ps, down_ps;
    int64_t bytes_before, busy_before_ps; /* sent at another rate, and the time that took */
    int64_t rate_since_ps;                /* what began before this was sent at the rate before, ... */
    uint32_t rate_before_q16; /* ... in picoseconds a byte; the fastest of several that are still on the way; 0: none */
} __attribute__((aligned(FAB_CACHE_LINE))) fab_link_fault_t;

/* What one thread has for itself. */
typedef struct {
    fab_pool_t pool;
    int64_t *next_ps;   /* [slot] earliest arrival that this thread's nodes sent there since its last visit */
    int64_t *block_ps;  /* [slot / FAB_BLOCK_NODES] least of next_ps */
    int64_t *colour_ps; /* [colour] least of next_ps since the colour's last phase */
    uint64_t *tree;     /* scratch of a merge */
    uint16_t *tree_port;
    int64_t packets, hops, pauses, resumes, acks, naks, cnps, retransmits, timeouts, duplicates, messages, visits;
    int64_t end_ps, done;
    int64_t ring_bytes;
    fab_arrival_t *arrivals;
    int64_t arrival_count, arrival_capacity;
    int error;
    int32_t error_connection, error_network;
    bool record;                   /* every arrival is looked at: fab_link_record */
    bool keep_arrivals;            /* and kept */
    struct fab_telemetry *carried; /* what came with the packet being handled, until it goes on */
} __attribute__((aligned(2 * FAB_CACHE_LINE))) fab_worker_t;

/* What all threads share. */
typedef struct {
    const fab_net_t *net;
    fab_link_t *links;
    int64_t *heads;
    fab_port_t *ports;
    struct fab_credit *credits; /* of links with credits; NULL: there are none */
    fab_link_fault_t *faults;   /* NULL: nothing changes during the run */
    uint64_t seed;
    /* How many switches a packet with such an entropy passes, as routes are now. */
    uint32_t (*switches_between)(const void *context, uint32_t network, uint32_t src, uint32_t dst, uint32_t entropy);
    const void *switches_context;
    struct fab_telemetry_ring *telemetry; /* [link_count]; NULL: no network writes any */
} fab_fabric_t;

/* Both slow paths, out of line. fab_link_grow returns false and sets worker->error without memory. fab_link_record is for
 * what has been taken off a link while worker->record is set; false: the packet was lost on its way, forget it. */
bool fab_link_grow(fab_worker_t *worker, fab_link_t *link, fab_port_t *port);
bool fab_link_record(fab_worker_t *worker, const fab_fabric_t *fabric, uint32_t link, int64_t when_ps,
                     fab_packet_t packet);

/* Tells the calendar that something arrives at a node. */
FAB_INLINE void fab_link_notify(fab_worker_t *worker, const fab_net_t *net, uint32_t slot, int64_t when_ps)
{
    if (when_ps < worker->next_ps[slot]) {
        worker->next_ps[slot] = when_ps;
        if (when_ps < worker->block_ps[slot / FAB_BLOCK_NODES])
            worker->block_ps[slot / FAB_BLOCK_NODES] = when_ps;
        const uint32_t colour = net->nodes[slot].colour;
        if (when_ps < worker->colour_ps[colour])
            worker->colour_ps[colour] = when_ps;
    }
}

FAB_INLINE int64_t fab_link_delay_ps(const fab_link_t *link) { return link->delay_ps & ~FAB_DELAY_CUT_THROUGH; }
FAB_INLINE bool fab_link_cuts_through(const fab_link_t *link) { return link->delay_ps & FAB_DELAY_CUT_THROUGH; }

FAB_INLINE int64_t fab_link_wire_ps(const fab_link_t *link, uint32_t bytes)
{
    return fab_wire_ps(bytes, link->ps_per_byte_q16);
}

/* Appends a packet, with some flags more, to a link that is not paused; its departure is fixed here and now. `storing`:
 * no link of this fabric cuts through. */
FAB_INLINE void fab_link_push(fab_worker_t *worker, const fab_fabric_t *fabric, uint32_t l, const fab_packet_t *packet,
                              uint32_t more_flags, int64_t now_ps, const bool storing)
{
    fab_link_t *link = &fabric->links[l];
    const int64_t start_ps = fab_max_i64(link->busy_ps, now_ps);
    const int64_t end_ps = start_ps + fab_link_wire_ps(link, packet->bytes);
    const int64_t arrival_ps =
        storing ? end_ps + link->delay_ps : (fab_link_cuts_through(link) ? start_ps : end_ps) + fab_link_delay_ps(link);
    const uint32_t tail = link->tail, waiting = tail - link->head;
    if (FAB_UNLIKELY(waiting > link->mask) && !fab_link_grow(worker, link, &fabric->ports[l]))
        return;
    fab_packet_t *slot = &link->ring[tail & link->mask];
    *slot = *packet; /* whole, in one move; then what changes */
    slot->delta_ps = (uint32_t)(arrival_ps - link->last_ps);
    slot->psn_flags = packet->psn_flags | more_flags; /* not |=: that would wait for the slot */
    link->busy_ps = end_ps;
    link->last_ps = arrival_ps;
    link->bytes += packet->bytes;
    if (waiting == 0) {
        fabric->heads[l] = arrival_ps;
        fab_link_notify(worker, fabric->net, link->rx_slot, arrival_ps);
    }
    link->tail = tail + 1;
    link->visible = tail + 1;
}

/* The same for a packet that begins now on a free link. */
FAB_INLINE void fab_link_start(fab_worker_t *worker, const fab_fabric_t *fabric, uint32_t l, fab_link_t *link,
                               const fab_packet_t *packet, int64_t now_ps)
{
    const uint32_t tail = link->tail, waiting = tail - link->head;
    if (FAB_UNLIKELY(waiting > link->mask) && !fab_link_grow(worker, link, &fabric->ports[l]))
        return;
    const int64_t wire_ps = fab_link_wire_ps(link, packet->bytes);
    const int64_t stores = fab_link_cuts_through(link) ? 0 : -1;
    const int64_t arrival_ps = now_ps + fab_link_delay_ps(link) + (wire_ps & stores);
    fab_packet_t *slot = &link->ring[tail & link->mask];
    *slot = *packet;
    slot->delta_ps = (uint32_t)(arrival_ps - link->last_ps);
    link->busy_ps = now_ps + wire_ps;
    link->last_ps = arrival_ps;
    link->bytes += packet->bytes;
    if (waiting == 0) {
        fabric->heads[l] = arrival_ps;
        fab_link_notify(worker, fabric->net, link->rx_slot, arrival_ps);
    }
    link->tail = link->visible = tail + 1;
}

/* Takes the first packet of a link, which arrived at heads[l]; returns the arrival of the one after it. The packet
 * stays readable until its node's turn ends: only the sender writes the ring, and it is not working now. */
FAB_INLINE int64_t fab_link_pop(const fab_fabric_t *fabric, uint32_t l, int64_t now_ps, const fab_packet_t **packet_out)
{
    fab_link_t *link = &fabric->links[l];
    const uint32_t head = link->head + 1;
    *packet_out = &link->ring[(head - 1) & link->mask];
    link->head = head;
    const int64_t next_ps = head != link->visible ? now_ps + link->ring[head & link->mask].delta_ps : FAB_NEVER;
    fabric->heads[l] = next_ps;
    return next_ps;
}

#endif
