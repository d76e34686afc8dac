/* The store room: file systems whose servers are hosts of the emulated fabric.
 *
 * Every request, pull, piece of data and reply is a message of the transport. A client belongs to the host of its rank,
 * a server to its own host: what happens there happens on that host's thread, and they share nothing but what a message
 * hands over. A remote procedure call is one record: its client fills it before the request is posted, and until the
 * reply is delivered it is the server's. A file's layout is written by its metadata server before the first reply that
 * names it, and constant from then on. Times are picoseconds, offsets and sizes bytes. */
#ifndef FAB_STORE_STORE_H
#define FAB_STORE_STORE_H

#include "core/param.h"
#include "store/extents.h"
#include "store/layout.h"
#include "store/lock.h"
#include "store/params.h"
#include "store/target.h"
#include "transport/hosts.h"

typedef struct fab_store fab_store_t;
typedef struct fab_client fab_client_t;
typedef struct fab_server fab_server_t;

/* ---- what is constant --------------------------------------------------------------------------- */

typedef struct {
    int64_t when_ps;
    uint32_t target;
    uint32_t factor_ppm; /* from when_ps on it serves at this share of its rate */
} fab_store_slow_t;

typedef struct {
    int64_t when_ps;
    uint32_t server;
    int64_t up_ps; /* absolute: when its partner (or itself, without one) has taken its targets over */
} fab_store_failure_t;

/* One file system. Servers 0 … data_count-1 keep data, those from data_count on metadata; target t of the data servers is
 * number t, and metadata server m has the target target_count + m for what it keeps of files. */
typedef struct fab_store_config {
    const fab_layout_ops_t *layout_ops;
    const fab_target_ops_t *target_ops;
    int64_t values[FAB_STORE_VALUES_MAX];         /* of the store's table: params.h */
    int64_t target_values[FAB_TARGET_VALUES_MAX]; /* of the target's table */
    uint32_t data_count, meta_count, target_count;
    uint32_t *server_host;    /* [data_count + meta_count]; FAB_NONE: each client's own host (local stores) */
    uint32_t *server_partner; /* [data_count + meta_count] server that takes over, FAB_NONE: none */
    uint32_t *target_server;  /* [target_count] */
    uint32_t layout_count;
    fab_layout_t *layouts; /* [layout_count]; 0 is the default */
    uint32_t slow_count, failure_count;
    fab_store_slow_t *slow;        /* ordered by target, then time */
    fab_store_failure_t *failures; /* ordered by time */
} fab_store_config_t;

/* The files that a program names, and their directories. */
typedef struct {
    uint32_t count, directory_count;
    uint8_t *store;              /* [count] */
    uint32_t *directory;         /* [count] */
    uint32_t *layout;            /* [count] */
    int64_t *bytes;              /* [count] size that it has before the run, -1: it is made in the run */
    uint32_t *directory_stripes; /* [directory_count] metadata targets that a directory is spread over, at least 1 */
} fab_files_t;

/* ---- messages ----------------------------------------------------------------------------------- */

/* What a message of storage is; its cookie's instance is FAB_STORE_COOKIE + verb, the rest is the record's address. */
typedef enum {
    FAB_STORE_REQUEST,    /* client to server: fab_rpc_t */
    FAB_STORE_PULL,       /* server to client: send the data of a write (an RDMA read) */
    FAB_STORE_BULK,       /* a piece of data, to the server of a write or to the client of a read */
    FAB_STORE_REPLY,      /* server to client: fab_rpc_t */
    FAB_STORE_CALLBACK,   /* server to client: give a lock back: fab_lock_t */
    FAB_STORE_CANCEL,     /* client to server: the lock is given back */
    FAB_STORE_SHARD,      /* server to server: data that the other keeps: fab_shard_t */
    FAB_STORE_SHARD_DONE, /* back */
    FAB_STORE_VERBS
} fab_store_verb_t;

#define FAB_STORE_COOKIE (FAB_NONE - FAB_STORE_VERBS)

typedef enum {
    FAB_RPC_READ,
    FAB_RPC_WRITE,
    FAB_RPC_SYNC,    /* data server: everything that was written to the file's objects is to be committed */
    FAB_RPC_LOCK,    /* data server: an extent lock */
    FAB_RPC_GLIMPSE, /* data server: the size of an object */
    FAB_RPC_OPEN,
    FAB_RPC_CLOSE,
    FAB_RPC_STAT,
    FAB_RPC_UNLINK,
    FAB_RPC_MKDIR,
    FAB_RPC_RMDIR,
    FAB_RPC_RENAME,
    FAB_RPC_READDIR,
    FAB_RPC_PING,
    FAB_RPC_CONNECT, /* after a failure: this client is here; replays follow */
    FAB_RPC_DESTROY, /* metadata server to data server, and back: a file's objects are to be empty */
    FAB_RPC_KINDS
} fab_rpc_kind_t;

typedef struct fab_rpc {
    struct fab_rpc *next;      /* of the one list that its owner keeps it in */
    uint8_t kind, store, mode; /* mode: fab_lock_mode_t of LOCK */
    bool replay, committed, refused, evicted;
    uint8_t stage;           /* the server's: what its timer is for */
    uint16_t flags;          /* of the operation: FAB_IO_* */
    uint32_t client;         /* host */
    uint32_t server, target; /* of the store */
    uint32_t file, object;   /* object: index among the file's objects, see layout.h */
    uint32_t epoch;          /* the server's, when it was sent */
    uint32_t generation;     /* of the object, see fab_object_t; WRITE: as the client knows it */
    int64_t offset, bytes;   /* in the object; of LOCK the extent asked for, bytes 0: to the end */
    int64_t end;             /* LOCK: last byte granted; GLIMPSE, READ: size of the object; OPEN, STAT: it has some */
    fab_lock_t *lock;        /* LOCK: what was granted */
    int64_t transno;         /* WRITE and metadata changes: place in the server's order, for commit and replay */
    int64_t stable;          /* the server's last transno on stable storage, when it answered */
    uint32_t fragments;      /* of the data, still to come */
    uint32_t shards;         /* still to be answered */
    void *user;              /* the client's */
    int64_t sent_ps, queued_ps, began_ps, target_ps, served_ps, done_ps; /* its way, for the record; -1 before */
} fab_rpc_t;

/* A part of a write that its server sends to another, which keeps it (erasure coding, replication). */
typedef struct fab_shard {
    struct fab_shard *next;
    fab_rpc_t *rpc;
    uint32_t from, to, target; /* servers; target of `to` */
    int64_t offset, bytes;     /* offset -1: parity */
    bool at_target;            /* on its way through `to` */
} fab_shard_t;

/* ---- operations --------------------------------------------------------------------------------- */

typedef struct {
    uint32_t instance;
    uint8_t kind; /* FAB_OP_* */
    uint16_t flags;
    uint32_t file, new_file;
    int64_t offset, bytes;
} fab_io_t;

/* ---- the state of a run ------------------------------------------------------------------------- */

typedef struct {
    int64_t rpcs, bytes_read, bytes_written, busy_ps, queue_max, wait_ps, service_ps; /* sums; queue_max a maximum */
} fab_store_target_stats_t;

struct fab_store {
    uint32_t count; /* of file systems */
    const fab_store_config_t *configs;
    fab_files_t files; /* the program's; a session's own copy once it adds to them */
    bool own_files, own_directories;
    uint32_t file_capacity;
    const fab_hosts_t *hosts;
    const fab_net_t *net;
    fab_worker_t *workers; /* for what happens before the run */
    uint64_t seed;
    uint8_t data_class;                     /* of all storage messages */
    fab_client_t **clients;                 /* [host] NULL where no rank does any I/O */
    fab_server_t **servers[FAB_STORES_MAX]; /* [data_count + meta_count]; of a local store [host] */
    fab_file_t *file_state;                 /* [files.count] */
    bool record;                            /* keep every RPC */
    /* who asked */
    void *user;
    void (*ended)(void *user, fab_worker_t *worker, uint32_t instance, int64_t now_ps);
    /* the connection of storage messages */
    uint32_t (*find)(const void *user, uint32_t host, uint32_t dst, uint8_t data_class);
    struct fab_store_line *lines; /* [host] timers, and RPCs kept for the record */
};

/* ---- store.c: what every part calls -------------------------------------------------------------- */

FAB_INLINE uint32_t fab_store_server_count(const fab_store_config_t *config)
{
    return config->data_count + config->meta_count;
}

/* The host of a server, as a client sees it. */
FAB_INLINE uint32_t fab_store_host(const fab_store_config_t *config, uint32_t server, uint32_t client)
{
    return config->server_host[server] == FAB_NONE ? client : config->server_host[server];
}

/* The host where a server runs at a time: its own, from a failure on its partner's; FAB_NONE while it is down. */
uint32_t fab_store_where(const fab_store_config_t *config, uint32_t server, uint32_t client, int64_t now_ps);

/* How often a server has failed so far. */
uint32_t fab_store_epoch(const fab_store_config_t *config, uint32_t server, int64_t now_ps);

/* Sends a message between hosts; on one host it takes no time. */
void fab_store_post(fab_store_t *self, fab_worker_t *worker, uint32_t from, uint32_t to, fab_store_verb_t verb,
                    void *record, int64_t bytes, int64_t now_ps);

/* What a timer is for; its record is an address below 2^48. */
typedef enum {
    FAB_STORE_TIMER_CLIENT,  /* fab_client_timer: record is the client's own (an I/O under way, an import, a flush) */
    FAB_STORE_TIMER_SERVER,  /* fab_server_timer: record is an rpc whose next stage begins */
    FAB_STORE_TIMER_SHARD,   /* fab_server_shard_timer: record is a shard that has been stored */
    FAB_STORE_TIMER_META,    /* fab_meta_timer: record is an rpc */
    FAB_STORE_TIMER_LOCK,    /* fab_lock_timer: record is an rpc */
    FAB_STORE_TIMER_RECOVER, /* fab_recover_timer: record is a fab_server_t */
    FAB_STORE_TIMER_COMMIT,  /* fab_server_commit_timer: record is a fab_server_t */
    FAB_STORE_TIMERS
} fab_store_timer_t;

void fab_store_set_timer(fab_store_t *self, fab_worker_t *worker, uint32_t host, fab_store_timer_t what, void *record,
                         int64_t when_ps);

/* Memory of the host's thread, zeroed; NULL (and worker->error set) without. What a message hands over may be given back
 * by the receiver's thread. */
void *fab_store_take(fab_worker_t *worker, size_t bytes);
void fab_store_give(fab_worker_t *worker, void *memory, size_t bytes);

FAB_INLINE fab_rpc_t *fab_store_rpc(fab_worker_t *worker) { return fab_store_take(worker, sizeof(fab_rpc_t)); }

/* The server, data or metadata, that keeps a file's metadata: by its directory, or itself where that is striped. A file
 * system without metadata servers has its data servers do it. */
uint32_t fab_store_meta_of(const fab_store_t *self, uint32_t file);

/* A client has taken a reply in: keeps the RPC's way if the run records it. */
void fab_store_record(fab_store_t *self, fab_worker_t *worker, const fab_rpc_t *rpc);

/* An operation of a rank is done. */
void fab_store_end(fab_store_t *self, fab_worker_t *worker, uint32_t instance, int64_t now_ps);

/* ---- store.c: life, and what the host of a rank or server is told -------------------------------- */

int fab_store_new(const fab_store_config_t *configs, uint32_t count, const fab_files_t *files, const fab_hosts_t *hosts,
                  const fab_net_t *net, fab_worker_t *workers, uint64_t seed, const bool *has_client, bool record,
                  fab_store_t **store_out);
void fab_store_free(fab_store_t *self);
void fab_store_start(fab_store_t *self, fab_worker_t *worker, uint32_t host, const fab_io_t *io, int64_t now_ps);
void fab_store_delivered(fab_store_t *self, fab_worker_t *worker, uint32_t host, fab_cookie_t cookie, int64_t now_ps);
void fab_store_acknowledged(fab_store_t *self, fab_worker_t *worker, uint32_t host, fab_cookie_t cookie,
                            int64_t now_ps);
void fab_store_timer(fab_store_t *self, fab_worker_t *worker, uint32_t host, uint64_t key, int64_t now_ps);
uint64_t fab_store_digest(const fab_store_t *self, uint64_t digest);
/* Between steps: adds a directory or a file; FAB_NONE without memory. */
uint32_t fab_store_add_directory(fab_store_t *self, uint32_t stripes);
uint32_t fab_store_add_file(fab_store_t *self, uint32_t file_system, uint32_t directory, uint32_t layout);
/* After a run that finished: a line for whatever is left undone, lost or dirty. */
void fab_store_check(const fab_store_t *self, fab_problems_t *problems);
int64_t fab_store_rpcs(const fab_store_t *self, fab_rpc_row_t *rows_out, int64_t limit);

/* Storage messages have connections of their own, in this lane; store timers this kind in their top byte. */
enum { FAB_STORE_LANE = INT32_MAX, FAB_STORE_TIMER_KIND = 12 };

FAB_INLINE bool fab_store_owns(fab_cookie_t cookie)
{
    return cookie.instance >= FAB_STORE_COOKIE && cookie.instance != FAB_NONE;
}

#endif
