/* Telemetry on its way: a ring of records beside a link's packets, in networks that write it and only there.
 *
 * A record is made by the sender of a data packet, goes with it to its receiver, back with an acknowledgement, and is
 * given to the pool of whoever drops the packet or reads it last. Links whose packets may overtake have none. */
#ifndef FAB_NET_TELEMETRY_H
#define FAB_NET_TELEMETRY_H

#include "core/telemetry.h"
#include "net/link.h"

/* Beside the ring of a link, with the same counts. */
typedef struct fab_telemetry_ring {
    fab_telemetry_t **ring;
    uint32_t mask;
} fab_telemetry_ring_t;

/* Out of line: the first entries, and twice as many. False without memory, and worker->error is set. */
bool fab_telemetry_grow(fab_worker_t *worker, fab_telemetry_ring_t *self, const fab_link_t *link);

/* A record of no hops; NULL without memory. */
FAB_INLINE fab_telemetry_t *fab_telemetry_new(fab_worker_t *worker)
{
    fab_telemetry_t *record = fab_pool_take(&worker->pool, fab_pool_class(sizeof *record));
    if (record)
        record->count = 0;
    else
        worker->error = FAB_E_MEMORY;
    return record;
}

FAB_INLINE void fab_telemetry_drop(fab_worker_t *worker, fab_telemetry_t *record)
{
    if (record)
        fab_pool_give(&worker->pool, record, fab_pool_class(sizeof *record));
}

/* Puts a record, or NULL, beside the packet that was pushed last. */
FAB_INLINE void fab_telemetry_put(fab_worker_t *worker, const fab_fabric_t *fabric, uint32_t l, fab_telemetry_t *record)
{
    fab_telemetry_ring_t *self = &fabric->telemetry[l];
    const fab_link_t *link = &fabric->links[l];
    if (FAB_UNLIKELY(!self->ring || link->tail - link->head > self->mask) && !fab_telemetry_grow(worker, self, link))
        return;
    self->ring[(link->tail - 1) & self->mask] = record;
}

/* Takes what was beside the packet that was popped last. */
FAB_INLINE fab_telemetry_t *fab_telemetry_take(const fab_fabric_t *fabric, uint32_t l)
{
    const fab_telemetry_ring_t *self = &fabric->telemetry[l];
    return self->ring[(fabric->links[l].head - 1) & self->mask];
}

#endif
