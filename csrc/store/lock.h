/* Extent locks of objects, as Lustre's distributed lock manager grants them (lustre/ldlm/ldlm_extent.c).
 *
 * A resource is an object's locks: those granted, and a queue of those waiting. Asking grows the extent as far as no
 * conflicting lock allows; a conflicting holder is called back, and grants follow when it has given its lock back.
 *
 * Granted locks lie in trees, one a mode, by their beginning: asking, granting and giving back cost the logarithm of how
 * many there are, and a step for each that waits. */
#ifndef FAB_STORE_LOCK_H
#define FAB_STORE_LOCK_H

#include "core/pool.h"

typedef enum { FAB_LOCK_PR, FAB_LOCK_PW, FAB_LOCK_GROUP, FAB_LOCK_MODES } fab_lock_mode_t;

#define FAB_LOCK_EOF INT64_MAX

enum { FAB_LOCK_PAGE_BYTES = 4096 };

typedef struct fab_lock {
    uint8_t store; /* first, as in every record that is posted */
    uint8_t mode;  /* fab_lock_mode_t */
    bool granted;
    bool called;  /* a callback is under way */
    bool discard; /* and what is dirty is to be dropped */
    uint32_t client, server, target, file, object;
    uint32_t epoch;                 /* the server's, when it was granted: later ones know nothing of it */
    int64_t asked_start, asked_end; /* inclusive */
    int64_t start, end;             /* as granted, inclusive */
    struct fab_lock *next_granted;  /* of a request that has got several */
    void *rpc;                      /* the request that waits for it */
    /* the server's: its place in the queue, or in the tree of its mode */
    struct fab_lock *next, *previous;
    struct fab_lock *parent, *left, *right;
    uint64_t order;      /* of granting: tells locks that begin alike apart */
    uint64_t rank;       /* above all those below it */
    int64_t last;        /* greatest end, of it and those below */
    bool uncalled_below; /* it or one below has not been called back */
} fab_lock_t;

typedef struct {
    fab_lock_t *granted[FAB_LOCK_MODES]; /* roots */
    fab_lock_t *waiting, *waiting_last;
    uint32_t granted_count, waiting_count;
    uint32_t granted_of[FAB_LOCK_MODES], waiting_of[FAB_LOCK_MODES];
    uint64_t order;
} fab_lock_resource_t;

/* Called with each lock that has to be called back, or is now granted. */
typedef void fab_lock_tell_t(void *context, fab_lock_t *lock);

/* Asks for a lock: grants it (extent grown by the rules; returns true), or queues it and tells every granted lock that
 * stands in the way and has not been called yet. What is asked for is widened to whole pages, for a group to the whole
 * object. A group's lock can be granted while others wait: it is then told itself, after being granted. */
bool fab_lock_enqueue(fab_lock_resource_t *self, fab_lock_t *lock, fab_lock_tell_t *call_back, void *context);

/* A granted lock is given back, or a waiting one withdrawn: takes it out, and tells which of those waiting are granted
 * now, and each of them that has to be called back at once for one behind it. */
void fab_lock_remove(fab_lock_resource_t *self, fab_lock_t *lock, fab_lock_tell_t *granted, fab_lock_tell_t *call_back,
                     void *context);

/* Puts a lock that had been granted before a server failed back as it was (start, end). */
void fab_lock_restore(fab_lock_resource_t *self, fab_lock_t *lock);

bool fab_lock_conflicts(fab_lock_mode_t a, fab_lock_mode_t b);

#endif
