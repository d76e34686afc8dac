/* Holding back, letting go and re-timing what lies in a link's ring and has not begun. */
#include "link/change.h"

/* The first entry that begins at now or later. Looked for from the head, since not every link has a cursor. */
static uint32_t first_not_begun(const fab_fabric_t *fabric, uint32_t l, int64_t now_ps)
{
    const fab_link_t *link = &fabric->links[l];
    int64_t arrival_ps = fabric->heads[l];
    for (uint32_t i = link->head; i != link->visible; i++) {
        const fab_packet_t *entry = &link->ring[i & link->mask];
        if (i != link->head)
            arrival_ps += entry->delta_ps;
        const int64_t bit_ps = arrival_ps - fab_link_delay_ps(link);
        if ((fab_link_cuts_through(link) ? bit_ps : bit_ps - fab_link_wire_ps(link, entry->bytes)) >= now_ps)
            return i;
    }
    return link->visible;
}

/* Makes the differences and the sum of what is parked right. The first one's difference is found when it is shown. */
static void put_in_line(fab_link_t *link, fab_port_t *port)
{
    port->parked_ps = 0;
    for (uint32_t i = link->visible; i != link->tail; i++) {
        fab_packet_t *entry = &link->ring[i & link->mask];
        const uint32_t before = link->ring[(i - 1) & link->mask].bytes;
        entry->delta_ps = (uint32_t)fab_link_wire_ps(link, fab_link_cuts_through(link) ? before : entry->bytes);
        port->parked_ps += fab_link_wire_ps(link, entry->bytes);
    }
}

/* Parks the visible entries from `first` on. */
static void hide(const fab_fabric_t *fabric, uint32_t l, uint32_t first)
{
    fab_link_t *link = &fabric->links[l];
    for (uint32_t i = first; i != link->visible; i++) {
        const fab_packet_t *entry = &link->ring[i & link->mask];
        link->busy_ps -= fab_link_wire_ps(link, entry->bytes);
        link->last_ps -= entry->delta_ps;
    }
    if (first != link->visible && link->head == first)
        fabric->heads[l] = FAB_NEVER;
    link->visible = first;
}

/* Gives the parked entries before `end` their times, one behind the other from when the link is free. */
static void show(const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t l, uint32_t end, int64_t now_ps)
{
    fab_link_t *link = &fabric->links[l];
    fab_port_t *port = &fabric->ports[l];
    while (link->visible != end) {
        const uint32_t at = link->visible;
        fab_packet_t *entry = &link->ring[at & link->mask];
        const int64_t start_ps = fab_max_i64(link->busy_ps, now_ps);
        const int64_t wire_ps = fab_link_wire_ps(link, entry->bytes);
        const int64_t arrival_ps = start_ps + fab_link_delay_ps(link) + (fab_link_cuts_through(link) ? 0 : wire_ps);
        entry->delta_ps = (uint32_t)(arrival_ps - link->last_ps);
        if (link->head == at) {
            fabric->heads[l] = arrival_ps;
            fab_link_notify(worker, fabric->net, link->rx_slot, arrival_ps);
        }
        if (port->cursor == at)
            port->cursor_ps = arrival_ps;
        link->busy_ps = start_ps + wire_ps;
        link->last_ps = arrival_ps;
        link->visible = at + 1;
    }
    put_in_line(link, port);
}

/* One past the control packets that are first in line. */
static uint32_t after_controls(const fab_link_t *link)
{
    uint32_t end = link->visible;
    while (end != link->tail && link->ring[end & link->mask].psn_flags & FAB_FLAG_CONTROL)
        end++;
    return end;
}

void fab_queue_park_before(fab_link_t *link, fab_port_t *port, fab_packet_t packet)
{
    uint32_t at = link->visible;
    const bool frame = fab_packet_kind(packet) >= FAB_PAUSE;
    for (; at != link->tail; at++) {
        const fab_packet_t entry = link->ring[at & link->mask];
        if (!(entry.psn_flags & FAB_FLAG_CONTROL) || (frame && fab_packet_kind(entry) < FAB_PAUSE))
            break;
    }
    fab_queue_open_up(link, port, at);
    fab_queue_write(link, port, at, packet, FAB_FROM_NOWHERE);
    link->bytes += packet.bytes;
    put_in_line(link, port);
}

/* A rate ends. Packets that were sent at earlier ones may still be on their way. */
static void remember_rate(const fab_link_t *link, fab_link_fault_t *fault, int64_t now_ps)
{
    const uint32_t before_q16 = fault->rate_before_q16, q16 = link->ps_per_byte_q16;
    const int64_t flight_ps = fab_link_delay_ps(link) + fab_wire_ps(UINT16_MAX, before_q16 > q16 ? before_q16 : q16);
    const bool both = before_q16 && now_ps - fault->rate_since_ps <= flight_ps;
    fault->rate_before_q16 = both && before_q16 < q16 ? before_q16 : q16;
    fault->rate_since_ps = now_ps;
}

/* The rate changes: what is in line is taken back and given new times. */
static void set_rate(const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t l, uint32_t ps_per_byte_q16,
                     int64_t now_ps)
{
    fab_link_t *link = &fabric->links[l];
    fab_port_t *port = &fabric->ports[l];
    fab_link_fault_t *fault = &fabric->faults[l];
    const uint32_t end = link->visible;
    const int64_t high_bytes = fab_wire_bytes(port->max_backlog_ps, link->ps_per_byte_q16);
    hide(fabric, l, first_not_begun(fabric, l, now_ps));
    int64_t ahead = 0;
    for (uint32_t i = link->visible; i != link->tail; i++)
        ahead += link->ring[i & link->mask].bytes;
    const int64_t sent = link->bytes - ahead - fault->bytes_before;
    fault->busy_before_ps += (int64_t)(((unsigned __int128)sent * link->ps_per_byte_q16) >> FAB_WIRE_SHIFT);
    fault->bytes_before += sent;
    remember_rate(link, fault, now_ps);
    link->ps_per_byte_q16 = ps_per_byte_q16;
    show(fabric, worker, l, end, now_ps);
    port->max_backlog_ps = fab_wire_ps(high_bytes, ps_per_byte_q16);
    if (link->calm_ps > port->max_backlog_ps) /* calm must not be above the high water */
        link->calm_ps = (uint32_t)port->max_backlog_ps;
}

void fab_link_change(const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t l, fab_link_change_t what,
                     int64_t value, bool ordered, int64_t now_ps)
{
    fab_link_t *link = &fabric->links[l];
    fab_port_t *port = &fabric->ports[l];
    if (what == FAB_LINK_RATE) {
        set_rate(fabric, worker, l, (uint32_t)value, now_ps);
    } else if (!ordered) {
        if (what == FAB_LINK_DARK) {
            port->stops |= FAB_STOP_DARK;
            link->busy_ps = fab_max_i64(link->busy_ps, value);
        } else if (what == FAB_LINK_LIT) {
            port->stops &= (uint8_t)~FAB_STOP_DARK;
        }
    } else if (what == FAB_LINK_DARK && !(port->stops & FAB_STOP_DARK)) {
        port->stops |= FAB_STOP_DARK;
        hide(fabric, l, first_not_begun(fabric, l, now_ps));
        put_in_line(link, port);
    } else if (what == FAB_LINK_LIT) {
        const uint32_t controls = after_controls(link);
        port->stops &= (uint8_t)~FAB_STOP_DARK;
        show(fabric, worker, l, port->stops ? controls : link->tail, now_ps);
        port->control_end = controls;
    }
}
