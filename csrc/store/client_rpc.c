/* A client's calls: windows by target as an OSC's max_rpcs_in_flight, parts cut into RPCs at the multiples of the RPC
 * size, data through the client's bus, replies (lustre/osc/osc_request.c for what a window is). */
#include "store/client_state.h"

/* ---- channels and imports ----------------------------------------------------------------------- */

static uint32_t channel_count(const fab_store_config_t *config)
{
    return config->target_count + config->meta_count + fab_store_server_count(config);
}

static bool make_store(const fab_at_t *at, uint32_t s)
{
    fab_client_store_t *self = &at->client->stores[s];
    const fab_store_config_t *config = &at->store->configs[s];
    self->channels = fab_store_take(at->worker, channel_count(config) * sizeof *self->channels);
    self->imports = fab_store_take(at->worker, fab_store_server_count(config) * sizeof *self->imports);
    self->fails = config->failure_count != 0;
    if (!self->channels || !self->imports)
        return false;
    self->config = config;
    return true;
}

/* Where a server is when a client first turns to it: what it could have been told before. A failure whose takeover is
 * still to come it finds out itself, so that it sends again what the server never had. */
static void meet(const fab_at_t *at, const fab_store_config_t *config, fab_import_t *import)
{
    const uint32_t host = fab_store_where(config, import->server, at->client->host, at->now_ps);
    import->at = host != FAB_NONE ? host : fab_store_host(config, import->server, at->client->host);
    for (uint32_t i = 0; i < config->failure_count; i++)
        import->epoch += config->failures[i].server == import->server && config->failures[i].up_ps <= at->now_ps;
}

fab_import_t *fab_client_import(const fab_at_t *at, uint32_t store, uint32_t server)
{
    fab_client_store_t *self = &at->client->stores[store];
    if (!self->config && !make_store(at, store))
        return NULL;
    fab_import_t *import = self->imports[server];
    if (import || !(import = fab_store_take(at->worker, sizeof *import)))
        return import;
    import->record = FAB_RECORD_IMPORT;
    import->store = (uint8_t)store;
    import->server = server;
    import->due_ps = FAB_NEVER;
    meet(at, self->config, import);
    self->imports[server] = import;
    return import;
}

static fab_channel_t *channel_at(const fab_at_t *at, uint32_t store, uint32_t number, uint32_t server, int64_t limit)
{
    fab_import_t *import = fab_client_import(at, store, server);
    if (!import)
        return NULL;
    fab_channel_t **place = &at->client->stores[store].channels[number];
    if (*place)
        return *place;
    fab_channel_t *channel = fab_store_take(at->worker, sizeof *channel);
    if (!channel)
        return NULL;
    const int64_t *values = fab_client_values(at, store);
    channel->record = FAB_RECORD_CHANNEL;
    channel->store = (uint8_t)store;
    channel->target = number;
    channel->limit = (uint32_t)limit;
    channel->import = import;
    channel->room_bytes = fab_min_i64(values[FAB_STORE_MAX_DIRTY_BYTES], values[FAB_STORE_GRANT_BYTES]);
    channel->import_next = import->channels;
    import->channels = channel;
    *place = channel;
    return channel;
}

fab_channel_t *fab_client_channel(const fab_at_t *at, uint32_t store, uint32_t target)
{
    const fab_store_config_t *config = &at->store->configs[store];
    const uint32_t server = target < config->target_count ? config->target_server[target]
                                                          : config->data_count + target - config->target_count;
    return channel_at(at, store, target, server, config->values[FAB_STORE_RPCS_IN_FLIGHT_COUNT]);
}

fab_channel_t *fab_client_meta_channel(const fab_at_t *at, uint32_t store, uint32_t server)
{
    const fab_store_config_t *config = &at->store->configs[store];
    return channel_at(at, store, config->target_count + config->meta_count + server, server,
                      config->values[FAB_STORE_META_RPCS_COUNT]);
}

/* ---- queues ------------------------------------------------------------------------------------- */

fab_part_t *fab_client_part(const fab_at_t *at, uint8_t kind, fab_client_op_t *op, fab_client_object_t *object,
                            int64_t begin, int64_t end)
{
    fab_part_t *part = fab_store_take(at->worker, sizeof *part);
    if (!part)
        return NULL;
    part->kind = kind;
    part->op = op;
    part->object = object;
    part->begin = part->sent = begin;
    part->end = end;
    part->left = end - begin;
    if (kind != FAB_RPC_WRITE)
        return part;
    part->number = object->file->writes_begun++;
    object->file->writes_left++;
    part->object_previous = object->writes_last;
    if (object->writes)
        object->writes_last->object_next = part;
    else
        object->writes = part;
    object->writes_last = part;
    return part;
}

void fab_client_plug(const fab_at_t *at, fab_channel_t *channel)
{
    if (channel->plugged)
        return;
    channel->plugged = true;
    channel->plug_next = NULL;
    if (at->client->plug_first)
        at->client->plug_last->plug_next = channel;
    else
        at->client->plug_first = channel;
    at->client->plug_last = channel;
}

static void enqueue(fab_part_t *part, fab_channel_t *channel)
{
    const bool urgent = part->urgent;
    part->queued = true;
    part->next = NULL;
    part->previous = channel->last[urgent];
    if (channel->first[urgent])
        channel->last[urgent]->next = part;
    else
        channel->first[urgent] = part;
    channel->last[urgent] = part;
}

static void dequeue(fab_part_t *part, fab_channel_t *channel)
{
    const bool urgent = part->urgent;
    if (part->previous)
        part->previous->next = part->next;
    else
        channel->first[urgent] = part->next;
    if (part->next)
        part->next->previous = part->previous;
    else
        channel->last[urgent] = part->previous;
    part->queued = false;
    if (part->object && part->object->tail == part)
        part->object->tail = NULL;
}

void fab_client_queue(const fab_at_t *at, fab_part_t *part, fab_channel_t *channel, bool urgent)
{
    part->urgent = urgent;
    enqueue(part, channel);
    if (part->object)
        part->object->tail = part;
    fab_client_plug(at, channel);
}

/* Lets a part go before others. */
void fab_client_hurry(fab_part_t *part, fab_channel_t *channel)
{
    if (!part->queued || part->urgent)
        return;
    dequeue(part, channel);
    part->urgent = true;
    enqueue(part, channel);
}

/* A part is done with, or given up: out of its queue and its object's writes. */
void fab_client_drop_part(const fab_at_t *at, fab_part_t *part)
{
    fab_client_object_t *object = part->object;
    if (part->queued)
        dequeue(part, object->channel);
    if (part->kind == FAB_RPC_WRITE) {
        if (part->object_previous)
            part->object_previous->object_next = part->object_next;
        else
            object->writes = part->object_next;
        if (part->object_next)
            part->object_next->object_previous = part->object_previous;
        else
            object->writes_last = part->object_previous;
        object->file->writes_left--;
    }
    fab_store_give(at->worker, part, sizeof *part);
}

/* ---- calls -------------------------------------------------------------------------------------- */

fab_call_t *fab_client_call(const fab_at_t *at, uint8_t kind, fab_client_op_t *op, fab_import_t *import)
{
    fab_call_t *call = fab_store_take(at->worker, sizeof *call);
    if (!call)
        return NULL;
    call->record = FAB_RECORD_CALL;
    call->kind = kind;
    call->op = op;
    call->import = import;
    call->object_number = call->target = FAB_NONE;
    if (op) {
        call->flags = op->flags;
        call->file = op->name->number;
    }
    return call;
}

static void of_object(fab_call_t *call, fab_client_object_t *object)
{
    call->object = object;
    call->file = object->file->number;
    call->object_number = object->number;
    call->target = object->target;
}

void fab_client_link_call(fab_import_t *import, fab_call_t *call)
{
    call->next = NULL;
    call->previous = import->last;
    if (import->first)
        import->last->next = call;
    else
        import->first = call;
    import->last = call;
}

void fab_client_unlink_call(fab_import_t *import, fab_call_t *call)
{
    if (call->previous)
        call->previous->next = call->next;
    else
        import->first = call->next;
    if (call->next)
        call->next->previous = call->previous;
    else
        import->last = call->previous;
}

/* Puts a copy of a call in its place. */
void fab_client_replace_call(fab_import_t *import, fab_call_t *call)
{
    if (call->previous)
        call->previous->next = call;
    else
        import->first = call;
    if (call->next)
        call->next->previous = call;
    else
        import->last = call;
}

/* Passes bytes through the client's bus; returns when they are through. */
static int64_t pass_bus(const fab_at_t *at, uint32_t store, int64_t bytes)
{
    int64_t *free_ps = &at->client->stores[store].bus_free_ps;
    *free_ps =
        fab_max_i64(*free_ps, at->now_ps) + fab_rate_ps(bytes, fab_client_values(at, store)[FAB_STORE_CLIENT_MBPS]);
    return *free_ps;
}

static bool carries_data(const fab_at_t *at, const fab_call_t *call)
{
    return call->kind == FAB_RPC_WRITE &&
           call->bytes <= fab_client_values(at, call->import->store)[FAB_STORE_SHORT_IO_BYTES];
}

static void post_request(const fab_at_t *at, fab_call_t *call)
{
    const int64_t request_bytes = fab_client_values(at, call->import->store)[FAB_STORE_REQUEST_BYTES];
    fab_store_post(at->store, at->worker, at->client->host, call->import->at, FAB_STORE_REQUEST, call->rpc,
                   request_bytes + (carries_data(at, call) ? call->bytes : 0), at->now_ps);
}

/* Makes the record of a call and sends it; one to a server that is not there waits until it is. */
void fab_client_transmit(const fab_at_t *at, fab_call_t *call)
{
    fab_import_t *import = call->import;
    call->sent_ps = at->now_ps;
    if (call->kind == FAB_RPC_WRITE && !call->replay)
        call->generation = call->object->file->generation;
    if (import->state != FAB_IMPORT_FULL && call->kind < FAB_RPC_PING)
        return;
    fab_rpc_t *rpc = fab_store_rpc(at->worker);
    if (!rpc)
        return;
    rpc->kind = call->kind;
    rpc->store = import->store;
    rpc->mode = call->mode;
    rpc->flags = call->flags;
    rpc->client = at->client->host;
    rpc->server = import->server;
    rpc->target = call->target;
    rpc->file = call->file;
    rpc->object = call->object_number;
    rpc->epoch = call->epoch = import->epoch;
    rpc->offset = call->offset;
    rpc->bytes = call->bytes;
    rpc->generation = call->generation;
    rpc->transno = call->transno;
    rpc->replay = call->replay || call->lock;
    rpc->user = call;
    rpc->sent_ps = at->now_ps;
    rpc->queued_ps = rpc->began_ps = rpc->target_ps = rpc->served_ps = rpc->done_ps = -1;
    call->rpc = rpc;
    if (at->client->stores[import->store].fails)
        fab_client_watch(at, import);
    if (carries_data(at, call) || call->kind == FAB_RPC_PING) { /* a ping comes after all that was sent before it */
        const int64_t when_ps = pass_bus(at, import->store, call->bytes);
        if (when_ps > at->now_ps) {
            call->stage = FAB_CALL_REQUEST;
            fab_client_set_timer(at, call, when_ps);
            return;
        }
    }
    post_request(at, call);
}

void fab_client_send(const fab_at_t *at, fab_call_t *call)
{
    fab_client_link_call(call->import, call);
    at->client->stats.rpcs++;
    fab_client_transmit(at, call);
}

/* Cuts the next call off a part. */
static void send_part(const fab_at_t *at, fab_channel_t *channel, fab_part_t *part)
{
    fab_call_t *call = fab_client_call(at, part->kind, part->op, channel->import);
    if (!call)
        return;
    call->part = part;
    call->channel = channel;
    channel->in_flight++;
    if (!part->object) {
        dequeue(part, channel);
        call->part = NULL;
        if (part->kind == FAB_RPC_RENAME)
            call->object_number = part->op->new_file;
        fab_store_give(at->worker, part, sizeof *part);
        fab_client_send(at, call);
        return;
    }
    of_object(call, part->object);
    const int64_t rpc_bytes = fab_client_values(at, channel->store)[FAB_STORE_RPC_BYTES];
    const int64_t end = fab_min_i64(part->end, (part->sent / rpc_bytes + 1) * rpc_bytes);
    call->offset = part->sent;
    call->bytes = end - part->sent;
    part->sent = end;
    if (part->sent == part->end)
        dequeue(part, channel);
    *(part->kind == FAB_RPC_WRITE ? &at->client->stats.rpc_written_bytes : &at->client->stats.rpc_read_bytes) +=
        call->bytes;
    fab_client_send(at, call);
}

static void pump(const fab_at_t *at, fab_channel_t *channel)
{
    while (channel->in_flight < channel->limit && channel->import->state == FAB_IMPORT_FULL && !at->worker->error) {
        fab_part_t *part = channel->first[1] ? channel->first[1] : channel->first[0];
        if (!part)
            break;
        send_part(at, channel, part);
    }
}

void fab_client_unplug(const fab_at_t *at)
{
    while (at->client->plug_first) {
        fab_channel_t *channel = at->client->plug_first;
        at->client->plug_first = channel->plug_next;
        channel->plugged = false;
        pump(at, channel);
    }
}

/* ---- data --------------------------------------------------------------------------------------- */

static void post_fragment(const fab_at_t *at, fab_call_t *call, int64_t bytes)
{
    call->moved += bytes;
    fab_store_post(at->store, at->worker, at->client->host, call->import->at, FAB_STORE_BULK, call->rpc, bytes,
                   at->now_ps);
}

static int64_t next_fragment(const fab_at_t *at, const fab_call_t *call)
{
    return fab_min_i64(call->bytes - call->moved, fab_client_values(at, call->import->store)[FAB_STORE_FRAGMENT_BYTES]);
}

/* Fragments leave one after another, as the bus lets them. */
static void send_fragments(const fab_at_t *at, fab_call_t *call)
{
    const int64_t mbps = fab_client_values(at, call->import->store)[FAB_STORE_CLIENT_MBPS];
    while (call->moved < call->bytes && !at->worker->error) {
        const int64_t bytes = next_fragment(at, call);
        const int64_t when_ps = call->begin_ps + fab_rate_ps(call->moved + bytes, mbps);
        if (when_ps > at->now_ps) {
            call->stage = FAB_CALL_FRAGMENT;
            fab_client_set_timer(at, call, when_ps);
            return;
        }
        post_fragment(at, call, bytes);
    }
}

void fab_client_pull(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    const fab_at_t at = {store, worker, store->clients[host], now_ps};
    fab_call_t *call = rpc->user;
    if (call->rpc != rpc) /* sent again since */
        return;
    call->moved = 0;
    call->begin_ps = fab_max_i64(at.client->stores[rpc->store].bus_free_ps, now_ps);
    pass_bus(&at, rpc->store, call->bytes);
    send_fragments(&at, call);
}

/* Bytes of a read that are there: not behind the end of the object. */
static int64_t there(const fab_call_t *call)
{
    return fab_max_i64(0, fab_min_i64(call->bytes, call->rpc->end - call->offset));
}

/* A piece of a read: its size is known, as all but the last are whole. */
void fab_client_bulk(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    const fab_at_t at = {store, worker, store->clients[host], now_ps};
    fab_call_t *call = rpc->user;
    if (call->rpc != rpc)
        return;
    const int64_t bytes = fab_min_i64(there(call) - call->moved, next_fragment(&at, call));
    call->moved += bytes;
    call->data_ps = pass_bus(&at, rpc->store, bytes);
}

/* ---- replies ------------------------------------------------------------------------------------ */

void fab_client_forget_call(const fab_at_t *at, fab_call_t *call)
{
    fab_store_give(at->worker, call->rpc, sizeof *call->rpc);
    fab_store_give(at->worker, call, sizeof *call);
}

static void read_part_answered(const fab_at_t *at, fab_call_t *call)
{
    fab_part_t *part = call->part;
    const int64_t bytes = there(call);
    fab_client_heard_generation(at, call->object->file, call->rpc->generation);
    fab_client_heard_end(at, call->object, call->rpc->end);
    part->left -= call->bytes;
    if (part->op) {
        fab_client_op_t *op = part->op;
        op->refused |= call->rpc->refused;
        op->at_end |= bytes < call->bytes;
        if (part->left == 0)
            fab_client_direct_done(at, part);
        return;
    }
    if (part->left == 0)
        fab_client_drop_part(at, part);
    fab_client_arrived(at, call, bytes);
}

/* All of a call is there. */
static void finish(const fab_at_t *at, fab_call_t *call)
{
    fab_import_t *import = call->import;
    fab_rpc_t *rpc = call->rpc;
    rpc->done_ps = at->now_ps;
    fab_client_unlink_call(import, call);
    import->heard_ps = at->now_ps;
    if (call->channel) {
        call->channel->in_flight--;
        fab_client_plug(at, call->channel);
    }
    fab_client_stable(at, import, rpc->stable);
    at->client->stats.refused += rpc->refused;
    switch (call->replay ? FAB_RPC_KINDS : (fab_rpc_kind_t)call->kind) {
    case FAB_RPC_KINDS: break;
    case FAB_RPC_READ: read_part_answered(at, call); break;
    case FAB_RPC_WRITE: fab_client_wrote(at, call); break;
    case FAB_RPC_LOCK: fab_client_lock_answered(at, call); break;
    case FAB_RPC_PING:
    case FAB_RPC_CONNECT: fab_client_import_answered(at, call); break;
    default: fab_client_answered(at, call); break;
    }
    fab_store_record(at->store, at->worker, rpc);
    if (!fab_client_keep(at, call))
        fab_client_forget_call(at, call);
}

void fab_client_reply(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    const fab_at_t at = {store, worker, store->clients[host], now_ps};
    fab_call_t *call = rpc->user;
    if (call->rpc != rpc) /* answered before its server failed, and sent again */
        return;
    if (call->kind == FAB_RPC_READ && call->moved == 0 && there(call)) /* the data is in the reply */
        call->data_ps = pass_bus(&at, rpc->store, there(call));
    if (call->data_ps > now_ps) {
        call->stage = FAB_CALL_LATE;
        fab_client_set_timer(&at, call, call->data_ps);
        return;
    }
    finish(&at, call);
    fab_client_unplug(&at);
}

void fab_client_call_timer(const fab_at_t *at, fab_call_t *call)
{
    if (!call->rpc) /* given up for another */
        return;
    switch (call->stage) {
    case FAB_CALL_REQUEST: post_request(at, call); break;
    case FAB_CALL_FRAGMENT: send_fragments(at, call); break;
    default: finish(at, call); break;
    }
}
