/* A session: storage operations one at a time, as a program of the outside asks for them. */
#include <inttypes.h>

#include "sim/run.h"

int64_t fab_run_frontier_ps(const fab_run_t *self) { return self->frontier_ps; }

static int refuse(const fab_run_t *self, fab_problems_t *problems)
{
    if (!fab_exec_store(self->exec))
        fab_problems_add(problems, "the run has no file system, or its program no clients");
    else if (self->failed)
        fab_problems_add(problems, "the run has failed");
    else if (self->frontier_ps >= FAB_NEVER)
        fab_problems_add(problems, "the run has been run to its end");
    else
        return FAB_OK;
    return FAB_E_CONFIG;
}

int fab_run_add_directory(fab_run_t *self, int32_t stripes, fab_problems_t *problems, int32_t *directory_out)
{
    if (refuse(self, problems))
        return FAB_E_CONFIG;
    if (stripes < 1) {
        fab_problems_add(problems, "stripes: found %d, allowed: at least 1", stripes);
        return FAB_E_CONFIG;
    }
    const uint32_t directory = fab_store_add_directory(fab_exec_store(self->exec), (uint32_t)stripes);
    *directory_out = (int32_t)directory;
    return directory == FAB_NONE ? FAB_E_MEMORY : FAB_OK;
}

int fab_run_add_file(fab_run_t *self, int32_t store, int32_t directory, int32_t layout, fab_problems_t *problems,
                     int32_t *file_out)
{
    if (refuse(self, problems))
        return FAB_E_CONFIG;
    fab_store_t *all = fab_exec_store(self->exec);
    const bool known = store >= 0 && store < (int32_t)all->count;
    const uint32_t layouts = known && all->configs[store].layout_count ? all->configs[store].layout_count : 1;
    if (!known || directory < 0 || directory >= (int32_t)all->files.directory_count || layout < 0 ||
        layout >= (int32_t)layouts) {
        fab_problems_add(problems,
                         "file: found store %d, directory %d, layout %d, allowed: below %u, %u and the store's layouts",
                         store, directory, layout, all->count, all->files.directory_count);
        return FAB_E_CONFIG;
    }
    const uint32_t file = fab_store_add_file(all, (uint32_t)store, (uint32_t)directory, (uint32_t)layout);
    *file_out = (int32_t)file;
    return file == FAB_NONE ? FAB_E_MEMORY : FAB_OK;
}

int fab_run_io(fab_run_t *self, const fab_io_request_t *r, fab_problems_t *problems, int64_t *token_out)
{
    if (refuse(self, problems))
        return FAB_E_CONFIG;
    const fab_store_t *store = fab_exec_store(self->exec);
    const int32_t ranks = self->program->rank_count;
    const uint32_t host =
        r->rank < 0 || r->rank >= ranks ? FAB_NONE : self->program->client_host[self->program->rank_host[r->rank]];
    if (host == FAB_NONE || !store->clients[host])
        fab_problems_add(problems, "rank: found %d, allowed: those that are clients", r->rank);
    if (r->kind < FAB_OP_OPEN || r->kind >= FAB_OP_KINDS)
        fab_problems_add(problems, "kind: found %d, allowed %d to %d", r->kind, FAB_OP_OPEN, FAB_OP_KINDS - 1);
    const int32_t files = (int32_t)store->files.count;
    if (r->file < 0 || r->file >= files || (r->kind == FAB_OP_RENAME && (r->new_file < 0 || r->new_file >= files)))
        fab_problems_add(problems, "file: found %d and %d, allowed 0 to %d", r->file, r->new_file, files - 1);
    if (r->offset < 0 || r->bytes < 0 || r->offset >= INT64_C(1) << 50 || r->bytes >= INT64_C(1) << 46)
        fab_problems_add(problems, "found offset %" PRId64 " and %" PRId64 " bytes, allowed 0 to 2^50 and 2^46 - 1",
                         r->offset, r->bytes);
    if (problems->count)
        return FAB_E_CONFIG;
    const fab_io_t io = {.kind = (uint8_t)r->kind,
                         .flags = (uint16_t)r->flags,
                         .file = (uint32_t)r->file,
                         .new_file = r->kind == FAB_OP_RENAME ? (uint32_t)r->new_file : FAB_NONE,
                         .offset = r->offset,
                         .bytes = r->bytes};
    fab_worker_t *worker = &self->workers[0];
    const uint32_t number = fab_exec_io(self->exec, worker, host, io, self->frontier_ps);
    if (number == FAB_NONE)
        return FAB_E_MEMORY;
    const uint32_t slot = self->model->net.slot_of[host];
    fab_link_notify(worker, &self->model->net, slot, fab_hosts_visit(&self->hosts, worker, slot, self->frontier_ps));
    *token_out = number;
    return worker->error;
}

/* Of the operations that have ended, the one that ended first; -1: none has. */
static int32_t first_ended(const fab_run_t *self, const int64_t *tokens, int32_t count, int64_t *start_ps_out,
                           int64_t *end_ps_out)
{
    int32_t which = -1;
    for (int32_t i = 0; i < count; i++) {
        int64_t start_ps;
        const int64_t end_ps = fab_exec_io_end_ps(self->exec, (uint32_t)tokens[i], &start_ps);
        if (end_ps < 0 || (which >= 0 && end_ps >= *end_ps_out))
            continue;
        which = i;
        *start_ps_out = start_ps;
        *end_ps_out = end_ps;
    }
    return which;
}

int fab_run_wait_any(fab_run_t *self, const int64_t *tokens, int32_t count, int64_t until_ps, fab_problems_t *problems,
                     int32_t *which_out, int64_t *start_ps_out, int64_t *end_ps_out)
{
    for (int32_t i = 0; i < count; i++)
        if (tokens[i] < 0)
            fab_problems_add(problems, "token: found %" PRId64, tokens[i]);
    if (problems->count || refuse(self, problems))
        return FAB_E_CONFIG;
    const int64_t lookahead_ps = self->model->net.lookahead_ps;
    int64_t next_ps = self->frontier_ps;
    while ((*which_out = first_ended(self, tokens, count, start_ps_out, end_ps_out)) < 0) {
        if (self->frontier_ps >= until_ps)
            return FAB_OK;
        bool finished = false;
        const int code = fab_run_step(self, fab_min_i64(next_ps, until_ps), problems, &finished);
        if (code)
            return code;
        if (finished && until_ps >= FAB_NEVER && first_ended(self, tokens, count, start_ps_out, end_ps_out) < 0) {
            fab_problems_add(problems, "nothing can happen any more, and the operation has not ended");
            return FAB_E_DEADLOCK;
        }
        next_ps = fab_max_i64(self->frontier_ps, fab_min_i64(self->now_ps, FAB_NEVER - lookahead_ps)) + lookahead_ps;
        next_ps = finished ? until_ps : next_ps;
    }
    return FAB_OK;
}

int fab_run_wait(fab_run_t *self, int64_t token, fab_problems_t *problems, int64_t *start_ps_out, int64_t *end_ps_out)
{
    int32_t which;
    return fab_run_wait_any(self, &token, 1, FAB_NEVER, problems, &which, start_ps_out, end_ps_out);
}
