/* Builders of small worlds. */
#include "worlds.h"

#include "check.h"

void world_start(world_t *self, int32_t hosts, int32_t switches)
{
    self->topology = (fab_topology_t){
        .host_count = hosts,
        .switch_count = switches,
        .cable_a = self->a,
        .cable_b = self->b,
        .cable_rate_mbps = self->rate_mbps,
        .cable_delay_ps = self->delay_ps,
        .node_latency_ps = self->latency_ps,
    };
    for (int32_t n = 0; n < WORLD_NODES; n++)
        self->latency_ps[n] = 0;
}

void world_cable(world_t *self, int32_t a, int32_t b, int64_t rate_mbps, int64_t delay_ps)
{
    const int32_t i = self->topology.cable_count++;
    self->a[i] = a;
    self->b[i] = b;
    self->rate_mbps[i] = rate_mbps;
    self->delay_ps[i] = delay_ps;
}

static void usual(world_t *self, int32_t a, int32_t b) { world_cable(self, a, b, 100000, 1000000); }

void world_star(world_t *self, int32_t hosts)
{
    world_start(self, hosts, 1);
    for (int32_t h = 0; h < hosts; h++)
        usual(self, h, hosts);
}

void world_leaf_spine(world_t *self, int32_t leaves, int32_t spines, int32_t hosts_a_leaf)
{
    const int32_t hosts = leaves * hosts_a_leaf;
    world_start(self, hosts, leaves + spines);
    for (int32_t h = 0; h < hosts; h++)
        usual(self, h, hosts + h / hosts_a_leaf);
    for (int32_t leaf = 0; leaf < leaves; leaf++)
        for (int32_t spine = 0; spine < spines; spine++)
            usual(self, hosts + leaf, hosts + leaves + spine);
}

void world_fat_tree(world_t *self, int32_t k)
{
    const int32_t half = k / 2, hosts = k * half * half, edges = k * half, edge0 = hosts, agg0 = edge0 + edges,
                  core0 = agg0 + edges;
    world_start(self, hosts, 2 * edges + half * half);
    for (int32_t h = 0; h < hosts; h++)
        usual(self, h, edge0 + h / half);
    for (int32_t pod = 0; pod < k; pod++)
        for (int32_t e = 0; e < half; e++)
            for (int32_t a = 0; a < half; a++)
                usual(self, edge0 + pod * half + e, agg0 + pod * half + a);
    for (int32_t pod = 0; pod < k; pod++)
        for (int32_t a = 0; a < half; a++)
            for (int32_t c = 0; c < half; c++)
                usual(self, agg0 + pod * half + a, core0 + a * half + c);
}

void world_ring(world_t *self, int32_t switches)
{
    world_start(self, switches, switches);
    for (int32_t i = 0; i < switches; i++)
        usual(self, i, switches + i);
    for (int32_t i = 0; i < switches; i++)
        usual(self, switches + i, switches + (i + 1) % switches);
}

/* The router a step on in + or - of dimension d; -1: none. */
static int32_t torus_next(const int32_t size[3], int32_t wrap_least, bool twisted, int32_t router, int d, int sign)
{
    int32_t c[3] = {router % size[0], router / size[0] % size[1], router / size[0] / size[1]};
    c[d] += sign;
    if (c[d] < 0 || c[d] >= size[d]) {
        if (size[d] < wrap_least)
            return -1;
        c[d] = c[d] < 0 ? size[d] - 1 : 0;
        for (int e = 0; e < 3; e++)
            if (twisted && size[e] == 2 * size[d])
                c[e] = (c[e] + size[d]) % size[e];
    }
    return c[0] + size[0] * (c[1] + size[1] * c[2]);
}

void world_torus(world_t *self, const int32_t size[3], int32_t wrap_least, bool twisted)
{
    const int32_t routers = size[0] * size[1] * size[2];
    world_start(self, routers, routers);
    for (int32_t r = 0; r < routers; r++)
        usual(self, r, routers + r);
    for (int d = 0; d < 3; d++) {
        for (int32_t r = 0; r < routers; r++) {
            const int32_t next = torus_next(size, wrap_least, twisted, r, d, 1);
            if (next >= 0)
                usual(self, routers + r, routers + next);
        }
    }
}

void rows_start(rows_t *self)
{
    self->table = (fab_table_t){
        .id = self->id,
        .kind = self->kind,
        .rank_offset = self->rank_offset,
        .ranks = self->ranks,
        .peer_offset = self->peer_offset,
        .peers = self->peers,
        .bytes = self->bytes,
        .split_offset = self->split_offset,
        .splits = self->splits,
        .duration_ps = self->duration_ps,
        .delay_ps = self->delay_ps,
        .stream = self->stream,
        .after_offset = self->after_offset,
        .after = self->after,
        .tag = self->tag,
        .priority = self->priority,
    };
    self->rank_offset[0] = self->peer_offset[0] = self->split_offset[0] = self->after_offset[0] = 0;
}

int32_t rows_add(rows_t *self, int kind, int32_t first, int32_t count, int64_t bytes)
{
    const int32_t row = (int32_t)self->table.op_count++;
    self->id[row] = 1000 + row;
    self->kind[row] = (int8_t)kind;
    self->bytes[row] = bytes;
    self->duration_ps[row] = self->delay_ps[row] = self->tag[row] = 0;
    self->stream[row] = -1;
    self->priority[row] = 0;
    self->rank_offset[row + 1] = self->rank_offset[row];
    self->peer_offset[row + 1] = self->peer_offset[row];
    self->split_offset[row + 1] = self->split_offset[row];
    self->after_offset[row + 1] = self->after_offset[row];
    for (int32_t i = 0; i < count; i++)
        rows_rank(self, first + i);
    return row;
}

void rows_rank(rows_t *self, int32_t rank) { self->ranks[self->rank_offset[self->table.op_count]++] = rank; }
void rows_peer(rows_t *self, int32_t rank) { self->peers[self->peer_offset[self->table.op_count]++] = rank; }
void rows_after(rows_t *self, int64_t id) { self->after[self->after_offset[self->table.op_count]++] = id; }
void rows_split(rows_t *self, int64_t bytes) { self->splits[self->split_offset[self->table.op_count]++] = bytes; }

void rows_flow(rows_t *self, int32_t src, int32_t dst, int64_t bytes, int64_t delay_ps)
{
    const int32_t send = rows_add(self, FAB_OP_SEND, src, 1, bytes);
    rows_peer(self, dst);
    const int32_t recv = rows_add(self, FAB_OP_RECV, dst, 1, bytes);
    rows_peer(self, src);
    self->delay_ps[send] = delay_ps;
    self->tag[send] = self->tag[recv] = send;
}

fab_model_t *world_model(const world_t *self, const choice_t *choices, int32_t count)
{
    fab_setting_t settings[16];
    for (int32_t i = 0; i < count; i++)
        settings[i] = (fab_setting_t){choices[i].room,  choices[i].impl,   choices[i].name ? 1 : 0,
                                      &choices[i].name, &choices[i].value, 0};
    static fab_problems_t problems;
    fab_problems_clear(&problems);
    fab_model_t *model = NULL;
    const int code = fab_model_new(&self->topology, settings, count, &problems, &model);
    if (code)
        printf("%s", problems.text);
    CHECK_EQ(code, FAB_OK);
    return model;
}

fab_program_t *world_program(const fab_model_t *model, const rows_t *rows, int32_t ranks)
{
    int32_t rank_host[WORLD_NODES];
    for (int32_t r = 0; r < ranks; r++)
        rank_host[r] = r;
    static fab_problems_t problems;
    fab_problems_clear(&problems);
    fab_program_t *program = NULL;
    const int code = fab_program_new(model, &rows->table, rank_host, ranks, NULL, &problems, &program);
    if (code)
        printf("%s", problems.text);
    CHECK_EQ(code, FAB_OK);
    return program;
}

outcome_t world_run(const fab_model_t *model, const fab_program_t *program, fab_run_options_t options, int64_t slice_ps)
{
    outcome_t outcome = {0};
    fab_run_t *run = NULL;
    fab_problems_clear(&outcome.problems);
    if (options.threads == 0)
        options.threads = 1;
    outcome.code = fab_run_new(model, program, &options, &outcome.problems, &run);
    bool finished = false;
    for (int64_t until_ps = slice_ps ? slice_ps : INT64_MAX; !outcome.code && !finished; until_ps += slice_ps)
        outcome.code = fab_run_step(run, until_ps, &outcome.problems, &finished);
    if (run) {
        fab_run_counters(run, &outcome.counters);
        outcome.digest = fab_run_digest(run);
    }
    fab_run_free(run);
    return outcome;
}
