/* Reads through the cache, and reading ahead of them.
 *
 * A read asks for what is not there, far ahead of what it has copied, and copies in order as it comes. A reader that goes
 * on where it stopped has a window read ahead of it, twice as far each time (lustre/llite/rw.c). */
#include "store/client_state.h"

/* End of the range of a set that has an offset in it; the offset itself if none has. */
static int64_t range_end(const fab_extents_t *set, int64_t offset)
{
    const uint32_t i = fab_extents_find(set, offset);
    return i < set->count && set->items[i].begin <= offset ? set->items[i].end : offset;
}

static int64_t next_begin(const fab_extents_t *set, int64_t offset)
{
    const uint32_t i = fab_extents_find(set, offset);
    return i < set->count ? set->items[i].begin : INT64_MAX;
}

/* How far an object can be read on from an offset. */
static int64_t readable(const fab_client_object_t *object, int64_t offset)
{
    for (;;) {
        const int64_t end = range_end(&object->dirty, range_end(&object->cached, offset));
        if (end == offset)
            return end;
        offset = end;
    }
}

/* Asks for what of a range is neither there nor on its way; returns how many bytes that was. */
static int64_t ask_gaps(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end)
{
    int64_t asked = 0;
    while (begin < end && !at->worker->error) {
        const int64_t there = range_end(&object->reading, readable(object, begin));
        if (there > begin) {
            begin = there;
            continue;
        }
        const int64_t next = fab_min_i64(next_begin(&object->cached, begin), next_begin(&object->dirty, begin));
        const int64_t stop = fab_min_i64(end, fab_min_i64(next, next_begin(&object->reading, begin)));
        fab_part_t *tail = object->tail;
        if (tail && tail->kind == FAB_RPC_READ && !tail->op && tail->end == begin) {
            tail->end = stop;
            tail->left += stop - begin;
        } else {
            fab_part_t *part = fab_client_part(at, FAB_RPC_READ, NULL, object, begin, stop);
            if (!part)
                return asked;
            fab_client_queue(at, part, object->channel, false);
        }
        if (fab_extents_add(&object->reading, &at->worker->pool, begin, stop) < 0)
            at->worker->error = FAB_E_MEMORY;
        asked += stop - begin;
        object->newest_end = stop;
        begin = stop;
    }
    return asked;
}

/* ---- reading ahead ------------------------------------------------------------------------------ */

/* What the window is for a read, by those before it. */
static void choose_window(const fab_at_t *at, fab_client_op_t *op)
{
    fab_client_file_t *file = op->file;
    const int64_t *values = fab_client_values(at, file->store);
    const int64_t most = values[FAB_STORE_READAHEAD_BYTES];
    if (file->read_next != op->offset || op->offset == 0) {
        file->window = 0;
        file->ahead_end = 0;
    } else {
        file->window = fab_min_i64(most, file->window ? 2 * file->window : values[FAB_STORE_RPC_BYTES]);
    }
    if (most && file->size <= values[FAB_STORE_READAHEAD_WHOLE_BYTES])
        file->window = file->size;
    file->read_next = op->end;
}

/* Asks for the window behind a read, by whole RPCs of the file, as far as locks are held. */
static void read_ahead(const fab_at_t *at, fab_client_op_t *op)
{
    fab_client_file_t *file = op->file;
    const int64_t *values = fab_client_values(at, file->store);
    const int64_t rpc_bytes = values[FAB_STORE_RPC_BYTES];
    const int64_t most = fab_min_i64(file->window, values[FAB_STORE_CACHE_BYTES] / 2);
    int64_t target = fab_min_i64(op->end + most, file->size);
    if (target < file->size)
        target -= target % rpc_bytes;
    int64_t from = fab_max_i64(op->end, file->ahead_end);
    while (from < target && !at->worker->error) {
        const fab_piece_t piece = fab_client_piece(at, file, false, from, target - from);
        fab_client_object_t *object = fab_client_object(at, file, piece.object, piece.target);
        if (!object)
            return;
        const int64_t begin = piece.object_offset, end = begin + piece.bytes;
        if (values[FAB_STORE_LOCKS] && !fab_client_lock_covers(object, fab_client_lock_mode(op), begin, end))
            break;
        at->client->stats.readahead_bytes += ask_gaps(at, object, begin, end);
        from += piece.bytes;
        file->ahead_end = from;
    }
}

/* ---- reads -------------------------------------------------------------------------------------- */

static void add_piece(const fab_at_t *at, fab_client_op_t *op, fab_held_t *lock)
{
    fab_segment_t *segment = fab_store_take(at->worker, sizeof *segment);
    if (!segment)
        return;
    *segment = (fab_segment_t){
        .object = op->object,
        .lock = lock,
        .at = op->asked + op->shift,
        .end = op->piece_end + op->shift,
        .shift = op->shift,
    };
    if (op->first)
        op->last->next = segment;
    else
        op->first = segment;
    op->last = segment;
    op->segment_count++;
    const int64_t known = fab_max_i64(0, fab_min_i64(op->piece_end, op->file->size) - op->asked);
    const int64_t asked = ask_gaps(at, op->object, segment->at, segment->end);
    at->client->stats.cache_hit_bytes += fab_max_i64(0, known - asked);
    op->asked = op->piece_end;
    op->object = NULL;
    fab_client_use(at, segment->object);
}

/* Takes the first piece off. */
static void drop_piece(const fab_at_t *at, fab_client_op_t *op)
{
    fab_segment_t *segment = op->first;
    fab_client_object_t *object = segment->object;
    fab_held_t *lock = segment->lock;
    op->first = segment->next;
    op->segment_count--;
    fab_store_give(at->worker, segment, sizeof *segment);
    if (lock)
        fab_client_lock_release(at, object, lock);
}

/* Asks for pieces as far ahead as the cache allows, and again when half of that has been copied: what is asked for at one
 * time and follows in an object makes whole RPCs. What lies behind the end of the file, as far as that is known, is
 * asked for an RPC at a time, a few at once: the replies tell of the end. */
static void ask(const fab_at_t *at, fab_client_op_t *op)
{
    const int64_t *values = fab_client_values(at, op->file->store);
    const int64_t window = values[FAB_STORE_RPCS_IN_FLIGHT_COUNT];
    const int64_t ahead =
        fab_min_i64(fab_max_i64(values[FAB_STORE_READAHEAD_BYTES], window * values[FAB_STORE_RPC_BYTES]),
                    fab_max_i64(values[FAB_STORE_CACHE_BYTES] / 2, values[FAB_STORE_RPC_BYTES]));
    if (!op->filling && op->asked - op->cursor > ahead / 2)
        return;
    op->filling = true; /* until it is done, whatever it waits for */
    while (op->asked < op->end && !op->locking && !op->refused && !at->worker->error) {
        const bool beyond = op->asked >= op->file->size;
        if (beyond && (op->at_end || op->segment_count >= window))
            break;
        int64_t most = beyond ? values[FAB_STORE_RPC_BYTES] : op->file->size - op->asked;
        most = fab_min_i64(most, op->cursor + ahead - op->asked);
        if (most <= 0) {
            op->filling = false;
            break;
        }
        fab_held_t *lock;
        if (!fab_client_take_piece(at, op, false, op->asked, fab_min_i64(most, op->end - op->asked), &lock))
            return;
        add_piece(at, op, lock);
    }
    if (op->asked >= op->end && !op->ahead_done && !at->worker->error) {
        op->ahead_done = true;
        read_ahead(at, op);
    }
}

void fab_client_read(const fab_at_t *at, fab_client_op_t *op)
{
    op->asked = op->cursor;
    op->state = FAB_CLIENT_WAIT;
    choose_window(at, op);
    fab_client_read_on(at, op);
}

void fab_client_read_locked(const fab_at_t *at, fab_client_op_t *op, fab_held_t *lock)
{
    if (lock)
        add_piece(at, op, lock);
    if (!op->copying && !op->waits)
        fab_client_read_on(at, op);
    else
        ask(at, op);
}

/* What of a piece is behind the end of its object: zeros before the end of the file; behind that the read ends. */
static void pass_end(const fab_at_t *at, fab_client_op_t *op, fab_segment_t *segment, int64_t end)
{
    const int64_t hole = fab_min_i64(end, op->file->size + segment->shift) - segment->at;
    if (hole > 0) {
        at->client->stats.bytes_read += hole;
        segment->at += hole;
        op->cursor += hole;
        return;
    }
    op->at_end = true;
    while (op->first)
        drop_piece(at, op);
}

/* The next unit of the first piece: returns whether there is more to see to. */
static bool next_unit(const fab_at_t *at, fab_client_op_t *op)
{
    fab_segment_t *segment = op->first;
    fab_client_object_t *object = segment->object;
    const int64_t *values = fab_client_values(at, op->file->store);
    if (segment->at == segment->end) {
        drop_piece(at, op);
        return true;
    }
    const int64_t rpc_bytes = values[FAB_STORE_RPC_BYTES];
    const int64_t end = fab_min_i64(segment->end, (segment->at / rpc_bytes + 1) * rpc_bytes);
    const int64_t there = fab_min_i64(end, readable(object, segment->at));
    const bool coming = range_end(&object->reading, there) > there;
    const bool gone = there == segment->at && there < object->end; /* a part alone is copied: it may go, too */
    if (there < end && (coming || gone)) {
        if (!coming) /* it was here, and had to go before it was copied */
            ask_gaps(at, object, there, end);
        op->waits = true;
        fab_client_wait(&object->waiting_first, &object->waiting_last, op);
        return false;
    }
    if (there == segment->at) {
        pass_end(at, op, segment, end);
        return true;
    }
    op->unit_bytes = there - segment->at;
    op->copying = true;
    fab_client_set_timer(at, op, at->now_ps + fab_rate_ps(op->unit_bytes, values[FAB_STORE_COPY_MBPS]));
    return false;
}

/* Goes on with a read that neither copies nor waits for data. */
void fab_client_read_on(const fab_at_t *at, fab_client_op_t *op)
{
    ask(at, op);
    while (op->first && !at->worker->error) {
        if (!next_unit(at, op))
            return;
        ask(at, op);
    }
    if (!op->locking && (op->asked >= op->end || op->at_end || op->refused) && !at->worker->error)
        fab_client_op_end(at, op);
}

void fab_client_read_copied(const fab_at_t *at, fab_client_op_t *op)
{
    fab_segment_t *segment = op->first;
    op->copying = false;
    segment->at += op->unit_bytes;
    op->cursor += op->unit_bytes;
    at->client->stats.bytes_read += op->unit_bytes;
    fab_client_read_on(at, op);
}

void fab_client_read_failed(const fab_at_t *at, fab_call_t *call)
{
    fab_client_object_t *object = call->object;
    fab_client_op_t *waiting = object->waiting_first;
    if (fab_extents_remove(&object->reading, &at->worker->pool, call->offset, call->offset + call->bytes) < 0)
        at->worker->error = FAB_E_MEMORY;
    object->waiting_first = object->waiting_last = NULL;
    while (waiting) {
        fab_client_op_t *op = waiting;
        waiting = op->next;
        op->waits = false;
        op->refused = op->failed = true;
        while (op->first)
            drop_piece(at, op);
        fab_client_read_on(at, op);
    }
}

/* The data of a call for the cache: what of it has been given up meanwhile is not kept. Readers first, then the limit of
 * the cache: they always get on. */
void fab_client_arrived(const fab_at_t *at, fab_call_t *call, int64_t bytes)
{
    fab_client_object_t *object = call->object;
    const int64_t begin = call->offset, end = begin + call->bytes, there = begin + bytes;
    for (uint32_t i; (i = fab_extents_find(&object->reading, begin)) < object->reading.count;) {
        const fab_extent_t item = object->reading.items[i];
        const int64_t from = fab_max_i64(begin, item.begin), to = fab_min_i64(end, item.end);
        if (from >= to)
            break;
        if (fab_extents_remove(&object->reading, &at->worker->pool, from, to) < 0) {
            at->worker->error = FAB_E_MEMORY;
            return;
        }
        if (from < there)
            fab_client_cache(at, object, from, fab_min_i64(to, there));
    }
    fab_client_op_t *waiting = object->waiting_first;
    object->waiting_first = object->waiting_last = NULL;
    while (waiting) {
        fab_client_op_t *op = waiting;
        waiting = op->next;
        op->waits = false;
        fab_client_read_on(at, op);
    }
    fab_client_evict(at, object->file->store);
}
