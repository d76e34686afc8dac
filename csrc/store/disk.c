/* Disks: a RAID array of data and parity disks, one operation at a time.
 *
 * The heads seek unless an operation goes on where the last one ended, in the same object. Bytes are spread over the data
 * disks in chunks, so that the busiest disk decides; parity disks work beside them. A write that covers a stripe only in
 * part needs the old data and parity first: it reads them, and waits for the platters to come round. */
#include "store/rate.h"

enum { DATA_COUNT, PARITY_COUNT, CHUNK_BYTES, DISK_MBPS, SEEK_PS, ROTATION_PS };

static const fab_param_t params[] = {
    {"data_count", "", 8, 1, 64, "disks of a stripe that hold data", "8+2: usual RAID 6 of Lustre on disks"},
    {"parity_count", "", 2, 0, 8, "disks of a stripe that hold parity; 0: writes in part need no reading",
     "8+2: usual RAID 6 of Lustre on disks"},
    {"chunk_bytes", "bytes", 131072, 4096, 16777216, "bytes on a disk before the next one",
     "128 KiB: 8 of them are a stripe of 1 MiB, as Lustre's manual advises"},
    {"disk_mbps", "Mb/s", 1600, 1, 1000000, "streaming of a disk", "200 MB/s: drives of 7200/min stream 100 to 250"},
    {"seek_ps", "ps", INT64_C(8000000000), 0, INT64_C(1000000000000), "seek, with the wait for the sector",
     "8 ms: drives of 7200/min, data sheets"},
    {"rotation_ps", "ps", INT64_C(8333333333), 0, INT64_C(1000000000000),
     "one turn of the platters, between reading and writing a stripe in part", "7200/min"},
    FAB_PARAM_END,
};

/* Words of the state. */
enum { FREE_PS, STEP, STREAM, END, USED };

static uint32_t slots(const int64_t *values)
{
    (void)values;
    return 0;
}

/* Bytes of one disk in the first `end` bytes. */
static int64_t of_disk(int64_t end, int64_t disk, int64_t chunk, int64_t row)
{
    return end / row * chunk + fab_min_i64(fab_max_i64(end % row - disk * chunk, 0), chunk);
}

/* Bytes of the busiest disk. */
static int64_t busiest(const int64_t *values, int64_t begin, int64_t end)
{
    const int64_t chunk = values[CHUNK_BYTES], row = chunk * values[DATA_COUNT];
    if (begin % row == 0 && end % row == 0)
        return (end - begin) / values[DATA_COUNT];
    int64_t most = 0;
    for (int64_t d = 0; d < values[DATA_COUNT]; d++)
        most = fab_max_i64(most, of_disk(end, d, chunk, row) - of_disk(begin, d, chunk, row));
    return most;
}

/* Bytes of the busiest disk that a write has to read first: those in stripes that it covers in part. */
static int64_t read_first(const int64_t *values, int64_t begin, int64_t end)
{
    const int64_t row = values[CHUNK_BYTES] * values[DATA_COUNT];
    if (values[PARITY_COUNT] == 0)
        return 0;
    const int64_t head = begin % row ? fab_min_i64(end, begin - begin % row + row) : begin;
    const int64_t tail = fab_max_i64(head, end - end % row);
    return busiest(values, begin, head) + busiest(values, tail, end);
}

static int64_t submit(const int64_t *values, fab_target_state_t *state, const fab_target_slow_t *slow, bool write,
                      uint64_t stream, int64_t offset, int64_t bytes, int64_t now_ps)
{
    int64_t *words = state->words;
    int64_t at_ps = fab_max_i64(now_ps, words[FREE_PS]);
    const bool goes_on = words[USED] && words[STREAM] == (int64_t)stream && words[END] == offset;
    if (!goes_on)
        at_ps += values[SEEK_PS];
    const int64_t before = write ? read_first(values, offset, offset + bytes) : 0;
    if (before)
        at_ps = fab_rate_end(slow, &words[STEP], at_ps, fab_rate_ps(before, values[DISK_MBPS])) + values[ROTATION_PS];
    const int64_t work_ps = fab_rate_ps(busiest(values, offset, offset + bytes), values[DISK_MBPS]);
    words[STREAM] = (int64_t)stream;
    words[END] = offset + bytes;
    words[USED] = 1;
    return words[FREE_PS] = fab_rate_end(slow, &words[STEP], at_ps, work_ps);
}

const fab_target_ops_t fab_target_disk = {
    .impl = {"target", "disk", "RAID arrays of disks: seeks, stripes written in part", params, 0},
    .slots = slots,
    .submit = submit,
};
