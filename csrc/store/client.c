/* The operations of an application at its client: what each asks of whom, and when it has ended. */
#include "store/client_state.h"

#include <inttypes.h>

#include "core/keyed.h"

enum { FIRST_FILES = 16 };

/* ---- files -------------------------------------------------------------------------------------- */

static fab_client_file_t **place_of(fab_client_file_t **files, uint32_t mask, uint32_t number)
{
    uint32_t i = (uint32_t)fab_keyed_mix(number) & mask;
    while (files[i] && files[i]->number != number)
        i = (i + 1) & mask;
    return &files[i];
}

static bool grow_files(const fab_at_t *at)
{
    fab_client_t *client = at->client;
    const uint32_t old = client->files ? client->file_mask + 1 : 0, count = old ? 2 * old : FIRST_FILES;
    fab_client_file_t **files = fab_store_take(at->worker, count * sizeof *files);
    if (!files)
        return false;
    for (uint32_t i = 0; i < old; i++)
        if (client->files[i])
            *place_of(files, count - 1, client->files[i]->number) = client->files[i];
    if (old)
        fab_store_give(at->worker, client->files, old * sizeof *files);
    client->files = files;
    client->file_mask = count - 1;
    return true;
}

fab_client_file_t *fab_client_file(const fab_at_t *at, uint32_t number)
{
    fab_client_t *client = at->client;
    if ((!client->files || 2 * client->file_count > client->file_mask) && !grow_files(at))
        return NULL;
    fab_client_file_t **place = place_of(client->files, client->file_mask, number);
    if (*place)
        return *place;
    fab_client_file_t *file = fab_store_take(at->worker, sizeof *file);
    if (!file)
        return NULL;
    file->number = file->content = number;
    file->store = at->store->files.store[number];
    file->size = fab_max_i64(0, at->store->files.bytes[number]);
    *place = file;
    client->file_count++;
    return file;
}

fab_client_file_t *fab_client_known_file(const fab_client_t *client, uint32_t number)
{
    return client->files ? *place_of(client->files, client->file_mask, number) : NULL;
}

fab_client_object_t *fab_client_object(const fab_at_t *at, fab_client_file_t *file, uint32_t number, uint32_t target)
{
    if (!file->objects) {
        file->object_count = at->store->file_state[file->number].object_count;
        file->objects = fab_store_take(at->worker, file->object_count * sizeof *file->objects);
        if (!file->objects)
            return NULL;
    }
    fab_client_object_t *object = file->objects[number];
    if (object || !(object = fab_store_take(at->worker, sizeof *object)))
        return object;
    object->file = file;
    object->number = number;
    object->target = target;
    object->channel = fab_client_channel(at, file->store, target);
    file->objects[number] = object;
    return object->channel ? object : NULL;
}

static const fab_layout_t *layout_of(const fab_at_t *at, const fab_client_file_t *file)
{
    const fab_store_config_t *config = &at->store->configs[file->store];
    return config->layout_count ? &config->layouts[at->store->files.layout[file->number]] : NULL;
}

static bool first_piece(void *context, const fab_piece_t *piece)
{
    *(fab_piece_t *)context = *piece;
    return false;
}

fab_piece_t fab_client_piece(const fab_at_t *at, const fab_client_file_t *file, bool write, int64_t offset,
                             int64_t bytes)
{
    const fab_store_config_t *config = &at->store->configs[file->store];
    fab_piece_t piece = {0};
    config->layout_ops->map(config, layout_of(at, file), &at->store->file_state[file->number], file->number,
                            at->client->host, write, offset, bytes, first_piece, &piece);
    return piece;
}

void fab_client_heard_end(const fab_at_t *at, fab_client_object_t *object, int64_t end)
{
    fab_client_file_t *file = object->file;
    const fab_store_config_t *config = &at->store->configs[file->store];
    object->end = end;
    const int64_t size = end > 0 ? config->layout_ops->file_end(config, layout_of(at, file), object->number, end) : 0;
    file->size = fab_max_i64(file->size, size);
}

void fab_client_forget_size(const fab_at_t *at, fab_client_file_t *file)
{
    const fab_store_config_t *config = &at->store->configs[file->store];
    file->size = 0;
    for (uint32_t i = 0; file->objects && i < file->object_count; i++) {
        fab_client_object_t *object = file->objects[i];
        if (!object)
            continue;
        const fab_held_t *lock = object->locks;
        while (lock && lock->giving)
            lock = lock->next;
        if (!lock && object->dirty.count == 0 && !object->writes)
            object->end = 0;
        if (object->end)
            file->size =
                fab_max_i64(file->size, config->layout_ops->file_end(config, layout_of(at, file), i, object->end));
    }
}

void fab_client_heard_generation(const fab_at_t *at, fab_client_file_t *file, uint32_t generation)
{
    if (generation <= file->generation)
        return;
    file->generation = generation;
    fab_client_forget_size(at, file);
}

/* What the client has of a file is worth nothing any more: it has been made empty, or removed. */
static void empty_file(const fab_at_t *at, fab_client_file_t *file)
{
    for (uint32_t i = 0; file->objects && i < file->object_count; i++) {
        fab_client_object_t *object = file->objects[i];
        if (!object)
            continue;
        fab_client_lose(at, object, 0, INT64_MAX);
        fab_client_uncache(at, object, 0, INT64_MAX);
        object->end = 0;
    }
    file->size = 0;
}

/* ---- operations --------------------------------------------------------------------------------- */

void fab_client_op_end(const fab_at_t *at, fab_client_op_t *op)
{
    const uint32_t instance = op->instance;
    at->client->open_ops--;
    at->client->stats.failed += op->failed;
    fab_store_give(at->worker, op, sizeof *op);
    fab_store_end(at->store, at->worker, instance, at->now_ps);
}

static void ask_meta(const fab_at_t *at, fab_client_op_t *op, fab_rpc_kind_t kind)
{
    const uint32_t server = fab_store_meta_of(at->store, op->name->number);
    fab_channel_t *channel = fab_client_meta_channel(at, op->name->store, server);
    fab_part_t *part = channel ? fab_client_part(at, (uint8_t)kind, op, NULL, 0, 0) : NULL;
    if (!part)
        return;
    op->left++;
    op->state = FAB_CLIENT_WAIT;
    fab_client_queue(at, part, channel, false);
}

/* ---- fsync -------------------------------------------------------------------------------------- */

/* What was written is at the servers: those that have not committed it are asked to. */
static void ask_sync(const fab_at_t *at, fab_client_op_t *op)
{
    fab_client_file_t *file = op->file;
    const uint64_t sync = ++at->client->syncs;
    op->state = FAB_CLIENT_WAIT;
    op->failed |= file->lost;
    file->lost = false;
    for (uint32_t i = 0; file->objects && i < file->object_count; i++) {
        const fab_client_object_t *object = file->objects[i];
        fab_import_t *import = object ? object->channel->import : NULL;
        if (!object || object->last_transno <= import->stable || import->sync_of == sync)
            continue;
        import->sync_of = sync;
        fab_call_t *call = fab_client_call(at, FAB_RPC_SYNC, op, import);
        if (!call)
            return;
        call->file = file->number;
        op->left++;
        fab_client_send(at, call);
    }
    if (op->left == 0)
        fab_client_op_end(at, op);
}

static void begin_sync(const fab_at_t *at, fab_client_op_t *op)
{
    fab_client_file_t *file = op->file;
    for (uint32_t i = 0; file->objects && i < file->object_count; i++)
        if (file->objects[i] && file->objects[i]->dirty.count)
            fab_client_flush(at, file->objects[i], 0, INT64_MAX, false);
    if (file->writes_left == 0) {
        ask_sync(at, op);
        return;
    }
    fab_drain_t *drain = fab_store_take(at->worker, sizeof *drain);
    if (!drain)
        return;
    *drain = (fab_drain_t){
        .next = file->drains, .op = op, .before = file->writes_begun, .end = INT64_MAX, .left = file->writes_left};
    file->drains = drain;
    op->state = FAB_CLIENT_DRAIN;
}

void fab_client_drained(const fab_at_t *at, fab_client_op_t *op) { ask_sync(at, op); }

/* ---- stat --------------------------------------------------------------------------------------- */

static void ask_sizes(const fab_at_t *at, fab_client_op_t *op)
{
    const fab_file_t *state = &at->store->file_state[op->file->number];
    for (uint32_t i = 0; op->file->has_objects && i < state->object_count; i++) {
        fab_client_object_t *object = fab_client_object(at, op->file, i, state->targets[i]);
        fab_call_t *call = object ? fab_client_call(at, FAB_RPC_GLIMPSE, op, object->channel->import) : NULL;
        if (!call)
            return;
        call->object = object;
        call->file = op->file->number;
        call->object_number = i;
        call->target = object->target;
        op->left++;
        fab_client_send(at, call);
    }
}

/* ---- beginning ---------------------------------------------------------------------------------- */

/* The file is open: the rest of a read, write or fsync. */
static void begin_io(const fab_at_t *at, fab_client_op_t *op)
{
    op->file = fab_client_file(at, op->name->content);
    if (!op->file)
        return;
    if (!op->file->has_objects) {
        at->client->stats.refused++;
        fab_client_op_end(at, op);
        return;
    }
    const bool around = (op->flags & FAB_IO_DIRECT) || !fab_client_values(at, op->file->store)[FAB_STORE_CACHE];
    op->direct = around && op->kind != FAB_OP_FSYNC;
    if (op->kind == FAB_OP_FSYNC)
        begin_sync(at, op);
    else if (op->direct)
        fab_client_direct(at, op);
    else if (op->kind == FAB_OP_WRITE)
        fab_client_write(at, op);
    else
        fab_client_read(at, op);
}

static void begin_close(const fab_at_t *at, fab_client_op_t *op)
{
    fab_client_file_t *name = op->name;
    if (!name->opened) {
        fab_client_op_end(at, op);
        return;
    }
    name->opens -= name->opens != 0;
    name->opened = name->opens != 0;
    fab_client_file_t *file = fab_client_file(at, name->content);
    if (file && !name->opened)
        fab_client_give_back_groups(at, file);
    ask_meta(at, op, FAB_RPC_CLOSE);
}

static void begin(const fab_at_t *at, fab_client_op_t *op)
{
    fab_client_file_t *name = op->name;
    switch (op->kind) {
    case FAB_OP_READ:
    case FAB_OP_WRITE:
    case FAB_OP_FSYNC:
        if (name->opened) {
            begin_io(at, op);
            break;
        }
        fab_client_wait(&name->waiting_first, &name->waiting_last, op);
        if (!name->opening) {
            name->opening = true;
            ask_meta(at, op, FAB_RPC_OPEN);
        }
        break;
    case FAB_OP_OPEN: ask_meta(at, op, FAB_RPC_OPEN); break;
    case FAB_OP_CLOSE: begin_close(at, op); break;
    case FAB_OP_STAT:
        ask_meta(at, op, FAB_RPC_STAT);
        if (name->known && fab_client_values(at, name->store)[FAB_STORE_LOCKS]) {
            op->file = fab_client_file(at, name->content);
            if (op->file)
                ask_sizes(at, op);
        }
        break;
    case FAB_OP_UNLINK: ask_meta(at, op, FAB_RPC_UNLINK); break;
    case FAB_OP_MKDIR: ask_meta(at, op, FAB_RPC_MKDIR); break;
    case FAB_OP_RMDIR: ask_meta(at, op, FAB_RPC_RMDIR); break;
    case FAB_OP_RENAME: ask_meta(at, op, FAB_RPC_RENAME); break;
    default: ask_meta(at, op, FAB_RPC_READDIR); break;
    }
}

/* ---- answers ------------------------------------------------------------------------------------ */

static void opened(const fab_at_t *at, fab_client_op_t *op, const fab_rpc_t *rpc)
{
    fab_client_file_t *name = op->name;
    if (!rpc->refused) {
        name->opened = name->known = true;
        name->content = rpc->object;
        fab_client_file_t *file = fab_client_file(at, name->content);
        if (file)
            file->has_objects = rpc->end;
        if (file && (op->flags & FAB_IO_TRUNC) && op->kind == FAB_OP_OPEN) {
            if (fab_client_values(at, file->store)[FAB_STORE_LOCKS]) /* they were taken, with all that was under them */
                fab_client_forget_size(at, file);
            else
                empty_file(at, file);
        }
    }
    if (op->kind == FAB_OP_OPEN) {
        name->opens += !rpc->refused;
        fab_client_op_end(at, op);
        return;
    }
    name->opening = false;
    fab_client_op_t *waiting = name->waiting_first;
    name->waiting_first = name->waiting_last = NULL;
    while (waiting) {
        op = waiting;
        waiting = op->next;
        op->failed |= rpc->evicted;
        if (rpc->refused)
            fab_client_op_end(at, op);
        else
            begin_io(at, op);
    }
}

/* The two names change contents, as at the server: what the new name stood for is gone. */
static void renamed(const fab_at_t *at, fab_client_op_t *op)
{
    fab_client_file_t *old = op->name, *new = fab_client_file(at, op->new_file);
    fab_client_file_t *gone = new ? fab_client_file(at, new->content) : NULL;
    if (!gone)
        return;
    new->content = old->content;
    new->known = old->known;
    old->content = gone->number;
    old->opened = old->known = new->opened = false;
    old->opens = new->opens = 0;
    if (gone->number != new->content)
        empty_file(at, gone);
}

static void removed(const fab_at_t *at, fab_client_op_t *op)
{
    fab_client_file_t *file = fab_client_file(at, op->name->content);
    op->name->opened = op->name->known = false;
    op->name->opens = 0;
    if (file)
        empty_file(at, file);
}

static void stat_answered(const fab_at_t *at, fab_client_op_t *op, const fab_rpc_t *rpc)
{
    if (!rpc->refused && !op->name->known) {
        op->name->known = true;
        op->name->content = rpc->object;
        op->file = fab_client_file(at, op->name->content);
        if (op->file)
            op->file->has_objects = rpc->end;
        if (op->file && fab_client_values(at, op->name->store)[FAB_STORE_LOCKS])
            ask_sizes(at, op);
    }
    if (op->left == 0)
        fab_client_op_end(at, op);
}

void fab_client_answered(const fab_at_t *at, fab_call_t *call)
{
    fab_client_op_t *op = call->op;
    const fab_rpc_t *rpc = call->rpc;
    call->transno = rpc->transno;
    op->left--;
    op->failed |= rpc->evicted;
    switch (call->kind) {
    case FAB_RPC_OPEN: opened(at, op, rpc); return;
    case FAB_RPC_STAT: stat_answered(at, op, rpc); return;
    case FAB_RPC_GLIMPSE:
        fab_client_heard_generation(at, call->object->file, rpc->generation);
        if (!rpc->refused)
            fab_client_heard_end(at, call->object,
                                 fab_max_i64(rpc->end, call->object->dirty.count ? call->object->end : 0));
        break;
    case FAB_RPC_UNLINK:
        if (!rpc->refused)
            removed(at, op);
        break;
    case FAB_RPC_RENAME:
        if (!rpc->refused)
            renamed(at, op);
        break;
    default: break;
    }
    if (op->left == 0)
        fab_client_op_end(at, op);
}

/* ---- life --------------------------------------------------------------------------------------- */

int fab_client_new(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_client_t **client_out)
{
    (void)store;
    fab_client_t *client = fab_store_take(worker, sizeof *client);
    if (!client)
        return FAB_E_MEMORY;
    client->host = host;
    *client_out = client;
    return FAB_OK;
}

/* An operation begins by a timer, so that one that ends at once does not begin the next one within itself. */
void fab_client_start(fab_store_t *store, fab_worker_t *worker, uint32_t host, const fab_io_t *io, int64_t now_ps)
{
    const fab_at_t at = {store, worker, store->clients[host], now_ps};
    fab_client_op_t *op = fab_store_take(worker, sizeof *op);
    fab_client_file_t *name = op ? fab_client_file(&at, io->file) : NULL;
    if (!name)
        return;
    op->record = FAB_RECORD_OP;
    op->kind = io->kind;
    op->flags = io->flags;
    op->instance = io->instance;
    op->new_file = io->new_file;
    op->name = name;
    op->offset = op->cursor = io->offset;
    op->end = io->offset + io->bytes;
    at.client->open_ops++;
    at.client->stats.calls++;
    const bool moves = io->kind == FAB_OP_READ || io->kind == FAB_OP_WRITE;
    fab_client_set_timer(&at, op, now_ps + (moves ? fab_client_values(&at, name->store)[FAB_STORE_CALL_PS] : 0));
}

static void op_timer(const fab_at_t *at, fab_client_op_t *op)
{
    if (op->state == FAB_CLIENT_BEGIN)
        begin(at, op);
    else if (op->state == FAB_CLIENT_COPY)
        fab_client_copied(at, op);
    else
        fab_client_read_copied(at, op);
}

void fab_client_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, void *record, int64_t now_ps)
{
    const fab_at_t at = {store, worker, store->clients[host], now_ps};
    switch (*(uint8_t *)record) {
    case FAB_RECORD_OP: op_timer(&at, record); break;
    case FAB_RECORD_CALL: fab_client_call_timer(&at, record); break;
    case FAB_RECORD_CHANNEL: fab_client_expire(&at, record); break;
    default: fab_client_import_timer(&at, record); break;
    }
    fab_client_unplug(&at);
}

const fab_client_stats_t *fab_client_stats(const fab_client_t *client) { return &client->stats; }

void fab_client_check(const fab_store_t *store, uint32_t host, fab_problems_t *problems)
{
    const fab_client_t *client = store->clients[host];
    if (client->open_ops)
        fab_problems_add(problems, "client on host %u: %" PRId64 " operations have not ended", host, client->open_ops);
    if (client->stats.refused)
        fab_problems_add(problems,
                         "client on host %u: %" PRId64
                         " operations were refused: a file that is not there, or is there "
                         "already",
                         host, client->stats.refused);
    for (uint32_t s = 0; s < store->count; s++) {
        const fab_client_store_t *own = &client->stores[s];
        if (!own->config)
            continue;
        const uint32_t data = own->config->target_count + own->config->meta_count;
        const uint32_t count = data + fab_store_server_count(own->config);
        for (uint32_t c = 0; c < count; c++) {
            const fab_channel_t *channel = own->channels[c];
            if (!channel)
                continue;
            const char *what = c < data ? "target" : "metadata server";
            const uint32_t number = c < data ? c : c - data;
            if (channel->dirty_bytes)
                fab_problems_add(problems, "client on host %u: store %u: %s %u: %" PRId64 " bytes are dirty", host, s,
                                 what, number, channel->dirty_bytes);
            if (channel->in_flight || channel->first[0] || channel->first[1])
                fab_problems_add(problems, "client on host %u: store %u: %s %u: %u RPCs have no reply%s", host, s, what,
                                 number, channel->in_flight,
                                 channel->first[0] || channel->first[1] ? ", and others wait" : "");
        }
        for (uint32_t i = 0; i < fab_store_server_count(own->config); i++)
            if (own->imports[i] && own->imports[i]->first)
                fab_problems_add(problems, "client on host %u: store %u: server %u: requests have no reply", host, s,
                                 i);
    }
}
