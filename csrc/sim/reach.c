/* Who is cut off from whom while links are down, and whether that is for good. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/run.h"

enum { PAIRS_MOST = 4096, PAIRS_TOLD = 16, LINKS_TOLD = 32 };

typedef struct {
    uint32_t a, b; /* hosts */
} pair_t;

typedef struct {
    fab_run_t *run;
    uint16_t *down;                   /* [cable] how often, at the time looked at */
    uint32_t *part[FAB_NETWORKS_MAX]; /* [slot] union-find: nodes that live links join */
    uint32_t *first;                  /* [component] the part of its first host */
    pair_t *pairs;
    uint32_t pair_count;
    uint32_t src; /* host that peers are being named for */
    const fab_members_t *group;
} reach_t;

static uint32_t find(uint32_t *part, uint32_t slot)
{
    while (part[slot] != slot) {
        part[slot] = part[part[slot]];
        slot = part[slot];
    }
    return slot;
}

static void join_live(reach_t *self)
{
    const fab_net_t *net = &self->run->model->net;
    for (uint32_t w = 0; w < net->network_count; w++)
        for (uint32_t s = 0; s < net->slot_count; s++)
            self->part[w][s] = s;
    for (uint32_t l = 0; l < net->link_count; l++) {
        if (self->down[net->link_name[l] / 2])
            continue;
        uint32_t *part = self->part[net->link_network[l]];
        part[find(part, net->rx_slot[l])] = find(part, net->tx_slot[l]);
    }
}

static bool are_joined(reach_t *self, uint32_t a, uint32_t b)
{
    const fab_net_t *net = &self->run->model->net;
    const int32_t w = fab_net_between(net, a, b);
    return w < 0 || find(self->part[w], net->slot_of[a]) == find(self->part[w], net->slot_of[b]);
}

/* Whether any two hosts that a network joins are apart. */
static bool is_split(reach_t *self)
{
    const fab_net_t *net = &self->run->model->net;
    for (uint32_t w = 0; w < net->network_count; w++) {
        for (uint32_t s = 0; s < net->slot_count; s++)
            self->first[s] = FAB_NONE;
        for (uint32_t h = 0; h < net->host_count; h++) {
            const uint32_t slot = net->slot_of[h];
            if (net->host_link[w][h] == FAB_NONE)
                continue;
            uint32_t *first = &self->first[net->component[w][slot]];
            const uint32_t part = find(self->part[w], slot);
            if (*first == FAB_NONE)
                *first = part;
            else if (*first != part)
                return true;
        }
    }
    return false;
}

static void add_pair(reach_t *self, uint32_t a, uint32_t b)
{
    if (a == b || self->pair_count == PAIRS_MOST || are_joined(self, a, b))
        return;
    const pair_t pair = a < b ? (pair_t){a, b} : (pair_t){b, a};
    for (uint32_t i = 0; i < self->pair_count; i++)
        if (self->pairs[i].a == pair.a && self->pairs[i].b == pair.b)
            return;
    self->pairs[self->pair_count++] = pair;
}

static void emit_peer(void *context, uint32_t position, uint32_t channel)
{
    reach_t *self = context;
    (void)channel;
    add_pair(self, self->src, fab_program_host_at(self->run->program, self->group, position));
}

/* The pairs with messages that have not been acknowledged. */
static void add_under_way(reach_t *self)
{
    fab_run_t *run = self->run;
    const fab_net_t *net = &run->model->net;
    for (uint32_t w = 0; w < net->network_count; w++) {
        const fab_connections_t *c = &run->program->connections[w];
        for (uint32_t h = 0; run->hosts.ops[w]->is_pending && h < net->host_count; h++)
            for (uint32_t i = c->tx_first[h]; i < c->tx_first[h + 1]; i++)
                if (run->hosts.ops[w]->is_pending(run->hosts.state[w], i))
                    add_pair(self, h, c->tx_dst[i]);
    }
}

/* Those of a collective that has not ended at every rank. */
static void add_group(reach_t *self, const fab_members_t *group)
{
    const fab_run_t *run = self->run;
    const fab_program_t *program = run->program;
    const fab_coll_ops_t *algorithm = program->variants[program->ops[group->op].variant].ops;
    const uint32_t ranks = program->sets[group->set].count;
    const fab_times_t times = fab_exec_times(run->exec);
    bool open = false;
    self->group = group;
    for (uint32_t p = 0; p < ranks; p++)
        open |= times.end_ps[group->first_instance + p] < 0;
    for (uint32_t p = 0; open && p < fab_program_positions(program, group); p++) {
        const uint32_t instance = fab_program_instance_at(program, group, p);
        if (p < ranks && times.end_ps[instance] >= 0)
            continue;
        self->src = fab_program_host_at(program, group, p);
        const fab_coll_t coll = fab_program_coll(program, instance);
        algorithm->peers(&coll, emit_peer, self);
    }
}

/* Those of operations that have not ended. */
static void add_to_come(reach_t *self)
{
    fab_run_t *run = self->run;
    const fab_program_t *program = run->program;
    const fab_times_t times = fab_exec_times(run->exec);
    for (uint32_t o = 0; o < program->op_count && self->pair_count < PAIRS_MOST; o++) {
        const fab_op_t *op = &program->ops[o];
        for (uint32_t p = 0; op->kind == FAB_OP_SEND && p < program->sets[op->set].count; p++)
            if (times.end_ps[op->first_instance + p] < 0)
                add_pair(self, program->rank_host[fab_program_rank(program, op->first_instance + p)],
                         program->rank_host[program->peers[op->peer_first + p]]);
        for (uint32_t g = 0; g < fab_program_group_count(program, op); g++)
            add_group(self, &program->groups[op->first_group + g]);
    }
}

/* Drops the pairs that some later change joins again. */
static void drop_rejoined(reach_t *self)
{
    const fab_run_t *run = self->run;
    const fab_faults_t *faults = run->faults;
    for (int64_t i = faults->next; i < faults->count && self->pair_count;) {
        const int64_t when_ps = faults->events[i].when_ps;
        bool any = false;
        for (; i < faults->count && faults->events[i].when_ps == when_ps; i++) {
            const fab_event_t *event = &faults->events[i];
            const uint32_t cable = run->model->net.link_name[event->link] / 2;
            if (event->what == FAB_CHANGE_DOWN)
                self->down[cable]++;
            else if (event->what == FAB_CHANGE_UP)
                any |= --self->down[cable] == 0;
        }
        if (!any)
            continue;
        join_live(self);
        uint32_t kept = 0;
        for (uint32_t p = 0; p < self->pair_count; p++)
            if (!are_joined(self, self->pairs[p].a, self->pairs[p].b))
                self->pairs[kept++] = self->pairs[p];
        self->pair_count = kept;
    }
}

static const char *name_host(const fab_program_t *program, uint32_t host, char *text, size_t size)
{
    if (program->host_rank[host] == FAB_NONE)
        snprintf(text, size, "the reducer on host %u", host);
    else
        snprintf(text, size, "rank %u", program->host_rank[host]);
    return text;
}

static void tell(const reach_t *self, int64_t now_ps, fab_problems_t *problems)
{
    const fab_run_t *run = self->run;
    const fab_net_t *net = &run->model->net;
    for (uint32_t i = 0; i < self->pair_count && i < PAIRS_TOLD; i++) {
        char a[40], b[40];
        fab_problems_add(
            problems, "%s and %s are cut off from each other from %" PRId64 " ps on, and have messages for each other",
            name_host(run->program, self->pairs[i].a, a, sizeof a),
            name_host(run->program, self->pairs[i].b, b, sizeof b), now_ps);
    }
    if (self->pair_count > PAIRS_TOLD)
        fab_problems_add(problems, "and %s%u pairs more", self->pair_count == PAIRS_MOST ? "at least " : "",
                         self->pair_count - PAIRS_TOLD);
    uint32_t told = 0;
    for (uint32_t c = 0; c < net->link_count / 2 && told < LINKS_TOLD; c++)
        if (run->faults->cables[c].down) {
            fab_problems_add(problems, "link %u is down", 2 * c);
            told++;
        }
}

int fab_faults_check_reach(fab_run_t *run, int64_t now_ps, fab_problems_t *problems)
{
    const fab_net_t *net = &run->model->net;
    reach_t self = {.run = run};
    int code = FAB_E_MEMORY;
    self.down = malloc(((size_t)net->link_count / 2 + 1) * sizeof *self.down);
    self.pairs = malloc(PAIRS_MOST * sizeof *self.pairs);
    self.part[0] = malloc((size_t)net->slot_count * (FAB_NETWORKS_MAX + 1) * sizeof *self.part[0]);
    if (!self.down || !self.pairs || !self.part[0])
        goto out;
    self.first = self.part[0] + (size_t)FAB_NETWORKS_MAX * net->slot_count;
    for (uint32_t w = 1; w < FAB_NETWORKS_MAX; w++)
        self.part[w] = self.part[0] + (size_t)w * net->slot_count;
    for (uint32_t c = 0; c < net->link_count / 2; c++)
        self.down[c] = run->faults->cables[c].down;
    code = FAB_OK;
    join_live(&self);
    if (!is_split(&self))
        goto out;
    add_under_way(&self);
    add_to_come(&self);
    drop_rejoined(&self);
    if (self.pair_count) {
        tell(&self, now_ps, problems);
        code = FAB_E_CUT_OFF;
    }
out:
    free(self.down);
    free(self.pairs);
    free(self.part[0]);
    return code;
}
