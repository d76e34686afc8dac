/* One scene of the core, timed: prints one JSON line. Used by benches/run.py; see benches/README.md.
 *
 *   bench SCENE K RATE_GBPS FABRIC [THREADS] [SEED]
 *   SCENE   perm   a random permutation, 2 MB a host (256 kB from 4096 hosts up)
 *           incast 32 senders to each of hosts/32 receivers, 1 MB each
 *           a2a    all-to-all of 64 hosts (every hosts/64-th), 128 kB a pair
 *           ring   all-reduce of 1 MiB over as many ranks as SEED gives (default: all hosts)
 *           sparse 16 flows of 2 MB between hosts spread over the fabric
 *   FABRIC  lossy | pause | pause+class     (all with ECN and DCQCN, ECMP)
 *           srd                             many paths a flow, its own controller, lossy, ECMP
 *           torus                           K x K x K chips, minimal ways of every packet, credits on four lanes
 *           credit | credit+lanes           input-buffered switches and credits, without congestion control; +lanes: four
 *                                           virtual lanes, flows spread over them */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "fabricsim.h"

static uint64_t state = 88172645463325252u;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static double cpu_s(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- a three-tier fat-tree of k-port switches ---------------------------------------------------- */

static fab_topology_t fat_tree(int k, int64_t rate_mbps)
{
    const int half = k / 2, hosts = k * k * k / 4, edges = k * half, cores = half * half;
    const int cables = 3 * hosts;
    int32_t *a = malloc((size_t)cables * 4), *b = malloc((size_t)cables * 4);
    int64_t *rate = malloc((size_t)cables * 8), *delay = malloc((size_t)cables * 8);
    int64_t *latency = calloc((size_t)(hosts + 2 * edges + cores), 8);
    int n = 0;
    for (int e = 0; e < edges; e++)
        for (int i = 0; i < half; i++, n++)
            a[n] = e * half + i, b[n] = hosts + e;
    for (int e = 0; e < edges; e++)
        for (int i = 0; i < half; i++, n++)
            a[n] = hosts + e, b[n] = hosts + edges + e / half * half + i;
    for (int g = 0; g < edges; g++)
        for (int i = 0; i < half; i++, n++)
            a[n] = hosts + edges + g, b[n] = hosts + 2 * edges + g % half * half + i;
    for (int i = 0; i < cables; i++)
        rate[i] = rate_mbps, delay[i] = 1000000;
    return (fab_topology_t){.host_count = hosts,
                            .switch_count = 2 * edges + cores,
                            .cable_count = cables,
                            .cable_a = a,
                            .cable_b = b,
                            .cable_rate_mbps = rate,
                            .cable_delay_ps = delay,
                            .node_latency_ps = latency};
}

/* A torus of k x k x k chips, each a host and a router; cables in x, then in y, then in z. */
static fab_topology_t torus(int k, int64_t rate_mbps)
{
    const int chips = k * k * k, cables = 4 * chips;
    int32_t *a = malloc((size_t)cables * 4), *b = malloc((size_t)cables * 4);
    int64_t *rate = malloc((size_t)cables * 8), *delay = malloc((size_t)cables * 8);
    int64_t *latency = calloc((size_t)(2 * chips), 8);
    int n = 0;
    for (int i = 0; i < chips; i++, n++)
        a[n] = i, b[n] = chips + i, rate[n] = 6 * rate_mbps, delay[n] = 500000;
    for (int stride = 1; stride < chips; stride *= k)
        for (int i = 0; i < chips; i++, n++) {
            const int at = i / stride % k;
            a[n] = chips + i, b[n] = chips + i + ((at + 1) % k - at) * stride;
            rate[n] = rate_mbps, delay[n] = 1000000;
        }
    return (fab_topology_t){.host_count = chips,
                            .switch_count = chips,
                            .cable_count = cables,
                            .cable_a = a,
                            .cable_b = b,
                            .cable_rate_mbps = rate,
                            .cable_delay_ps = delay,
                            .node_latency_ps = latency};
}

/* ---- programs as canonical columns --------------------------------------------------------------- */

typedef struct {
    int64_t n, capacity;
    int64_t *id, *bytes, *tag, *zero;
    int8_t *kind;
    int32_t *rank_offset, *ranks, *peer_offset, *peers, *stream, *no_offset;
} rows_t;

static rows_t rows_new(int64_t capacity)
{
    const size_t n = (size_t)capacity + 1;
    rows_t r = {0,           capacity,     malloc(n * 8), malloc(n * 8), malloc(n * 8), calloc(n, 8),
                malloc(n),   calloc(n, 4), malloc(n * 4), calloc(n, 4),  malloc(n * 4), malloc(n * 4),
                calloc(n, 4)};
    return r;
}

static void row(rows_t *r, int8_t kind, int32_t rank, int32_t peer, int64_t bytes, int64_t tag)
{
    r->id[r->n] = r->n;
    r->kind[r->n] = kind;
    r->bytes[r->n] = bytes;
    r->tag[r->n] = tag;
    r->stream[r->n] = -1;
    r->ranks[r->n] = rank;
    r->peers[r->n] = peer;
    r->n++;
    r->rank_offset[r->n] = r->peer_offset[r->n] = (int32_t)r->n;
}

static void flow(rows_t *r, int32_t src, int32_t dst, int64_t bytes)
{
    row(r, FAB_OP_SEND, src, dst, bytes, r->n / 2);
    row(r, FAB_OP_RECV, dst, src, bytes, r->tag[r->n - 1]);
}

static fab_table_t table_of(const rows_t *r)
{
    return (fab_table_t){.op_count = r->n,
                         .id = r->id,
                         .kind = r->kind,
                         .rank_offset = r->rank_offset,
                         .ranks = r->ranks,
                         .peer_offset = r->peer_offset,
                         .peers = r->peers,
                         .bytes = r->bytes,
                         .split_offset = r->no_offset,
                         .splits = r->zero,
                         .duration_ps = r->zero,
                         .delay_ps = r->zero,
                         .stream = r->stream,
                         .after_offset = r->no_offset,
                         .after = r->zero,
                         .tag = r->tag,
                         .priority = (const int8_t *)r->zero};
}

static fab_table_t ring(int ranks, int64_t bytes)
{
    rows_t r = rows_new(ranks);
    row(&r, FAB_OP_ALL_REDUCE, 0, 0, bytes, 0);
    for (int i = 0; i < ranks; i++)
        r.ranks[i] = i;
    r.rank_offset[1] = ranks;
    r.peer_offset[1] = 0;
    return table_of(&r);
}

static fab_table_t flows(const char *scene, int hosts)
{
    rows_t r = rows_new(8 * (int64_t)hosts + 16384);
    if (!strcmp(scene, "perm")) {
        int32_t *order = malloc((size_t)hosts * 4);
        for (int i = 0; i < hosts; i++)
            order[i] = i;
        for (int i = hosts - 1; i > 0; i--) {
            const int j = (int)(draw() % (uint64_t)(i + 1));
            const int32_t other = order[i];
            order[i] = order[j];
            order[j] = other;
        }
        for (int i = 0; i < hosts; i++)
            flow(&r, order[i], order[(i + 1) % hosts], hosts >= 4096 ? 256000 : 2000000);
        free(order);
    } else if (!strcmp(scene, "incast")) {
        for (int g = 0; g < hosts / 32; g++)
            for (int i = 1; i <= 32; i++)
                flow(&r, (g + i * (hosts / 32) + (i == 32 ? 1 : 0)) % hosts, g, 1000000);
    } else if (!strcmp(scene, "a2a")) {
        for (int s = 1; s < 64; s++)
            for (int i = 0; i < 64; i++)
                flow(&r, i * (hosts / 64), (i + s) % 64 * (hosts / 64), 128000);
    } else {
        for (int i = 0; i < 16; i++)
            flow(&r, i * (hosts / 32), hosts / 2 + i * (hosts / 32), 2000000);
    }
    return table_of(&r);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(
            stderr,
            "usage: bench SCENE K RATE_GBPS lossy|pause|pause+class|srd|credit|credit+lanes|torus [THREADS] [RANKS]\n");
        return 2;
    }
    const char *scene = argv[1], *fabric = argv[4];
    const int k = atoi(argv[2]);
    const int64_t rate_mbps = atoll(argv[3]) * 1000;
    const bool pause = !strncmp(fabric, "pause", 5), own_class = strstr(fabric, "+class") != NULL;
    const bool srd = !strcmp(fabric, "srd"), ici = !strcmp(fabric, "torus"),
               credit = ici || !strncmp(fabric, "credit", 6), lanes = strstr(fabric, "+lanes") != NULL;
    fab_problems_t problems;
    fab_problems_clear(&problems);
    const fab_topology_t topology = ici ? torus(k, rate_mbps) : fat_tree(k, rate_mbps);
    const char *const switch_names[] = {"ecn_kmin_bytes", "ecn_kmax_bytes"};
    const int64_t switch_values[] = {4 * rate_mbps, 16 * rate_mbps}; /* 400 KB and 1600 KB at 100 Gb/s */
    const char *const transport_names[] = {"control_priority"};
    const int64_t transport_values[] = {own_class};
    const char *const lane_names[] = {"vl_count"};
    const int64_t lane_values[] = {lanes || ici ? 4 : 1};
    const char *const size_names[] = {"x_count", "y_count", "z_count"};
    const int64_t size_values[] = {k, k, k};
    const fab_setting_t settings[] = {
        credit ? (fab_setting_t){.room = "switch", "voq", 1, lane_names, lane_values}
               : (fab_setting_t){.room = "switch", "ethernet", 2, switch_names, switch_values},
        {.room = "link",
         credit  ? "credit"
         : pause ? "pause"
                 : "lossy"},
        {.room = "transport",
         srd   ? "srd"
         : ici ? "ici"
               : "roce",
         1,
         transport_names,
         transport_values},
        {.room = "route", ici ? "torus" : "ecmp", ici ? 3 : 0, size_names, size_values},
        {.room = "cc",
         credit ? "none"
         : srd  ? "srd_cc"
                : "dcqcn"},
    };
    fab_model_t *model = NULL;
    fab_program_t *program = NULL;
    fab_run_t *run = NULL;
    const double m0 = cpu_s(CLOCK_PROCESS_CPUTIME_ID);
    int code = fab_model_new(&topology, settings, 5, &problems, &model);
    const int ranks = !strcmp(scene, "ring") && argc > 6 ? atoi(argv[6]) : topology.host_count;
    int32_t *place = malloc((size_t)ranks * 4);
    for (int i = 0; i < ranks; i++)
        place[i] = i;
    const double m1 = cpu_s(CLOCK_PROCESS_CPUTIME_ID);
    if (!code) {
        fab_table_t table = !strcmp(scene, "ring") ? ring(ranks, 1 << 20) : flows(scene, topology.host_count);
        int8_t *priority = calloc((size_t)table.op_count + 1, 1);
        for (int64_t i = 0; lanes && i < table.op_count; i++)
            priority[i] = (int8_t)(i / 2 % 4);
        table.priority = priority;
        code = fab_program_new(model, &table, place, ranks, NULL, &problems, &program);
    }
    const fab_run_options_t options = {.seed = 1, .threads = argc > 5 ? atoi(argv[5]) : 1};
    if (!code)
        code = fab_run_new(model, program, &options, &problems, &run);
    const double c0 = cpu_s(CLOCK_PROCESS_CPUTIME_ID), w0 = cpu_s(CLOCK_MONOTONIC);
    bool finished = false;
    while (!code && !finished)
        code = fab_run_step(run, INT64_MAX, &problems, &finished);
    const double cpu = cpu_s(CLOCK_PROCESS_CPUTIME_ID) - c0, wall = cpu_s(CLOCK_MONOTONIC) - w0;
    if (code) {
        fprintf(stderr, "%s", problems.text);
        return 1;
    }
    fab_counters_t c;
    fab_run_counters(run, &c);
    fab_model_info_t info;
    fab_model_info(model, &info);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"scene\": \"%s\", \"hosts\": %d, \"gbps\": %lld, \"fabric\": \"%s\", \"threads\": %d, \"ranks\": %d, "
           "\"hops\": %lld, \"messages\": %lld, \"cpu_s\": %.6f, \"wall_s\": %.6f, \"mhops_per_cpu_s\": %.3f, "
           "\"mhops_per_wall_s\": %.3f, \"mmessages_per_cpu_s\": %.3f, \"end_us\": %.3f, \"drops\": %lld, \"marks\": "
           "%lld, "
           "\"pauses\": %lld, \"windows\": %lld, \"visits\": %lld, \"bytes_per_host\": %.0f, \"rss_per_host\": %.0f, "
           "\"model_s\": %.4f, \"setup_s\": %.4f, \"digest\": \"%016llx\"}\n",
           scene, topology.host_count, (long long)rate_mbps / 1000, fabric, options.threads, ranks,
           (long long)c.packet_hops, (long long)c.messages, cpu, wall, (double)c.packet_hops / cpu * 1e-6,
           (double)c.packet_hops / wall * 1e-6, (double)c.messages / cpu * 1e-6, (double)c.end_ps * 1e-6,
           (long long)c.drops, (long long)c.ecn_marks, (long long)c.pfc_pauses, (long long)c.windows,
           (long long)c.visits, (double)(c.memory_bytes + info.memory_bytes) / topology.host_count,
           (double)usage.ru_maxrss * 1024 / topology.host_count, m1 - m0, c0 - m1,
           (unsigned long long)fab_run_digest(run));
    fab_run_free(run);
    fab_program_free(program);
    fab_model_free(model);
    return 0;
}
