/* Layouts like Lustre's: pieces of ranges cover them once, lie where the formula says, and objects go to targets evenly. */
#include "check.h"
#include "store/layout.h"
#include "store/store.h"

#include <string.h>

enum { KIB = 1024, MIB = 1024 * 1024, TARGETS = 12, SERVERS = 3, OBJECTS_MOST = 64 };

static uint32_t target_server[TARGETS];

/* Own parameters follow the shared ones, in the order of the table. */
static int64_t *value_of(fab_store_config_t *config, const char *name)
{
    const fab_param_t *table = fab_layout_lustre.impl.params;
    for (int i = 0; table[i].name; i++)
        if (strcmp(table[i].name, name) == 0)
            return &config->values[i];
    CHECK(!"a parameter of lustre");
    return &config->values[0];
}

static fab_store_config_t world(void)
{
    fab_store_config_t config = {.layout_ops = &fab_layout_lustre,
                                 .data_count = SERVERS,
                                 .meta_count = 2,
                                 .target_count = TARGETS,
                                 .target_server = target_server};
    for (uint32_t t = 0; t < TARGETS; t++)
        target_server[t] = t / (TARGETS / SERVERS);
    for (int i = 0; fab_layout_lustre.impl.params[i].name; i++)
        config.values[i] = fab_layout_lustre.impl.params[i].preset;
    return config;
}

typedef struct {
    int64_t at; /* the next piece begins here */
    const fab_store_config_t *config;
    const fab_layout_t *layout;
    const uint32_t *targets;
    int64_t stripe_bytes, stripe_count; /* of the only component; 0: not checked */
    int pieces;
    uint32_t last_target;
} walk_t;

static bool see(void *context, const fab_piece_t *piece)
{
    walk_t *w = context;
    CHECK_EQ(piece->file_offset, w->at);
    CHECK(piece->bytes > 0);
    CHECK_EQ(piece->target, w->targets[piece->object]);
    CHECK_EQ(fab_layout_lustre.file_end(w->config, w->layout, piece->object, piece->object_offset + piece->bytes),
             piece->file_offset + piece->bytes);
    if (w->stripe_bytes) {
        const int64_t off = piece->file_offset, s = w->stripe_bytes, n = w->stripe_count;
        CHECK_EQ(piece->object, off / s % n);
        CHECK_EQ(piece->object_offset, off / (s * n) * s + off % s);
    }
    w->at += piece->bytes;
    w->pieces++;
    w->last_target = piece->target;
    return true;
}

static walk_t walk(const fab_store_config_t *config, const fab_layout_t *layout, const fab_file_t *file,
                   uint32_t client, bool write, int64_t offset, int64_t bytes, int64_t stripe_bytes,
                   int64_t stripe_count)
{
    walk_t w = {offset, config, layout, file->targets, stripe_bytes, stripe_count, 0, 0};
    fab_layout_lustre.map(config, layout, file, 0, client, write, offset, bytes, see, &w);
    CHECK_EQ(w.at, offset + bytes);
    return w;
}

static void test_formula(void)
{
    fab_store_config_t config = world();
    dice_t dice = {17};
    for (int round = 0; round < 300; round++) {
        fab_layout_t layout;
        uint32_t targets[OBJECTS_MOST];
        const int64_t stripe = INT64_C(65536) << dice_below(&dice, 6), count = 2 + dice_below(&dice, 30);
        *value_of(&config, "stripe_bytes") = stripe;
        *value_of(&config, "stripe_count") = count;
        fab_layout_lustre.standard(&config, &layout);
        CHECK_EQ(fab_layout_lustre.objects(&config, &layout), count);
        fab_layout_lustre.place(&config, &layout, 0, (uint64_t)round, 1, targets);
        const fab_file_t file = {.object_count = (uint32_t)count, .targets = targets};
        const int64_t offset = (int64_t)(dice_roll(&dice) >> 28), bytes = 1 + dice_below(&dice, 64 * MIB);
        walk(&config, &layout, &file, 0, round % 2, offset, bytes, stripe, count);
    }
}

static void test_by_hand(void)
{
    fab_store_config_t config = world();
    fab_layout_t layout;
    uint32_t targets[OBJECTS_MOST];
    *value_of(&config, "stripe_count") = 1;
    fab_layout_lustre.standard(&config, &layout);
    fab_layout_lustre.place(&config, &layout, 0, 5, 1, targets);
    const fab_file_t file = {.object_count = 1, .targets = targets};
    CHECK_EQ(walk(&config, &layout, &file, 0, true, 12345, 99 * MIB, 0, 0).pieces, 1); /* one object: one piece */
    CHECK_EQ(fab_layout_lustre.file_end(&config, &layout, 0, 0), 0);
    *value_of(&config, "stripe_count") = 4;
    fab_layout_lustre.standard(&config, &layout);
    /* byte 5 MiB + 1 of stripes of 1 MiB over 4: the sixth stripe, object 1, its second */
    fab_layout_lustre.place(&config, &layout, 0, 0, 1, targets);
    const fab_file_t four = {.object_count = 4, .targets = targets};
    const walk_t w = walk(&config, &layout, &four, 0, true, 5 * MIB + 1, 10, MIB, 4);
    CHECK_EQ(w.last_target, targets[1]);
    CHECK_EQ(fab_layout_lustre.file_end(&config, &layout, 1, MIB + 11), 5 * MIB + 11);
}

/* First bytes at the metadata server, then ever more stripes; twice, for two mirrors. */
static void test_components(void)
{
    fab_store_config_t config = world();
    fab_layout_t layout = {.mirror_count = 2};
    for (uint8_t m = 0; m < 2; m++) {
        const fab_layout_component_t parts[] = {
            {0, MIB, MIB, 1, FAB_NONE, m, true},
            {MIB, 64 * MIB, MIB, 2, FAB_NONE, m, false},
            {64 * MIB, INT64_MAX, 4 * MIB, FAB_NONE, FAB_NONE, m, false},
        };
        for (int i = 0; i < 3; i++)
            layout.components[layout.component_count++] = parts[i];
    }
    const uint32_t count = fab_layout_lustre.objects(&config, &layout);
    CHECK_EQ(count, 2 * (1 + 2 + TARGETS));
    uint32_t targets[OBJECTS_MOST];
    fab_layout_lustre.place(&config, &layout, 0, 3, 1, targets);
    CHECK_EQ(targets[0], TARGETS); /* which metadata server, it says itself */
    fab_file_t file = {.object_count = count, .targets = targets};
    CHECK_EQ(walk(&config, &layout, &file, 1, true, 0, 1000, 0, 0).last_target, TARGETS);
    dice_t dice = {23};
    for (int i = 0; i < 200; i++) {
        const int64_t offset = dice_below(&dice, 128 * MIB), bytes = 1 + dice_below(&dice, 128 * MIB);
        walk(&config, &layout, &file, dice_below(&dice, 5), i % 2, offset, bytes, 0, 0);
    }
    /* reads of even clients from the first mirror, of odd ones from the second; writes always to the first */
    const int64_t at = 2 * MIB;
    CHECK_EQ(walk(&config, &layout, &file, 0, false, at, 10, 0, 0).last_target, targets[1]);
    CHECK_EQ(walk(&config, &layout, &file, 1, false, at, 10, 0, 0).last_target, targets[count / 2 + 1]);
    CHECK_EQ(walk(&config, &layout, &file, 1, true, at, 10, 0, 0).last_target, targets[1]);
    file.stale = true;
    CHECK_EQ(walk(&config, &layout, &file, 1, false, at, 10, 0, 0).last_target, targets[1]);
}

static void test_standard(void)
{
    fab_store_config_t config = world();
    fab_layout_t layout;
    *value_of(&config, "dom_bytes") = 64 * KIB;
    *value_of(&config, "mirror_count") = 3;
    *value_of(&config, "stripe_count") = -1;
    *value_of(&config, "first_target") = 7;
    fab_layout_lustre.standard(&config, &layout);
    CHECK_EQ(layout.component_count, 6);
    CHECK_EQ(layout.mirror_count, 3);
    CHECK_EQ(fab_layout_lustre.objects(&config, &layout), 3 * (1 + TARGETS));
    uint32_t targets[OBJECTS_MOST];
    fab_layout_lustre.place(&config, &layout, 0, 11, 1, targets);
    for (uint32_t i = 0; i < TARGETS; i++)
        CHECK_EQ(targets[1 + i], (7 + i) % TARGETS); /* by number, from the one that was asked for */
    config.meta_count = 0;
    fab_layout_lustre.standard(&config, &layout);
    CHECK_EQ(layout.component_count, 3); /* nobody to keep the first bytes */
}

/* Round robin: all targets get the same, and neighbours of a file lie at different servers. */
static void test_allocator(void)
{
    fab_store_config_t config = world();
    for (int64_t stripes = 1; stripes <= 30; stripes++) {
        fab_layout_t layout;
        uint32_t targets[OBJECTS_MOST], got[TARGETS] = {0}, first[TARGETS] = {0};
        *value_of(&config, "stripe_count") = stripes;
        fab_layout_lustre.standard(&config, &layout);
        for (uint64_t file = 0; file < 2 * TARGETS * TARGETS; file++) {
            fab_layout_lustre.place(&config, &layout, (uint32_t)file, file, 1, targets);
            for (int64_t i = 0; i < stripes; i++) {
                CHECK(targets[i] < TARGETS);
                got[targets[i]]++;
                CHECK(i == 0 || target_server[targets[i]] != target_server[targets[i - 1]]);
                CHECK(i < TARGETS || targets[i] == targets[i - TARGETS]); /* overstriped */
            }
            first[targets[0]]++;
        }
        for (uint32_t t = 0; t < TARGETS; t++) {
            CHECK(got[t] + 2 * TARGETS >= got[0] && got[t] <= got[0] + 2 * TARGETS);
            CHECK(first[t] > 0);
        }
    }
    *value_of(&config, "allocator") = 1;
    *value_of(&config, "stripe_count") = 1;
    fab_layout_t layout;
    fab_layout_lustre.standard(&config, &layout);
    uint32_t got[TARGETS] = {0}, target;
    for (uint32_t file = 0; file < 100 * TARGETS; file++) {
        fab_layout_lustre.place(&config, &layout, file, file, 1, &target);
        got[target]++;
    }
    for (uint32_t t = 0; t < TARGETS; t++)
        CHECK(got[t] > 50 && got[t] < 150);
}

void test_lustre(void)
{
    test_formula();
    test_by_hand();
    test_components();
    test_standard();
    test_allocator();
}
