/* Controllers that go by the round trip: TIMELY, Swift, SRD's; every number by hand from the published rules. */
#include "cc/cc.h"
#include "check.h"
#include "cc_feed.h"

/* ---- TIMELY: 10 Gb/s, an update every 16 KiB, beta 0.8, alpha 0.875, thresholds 50 and 500 us, minimum 20 us */

static void timely_start(const char *const *names, const int64_t *values, int32_t count)
{
    feed_start(&fab_cc_timely, names, values, count, 10000000);
}

static void timely_rtt(int64_t rtt_us) { feed_ack((fab_cc_ack_t){.rtt_ps = rtt_us * US, .acked_bytes = 16384}); }

static void timely_follows_the_gradient(void)
{
    timely_start(NULL, NULL, 0);
    feed_rate_is(10000000);
    timely_rtt(100);
    feed_rate_is(10000000); /* one round trip has no gradient */
    timely_rtt(110);        /* 0.875 * 10 us over 20 us, times 0.8: 35 % off */
    feed_rate_is(6500000);
    timely_rtt(100); /* 8.75 us / 8 - 0.875 * 10 us: falls */
    feed_rate_is(6510000);
    timely_rtt(100);
    timely_rtt(100);
    timely_rtt(100);
    feed_rate_is(6540000);
    timely_rtt(100); /* the fifth fall in a row: five steps */
    feed_rate_is(6590000);
    timely_rtt(1000); /* above 500 us: 0.8 * (1 - 500/1000) off */
    feed_rate_is(3954000);
    timely_rtt(40); /* below 50 us: a step */
    feed_rate_is(3964000);
    timely_rtt(60); /* the gradient still falls: the first in a row */
    feed_rate_is(3974000);
}

static void timely_has_bounds(void)
{
    const char *const names[] = {"min_rate_mbps", "rate_ai_mbps"};
    const int64_t values[] = {1000, 4000};
    timely_start(names, values, 2);
    timely_rtt(100);
    timely_rtt(400); /* a gradient of more than one minimum: everything off, down to the least */
    feed_rate_is(1000000);
    timely_rtt(30);
    timely_rtt(30);
    feed_rate_is(9000000);
    timely_rtt(30);
    feed_rate_is(10000000);
}

static void timely_waits_for_a_segment(void)
{
    timely_start(NULL, NULL, 0);
    timely_rtt(100);
    feed_ack((fab_cc_ack_t){.rtt_ps = 110 * US, .acked_bytes = 16383});
    feed_rate_is(10000000);
    feed_ack((fab_cc_ack_t){.rtt_ps = -1, .acked_bytes = 1}); /* sent again: no round trip */
    feed_rate_is(10000000);
    feed_ack((fab_cc_ack_t){.rtt_ps = 110 * US, .acked_bytes = 0});
    feed_rate_is(6500000);
}

static void timely_may_wait_for_a_round_trip(void)
{
    const char *const names[] = {"segment_bytes", "min_rtt_ps"};
    const int64_t values[] = {0, 0};
    timely_start(names, values, 2);
    feed_ack((fab_cc_ack_t){.rtt_ps = 100 * US, .acked_psn = 1, .next_psn = 10});
    feed_ack((fab_cc_ack_t){.rtt_ps = 110 * US, .acked_psn = 10, .next_psn = 20});
    feed_rate_is(10000000);
    feed_ack((fab_cc_ack_t){.rtt_ps = 110 * US, .acked_psn = 11, .next_psn = 21}); /* 0.8 * 8.75 us / 100 us: 7 % */
    feed_rate_is(9300000);
}

/* ---- Swift: 100 Gb/s, packets of 4000 bytes, target 20 us */

static void swift_start(int64_t window_bytes, int64_t fs_range_ps)
{
    const char *const names[] = {"initial_window_bytes", "fs_range_ps"};
    const int64_t values[] = {window_bytes, fs_range_ps};
    feed_start(&fab_cc_swift, names, values, 2, 100000000);
    feed_send(4000, 0);
}

static void swift_rtt(int64_t now_us, int64_t rtt_us)
{
    feed_ack((fab_cc_ack_t){.now_ps = now_us * US, .rtt_ps = rtt_us * US, .acked_bytes = 4000});
}

/* A packet leaves while it fits as a whole. */
static void swift_window_is(int64_t bytes) { feed_window_is(bytes < 4000 ? 1 : bytes - 3999); }

static void swift_keeps_to_the_target(void)
{
    swift_start(40000, 0);
    swift_window_is(40000);
    swift_rtt(90, 10); /* 1 packet * 4000 / 40000 */
    swift_window_is(40400);
    swift_rtt(91, 10); /* 4000 * 4000 / 40400 = 396.04 */
    swift_window_is(40796);
    swift_rtt(100, 40); /* 0.8 * (40 - 20) / 40 off */
    swift_window_is(24477);
    swift_rtt(139, 40); /* not twice in a round trip */
    swift_window_is(24477);
    swift_rtt(140, 200); /* 0.8 * 180 / 200: more than half off is too much */
    swift_window_is(12238);
    swift_rtt(339, 20); /* the target itself is too late, but 0 off */
    swift_window_is(12238);
}

static void swift_paces_less_than_a_packet(void)
{
    swift_start(4000, 0);
    CHECK_EQ(feed_send(4000, 0), fab_cc_pacing_q16(100000000));
    swift_rtt(100, 40);
    swift_window_is(2400);
    CHECK_EQ(feed_send(4000, 0), INT64_C(40000000) * 65536 / 2400); /* a packet in 40 us / 0.6 */
    swift_rtt(140, 10);                                             /* + ai packets */
    swift_window_is(6400);
    CHECK_EQ(feed_send(4000, 0), fab_cc_pacing_q16(100000000));
}

/* Range 100 us from 0.1 to 100 packets: at 4 packets (1/2 - 1/10) / (3.1623 - 1/10) of it, 13.06 us. */
static void swift_scales_with_hops_and_flows(void)
{
    swift_start(16000, 100 * US);
    const fab_cc_ack_t below = {.rtt_ps = 39060000, .hop_count = 2}, above = {.rtt_ps = 39070000, .hop_count = 2};
    feed_ack(above); /* 20 + 2 * 3 + 13.06 us */
    const int64_t cut = 16000 - (int64_t)(16000 * 0.8 * (39070000 - 39063000) / 39070000);
    feed_window_between(cut - 3999 - 3, cut - 3999 + 1);
    swift_start(16000, 100 * US);
    feed_ack(below);
    swift_window_is(16000);     /* nothing acknowledged, nothing grows; nothing is cut */
    swift_start(400, 100 * US); /* 0.1 packets: all of the range */
    feed_ack((fab_cc_ack_t){.rtt_ps = 119 * US, .acked_bytes = 4000});
    swift_window_is(4400);
    swift_start(400000, 100 * US); /* 100 packets: nothing of it */
    feed_ack((fab_cc_ack_t){.rtt_ps = 25 * US, .acked_bytes = 4000});
    swift_window_is(400000 - 64000);
}

static void swift_answers_losses(void)
{
    swift_start(40000, 0);
    feed_loss(false, 0);
    swift_window_is(20000);
    swift_rtt(10, 10);
    swift_window_is(20800);
    feed_loss(true, 30 * US); /* an acknowledgement ended the row of time-outs */
    feed_loss(true, 31 * US); /* in one round trip, once */
    swift_window_is(10400);
    feed_loss(true, 50 * US);
    feed_loss(true, 70 * US);
    swift_window_is(2600);
    feed_loss(true, 71 * US); /* the fifth: 0.001 packets */
    swift_window_is(4);
    CHECK_EQ(feed_send(4000, 0), INT64_C(10000000) * 65536 / 4);
}

static void swift_starts_with_what_the_line_carries(void)
{
    feed_start(&fab_cc_swift, NULL, NULL, 0, 100000000);
    feed_window_is(250000); /* 20 us at 100 Gb/s, before a packet was seen */
}

/* ---- SRD's: 100 Gb/s, rounds of a round trip */

static void srd_ack(int64_t now_us, int64_t rtt_us, int64_t bytes)
{
    feed_ack((fab_cc_ack_t){.now_ps = now_us * US, .rtt_ps = rtt_us * US, .acked_bytes = bytes});
}

static void srd_keeps_to_what_is_delivered(void)
{
    feed_start(&fab_cc_srd_cc, NULL, NULL, 0, 100000000);
    feed_window_is(131072);
    srd_ack(10, 10, 4000);
    feed_window_is(250000); /* twice 10 us at the line's rate */
    srd_ack(20, 10, 125000);
    feed_rate_is(100000000);
    srd_ack(25, 16, 25000); /* longer than 15 us: late */
    feed_rate_is(100000000);
    srd_ack(36, 16, 25000); /* 50000 bytes in 16 us: 25 Gb/s, of which 90 % */
    feed_rate_is(22500000);
    feed_window_is(56250);
    srd_ack(46, 10, 25000); /* 0.5 % of the line */
    feed_rate_is(23000000);
    srd_ack(56, 10, 25000); /* and twice that */
    feed_rate_is(24000000);
    srd_ack(60, 10, 1000);
    srd_ack(66, 15, 1000); /* 15 us is not late */
    feed_rate_is(24000000);
    srd_ack(71, 10, 1000);
    feed_rate_is(25500000);
}

static void srd_wants_a_majority(void)
{
    feed_start(&fab_cc_srd_cc, NULL, NULL, 0, 100000000);
    srd_ack(10, 10, 4000);
    srd_ack(12, 90, 4000); /* one path */
    srd_ack(20, 10, 4000); /* a half is no majority */
    feed_rate_is(100000000);
    srd_ack(22, 90, 4000);
    srd_ack(24, 90, 4000);
    srd_ack(30, 10, 4000); /* 12000 bytes in 10 us */
    feed_rate_is(8640000);
}

static void srd_answers_losses(void)
{
    feed_start(&fab_cc_srd_cc, NULL, NULL, 0, 100000000);
    srd_ack(10, 10, 4000);
    feed_loss(false, 12 * US);
    feed_rate_is(100000000);
    feed_loss(true, 13 * US);
    feed_rate_is(50000000);
    feed_loss(false, 14 * US);
    srd_ack(20, 10, 100000); /* three late of five; 80 Gb/s were delivered */
    feed_rate_is(45000000);
}

static void any_order_of_events_keeps_the_bounds(const fab_cc_ops_t *ops)
{
    dice_t dice = {77};
    feed_start(ops, NULL, NULL, 0, 40000000);
    int64_t now = 0;
    bool within = true;
    for (int i = 0; i < 100000; i++) {
        now += dice_below(&dice, 2000000);
        const uint32_t what = dice_below(&dice, 40);
        if (what == 0 && ops->on_loss)
            feed_loss(dice_below(&dice, 2), now);
        else if (what < 20)
            feed_ack((fab_cc_ack_t){.now_ps = now,
                                    .rtt_ps = dice_below(&dice, 8) ? (int64_t)dice_below(&dice, 600000000) + 1 : -1,
                                    .acked_bytes = dice_below(&dice, 3) * 4178,
                                    .acked_psn = (uint64_t)i,
                                    .next_psn = (uint64_t)i + dice_below(&dice, 50),
                                    .hop_count = dice_below(&dice, 6)});
        else
            within = within && feed_send(84 + dice_below(&dice, 4100), now) >= fab_cc_pacing_q16(40000000);
        within = within && (!ops->window_bytes || feed_window() >= 1);
    }
    CHECK(within);
}

void test_cc_delay(void)
{
    timely_follows_the_gradient();
    timely_has_bounds();
    timely_waits_for_a_segment();
    timely_may_wait_for_a_round_trip();
    swift_keeps_to_the_target();
    swift_paces_less_than_a_packet();
    swift_scales_with_hops_and_flows();
    swift_answers_losses();
    swift_starts_with_what_the_line_carries();
    srd_keeps_to_what_is_delivered();
    srd_wants_a_majority();
    srd_answers_losses();
    any_order_of_events_keeps_the_bounds(&fab_cc_timely);
    any_order_of_events_keeps_the_bounds(&fab_cc_swift);
    any_order_of_events_keeps_the_bounds(&fab_cc_srd_cc);
}
