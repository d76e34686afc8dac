/* Whole file systems on a fabric, with threads that must meet: shared and own files, locks, shards, a server that fails. */
#include "check.h"
#include "worlds.h"

#include <string.h>

enum { RANKS = 8, ROWS_MOST = 128, NAMES_MOST = 1024, MIB = 1 << 20 };

static const int64_t MS = INT64_C(1000000000);

static world_t world;
static rows_t rows;

/* The columns of storage beside rows. */
static struct {
    int32_t file_offset[ROWS_MOST + 1], file[NAMES_MOST], new_offset[ROWS_MOST + 1], new_file[1];
    int64_t offset[ROWS_MOST], stride[ROWS_MOST];
    int16_t flags[ROWS_MOST];
} io;

/* An operation of all ranks: on file 0, or each on its own. */
static void add(int kind, bool shared, int64_t bytes, int64_t offset, int64_t stride, int16_t flags)
{
    const int32_t row = rows_add(&rows, kind, 0, RANKS, bytes);
    rows.stream[row] = 0;
    io.file_offset[row + 1] = io.file_offset[row];
    for (int32_t r = 0; r < (shared ? 1 : RANKS); r++)
        io.file[io.file_offset[row + 1]++] = shared ? 0 : 1 + r;
    io.new_offset[row + 1] = 0;
    io.offset[row] = offset;
    io.stride[row] = stride;
    io.flags[row] = flags;
}

static void add_rows(bool shared)
{
    rows_start(&rows);
    memset(&io, 0, sizeof io);
    add(FAB_OP_OPEN, shared, 0, 0, 0, FAB_IO_CREATE);
    for (int k = 0; k < 3; k++)
        add(FAB_OP_WRITE, shared, MIB / 2, k * RANKS * MIB, shared ? MIB / 2 : 0, 0);
    add(FAB_OP_FSYNC, shared, 0, 0, 0, 0);
    add(FAB_OP_WRITE, shared, 40000, MIB, shared ? 40000 : 0, FAB_IO_DIRECT);
    add(FAB_OP_READ, shared, 2 * MIB, 0, 0, 0);
    add(FAB_OP_STAT, shared, 0, 0, 0, 0);
    add(FAB_OP_CLOSE, shared, 0, 0, 0, 0);
}

static void run_all(const fab_store_spec_t *store, const choice_t *choices, int32_t count, bool shared)
{
    static const int8_t stores[1 + RANKS];
    static const int32_t zeros[1 + RANKS], stripes[1] = {1};
    static const int64_t none[1 + RANKS] = {-1, -1, -1, -1, -1, -1, -1, -1, -1};
    const fab_file_table_t files = {.count = 1 + RANKS,
                                    .directory_count = 1,
                                    .store = stores,
                                    .directory = zeros,
                                    .layout = zeros,
                                    .bytes = none,
                                    .directory_stripes = stripes};
    world.topology.stores = store;
    world.topology.store_count = 1;
    fab_model_t *model = world_model(&world, choices, count);
    add_rows(shared);
    rows.table.file_offset = io.file_offset;
    rows.table.file = io.file;
    rows.table.new_file_offset = io.new_offset;
    rows.table.new_file = io.new_file;
    rows.table.offset = io.offset;
    rows.table.stride = io.stride;
    rows.table.flags = io.flags;
    rows.table.files = &files;
    fab_program_t *program = world_program(model, &rows, RANKS);
    const outcome_t one = world_run(model, program, (fab_run_options_t){.seed = 9, .threads = 1}, 0);
    CHECK_EQ(one.code, FAB_OK);
    CHECK_EQ(one.counters.done_instances, rows.table.op_count * RANKS);
    for (int32_t threads = 2; threads <= 4; threads++) {
        const outcome_t many = world_run(
            model, program,
            (fab_run_options_t){.seed = 9, .threads = threads, .plain = threads == 3, .record_rpcs = threads == 4},
            threads == 4 ? 50 * MS : 0);
        CHECK_EQ(many.code, FAB_OK);
        CHECK(many.digest == one.digest);
    }
    fab_program_free(program);
    fab_model_free(model);
    rows.table.files = NULL;
}

void test_store_run(void)
{
    static const int32_t hosts[] = {8, 9, 10, 11, 12, 13, 14, 15}, targets[] = {0, 0, 1, 1, 2, 2, 3, 3},
                         alone[] = {0, 1, 2, 3, 4, 5, 6, 7}, partners[] = {1, 0, 3, 2, -1, -1, -1, -1};
    static const int64_t failures[] = {MIB, 0, INT64_C(200000000000), INT64_C(300000000), 3, INT64_C(250000000000)};
    static const choice_t lustre[] = {{"link", "pause", NULL, 0},
                                      {"store", "lustre", "stripe_count", 4},
                                      {"store", "lustre", "rpc_bytes", MIB / 4},
                                      {"store", "lustre", "timeout_ps", INT64_C(100000000000)},
                                      {"store", "lustre", "reconnect_ps", INT64_C(50000000000)}};
    static const choice_t weka[] = {
        {"link", "pause", NULL, 0}, {"store", "weka", "data_count", 3}, {"store", "weka", "parity_count", 2}};
    static const choice_t local[] = {{"store", "local", NULL, 0}};
    fab_store_spec_t store = {.data_count = 4,
                              .meta_count = 2,
                              .target_count = 8,
                              .server_host = hosts,
                              .server_partner = partners,
                              .target_server = targets};
    world_leaf_spine(&world, 4, 2, 4);
    run_all(&store, lustre, 5, true);
    run_all(&store, lustre, 5, false);
    store.failures = failures;
    store.failure_count = 2;
    run_all(&store, lustre, 5, true);
    run_all(&store, lustre, 5, false);
    store = (fab_store_spec_t){.data_count = 8, .target_count = 8, .server_host = hosts, .target_server = alone};
    run_all(&store, weka, 3, true);
    run_all(&store, weka, 3, false);
    store = (fab_store_spec_t){0};
    run_all(&store, local, 1, false);
}
