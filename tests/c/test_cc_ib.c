/* InfiniBand congestion control: 100 Gb/s is 80 ps a byte, entries of an eighth of a packet's time. */
#include "cc_feed.h"
#include "check.h"

static const int64_t LINE = 100000000, BYTE = 80 * 65536, TURN = 150 * INT64_C(1024000);

static void start(const char *const *names, const int64_t *values, int32_t count)
{
    feed_start(&fab_cc_ib_cc, names, values, count, LINE);
}

/* The delay between packets in eighths of a packet's time. */
static void delay_is(int64_t now_ps, int64_t eighths) { CHECK_EQ(feed_send(2048, now_ps), BYTE + BYTE * eighths / 8); }

static void becns_add_and_the_timer_takes_off(void)
{
    start(NULL, NULL, 0);
    delay_is(0, 0);
    feed_cnp(US);
    delay_is(US, 1);
    for (int i = 0; i < 7; i++)
        feed_cnp(2 * US);
    delay_is(2 * US, 8);
    delay_is(TURN - 1, 8);
    delay_is(TURN, 7);
    delay_is(4 * TURN, 4);
    feed_cnp(5 * TURN); /* the timer first */
    delay_is(5 * TURN, 4);
    delay_is(100 * TURN, 0);
    feed_cnp(100 * TURN + 5); /* turns in which there was nothing to take off do not count later */
    delay_is(100 * TURN + 5, 1);
    delay_is(101 * TURN, 0);
}

static void the_limit_and_the_least_hold(void)
{
    const char *const names[] = {"ccti_min_count", "ccti_increase_count"};
    const int64_t values[] = {2, 50};
    start(names, values, 2);
    delay_is(0, 2);
    feed_cnp(0);
    delay_is(0, 52);
    feed_cnp(0);
    feed_cnp(0);
    delay_is(0, 127);
    delay_is(TURN, 126);
    delay_is(1000 * TURN, 2);
}

/* Entry i of a table that doubles is 2^i - 1; the multiplier has 14 bits, the shift two. */
static void a_table_may_grow_by_powers(void)
{
    const char *const names[] = {"cct_exponential", "cct_step_ppm"};
    const int64_t values[] = {1, 1000000};
    start(names, values, 2);
    const int64_t delays[] = {0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 2047, 4095, 8191, 16383, 16383, 16383};
    for (uint32_t i = 0; i < sizeof delays / sizeof *delays; i++) {
        delay_is(0, 8 * delays[i]);
        feed_cnp(0);
    }
    for (int i = 0; i < 200; i++)
        feed_cnp(0);
    delay_is(0, 8 * 16383);
}

/* 1.1^7 - 1 = 0.9487171: 8 eighths; 1.1^24 - 1 = 8.8497: 71 eighths. */
static void entries_are_rounded_to_eighths(void)
{
    const char *const names[] = {"cct_exponential", "cct_step_ppm", "ccti_increase_count"};
    const int64_t values[] = {1, 100000, 7};
    start(names, values, 3);
    feed_cnp(0);
    delay_is(0, 8);
    const int64_t further[] = {1, 100000, 24};
    start(names, further, 3);
    feed_cnp(0);
    delay_is(0, 71);
}

/* A linear table of large steps: beyond 2047 packet times the shift gives way, beyond 16383 all is the same. */
static void large_delays_lose_their_fraction(void)
{
    const char *const names[] = {"cct_step_ppm", "ccti_increase_count", "ccti_limit_count"};
    const int64_t values[] = {16000000, 255, 2000};
    start(names, values, 3);
    feed_cnp(0);
    delay_is(0, 8 * 4080);
    for (int i = 0; i < 4; i++)
        feed_cnp(0);
    delay_is(0, 8 * 16383);
}

void test_cc_ib(void)
{
    becns_add_and_the_timer_takes_off();
    the_limit_and_the_least_hold();
    a_table_may_grow_by_powers();
    entries_are_rounded_to_eighths();
    large_delays_lose_their_fraction();
}
