/* Reads and writes around the cache: O_DIRECT, and all of file systems whose clients have none. */
#include "store/client_state.h"

/* Parts that an operation has made and that are not answered: more would only wait, and take memory. */
enum { PARTS_MOST = 4096 };

/* A piece becomes a part, or makes the last one longer that is still queued. */
static void add_piece(const fab_at_t *at, fab_client_op_t *op, fab_held_t *lock)
{
    fab_client_object_t *object = op->object;
    const int64_t begin = op->cursor + op->shift, end = op->piece_end + op->shift;
    const uint8_t kind = op->kind == FAB_OP_WRITE ? FAB_RPC_WRITE : FAB_RPC_READ;
    op->object = NULL;
    op->cursor = op->piece_end;
    fab_client_flush(at, object, begin, end, false); /* goes before it, in the same queue */
    if (kind == FAB_RPC_WRITE) {
        fab_client_uncache(at, object, begin, end);
        object->end = fab_max_i64(object->end, end);
        op->file->size = fab_max_i64(op->file->size, op->cursor);
        at->client->stats.bytes_written += end - begin;
    }
    fab_part_t *tail = object->tail;
    if (tail && tail->op == op && tail->lock == lock && tail->end == begin) {
        tail->end = end;
        tail->left += end - begin;
        if (lock)
            fab_client_lock_release(at, object, lock);
        return;
    }
    fab_part_t *part = fab_client_part(at, kind, op, object, begin, end);
    if (!part)
        return;
    part->lock = lock;
    op->left++;
    fab_client_queue(at, part, object->channel, false);
}

void fab_client_direct(const fab_at_t *at, fab_client_op_t *op)
{
    const int64_t *values = fab_client_values(at, op->file->store);
    const bool write = op->kind == FAB_OP_WRITE;
    op->state = FAB_CLIENT_WAIT;
    while (op->cursor < op->end && !op->refused && !op->locking && !at->worker->error) {
        const bool beyond = !write && op->cursor >= op->file->size; /* of what is known of the file */
        if (beyond && op->at_end)
            break;
        if (op->left >= (beyond ? values[FAB_STORE_RPCS_IN_FLIGHT_COUNT] : PARTS_MOST))
            return;
        int64_t most = op->end - op->cursor;
        if (!write)
            most = fab_min_i64(most, beyond ? values[FAB_STORE_RPC_BYTES] : op->file->size - op->cursor);
        fab_held_t *lock;
        if (!fab_client_take_piece(at, op, write, op->cursor, most, &lock))
            return;
        add_piece(at, op, lock);
    }
    if (op->left || op->locking)
        return;
    if (!write && !op->refused) /* with the holes */
        at->client->stats.bytes_read += fab_max_i64(0, fab_min_i64(op->end, op->file->size) - op->offset);
    fab_client_op_end(at, op);
}

void fab_client_direct_locked(const fab_at_t *at, fab_client_op_t *op, fab_held_t *lock)
{
    if (lock)
        add_piece(at, op, lock);
    fab_client_direct(at, op);
}

/* A part has all its replies. */
void fab_client_direct_done(const fab_at_t *at, fab_part_t *part)
{
    fab_client_op_t *op = part->op;
    fab_client_object_t *object = part->object;
    fab_held_t *lock = part->lock;
    fab_client_drop_part(at, part);
    if (lock)
        fab_client_lock_release(at, object, lock);
    op->left--;
    fab_client_direct(at, op);
}
