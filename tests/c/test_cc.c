/* DCQCN against sequences worked out by hand from the paper's rules (SIGCOMM 2015, section 3), and the room's
 * contract for every controller. */
#include "cc/cc.h"
#include "check.h"

#include <string.h>

#define US INT64_C(1000000)

enum { LINE_KBPS = 40000000 };

static fab_cc_config_t config;
static fab_cc_state_t state;

/* The defaults, with some parameters changed: name, value, …, NULL. */
static void start(const char *const *names, const int64_t *values, int32_t count)
{
    fab_problems_t problems;
    fab_problems_clear(&problems);
    const fab_setting_t setting = {"cc", "dcqcn", count, names, values, 0};
    fab_param_resolve("cc", "dcqcn", fab_cc_dcqcn.impl.params, &setting, 1, config.values, &problems);
    CHECK_EQ(problems.count, 0);
    fab_cc_dcqcn.init(&config, &state, LINE_KBPS);
}

/* The pacing tells the rate: rates are compared by the pacing they give. */
static void rate_is(int64_t at_ps, int64_t kbps)
{
    CHECK_EQ(fab_cc_dcqcn.on_send(&config, &state, 0, at_ps), fab_cc_pacing_q16(kbps));
}

static void notify(int64_t at_ps) { fab_cc_dcqcn.on_cnp(&config, &state, at_ps); }

static void pacing_is_the_wire_at_line_rate(void)
{
    for (int64_t mbps = 1000; mbps <= 800000; mbps += 777)
        CHECK_EQ(fab_cc_pacing_q16(mbps * 1000), fab_wire_ps_per_byte_q16(mbps));
}

static void nothing_moves_before_the_first_notification(void)
{
    start(NULL, NULL, 0);
    rate_is(0, LINE_KBPS);
    rate_is(1000000 * US, LINE_KBPS);
}

/* alpha starts at 1: the first notification halves. Then fast recovery closes half of the gap every 55 us. */
static void halves_and_recovers(void)
{
    start(NULL, NULL, 0);
    notify(10 * US);
    rate_is(10 * US, 20000000);
    rate_is(65 * US - 1, 20000000);
    rate_is(65 * US, 30000000);  /* (20 + 40) / 2 */
    rate_is(120 * US, 35000000); /* (30 + 40) / 2 */
    rate_is(175 * US, 37500000);
    rate_is(230 * US, 38750000);
    /* the fifth round: max(T, BC) >= F = 5 adds rate_ai to the target, but the target is at line rate */
    rate_is(285 * US, 39375000);
}

/* Asking seldom gives what asking often gives. */
static void time_may_pass_in_any_steps(void)
{
    start(NULL, NULL, 0);
    notify(10 * US);
    rate_is(285 * US, 39375000);
    start(NULL, NULL, 0);
    notify(10 * US);
    for (int64_t now = 10 * US; now < 285 * US; now += 7 * US / 3)
        fab_cc_dcqcn.on_send(&config, &state, 0, now);
    rate_is(285 * US, 39375000);
}

/* alpha decays by 1/16 every 55 us without notifications, so that the next cut is smaller: with g = 1/16 and two
 * decays alpha = (15/16)^2, the cut is by alpha / 2. */
static void alpha_decays(void)
{
    const char *const names[] = {"g_inverse", "increase_timer_ps", "byte_counter_bytes"};
    const int64_t values[] = {16, 1000000 * US, 0};
    start(names, values, 3);
    notify(0); /* alpha stays (1 - g) 1 + g = 1 */
    rate_is(0, 20000000);
    notify(111 * US); /* after 55 and 110 us: 225/256; 20 Gb/s (1 - 225/512) */
    rate_is(111 * US, 20000000 - 20000000LL * 225 / 512);
    /* then alpha = (15 * 225/256 + 1) / 16 = 3631/4096; target is 20 Gb/s from now on */
    const int64_t before = 20000000 - 20000000LL * 225 / 512; /* 11210938 rounded up */
    notify(112 * US);
    const int64_t cut = (int64_t)((__int128)before * 3631 / 8192);
    const uint64_t found = fab_cc_dcqcn.on_send(&config, &state, 0, 112 * US);
    CHECK(found >= fab_cc_pacing_q16(before - cut + 2) && found <= fab_cc_pacing_q16(before - cut - 2));
}

/* Additive increase behind F rounds of the timer alone: the byte counter stays below F. */
static void additive_increase(void)
{
    const char *const names[] = {"fast_recovery_count", "byte_counter_bytes", "rate_ai_mbps"};
    const int64_t values[] = {2, INT64_C(1) << 40, 100};
    start(names, values, 3);
    notify(0);
    notify(1); /* current 10, target 20 Gb/s (alpha 1: halved twice) */
    rate_is(1, 10000000);
    rate_is(1 + 55 * US, 15000000);
    /* the second round is the F-th: target 20.1 */
    rate_is(1 + 110 * US, (15000000 + 20100000 + 1) / 2);
    rate_is(1 + 165 * US, (17550000 + 20200000 + 1) / 2);
}

/* Hyper increase: both counters above F; the i-th such round adds i x rate_hai. */
static void hyper_increase(void)
{
    const char *const names[] = {"fast_recovery_count", "byte_counter_bytes", "rate_hai_mbps", "rate_ai_mbps"};
    const int64_t values[] = {1, 1000, 300, 50};
    start(names, values, 4);
    notify(0);
    notify(0);                                      /* current 10, target 20 */
    fab_cc_dcqcn.on_send(&config, &state, 1000, 0); /* byte round 1: max >= F: target 20.05; 15.025 */
    rate_is(0, 15025000);
    rate_is(55 * US, (15025000 + 20100000 + 1) / 2); /* timer round 1: additive again */
    const int64_t third = (15025000 + 20100000 + 1) / 2;
    fab_cc_dcqcn.on_send(&config, &state, 1000, 55 * US); /* bytes 2, timer 1: min = 1 = F: additive */
    const int64_t fourth = (third + 20150000 + 1) / 2;
    rate_is(55 * US, fourth);
    /* timer 2, bytes 2: min = 2 > F: hyper, once 300 */
    const int64_t fifth = (fourth + 20450000 + 1) / 2;
    rate_is(110 * US, fifth);
    fab_cc_dcqcn.on_send(&config, &state, 1000, 110 * US); /* bytes 3, timer 2: min 2: once 300 */
    rate_is(110 * US, (fifth + 20750000 + 1) / 2);
}

static void byte_counter_counts(void)
{
    const char *const names[] = {"byte_counter_bytes", "increase_timer_ps"};
    const int64_t values[] = {10000, 1000000 * US};
    start(names, values, 2);
    notify(0);
    for (int i = 0; i < 9; i++)
        fab_cc_dcqcn.on_send(&config, &state, 1000, 1);
    rate_is(1, 20000000);
    fab_cc_dcqcn.on_send(&config, &state, 1000, 2);
    rate_is(2, 30000000);
    for (int i = 0; i < 10; i++)
        fab_cc_dcqcn.on_send(&config, &state, 1000, 3);
    rate_is(3, 35000000);
}

/* A notification resets the counters: the next increase is a whole timer later. */
static void a_cut_starts_over(void)
{
    start(NULL, NULL, 0);
    notify(0);
    notify(54 * US); /* alpha 1: to 10 Gb/s, target 20 */
    rate_is(108 * US, 10000000);
    rate_is(109 * US, 15000000);
}

/* The decrease timer starts with the first notification; all that come within it are one cut, at its end. */
static void decrease_timer_spaces_cuts(void)
{
    const char *const names[] = {"decrease_timer_ps", "increase_timer_ps"};
    const int64_t values[] = {4 * US, 1000000 * US};
    start(names, values, 2);
    notify(0);
    notify(1 * US);
    notify(2 * US);
    rate_is(4 * US - 1, LINE_KBPS);
    rate_is(4 * US, 20000000);
    rate_is(5 * US, 20000000);
    notify(6 * US);
    notify(7 * US);
    rate_is(8 * US - 1, 20000000);
    rate_is(8 * US, 10000000);
    rate_is(50 * US, 10000000);
    notify(60 * US); /* long after the timer: at once */
    const uint64_t pacing = fab_cc_dcqcn.on_send(&config, &state, 0, 60 * US);
    CHECK(pacing > fab_cc_pacing_q16(10000000) && pacing < fab_cc_pacing_q16(4900000));
}

/* clamp_target 0: a second cut without an increase in between leaves the target where it was. */
static void target_may_stay(void)
{
    const char *const names[] = {"clamp_target"};
    const int64_t values[] = {0};
    start(names, values, 1);
    notify(0);
    notify(1);
    rate_is(1, 10000000);
    rate_is(1 + 55 * US, (10000000 + LINE_KBPS) / 2);
    notify(2 + 55 * US); /* after an increase the target follows: 25, and alpha 1 (1-g) + g = 1 less a decay */
    rate_is(1 + 109 * US, 25000000 - (int64_t)(25000000 * (255.0 / 256) / 2));
}

/* alpha_by_timer: alpha grows only when its timer ends with a notification in it. */
static void alpha_by_timer(void)
{
    const char *const names[] = {"alpha_by_timer", "g_inverse", "increase_timer_ps", "alpha_timer_ps",
                                 "byte_counter_bytes"};
    const int64_t values[] = {1, 4, 1000000 * US, 10 * US, 0};
    start(names, values, 5);
    notify(0);
    rate_is(0, 20000000);
    /* at 10 us: alpha = 3/4 + 1/4 = 1 (notified); at 20, 30: 3/4, 9/16 */
    notify(31 * US);
    rate_is(31 * US, 20000000 - 20000000LL * 9 / 32);
}

static void never_below_the_least_nor_above_the_line(void)
{
    dice_t dice = {61};
    start(NULL, NULL, 0);
    int64_t now = 0;
    const uint64_t slowest = fab_cc_pacing_q16(100000), fastest = fab_cc_pacing_q16(LINE_KBPS);
    for (int i = 0; i < 200000; i++) {
        now += dice_below(&dice, i % 3 ? 3000000 : 300000000);
        if (dice_below(&dice, 3) == 0)
            notify(now);
        const uint64_t pacing = fab_cc_dcqcn.on_send(&config, &state, dice_below(&dice, 5000), now);
        if (pacing > slowest || pacing < fastest) {
            CHECK(pacing <= slowest && pacing >= fastest);
            return;
        }
    }
    for (int i = 0; i < 200; i++)
        notify(now += US);
    CHECK_EQ(fab_cc_dcqcn.on_send(&config, &state, 0, now), slowest);
    /* silence: back to line rate */
    CHECK_EQ(fab_cc_dcqcn.on_send(&config, &state, 0, now + 1000000 * US), fastest);
}

/* A line slower than min_rate keeps its own rate. */
static void slow_lines(void)
{
    const char *const names[] = {"min_rate_mbps"};
    const int64_t values[] = {10000};
    start(names, values, 1);
    fab_cc_dcqcn.init(&config, &state, 1000000);
    notify(0);
    rate_is(0, 1000000);
}

static void none_is_line_rate(void)
{
    fab_cc_none.init(&config, &state, LINE_KBPS);
    fab_cc_none.on_cnp(&config, &state, 5);
    CHECK_EQ(fab_cc_none.on_send(&config, &state, 4178, 10), fab_cc_pacing_q16(LINE_KBPS));
    CHECK(!fab_cc_none.wants_cnp && fab_cc_dcqcn.wants_cnp);
}

void test_cc(void)
{
    pacing_is_the_wire_at_line_rate();
    nothing_moves_before_the_first_notification();
    halves_and_recovers();
    time_may_pass_in_any_steps();
    alpha_decays();
    additive_increase();
    hyper_increase();
    byte_counter_counts();
    a_cut_starts_over();
    decrease_timer_spaces_cuts();
    target_may_stay();
    alpha_by_timer();
    never_below_the_least_nor_above_the_line();
    slow_lines();
    none_is_line_rate();
}
