/* The sweep: colour by colour, each thread visits its active nodes up to the horizon.
 *
 * Let g(c) be the earliest event of colour c and D the lookahead. What a node of colour c does not know yet was
 * caused at g(other colours) or later and takes D to come, or was caused by itself and takes 2D: so it may go on
 * to min(min over others of g, g(c) + D) + D. The colour with the least g goes next. With two colours that is
 * leapfrog by 2D; empty time is jumped; no order of visits can change a result. */
#include "sim/run.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "net/telemetry.h"

#include "link/credit.h"

enum { FIRST_RING = 8, SPINS_BEFORE_YIELD = 2000 };

/* ---- making a run ------------------------------------------------------------------------------- */

static uint32_t switches_between(const void *context, uint32_t network, uint32_t src, uint32_t dst, uint32_t entropy)
{
    const fab_model_t *model = context;
    return fab_route_switches_between(&model->net, network, &model->networks[network].route, src, dst, entropy);
}

static int init_links(fab_run_t *self)
{
    const fab_model_t *model = self->model;
    const fab_net_t *net = &model->net;
    fab_worker_t *worker = &self->workers[0];
    self->fabric = (fab_fabric_t){
        .net = net, .seed = self->options.seed, .switches_between = switches_between, .switches_context = model};
    self->fabric.links = aligned_alloc(FAB_CACHE_LINE, ((size_t)net->link_count + 1) * sizeof *self->fabric.links);
    self->fabric.heads = malloc(((size_t)net->link_count + 1) * sizeof *self->fabric.heads);
    self->fabric.ports = aligned_alloc(FAB_CACHE_LINE, ((size_t)net->link_count + 1) * sizeof *self->fabric.ports);
    bool credits = false;
    for (uint32_t w = 0; w < net->network_count; w++)
        credits |= model->networks[w].switch_config.link.credit;
    if (credits)
        self->fabric.credits =
            aligned_alloc(FAB_CACHE_LINE, ((size_t)net->link_count + 1) * sizeof *self->fabric.credits);
    if (!self->fabric.links || !self->fabric.heads || !self->fabric.ports || (credits && !self->fabric.credits))
        return FAB_E_MEMORY;
    if (credits)
        memset(self->fabric.credits, 0, net->link_count * sizeof *self->fabric.credits);
    for (uint32_t w = 0; w < net->network_count; w++)
        if (model->networks[w].switch_config.telemetry && !self->fabric.telemetry) {
            self->fabric.telemetry = calloc((size_t)net->link_count + 1, sizeof *self->fabric.telemetry);
            if (!self->fabric.telemetry)
                return FAB_E_MEMORY;
        }
    if (self->faults) {
        self->fabric.faults = aligned_alloc(FAB_CACHE_LINE, (size_t)net->link_count * sizeof *self->fabric.faults);
        if (!self->fabric.faults)
            return FAB_E_MEMORY;
        memset(self->fabric.faults, 0, (size_t)net->link_count * sizeof *self->fabric.faults);
    }
    self->fabric.heads[net->link_count] = FAB_NEVER; /* what comes in at a port that is not there */
    for (uint32_t l = 0; l < net->link_count; l++) {
        const fab_switch_config_t *config = &model->networks[net->link_network[l]].switch_config;
        const bool credit = config->link.credit;
        const bool ordered =
            (config->link.pause || config->control_priority || self->faults) && !config->scheduled && !credit;
        const bool cut = fab_model_cuts_through(model, self->faults ? self->faults->least_mbps : NULL, l);
        if (credit &&
            !fab_credit_init(&self->fabric.credits[l], &config->link, net, l, config->wire_max_bytes, &worker->pool))
            return FAB_E_MEMORY;
        fab_packet_t *ring = fab_pool_take(&worker->pool, fab_pool_class(FIRST_RING * sizeof *ring));
        if (!ring)
            return FAB_E_MEMORY;
        self->fabric.links[l] = (fab_link_t){
            .ring = ring,
            .mask = FIRST_RING - 1,
            .delay_ps = (uint32_t)net->delay_ps[l] | (cut ? FAB_DELAY_CUT_THROUGH : 0),
            .ps_per_byte_q16 = fab_wire_ps_per_byte_q16(net->rate_mbps[l]),
            .rx_slot = net->rx_slot[l],
        };
        self->fabric.heads[l] = FAB_NEVER;
        fab_port_t *port = &self->fabric.ports[l];
        *port = (fab_port_t){.kmin_ps = FAB_NEVER, .kmax_ps = FAB_NEVER, .name = net->link_name[l]};
        if (ordered) {
            port->from = fab_pool_take(&worker->pool, fab_pool_class(FIRST_RING * sizeof *port->from));
            if (!port->from)
                return FAB_E_MEMORY;
        }
    }
    return FAB_OK;
}

static int init_workers(fab_run_t *self)
{
    const fab_net_t *net = &self->model->net;
    const uint32_t blocks = net->slot_count / FAB_BLOCK_NODES;
    uint32_t ports = 1;
    for (uint32_t s = 0; s < net->slot_count; s++)
        ports = net->nodes[s].port_count > ports ? net->nodes[s].port_count : ports;
    for (uint32_t t = 0; t < self->thread_count; t++) {
        fab_worker_t *w = &self->workers[t];
        w->keep_arrivals = self->options.record_packets;
        w->record = w->keep_arrivals || self->faults;
        w->next_ps = aligned_alloc(FAB_CACHE_LINE, net->slot_count * sizeof *w->next_ps);
        w->block_ps = malloc((blocks + 1) * sizeof *w->block_ps);
        w->colour_ps = malloc((net->colour_count + 16) * sizeof *w->colour_ps);
        w->tree = malloc(8 * (size_t)ports * sizeof *w->tree + 64); /* up to two leaves a port */
        w->tree_port = malloc((ports + 1) * sizeof *w->tree_port);
        fab_board_t *board = &self->boards[t];
        for (int turn = 0; turn < 2; turn++)
            board->colour_ps[turn] = malloc((net->colour_count + 16) * sizeof *board->colour_ps[turn]);
        board->view_ps = malloc((net->colour_count + 16) * sizeof *board->view_ps);
        if (!w->next_ps || !w->block_ps || !w->colour_ps || !w->tree || !w->tree_port || !board->colour_ps[0] ||
            !board->colour_ps[1] || !board->view_ps)
            return FAB_E_MEMORY;
        for (uint32_t s = 0; s < net->slot_count; s++)
            w->next_ps[s] = FAB_NEVER;
        for (uint32_t b = 0; b < blocks; b++)
            w->block_ps[b] = FAB_NEVER;
        for (uint32_t c = 0; c < net->colour_count; c++) {
            w->colour_ps[c] = FAB_NEVER;
            self->residual_ps[t * net->colour_count + c] = FAB_NEVER;
        }
        for (uint32_t g = 0; g < net->group_count; g++) {
            const fab_group_t *group = &net->groups[g];
            const uint64_t first = group->first_slot / FAB_BLOCK_NODES, n = group->end_slot / FAB_BLOCK_NODES - first;
            self->ranges[t * net->group_count + g] = (fab_range_t){
                .first_block = (uint32_t)(first + n * t / self->thread_count),
                .end_block = (uint32_t)(first + n * (t + 1) / self->thread_count),
                .colour = group->colour,
                .is_switch = group->is_switch,
                .network = group->network,
            };
        }
    }
    return FAB_OK;
}

/* The state of each network's switches and hosts, and of the program that runs on them. */
static int init_networks(fab_run_t *self)
{
    self->hosts.count = self->model->net.network_count;
    for (uint32_t w = 0; w < self->hosts.count; w++) {
        const fab_network_t *network = &self->model->networks[w];
        self->switches[w] = (fab_switches_t){.config = &network->switch_config, .route = &network->route};
        const int code = network->switch_ops->init(&self->switches[w], &self->fabric);
        if (code)
            return code;
        self->hosts.ops[w] = network->transport_ops;
        self->hosts.state[w] =
            network->transport_ops->new(&network->transport_config, network->cc_ops, &network->cc_config, &self->fabric,
                                        w, &self->program->connections[w]);
        if (!self->hosts.state[w])
            return FAB_E_MEMORY;
    }
    const int code = fab_exec_new(self->program, &self->hosts, self->workers, self->options.seed,
                                  self->options.record_rpcs, &self->exec);
    if (code)
        return code;
    for (uint32_t w = 0; w < self->hosts.count; w++)
        self->hosts.ops[w]->set_user(self->hosts.state[w], fab_exec_user(self->exec, w));
    return FAB_OK;
}

/* Releases what waits for nothing and enters the hosts' first events in the calendar. */
static void begin(fab_run_t *self)
{
    const fab_net_t *net = &self->model->net;
    fab_worker_t *worker = &self->workers[0];
    for (uint32_t i = 0; i < self->program->instance_count; i++)
        fab_exec_begin(self->exec, worker, i);
    for (uint32_t h = 0; h < net->host_count; h++) {
        if (self->program->host_rank[h] == FAB_NONE && !self->program->has_client) /* a server may have a timer */
            continue;
        const uint32_t slot = net->slot_of[h];
        fab_link_notify(worker, net, slot, fab_hosts_visit(&self->hosts, worker, slot, 0));
    }
}

int fab_run_new(const fab_model_t *model, const fab_program_t *program, const fab_run_options_t *options,
                fab_problems_t *problems, fab_run_t **run_out)
{
    if (options->threads < 1 || options->threads > FAB_THREADS_MAX) {
        fab_problems_add(problems, "threads: found %d, allowed 1 to %d", options->threads, FAB_THREADS_MAX);
        return FAB_E_CONFIG;
    }
    for (uint32_t i = 0; i < program->op_count; i++)
        if (program->ops[i].count != 1) {
            fab_problems_add(problems, "row %u: count: found %" PRId64 ", allowed 1 in a run of packets", i,
                             program->ops[i].count);
            return FAB_E_TRACE;
        }
    fab_run_t *self = calloc(1, sizeof *self);
    if (!self)
        return FAB_E_MEMORY;
    const fab_net_t *net = &model->net;
    self->model = model;
    self->program = program;
    self->options = *options;
    self->options.changes = NULL; /* the caller's */
    self->thread_count = (uint32_t)options->threads;
    self->workers = aligned_alloc(2 * FAB_CACHE_LINE, self->thread_count * sizeof *self->workers);
    self->boards = aligned_alloc(2 * FAB_CACHE_LINE, self->thread_count * sizeof *self->boards);
    self->ranges = calloc((size_t)self->thread_count * net->group_count + 1, sizeof *self->ranges);
    self->residual_ps = calloc((size_t)self->thread_count * net->colour_count + 1, sizeof *self->residual_ps);
    int code = FAB_E_MEMORY;
    if (self->workers)
        memset(self->workers, 0, self->thread_count * sizeof *self->workers);
    if (self->boards)
        memset(self->boards, 0, self->thread_count * sizeof *self->boards);
    if (!self->workers || !self->boards || !self->ranges || !self->residual_ps)
        goto out;
    if (options->changes && (code = fab_faults_new(model, options->changes, problems, &self->faults)))
        goto out;
    if ((code = init_workers(self)) || (code = init_links(self)))
        goto out;
    if ((code = init_networks(self)))
        goto out;
    if (self->faults)
        fab_faults_begin(self);
    begin(self);
    code = self->workers[0].error;
    if (code)
        goto out;
    *run_out = self;
    return FAB_OK;
out:
    fab_run_free(self);
    return code;
}

void fab_run_free(fab_run_t *self)
{
    if (!self)
        return;
    fab_exec_free(self->exec);
    fab_faults_free(self->faults);
    for (uint32_t w = 0; w < self->hosts.count; w++) {
        if (self->hosts.state[w])
            self->hosts.ops[w]->free(self->hosts.state[w]);
        self->model->networks[w].switch_ops->free(&self->switches[w]);
    }
    for (uint32_t t = 0; self->workers && t < self->thread_count; t++) {
        fab_worker_t *w = &self->workers[t];
        fab_pool_free(&w->pool);
        free(w->next_ps);
        free(w->block_ps);
        free(w->colour_ps);
        free(w->tree);
        free(w->tree_port);
        free(w->arrivals);
    }
    for (uint32_t t = 0; self->boards && t < self->thread_count; t++) {
        free(self->boards[t].colour_ps[0]);
        free(self->boards[t].colour_ps[1]);
        free(self->boards[t].view_ps);
    }
    free(self->workers);
    free(self->boards);
    free(self->ranges);
    free(self->residual_ps);
    free(self->fabric.links);
    free(self->fabric.heads);
    free(self->fabric.ports);
    free(self->fabric.credits);
    free(self->fabric.telemetry); /* its rings are of the pools of the workers */
    free(self->fabric.faults);
    free(self);
}

/* ---- the sweep ---------------------------------------------------------------------------------- */

/* What all threads noted for a node or a block: the least of it. `threads` is the count, as a constant where it is 1. */
FAB_INLINE int64_t least_node_ps(const fab_run_t *self, const uint32_t threads, uint32_t slot)
{
    int64_t least_ps = self->workers[0].next_ps[slot];
    for (uint32_t t = 1; t < threads; t++)
        least_ps = fab_min_i64(least_ps, self->workers[t].next_ps[slot]);
    return least_ps;
}

FAB_INLINE int64_t least_block_ps(const fab_run_t *self, const uint32_t threads, uint32_t block)
{
    int64_t least_ps = self->workers[0].block_ps[block];
    for (uint32_t t = 1; t < threads; t++)
        least_ps = fab_min_i64(least_ps, self->workers[t].block_ps[block]);
    return least_ps;
}

/* Visits the nodes of a block that have something to do before until_ps; returns the block's next event. */
FAB_INLINE int64_t sweep_block(fab_run_t *self, const uint32_t threads, fab_worker_t *worker, uint32_t block,
                               const fab_range_t *range, int64_t base_ps, int64_t until_ps)
{
    const uint32_t first = block * FAB_BLOCK_NODES;
    int64_t least_ps = FAB_NEVER;
    for (uint32_t slot = first; slot < first + FAB_BLOCK_NODES; slot++) {
        int64_t next_ps = least_node_ps(self, threads, slot);
        if (next_ps < until_ps) {
            worker->visits++;
            next_ps = range->is_switch
                          ? self->model->networks[range->network].switch_ops->visit(
                                &self->switches[range->network], &self->fabric, worker, slot, base_ps, until_ps)
                          : fab_hosts_visit(&self->hosts, worker, slot, until_ps);
        }
        for (uint32_t t = 0; threads > 1 && t < threads; t++)
            self->workers[t].next_ps[slot] = FAB_NEVER;
        worker->next_ps[slot] = next_ps;
        least_ps = fab_min_i64(least_ps, next_ps);
    }
    for (uint32_t t = 0; threads > 1 && t < threads; t++)
        self->workers[t].block_ps[block] = FAB_NEVER;
    worker->block_ps[block] = least_ps;
    return least_ps;
}

FAB_INLINE int64_t sweep_range(fab_run_t *self, const uint32_t threads, fab_worker_t *worker, const fab_range_t *range,
                               int64_t base_ps, int64_t until_ps)
{
    int64_t least_ps = FAB_NEVER;
    for (uint32_t block = range->first_block; block < range->end_block; block++) {
        int64_t next_ps = least_block_ps(self, threads, block);
        if (next_ps < until_ps)
            next_ps = sweep_block(self, threads, worker, block, range, base_ps, until_ps);
        least_ps = fab_min_i64(least_ps, next_ps);
    }
    return least_ps;
}

/* One thread's share of a phase: its nodes of one colour, up to until_ps. */
static void sweep_colour(fab_run_t *self, uint32_t thread, uint32_t colour, int64_t base_ps, int64_t until_ps)
{
    const fab_net_t *net = &self->model->net;
    fab_worker_t *worker = &self->workers[thread];
    int64_t least_ps = FAB_NEVER;
    worker->colour_ps[colour] = FAB_NEVER;
    for (uint32_t g = 0; g < net->group_count; g++) {
        const fab_range_t *range = &self->ranges[thread * net->group_count + g];
        if (range->colour != colour)
            continue;
        const int64_t next_ps = self->thread_count == 1
                                    ? sweep_range(self, 1, worker, range, base_ps, until_ps)
                                    : sweep_range(self, self->thread_count, worker, range, base_ps, until_ps);
        least_ps = fab_min_i64(least_ps, next_ps);
    }
    self->residual_ps[thread * net->colour_count + colour] = least_ps;
}

static void barrier(fab_run_t *self)
{
    if (self->thread_count == 1)
        return;
    const uint32_t turn = atomic_load_explicit(&self->barrier_turn, memory_order_acquire);
    if (atomic_fetch_add_explicit(&self->barrier_count, 1, memory_order_acq_rel) + 1 == self->thread_count) {
        atomic_store_explicit(&self->barrier_count, 0, memory_order_relaxed);
        atomic_store_explicit(&self->barrier_turn, turn + 1, memory_order_release);
        return;
    }
    for (uint32_t spins = 0; atomic_load_explicit(&self->barrier_turn, memory_order_acquire) == turn; spins++)
        if (spins > SPINS_BEFORE_YIELD)
            sched_yield();
}

/* Puts what a thread knows on its board, meets the others, and reads all boards: the same on every thread. */
static int exchange(fab_run_t *self, uint32_t thread, uint32_t turn, int64_t *colour_ps)
{
    const uint32_t colours = self->model->net.colour_count;
    fab_board_t *mine = &self->boards[thread];
    for (uint32_t c = 0; c < colours; c++)
        mine->colour_ps[turn][c] =
            fab_min_i64(self->residual_ps[thread * colours + c], self->workers[thread].colour_ps[c]);
    mine->error[turn] = self->workers[thread].error;
    barrier(self);
    int error = 0;
    for (uint32_t c = 0; c < colours; c++)
        colour_ps[c] = FAB_NEVER;
    for (uint32_t t = 0; t < self->thread_count; t++) {
        const fab_board_t *board = &self->boards[t];
        for (uint32_t c = 0; c < colours; c++)
            colour_ps[c] = fab_min_i64(colour_ps[c], board->colour_ps[turn][c]);
        if (board->error[turn] && !error)
            error = board->error[turn];
    }
    return error;
}

typedef struct {
    fab_run_t *run;
    uint32_t thread;
    int64_t until_ps;
    int64_t windows;
    uint32_t turn;
    int64_t now_ps;
    int code;
} task_t;

/* One thread of a step. All threads take the same decisions from the same boards. */
static void *sweep(void *argument)
{
    task_t *task = argument;
    fab_run_t *self = task->run;
    const uint32_t colours = self->model->net.colour_count;
    const int64_t lookahead_ps = self->model->net.lookahead_ps;
    int64_t *colour_ps = self->boards[task->thread].view_ps;
    for (;;) {
        task->code = exchange(self, task->thread, task->turn & 1, colour_ps);
        task->turn++;
        if (task->code)
            break;
        uint32_t first = 0;
        for (uint32_t c = 1; c < colours; c++)
            if (colour_ps[c] < colour_ps[first])
                first = c;
        const int64_t least_ps = colour_ps[first];
        task->now_ps = least_ps;
        if (least_ps >= task->until_ps || least_ps == FAB_NEVER)
            break;
        int64_t cause_ps = self->options.plain ? least_ps : least_ps + lookahead_ps;
        for (uint32_t c = 0; c < colours; c++)
            if (c != first)
                cause_ps = fab_min_i64(cause_ps, colour_ps[c]);
        sweep_colour(self, task->thread, first, least_ps, fab_min_i64(cause_ps + lookahead_ps, task->until_ps));
        task->windows++;
    }
    return NULL;
}

/* Counts of packets are 32 bits on the links; carries them over before any can have wrapped twice. */
static void carry_packet_counts(fab_run_t *self)
{
    int64_t hops = 0;
    for (uint32_t t = 0; t < self->thread_count; t++)
        hops += self->workers[t].hops;
    if (hops - self->carried_hops < INT64_C(1) << 30)
        return;
    self->carried_hops = hops;
    for (uint32_t l = 0; l < self->model->net.link_count; l++) {
        fab_port_t *port = &self->fabric.ports[l];
        if (self->fabric.links[l].tail < port->tail_seen)
            port->packets_before += INT64_C(1) << 32;
        port->tail_seen = self->fabric.links[l].tail;
    }
}

/* Links whose senders wait for credits at the end: in a circle, each waits for the next. */
static void tell_credits(const fab_run_t *self, fab_problems_t *problems)
{
    int64_t waiting = 0;
    for (uint32_t l = 0; self->fabric.credits && l < self->model->net.link_count; l++)
        waiting += self->fabric.credits[l].wanted;
    if (waiting)
        fab_problems_add(problems, "%" PRId64 " links wait for credits: buffers that wait for each other in a circle",
                         waiting);
}

static int tell_failure(const fab_run_t *self, int code, fab_problems_t *problems)
{
    if (self->faults && self->faults->problems.count) {
        *problems = self->faults->problems;
        return code;
    }
    for (uint32_t t = 0; t < self->thread_count; t++) {
        if (self->workers[t].error != FAB_E_TRANSPORT)
            continue;
        const fab_connections_t *c = &self->program->connections[self->workers[t].error_network];
        const uint32_t at = (uint32_t)self->workers[t].error_connection;
        uint32_t src = 0;
        while (c->tx_first[src + 1] <= at)
            src++;
        fab_problems_add(problems,
                         "the connection from rank %u to rank %u gave up at %" PRId64
                         " ps: too many time-outs in a row without an acknowledgement (transport retry_limit)",
                         self->program->host_rank[src], self->program->host_rank[c->tx_dst[at]], self->now_ps);
    }
    if (code == FAB_E_TRANSPORT)
        tell_credits(self, problems);
    if (code == FAB_E_LIMIT)
        fab_problems_add(problems,
                         "the emulated time passes the limit of 2^61 ps, 26 days (or a thread could not be made)");
    if (!problems->count)
        fab_problems_add(problems, "the run ended at %" PRId64 " ps: %s", self->now_ps, fab_error_name(code));
    return code;
}

static int tell_deadlock(const fab_run_t *self, int64_t done, fab_problems_t *problems)
{
    int64_t paused = 0;
    for (uint32_t l = 0; l < self->model->net.link_count; l++)
        paused += self->fabric.ports[l].paused && self->fabric.links[l].tail != self->fabric.links[l].visible;
    int64_t end_ps = 0;
    for (uint32_t t = 0; t < self->thread_count; t++)
        end_ps = fab_max_i64(end_ps, self->workers[t].end_ps);
    const fab_times_t times = fab_exec_times(self->exec);
    fab_times_tell_deadlock(times, end_ps, done, problems);
    if (paused)
        fab_problems_add(
            problems, "%" PRId64 " links are paused with packets in line: the pauses wait for each other in a circle",
            paused);
    tell_credits(self, problems);
    fab_times_tell_blocked(times, problems);
    return FAB_E_DEADLOCK;
}

/* Runs all that happens before until_ps. */
static int advance(fab_run_t *self, int64_t until_ps)
{
    task_t tasks[FAB_THREADS_MAX];
    pthread_t threads[FAB_THREADS_MAX];
    uint32_t started = 1;
    for (uint32_t t = 0; t < self->thread_count; t++)
        tasks[t] = (task_t){.run = self, .thread = t, .until_ps = until_ps, .turn = self->turn};
    for (; started < self->thread_count; started++)
        if (pthread_create(&threads[started], NULL, sweep, &tasks[started]))
            break;
    if (started < self->thread_count) {
        /* The others wait at the barrier: stand in for those that could not be made, then stop. */
        for (uint32_t t = started; t < self->thread_count; t++)
            self->workers[t].error = FAB_E_LIMIT;
        self->workers[0].error = FAB_E_LIMIT;
        atomic_fetch_add(&self->barrier_count, self->thread_count - started);
        for (uint32_t t = started; t < self->thread_count; t++)
            self->boards[t].error[self->turn & 1] = FAB_E_LIMIT;
    }
    sweep(&tasks[0]);
    for (uint32_t t = 1; t < started; t++)
        pthread_join(threads[t], NULL);
    self->turn = tasks[0].turn;
    self->windows += tasks[0].windows;
    carry_packet_counts(self);
    self->now_ps = tasks[0].now_ps;
    self->frontier_ps = fab_max_i64(self->frontier_ps, until_ps);
    return tasks[0].code;
}

static int64_t count_done(const fab_run_t *self)
{
    int64_t done = 0;
    for (uint32_t t = 0; t < self->thread_count; t++)
        done += self->workers[t].done;
    return done;
}

/* The same in a fabric that changes: up to each change, and on. */
static int advance_by_cuts(fab_run_t *self, int64_t until_ps)
{
    for (;;) {
        const int64_t cut_ps = fab_faults_next_ps(self->faults);
        int code = advance(self, fab_min_i64(until_ps, cut_ps));
        if (code)
            return code;
        if (cut_ps >= until_ps) {
            self->now_ps = fab_min_i64(self->now_ps, cut_ps);
            return FAB_OK;
        }
        if (self->now_ps < FAB_NEVER)
            self->faults->stalled_ps = -1;
        if (count_done(self) == self->program->instance_count)
            fab_faults_end(self, cut_ps);
        else if (self->now_ps >= FAB_NEVER && !fab_faults_may_help(self->faults))
            return FAB_OK;
        else
            code = fab_faults_apply(self, cut_ps);
        if (code)
            return code;
    }
}

int fab_run_step(fab_run_t *self, int64_t until_ps, fab_problems_t *problems, bool *finished_out)
{
    if (self->failed)
        return tell_failure(self, self->failed, problems);
    until_ps = fab_min_i64(until_ps, FAB_NEVER);
    self->failed = self->faults ? advance_by_cuts(self, until_ps) : advance(self, until_ps);
    if (self->failed)
        return tell_failure(self, self->failed, problems);
    self->finished = self->now_ps >= FAB_NEVER;
    if (self->finished) {
        const int64_t done = count_done(self);
        if (done < self->program->instance_count)
            return tell_deadlock(self, done, problems);
    }
    *finished_out = self->finished;
    return FAB_OK;
}
