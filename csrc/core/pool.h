/* A pool of blocks in power-of-two classes, one pool a thread: rings double by class and give the
 * smaller block back, so that the loop calls malloc only while it still grows. */
#ifndef FAB_CORE_POOL_H
#define FAB_CORE_POOL_H

#include "core/base.h"

enum { FAB_POOL_CLASS_MIN = 5, FAB_POOL_CLASS_MAX = 40 };

typedef struct fab_pool_slab {
    struct fab_pool_slab *next;
} fab_pool_slab_t;

typedef struct {
    void *free_blocks[FAB_POOL_CLASS_MAX + 1];
    fab_pool_slab_t *slabs;
    char *bump;
    size_t bump_left;
    int64_t held_bytes; /* what the pool has from malloc */
} fab_pool_t;

/* The class of the smallest block that holds `bytes`. */
FAB_INLINE int fab_pool_class(size_t bytes)
{
    const int bits = bytes <= 1 ? 0 : 64 - __builtin_clzll(bytes - 1);
    return bits < FAB_POOL_CLASS_MIN ? FAB_POOL_CLASS_MIN : bits;
}

/* A block of the class, aligned to 32 bytes or, from 64 bytes up, to a cache line; NULL without memory. */
void *fab_pool_take(fab_pool_t *self, int block_class);
void fab_pool_give(fab_pool_t *self, void *block, int block_class);
void fab_pool_free(fab_pool_t *self);

#endif
