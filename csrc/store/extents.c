/* A sorted array: what a client or a target keeps of an object is a few ranges, mostly one that grows at its end. */
#include "store/extents.h"

#include <string.h>

enum { FIRST_COUNT = 2 };

static bool grow(fab_extents_t *self, fab_pool_t *pool)
{
    const uint32_t capacity = self->capacity ? self->capacity * 2 : FIRST_COUNT;
    fab_extent_t *items = fab_pool_take(pool, fab_pool_class(capacity * sizeof *items));
    if (!items)
        return false;
    if (self->items) {
        memcpy(items, self->items, self->count * sizeof *items);
        fab_pool_give(pool, self->items, fab_pool_class(self->capacity * sizeof *items));
    }
    self->items = items;
    self->capacity = capacity;
    return true;
}

uint32_t fab_extents_find(const fab_extents_t *self, int64_t offset)
{
    uint32_t low = 0, high = self->count;
    /* What grows at its end is asked for there. */
    if (high && self->items[high - 1].end <= offset)
        return high;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (self->items[middle].end > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Makes `items` [at, at + old) into `new` of them, whose contents are the caller's. */
static bool replace(fab_extents_t *self, fab_pool_t *pool, uint32_t at, uint32_t old, uint32_t new)
{
    if (self->count + new > self->capacity + old && !grow(self, pool))
        return false;
    if (old != new)
        memmove(self->items + at + new, self->items + at + old, (self->count - at - old) * sizeof *self->items);
    self->count += new - old;
    return true;
}

int64_t fab_extents_add(fab_extents_t *self, fab_pool_t *pool, int64_t begin, int64_t end)
{
    if (begin >= end)
        return 0;
    const int64_t added = end - begin;
    uint32_t at = fab_extents_find(self, begin);
    if (at && self->items[at - 1].end == begin)
        at--;
    int64_t had = 0;
    uint32_t past = at;
    for (; past < self->count && self->items[past].begin <= end; past++) {
        const fab_extent_t *item = &self->items[past];
        had += fab_max_i64(0, fab_min_i64(item->end, end) - fab_max_i64(item->begin, begin));
    }
    fab_extent_t whole = {begin, end};
    if (past > at) {
        whole.begin = fab_min_i64(begin, self->items[at].begin);
        whole.end = fab_max_i64(end, self->items[past - 1].end);
    }
    if (!replace(self, pool, at, past - at, 1))
        return -1;
    self->items[at] = whole;
    self->bytes += added - had;
    return added - had;
}

int64_t fab_extents_remove(fab_extents_t *self, fab_pool_t *pool, int64_t begin, int64_t end)
{
    if (begin >= end)
        return 0;
    const uint32_t at = fab_extents_find(self, begin);
    int64_t had = 0;
    uint32_t past = at;
    for (; past < self->count && self->items[past].begin < end; past++) {
        const fab_extent_t *item = &self->items[past];
        had += fab_min_i64(item->end, end) - fab_max_i64(item->begin, begin);
    }
    if (past == at)
        return 0;
    const fab_extent_t left = {self->items[at].begin, begin}, right = {end, self->items[past - 1].end};
    const bool has_left = left.begin < left.end, has_right = right.begin < right.end;
    if (!replace(self, pool, at, past - at, (uint32_t)has_left + has_right))
        return -1;
    if (has_left)
        self->items[at] = left;
    if (has_right)
        self->items[at + has_left] = right;
    self->bytes -= had;
    return had;
}

int64_t fab_extents_covered(const fab_extents_t *self, int64_t begin, int64_t end)
{
    int64_t covered = 0;
    for (uint32_t i = fab_extents_find(self, begin); i < self->count && self->items[i].begin < end; i++)
        covered += fab_min_i64(self->items[i].end, end) - fab_max_i64(self->items[i].begin, begin);
    return covered;
}

void fab_extents_clear(fab_extents_t *self, fab_pool_t *pool)
{
    if (self->items)
        fab_pool_give(pool, self->items, fab_pool_class(self->capacity * sizeof *self->items));
    *self = (fab_extents_t){0};
}
