/* Flash: an NVMe drive, or an array of them that acts as one.
 *
 * An operation takes a place of the queue, waits the latency of its kind there (many do so at once), and then moves its
 * bytes, one operation after another in the order they came. So few operations are bound by latency, many by the rate,
 * and small ones by queue depth over latency. */
#include "store/rate.h"

enum { READ_LATENCY_PS, WRITE_LATENCY_PS, READ_MBPS, WRITE_MBPS, QUEUE_DEPTH_COUNT };

static const fab_param_t params[] = {
    {"read_latency_ps", "ps", INT64_C(80000000), 0, INT64_C(10000000000000), "time of a read before its bytes move",
     "80 us: NVMe TLC flash, data sheets"},
    {"write_latency_ps", "ps", INT64_C(20000000), 0, INT64_C(10000000000000), "time of a write before its bytes move",
     "20 us: NVMe, into its protected buffer, data sheets"},
    {"read_mbps", "Mb/s", 56000, 1, 1000000000, "bytes of reads, one after another",
     "7 GB/s: PCIe 4.0 x4 NVMe, data sheets"},
    {"write_mbps", "Mb/s", 40000, 1, 1000000000, "bytes of writes, one after another",
     "5 GB/s: assumed, large PCIe 4.0 NVMe sustain 4 to 7"},
    {"queue_depth_count", "", 256, 1, 65536, "operations under way; more wait",
     "assumed: 80 us at 10^6 reads/s need 80"},
    FAB_PARAM_END,
};

/* Words of the state: operations so far; when the bytes of the last have moved; changes of the rate that are past. */
enum { OPERATIONS, FREE_PS, STEP };

static uint32_t slots(const int64_t *values) { return (uint32_t)values[QUEUE_DEPTH_COUNT]; }

/* Operations end in their order, so a ring of ends tells when there is a place. */
static int64_t submit(const int64_t *values, fab_target_state_t *state, const fab_target_slow_t *slow, bool write,
                      uint64_t stream, int64_t offset, int64_t bytes, int64_t now_ps)
{
    (void)stream, (void)offset;
    int64_t *place = &state->slots[state->words[OPERATIONS]++ % state->slot_count];
    const int64_t begin_ps = fab_max_i64(now_ps, *place);
    const int64_t ready_ps = begin_ps + values[write ? WRITE_LATENCY_PS : READ_LATENCY_PS];
    const int64_t work_ps = fab_rate_ps(bytes, values[write ? WRITE_MBPS : READ_MBPS]);
    *place = fab_rate_end(slow, &state->words[STEP], fab_max_i64(ready_ps, state->words[FREE_PS]), work_ps);
    return state->words[FREE_PS] = *place;
}

const fab_target_ops_t fab_target_flash = {
    .impl = {"target", "flash", "flash: latency in parallel, bytes one after another", params, 0},
    .slots = slots,
    .submit = submit,
};
