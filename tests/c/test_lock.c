/* Extent locks: cases worked out by hand from the rules, and random asking against plain lists that follow the rules word
 * for word. */
#include "check.h"
#include "store/lock.h"

#include <string.h>

enum { KIB = 1024, MIB = 1024 * 1024, LOCKS = 96, TOLD_MOST = 256 };

typedef struct {
    fab_lock_t *granted[TOLD_MOST], *called[TOLD_MOST];
    int granted_count, called_count;
} told_t;

static void tell_granted(void *context, fab_lock_t *lock)
{
    told_t *told = context;
    told->granted[told->granted_count++] = lock;
}

static void tell_called(void *context, fab_lock_t *lock)
{
    told_t *told = context;
    told->called[told->called_count++] = lock;
}

static fab_lock_t asked(fab_lock_mode_t mode, uint32_t client, int64_t start, int64_t end)
{
    return (fab_lock_t){.mode = (uint8_t)mode, .client = client, .asked_start = start, .asked_end = end};
}

static bool ask(fab_lock_resource_t *resource, fab_lock_t *lock, told_t *told)
{
    told->granted_count = told->called_count = 0;
    return fab_lock_enqueue(resource, lock, tell_called, told);
}

static void give_back(fab_lock_resource_t *resource, fab_lock_t *lock, told_t *told)
{
    told->granted_count = told->called_count = 0;
    fab_lock_remove(resource, lock, tell_granted, tell_called, told);
}

/* ---- by hand -------------------------------------------------------------------------------------- */

typedef struct {
    fab_lock_mode_t mode;
    int64_t start, end;         /* asked for, by a client of its own */
    bool granted;               /* at once */
    int64_t got_start, got_end; /* what it is granted, if so */
} row_t;

static void test_granted(void)
{
    static const struct {
        const char *what;
        row_t rows[6];
        int count;
    } cases[] = {
        {"the first gets the whole object", {{FAB_LOCK_PW, 4096, 8191, true, 0, FAB_LOCK_EOF}}, 1},
        {"readers share all of it",
         {{FAB_LOCK_PR, 0, 4095, true, 0, FAB_LOCK_EOF}, {FAB_LOCK_PR, 8192, 12287, true, 0, FAB_LOCK_EOF}},
         2},
        {"a writer waits for the one that has all",
         {{FAB_LOCK_PW, 0, MIB - 1, true, 0, FAB_LOCK_EOF}, {FAB_LOCK_PW, MIB, 2 * MIB - 1, false, 0, 0}},
         2},
        {"bytes are widened to pages",
         {{FAB_LOCK_PR, 0, FAB_LOCK_EOF, true, 0, FAB_LOCK_EOF}, {FAB_LOCK_PW, 4097, 4098, false, 0, 0}},
         2},
        {"a group shares with groups alone",
         {{FAB_LOCK_GROUP, 0, 4095, true, 0, FAB_LOCK_EOF},
          {FAB_LOCK_GROUP, 8192, 12287, true, 0, FAB_LOCK_EOF},
          {FAB_LOCK_PR, MIB, 2 * MIB - 1, false, 0, 0}},
         3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fab_lock_resource_t resource = {0};
        fab_lock_t locks[6];
        told_t told;
        for (int r = 0; r < cases[i].count; r++) {
            const row_t *row = &cases[i].rows[r];
            locks[r] = asked(row->mode, (uint32_t)r, row->start, row->end);
            CHECK_EQ(ask(&resource, &locks[r], &told), row->granted);
            CHECK_EQ(locks[r].granted, row->granted);
            if (row->granted) {
                CHECK_EQ(locks[r].start, row->got_start);
                CHECK_EQ(locks[r].end, row->got_end);
            }
        }
    }
}

/* Clients write segments of a file: the second takes half of the object from the first, which asks again. */
static void test_segments(void)
{
    fab_lock_resource_t resource = {0};
    told_t told;
    fab_lock_t a = asked(FAB_LOCK_PW, 1, 0, MIB - 1), b = asked(FAB_LOCK_PW, 2, 64 * MIB, 65 * MIB - 1);
    CHECK(ask(&resource, &a, &told));
    CHECK(!ask(&resource, &b, &told));
    CHECK_EQ(told.called_count, 1);
    CHECK(told.called[0] == &a && a.called);
    give_back(&resource, &a, &told);
    CHECK_EQ(told.granted_count, 1);
    CHECK(told.granted[0] == &b && b.granted);
    CHECK_EQ(told.called_count, 0);
    CHECK_EQ(b.start, 0); /* nothing conflicts any more */
    CHECK_EQ(b.end, FAB_LOCK_EOF);
    fab_lock_t again = asked(FAB_LOCK_PW, 1, MIB, 2 * MIB - 1);
    CHECK(!ask(&resource, &again, &told));
    fab_lock_t b_again = asked(FAB_LOCK_PW, 2, 65 * MIB, 66 * MIB - 1);
    CHECK(!ask(&resource, &b_again, &told)); /* it overlaps its own, which is called */
    CHECK_EQ(told.called_count, 0);
    give_back(&resource, &b, &told);
    CHECK_EQ(told.granted_count, 2);
    CHECK_EQ(again.start, 0); /* up to who waits above it */
    CHECK_EQ(again.end, 65 * MIB - 1);
    CHECK_EQ(b_again.start, 65 * MIB); /* never down, with a conflicting one granted */
    CHECK_EQ(b_again.end, FAB_LOCK_EOF);
    CHECK_EQ(told.called_count, 0);
}

/* An extent ends at multiples of what divides both ends of what was asked for. */
static void test_alignment(void)
{
    fab_lock_resource_t resource = {0};
    told_t told;
    fab_lock_t high = {.mode = FAB_LOCK_PW, .client = 1, .start = 10 * MIB + 4096, .end = FAB_LOCK_EOF};
    fab_lock_restore(&resource, &high);
    fab_lock_t by_mib = asked(FAB_LOCK_PW, 2, 3 * MIB, 4 * MIB - 1);
    CHECK(ask(&resource, &by_mib, &told));
    CHECK_EQ(by_mib.start, 3 * MIB);
    CHECK_EQ(by_mib.end, 10 * MIB - 1); /* not 10 MiB + 4095 */
    give_back(&resource, &by_mib, &told);
    fab_lock_t by_page = asked(FAB_LOCK_PW, 2, 3 * MIB, 3 * MIB + 4095);
    CHECK(ask(&resource, &by_page, &told));
    CHECK_EQ(by_page.end, 10 * MIB + 4095);
    give_back(&resource, &by_page, &told);
    fab_lock_t by_eight = asked(FAB_LOCK_PW, 2, 2 * MIB + 24 * KIB, 2 * MIB + 32 * KIB - 1);
    CHECK(ask(&resource, &by_eight, &told));
    CHECK_EQ(by_eight.end, 10 * MIB - 1); /* 10 MiB + 4 KiB rounded down to 8 KiB */
}

/* More than 32 conflicting locks: a writer grows by no more than 32 MiB; a reader as far as it can. */
static void test_busy(void)
{
    enum { HOLDERS = 33 };
    for (int holders = HOLDERS - 1; holders <= HOLDERS; holders++) {
        fab_lock_resource_t resource = {0};
        told_t told;
        fab_lock_t held[HOLDERS];
        for (int i = 0; i < holders; i++) {
            held[i] = (fab_lock_t){.mode = FAB_LOCK_PW, .client = 9, .start = i * 4096, .end = i * 4096 + 4095};
            fab_lock_restore(&resource, &held[i]);
        }
        fab_lock_t writer = asked(FAB_LOCK_PW, 1, MIB, 2 * MIB - 1);
        CHECK(ask(&resource, &writer, &told));
        CHECK_EQ(writer.start, MIB);
        CHECK_EQ(writer.end, holders > 32 ? 33 * MIB - 1 : FAB_LOCK_EOF);
        give_back(&resource, &writer, &told);
        fab_lock_t reader = asked(FAB_LOCK_PR, 1, MIB, 2 * MIB - 1);
        CHECK(ask(&resource, &reader, &told));
        CHECK_EQ(reader.end, FAB_LOCK_EOF);
        give_back(&resource, &reader, &told);
        fab_lock_t large = asked(FAB_LOCK_PW, 1, 64 * MIB, 128 * MIB - 1); /* asks for more itself */
        CHECK(ask(&resource, &large, &told));
        CHECK_EQ(large.end, FAB_LOCK_EOF);
    }
}

/* What waits above and below limits a grant; more than four of them, and it does not grow down at all. */
static void test_waiting(void)
{
    for (int others = 1; others <= 5; others++) {
        fab_lock_resource_t resource = {0};
        told_t told;
        fab_lock_t all = asked(FAB_LOCK_PR, 1, 0, FAB_LOCK_EOF);
        fab_lock_t first = asked(FAB_LOCK_PW, 2, 512 * MIB, 513 * MIB - 1), waiting[5];
        CHECK(ask(&resource, &all, &told));
        CHECK(!ask(&resource, &first, &told));
        for (int i = 0; i < others; i++) {
            const int64_t at = i == 0 ? 256 * MIB : (600 + 100 * i) * (int64_t)MIB;
            waiting[i] = asked(FAB_LOCK_PW, (uint32_t)(3 + i), at, at + MIB - 1);
            CHECK(!ask(&resource, &waiting[i], &told));
            CHECK_EQ(told.called_count, 0); /* called for the first */
        }
        give_back(&resource, &all, &told);
        CHECK_EQ(told.granted_count, 1 + others);
        CHECK_EQ(told.called_count, 0);
        CHECK_EQ(first.start, others > 4 ? 512 * MIB : 257 * MIB);
        CHECK_EQ(first.end, others > 1 ? 700 * (int64_t)MIB - 1 : FAB_LOCK_EOF);
    }
}

/* Who is granted a lock that the next one wants too is called back at once: the ping-pong of a shared file. */
static void test_ping_pong(void)
{
    fab_lock_resource_t resource = {0};
    told_t told;
    fab_lock_t locks[4];
    for (uint32_t i = 0; i < 4; i++) {
        locks[i] = asked(FAB_LOCK_PW, i, 0, 4095);
        CHECK_EQ(ask(&resource, &locks[i], &told), i == 0);
        CHECK_EQ(told.called_count, i == 1);
    }
    for (uint32_t i = 0; i < 3; i++) {
        give_back(&resource, &locks[i], &told);
        CHECK_EQ(told.granted_count, 1);
        CHECK(told.granted[0] == &locks[i + 1]);
        CHECK_EQ(told.called_count, i < 2);
        CHECK_EQ(locks[i + 1].called, i < 2);
    }
}

/* A group comes in while others wait for it, and goes before those that wait for another to end. */
static void test_groups(void)
{
    fab_lock_resource_t resource = {0};
    told_t told;
    fab_lock_t one = asked(FAB_LOCK_GROUP, 1, 0, 0), writer = asked(FAB_LOCK_PW, 2, 0, 4095),
               two = asked(FAB_LOCK_GROUP, 3, 0, 0), three = asked(FAB_LOCK_GROUP, 4, 0, 0);
    CHECK(ask(&resource, &one, &told));
    CHECK(!ask(&resource, &writer, &told));
    CHECK(ask(&resource, &two, &told));
    CHECK(told.called_count == 1 && told.called[0] == &two);
    give_back(&resource, &one, &told);
    CHECK_EQ(told.granted_count, 0);
    give_back(&resource, &two, &told);
    CHECK(told.granted_count == 1 && told.granted[0] == &writer);
    fab_lock_t reader = asked(FAB_LOCK_PR, 5, 0, 4095);
    CHECK(!ask(&resource, &reader, &told));
    CHECK(!ask(&resource, &three, &told));
    give_back(&resource, &writer, &told);
    CHECK(told.granted_count == 1 && told.granted[0] == &three && told.called_count == 1);
    give_back(&resource, &three, &told);
    CHECK(told.granted_count == 1 && told.granted[0] == &reader && resource.granted_count == 1);
}

/* ---- plain lists ------------------------------------------------------------------------------------ */

typedef struct {
    int granted[LOCKS], waiting[LOCKS], granted_count, waiting_count;
    fab_lock_t locks[LOCKS]; /* only what a lock is asked for and gets */
} plain_t;

static bool plain_overlap(int64_t s1, int64_t e1, int64_t s2, int64_t e2) { return !(e1 < s2 || e2 < s1); }

static bool plain_agree(fab_lock_mode_t a, fab_lock_mode_t b)
{
    return (a == FAB_LOCK_PR && b == FAB_LOCK_PR) || (a == FAB_LOCK_GROUP && b == FAB_LOCK_GROUP);
}

static void plain_trim(fab_lock_t *l, int conflicting)
{
    if (conflicting > 32 && l->mode == FAB_LOCK_PW && l->asked_end < l->asked_start + 32 * MIB - 1 &&
        l->end > l->asked_start + 32 * MIB - 1)
        l->end = l->asked_start + 32 * MIB - 1;
    if (l->start == 0 && l->end == FAB_LOCK_EOF)
        return;
    int64_t align = 4096;
    while (l->asked_start % (2 * align) == 0 &&
           (l->asked_end == FAB_LOCK_EOF || (l->asked_end + 1) % (2 * align) == 0) && align < INT64_C(1) << 61)
        align *= 2;
    if (l->start % align)
        l->start += align - l->start % align;
    if (l->end != FAB_LOCK_EOF)
        l->end -= (l->end + 1) % align;
}

static void plain_grant(plain_t *p, int i)
{
    fab_lock_t *l = &p->locks[i];
    l->start = l->asked_start;
    l->end = l->asked_end;
    if (l->start > 0 || l->end < FAB_LOCK_EOF) {
        int conflicting = 0;
        l->start = 0;
        l->end = FAB_LOCK_EOF;
        for (int g = 0; g < p->granted_count; g++) {
            const fab_lock_t *o = &p->locks[p->granted[g]];
            if (plain_agree(o->mode, l->mode))
                continue;
            conflicting++;
            l->start = l->asked_start;
            if (o->start > l->asked_end && l->end >= o->start)
                l->end = o->start - 1;
        }
        plain_trim(l, conflicting);
        conflicting = 0;
        bool least = false;
        for (int w = 0; w < p->waiting_count && !least; w++) {
            const fab_lock_t *o = &p->locks[p->waiting[w]];
            least = l->start == l->asked_start && l->end == l->asked_end;
            if (least || (plain_agree(o->mode, l->mode) && o->client != l->client))
                continue;
            if (++conflicting > 4)
                l->start = l->asked_start;
            if (plain_overlap(o->asked_start, o->asked_end, l->asked_start, l->asked_end))
                continue;
            if (o->asked_start < l->asked_start && l->start != l->asked_start && o->asked_end >= l->start)
                l->start = o->asked_end + 1;
            if (o->asked_end > l->asked_end && o->asked_start <= l->end)
                l->end = o->asked_start - 1;
        }
        if (!least)
            plain_trim(l, conflicting);
    }
    l->granted = true;
    p->granted[p->granted_count++] = i;
}

static bool plain_blocked(const plain_t *p, const fab_lock_t *l)
{
    for (int g = 0; g < p->granted_count; g++) {
        const fab_lock_t *o = &p->locks[p->granted[g]];
        if (!plain_agree(o->mode, l->mode) && plain_overlap(o->start, o->end, l->asked_start, l->asked_end))
            return true;
    }
    return false;
}

static bool plain_wanted(const plain_t *p, fab_lock_mode_t mode, int64_t start, int64_t end)
{
    for (int w = 0; w < p->waiting_count; w++) {
        const fab_lock_t *o = &p->locks[p->waiting[w]];
        if (!plain_agree(o->mode, mode) && plain_overlap(o->asked_start, o->asked_end, start, end))
            return true;
    }
    return false;
}

static void plain_ask(plain_t *p, int i)
{
    fab_lock_t *l = &p->locks[i];
    bool shared = false;
    for (int g = 0; g < p->granted_count; g++)
        shared = shared || (l->mode == FAB_LOCK_GROUP && p->locks[p->granted[g]].mode == FAB_LOCK_GROUP);
    if (shared || (!plain_blocked(p, l) && !plain_wanted(p, l->mode, l->asked_start, l->asked_end))) {
        plain_grant(p, i);
        l->called = plain_wanted(p, l->mode, l->start, l->end);
        return;
    }
    for (int g = 0; g < p->granted_count; g++) {
        fab_lock_t *o = &p->locks[p->granted[g]];
        if (!plain_agree(o->mode, l->mode) && plain_overlap(o->start, o->end, l->asked_start, l->asked_end))
            o->called = true;
    }
    int at = p->waiting_count;
    if (l->mode == FAB_LOCK_GROUP)
        for (at = 0; at < p->waiting_count && p->locks[p->waiting[at]].mode == FAB_LOCK_GROUP;)
            at++;
    memmove(&p->waiting[at + 1], &p->waiting[at], (size_t)(p->waiting_count - at) * sizeof *p->waiting);
    p->waiting[at] = i;
    p->waiting_count++;
}

static void plain_drop(int *list, int *count, int i)
{
    int kept = 0;
    for (int k = 0; k < *count; k++)
        if (list[k] != i)
            list[kept++] = list[k];
    *count = kept;
}

static void plain_give_back(plain_t *p, int i)
{
    plain_drop(p->granted, &p->granted_count, i);
    plain_drop(p->waiting, &p->waiting_count, i);
    while (p->waiting_count && !plain_blocked(p, &p->locks[p->waiting[0]])) {
        const int first = p->waiting[0];
        plain_drop(p->waiting, &p->waiting_count, first);
        plain_grant(p, first);
        fab_lock_t *l = &p->locks[first];
        l->called = plain_wanted(p, l->mode, l->start, l->end);
    }
}

static void compare(const plain_t *p, const fab_lock_t *locks, const bool *in_use, const fab_lock_resource_t *resource)
{
    CHECK_EQ(resource->granted_count, p->granted_count);
    CHECK_EQ(resource->waiting_count, p->waiting_count);
    for (int i = 0; i < LOCKS; i++) {
        if (!in_use[i])
            continue;
        CHECK_EQ(locks[i].granted, p->locks[i].granted);
        CHECK_EQ(locks[i].called, p->locks[i].called);
        if (locks[i].granted) {
            CHECK_EQ(locks[i].start, p->locks[i].start);
            CHECK_EQ(locks[i].end, p->locks[i].end);
            CHECK(locks[i].start <= locks[i].asked_start && locks[i].end >= locks[i].asked_end);
        }
        for (int j = 0; j < i; j++)
            CHECK(!in_use[j] || !locks[i].granted || !locks[j].granted || plain_agree(locks[i].mode, locks[j].mode) ||
                  !plain_overlap(locks[i].start, locks[i].end, locks[j].start, locks[j].end));
    }
}

static void test_random(void)
{
    for (uint64_t seed = 1; seed <= 24; seed++) {
        dice_t dice = {seed * 7919};
        fab_lock_resource_t resource = {0};
        static plain_t plain;
        static fab_lock_t locks[LOCKS];
        bool in_use[LOCKS] = {false};
        told_t told;
        memset(&plain, 0, sizeof plain);
        /* few and many locks, few and many readers, with groups or without, small and large extents */
        const uint32_t most = seed % 3 ? LOCKS : 8, readers = 10 * (uint32_t)(seed % 5), groups = seed % 4 ? 0 : 8;
        const uint32_t spread = 1u << (seed % 4 * 4);
        for (int step = 0; step < 400; step++) {
            const int i = (int)dice_below(&dice, most);
            /* holders are not always asked: only those called back, or now and then */
            if (in_use[i] && (locks[i].called || dice_below(&dice, 4) == 0)) {
                give_back(&resource, &locks[i], &told);
                plain_give_back(&plain, i);
                in_use[i] = false;
            } else if (!in_use[i]) {
                const uint32_t draw = dice_below(&dice, 100);
                const fab_lock_mode_t mode = draw < groups             ? FAB_LOCK_GROUP
                                             : draw < groups + readers ? FAB_LOCK_PR
                                                                       : FAB_LOCK_PW;
                const int64_t unit = INT64_C(4096) << dice_below(&dice, 10);
                const int64_t start = dice_below(&dice, 512 * spread) * unit;
                const int64_t end =
                    dice_below(&dice, 20) == 0 ? FAB_LOCK_EOF : start + unit * (1 + dice_below(&dice, 4)) - 1;
                const uint32_t client = dice_below(&dice, 12);
                locks[i] = asked(mode, client, start, end);
                plain.locks[i] = mode == FAB_LOCK_GROUP ? asked(mode, client, 0, FAB_LOCK_EOF) : locks[i];
                ask(&resource, &locks[i], &told);
                plain_ask(&plain, i);
                in_use[i] = true;
            }
            compare(&plain, locks, in_use, &resource);
        }
        for (int i = 0; i < LOCKS; i++)
            if (in_use[i])
                give_back(&resource, &locks[i], &told);
        CHECK_EQ(resource.granted_count + resource.waiting_count, 0);
        CHECK(!resource.waiting && !resource.granted[FAB_LOCK_PR] && !resource.granted[FAB_LOCK_PW]);
    }
}

void test_lock(void)
{
    test_granted();
    test_segments();
    test_alignment();
    test_busy();
    test_waiting();
    test_ping_pong();
    test_groups();
    test_random();
}
