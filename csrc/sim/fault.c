/* Carries out the changes of a time: links go down and up, slower, dark and lit; routes are made anew. */
#include "sim/fault.h"

#include <stdlib.h>
#include <string.h>

#include "sim/run.h"

/* ---- the next one -------------------------------------------------------------------------------- */

static bool is_before(fab_turn_t a, fab_turn_t b)
{
    return a.when_ps != b.when_ps ? a.when_ps < b.when_ps : a.row < b.row;
}

static void sift_down(fab_faults_t *self, uint32_t at)
{
    const fab_turn_t turn = self->turns[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= self->turn_count)
            break;
        if (child + 1 < self->turn_count && is_before(self->turns[child + 1], self->turns[child]))
            child++;
        if (!is_before(self->turns[child], turn))
            break;
        self->turns[at] = self->turns[child];
        at = child;
    }
    self->turns[at] = turn;
}

void fab_faults_order_turns(fab_faults_t *self)
{
    for (uint32_t i = self->turn_count / 2; i-- > 0;)
        sift_down(self, i);
}

int64_t fab_faults_next_ps(const fab_faults_t *self)
{
    const int64_t event_ps = self->next < self->count ? self->events[self->next].when_ps : FAB_NEVER;
    return fab_min_i64(event_ps, self->turn_count ? self->turns[0].when_ps : FAB_NEVER);
}

bool fab_faults_may_help(fab_faults_t *self)
{
    const int64_t next_ps = fab_faults_next_ps(self);
    if (next_ps >= FAB_NEVER)
        return false;
    if (self->stalled_ps < 0)
        self->stalled_ps = next_ps;
    return self->next < self->count || next_ps - self->stalled_ps <= self->longest_ps;
}

/* ---- one link ------------------------------------------------------------------------------------ */

static void tell_sender(fab_run_t *run, uint32_t l, fab_link_change_t what, int64_t value, int64_t now_ps)
{
    const fab_net_t *net = &run->model->net;
    const uint32_t slot = net->tx_slot[l], w = net->link_network[l];
    fab_worker_t *worker = &run->workers[0];
    if (net->nodes[slot].is_switch && run->model->networks[w].switch_ops->change)
        run->model->networks[w].switch_ops->change(&run->switches[w], &run->fabric, worker, l, what, value, now_ps);
    else if (!net->nodes[slot].is_switch && run->hosts.ops[w]->change)
        run->hosts.ops[w]->change(run->hosts.state[w], worker, slot, what, value, now_ps);
    else if (what != FAB_LINK_PAUSE && what != FAB_LINK_RESUME)
        fab_link_change(&run->fabric, worker, l, what, value, false, now_ps);
}

/* The wire is dead: what is on it, and what its sender goes on sending, is lost. A pause would never end. */
static void take_down(fab_run_t *run, uint32_t l, int64_t now_ps)
{
    fab_link_fault_t *fault = &run->fabric.faults[l];
    fault->live_ps = FAB_NEVER;
    fault->down_since_ps = now_ps;
    if (run->model->networks[run->model->net.link_network[l]].switch_config.link.pause)
        tell_sender(run, l, FAB_LINK_RESUME, (1 << FAB_DATA_CLASSES_MAX) - 1, now_ps);
}

/* The link is back: what left before is lost. The receiver tells again what it has paused. */
static void bring_up(fab_run_t *run, uint32_t l, int64_t now_ps)
{
    const fab_net_t *net = &run->model->net;
    const uint32_t w = net->link_network[l];
    fab_link_fault_t *fault = &run->fabric.faults[l];
    fault->live_ps = now_ps;
    fault->down_ps += now_ps - fault->down_since_ps;
    const fab_switch_ops_t *ops = run->model->networks[w].switch_ops;
    if (!run->model->networks[w].switch_config.link.pause || !ops->pauses || !net->nodes[net->rx_slot[l]].is_switch)
        return;
    const uint32_t classes = ops->pauses(&run->switches[w], &run->fabric, l);
    if (classes)
        tell_sender(run, l, FAB_LINK_PAUSE, classes, now_ps);
}

static void set_errors(fab_run_t *run, uint32_t l, int64_t wrong_in_1e18)
{
    run->fabric.faults[l].bad_bit_q64 =
        (uint64_t)(((unsigned __int128)wrong_in_1e18 << 64) / UINT64_C(1000000000000000000));
}

static void set_rate(fab_run_t *run, uint32_t l, int64_t rate_mbps, int64_t now_ps)
{
    const uint32_t q16 = fab_wire_ps_per_byte_q16(rate_mbps ? rate_mbps : run->model->net.rate_mbps[l]);
    if (q16 != run->fabric.links[l].ps_per_byte_q16)
        tell_sender(run, l, FAB_LINK_RATE, q16, now_ps);
}

/* ---- one cable ----------------------------------------------------------------------------------- */

static fab_cable_t *cable_of(fab_run_t *run, uint32_t l)
{
    return &run->faults->cables[run->model->net.link_name[l] / 2];
}

static void for_both(fab_run_t *run, uint32_t l, void (*act)(fab_run_t *, uint32_t, int64_t), int64_t now_ps)
{
    act(run, l, now_ps);
    act(run, run->model->net.out_link[l], now_ps);
}

/* When a cable may be lit again: no earlier, as far as is known; now, if a turn of this very time will light it. */
static int64_t lit_again_ps(const fab_faults_t *self, const fab_cable_t *cable, int64_t now_ps)
{
    int64_t scheduled_ps = now_ps;
    if (cable->is_scheduled && !cable->lit) {
        scheduled_ps = FAB_NEVER;
        for (uint32_t r = cable->first_row; r < cable->end_row; r++) {
            const fab_circuit_t *row = &self->rows[r];
            const int64_t since_ps = now_ps - row->first_ps;
            const int64_t turns = since_ps <= 0 ? 0 : (since_ps + row->period_ps - 1) / row->period_ps;
            scheduled_ps = fab_min_i64(scheduled_ps, row->first_ps + turns * row->period_ps);
        }
    }
    return fab_max_i64(scheduled_ps, cable->darkened ? cable->dark_until_ps : now_ps);
}

/* Something changed that darkens or lights a cable. */
static void set_light(fab_run_t *run, fab_cable_t *cable, int64_t now_ps)
{
    const bool dark = cable->darkened || (cable->is_scheduled && !cable->lit);
    if (!dark && !cable->is_dark)
        return;
    cable->is_dark = dark;
    const int64_t until_ps = dark ? lit_again_ps(run->faults, cable, now_ps) : now_ps;
    const fab_link_change_t what = dark ? FAB_LINK_DARK : FAB_LINK_LIT;
    tell_sender(run, cable->link, what, until_ps, now_ps);
    tell_sender(run, run->model->net.out_link[cable->link], what, until_ps, now_ps);
}

static void set_dead(fab_run_t *run, uint32_t l, bool dead)
{
    fab_faults_t *self = run->faults;
    fab_cable_t *cable = cable_of(run, l);
    const uint16_t before = cable->dead;
    if (dead)
        cable->dead++;
    else
        cable->dead--;
    if ((before != 0) == (cable->dead != 0))
        return;
    self->dead_links[l] = self->dead_links[run->model->net.out_link[l]] = cable->dead != 0;
    self->stale[run->model->net.link_network[l]] = true;
}

/* ---- a time -------------------------------------------------------------------------------------- */

static void apply_event(fab_run_t *run, const fab_event_t *event, bool *cut_out)
{
    const int64_t now_ps = event->when_ps;
    fab_cable_t *cable = cable_of(run, event->link);
    run->faults->applied += event->what < FAB_EVENT_DARK_ENDS;
    switch (event->what) {
    case FAB_CHANGE_DOWN:
        if (cable->down++ == 0) {
            for_both(run, event->link, take_down, now_ps);
            *cut_out = true;
        }
        break;
    case FAB_CHANGE_UP:
        if (--cable->down == 0)
            for_both(run, event->link, bring_up, now_ps);
        break;
    case FAB_CHANGE_RATE: set_rate(run, event->link, event->value, now_ps); break;
    case FAB_CHANGE_ERRORS: set_errors(run, event->link, event->value); break;
    case FAB_CHANGE_DARK:
        cable->darkened++;
        cable->dark_until_ps = fab_max_i64(cable->dark_until_ps, event->value);
        set_light(run, cable, now_ps);
        break;
    case FAB_EVENT_DARK_ENDS:
        cable->darkened--;
        set_light(run, cable, now_ps);
        break;
    default: set_dead(run, event->link, event->what == FAB_EVENT_ROUTES_DOWN); break;
    }
}

/* The next turn of the schedule. */
static void take_turn(fab_run_t *run)
{
    fab_faults_t *self = run->faults;
    fab_turn_t *turn = &self->turns[0];
    const fab_circuit_t *row = &self->rows[turn->row];
    fab_cable_t *cable = &self->cables[row->cable];
    const int64_t now_ps = turn->when_ps;
    if (turn->lights)
        cable->lit++;
    else
        cable->lit--;
    set_light(run, cable, now_ps);
    const int64_t guard_ps = fab_faults_guard_ps(run->model, self, cable->link);
    if (row->up_ps >= row->period_ps) { /* never dark again */
        *turn = self->turns[--self->turn_count];
    } else {
        turn->when_ps += turn->lights ? row->up_ps - guard_ps : row->period_ps - row->up_ps + guard_ps;
        turn->lights = !turn->lights;
    }
    if (self->turn_count)
        sift_down(self, 0);
}

/* The routes of a network without its dead links. Where the shortest ways that are left could make a loop of credits,
 * ways that go up and then down take over. */
static int reroute(const fab_model_t *model, uint32_t network, const uint8_t *dead_links, fab_problems_t *problems,
                   fab_route_t *route_out)
{
    const fab_network_t *made = &model->networks[network];
    const int code = fab_route_compile(&model->net, network, &made->route_config, dead_links, problems, route_out);
    if (code || !made->switch_config.link.credit)
        return code;
    fab_problems_t loops;
    fab_problems_clear(&loops);
    const int loop =
        fab_route_check_loops(&model->net, network, route_out, (uint32_t)made->switch_config.data_class_count, &loops);
    if (!loop)
        return FAB_OK;
    fab_route_free(route_out);
    if (loop == FAB_E_MEMORY)
        return loop;
    const fab_route_config_t config = {.ops = &fab_route_updown, .hash_seed = made->route_config.hash_seed};
    return fab_route_compile(&model->net, network, &config, dead_links, problems, route_out);
}

static int heal(fab_run_t *run, fab_problems_t *problems)
{
    fab_faults_t *self = run->faults;
    const fab_model_t *model = run->model;
    for (uint32_t w = 0; w < model->net.network_count; w++) {
        if (!self->stale[w])
            continue;
        self->stale[w] = false;
        fab_route_t route;
        const int code = reroute(model, w, self->dead_links, problems, &route);
        if (code)
            return code;
        if (self->healing[w])
            fab_route_free(&self->routes[w]);
        self->healing[w] = true;
        self->routes[w] = route;
        run->switches[w].route = &self->routes[w];
        self->heals++;
    }
    return FAB_OK;
}

int fab_faults_apply(fab_run_t *run, int64_t now_ps)
{
    fab_faults_t *self = run->faults;
    bool cut = false;
    while (self->next < self->count && self->events[self->next].when_ps <= now_ps)
        apply_event(run, &self->events[self->next++], &cut);
    while (self->turn_count && self->turns[0].when_ps <= now_ps)
        take_turn(run);
    fab_problems_clear(&self->problems);
    const int code = heal(run, &self->problems);
    return code || !cut ? code : fab_faults_check_reach(run, now_ps, &self->problems);
}

void fab_faults_begin(fab_run_t *run)
{
    fab_faults_t *self = run->faults;
    for (uint32_t c = 0; c < run->model->net.link_count / 2; c++)
        if (self->cables[c].is_scheduled)
            set_light(run, &self->cables[c], 0);
}

void fab_faults_end(fab_run_t *run, int64_t now_ps)
{
    fab_faults_t *self = run->faults;
    self->next = self->count;
    self->turn_count = 0;
    for (uint32_t c = 0; c < run->model->net.link_count / 2; c++) {
        fab_cable_t *cable = &self->cables[c];
        cable->darkened = 0;
        cable->is_scheduled = false;
        set_light(run, cable, now_ps);
    }
}
