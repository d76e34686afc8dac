/* Mappers of file systems: pieces cover a range once, objects are disjoint, stripes lie on distinct servers. */
#include "check.h"
#include "store/common_params.h"
#include "store/store.h"
#include "store/walk.h"

#include <string.h>

enum { TARGETS_MAX = 64, PIECES_MAX = 4096 };

typedef struct {
    fab_store_config_t config;
    fab_layout_t layout;
    uint32_t target_server[TARGETS_MAX], targets[TARGETS_MAX];
    fab_file_t file;
} world_t;

static const fab_layout_ops_t *const layouts[] = {&fab_layout_weka, &fab_layout_beegfs, &fab_layout_local};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };

static void make(world_t *self, const fab_layout_ops_t *ops, uint32_t servers, uint32_t each, bool in_turns,
                 const fab_setting_t *setting)
{
    memset(self, 0, sizeof *self);
    fab_problems_t problems;
    fab_problems_clear(&problems);
    fab_param_resolve("store", ops->impl.impl, ops->impl.params, setting, setting ? 1 : 0, self->config.values,
                      &problems);
    CHECK_EQ(problems.count, 0);
    if (ops->derive)
        ops->derive(self->config.values);
    self->config.layout_ops = ops;
    self->config.data_count = ops->per_client ? 1 : servers;
    self->config.target_count = ops->per_client ? 1 : servers * each;
    self->config.target_server = self->target_server;
    for (uint32_t t = 0; t < self->config.target_count; t++)
        self->target_server[t] = ops->per_client ? 0 : in_turns ? t % servers : t / each;
    if (ops->standard)
        ops->standard(&self->config, &self->layout);
    self->file.targets = self->targets;
    self->file.object_count = ops->objects(&self->config, &self->layout);
    CHECK(self->file.object_count <= TARGETS_MAX);
    ops->place(&self->config, &self->layout, 5, 0, 99, self->targets);
}

typedef struct {
    fab_piece_t pieces[PIECES_MAX];
    uint32_t count, limit;
} pieces_t;

static bool keep(void *context, const fab_piece_t *piece)
{
    pieces_t *self = context;
    self->pieces[self->count++] = *piece;
    return self->count < self->limit;
}

static uint32_t map(const world_t *world, uint32_t file, bool write, int64_t offset, int64_t bytes,
                    pieces_t *pieces_out)
{
    pieces_out->count = 0;
    if (!pieces_out->limit)
        pieces_out->limit = PIECES_MAX;
    world->config.layout_ops->map(&world->config, &world->layout, &world->file, file, 3, write, offset, bytes, keep,
                                  pieces_out);
    return pieces_out->count;
}

static void tables_are_complete(void)
{
    for (uint32_t i = 0; i < LAYOUTS; i++) {
        const fab_param_t *params = layouts[i]->impl.params;
        uint32_t count = 0;
        while (params[count].name)
            count++;
        CHECK(count >= FAB_STORE_OWN && count <= FAB_STORE_VALUES_MAX);
        CHECK(strcmp(params[FAB_STORE_RPC_BYTES].name, "rpc_bytes") == 0);
        CHECK(strcmp(params[FAB_STORE_THREADS_COUNT].name, "threads_count") == 0);
        CHECK(strcmp(params[FAB_STORE_RECOVERY_HARD_PS].name, "recovery_hard_ps") == 0);
    }
}

static void pieces_cover_a_range_once(void)
{
    static pieces_t pieces;
    static world_t world;
    dice_t dice = {4};
    for (uint32_t i = 0; i < LAYOUTS; i++) {
        make(&world, layouts[i], 11, 3, i == 0, NULL);
        for (int round = 0; round < 400; round++) {
            const int64_t offset = (int64_t)dice_below(&dice, 1 << 30) * 3, bytes = 1 + dice_below(&dice, 1 << 24);
            const uint32_t count = map(&world, 7, round & 1, offset, bytes, &pieces);
            int64_t at = offset;
            for (uint32_t p = 0; p < count; p++) {
                const fab_piece_t *piece = &pieces.pieces[p];
                CHECK_EQ(piece->file_offset, at);
                CHECK(piece->bytes > 0 && piece->target < world.config.target_count);
                CHECK(piece->object < world.file.object_count);
                CHECK_EQ(world.targets[piece->object], piece->target);
                at += piece->bytes;
                CHECK_EQ(layouts[i]->file_end(&world.config, &world.layout, piece->object,
                                              piece->object_offset + piece->bytes),
                         at);
            }
            CHECK_EQ(at, offset + bytes);
        }
        CHECK_EQ(map(&world, 7, true, 100, 0, &pieces), 0);
        CHECK_EQ(layouts[i]->file_end(&world.config, &world.layout, 0, 0), 0);
        pieces.limit = 1;
        CHECK_EQ(map(&world, 7, true, 0, 1 << 22, &pieces), 1); /* it stops when it is told to */
        pieces.limit = 0;
    }
}

/* Bytes of a file meet in no object: those of one object follow one another. */
static void objects_are_disjoint(void)
{
    static pieces_t pieces;
    static world_t world;
    make(&world, &fab_layout_beegfs, 4, 2, false, NULL);
    int64_t ends[TARGETS_MAX] = {0};
    const uint32_t count = map(&world, 1, true, 0, 100 << 20, &pieces);
    CHECK_EQ(count, 200);
    for (uint32_t p = 0; p < count; p++) {
        CHECK_EQ(pieces.pieces[p].object, p % 4);
        CHECK_EQ(pieces.pieces[p].object_offset, ends[pieces.pieces[p].object]);
        ends[pieces.pieces[p].object] += pieces.pieces[p].bytes;
    }
    for (uint32_t a = 0; a < 4; a++)
        for (uint32_t b = 0; b < a; b++)
            CHECK(world.targets[a] != world.targets[b]);
    world.layout.components[0].first_target = 6;
    fab_layout_beegfs.place(&world.config, &world.layout, 5, 0, 99, world.targets);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(world.targets[i], (6 + i) % 8);
}

static void shards_go_to_distinct_servers(void)
{
    static world_t world;
    static const char *const names[] = {"data_count", "parity_count"};
    dice_t dice = {8};
    for (uint32_t servers = 1; servers <= 21; servers++) {
        const int64_t values[] = {3 + dice_below(&dice, 14), 2 + 2 * (int64_t)dice_below(&dice, 2)};
        const fab_setting_t setting = {"store", "weka", 2, names, values, 0};
        make(&world, &fab_layout_weka, servers, 1 + dice_below(&dice, 3), servers & 1, &setting);
        const int64_t piece = world.config.values[FAB_STORE_RPC_BYTES];
        for (int round = 0; round < 60; round++) {
            const int64_t number = dice_below(&dice, 1000),
                          begin = round & 1 ? 0 : dice_below(&dice, (uint32_t)piece - 1),
                          bytes = round & 1 ? piece : 1 + dice_below(&dice, (uint32_t)(piece - begin));
            fab_layout_shard_t shards[FAB_LAYOUT_SHARDS_MAX];
            const uint32_t count = fab_layout_weka.spread(&world.config, 7, number * piece + begin, bytes, shards);
            CHECK(count <= (uint32_t)(values[0] + values[1]));
            int64_t at = number * piece + begin, parity = 0;
            uint32_t used[TARGETS_MAX] = {0}, parities = 0;
            for (uint32_t s = 0; s < count; s++) {
                used[world.target_server[shards[s].target]]++;
                if (shards[s].offset < 0) {
                    parity += shards[s].bytes;
                    parities++;
                    continue;
                }
                CHECK_EQ(shards[s].offset, at);
                at += shards[s].bytes;
            }
            CHECK_EQ(at, number * piece + begin + bytes);
            CHECK_EQ(parities, values[1]);
            CHECK_EQ(parity, values[1] * ((bytes + values[0] - 1) / values[0]));
            for (uint32_t s = 0; s < servers && values[0] + values[1] <= servers; s++)
                CHECK(used[s] <= 1);
        }
    }
}

/* Who reads finds the owners that the writer's server sent the data to. */
static void reads_go_where_writes_went(void)
{
    static world_t world;
    static pieces_t pieces;
    make(&world, &fab_layout_weka, 12, 2, false, NULL);
    const int64_t piece = world.config.values[FAB_STORE_RPC_BYTES];
    for (int64_t number = 0; number < 300; number++) {
        fab_layout_shard_t shards[FAB_LAYOUT_SHARDS_MAX];
        const uint32_t count = fab_layout_weka.spread(&world.config, 3, number * piece, piece, shards);
        CHECK_EQ(count, 10);
        CHECK_EQ(map(&world, 3, false, number * piece, piece, &pieces), 8);
        for (uint32_t p = 0; p < 8; p++) {
            CHECK_EQ(pieces.pieces[p].target, shards[p].target);
            CHECK_EQ(pieces.pieces[p].file_offset, shards[p].offset);
            CHECK_EQ(pieces.pieces[p].bytes, shards[p].bytes);
        }
    }
}

/* Each target gets about its share of many pieces. */
static void pieces_spread_evenly(void)
{
    static world_t world;
    static pieces_t pieces;
    make(&world, &fab_layout_weka, 16, 2, false, NULL);
    const int64_t piece = world.config.values[FAB_STORE_RPC_BYTES];
    for (int write = 0; write < 2; write++) {
        int64_t bytes[TARGETS_MAX] = {0};
        for (int64_t number = 0; number < 8000; number++) {
            map(&world, 3, write, number * piece, piece, &pieces);
            for (uint32_t p = 0; p < pieces.count; p++)
                bytes[pieces.pieces[p].target] += pieces.pieces[p].bytes;
        }
        for (uint32_t t = 0; t < 32; t++)
            CHECK(bytes[t] > 8000 / 32 * piece * 8 / 10 && bytes[t] < 8000 / 32 * piece * 12 / 10);
    }
}

static void the_client_cap_follows_from_the_cores(void)
{
    static world_t world;
    static const char *const names[] = {"cores_count"};
    const int64_t ten[] = {10};
    const fab_setting_t setting = {"store", "weka", 1, names, ten, 0};
    make(&world, &fab_layout_weka, 8, 1, false, &setting);
    const int64_t mib_per_s = world.config.values[FAB_STORE_CLIENT_MBPS] * 1000000 / 8 / (1 << 20);
    CHECK(mib_per_s >= 34560 && mib_per_s <= 34575);
}

static void walks_meet_all(void)
{
    for (uint32_t count = 1; count < 70; count++) {
        for (uint64_t draw = 0; draw < 50; draw++) {
            fab_walk_t walk = fab_walk_new(fab_keyed_mix(draw), count);
            uint8_t met[70] = {0};
            for (uint32_t i = 0; i < 2 * count; i++)
                met[fab_walk_next(&walk)]++;
            for (uint32_t i = 0; i < count; i++)
                CHECK_EQ(met[i], 2);
        }
    }
}

void test_store_layout(void)
{
    tables_are_complete();
    pieces_cover_a_range_once();
    objects_are_disjoint();
    shards_go_to_distinct_servers();
    reads_go_where_writes_went();
    pieces_spread_evenly();
    the_client_cap_follows_from_the_cores();
    walks_meet_all();
}
