/* The core room: wire time, keyed draws, heap, pool, digest, packet numbers. */
#include "check.h"
#include "core/digest.h"
#include "core/heap.h"
#include "core/keyed.h"
#include "core/pool.h"
#include "core/wire.h"
#include "net/packet.h"

#include <stdlib.h>
#include <string.h>

/* bytes x 8e6 / rate, rounded up, in 128 bits. */
static int64_t wire_by_hand(int64_t bytes, int64_t rate_mbps)
{
    return (int64_t)(((unsigned __int128)bytes * 8000000 + (uint64_t)rate_mbps - 1) / (uint64_t)rate_mbps);
}

static void wire_is_exact_at_usual_rates(void)
{
    static const int64_t rates[] = {1000, 10000, 25000, 40000, 50000, 100000, 200000, 400000, 800000};
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        const uint32_t q16 = fab_wire_ps_per_byte_q16(rates[r]);
        for (int64_t bytes = 0; bytes < 20000; bytes += 1 + bytes / 7)
            CHECK_EQ(fab_wire_ps(bytes, q16), wire_by_hand(bytes, rates[r]));
        CHECK_EQ(fab_wire_ps(1 << 30, q16), wire_by_hand(1 << 30, rates[r]));
    }
    CHECK_EQ(fab_wire_ps(4178, fab_wire_ps_per_byte_q16(100000)), 334240);
    CHECK_EQ(fab_wire_ps(84, fab_wire_ps_per_byte_q16(400000)), 1680);
}

static void wire_is_close_at_any_rate(void)
{
    dice_t dice = {11};
    for (int i = 0; i < 2000; i++) {
        const int64_t rate = FAB_RATE_MIN_MBPS + dice_below(&dice, 3200000), bytes = dice_below(&dice, 1 << 30);
        const int64_t found = fab_wire_ps(bytes, fab_wire_ps_per_byte_q16(rate)), exact = wire_by_hand(bytes, rate);
        CHECK(llabs(found - exact) <= exact / 320000 + 1); /* half a unit of Q16 at 3.2 Tb/s: 3.1 ppm */
    }
}

static void bytes_undo_time(void)
{
    dice_t dice = {12};
    for (int i = 0; i < 2000; i++) {
        const uint32_t q16 = fab_wire_ps_per_byte_q16(1000 + dice_below(&dice, 800000));
        const int64_t bytes = dice_below(&dice, 1 << 30), ps = fab_wire_ps(bytes, q16);
        CHECK(fab_wire_bytes(ps, q16) >= bytes);
        CHECK(ps == 0 || fab_wire_bytes(ps - 1, q16) <= bytes);
    }
}

static void draws_depend_on_each_key(void)
{
    const uint64_t base = fab_keyed_draw(1, FAB_KEY_MARK, 2, 3);
    CHECK(base == fab_keyed_draw(1, FAB_KEY_MARK, 2, 3));
    CHECK(base != fab_keyed_draw(2, FAB_KEY_MARK, 2, 3));
    CHECK(base != fab_keyed_draw(1, FAB_KEY_SALT, 2, 3));
    CHECK(base != fab_keyed_draw(1, FAB_KEY_MARK, 3, 3));
    CHECK(base != fab_keyed_draw(1, FAB_KEY_MARK, 2, 4));
    /* SplitMix64's first outputs from state 0, as published with it */
    CHECK(fab_keyed_mix(0) == UINT64_C(0xE220A8397B1DCDAF));
    CHECK(fab_keyed_mix(UINT64_C(0x9E3779B97F4A7C15)) == UINT64_C(0x6E789E6AA1B965F4));
}

/* 64 buckets over consecutive counts: chi-square of 63 degrees stays below 120 (p < 1e-5 otherwise). */
static void draws_are_even(void)
{
    for (uint64_t purpose = 1; purpose <= 4; purpose++) {
        int64_t seen[64] = {0};
        const int64_t n = 64000;
        for (int64_t i = 0; i < n; i++)
            seen[fab_keyed_draw(7, purpose, 5, (uint64_t)i) >> 58]++;
        int64_t squares = 0;
        for (int i = 0; i < 64; i++)
            squares += (seen[i] - n / 64) * (seen[i] - n / 64);
        CHECK(squares / (n / 64) < 120);
    }
}

static int compare_timers(const void *a, const void *b) { return fab_timer_before(a, b) ? -1 : fab_timer_before(b, a); }

static void heap_sorts(void)
{
    fab_pool_t pool = {0};
    fab_heap_t heap;
    fab_heap_init(&heap);
    CHECK(heap.next_ps == FAB_NEVER);
    dice_t dice = {13};
    fab_timer_t all[500];
    for (int round = 0; round < 20; round++) {
        const uint32_t n = 1 + dice_below(&dice, 500);
        for (uint32_t i = 0; i < n; i++) {
            all[i] = (fab_timer_t){dice_below(&dice, 50), (uint64_t)dice_below(&dice, 1 << 20) << 32 | i};
            CHECK(fab_heap_push(&heap, &pool, all[i]));
        }
        qsort(all, n, sizeof *all, compare_timers);
        for (uint32_t i = 0; i < n; i++) {
            CHECK_EQ(heap.next_ps, all[i].when_ps);
            const fab_timer_t timer = fab_heap_pop(&heap);
            CHECK(timer.when_ps == all[i].when_ps && timer.key == all[i].key);
        }
        CHECK_EQ(heap.count, 0);
    }
    /* pushes and pops mixed: what comes out is never before what came out since the last push of less */
    int64_t now = 0;
    for (int i = 0; i < 5000; i++) {
        if (!heap.count || dice_below(&dice, 2)) {
            CHECK(fab_heap_push(&heap, &pool, (fab_timer_t){now + dice_below(&dice, 100), (uint64_t)i}));
        } else {
            const int64_t when = fab_heap_pop(&heap).when_ps;
            CHECK(when >= now);
            now = when;
        }
    }
    fab_pool_free(&pool);
}

static void pool_classes(void)
{
    CHECK_EQ(fab_pool_class(0), FAB_POOL_CLASS_MIN);
    CHECK_EQ(fab_pool_class(1), FAB_POOL_CLASS_MIN);
    CHECK_EQ(fab_pool_class(32), 5);
    CHECK_EQ(fab_pool_class(33), 6);
    CHECK_EQ(fab_pool_class(64), 6);
    CHECK_EQ(fab_pool_class(1 << 20), 20);
    CHECK_EQ(fab_pool_class((1 << 20) + 1), 21);
}

/* Blocks do not overlap, are aligned, keep what is written, and come back after they were given. */
static void pool_gives_what_it_takes(void)
{
    enum { BLOCKS = 300 };
    fab_pool_t pool = {0};
    dice_t dice = {14};
    unsigned char *blocks[BLOCKS] = {0};
    int classes[BLOCKS] = {0};
    for (int i = 0; i < 6000; i++) {
        const uint32_t b = dice_below(&dice, BLOCKS);
        if (blocks[b]) {
            const size_t bytes = (size_t)1 << classes[b];
            CHECK(blocks[b][0] == (unsigned char)b && blocks[b][bytes - 1] == (unsigned char)b);
            fab_pool_give(&pool, blocks[b], classes[b]);
            blocks[b] = NULL;
        } else {
            classes[b] = FAB_POOL_CLASS_MIN + (int)dice_below(&dice, i % 50 ? 6 : 15);
            const size_t bytes = (size_t)1 << classes[b];
            blocks[b] = fab_pool_take(&pool, classes[b]);
            CHECK(blocks[b] != NULL);
            if (!blocks[b])
                continue;
            CHECK_EQ((uintptr_t)blocks[b] % (bytes < FAB_CACHE_LINE ? bytes : FAB_CACHE_LINE), 0);
            memset(blocks[b], (int)b, bytes);
        }
    }
    const int64_t held = pool.held_bytes;
    void *block = fab_pool_take(&pool, 8);
    fab_pool_give(&pool, block, 8);
    CHECK(fab_pool_take(&pool, 8) == block);
    CHECK(pool.held_bytes - held <= 1 << 19);
    CHECK(fab_pool_take(&pool, FAB_POOL_CLASS_MAX + 1) == NULL);
    fab_pool_free(&pool);
    CHECK_EQ(pool.held_bytes, 0);
}

static void digest_sees_order(void)
{
    const uint64_t ab = fab_digest_add(fab_digest_add(0, 1), 2), ba = fab_digest_add(fab_digest_add(0, 2), 1);
    CHECK(ab != ba);
    CHECK(fab_digest_add(0, 0) != 0);
    CHECK(fab_digest_add(ab, 0) != ab);
}

static void psn_unwraps(void)
{
    const uint64_t half = UINT64_C(1) << (FAB_PSN_BITS - 1);
    dice_t dice = {15};
    for (int i = 0; i < 20000; i++) {
        const uint64_t near = half + (dice_roll(&dice) >> (i % 40));
        const uint64_t full = near - half + dice_below(&dice, 1u << FAB_PSN_BITS);
        CHECK(fab_psn_unwrap((uint32_t)full & FAB_PSN_MASK, near) == full);
    }
    CHECK(fab_psn_unwrap(0, 0) == 0);
    CHECK(fab_psn_unwrap(5, FAB_PSN_MASK) == (UINT64_C(1) << FAB_PSN_BITS) + 5);
    CHECK(fab_psn_unwrap(FAB_PSN_MASK, UINT64_C(1) << FAB_PSN_BITS) == FAB_PSN_MASK);
}

void test_core(void)
{
    wire_is_exact_at_usual_rates();
    wire_is_close_at_any_rate();
    bytes_undo_time();
    draws_depend_on_each_key();
    draws_are_even();
    heap_sorts();
    pool_classes();
    pool_gives_what_it_takes();
    digest_sees_order();
    psn_unwraps();
}
