/* What happens to a link's queue when the fabric changes, between two phases of the sweep: circuits that go dark and light
 * up again, another rate, a pause that begins or ends without a frame.
 *
 * A change at a time comes before all that happens at it: a packet has begun if it began before. Where a port takes turns
 * (several classes, virtual lanes) its queue is not in the ring; there a link that will be dark until some time is just
 * busy until then. The cursor of an ordered link must stand just before the change. */
#ifndef FAB_LINK_CHANGE_H
#define FAB_LINK_CHANGE_H

#include "link/queue.h"

typedef enum {
    FAB_LINK_RATE, /* value: picoseconds a byte in Q16; packets not begun go at the new rate */
    FAB_LINK_DARK, /* value: when it will light up, as far as is known; may be told again while it is dark */
    FAB_LINK_LIT,
    FAB_LINK_PAUSE, /* value: bit set of data classes; as if a frame had come */
    FAB_LINK_RESUME
} fab_link_change_t;

/* The ring's part of a change of rate or light; `ordered`: the queue of the port is in the ring. */
void fab_link_change(const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t link, fab_link_change_t what,
                     int64_t value, bool ordered, int64_t now_ps);

/* How long a packet whose first bit comes in now was on the wire. */
FAB_INLINE int64_t fab_link_taken_ps(const fab_fabric_t *fabric, uint32_t l, uint32_t bytes, int64_t now_ps)
{
    const fab_link_t *link = &fabric->links[l];
    const fab_link_fault_t *fault = fabric->faults ? &fabric->faults[l] : NULL;
    if (FAB_UNLIKELY(fault != NULL) && fault->rate_before_q16 &&
        now_ps - fab_link_delay_ps(link) < fault->rate_since_ps)
        return fab_wire_ps(bytes, fault->rate_before_q16);
    return fab_link_wire_ps(link, bytes);
}

#endif
