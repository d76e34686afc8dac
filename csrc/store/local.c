/* Node-local storage: each client has a file system on a target of its own, with its host's page cache before it.
 *
 * Client and server are of one host, so that messages between them take no time and no network. */
#include "store/common_params.h"
#include "store/store.h"

#define ASSUMED "assumed"
#define LINUX "Linux"
#define US FAB_STORE_US

static const fab_param_t params[] = {
    FAB_STORE_P_RPC_BYTES(1 << 20, "assumed: requests of the block layer, merged"),
    FAB_STORE_P_RPCS_IN_FLIGHT_COUNT(32, ASSUMED),
    FAB_STORE_P_META_RPCS_COUNT(64, ASSUMED),
    FAB_STORE_P_CACHE(1, "1: the page cache"),
    FAB_STORE_P_MAX_DIRTY_BYTES(INT64_C(64) << 30,
                                "assumed: 20 % of memory (dirty_ratio of " LINUX "), of 320 GB free"),
    FAB_STORE_P_CACHE_BYTES(INT64_C(256) << 30, ASSUMED),
    FAB_STORE_P_DIRTY_EXPIRE_PS(30 * FAB_STORE_S, "30 s: dirty_expire_centisecs of " LINUX),
    FAB_STORE_P_GRANT_BYTES(INT64_C(1) << 44, "no grants: the free space is the host's own"),
    FAB_STORE_P_READAHEAD_BYTES(8 << 20, "assumed: as data sets are read; 128 KiB without tuning"),
    FAB_STORE_P_READAHEAD_WHOLE_BYTES(0, "0: " LINUX " reads ahead of a sequential reader alone"),
    FAB_STORE_P_COPY_MBPS(100000, "assumed: 12.5 GB/s, one thread that copies"),
    FAB_STORE_P_CLIENT_MBPS(0, "no limit but the target"),
    FAB_STORE_P_CALL_PS(2 * US, ASSUMED),
    FAB_STORE_P_REQUEST_BYTES(64, "unused: messages on a host take no time"),
    FAB_STORE_P_REPLY_BYTES(64, "unused: messages on a host take no time"),
    FAB_STORE_P_FRAGMENT_BYTES(1 << 20, "unused: messages on a host take no time"),
    FAB_STORE_P_SHORT_IO_BYTES(1 << 20, "everything: there is nothing to pull"),
    FAB_STORE_P_DATA_CLASS(0, ""),
    FAB_STORE_P_THREADS_COUNT(1024, "assumed: the target's queue is the limit"),
    FAB_STORE_P_RPC_CPU_PS(5 * US, "assumed: block layer and driver"),
    FAB_STORE_P_CHECKSUM_MBPS(0, "none"),
    FAB_STORE_P_SERVER_MBPS(0, "no limit but the target"),
    FAB_STORE_P_COMMIT_PS(5 * FAB_STORE_S, "5 s: commit interval of ext4"),
    FAB_STORE_P_COMMIT_COST_PS(500 * US, "assumed: a flush of the drive"),
    FAB_STORE_NO_LOCKS_PARAMS("0: one host"),
    FAB_STORE_P_META_THREADS_COUNT(64, ASSUMED),
    FAB_STORE_P_OPEN_PS(2 * US, ASSUMED),
    FAB_STORE_P_CREATE_PS(15 * US, ASSUMED),
    FAB_STORE_P_CLOSE_PS(US, ASSUMED),
    FAB_STORE_P_STAT_PS(US, ASSUMED),
    FAB_STORE_P_UNLINK_PS(15 * US, ASSUMED),
    FAB_STORE_P_MKDIR_PS(15 * US, ASSUMED),
    FAB_STORE_P_RENAME_PS(15 * US, ASSUMED),
    FAB_STORE_P_READDIR_PS(10 * US, ASSUMED),
    FAB_STORE_P_DIRECTORY_PS(5 * US, "assumed: the directory's mutex"),
    FAB_STORE_FAILURE_PARAMS(10, 5, 300, 900, "unused: they fail with their node"),
    FAB_PARAM_END,
};

static uint32_t objects(const fab_store_config_t *config, const fab_layout_t *layout)
{
    (void)config, (void)layout;
    return 1;
}

static void place(const fab_store_config_t *config, const fab_layout_t *layout, uint32_t file, uint64_t allocated,
                  uint64_t seed, uint32_t *targets_out)
{
    (void)config, (void)layout, (void)file, (void)allocated, (void)seed;
    targets_out[0] = 0;
}

static void map(const fab_store_config_t *config, const fab_layout_t *layout, const fab_file_t *state, uint32_t file,
                uint32_t client, bool write, int64_t offset, int64_t bytes, fab_layout_emit_t *emit, void *context)
{
    (void)config, (void)layout, (void)state, (void)file, (void)client, (void)write;
    const fab_piece_t piece = {offset, offset, bytes, 0, 0};
    if (bytes > 0)
        emit(context, &piece);
}

static int64_t file_end(const fab_store_config_t *config, const fab_layout_t *layout, uint32_t object,
                        int64_t object_end)
{
    (void)config, (void)layout, (void)object;
    return object_end;
}

const fab_layout_ops_t fab_layout_local = {
    .impl = {"store", "local", "file systems of the nodes, each on its own drive", params, 0},
    .objects = objects,
    .place = place,
    .map = map,
    .file_end = file_end,
    .per_client = true,
};
