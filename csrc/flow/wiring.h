/* The connections of one group of ranks that does a collective by itself: who sends to whom, and by which ways. */
#ifndef FAB_FLOW_WIRING_H
#define FAB_FLOW_WIRING_H

#include "flow/paths.h"

/* A place on a way. `local`: the resource as the dry run counts it, FAB_NONE: it does not see it. */
typedef struct {
    uint32_t resource, local;
    double share; /* of the data */
} fab_stop_t;

/* The way of a queue pair's data. */
typedef struct {
    uint32_t first_stop, stop_count;
    int64_t end_delay_ps;
    double end_stored, slowest;
} fab_lead_t;

/* A connection; positions count ranks first, then reducers. */
typedef struct {
    uint32_t from, to, channel;
    uint32_t first_lead; /* of each queue pair: its data's, then its answers' */
    int64_t back_ps;     /* an answer's way */
    double window;       /* ps a byte that the window allows; 0: no window */
    int8_t network;
} fab_edge_t;

typedef struct {
    uint32_t position_count, edge_count, lead_count, stop_count, local_count, qp_count;
    fab_edge_t *edges;
    uint32_t *edge_first; /* [position_count + 1] */
    fab_lead_t *leads;
    fab_stop_t *stops;
    double *local_wire; /* [local_count] ps a byte */
    uint32_t edge_capacity, position_capacity, lead_capacity, stop_capacity, local_capacity, resource_capacity;
    uint32_t *local_of; /* [resource_capacity] of the paths; FAB_NONE outside of the group */
    uint64_t signature; /* of all that the dry run can see */
    bool ends_only; /* asked for: of ways that a hash chose the dry run sees the ends alone, so that groups are alike */
    bool hides;     /* there was more to see */
    bool no_memory;
} fab_wiring_t;

/* Whose connections are asked for: a group of a collective, by which lane, with which draws. */
typedef struct {
    const fab_program_t *program;
    const fab_members_t *group;
    int32_t lane;
    uint64_t seed;
} fab_party_t;

/* The collective as its rank at a position of the group sees it, reducers behind the ranks. */
FAB_INLINE fab_coll_t fab_party_coll(const fab_party_t *self, uint32_t position)
{
    return fab_program_coll(self->program, fab_program_instance_at(self->program, self->group, position));
}

FAB_INLINE const fab_coll_ops_t *fab_party_algorithm(const fab_party_t *self)
{
    return self->program->variants[self->program->ops[self->group->op].variant].ops;
}

/* Both leave what they find in self, whose memory they use again. */
int fab_wiring_collective(fab_wiring_t *self, fab_paths_t *paths, const fab_party_t *party);
int fab_wiring_pair(fab_wiring_t *self, fab_paths_t *paths, uint32_t src_host, uint32_t dst_host, int32_t lane,
                    uint64_t seed);
void fab_wiring_free(fab_wiring_t *self);

#endif
