/* Runs in fabrics that change, under the sanitizers: whatever fails and when, the result is one, and nothing is left. */
#include <stdlib.h>

#include "check.h"
#include "core/keyed.h"
#include "worlds.h"

enum { CHANGES = 24, LATEST_US = 400 };

static world_t world;
static rows_t rows;

static const choice_t lossy[] = {{"link", "lossy", NULL, 0},
                                 {"transport", "roce", "rto_ps", 200000000},
                                 {"transport", "roce", "retry_limit_count", 1000},
                                 {"switch", "ethernet", "buffer_bytes", 300000},
                                 {"transport", "roce", "control_priority", 0}};
static const choice_t paused[] = {{"link", "pause", "xoff_bytes", 9000},
                                  {"switch", "ethernet", "buffer_bytes", 2000000},
                                  {"switch", "ethernet", "cut_through", 1},
                                  {"transport", "roce", "rto_ps", 200000000},
                                  {"transport", "roce", "retry_limit_count", 1000}};
static const choice_t classes[] = {{"link", "pause", "xoff_bytes", 9000},
                                   {"switch", "ethernet", "buffer_bytes", 2000000},
                                   {"switch", "ethernet", "data_class_count", 3},
                                   {"transport", "roce", "rto_ps", 200000000},
                                   {"transport", "roce", "retry_limit_count", 1000}};
static const choice_t credits[] = {{"link", "credit", NULL, 0},
                                   {"switch", "voq", NULL, 0},
                                   {"transport", "rc", "rto_ps", 200000000},
                                   {"transport", "rc", "retry_limit_count", 1000},
                                   {"route", "updown", NULL, 0}};
static const choice_t *const fabrics[] = {lossy, paused, classes, credits};

static uint64_t draw(uint64_t seed, uint64_t number, uint64_t below)
{
    return fab_keyed_draw(seed, 99, 0, number) % below;
}

static int64_t change_at_random(uint64_t seed, fab_change_t *changes)
{
    int64_t n = 0;
    for (uint64_t i = 0; n + 2 <= CHANGES; i++) {
        const int64_t at = (int64_t)draw(seed, 5 * i, LATEST_US * UINT64_C(1000000));
        const int64_t end = at + 1 + (int64_t)draw(seed, 5 * i + 1, 50000000);
        const int32_t cable = (int32_t)draw(seed, 5 * i + 2, (uint64_t)world.topology.cable_count);
        const int32_t link = 2 * cable + (int32_t)(i & 1);
        const bool inner = world.a[cable] >= world.topology.host_count && world.b[cable] >= world.topology.host_count;
        switch (draw(seed, 5 * i + 3, 4)) {
        case 0:
            changes[n++] = (fab_change_t){at, link, FAB_CHANGE_RATE, world.rate_mbps[cable] / 3};
            changes[n++] = (fab_change_t){end, link, FAB_CHANGE_RATE, 0};
            break;
        case 1: changes[n++] = (fab_change_t){at, link, FAB_CHANGE_ERRORS, INT64_C(1000000000000)}; break;
        case 2:
            if (inner)
                changes[n++] = (fab_change_t){at, link, FAB_CHANGE_DARK, end - at};
            break;
        default:
            changes[n++] = (fab_change_t){at, link, FAB_CHANGE_DOWN, 0};
            changes[n++] = (fab_change_t){end, link, FAB_CHANGE_UP, 0};
            break;
        }
    }
    return n;
}

static void fail(int32_t ranks, uint64_t seed)
{
    fab_change_t changes[CHANGES];
    const fab_changes_t all = {.changes = changes, .change_count = change_at_random(seed, changes), .heal_ps = 5000000};
    for (size_t f = 0; f < sizeof fabrics / sizeof *fabrics; f++) {
        fab_model_t *model = world_model(&world, fabrics[f], 5);
        fab_program_t *program = model ? world_program(model, &rows, ranks) : NULL;
        if (!program)
            return;
        uint64_t digest = 0;
        for (int way = 0; way < 4; way++) {
            const fab_run_options_t options = {
                .seed = seed, .threads = 1 + way % 2, .plain = way == 2, .record_packets = way > 1, .changes = &all};
            fab_problems_t problems;
            fab_problems_clear(&problems);
            fab_run_t *run = NULL;
            CHECK_EQ(fab_run_new(model, program, &options, &problems, &run), FAB_OK);
            bool finished = false;
            int code = FAB_OK;
            for (int64_t until_ps = 7777777; way == 3 && !code && until_ps < 2 * LATEST_US * INT64_C(1000000);
                 until_ps += 7777777)
                code = fab_run_step(run, until_ps, &problems, &finished);
            if (!code)
                code = fab_run_step(run, INT64_MAX, &problems, &finished);
            CHECK_EQ(code, FAB_OK);
            CHECK(finished);
            CHECK_EQ(fab_run_check(run, &problems), FAB_OK);
            if (problems.count)
                printf("fabric %zu, seed %d, way %d: %s", f, (int)seed, way, problems.text);
            CHECK(way == 0 || fab_run_digest(run) == digest);
            digest = fab_run_digest(run);
            fab_run_free(run);
        }
        fab_program_free(program);
        fab_model_free(model);
    }
}

static void busy(int32_t ranks)
{
    rows_start(&rows);
    for (int32_t r = 0; r < ranks; r++)
        for (int32_t other = 1; other < 3; other++)
            rows_flow(&rows, r, (r + other) % ranks, 200000, 20000000 * r);
}

static void whatever_fails(void)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        world_leaf_spine(&world, 3, 2, 2);
        busy(6);
        fail(6, seed);
        world_fat_tree(&world, 4);
        busy(16);
        fail(16, seed);
    }
    world_start(&world, 2, 0); /* two hosts back to back */
    world_cable(&world, 0, 1, 10000, 50000);
    busy(2);
    fail(2, 7);
}

static void cut_off(void)
{
    world_star(&world, 3);
    rows_start(&rows);
    rows_flow(&rows, 0, 1, 1000000, 0);
    rows_add(&rows, FAB_OP_ALL_REDUCE, 0, 3, 3000);
    fab_model_t *model = world_model(&world, NULL, 0);
    fab_program_t *program = world_program(model, &rows, 3);
    const fab_change_t down[] = {{20000000, 2, FAB_CHANGE_DOWN, 0}};
    const fab_changes_t all = {.changes = down, .change_count = 1, .heal_ps = 0};
    fab_problems_t problems;
    fab_problems_clear(&problems);
    fab_run_t *run = NULL;
    const fab_run_options_t options = {.seed = 1, .threads = 1, .changes = &all};
    CHECK_EQ(fab_run_new(model, program, &options, &problems, &run), FAB_OK);
    bool finished = false;
    CHECK_EQ(fab_run_step(run, INT64_MAX, &problems, &finished), FAB_E_CUT_OFF);
    CHECK(problems.count == 2);
    CHECK_EQ(fab_run_check(run, &problems), FAB_E_INTERNAL);
    fab_run_free(run);
    fab_program_free(program);
    fab_model_free(model);
}

static void circuits(void)
{
    world_leaf_spine(&world, 2, 1, 2);
    busy(4);
    fab_model_t *model = world_model(&world, lossy, 5);
    fab_program_t *program = world_program(model, &rows, 4);
    const fab_circuit_t schedule[] = {{4, 0, 10000000, 30000000}, {5, 5000000, 20000000, 30000000}};
    const fab_changes_t all = {.circuits = schedule, .circuit_count = 2, .heal_ps = -1};
    uint64_t digest = 0;
    for (int way = 0; way < 3; way++) {
        const outcome_t outcome =
            world_run(model, program, (fab_run_options_t){.threads = 1 + way % 2, .plain = way == 2, .changes = &all},
                      way * 999999);
        CHECK_EQ(outcome.code, FAB_OK);
        CHECK(way == 0 || outcome.digest == digest);
        digest = outcome.digest;
    }
    fab_program_free(program);
    fab_model_free(model);
}

void test_faults(void)
{
    whatever_fails();
    cut_off();
    circuits();
}
