/* Input-buffered switches with credits: rings of returns, arbitration of lanes, latencies by hand, and that nothing is lost
 * whatever the buffers. */
#include "check.h"
#include "core/lanes.h"
#include "link/credit.h"
#include "sim/run.h"
#include "switch/voq.h"
#include "worlds.h"

#include <string.h>

static world_t world;
static rows_t rows;

/* ---- credits ------------------------------------------------------------------------------------- */

/* Returns in any order of times come back in order, whether the ring grows or is read by its writer. */
static void returns_are_in_order(void)
{
    static fab_worker_t worker;
    memset(&worker, 0, sizeof worker);
    const fab_net_t net = {.lookahead_ps = 1000};
    dice_t dice = {17};
    fab_credit_t credit = {
        .ring = fab_pool_take(&worker.pool, fab_pool_class(2 * sizeof *credit.ring)),
        .mask = 1,
        .back_ps = 1000,
        .last_ps = -FAB_NEVER,
        .block_mask = 63,
    };
    int64_t now_ps = 0, given = 0;
    uint32_t most = 0;
    for (int i = 0; i < 20000; i++) {
        now_ps += dice_below(&dice, 300);
        const uint32_t blocks = 1 + dice_below(&dice, 66), lane = dice_below(&dice, FAB_LANES_MAX);
        fab_credit_return(&credit, &worker, &net, lane, blocks, now_ps + dice_below(&dice, 5000), now_ps);
        given += blocks;
        for (uint32_t at = credit.head + 1; (int32_t)(at - credit.tail) < 0; at++)
            CHECK(credit.ring[at & credit.mask].when_ps >= credit.ring[(at - 1) & credit.mask].when_ps);
        if (dice_below(&dice, 4) == 0)
            fab_credit_collect(&credit, now_ps);
        most = credit.mask > most ? credit.mask : most;
        int64_t seen = 0;
        for (uint32_t c = 0; c < FAB_LANES_MAX; c++)
            seen += credit.bytes[c];
        for (uint32_t at = credit.head; at != credit.tail; at++)
            seen += credit.ring[at & credit.mask].bytes;
        CHECK_EQ(seen, given);
    }
    CHECK(most < 1024); /* its writer takes out what is due */
    fab_credit_collect(&credit, now_ps + 8000);
    const uint32_t want = credit.bytes[2] + 50;
    fab_credit_return(&credit, &worker, &net, 2, 200, now_ps + 9000, now_ps);
    const int64_t when_ps = fab_credit_available_ps(&credit, 2, want);
    CHECK(when_ps == now_ps + 10000);
    CHECK(!fab_credit_available(&credit, 2, want, when_ps - 1));
    CHECK(fab_credit_available(&credit, 2, want, when_ps));
    CHECK_EQ(fab_credit_available_ps(&credit, 3, UINT32_MAX), FAB_NEVER);
    fab_pool_free(&worker.pool);
}

/* ---- arbitration of lanes ------------------------------------------------------------------------ */

/* Lanes that always have packets share the link by their weights, those of the high list among themselves. */
static void lanes_share_by_weight(void)
{
    const fab_lanes_t lanes = {.count = 4, .high = 0, .weight = {50, 100, 150, 200}, .high_limit_bytes = FAB_NEVER};
    fab_lane_turns_t turns = {0};
    const uint16_t bytes[FAB_LANES_MAX] = {640, 640, 640, 640};
    int64_t sent[FAB_LANES_MAX] = {0};
    for (int i = 0; i < 5000; i++)
        sent[fab_lanes_pick(&lanes, &turns, 15, bytes)]++;
    for (int c = 0; c < 4; c++)
        CHECK_EQ(sent[c], 500 * (c + 1));
    memset(sent, 0, sizeof sent);
    for (int i = 0; i < 3000; i++) /* who has nothing to send leaves its share to the others */
        sent[fab_lanes_pick(&lanes, &turns, 5, bytes)]++;
    CHECK(sent[0] >= 745 && sent[0] <= 755 && sent[0] + sent[2] == 3000);
}

static void high_priority_has_a_limit(void)
{
    fab_lanes_t lanes = {.count = 4, .high = 12, .weight = {64, 64, 64, 64}, .high_limit_bytes = FAB_NEVER};
    fab_lane_turns_t turns = {0};
    const uint16_t bytes[FAB_LANES_MAX] = {1024, 1024, 1024, 1024};
    for (int i = 0; i < 100; i++)
        CHECK(fab_lanes_pick(&lanes, &turns, 15, bytes) >= 2);
    lanes.high_limit_bytes = 4096;
    turns = (fab_lane_turns_t){0};
    int64_t low = 0;
    for (int i = 0; i < 1000; i++)
        low += fab_lanes_pick(&lanes, &turns, 15, bytes) < 2;
    CHECK_EQ(low, 200);         /* four of high priority, then one of low */
    lanes.high_limit_bytes = 1; /* a packet */
    turns = (fab_lane_turns_t){0};
    for (int i = 0; i < 100; i++)
        CHECK_EQ(fab_lanes_pick(&lanes, &turns, 9, bytes), i % 2 ? 0 : 3);
    for (int i = 0; i < 10; i++) /* nobody of low priority: the chance passes */
        CHECK_EQ(fab_lanes_pick(&lanes, &turns, 8, bytes), 3);
}

/* ---- whole runs ---------------------------------------------------------------------------------- */

static fab_run_t *run_of(const fab_model_t *model, const fab_program_t *program)
{
    fab_problems_t problems;
    fab_problems_clear(&problems);
    fab_run_t *run = NULL;
    const fab_run_options_t options = {.seed = 1, .threads = 1};
    CHECK_EQ(fab_run_new(model, program, &options, &problems, &run), FAB_OK);
    bool finished = false;
    CHECK_EQ(fab_run_step(run, INT64_MAX, &problems, &finished), FAB_OK);
    if (problems.count)
        printf("%s", problems.text);
    CHECK(finished);
    return run;
}

/* All credits are back, or on their way back, and no packet lies in a buffer. */
static void nothing_is_left(const fab_run_t *run)
{
    const fab_net_t *net = run->fabric.net;
    for (uint32_t l = 0; l < net->link_count; l++) {
        const fab_credit_t *credit = &run->fabric.credits[l];
        for (uint32_t lane = 0; lane < FAB_LANES_MAX; lane++) {
            uint32_t blocks = credit->bytes[lane];
            for (uint32_t i = credit->head; i != credit->tail; i++)
                if (credit->ring[i & credit->mask].lane == lane)
                    blocks += credit->ring[i & credit->mask].bytes;
            CHECK_EQ(blocks, credit->buffer_bytes);
        }
        CHECK(!credit->wanted);
        CHECK_EQ(run->fabric.ports[l].drops, 0);
    }
    for (uint32_t s = 0; s < net->switch_count; s++) {
        const fab_voq_switch_t *self = run->switches[0].voq_switches[s];
        uint32_t free_count = 0;
        for (uint32_t i = self->free; i != FAB_VOQ_NONE; i = self->pool[i].delta_ps >> FAB_VOQ_LANE_BITS)
            free_count++;
        CHECK_EQ(free_count, self->pool_capacity);
        for (uint32_t p = 0; p < self->port_count; p++) {
            CHECK_EQ(self->outputs[p].lanes, 0);
            CHECK_EQ(self->wake_ps[p], FAB_NEVER);
            for (uint32_t lane = 0; lane < self->lane_count; lane++) {
                CHECK_EQ(self->outputs[p].queued_bytes[lane], 0);
                CHECK_EQ(self->in_bytes[p * self->lane_count + lane], 0);
            }
        }
    }
}

static const choice_t plain[] = {{"switch", "voq", NULL, 0}, {"link", "credit", NULL, 0}};

/* A message of one packet crosses `switches` switches in a row: links of these rates, each of 1 us. */
static int64_t latency_ps(const int64_t *rates_mbps, int32_t switches, int64_t bytes)
{
    world_start(&world, 2, switches);
    world_cable(&world, 0, 2, rates_mbps[0], 1000000);
    for (int32_t i = 1; i < switches; i++)
        world_cable(&world, 1 + i, 2 + i, rates_mbps[i], 1000000);
    world_cable(&world, 1 + switches, 1, rates_mbps[switches], 1000000);
    fab_model_t *model = world_model(&world, plain, 2);
    rows_start(&rows);
    rows_flow(&rows, 0, 1, bytes, 0);
    fab_program_t *program = world_program(model, &rows, 2);
    fab_run_t *run = run_of(model, program);
    int64_t op, sent, start, end, delivered;
    int32_t src, dst;
    fab_run_sends(run, &op, &src, &dst, &sent, &start, &end, &delivered);
    nothing_is_left(run);
    fab_run_free(run);
    fab_program_free(program);
    fab_model_free(model);
    return delivered - start;
}

/* The first bit goes on as soon as it may: delays, and the wire of the slowest link once. */
static void cut_through_is_exact(void)
{
    const int64_t even[] = {100000, 100000, 100000, 100000}, up[] = {100000, 200000, 400000, 400000},
                  down[] = {400000, 200000, 100000, 100000}, dip[] = {400000, 100000, 400000, 200000};
    const int64_t slow_ps = 335520; /* 4096 + 98 bytes at 100 Gb/s */
    for (int32_t n = 1; n <= 3; n++)
        CHECK_EQ(latency_ps(even, n, 4096), (n + 1) * 1000000 + slow_ps);
    CHECK_EQ(latency_ps(up, 3, 4096), 4000000 + slow_ps);
    CHECK_EQ(latency_ps(down, 3, 4096), 4000000 + slow_ps);
    CHECK_EQ(latency_ps(dip, 3, 4096), 4000000 + slow_ps - slow_ps / 4 + slow_ps / 2); /* held, then slower again */
    CHECK_EQ(latency_ps(even, 2, 100), 3000000 + 198 * 80);
}

/* With a buffer of B and a loop of T a link carries min(C, B / T): packets of 65 blocks, buffers of n of them. */
static void loops_limit_throughput(void)
{
    static const choice_t sizes[] = {{"switch", "voq", NULL, 0},
                                     {"transport", "roce", "first_header_bytes", 0},
                                     {"transport", "roce", "header_bytes", 64},
                                     {"transport", "roce", "ack_every_count", 1024},
                                     {"link", "credit", "vl_buffer_bytes", 0},
                                     {"link", "credit", "credit_delay_ps", 100000}};
    const int64_t packets = 2000, wire_ps = 4160 * 80;
    for (int64_t n = 1; n <= 10; n++) {
        choice_t choices[6];
        memcpy(choices, sizes, sizeof sizes);
        choices[4].value = n * 4160 + 63; /* part of a block is no credit */
        world_star(&world, 2);
        fab_model_t *model = world_model(&world, choices, 6);
        rows_start(&rows);
        rows_flow(&rows, 0, 1, packets * 4096, 0);
        fab_program_t *program = world_program(model, &rows, 2);
        fab_run_t *run = run_of(model, program);
        int64_t op, sent, start, end, delivered;
        int32_t src, dst;
        fab_run_sends(run, &op, &src, &dst, &sent, &start, &end, &delivered);
        const int64_t loop_ps = 2 * 1000000 + 100000 + wire_ps; /* there, back, credit delay, leaving the buffer */
        const double wanted = n * wire_ps < loop_ps ? (double)n / (double)loop_ps : 1.0 / (double)wire_ps;
        const double found = (double)(packets - n) / (double)(delivered - 2 * 1000000 - n * wire_ps);
        CHECK(found / wanted > 0.995 && found / wanted < 1.005);
        nothing_is_left(run);
        fab_run_free(run);
        fab_program_free(program);
        fab_model_free(model);
    }
}

static const choice_t tight[] = {{"switch", "voq", "fecn_threshold", 15},
                                 {"switch", "voq", "fecn_marking_rate", 1},
                                 {"link", "credit", "vl_buffer_bytes", 4224},
                                 {"link", "credit", "credit_delay_ps", 70001},
                                 {"cc", "dcqcn", NULL, 0}};
static const choice_t lined[] = {{"switch", "voq", "input_queue", 1},
                                 {"switch", "voq", "vl_count", 2},
                                 {"switch", "voq", "fecn_threshold", 8},
                                 {"link", "credit", "vl_buffer_bytes", 9000}};
static const choice_t lanes[] = {{"switch", "voq", "vl_count", 4},
                                 {"switch", "voq", "vl2_weight", 200},
                                 {"switch", "voq", "vl_high_mask", 8},
                                 {"switch", "voq", "vl_high_limit", 2},
                                 {"link", "credit", NULL, 0},
                                 {"route", "spray", NULL, 0},
                                 {"transport", "roce", "ack_every_count", 3}};

static const choice_t adaptive[] = {{"switch", "voq", "vl_count", 2},
                                    {"switch", "voq", "fecn_threshold", 12},
                                    {"link", "credit", "vl_buffer_bytes", 12000},
                                    {"route", "adaptive", NULL, 0},
                                    {"cc", "dcqcn", NULL, 0}};

static const choice_t turning[] = {{"switch", "voq", "vl_count", 4},
                                   {"link", "credit", "vl_buffer_bytes", 9000},
                                   {"route", "torus", "x_count", 3},
                                   {"route", "torus", "y_count", 4},
                                   {"route", "torus", "z_count", 2}};

static const struct {
    const choice_t *choices;
    int32_t count, lane_count;
} fabrics[] = {{plain, 2, 1}, {tight, 5, 1}, {lined, 4, 2}, {lanes, 7, 4}, {adaptive, 5, 2}, {turning, 5, 4}};

/* Random traffic on every kind of fabric: nothing is lost, and threads, windows and slices do not tell. */
static void nothing_is_lost(void)
{
    dice_t dice = {4};
    for (size_t f = 0; f < sizeof fabrics / sizeof *fabrics; f++)
        for (int shape = 0; shape < 4; shape++) {
            if (fabrics[f].choices == turning) /* routes that change lanes */
                world_torus(&world, (const int32_t[]){3, 4, 2}, 3, false);
            else if (shape == 0)
                world_fat_tree(&world, 4);
            else if (shape == 1)
                world_leaf_spine(&world, 3, 2, 4);
            else if (shape == 2)
                world_star(&world, 70); /* more ports than a word has bits */
            else
                world_star(&world, 9);
            if (shape == 3 || shape == 1)
                for (int32_t c = 0; c < world.topology.cable_count; c++)
                    world.rate_mbps[c] = 100000 << dice_below(&dice, 3);
            fab_model_t *model = world_model(&world, fabrics[f].choices, fabrics[f].count);
            const int32_t hosts = world.topology.host_count;
            rows_start(&rows);
            rows_add(&rows, FAB_OP_ALL_TO_ALL, 0, hosts > 16 ? 16 : hosts, 160000);
            rows_add(&rows, FAB_OP_ALL_REDUCE, 0, hosts, 100000);
            for (int i = 0; i < 60; i++)
                rows_flow(&rows, (int32_t)dice_below(&dice, (uint32_t)hosts),
                          (int32_t)dice_below(&dice, i < 30 ? 2 : (uint32_t)hosts), dice_below(&dice, 90000),
                          dice_below(&dice, 9000000));
            for (int32_t r = 0; r + 1 < rows.table.op_count; r++) /* a send and its recv alike */
                rows.priority[r] = (int8_t)((r / 2) % fabrics[f].lane_count);
            rows.priority[rows.table.op_count - 1] = rows.priority[rows.table.op_count - 2];
            fab_program_t *program = world_program(model, &rows, hosts);
            fab_run_t *run = run_of(model, program);
            nothing_is_left(run);
            fab_counters_t counters;
            fab_run_counters(run, &counters);
            CHECK_EQ(counters.drops + counters.timeouts, 0);
            const uint64_t digest = fab_run_digest(run);
            fab_run_free(run);
            for (int how = 1; how < 6; how++) {
                const fab_run_options_t options = {
                    .seed = 1, .threads = 1 + how % 3, .plain = how & 1, .record_packets = how == 4};
                const outcome_t other = world_run(model, program, options, how == 3 ? 31234567 : 0);
                CHECK_EQ(other.code, FAB_OK);
                CHECK(other.digest == digest);
            }
            fab_program_free(program);
            fab_model_free(model);
        }
}

/* Two flows of two lanes into one receiver share its link by the weights: three packets of 66 * 64 bytes to one. */
static void weights_show_at_a_port(void)
{
    static const choice_t weighed[] = {{"switch", "voq", "vl_count", 2},
                                       {"switch", "voq", "vl0_weight", 198},
                                       {"switch", "voq", "vl1_weight", 66},
                                       {"link", "credit", NULL, 0}};
    world_star(&world, 3);
    fab_model_t *model = world_model(&world, weighed, 4);
    rows_start(&rows);
    rows_flow(&rows, 1, 0, 40000000, 0);
    rows_flow(&rows, 2, 0, 40000000, 0);
    rows.priority[2] = rows.priority[3] = 1;
    fab_program_t *program = world_program(model, &rows, 3);
    fab_problems_t problems;
    fab_problems_clear(&problems);
    fab_run_t *run = NULL;
    const fab_run_options_t options = {.seed = 1, .threads = 1};
    CHECK_EQ(fab_run_new(model, program, &options, &problems, &run), FAB_OK);
    bool finished;
    CHECK_EQ(fab_run_step(run, INT64_C(2000000000), &problems, &finished), FAB_OK);
    fab_link_stats_t links[6];
    fab_run_links(run, links);
    const double share = (double)links[2].bytes / (double)(links[2].bytes + links[4].bytes);
    CHECK(share > 0.74 && share < 0.76);
    CHECK(links[4].paused_ps > links[2].paused_ps); /* the lighter lane waits longer for credits */
    fab_run_free(run);
    fab_program_free(program);
    fab_model_free(model);
}

static void wrong_choices_are_refused(void)
{
    fab_problems_t problems;
    fab_model_t *model = NULL;
    const char *const names[] = {"vl_buffer_bytes", "credit_block_bytes"};
    const int64_t small[] = {4096, 64}, odd[] = {0, 100};
    world_star(&world, 2);
    const fab_setting_t alone = {.room = "switch", .impl = "voq"}, credit = {.room = "link", .impl = "credit"};
    fab_problems_clear(&problems);
    CHECK_EQ(fab_model_new(&world.topology, &alone, 1, &problems, &model), FAB_E_CONFIG);
    CHECK(strstr(problems.text, "link.credit"));
    fab_problems_clear(&problems);
    CHECK_EQ(fab_model_new(&world.topology, &credit, 1, &problems, &model), FAB_E_CONFIG);
    CHECK(strstr(problems.text, "switch.voq"));
    fab_problems_clear(&problems);
    world_ring(&world, 4); /* packets that go round wait for each other */
    CHECK_EQ(fab_model_new(&world.topology, (fab_setting_t[]){alone, credit}, 2, &problems, &model), FAB_E_CONFIG);
    CHECK(strstr(problems.text, "loop"));
    world_star(&world, 2);
    for (int i = 0; i < 2; i++) {
        const fab_setting_t both[] = {alone, {.room = "link", .impl = "credit", 2, names, i ? odd : small}};
        fab_problems_clear(&problems);
        CHECK_EQ(fab_model_new(&world.topology, both, 2, &problems, &model), FAB_E_CONFIG);
        CHECK(strstr(problems.text, names[i]));
    }
}

void test_voq(void)
{
    returns_are_in_order();
    lanes_share_by_weight();
    high_priority_has_a_limit();
    cut_through_is_exact();
    loops_limit_throughput();
    nothing_is_lost();
    weights_show_at_a_port();
    wrong_choices_are_refused();
}
