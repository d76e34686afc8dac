/* Blocks are cut from slabs that only fab_pool_free returns to the system. */
#include "core/pool.h"

#include <stdlib.h>

enum { SLAB_BYTES = 1 << 18 };

static void *slab_new(fab_pool_t *self, size_t bytes)
{
    const size_t whole = (bytes + 2 * FAB_CACHE_LINE - 1) & ~(size_t)(FAB_CACHE_LINE - 1);
    fab_pool_slab_t *slab = aligned_alloc(FAB_CACHE_LINE, whole);
    if (!slab)
        return NULL;
    slab->next = self->slabs;
    self->slabs = slab;
    self->held_bytes += (int64_t)whole;
    return (char *)slab + FAB_CACHE_LINE;
}

void *fab_pool_take(fab_pool_t *self, int block_class)
{
    if (block_class > FAB_POOL_CLASS_MAX)
        return NULL;
    void *block = self->free_blocks[block_class];
    if (block) {
        self->free_blocks[block_class] = *(void **)block;
        return block;
    }
    const size_t bytes = (size_t)1 << block_class;
    if (bytes >= SLAB_BYTES / 4)
        return slab_new(self, bytes);
    const size_t align = bytes < FAB_CACHE_LINE ? bytes : FAB_CACHE_LINE;
    const size_t skip = (size_t)(-(intptr_t)self->bump) & (align - 1);
    if (self->bump_left < bytes + skip) {
        self->bump = slab_new(self, SLAB_BYTES);
        self->bump_left = self->bump ? SLAB_BYTES : 0;
        if (!self->bump)
            return NULL;
        block = self->bump;
    } else {
        block = self->bump + skip;
        self->bump_left -= skip;
    }
    self->bump = (char *)block + bytes;
    self->bump_left -= bytes;
    return block;
}

void fab_pool_give(fab_pool_t *self, void *block, int block_class)
{
    *(void **)block = self->free_blocks[block_class];
    self->free_blocks[block_class] = block;
}

void fab_pool_free(fab_pool_t *self)
{
    for (fab_pool_slab_t *slab = self->slabs; slab;) {
        fab_pool_slab_t *next = slab->next;
        free(slab);
        slab = next;
    }
    *self = (fab_pool_t){0};
}
