/* A flow's identity as switches see it: what a UDP source port carries. */
#ifndef FAB_TRANSPORT_FLOW_H
#define FAB_TRANSPORT_FLOW_H

#include "core/keyed.h"

/* The hash of a connection's identity. Channels are flows of their own; `which` tells apart the uses of one. */
FAB_INLINE uint64_t fab_flow_draw(uint64_t seed, uint32_t src, uint32_t dst, int32_t lane, uint32_t channel,
                                  uint32_t which)
{
    return fab_keyed_draw(seed, FAB_KEY_ENTROPY, (uint64_t)src << 48 | (uint64_t)dst << 32 | (uint32_t)lane,
                          which | channel << 8);
}

/* The draws of each queue pair of a connection: what its data and its answers go by. */
enum { FAB_FLOW_DATA = 0, FAB_FLOW_ANSWERS = 1, FAB_FLOW_DRAWS = 2 };

#endif
