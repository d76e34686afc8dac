/* The shared buffer of a switch: who may use it (dynamic thresholds), and when an input must pause (PFC).
 *
 * Counts of what lies in the buffer lag behind departures, which have no events: they are brought up to
 * date when an answer depends on them. While an input is paused, departures are handled one by one in
 * their order, because one of them is the moment of the XON. */
#ifndef FAB_SWITCH_BUFFER_H
#define FAB_SWITCH_BUFFER_H

#include "link/queue.h"
#include "switch/switch.h"

int fab_buffer_check(const fab_switch_config_t *config, const fab_net_t *net, fab_problems_t *problems);
int fab_buffer_init(fab_switches_t *switches, const fab_fabric_t *fabric);
void fab_buffer_free(fab_switches_t *switches);

/* After a run: whether all that was counted in has been counted out. */
void fab_buffer_check_end(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_problems_t *problems);

/* Lossy: may the packet join output queue l? By the dynamic threshold alpha x (buffer - used). */
bool fab_buffer_admits_output(const fab_switch_config_t *config, fab_buffer_t *self, const fab_fabric_t *fabric,
                              const fab_node_t *node, uint32_t l, uint32_t bytes, int64_t backlog_ps, int64_t now_ps);

/* Lossless, not calm: sends XOFF where due; false: even the headroom is full. Slow path of the next. */
bool fab_buffer_attend_input(const fab_switch_config_t *config, fab_buffer_t *self, const fab_fabric_t *fabric,
                             fab_worker_t *worker, const fab_node_t *node, uint32_t in_port, int64_t now_ps);

/* Carries out a pause frame that came in at a port. */
void fab_buffer_obey(fab_buffer_t *self, const fab_fabric_t *fabric, fab_worker_t *worker, const fab_node_t *node,
                     uint32_t port, bool pause, int64_t now_ps);

/* Handles the departures up to and including until_ps in their order, with the XONs they cause. */
void fab_buffer_release_until(const fab_switch_config_t *config, fab_buffer_t *self, const fab_fabric_t *fabric,
                              fab_worker_t *worker, const fab_node_t *node, int64_t until_ps);

FAB_INLINE bool fab_buffer_is_paused(const fab_buffer_t *self, uint32_t port)
{
    return self->in_paused[port / 64] >> port % 64 & 1;
}

int64_t fab_buffer_next_release_ps(const fab_buffer_t *self, uint32_t port_count);

/* Keeps release_ps of a port; only while an input is paused. */
FAB_INLINE void fab_buffer_watch(fab_buffer_t *self, const fab_fabric_t *fabric, const fab_node_t *node, uint32_t port)
{
    const uint32_t l = fabric->net->out_link[node->first_link + port];
    const fab_link_t *link = &fabric->links[l];
    self->release_ps[port] =
        fabric->ports[l].cursor != link->visible ? fab_queue_departure_ps(link, &fabric->ports[l]) : FAB_NEVER;
    const int64_t *block = &self->release_ps[port / FAB_BUFFER_BLOCK * FAB_BUFFER_BLOCK];
    int64_t least_ps = block[0];
    for (uint32_t i = 1; i < FAB_BUFFER_BLOCK; i++)
        least_ps = fab_min_i64(least_ps, block[i]);
    self->block_ps[port / FAB_BUFFER_BLOCK] = least_ps;
}

/* Takes the packet at the cursor out of the counts. */
FAB_INLINE void fab_buffer_uncount(fab_buffer_t *self, const fab_link_t *link, const fab_port_t *port)
{
    const uint16_t from = port->from[port->cursor & link->mask];
    if (FAB_LIKELY(from != FAB_FROM_NOWHERE)) {
        const uint32_t bytes = link->ring[port->cursor & link->mask].bytes;
        self->in_bytes[from] -= bytes;
        self->used_bytes -= bytes;
    }
}

FAB_INLINE void fab_buffer_release_one(fab_buffer_t *self, const fab_link_t *link, fab_port_t *port)
{
    fab_buffer_uncount(self, link, port);
    fab_queue_pass(link, port);
}

/* The same for all of an idle link: everything that it could send has left. */
FAB_INLINE void fab_buffer_release_idle(fab_buffer_t *self, const fab_link_t *link, fab_port_t *port)
{
    for (; port->cursor != link->visible; port->cursor++)
        fab_buffer_uncount(self, link, port);
}

/* Brings the counts up to date with one output link. */
static inline void fab_buffer_release(fab_buffer_t *self, const fab_link_t *link, fab_port_t *port, int64_t now_ps)
{
    while (port->cursor != link->visible && fab_queue_departure_ps(link, port) <= now_ps)
        fab_buffer_release_one(self, link, port);
}

/* Counts a packet in; false: drop it, it was not counted. */
FAB_INLINE bool fab_buffer_admit_input(const fab_switch_config_t *config, fab_buffer_t *self,
                                       const fab_fabric_t *fabric, fab_worker_t *worker, const fab_node_t *node,
                                       uint32_t in_port, uint32_t bytes, int64_t now_ps)
{
    self->in_bytes[in_port] += bytes;
    self->used_bytes += bytes;
    if (FAB_LIKELY(self->in_bytes[in_port] <= self->calm_bytes))
        return true;
    if (fab_buffer_attend_input(config, self, fabric, worker, node, in_port, now_ps))
        return true;
    self->in_bytes[in_port] -= bytes;
    self->used_bytes -= bytes;
    return false;
}

#endif
