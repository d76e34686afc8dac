/* How long bytes take at a rate in Mb/s, and on a target whose rate changes on the way: rounded up to a picosecond. */
#ifndef FAB_STORE_RATE_H
#define FAB_STORE_RATE_H

#include "store/store.h"

enum { FAB_RATE_WHOLE_PPM = 1000000 };

/* A rate of 0 is none: no time. */
FAB_INLINE int64_t fab_rate_ps(int64_t bytes, int64_t mbps)
{
    if (mbps == 0)
        return 0;
    if (FAB_LIKELY(bytes < INT64_C(1) << 40)) /* a division of 64 bits is an instruction, one of 128 a call */
        return (bytes * 8000000 + mbps - 1) / mbps;
    return (int64_t)(((unsigned __int128)bytes * 8000000 + (uint64_t)mbps - 1) / (uint64_t)mbps);
}

/* The end of work that would take work_ps on a target that is whole. *step counts the changes up to start_ps, which
 * never goes back. The share of each stretch is summed exactly, in ps times ppm. */
static inline int64_t fab_rate_end(const fab_target_slow_t *slow, int64_t *step, int64_t start_ps, int64_t work_ps)
{
    if (FAB_LIKELY(slow->count == 0))
        return start_ps + work_ps;
    const fab_store_slow_t *steps = slow->steps;
    while (*step < slow->count && steps[*step].when_ps <= start_ps)
        ++*step;
    unsigned __int128 left = (unsigned __int128)work_ps * FAB_RATE_WHOLE_PPM;
    int64_t at_ps = start_ps;
    for (int64_t i = *step;; i++) {
        const uint32_t factor = i ? steps[i - 1].factor_ppm : FAB_RATE_WHOLE_PPM;
        const bool last = i == slow->count;
        const unsigned __int128 room = last ? left : (unsigned __int128)(steps[i].when_ps - at_ps) * factor;
        if (left <= room) {
            const unsigned __int128 rest = (left + factor - 1) / factor;
            return rest < FAB_NEVER / 2 ? at_ps + (int64_t)rest : FAB_NEVER;
        }
        left -= room;
        at_ps = steps[i].when_ps;
    }
}

#endif
