/* What a run tells: counters, operations, links, digest, what is blocked, recorded arrivals. */
#include <stdlib.h>
#include <string.h>

#include "core/digest.h"
#include "link/credit.h"
#include "sim/run.h"

static int64_t link_packets(const fab_run_t *self, uint32_t l)
{
    return self->fabric.ports[l].packets_before + self->fabric.links[l].tail;
}

void fab_run_counters(const fab_run_t *self, fab_counters_t *counters_out)
{
    const fab_net_t *net = &self->model->net;
    fab_counters_t c = {.now_ps = self->now_ps, .windows = self->windows};
    for (uint32_t t = 0; t < self->thread_count; t++) {
        const fab_worker_t *w = &self->workers[t];
        c.end_ps = w->end_ps > c.end_ps ? w->end_ps : c.end_ps;
        c.packets += w->packets;
        c.packet_hops += w->hops;
        c.pfc_pauses += w->pauses;
        c.pfc_resumes += w->resumes;
        c.acks += w->acks;
        c.naks += w->naks;
        c.cnps += w->cnps;
        c.retransmits += w->retransmits;
        c.timeouts += w->timeouts;
        c.duplicates += w->duplicates;
        c.messages += w->messages;
        c.visits += w->visits;
        c.done_instances += w->done;
        c.ring_bytes_peak += w->ring_bytes;
        c.memory_bytes += w->pool.held_bytes + (int64_t)net->slot_count * 8;
    }
    for (uint32_t l = 0; l < net->link_count; l++) {
        c.drops += self->fabric.ports[l].drops;
        c.lost += self->fabric.faults ? self->fabric.faults[l].lost : 0;
        c.ecn_marks += self->fabric.ports[l].marks;
    }
    c.memory_bytes += (int64_t)net->link_count * (int64_t)(sizeof(fab_link_t) + sizeof(fab_port_t) + 8);
    if (self->fabric.credits)
        c.memory_bytes += (int64_t)net->link_count * (int64_t)sizeof *self->fabric.credits;
    for (uint32_t w = 0; w < net->network_count; w++)
        c.memory_bytes += self->switches[w].memory_bytes;
    for (uint32_t w = 0; w < self->hosts.count; w++)
        c.memory_bytes += self->hosts.ops[w]->memory_bytes(self->hosts.state[w]);
    c.memory_bytes += fab_exec_memory_bytes(self->exec);
    c.changes = self->faults ? self->faults->applied : 0;
    c.heals = self->faults ? self->faults->heals : 0;
    *counters_out = c;
}

void fab_run_progress(const fab_run_t *self, int64_t *now_ps_out, int64_t *done_out)
{
    *now_ps_out = self->now_ps;
    *done_out = 0;
    for (uint32_t t = 0; t < self->thread_count; t++)
        *done_out += self->workers[t].done;
}

uint64_t fab_run_digest(const fab_run_t *self)
{
    const fab_net_t *net = &self->model->net;
    uint64_t digest = fab_times_digest(fab_exec_times(self->exec), 0);
    for (uint32_t name = 0; name < net->link_count; name++) {
        const uint32_t l = net->link_of[name];
        const fab_port_t *port = &self->fabric.ports[l];
        digest = fab_digest_add(digest, (uint64_t)link_packets(self, l));
        digest = fab_digest_add(digest, (uint64_t)self->fabric.links[l].bytes);
        digest = fab_digest_add(digest, (uint64_t)(port->marks << 32 ^ port->drops << 16 ^ port->pauses));
        digest = fab_digest_add(digest, (uint64_t)port->paused_ps);
        if (self->fabric.faults && self->fabric.faults[l].lost)
            digest = fab_digest_add(digest, (uint64_t)self->fabric.faults[l].lost);
    }
    for (uint32_t w = 0; w < self->hosts.count; w++)
        digest = self->hosts.ops[w]->digest(self->hosts.state[w], digest);
    const fab_store_t *store = fab_exec_store(self->exec);
    return store ? fab_store_digest(store, digest) : digest;
}

void fab_run_ops(const fab_run_t *self, int64_t *op_out, int32_t *rank_out, int64_t *start_ps_out, int64_t *end_ps_out)
{
    fab_times_ops(fab_exec_times(self->exec), op_out, rank_out, start_ps_out, end_ps_out);
}

void fab_run_sends(const fab_run_t *self, int64_t *op_out, int32_t *src_out, int32_t *dst_out, int64_t *bytes_out,
                   int64_t *start_ps_out, int64_t *end_ps_out, int64_t *delivered_ps_out)
{
    fab_times_sends(fab_exec_times(self->exec), op_out, src_out, dst_out, bytes_out, start_ps_out, end_ps_out,
                    delivered_ps_out);
}

int64_t fab_run_blocked(const fab_run_t *self, fab_blocked_t *blocked_out, int64_t limit)
{
    return fab_times_blocked(fab_exec_times(self->exec), blocked_out, limit);
}

void fab_run_links(fab_run_t *self, fab_link_stats_t *stats_out)
{
    const fab_net_t *net = &self->model->net;
    int64_t until_ps = 0; /* after the end nothing counts */
    for (uint32_t t = 0; t < self->thread_count; t++)
        until_ps = fab_max_i64(until_ps, self->workers[t].end_ps);
    if (self->now_ps < FAB_NEVER)
        until_ps = self->now_ps;
    for (uint32_t name = 0; name < net->link_count; name++) {
        const uint32_t l = net->link_of[name];
        const fab_link_t *link = &self->fabric.links[l];
        const fab_port_t *port = &self->fabric.ports[l];
        const fab_link_fault_t fault = self->fabric.faults ? self->fabric.faults[l] : (fab_link_fault_t){0};
        const bool down = fault.live_ps >= FAB_NEVER;
        stats_out[name] = (fab_link_stats_t){
            .packets = link_packets(self, l),
            .bytes = link->bytes,
            .ecn_marks = port->marks,
            .drops = port->drops,
            .pauses = port->pauses,
            .paused_ps =
                port->paused_ps + (port->paused && self->now_ps < FAB_NEVER ? self->now_ps - port->paused_since_ps : 0),
            .max_queue_bytes = fab_wire_bytes(port->max_backlog_ps, link->ps_per_byte_q16),
            .busy_ps = fault.busy_before_ps +
                       (int64_t)(((unsigned __int128)(link->bytes - fault.bytes_before) * link->ps_per_byte_q16) >>
                                 FAB_WIRE_SHIFT),
            .lost = fault.lost,
            .down_ps = fault.down_ps + (down ? fab_max_i64(until_ps - fault.down_since_ps, 0) : 0),
        };
    }
}

static int compare_arrivals(const void *a, const void *b)
{
    const fab_arrival_t *x = a, *y = b;
    if (x->when_ps != y->when_ps)
        return x->when_ps < y->when_ps ? -1 : 1;
    return x->link < y->link ? -1 : x->link > y->link;
}

int64_t fab_run_arrivals(const fab_run_t *self, fab_arrival_t *arrivals_out, int64_t limit)
{
    int64_t n = 0;
    for (uint32_t t = 0; t < self->thread_count; t++)
        n += self->workers[t].arrival_count;
    if (limit < n)
        return n;
    int64_t at = 0;
    for (uint32_t t = 0; t < self->thread_count; t++) {
        memcpy(arrivals_out + at, self->workers[t].arrivals,
               (size_t)self->workers[t].arrival_count * sizeof *arrivals_out);
        at += self->workers[t].arrival_count;
    }
    qsort(arrivals_out, (size_t)n, sizeof *arrivals_out, compare_arrivals);
    return n;
}

int fab_run_check(const fab_run_t *self, fab_problems_t *problems)
{
    const fab_net_t *net = &self->model->net;
    const int32_t before = problems->count;
    if (!self->finished) {
        fab_problems_add(problems, "the run has not finished");
        return FAB_E_INTERNAL;
    }
    for (uint32_t l = 0; l < net->link_count; l++) {
        const fab_link_t *link = &self->fabric.links[l];
        const fab_port_t *port = &self->fabric.ports[l];
        if (link->head != link->tail || port->parked_ps || port->stops || port->paused)
            fab_problems_add(problems, "link %u: %u packets on it, stopped %u, paused %d", net->link_name[l],
                             link->tail - link->head, port->stops, port->paused);
    }
    for (uint32_t w = 0; w < net->network_count; w++)
        if (self->model->networks[w].switch_ops->check_end)
            self->model->networks[w].switch_ops->check_end(&self->switches[w], &self->fabric, problems);
    if (fab_exec_store(self->exec))
        fab_store_check(fab_exec_store(self->exec), problems);
    return problems->count > before ? FAB_E_INTERNAL : FAB_OK;
}
