/* Executes a program as fluid activities: releases operations on each rank by the same rules as the packet run, and lets
 * a collective's group go on when the last of its ranks has come to it. */
#include "flow/flow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What happens at one time happens in this order, and by number. */
enum { EVENT_PHASE = 1, EVENT_END = 2, EVENT_START = 3 };

static void set_event(fab_flow_t *self, uint64_t kind, uint32_t id, int64_t when_ps)
{
    if (when_ps >= FAB_NEVER / 2)
        self->failed = FAB_E_LIMIT;
    else if (!fab_heap_push(&self->heap, &self->pool, (fab_timer_t){when_ps, kind << 56 | id}))
        self->failed = FAB_E_MEMORY;
}

/* ---- operations --------------------------------------------------------------------------------- */

static void start_instance(fab_flow_t *self, uint32_t instance, int64_t now_ps);

static void release(fab_flow_t *self, uint32_t instance, int64_t now_ps)
{
    const fab_op_t *op = &self->program->ops[self->program->instance_op[instance]];
    if (op->delay_ps)
        set_event(self, EVENT_START, instance, now_ps + op->delay_ps);
    else
        start_instance(self, instance, now_ps);
}

static void waited(fab_flow_t *self, uint32_t instance, int64_t now_ps)
{
    if (--self->wait[instance] == 0)
        release(self, instance, now_ps);
}

/* What waits for an instance on its rank may go on. Nothing ends within its own start, so this is no recursion. */
static void end_instance(fab_flow_t *self, uint32_t instance, int64_t now_ps)
{
    const fab_program_t *program = self->program;
    const uint32_t o = program->instance_op[instance];
    const fab_op_t *ended = &program->ops[o];
    self->end_ps[instance] = now_ps;
    self->last_end_ps = fab_max_i64(self->last_end_ps, now_ps);
    self->done++;
    for (uint32_t i = program->after_first[o]; i < program->after_first[o + 1]; i++) {
        const fab_op_t *op = &program->ops[program->after_ops[i]];
        const uint32_t position = op->set == ended->set
                                      ? instance - ended->first_instance
                                      : fab_program_position(program, op->set, fab_program_rank(program, instance));
        if (position != FAB_NONE)
            waited(self, op->first_instance + position, now_ps);
    }
    if (program->instance_next[instance] != FAB_NONE)
        waited(self, program->instance_next[instance], now_ps);
}

/* ---- activities --------------------------------------------------------------------------------- */

static fab_active_t *make_active(fab_flow_t *self, uint32_t *slot_out)
{
    if (!self->free_count) {
        const uint32_t capacity = self->slot_capacity ? 2 * self->slot_capacity : 256;
        fab_active_t **active = realloc(self->active, capacity * sizeof(fab_active_t *));
        if (active)
            self->active = active;
        uint32_t *free_slots = realloc(self->free_slots, capacity * sizeof *free_slots);
        if (free_slots)
            self->free_slots = free_slots;
        if (!active || !free_slots)
            return NULL;
        for (uint32_t s = capacity; s-- > self->slot_capacity;) {
            self->active[s] = NULL;
            self->free_slots[self->free_count++] = s;
        }
        self->slot_capacity = capacity;
    }
    fab_active_t *made = fab_pool_take(&self->pool, fab_pool_class(sizeof *made));
    if (!made)
        return NULL;
    *slot_out = self->free_slots[--self->free_count];
    self->active[*slot_out] = made;
    return made;
}

static void end_phase_at(fab_flow_t *self, fab_active_t *a, int64_t when_ps)
{
    a->when_ps = when_ps;
    set_event(self, EVENT_PHASE, a->sharer.id, when_ps);
}

void fab_flow_cost(const fab_flow_t *self, uint32_t activity, const fab_pattern_t *pattern, int64_t *latency_ps_out,
                   int64_t *work_ps_out)
{
    *latency_ps_out = pattern->latency_ps;
    *work_ps_out = pattern->work_ps;
    if (self->latency_ps && self->latency_ps[activity] >= 0)
        *latency_ps_out = self->latency_ps[activity];
    if (self->work_ps && self->work_ps[activity] >= 0)
        *work_ps_out = self->work_ps[activity];
}

static void begin_activity(fab_flow_t *self, uint32_t o, uint32_t group, int64_t now_ps)
{
    uint32_t pattern, slot;
    const int code = fab_patterns_find(&self->patterns, o, group, &pattern);
    if (code) {
        self->failed = code;
        return;
    }
    fab_active_t *a = make_active(self, &slot);
    if (!a) {
        self->failed = FAB_E_MEMORY;
        return;
    }
    *a = (fab_active_t){
        .sharer.id = slot,
        .activity = self->first_activity[o] + group,
        .op = o,
        .group = group,
        .pattern = pattern,
        .left = self->program->ops[o].count,
        .phase = FAB_PHASE_LATENCY,
    };
    int64_t latency_ps, work_ps;
    fab_flow_cost(self, a->activity, &self->patterns.patterns[pattern], &latency_ps, &work_ps);
    end_phase_at(self, a, now_ps + latency_ps);
}

/* All has been done: the ranks go on. */
static void finish(fab_flow_t *self, fab_active_t *a, int64_t now_ps)
{
    const fab_program_t *program = self->program;
    const fab_op_t *op = &program->ops[a->op];
    const uint32_t size = fab_op_activity_ranks(op), first = op->first_instance + a->group * size;
    const int64_t back_ps = self->patterns.patterns[a->pattern].back_ps;
    const uint32_t slot = a->sharer.id;
    self->activities_done++;
    self->active[slot] = NULL;
    self->free_slots[self->free_count++] = slot;
    fab_pool_give(&self->pool, a, fab_pool_class(sizeof *a));
    if (op->kind != FAB_OP_SEND) {
        for (uint32_t i = first; i < first + size; i++)
            end_instance(self, i, now_ps);
        return;
    }
    const uint32_t recv = program->match[first];
    self->delivered_ps[recv] = now_ps;
    if (self->start_ps[recv] >= 0)
        end_instance(self, recv, now_ps);
    set_event(self, EVENT_END, first, now_ps + back_ps);
}

static void begin_work(fab_flow_t *self, fab_active_t *a, int64_t now_ps)
{
    const fab_pattern_t *p = &self->patterns.patterns[a->pattern];
    int64_t latency_ps, work_ps;
    fab_flow_cost(self, a->activity, p, &latency_ps, &work_ps);
    a->phase = FAB_PHASE_WORK;
    if (!work_ps) {
        end_phase_at(self, a, now_ps);
        return;
    }
    if (!fab_share_grow(&self->share, self->patterns.paths.resource_count) ||
        !fab_share_begin(&self->share, &a->sharer, p->resource, p->busy_ps, p->load_count, work_ps, now_ps)) {
        self->failed = FAB_E_MEMORY;
        return;
    }
    end_phase_at(self, a, a->sharer.end_ps);
}

/* The phase of an activity has come to its end. */
static void phase_ended(fab_flow_t *self, fab_active_t *a, int64_t now_ps)
{
    fab_pattern_t *p = &self->patterns.patterns[a->pattern];
    const fab_op_t *op = &self->program->ops[a->op];
    int64_t latency_ps, work_ps;
    if (a->phase == FAB_PHASE_LATENCY) {
        begin_work(self, a, now_ps);
        return;
    }
    if (a->phase == FAB_PHASE_WORK) {
        if (a->sharer.uses)
            fab_share_end(&self->share, &a->sharer, now_ps);
        p->done++;
        if (--a->left == 0) {
            finish(self, a, now_ps);
            return;
        }
        if (op->delay_ps) {
            a->phase = FAB_PHASE_DELAY;
            end_phase_at(self, a, now_ps + op->delay_ps);
            return;
        }
    }
    a->phase = FAB_PHASE_LATENCY;
    fab_flow_cost(self, a->activity, p, &latency_ps, &work_ps);
    end_phase_at(self, a, now_ps + latency_ps);
}

/* ---- starting ----------------------------------------------------------------------------------- */

static void start_instance(fab_flow_t *self, uint32_t instance, int64_t now_ps)
{
    const fab_program_t *program = self->program;
    const uint32_t o = program->instance_op[instance];
    const fab_op_t *op = &program->ops[o];
    const uint32_t position = instance - op->first_instance;
    self->start_ps[instance] = now_ps;
    if (op->kind == FAB_OP_COMPUTE) {
        const int64_t more_ps = op->duration_ps + op->delay_ps, n = op->count - 1;
        if (n && more_ps > FAB_NEVER / 4 / n)
            self->failed = FAB_E_LIMIT;
        else
            set_event(self, EVENT_END, instance, now_ps + op->duration_ps + n * more_ps);
    } else if (op->kind == FAB_OP_RECV) {
        if (self->delivered_ps[instance] >= 0)
            set_event(self, EVENT_END, instance, now_ps);
    } else {
        const uint32_t group = position / fab_op_activity_ranks(op);
        if (--self->waiting[self->first_activity[o] + group] == 0)
            begin_activity(self, o, group, now_ps);
    }
}

/* ---- time --------------------------------------------------------------------------------------- */

/* Finds the rates anew before time goes on. */
static void settle(fab_flow_t *self)
{
    const int code = fab_share_settle(&self->share, self->now_ps);
    if (code)
        self->failed = code;
    for (uint32_t i = 0; i < self->share.part_count; i++) {
        fab_active_t *a = (fab_active_t *)self->share.part[i];
        if (a->when_ps != a->sharer.end_ps)
            end_phase_at(self, a, a->sharer.end_ps);
    }
}

/* A phase's event that the rates have moved. */
static bool is_stale(const fab_flow_t *self, fab_timer_t timer)
{
    if (timer.key >> 56 != EVENT_PHASE)
        return false;
    const fab_active_t *a = self->active[(uint32_t)timer.key];
    return !a || a->when_ps != timer.when_ps;
}

static void advance(fab_flow_t *self, int64_t until_ps)
{
    while (!self->failed) {
        if (fab_share_is_unsettled(&self->share) && self->heap.next_ps > self->now_ps) {
            settle(self);
            continue;
        }
        if (self->heap.next_ps >= until_ps || !self->heap.count)
            break;
        const fab_timer_t timer = fab_heap_pop(&self->heap);
        if (is_stale(self, timer))
            continue;
        const uint32_t id = (uint32_t)timer.key;
        self->now_ps = timer.when_ps;
        switch (timer.key >> 56) {
        case EVENT_PHASE: phase_ended(self, self->active[id], timer.when_ps); break;
        case EVENT_END: end_instance(self, id, timer.when_ps); break;
        default: start_instance(self, id, timer.when_ps); break;
        }
    }
    while (self->heap.count && is_stale(self, self->heap.items[0])) /* so that what is next is true */
        fab_heap_pop(&self->heap);
}

static int tell_failure(const fab_flow_t *self, fab_problems_t *problems)
{
    if (self->failed == FAB_E_LIMIT)
        fab_problems_add(problems, "the emulated time passes the limit of 2^61 ps, 26 days");
    else
        fab_problems_add(problems, "the flow ended at %" PRId64 " ps: %s", self->now_ps, fab_error_name(self->failed));
    return self->failed;
}

int fab_flow_step(fab_flow_t *self, int64_t until_ps, fab_problems_t *problems, bool *finished_out)
{
    if (!self->failed)
        advance(self, fab_min_i64(until_ps, FAB_NEVER));
    if (self->failed)
        return tell_failure(self, problems);
    self->finished = !self->heap.count;
    if (self->finished && self->done < self->program->instance_count) {
        fab_times_tell_deadlock(fab_flow_times(self), self->last_end_ps, self->done, problems);
        fab_times_tell_blocked(fab_flow_times(self), problems);
        return FAB_E_DEADLOCK;
    }
    *finished_out = self->finished;
    return FAB_OK;
}

/* ---- life --------------------------------------------------------------------------------------- */

static void check_kinds(const fab_program_t *program, fab_problems_t *problems)
{
    for (uint32_t o = 0; o < program->op_count; o++)
        if (program->ops[o].kind >= FAB_OP_OPEN) {
            fab_problems_add(problems,
                             "row %u: flow: found a storage operation (operation %" PRId64
                             "), allowed are compute, collectives, send and recv",
                             o, program->ops[o].id);
            return;
        }
}

static int copy_costs(const int64_t *given, uint32_t count, const char *name, fab_problems_t *problems, int64_t **out)
{
    if (!given)
        return FAB_OK;
    *out = malloc((count + (size_t)1) * sizeof **out);
    if (!*out)
        return FAB_E_MEMORY;
    memcpy(*out, given, count * sizeof **out);
    for (uint32_t a = 0; a < count; a++)
        if (given[a] < -1 || given[a] >= INT64_C(1) << 52) {
            fab_problems_add(problems, "costs: %s of activity %u: found %" PRId64 ", allowed -1 to 2^52 - 1", name, a,
                             given[a]);
            return FAB_E_CONFIG;
        }
    return FAB_OK;
}

static int count_activities(fab_flow_t *self, fab_problems_t *problems)
{
    const fab_program_t *program = self->program;
    uint64_t count = 0;
    self->first_activity = malloc((program->op_count + (size_t)1) * sizeof *self->first_activity);
    if (!self->first_activity)
        return FAB_E_MEMORY;
    for (uint32_t o = 0; o < program->op_count; o++) {
        self->first_activity[o] = (uint32_t)count;
        count += fab_op_activity_count(program, &program->ops[o]);
    }
    self->first_activity[program->op_count] = self->activity_count = (uint32_t)count;
    if (count >= FAB_NONE) {
        fab_problems_add(problems, "flow: found %" PRIu64 " activities, allowed %u", count, FAB_NONE - 1);
        return FAB_E_LIMIT;
    }
    self->waiting = malloc((count + (size_t)1) * sizeof *self->waiting);
    for (uint32_t o = 0; self->waiting && o < program->op_count; o++)
        for (uint32_t a = self->first_activity[o]; a < self->first_activity[o + 1]; a++)
            self->waiting[a] = fab_op_activity_ranks(&program->ops[o]);
    return self->waiting ? FAB_OK : FAB_E_MEMORY;
}

int fab_flow_new(const fab_model_t *model, const fab_program_t *program, const fab_flow_options_t *options,
                 fab_problems_t *problems, fab_flow_t **flow_out)
{
    check_kinds(program, problems);
    if (problems->count)
        return FAB_E_CONFIG;
    fab_flow_t *self = calloc(1, sizeof *self);
    if (!self)
        return FAB_E_MEMORY;
    const size_t n = program->instance_count + (size_t)1;
    self->model = model;
    self->program = program;
    fab_heap_init(&self->heap);
    self->wait = malloc(n * sizeof *self->wait);
    self->start_ps = malloc(n * sizeof *self->start_ps);
    self->end_ps = malloc(n * sizeof *self->end_ps);
    if (program->match)
        self->delivered_ps = malloc(n * sizeof *self->delivered_ps);
    int code = FAB_E_MEMORY;
    if (!self->wait || !self->start_ps || !self->end_ps || (program->match && !self->delivered_ps) ||
        !fab_share_grow(&self->share, model->net.link_count))
        goto out;
    if ((code = count_activities(self, problems)) ||
        (code = copy_costs(options->latency_ps, self->activity_count, "latency_ps", problems, &self->latency_ps)) ||
        (code = copy_costs(options->work_ps, self->activity_count, "work_ps", problems, &self->work_ps)) ||
        (code = fab_patterns_new(model, program, options->seed, &self->patterns)))
        goto out;
    memcpy(self->wait, program->instance_wait, program->instance_count * sizeof *self->wait);
    for (size_t i = 0; i < n; i++) {
        self->start_ps[i] = self->end_ps[i] = -1;
        if (self->delivered_ps)
            self->delivered_ps[i] = -1;
    }
    for (uint32_t i = 0; i < program->instance_count; i++)
        if (!program->instance_wait[i])
            release(self, i, 0);
    if ((code = self->failed)) {
        tell_failure(self, problems);
        goto out;
    }
    *flow_out = self;
    return FAB_OK;
out:
    fab_flow_free(self);
    return code;
}

void fab_flow_free(fab_flow_t *self)
{
    if (!self)
        return;
    fab_patterns_free(&self->patterns);
    fab_share_free(&self->share);
    fab_pool_free(&self->pool);
    free(self->first_activity);
    free(self->waiting);
    free(self->latency_ps);
    free(self->work_ps);
    free(self->wait);
    free(self->start_ps);
    free(self->end_ps);
    free(self->delivered_ps);
    free(self->active);
    free(self->free_slots);
    free(self);
}
