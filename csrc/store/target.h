/* What a server keeps data on: flash or disks, one implementation a file. */
#ifndef FAB_STORE_TARGET_H
#define FAB_STORE_TARGET_H

#include "core/param.h"
#include "store/params.h"

/* The state of a device; which words mean what is the implementation's. */
typedef struct {
    int64_t words[8];
    int64_t *slots; /* of the operations it has under way, if it needs them; [slot_count], owned by the server */
    uint32_t slot_count;
} fab_target_state_t;

/* How fast the target is over time: `count` steps of (from, factor in ppm); before the first it is whole. */
typedef struct {
    const void *steps; /* fab_store_slow_t */
    uint32_t count;
} fab_target_slow_t;

typedef struct {
    fab_impl_t impl;
    uint32_t (*slots)(const int64_t *values); /* how many words of slots[] it wants */
    /* An operation is handed over at now_ps, never before an earlier one: returns when it is done. `stream` tells objects
     * apart: a disk that goes on where it was does not seek. */
    int64_t (*submit)(const int64_t *values, fab_target_state_t *state, const fab_target_slow_t *slow, bool write,
                      uint64_t stream, int64_t offset, int64_t bytes, int64_t now_ps);
} fab_target_ops_t;

extern const fab_target_ops_t fab_target_flash, fab_target_disk;

#endif
