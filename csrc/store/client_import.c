/* What a client knows of a server, and what it does when the server does not answer, after Lustre's imports (lustre/ptlrpc/
 * import.c, recover.c).
 *
 * Without an answer for the time-out a client asks whether the server is there; if that is not answered either, it
 * connects to the server's two places in turn. A server that has failed meanwhile is told again what it had answered and
 * not committed, in its order, then the locks that the client holds, then what it had not answered. One that has given
 * the client up has lost what was dirty, and so has the client. */
#include "store/client_state.h"

static const int64_t *values_of(const fab_at_t *at, const fab_import_t *import)
{
    return fab_client_values(at, import->store);
}

/* Only the timer that was set last counts. */
static void arm(const fab_at_t *at, fab_import_t *import, int64_t when_ps)
{
    import->due_ps = when_ps;
    fab_client_set_timer(at, import, when_ps);
}

void fab_client_watch(const fab_at_t *at, fab_import_t *import)
{
    const int64_t due_ps = at->now_ps + values_of(at, import)[FAB_STORE_TIMEOUT_PS];
    if (import->due_ps > due_ps)
        arm(at, import, due_ps);
}

/* When a client that waits for nothing asks: it does so now and then, and all that tells it anything is the first time
 * after a failure that it knows nothing of. */
static int64_t idle_due_ps(const fab_at_t *at, const fab_import_t *import)
{
    const fab_store_config_t *config = &at->store->configs[import->store];
    uint32_t known = import->epoch;
    for (uint32_t i = 0; i < config->failure_count; i++)
        if (config->failures[i].server == import->server && known-- == 0)
            return config->failures[i].when_ps + config->values[FAB_STORE_TIMEOUT_PS];
    return FAB_NEVER;
}

/* ---- what a server may still lose --------------------------------------------------------------- */

void fab_client_stable(const fab_at_t *at, fab_import_t *import, int64_t stable)
{
    import->stable = fab_max_i64(import->stable, stable);
    while (import->kept && import->kept->transno <= import->stable) {
        fab_call_t *call = import->kept;
        import->kept = call->next;
        if (import->kept)
            import->kept->previous = NULL;
        else
            import->kept_last = NULL;
        fab_client_forget_call(at, call);
    }
}

bool fab_client_keep(const fab_at_t *at, fab_call_t *call)
{
    fab_import_t *import = call->import;
    if (call->transno <= import->stable || !at->client->stores[import->store].fails)
        return false;
    fab_call_t *before = import->kept_last;
    while (before && before->transno > call->transno)
        before = before->previous;
    call->channel = NULL;
    call->previous = before;
    call->next = before ? before->next : import->kept;
    if (call->previous)
        call->previous->next = call;
    else
        import->kept = call;
    if (call->next)
        call->next->previous = call;
    else
        import->kept_last = call;
    return true;
}

/* ---- asking and connecting ---------------------------------------------------------------------- */

static void ask(const fab_at_t *at, fab_import_t *import, fab_rpc_kind_t kind)
{
    import->state = kind == FAB_RPC_PING ? FAB_IMPORT_ASKING : FAB_IMPORT_CONNECTING;
    import->asking = fab_client_call(at, (uint8_t)kind, NULL, import);
    if (!import->asking)
        return;
    fab_client_send(at, import->asking);
    arm(at, import, at->now_ps + values_of(at, import)[FAB_STORE_RECONNECT_PS]);
}

/* The other place of a server. */
static void turn_round(const fab_at_t *at, fab_import_t *import)
{
    const fab_store_config_t *config = &at->store->configs[import->store];
    const uint32_t home = fab_store_host(config, import->server, at->client->host);
    const uint32_t partner = config->server_partner[import->server];
    import->at = import->at == home && partner != FAB_NONE ? config->server_host[partner] : home;
}

/* Its record may be anywhere: whoever has it may still look at the call. */
static void give_up(fab_import_t *import, fab_call_t *call)
{
    fab_client_unlink_call(import, call);
    call->rpc = NULL;
}

void fab_client_import_timer(const fab_at_t *at, fab_import_t *import)
{
    if (at->now_ps != import->due_ps)
        return;
    import->due_ps = FAB_NEVER;
    if (import->state != FAB_IMPORT_FULL) {
        give_up(import, import->asking);
        turn_round(at, import);
        ask(at, import, FAB_RPC_CONNECT);
        return;
    }
    const int64_t due_ps = import->first ? fab_max_i64(import->first->sent_ps, import->heard_ps) +
                                               values_of(at, import)[FAB_STORE_TIMEOUT_PS]
                                         : idle_due_ps(at, import);
    if (due_ps >= FAB_NEVER)
        return;
    if (due_ps > at->now_ps)
        arm(at, import, due_ps);
    else
        ask(at, import, FAB_RPC_PING);
}

/* ---- after a failure ---------------------------------------------------------------------------- */

typedef void visit_t(const fab_at_t *at, fab_client_object_t *object);

/* Visits all objects that the server keeps. */
static void visit_objects(const fab_at_t *at, const fab_import_t *import, visit_t *visit)
{
    const fab_client_t *client = at->client;
    for (uint32_t f = 0; client->files && f <= client->file_mask; f++) {
        fab_client_file_t *file = client->files[f];
        for (uint32_t i = 0; file && file->objects && i < file->object_count; i++)
            if (file->objects[i] && file->objects[i]->channel->import == import)
                visit(at, file->objects[i]);
    }
}

/* Sends a call again, with a record of its own. */
static void send_again(const fab_at_t *at, fab_call_t *old)
{
    fab_call_t *call = fab_store_take(at->worker, sizeof *call);
    if (!call)
        return;
    *call = *old;
    call->moved = call->data_ps = 0;
    call->rpc = NULL;
    fab_client_replace_call(call->import, call);
    old->rpc = NULL;
    at->client->stats.resent++;
    fab_client_transmit(at, call);
}

/* What was answered and not committed. */
static void replay(const fab_at_t *at, fab_import_t *import)
{
    fab_call_t *kept = import->kept;
    import->kept = import->kept_last = NULL;
    while (kept) {
        fab_call_t *next = kept->next;
        kept->replay = true;
        kept->op = NULL;
        kept->part = NULL;
        kept->moved = kept->data_ps = 0;
        fab_store_give(at->worker, kept->rpc, sizeof *kept->rpc);
        kept->rpc = NULL;
        at->client->stats.resent++;
        fab_client_link_call(import, kept);
        fab_client_transmit(at, kept);
        kept = next;
    }
}

/* The server has the channels' calls again, or for the first time. */
static void resume(const fab_at_t *at, fab_import_t *import)
{
    for (fab_call_t *call = import->first; call; call = call->next)
        if (!call->rpc)
            fab_client_transmit(at, call);
    for (fab_channel_t *channel = import->channels; channel; channel = channel->import_next)
        fab_client_plug(at, channel);
    arm(at, import, at->now_ps + values_of(at, import)[FAB_STORE_TIMEOUT_PS]);
}

static void recover(const fab_at_t *at, fab_import_t *import)
{
    /* what was on its way, replays of an earlier failure first; what is linked from here on comes after it */
    fab_call_t *last = import->last;
    replay(at, import);
    for (fab_call_t *call = import->first, *next; last && call; call = next) {
        const bool is_last = call == last;
        next = call->next;
        if (call->rpc && call->replay)
            send_again(at, call);
        if (is_last)
            break;
    }
    visit_objects(at, import, fab_client_lock_again);
    fab_call_t *all = fab_client_call(at, FAB_RPC_PING, NULL, import); /* says that these were all */
    if (!all)
        return;
    fab_client_send(at, all);
    for (fab_call_t *call = import->first, *next; call; call = next) {
        next = call->next;
        if (call->rpc && call->epoch != import->epoch)
            send_again(at, call);
    }
}

/* ---- eviction ----------------------------------------------------------------------------------- */

static void lose_object(const fab_at_t *at, fab_client_object_t *object)
{
    fab_client_lock_lose(at, object);
    const int64_t lost = fab_client_lose(at, object, 0, INT64_MAX);
    at->client->stats.lost_dirty_bytes += lost;
    object->file->lost |= lost != 0;
    fab_client_uncache(at, object, 0, INT64_MAX);
    for (fab_part_t *part = object->writes, *next; part; part = next) {
        next = part->object_next;
        if (part->op)
            continue;
        at->client->stats.lost_dirty_bytes += part->left;
        object->file->lost = true;
        fab_client_part_wrote(at, part);
    }
}

/* What an operation has asked for will not be answered: it fails, as if that had been the answer. */
static void fail(const fab_at_t *at, fab_call_t *call)
{
    fab_rpc_t answer = {.kind = call->kind, .refused = true, .evicted = true};
    fab_part_t *part = call->part;
    give_up(call->import, call);
    call->rpc = &answer;
    if (call->channel) {
        call->channel->in_flight--;
        fab_client_plug(at, call->channel);
    }
    if (call->kind == FAB_RPC_LOCK) {
        fab_client_lock_answered(at, call);
    } else if (call->kind == FAB_RPC_WRITE) {
        fab_client_wrote(at, call);
    } else if (call->kind != FAB_RPC_READ) {
        fab_client_answered(at, call);
    } else {
        part->left -= call->bytes;
        const bool ends = part->left == 0;
        if (part->op) {
            part->op->refused = part->op->failed = true;
            if (ends)
                fab_client_direct_done(at, part);
        } else {
            if (ends)
                fab_client_drop_part(at, part);
            fab_client_read_failed(at, call);
        }
    }
    call->rpc = NULL;
}

/* Nobody waits for the cache's writes any more, and what was answered and not committed is lost as well. Whoever waits
 * for an answer has failed. */
static void evicted(const fab_at_t *at, fab_import_t *import)
{
    at->client->stats.evictions++;
    const fab_call_t *last = import->last; /* of those that were under way */
    bool ends = !last;
    for (fab_call_t *call = import->first, *next; !ends; call = next) {
        next = call->next;
        ends = call == last;
        const bool of_cache = call->kind == FAB_RPC_WRITE && !(call->part && call->part->op);
        if (!of_cache && !call->lock && !call->replay) {
            if (call->kind < FAB_RPC_PING)
                fail(at, call);
            continue;
        }
        if (call->replay)
            at->client->stats.lost_dirty_bytes += call->bytes;
        if (call->channel) /* what of its part is lost is counted there */
            call->channel->in_flight--;
        give_up(import, call);
    }
    for (fab_call_t *call = import->kept, *next; call; call = next) {
        next = call->next;
        if (call->kind == FAB_RPC_WRITE) {
            at->client->stats.lost_dirty_bytes += call->bytes;
            call->object->file->lost = true;
        }
        fab_client_forget_call(at, call);
    }
    import->kept = import->kept_last = NULL;
    visit_objects(at, import, lose_object);
}

void fab_client_import_answered(const fab_at_t *at, fab_call_t *call)
{
    fab_import_t *import = call->import;
    if (call != import->asking)
        return;
    import->asking = NULL;
    const bool same = call->rpc->epoch == import->epoch && !call->rpc->evicted;
    if (call->kind == FAB_RPC_PING && !same) { /* it has failed, and is there again */
        ask(at, import, FAB_RPC_CONNECT);
        return;
    }
    import->state = FAB_IMPORT_FULL;
    import->epoch = call->rpc->epoch;
    if (call->rpc->evicted)
        evicted(at, import);
    if (!same)
        recover(at, import);
    resume(at, import);
}
