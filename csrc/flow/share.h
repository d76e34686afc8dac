/* Shares of links: activities at work that load a link beyond what it carries slow down, max-min fair.
 *
 * An activity that had the fabric for itself works at rate 1 and takes a part of each resource on its ways; if the parts of
 * a resource add up to more than 1, its activities get rates in (0, 1] by progressive filling (Bertsekas and Gallager,
 * Data Networks, ch. 6.5.2): all rates grow alike until a resource is full, and go on where none is. */
#ifndef FAB_FLOW_SHARE_H
#define FAB_FLOW_SHARE_H

#include "core/error.h"
#include "core/pool.h"

/* Parts of a resource are summed up in 2^-32, so that a sum does not depend on what has come and gone. */
#define FAB_SHARE_ONE (UINT64_C(1) << 32)

typedef struct fab_use {
    struct fab_use *next, *before;           /* of the resource */
    struct fab_use *next_over, *before_over; /* of the sharer, while the resource is asked for too much */
    struct fab_sharer *sharer;
    uint64_t part;
    uint32_t resource;
} fab_use_t;

/* An activity at work. */
typedef struct fab_sharer {
    fab_use_t *uses, *over; /* all, and a list of those of resources that are asked for too much */
    double remaining_ps;    /* at rate 1, as of since_ps */
    double rate, found;     /* found: while filling, what the rate is to be */
    int64_t since_ps, end_ps;
    uint32_t use_count, id;
    bool in_part, frozen;
} fab_sharer_t;

typedef struct {
    fab_use_t *first;
    uint64_t sum;
    double left, growing;   /* while filling: what is not given away, and the parts of those that still grow */
    uint32_t growing_count; /* how many those are */
    bool in_part;
} fab_share_resource_t;

typedef struct {
    double level;
    uint32_t resource;
} fab_share_level_t;

typedef struct {
    fab_pool_t pool;
    fab_share_resource_t *resources;
    uint32_t resource_count;
    uint32_t *touched; /* resources that were or are over 1 and whose users are to be looked at again */
    uint32_t touched_count, touched_capacity;
    fab_sharer_t **part; /* what hangs together, and its resources that are over 1 */
    uint32_t part_count, part_capacity;
    uint32_t *over;
    uint32_t over_count, over_capacity;
    fab_share_level_t *heap;
    uint32_t heap_count, heap_capacity;
    int64_t fillings;
    bool no_memory;
} fab_share_t;

/* Makes room for so many resources; false without memory. */
bool fab_share_grow(fab_share_t *self, uint32_t resource_count);
void fab_share_free(fab_share_t *self);

/* Puts an activity to work that takes work_ps at rate 1, and busy_ps[i] of them of resource[i]. Its end_ps is known if it
 * shares nothing; else fab_share_settle tells. False without memory. */
bool fab_share_begin(fab_share_t *self, fab_sharer_t *sharer, const uint32_t *resource, const double *busy_ps,
                     uint32_t count, int64_t work_ps, int64_t now_ps);

/* It has done its work. */
void fab_share_end(fab_share_t *self, fab_sharer_t *sharer, int64_t now_ps);

/* Whether rates are to be found anew before time goes on. */
FAB_INLINE bool fab_share_is_unsettled(const fab_share_t *self) { return self->touched_count > 0; }

/* Finds the new rates; part[0 … part_count-1] are those whose end_ps is another. */
int fab_share_settle(fab_share_t *self, int64_t now_ps);

/* What is left of an activity's work, at rate 1. */
double fab_share_remaining_ps(const fab_sharer_t *sharer, int64_t now_ps);

#endif
