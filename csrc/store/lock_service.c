/* Locks of a server's objects: requests, callbacks to those that hold what others want, and what they give back.
 *
 * A request takes a moment of a lock thread, of which there are always enough; then it is granted or waits. Callbacks are
 * messages to the client, which flushes what it has written under the lock and gives it back by another. */
#include "store/server.h"

/* Where locks are told about. */
typedef struct {
    fab_server_t *server;
    fab_worker_t *worker;
    int64_t now_ps;
    uint32_t generation; /* of the object */
    bool discard;
} telling_t;

static uint32_t host_of(const fab_server_t *self, int64_t now_ps)
{
    return fab_store_where(fab_server_config(self), self->number, self->host, now_ps);
}

static fab_server_t *server_at(const fab_store_t *store, uint32_t file_system, uint32_t number, uint32_t host)
{
    return store->servers[file_system][store->configs[file_system].layout_ops->per_client ? host : number];
}

static void send_callback(const telling_t *t, fab_lock_t *lock)
{
    fab_store_post(t->server->store, t->worker, host_of(t->server, t->now_ps), lock->client, FAB_STORE_CALLBACK, lock,
                   fab_server_config(t->server)->values[FAB_STORE_REQUEST_BYTES], t->now_ps);
}

/* One whose grant is not sent yet is called when it is. */
static void call_back(void *context, fab_lock_t *lock)
{
    lock->discard = ((const telling_t *)context)->discard;
    if (!lock->rpc)
        send_callback(context, lock);
}

static void answer(void *context, fab_lock_t *lock)
{
    const telling_t *t = context;
    fab_rpc_t *rpc = lock->rpc;
    if (rpc->kind == FAB_RPC_DESTROY) { /* whoever tells is not done with the lock */
        lock->next_granted = rpc->lock;
        rpc->lock = lock;
        if (!lock->next_granted)
            fab_store_set_timer(t->server->store, t->worker, host_of(t->server, t->now_ps), FAB_STORE_TIMER_LOCK, rpc,
                                t->now_ps);
        return;
    }
    lock->rpc = NULL;
    lock->epoch = t->server->epoch;
    rpc->lock = lock;
    rpc->end = lock->end;
    rpc->generation = t->generation;
    fab_server_answer(t->server, t->worker, rpc, 0, t->now_ps);
}

void fab_lock_request(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    rpc->began_ps = now_ps;
    fab_store_set_timer(self->store, worker, host_of(self, now_ps), FAB_STORE_TIMER_LOCK, rpc,
                        now_ps + fab_server_config(self)->values[FAB_STORE_LOCK_CPU_PS]);
}

static void enqueue(fab_server_t *self, fab_worker_t *worker, fab_object_t *object, fab_rpc_t *rpc, int64_t now_ps)
{
    fab_lock_t *lock = fab_store_take(worker, sizeof *lock);
    if (!lock)
        return;
    telling_t telling = {self, worker, now_ps, object->generation, false};
    *lock = (fab_lock_t){
        .store = rpc->store,
        .mode = rpc->mode,
        .client = rpc->client,
        .server = self->number,
        .target = rpc->target,
        .file = rpc->file,
        .object = rpc->object,
        .asked_start = rpc->offset,
        .asked_end = rpc->bytes ? rpc->offset + rpc->bytes - 1 : FAB_LOCK_EOF,
        .rpc = rpc,
    };
    if (rpc->replay) { /* it had been granted before the server failed */
        lock->start = lock->asked_start;
        lock->end = lock->asked_end;
        fab_lock_restore(&object->locks, lock);
        answer(&telling, lock);
    } else if (fab_lock_enqueue(&object->locks, lock, call_back, &telling)) {
        answer(&telling, lock);
        if (lock->called)
            send_callback(&telling, lock);
    }
}

void fab_lock_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    fab_server_t *self = server_at(store, rpc->store, rpc->server, host);
    if (rpc->kind == FAB_RPC_DESTROY) {
        fab_destroy_timer(self, worker, rpc, now_ps);
        return;
    }
    fab_object_t *object = fab_server_object(self, worker, rpc->target, rpc->file, rpc->object);
    if (!object)
        return;
    if (rpc->kind == FAB_RPC_LOCK) {
        enqueue(self, worker, object, rpc, now_ps);
    } else {
        rpc->end = object->size;
        rpc->generation = object->generation;
        fab_server_answer(self, worker, rpc, 0, now_ps);
    }
}

bool fab_lock_discard(fab_server_t *self, fab_worker_t *worker, fab_object_t *object, fab_rpc_t *rpc, int64_t now_ps)
{
    const bool free = object->locks.granted_count == 0 && object->locks.waiting_count == 0;
    fab_lock_t *lock = free ? NULL : fab_store_take(worker, sizeof *lock);
    if (!lock)
        return true;
    *lock = (fab_lock_t){
        .store = rpc->store,
        .mode = FAB_LOCK_PW,
        .client = FAB_NONE, /* none's */
        .server = self->number,
        .target = rpc->target,
        .file = object->file,
        .object = object->object,
        .asked_end = FAB_LOCK_EOF,
        .rpc = rpc,
    };
    telling_t telling = {self, worker, now_ps, object->generation, true};
    rpc->shards++;
    if (fab_lock_enqueue(&object->locks, lock, call_back, &telling))
        answer(&telling, lock);
    return false;
}

fab_object_t *fab_lock_discarded(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc)
{
    const fab_lock_t *lock = rpc->lock;
    if (!lock)
        return NULL;
    return fab_server_object(self, worker, self->store->file_state[lock->file].targets[lock->object], lock->file,
                             lock->object);
}

void fab_lock_let_go(fab_server_t *self, fab_worker_t *worker, fab_object_t *object, fab_rpc_t *rpc, int64_t now_ps)
{
    fab_lock_t *lock = rpc->lock;
    rpc->lock = lock->next_granted;
    rpc->shards--;
    telling_t telling = {self, worker, now_ps, object->generation, false};
    fab_lock_remove(&object->locks, lock, answer, call_back, &telling);
    fab_store_give(worker, lock, sizeof *lock);
}

/* A lock of before a failure is forgotten already, and its client has it no more either. */
void fab_lock_cancel(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_lock_t *lock, int64_t now_ps)
{
    if (fab_store_where(&store->configs[lock->store], lock->server, host, now_ps) == host) {
        fab_server_t *self = server_at(store, lock->store, lock->server, host);
        if (lock->epoch == self->epoch) {
            fab_object_t *object = fab_server_object(self, worker, lock->target, lock->file, lock->object);
            if (!object)
                return;
            telling_t telling = {self, worker, now_ps, object->generation, false};
            fab_lock_remove(&object->locks, lock, answer, call_back, &telling);
        }
    }
    fab_store_give(worker, lock, sizeof *lock);
}

void fab_lock_forget(fab_server_t *self)
{
    for (uint32_t t = 0; t < self->target_count; t++)
        for (uint32_t b = 0; self->targets[t].buckets && b <= self->targets[t].bucket_mask; b++)
            for (fab_object_t *object = self->targets[t].buckets[b]; object; object = object->next)
                object->locks = (fab_lock_resource_t){0};
}
