/* Servers that fail and come back: what they forget, the takeover, and the recovery window, after Lustre's (lustre/ldlm/
 * ldlm_lib.c, Lustre Operations Manual, chapter 38).
 *
 * A server that is up again waits for the clients it had. Each connects, sends what was answered but never committed
 * once more, and its locks; what is sent once more is served in the order of the first time, one at a time, and so only
 * when it is known that no client has an earlier one. Then comes what waited. Clients that do not come in time are
 * evicted. */
#include "core/heap.h"
#include "store/server.h"

/* What a server knows of a client. */
enum {
    CLIENT_NEW,       /* nothing */
    CLIENT_HERE,      /* is connected, or will not send any replay more */
    CLIENT_AWAITED,   /* was connected when the server failed */
    CLIENT_REPLAYING, /* is connected again */
    CLIENT_EVICTED,
};

typedef struct fab_recovery {
    uint8_t *state;           /* [host] of each client */
    uint32_t *kept;           /* [host] replays that wait for their turn */
    uint32_t awaited, silent; /* clients that are; those replaying of which none waits */
    uint32_t replaying;
    fab_heap_t replays;          /* by transno */
    fab_rpc_t *under_way;        /* the replay that is served */
    fab_rpc_t *held, *held_last; /* all else, for the end */
    int64_t soft_ps, hard_ps;    /* who has not come is evicted at the first, which can move up to the second */
} recovery_t;

static const int64_t *values_of(const fab_server_t *self) { return fab_server_config(self)->values; }

static uint32_t where(const fab_server_t *self, int64_t now_ps)
{
    return fab_store_where(fab_server_config(self), self->number, self->host, now_ps);
}

/* ---- the window ------------------------------------------------------------------------------------------ */

static void end_window(fab_server_t *self, fab_worker_t *worker, int64_t now_ps)
{
    recovery_t *r = self->recovery;
    self->recovering = false;
    for (fab_rpc_t *rpc; (rpc = r->held);) {
        r->held = rpc->next;
        fab_server_serve(self, worker, rpc, now_ps);
    }
}

/* Serves the next replay if it is known to be the next, and ends the window with the last client. */
static void go_on(fab_server_t *self, fab_worker_t *worker, int64_t now_ps)
{
    recovery_t *r = self->recovery;
    if (!self->recovering || r->under_way || r->awaited || r->silent)
        return;
    if (r->replays.count) {
        fab_rpc_t *rpc = (fab_rpc_t *)(uintptr_t)fab_heap_pop(&r->replays).key;
        if (--r->kept[rpc->client] == 0 && r->state[rpc->client] == CLIENT_REPLAYING)
            r->silent++;
        r->under_way = rpc;
        fab_server_serve(self, worker, rpc, now_ps);
    } else if (r->replaying == 0) {
        end_window(self, worker, now_ps);
    }
}

/* A client is connected, and has no replays more. */
static void is_done(recovery_t *r, uint32_t client)
{
    if (r->state[client] == CLIENT_REPLAYING) {
        r->replaying--;
        r->silent -= r->kept[client] == 0;
    }
    r->state[client] = CLIENT_HERE;
}

static void keep_replay(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc)
{
    recovery_t *r = self->recovery;
    if (!fab_heap_push(&r->replays, &worker->pool, (fab_timer_t){rpc->transno, (uintptr_t)rpc}))
        worker->error = FAB_E_MEMORY;
    if (r->kept[rpc->client]++ == 0 && r->state[rpc->client] == CLIENT_REPLAYING)
        r->silent--;
}

static void evict_missing(fab_server_t *self)
{
    recovery_t *r = self->recovery;
    for (uint32_t h = 0; r->awaited && h < self->store->net->host_count; h++)
        if (r->state[h] == CLIENT_AWAITED) {
            r->state[h] = CLIENT_EVICTED;
            r->awaited--;
        }
}

/* ---- failure and takeover --------------------------------------------------------------------------------- */

/* It stops: what it was doing, its locks, and what was not committed are gone. */
static void fail(fab_server_t *self, fab_worker_t *worker)
{
    recovery_t *r = self->recovery;
    self->down = true;
    self->recovering = false;
    self->bus_free_ps = 0;
    fab_meta_forget(self, worker);
    fab_destroy_forget(self);
    fab_lock_forget(self);
    fab_server_forget(self, worker);
    r->replays.count = 0;
    r->replays.next_ps = FAB_NEVER;
    r->under_way = r->held = NULL;
}

static void take_over(fab_server_t *self, fab_worker_t *worker, uint32_t host, int64_t now_ps)
{
    recovery_t *r = self->recovery;
    self->down = false;
    fab_destroy_again(self, worker, now_ps);
    r->awaited = r->silent = r->replaying = 0;
    for (uint32_t h = 0; h < self->store->net->host_count; h++) {
        r->kept[h] = 0;
        if (r->state[h] == CLIENT_HERE || r->state[h] == CLIENT_REPLAYING)
            r->state[h] = CLIENT_AWAITED;
        r->awaited += r->state[h] == CLIENT_AWAITED;
    }
    if (r->awaited == 0)
        return;
    self->recovering = true;
    r->soft_ps = now_ps + values_of(self)[FAB_STORE_RECOVERY_SOFT_PS];
    r->hard_ps = now_ps + values_of(self)[FAB_STORE_RECOVERY_HARD_PS];
    fab_store_set_timer(self->store, worker, host, FAB_STORE_TIMER_RECOVER, self, r->soft_ps);
}

/* A failure at this time on this host, a takeover, or the end of a window; which, the list of failures says: what this
 * server is like now, only the host where it runs may look at. */
void fab_recover_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_server_t *self, int64_t now_ps)
{
    const fab_store_config_t *config = &store->configs[self->file_system];
    for (uint32_t i = 0; i < config->failure_count && config->failures[i].when_ps <= now_ps; i++) {
        const fab_store_failure_t *failure = &config->failures[i];
        if (failure->server != self->number)
            continue;
        if (failure->when_ps == now_ps && where(self, now_ps - 1) == host) {
            if (!self->down)
                fail(self, worker);
            return;
        }
        if (failure->up_ps == now_ps && where(self, now_ps) == host) {
            if (self->down)
                take_over(self, worker, host, now_ps);
            return;
        }
    }
    if (where(self, now_ps) != host)
        return;
    fab_meta_hand_over_again(self, worker, now_ps);
    fab_destroy_again(self, worker, now_ps);
    if (!self->recovering || self->recovery->awaited == 0)
        return;
    if (now_ps < self->recovery->soft_ps) {
        fab_store_set_timer(store, worker, host, FAB_STORE_TIMER_RECOVER, self, self->recovery->soft_ps);
        return;
    }
    evict_missing(self);
    go_on(self, worker, now_ps);
}

int fab_recover_new(fab_server_t *self, fab_worker_t *worker)
{
    const fab_store_config_t *config = fab_server_config(self);
    const uint32_t hosts = self->store->net->host_count;
    recovery_t *r = fab_store_take(worker, sizeof *r);
    if (!r)
        return FAB_E_MEMORY;
    self->recovery = r;
    fab_heap_init(&r->replays);
    r->state = fab_store_take(worker, hosts * sizeof *r->state);
    r->kept = fab_store_take(worker, hosts * sizeof *r->kept);
    if (!r->state || !r->kept)
        return FAB_E_MEMORY;
    for (uint32_t i = 0; i < config->failure_count; i++) {
        const fab_store_failure_t *failure = &config->failures[i];
        if (failure->server != self->number)
            continue;
        fab_store_set_timer(self->store, worker, where(self, failure->when_ps - 1), FAB_STORE_TIMER_RECOVER, self,
                            failure->when_ps);
        fab_store_set_timer(self->store, worker, where(self, failure->up_ps), FAB_STORE_TIMER_RECOVER, self,
                            failure->up_ps);
    }
    return worker->error ? worker->error : FAB_OK;
}

/* ---- what clients ask --------------------------------------------------------------------------------------- */

/* PING tells the server's epoch. CONNECT begins a client's recovery; its replays follow, then its locks, then a PING with
 * the new epoch, which says that these were all. */
void fab_recover_request(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    recovery_t *r = self->recovery;
    rpc->began_ps = now_ps;
    if (r && rpc->kind == FAB_RPC_CONNECT) {
        uint8_t *state = &r->state[rpc->client];
        rpc->evicted = *state == CLIENT_EVICTED;
        if (*state == CLIENT_AWAITED) {
            *state = CLIENT_REPLAYING;
            r->awaited--;
            r->replaying++;
            r->silent++;
            r->soft_ps = fab_min_i64(r->hard_ps, now_ps + values_of(self)[FAB_STORE_RECOVERY_SOFT_PS]);
        } else if (*state != CLIENT_REPLAYING) {
            *state = CLIENT_HERE;
        }
    } else if (r && rpc->epoch == self->epoch && r->state[rpc->client] == CLIENT_REPLAYING) {
        is_done(r, rpc->client);
    }
    rpc->epoch = self->epoch;
    fab_server_answer(self, worker, rpc, 0, now_ps);
    if (r)
        go_on(self, worker, now_ps);
}

bool fab_recover_holds(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    recovery_t *r = self->recovery;
    if (rpc->stage) /* of another server, which has begun it */
        return false;
    if (!self->recovering) {
        if (rpc->kind != FAB_RPC_DESTROY) /* of a server */
            r->state[rpc->client] = CLIENT_HERE;
        return false;
    }
    if (rpc->replay && rpc->kind == FAB_RPC_LOCK) /* nobody else can have it */
        return false;
    if (rpc->replay) {
        keep_replay(self, worker, rpc);
        go_on(self, worker, now_ps);
        return true;
    }
    rpc->next = NULL;
    if (r->held)
        r->held_last->next = rpc;
    else
        r->held = rpc;
    r->held_last = rpc;
    return true;
}

void fab_recover_answered(fab_server_t *self, fab_worker_t *worker, const fab_rpc_t *rpc, int64_t now_ps)
{
    if (self->recovery->under_way != rpc)
        return;
    self->recovery->under_way = NULL;
    go_on(self, worker, now_ps);
}
