/* A file system like Lustre: files striped over objects by components, placed by an allocator that goes round; locks, a
 * cache in the client, a journal. Layouts: Lustre Operations Manual, chapters 12 and 19 to 21; allocator: lustre/lod. */
#include "store/common_params.h"
#include "store/store.h"
#include "core/keyed.h"

enum { STRIPE_BYTES = FAB_STORE_OWN, STRIPE_COUNT, FIRST_TARGET, DOM_BYTES, MIRROR_COUNT, ALLOCATOR };

enum { ROUND_ROBIN, RANDOM };

#define ASSUMED "assumed"
#define US FAB_STORE_US
#define MIB (INT64_C(1) << 20)

static const fab_param_t params[] = {
    FAB_STORE_P_RPC_BYTES(4 * MIB, "4 MiB: DT_DEF_BRW_SIZE, lustre_net.h"),
    FAB_STORE_P_RPCS_IN_FLIGHT_COUNT(8, "8: OBD_MAX_RIF_DEFAULT, obd.h"),
    FAB_STORE_P_META_RPCS_COUNT(8, "8: OBD_MAX_RIF_DEFAULT, obd.h; 7 of them changes, which is not told apart here"),
    FAB_STORE_P_CACHE(1, "as Lustre does"),
    FAB_STORE_P_MAX_DIRTY_BYTES(2000 * MIB, "2000 MiB: OSC_MAX_DIRTY_DEFAULT, obd.h"),
    FAB_STORE_P_CACHE_BYTES(INT64_C(64) << 30, "assumed; Lustre: a share of the node's memory"),
    FAB_STORE_P_DIRTY_EXPIRE_PS(30 * FAB_STORE_S, "30 s: vm.dirty_expire_centisecs of Linux"),
    FAB_STORE_P_GRANT_BYTES(INT64_C(1) << 30, "assumed; grants grow with use"),
    FAB_STORE_P_READAHEAD_BYTES(256 * MIB, "256 MiB a file: llite_internal.h"),
    FAB_STORE_P_READAHEAD_WHOLE_BYTES(4 * MIB, "4 MiB: llite_internal.h"),
    FAB_STORE_P_COPY_MBPS(100000, ASSUMED),
    FAB_STORE_P_CLIENT_MBPS(0, "no limit but the network"),
    FAB_STORE_P_CALL_PS(2 * US, ASSUMED),
    FAB_STORE_P_REQUEST_BYTES(512, ASSUMED),
    FAB_STORE_P_REPLY_BYTES(384, ASSUMED),
    FAB_STORE_P_FRAGMENT_BYTES(MIB, "1 MiB: LNET_MTU, lnet-types.h"),
    FAB_STORE_P_SHORT_IO_BYTES(16384, "16 KiB: OBD_DEF_SHORT_IO_BYTES, obd.h"),
    FAB_STORE_P_DATA_CLASS(0, ""),
    FAB_STORE_P_THREADS_COUNT(512, "512: the cap of 64 and 8 a core, lustre_net.h"),
    FAB_STORE_P_RPC_CPU_PS(40 * US, "assumed, of 20 to 60 us"),
    FAB_STORE_P_CHECKSUM_MBPS(40000, "assumed rate; checksums are on by default, ldlm_lib.c"),
    FAB_STORE_P_SERVER_MBPS(0, "no limit but the network and the targets"),
    FAB_STORE_P_COMMIT_PS(5 * FAB_STORE_S, "5 s: ldiskfs, as ext4's commit interval"),
    FAB_STORE_P_COMMIT_COST_PS(2000 * US, ASSUMED),
    FAB_STORE_P_LOCKS(1, "as Lustre does"),
    FAB_STORE_P_LOCK_CPU_PS(10 * US, ASSUMED),
    FAB_STORE_P_META_THREADS_COUNT(64, "64: the base of 64 and 8 a core, lustre_net.h"),
    FAB_STORE_P_OPEN_PS(80 * US, ASSUMED),
    FAB_STORE_P_CREATE_PS(300 * US, ASSUMED),
    FAB_STORE_P_CLOSE_PS(50 * US, ASSUMED),
    FAB_STORE_P_STAT_PS(50 * US, ASSUMED),
    FAB_STORE_P_UNLINK_PS(250 * US, ASSUMED),
    FAB_STORE_P_MKDIR_PS(300 * US, ASSUMED),
    FAB_STORE_P_RENAME_PS(300 * US, ASSUMED),
    FAB_STORE_P_READDIR_PS(200 * US, ASSUMED),
    FAB_STORE_P_DIRECTORY_PS(25 * US, ASSUMED),
    FAB_STORE_FAILURE_PARAMS(
        100, 5, 300, 900, "100 s: OBD_TIMEOUT_DEFAULT; 300 and 900 s: OBD_RECOVERY_TIME_SOFT and _HARD; obd_support.h"),
    [STRIPE_BYTES] = {"stripe_bytes", "bytes", MIB, 65536, INT64_C(4) << 30,
                      "a file goes to its next object after so much; a multiple of 64 KiB",
                      "1 MiB: as mkfs.lustre sets it; at least 64 KiB: lustre_user.h"},
    {"stripe_count", "", 1, -1, 2000, "objects of a file, one a target; more than there are: overstriped; -1: all",
     "1: Lustre's default; most: lustre_user.h"},
    {"first_target", "", -1, -1, 65535, "target of the first object; -1: the allocator's choice",
     "-1: Lustre's default"},
    {"dom_bytes", "bytes", 0, 0, MIB, "the first so many bytes of each file are on its metadata server (data on MDT)",
     "0: Lustre's default; at most 1 MiB: lod_dom_stripesize_max_kb, lod_dev.c"},
    {"mirror_count", "", 1, 1, FAB_LAYOUT_MIRRORS_MAX, "copies of a file; the first is written, any is read",
     "1: Lustre's default"},
    {"allocator", "", ROUND_ROBIN, ROUND_ROBIN, RANDOM, "0: files are placed round robin; 1: at random",
     "round robin while targets are about equally full: lod_qos.c"},
    FAB_PARAM_END,
};

static uint32_t stripes(const fab_store_config_t *config, const fab_layout_component_t *component)
{
    return component->stripe_count == FAB_NONE ? config->target_count : component->stripe_count;
}

/* Bytes that an object of a component holds one after another. */
static int64_t unit_bytes(const fab_layout_component_t *component)
{
    return component->on_meta ? component->end : component->stripe_bytes;
}

static void standard(const fab_store_config_t *config, fab_layout_t *layout_out)
{
    const int64_t *values = config->values;
    const int64_t dom = config->meta_count ? values[DOM_BYTES] : 0;
    fab_layout_t layout = {.mirror_count = (uint32_t)values[MIRROR_COUNT]};
    for (uint32_t m = 0; m < layout.mirror_count; m++) {
        if (dom)
            layout.components[layout.component_count++] = (fab_layout_component_t){
                .end = dom,
                .stripe_bytes = dom,
                .stripe_count = 1,
                .first_target = FAB_NONE,
                .mirror = (uint8_t)m,
                .on_meta = true,
            };
        layout.components[layout.component_count++] = (fab_layout_component_t){
            .begin = dom,
            .end = INT64_MAX,
            .stripe_bytes = values[STRIPE_BYTES],
            .stripe_count = values[STRIPE_COUNT] < 0 ? FAB_NONE : (uint32_t)values[STRIPE_COUNT],
            .first_target =
                values[FIRST_TARGET] < 0 ? FAB_NONE : (uint32_t)(values[FIRST_TARGET] % config->target_count),
            .mirror = (uint8_t)m,
        };
    }
    *layout_out = layout;
}

static uint32_t objects(const fab_store_config_t *config, const fab_layout_t *layout)
{
    uint32_t count = 0;
    for (uint32_t c = 0; c < layout->component_count; c++)
        count += stripes(config, &layout->components[c]);
    return count;
}

/* ---- the allocator --------------------------------------------------------------------------------- */

/* Whether targets are numbered server by server, the same number at each. */
static bool is_numbered_by_server(const fab_store_config_t *config)
{
    if (config->target_count % config->data_count)
        return false;
    const uint32_t each = config->target_count / config->data_count;
    for (uint32_t t = 0; t < config->target_count; t++)
        if (config->target_server[t] != t / each)
            return false;
    return true;
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        const uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Objects go to one target after another, servers taking turns, where the file before it ended; one farther whenever
 * files would begin at the same targets as before. */
static void place(const fab_store_config_t *config, const fab_layout_t *layout, uint32_t file, uint64_t allocated,
                  uint64_t seed, uint32_t *targets_out)
{
    const uint32_t count = config->target_count;
    const bool by_server = is_numbered_by_server(config);
    const uint32_t servers = by_server ? config->data_count : 1, each = count / servers;
    uint32_t placed = 0;
    for (uint32_t c = 0; c < layout->component_count; c++)
        placed += layout->components[c].on_meta ? 0 : stripes(config, &layout->components[c]);
    uint64_t at = fab_keyed_draw(seed, FAB_KEY_PLACE, file, 0) % count;
    if (config->values[ALLOCATOR] == ROUND_ROBIN) {
        const uint32_t common = common_divisor(placed, count);
        at = allocated * placed + (common > 1 ? allocated / (count / common) : 0);
    }
    for (uint32_t c = 0, object = 0; c < layout->component_count; c++) {
        const fab_layout_component_t *component = &layout->components[c];
        for (uint32_t s = 0; s < stripes(config, component); s++, object++) {
            if (component->on_meta) {
                targets_out[object] = count; /* which metadata server, it knows itself */
            } else if (component->first_target != FAB_NONE) {
                targets_out[object] = (component->first_target + s) % count;
            } else {
                const uint32_t turn = (uint32_t)(at++ % count);
                targets_out[object] = turn % servers * each + turn / servers;
            }
        }
    }
}

/* ---- the mapper ------------------------------------------------------------------------------------ */

/* Pieces of a range that lies in one component, whose objects are numbered from `first`. */
static bool map_component(const fab_layout_component_t *component, uint32_t first, uint32_t count,
                          const uint32_t *targets, int64_t begin, int64_t end, fab_layout_emit_t *emit, void *context)
{
    const int64_t unit = unit_bytes(component);
    for (int64_t at = begin; at < end;) {
        const int64_t number = at / unit, within = at % unit;
        const int64_t bytes = count == 1 ? end - at : fab_min_i64(end - at, unit - within);
        const uint32_t object = first + (uint32_t)(number % count);
        const fab_piece_t piece = {at, number / count * unit + within, bytes, object, targets[object]};
        if (!emit(context, &piece))
            return false;
        at += bytes;
    }
    return true;
}

/* Writes go to the first mirror, which makes the others stale: a file that is made in the run is read from there too. */
static void map(const fab_store_config_t *config, const fab_layout_t *layout, const fab_file_t *state, uint32_t file,
                uint32_t client, bool write, int64_t offset, int64_t bytes, fab_layout_emit_t *emit, void *context)
{
    (void)file;
    const uint32_t mirror = write || state->stale ? 0 : client % layout->mirror_count;
    const int64_t end = bytes > INT64_MAX - offset ? INT64_MAX : offset + bytes;
    for (uint32_t c = 0, first = 0; c < layout->component_count; c++) {
        const fab_layout_component_t *component = &layout->components[c];
        const uint32_t count = stripes(config, component);
        const int64_t from = fab_max_i64(offset, component->begin), to = fab_min_i64(end, component->end);
        if (component->mirror == mirror && from < to &&
            !map_component(component, first, count, state->targets, from, to, emit, context))
            return;
        first += count;
    }
}

static const fab_layout_component_t *component_of(const fab_store_config_t *config, const fab_layout_t *layout,
                                                  uint32_t object, uint32_t *first_out)
{
    uint32_t c = 0, first = 0;
    while (object - first >= stripes(config, &layout->components[c]))
        first += stripes(config, &layout->components[c++]);
    *first_out = first;
    return &layout->components[c];
}

static void part_of(const fab_store_config_t *config, const fab_layout_t *layout, uint32_t object, int64_t *begin_out,
                    int64_t *end_out)
{
    uint32_t first;
    const fab_layout_component_t *component = component_of(config, layout, object, &first);
    *begin_out = component->begin;
    *end_out = component->end;
}

static int64_t file_end(const fab_store_config_t *config, const fab_layout_t *layout, uint32_t object,
                        int64_t object_end)
{
    if (object_end == 0)
        return 0;
    uint32_t first;
    const fab_layout_component_t *component = component_of(config, layout, object, &first);
    const int64_t unit = unit_bytes(component), last = object_end - 1;
    return (last / unit * stripes(config, component) + object - first) * unit + last % unit + 1;
}

const fab_layout_ops_t fab_layout_lustre = {
    .impl = {"store", "lustre", "striped over object storage targets, with locks and a client cache, like Lustre",
             params, 0},
    .standard = standard,
    .objects = objects,
    .place = place,
    .map = map,
    .file_end = file_end,
    .part_of = part_of,
};
