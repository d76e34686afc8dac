/* Compiles the canonical columns of a trace: sets of ranks, instances, release counts. */
#include "work/program.h"

#include <inttypes.h>
#include <string.h>

#include "coll/list.h"
#include "work/compile.h"
#include "work/map.h"

static const char *const kind_names[FAB_OP_KINDS] = {
    "compute", "all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "reduce",
    "barrier", "send",       "recv",           "open",       "read",       "write",     "fsync",
    "close",   "stat",       "unlink",         "mkdir",      "rmdir",      "rename",    "readdir",
};

#define ALGORITHM(name) &fab_coll_##name,
static const fab_coll_ops_t *const algorithms[] = {FAB_COLL_LIST(ALGORITHM)};

static const fab_coll_ops_t *algorithm_named(const char *name)
{
    for (size_t a = 0; a < sizeof algorithms / sizeof *algorithms; a++)
        if (strcmp(algorithms[a]->impl.impl, name) == 0)
            return algorithms[a];
    return NULL;
}

static int choose_algorithms(fab_program_t *self, const fab_collectives_t *collectives, const fab_setting_t *settings,
                             int32_t setting_count, fab_problems_t *problems)
{
    static const char *const defaults[FAB_OP_KINDS] = {
        [FAB_OP_ALL_REDUCE] = "ring",       [FAB_OP_REDUCE_SCATTER] = "ring", [FAB_OP_ALL_GATHER] = "ring",
        [FAB_OP_ALL_TO_ALL] = "pairwise",   [FAB_OP_BROADCAST] = "chain",     [FAB_OP_REDUCE] = "chain",
        [FAB_OP_BARRIER] = "dissemination",
    };
    const int32_t more = collectives ? collectives->variant_count : 0;
    self->variant_count = FAB_OP_KINDS + (uint32_t)more;
    self->variants = calloc(self->variant_count, sizeof *self->variants);
    if (!self->variants)
        return FAB_E_MEMORY;
    if (self->variant_count > INT16_MAX) {
        fab_problems_add(problems, "the program has %d variants, allowed %d", more, INT16_MAX - FAB_OP_KINDS);
        return FAB_E_LIMIT;
    }
    for (int kind = 0; kind < FAB_OP_KINDS; kind++) {
        const char *name =
            collectives && collectives->algorithms[kind] ? collectives->algorithms[kind] : defaults[kind];
        if (!name)
            continue;
        const fab_coll_ops_t *ops = algorithm_named(name);
        if (!ops || !(ops->impl.kinds >> kind & 1)) {
            fab_problems_add(problems, "collectives.%s: found algorithm %s, which does not do it", kind_names[kind],
                             name);
            continue;
        }
        self->variants[kind].ops = ops;
        fab_param_resolve("coll", name, ops->impl.params, settings, setting_count, self->variants[kind].values,
                          problems);
    }
    for (int32_t v = 0; v < more; v++) {
        const fab_setting_t *chosen = &collectives->variants[v];
        fab_variant_t *variant = &self->variants[FAB_OP_KINDS + v];
        variant->ops = algorithm_named(chosen->impl);
        if (!variant->ops)
            fab_problems_add(problems, "variant %d: no such algorithm as %s", v, chosen->impl);
        else
            fab_param_resolve("coll", chosen->impl, variant->ops->impl.params, chosen, 1, variant->values, problems);
    }
    return problems->count ? FAB_E_CONFIG : FAB_OK;
}

/* The variant of a row: its own, or its kind's. */
static uint16_t variant_of(const fab_program_t *self, const fab_table_t *t, int64_t row, fab_problems_t *problems)
{
    const int32_t kind = t->kind[row], own = t->variant ? t->variant[row] : -1;
    if (own < 0)
        return (uint16_t)kind;
    if (own >= (int32_t)self->variant_count - FAB_OP_KINDS) {
        fab_problems_add(problems, "row %" PRId64 ": variant: found %d, allowed -1 to %d", row, own,
                         (int32_t)self->variant_count - FAB_OP_KINDS - 1);
        return (uint16_t)kind;
    }
    const fab_variant_t *variant = &self->variants[FAB_OP_KINDS + own];
    if (!(variant->ops->impl.kinds >> kind & 1))
        fab_problems_add(problems, "row %" PRId64 ": variant: %d is the algorithm %s, which does not do a %s", row, own,
                         variant->ops->impl.impl, kind_names[kind]);
    return (uint16_t)(FAB_OP_KINDS + own);
}

/* ---- sets of ranks ------------------------------------------------------------------------------ */

typedef struct {
    const uint32_t *ranks;
    uint32_t at;
} by_rank_t;

static int compare_rank(const void *a, const void *b)
{
    const by_rank_t *x = a, *y = b;
    const uint32_t rx = x->ranks[x->at], ry = y->ranks[y->at];
    return rx < ry ? -1 : rx > ry;
}

typedef struct {
    fab_map_t by_hash;
    uint64_t rank_fill, sorted_fill;
    by_rank_t *scratch;
} set_builder_t;

/* The set equal to these ranks, made if it is new. */
static int set_of(fab_program_t *self, set_builder_t *builder, const int32_t *ranks, uint32_t count, int64_t row,
                  fab_problems_t *problems, uint32_t *set_out)
{
    uint64_t hash = count;
    for (uint32_t i = 0; i < count; i++)
        hash = fab_keyed_mix(hash ^ (uint32_t)ranks[i]);
    uint32_t found;
    for (; (found = fab_map_get(&builder->by_hash, hash)) != FAB_NONE; hash = fab_keyed_mix(hash)) {
        const fab_set_t *set = &self->sets[found];
        if (set->count == count && memcmp(&self->ranks[set->first], ranks, count * sizeof *ranks) == 0) {
            *set_out = found;
            return FAB_OK;
        }
    }
    fab_set_t *set = &self->sets[self->set_count];
    *set = (fab_set_t){.first = builder->rank_fill, .count = count, .contiguous = true, .tree = {FAB_NONE, FAB_NONE}};
    for (uint32_t i = 0; i < count; i++) {
        if (ranks[i] < 0 || ranks[i] >= self->rank_count) {
            fab_problems_add(problems, "row %" PRId64 ": ranks: found %d, allowed 0 to %d", row, ranks[i],
                             self->rank_count - 1);
            return FAB_E_TRACE;
        }
        set->contiguous = set->contiguous && ranks[i] == ranks[0] + (int32_t)i;
        self->ranks[builder->rank_fill + i] = (uint32_t)ranks[i];
    }
    if (!set->contiguous) {
        set->sorted = builder->sorted_fill;
        for (uint32_t i = 0; i < count; i++)
            builder->scratch[i] = (by_rank_t){&self->ranks[set->first], i};
        qsort(builder->scratch, count, sizeof *builder->scratch, compare_rank);
        for (uint32_t i = 0; i < count; i++) {
            self->sorted[set->sorted + i] = builder->scratch[i].at;
            if (i && compare_rank(&builder->scratch[i - 1], &builder->scratch[i]) == 0) {
                fab_problems_add(problems, "row %" PRId64 ": ranks: rank %d is there twice", row,
                                 ranks[builder->scratch[i].at]);
                return FAB_E_TRACE;
            }
        }
        builder->sorted_fill += count;
    }
    set->local_count = fab_program_local_count(self, set);
    builder->rank_fill += count;
    if (!fab_map_add(&builder->by_hash, hash, self->set_count))
        return FAB_E_MEMORY;
    *set_out = self->set_count++;
    return FAB_OK;
}

/* ---- operations --------------------------------------------------------------------------------- */

/* The ranks of a group of a row: what it says, or all; 0: no collective. */
static uint32_t group_size_of(const fab_table_t *t, int64_t row, uint32_t count)
{
    if (t->kind[row] < FAB_OP_ALL_REDUCE || t->kind[row] > FAB_OP_BARRIER)
        return 0;
    return t->group_size && t->group_size[row] > 0 ? (uint32_t)t->group_size[row] : count;
}

static void check_op(const fab_program_t *self, const fab_op_t *op, uint32_t peer_count, int64_t row,
                     fab_problems_t *problems)
{
    const fab_set_t *set = &self->sets[op->set];
    const uint32_t groups = op->group_size ? set->count / op->group_size : 0;
    if (op->group_size && (groups == 0 || set->count % op->group_size))
        fab_problems_add(problems, "row %" PRId64 ": group_size: found %u, allowed a divisor of its %u ranks", row,
                         op->group_size, set->count);
    if (op->count < 1 || op->count > INT32_MAX || (!op->group_size && op->count != 1))
        fab_problems_add(problems,
                         "row %" PRId64 ": count: found %" PRId64 ", allowed 1, of a collective up to 2^31 - 1", row,
                         op->count);
    if (op->bytes < 0 || op->bytes >= INT64_C(1) << 46)
        fab_problems_add(problems, "row %" PRId64 ": bytes: found %" PRId64 ", allowed 0 to 2^46", row, op->bytes);
    if (op->duration_ps < 0 || op->delay_ps < 0 || op->duration_ps >= INT64_C(1) << 52 ||
        op->delay_ps >= INT64_C(1) << 52)
        fab_problems_add(problems,
                         "row %" PRId64 ": duration_ps, delay_ps: found %" PRId64 " and %" PRId64
                         ", allowed 0 to 2^52 - 1",
                         row, op->duration_ps, op->delay_ps);
    const bool rooted = op->kind == FAB_OP_BROADCAST || op->kind == FAB_OP_REDUCE;
    const bool paired = op->kind == FAB_OP_SEND || op->kind == FAB_OP_RECV;
    if (peer_count != (paired ? set->count : rooted ? groups : 0u))
        fab_problems_add(problems, "row %" PRId64 ": peer: found %u entries for a %s of %u ranks", row, peer_count,
                         kind_names[op->kind], set->count);
    if (op->split_count) {
        const uint64_t n = set->count;
        if (op->kind != FAB_OP_ALL_TO_ALL || groups > 1 || (op->split_count != n && op->split_count != n * n))
            fab_problems_add(problems, "row %" PRId64 ": splits: found %u entries for a %s of %u ranks", row,
                             op->split_count, kind_names[op->kind], set->count);
        for (uint32_t i = 0; i < op->split_count; i++)
            if (self->splits[op->first_split + i] < 0 || self->splits[op->first_split + i] >= INT64_C(1) << 46) {
                fab_problems_add(problems, "row %" PRId64 ": splits: found %" PRId64, row,
                                 self->splits[op->first_split + i]);
                break;
            }
    }
}

/* The groups of a collective: its ranks, so many at a time. */
static int add_groups(fab_program_t *self, set_builder_t *builder, const fab_table_t *t, int64_t row,
                      uint32_t peer_count, fab_problems_t *problems)
{
    fab_op_t *op = &self->ops[row];
    const uint32_t count = self->sets[op->set].count;
    const int32_t *ranks = &t->ranks[t->rank_offset[row]], *roots = &t->peers[t->peer_offset[row]];
    op->first_group = self->group_count;
    for (uint32_t g = 0; g < count / op->group_size; g++) {
        fab_members_t *group = &self->groups[self->group_count++];
        *group = (fab_members_t){
            .set = op->set, .op = (uint32_t)row, .first_instance = op->first_instance + g * op->group_size};
        const int code = op->group_size == count ? FAB_OK
                                                 : set_of(self, builder, ranks + g * op->group_size, op->group_size,
                                                          row, problems, &group->set);
        if (code)
            return code;
        if (g >= peer_count)
            continue;
        group->root = fab_program_position(self, group->set, (uint32_t)roots[g]);
        if (group->root == FAB_NONE)
            fab_problems_add(problems, "row %" PRId64 ": peer: root %d is not one of the ranks", row, roots[g]);
    }
    return FAB_OK;
}

/* Makes the trees of reducers of a collective's groups; returns how many parts reducers have in it. */
static int make_trees(fab_program_t *self, const fab_op_t *op, int64_t row, uint64_t *hidden, fab_problems_t *problems)
{
    const fab_coll_ops_t *algorithm = self->variants[op->variant].ops;
    if (algorithm->reduces_in_network == FAB_REDUCES_NOWHERE)
        return FAB_OK;
    for (uint32_t g = 0; g < fab_program_group_count(self, op); g++) {
        const fab_members_t *group = &self->groups[op->first_group + g];
        const int code = fab_program_make_tree(self, group->set, algorithm->reduces_in_network, row, problems);
        if (code == FAB_E_MEMORY)
            return code;
        if (!code)
            *hidden += fab_program_tree(self, group)->shape.reducer_count;
    }
    return FAB_OK;
}

static int fill_ops(fab_program_t *self, const fab_table_t *t, fab_problems_t *problems)
{
    set_builder_t builder = {0};
    uint32_t most = 0;
    for (int64_t i = 0; i < t->op_count; i++) {
        const uint32_t n = (uint32_t)(t->rank_offset[i + 1] - t->rank_offset[i]);
        most = n > most ? n : most;
    }
    int code = FAB_E_MEMORY;
    builder.scratch = malloc(((size_t)most + 1) * sizeof *builder.scratch);
    if (!builder.scratch)
        goto out;
    uint64_t instances = 0, hidden = 0;
    code = FAB_OK;
    for (int64_t i = 0; i < t->op_count; i++) {
        fab_op_t *op = &self->ops[i];
        const uint32_t count = (uint32_t)(t->rank_offset[i + 1] - t->rank_offset[i]);
        const uint32_t peer_count = (uint32_t)(t->peer_offset[i + 1] - t->peer_offset[i]);
        *op = (fab_op_t){
            .id = t->id[i],
            .bytes = t->bytes[i],
            .duration_ps = t->duration_ps[i],
            .delay_ps = t->delay_ps[i],
            .tag = t->tag[i],
            .first_split = (uint64_t)(t->split_offset[i] - t->split_offset[0]),
            .split_count = (uint32_t)(t->split_offset[i + 1] - t->split_offset[i]),
            .first_instance = (uint32_t)instances,
            .peer_first = (uint32_t)(t->peer_offset[i] - t->peer_offset[0]),
            .stream = t->stream[i],
            .kind = (uint8_t)t->kind[i],
            .count = t->count ? t->count[i] : 1,
            .data_class = t->priority ? (uint8_t)t->priority[i] : 0,
        };
        instances += count;
        if (t->kind[i] < 0 || t->kind[i] >= FAB_OP_KINDS || count == 0 || t->stream[i] < -1) {
            fab_problems_add(problems,
                             "row %" PRId64 ": kind %d of %u ranks in stream %d is not an operation of this core", i,
                             t->kind[i], count, t->stream[i]);
            code = FAB_E_TRACE;
            continue;
        }
        if (op->data_class >= self->data_class_count)
            fab_problems_add(problems,
                             "row %" PRId64 ": priority: found %d, allowed 0 to %u: the fabric has %u data class(es), "
                             "see switch.data_class_count",
                             i, t->priority[i], self->data_class_count - 1, self->data_class_count);
        const int set_code = set_of(self, &builder, &t->ranks[t->rank_offset[i]], count, i, problems, &op->set);
        if (set_code) {
            code = set_code;
            continue;
        }
        op->group_size = group_size_of(t, i, count);
        op->variant = variant_of(self, t, i, problems);
        check_op(self, op, peer_count, i, problems);
        self->send_count += op->kind == FAB_OP_SEND ? count : 0;
        if (problems->count || !op->group_size) /* of a wrong row, groups make no sense */
            continue;
        if ((code = add_groups(self, &builder, t, i, peer_count, problems)) ||
            (code = make_trees(self, op, i, &hidden, problems)))
            goto out;
    }
    instances += hidden;
    if (instances >=
        FAB_STORE_COOKIE - (1u << 24) - 2) { /* behind are a session's operations, and cookies of storage */
        fab_problems_add(problems, "the trace has %" PRIu64 " operations on single ranks, allowed %u", instances,
                         FAB_STORE_COOKIE - (1u << 24) - 3);
        code = FAB_E_LIMIT;
    }
    self->instance_count = (uint32_t)(instances - hidden);
    self->hidden_count = (uint32_t)hidden;
    if (problems->count && !code)
        code = FAB_E_TRACE;
out:
    fab_map_free(&builder.by_hash);
    free(builder.scratch);
    return code;
}

/* ---- what waits for what ------------------------------------------------------------------------ */

/* Adds one to the wait of every instance of `op` whose rank is in `before`; false: no rank is in both. */
static bool add_waits(fab_program_t *self, const fab_op_t *before, const fab_op_t *op)
{
    const fab_set_t *set = &self->sets[op->set];
    bool shared = false;
    for (uint32_t i = 0; i < set->count; i++) {
        if (before->set != op->set && fab_program_position(self, before->set, self->ranks[set->first + i]) == FAB_NONE)
            continue;
        self->instance_wait[op->first_instance + i]++;
        shared = true;
    }
    return shared;
}

static int fill_after(fab_program_t *self, const fab_table_t *t, fab_problems_t *problems)
{
    int code = FAB_E_MEMORY;
    fab_map_t by_id = {0};
    const int64_t first_id = self->op_count ? self->ops[0].id : 0;
    bool counted = true; /* ids count up by one: they need no map */
    for (uint32_t i = 0; i < self->op_count; i++)
        counted = counted && self->ops[i].id == first_id + i;
    const uint64_t edges = (uint64_t)(t->after_offset[t->op_count] - t->after_offset[0]);
    uint32_t *from = malloc((edges + 1) * sizeof *from);
    uint32_t *fill = NULL;
    if (!from)
        goto out;
    for (uint32_t i = 0; !counted && i < self->op_count; i++) {
        const uint32_t *row = fab_map_add(&by_id, (uint64_t)self->ops[i].id, i);
        if (!row)
            goto out;
        if (*row != i)
            fab_problems_add(problems, "row %u: id: %" PRId64 " is also the id of row %u", i, self->ops[i].id, *row);
    }
    for (uint32_t i = 0; i < self->op_count; i++) {
        for (int32_t e = t->after_offset[i]; e < t->after_offset[i + 1]; e++) {
            const int64_t at = e - t->after_offset[0];
            uint32_t before = fab_map_get(&by_id, (uint64_t)t->after[e]);
            if (counted && t->after[e] >= first_id && t->after[e] - first_id < self->op_count)
                before = (uint32_t)(t->after[e] - first_id);
            from[at] = before;
            if (before == FAB_NONE) {
                fab_problems_add(problems, "row %u: after: no operation has the id %" PRId64, i, t->after[e]);
                continue;
            }
            self->after_first[before + 1]++;
            if (!add_waits(self, &self->ops[before], &self->ops[i]))
                fab_problems_add(problems, "row %u: after: shares no rank with the operation %" PRId64, i, t->after[e]);
        }
    }
    if (problems->count) {
        code = FAB_E_TRACE;
        goto out;
    }
    for (uint32_t i = 0; i < self->op_count; i++)
        self->after_first[i + 1] += self->after_first[i];
    self->after_ops = malloc((edges + 1) * sizeof *self->after_ops);
    fill = malloc(((size_t)self->op_count + 1) * sizeof *fill);
    if (!self->after_ops || !fill)
        goto out;
    memcpy(fill, self->after_first, ((size_t)self->op_count + 1) * sizeof *fill);
    for (uint32_t i = 0; i < self->op_count; i++)
        for (int32_t e = t->after_offset[i]; e < t->after_offset[i + 1]; e++)
            self->after_ops[fill[from[e - t->after_offset[0]]]++] = i;
    code = FAB_OK;
out:
    fab_map_free(&by_id);
    free(from);
    free(fill);
    return code;
}

/* Asks the algorithms whether they can run over the ranks they are to run over. */
static int check_algorithms(const fab_program_t *self, fab_problems_t *problems)
{
    for (uint32_t g = 0; g < self->group_count; g++) {
        const uint32_t row = self->groups[g].op;
        const fab_coll_ops_t *algorithm = self->variants[self->ops[row].variant].ops;
        if (!algorithm->refuses)
            continue;
        const fab_coll_t coll = fab_program_coll(self, self->groups[g].first_instance);
        const char *why = algorithm->refuses(&coll);
        if (why)
            fab_problems_add(problems, "row %u: the algorithm %s cannot do this %s of %u ranks: %s", row,
                             algorithm->impl.impl, kind_names[self->ops[row].kind], coll.count, why);
    }
    return problems->count ? FAB_E_TRACE : FAB_OK;
}

/* Instances of reducers, behind all others. */
static int fill_hidden(fab_program_t *self)
{
    uint32_t next = self->instance_count;
    uint32_t *instance_op =
        realloc(self->instance_op, (self->instance_count + (size_t)self->hidden_count + 1) * sizeof *instance_op);
    if (!instance_op)
        return FAB_E_MEMORY;
    self->instance_op = instance_op;
    self->hidden_group = malloc(((size_t)self->hidden_count + 1) * sizeof *self->hidden_group);
    if (!self->hidden_group)
        return FAB_E_MEMORY;
    for (uint32_t g = 0; g < self->group_count; g++) {
        fab_members_t *group = &self->groups[g];
        const fab_tree_t *tree = fab_program_tree(self, group);
        group->first_hidden = next;
        for (uint32_t r = 0; tree && r < tree->shape.reducer_count; r++) {
            self->hidden_group[next - self->instance_count] = g;
            instance_op[next++] = group->op;
        }
    }
    return FAB_OK;
}

static int fill_streams(fab_program_t *self)
{
    fab_map_t newest = {0}; /* by rank and stream */
    for (uint32_t i = 0; i < self->op_count; i++) {
        const fab_op_t *op = &self->ops[i];
        const fab_set_t *set = &self->sets[op->set];
        for (uint32_t p = 0; p < set->count; p++) {
            const uint32_t instance = op->first_instance + p;
            self->instance_op[instance] = i;
            self->instance_next[instance] = FAB_NONE;
            if (op->stream < 0)
                continue;
            const uint64_t line = (uint64_t)self->ranks[set->first + p] << 32 | (uint32_t)op->stream;
            uint32_t *before = fab_map_add(&newest, line, instance);
            if (!before) {
                fab_map_free(&newest);
                return FAB_E_MEMORY;
            }
            if (*before != instance) {
                self->instance_next[*before] = instance;
                self->instance_wait[instance]++;
            }
            *before = instance;
        }
    }
    fab_map_free(&newest);
    return FAB_OK;
}

static int place_ranks(fab_program_t *self, const int32_t *rank_host, fab_problems_t *problems)
{
    for (uint32_t h = 0; h < self->net->host_count; h++)
        self->host_rank[h] = FAB_NONE;
    for (int32_t r = 0; r < self->rank_count; r++) {
        const int32_t h = rank_host[r];
        if (h < 0 || h >= (int32_t)self->net->host_count)
            fab_problems_add(problems, "rank %d: is placed on host %d, hosts are 0 to %u", r, h,
                             self->net->host_count - 1);
        else if (self->host_rank[h] != FAB_NONE)
            fab_problems_add(problems, "rank %d: is placed on host %d, where rank %u is", r, h, self->host_rank[h]);
        else
            self->host_rank[h] = (uint32_t)r;
        self->rank_host[r] = (uint32_t)h;
    }
    return problems->count ? FAB_E_CONFIG : FAB_OK;
}

static size_t count_groups(const fab_table_t *t)
{
    size_t groups = 0;
    for (int64_t i = 0; i < t->op_count; i++) {
        const uint32_t count = (uint32_t)(t->rank_offset[i + 1] - t->rank_offset[i]);
        const uint32_t size = group_size_of(t, i, count);
        groups += size ? count / size : 0;
    }
    return groups;
}

int fab_program_compile(const fab_net_t *net, uint32_t data_class_count, const fab_setting_t *settings,
                        int32_t setting_count, const fab_store_config_t *stores, uint32_t store_count,
                        const fab_table_t *t, const int32_t *rank_host, int32_t rank_count,
                        const fab_collectives_t *collectives, fab_problems_t *problems, fab_program_t **program_out)
{
    if (t->op_count >= FAB_NONE) {
        fab_problems_add(problems, "the trace has %" PRId64 " rows, allowed %u", t->op_count, FAB_NONE - 1);
        return FAB_E_LIMIT;
    }
    fab_program_t *self = calloc(1, sizeof *self);
    if (!self)
        return FAB_E_MEMORY;
    const size_t n = (size_t)t->op_count;
    const size_t ranks = (size_t)(t->rank_offset[n] - t->rank_offset[0]);
    const size_t peers = (size_t)(t->peer_offset[n] - t->peer_offset[0]);
    const size_t splits = (size_t)(t->split_offset[n] - t->split_offset[0]);
    const size_t groups = count_groups(t);
    const size_t set_ranks = t->group_size ? 2 * ranks : ranks; /* those of rows, and of their groups */
    self->net = net;
    self->stores = stores;
    self->store_count = store_count;
    self->op_count = (uint32_t)n;
    self->rank_count = rank_count;
    self->data_class_count = data_class_count;
    self->ops = calloc(n + 1, sizeof *self->ops);
    self->sets = calloc(n + groups + 1, sizeof *self->sets);
    self->groups = malloc((groups + 1) * sizeof *self->groups);
    self->ranks = calloc(set_ranks + 1, sizeof *self->ranks);
    self->sorted = calloc(set_ranks + 1, sizeof *self->sorted);
    self->peers = malloc((peers + 1) * sizeof *self->peers);
    self->splits = malloc((splits + 1) * sizeof *self->splits);
    self->after_first = calloc(n + 2, sizeof *self->after_first);
    self->instance_op = malloc((ranks + 1) * sizeof *self->instance_op);
    self->instance_next = malloc((ranks + 1) * sizeof *self->instance_next);
    self->instance_wait = calloc(ranks + 1, sizeof *self->instance_wait);
    self->rank_host = calloc((size_t)rank_count + 1, sizeof *self->rank_host);
    self->host_rank = malloc(net->host_count * sizeof *self->host_rank);
    int code = FAB_E_MEMORY;
    if (!self->ops || !self->sets || !self->groups || !self->ranks || !self->sorted || !self->peers || !self->splits ||
        !self->after_first || !self->instance_op || !self->instance_next || !self->instance_wait || !self->rank_host ||
        !self->host_rank)
        goto out;
    memcpy(self->peers, t->peers + t->peer_offset[0], peers * sizeof *self->peers);
    memcpy(self->splits, t->splits + t->split_offset[0], splits * sizeof *self->splits);
    if ((code = choose_algorithms(self, collectives, settings, setting_count, problems)) ||
        (code = place_ranks(self, rank_host, problems)) || (code = fill_ops(self, t, problems)) ||
        (code = fab_program_read_storage(self, t, problems)) || (code = fill_hidden(self)) ||
        (code = fill_streams(self)) || (code = check_algorithms(self, problems)) ||
        (code = fill_after(self, t, problems)) || (code = fab_program_connect(self, problems)))
        goto out;
    self->memory_bytes +=
        (int64_t)(n * (sizeof *self->ops + 4) + (n + groups) * sizeof *self->sets + groups * sizeof *self->groups +
                  ranks * 12 + set_ranks * 8 + peers * 4 + splits * 8);
    *program_out = self;
    self = NULL;
out:
    fab_program_free(self);
    return code;
}

void fab_program_free(fab_program_t *self)
{
    if (!self)
        return;
    free(self->ops);
    free(self->sets);
    free(self->groups);
    free(self->ranks);
    free(self->sorted);
    free(self->peers);
    free(self->splits);
    free(self->after_first);
    free(self->after_ops);
    free(self->instance_op);
    free(self->instance_next);
    free(self->instance_wait);
    free(self->hidden_group);
    free(self->match);
    free(self->connection);
    free(self->rank_host);
    free(self->host_rank);
    free(self->variants);
    fab_program_free_storage(self);
    free(self->nearest);
    for (uint32_t i = 0; self->trees && i < self->tree_count; i++) {
        free(self->trees[i].hosts);
        free(self->trees[i].memory);
    }
    free(self->trees);
    for (uint32_t w = 0; w < FAB_NETWORKS_MAX; w++) {
        free(self->connections[w].tx_first);
        free(self->connections[w].rx_first);
        free(self->connections[w].tx_dst);
        free(self->connections[w].tx_qpn);
        free(self->connections[w].tx_lane);
        free(self->connections[w].tx_class);
        free(self->connections[w].tx_channel);
        free(self->connections[w].rx_src);
        free(self->connections[w].rx_qpn);
    }
    free(self);
}

void fab_program_info(const fab_program_t *self, fab_program_info_t *info_out)
{
    *info_out = (fab_program_info_t){
        .op_count = self->op_count,
        .instance_count = self->instance_count,
        .connection_count = (int64_t)self->connections[0].count + self->connections[1].count,
        .send_count = self->send_count,
        .memory_bytes = self->memory_bytes,
        .rank_count = self->rank_count,
    };
}

fab_coll_t fab_program_coll(const fab_program_t *self, uint32_t instance)
{
    const fab_op_t *op = &self->ops[self->instance_op[instance]];
    const fab_members_t *group = fab_program_group(self, instance);
    const fab_set_t *set = &self->sets[group->set];
    const fab_tree_t *tree = fab_program_tree(self, group);
    return (fab_coll_t){
        .kind = op->kind,
        .count = set->count,
        .position = fab_program_is_hidden(self, instance) ? set->count + (instance - group->first_hidden)
                                                          : instance - group->first_instance,
        .root = group->root,
        .bytes = op->bytes,
        .splits = op->split_count ? &self->splits[op->first_split] : NULL,
        .splits_by_sender = op->split_count > set->count,
        .local_count = set->local_count,
        .tree = tree ? &tree->shape : NULL,
        .values = self->variants[op->variant].values,
    };
}
