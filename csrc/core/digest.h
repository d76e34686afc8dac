/* The digest of a result: a 64-bit chain of every value in a fixed order, so that two runs can be
 * compared by one number. Not cryptographic. */
#ifndef FAB_CORE_DIGEST_H
#define FAB_CORE_DIGEST_H

#include "core/keyed.h"

FAB_INLINE uint64_t fab_digest_add(uint64_t digest, uint64_t value)
{
    return fab_keyed_mix(digest ^ value) * 0x2545F4914F6CDD1Du;
}

#endif
