/* What a data server has: its targets and their objects, and the writes that no commit has made safe. */
#include <inttypes.h>

#include "core/keyed.h"
#include "store/server.h"

enum { FIRST_BUCKETS = 16 };

/* A range that a write has filled and no commit has made safe. */
typedef struct fab_change {
    struct fab_change *next;
    fab_object_t *object;
    int64_t begin, end, transno;
} change_t;

/* ---- targets and objects ------------------------------------------------------------------------ */

fab_store_target_t *fab_server_target(fab_server_t *self, uint32_t target)
{
    const uint32_t guess = target - (self->target_count ? self->targets[0].number : 0);
    if (FAB_LIKELY(guess < self->target_count && self->targets[guess].number == target))
        return &self->targets[guess];
    for (uint32_t t = 0; t < self->target_count; t++)
        if (self->targets[t].number == target)
            return &self->targets[t];
    return NULL;
}

static uint32_t bucket_of(const fab_store_target_t *target, uint32_t file, uint32_t object)
{
    return (uint32_t)fab_keyed_mix((uint64_t)file << 32 | object) & target->bucket_mask;
}

static bool more_buckets(fab_store_target_t *target, fab_worker_t *worker)
{
    const uint32_t before = target->buckets ? target->bucket_mask + 1 : 0, count = before ? 2 * before : FIRST_BUCKETS;
    fab_object_t **old = target->buckets, **buckets = fab_store_take(worker, count * sizeof *buckets);
    if (!buckets)
        return false;
    target->buckets = buckets;
    target->bucket_mask = count - 1;
    for (uint32_t b = 0; b < before; b++)
        for (fab_object_t *object = old[b], *next; object; object = next) {
            next = object->next;
            fab_object_t **bucket = &buckets[bucket_of(target, object->file, object->object)];
            object->next = *bucket;
            *bucket = object;
        }
    if (old)
        fab_store_give(worker, old, before * sizeof *old);
    return true;
}

/* What an object had before the run: as much as its file's end allows. */
static int64_t size_before(const fab_server_t *self, uint32_t file, uint32_t object)
{
    const fab_store_config_t *config = fab_server_config(self);
    const fab_files_t *files = &self->store->files;
    const fab_layout_t *layout = config->layout_count ? &config->layouts[files->layout[file]] : NULL;
    int64_t begin = 0, end = INT64_MAX;
    if (config->layout_ops->part_of)
        config->layout_ops->part_of(config, layout, object, &begin, &end);
    end = fab_min_i64(end, files->bytes[file]);
    int64_t least = 0, most = fab_max_i64(end, 0);
    while (least < most) {
        const int64_t middle = least + (most - least + 1) / 2;
        if (config->layout_ops->file_end(config, layout, object, middle) <= end)
            least = middle;
        else
            most = middle - 1;
    }
    /* what ends before the part begins are holes */
    return least && config->layout_ops->file_end(config, layout, object, least) > begin ? least : 0;
}

fab_object_t *fab_server_object(fab_server_t *self, fab_worker_t *worker, uint32_t number, uint32_t file,
                                uint32_t object)
{
    fab_store_target_t *target = fab_server_target(self, number);
    if (FAB_UNLIKELY(!target)) {
        worker->error = FAB_E_INTERNAL;
        return NULL;
    }
    if (FAB_LIKELY(target->buckets != NULL))
        for (fab_object_t *o = target->buckets[bucket_of(target, file, object)]; o; o = o->next)
            if (o->file == file && o->object == object)
                return o;
    if ((!target->buckets || target->object_count > target->bucket_mask) && !more_buckets(target, worker))
        return NULL;
    fab_object_t *made = fab_store_take(worker, sizeof *made);
    if (!made)
        return NULL;
    fab_object_t **bucket = &target->buckets[bucket_of(target, file, object)];
    made->file = file;
    made->object = object;
    made->size = size_before(self, file, object);
    if (made->size && fab_extents_add(&made->written, &worker->pool, 0, made->size) < 0) {
        worker->error = FAB_E_MEMORY;
        return NULL;
    }
    made->next = *bucket;
    *bucket = made;
    target->object_count++;
    return made;
}

/* Remembers which part of a range is new, so that a failure can take it back. */
static void remember(fab_server_t *self, fab_worker_t *worker, fab_object_t *object, int64_t begin, int64_t end,
                     int64_t transno)
{
    uint32_t i = fab_extents_find(&object->written, begin);
    while (begin < end) {
        const bool covered = i < object->written.count && object->written.items[i].begin < end;
        const int64_t gap = covered ? fab_max_i64(object->written.items[i].begin, begin) : end;
        if (gap > begin) {
            change_t *change = fab_store_take(worker, sizeof *change);
            if (!change)
                return;
            *change = (change_t){NULL, object, begin, gap, transno};
            if (self->changes)
                self->change_last->next = change;
            else
                self->changes = change;
            self->change_last = change;
        }
        begin = covered ? object->written.items[i++].end : end;
    }
}

void fab_server_fill(fab_server_t *self, fab_worker_t *worker, uint32_t target, uint32_t file, uint32_t number,
                     int64_t offset, int64_t bytes, int64_t transno)
{
    fab_object_t *object = fab_server_object(self, worker, target, file, number);
    if (!object)
        return;
    object->last_transno = fab_max_i64(object->last_transno, transno);
    object->size = fab_max_i64(object->size, offset + bytes);
    if (fab_server_config(self)->failure_count && transno > self->committed)
        remember(self, worker, object, offset, offset + bytes, transno);
    if (fab_extents_add(&object->written, &worker->pool, offset, offset + bytes) < 0)
        worker->error = FAB_E_MEMORY;
}

/* Hands an operation to a target; returns when it is done. */
int64_t fab_server_submit(fab_server_t *self, fab_store_target_t *target, bool write, uint64_t stream, int64_t offset,
                          int64_t bytes, int64_t now_ps)
{
    const fab_store_config_t *config = fab_server_config(self);
    const int64_t done_ps = config->target_ops->submit(config->target_values, &target->device, &target->slow, write,
                                                       stream, offset, bytes, now_ps);
    fab_store_target_stats_t *stats = &target->stats;
    stats->rpcs++;
    *(write ? &stats->bytes_written : &stats->bytes_read) += bytes;
    stats->queue_max = fab_max_i64(stats->queue_max, ++target->queued);
    if (done_ps > target->busy_until_ps) {
        stats->busy_ps += done_ps - fab_max_i64(now_ps, target->busy_until_ps);
        target->busy_until_ps = done_ps;
    }
    return done_ps;
}

/* Everything up to a transno is on stable storage. */
void fab_server_committed(fab_server_t *self, fab_worker_t *worker, int64_t transno)
{
    self->committed = transno;
    for (change_t *change; (change = self->changes) && change->transno <= transno;) {
        self->changes = change->next;
        fab_store_give(worker, change, sizeof *change);
    }
}

void fab_server_forget(fab_server_t *self, fab_worker_t *worker)
{
    const fab_store_config_t *config = fab_server_config(self);
    for (change_t *change; (change = self->changes);) {
        fab_object_t *object = change->object;
        if (fab_extents_remove(&object->written, &worker->pool, change->begin, change->end) < 0)
            worker->error = FAB_E_MEMORY;
        const fab_extents_t *written = &object->written;
        object->size = written->count ? written->items[written->count - 1].end : 0;
        object->last_transno = fab_min_i64(object->last_transno, self->committed);
        self->changes = change->next;
        fab_store_give(worker, change, sizeof *change);
    }
    self->transno = self->committed;
    self->commit_due_ps = self->sync_ps = FAB_NEVER;
    self->sync_first = NULL;
    self->io.first = NULL;
    self->io.waiting = 0;
    self->io.threads_free = (uint32_t)config->values[FAB_STORE_THREADS_COUNT];
    for (uint32_t t = 0; t < self->target_count; t++)
        self->targets[t].queued = 0;
    self->epoch++;
}

/* ---- life --------------------------------------------------------------------------------------- */

static int new_target(fab_server_t *self, fab_worker_t *worker, uint32_t number, fab_store_target_t *target)
{
    const fab_store_config_t *config = fab_server_config(self);
    target->number = number;
    target->device.slot_count = config->target_ops->slots(config->target_values);
    if (target->device.slot_count) {
        target->device.slots = fab_store_take(worker, target->device.slot_count * sizeof(int64_t));
        if (!target->device.slots)
            return FAB_E_MEMORY;
    }
    uint32_t first = 0, end;
    while (first < config->slow_count && config->slow[first].target < number)
        first++;
    for (end = first; end < config->slow_count && config->slow[end].target == number;)
        end++;
    target->slow = (fab_target_slow_t){config->slow + first, end - first};
    return FAB_OK;
}

/* A data server has the targets that are listed as its own, a metadata server one for what it keeps of files. */
static int new_targets(fab_server_t *self, fab_worker_t *worker)
{
    const fab_store_config_t *config = fab_server_config(self);
    const bool data = self->number < config->data_count;
    self->target_count = data ? 0 : 1;
    for (uint32_t t = 0; data && t < config->target_count; t++)
        self->target_count += config->target_server[t] == self->number;
    self->targets = fab_store_take(worker, (self->target_count + (size_t)1) * sizeof *self->targets);
    if (!self->targets)
        return FAB_E_MEMORY;
    if (!data)
        return new_target(self, worker, config->target_count + self->number - config->data_count, self->targets);
    fab_store_target_t *target = self->targets;
    for (uint32_t t = 0; t < config->target_count; t++)
        if (config->target_server[t] == self->number && new_target(self, worker, t, target++) != FAB_OK)
            return FAB_E_MEMORY;
    return FAB_OK;
}

int fab_server_new(fab_store_t *store, fab_worker_t *worker, uint32_t file_system, uint32_t number, uint32_t host,
                   fab_server_t **server_out)
{
    fab_server_t *self = fab_store_take(worker, sizeof *self);
    if (!self)
        return FAB_E_MEMORY;
    self->store = store;
    self->number = number;
    self->file_system = (uint8_t)file_system;
    self->host = host;
    self->commit_due_ps = self->sync_ps = FAB_NEVER;
    const fab_store_config_t *config = fab_server_config(self);
    self->io.threads_free = (uint32_t)config->values[FAB_STORE_THREADS_COUNT];
    self->meta.threads_free = (uint32_t)config->values[FAB_STORE_META_THREADS_COUNT];
    int code = new_targets(self, worker);
    if (!code && (number >= config->data_count || config->meta_count == 0))
        code = fab_meta_new(self, worker);
    if (!code && config->failure_count)
        code = fab_recover_new(self, worker);
    if (!code)
        *server_out = self;
    return code;
}

void fab_server_check(const fab_server_t *self, fab_problems_t *problems)
{
    const fab_store_config_t *config = fab_server_config(self);
    const uint32_t threads = (uint32_t)config->values[FAB_STORE_THREADS_COUNT];
    const struct {
        uint32_t left;
        const char *what;
    } services[] = {{self->io.waiting, "reads and writes wait"},
                    {threads - self->io.threads_free, "of its threads are not free"},
                    {self->meta.waiting, "metadata requests wait"},
                    {self->sync_first != NULL, "or more SYNCs wait"},
                    {self->destroys != NULL, "or more files that are gone still have data"}};
    for (size_t i = 0; i < sizeof services / sizeof *services; i++)
        if (services[i].left)
            fab_problems_add(problems, "store %d: server %u: %u %s", self->file_system, self->number, services[i].left,
                             services[i].what);
    for (uint32_t t = 0; t < self->target_count; t++)
        if (self->targets[t].queued)
            fab_problems_add(problems, "store %d: server %u: %u operations of target %u have not ended",
                             self->file_system, self->number, self->targets[t].queued, self->targets[t].number);
    if (self->transno != self->committed)
        fab_problems_add(problems, "store %d: server %u: %" PRId64 " changes are not committed", self->file_system,
                         self->number, self->transno - self->committed);
}
