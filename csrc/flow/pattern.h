/* What an activity costs and where it loads the fabric: found once for all that are alike. */
#ifndef FAB_FLOW_PATTERN_H
#define FAB_FLOW_PATTERN_H

#include "flow/dry.h"

/* What makes activities the same pattern: all but their times. */
typedef struct {
    uint32_t set, root; /* of a group of a collective; of a send: its hosts */
    uint32_t splits;    /* row + 1 of a collective with unequal ones, 0 else */
    int32_t lane;
    uint32_t kind, variant;
    int64_t bytes;
} fab_pattern_key_t;

typedef struct {
    fab_pattern_key_t key;
    int64_t latency_ps, work_ps;
    int64_t back_ps; /* of a send: from the delivery until the sender knows */
    double messages;
    uint32_t load_count;
    uint32_t *resource; /* [load_count]; NULL: everything stays on its host */
    double *busy_ps;    /* [load_count] that it takes at full rate, answers included */
    int64_t done;       /* activities of the pattern that have ended */
} fab_pattern_t;

/* What the dry run of a shape said. */
typedef struct {
    int64_t end_ps, latency_ps;
    double messages;
    fab_carried_t *carried; /* [edge_count] */
    uint32_t edge_count;
    uint64_t check; /* a second hash of the shape */
} fab_shape_t;

typedef struct {
    const fab_model_t *model;
    const fab_program_t *program;
    uint64_t seed;
    fab_paths_t paths;
    fab_wiring_t wiring;
    fab_dry_t dry;
    fab_map_t by_key, by_shape;
    fab_pattern_t *patterns;
    fab_shape_t *shapes;
    uint32_t pattern_count, pattern_capacity, shape_count, shape_capacity;
    double *load; /* [load_capacity] scratch: bytes on a resource */
    uint32_t *loaded;
    uint32_t load_capacity, loaded_count;
    bool has_hash; /* ways depend on the lane somewhere */
    int64_t memory_bytes;
} fab_patterns_t;

int fab_patterns_new(const fab_model_t *model, const fab_program_t *program, uint64_t seed, fab_patterns_t *self);
void fab_patterns_free(fab_patterns_t *self);

/* The pattern of an activity: of a collective its group's number, of a send its position. */
int fab_patterns_find(fab_patterns_t *self, uint32_t op, uint32_t activity, uint32_t *pattern_out);

/* What the data of an activity puts on links, without answers: link by link as *visit is called, in no order, a link perhaps
 * more than once. */
typedef void fab_load_visit_t(void *context, uint32_t link, double bytes, double packets);
int fab_patterns_loads(fab_patterns_t *self, uint32_t op, uint32_t activity, fab_load_visit_t *visit, void *context);

/* Groups of a collective, sends of a row; 0: the operation is no activity. And how many ranks each has. */
FAB_INLINE uint32_t fab_op_activity_count(const fab_program_t *program, const fab_op_t *op)
{
    return op->kind == FAB_OP_SEND ? program->sets[op->set].count : fab_program_group_count(program, op);
}

FAB_INLINE uint32_t fab_op_activity_ranks(const fab_op_t *op) { return op->kind == FAB_OP_SEND ? 1 : op->group_size; }

#endif
