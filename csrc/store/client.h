/* The client of a rank: page cache, locks it holds, windows of RPCs, readahead; what an application's calls become. */
#ifndef FAB_STORE_CLIENT_H
#define FAB_STORE_CLIENT_H

#include "store/store.h"

typedef struct {
    int64_t calls, bytes_read, bytes_written;          /* of the application */
    int64_t cache_hit_bytes, readahead_bytes;          /* reads answered by the cache; read ahead of the application */
    int64_t rpc_read_bytes, rpc_written_bytes;         /* over the network */
    int64_t lost_dirty_bytes;                          /* by eviction */
    int64_t max_dirty_bytes, blocked_ps, lock_wait_ps; /* greatest of any target; waiting for room; for locks */
    int64_t rpcs, resent, evictions, refused;
    int64_t failed; /* operations that a server left without an answer when it gave the client up: EIO */
} fab_client_stats_t;

int fab_client_new(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_client_t **client_out);
void fab_client_start(fab_store_t *store, fab_worker_t *worker, uint32_t host, const fab_io_t *io, int64_t now_ps);
void fab_client_pull(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps);
void fab_client_bulk(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps);
void fab_client_reply(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps);
void fab_client_callback(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_lock_t *lock, int64_t now_ps);
void fab_client_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, void *record, int64_t now_ps);
const fab_client_stats_t *fab_client_stats(const fab_client_t *client);
/* Whether nothing is dirty, in flight or waiting; a line for each thing that is. */
void fab_client_check(const fab_store_t *store, uint32_t host, fab_problems_t *problems);

#endif
