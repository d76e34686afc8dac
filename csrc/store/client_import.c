/* What a client knows of a server: how far its answers are on stable storage. Its servers do not fail. */
#include "store/client_state.h"

void fab_client_stable(const fab_at_t *at, fab_import_t *import, int64_t stable)
{
    (void)at;
    import->stable = fab_max_i64(import->stable, stable);
}

bool fab_client_keep(const fab_at_t *at, fab_call_t *call)
{
    (void)at;
    (void)call;
    return false;
}

void fab_client_watch(const fab_at_t *at, fab_import_t *import)
{
    (void)at;
    (void)import;
}

void fab_client_import_timer(const fab_at_t *at, fab_import_t *import)
{
    (void)at;
    (void)import;
}

void fab_client_import_answered(const fab_at_t *at, fab_call_t *call)
{
    (void)at;
    (void)call;
}
