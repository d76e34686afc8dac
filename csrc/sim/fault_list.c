/* Compiles the changes of a run: checks them, and puts them in the order in which they are carried out. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim/fault.h"

enum { ERRORS_MOST = 100000 }; /* wrong bits in 10^9 */

static const char *const names[] = {"down", "up", "rate", "errors", "dark"};

static bool joins_switches(const fab_net_t *net, uint32_t l)
{
    return net->nodes[net->tx_slot[l]].is_switch && net->nodes[net->rx_slot[l]].is_switch;
}

int64_t fab_faults_guard_ps(const fab_model_t *model, const fab_faults_t *self, uint32_t l)
{
    const int64_t least_mbps = fab_min_i64(self->least_mbps[l], self->least_mbps[model->net.out_link[l]]);
    return fab_wire_ps(model->networks[model->net.link_network[l]].switch_config.wire_max_bytes,
                       fab_wire_ps_per_byte_q16(least_mbps));
}

static bool is_allowed(const fab_net_t *net, const fab_change_t *change, int64_t i, fab_problems_t *problems)
{
    const int32_t before = problems->count;
    if (change->what < 0 || change->what > FAB_CHANGE_DARK) {
        fab_problems_add(problems, "change %" PRId64 ": found kind %d, allowed 0 to %d", i, change->what,
                         FAB_CHANGE_DARK);
        return false;
    }
    const char *name = names[change->what];
    if (change->link < 0 || (uint32_t)change->link >= net->link_count) {
        fab_problems_add(problems, "change %" PRId64 " (%s): found link %d, allowed 0 to %u", i, name, change->link,
                         net->link_count - 1);
        return false;
    }
    const uint32_t l = net->link_of[change->link];
    int64_t least = 0, most = 0;
    if (change->what == FAB_CHANGE_RATE) {
        least = change->value ? FAB_RATE_MIN_MBPS : 0;
        most = net->rate_mbps[l];
    } else if (change->what == FAB_CHANGE_ERRORS) {
        most = ERRORS_MOST * INT64_C(1000000000);
    } else if (change->what == FAB_CHANGE_DARK) {
        least = 1;
        most = FAB_NEVER / 4;
        if (!joins_switches(net, l))
            fab_problems_add(problems, "change %" PRId64 " (dark): link %d does not join two switches", i,
                             change->link);
    }
    if (change->value < least || change->value > most)
        fab_problems_add(problems, "change %" PRId64 " (%s): found value %" PRId64 ", allowed %" PRId64 " to %" PRId64,
                         i, name, change->value, least, most);
    if (change->when_ps < 0 || change->when_ps > FAB_NEVER / 4)
        fab_problems_add(problems, "change %" PRId64 " (%s): found time %" PRId64 ", allowed 0 to %" PRId64, i, name,
                         change->when_ps, FAB_NEVER / 4);
    return problems->count == before;
}

static int compare_events(const void *a, const void *b)
{
    const fab_event_t *x = a, *y = b;
    if (x->when_ps != y->when_ps)
        return x->when_ps < y->when_ps ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static void add_event(fab_faults_t *self, int64_t when_ps, uint64_t order, int32_t what, uint32_t l, int64_t value)
{
    self->events[self->count++] = (fab_event_t){when_ps, order, what, l, value};
}

/* The list with what follows from it: ends of darkness, and when routes know. Of one time these come last. */
static int compile_list(fab_faults_t *self, const fab_model_t *model, const fab_changes_t *changes,
                        fab_problems_t *problems)
{
    const fab_net_t *net = &model->net;
    const uint64_t later = UINT64_C(1) << 40;
    self->events = malloc(((size_t)changes->change_count * 2 + 1) * sizeof *self->events);
    if (!self->events)
        return FAB_E_MEMORY;
    for (int64_t i = 0; i < changes->change_count; i++) {
        const fab_change_t *change = &changes->changes[i];
        if (!is_allowed(net, change, i, problems) || change->what != FAB_CHANGE_RATE || !change->value)
            continue;
        int64_t *least_mbps = &self->least_mbps[net->link_of[change->link]];
        *least_mbps = fab_min_i64(*least_mbps, change->value);
    }
    if (problems->count)
        return FAB_E_CONFIG;
    for (int64_t i = 0; i < changes->change_count; i++) {
        const fab_change_t *change = &changes->changes[i];
        const uint32_t l = net->link_of[change->link];
        const uint64_t order = (uint64_t)i;
        if (change->what == FAB_CHANGE_DARK) {
            const int64_t end_ps = change->when_ps + change->value;
            const int64_t guard_ps = fab_faults_guard_ps(model, self, l);
            add_event(self, fab_max_i64(0, change->when_ps - guard_ps), order, change->what, l, end_ps);
            add_event(self, end_ps, order + later, FAB_EVENT_DARK_ENDS, l, 0);
            continue;
        }
        add_event(self, change->when_ps, order, change->what, l, change->value);
        const int64_t known_ps = change->when_ps ? change->when_ps + changes->heal_ps : 0; /* it has always been so */
        if (changes->heal_ps >= 0 && change->what <= FAB_CHANGE_UP)
            add_event(self, known_ps, order + later,
                      change->what == FAB_CHANGE_DOWN ? FAB_EVENT_ROUTES_DOWN : FAB_EVENT_ROUTES_UP, l, 0);
    }
    qsort(self->events, (size_t)self->count, sizeof *self->events, compare_events);
    return FAB_OK;
}

/* A cable must not come up more often than it went down. */
static int check_ups(fab_faults_t *self, const fab_net_t *net, fab_problems_t *problems)
{
    for (int64_t i = 0; i < self->count; i++) {
        const fab_event_t *event = &self->events[i];
        fab_cable_t *cable = &self->cables[net->link_name[event->link] / 2];
        if (event->what == FAB_CHANGE_DOWN && cable->down == UINT16_MAX)
            fab_problems_add(problems, "link %u: goes down more than %d times without coming up",
                             net->link_name[event->link], UINT16_MAX);
        else if (event->what == FAB_CHANGE_UP && !cable->down)
            fab_problems_add(problems, "link %u: comes up at %" PRId64 " ps, but is not down",
                             net->link_name[event->link], event->when_ps);
        else if (event->what == FAB_CHANGE_DOWN)
            cable->down++;
        else if (event->what == FAB_CHANGE_UP)
            cable->down--;
    }
    for (uint32_t c = 0; c < net->link_count / 2; c++)
        self->cables[c].down = 0;
    return problems->count ? FAB_E_CONFIG : FAB_OK;
}

static int compare_rows(const void *a, const void *b)
{
    const fab_circuit_t *x = a, *y = b;
    if (x->cable != y->cable)
        return x->cable < y->cable ? -1 : 1;
    return x->first_ps < y->first_ps ? -1 : x->first_ps > y->first_ps;
}

static int compile_circuits(fab_faults_t *self, const fab_model_t *model, const fab_changes_t *changes,
                            fab_problems_t *problems)
{
    const fab_net_t *net = &model->net;
    const size_t n = (size_t)changes->circuit_count;
    self->rows = malloc((n + 1) * sizeof *self->rows);
    self->turns = malloc((n + 1) * sizeof *self->turns);
    if (!self->rows || !self->turns)
        return FAB_E_MEMORY;
    for (size_t r = 0; r < n; r++) {
        const fab_circuit_t *row = &changes->circuits[r];
        self->rows[r] = *row;
        if (row->cable < 0 || row->cable >= net->link_count / 2) {
            fab_problems_add(problems, "circuit %zu: found cable %" PRId64 ", allowed 0 to %u", r, row->cable,
                             net->link_count / 2 - 1);
            continue;
        }
        const uint32_t l = net->link_of[2 * row->cable];
        if (!joins_switches(net, l))
            fab_problems_add(problems, "circuit %zu: cable %" PRId64 " does not join two switches", r, row->cable);
        if (row->first_ps < 0 || row->up_ps <= 0 || row->period_ps < row->up_ps || row->period_ps > FAB_NEVER / 4 ||
            row->first_ps > FAB_NEVER / 4)
            fab_problems_add(problems,
                             "circuit %zu: found first_ps %" PRId64 ", up_ps %" PRId64 ", period_ps %" PRId64
                             ", allowed first_ps >= 0, 0 < up_ps <= period_ps",
                             r, row->first_ps, row->up_ps, row->period_ps);
        const int64_t guard_ps = fab_faults_guard_ps(model, self, l);
        if (row->up_ps < row->period_ps && row->up_ps <= guard_ps)
            fab_problems_add(problems, "circuit %zu: up_ps is %" PRId64 ", but the largest packet takes %" PRId64 " ps",
                             r, row->up_ps, guard_ps);
    }
    if (problems->count)
        return FAB_E_CONFIG;
    qsort(self->rows, n, sizeof *self->rows, compare_rows);
    self->row_count = (uint32_t)n;
    for (uint32_t r = 0; r < n; r++) {
        const fab_circuit_t *row = &self->rows[r];
        fab_cable_t *cable = &self->cables[row->cable];
        if (!cable->is_scheduled)
            cable->first_row = r;
        cable->is_scheduled = true;
        cable->end_row = r + 1;
        self->turns[self->turn_count++] = (fab_turn_t){row->first_ps, r, true};
        self->longest_ps = fab_max_i64(self->longest_ps, row->first_ps + 2 * row->period_ps);
    }
    fab_faults_order_turns(self);
    return FAB_OK;
}

int fab_faults_new(const fab_model_t *model, const fab_changes_t *changes, fab_problems_t *problems,
                   fab_faults_t **faults_out)
{
    const fab_net_t *net = &model->net;
    const int32_t before = problems->count;
    fab_faults_t *self = calloc(1, sizeof *self);
    if (!self)
        return FAB_E_MEMORY;
    int code = FAB_E_MEMORY;
    self->stalled_ps = -1;
    self->cables = calloc((size_t)net->link_count / 2 + 1, sizeof *self->cables);
    self->dead_links = calloc((size_t)net->link_count + 1, sizeof *self->dead_links);
    self->least_mbps = malloc(((size_t)net->link_count + 1) * sizeof *self->least_mbps);
    if (!self->cables || !self->dead_links || !self->least_mbps)
        goto out;
    memcpy(self->least_mbps, net->rate_mbps, net->link_count * sizeof *self->least_mbps);
    for (uint32_t c = 0; c < net->link_count / 2; c++)
        self->cables[c].link = net->link_of[2 * c];
    code = FAB_E_CONFIG;
    if (changes->heal_ps < -1 || changes->heal_ps > FAB_NEVER / 4)
        fab_problems_add(problems, "heal_ps: found %" PRId64 ", allowed -1 (never) to %" PRId64, changes->heal_ps,
                         FAB_NEVER / 4);
    if (problems->count > before)
        goto out;
    if ((code = compile_list(self, model, changes, problems)) || (code = check_ups(self, net, problems)) ||
        (code = compile_circuits(self, model, changes, problems)))
        goto out;
    *faults_out = self;
    return FAB_OK;
out:
    fab_faults_free(self);
    return code;
}

void fab_faults_free(fab_faults_t *self)
{
    if (!self)
        return;
    for (uint32_t w = 0; w < FAB_NETWORKS_MAX; w++)
        if (self->healing[w])
            fab_route_free(&self->routes[w]);
    free(self->events);
    free(self->rows);
    free(self->turns);
    free(self->cables);
    free(self->dead_links);
    free(self->least_mbps);
    free(self);
}
