/* The store of a run: clients and servers at their hosts, and the messages and timers between them. */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "core/digest.h"
#include "core/keyed.h"
#include "store/client.h"
#include "store/server.h"

enum { LOCAL_MESSAGE = FAB_STORE_TIMERS, FIRST_SLOTS = 16, FIRST_RPCS = 64, FIRST_FILES = 64, SLOT_BITS = 24 };

/* A timer that is set. Timers of one time are served in the order they were set: their key is a running number, with the
 * slot where the rest is. */
typedef struct {
    void *record;
    uint32_t what; /* fab_store_timer_t, or LOCAL_MESSAGE + verb */
    uint32_t next_free;
} slot_t;

/* What a host has. */
typedef struct fab_store_line {
    slot_t *slots;
    uint32_t slot_count, slot_capacity, free, sequence;
    fab_rpc_row_t *rpcs;
    uint32_t rpc_count, rpc_capacity;
} line_t;

void *fab_store_take(fab_worker_t *worker, size_t bytes)
{
    void *memory = fab_pool_take(&worker->pool, fab_pool_class(bytes));
    if (memory)
        memset(memory, 0, bytes);
    else
        worker->error = FAB_E_MEMORY;
    return memory;
}

void fab_store_give(fab_worker_t *worker, void *memory, size_t bytes)
{
    fab_pool_give(&worker->pool, memory, fab_pool_class(bytes));
}

/* An array of twice the capacity, with what is in the old one. */
static void *grown(fab_worker_t *worker, void *old, uint32_t count, uint32_t *capacity, uint32_t first, size_t size)
{
    const uint32_t wanted = *capacity ? 2 * *capacity : first;
    void *bigger = fab_pool_take(&worker->pool, fab_pool_class(wanted * size));
    if (!bigger) {
        worker->error = FAB_E_MEMORY;
        return NULL;
    }
    if (old) {
        memcpy(bigger, old, count * size);
        fab_pool_give(&worker->pool, old, fab_pool_class(*capacity * size));
    }
    *capacity = wanted;
    return bigger;
}

/* ---- timers ------------------------------------------------------------------------------------- */

static void set_timer(fab_store_t *self, fab_worker_t *worker, uint32_t host, uint32_t what, void *record,
                      int64_t when_ps)
{
    line_t *line = &self->lines[host];
    uint32_t s = line->free;
    if (s != FAB_NONE) {
        line->free = line->slots[s].next_free;
    } else {
        if (line->slot_count == line->slot_capacity) {
            slot_t *slots =
                grown(worker, line->slots, line->slot_count, &line->slot_capacity, FIRST_SLOTS, sizeof *slots);
            if (!slots)
                return;
            line->slots = slots;
        }
        s = line->slot_count++;
    }
    if (s >> SLOT_BITS || when_ps >= FAB_NEVER / 2) {
        worker->error = FAB_E_LIMIT;
        return;
    }
    line->slots[s] = (slot_t){record, what, FAB_NONE};
    const uint64_t key = (uint64_t)FAB_STORE_TIMER_KIND << 56 | (uint64_t)line->sequence++ << SLOT_BITS | s;
    if (!fab_hosts_set_timer(self->hosts, worker, host, key, when_ps))
        worker->error = FAB_E_MEMORY;
}

void fab_store_set_timer(fab_store_t *self, fab_worker_t *worker, uint32_t host, fab_store_timer_t what, void *record,
                         int64_t when_ps)
{
    set_timer(self, worker, host, what, record, when_ps);
}

/* ---- messages ----------------------------------------------------------------------------------- */

uint32_t fab_store_where(const fab_store_config_t *config, uint32_t server, uint32_t client, int64_t now_ps)
{
    uint32_t host = fab_store_host(config, server, client);
    if (config->failure_count == 0)
        return host;
    const uint32_t home = host, partner = config->server_partner[server];
    const uint32_t other = partner == FAB_NONE ? home : config->server_host[partner];
    for (uint32_t i = 0; i < config->failure_count && config->failures[i].when_ps <= now_ps; i++) {
        const fab_store_failure_t *failure = &config->failures[i];
        if (failure->server != server)
            continue;
        if (now_ps < failure->up_ps)
            return FAB_NONE;
        host = host == home ? other : home;
    }
    return host;
}

uint32_t fab_store_epoch(const fab_store_config_t *config, uint32_t server, int64_t now_ps)
{
    uint32_t epoch = 0;
    for (uint32_t i = 0; i < config->failure_count && config->failures[i].when_ps <= now_ps; i++)
        epoch += config->failures[i].server == server;
    return epoch;
}

void fab_store_post(fab_store_t *self, fab_worker_t *worker, uint32_t from, uint32_t to, fab_store_verb_t verb,
                    void *record, int64_t bytes, int64_t now_ps)
{
    if (from == to) {
        set_timer(self, worker, to, LOCAL_MESSAGE + verb, record, now_ps);
        return;
    }
    /* every record begins alike: its class is its store's, and all of one client's stores share one */
    const uint64_t address = (uint64_t)(uintptr_t)record;
    const uint32_t connection = self->find(self->user, from, to, self->data_class);
    if (connection == FAB_NONE) {
        worker->error = FAB_E_INTERNAL;
        return;
    }
    const fab_cookie_t cookie = {FAB_STORE_COOKIE + verb, (uint32_t)address, (uint32_t)(address >> 32)};
    fab_hosts_post(self->hosts, worker, from, connection, bytes, cookie, now_ps);
}

/* The server, if it runs on this host now and has not failed since the record was made. */
static fab_server_t *server_here(const fab_store_t *self, uint32_t host, const fab_rpc_t *rpc, int64_t now_ps)
{
    const fab_store_config_t *config = &self->configs[rpc->store];
    if (fab_store_where(config, rpc->server, rpc->client, now_ps) != host)
        return NULL;
    fab_server_t *server = self->servers[rpc->store][config->layout_ops->per_client ? rpc->client : rpc->server];
    const bool asks = rpc->kind == FAB_RPC_PING || rpc->kind == FAB_RPC_CONNECT;
    return asks || rpc->epoch == server->epoch ? server : NULL;
}

static void dispatch(fab_store_t *self, fab_worker_t *worker, uint32_t host, fab_store_verb_t verb, void *record,
                     int64_t now_ps)
{
    fab_rpc_t *rpc = record;
    switch (verb) {
    case FAB_STORE_REQUEST:
        if (server_here(self, host, rpc, now_ps))
            fab_server_request(self, worker, host, rpc, now_ps);
        break;
    case FAB_STORE_PULL: fab_client_pull(self, worker, host, rpc, now_ps); break;
    case FAB_STORE_BULK:
        if (rpc->kind == FAB_RPC_READ)
            fab_client_bulk(self, worker, host, rpc, now_ps);
        else if (server_here(self, host, rpc, now_ps))
            fab_server_bulk(self, worker, host, rpc, now_ps);
        break;
    case FAB_STORE_REPLY: fab_client_reply(self, worker, host, rpc, now_ps); break;
    case FAB_STORE_CALLBACK: fab_client_callback(self, worker, host, record, now_ps); break;
    case FAB_STORE_CANCEL: fab_lock_cancel(self, worker, host, record, now_ps); break;
    case FAB_STORE_SHARD: fab_server_shard(self, worker, host, record, now_ps); break;
    default:
        if (server_here(self, host, ((fab_shard_t *)record)->rpc, now_ps))
            fab_server_shard_done(self, worker, host, record, now_ps);
        break;
    }
}

/* What the sender of a piece of a read is told when it is there. */
static void acknowledge(fab_store_t *self, fab_worker_t *worker, uint32_t host, fab_store_verb_t verb, void *record,
                        int64_t now_ps)
{
    fab_rpc_t *rpc = record;
    if (verb == FAB_STORE_BULK && rpc->kind == FAB_RPC_READ && server_here(self, host, rpc, now_ps))
        fab_server_bulk_acknowledged(self, worker, host, rpc, now_ps);
}

static void *record_of(fab_cookie_t cookie)
{
    return (void *)(uintptr_t)((uint64_t)cookie.from_instance << 32 | cookie.step);
}

void fab_store_delivered(fab_store_t *self, fab_worker_t *worker, uint32_t host, fab_cookie_t cookie, int64_t now_ps)
{
    dispatch(self, worker, host, cookie.instance - FAB_STORE_COOKIE, record_of(cookie), now_ps);
}

void fab_store_acknowledged(fab_store_t *self, fab_worker_t *worker, uint32_t host, fab_cookie_t cookie, int64_t now_ps)
{
    const fab_store_verb_t verb = cookie.instance - FAB_STORE_COOKIE;
    if (verb == FAB_STORE_BULK) /* other records may be gone by now */
        acknowledge(self, worker, host, verb, record_of(cookie), now_ps);
}

void fab_store_timer(fab_store_t *self, fab_worker_t *worker, uint32_t host, uint64_t key, int64_t now_ps)
{
    line_t *line = &self->lines[host];
    const uint32_t s = (uint32_t)key & ((1u << SLOT_BITS) - 1);
    const slot_t slot = line->slots[s];
    line->slots[s].next_free = line->free;
    line->free = s;
    switch (slot.what) {
    case FAB_STORE_TIMER_CLIENT: fab_client_timer(self, worker, host, slot.record, now_ps); break;
    case FAB_STORE_TIMER_SERVER:
        if (server_here(self, host, slot.record, now_ps))
            fab_server_timer(self, worker, host, slot.record, now_ps);
        break;
    case FAB_STORE_TIMER_SHARD: fab_server_shard_timer(self, worker, host, slot.record, now_ps); break;
    case FAB_STORE_TIMER_META:
        if (server_here(self, host, slot.record, now_ps))
            fab_meta_timer(self, worker, host, slot.record, now_ps);
        break;
    case FAB_STORE_TIMER_LOCK:
        if (server_here(self, host, slot.record, now_ps))
            fab_lock_timer(self, worker, host, slot.record, now_ps);
        break;
    case FAB_STORE_TIMER_RECOVER: fab_recover_timer(self, worker, host, slot.record, now_ps); break;
    case FAB_STORE_TIMER_COMMIT: fab_server_commit_timer(self, worker, host, slot.record, now_ps); break;
    default: {
        const fab_store_verb_t verb = slot.what - LOCAL_MESSAGE;
        dispatch(self, worker, host, verb, slot.record, now_ps);
        if (verb == FAB_STORE_BULK)
            acknowledge(self, worker, host, verb, slot.record, now_ps);
        break;
    }
    }
}

/* ---- operations --------------------------------------------------------------------------------- */

uint32_t fab_store_meta_of(const fab_store_t *self, uint32_t file)
{
    const fab_files_t *files = &self->files;
    const fab_store_config_t *config = &self->configs[files->store[file]];
    if (config->layout_ops->per_client)
        return 0;
    const uint32_t directory = files->directory[file], stripes = files->directory_stripes[directory];
    const uint32_t first = config->meta_count ? config->data_count : 0;
    const uint32_t count = config->meta_count ? config->meta_count : config->data_count;
    const uint32_t stripe = stripes > 1 ? (uint32_t)(fab_keyed_mix(file) % stripes) : 0;
    return first + (uint32_t)((directory + stripe) % count);
}

void fab_store_start(fab_store_t *self, fab_worker_t *worker, uint32_t host, const fab_io_t *io, int64_t now_ps)
{
    fab_client_start(self, worker, host, io, now_ps);
}

void fab_store_end(fab_store_t *self, fab_worker_t *worker, uint32_t instance, int64_t now_ps)
{
    self->ended(self->user, worker, instance, now_ps);
}

void fab_store_record(fab_store_t *self, fab_worker_t *worker, const fab_rpc_t *rpc)
{
    if (!self->record)
        return;
    line_t *line = &self->lines[rpc->client];
    if (line->rpc_count == line->rpc_capacity) {
        fab_rpc_row_t *rows = grown(worker, line->rpcs, line->rpc_count, &line->rpc_capacity, FIRST_RPCS, sizeof *rows);
        if (!rows)
            return;
        line->rpcs = rows;
    }
    line->rpcs[line->rpc_count++] = (fab_rpc_row_t){
        .rank = rpc->client, /* its host here: the run knows the rank */
        .store = rpc->store,
        .server = rpc->server,
        .target = rpc->target == FAB_NONE ? -1 : (int64_t)rpc->target,
        .kind = rpc->kind,
        .file = rpc->file,
        .object = rpc->object == FAB_NONE ? -1 : (int64_t)rpc->object,
        .offset = rpc->offset,
        .bytes = rpc->bytes,
        .granted_end = rpc->kind == FAB_RPC_LOCK ? rpc->end : -1,
        .sent_ps = rpc->sent_ps,
        .queued_ps = rpc->queued_ps,
        .began_ps = rpc->began_ps,
        .target_ps = rpc->target_ps,
        .served_ps = rpc->served_ps,
        .done_ps = rpc->done_ps,
    };
}

int64_t fab_store_rpcs(const fab_store_t *self, fab_rpc_row_t *rows_out, int64_t limit)
{
    int64_t count = 0;
    for (uint32_t h = 0; h < self->net->host_count; h++)
        count += self->lines[h].rpc_count;
    int64_t at = 0;
    for (uint32_t h = 0; count <= limit && h < self->net->host_count; h++) {
        if (self->lines[h].rpc_count)
            memcpy(rows_out + at, self->lines[h].rpcs, self->lines[h].rpc_count * sizeof *rows_out);
        at += self->lines[h].rpc_count;
    }
    return count;
}

/* ---- life --------------------------------------------------------------------------------------- */

static bool make_state(fab_store_t *self, uint32_t f, const fab_layout_t *layout)
{
    const fab_store_config_t *config = &self->configs[self->files.store[f]];
    fab_file_t *file = &self->file_state[f];
    *file = (fab_file_t){
        .object_count = config->layout_ops->objects(config, layout), .content = f, .stale = self->files.bytes[f] < 0};
    file->placed = config->layout_ops->per_client; /* which target, there is no question */
    file->targets = calloc(file->object_count + (size_t)1, sizeof *file->targets);
    return file->targets != NULL;
}

/* Files that are there before the run, in their order: as if they had been made one after another. What is in them comes
 * with their objects, when a server first hears of one. */
static int place_files(fab_store_t *self)
{
    const fab_files_t *files = &self->files;
    for (uint32_t f = 0; f < files->count; f++) {
        const uint8_t s = files->store[f];
        const fab_store_config_t *config = &self->configs[s];
        const fab_layout_t *layout = config->layout_count ? &config->layouts[files->layout[f]] : NULL;
        fab_file_t *file = &self->file_state[f];
        if (!make_state(self, f, layout))
            return FAB_E_MEMORY;
        if (files->bytes[f] < 0)
            continue;
        file->exists = true;
        if (config->layout_ops->per_client) /* on every node, as large as it is */
            continue;
        fab_meta_place(self->servers[s][fab_store_meta_of(self, f)], f);
    }
    return FAB_OK;
}

static int make_servers(fab_store_t *self, fab_worker_t *worker, const bool *has_client)
{
    for (uint32_t s = 0; s < self->count; s++) {
        const fab_store_config_t *config = &self->configs[s];
        const bool local = config->layout_ops->per_client;
        const uint32_t count = local ? self->net->host_count : fab_store_server_count(config);
        self->servers[s] = calloc(count + (size_t)1, sizeof(fab_server_t *));
        if (!self->servers[s])
            return FAB_E_MEMORY;
        for (uint32_t i = 0; i < count; i++) {
            if (local && !has_client[i])
                continue;
            const int code = fab_server_new(self, worker, s, local ? 0 : i, local ? i : config->server_host[i],
                                            &self->servers[s][i]);
            if (code)
                return code;
        }
    }
    return FAB_OK;
}

int fab_store_new(const fab_store_config_t *configs, uint32_t count, const fab_files_t *files, const fab_hosts_t *hosts,
                  const fab_net_t *net, fab_worker_t *workers, uint64_t seed, const bool *has_client, bool record,
                  fab_store_t **store_out)
{
    fab_store_t *self = calloc(1, sizeof *self);
    if (!self)
        return FAB_E_MEMORY;
    *self = (fab_store_t){.count = count,
                          .configs = configs,
                          .files = *files,
                          .hosts = hosts,
                          .net = net,
                          .workers = workers,
                          .seed = seed,
                          .record = record};
    fab_worker_t *worker = &workers[0];
    self->data_class = count ? (uint8_t)configs[0].values[FAB_STORE_DATA_CLASS] : 0;
    self->lines = calloc(net->host_count, sizeof *self->lines);
    self->clients = calloc(net->host_count, sizeof(fab_client_t *));
    self->file_state = calloc((size_t)files->count + 1, sizeof *self->file_state);
    int code = self->lines && self->clients && self->file_state ? FAB_OK : FAB_E_MEMORY;
    for (uint32_t h = 0; !code && h < net->host_count; h++)
        self->lines[h].free = FAB_NONE;
    if (!code)
        code = make_servers(self, worker, has_client);
    if (!code)
        code = place_files(self);
    for (uint32_t h = 0; !code && h < net->host_count; h++)
        if (has_client[h])
            code = fab_client_new(self, worker, h, &self->clients[h]);
    if (code) {
        fab_store_free(self);
        return code;
    }
    *store_out = self;
    return FAB_OK;
}

/* A longer array with what is in the old one, which is freed if it is the session's own. */
static bool lengthen(void *array, uint32_t count, uint32_t capacity, size_t size, bool own)
{
    void **at = array;
    void *longer = calloc(capacity, size);
    if (!longer)
        return false;
    if (count)
        memcpy(longer, *at, count * size);
    if (own)
        free(*at);
    *at = longer;
    return true;
}

/* Room for another file: the first time, in a copy of the program's lists. */
static bool make_room(fab_store_t *self)
{
    fab_files_t *f = &self->files;
    const uint32_t n = f->count, longer = 2 * n + FIRST_FILES;
    if (self->own_files && n < self->file_capacity)
        return true;
    const bool own = self->own_files;
    if (!lengthen(&f->store, n, longer, sizeof *f->store, own) ||
        !lengthen(&f->directory, n, longer, sizeof *f->directory, own) ||
        !lengthen(&f->layout, n, longer, sizeof *f->layout, own) ||
        !lengthen(&f->bytes, n, longer, sizeof *f->bytes, own) ||
        !lengthen(&self->file_state, n, longer, sizeof *self->file_state, true))
        return false;
    self->file_capacity = longer;
    self->own_files = true;
    return true;
}

uint32_t fab_store_add_directory(fab_store_t *self, uint32_t stripes)
{
    fab_files_t *f = &self->files;
    if (!lengthen(&f->directory_stripes, f->directory_count, f->directory_count + 1, sizeof *f->directory_stripes,
                  self->own_directories))
        return FAB_NONE;
    self->own_directories = true;
    f->directory_stripes[f->directory_count] = stripes;
    return f->directory_count++;
}

uint32_t fab_store_add_file(fab_store_t *self, uint32_t file_system, uint32_t directory, uint32_t layout)
{
    if (!make_room(self))
        return FAB_NONE;
    fab_files_t *files = &self->files;
    const uint32_t f = files->count;
    files->store[f] = (uint8_t)file_system;
    files->directory[f] = directory;
    files->layout[f] = layout;
    files->bytes[f] = -1;
    const fab_store_config_t *config = &self->configs[file_system];
    if (!make_state(self, f, config->layout_count ? &config->layouts[layout] : NULL))
        return FAB_NONE;
    files->count++;
    return f;
}

/* Clients, servers and all they have are of the workers' pools. */
void fab_store_free(fab_store_t *self)
{
    if (!self)
        return;
    for (uint32_t f = 0; self->file_state && f < self->files.count; f++)
        free(self->file_state[f].targets);
    for (uint32_t s = 0; s < self->count; s++)
        free(self->servers[s]);
    if (self->own_files) {
        free(self->files.store);
        free(self->files.directory);
        free(self->files.layout);
        free(self->files.bytes);
    }
    if (self->own_directories)
        free(self->files.directory_stripes);
    free(self->lines);
    free(self->clients);
    free(self->file_state);
    free(self);
}

uint64_t fab_store_digest(const fab_store_t *self, uint64_t digest)
{
    for (uint32_t s = 0; s < self->count; s++) {
        const bool local = self->configs[s].layout_ops->per_client;
        const uint32_t count = local ? self->net->host_count : fab_store_server_count(&self->configs[s]);
        for (uint32_t i = 0; i < count; i++) {
            const fab_server_t *server = self->servers[s][i];
            for (uint32_t t = 0; server && t < server->target_count; t++) {
                const fab_store_target_stats_t *stats = &server->targets[t].stats;
                digest = fab_digest_add(digest, (uint64_t)stats->rpcs);
                digest = fab_digest_add(digest, (uint64_t)stats->bytes_read);
                digest = fab_digest_add(digest, (uint64_t)stats->bytes_written);
                digest = fab_digest_add(digest, (uint64_t)stats->busy_ps);
            }
        }
    }
    return digest;
}

void fab_store_check(const fab_store_t *self, fab_problems_t *problems)
{
    for (uint32_t h = 0; h < self->net->host_count; h++)
        if (self->clients[h])
            fab_client_check(self, h, problems);
    for (uint32_t s = 0; s < self->count; s++) {
        const bool local = self->configs[s].layout_ops->per_client;
        const uint32_t count = local ? self->net->host_count : fab_store_server_count(&self->configs[s]);
        for (uint32_t i = 0; i < count; i++)
            if (self->servers[s][i])
                fab_server_check(self->servers[s][i], problems);
    }
}
