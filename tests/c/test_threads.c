/* Runs with threads that must meet: made for the thread sanitizer, small enough for the others too. */
#include "check.h"
#include "worlds.h"

#include <string.h>

static world_t world;
static rows_t rows;

static void run_on(const choice_t *choices, int32_t count, int32_t ranks)
{
    fab_model_t *model = world_model(&world, choices, count);
    rows_start(&rows);
    for (int i = 0; i < 2; i++) {
        rows.stream[rows_add(&rows, FAB_OP_ALL_TO_ALL, 0, ranks, 6000 * ranks)] = 0;
        rows.stream[rows_add(&rows, FAB_OP_ALL_REDUCE, 0, ranks, 9000 * ranks)] = 1;
    }
    for (int32_t r = 1; r < ranks; r++)
        rows_flow(&rows, r, 0, 60000, 0);
    const bool several = choices[0].name && strcmp(choices[0].name, "data_class_count") == 0;
    for (int32_t r = 0; several && r < rows.table.op_count; r++)
        rows.priority[r] = (int8_t)(r % 3);
    fab_program_t *program = world_program(model, &rows, ranks);
    const outcome_t one = world_run(model, program, (fab_run_options_t){.seed = 9, .threads = 1}, 0);
    CHECK_EQ(one.code, FAB_OK);
    for (int32_t threads = 2; threads <= 4; threads++) {
        const outcome_t many =
            world_run(model, program, (fab_run_options_t){.seed = 9, .threads = threads, .plain = threads == 3},
                      threads == 4 ? 20000000 : 0);
        CHECK_EQ(many.code, FAB_OK);
        CHECK(many.digest == one.digest);
    }
    fab_program_free(program);
    fab_model_free(model);
}

void test_threads(void)
{
    static const choice_t lossy[] = {{"cc", "dcqcn", NULL, 0},
                                     {"switch", "ethernet", "buffer_bytes", 200000},
                                     {"transport", "roce", "rto_ps", 300000000}};
    static const choice_t paused[] = {{"link", "pause", "xoff_bytes", 20000}, {"route", "spray", NULL, 0}};
    static const choice_t classes[] = {{"switch", "ethernet", "data_class_count", 3},
                                       {"link", "pause", "xoff_bytes", 20000}};
    static const choice_t credits[] = {{"switch", "voq", NULL, 0}, {"link", "credit", "vl_buffer_bytes", 9000}};
    world_fat_tree(&world, 4);
    run_on(credits, 2, 16);
    run_on(lossy, 3, 16);
    run_on(paused, 2, 16);
    run_on(classes, 2, 16);
    world_ring(&world, 5);
    run_on(lossy, 3, 5);
}
