/* Merges the arrivals on a node's ports in order of (time, port): a winner tree over the ports that have
 * something to bring before the window ends. Nothing else can come in: all that arrives before the end
 * of the window lies in the rings already. */
#ifndef FAB_SWITCH_MERGE_H
#define FAB_SWITCH_MERGE_H

#include "net/link.h"

enum { FAB_MERGE_PORT_BITS = 10 };
#define FAB_MERGE_NOTHING UINT64_MAX

typedef struct {
    uint64_t *tree;       /* tree[1] is the winner; leaves from tree[1 << levels] on */
    const uint16_t *port; /* of a leaf */
    uint32_t leaf;        /* of the last winner */
    uint32_t active, levels;
    int64_t base_ps, until_ps;
    int64_t idle_ps; /* earliest arrival on the ports that are not in the tree */
} fab_merge_t;

FAB_INLINE uint64_t fab_merge_key(const fab_merge_t *self, int64_t when_ps, uint32_t leaf)
{
    return when_ps < self->until_ps ? (uint64_t)(when_ps - self->base_ps) << FAB_MERGE_PORT_BITS | leaf
                                    : FAB_MERGE_NOTHING;
}

FAB_INLINE void fab_merge_start(fab_merge_t *self, fab_worker_t *worker, const int64_t *heads, uint32_t port_count,
                                int64_t base_ps, int64_t until_ps)
{
    uint16_t *port = worker->tree_port;
    uint32_t active = 0;
    int64_t idle_ps = FAB_NEVER;
    for (uint32_t p = 0; p < port_count; p++) { /* no branch: which ports are active is noise */
        const int64_t head_ps = heads[p];
        port[active] = (uint16_t)p;
        active += head_ps < until_ps;
        idle_ps = fab_min_i64(idle_ps, head_ps < until_ps ? FAB_NEVER : head_ps);
    }
    uint32_t leaves = 1, levels = 0;
    for (; leaves < active; leaves *= 2)
        levels++;
    *self = (fab_merge_t){.tree = worker->tree,
                          .port = port,
                          .levels = levels,
                          .active = active,
                          .base_ps = base_ps,
                          .until_ps = until_ps,
                          .idle_ps = idle_ps};
    uint64_t *tree = self->tree;
    for (uint32_t i = 0; i < active; i++)
        tree[leaves + i] = fab_merge_key(self, heads[port[i]], i);
    for (uint32_t i = active; i < leaves; i++)
        tree[leaves + i] = FAB_MERGE_NOTHING;
    if (!active)
        tree[1] = FAB_MERGE_NOTHING;
    for (uint32_t i = leaves - 1; i >= 1; i--)
        tree[i] = tree[2 * i] < tree[2 * i + 1] ? tree[2 * i] : tree[2 * i + 1];
}

/* The next arrival; false: nothing more in this window. */
FAB_INLINE bool fab_merge_next(fab_merge_t *self, uint32_t *port_out, int64_t *now_ps_out)
{
    const uint64_t key = self->tree[1];
    if (key == FAB_MERGE_NOTHING)
        return false;
    self->leaf = (uint32_t)(key & ((1u << FAB_MERGE_PORT_BITS) - 1));
    *port_out = self->port[self->leaf];
    *now_ps_out = self->base_ps + (int64_t)(key >> FAB_MERGE_PORT_BITS);
    return true;
}

/* After the window: the earliest arrival on any port. */
FAB_INLINE int64_t fab_merge_end(const fab_merge_t *self, const int64_t *heads)
{
    int64_t next_ps = self->idle_ps;
    for (uint32_t i = 0; i < self->active; i++)
        next_ps = fab_min_i64(next_ps, heads[self->port[i]]);
    return next_ps;
}

/* What the last winner's port brings after it. `levels` is the tree's, as a constant where speed matters. */
FAB_INLINE void fab_merge_replace(fab_merge_t *self, const uint32_t levels, int64_t when_ps)
{
    uint64_t *tree = self->tree;
    uint64_t key = fab_merge_key(self, when_ps, self->leaf);
    uint32_t i = (1u << levels) + self->leaf;
    tree[i] = key;
#pragma GCC unroll 10
    for (uint32_t level = 0; level < levels; level++) {
        const uint64_t other = tree[i ^ 1];
        key = other < key ? other : key;
        i >>= 1;
        tree[i] = key;
    }
}

#endif
