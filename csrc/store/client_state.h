/* The state of a client; for the files that are the client alone.
 *
 * An operation of the application becomes parts: ranges of objects to read or write, or single requests to a metadata
 * server. Parts queue in channels, one for each target and each metadata server; a channel keeps so many calls in flight,
 * each of which is an RPC. The cache is by object. An import is what a client knows of a server. */
#ifndef FAB_STORE_CLIENT_STATE_H
#define FAB_STORE_CLIENT_STATE_H

#include "store/client.h"
#include "store/rate.h"

typedef struct fab_client_file fab_client_file_t;
typedef struct fab_client_object fab_client_object_t;
typedef struct fab_client_op fab_client_op_t;
typedef struct fab_channel fab_channel_t;
typedef struct fab_import fab_import_t;

/* What the record of a timer is: its first byte. */
enum { FAB_RECORD_OP, FAB_RECORD_CALL, FAB_RECORD_CHANNEL, FAB_RECORD_IMPORT };

/* A lock that the client holds. The server's record of it changes when the server has failed. */
typedef struct fab_held {
    struct fab_held *next; /* of the object */
    fab_lock_t *lock;
    uint8_t mode; /* fab_lock_mode_t */
    bool giving;  /* not for new users: it is given back after those it has */
    bool asked;   /* for again, since its server has failed */
    bool discard; /* its object is to be made empty: what is not written is dropped */
    bool gone;    /* out of its object's list; its server has no record of it, or will have one soon */
    uint32_t users;
    int64_t begin, end; /* end excluded */
} fab_held_t;

/* ---- requests ----------------------------------------------------------------------------------- */

/* A range of an object, or one request, that waits for its turn in a channel. */
typedef struct fab_part {
    struct fab_part *next, *previous;               /* of the channel's queue */
    struct fab_part *object_next, *object_previous; /* of the object's writes without a reply */
    fab_client_op_t *op;                            /* NULL: of the cache */
    fab_client_object_t *object;                    /* NULL: a request to a metadata server */
    fab_held_t *lock;                               /* held until all is answered */
    int64_t begin, end, sent;                       /* sent: up to here it is in calls */
    int64_t left;                                   /* bytes without a reply */
    uint64_t number;                                /* of the file's writes */
    uint8_t kind;                                   /* fab_rpc_kind_t */
    bool queued, urgent;
} fab_part_t;

/* What a call's timer is for. */
enum { FAB_CALL_REQUEST, FAB_CALL_FRAGMENT, FAB_CALL_LATE };

/* An RPC without a reply, or one that its server may still lose. */
typedef struct fab_call {
    uint8_t record; /* FAB_RECORD_CALL */
    uint8_t kind;   /* fab_rpc_kind_t */
    uint8_t stage, mode;
    bool replay; /* answered before its server failed */
    uint16_t flags;
    uint32_t file, object_number, target, epoch; /* epoch: of the server when it was sent */
    uint32_t generation;                         /* WRITE: of its file */
    struct fab_call *next, *previous;            /* of its import, in the order of sending or of transno */
    fab_rpc_t *rpc;
    fab_client_op_t *op;
    fab_part_t *part;
    fab_client_object_t *object;
    fab_channel_t *channel; /* NULL: not in a window */
    fab_import_t *import;
    fab_held_t *lock; /* LOCK: asked for again after a failure */
    int64_t offset, bytes;
    int64_t moved;    /* bytes of its data that have gone or come */
    int64_t begin_ps; /* its turn at the client's bus */
    int64_t data_ps;  /* all that came is through the bus */
    int64_t transno, sent_ps;
} fab_call_t;

/* The window of a target, or of a metadata server. */
struct fab_channel {
    uint8_t record; /* FAB_RECORD_CHANNEL */
    uint8_t store;
    bool plugged;  /* has something to send at the end of this event */
    bool expiring; /* its timer is set */
    uint32_t target, limit, in_flight;
    fab_import_t *import;
    fab_part_t *first[2], *last[2]; /* queues: urgent parts in the second */
    fab_channel_t *plug_next, *import_next;
    int64_t dirty_bytes, room_bytes;               /* in the cache and not answered; most of them */
    uint32_t writing;                              /* parts of the cache without a reply */
    fab_client_op_t *waiting_first, *waiting_last; /* writers without room */
    fab_client_object_t *dirty_first, *dirty_last; /* in the order of getting dirty */
};

/* ---- files and objects -------------------------------------------------------------------------- */

/* Somebody who waits for the writes of a file or an object that were there when he came. */
typedef struct fab_drain {
    struct fab_drain *next;
    fab_client_op_t *op; /* or */
    fab_held_t *lock;
    uint64_t before; /* numbers of the writes */
    int64_t begin, end;
    uint32_t left;
} fab_drain_t;

struct fab_client_object {
    fab_client_file_t *file;
    fab_channel_t *channel;
    uint32_t number, target;
    bool listed;           /* among its channel's dirty objects */
    fab_extents_t dirty;   /* not in any part yet */
    fab_extents_t cached;  /* otherwise there */
    fab_extents_t reading; /* asked for */
    int64_t end;           /* as last heard, or written */
    int64_t newest_end;    /* of what was written or asked for last */
    int64_t dirty_since_ps, last_transno;
    fab_client_object_t *dirty_next, *dirty_previous;
    fab_client_object_t *used_next, *used_previous; /* of all that have something cached, last used first */
    fab_held_t *locks;                              /* last granted first */
    fab_part_t *writes, *writes_last;               /* without a reply */
    fab_part_t *tail;                               /* last queued part that may be made longer */
    fab_drain_t *drains;
    fab_client_op_t *waiting_first, *waiting_last; /* readers whose data is on its way */
};

struct fab_client_file {
    uint32_t generation;      /* how often its objects have been made empty, as far as known */
    uint32_t number, content; /* content: the file whose objects this name stands for, after renames */
    uint8_t store;
    bool opened, opening, known; /* known: so is its layout */
    bool lost;                   /* data since the last fsync */
    bool has_objects;            /* the content: it is no directory */
    uint32_t opens;
    fab_client_op_t *waiting_first, *waiting_last; /* for the open */
    uint32_t object_count;
    fab_client_object_t **objects; /* [object_count], NULL before they are used */
    int64_t size;                  /* as far as known */
    uint64_t writes_begun;
    uint32_t writes_left;
    fab_drain_t *drains;
    int64_t read_next, window,
        ahead_end; /* of sequential reads: where the next begins; readahead, and how far it got */
};

/* ---- operations --------------------------------------------------------------------------------- */

typedef enum {
    FAB_CLIENT_BEGIN,
    FAB_CLIENT_WAIT, /* for replies */
    FAB_CLIENT_ROOM,
    FAB_CLIENT_COPY,
    FAB_CLIENT_DRAIN,
} fab_client_op_state_t;

/* A piece of a read on its way to the application. */
typedef struct fab_segment {
    struct fab_segment *next;
    fab_client_object_t *object;
    fab_held_t *lock;
    int64_t at, end, shift; /* of the object; offset of the file + shift */
} fab_segment_t;

struct fab_client_op {
    uint8_t record; /* FAB_RECORD_OP */
    uint8_t kind, state;
    uint16_t flags;
    bool direct, refused, at_end, ahead_done, filling;
    bool failed;         /* a server has given the client up */
    bool locking;        /* has asked for a lock */
    bool copying, waits; /* a read: for data */
    uint32_t instance, new_file;
    fab_client_op_t *next; /* of what it waits in */
    fab_client_file_t *name, *file;
    int64_t offset, end, cursor; /* of the file; cursor: done up to here */
    int64_t asked;               /* a read: asked for up to here */
    fab_client_object_t *object; /* of the piece at hand */
    fab_held_t *lock;            /* that it holds on it */
    int64_t shift, piece_end;    /* offset in the object - that in the file; end in the file */
    int64_t unit_bytes;          /* being copied */
    fab_segment_t *first, *last;
    uint32_t segment_count, left; /* left: parts, or requests, without a reply */
    int64_t since_ps;             /* it waits since */
};

/* ---- servers ------------------------------------------------------------------------------------ */

typedef enum {
    FAB_IMPORT_FULL,
    FAB_IMPORT_ASKING,     /* whether the server is there */
    FAB_IMPORT_CONNECTING, /* it was not */
} fab_import_state_t;

struct fab_import {
    uint8_t record; /* FAB_RECORD_IMPORT */
    uint8_t store, state;
    uint32_t server, epoch;
    uint32_t at;                  /* the host where it was last heard of */
    fab_call_t *first, *last;     /* without a reply, in the order of sending */
    fab_call_t *kept, *kept_last; /* answered, not yet on stable storage, by transno */
    fab_channel_t *channels;
    int64_t stable, heard_ps, due_ps;
    fab_call_t *asking; /* PING or CONNECT under way */
    uint64_t sync_of;   /* number of the fsync that has asked it to commit */
};

/* What a client has of a file system. */
typedef struct {
    const fab_store_config_t *config;
    fab_channel_t **channels; /* [target_count + meta_count + servers], NULL before they are used */
    fab_import_t **imports;   /* [servers] */
    int64_t bus_free_ps;
    bool fails; /* failures are to come: timeouts matter */
} fab_client_store_t;

struct fab_client {
    uint32_t host;
    fab_client_stats_t stats;
    fab_client_store_t stores[FAB_STORES_MAX];
    fab_client_file_t **files; /* a hash table by number */
    uint32_t file_mask, file_count;
    fab_channel_t *plug_first, *plug_last;
    fab_client_object_t *used_first, *used_last;
    int64_t cached_bytes; /* with what is dirty */
    int64_t open_ops;
    uint64_t syncs;
};

/* Where something happens, and when. */
typedef struct {
    fab_store_t *store;
    fab_worker_t *worker;
    fab_client_t *client;
    int64_t now_ps;
} fab_at_t;

FAB_INLINE const int64_t *fab_client_values(const fab_at_t *at, uint32_t store)
{
    return at->store->configs[store].values;
}

FAB_INLINE void fab_client_set_timer(const fab_at_t *at, void *record, int64_t when_ps)
{
    fab_store_set_timer(at->store, at->worker, at->client->host, FAB_STORE_TIMER_CLIENT, record, when_ps);
}

FAB_INLINE void fab_client_wait(fab_client_op_t **first, fab_client_op_t **last, fab_client_op_t *op)
{
    op->next = NULL;
    if (*first)
        (*last)->next = op;
    else
        *first = op;
    *last = op;
}

/* client.c: files, and what operations have in common */
fab_client_file_t *fab_client_file(const fab_at_t *at, uint32_t number);
/* NULL: it has had nothing to do with it. */
fab_client_file_t *fab_client_known_file(const fab_client_t *client, uint32_t number);
fab_client_object_t *fab_client_object(const fab_at_t *at, fab_client_file_t *file, uint32_t number, uint32_t target);
/* The piece at an offset of a file, no longer than `bytes`. */
fab_piece_t fab_client_piece(const fab_at_t *at, const fab_client_file_t *file, bool write, int64_t offset,
                             int64_t bytes);
void fab_client_op_end(const fab_at_t *at, fab_client_op_t *op);
/* A request that is no read or write of a part has its reply. */
void fab_client_answered(const fab_at_t *at, fab_call_t *call);
void fab_client_drained(const fab_at_t *at, fab_client_op_t *op);
/* What is known of a file's size is that of its objects that the client has locks or unwritten data of. */
void fab_client_forget_size(const fab_at_t *at, fab_client_file_t *file);
/* Hears how often an object of the file has been made empty. */
void fab_client_heard_generation(const fab_at_t *at, fab_client_file_t *file, uint32_t generation);
/* Hears of the end of an object. */
void fab_client_heard_end(const fab_at_t *at, fab_client_object_t *object, int64_t end);

/* client_rpc.c: channels and calls */
fab_channel_t *fab_client_channel(const fab_at_t *at, uint32_t store, uint32_t target);
fab_channel_t *fab_client_meta_channel(const fab_at_t *at, uint32_t store, uint32_t server);
fab_import_t *fab_client_import(const fab_at_t *at, uint32_t store, uint32_t server);
fab_part_t *fab_client_part(const fab_at_t *at, uint8_t kind, fab_client_op_t *op, fab_client_object_t *object,
                            int64_t begin, int64_t end);
void fab_client_queue(const fab_at_t *at, fab_part_t *part, fab_channel_t *channel, bool urgent);
void fab_client_hurry(fab_part_t *part, fab_channel_t *channel);
void fab_client_drop_part(const fab_at_t *at, fab_part_t *part);
fab_call_t *fab_client_call(const fab_at_t *at, uint8_t kind, fab_client_op_t *op, fab_import_t *import);
void fab_client_send(const fab_at_t *at, fab_call_t *call);
void fab_client_transmit(const fab_at_t *at, fab_call_t *call);
void fab_client_call_timer(const fab_at_t *at, fab_call_t *call);
void fab_client_link_call(fab_import_t *import, fab_call_t *call);
void fab_client_unlink_call(fab_import_t *import, fab_call_t *call);
void fab_client_replace_call(fab_import_t *import, fab_call_t *call);
void fab_client_forget_call(const fab_at_t *at, fab_call_t *call);
/* Sends what has been queued in this event. */
void fab_client_unplug(const fab_at_t *at);
void fab_client_plug(const fab_at_t *at, fab_channel_t *channel);

/* client_lock.c */
fab_lock_mode_t fab_client_lock_mode(const fab_client_op_t *op);
/* A lock that the client holds and that covers the range, now in use; NULL: there is none. */
fab_held_t *fab_client_lock_use(fab_client_object_t *object, fab_lock_mode_t mode, int64_t begin, int64_t end);
bool fab_client_lock_covers(const fab_client_object_t *object, fab_lock_mode_t mode, int64_t begin, int64_t end);
void fab_client_lock_ask(const fab_at_t *at, fab_client_op_t *op, fab_client_object_t *object, int64_t begin,
                         int64_t end);
void fab_client_lock_answered(const fab_at_t *at, fab_call_t *call);
void fab_client_lock_release(const fab_at_t *at, fab_client_object_t *object, fab_held_t *lock);
void fab_client_lock_flushed(const fab_at_t *at, fab_client_object_t *object, fab_held_t *lock);
/* Its server has failed: asks for the locks on an object once more; or has given the client up: they are gone. */
void fab_client_lock_again(const fab_at_t *at, fab_client_object_t *object);
void fab_client_lock_lose(const fab_at_t *at, fab_client_object_t *object);
void fab_client_give_back_groups(const fab_at_t *at, fab_client_file_t *file);

/* Makes the piece at an offset of its file, no longer than `bytes`, the one at hand, under a lock where there are any;
 * false: it waits for the lock, or there is no memory. */
bool fab_client_take_piece(const fab_at_t *at, fab_client_op_t *op, bool write, int64_t offset, int64_t bytes,
                           fab_held_t **lock_out);

/* cache.c: writes */
void fab_client_write(const fab_at_t *at, fab_client_op_t *op);
void fab_client_copied(const fab_at_t *at, fab_client_op_t *op);
/* Makes parts of what is dirty in a range. */
void fab_client_flush(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end, bool urgent);
void fab_client_expire(const fab_at_t *at, fab_channel_t *channel);
void fab_client_wrote(const fab_at_t *at, fab_call_t *call);
void fab_client_cache(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end);
void fab_client_uncache(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end);
/* Dirty bytes of a range that are given up; returns how many. */
int64_t fab_client_lose(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end);
/* A range that nobody will ever read: what of it is dirty or waits to be sent is dropped. */
void fab_client_discard(const fab_at_t *at, fab_client_object_t *object, int64_t begin, int64_t end);
void fab_client_use(const fab_at_t *at, fab_client_object_t *object);
void fab_client_evict(const fab_at_t *at, uint32_t store);
/* A part that is a write has all its replies. */
void fab_client_part_wrote(const fab_at_t *at, fab_part_t *part);

/* readahead.c: reads through the cache */
/* The data of a call will not come: who waits for it has failed. */
void fab_client_read_failed(const fab_at_t *at, fab_call_t *call);
void fab_client_read(const fab_at_t *at, fab_client_op_t *op);
void fab_client_read_on(const fab_at_t *at, fab_client_op_t *op);
void fab_client_read_locked(const fab_at_t *at, fab_client_op_t *op, fab_held_t *lock);
void fab_client_read_copied(const fab_at_t *at, fab_client_op_t *op);
void fab_client_arrived(const fab_at_t *at, fab_call_t *call, int64_t bytes);

/* direct.c: around the cache */
void fab_client_direct(const fab_at_t *at, fab_client_op_t *op);
void fab_client_direct_locked(const fab_at_t *at, fab_client_op_t *op, fab_held_t *lock);
void fab_client_direct_done(const fab_at_t *at, fab_part_t *part);

/* client_import.c: servers that fail */
void fab_client_watch(const fab_at_t *at, fab_import_t *import);
void fab_client_import_timer(const fab_at_t *at, fab_import_t *import);
void fab_client_import_answered(const fab_at_t *at, fab_call_t *call);
/* Keeps an answered change that its server may lose; false: it need not be kept. */
bool fab_client_keep(const fab_at_t *at, fab_call_t *call);
void fab_client_stable(const fab_at_t *at, fab_import_t *import, int64_t stable);

#endif
