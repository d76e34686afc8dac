/* The program: operations of sets of ranks, laid out for release on each rank by itself.
 *
 * An instance is an operation on one of its ranks. It waits for the instance before it in its stream and for
 * those that `after` names, all on the same rank; ranks only affect each other by messages. Constant. */
#ifndef FAB_WORK_PROGRAM_H
#define FAB_WORK_PROGRAM_H

#include "coll/coll.h"
#include "transport/transport.h"

/* A set of ranks, in the order given; many rows share one. */
typedef struct {
    uint64_t first; /* in ranks[] */
    uint32_t count;
    bool contiguous; /* r, r+1, r+2, … */
    uint64_t sorted; /* in sorted[]: positions by rank, if not contiguous */
} fab_set_t;

typedef struct {
    int64_t id, bytes, duration_ps, delay_ps, tag;
    uint64_t first_split;
    uint32_t set, first_instance, root, peer_first;
    int32_t stream;
    uint32_t split_count;
    uint8_t kind, data_class;
} fab_op_t;

struct fab_program {
    const fab_net_t *net;
    uint32_t op_count, instance_count, set_count, send_count;
    int32_t rank_count;
    uint32_t data_class_count;
    fab_op_t *ops;
    fab_set_t *sets;
    uint32_t *ranks;
    uint32_t *sorted;
    int32_t *peers; /* send, recv: the other rank, by op->peer_first + position */
    int64_t *splits;
    uint32_t *after_first; /* [op_count + 1] the operations that wait for an operation */
    uint32_t *after_ops;
    uint32_t *instance_op;   /* [instance_count] */
    uint32_t *instance_next; /* [instance_count] the next of its stream on its rank, or FAB_NONE */
    uint32_t *instance_wait; /* [instance_count] how many must end before it */
    uint32_t *match;         /* [instance_count] the send's recv and the recv's send; FAB_NONE elsewhere; may be NULL */
    uint32_t *qpn;           /* [instance_count] a send's connection; may be NULL */
    uint32_t *rank_host;
    uint32_t *host_rank; /* [host_count] FAB_NONE without a rank */
    const fab_coll_ops_t *algorithm[FAB_OP_KINDS];
    int64_t algorithm_values[FAB_OP_KINDS][FAB_COLL_VALUES_MAX];
    fab_connections_t connections;
    int64_t memory_bytes;
};

/* The position of a rank in a set; FAB_NONE if it is not in it. */
static inline uint32_t fab_program_position(const fab_program_t *self, uint32_t set, uint32_t rank)
{
    const fab_set_t *s = &self->sets[set];
    if (s->contiguous) {
        const uint32_t position = rank - self->ranks[s->first];
        return position < s->count ? position : FAB_NONE;
    }
    uint32_t low = 0, high = s->count;
    while (low < high) {
        const uint32_t middle = (low + high) / 2, position = self->sorted[s->sorted + middle];
        const uint32_t there = self->ranks[s->first + position];
        if (there == rank)
            return position;
        if (there < rank)
            low = middle + 1;
        else
            high = middle;
    }
    return FAB_NONE;
}

FAB_INLINE uint32_t fab_program_rank(const fab_program_t *self, uint32_t instance)
{
    const fab_op_t *op = &self->ops[self->instance_op[instance]];
    return self->ranks[self->sets[op->set].first + (instance - op->first_instance)];
}

/* The collective that an instance is part of. */
fab_coll_t fab_program_coll(const fab_program_t *self, uint32_t instance);

/* Second half of the compilation: matches sends with recvs and makes the connections. */
int fab_program_connect(fab_program_t *self, fab_problems_t *problems);

/* The host's index of its connection to a host in a lane, class and channel; FAB_NONE if there is none. */
uint32_t fab_program_find_qpn(const fab_program_t *self, uint32_t host, uint32_t dst, int32_t lane, uint8_t data_class,
                              uint32_t channel);

#endif
