/* A run of a program as fluid activities: everything that changes. */
#ifndef FAB_FLOW_FLOW_H
#define FAB_FLOW_FLOW_H

#include "core/heap.h"
#include "flow/pattern.h"
#include "flow/share.h"
#include "work/times.h"

typedef enum { FAB_PHASE_LATENCY, FAB_PHASE_WORK, FAB_PHASE_DELAY } fab_phase_t;

/* An activity that is under way. */
typedef struct {
    fab_sharer_t sharer; /* first: the shares know it by this */
    int64_t when_ps;     /* its phase ends */
    uint32_t activity, op, group, pattern;
    int64_t left; /* how often it is still to happen, this time included */
    fab_phase_t phase;
} fab_active_t;

struct fab_flow {
    const fab_model_t *model;
    const fab_program_t *program;
    fab_patterns_t patterns;
    fab_share_t share;
    fab_pool_t pool;
    fab_heap_t heap;
    uint32_t activity_count;
    uint32_t *first_activity;                  /* [op_count + 1] */
    uint32_t *waiting;                         /* [activity_count] ranks that have not started it */
    int64_t *latency_ps, *work_ps;             /* [activity_count] given; NULL: none */
    uint32_t *wait;                            /* [instance_count] */
    int64_t *start_ps, *end_ps, *delivered_ps; /* [instance_count] */
    fab_active_t **active;                     /* [slot] NULL: free */
    uint32_t *free_slots;
    uint32_t slot_count, free_count, slot_capacity;
    int64_t now_ps, last_end_ps, done, activities_done, messages;
    int failed;
    bool finished;
    char detail[160]; /* of a failure */
};

/* The times of all that has happened. */
FAB_INLINE fab_times_t fab_flow_times(const fab_flow_t *self)
{
    return (fab_times_t){self->program, self->start_ps, self->end_ps, self->delivered_ps};
}

/* What an activity costs in this run. */
void fab_flow_cost(const fab_flow_t *self, uint32_t activity, const fab_pattern_t *pattern, int64_t *latency_ps_out,
                   int64_t *work_ps_out);

#endif
