/* The slow paths of links: growing a ring, losing a packet, recording an arrival. */
#include "net/link.h"

#include <stdlib.h>

#include "core/keyed.h"

FAB_NOINLINE bool fab_link_grow(fab_worker_t *worker, fab_link_t *link, fab_port_t *port)
{
    const uint32_t capacity = link->mask + 1, doubled = capacity * 2;
    const int old_class = fab_pool_class(capacity * sizeof *link->ring);
    fab_packet_t *ring = fab_pool_take(&worker->pool, old_class + 1);
    uint16_t *from = NULL;
    if (ring && port->from)
        from = fab_pool_take(&worker->pool, fab_pool_class(doubled * sizeof *from));
    if (!ring || (port->from && !from)) {
        worker->error = FAB_E_MEMORY;
        return false;
    }
    /* All of the old ring: entries behind head may still wait to be released by the cursor. */
    for (uint32_t i = link->tail - capacity; i != link->tail; i++)
        ring[i & (doubled - 1)] = link->ring[i & link->mask];
    if (port->from) {
        for (uint32_t i = link->tail - capacity; i != link->tail; i++)
            from[i & (doubled - 1)] = port->from[i & link->mask];
        fab_pool_give(&worker->pool, port->from, fab_pool_class(capacity * sizeof *from));
        port->from = from;
    }
    fab_pool_give(&worker->pool, link->ring, old_class);
    link->ring = ring;
    link->mask = doubled - 1;
    worker->ring_bytes += (int64_t)(capacity * sizeof *ring);
    return true;
}

/* The chance, in 2^-64, that so many bits all arrive right: a power by squaring. */
static uint64_t all_right_q64(uint64_t bad_bit_q64, uint32_t bits)
{
    uint64_t power = -bad_bit_q64, product = UINT64_MAX;
    for (; bits; bits >>= 1) {
        if (bits & 1)
            product = (uint64_t)((unsigned __int128)product * power >> 64);
        power = (uint64_t)((unsigned __int128)power * power >> 64);
    }
    return product;
}

/* Whether a packet that left the sender gets to the receiver. Pause frames are not hit by bit errors: a real one is
 * repeated before its time runs out. */
static bool is_delivered(const fab_fabric_t *fabric, uint32_t l, int64_t when_ps, fab_packet_t packet)
{
    fab_link_fault_t *fault = &fabric->faults[l];
    const int64_t number = fault->arrivals++;
    bool lost = when_ps - fab_link_delay_ps(&fabric->links[l]) < fault->live_ps;
    if (!lost && fault->bad_bit_q64 && fab_packet_kind(packet) < FAB_PAUSE)
        lost = fab_keyed_draw(fabric->seed, FAB_KEY_BIT_ERROR, fabric->net->link_name[l], (uint64_t)number) >=
               all_right_q64(fault->bad_bit_q64, 8u * packet.bytes);
    fault->lost += lost;
    return !lost;
}

FAB_NOINLINE bool fab_link_record(fab_worker_t *worker, const fab_fabric_t *fabric, uint32_t l, int64_t when_ps,
                                  fab_packet_t packet)
{
    const fab_net_t *net = fabric->net;
    if (fabric->faults && !is_delivered(fabric, l, when_ps, packet))
        return false;
    if (!worker->keep_arrivals)
        return true;
    if (worker->arrival_count == worker->arrival_capacity) {
        const int64_t capacity = worker->arrival_capacity ? 2 * worker->arrival_capacity : 1024;
        fab_arrival_t *arrivals = realloc(worker->arrivals, (size_t)capacity * sizeof *arrivals);
        if (!arrivals) {
            worker->error = FAB_E_MEMORY;
            return true;
        }
        worker->arrivals = arrivals;
        worker->arrival_capacity = capacity;
    }
    worker->arrivals[worker->arrival_count++] = (fab_arrival_t){
        .when_ps = when_ps,
        .link = (int32_t)net->link_name[l],
        .dst = packet.dst,
        .connection = packet.qpn,
        .psn = fab_packet_psn(packet),
        .bytes = packet.bytes,
        .kind = (uint8_t)fab_packet_kind(packet),
        .flags = (uint8_t)((packet.psn_flags & FAB_FLAG_CE ? 1 : 0) | (packet.psn_flags & FAB_FLAG_LAST ? 2 : 0)),
    };
    return true;
}
