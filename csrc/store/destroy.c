/* Objects of files that are removed or made empty, after Lustre's (lustre/osp/osp_sync.c, lustre/ofd/ofd_destroy.c).
 *
 * The metadata server tells each server that has objects of the file, one message each. That one takes the objects' locks
 * from all clients, which drop what they have not written, makes them empty and answers. What is begun is kept over
 * failures of either, as in a log. An unlink or a rename is answered before; an open that makes the file empty, or makes
 * it again, afterwards. */
#include "store/server.h"

enum { STAGE_SENT, STAGE_LOCKED, STAGE_RETURNED }; /* as of all requests between servers, 0: not begun */

/* What a server is to do. */
typedef struct sending {
    struct sending *next;
    fab_rpc_t *copy; /* NULL: that server is down, or this one has been */
    uint32_t to, epoch;
} sending_t;

typedef struct fab_destroy {
    struct fab_destroy *next;
    uint32_t content;
    sending_t *sent;
    fab_rpc_t *rpc;            /* to be answered at the end */
    fab_rpc_t *waiting, *last; /* to be tried again */
} destroy_t;

static uint32_t host_of(const fab_server_t *self, int64_t now_ps)
{
    return fab_store_where(fab_server_config(self), self->number, self->host, now_ps);
}

static uint32_t server_of(const fab_store_config_t *config, uint32_t target)
{
    return target < config->target_count ? config->target_server[target]
                                         : config->data_count + target - config->target_count;
}

/* ---- the metadata server ------------------------------------------------------------------------ */

static void post(fab_server_t *self, fab_worker_t *worker, uint32_t to, fab_rpc_t *copy, int64_t now_ps)
{
    fab_store_post(self->store, worker, host_of(self, now_ps), to, FAB_STORE_REQUEST, copy,
                   fab_server_config(self)->values[FAB_STORE_REQUEST_BYTES], now_ps);
}

static void send(fab_server_t *self, fab_worker_t *worker, uint32_t content, sending_t *sending, int64_t now_ps)
{
    const fab_store_config_t *config = fab_server_config(self);
    const uint32_t there = fab_store_where(config, sending->to, self->host, now_ps);
    int64_t again_ps = FAB_NEVER;
    for (uint32_t i = 0; i < config->failure_count; i++)
        if (config->failures[i].server == sending->to && config->failures[i].up_ps > now_ps)
            again_ps = fab_min_i64(again_ps, config->failures[i].up_ps);
    if (again_ps < FAB_NEVER)
        fab_store_set_timer(self->store, worker, host_of(self, now_ps), FAB_STORE_TIMER_RECOVER, self, again_ps);
    sending->copy = NULL;
    if (there == FAB_NONE || !(sending->copy = fab_store_rpc(worker)))
        return;
    sending->epoch = fab_store_epoch(config, sending->to, now_ps);
    *sending->copy = (fab_rpc_t){
        .kind = FAB_RPC_DESTROY,
        .stage = STAGE_SENT,
        .store = self->file_system,
        .client = self->host,
        .server = sending->to,
        .target = self->number, /* who asks, and its epoch */
        .end = self->epoch,
        .file = content,
        .object = FAB_NONE,
        .epoch = sending->epoch,
    };
    post(self, worker, there, sending->copy, now_ps);
}

bool fab_destroy_begin(fab_server_t *self, fab_worker_t *worker, uint32_t content, fab_rpc_t *rpc, int64_t now_ps)
{
    const fab_store_config_t *config = fab_server_config(self);
    const fab_file_t *file = &self->store->file_state[content];
    if (!file->placed)
        return false;
    const uint32_t servers = fab_store_server_count(config);
    destroy_t *destroy = fab_store_take(worker, sizeof *destroy);
    bool *asked = destroy ? fab_store_take(worker, (servers + (size_t)1) * sizeof *asked) : NULL;
    if (!asked)
        return false;
    *destroy = (destroy_t){.next = self->destroys, .content = content, .rpc = rpc};
    self->destroys = destroy;
    for (uint32_t o = 0; o < file->object_count; o++) {
        const uint32_t to = server_of(config, file->targets[o]);
        sending_t *sending = asked[to] ? NULL : fab_store_take(worker, sizeof *sending);
        if (!sending)
            continue;
        asked[to] = true;
        sending->to = to;
        sending->next = destroy->sent;
        destroy->sent = sending;
        send(self, worker, content, sending, now_ps);
    }
    fab_store_give(worker, asked, (servers + (size_t)1) * sizeof *asked);
    return true;
}

bool fab_destroy_waits(fab_server_t *self, uint32_t content, fab_rpc_t *rpc)
{
    destroy_t *destroy = self->destroys;
    while (destroy && destroy->content != content)
        destroy = destroy->next;
    if (!destroy)
        return false;
    rpc->next = NULL;
    if (destroy->waiting)
        destroy->last->next = rpc;
    else
        destroy->waiting = rpc;
    destroy->last = rpc;
    return true;
}

static void end(fab_server_t *self, fab_worker_t *worker, destroy_t *destroy, int64_t now_ps)
{
    fab_rpc_t *waiting = destroy->waiting;
    if (destroy->rpc)
        fab_meta_go_on(self, worker, destroy->rpc, true, now_ps);
    while (waiting) {
        fab_rpc_t *rpc = waiting;
        waiting = rpc->next;
        fab_meta_go_on(self, worker, rpc, false, now_ps);
    }
    fab_store_give(worker, destroy, sizeof *destroy);
}

/* A server has done its part. */
static void answered(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *copy, int64_t now_ps)
{
    destroy_t **place = &self->destroys;
    sending_t **at = NULL;
    for (; *place; place = &(*place)->next) {
        if ((*place)->content != copy->file)
            continue;
        for (at = &(*place)->sent; *at && (*at)->copy != copy;)
            at = &(*at)->next;
        if (*at)
            break;
    }
    fab_store_give(worker, copy, sizeof *copy);
    destroy_t *destroy = *place;
    if (!destroy) /* another copy told so already */
        return;
    sending_t *sending = *at;
    *at = sending->next;
    fab_store_give(worker, sending, sizeof *sending);
    if (destroy->sent)
        return;
    *place = destroy->next;
    end(self, worker, destroy, now_ps);
}

void fab_destroy_again(fab_server_t *self, fab_worker_t *worker, int64_t now_ps)
{
    for (destroy_t *destroy = self->destroys; destroy; destroy = destroy->next)
        for (sending_t *s = destroy->sent; s; s = s->next)
            if (!s->copy || s->epoch != fab_store_epoch(fab_server_config(self), s->to, now_ps))
                send(self, worker, destroy->content, s, now_ps);
}

void fab_destroy_forget(fab_server_t *self)
{
    for (destroy_t *destroy = self->destroys; destroy; destroy = destroy->next) {
        destroy->rpc = destroy->waiting = destroy->last = NULL;
        for (sending_t *s = destroy->sent; s; s = s->next)
            s->copy = NULL;
    }
}

/* ---- the servers of the objects ----------------------------------------------------------------- */

static void make_empty(fab_worker_t *worker, fab_object_t *object)
{
    object->size = 0;
    object->generation++;
    fab_extents_clear(&object->written, &worker->pool);
}

/* Tells who asked, unless that one has failed meanwhile: it asks again. */
static void tell(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    const fab_store_config_t *config = fab_server_config(self);
    const uint32_t first = rpc->target;
    if (fab_store_epoch(config, first, now_ps) != (uint32_t)rpc->end) {
        fab_store_give(worker, rpc, sizeof *rpc);
        return;
    }
    rpc->stage = STAGE_RETURNED;
    rpc->server = first;
    rpc->epoch = (uint32_t)rpc->end;
    post(self, worker, fab_store_where(config, first, self->host, now_ps), rpc, now_ps);
}

static void begin(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    const fab_store_config_t *config = fab_server_config(self);
    const fab_file_t *file = &self->store->file_state[rpc->file];
    rpc->stage = STAGE_LOCKED;
    for (uint32_t o = 0; o < file->object_count; o++) {
        if (server_of(config, file->targets[o]) != self->number)
            continue;
        fab_object_t *object = fab_server_object(self, worker, file->targets[o], rpc->file, o);
        if (object && fab_lock_discard(self, worker, object, rpc, now_ps))
            make_empty(worker, object);
    }
}

void fab_destroy_timer(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    if (rpc->stage == STAGE_SENT) {
        begin(self, worker, rpc, now_ps);
    } else {
        for (fab_object_t *object; (object = fab_lock_discarded(self, worker, rpc));) {
            make_empty(worker, object);
            fab_lock_let_go(self, worker, object, rpc, now_ps);
        }
    }
    if (rpc->shards == 0 && !worker->error)
        tell(self, worker, rpc, now_ps);
}

void fab_destroy_request(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    if (rpc->stage == STAGE_RETURNED)
        answered(self, worker, rpc, now_ps);
    else
        fab_lock_request(self, worker, rpc, now_ps);
}
