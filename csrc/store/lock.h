/* Extent locks of objects, as Lustre's distributed lock manager grants them (lustre/ldlm/ldlm_extent.c).
 *
 * A resource is an object's locks: those granted, and a queue of those waiting. Asking grows the extent as far as no
 * conflicting lock allows; a conflicting holder is called back, and grants follow when it has given its lock back. */
#ifndef FAB_STORE_LOCK_H
#define FAB_STORE_LOCK_H

#include "core/pool.h"

typedef enum { FAB_LOCK_PR, FAB_LOCK_PW, FAB_LOCK_GROUP } fab_lock_mode_t;

#define FAB_LOCK_EOF INT64_MAX

typedef struct fab_lock {
    struct fab_lock *next;      /* of its resource's list */
    struct fab_lock *next_held; /* the client's list of its locks on an object */
    uint8_t mode;               /* fab_lock_mode_t */
    uint8_t store;
    bool granted;
    bool called;    /* a callback is under way */
    bool giving;    /* the client is flushing, or has sent the cancellation; the client's */
    bool cancelled; /* the client's thread sets it before the cancellation is posted */
    uint32_t client, server, target, file, object;
    int64_t asked_start, asked_end; /* inclusive */
    int64_t start, end;             /* as granted, inclusive */
    uint32_t users;                 /* operations of the client that are using it: it is given back after them */
    void *rpc;                      /* the request that waits for it */
} fab_lock_t;

typedef struct {
    fab_lock_t *granted; /* in the order of their granting */
    fab_lock_t *waiting, *waiting_last;
    uint32_t granted_count, waiting_count;
} fab_lock_resource_t;

/* Called with each lock that has to be called back, or is now granted. */
typedef void fab_lock_tell_t(void *context, fab_lock_t *lock);

/* Asks for a lock: grants it (extent grown by the rules; returns true), or queues it and tells every granted lock that
 * stands in the way and has not been called yet. */
bool fab_lock_enqueue(fab_lock_resource_t *self, fab_lock_t *lock, fab_lock_tell_t *call_back, void *context);

/* A granted lock is given back, or a waiting one withdrawn: takes it out, and tells which of those waiting are granted
 * now, and whom their successors call back. */
void fab_lock_remove(fab_lock_resource_t *self, fab_lock_t *lock, fab_lock_tell_t *granted, fab_lock_tell_t *call_back,
                     void *context);

bool fab_lock_conflicts(fab_lock_mode_t a, fab_lock_mode_t b);

#endif
