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

#endif
