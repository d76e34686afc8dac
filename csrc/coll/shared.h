/* What several algorithms share: ranges of bytes, places in domains and rings, the two binary trees, small counters. */
#ifndef FAB_COLL_SHARED_H
#define FAB_COLL_SHARED_H

#include "coll/list.h"

#define FAB_COLL_CHANNEL_PARAM(most)                                                                                   \
    {"channel_count",                                                                                                  \
     "channels",                                                                                                       \
     1,                                                                                                                \
     1,                                                                                                                \
     most,                                                                                                             \
     "channels that share the data, each with connections of its own",                                                 \
     "NCCL: NCCL_MIN_NCHANNELS, NCCL_MAX_NCHANNELS; 1: all on one"}

/* ---- bytes -------------------------------------------------------------------------------------- */

/* Range i of `parts` even ranges. */
FAB_INLINE fab_coll_range_t fab_coll_cut(fab_coll_range_t whole, uint32_t parts, uint32_t i)
{
    const int64_t first = (int64_t)((unsigned __int128)whole.bytes * i / parts);
    return (fab_coll_range_t){whole.offset + first, fab_coll_part(whole.bytes, parts, i)};
}

FAB_INLINE fab_coll_range_t fab_coll_all(const fab_coll_t *c) { return (fab_coll_range_t){0, c->bytes}; }

/* The part of a position. */
FAB_INLINE fab_coll_range_t fab_coll_own(const fab_coll_t *c, uint32_t position)
{
    return fab_coll_cut(fab_coll_all(c), c->count, position);
}

/* What one rank has for another: of an all_to_all and a reduce_scatter the receiver's part, of an all_gather the
 * sender's. */
FAB_INLINE int64_t fab_coll_between(const fab_coll_t *c, uint32_t from, uint32_t to)
{
    if (c->splits)
        return c->splits[c->splits_by_sender ? (uint64_t)from * c->count + to : to];
    return fab_coll_part(c->bytes, c->count, c->kind == FAB_OP_ALL_GATHER ? from : to);
}

/* ---- domains ------------------------------------------------------------------------------------ */

/* Ranks of a scale-up domain ("node"); 1 if the ranks are not whole domains. */
FAB_INLINE uint32_t fab_coll_locals(const fab_coll_t *c)
{
    return c->local_count > 1 && c->count % c->local_count == 0 ? c->local_count : 1;
}

/* ---- rings -------------------------------------------------------------------------------------- */

/* A channel's ring goes from domain to domain. In even domains it enters at local rank `channel` and goes up, in
 * odd ones it enters where the last left, at `channel` - 1, and goes down: so it changes domains between equal
 * local ranks, which share a rail, and each rail carries as many channels in as out. (With an odd number of domains
 * the last hop, back to domain 0, changes rails.) NCCL turns the rings of every second node about for the same
 * reason. */
FAB_INLINE uint32_t fab_coll_ring_place(const fab_coll_t *c, uint32_t channel, uint32_t position)
{
    const uint32_t locals = fab_coll_locals(c), domain = position / locals, local = position % locals;
    const uint32_t enter = channel % locals;
    return domain * locals + (domain % 2 ? enter + 2 * locals - 1 - local : local + locals - enter) % locals;
}

FAB_INLINE uint32_t fab_coll_ring_at(const fab_coll_t *c, uint32_t channel, uint32_t place)
{
    const uint32_t locals = fab_coll_locals(c), domain = place / locals, inside = place % locals;
    const uint32_t enter = channel % locals;
    return domain * locals + (domain % 2 ? enter + 2 * locals - 1 - inside : inside + enter) % locals;
}

/* ---- two trees ---------------------------------------------------------------------------------- */

/* A node's neighbours in a tree; FAB_NONE where there is none. */
typedef struct {
    uint32_t parent, child[2];
} fab_coll_btree_t;

/* The binary tree over 0 … n-1 in which v with k trailing zeros is between subtrees of 2^k - 1 nodes, and 0 is
 * above all: all odd nodes are leaves. */
FAB_INLINE fab_coll_btree_t fab_coll_btree(uint32_t n, uint32_t v)
{
    fab_coll_btree_t t = {FAB_NONE, {FAB_NONE, FAB_NONE}};
    uint32_t bit = 1;
    while (bit < n && !(v & bit))
        bit *= 2;
    if (v) {
        const uint32_t below = v - bit, above = below | 2 * bit;
        t.parent = above < n ? above : below;
        if (bit > 1)
            t.child[0] = v - bit / 2;
    }
    for (uint32_t reach = bit / 2; reach && t.child[1] == FAB_NONE; reach /= 2)
        if (v + reach < n)
            t.child[1] = v + reach;
    return t;
}

/* Tree 1 is tree 0 with its nodes turned about (n even) or moved on by one (n odd), so that a node is a leaf in one at
 * least: each tree carries half of the data, and no node sends more than the whole. */
FAB_INLINE fab_coll_btree_t fab_coll_dtree(uint32_t n, uint32_t v, uint32_t tree)
{
    if (tree == 0)
        return fab_coll_btree(n, v);
    const bool turned = n % 2 == 0;
    fab_coll_btree_t t = fab_coll_btree(n, turned ? n - 1 - v : (v + n - 1) % n);
    uint32_t *const all[] = {&t.parent, &t.child[0], &t.child[1]};
    for (int i = 0; i < 3; i++)
        if (*all[i] != FAB_NONE)
            *all[i] = turned ? n - 1 - *all[i] : (*all[i] + 1) % n;
    return t;
}

/* ---- counters ----------------------------------------------------------------------------------- */

/* Counters of 8 or 16 bits, several in a word of a rank's state. */
FAB_INLINE uint32_t fab_coll_counter(const uint32_t *words, uint32_t bits, uint32_t i)
{
    return words[i * bits / 32] >> i * bits % 32 & ((1u << bits) - 1);
}

/* Counts on; returns the new value. */
FAB_INLINE uint32_t fab_coll_count(uint32_t *words, uint32_t bits, uint32_t i)
{
    words[i * bits / 32] += 1u << i * bits % 32;
    return fab_coll_counter(words, bits, i);
}

FAB_INLINE void fab_coll_count_clear(uint32_t *words, uint32_t bits, uint32_t i)
{
    words[i * bits / 32] &= ~(((1u << bits) - 1) << i * bits % 32);
}

#endif
