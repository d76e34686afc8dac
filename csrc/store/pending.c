/* Parts of the room that are not there yet: whoever comes to them ends the run with an internal error. */
#include "store/server.h"

#define WEAK __attribute__((weak))
#define GONE(worker) ((worker)->error = FAB_E_INTERNAL)

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
