/* Extent locks at the client: held per object, used by operations, given back when called (lustre/osc/osc_lock.c for the
 * order: users first, then the dirty data, then the cancellation). */
#include "store/client_state.h"

enum { PAGE_BYTES = 4096 };

fab_lock_mode_t fab_client_lock_mode(const fab_client_op_t *op)
{
    if (op->flags & FAB_IO_GROUP)
        return FAB_LOCK_GROUP;
    return op->kind == FAB_OP_WRITE ? FAB_LOCK_PW : FAB_LOCK_PR;
}

static bool serves(const fab_held_t *lock, fab_lock_mode_t mode)
{
    return !lock->giving && (lock->mode == mode || (mode == FAB_LOCK_PR && lock->mode == FAB_LOCK_PW));
}

static fab_held_t *find(const fab_client_object_t *object, fab_lock_mode_t mode, int64_t begin, int64_t end)
{
    fab_held_t *lock = object->locks;
    while (lock && !(serves(lock, mode) && lock->begin <= begin && lock->end >= end))
        lock = lock->next;
    return lock;
}

bool fab_client_lock_covers(const fab_client_object_t *object, fab_lock_mode_t mode, int64_t begin, int64_t end)
{
    return find(object, mode, begin, end) != NULL;
}

fab_held_t *fab_client_lock_use(fab_client_object_t *object, fab_lock_mode_t mode, int64_t begin, int64_t end)
{
    fab_held_t *lock = find(object, mode, begin, end);
    if (lock)
        lock->users++;
    return lock;
}

/* Asks for the pages of a range; a group's lock is of the whole object. */
void fab_client_lock_ask(const fab_at_t *at, fab_client_op_t *op, fab_client_object_t *object, int64_t begin,
                         int64_t end)
{
    fab_call_t *call = fab_client_call(at, FAB_RPC_LOCK, op, object->channel->import);
    if (!call)
        return;
    call->object = object;
    call->file = object->file->number;
    call->object_number = object->number;
    call->target = object->target;
    call->mode = (uint8_t)fab_client_lock_mode(op);
    if (call->mode != FAB_LOCK_GROUP) {
        call->offset = begin & ~(int64_t)(PAGE_BYTES - 1);
        call->bytes = ((end - 1) | (PAGE_BYTES - 1)) + 1 - call->offset;
    }
    op->locking = true;
    op->since_ps = at->now_ps;
    fab_client_send(at, call);
}

static void cancel(const fab_at_t *at, const fab_client_object_t *object, fab_held_t *lock)
{
    const fab_import_t *import = object->channel->import;
    fab_store_post(at->store, at->worker, at->client->host, import->at, FAB_STORE_CANCEL, lock->lock,
                   fab_client_values(at, import->store)[FAB_STORE_REQUEST_BYTES], at->now_ps);
    fab_store_give(at->worker, lock, sizeof *lock);
}

void fab_client_lock_answered(const fab_at_t *at, fab_call_t *call)
{
    fab_client_op_t *op = call->op;
    fab_client_object_t *object = call->object;
    fab_lock_t *granted = call->rpc->lock;
    if (call->lock) { /* it was held before its server failed */
        call->lock->lock = granted;
        call->lock->asked = false;
        if (call->lock->gone)
            cancel(at, object, call->lock);
        return;
    }
    at->client->stats.lock_wait_ps += at->now_ps - op->since_ps;
    fab_client_heard_generation(at, object->file, call->rpc->generation);
    op->locking = false;
    fab_held_t *lock = granted ? fab_store_take(at->worker, sizeof *lock) : NULL;
    if (lock) {
        *lock = (fab_held_t){
            .next = object->locks,
            .lock = granted,
            .mode = granted->mode,
            .users = 1,
            .begin = granted->start,
            .end = granted->end == FAB_LOCK_EOF ? FAB_LOCK_EOF : granted->end + 1,
        };
        object->locks = lock;
    } else {
        op->refused = true;
        op->failed |= call->rpc->evicted;
    }
    if (op->direct)
        fab_client_direct_locked(at, op, lock);
    else if (op->kind == FAB_OP_READ)
        fab_client_read_locked(at, op, lock);
    else {
        op->lock = lock;
        fab_client_write(at, op);
    }
}

/* Drops what is cached under a lock that goes, but for what another one covers. */
static void uncover(const fab_at_t *at, fab_client_object_t *object, const fab_held_t *gone)
{
    for (int64_t begin = gone->begin; begin < gone->end;) {
        int64_t covered = begin, next = gone->end;
        for (const fab_held_t *lock = object->locks; lock; lock = lock->next) {
            if (lock == gone || lock->giving)
                continue;
            if (lock->begin <= begin)
                covered = fab_max_i64(covered, lock->end);
            else
                next = fab_min_i64(next, lock->begin);
        }
        if (covered == begin) {
            fab_client_uncache(at, object, begin, next);
            covered = next;
        }
        begin = covered;
    }
}

/* All that was written under the lock is there: it goes. */
void fab_client_lock_flushed(const fab_at_t *at, fab_client_object_t *object, fab_held_t *lock)
{
    uncover(at, object, lock);
    fab_held_t **place = &object->locks;
    while (*place != lock)
        place = &(*place)->next;
    *place = lock->next;
    lock->gone = true;
    if (!lock->lock)
        fab_store_give(at->worker, lock, sizeof *lock);
    else if (!lock->asked) /* else when the server has its record */
        cancel(at, object, lock);
}

/* Flushes what is dirty under a lock, before all else, and waits for it. */
static void give_back(const fab_at_t *at, fab_client_object_t *object, fab_held_t *lock)
{
    if (lock->discard)
        fab_client_discard(at, object, lock->begin, lock->end);
    else if (lock->mode != FAB_LOCK_PR)
        fab_client_flush(at, object, lock->begin, lock->end, true);
    uint32_t left = 0;
    for (fab_part_t *part = object->writes; part; part = part->object_next) {
        if (part->op || part->begin >= lock->end ||
            part->end <= lock->begin) /* around the cache: it uses a lock itself */
            continue;
        fab_client_hurry(part, object->channel);
        left++;
    }
    if (left == 0) {
        fab_client_lock_flushed(at, object, lock);
        return;
    }
    fab_client_plug(at, object->channel);
    fab_drain_t *drain = fab_store_take(at->worker, sizeof *drain);
    if (!drain)
        return;
    *drain = (fab_drain_t){
        .next = object->drains,
        .lock = lock,
        .before = object->file->writes_begun,
        .begin = lock->begin,
        .end = lock->end,
        .left = left,
    };
    object->drains = drain;
}

void fab_client_lock_release(const fab_at_t *at, fab_client_object_t *object, fab_held_t *lock)
{
    if (--lock->users == 0 && lock->giving)
        give_back(at, object, lock);
}

void fab_client_lock_again(const fab_at_t *at, fab_client_object_t *object)
{
    for (fab_held_t *lock = object->locks; lock; lock = lock->next) {
        const bool lost = !lock->lock; /* used to its end, but nobody knows of it */
        fab_call_t *call =
            lock->asked || lost ? NULL : fab_client_call(at, FAB_RPC_LOCK, NULL, object->channel->import);
        if (!call)
            continue;
        lock->asked = true;
        call->lock = lock;
        call->object = object;
        call->file = object->file->number;
        call->object_number = object->number;
        call->target = object->target;
        call->mode = lock->mode;
        call->offset = lock->begin;
        call->bytes = lock->end == FAB_LOCK_EOF ? 0 : lock->end - lock->begin;
        at->client->stats.resent++;
        fab_client_send(at, call);
    }
}

void fab_client_lock_lose(const fab_at_t *at, fab_client_object_t *object)
{
    for (fab_held_t *lock = object->locks, *next; lock; lock = next) {
        next = lock->next;
        const bool waits = lock->giving && lock->users == 0; /* for writes that are about to be lost */
        lock->lock = NULL;
        lock->asked = false;
        lock->giving = true;
        if (lock->users == 0 && !waits)
            fab_client_lock_flushed(at, object, lock);
    }
}

/* The locks of a group are held until the file is closed. */
void fab_client_give_back_groups(const fab_at_t *at, fab_client_file_t *file)
{
    for (uint32_t i = 0; file->objects && i < file->object_count; i++) {
        fab_client_object_t *object = file->objects[i];
        for (fab_held_t *lock = object ? object->locks : NULL, *next; lock; lock = next) {
            next = lock->next;
            if (lock->mode != FAB_LOCK_GROUP || lock->giving)
                continue;
            lock->giving = true;
            if (lock->users == 0)
                give_back(at, object, lock);
        }
    }
}

void fab_client_callback(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_lock_t *called, int64_t now_ps)
{
    const fab_at_t at = {store, worker, store->clients[host], now_ps};
    const fab_client_file_t *file = fab_client_known_file(at.client, called->file);
    fab_client_object_t *object = file && file->objects ? file->objects[called->object] : NULL;
    fab_held_t *lock = object ? object->locks : NULL;
    while (lock && lock->lock != called)
        lock = lock->next;
    if (!lock || lock->giving) /* it is on its way back */
        return;
    lock->giving = true;
    lock->discard = called->discard;
    if (lock->users == 0)
        give_back(&at, object, lock);
    fab_client_unplug(&at);
}

bool fab_client_take_piece(const fab_at_t *at, fab_client_op_t *op, bool write, int64_t offset, int64_t bytes,
                           fab_held_t **lock_out)
{
    const fab_piece_t piece = fab_client_piece(at, op->file, write, offset, bytes);
    op->object = fab_client_object(at, op->file, piece.object, piece.target);
    if (!op->object)
        return false;
    op->shift = piece.object_offset - offset;
    op->piece_end = offset + piece.bytes;
    *lock_out = NULL;
    if (!fab_client_values(at, op->file->store)[FAB_STORE_LOCKS])
        return true;
    const int64_t begin = piece.object_offset, end = begin + piece.bytes;
    *lock_out = fab_client_lock_use(op->object, fab_client_lock_mode(op), begin, end);
    if (!*lock_out)
        fab_client_lock_ask(at, op, op->object, begin, end);
    return *lock_out != NULL;
}
