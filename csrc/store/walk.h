/* Pseudo-random places: a walk over a number of things that meets each of them once before it begins anew. */
#ifndef FAB_STORE_WALK_H
#define FAB_STORE_WALK_H

#include "core/keyed.h"

typedef struct {
    uint32_t at, step, count;
} fab_walk_t;

/* A step that has no divisor in common with the count meets all. */
static inline fab_walk_t fab_walk_new(uint64_t draw, uint32_t count)
{
    fab_walk_t self = {(uint32_t)draw % count, 1, count};
    if (count < 3)
        return self;
    for (self.step = 1 + (uint32_t)(draw >> 32) % (count - 1);; self.step = self.step % (count - 1) + 1) {
        uint32_t a = count, b = self.step;
        while (b) {
            const uint32_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1)
            return self;
    }
}

FAB_INLINE uint32_t fab_walk_next(fab_walk_t *self)
{
    const uint32_t at = self->at;
    self->at = at + self->step >= self->count ? at + self->step - self->count : at + self->step;
    return at;
}

#endif
