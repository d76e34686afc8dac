/* What a flow tells: as a run does, and what its activities cost and load. */
#include <stdlib.h>
#include <string.h>

#include "core/digest.h"
#include "flow/flow.h"

int64_t fab_program_activities(const fab_program_t *self, int64_t *op_out, int32_t *group_out, int64_t limit)
{
    int64_t n = 0;
    for (uint32_t o = 0; o < self->op_count; o++)
        n += fab_op_activity_count(self, &self->ops[o]);
    if (limit < n)
        return n;
    int64_t at = 0;
    for (uint32_t o = 0; o < self->op_count; o++) {
        const uint32_t groups = fab_op_activity_count(self, &self->ops[o]);
        for (uint32_t g = 0; g < groups; g++, at++) {
            op_out[at] = o;
            group_out[at] = (int32_t)g;
        }
    }
    return n;
}

/* ---- links -------------------------------------------------------------------------------------- */

/* Adds what a pattern put on resources, so many times. */
static void add_busy(double *busy_ps, const fab_pattern_t *pattern, double times)
{
    for (uint32_t i = 0; times > 0 && i < pattern->load_count; i++)
        busy_ps[pattern->resource[i]] += pattern->busy_ps[i] * times;
}

/* How long each resource was busy, [resource_count]; NULL without memory. */
static double *find_busy(const fab_flow_t *self)
{
    const fab_patterns_t *patterns = &self->patterns;
    double *busy_ps = calloc(patterns->paths.resource_count + (size_t)1, sizeof *busy_ps);
    if (!busy_ps)
        return NULL;
    for (uint32_t p = 0; p < patterns->pattern_count; p++)
        add_busy(busy_ps, &patterns->patterns[p], (double)patterns->patterns[p].done);
    for (uint32_t s = 0; s < self->slot_capacity; s++) {
        const fab_active_t *a = self->active[s];
        if (!a || !a->sharer.uses)
            continue;
        const fab_pattern_t *pattern = &patterns->patterns[a->pattern];
        int64_t latency_ps, work_ps;
        fab_flow_cost(self, a->activity, pattern, &latency_ps, &work_ps);
        const double left_ps = fab_share_remaining_ps(&a->sharer, self->now_ps);
        add_busy(busy_ps, pattern, ((double)work_ps - left_ps) / (double)work_ps);
    }
    return busy_ps;
}

void fab_flow_links(const fab_flow_t *self, fab_link_stats_t *stats_out)
{
    const fab_net_t *net = &self->model->net;
    const fab_paths_t *paths = &self->patterns.paths;
    memset(stats_out, 0, net->link_count * sizeof *stats_out);
    double *busy_ps = find_busy(self);
    if (!busy_ps)
        return;
    for (uint32_t s = net->link_count; s < paths->resource_count; s++) {
        const fab_stage_t *stage = &paths->stages[s - net->link_count];
        const double bytes = busy_ps[s] / paths->ps_per_byte[s] / stage->count;
        for (uint32_t i = 0; i < stage->count; i++) {
            const uint32_t l = paths->members[stage->first + i];
            busy_ps[l] += bytes * paths->ps_per_byte[l];
        }
    }
    for (uint32_t name = 0; name < net->link_count; name++) {
        const uint32_t l = net->link_of[name];
        stats_out[name].busy_ps = (int64_t)(busy_ps[l] + 0.5);
        stats_out[name].bytes = (int64_t)(busy_ps[l] / paths->ps_per_byte[l] + 0.5);
    }
    free(busy_ps);
}

/* ---- totals ------------------------------------------------------------------------------------- */

void fab_flow_counters(const fab_flow_t *self, fab_counters_t *counters_out)
{
    double messages = 0;
    for (uint32_t p = 0; p < self->patterns.pattern_count; p++)
        messages += self->patterns.patterns[p].messages * (double)self->patterns.patterns[p].done;
    int64_t now_ps, done;
    fab_flow_progress(self, &now_ps, &done);
    const int64_t instance_bytes = self->delivered_ps ? 28 : 20;
    *counters_out = (fab_counters_t){
        .now_ps = now_ps,
        .end_ps = self->last_end_ps,
        .messages = (int64_t)(messages + 0.5),
        .windows = self->share.fillings,
        .visits = self->activities_done,
        .done_instances = done,
        .memory_bytes = self->program->instance_count * instance_bytes +
                        (int64_t)self->activity_count * (4 + (self->latency_ps ? 8 : 0) + (self->work_ps ? 8 : 0)) +
                        self->pool.held_bytes + self->share.pool.held_bytes + self->patterns.memory_bytes +
                        (int64_t)(self->share.resource_count * sizeof *self->share.resources),
    };
}

void fab_flow_progress(const fab_flow_t *self, int64_t *now_ps_out, int64_t *done_out)
{
    *now_ps_out = self->heap.next_ps;
    *done_out = self->done;
}

uint64_t fab_flow_digest(const fab_flow_t *self)
{
    uint64_t digest = fab_times_digest(fab_flow_times(self), 0);
    const fab_net_t *net = &self->model->net;
    fab_link_stats_t *stats = malloc((net->link_count + (size_t)1) * sizeof *stats);
    if (!stats)
        return digest;
    fab_flow_links(self, stats);
    for (uint32_t name = 0; name < net->link_count; name++)
        digest = fab_digest_add(digest, (uint64_t)stats[name].bytes);
    free(stats);
    return digest;
}

void fab_flow_ops(const fab_flow_t *self, int64_t *op_out, int32_t *rank_out, int64_t *start_ps_out,
                  int64_t *end_ps_out)
{
    fab_times_ops(fab_flow_times(self), op_out, rank_out, start_ps_out, end_ps_out);
}

void fab_flow_sends(const fab_flow_t *self, int64_t *op_out, int32_t *src_out, int32_t *dst_out, int64_t *bytes_out,
                    int64_t *start_ps_out, int64_t *end_ps_out, int64_t *delivered_ps_out)
{
    fab_times_sends(fab_flow_times(self), op_out, src_out, dst_out, bytes_out, start_ps_out, end_ps_out,
                    delivered_ps_out);
}

int64_t fab_flow_blocked(const fab_flow_t *self, fab_blocked_t *blocked_out, int64_t limit)
{
    return fab_times_blocked(fab_flow_times(self), blocked_out, limit);
}

/* ---- activities --------------------------------------------------------------------------------- */

int fab_flow_costs(fab_flow_t *self, fab_problems_t *problems, int64_t *latency_ps_out, int64_t *work_ps_out)
{
    for (uint32_t o = 0; o < self->program->op_count; o++) {
        for (uint32_t a = self->first_activity[o]; a < self->first_activity[o + 1]; a++) {
            uint32_t pattern;
            const int code = fab_patterns_find(&self->patterns, o, a - self->first_activity[o], &pattern);
            if (code) {
                fab_problems_add(problems, "row %u: its costs: %s", o, fab_error_name(code));
                return code;
            }
            fab_flow_cost(self, a, &self->patterns.patterns[pattern], &latency_ps_out[a], &work_ps_out[a]);
        }
    }
    return FAB_OK;
}

typedef struct {
    const fab_net_t *net;
    double *bytes, *packets;
} loads_t;

static void add_load(void *context, uint32_t link, double bytes, double packets)
{
    const loads_t *loads = context;
    const uint32_t name = loads->net->link_name[link];
    loads->bytes[name] += bytes;
    loads->packets[name] += packets;
}

int fab_flow_loads(fab_flow_t *self, int64_t activity, fab_problems_t *problems, int64_t *bytes_out,
                   int64_t *packets_out)
{
    const uint32_t links = self->model->net.link_count;
    if (activity < 0 || activity >= self->activity_count) {
        fab_problems_add(problems, "activity: found %lld, allowed 0 to %u", (long long)activity,
                         self->activity_count - 1);
        return FAB_E_CONFIG;
    }
    uint32_t o = 0, end = self->program->op_count;
    while (o + 1 < end) { /* the last row that begins at or before it */
        const uint32_t middle = (o + end) / 2;
        if (self->first_activity[middle] <= activity)
            o = middle;
        else
            end = middle;
    }
    double *both = calloc(2 * (size_t)links + 1, sizeof *both);
    int code = FAB_E_MEMORY;
    if (both) {
        loads_t loads = {&self->model->net, both, both + links};
        code = fab_patterns_loads(&self->patterns, o, (uint32_t)activity - self->first_activity[o], add_load, &loads);
    }
    for (uint32_t l = 0; !code && l < links; l++) {
        bytes_out[l] = (int64_t)(both[l] + 0.5);
        packets_out[l] = (int64_t)(both[links + l] + 0.5);
    }
    if (code)
        fab_problems_add(problems, "activity %lld: its loads: %s", (long long)activity, fab_error_name(code));
    free(both);
    return code;
}
