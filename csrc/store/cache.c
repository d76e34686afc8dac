/* The page cache of a client: what writes leave in it, how it becomes RPCs, what goes when it is full.
 *
 * An RPC is made of a whole aligned piece of an object as soon as all of it is dirty, of less when somebody waits for it
 * (lustre/osc/osc_cache.c, osc_makes_rpc). */
#include "store/client_state.h"

/* ---- what is there ------------------------------------------------------------------------------ */

/* Moves an object to the front of those in use. */
void fab_client_use(const fab_at_t *at, fab_client_object_t *object)
{
    fab_client_t *client = at->client;
    if (client->used_first == object)
        return;
    if (object->used_previous) {
        object->used_previous->used_next = object->used_next;
        if (object->used_next)
            object->used_next->used_previous = object->used_previous;
        else
            client->used_last = object->used_previous;
    }
    object->used_previous = NULL;
    object->used_next = client->used_first;
    if (client->used_first)
        client->used_first->used_previous = object;
    else
        client->used_last = object;
    client->used_first = object;
}

static void leave_used(fab_client_t *client, fab_client_object_t *object)
{
    if (object->used_previous)
        object->used_previous->used_next = object->used_next;
    else if (client->used_first == object)
        client->used_first = object->used_next;
    else
        return;
    if (object->used_next)
        object->used_next->used_previous = object->used_previous;
    else
        client->used_last = object->used_previous;
    object->used_next = object->used_previous = NULL;
}

static int64_t checked(const fab_at_t *at, int64_t bytes)
{
    if (bytes >= 0)
        return bytes;
    at->worker->error = FAB_E_MEMORY;
    return 0;
}

static int64_t put(const fab_at_t *at, fab_extents_t *set, int64_t begin, int64_t end)
{
    return checked(at, fab_extents_add(set, &at->worker->pool, begin, end));
}

static int64_t take(const fab_at_t *at, fab_extents_t *set, int64_t begin, int64_t end)
{
    return checked(at, fab_extents_remove(set, &at->worker->pool, begin, end));
}

void fab_client_cache(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end)
{
    at->client->cached_bytes += put(at, &object->cached, begin, end);
    fab_client_use(at, object);
}

void fab_client_uncache(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end)
{
    at->client->cached_bytes -= take(at, &object->cached, begin, end);
    take(at, &object->reading, begin, end);
    object->file->ahead_end = 0;
}

/* The first range from an offset on that is cached and not on its way to a server: that is not clean before its reply. */
static bool next_clean(const fab_client_object_t *object, int64_t offset, fab_extent_t *clean_out)
{
    for (uint32_t i = fab_extents_find(&object->cached, offset); i < object->cached.count; i++) {
        fab_extent_t clean = object->cached.items[i];
        clean.begin = fab_max_i64(clean.begin, offset);
        for (bool again = true; again;) { /* behind a part another may begin */
            again = false;
            for (const fab_part_t *part = object->writes; part; part = part->object_next)
                if (!part->op && part->begin <= clean.begin && part->end > clean.begin) {
                    clean.begin = part->end;
                    again = true;
                }
        }
        for (const fab_part_t *part = object->writes; part; part = part->object_next)
            if (!part->op && part->begin > clean.begin)
                clean.end = fab_min_i64(clean.end, part->begin);
        *clean_out = clean;
        if (clean.begin < clean.end)
            return true;
    }
    return false;
}

/* The cache is too full: the objects that were used longest ago lose what is clean. An object is gone through upwards,
 * so it begins behind what was written or asked for last, and comes to that in the end. */
void fab_client_evict(const fab_at_t *at, uint32_t store)
{
    fab_client_t *client = at->client;
    const int64_t most = fab_client_values(at, store)[FAB_STORE_CACHE_BYTES];
    for (fab_client_object_t *object = client->used_last, *before; object && client->cached_bytes > most;
         object = before) {
        before = object->used_previous;
        fab_extent_t clean;
        while (client->cached_bytes > most && !at->worker->error &&
               (next_clean(object, object->newest_end, &clean) || next_clean(object, 0, &clean))) {
            const int64_t end = fab_min_i64(clean.end, clean.begin + client->cached_bytes - most);
            client->cached_bytes -= take(at, &object->cached, clean.begin, end);
        }
        if (object->cached.count == 0 && object->dirty.count == 0)
            leave_used(client, object);
    }
}

/* ---- dirty data --------------------------------------------------------------------------------- */

static void list_dirty(const fab_at_t *at, fab_client_object_t *object)
{
    fab_channel_t *channel = object->channel;
    object->listed = true;
    object->dirty_since_ps = at->now_ps;
    object->dirty_next = NULL;
    object->dirty_previous = channel->dirty_last;
    if (channel->dirty_first)
        channel->dirty_last->dirty_next = object;
    else
        channel->dirty_first = object;
    channel->dirty_last = object;
    const int64_t expire_ps = fab_client_values(at, channel->store)[FAB_STORE_DIRTY_EXPIRE_PS];
    if (expire_ps && !channel->expiring) {
        channel->expiring = true;
        fab_client_set_timer(at, channel, at->now_ps + expire_ps);
    }
}

static void unlist_dirty(fab_client_object_t *object)
{
    fab_channel_t *channel = object->channel;
    if (object->dirty_previous)
        object->dirty_previous->dirty_next = object->dirty_next;
    else
        channel->dirty_first = object->dirty_next;
    if (object->dirty_next)
        object->dirty_next->dirty_previous = object->dirty_previous;
    else
        channel->dirty_last = object->dirty_previous;
    object->listed = false;
}

/* Makes a part of a range that is dirty; the range is clean for readers from now on. */
static void write_back(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end, bool urgent)
{
    fab_part_t *part = fab_client_part(at, FAB_RPC_WRITE, NULL, object, begin, end);
    if (!part)
        return;
    object->channel->writing++;
    fab_client_queue(at, part, object->channel, urgent);
    at->client->cached_bytes += put(at, &object->cached, begin, end);
}

void fab_client_flush(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end, bool urgent)
{
    const int64_t rpc_bytes = fab_client_values(at, object->channel->store)[FAB_STORE_RPC_BYTES];
    const fab_extents_t *dirty = &object->dirty;
    for (uint32_t i = fab_extents_find(dirty, begin); i < dirty->count && dirty->items[i].begin < end; i++) {
        const int64_t last = fab_min_i64(end, dirty->items[i].end);
        for (int64_t from = fab_max_i64(begin, dirty->items[i].begin), to; from < last; from = to) {
            to = fab_min_i64(last, (from / rpc_bytes + 1) * rpc_bytes);
            write_back(at, object, from, to, urgent);
        }
    }
    at->client->cached_bytes -= take(at, &object->dirty, begin, end);
    if (object->listed) {
        unlist_dirty(object);
        if (object->dirty.count) /* the rest is younger than what went */
            list_dirty(at, object);
    }
}

static void flush_channel(const fab_at_t *at, fab_channel_t *channel)
{
    while (channel->dirty_first && !at->worker->error)
        fab_client_flush(at, channel->dirty_first, 0, INT64_MAX, false);
}

/* What has been dirty for long goes. */
void fab_client_expire(const fab_at_t *at, fab_channel_t *channel)
{
    const int64_t expire_ps = fab_client_values(at, channel->store)[FAB_STORE_DIRTY_EXPIRE_PS];
    channel->expiring = false;
    while (channel->dirty_first && channel->dirty_first->dirty_since_ps + expire_ps <= at->now_ps && !at->worker->error)
        fab_client_flush(at, channel->dirty_first, 0, INT64_MAX, false);
    if (channel->dirty_first) {
        channel->expiring = true;
        fab_client_set_timer(at, channel, channel->dirty_first->dirty_since_ps + expire_ps);
    }
}

/* ---- writers ------------------------------------------------------------------------------------ */

static bool has_room(const fab_channel_t *channel, int64_t bytes)
{
    return channel->dirty_bytes == 0 || channel->dirty_bytes + bytes <= channel->room_bytes;
}

/* Takes room for a unit of a write, and copies it there. */
static void copy(const fab_at_t *at, fab_client_op_t *op)
{
    fab_channel_t *channel = op->object->channel;
    channel->dirty_bytes += op->unit_bytes;
    at->client->stats.max_dirty_bytes = fab_max_i64(at->client->stats.max_dirty_bytes, channel->dirty_bytes);
    op->state = FAB_CLIENT_COPY;
    fab_client_set_timer(
        at, op, at->now_ps + fab_rate_ps(op->unit_bytes, fab_client_values(at, channel->store)[FAB_STORE_COPY_MBPS]));
}

/* Lets writers go on that have room now. Where nothing is under way that would make room, what is dirty is sent as it
 * is; as long as something is, whole RPCs may still come of it. */
static void serve_writers(const fab_at_t *at, fab_channel_t *channel)
{
    while (channel->waiting_first && has_room(channel, channel->waiting_first->unit_bytes)) {
        fab_client_op_t *op = channel->waiting_first;
        channel->waiting_first = op->next;
        at->client->stats.blocked_ps += at->now_ps - op->since_ps;
        copy(at, op);
    }
    if (channel->waiting_first && channel->writing == 0)
        flush_channel(at, channel);
}

/* Dirty data that nobody will send: of a file that is gone, or of a client that its server has forgotten. */
int64_t fab_client_lose(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end)
{
    const int64_t lost = take(at, &object->dirty, begin, end);
    at->client->cached_bytes -= lost;
    object->channel->dirty_bytes -= lost;
    if (object->listed && object->dirty.count == 0)
        unlist_dirty(object);
    serve_writers(at, object->channel);
    return lost;
}

static void leave_piece(const fab_at_t *at, fab_client_op_t *op)
{
    fab_client_object_t *object = op->object;
    fab_held_t *lock = op->lock;
    op->object = NULL;
    op->lock = NULL;
    if (lock)
        fab_client_lock_release(at, object, lock);
}

/* The next unit of a write: its piece, its lock, its room. */
void fab_client_write(const fab_at_t *at, fab_client_op_t *op)
{
    const int64_t *values = fab_client_values(at, op->file->store);
    if (op->cursor == op->end || op->refused) {
        if (op->object)
            leave_piece(at, op);
        fab_client_op_end(at, op);
        return;
    }
    if (!op->object) {
        const fab_piece_t piece = fab_client_piece(at, op->file, true, op->cursor, op->end - op->cursor);
        op->object = fab_client_object(at, op->file, piece.object, piece.target);
        if (!op->object)
            return;
        op->shift = piece.object_offset - op->cursor;
        op->piece_end = op->cursor + piece.bytes;
    }
    const int64_t begin = op->cursor + op->shift, end = op->piece_end + op->shift;
    if (values[FAB_STORE_LOCKS] && !op->lock) {
        op->lock = fab_client_lock_use(op->object, fab_client_lock_mode(op), begin, end);
        if (!op->lock) {
            op->state = FAB_CLIENT_WAIT;
            fab_client_lock_ask(at, op, op->object, begin, end);
            return;
        }
    }
    const int64_t rpc_bytes = values[FAB_STORE_RPC_BYTES];
    op->unit_bytes = fab_min_i64(end, (begin / rpc_bytes + 1) * rpc_bytes) - begin;
    fab_channel_t *channel = op->object->channel;
    if (!channel->waiting_first && has_room(channel, op->unit_bytes)) {
        copy(at, op);
        return;
    }
    op->state = FAB_CLIENT_ROOM;
    op->since_ps = at->now_ps;
    fab_client_wait(&channel->waiting_first, &channel->waiting_last, op);
    serve_writers(at, channel);
}

/* A unit is in the cache: it is dirty now. */
void fab_client_copied(const fab_at_t *at, fab_client_op_t *op)
{
    fab_client_object_t *object = op->object;
    fab_channel_t *channel = object->channel;
    const int64_t rpc_bytes = fab_client_values(at, channel->store)[FAB_STORE_RPC_BYTES];
    const int64_t begin = op->cursor + op->shift, end = begin + op->unit_bytes;
    const int64_t added = put(at, &object->dirty, begin, end);
    at->client->cached_bytes += added - take(at, &object->cached, begin, end);
    channel->dirty_bytes -= op->unit_bytes - added; /* what was dirty already has its room */
    object->end = fab_max_i64(object->end, end);
    object->newest_end = end;
    op->cursor += op->unit_bytes;
    op->file->size = fab_max_i64(op->file->size, op->cursor);
    at->client->stats.bytes_written += op->unit_bytes;
    fab_client_use(at, object);
    if (!object->listed)
        list_dirty(at, object);
    const int64_t whole = begin / rpc_bytes * rpc_bytes;
    const uint32_t i = fab_extents_find(&object->dirty, whole);
    if (i < object->dirty.count && object->dirty.items[i].begin <= whole &&
        object->dirty.items[i].end >= whole + rpc_bytes)
        fab_client_flush(at, object, whole, whole + rpc_bytes, false);
    serve_writers(at, channel);
    fab_client_evict(at, channel->store);
    if (op->cursor == op->piece_end)
        leave_piece(at, op);
    fab_client_write(at, op);
}

/* ---- answers ------------------------------------------------------------------------------------ */

static void drained(const fab_at_t *at, fab_drain_t **list, const fab_part_t *part, fab_client_object_t *object)
{
    for (fab_drain_t *drain; (drain = *list);) {
        const bool counts = drain->op || (!part->op && part->begin < drain->end && part->end > drain->begin);
        if (part->number >= drain->before || !counts || --drain->left) {
            list = &drain->next;
            continue;
        }
        *list = drain->next;
        if (drain->op)
            fab_client_drained(at, drain->op);
        else
            fab_client_lock_flushed(at, object, drain->lock);
        fab_store_give(at->worker, drain, sizeof *drain);
    }
}

void fab_client_part_wrote(const fab_at_t *at, fab_part_t *part)
{
    fab_client_object_t *object = part->object;
    fab_channel_t *channel = object->channel;
    const fab_part_t gone = *part;
    if (!part->op) {
        channel->writing--;
        channel->dirty_bytes -= part->end - part->begin;
        fab_client_drop_part(at, part);
        serve_writers(at, channel);
        fab_client_evict(at, channel->store);
    } else {
        fab_client_direct_done(at, part);
    }
    drained(at, &object->drains, &gone, object);
    drained(at, &object->file->drains, &gone, object);
}

void fab_client_discard(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end)
{
    fab_client_lose(at, object, begin, end);
    for (fab_part_t *part = object->writes, *next; part; part = next) {
        next = part->object_next;
        if (!part->op && part->queued && part->sent == part->begin && part->begin >= begin && part->end <= end)
            fab_client_part_wrote(at, part);
    }
    if (object->dirty.count == 0)
        object->end = 0;
    fab_client_forget_size(at, object->file);
}

void fab_client_wrote(const fab_at_t *at, fab_call_t *call)
{
    fab_client_object_t *object = call->object;
    fab_part_t *part = call->part;
    call->transno = call->rpc->transno;
    object->last_transno = fab_max_i64(object->last_transno, call->transno);
    part->left -= call->bytes;
    if (part->op) {
        part->op->refused |= call->rpc->refused;
        part->op->failed |= call->rpc->evicted;
    }
    if (part->left == 0)
        fab_client_part_wrote(at, part);
}
