/* Data servers: threads that serve a queue, and the way of a read or write through memory, bus and target, after Lustre's
 * object storage servers (lustre/ptlrpc/service.c, lustre/target/tgt_handler.c).
 *
 * A thread takes the oldest request and keeps it until the reply. The data of a write is pulled from the client, that of
 * a read pushed to it, in fragments; what is small goes in the request or the reply itself. */
#include "store/server.h"

#include "store/rate.h"

/* What an RPC's timer ends: the thread's own time, the way through memory and bus with its checksum, the target. */
enum { STAGE_CPU, STAGE_MEMORY, STAGE_TARGET };

/* The host where it runs; every client of a local store has a server of its own. */
static uint32_t place_of(const fab_server_t *self, int64_t now_ps)
{
    return fab_store_where(fab_server_config(self), self->number, self->host, now_ps);
}

static fab_server_t *server_of(const fab_store_t *store, uint32_t file_system, uint32_t number, uint32_t client)
{
    return store->servers[file_system][store->configs[file_system].layout_ops->per_client ? client : number];
}

/* ---- threads ------------------------------------------------------------------------------------ */

static void set_timer(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, uint8_t stage,
                      int64_t when_ps)
{
    rpc->stage = stage;
    fab_store_set_timer(self->store, worker, host, FAB_STORE_TIMER_SERVER, rpc, when_ps);
}

static void begin(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    rpc->began_ps = now_ps;
    set_timer(self, worker, host, rpc, STAGE_CPU, now_ps + fab_server_config(self)->values[FAB_STORE_RPC_CPU_PS]);
}

static void enqueue(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    fab_service_t *io = &self->io;
    if (io->threads_free) {
        io->threads_free--;
        begin(self, worker, host, rpc, now_ps);
        return;
    }
    rpc->next = NULL;
    if (io->first)
        io->last->next = rpc;
    else
        io->first = rpc;
    io->last = rpc;
    if (++io->waiting > io->most_waiting)
        io->most_waiting = io->waiting;
}

/* A thread is done with an RPC: takes the next one, and answers. */
static void finish(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t extra_bytes,
                   int64_t now_ps)
{
    fab_service_t *io = &self->io;
    fab_rpc_t *next = io->first;
    if (next) {
        io->first = next->next;
        io->waiting--;
        begin(self, worker, host, next, now_ps);
    } else {
        io->threads_free++;
    }
    fab_store_target_t *target = rpc->kind == FAB_RPC_SYNC ? NULL : fab_server_target(self, rpc->target);
    if (target) {
        target->stats.wait_ps += rpc->began_ps - rpc->queued_ps;
        target->stats.service_ps += now_ps - rpc->began_ps;
    }
    fab_server_answer(self, worker, rpc, extra_bytes, now_ps);
}

void fab_server_answer(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t extra_bytes, int64_t now_ps)
{
    rpc->served_ps = now_ps;
    rpc->stable = self->committed;
    rpc->committed = rpc->transno <= self->committed;
    fab_store_post(self->store, worker, place_of(self, now_ps), rpc->client, FAB_STORE_REPLY, rpc,
                   fab_server_config(self)->values[FAB_STORE_REPLY_BYTES] + extra_bytes, now_ps);
    if (self->recovering)
        fab_recover_answered(self, worker, rpc, now_ps);
}

/* ---- the journal -------------------------------------------------------------------------------- */

static void commit_at(fab_server_t *self, fab_worker_t *worker, int64_t when_ps, int64_t now_ps)
{
    fab_store_set_timer(self->store, worker, place_of(self, now_ps), FAB_STORE_TIMER_COMMIT, self, when_ps);
}

void fab_server_changed(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    if (!rpc->replay || rpc->transno == 0)
        rpc->transno = ++self->transno;
    else
        self->transno = fab_max_i64(self->transno, rpc->transno);
    const int64_t interval_ps = fab_server_config(self)->values[FAB_STORE_COMMIT_PS];
    if (interval_ps == 0) {
        fab_server_committed(self, worker, self->transno);
    } else if (self->commit_due_ps == FAB_NEVER) {
        self->commit_due_ps = now_ps + interval_ps;
        commit_at(self, worker, self->commit_due_ps, now_ps);
    }
}

/* A commit that someone waits for: of all changes so far, those after it wait for the next one. */
static void force(fab_server_t *self, fab_worker_t *worker, int64_t now_ps)
{
    self->sync_to = self->transno;
    self->sync_ps = now_ps + fab_server_config(self)->values[FAB_STORE_COMMIT_COST_PS];
    self->commit_due_ps = FAB_NEVER;
    commit_at(self, worker, self->sync_ps, now_ps);
}

static void sync_all(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    if (self->committed == self->transno) {
        finish(self, worker, host, rpc, 0, now_ps);
        return;
    }
    rpc->end = self->transno;
    rpc->next = NULL;
    if (self->sync_first)
        self->sync_last->next = rpc;
    else
        self->sync_first = rpc;
    self->sync_last = rpc;
    if (self->sync_ps == FAB_NEVER)
        force(self, worker, now_ps);
}

void fab_server_commit_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_server_t *self,
                             int64_t now_ps)
{
    /* one set before a failure: the server is elsewhere now, or has begun anew */
    if (fab_store_where(&store->configs[self->file_system], self->number, host, now_ps) != host)
        return;
    if (now_ps == self->sync_ps) {
        self->sync_ps = FAB_NEVER;
        fab_server_committed(self, worker, self->sync_to);
        for (fab_rpc_t *rpc; (rpc = self->sync_first) && rpc->end <= self->committed;) {
            self->sync_first = rpc->next;
            finish(self, worker, host, rpc, 0, now_ps);
        }
        if (self->sync_first)
            force(self, worker, now_ps);
    }
    /* one that falls due during another follows it */
    if (self->sync_ps == FAB_NEVER && self->commit_due_ps <= now_ps) {
        self->commit_due_ps = FAB_NEVER;
        fab_server_committed(self, worker, self->transno);
    }
}

/* ---- the way of a read or write ----------------------------------------------------------------- */

/* Bytes that a read finds, or a write brings. */
static int64_t data_bytes(const fab_rpc_t *rpc)
{
    return rpc->kind == FAB_RPC_READ ? fab_min_i64(rpc->bytes, fab_max_i64(rpc->end - rpc->offset, 0)) : rpc->bytes;
}

static uint32_t fragments(const fab_server_t *self, int64_t bytes)
{
    const int64_t most = fab_server_config(self)->values[FAB_STORE_FRAGMENT_BYTES];
    return (uint32_t)((bytes + most - 1) / most);
}

/* Bytes cross memory and buses of the server one after another. */
static int64_t cross(fab_server_t *self, int64_t bytes, int64_t now_ps)
{
    const int64_t mbps = fab_server_config(self)->values[FAB_STORE_SERVER_MBPS];
    if (mbps == 0)
        return now_ps;
    self->bus_free_ps = fab_max_i64(self->bus_free_ps, now_ps) + fab_rate_ps(bytes, mbps);
    return self->bus_free_ps;
}

static void to_target(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    fab_store_target_t *target = fab_server_target(self, rpc->target);
    if (FAB_UNLIKELY(!target)) {
        worker->error = FAB_E_INTERNAL;
        return;
    }
    rpc->target_ps = now_ps;
    const int64_t done_ps =
        fab_server_submit(self, target, rpc->kind == FAB_RPC_WRITE, (uint64_t)rpc->file << 32 | rpc->object,
                          rpc->offset, data_bytes(rpc), now_ps);
    set_timer(self, worker, host, rpc, STAGE_TARGET, done_ps);
}

/* Sends a write on in shards; those for the server itself go the same way, without a message. */
static void to_others(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    const fab_store_config_t *config = fab_server_config(self);
    fab_layout_shard_t parts[FAB_LAYOUT_SHARDS_MAX];
    rpc->target_ps = now_ps;
    rpc->shards = config->layout_ops->spread(config, rpc->file, rpc->offset, rpc->bytes, parts);
    for (uint32_t i = 0; i < rpc->shards; i++) {
        fab_shard_t *shard = fab_store_take(worker, sizeof *shard);
        if (!shard)
            return;
        *shard = (fab_shard_t){.rpc = rpc,
                               .from = self->number,
                               .to = config->target_server[parts[i].target],
                               .target = parts[i].target,
                               .offset = parts[i].offset,
                               .bytes = parts[i].bytes};
        fab_store_post(self->store, worker, host, fab_store_where(config, shard->to, rpc->client, now_ps),
                       FAB_STORE_SHARD, shard, config->values[FAB_STORE_REQUEST_BYTES] + shard->bytes, now_ps);
    }
}

/* Data of a read on its way to the client. */
static void push(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    const int64_t *values = fab_server_config(self)->values;
    int64_t left = data_bytes(rpc);
    if (left <= values[FAB_STORE_SHORT_IO_BYTES]) {
        finish(self, worker, host, rpc, left, now_ps);
        return;
    }
    rpc->fragments = fragments(self, left);
    for (; left > 0; left -= values[FAB_STORE_FRAGMENT_BYTES])
        fab_store_post(self->store, worker, host, rpc->client, FAB_STORE_BULK, rpc,
                       fab_min_i64(left, values[FAB_STORE_FRAGMENT_BYTES]), now_ps);
}

/* The data is in memory, and checked. */
static void from_memory(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    if (rpc->kind == FAB_RPC_READ)
        push(self, worker, host, rpc, now_ps);
    else if (fab_server_config(self)->layout_ops->spread)
        to_others(self, worker, host, rpc, now_ps);
    else
        to_target(self, worker, host, rpc, now_ps);
}

static void to_memory(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    const int64_t bytes = data_bytes(rpc), crossed_ps = cross(self, bytes, now_ps),
                  checked_ps =
                      crossed_ps + fab_rate_ps(bytes, fab_server_config(self)->values[FAB_STORE_CHECKSUM_MBPS]);
    if (checked_ps == now_ps)
        from_memory(self, worker, host, rpc, now_ps);
    else
        set_timer(self, worker, host, rpc, STAGE_MEMORY, checked_ps);
}

/* Whether a write was answered before its object was made empty, and is only sent again. Under locks a client knows how
 * often an object was. */
static bool is_of_before(fab_server_t *self, fab_worker_t *worker, const fab_rpc_t *rpc)
{
    if (!rpc->replay || !fab_server_config(self)->values[FAB_STORE_LOCKS])
        return false;
    const fab_object_t *object = fab_server_object(self, worker, rpc->target, rpc->file, rpc->object);
    return object && rpc->generation < object->generation;
}

/* A thread has looked at its request. */
static void go_on(fab_server_t *self, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    const int64_t *values = fab_server_config(self)->values;
    if (rpc->kind == FAB_RPC_SYNC) {
        sync_all(self, worker, host, rpc, now_ps);
    } else if (rpc->kind == FAB_RPC_READ) {
        const fab_object_t *object = fab_server_object(self, worker, rpc->target, rpc->file, rpc->object);
        if (!object)
            return;
        rpc->end = object->size;
        rpc->generation = object->generation;
        if (data_bytes(rpc))
            to_target(self, worker, host, rpc, now_ps);
        else
            finish(self, worker, host, rpc, 0, now_ps);
    } else if (rpc->bytes <= values[FAB_STORE_SHORT_IO_BYTES]) {
        to_memory(self, worker, host, rpc, now_ps);
    } else {
        rpc->fragments = fragments(self, rpc->bytes);
        fab_store_post(self->store, worker, host, rpc->client, FAB_STORE_PULL, rpc, values[FAB_STORE_REQUEST_BYTES],
                       now_ps);
    }
}

/* ---- what a server is told ---------------------------------------------------------------------- */

void fab_server_serve(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    if (rpc->kind == FAB_RPC_DESTROY)
        fab_destroy_request(self, worker, rpc, now_ps);
    else if (rpc->kind == FAB_RPC_LOCK || rpc->kind == FAB_RPC_GLIMPSE)
        fab_lock_request(self, worker, rpc, now_ps);
    else if (rpc->kind >= FAB_RPC_OPEN)
        fab_meta_request(self, worker, rpc, now_ps);
    else
        enqueue(self, worker, place_of(self, now_ps), rpc, now_ps);
}

void fab_server_request(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    (void)host;
    fab_server_t *self = server_of(store, rpc->store, rpc->server, rpc->client);
    rpc->queued_ps = now_ps;
    if (rpc->kind == FAB_RPC_PING || rpc->kind == FAB_RPC_CONNECT)
        fab_recover_request(self, worker, rpc, now_ps);
    else if (!self->recovery || !fab_recover_holds(self, worker, rpc, now_ps))
        fab_server_serve(self, worker, rpc, now_ps);
}

void fab_server_bulk(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    if (--rpc->fragments == 0)
        to_memory(server_of(store, rpc->store, rpc->server, rpc->client), worker, host, rpc, now_ps);
}

void fab_server_bulk_acknowledged(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc,
                                  int64_t now_ps)
{
    if (--rpc->fragments == 0)
        finish(server_of(store, rpc->store, rpc->server, rpc->client), worker, host, rpc, 0, now_ps);
}

void fab_server_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    fab_server_t *self = server_of(store, rpc->store, rpc->server, rpc->client);
    switch (rpc->stage) {
    case STAGE_CPU: go_on(self, worker, host, rpc, now_ps); break;
    case STAGE_MEMORY: from_memory(self, worker, host, rpc, now_ps); break;
    default:
        fab_server_target(self, rpc->target)->queued--;
        if (rpc->kind == FAB_RPC_READ) {
            to_memory(self, worker, host, rpc, now_ps);
            break;
        }
        fab_server_changed(self, worker, rpc, now_ps);
        if (!is_of_before(self, worker, rpc))
            fab_server_fill(self, worker, rpc->target, rpc->file, rpc->object, rpc->offset, rpc->bytes, rpc->transno);
        finish(self, worker, host, rpc, 0, now_ps);
        break;
    }
}

/* ---- shards ------------------------------------------------------------------------------------- */

void fab_server_shard(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_shard_t *shard, int64_t now_ps)
{
    fab_server_t *self = server_of(store, shard->rpc->store, shard->to, shard->rpc->client);
    const bool own = shard->from == shard->to; /* it is in memory already */
    fab_store_set_timer(store, worker, host, FAB_STORE_TIMER_SHARD, shard,
                        own ? now_ps : cross(self, shard->bytes, now_ps));
}

void fab_server_shard_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_shard_t *shard, int64_t now_ps)
{
    const fab_rpc_t *rpc = shard->rpc;
    fab_server_t *self = server_of(store, rpc->store, shard->to, rpc->client);
    const fab_store_config_t *config = fab_server_config(self);
    fab_store_target_t *target = fab_server_target(self, shard->target);
    if (FAB_UNLIKELY(!target)) {
        worker->error = FAB_E_INTERNAL;
        return;
    }
    if (!shard->at_target) {
        shard->at_target = true;
        const int64_t done_ps = fab_server_submit(self, target, true, (uint64_t)rpc->file << 32 | shard->target,
                                                  fab_max_i64(shard->offset, 0), shard->bytes, now_ps);
        fab_store_set_timer(store, worker, host, FAB_STORE_TIMER_SHARD, shard, done_ps);
        return;
    }
    target->queued--;
    if (shard->offset >= 0)
        fab_server_fill(self, worker, shard->target, rpc->file, shard->target, shard->offset, shard->bytes, 0);
    fab_store_post(store, worker, host, fab_store_where(config, shard->from, rpc->client, now_ps), FAB_STORE_SHARD_DONE,
                   shard, config->values[FAB_STORE_REPLY_BYTES], now_ps);
}

void fab_server_shard_done(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_shard_t *shard, int64_t now_ps)
{
    fab_rpc_t *rpc = shard->rpc;
    fab_store_give(worker, shard, sizeof *shard);
    if (--rpc->shards)
        return;
    fab_server_t *self = server_of(store, rpc->store, rpc->server, rpc->client);
    fab_server_changed(self, worker, rpc, now_ps);
    finish(self, worker, host, rpc, 0, now_ps);
}
