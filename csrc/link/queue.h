/* Links whose queue can change after packets were given their departure: pause and a control class.
 *
 * The departure of every packet is fixed when it is enqueued, so a queue needs no event of its own. Two
 * things change it afterwards, and neither needs more than a look at the first packet not yet begun:
 * - a pause hides the packets not yet begun (behind `visible`); the resume gives them their times; so does a circuit
 *   that goes dark, which stops the control packets too;
 * - a control packet (or a pause frame) goes in before the first data packet not yet begun and delays
 *   those behind it: with times kept as differences, only its neighbours change.
 * A packet whose transmission begins at `now` has begun: departures come before arrivals.
 * The cursor walks over departures, lazily, and tells a switch when a packet has left its buffer. */
#ifndef FAB_LINK_QUEUE_H
#define FAB_LINK_QUEUE_H

#include "net/link.h"

/* When the last bit of the entry at the cursor leaves; only if cursor != visible. */
FAB_INLINE int64_t fab_queue_departure_ps(const fab_link_t *link, const fab_port_t *port)
{
    const int64_t bit_ps = port->cursor_ps - fab_link_delay_ps(link);
    return fab_link_cuts_through(link) ? bit_ps + fab_link_wire_ps(link, link->ring[port->cursor & link->mask].bytes)
                                       : bit_ps;
}

/* Moves the cursor over the entry it stands on. */
FAB_INLINE void fab_queue_pass(const fab_link_t *link, fab_port_t *port)
{
    port->cursor++;
    if (port->cursor != link->visible)
        port->cursor_ps += link->ring[port->cursor & link->mask].delta_ps;
}

/* Moves the cursor over all that has left by now, without telling anybody. */
static inline void fab_queue_advance(const fab_link_t *link, fab_port_t *port, int64_t now_ps)
{
    while (port->cursor != link->visible && fab_queue_departure_ps(link, port) <= now_ps)
        fab_queue_pass(link, port);
}

/* The first entry that has not begun by now; the cursor must stand at now. */
static inline uint32_t fab_queue_first_unsent(const fab_link_t *link, const fab_port_t *port, int64_t now_ps)
{
    if (port->cursor == link->visible)
        return link->visible;
    const int64_t begin_ps =
        fab_queue_departure_ps(link, port) - fab_link_wire_ps(link, link->ring[port->cursor & link->mask].bytes);
    return begin_ps <= now_ps ? port->cursor + 1 : port->cursor;
}

/* Entry `at`, or the one behind the control packets waiting there. */
static inline uint32_t fab_queue_after_control(const fab_link_t *link, const fab_port_t *port, uint32_t at)
{
    return port->control_end - at <= link->visible - at ? port->control_end : at;
}

/* Room for one more entry; the cursor must stand at now. */
static inline bool fab_queue_room(fab_worker_t *worker, fab_link_t *link, fab_port_t *port)
{
    const uint32_t oldest = (int32_t)(port->cursor - link->head) < 0 ? port->cursor : link->head;
    return link->tail - oldest <= link->mask || fab_link_grow(worker, link, port);
}

static inline void fab_queue_write(fab_link_t *link, fab_port_t *port, uint32_t at, fab_packet_t packet, uint16_t from)
{
    link->ring[at & link->mask] = packet;
    port->from[at & link->mask] = from;
}

/* Appends a visible entry, with some flags more, that begins when the link is free. */
FAB_INLINE void fab_queue_append_visible(fab_worker_t *worker, const fab_fabric_t *fabric, uint32_t l, fab_link_t *link,
                                         fab_port_t *port, const fab_packet_t *packet, uint32_t more_flags,
                                         uint16_t from, int64_t now_ps)
{
    const int64_t start_ps = fab_max_i64(link->busy_ps, now_ps);
    const int64_t end_ps = start_ps + fab_link_wire_ps(link, packet->bytes);
    const int64_t arrival_ps = (fab_link_cuts_through(link) ? start_ps : end_ps) + fab_link_delay_ps(link);
    const uint32_t at = link->visible;
    fab_packet_t *slot = &link->ring[at & link->mask];
    *slot = *packet;
    slot->delta_ps = (uint32_t)(arrival_ps - link->last_ps);
    slot->psn_flags = packet->psn_flags | more_flags; /* not |=: that would wait for the slot */
    port->from[at & link->mask] = from;
    link->busy_ps = end_ps;
    link->last_ps = arrival_ps;
    if (link->head == at) {
        fabric->heads[l] = arrival_ps;
        fab_link_notify(worker, fabric->net, link->rx_slot, arrival_ps);
    }
    if (port->cursor == at)
        port->cursor_ps = arrival_ps;
    link->visible = at + 1;
}

FAB_INLINE void fab_queue_move(fab_link_t *link, fab_port_t *port, uint32_t to, uint32_t from)
{
    link->ring[to & link->mask] = link->ring[from & link->mask];
    port->from[to & link->mask] = port->from[from & link->mask];
}

/* Moves the entries from `at` on up by one. */
static inline void fab_queue_open_up(fab_link_t *link, fab_port_t *port, uint32_t at)
{
    for (uint32_t i = link->tail; i != at; i--)
        fab_queue_move(link, port, i, i - 1);
    link->tail++;
}

/* Opens a place before visible entry `at` by moving what is less: the entries on the wire or those in line.
 * Returns the place. The receiver is not working now, so its head may move; but not over an entry that the cursor
 * still stands on (one that cuts through can have been taken before its last bit has left). */
static inline uint32_t fab_queue_open(fab_link_t *link, fab_port_t *port, uint32_t at)
{
    if (at - link->head > link->tail - at || (int32_t)(port->cursor - link->head) < 0) {
        fab_queue_open_up(link, port, at);
        link->visible++;
        return at;
    }
    for (uint32_t i = link->head; i != at; i++)
        fab_queue_move(link, port, i - 1, i);
    link->head--;
    port->cursor--;
    port->packets_before++; /* tail does not count this one */
    return at - 1;
}

/* Appends a data packet to a paused link; the resume will give it its time. */
static FAB_NOINLINE void fab_queue_park(fab_link_t *link, fab_port_t *port, const fab_packet_t *packet,
                                        uint32_t more_flags, uint16_t from)
{
    const uint32_t before = link->ring[(link->tail - 1) & link->mask].bytes;
    const bool first = link->tail == link->visible;
    const int64_t wire_ps = fab_link_wire_ps(link, packet->bytes);
    fab_packet_t entry = *packet;
    entry.psn_flags |= more_flags;
    entry.delta_ps = (uint32_t)(fab_link_cuts_through(link) ? (first ? 0 : fab_link_wire_ps(link, before)) : wire_ps);
    port->parked_ps += wire_ps;
    fab_queue_write(link, port, link->tail, entry, from);
    link->tail++;
    link->bytes += packet->bytes;
}

/* Puts a control packet before the data that wait for a circuit. */
void fab_queue_park_before(fab_link_t *link, fab_port_t *port, fab_packet_t packet);

/* Hands a data packet to the link, paused or not. The ring must have room; the cursor may lag. */
FAB_INLINE void fab_queue_push(fab_worker_t *worker, const fab_fabric_t *fabric, uint32_t l, fab_link_t *link,
                               fab_port_t *port, const fab_packet_t *packet, uint32_t more_flags, uint16_t from,
                               int64_t now_ps)
{
    if (FAB_UNLIKELY(port->stops)) {
        fab_queue_park(link, port, packet, more_flags, from);
        return;
    }
    fab_queue_append_visible(worker, fabric, l, link, port, packet, more_flags, from, now_ps);
    link->tail++;
    link->bytes += packet->bytes;
}

/* Puts a packet before the data not yet begun: behind the control packets waiting, or, a pause frame, behind the
 * pause frames waiting. The cursor must stand at now. Works on a paused link too: a pause does not stop these. */
static inline void fab_queue_overtake(fab_worker_t *worker, const fab_fabric_t *fabric, uint32_t l, fab_packet_t packet,
                                      int64_t now_ps)
{
    fab_link_t *link = &fabric->links[l];
    fab_port_t *port = &fabric->ports[l];
    if (!fab_queue_room(worker, link, port))
        return;
    if (FAB_UNLIKELY(port->stops & FAB_STOP_DARK)) {
        fab_queue_park_before(link, port, packet);
        return;
    }
    const bool frame = fab_packet_kind(packet) >= FAB_PAUSE;
    uint32_t at = fab_queue_first_unsent(link, port, now_ps);
    const uint32_t behind_control = fab_queue_after_control(link, port, at);
    if (!frame)
        at = behind_control;
    while (at != link->visible && fab_packet_kind(link->ring[at & link->mask]) >= FAB_PAUSE)
        at++;
    const uint32_t overtaken = behind_control - at; /* control packets that a pause frame goes before */
    link->bytes += packet.bytes;
    if (at == link->visible) { /* nothing in line but what is paused */
        fab_queue_open_up(link, port, at);
        fab_queue_append_visible(worker, fabric, l, link, port, &packet, 0, FAB_FROM_NOWHERE, now_ps);
    } else {
        at = fab_queue_open(link, port, at);
        /* It begins when the packet it pushes back would have, and that one begins right behind it. */
        fab_packet_t *pushed = &link->ring[(at + 1) & link->mask];
        const int64_t mine_ps = fab_link_wire_ps(link, packet.bytes), its_ps = fab_link_wire_ps(link, pushed->bytes);
        const int64_t shift_ps = fab_link_cuts_through(link) ? 0 : mine_ps - its_ps;
        packet.delta_ps = (uint32_t)(pushed->delta_ps + shift_ps);
        pushed->delta_ps = (uint32_t)(fab_link_cuts_through(link) ? mine_ps : its_ps);
        if (link->head == at) {
            fabric->heads[l] += shift_ps;
            fab_link_notify(worker, fabric->net, link->rx_slot, fabric->heads[l]);
        }
        if (port->cursor == at)
            port->cursor_ps += shift_ps;
        link->busy_ps += mine_ps;
        link->last_ps += mine_ps;
        fab_queue_write(link, port, at, packet, FAB_FROM_NOWHERE);
    }
    port->control_end = at + 1 + (frame && (int32_t)overtaken > 0 ? overtaken : 0);
}

/* Stops what has not begun. The cursor must stand at now. */
static inline void fab_queue_pause(const fab_fabric_t *fabric, uint32_t l, int64_t now_ps)
{
    fab_link_t *link = &fabric->links[l];
    fab_port_t *port = &fabric->ports[l];
    port->pauses++;
    if (port->paused)
        return;
    port->paused = true;
    port->stops |= FAB_STOP_PAUSED;
    port->paused_since_ps = now_ps;
    if (port->stops & FAB_STOP_DARK)
        return;
    port->parked_ps = 0;
    const uint32_t first = fab_queue_after_control(link, port, fab_queue_first_unsent(link, port, now_ps));
    if (first == link->visible)
        return;
    for (uint32_t i = first; i != link->visible; i++) {
        const fab_packet_t *entry = &link->ring[i & link->mask];
        port->parked_ps += fab_link_wire_ps(link, entry->bytes);
        link->last_ps -= entry->delta_ps;
    }
    link->busy_ps -= port->parked_ps;
    if (link->head == first)
        fabric->heads[l] = FAB_NEVER;
    link->visible = first;
}

/* Lets the paused packets go, one behind the other from now on. */
static inline void fab_queue_resume(fab_worker_t *worker, const fab_fabric_t *fabric, uint32_t l, int64_t now_ps)
{
    fab_link_t *link = &fabric->links[l];
    fab_port_t *port = &fabric->ports[l];
    if (!port->paused)
        return;
    port->paused = false;
    port->stops &= (uint8_t)~FAB_STOP_PAUSED;
    port->paused_ps += now_ps - port->paused_since_ps;
    if (link->tail == link->visible || port->stops)
        return;
    const uint32_t first = link->visible;
    fab_packet_t *entry = &link->ring[first & link->mask];
    const int64_t start_ps = fab_max_i64(link->busy_ps, now_ps);
    const int64_t delay_ps = fab_link_delay_ps(link);
    const bool cut = fab_link_cuts_through(link);
    const int64_t arrival_ps = start_ps + delay_ps + (cut ? 0 : fab_link_wire_ps(link, entry->bytes));
    entry->delta_ps = (uint32_t)(arrival_ps - link->last_ps);
    if (link->head == first) {
        fabric->heads[l] = arrival_ps;
        fab_link_notify(worker, fabric->net, link->rx_slot, arrival_ps);
    }
    if (port->cursor == first)
        port->cursor_ps = arrival_ps;
    link->busy_ps = start_ps + port->parked_ps;
    const uint32_t newest = link->ring[(link->tail - 1) & link->mask].bytes;
    link->last_ps = link->busy_ps + delay_ps - (cut ? fab_link_wire_ps(link, newest) : 0);
    link->visible = link->tail;
    port->parked_ps = 0;
}

#endif
