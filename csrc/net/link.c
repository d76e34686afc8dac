/* The slow paths of links: growing a ring, recording an arrival. */
#include "net/link.h"

#include <stdlib.h>

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

FAB_NOINLINE void fab_link_record(fab_worker_t *worker, const fab_fabric_t *fabric, uint32_t l, int64_t when_ps,
                                  fab_packet_t packet)
{
    const fab_net_t *net = fabric->net;
    if (worker->arrival_count == worker->arrival_capacity) {
        const int64_t capacity = worker->arrival_capacity ? 2 * worker->arrival_capacity : 1024;
        fab_arrival_t *arrivals = realloc(worker->arrivals, (size_t)capacity * sizeof *arrivals);
        if (!arrivals) {
            worker->error = FAB_E_MEMORY;
            return;
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
}
