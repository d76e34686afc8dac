/* A file system like BeeGFS: a file's chunks go round a few targets (RAID 0), and there are no locks. */
#include "store/common_params.h"
#include "store/store.h"
#include "store/walk.h"

enum { CHUNK_BYTES = FAB_STORE_OWN, STRIPE_COUNT };

#define ASSUMED "assumed"
#define US FAB_STORE_US
#define CLIENT_CONF "beegfs-client.conf"

static const fab_param_t params[] = {
    FAB_STORE_P_RPC_BYTES(512 << 10, "512 KiB: a chunk"),
    FAB_STORE_P_RPCS_IN_FLIGHT_COUNT(12,
                                     "12: connMaxInternodeNum, " CLIENT_CONF "; one RPC a connection, here by target"),
    FAB_STORE_P_META_RPCS_COUNT(12, "12: connMaxInternodeNum, " CLIENT_CONF),
    FAB_STORE_NO_CACHE_PARAMS("0: tuneFileCacheType buffered keeps one chunk at most, " CLIENT_CONF),
    FAB_STORE_P_COPY_MBPS(100000, ASSUMED),
    FAB_STORE_P_CLIENT_MBPS(0, "no limit but the network"),
    FAB_STORE_P_CALL_PS(2 * US, ASSUMED),
    FAB_STORE_P_REQUEST_BYTES(256, ASSUMED),
    FAB_STORE_P_REPLY_BYTES(128, ASSUMED),
    FAB_STORE_P_FRAGMENT_BYTES(512 << 10, "buffers of 70 x 8 KiB hold a chunk: connRDMABufNum, " CLIENT_CONF),
    FAB_STORE_P_SHORT_IO_BYTES(4096, ASSUMED),
    FAB_STORE_P_DATA_CLASS(0, ""),
    FAB_STORE_P_THREADS_COUNT(12, "12: tuneNumWorkers, beegfs-storage.conf; of a server with one target"),
    FAB_STORE_P_RPC_CPU_PS(30 * US, ASSUMED),
    FAB_STORE_P_CHECKSUM_MBPS(0, "none"),
    FAB_STORE_P_SERVER_MBPS(0, "no limit but the network and the targets"),
    FAB_STORE_P_COMMIT_PS(5 * FAB_STORE_S, "assumed: as of the file system under it"),
    FAB_STORE_P_COMMIT_COST_PS(1000 * US, ASSUMED),
    FAB_STORE_NO_LOCKS_PARAMS("0: tuneUseGlobalFileLocks is off, " CLIENT_CONF),
    FAB_STORE_P_META_THREADS_COUNT(24, ASSUMED),
    FAB_STORE_P_OPEN_PS(50 * US, ASSUMED),
    FAB_STORE_P_CREATE_PS(150 * US, ASSUMED),
    FAB_STORE_P_CLOSE_PS(30 * US, ASSUMED),
    FAB_STORE_P_STAT_PS(30 * US, ASSUMED),
    FAB_STORE_P_UNLINK_PS(150 * US, ASSUMED),
    FAB_STORE_P_MKDIR_PS(150 * US, ASSUMED),
    FAB_STORE_P_RENAME_PS(200 * US, ASSUMED),
    FAB_STORE_P_READDIR_PS(100 * US, ASSUMED),
    FAB_STORE_P_DIRECTORY_PS(30 * US, ASSUMED),
    FAB_STORE_FAILURE_PARAMS(10, 5, 300, 900, "assumed"),
    [CHUNK_BYTES] = {"chunk_bytes", "bytes", 512 << 10, 65536, 1 << 30, "a file goes to the next target after so much",
                     "512 KiB: BeeGFS documentation, striping"},
    {"stripe_count", "", 4, 1, 65536, "targets of a file, at most all", "4: BeeGFS documentation, striping"},
    FAB_PARAM_END,
};

static void standard(const fab_store_config_t *config, fab_layout_t *layout_out)
{
    *layout_out = (fab_layout_t){.component_count = 1, .mirror_count = 1};
    layout_out->components[0] = (fab_layout_component_t){
        .end = INT64_MAX,
        .stripe_bytes = config->values[CHUNK_BYTES],
        .stripe_count = (uint32_t)config->values[STRIPE_COUNT],
        .first_target = FAB_NONE,
    };
}

/* The first component counts: files have one pattern from beginning to end. */
static uint32_t objects(const fab_store_config_t *config, const fab_layout_t *layout)
{
    return (uint32_t)fab_min_i64(layout->components[0].stripe_count, config->target_count);
}

static void place(const fab_store_config_t *config, const fab_layout_t *layout, uint32_t file, uint64_t allocated,
                  uint64_t seed, uint32_t *targets_out)
{
    (void)allocated;
    const uint32_t first = layout->components[0].first_target, count = objects(config, layout);
    fab_walk_t walk = fab_walk_new(fab_keyed_draw(seed, FAB_KEY_PLACE, file, 0), config->target_count);
    for (uint32_t i = 0; i < count; i++)
        targets_out[i] = first == FAB_NONE ? fab_walk_next(&walk) : (first + i) % config->target_count;
}

static void map(const fab_store_config_t *config, const fab_layout_t *layout, const fab_file_t *state, uint32_t file,
                uint32_t client, bool write, int64_t offset, int64_t bytes, fab_layout_emit_t *emit, void *context)
{
    (void)config, (void)file, (void)client, (void)write;
    const int64_t chunk = layout->components[0].stripe_bytes, count = state->object_count;
    for (int64_t at = offset, end = offset + bytes; at < end;) {
        const int64_t number = at / chunk, next = fab_min_i64(end, (number + 1) * chunk);
        const uint32_t object = (uint32_t)(number % count);
        const fab_piece_t piece = {at, number / count * chunk + at % chunk, next - at, object, state->targets[object]};
        if (!emit(context, &piece))
            return;
        at = next;
    }
}

static int64_t file_end(const fab_store_config_t *config, const fab_layout_t *layout, uint32_t object,
                        int64_t object_end)
{
    const int64_t chunk = layout->components[0].stripe_bytes, last = object_end - 1;
    if (object_end == 0)
        return 0;
    return (last / chunk * objects(config, layout) + object) * chunk + last % chunk + 1;
}

const fab_layout_ops_t fab_layout_beegfs = {
    .impl = {"store", "beegfs", "chunks over a few targets, like BeeGFS", params, 0},
    .standard = standard,
    .objects = objects,
    .place = place,
    .map = map,
    .file_end = file_end,
};
