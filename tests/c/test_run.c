/* Whole small runs: times worked out by hand, and one result whatever the windows, slices and threads. */
#include "check.h"
#include "worlds.h"

#include <string.h>

static world_t world;
static rows_t rows;

/* A first packet of 4096 bytes takes 4096 + 82 + 16 on the wire: 335520 ps at 100 Gb/s; others 334240. */
enum { FIRST_PS = 335520, NEXT_PS = 334240, ACK_PS = 6880, HOP_PS = 1000000 };

static void one_flow(void)
{
    world_star(&world, 2);
    fab_model_t *model = world_model(&world, NULL, 0);
    rows_start(&rows);
    rows_flow(&rows, 0, 1, 3 * 4096, 5000);
    fab_program_t *program = world_program(model, &rows, 2);
    fab_problems_t problems;
    fab_problems_clear(&problems);
    fab_run_t *run = NULL;
    const fab_run_options_t options = {.seed = 1, .threads = 1, .record_packets = true};
    CHECK_EQ(fab_run_new(model, program, &options, &problems, &run), FAB_OK);
    bool finished = false;
    CHECK_EQ(fab_run_step(run, 1, &problems, &finished), FAB_OK);
    CHECK(!finished);
    CHECK_EQ(fab_run_step(run, INT64_MAX, &problems, &finished), FAB_OK);
    CHECK(finished);
    int64_t op, bytes, start, end, delivered;
    int32_t src, dst;
    fab_run_sends(run, &op, &src, &dst, &bytes, &start, &end, &delivered);
    CHECK_EQ(start, 5000);
    CHECK_EQ(bytes, 3 * 4096);
    CHECK_EQ(delivered, 5000 + 2 * FIRST_PS + 2 * NEXT_PS + 2 * HOP_PS);
    CHECK_EQ(end, delivered + 2 * (ACK_PS + HOP_PS));
    fab_counters_t counters;
    fab_run_counters(run, &counters);
    CHECK_EQ(counters.packets, 6);
    CHECK_EQ(counters.packet_hops, 12);
    CHECK_EQ(counters.acks, 3);
    CHECK_EQ(counters.messages, 1);
    CHECK_EQ(counters.drops + counters.retransmits + counters.timeouts + counters.duplicates, 0);
    fab_link_stats_t links[4];
    fab_run_links(run, links);
    CHECK_EQ(links[0].packets, 3);
    CHECK_EQ(links[0].bytes, 3 * 4178 + 16);
    CHECK_EQ(links[3].bytes, 3 * 4178 + 16);
    CHECK_EQ(links[1].bytes, 3 * 86);
    fab_arrival_t arrivals[12];
    CHECK_EQ(fab_run_arrivals(run, arrivals, -1), 12);
    CHECK_EQ(fab_run_arrivals(run, arrivals, 12), 12);
    CHECK_EQ(arrivals[0].when_ps, 5000 + FIRST_PS + HOP_PS);
    CHECK_EQ(arrivals[0].link, 0);
    for (int i = 1; i < 12; i++)
        CHECK(arrivals[i].when_ps >= arrivals[i - 1].when_ps);
    fab_run_free(run);
    fab_program_free(program);
    fab_model_free(model);
}

/* Everything that a program can hold, on `ranks` ranks. */
static void busy_rows(int32_t ranks, uint64_t seed)
{
    dice_t dice = {seed};
    rows_start(&rows);
    for (int kind = FAB_OP_ALL_REDUCE; kind <= FAB_OP_BARRIER; kind++) {
        const int32_t row = rows_add(&rows, kind, 0, ranks, 1 + dice_below(&dice, 200000));
        if (kind == FAB_OP_BROADCAST || kind == FAB_OP_REDUCE)
            rows_peer(&rows, (int32_t)dice_below(&dice, (uint32_t)ranks));
        rows.stream[row] = 0;
        rows.stream[rows_add(&rows, FAB_OP_COMPUTE, 0, ranks, 0)] = 0;
        rows.duration_ps[row + 1] = dice_below(&dice, 3000000);
    }
    rows.stream[rows_add(&rows, FAB_OP_ALL_TO_ALL, 0, ranks, 0)] = 1;
    for (int32_t i = 0; i < ranks * ranks && ranks * ranks < TABLE_ITEMS; i++)
        rows_split(&rows, dice_below(&dice, 2) ? dice_below(&dice, 30000) : 0);
    for (int i = 0; i < 12; i++)
        rows_flow(&rows, (int32_t)dice_below(&dice, (uint32_t)ranks), (int32_t)dice_below(&dice, (uint32_t)ranks),
                  dice_below(&dice, 150000), dice_below(&dice, 5000000));
    rows_add(&rows, FAB_OP_BARRIER, 0, ranks, 0);
    rows_after(&rows, 1000);
    rows_after(&rows, 1005);
}

static const choice_t lossy[] = {{"cc", "dcqcn", "rate_ai_mbps", 100},
                                 {"switch", "ethernet", "buffer_bytes", 120000},
                                 {"switch", "ethernet", "ecn_kmin_bytes", 5000},
                                 {"switch", "ethernet", "ecn_kmax_bytes", 50000},
                                 {"transport", "roce", "rto_ps", 200000000}};
static const choice_t paused[] = {
    {"link", "pause", "xoff_bytes", 20000}, {"cc", "dcqcn", NULL, 0}, {"switch", "ethernet", "buffer_bytes", 2000000}};
static const choice_t through[] = {{"switch", "ethernet", "cut_through", 1},
                                   {"link", "pause", "xon_gap_bytes", 0},
                                   {"switch", "ethernet", "buffer_bytes", 2000000},
                                   {"link", "pause", "xoff_bytes", 9000}};
static const choice_t sprayed[] = {
    {"route", "spray", NULL, 0}, {"transport", "roce", "ack_every_count", 4}, {"link", "pause", NULL, 0}};
static const choice_t mixed[] = {{"transport", "roce", "control_priority", 0},
                                 {"transport", "roce", "window_bytes", 30000},
                                 {"transport", "roce", "mtu_bytes", 1024}};

static const choice_t strict[] = {{"switch", "ethernet", "data_class_count", 3},
                                  {"switch", "ethernet", "buffer_bytes", 2000000},
                                  {"link", "pause", "xoff_bytes", 9000},
                                  {"cc", "dcqcn", NULL, 0}};
static const choice_t turns[] = {{"switch", "ethernet", "data_class_count", 4},
                                 {"switch", "ethernet", "class_round_robin", 1},
                                 {"switch", "ethernet", "cut_through", 1},
                                 {"link", "pause", "lossless_classes", 5},
                                 {"route", "spray", NULL, 0},
                                 {"switch", "ethernet", "buffer_bytes", 900000},
                                 {"transport", "roce", "rto_ps", 200000000}};

static const struct {
    const char *name;
    const choice_t *choices;
    int32_t count;
    bool lossless;
    int32_t classes; /* rows take turns among them; 0: the table has no such column */
} fabrics[] = {
    {"lossy", lossy, 5, false, 0},    {"paused", paused, 3, true, 0}, {"through", through, 4, true, 1},
    {"sprayed", sprayed, 3, true, 1}, {"mixed", mixed, 3, false, 1},  {"strict", strict, 4, true, 3},
    {"turns", turns, 7, false, 4},
};

static void same_whatever_the_way(int32_t ranks, uint64_t seed)
{
    busy_rows(ranks, seed);
    for (size_t f = 0; f < sizeof fabrics / sizeof *fabrics; f++) {
        for (int32_t r = 0; fabrics[f].classes && r < rows.table.op_count; r++)
            rows.priority[r] = (int8_t)(r / 2 % fabrics[f].classes);
        rows.table.priority = fabrics[f].classes ? rows.priority : NULL;
        fab_model_t *model = world_model(&world, fabrics[f].choices, fabrics[f].count);
        fab_program_t *program = model ? world_program(model, &rows, ranks) : NULL;
        if (!program)
            return;
        const outcome_t base = world_run(model, program, (fab_run_options_t){.seed = seed, .threads = 1}, 0);
        if (base.code)
            printf("%s: %s", fabrics[f].name, base.problems.text);
        CHECK_EQ(base.code, FAB_OK);
        fab_program_info_t info;
        fab_program_info(program, &info);
        CHECK_EQ(base.counters.done_instances, info.instance_count);
        if (fabrics[f].lossless) {
            CHECK_EQ(base.counters.drops, 0);
            CHECK_EQ(base.counters.retransmits, 0);
            CHECK_EQ(base.counters.pfc_pauses, base.counters.pfc_resumes);
        }
        const fab_run_options_t ways[] = {
            {.seed = seed, .threads = 1, .plain = true},
            {.seed = seed, .threads = 2},
            {.seed = seed, .threads = 1, .plain = true, .record_packets = true},
            {.seed = seed, .threads = 1, .record_packets = true},
        };
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            const outcome_t other = world_run(model, program, ways[w], w == 3 ? 777777 : w == 1 ? 2000000000 : 0);
            CHECK_EQ(other.code, FAB_OK);
            CHECK(other.digest == base.digest);
            CHECK_EQ(other.counters.packet_hops, base.counters.packet_hops);
            CHECK_EQ(other.counters.end_ps, base.counters.end_ps);
        }
        const outcome_t another = world_run(model, program, (fab_run_options_t){.seed = seed + 1, .threads = 1}, 0);
        CHECK_EQ(another.code, FAB_OK);
        CHECK_EQ(another.counters.done_instances, info.instance_count);
        fab_program_free(program);
        fab_model_free(model);
    }
}

/* One result on seven fabrics and six topologies. */
static void same_result(void)
{
    world_star(&world, 5);
    same_whatever_the_way(5, 81);
    world_leaf_spine(&world, 3, 2, 3);
    same_whatever_the_way(9, 82);
    world_fat_tree(&world, 4);
    same_whatever_the_way(16, 83);
    world_ring(&world, 4);
    for (int32_t i = 0; i < world.topology.cable_count; i++) {
        world.delay_ps[i] = 100000 + 33333 * i;
        world.rate_mbps[i] = i % 3 ? 100000 : 40000;
    }
    world.latency_ps[5] = 400000;
    same_whatever_the_way(4, 84);
    world_start(&world, 2, 0);
    world_cable(&world, 0, 1, 10000, 50000);
    same_whatever_the_way(2, 85);
    world_leaf_spine(&world, 2, 2, 4); /* short cables: a frame is longer than its way */
    for (int32_t i = 0; i < world.topology.cable_count; i++) {
        world.delay_ps[i] = 30000 + 1000 * i;
        world.rate_mbps[i] = 25000;
    }
    same_whatever_the_way(8, 86);
}

static void deadlocks_are_told(void)
{
    world_star(&world, 2);
    fab_model_t *model = world_model(&world, NULL, 0);
    rows_start(&rows); /* two operations that wait for each other */
    rows_add(&rows, FAB_OP_COMPUTE, 0, 1, 0);
    rows_after(&rows, 1001);
    rows_add(&rows, FAB_OP_COMPUTE, 0, 1, 0);
    rows_after(&rows, 1000);
    fab_program_t *program = world_program(model, &rows, 2);
    outcome_t outcome = world_run(model, program, (fab_run_options_t){.threads = 1}, 0);
    CHECK_EQ(outcome.code, FAB_E_DEADLOCK);
    CHECK(strstr(outcome.problems.text, "operation 1000 on rank 0 waits for operations before it") != NULL);
    fab_program_free(program);
    rows_start(&rows); /* each receives before it sends */
    for (int32_t r = 0; r < 2; r++) {
        rows.stream[rows_add(&rows, FAB_OP_RECV, r, 1, 8)] = 0;
        rows_peer(&rows, 1 - r);
        rows.stream[rows_add(&rows, FAB_OP_SEND, r, 1, 8)] = 0;
        rows_peer(&rows, 1 - r);
    }
    program = world_program(model, &rows, 2);
    outcome = world_run(model, program, (fab_run_options_t){.threads = 2}, 1000000);
    CHECK_EQ(outcome.code, FAB_E_DEADLOCK);
    CHECK(strstr(outcome.problems.text, "operation 1000 on rank 0 waits for rank 1") != NULL);
    fab_program_free(program);
    fab_model_free(model);
}

/* A time-out shorter than the way there and back: the connection gives up after its retries. */
static void a_connection_gives_up(void)
{
    world_star(&world, 2);
    world.delay_ps[0] = 900000000;
    const choice_t choices[] = {{"transport", "roce", "rto_ps", 1000000},
                                {"transport", "roce", "retry_limit_count", 3}};
    fab_model_t *model = world_model(&world, choices, 2);
    rows_start(&rows);
    rows_flow(&rows, 0, 1, 100000, 0);
    fab_program_t *program = world_program(model, &rows, 2);
    const outcome_t outcome = world_run(model, program, (fab_run_options_t){.threads = 1}, 0);
    CHECK_EQ(outcome.code, FAB_E_TRANSPORT);
    CHECK(strstr(outcome.problems.text, "the connection from rank 0 to rank 1 gave up") != NULL);
    fab_program_free(program);
    fab_model_free(model);
}

static void threads_have_limits(void)
{
    world_star(&world, 2);
    fab_model_t *model = world_model(&world, NULL, 0);
    rows_start(&rows);
    rows_add(&rows, FAB_OP_BARRIER, 0, 2, 0);
    fab_program_t *program = world_program(model, &rows, 2);
    fab_problems_t problems;
    fab_run_t *run = NULL;
    static const int32_t wrong[] = {0, -1, 65, INT32_MAX};
    for (int i = 0; i < 4; i++) {
        fab_problems_clear(&problems);
        CHECK_EQ(fab_run_new(model, program, &(fab_run_options_t){.threads = wrong[i]}, &problems, &run), FAB_E_CONFIG);
        CHECK(strstr(problems.text, "allowed 1 to 64") != NULL);
    }
    fab_problems_clear(&problems);
    CHECK_EQ(fab_run_new(model, program, &(fab_run_options_t){.threads = 64}, &problems, &run), FAB_OK);
    fab_run_free(run);
    CHECK_EQ(world_run(model, program, (fab_run_options_t){.threads = 7}, 0).code, FAB_OK); /* more than nodes */
    fab_program_free(program);
    fab_model_free(model);
}

/* Each parameter at its least and its most: compiles to an answer or a refusal, and runs without overflow. */
static void parameters_at_their_ends(void)
{
    static const struct {
        const char *room, *base;
    } rooms[] = {{"switch", NULL}, {"link", NULL}, {"route", NULL}, {"transport", NULL}, {"cc", NULL}, {"coll", NULL}};
    int32_t ran = 0, refused = 0;
    for (size_t r = 0; r < sizeof rooms / sizeof *rooms; r++)
        for (const fab_impl_t *const *i = fab_implementations; *i; i++) {
            if (strcmp((*i)->room, rooms[r].room) != 0)
                continue;
            for (const fab_param_t *p = (*i)->params; p->name; p++)
                for (int most = 0; most < 2; most++) {
                    world_star(&world, 3);
                    world.rate_mbps[2] = most ? 250 : 10000;
                    const int64_t value = most ? p->most : p->least;
                    const fab_setting_t settings[] = {
                        {(*i)->room, (*i)->impl, 1, &p->name, &value, 0},
                        {"cc", strcmp((*i)->room, "cc") == 0 ? (*i)->impl : "dcqcn", 0, NULL, NULL, 0},
                    };
                    fab_problems_t problems;
                    fab_problems_clear(&problems);
                    fab_model_t *model = NULL;
                    const int code = fab_model_new(&world.topology, settings, 2, &problems, &model);
                    CHECK(code == FAB_OK || (code == FAB_E_CONFIG && problems.count));
                    if (code) {
                        refused++;
                        continue;
                    }
                    rows_start(&rows);
                    for (int32_t n = 0; n < 3; n++)
                        rows_flow(&rows, n, (n + 1) % 3, 40000, 0);
                    rows_flow(&rows, 1, 2, 90000, 0);
                    for (int kind = FAB_OP_ALL_REDUCE; kind <= FAB_OP_BARRIER; kind++) {
                        rows_add(&rows, kind, 0, 3, 9000);
                        if (kind == FAB_OP_BROADCAST || kind == FAB_OP_REDUCE)
                            rows_peer(&rows, 1);
                    }
                    fab_program_t *program = world_program(model, &rows, 3);
                    const outcome_t outcome =
                        world_run(model, program, (fab_run_options_t){.seed = 3, .threads = 1}, 0);
                    const bool answered = outcome.code == FAB_OK || outcome.code == FAB_E_TRANSPORT;
                    CHECK(answered);
                    if (!answered)
                        printf("%s.%s.%s = %" PRId64 ": %s", (*i)->room, (*i)->impl, p->name, value,
                               outcome.problems.text);
                    ran++;
                    fab_program_free(program);
                    fab_model_free(model);
                }
        }
    CHECK(ran > 60 && refused < ran / 4);
}

void test_run(void)
{
    one_flow();
    same_result();
    deadlocks_are_told();
    a_connection_gives_up();
    threads_have_limits();
    parameters_at_their_ends();
}
