/* The program: operations of sets of ranks, laid out for release on each rank by itself.
 *
 * An instance is an operation on one of its ranks. It waits for the instance before it in its stream and for
 * those that `after` names, all on the same rank; ranks only affect each other by messages. Constant. */
#ifndef FAB_WORK_PROGRAM_H
#define FAB_WORK_PROGRAM_H

#include "coll/coll.h"
#include "store/store.h"
#include "transport/hosts.h"

/* A set of ranks, in the order given; many rows share one. */
typedef struct {
    uint64_t first; /* in ranks[] */
    uint32_t count;
    bool contiguous;      /* r, r+1, r+2, … */
    uint64_t sorted;      /* in sorted[]: positions by rank, if not contiguous */
    uint32_t local_count; /* ranks of a scale-up domain, if positions are blocks of so many a domain; else 1 */
    uint32_t tree[2];     /* in trees[], by fab_reduces_t - 1; FAB_NONE: not asked for */
} fab_set_t;

/* The reducers of a set. */
typedef struct {
    fab_coll_tree_t shape;
    uint32_t *hosts;  /* [reducer_count] */
    uint32_t *memory; /* backs shape */
} fab_tree_t;

/* An algorithm with its parameters: those of the kinds first, then the user's variants. */
typedef struct {
    const fab_coll_ops_t *ops; /* NULL: the kind is no collective */
    int64_t values[FAB_COLL_VALUES_MAX];
} fab_variant_t;

/* Ranks that do a collective together: all of an operation, or a part of them. */
typedef struct {
    uint32_t set, root; /* root: a position in the set */
    uint32_t op, first_instance;
    uint32_t first_hidden; /* instance of its first reducer */
} fab_members_t;

typedef struct {
    int64_t id, bytes, duration_ps, delay_ps, tag, count;
    uint64_t first_split;
    uint32_t set, first_instance, peer_first;
    uint32_t first_group, group_size; /* of a collective: in groups[]; the groups are parts of so many of its ranks */
    int32_t stream;
    uint32_t split_count;
    uint32_t io; /* of a storage operation: in ios[] */
    uint16_t variant;
    uint8_t kind, data_class;
} fab_op_t;

/* What a storage operation is about. */
typedef struct {
    uint64_t first_file, first_new_file; /* in op_files[]: one file for all ranks, or one for each */
    bool each, new_each;
    uint16_t flags;
    int64_t offset, stride;
} fab_op_io_t;

struct fab_program {
    const fab_net_t *net;
    const fab_store_config_t *stores;
    uint32_t store_count, io_count;
    fab_op_io_t *ios; /* [io_count]; NULL without */
    uint32_t *op_files;
    fab_files_t files;
    bool *has_client;      /* [host_count] where a client is; NULL without */
    uint32_t *client_host; /* [host_count] whose client does the I/O of the rank there */
    uint32_t op_count, set_count, send_count, tree_count, variant_count, group_count;
    uint32_t instance_count; /* of operations on ranks; those on reducers follow, hidden */
    uint32_t hidden_count;
    int32_t rank_count;
    uint32_t data_class_count;
    fab_op_t *ops;
    fab_set_t *sets;
    fab_members_t *groups; /* [group_count] of collectives, in the order of operations */
    uint32_t *ranks;
    uint32_t *sorted;
    int32_t *peers; /* send, recv: the other rank, by op->peer_first + position */
    int64_t *splits;
    uint32_t *after_first; /* [op_count + 1] the operations that wait for an operation */
    uint32_t *after_ops;
    uint32_t *instance_op;   /* [instance_count + hidden_count] */
    uint32_t *hidden_group;  /* [hidden_count] of a reducer's part */
    uint32_t *instance_next; /* [instance_count] the next of its stream on its rank, or FAB_NONE */
    uint32_t *instance_wait; /* [instance_count] how many must end before it */
    uint32_t *match;         /* [instance_count] the send's recv and the recv's send; FAB_NONE elsewhere; may be NULL */
    uint32_t *connection;    /* [instance_count] a send's connection; may be NULL */
    uint32_t *rank_host;
    uint32_t *host_rank;     /* [host_count] FAB_NONE without a rank */
    fab_variant_t *variants; /* [variant_count] */
    fab_tree_t *trees;       /* [tree_count] */
    uint32_t *nearest; /* [host_count] the reducer in the scale-out network that is nearest; NULL until asked for */
    fab_connections_t connections[FAB_NETWORKS_MAX];
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

/* Whether an instance is a reducer's part of its operation. */
FAB_INLINE bool fab_program_is_hidden(const fab_program_t *self, uint32_t instance)
{
    return instance >= self->instance_count;
}

/* How many groups an operation has; 0: it is no collective. */
FAB_INLINE uint32_t fab_program_group_count(const fab_program_t *self, const fab_op_t *op)
{
    return op->group_size ? self->sets[op->set].count / op->group_size : 0;
}

/* The group that an instance of a collective is in. */
FAB_INLINE const fab_members_t *fab_program_group(const fab_program_t *self, uint32_t instance)
{
    if (fab_program_is_hidden(self, instance))
        return &self->groups[self->hidden_group[instance - self->instance_count]];
    const fab_op_t *op = &self->ops[self->instance_op[instance]];
    return &self->groups[op->first_group + (instance - op->first_instance) / op->group_size];
}

/* The tree of a group's reducers, or NULL. */
FAB_INLINE const fab_tree_t *fab_program_tree(const fab_program_t *self, const fab_members_t *group)
{
    const fab_coll_ops_t *ops = self->variants[self->ops[group->op].variant].ops;
    if (ops->reduces_in_network == FAB_REDUCES_NOWHERE)
        return NULL;
    return &self->trees[self->sets[group->set].tree[ops->reduces_in_network - 1]];
}

/* The instance and the host at a position of a group, reducers included; and how many positions there are. */
FAB_INLINE uint32_t fab_program_instance_at(const fab_program_t *self, const fab_members_t *group, uint32_t position)
{
    const uint32_t count = self->sets[group->set].count;
    return position < count ? group->first_instance + position : group->first_hidden + position - count;
}

FAB_INLINE uint32_t fab_program_host_at(const fab_program_t *self, const fab_members_t *group, uint32_t position)
{
    const fab_set_t *set = &self->sets[group->set];
    if (position < set->count)
        return self->rank_host[self->ranks[set->first + position]];
    return fab_program_tree(self, group)->hosts[position - set->count];
}

FAB_INLINE uint32_t fab_program_positions(const fab_program_t *self, const fab_members_t *group)
{
    const fab_tree_t *tree = fab_program_tree(self, group);
    return self->sets[group->set].count + (tree ? tree->shape.reducer_count : 0);
}

/* How many ranks of a set share a scale-up domain; and the tree of reducers that an algorithm asks for. */
uint32_t fab_program_local_count(const fab_program_t *self, const fab_set_t *set);
int fab_program_make_tree(fab_program_t *self, uint32_t set, fab_reduces_t where, int64_t row,
                          fab_problems_t *problems);

/* storage.c: reads the files and the columns of storage; ops[] and sets are there. */
int fab_program_read_storage(fab_program_t *self, const fab_table_t *table, fab_problems_t *problems);
void fab_program_free_storage(fab_program_t *self);
fab_io_t fab_program_io(const fab_program_t *self, uint32_t instance);

/* The collective that an instance is part of. */
fab_coll_t fab_program_coll(const fab_program_t *self, uint32_t instance);

/* Second half of the compilation: matches sends with recvs and makes the connections. */
int fab_program_connect(fab_program_t *self, fab_problems_t *problems);

/* The host's connection to a host in a lane, class and channel; FAB_NONE if there is none. */
uint32_t fab_program_find(const fab_program_t *self, uint32_t host, uint32_t dst, int32_t lane, uint8_t data_class,
                          uint32_t channel);

#endif
