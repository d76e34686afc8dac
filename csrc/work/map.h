/* A map from 64-bit keys to 32-bit values: open addressing, grows as it is added to. */
#ifndef FAB_WORK_MAP_H
#define FAB_WORK_MAP_H

#include <stdlib.h>

#include "core/keyed.h"

typedef struct {
    uint64_t *keys;
    uint32_t *values; /* FAB_NONE: empty */
    uint64_t mask, count;
} fab_map_t;

enum { FAB_MAP_FIRST_SLOTS = 64 };

static inline void fab_map_free(fab_map_t *self)
{
    free(self->keys);
    free(self->values);
    *self = (fab_map_t){0};
}

static inline uint64_t fab_map_slot(const fab_map_t *self, uint64_t key)
{
    uint64_t i = fab_keyed_mix(key) & self->mask;
    while (self->values[i] != FAB_NONE && self->keys[i] != key)
        i = (i + 1) & self->mask;
    return i;
}

static inline bool fab_map_grow(fab_map_t *self)
{
    const uint64_t slots = self->keys ? 2 * (self->mask + 1) : FAB_MAP_FIRST_SLOTS;
    fab_map_t bigger = {malloc(slots * sizeof *self->keys), malloc(slots * sizeof *self->values), slots - 1,
                        self->count};
    if (!bigger.keys || !bigger.values) {
        fab_map_free(&bigger);
        return false;
    }
    for (uint64_t i = 0; i < slots; i++)
        bigger.values[i] = FAB_NONE;
    for (uint64_t i = 0; self->keys && i <= self->mask; i++) {
        if (self->values[i] == FAB_NONE)
            continue;
        const uint64_t slot = fab_map_slot(&bigger, self->keys[i]);
        bigger.keys[slot] = self->keys[i];
        bigger.values[slot] = self->values[i];
    }
    fab_map_free(self);
    *self = bigger;
    return true;
}

/* The value of a key; FAB_NONE if it is not there. */
static inline uint32_t fab_map_get(const fab_map_t *self, uint64_t key)
{
    return self->keys ? self->values[fab_map_slot(self, key)] : FAB_NONE;
}

/* Where the value of a key is, after adding it with `value` (not FAB_NONE) if it is new; NULL without memory. Stays valid
 * until the next addition. */
static inline uint32_t *fab_map_add(fab_map_t *self, uint64_t key, uint32_t value)
{
    if ((!self->keys || 2 * (self->count + 1) > self->mask + 1) && !fab_map_grow(self))
        return NULL;
    const uint64_t slot = fab_map_slot(self, key);
    if (self->values[slot] == FAB_NONE) {
        self->keys[slot] = key;
        self->values[slot] = value;
        self->count++;
    }
    return &self->values[slot];
}

#endif
