/* A file system like WEKA's: stripes of data and parity over all servers, no locality, no locks.
 *
 * A file is cut into pieces of an RPC's size. A write of a piece goes to a server that a hash chooses; it cuts the piece
 * into data_count parts of whole 4 KiB blocks, adds parity, and sends each to a server of its own, all of them different
 * where there are as many. Reads go to the owners of the parts. An object is what a target has of a file; offsets in it
 * are those of the file. */
#include "store/common_params.h"
#include "store/store.h"
#include "store/walk.h"

enum {
    DATA_COUNT = FAB_STORE_OWN,
    PARITY_COUNT,
    CORES_COUNT,
    CORE_MBPS,
};

enum { BLOCK_BYTES = 4096 };

#define ASSUMED "assumed"
#define US FAB_STORE_US

static const fab_param_t params[] = {
    FAB_STORE_P_RPC_BYTES(1 << 20, ASSUMED),
    FAB_STORE_P_RPCS_IN_FLIGHT_COUNT(8, ASSUMED),
    FAB_STORE_P_META_RPCS_COUNT(64, ASSUMED),
    FAB_STORE_NO_CACHE_PARAMS("0: direct from the application's memory; mounts with a page cache are left out"),
    FAB_STORE_P_COPY_MBPS(100000, ASSUMED),
    FAB_STORE_P_CLIENT_MBPS(0, "cores_count x core_mbps, unless it is set"),
    FAB_STORE_P_CALL_PS(2 * US, ASSUMED),
    FAB_STORE_P_REQUEST_BYTES(256, ASSUMED),
    FAB_STORE_P_REPLY_BYTES(256, ASSUMED),
    FAB_STORE_P_FRAGMENT_BYTES(1 << 20, ASSUMED),
    FAB_STORE_P_SHORT_IO_BYTES(BLOCK_BYTES, "assumed: a block"),
    FAB_STORE_P_DATA_CLASS(0, ""),
    FAB_STORE_P_THREADS_COUNT(256, "assumed: processes that poll have many requests under way"),
    FAB_STORE_P_RPC_CPU_PS(10 * US, "assumed: a path without the kernel"),
    FAB_STORE_P_CHECKSUM_MBPS(0, "assumed: by instructions of the processor, as data is copied"),
    FAB_STORE_P_SERVER_MBPS(0, "no limit but the network and the drives"),
    FAB_STORE_P_COMMIT_PS(0, "0: a write is answered when its stripe is stored"),
    FAB_STORE_P_COMMIT_COST_PS(0, "0: nothing is left to commit"),
    FAB_STORE_NO_LOCKS_PARAMS("0: this model has none"),
    FAB_STORE_P_META_THREADS_COUNT(64, ASSUMED),
    FAB_STORE_P_OPEN_PS(20 * US, ASSUMED),
    FAB_STORE_P_CREATE_PS(50 * US, ASSUMED),
    FAB_STORE_P_CLOSE_PS(10 * US, ASSUMED),
    FAB_STORE_P_STAT_PS(15 * US, ASSUMED),
    FAB_STORE_P_UNLINK_PS(50 * US, ASSUMED),
    FAB_STORE_P_MKDIR_PS(50 * US, ASSUMED),
    FAB_STORE_P_RENAME_PS(60 * US, ASSUMED),
    FAB_STORE_P_READDIR_PS(50 * US, ASSUMED),
    FAB_STORE_P_DIRECTORY_PS(2 * US, "assumed: entries of a directory are hashed over servers"),
    FAB_STORE_FAILURE_PARAMS(10, 5, 300, 900, "unused: servers of this model do not fail"),
    [DATA_COUNT] = {"data_count", "", 8, 3, 16, "parts of a piece that hold data (D)", "3 to 16: WEKA documentation"},
    {"parity_count", "", 2, 2, 4, "parts that hold parity (P); 2 or 4", "2 or 4: WEKA documentation"},
    {"cores_count", "", 2, 1, 64, "processor cores of a client that poll for its file system", ASSUMED},
    {"core_mbps", "Mb/s", 28999, 1, 10000000, "file data through such a core",
     "calibrated: 34,569 MiB/s with 10 cores, one client of MLPerf Storage v1.0, unet3d"},
    FAB_PARAM_END,
};

static void derive(int64_t *values)
{
    if (values[FAB_STORE_CLIENT_MBPS] == 0)
        values[FAB_STORE_CLIENT_MBPS] = values[CORES_COUNT] * values[CORE_MBPS];
}

static uint64_t draw(uint32_t file, int64_t piece) { return fab_keyed_mix(fab_keyed_mix(file) ^ (uint64_t)piece); }

typedef enum { BY_SERVER, IN_TURNS, OTHERWISE } order_t;

/* How targets are numbered: most stores list them server by server, or in turns, as many of each. */
static order_t order_of(const fab_store_config_t *config)
{
    const uint32_t targets = config->target_count, servers = config->data_count, each = targets / servers;
    if (targets % servers)
        return OTHERWISE;
    bool by_server = true, in_turns = true;
    for (uint32_t s = 0; s < servers; s++)
        for (uint32_t j = 0; j < each; j++) {
            by_server &= config->target_server[s * each + j] == s;
            in_turns &= config->target_server[j * servers + s] == s;
        }
    return by_server ? BY_SERVER : in_turns ? IN_TURNS : OTHERWISE;
}

/* One of a server's targets. */
static uint32_t target_of(const fab_store_config_t *config, order_t order, uint32_t server, uint32_t number)
{
    const uint32_t targets = config->target_count, servers = config->data_count, each = targets / servers;
    if (order == BY_SERVER)
        return server * each + number % each;
    if (order == IN_TURNS)
        return number % each * servers + server;
    uint32_t own = 0;
    for (uint32_t t = 0; t < targets; t++)
        own += config->target_server[t] == server;
    uint32_t left = own ? number % own : number % targets;
    for (uint32_t t = 0;; t++)
        if (own == 0 || config->target_server[t] == server)
            if (left-- == 0)
                return t;
}

/* The targets of the first `count` parts of a piece. */
static void owners(const fab_store_config_t *config, uint64_t piece_draw, uint32_t count, uint32_t *targets_out)
{
    const uint32_t servers = config->data_count;
    fab_walk_t walk = fab_walk_new(piece_draw, servers);
    const order_t order = order_of(config);
    const uint32_t first = (uint32_t)(fab_keyed_mix(piece_draw) >> 32);
    for (uint32_t i = 0; i < count; i++)
        targets_out[i] = target_of(config, order, fab_walk_next(&walk), first % config->target_count + i / servers);
}

/* Whole blocks, so that data_count of them hold a piece. */
static int64_t part_bytes(const fab_store_config_t *config)
{
    const int64_t blocks = (config->values[FAB_STORE_RPC_BYTES] + BLOCK_BYTES - 1) / BLOCK_BYTES;
    return (blocks + config->values[DATA_COUNT] - 1) / config->values[DATA_COUNT] * BLOCK_BYTES;
}

static uint32_t objects(const fab_store_config_t *config, const fab_layout_t *layout)
{
    (void)layout;
    return config->target_count;
}

static void place(const fab_store_config_t *config, const fab_layout_t *layout, uint32_t file, uint64_t allocated,
                  uint64_t seed, uint32_t *targets_out)
{
    (void)layout, (void)file, (void)allocated, (void)seed;
    for (uint32_t t = 0; t < config->target_count; t++)
        targets_out[t] = t;
}

static void map(const fab_store_config_t *config, const fab_layout_t *layout, const fab_file_t *state, uint32_t file,
                uint32_t client, bool write, int64_t offset, int64_t bytes, fab_layout_emit_t *emit, void *context)
{
    (void)layout, (void)state, (void)client;
    const int64_t piece_bytes = config->values[FAB_STORE_RPC_BYTES], part = part_bytes(config);
    const uint32_t data_count = (uint32_t)config->values[DATA_COUNT];
    uint32_t targets[FAB_LAYOUT_SHARDS_MAX];
    int64_t drawn = -1;
    for (int64_t at = offset, end = offset + bytes; at < end;) {
        const int64_t number = at / piece_bytes, start = number * piece_bytes;
        int64_t next = fab_min_i64(end, start + piece_bytes);
        uint32_t target;
        if (write) {
            const uint64_t any = fab_keyed_mix(~draw(file, number));
            target = target_of(config, order_of(config), (uint32_t)(any >> 32) % config->data_count, (uint32_t)any);
        } else {
            if (number != drawn)
                owners(config, draw(file, number), data_count, targets);
            drawn = number;
            const int64_t k = (at - start) / part;
            next = fab_min_i64(next, start + (k + 1) * part);
            target = targets[k];
        }
        const fab_piece_t piece = {at, at, next - at, target, target};
        if (!emit(context, &piece))
            return;
        at = next;
    }
}

/* Data goes where reads look for it; parity is a full stripe's share, as many writes make up a stripe together. */
static uint32_t spread(const fab_store_config_t *config, uint32_t file, int64_t offset, int64_t bytes,
                       fab_layout_shard_t *shards_out)
{
    const int64_t piece_bytes = config->values[FAB_STORE_RPC_BYTES], part = part_bytes(config);
    const uint32_t data_count = (uint32_t)config->values[DATA_COUNT],
                   parity_count = (uint32_t)config->values[PARITY_COUNT];
    const int64_t number = offset / piece_bytes, start = number * piece_bytes, end = offset + bytes;
    uint32_t targets[FAB_LAYOUT_SHARDS_MAX], count = 0;
    owners(config, draw(file, number), data_count + parity_count, targets);
    for (int64_t at = offset; at < end;) {
        const int64_t k = (at - start) / part, next = fab_min_i64(end, start + (k + 1) * part);
        shards_out[count++] = (fab_layout_shard_t){targets[k], at, next - at};
        at = next;
    }
    for (uint32_t p = 0; p < parity_count; p++)
        shards_out[count++] = (fab_layout_shard_t){targets[data_count + p], -1, (bytes + data_count - 1) / data_count};
    return count;
}

static int64_t file_end(const fab_store_config_t *config, const fab_layout_t *layout, uint32_t object,
                        int64_t object_end)
{
    (void)config, (void)layout, (void)object;
    return object_end;
}

const fab_layout_ops_t fab_layout_weka = {
    .impl = {"store", "weka", "stripes of data and parity over all servers, like WEKA", params, 0},
    .derive = derive,
    .objects = objects,
    .place = place,
    .map = map,
    .spread = spread,
    .file_end = file_end,
};
