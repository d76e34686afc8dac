/* Data and metadata servers: queues, threads, objects, targets, locks, the journal, recovery. */
#ifndef FAB_STORE_SERVER_H
#define FAB_STORE_SERVER_H

#include "store/store.h"

/* An object on a target. */
typedef struct fab_object {
    struct fab_object *next; /* of its bucket */
    uint32_t file, object;
    int64_t size;
    fab_extents_t written;
    fab_lock_resource_t locks;
    int64_t last_transno; /* of the last write */
    uint32_t generation;  /* counts how often it was destroyed, or made empty */
} fab_object_t;

typedef struct {
    uint32_t number; /* of the store */
    fab_target_state_t device;
    fab_target_slow_t slow;
    fab_object_t **buckets;
    uint32_t bucket_mask, object_count;
    fab_store_target_stats_t stats;
    int64_t busy_until_ps; /* the last of its operations ends */
    uint32_t queued;       /* operations under way */
} fab_store_target_t;

/* Threads that serve a queue. */
typedef struct {
    fab_rpc_t *first, *last; /* waiting */
    uint32_t waiting, threads_free, most_waiting;
} fab_service_t;

struct fab_server {
    fab_store_t *store;
    uint32_t number; /* of the store's servers */
    uint8_t file_system;
    uint32_t host;  /* its own; where it runs now is fab_store_where(): its state follows it to its partner */
    uint32_t epoch; /* counts its failures */
    bool down, recovering;
    fab_service_t io, meta;
    int64_t bus_free_ps; /* memory and buses: serial */
    uint32_t target_count;
    fab_store_target_t *targets;              /* those of this server */
    int64_t transno, committed;               /* last given, last on stable storage */
    int64_t commit_due_ps;                    /* FAB_NEVER: nothing to commit */
    int64_t sync_ps;                          /* end of the commit that someone waits for; FAB_NEVER: none */
    int64_t sync_to;                          /* what it brings to stable storage */
    fab_rpc_t *sync_first, *sync_last;        /* waiting for a commit */
    struct fab_change *changes, *change_last; /* writes not committed, where servers fail */
    uint64_t allocated;                       /* files made: meta */
    struct fab_meta *meta_state;              /* directories: meta */
    struct fab_destroy *destroys;             /* of files whose objects are not empty yet: meta */
    struct fab_recovery *recovery;
};

FAB_INLINE const fab_store_config_t *fab_server_config(const fab_server_t *self)
{
    return &self->store->configs[self->file_system];
}

/* server_state.c */
int fab_server_new(fab_store_t *store, fab_worker_t *worker, uint32_t file_system, uint32_t number, uint32_t host,
                   fab_server_t **server_out);
/* The object, made if it is new, with what was in its file before the run; NULL without memory. */
fab_object_t *fab_server_object(fab_server_t *self, fab_worker_t *worker, uint32_t target, uint32_t file,
                                uint32_t object);
/* NULL: it is not this server's. */
fab_store_target_t *fab_server_target(fab_server_t *self, uint32_t target);
/* It has failed: requests and writes that are not committed are gone, and its epoch ends. */
void fab_server_forget(fab_server_t *self, fab_worker_t *worker);
void fab_server_check(const fab_server_t *self, fab_problems_t *problems);
/* Hands an operation to a target; returns when it is done. */
int64_t fab_server_submit(fab_server_t *self, fab_store_target_t *target, bool write, uint64_t stream, int64_t offset,
                          int64_t bytes, int64_t now_ps);
/* A write has reached its target; transno is its place in the server's order. */
void fab_server_fill(fab_server_t *self, fab_worker_t *worker, uint32_t target, uint32_t file, uint32_t object,
                     int64_t offset, int64_t bytes, int64_t transno);
/* Everything up to a transno is on stable storage. */
void fab_server_committed(fab_server_t *self, fab_worker_t *worker, int64_t transno);

/* server.c */
/* A request has arrived at a host: by its kind to data, lock, metadata or recovery. */
void fab_server_request(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps);
/* The same, past what the recovery window holds up. */
void fab_server_serve(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps);
void fab_server_bulk(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps);
void fab_server_bulk_acknowledged(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc,
                                  int64_t now_ps);
void fab_server_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps);
void fab_server_commit_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_server_t *self,
                             int64_t now_ps);
void fab_server_shard(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_shard_t *shard, int64_t now_ps);
void fab_server_shard_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_shard_t *shard,
                            int64_t now_ps);
void fab_server_shard_done(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_shard_t *shard, int64_t now_ps);
/* Answers an rpc: stamps served_ps and posts the reply. */
void fab_server_answer(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t extra_bytes, int64_t now_ps);
/* A change that has to reach stable storage: gives it its transno and sets the commit timer. */
void fab_server_changed(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps);

/* meta.c: requests of FAB_RPC_OPEN … FAB_RPC_READDIR. */
int fab_meta_new(fab_server_t *self, fab_worker_t *worker);
/* Chooses the targets of a content that has none yet. */
void fab_meta_place(fab_server_t *self, uint32_t file);
/* A request that destroy.c had kept: is to be answered, or tried again. */
void fab_meta_go_on(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, bool done, int64_t now_ps);
/* Renames that wait for a server which has failed are sent there again. */
void fab_meta_hand_over_again(fab_server_t *self, fab_worker_t *worker, int64_t now_ps);
/* It has failed: names are as they were committed. Before fab_server_forget. */
void fab_meta_forget(fab_server_t *self, fab_worker_t *worker);
void fab_meta_request(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps);
void fab_meta_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps);

/* destroy.c: files whose objects are made empty, FAB_RPC_DESTROY.
 *
 * Begins it at the metadata server; false if there is nothing to do, else `rpc`, unless it is NULL, is answered at the
 * end. */
bool fab_destroy_begin(fab_server_t *self, fab_worker_t *worker, uint32_t content, fab_rpc_t *rpc, int64_t now_ps);
/* Whether a content's objects are not empty yet: the request is then kept, and tried again when they are. */
bool fab_destroy_waits(fab_server_t *self, uint32_t content, fab_rpc_t *rpc);
/* What servers that have failed meanwhile have not done is sent to them again. */
void fab_destroy_again(fab_server_t *self, fab_worker_t *worker, int64_t now_ps);
/* The metadata server has failed: nobody waits any more, but what has been begun is done. */
void fab_destroy_forget(fab_server_t *self);
void fab_destroy_request(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps);
void fab_destroy_timer(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps);

/* lock_service.c: FAB_RPC_LOCK, FAB_RPC_GLIMPSE and cancellations. */
void fab_lock_request(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps);
void fab_lock_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps);
void fab_lock_forget(fab_server_t *self);
/* Takes the whole object from everybody, who are to drop what they have not written; true: nobody had any of it. Else the
 * rpc's timer comes when that is done, with the locks that fab_lock_discarded() then gives back. */
bool fab_lock_discard(fab_server_t *self, fab_worker_t *worker, fab_object_t *object, fab_rpc_t *rpc, int64_t now_ps);
/* The next object that is the rpc's alone, for it to be made empty; NULL: none any more. The one before is let go. */
fab_object_t *fab_lock_discarded(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc);
void fab_lock_let_go(fab_server_t *self, fab_worker_t *worker, fab_object_t *object, fab_rpc_t *rpc, int64_t now_ps);
void fab_lock_cancel(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_lock_t *lock, int64_t now_ps);

/* recovery.c: failures, takeover, FAB_RPC_CONNECT and FAB_RPC_PING, the recovery window.
 *
 * A server that runs always answers PING and CONNECT, with its epoch in rpc->epoch; what else comes with another epoch is
 * dropped. After a failure a client sends CONNECT, and then, unless the answer says `evicted`: what was answered but not
 * committed, `replay` set and with its transno; the locks it has, as LOCK with `replay` and the extent they were granted
 * (the answer's rpc->lock is the new one); and a PING with the new epoch: these were all. Requests without `replay` may be
 * sent from the CONNECT's answer on: they are kept until the window ends. */
int fab_recover_new(fab_server_t *self, fab_worker_t *worker);
void fab_recover_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_server_t *self, int64_t now_ps);
void fab_recover_request(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps);
/* Whether a request has to wait for the end of the recovery window; it is then kept. */
bool fab_recover_holds(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps);
void fab_recover_answered(fab_server_t *self, fab_worker_t *worker, const fab_rpc_t *rpc, int64_t now_ps);

#endif
