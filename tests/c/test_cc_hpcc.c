/* HPCC, fed with telemetry: 100 Gb/s and T = 8 us, so that 100,000 bytes fill a round trip. */
#include "cc_feed.h"
#include "check.h"

enum { BDP = 100000 };
static const int64_t T_PS = 8 * US, LINE = 100000000;

static fab_hop_t hops[FAB_HOPS_MAX];

static void start(int64_t max_stage, int64_t fast_react)
{
    const char *const names[] = {"base_rtt_ps", "max_stage_count", "fast_react"};
    const int64_t values[] = {T_PS, max_stage, fast_react};
    feed_start(&fab_cc_hpcc, names, values, 3, LINE);
    for (uint32_t i = 0; i < FAB_HOPS_MAX; i++)
        hops[i] = (fab_hop_t){.rate_mbps = 100000, .link = i};
}

/* The next note of an output: later, with so much sent and queued. */
static void note(uint32_t hop, int64_t later_ps, int64_t sent_bytes, int64_t queue_bytes)
{
    hops[hop].when_ps += later_ps;
    hops[hop].sent_bytes += sent_bytes;
    hops[hop].queue_bytes = queue_bytes;
}

static void ack(uint64_t acked_psn, uint64_t next_psn, uint32_t hop_count)
{
    feed_ack((fab_cc_ack_t){.rtt_ps = T_PS,
                            .acked_bytes = 1000,
                            .acked_psn = acked_psn,
                            .next_psn = next_psn,
                            .hop_count = hop_count,
                            .hops = hops});
}

/* eta is 15938355 / 2^24, a step of 80 bytes in 8 us is 80000 kb/s. */
static void overload_divides_the_reference(void)
{
    start(5, 1);
    feed_rate_is(LINE);
    feed_window_is(BDP);
    note(0, US, 0, 50000);
    ack(1, 100, 1); /* the first note says nothing yet */
    feed_rate_is(LINE);
    note(0, T_PS, BDP, 50000); /* full, and half a round trip waits: load 1.5 */
    ack(101, 200, 1);
    feed_rate_is(63413332); /* 0.95 / 1.5 of the line, and a step */
    feed_window_is(63413);
    note(0, T_PS / 2, 12500, 0); /* half of the average: (1.5 + 0.25) / 2 = 0.875, below eta */
    ack(150, 200, 1);            /* within the round trip: the reference stays */
    feed_rate_is(63493332);
    note(0, T_PS / 2, 12500, 0);
    ack(200, 210, 1);
    feed_rate_is(63493332);
    note(0, T_PS / 2, 12500, 0);
    ack(201, 300, 1); /* now it moves */
    feed_rate_is(63493332);
    note(0, T_PS, 25000, 0);
    ack(301, 400, 1);
    feed_rate_is(63573332);
}

/* After max_stage_count steps in a row the rate follows the load again, upwards. */
static void underload_probes(void)
{
    start(2, 1);
    note(0, US, 0, 90000);
    ack(1, 10, 1);
    note(0, T_PS, BDP, 90000);
    ack(11, 20, 1); /* 1.9: halved */
    const int64_t halved = LINE * INT64_C(15938355) / (INT64_C(19) * 16777216 / 10) + 80000;
    CHECK(halved > 50079990 && halved < 50080010);
    for (uint64_t i = 0; i < 2; i++) {
        note(0, T_PS, 25000, 0);
        ack(21 + 10 * i, 30 + 10 * i, 1);
    }
    const uint64_t pacing = feed_send(0, 0);
    CHECK(pacing <= fab_cc_pacing_q16(50239990) && pacing >= fab_cc_pacing_q16(50240010));
    note(0, T_PS, 50000, 0); /* load 0.5, and no step left: 0.95 / 0.5 */
    ack(41, 50, 1);
    feed_window_between(95536 - 3, 95536 + 3); /* 50.24 * 1.9 + 0.08 Gb/s */
}

/* The most loaded output counts, wherever it is and whatever its rate. */
static void the_most_loaded_hop_counts(void)
{
    start(5, 1);
    hops[2].rate_mbps = 400000;
    ack(1, 10, 3);
    note(0, T_PS, 30000, 0);
    note(1, T_PS, 95000, 60000); /* the queue was empty before: the lesser counts */
    note(2, T_PS, 400000, 0);    /* 400 Gb/s: full, load 1 */
    ack(11, 20, 3);
    feed_rate_is(LINE * INT64_C(15938355) / 16777216 + 80000);
}

static void notes_of_another_path_are_not_compared(void)
{
    start(5, 1);
    ack(1, 10, 2);
    note(0, T_PS, BDP, 90000);
    note(1, T_PS, BDP, 90000);
    ack(11, 20, 1); /* one hop less */
    feed_rate_is(LINE);
    hops[0].link = 9;
    note(0, T_PS, BDP, 90000);
    ack(21, 30, 1);
    feed_rate_is(LINE);
    note(0, -US, 0, 90000); /* an older note */
    ack(31, 40, 1);
    feed_rate_is(LINE);
    note(0, T_PS, BDP, 90000);
    ack(41, 50, 1);
    CHECK(feed_send(0, 0) > fab_cc_pacing_q16(LINE));
}

static void without_fast_reaction_only_round_trips_count(void)
{
    start(5, 0);
    ack(1, 100, 1);
    note(0, T_PS / 2, BDP, 90000);
    ack(50, 150, 1);
    feed_rate_is(LINE);
    note(0, T_PS / 2, 0, 90000); /* since the first note: 100000 bytes in 8 us, least queue 0 */
    ack(101, 200, 1);
    feed_rate_is(LINE * INT64_C(15938355) / 16777216 + 80000);
}

static void the_base_may_be_measured(void)
{
    feed_start(&fab_cc_hpcc, NULL, NULL, 0, LINE);
    feed_window_is(FAB_CC_NO_WINDOW);
    feed_ack((fab_cc_ack_t){.rtt_ps = -1});
    feed_window_is(FAB_CC_NO_WINDOW);
    feed_ack((fab_cc_ack_t){.rtt_ps = 2 * T_PS});
    feed_window_is(2 * BDP);
    feed_ack((fab_cc_ack_t){.rtt_ps = T_PS});
    feed_ack((fab_cc_ack_t){.rtt_ps = 3 * T_PS});
    feed_window_is(BDP);
}

static void bounds_hold(void)
{
    dice_t dice = {5};
    start(5, 1);
    bool within = true;
    const uint64_t fastest = fab_cc_pacing_q16(LINE), slowest = fab_cc_pacing_q16(100000);
    for (uint64_t i = 1; i < 50000; i++) {
        for (uint32_t h = 0; h < FAB_HOPS_MAX; h++)
            note(h, 1 + dice_below(&dice, 20000000), dice_below(&dice, 300000), dice_below(&dice, 10) * 3000000);
        ack(i, i + dice_below(&dice, 40), FAB_HOPS_MAX);
        within = within && feed_send(0, 0) >= fastest && feed_send(0, 0) <= slowest && feed_window() >= 1;
    }
    CHECK(within);
}

void test_cc_hpcc(void)
{
    overload_divides_the_reference();
    underload_probes();
    the_most_loaded_hop_counts();
    notes_of_another_path_are_not_compared();
    without_fast_reaction_only_round_trips_count();
    the_base_may_be_measured();
    bounds_hold();
}
