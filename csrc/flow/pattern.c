/* Costs and loads of activities from the dry run of their shape and the ways of their connections. */
#include "flow/pattern.h"

#include <stdlib.h>
#include <string.h>

/* Up to MESSAGES_SEEING_ALL a dry run sees all links on the way, those that hashes make groups differ by, too. Beyond
 * MESSAGES_MOST it is run with less bytes, as long as a rank's part has BYTES_LEAST; of what repeats itself rounds of
 * MESSAGES_OF_ROUNDS, and ROUNDS_LEAST, are run. */
enum {
    MESSAGES_SEEING_ALL = 1 << 14,
    MESSAGES_MOST = 1 << 17,
    MESSAGES_OF_ROUNDS = 1 << 15,
    ROUNDS_LEAST = 16,
    BYTES_LEAST = 1 << 17,
    LESS = 4
};

int fab_patterns_new(const fab_model_t *model, const fab_program_t *program, uint64_t seed, fab_patterns_t *self)
{
    *self = (fab_patterns_t){.model = model, .program = program, .seed = seed};
    const int code = fab_paths_new(model, &self->paths);
    for (int32_t w = 0; !code && w < (int32_t)model->net.network_count; w++)
        self->has_hash |= fab_paths_hashed(&self->paths, w) || model->networks[w].route.torus;
    return code;
}

void fab_patterns_free(fab_patterns_t *self)
{
    for (uint32_t p = 0; p < self->pattern_count; p++) {
        free(self->patterns[p].resource);
        free(self->patterns[p].busy_ps);
    }
    for (uint32_t s = 0; s < self->shape_count; s++)
        free(self->shapes[s].carried);
    free(self->patterns);
    free(self->shapes);
    free(self->load);
    free(self->loaded);
    fab_map_free(&self->by_key);
    fab_map_free(&self->by_shape);
    fab_paths_free(&self->paths);
    fab_wiring_free(&self->wiring);
    fab_dry_free(&self->dry);
    *self = (fab_patterns_t){0};
}

/* ---- keys --------------------------------------------------------------------------------------- */

static int32_t lane_of_send(const fab_program_t *program, uint32_t instance, uint32_t host)
{
    const uint32_t connection = program->connection[instance];
    const fab_connections_t *c = &program->connections[fab_hosts_network(connection)];
    return c->tx_lane[c->tx_first[host] + (connection & UINT16_MAX)];
}

static fab_pattern_key_t key_of(const fab_patterns_t *self, uint32_t o, uint32_t activity)
{
    const fab_program_t *program = self->program;
    const fab_op_t *op = &program->ops[o];
    fab_pattern_key_t key = {.kind = op->kind, .bytes = op->bytes};
    if (op->kind == FAB_OP_SEND) {
        key.set = program->rank_host[fab_program_rank(program, op->first_instance + activity)];
        key.root = program->rank_host[program->peers[op->peer_first + activity]];
        if (self->has_hash && key.set != key.root)
            key.lane = lane_of_send(program, op->first_instance + activity, key.set);
        return key;
    }
    const fab_members_t *group = &program->groups[op->first_group + activity];
    key.set = group->set;
    key.root = group->root;
    key.splits = op->split_count ? o + 1 : 0;
    key.lane = self->has_hash ? op->stream : 0;
    key.variant = op->variant;
    return key;
}

static uint64_t hash_of(const fab_pattern_key_t *key)
{
    uint64_t hash = fab_keyed_mix((uint64_t)key->set << 32 | key->root);
    hash = fab_keyed_mix(hash ^ ((uint64_t)(uint32_t)key->lane << 32 | key->splits));
    hash = fab_keyed_mix(hash ^ ((uint64_t)key->variant << 32 | key->kind));
    return fab_keyed_mix(hash ^ (uint64_t)key->bytes);
}

static bool same_key(const fab_pattern_key_t *a, const fab_pattern_key_t *b)
{
    return a->set == b->set && a->root == b->root && a->splits == b->splits && a->lane == b->lane &&
           a->variant == b->variant && a->kind == b->kind && a->bytes == b->bytes;
}

static fab_party_t party_of(const fab_patterns_t *self, const fab_op_t *op, uint32_t activity)
{
    return (fab_party_t){self->program, &self->program->groups[op->first_group + activity], op->stream, self->seed};
}

/* ---- shapes ------------------------------------------------------------------------------------- */

/* All that the dry run of a collective depends on beside its wiring. */
static uint64_t shape_hash(const fab_patterns_t *self, const fab_party_t *party, uint64_t start)
{
    const fab_coll_t c = fab_party_coll(party, 0);
    uint64_t hash = fab_keyed_mix(start ^ self->wiring.signature);
    hash = fab_keyed_mix(hash ^ ((uint64_t)self->program->ops[party->group->op].variant << 40 |
                                 (uint64_t)(uint32_t)c.kind << 32 | c.count));
    hash = fab_keyed_mix(hash ^ ((uint64_t)c.root << 32 | c.local_count));
    hash = fab_keyed_mix(hash ^ (uint64_t)c.bytes);
    for (uint32_t i = 0; c.tree && i < c.count + c.tree->reducer_count; i++)
        hash = fab_keyed_mix(hash ^ c.tree->parent[i]);
    const uint64_t splits = c.splits ? (c.splits_by_sender ? (uint64_t)c.count * c.count : c.count) : 0;
    for (uint64_t i = 0; i < splits; i++)
        hash = fab_keyed_mix(hash ^ (uint64_t)c.splits[i]);
    return hash;
}

static bool keep_carried(fab_shape_t *shape, const fab_dry_t *dry, uint32_t edge_count)
{
    shape->edge_count = edge_count;
    shape->carried = malloc((edge_count + (size_t)1) * sizeof *shape->carried);
    if (shape->carried)
        memcpy(shape->carried, dry->carried, edge_count * sizeof *shape->carried);
    return shape->carried != NULL;
}

/* Of a run that was stopped: what connections carry in the end, which is the same on all that lie in one network. */
static void go_on_carrying(fab_dry_t *dry, const fab_wiring_t *wiring, double messages)
{
    fab_carried_t sum[FAB_NETWORKS_MAX] = {{0}};
    for (uint32_t e = 0; e < wiring->edge_count; e++) {
        fab_carried_t *s = &sum[wiring->edges[e].network];
        s->wire_bytes += dry->carried[e].wire_bytes;
        s->ack_bytes += dry->carried[e].ack_bytes;
        s->packets += dry->carried[e].packets;
        s->messages += dry->carried[e].messages;
    }
    const double each = messages / wiring->edge_count;
    for (uint32_t e = 0; e < wiring->edge_count; e++) {
        const fab_carried_t *s = &sum[wiring->edges[e].network];
        const double factor = each / s->messages;
        dry->carried[e] = (fab_carried_t){s->wire_bytes * factor, s->ack_bytes * factor, s->packets * factor, each};
    }
}

/* Runs the collective with so many bytes: whole, or, if it repeats itself, some rounds. */
static int run_some(fab_patterns_t *self, const fab_party_t *party, fab_dry_options_t options,
                    fab_dry_result_t *result_out)
{
    fab_coll_t coll = fab_party_coll(party, 0);
    coll.bytes = options.bytes;
    const fab_coll_ops_t *algorithm = fab_party_algorithm(party);
    uint64_t a_round = 0;
    const uint64_t rounds = algorithm->rounds ? algorithm->rounds(&coll, &a_round) : 0;
    uint64_t some = a_round ? MESSAGES_OF_ROUNDS / a_round : 0;
    some = some < ROUNDS_LEAST ? ROUNDS_LEAST : some / 2 * 2;
    if (!rounds || rounds <= 2 * some)
        return fab_dry_collective(&self->dry, self->model, &self->wiring, party, options, result_out);
    options.stop_after = some * a_round;
    const int code = fab_dry_collective(&self->dry, self->model, &self->wiring, party, options, result_out);
    if (code || result_out->exceeded)
        return code;
    const double slope = (double)(result_out->end_ps - result_out->half_ps) / (double)(some / 2);
    result_out->end_ps += (int64_t)(slope * (double)(rounds - some)) + self->wiring.edges[0].back_ps;
    result_out->messages = rounds * a_round;
    go_on_carrying(&self->dry, &self->wiring, (double)result_out->messages);
    return FAB_OK;
}

/* Runs the collective, or, where that takes too many messages, with less bytes twice, and goes on by proportion: the steady
 * state repeats. */
static int run_dry(fab_patterns_t *self, const fab_party_t *party, fab_shape_t *shape)
{
    const fab_coll_t coll = fab_party_coll(party, 0);
    fab_dry_options_t options = {.bytes = coll.bytes, .message_limit = coll.splits ? UINT64_MAX : MESSAGES_MOST};
    fab_dry_result_t whole, half;
    int code;
    while (!(code = run_some(self, party, options, &whole)) && whole.exceeded) {
        if (options.bytes / LESS < BYTES_LEAST * (int64_t)coll.count)
            options.message_limit = UINT64_MAX;
        else
            options.bytes /= LESS;
    }
    if (code)
        return code;
    shape->end_ps = whole.end_ps;
    shape->messages = (double)whole.messages;
    if (!keep_carried(shape, &self->dry, self->wiring.edge_count))
        return FAB_E_MEMORY;
    options.message_limit = UINT64_MAX;
    if (options.bytes < coll.bytes) {
        const int64_t bytes = options.bytes;
        const double factor = (double)coll.bytes / (double)bytes;
        options.bytes = bytes / 2;
        if ((code = run_some(self, party, options, &half)))
            return code;
        const double slope = (double)(whole.end_ps - half.end_ps) / (double)(bytes - bytes / 2);
        shape->end_ps += (int64_t)(slope * (double)(coll.bytes - bytes));
        shape->messages *= factor;
        for (uint32_t e = 0; e < shape->edge_count; e++) {
            fab_carried_t *c = &shape->carried[e];
            *c = (fab_carried_t){c->wire_bytes * factor, c->ack_bytes * factor, c->packets * factor,
                                 c->messages * factor};
        }
        options.bytes = bytes;
    }
    options.empty = true;
    if ((code = run_some(self, party, options, &half)))
        return code;
    shape->latency_ps = half.end_ps;
    return FAB_OK;
}

static int run_send(fab_patterns_t *self, int64_t bytes, fab_shape_t *shape)
{
    fab_dry_result_t full, empty;
    int code = fab_dry_send(&self->dry, self->model, &self->wiring, bytes, true, &empty);
    if (!code)
        code = fab_dry_send(&self->dry, self->model, &self->wiring, bytes, false, &full);
    if (code)
        return code;
    shape->end_ps = full.end_ps;
    shape->latency_ps = empty.end_ps;
    shape->messages = 1;
    return keep_carried(shape, &self->dry, 1) ? FAB_OK : FAB_E_MEMORY;
}

/* The shape whose wiring is there, found or made. */
static int find_shape(fab_patterns_t *self, const fab_op_t *op, const fab_party_t *party, uint32_t *shape_out)
{
    const bool send = op->kind == FAB_OP_SEND;
    const uint64_t sent = (uint64_t)op->bytes;
    uint64_t hash = send ? fab_keyed_mix(self->wiring.signature ^ sent) : shape_hash(self, party, 0);
    const uint64_t check = send ? fab_keyed_mix(~self->wiring.signature + sent) : shape_hash(self, party, 1);
    uint32_t found;
    for (; (found = fab_map_get(&self->by_shape, hash)) != FAB_NONE; hash = fab_keyed_mix(hash))
        if (self->shapes[found].check == check) {
            *shape_out = found;
            return FAB_OK;
        }
    if (self->shape_count == self->shape_capacity) {
        const uint32_t capacity = self->shape_capacity ? 2 * self->shape_capacity : 64;
        fab_shape_t *longer = realloc(self->shapes, capacity * sizeof *longer);
        if (!longer)
            return FAB_E_MEMORY;
        self->shapes = longer;
        self->shape_capacity = capacity;
    }
    fab_shape_t *shape = &self->shapes[self->shape_count];
    *shape = (fab_shape_t){.check = check};
    const int code = send ? run_send(self, op->bytes, shape) : run_dry(self, party, shape);
    if (code || !fab_map_add(&self->by_shape, hash, self->shape_count)) {
        free(shape->carried);
        return code ? code : FAB_E_MEMORY;
    }
    self->memory_bytes += (int64_t)(sizeof *shape + shape->edge_count * sizeof *shape->carried);
    *shape_out = self->shape_count++;
    return FAB_OK;
}

/* ---- loads -------------------------------------------------------------------------------------- */

static bool make_scratch(fab_patterns_t *self)
{
    const uint32_t count = self->paths.resource_count;
    if (count <= self->load_capacity)
        return true;
    double *load = realloc(self->load, 2 * (size_t)count * sizeof *load);
    if (load)
        self->load = load;
    uint32_t *loaded = realloc(self->loaded, 2 * (size_t)count * sizeof *loaded);
    if (loaded)
        self->loaded = loaded;
    if (!load || !loaded)
        return false;
    for (uint32_t r = self->load_capacity; r < 2 * count; r++)
        self->load[r] = 0;
    self->load_capacity = 2 * count;
    return true;
}

static void add_load(fab_patterns_t *self, const fab_lead_t *lead, double bytes)
{
    for (uint32_t h = 0; bytes > 0 && h < lead->stop_count; h++) {
        const fab_stop_t *stop = &self->wiring.stops[lead->first_stop + h];
        if (self->load[stop->resource] == 0)
            self->loaded[self->loaded_count++] = stop->resource;
        self->load[stop->resource] += bytes * stop->share;
    }
}

static uint32_t qps_of(const fab_patterns_t *self, const fab_edge_t *edge)
{
    const uint32_t qps = self->model->networks[edge->network].transport_config.qp_count;
    return qps > 1 ? qps : 1;
}

/* Adds up what the connections carry on each resource. Returns the time of the one that is busy longest. */
static int fill_loads(fab_patterns_t *self, const fab_shape_t *shape, fab_pattern_t *pattern, double *busiest_ps_out)
{
    if (!make_scratch(self))
        return FAB_E_MEMORY;
    self->loaded_count = 0;
    for (uint32_t e = 0; e < shape->edge_count; e++) {
        const fab_edge_t *edge = &self->wiring.edges[e];
        const uint32_t qps = qps_of(self, edge);
        for (uint32_t qp = 0; qp < qps; qp++) {
            const fab_lead_t *lead = &self->wiring.leads[edge->first_lead + 2 * qp];
            add_load(self, &lead[0], shape->carried[e].wire_bytes / qps);
            add_load(self, &lead[1], shape->carried[e].ack_bytes / qps);
        }
    }
    const uint32_t n = self->loaded_count;
    pattern->resource = malloc((n + (size_t)1) * sizeof *pattern->resource);
    pattern->busy_ps = malloc((n + (size_t)1) * sizeof *pattern->busy_ps);
    *busiest_ps_out = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t r = self->loaded[i];
        const double busy_ps = self->load[r] * self->paths.ps_per_byte[r];
        *busiest_ps_out = busy_ps > *busiest_ps_out ? busy_ps : *busiest_ps_out;
        if (pattern->resource && pattern->busy_ps) {
            pattern->resource[i] = r;
            pattern->busy_ps[i] = busy_ps;
        }
        self->load[r] = 0;
    }
    pattern->load_count = n;
    self->memory_bytes += (int64_t)(n * (sizeof *pattern->resource + sizeof *pattern->busy_ps));
    return pattern->resource && pattern->busy_ps ? FAB_OK : FAB_E_MEMORY;
}

/* ---- patterns ----------------------------------------------------------------------------------- */

/* Collects the wiring of an activity and finds its shape; *shape_out is FAB_NONE if it stays on its host. */
static int wire(fab_patterns_t *self, uint32_t o, uint32_t activity, uint32_t *shape_out)
{
    const fab_program_t *program = self->program;
    const fab_op_t *op = &program->ops[o];
    fab_party_t party = {0};
    int code;
    if (op->kind != FAB_OP_SEND) {
        party = party_of(self, op, activity);
        self->wiring.ends_only = true;
        code = fab_wiring_collective(&self->wiring, &self->paths, &party);
        if (!code)
            code = find_shape(self, op, &party, shape_out);
        if (code || !self->wiring.hides || self->shapes[*shape_out].messages > MESSAGES_SEEING_ALL)
            return code;
        self->wiring.ends_only = false;
        code = fab_wiring_collective(&self->wiring, &self->paths, &party);
    } else {
        const uint32_t instance = op->first_instance + activity;
        const uint32_t src = program->rank_host[fab_program_rank(program, instance)];
        const uint32_t dst = program->rank_host[program->peers[op->peer_first + activity]];
        *shape_out = FAB_NONE;
        if (src == dst)
            return FAB_OK;
        code = fab_wiring_pair(&self->wiring, &self->paths, src, dst, lane_of_send(program, instance, src), self->seed);
    }
    return code ? code : find_shape(self, op, &party, shape_out);
}

static int make(fab_patterns_t *self, uint32_t o, uint32_t activity, fab_pattern_t *pattern)
{
    uint32_t s;
    int code = wire(self, o, activity, &s);
    if (code || s == FAB_NONE)
        return code;
    const fab_shape_t *shape = &self->shapes[s];
    double busiest_ps;
    if ((code = fill_loads(self, shape, pattern, &busiest_ps)))
        return code;
    /* no faster than the link that carries most; and work is never shorter than that link is busy */
    int64_t least_ps = (int64_t)busiest_ps;
    least_ps += (double)least_ps < busiest_ps;
    const int64_t way_ps =
        self->wiring.edge_count ? self->wiring.leads[0].end_delay_ps + self->wiring.edges[0].back_ps : 0;
    const int64_t end_ps = fab_max_i64(shape->end_ps, self->wiring.edge_count > 1 ? least_ps + way_ps : least_ps);
    pattern->work_ps = fab_max_i64(end_ps - shape->latency_ps, least_ps);
    pattern->latency_ps = fab_max_i64(end_ps - pattern->work_ps, 0);
    pattern->messages = shape->messages;
    pattern->back_ps = self->program->ops[o].kind == FAB_OP_SEND ? self->wiring.edges[0].back_ps : 0;
    return FAB_OK;
}

int fab_patterns_find(fab_patterns_t *self, uint32_t op, uint32_t activity, uint32_t *pattern_out)
{
    const fab_pattern_key_t key = key_of(self, op, activity);
    uint64_t hash = hash_of(&key);
    uint32_t found;
    for (; (found = fab_map_get(&self->by_key, hash)) != FAB_NONE; hash = fab_keyed_mix(hash))
        if (same_key(&self->patterns[found].key, &key)) {
            *pattern_out = found;
            return FAB_OK;
        }
    if (self->pattern_count == self->pattern_capacity) {
        const uint32_t capacity = self->pattern_capacity ? 2 * self->pattern_capacity : 64;
        fab_pattern_t *longer = realloc(self->patterns, capacity * sizeof *longer);
        if (!longer)
            return FAB_E_MEMORY;
        self->patterns = longer;
        self->pattern_capacity = capacity;
    }
    fab_pattern_t *pattern = &self->patterns[self->pattern_count];
    *pattern = (fab_pattern_t){.key = key};
    const int code = make(self, op, activity, pattern);
    if (code || !fab_map_add(&self->by_key, hash, self->pattern_count)) {
        free(pattern->resource);
        free(pattern->busy_ps);
        return code ? code : FAB_E_MEMORY;
    }
    self->memory_bytes += (int64_t)sizeof *pattern;
    *pattern_out = self->pattern_count++;
    return FAB_OK;
}

int fab_patterns_loads(fab_patterns_t *self, uint32_t op, uint32_t activity, fab_load_visit_t *visit, void *context)
{
    uint32_t s;
    const int code = wire(self, op, activity, &s);
    if (code || s == FAB_NONE)
        return code;
    const uint32_t links = self->model->net.link_count;
    for (uint32_t e = 0; e < self->shapes[s].edge_count; e++) {
        const fab_edge_t *edge = &self->wiring.edges[e];
        const fab_carried_t *carried = &self->shapes[s].carried[e];
        const uint32_t qps = qps_of(self, edge);
        for (uint32_t qp = 0; qp < qps; qp++) {
            const fab_lead_t *lead = &self->wiring.leads[edge->first_lead + 2 * qp];
            for (uint32_t h = 0; h < lead->stop_count; h++) {
                const uint32_t r = self->wiring.stops[lead->first_stop + h].resource;
                const double share = self->wiring.stops[lead->first_stop + h].share / qps;
                const fab_stage_t stage = r < links ? (fab_stage_t){0, 1} : self->paths.stages[r - links];
                for (uint32_t i = 0; i < stage.count; i++)
                    visit(context, r < links ? r : self->paths.members[stage.first + i],
                          carried->wire_bytes * share / stage.count, carried->packets * share / stage.count);
            }
        }
    }
    return FAB_OK;
}
