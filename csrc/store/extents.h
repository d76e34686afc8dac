/* Sets of byte ranges: what of an object is dirty, cached or written. Sorted, disjoint, never touching each other. */
#ifndef FAB_STORE_EXTENTS_H
#define FAB_STORE_EXTENTS_H

#include "core/pool.h"

typedef struct {
    int64_t begin, end; /* end excluded */
} fab_extent_t;

typedef struct {
    fab_extent_t *items;
    uint32_t count, capacity;
    int64_t bytes; /* of all */
} fab_extents_t;

/* Adds a range, joining it with those it touches; returns how many bytes are new, -1 without memory. */
int64_t fab_extents_add(fab_extents_t *self, fab_pool_t *pool, int64_t begin, int64_t end);

/* Takes a range out; returns how many bytes were in it, -1 without memory (taking out may split a range). */
int64_t fab_extents_remove(fab_extents_t *self, fab_pool_t *pool, int64_t begin, int64_t end);

/* Index of the first range that ends after `offset`; count if none does. */
uint32_t fab_extents_find(const fab_extents_t *self, int64_t offset);

/* How many bytes of a range are in the set. */
int64_t fab_extents_covered(const fab_extents_t *self, int64_t begin, int64_t end);

void fab_extents_clear(fab_extents_t *self, fab_pool_t *pool);

#endif
