/* Virtual lanes, and whose turn it is among them: InfiniBand's VL arbitration (InfiniBand Architecture Specification vol. 1,
 * ch. 7.6.9): two lists of lanes, each in weighted round robin, the high list before the low one up to a limit of bytes. */
#ifndef FAB_CORE_LANES_H
#define FAB_CORE_LANES_H

#include "core/classes.h"

enum { FAB_LANES_MAX = FAB_DATA_CLASSES_MAX, FAB_LANE_WEIGHT_SHIFT = 6 };

typedef struct {
    uint32_t count;
    uint32_t high;                 /* bit set of the lanes of the high list; the others are of the low one */
    int32_t weight[FAB_LANES_MAX]; /* in 64 bytes */
    int64_t high_limit_bytes;      /* of the high list before the low one gets a chance; FAB_NEVER: never */
} fab_lanes_t;

/* The state of a port's turns. */
typedef struct {
    int64_t high_bytes; /* of the high list since the low one had a chance */
    int32_t left[2];    /* weight that the lane at its turn has left, low and high list */
    uint8_t at[2];      /* that lane */
} fab_lane_turns_t;

/* Lanes are asked for packets from this one on, by number and going round, if there is no high list. */
FAB_INLINE uint32_t fab_lanes_first(const fab_lane_turns_t *self)
{
    return (self->at[0] + (self->left[0] <= 0)) % FAB_LANES_MAX;
}

/* The lane gets its list's turn, if it has it not, and pays for a packet. */
FAB_INLINE void fab_lanes_charge(const fab_lanes_t *lanes, fab_lane_turns_t *self, uint32_t list, uint32_t lane,
                                 uint32_t bytes)
{
    const bool goes_on = self->at[list] == lane && self->left[list] > 0;
    const int32_t left = goes_on ? self->left[list] : lanes->weight[lane];
    self->at[list] = (uint8_t)lane;
    self->left[list] = left - (int32_t)((bytes + (1 << FAB_LANE_WEIGHT_SHIFT) - 1) >> FAB_LANE_WEIGHT_SHIFT);
}

/* The lane that sends next, of those in the bit set `ready`, which is not empty. head_bytes is the size of the first
 * packet of each. */
static inline uint32_t fab_lanes_pick(const fab_lanes_t *lanes, fab_lane_turns_t *self, uint32_t ready,
                                      const uint16_t *head_bytes)
{
    const uint32_t high = ready & lanes->high, low = ready & ~lanes->high;
    const bool exhausted = self->high_bytes >= lanes->high_limit_bytes;
    const bool from_high = high && (!exhausted || !low);
    if (!from_high || exhausted)
        self->high_bytes = 0;
    const uint32_t list = from_high ? high : low;
    uint32_t lane = self->at[from_high];
    if (!(list >> lane & 1) || self->left[from_high] <= 0) {
        do
            lane = (lane + 1) % FAB_LANES_MAX;
        while (!(list >> lane & 1));
    }
    fab_lanes_charge(lanes, self, from_high, lane, head_bytes[lane]);
    if (from_high)
        self->high_bytes += head_bytes[lane];
    return lane;
}

#endif
