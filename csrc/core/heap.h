/* A small binary heap of timers, ordered by (time, key): the key decides ties, so the order is total. */
#ifndef FAB_CORE_HEAP_H
#define FAB_CORE_HEAP_H

#include "core/pool.h"

typedef struct {
    int64_t when_ps;
    uint64_t key;
} fab_timer_t;

typedef struct {
    fab_timer_t *items;
    int64_t next_ps; /* of the first, FAB_NEVER when empty: kept here, since it is asked for at every event */
    uint32_t count;
    uint32_t capacity;
} fab_heap_t;

FAB_INLINE bool fab_timer_before(const fab_timer_t *a, const fab_timer_t *b)
{
    return a->when_ps < b->when_ps || (a->when_ps == b->when_ps && a->key < b->key);
}

FAB_INLINE void fab_heap_init(fab_heap_t *self) { *self = (fab_heap_t){.next_ps = FAB_NEVER}; }

/* false: no memory. */
static inline bool fab_heap_push(fab_heap_t *self, fab_pool_t *pool, fab_timer_t timer)
{
    if (FAB_UNLIKELY(self->count == self->capacity)) {
        const uint32_t capacity = self->capacity ? self->capacity * 2 : 4;
        fab_timer_t *items = fab_pool_take(pool, fab_pool_class(capacity * sizeof *items));
        if (!items)
            return false;
        for (uint32_t i = 0; i < self->count; i++)
            items[i] = self->items[i];
        if (self->items)
            fab_pool_give(pool, self->items, fab_pool_class(self->capacity * sizeof *items));
        self->items = items;
        self->capacity = capacity;
    }
    uint32_t i = self->count++;
    while (i) {
        const uint32_t parent = (i - 1) / 2;
        if (!fab_timer_before(&timer, &self->items[parent]))
            break;
        self->items[i] = self->items[parent];
        i = parent;
    }
    self->items[i] = timer;
    self->next_ps = self->items[0].when_ps;
    return true;
}

static inline fab_timer_t fab_heap_pop(fab_heap_t *self)
{
    const fab_timer_t top = self->items[0];
    const fab_timer_t last = self->items[--self->count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= self->count)
            break;
        if (child + 1 < self->count && fab_timer_before(&self->items[child + 1], &self->items[child]))
            child++;
        if (!fab_timer_before(&self->items[child], &last))
            break;
        self->items[i] = self->items[child];
        i = child;
    }
    if (self->count)
        self->items[i] = last;
    self->next_ps = self->count ? self->items[0].when_ps : FAB_NEVER;
    return top;
}

#endif
