/* What a run tells of storage: targets, servers, clients, remote procedure calls. */
#include "sim/run.h"
#include "store/client.h"
#include "store/server.h"

typedef void visit_t(void *context, const fab_store_t *store, const fab_server_t *server, uint32_t number);

/* Every server there is, in the order of file systems and their servers; of node-local ones, of their hosts. */
static void visit_servers(const fab_store_t *store, visit_t *visit, void *context)
{
    for (uint32_t s = 0; store && s < store->count; s++) {
        const fab_store_config_t *config = &store->configs[s];
        const uint32_t count = config->layout_ops->per_client ? store->net->host_count : fab_store_server_count(config);
        for (uint32_t i = 0; i < count; i++)
            if (store->servers[s][i])
                visit(context, store, store->servers[s][i], i);
    }
}

typedef struct {
    fab_target_row_t *rows;
    int64_t count, limit;
} targets_t;

static void add_targets(void *context, const fab_store_t *store, const fab_server_t *server, uint32_t number)
{
    targets_t *to = context;
    const bool local = store->configs[server->file_system].layout_ops->per_client;
    for (uint32_t t = 0; t < server->target_count; t++, to->count++) {
        const fab_store_target_t *target = &server->targets[t];
        if (to->count < to->limit)
            to->rows[to->count] = (fab_target_row_t){
                .store = server->file_system,
                .target = local ? number : target->number,
                .server = number,
                .rpcs = target->stats.rpcs,
                .bytes_read = target->stats.bytes_read,
                .bytes_written = target->stats.bytes_written,
                .busy_ps = target->stats.busy_ps,
                .queue_max = target->stats.queue_max,
                .wait_ps = target->stats.wait_ps,
                .service_ps = target->stats.service_ps,
            };
    }
}

int64_t fab_run_targets(const fab_run_t *self, fab_target_row_t *rows_out, int64_t limit)
{
    targets_t to = {rows_out, 0, limit};
    visit_servers(fab_exec_store(self->exec), add_targets, &to);
    return to.count;
}

typedef struct {
    fab_server_row_t *rows;
    int64_t count, limit;
} servers_t;

static void add_server(void *context, const fab_store_t *store, const fab_server_t *server, uint32_t number)
{
    servers_t *to = context;
    const fab_store_config_t *config = &store->configs[server->file_system];
    if (to->count < to->limit)
        to->rows[to->count] = (fab_server_row_t){
            .store = server->file_system,
            .server = number,
            .host = server->host,
            .is_meta = !config->layout_ops->per_client && number >= config->data_count,
            .queue_max = server->io.most_waiting > server->meta.most_waiting ? server->io.most_waiting
                                                                             : server->meta.most_waiting,
            .changes = server->transno,
            .committed = server->committed,
            .failures = server->epoch,
        };
    to->count++;
}

int64_t fab_run_servers(const fab_run_t *self, fab_server_row_t *rows_out, int64_t limit)
{
    servers_t to = {rows_out, 0, limit};
    visit_servers(fab_exec_store(self->exec), add_server, &to);
    return to.count;
}

int64_t fab_run_clients(const fab_run_t *self, fab_client_row_t *rows_out, int64_t limit)
{
    const fab_store_t *store = fab_exec_store(self->exec);
    int64_t count = 0;
    for (uint32_t h = 0; store && h < store->net->host_count; h++) {
        if (!store->clients[h])
            continue;
        const fab_client_stats_t *stats = fab_client_stats(store->clients[h]);
        if (count < limit)
            rows_out[count] = (fab_client_row_t){
                .rank = self->program->host_rank[h],
                .calls = stats->calls,
                .bytes_read = stats->bytes_read,
                .bytes_written = stats->bytes_written,
                .cache_hit_bytes = stats->cache_hit_bytes,
                .readahead_bytes = stats->readahead_bytes,
                .rpc_read_bytes = stats->rpc_read_bytes,
                .rpc_written_bytes = stats->rpc_written_bytes,
                .lost_dirty_bytes = stats->lost_dirty_bytes,
                .max_dirty_bytes = stats->max_dirty_bytes,
                .blocked_ps = stats->blocked_ps,
                .lock_wait_ps = stats->lock_wait_ps,
                .rpcs = stats->rpcs,
                .resent = stats->resent,
                .evictions = stats->evictions,
                .refused = stats->refused,
                .failed = stats->failed,
            };
        count++;
    }
    return count;
}

int64_t fab_run_rpcs(const fab_run_t *self, fab_rpc_row_t *rows_out, int64_t limit)
{
    const fab_store_t *store = fab_exec_store(self->exec);
    if (!store)
        return 0;
    const int64_t count = fab_store_rpcs(store, rows_out, limit);
    for (int64_t i = 0; count <= limit && i < count; i++)
        rows_out[i].rank = self->program->host_rank[rows_out[i].rank];
    return count;
}
