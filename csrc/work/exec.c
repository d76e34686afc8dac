/* Runs a program: releases operations on each rank, drives collectives, answers the transport.
 *
 * Everything of a rank happens on the thread of its host. A collective has a state only while it runs, or has
 * received something early; messages that come before the rank has started are kept and replayed. */
#include "work/exec.h"

#include <stdlib.h>
#include <string.h>

/* Above them are the store's: FAB_STORE_TIMER_KIND. */
enum { TIMER_START = 8, TIMER_END = 9, TIMER_STEP = 10, TIMER_LAUNCH = 11 };

/* A user timer's key: kind, step and instance. */
static uint64_t timer_key(uint64_t kind, uint64_t step, uint32_t instance)
{
    return kind << 56 | step << 32 | instance;
}

typedef struct active {
    struct active *next; /* of the same host */
    uint32_t instance;
    bool started, done; /* done: by the algorithm; it ends when all that it sent is acknowledged */
    uint32_t open;      /* messages sent and not acknowledged */
    uint32_t early_count, early_capacity;
    uint32_t *early; /* steps that came before the start */
    fab_coll_state_t state;
} active_t;

/* Who a network's transport tells what happens. */
typedef struct {
    fab_exec_t *exec;
    uint32_t network;
} fab_exec_port_t;

struct fab_exec {
    const fab_program_t *program;
    const fab_hosts_t *hosts;
    fab_exec_port_t ports[FAB_NETWORKS_MAX];
    uint32_t *wait;        /* [instance] how many are still to end before it */
    int64_t *start_ps;     /* [instance] */
    int64_t *end_ps;       /* [instance] */
    int64_t *delivered_ps; /* [instance] of recvs; NULL without sends */
    active_t **active;     /* [host] collectives with a state */
    fab_store_t *store;    /* NULL without storage operations */
    int64_t (*session)[2]; /* [session_count] start and end of operations that no program names */
    uint32_t session_count, session_capacity;
};

static void start_instance(fab_exec_t *self, fab_worker_t *worker, uint32_t instance, int64_t now_ps);

static void set_timer(fab_exec_t *self, fab_worker_t *worker, uint32_t host, uint64_t key, int64_t when_ps)
{
    if (when_ps >= FAB_NEVER / 2)
        worker->error = FAB_E_LIMIT;
    else if (!fab_hosts_set_timer(self->hosts, worker, host, key, when_ps))
        worker->error = FAB_E_MEMORY;
}

static void release(fab_exec_t *self, fab_worker_t *worker, uint32_t instance, int64_t now_ps)
{
    const fab_op_t *op = &self->program->ops[self->program->instance_op[instance]];
    if (op->delay_ps)
        set_timer(self, worker, self->program->rank_host[fab_program_rank(self->program, instance)],
                  timer_key(TIMER_START, 0, instance), now_ps + op->delay_ps);
    else
        start_instance(self, worker, instance, now_ps);
}

static void waited(fab_exec_t *self, fab_worker_t *worker, uint32_t instance, int64_t now_ps)
{
    if (--self->wait[instance] == 0)
        release(self, worker, instance, now_ps);
}

/* An instance has ended: what waits for it on this rank may go on. Chains of operations that take no time are
 * followed by timers, not by recursion. */
static void end_instance(fab_exec_t *self, fab_worker_t *worker, uint32_t instance, int64_t now_ps)
{
    const fab_program_t *program = self->program;
    const uint32_t o = program->instance_op[instance];
    const uint32_t rank = fab_program_rank(program, instance);
    self->end_ps[instance] = now_ps;
    worker->end_ps = fab_max_i64(worker->end_ps, now_ps);
    worker->done++;
    for (uint32_t i = program->after_first[o]; i < program->after_first[o + 1]; i++) {
        const fab_op_t *op = &program->ops[program->after_ops[i]];
        const uint32_t position = op->set == program->ops[o].set ? instance - program->ops[o].first_instance
                                                                 : fab_program_position(program, op->set, rank);
        if (position != FAB_NONE)
            waited(self, worker, op->first_instance + position, now_ps);
    }
    if (program->instance_next[instance] != FAB_NONE)
        waited(self, worker, program->instance_next[instance], now_ps);
}

/* Ends an instance from within its own start: by a timer at the same time, so that a long chain does not recurse. */
static void end_soon(fab_exec_t *self, fab_worker_t *worker, uint32_t instance, int64_t now_ps)
{
    set_timer(self, worker, self->program->rank_host[fab_program_rank(self->program, instance)],
              timer_key(TIMER_END, 0, instance), now_ps);
}

/* ---- collectives -------------------------------------------------------------------------------- */

typedef struct {
    fab_exec_t *exec;
    fab_worker_t *worker;
    const fab_op_t *op;
    const fab_members_t *group;
    active_t *active;
    uint32_t host;
    int64_t now_ps;
    const int64_t *values;
} sender_t;

static int64_t with_overhead(int64_t bytes, int64_t overhead_ppm)
{
    return bytes + (int64_t)((unsigned __int128)bytes * (uint64_t)overhead_ppm / 1000000);
}

static void coll_send(void *context, uint32_t to_position, int64_t bytes, uint32_t step, uint32_t channel)
{
    const sender_t *s = context;
    const fab_program_t *program = s->exec->program;
    const uint32_t connection = fab_program_find(program, s->host, fab_program_host_at(program, s->group, to_position),
                                                 s->op->stream, s->op->data_class, channel);
    if (connection == FAB_NONE) { /* an algorithm sent to a position that its peers() did not name */
        s->worker->error = FAB_E_INTERNAL;
        return;
    }
    const fab_cookie_t cookie = {fab_program_instance_at(program, s->group, to_position), step, s->active->instance};
    s->active->open++;
    bytes = with_overhead(bytes, s->values[FAB_COLL_OVERHEAD_PPM]);
    if (fab_hosts_network(connection))
        bytes = with_overhead(bytes, s->values[FAB_COLL_UP_OVERHEAD_PPM]);
    fab_hosts_post(s->exec->hosts, s->worker, s->host, connection, bytes, cookie, s->now_ps);
}

static active_t *find_active(fab_exec_t *self, uint32_t host, uint32_t instance)
{
    active_t *a = self->active[host];
    while (a && a->instance != instance)
        a = a->next;
    return a;
}

static active_t *make_active(fab_exec_t *self, fab_worker_t *worker, uint32_t host, uint32_t instance)
{
    active_t *a = fab_pool_take(&worker->pool, fab_pool_class(sizeof *a));
    if (!a) {
        worker->error = FAB_E_MEMORY;
        return NULL;
    }
    *a = (active_t){.next = self->active[host], .instance = instance};
    self->active[host] = a;
    return a;
}

static void drop_active(fab_exec_t *self, fab_worker_t *worker, uint32_t host, active_t *gone)
{
    active_t **at = &self->active[host];
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    if (gone->early)
        fab_pool_give(&worker->pool, gone->early, fab_pool_class(gone->early_capacity * sizeof *gone->early));
    fab_pool_give(&worker->pool, gone, fab_pool_class(sizeof *gone));
}

static void keep_early(fab_worker_t *worker, active_t *a, uint32_t step)
{
    if (a->early_count == a->early_capacity) {
        const uint32_t capacity = a->early_capacity ? 2 * a->early_capacity : 8;
        uint32_t *early = fab_pool_take(&worker->pool, fab_pool_class(capacity * sizeof *early));
        if (!early) {
            worker->error = FAB_E_MEMORY;
            return;
        }
        if (a->early) {
            memcpy(early, a->early, a->early_count * sizeof *early);
            fab_pool_give(&worker->pool, a->early, fab_pool_class(a->early_capacity * sizeof *early));
        }
        a->early = early;
        a->early_capacity = capacity;
    }
    a->early[a->early_count++] = step;
}

enum { COLL_START, COLL_RECEIVED, COLL_ACKNOWLEDGED };

/* Lets the algorithm act on one thing that happened at a rank. It has nothing more to do once it said so, and the
 * operation ends there with its last acknowledgement: what it sent may be overwritten only then. */
static void drive(fab_exec_t *self, fab_worker_t *worker, uint32_t host, active_t *a, int what, uint32_t step,
                  int64_t now_ps)
{
    const uint32_t instance = a->instance;
    const fab_op_t *op = &self->program->ops[self->program->instance_op[instance]];
    const fab_coll_ops_t *algorithm = self->program->variants[op->variant].ops;
    const fab_coll_t coll = fab_program_coll(self->program, instance);
    sender_t sender = {self, worker, op, fab_program_group(self->program, instance), a, host, now_ps, coll.values};
    const fab_coll_out_t out = {&sender, coll_send};
    if (what == COLL_START) {
        a->started = true;
        a->done = algorithm->start(&coll, &a->state, out);
        for (uint32_t i = 0; i < a->early_count && !a->done; i++)
            a->done = algorithm->received(&coll, &a->state, a->early[i], out);
    } else if (what == COLL_RECEIVED) {
        a->done = algorithm->received(&coll, &a->state, step, out);
    } else {
        a->open--;
        if (!a->done && algorithm->acknowledged)
            a->done = algorithm->acknowledged(&coll, &a->state, step, out);
    }
    if (!a->done || a->open)
        return;
    drop_active(self, worker, host, a);
    if (fab_program_is_hidden(self->program, instance)) /* nothing waits for a reducer's part */
        return;
    if (what == COLL_START)
        end_soon(self, worker, instance, now_ps);
    else
        end_instance(self, worker, instance, now_ps);
}

static void launch(fab_exec_t *self, fab_worker_t *worker, uint32_t host, uint32_t instance, int64_t now_ps)
{
    active_t *a = find_active(self, host, instance);
    if (!a)
        a = make_active(self, worker, host, instance);
    if (a)
        drive(self, worker, host, a, COLL_START, 0, now_ps);
}

/* A message of a collective has arrived and been looked at. */
static void coll_received(fab_exec_t *self, fab_worker_t *worker, uint32_t host, uint32_t instance, uint32_t step,
                          int64_t now_ps)
{
    active_t *a = find_active(self, host, instance);
    if (a && a->started) {
        drive(self, worker, host, a, COLL_RECEIVED, step, now_ps);
        return;
    }
    if (fab_program_is_hidden(self->program, instance)) { /* a reducer begins with its first message */
        launch(self, worker, host, instance, now_ps);
        coll_received(self, worker, host, instance, step, now_ps);
        return;
    }
    if (!a)
        a = make_active(self, worker, host, instance);
    if (a)
        keep_early(worker, a, step);
}

/* ---- storage ------------------------------------------------------------------------------------- */

/* Ranks that share a client call it by a message, and hear from it by another. */
enum { IO_CALL = FAB_STORE_COOKIE - 2, IO_RETURN = FAB_STORE_COOKIE - 1, IO_BYTES = 64 };

static void begin_io(fab_exec_t *self, fab_worker_t *worker, uint32_t host, uint32_t instance, int64_t now_ps)
{
    const fab_io_t io = fab_program_io(self->program, instance);
    fab_store_start(self->store, worker, host, &io, now_ps);
}

static void tell_io(fab_exec_t *self, fab_worker_t *worker, uint32_t host, uint32_t to, uint32_t what,
                    uint32_t instance, int64_t now_ps)
{
    const uint32_t connection = fab_program_find(self->program, host, to, FAB_STORE_LANE, 0, 0);
    if (connection == FAB_NONE)
        worker->error = FAB_E_INTERNAL;
    else
        fab_hosts_post(self->hosts, worker, host, connection, IO_BYTES, (fab_cookie_t){what, 0, instance}, now_ps);
}

/* ---- starting ----------------------------------------------------------------------------------- */

static void start_send(fab_exec_t *self, fab_worker_t *worker, uint32_t host, uint32_t instance, int64_t now_ps)
{
    const fab_program_t *program = self->program;
    const fab_op_t *op = &program->ops[program->instance_op[instance]];
    const uint32_t recv = program->match[instance];
    if (program->connection[instance] != FAB_NONE) {
        fab_hosts_post(self->hosts, worker, host, program->connection[instance], op->bytes,
                       (fab_cookie_t){recv, 0, instance}, now_ps);
        return;
    }
    self->delivered_ps[recv] = now_ps; /* to itself: no network, no time */
    if (self->start_ps[recv] >= 0)
        end_soon(self, worker, recv, now_ps);
    end_soon(self, worker, instance, now_ps);
}

static void start_instance(fab_exec_t *self, fab_worker_t *worker, uint32_t instance, int64_t now_ps)
{
    const fab_program_t *program = self->program;
    const fab_op_t *op = &program->ops[program->instance_op[instance]];
    const uint32_t host = program->rank_host[fab_program_rank(program, instance)];
    self->start_ps[instance] = now_ps;
    switch (op->kind) {
    case FAB_OP_COMPUTE:
        set_timer(self, worker, host, timer_key(TIMER_END, 0, instance), now_ps + op->duration_ps);
        break;
    case FAB_OP_SEND: start_send(self, worker, host, instance, now_ps); break;
    case FAB_OP_RECV:
        if (self->delivered_ps[instance] >= 0)
            end_soon(self, worker, instance, now_ps);
        break;
    case FAB_OP_OPEN:
    case FAB_OP_READ:
    case FAB_OP_WRITE:
    case FAB_OP_FSYNC:
    case FAB_OP_CLOSE:
    case FAB_OP_STAT:
    case FAB_OP_UNLINK:
    case FAB_OP_MKDIR:
    case FAB_OP_RMDIR:
    case FAB_OP_RENAME:
    case FAB_OP_READDIR: {
        const uint32_t client = program->client_host[host];
        if (client == host)
            begin_io(self, worker, host, instance, now_ps);
        else
            tell_io(self, worker, host, client, IO_CALL, instance, now_ps);
        break;
    }
    default:
        set_timer(self, worker, host, timer_key(TIMER_LAUNCH, 0, instance),
                  now_ps + program->variants[op->variant].values[FAB_COLL_LAUNCH_PS]);
        break;
    }
}

/* ---- what the transport says -------------------------------------------------------------------- */

static bool is_storage(fab_cookie_t cookie) { return cookie.instance >= IO_CALL && cookie.instance != FAB_NONE; }

static void delivered(void *context, fab_worker_t *worker, uint32_t host, fab_cookie_t cookie, int64_t now_ps)
{
    const fab_exec_port_t *port = context;
    fab_exec_t *self = port->exec;
    if (FAB_UNLIKELY(is_storage(cookie))) {
        if (cookie.instance == IO_CALL)
            begin_io(self, worker, host, cookie.from_instance, now_ps);
        else if (cookie.instance == IO_RETURN)
            end_instance(self, worker, cookie.from_instance, now_ps);
        else
            fab_store_delivered(self->store, worker, host, cookie, now_ps);
        return;
    }
    const fab_op_t *op = &self->program->ops[self->program->instance_op[cookie.instance]];
    if (op->kind == FAB_OP_RECV) {
        self->delivered_ps[cookie.instance] = now_ps;
        if (self->start_ps[cookie.instance] >= 0)
            end_instance(self, worker, cookie.instance, now_ps);
        return;
    }
    const int64_t *values = self->program->variants[op->variant].values;
    const int64_t step_ps = values[FAB_COLL_STEP_PS] + (port->network == 0 ? values[FAB_COLL_NET_STEP_PS] : 0);
    if (step_ps && !fab_program_is_hidden(self->program, cookie.instance))
        set_timer(self, worker, host, timer_key(TIMER_STEP, cookie.step, cookie.instance), now_ps + step_ps);
    else
        coll_received(self, worker, host, cookie.instance, cookie.step, now_ps);
}

static void acknowledged(void *context, fab_worker_t *worker, uint32_t host, fab_cookie_t cookie, int64_t now_ps)
{
    fab_exec_t *self = ((const fab_exec_port_t *)context)->exec;
    if (FAB_UNLIKELY(is_storage(cookie))) {
        if (fab_store_owns(cookie))
            fab_store_acknowledged(self->store, worker, host, cookie, now_ps);
        return;
    }
    const fab_op_t *op = &self->program->ops[self->program->instance_op[cookie.from_instance]];
    if (op->kind == FAB_OP_SEND) {
        end_instance(self, worker, cookie.from_instance, now_ps);
        return;
    }
    active_t *a = find_active(self, host, cookie.from_instance);
    if (a)
        drive(self, worker, host, a, COLL_ACKNOWLEDGED, cookie.step, now_ps);
    else /* it cannot have ended before this */
        worker->error = FAB_E_INTERNAL;
}

static void timer(void *context, fab_worker_t *worker, uint32_t host, uint64_t key, int64_t now_ps)
{
    fab_exec_t *self = ((const fab_exec_port_t *)context)->exec;
    const uint32_t instance = (uint32_t)key;
    switch (key >> 56) {
    case TIMER_START: start_instance(self, worker, instance, now_ps); break;
    case TIMER_END: end_instance(self, worker, instance, now_ps); break;
    case TIMER_STEP:
        coll_received(self, worker, host, instance, (uint32_t)(key >> 32) & ((1u << FAB_COLL_STEP_BITS) - 1), now_ps);
        break;
    case TIMER_LAUNCH: launch(self, worker, host, instance, now_ps); break;
    default: fab_store_timer(self->store, worker, host, key, now_ps); break;
    }
}

/* ---- life --------------------------------------------------------------------------------------- */

/* Operations of a session are numbered behind all others. */
enum { SESSION_FIRST = IO_CALL - FAB_EXEC_SESSION_MAX };

/* A storage operation has ended: perhaps within its own start. */
static void io_ended(void *user, fab_worker_t *worker, uint32_t instance, int64_t now_ps)
{
    fab_exec_t *self = user;
    if (instance >= SESSION_FIRST) {
        self->session[instance - SESSION_FIRST][1] = now_ps;
        return;
    }
    const uint32_t host = self->program->rank_host[fab_program_rank(self->program, instance)];
    const uint32_t client = self->program->client_host[host];
    if (client == host)
        end_soon(self, worker, instance, now_ps);
    else
        tell_io(self, worker, client, host, IO_RETURN, instance, now_ps);
}

uint32_t fab_exec_io(fab_exec_t *self, fab_worker_t *worker, uint32_t host, fab_io_t io, int64_t now_ps)
{
    if (self->session_count == self->session_capacity) {
        const uint32_t capacity = self->session_capacity ? 2 * self->session_capacity : 1024;
        int64_t (*longer)[2] =
            capacity > FAB_EXEC_SESSION_MAX ? NULL : realloc(self->session, capacity * sizeof *longer);
        if (!longer)
            return FAB_NONE;
        self->session = longer;
        self->session_capacity = capacity;
    }
    const uint32_t number = self->session_count++;
    self->session[number][0] = now_ps;
    self->session[number][1] = -1;
    io.instance = SESSION_FIRST + number;
    fab_store_start(self->store, worker, host, &io, now_ps);
    return number;
}

int64_t fab_exec_io_end_ps(const fab_exec_t *self, uint32_t number, int64_t *start_ps_out)
{
    *start_ps_out = self->session[number][0];
    return self->session[number][1];
}

static uint32_t find_storage(const void *user, uint32_t host, uint32_t dst, uint8_t data_class)
{
    const fab_exec_t *self = user;
    return fab_program_find(self->program, host, dst, FAB_STORE_LANE, data_class, 0);
}

static int begin_storage(fab_exec_t *self, fab_worker_t *workers, uint64_t seed, bool record_rpcs)
{
    const fab_program_t *program = self->program;
    if (!program->has_client)
        return FAB_OK;
    const int code = fab_store_new(program->stores, program->store_count, &program->files, self->hosts, program->net,
                                   workers, seed, program->has_client, record_rpcs, &self->store);
    if (!code) {
        self->store->user = self;
        self->store->ended = io_ended;
        self->store->find = find_storage;
    }
    return code;
}

int fab_exec_new(const fab_program_t *program, const fab_hosts_t *hosts, fab_worker_t *workers, uint64_t seed,
                 bool record_rpcs, fab_exec_t **exec_out)
{
    fab_exec_t *self = calloc(1, sizeof *self);
    if (!self)
        return FAB_E_MEMORY;
    const size_t n = program->instance_count + (size_t)program->hidden_count + 1;
    *self = (fab_exec_t){.program = program, .hosts = hosts};
    for (uint32_t w = 0; w < FAB_NETWORKS_MAX; w++)
        self->ports[w] = (fab_exec_port_t){self, w};
    self->wait = malloc(n * sizeof *self->wait);
    self->start_ps = malloc(n * sizeof *self->start_ps);
    self->end_ps = malloc(n * sizeof *self->end_ps);
    self->active = calloc(program->net->host_count, sizeof *self->active);
    if (program->match)
        self->delivered_ps = malloc(n * sizeof *self->delivered_ps);
    if (!self->wait || !self->start_ps || !self->end_ps || !self->active || (program->match && !self->delivered_ps)) {
        fab_exec_free(self);
        return FAB_E_MEMORY;
    }
    memcpy(self->wait, program->instance_wait, program->instance_count * sizeof *self->wait);
    for (size_t i = 0; i < n; i++) {
        self->start_ps[i] = self->end_ps[i] = -1;
        if (self->delivered_ps)
            self->delivered_ps[i] = -1;
    }
    const int code = begin_storage(self, workers, seed, record_rpcs);
    if (code) {
        fab_exec_free(self);
        return code;
    }
    *exec_out = self;
    return FAB_OK;
}

void fab_exec_free(fab_exec_t *self)
{
    if (!self)
        return;
    fab_store_free(self->store);
    free(self->session);
    free(self->wait);
    free(self->start_ps);
    free(self->end_ps);
    free(self->delivered_ps);
    free(self->active);
    free(self);
}

fab_user_t fab_exec_user(fab_exec_t *self, uint32_t network)
{
    return (fab_user_t){
        .self = &self->ports[network], .delivered = delivered, .acknowledged = acknowledged, .timer = timer};
}

void fab_exec_begin(fab_exec_t *self, fab_worker_t *worker, uint32_t instance)
{
    if (self->program->instance_wait[instance] == 0)
        release(self, worker, instance, 0);
}

fab_times_t fab_exec_times(const fab_exec_t *self)
{
    return (fab_times_t){self->program, self->start_ps, self->end_ps, self->delivered_ps};
}

fab_store_t *fab_exec_store(const fab_exec_t *self) { return self->store; }

int64_t fab_exec_memory_bytes(const fab_exec_t *self)
{
    return (int64_t)self->program->instance_count * (self->delivered_ps ? 28 : 20) +
           (int64_t)self->program->net->host_count * 8;
}
