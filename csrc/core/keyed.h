/* Keyed random draws: a draw is a hash of (seed, purpose, entity, count), so that one more flow or
 * link never shifts another's draws. The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood,
 * "Fast splittable pseudorandom number generators", OOPSLA 2014). */
#ifndef FAB_CORE_KEYED_H
#define FAB_CORE_KEYED_H

#include "core/base.h"

enum {
    FAB_KEY_ENTROPY = 1,
    FAB_KEY_MARK = 2,
    FAB_KEY_SALT = 3,
    FAB_KEY_SPRAY = 4,
    FAB_KEY_BIT_ERROR = 5,
    FAB_KEY_PLACE = 6
};

FAB_INLINE uint64_t fab_keyed_mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

FAB_INLINE uint64_t fab_keyed_draw(uint64_t seed, uint64_t purpose, uint64_t entity, uint64_t count)
{
    return fab_keyed_mix(fab_keyed_mix(fab_keyed_mix(seed ^ (purpose << 56)) ^ entity) ^ count);
}

#endif
