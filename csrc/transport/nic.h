/* A host's port as a transport drives it: timers, and the line of connections that may send, one packet a turn. */
#ifndef FAB_TRANSPORT_NIC_H
#define FAB_TRANSPORT_NIC_H

#include "link/queue.h"
#include "transport/transport.h"

typedef struct {
    int64_t wake_ps; /* its next turn */
    fab_heap_t timers;
    uint32_t in_link, out_link; /* a host without a port here has an in_link that brings nothing */
    /* connections that may send, by data class: lists, and a bit set of those that are not empty */
    uint32_t ready_first[FAB_DATA_CLASSES_MAX], ready_last[FAB_DATA_CLASSES_MAX];
    uint8_t ready, paused;
    fab_turns_t turns;
} fab_nic_t;

/* A connection's place in line: the first member of what a transport keeps of a sender. */
typedef struct {
    int64_t next_send_ps; /* pacing */
    uint32_t next_ready;
    bool in_line;
    uint8_t data_class;
} fab_place_t;

/* The connections of a host: the first one's place, and the size of what it is the first member of. */
typedef struct {
    void *first;
    size_t stride;
} fab_places_t;

FAB_INLINE fab_place_t *fab_place_of(fab_places_t places, uint32_t qpn)
{
    return (fab_place_t *)((char *)places.first + qpn * places.stride);
}

FAB_INLINE fab_nic_t fab_nic_of(const fab_net_t *net, uint32_t network, uint32_t host)
{
    const uint32_t in = network < net->network_count ? net->host_link[network][host] : FAB_NONE;
    return (fab_nic_t){
        .wake_ps = FAB_NEVER,
        .timers.next_ps = FAB_NEVER,
        .in_link = in == FAB_NONE ? net->link_count : in,
        .out_link = in == FAB_NONE ? FAB_NONE : net->out_link[in],
    };
}

FAB_INLINE void fab_nic_set_timer(fab_nic_t *self, fab_worker_t *worker, int64_t when_ps, uint64_t key)
{
    if (!fab_heap_push(&self->timers, &worker->pool, (fab_timer_t){when_ps, key}))
        worker->error = FAB_E_MEMORY;
}

/* Hands a packet to the link. Control packets do not wait for the NIC's turn. `ordered`: the link can be paused or
 * overtaken. */
FAB_INLINE void fab_nic_emit(const fab_nic_t *self, fab_worker_t *worker, const fab_fabric_t *fabric,
                             const fab_transport_config_t *config, const bool ordered, fab_packet_t packet,
                             int64_t now_ps)
{
    const uint32_t out = self->out_link;
    worker->packets++;
    if (!ordered) {
        fab_link_push(worker, fabric, out, &packet, 0, now_ps, false);
        return;
    }
    fab_link_t *link = &fabric->links[out];
    fab_port_t *port = &fabric->ports[out];
    fab_queue_advance(link, port, now_ps);
    if (FAB_UNLIKELY(!fab_queue_room(worker, link, port)))
        return;
    if (config->control_priority && packet.psn_flags & FAB_FLAG_CONTROL && (port->paused || link->busy_ps > now_ps))
        fab_queue_overtake(worker, fabric, out, packet, now_ps);
    else
        fab_queue_push(worker, fabric, out, link, port, &packet, 0, FAB_FROM_NOWHERE, now_ps);
}

FAB_INLINE void fab_nic_join(fab_nic_t *self, fab_places_t places, uint32_t qpn)
{
    fab_place_t *place = fab_place_of(places, qpn);
    const uint32_t c = place->data_class;
    place->next_ready = FAB_NONE;
    if (self->ready >> c & 1)
        fab_place_of(places, self->ready_last[c])->next_ready = qpn;
    else
        self->ready_first[c] = qpn;
    self->ready_last[c] = qpn;
    self->ready |= (uint8_t)(1u << c);
}

/* Takes the connection whose turn it is: round robin in its class, and among classes as in a switch. */
FAB_INLINE uint32_t fab_nic_leave(fab_nic_t *self, fab_places_t places, const fab_transport_config_t *config)
{
    const uint32_t waiting = self->ready & ~(uint32_t)self->paused;
    uint32_t c = 0;
    if (FAB_UNLIKELY(config->data_class_count > 1)) {
        /* by packets of one size: what the next ones weigh is only known when they are built */
        const uint16_t one[FAB_DATA_CLASSES_MAX] = {1, 1, 1, 1};
        c = fab_classes_pick(&self->turns, config->arbitration, config->data_class_count, waiting, one, 1);
    }
    const uint32_t qpn = self->ready_first[c];
    self->ready_first[c] = fab_place_of(places, qpn)->next_ready;
    if (self->ready_first[c] == FAB_NONE)
        self->ready &= (uint8_t)~(1u << c);
    return qpn;
}

/* Puts a connection that may send in line: when the link is free, or when its pacing allows if that is later, with a
 * timer of key `pace`. */
FAB_INLINE void fab_nic_get_in_line(fab_nic_t *self, fab_worker_t *worker, fab_places_t places, uint32_t qpn,
                                    uint64_t pace, int64_t free_ps)
{
    fab_place_t *place = fab_place_of(places, qpn);
    place->in_line = true;
    if (place->next_send_ps > free_ps)
        fab_nic_set_timer(self, worker, place->next_send_ps, pace);
    else
        fab_nic_join(self, places, qpn);
}

/* Whether somebody in line may go. */
FAB_INLINE bool fab_nic_waits(const fab_nic_t *self) { return self->ready & ~self->paused; }

/* Carries out a pause frame for some data classes. */
static inline void fab_nic_obey(fab_nic_t *self, fab_worker_t *worker, const fab_fabric_t *fabric, const bool ordered,
                                bool pause, uint8_t classes, int64_t now_ps)
{
    fab_link_t *link = &fabric->links[self->out_link];
    fab_port_t *port = &fabric->ports[self->out_link];
    if (pause)
        self->paused |= classes;
    else
        self->paused &= (uint8_t)~classes;
    if (ordered) { /* acknowledgements in the data class wait in the link */
        fab_queue_advance(link, port, now_ps);
        if (pause)
            fab_queue_pause(fabric, self->out_link, now_ps);
        else
            fab_queue_resume(worker, fabric, self->out_link, now_ps);
    } else if (pause) {
        port->pauses++;
        if (!port->paused)
            port->paused_since_ps = now_ps;
        port->paused = true;
    } else if (port->paused && !self->paused) {
        port->paused = false;
        port->paused_ps += now_ps - port->paused_since_ps;
    }
    if (!fab_nic_waits(self))
        self->wake_ps = FAB_NEVER;
    else if (self->wake_ps == FAB_NEVER)
        self->wake_ps = fab_max_i64(now_ps, link->busy_ps);
}

/* Carries out a change of the link, between phases. */
static inline void fab_nic_change(fab_nic_t *self, fab_worker_t *worker, const fab_fabric_t *fabric, const bool ordered,
                                  fab_link_change_t what, int64_t value, int64_t now_ps)
{
    fab_link_t *link = &fabric->links[self->out_link];
    fab_port_t *port = &fabric->ports[self->out_link];
    if (what == FAB_LINK_PAUSE || what == FAB_LINK_RESUME) {
        fab_nic_obey(self, worker, fabric, ordered, what == FAB_LINK_PAUSE, (uint8_t)value, now_ps);
        port->pauses -= what == FAB_LINK_PAUSE; /* no frame came */
        return;
    }
    const int64_t before_ps = link->busy_ps;
    if (ordered)
        fab_queue_advance(link, port, now_ps - 1);
    fab_link_change(fabric, worker, self->out_link, what, value, ordered, now_ps);
    if (self->wake_ps == before_ps)
        self->wake_ps = fab_max_i64(now_ps, link->busy_ps);
}

#endif
