/* Programs as fluid activities: one flow as the packets have it, shares of a link, one result whatever the slices. */
#include "check.h"
#include "worlds.h"

static world_t world;
static rows_t rows;

/* As in test_run.c: packets of 4096 bytes at 100 Gb/s. */
enum { FIRST_PS = 335520, NEXT_PS = 334240, ACK_PS = 6880, HOP_PS = 1000000 };

static fab_flow_t *start(const fab_model_t *model, const fab_program_t *program, fab_flow_options_t options)
{
    fab_problems_t problems;
    fab_problems_clear(&problems);
    fab_flow_t *flow = NULL;
    CHECK_EQ(fab_flow_new(model, program, &options, &problems, &flow), FAB_OK);
    return flow;
}

static void finish(fab_flow_t *flow, int64_t slice_ps)
{
    fab_problems_t problems;
    fab_problems_clear(&problems);
    bool finished = false;
    for (int64_t until_ps = slice_ps; !finished; until_ps += slice_ps)
        if (fab_flow_step(flow, slice_ps ? until_ps : INT64_MAX, &problems, &finished)) {
            CHECK(false);
            return;
        }
}

static void one_flow(void)
{
    world_star(&world, 2);
    fab_model_t *model = world_model(&world, NULL, 0);
    rows_start(&rows);
    rows_flow(&rows, 0, 1, 3 * 4096, 5000);
    fab_program_t *program = world_program(model, &rows, 2);
    fab_flow_t *flow = start(model, program, (fab_flow_options_t){.seed = 1});
    finish(flow, 0);
    int64_t op, bytes, start_ps, end_ps, delivered_ps;
    int32_t src, dst;
    fab_flow_sends(flow, &op, &src, &dst, &bytes, &start_ps, &end_ps, &delivered_ps);
    const int64_t packets_ps = 5000 + FIRST_PS + 3 * NEXT_PS + 2 * HOP_PS;
    CHECK_EQ(start_ps, 5000);
    CHECK(delivered_ps - packets_ps >= 0 && delivered_ps - packets_ps <= FIRST_PS - NEXT_PS);
    CHECK_EQ(end_ps, delivered_ps + 2 * (ACK_PS + HOP_PS));
    fab_link_stats_t links[4];
    fab_flow_links(flow, links);
    CHECK_EQ(links[0].bytes, 3 * 4178 + 16);
    CHECK_EQ(links[1].bytes, 3 * 86);
    fab_flow_free(flow);
    fab_program_free(program);
    fab_model_free(model);
}

/* Two flows to one host share its link; when the short one is done the other goes on at full rate. */
static void shares(void)
{
    world_star(&world, 3);
    fab_model_t *model = world_model(&world, NULL, 0);
    rows_start(&rows);
    rows_flow(&rows, 0, 2, 1, 0);
    rows_flow(&rows, 1, 2, 1, 0);
    fab_program_t *program = world_program(model, &rows, 3);
    int64_t op[2];
    int32_t group[2];
    CHECK_EQ(fab_program_activities(program, op, group, -1), 2);
    CHECK_EQ(fab_program_activities(program, op, group, 2), 2);
    CHECK_EQ(group[0], 0);
    const int64_t latency_ps[2] = {1000, 1000};
    fab_flow_t *flow = start(model, program, (fab_flow_options_t){.seed = 1, .latency_ps = latency_ps});
    int64_t found_latency_ps[2], work_ps[2];
    fab_problems_t problems;
    fab_problems_clear(&problems);
    CHECK_EQ(fab_flow_costs(flow, &problems, found_latency_ps, work_ps), FAB_OK);
    CHECK_EQ(found_latency_ps[1], 1000);
    CHECK_EQ(work_ps[0], work_ps[1]);
    fab_flow_free(flow);
    const int64_t full_ps[2] = {100 * work_ps[0], work_ps[0]};
    flow = start(model, program, (fab_flow_options_t){.seed = 1, .latency_ps = latency_ps, .work_ps = full_ps});
    finish(flow, 0);
    int64_t bytes[2], start_ps[2], end_ps[2], delivered_ps[2];
    int32_t src[2], dst[2];
    fab_flow_sends(flow, op, src, dst, bytes, start_ps, end_ps, delivered_ps);
    /* the first takes a hundredth of the link, the second all of it: rates of 100/101 */
    CHECK_EQ(delivered_ps[1], 1000 + work_ps[0] + (work_ps[0] + 99) / 100);
    CHECK(delivered_ps[0] > 1000 + full_ps[0] && delivered_ps[0] < 1000 + full_ps[0] + work_ps[0]);
    fab_flow_free(flow);
    fab_program_free(program);
    fab_model_free(model);
}

static void mixed_rows(int32_t ranks)
{
    rows_start(&rows);
    for (int kind = FAB_OP_ALL_REDUCE; kind <= FAB_OP_BARRIER; kind++) {
        const int32_t row = rows_add(&rows, kind, 0, ranks, 30000 * kind + 7);
        if (kind == FAB_OP_BROADCAST || kind == FAB_OP_REDUCE)
            rows_peer(&rows, ranks - 1);
        rows.stream[row] = 0;
    }
    rows.stream[rows_add(&rows, FAB_OP_ALL_TO_ALL, 0, ranks, 0)] = 1;
    for (int32_t i = 0; i < ranks * ranks; i++)
        rows_split(&rows, i % 3 * 4000);
    for (int32_t i = 0; i < 12; i++)
        rows_flow(&rows, i % ranks, i * 5 % ranks, 100000 * (i % 4), 700000 * i);
    rows_add(&rows, FAB_OP_BARRIER, 0, ranks, 0);
    rows_after(&rows, 1000);
}

static void one_result(void)
{
    static const choice_t spray[] = {{"route", "spray", NULL, 0}};
    for (int32_t turn = 0; turn < 2; turn++) {
        world_leaf_spine(&world, 3, 2, 4);
        fab_model_t *model = world_model(&world, spray, turn);
        mixed_rows(12);
        fab_program_t *program = world_program(model, &rows, 12);
        fab_flow_t *whole = start(model, program, (fab_flow_options_t){.seed = 3});
        fab_flow_t *sliced = start(model, program, (fab_flow_options_t){.seed = 3});
        finish(whole, 0);
        finish(sliced, 777777);
        CHECK_EQ(fab_flow_digest(whole), fab_flow_digest(sliced));
        fab_counters_t counters;
        fab_flow_counters(whole, &counters);
        fab_program_info_t info;
        fab_program_info(program, &info);
        CHECK_EQ(counters.done_instances, info.instance_count);
        CHECK(counters.windows > 0);
        int64_t bytes[WORLD_CABLES * 2], packets[WORLD_CABLES * 2];
        fab_problems_t problems;
        fab_problems_clear(&problems);
        CHECK_EQ(fab_flow_loads(whole, 0, &problems, bytes, packets), FAB_OK);
        CHECK(bytes[0] > 0 && packets[0] > 0);
        CHECK_EQ(fab_flow_loads(whole, counters.visits, &problems, bytes, packets), FAB_E_CONFIG);
        fab_flow_free(whole);
        fab_flow_free(sliced);
        fab_program_free(program);
        fab_model_free(model);
    }
}

static void deadlock(void)
{
    world_star(&world, 2);
    fab_model_t *model = world_model(&world, NULL, 0);
    rows_start(&rows); /* each rank receives before it sends, in one stream */
    for (int32_t r = 0; r < 2; r++) {
        rows.stream[rows_add(&rows, FAB_OP_RECV, r, 1, 8)] = 0;
        rows_peer(&rows, 1 - r);
        rows.stream[rows_add(&rows, FAB_OP_SEND, r, 1, 8)] = 0;
        rows_peer(&rows, 1 - r);
    }
    fab_program_t *program = world_program(model, &rows, 2);
    fab_flow_t *flow = start(model, program, (fab_flow_options_t){.seed = 1});
    fab_problems_t problems;
    fab_problems_clear(&problems);
    bool finished = false;
    CHECK_EQ(fab_flow_step(flow, INT64_MAX, &problems, &finished), FAB_E_DEADLOCK);
    fab_blocked_t blocked[4];
    CHECK_EQ(fab_flow_blocked(flow, blocked, 4), 4);
    CHECK_EQ(blocked[0].waits_for, 1);
    fab_flow_free(flow);
    fab_program_free(program);
    fab_model_free(model);
}

void test_flow(void)
{
    one_flow();
    shares();
    one_result();
    deadlock();
}
