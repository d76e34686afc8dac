/* Telemetry on its way: rings that grow. */
#include "net/telemetry.h"

enum { FIRST_RECORDS = 8 };

bool fab_telemetry_grow(fab_worker_t *worker, fab_telemetry_ring_t *self, const fab_link_t *link)
{
    const uint32_t old = self->ring ? self->mask + 1 : 0;
    uint32_t capacity = old ? 2 * old : FIRST_RECORDS;
    while (capacity <= link->tail - link->head)
        capacity *= 2;
    fab_telemetry_t **ring = fab_pool_take(&worker->pool, fab_pool_class(capacity * sizeof *ring));
    if (!ring) {
        worker->error = FAB_E_MEMORY;
        return false;
    }
    for (uint32_t i = link->head - 1; old && i != link->tail - 1;
         i++) /* the one before head is still being looked at */
        ring[i & (capacity - 1)] = self->ring[i & self->mask];
    if (old)
        fab_pool_give(&worker->pool, self->ring, fab_pool_class(old * sizeof *ring));
    self->ring = ring;
    self->mask = capacity - 1;
    return true;
}
