/* A map from 64-bit keys to 32-bit values: open addressing, only ever added to. */
#ifndef FAB_WORK_MAP_H
#define FAB_WORK_MAP_H

#include <stdlib.h>

#include "core/keyed.h"

typedef struct {
    uint64_t *keys;
    uint32_t *values; /* FAB_NONE: empty */
    uint64_t mask;
} fab_map_t;

static inline int fab_map_init(fab_map_t *self, uint64_t expected)
{
    uint64_t slots = 16;
    while (slots < 2 * expected)
        slots *= 2;
    *self = (fab_map_t){malloc(slots * sizeof *self->keys), malloc(slots * sizeof *self->values), slots - 1};
    if (!self->keys || !self->values) {
        free(self->keys);
        free(self->values);
        *self = (fab_map_t){0};
        return -1;
    }
    for (uint64_t i = 0; i < slots; i++)
        self->values[i] = FAB_NONE;
    return 0;
}

static inline void fab_map_free(fab_map_t *self)
{
    free(self->keys);
    free(self->values);
    *self = (fab_map_t){0};
}

/* The place of a key's value: FAB_NONE there means that the key is new; writing another value adds it. The
 * map must have been made for as many keys as are added. */
static inline uint32_t *fab_map_at(fab_map_t *self, uint64_t key)
{
    uint64_t i = fab_keyed_mix(key) & self->mask;
    while (self->values[i] != FAB_NONE && self->keys[i] != key)
        i = (i + 1) & self->mask;
    self->keys[i] = key;
    return &self->values[i];
}

#endif
