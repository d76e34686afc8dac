/* Parts of the room that are not there yet: whoever comes to them ends the run with an internal error. */
#include "store/client.h"
#include "store/server.h"

#define WEAK __attribute__((weak))
#define GONE(worker) ((worker)->error = FAB_E_INTERNAL)

WEAK int fab_client_new(fab_store_t *s, fab_worker_t *w, uint32_t h, fab_client_t **o)
{
    (void)s;
    (void)w;
    (void)h;
    (void)o;
    return FAB_E_INTERNAL;
}
WEAK void fab_client_start(fab_store_t *s, fab_worker_t *w, uint32_t h, const fab_io_t *io, int64_t n)
{
    (void)s;
    (void)h;
    (void)io;
    (void)n;
    GONE(w);
}
WEAK void fab_client_pull(fab_store_t *s, fab_worker_t *w, uint32_t h, fab_rpc_t *r, int64_t n)
{
    (void)s;
    (void)h;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK void fab_client_bulk(fab_store_t *s, fab_worker_t *w, uint32_t h, fab_rpc_t *r, int64_t n)
{
    (void)s;
    (void)h;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK void fab_client_reply(fab_store_t *s, fab_worker_t *w, uint32_t h, fab_rpc_t *r, int64_t n)
{
    (void)s;
    (void)h;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK void fab_client_callback(fab_store_t *s, fab_worker_t *w, uint32_t h, fab_lock_t *r, int64_t n)
{
    (void)s;
    (void)h;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK void fab_client_timer(fab_store_t *s, fab_worker_t *w, uint32_t h, void *r, int64_t n)
{
    (void)s;
    (void)h;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK const fab_client_stats_t *fab_client_stats(const fab_client_t *c)
{
    static const fab_client_stats_t none;
    (void)c;
    return &none;
}
WEAK void fab_client_check(const fab_store_t *s, uint32_t h, fab_problems_t *p)
{
    (void)s;
    (void)h;
    (void)p;
}
WEAK int fab_meta_new(fab_server_t *s, fab_worker_t *w)
{
    (void)s;
    (void)w;
    return FAB_E_INTERNAL;
}
WEAK void fab_meta_request(fab_server_t *s, fab_worker_t *w, fab_rpc_t *r, int64_t n)
{
    (void)s;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK void fab_meta_timer(fab_store_t *s, fab_worker_t *w, uint32_t h, fab_rpc_t *r, int64_t n)
{
    (void)s;
    (void)h;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK void fab_lock_request(fab_server_t *s, fab_worker_t *w, fab_rpc_t *r, int64_t n)
{
    (void)s;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK void fab_lock_timer(fab_store_t *s, fab_worker_t *w, uint32_t h, fab_rpc_t *r, int64_t n)
{
    (void)s;
    (void)h;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK void fab_lock_cancel(fab_store_t *s, fab_worker_t *w, uint32_t h, fab_lock_t *r, int64_t n)
{
    (void)s;
    (void)h;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK int fab_recover_new(fab_server_t *s, fab_worker_t *w)
{
    (void)s;
    (void)w;
    return FAB_E_INTERNAL;
}
WEAK void fab_recover_timer(fab_store_t *s, fab_worker_t *w, fab_server_t *r, int64_t n)
{
    (void)s;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK void fab_recover_request(fab_server_t *s, fab_worker_t *w, fab_rpc_t *r, int64_t n)
{
    (void)s;
    (void)r;
    (void)n;
    GONE(w);
}
WEAK bool fab_recover_holds(fab_server_t *s, fab_worker_t *w, fab_rpc_t *r, int64_t n)
{
    (void)s;
    (void)r;
    (void)n;
    GONE(w);
    return false;
}
