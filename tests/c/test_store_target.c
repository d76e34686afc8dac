/* Targets of file systems against times worked out by hand: flash, disks, and rates that change on the way. */
#include "check.h"
#include "store/rate.h"

#include <stdlib.h>
#include <string.h>

#define US INT64_C(1000000)
#define MS (1000 * US)

enum { MIB = 1 << 20 };

typedef struct {
    const fab_target_ops_t *ops;
    int64_t values[FAB_TARGET_VALUES_MAX];
    fab_target_state_t state;
    fab_target_slow_t slow;
} device_t;

static void start(device_t *self, const fab_target_ops_t *ops, const char *const *names, const int64_t *values,
                  int32_t count)
{
    *self = (device_t){.ops = ops};
    fab_problems_t problems;
    fab_problems_clear(&problems);
    const fab_setting_t setting = {"target", ops->impl.impl, count, names, values, 0};
    fab_param_resolve("target", ops->impl.impl, ops->impl.params, &setting, 1, self->values, &problems);
    CHECK_EQ(problems.count, 0);
    self->state.slot_count = ops->slots(self->values);
    if (self->state.slot_count)
        self->state.slots = calloc(self->state.slot_count, sizeof(int64_t));
}

static void stop(device_t *self) { free(self->state.slots); }

static int64_t submit(device_t *self, bool write, uint64_t stream, int64_t offset, int64_t bytes, int64_t now_ps)
{
    return self->ops->submit(self->values, &self->state, &self->slow, write, stream, offset, bytes, now_ps);
}

/* 8 Gb/s: a byte takes 1000 ps. */
static const char *const flash_names[] = {"read_latency_ps", "write_latency_ps", "read_mbps", "write_mbps",
                                          "queue_depth_count"};
static const int64_t flash_values[] = {80 * US, 20 * US, 8000, 4000, 4};

static void flash_takes_latency_then_bytes(void)
{
    device_t d;
    start(&d, &fab_target_flash, flash_names, flash_values, 5);
    CHECK_EQ(submit(&d, false, 1, 0, 1000, 0), 81 * US);
    CHECK_EQ(submit(&d, false, 1, 0, 1000, 0), 82 * US);               /* latencies side by side, bytes in turn */
    CHECK_EQ(submit(&d, true, 1, 0, 1000, 200 * US), 222 * US);        /* at half the rate */
    CHECK_EQ(submit(&d, true, 1, 0, 1, 200 * US), 222002 * US / 1000); /* waits for those bytes */
    stop(&d);
}

static void flash_is_bound_by_its_queue(void)
{
    device_t d;
    start(&d, &fab_target_flash, flash_names, flash_values, 5);
    for (int64_t i = 0; i < 4; i++)
        CHECK_EQ(submit(&d, false, 1, 0, 100, 0), 80 * US + (i + 1) * US / 10);
    /* the fifth begins when the first ends */
    CHECK_EQ(submit(&d, false, 1, 0, 100, 0), 80 * US + US / 10 + 80 * US + US / 10);
    stop(&d);
}

static void flash_is_bound_by_its_rate(void)
{
    device_t d;
    start(&d, &fab_target_flash, NULL, NULL, 0);
    int64_t end_ps = 0;
    for (int i = 0; i < 100; i++)
        end_ps = submit(&d, true, 1, (int64_t)i * 4 * MIB, 4 * MIB, 0);
    CHECK_EQ(end_ps, 20 * US + 100 * fab_rate_ps(4 * MIB, 40000));
    stop(&d);
}

static void work_on_a_slow_target_is_summed_exactly(void)
{
    static const fab_store_slow_t steps[] = {{100, 0, 500000}, {200, 0, 100000}, {1000, 0, 2000000}};
    const fab_target_slow_t slow = {steps, 3};
    int64_t step = 0;
    CHECK_EQ(fab_rate_end(&slow, &step, 0, 100), 100);
    CHECK_EQ(step, 0);
    CHECK_EQ(fab_rate_end(&slow, &step, 0, 110), 120);                /* 100, then 10 at a half */
    CHECK_EQ(fab_rate_end(&slow, &step, 0, 151), 210);                /* 100 + 50, then 1 at a tenth */
    CHECK_EQ(fab_rate_end(&slow, &step, 50, 50 + 50 + 80 + 1), 1001); /* rounded up: half a picosecond at twice */
    CHECK_EQ(fab_rate_end(&slow, &step, 100, 50), 200);
    CHECK_EQ(step, 1);
    CHECK_EQ(fab_rate_end(&slow, &step, 2000, 100), 2050);
    CHECK_EQ(step, 3);
    const fab_target_slow_t whole = {NULL, 0};
    CHECK_EQ(fab_rate_end(&whole, &step, 7, 5), 12);
}

/* Cutting a transfer in two never changes its end by more than the rounding of the cut. */
static void parts_of_slow_work_add_up(void)
{
    dice_t dice = {77};
    fab_store_slow_t steps[8];
    for (int round = 0; round < 2000; round++) {
        int64_t when_ps = 0;
        for (int i = 0; i < 8; i++)
            steps[i] = (fab_store_slow_t){when_ps += 1 + dice_below(&dice, 1000), 0, 1 + dice_below(&dice, 1500000)};
        const fab_target_slow_t slow = {steps, 8};
        const int64_t start_ps = dice_below(&dice, 3000), first = dice_below(&dice, 1000),
                      second = dice_below(&dice, 1000);
        int64_t a = 0, b = 0;
        const int64_t whole_ps = fab_rate_end(&slow, &a, start_ps, first + second);
        const int64_t parts_ps = fab_rate_end(&slow, &b, fab_rate_end(&slow, &b, start_ps, first), second);
        CHECK(parts_ps >= whole_ps);
        int64_t least = 1500000;
        for (int i = 0; i < 8; i++)
            least = fab_min_i64(least, steps[i].factor_ppm);
        CHECK(parts_ps <= whole_ps + 1 + 1500000 / least + 1);
    }
}

static void rates_round_up(void)
{
    CHECK_EQ(fab_rate_ps(1, 8000000), 1);
    CHECK_EQ(fab_rate_ps(1, 9000000), 1);
    CHECK_EQ(fab_rate_ps(3, 0), 0);
    CHECK_EQ(fab_rate_ps(INT64_C(1) << 41, 8), INT64_C(2199023255552000000));
    CHECK_EQ(fab_rate_ps((INT64_C(1) << 40) - 1, 7), (((INT64_C(1) << 40) - 1) * 8000000 + 6) / 7);
}

static const char *const disk_names[] = {"data_count", "parity_count", "chunk_bytes",
                                         "disk_mbps",  "seek_ps",      "rotation_ps"};
static const int64_t disk_values[] = {4, 2, 4096, 8, 8 * MS, 10 * MS}; /* a byte takes a microsecond */

static void disks_seek_unless_they_go_on(void)
{
    device_t d;
    start(&d, &fab_target_disk, disk_names, disk_values, 6);
    const int64_t row_ps = 4096 * US;
    CHECK_EQ(submit(&d, false, 1, 0, 16384, 0), 8 * MS + row_ps);
    CHECK_EQ(submit(&d, false, 1, 16384, 16384, 0), 8 * MS + 2 * row_ps);
    CHECK_EQ(submit(&d, false, 2, 32768, 16384, 0), 16 * MS + 3 * row_ps); /* another object */
    CHECK_EQ(submit(&d, true, 2, 49152, 16384, 0), 16 * MS + 4 * row_ps);
    CHECK_EQ(submit(&d, false, 2, 0, 16384, 0), 24 * MS + 5 * row_ps); /* back to the beginning */
    stop(&d);
}

static void the_busiest_disk_decides(void)
{
    device_t d;
    start(&d, &fab_target_disk, disk_names, disk_values, 6);
    int64_t at_ps = submit(&d, false, 1, 0, 1000, 0);
    CHECK_EQ(at_ps, 8 * MS + 1000 * US); /* one disk */
    at_ps = submit(&d, false, 1, 1000, 4096, at_ps);
    CHECK_EQ(at_ps, 8 * MS + 1000 * US + 3096 * US); /* 3096 of the first, 1000 of the second */
    at_ps = submit(&d, false, 1, 5096, 16384, at_ps);
    CHECK_EQ(at_ps, 8 * MS + 4096 * US + 4096 * US); /* a row's worth from the middle: a chunk of each */
    stop(&d);
}

static void writes_in_part_read_first(void)
{
    device_t d;
    start(&d, &fab_target_disk, disk_names, disk_values, 6);
    int64_t at_ps = submit(&d, true, 1, 0, 16384, 0);
    CHECK_EQ(at_ps, 8 * MS + 4096 * US);
    /* a quarter of a row: 4096 bytes read, a turn, 4096 bytes written */
    int64_t next_ps = submit(&d, true, 1, 16384, 4096, at_ps);
    CHECK_EQ(next_ps - at_ps, 4096 * US + 10 * MS + 4096 * US);
    /* the rest of the row and half of the next: three chunks and two, of different disks, then 4096 on most */
    at_ps = next_ps;
    next_ps = submit(&d, true, 1, 20480, 5 * 4096, at_ps);
    CHECK_EQ(next_ps - at_ps, 2 * 4096 * US + 10 * MS + 2 * 4096 * US);
    stop(&d);
    const int64_t striped[] = {4, 0, 4096, 8, 8 * MS, 10 * MS};
    start(&d, &fab_target_disk, disk_names, striped, 6);
    CHECK_EQ(submit(&d, true, 1, 0, 4096, 0), 8 * MS + 4096 * US); /* without parity nothing is read */
    stop(&d);
}

void test_store_target(void)
{
    flash_takes_latency_then_bytes();
    flash_is_bound_by_its_queue();
    flash_is_bound_by_its_rate();
    work_on_a_slow_target_is_summed_exactly();
    parts_of_slow_work_add_up();
    rates_round_up();
    disks_seek_unless_they_go_on();
    the_busiest_disk_decides();
    writes_in_part_read_first();
}
