/* Metadata servers: threads that serve a queue, directories that one change at a time holds, names and where their data is,
 * after Lustre's metadata target (lustre/mdt, lustre/lod, lustre/lmv).
 *
 * A name's state is its own server's alone; every node of a node-local store has names of its own. A name stands for a content, the file whose objects it has; renaming swaps
 * the contents of two names, so that each content has one name at any time. */
#include "store/server.h"

enum {
    STAGE_BEGIN,     /* the part of a change that needs no directory */
    STAGE_WORK,      /* the rest, or all */
    STAGE_FORWARDED, /* a rename, on its way to the server of the new name */
    STAGE_THERE,     /* at work there */
    STAGE_RETURNED,
};

/* A name before a change that is not committed. */
typedef struct undo {
    struct undo *next;
    int64_t transno;
    uint32_t file, content;
    bool existed;
} undo_t;

/* A rename that another server has a copy of. */
typedef struct renaming {
    struct renaming *next;
    fab_rpc_t *rpc, *copy; /* copy: NULL while that server is down */
    uint32_t to, epoch;
} renaming_t;

enum { CHUNK = 64 };

typedef struct fab_meta {
    int64_t *free_ps; /* [directory_count] from when on each directory, or this server's stripe of it, is free */
    uint32_t directory_count;
    undo_t *undo_first, *undo_last; /* in the order of their changes; where servers fail */
    renaming_t *renaming;
    fab_file_t **names; /* of a node-local store: [name_chunks] of CHUNK each, NULL before any of them is asked for */
    uint32_t name_chunks;
} meta_t;

static const int64_t *values_of(const fab_server_t *self) { return fab_server_config(self)->values; }

static uint32_t host_of(const fab_server_t *self, int64_t now_ps)
{
    return fab_store_where(fab_server_config(self), self->number, self->host, now_ps);
}

/* Of a name that the server has been asked for. */
static fab_file_t *name_of(const fab_server_t *self, uint32_t file)
{
    return fab_server_config(self)->layout_ops->per_client ? &self->meta_state->names[file / CHUNK][file % CHUNK]
                                                           : &self->store->file_state[file];
}

static bool is_there(const fab_server_t *self, uint32_t file) { return name_of(self, file)->exists; }

/* A node has its own names, and first those of files that are there before the run; false without memory. */
static bool learn(fab_server_t *self, fab_worker_t *worker, uint32_t file)
{
    meta_t *meta = self->meta_state;
    const fab_files_t *files = &self->store->files;
    if (!fab_server_config(self)->layout_ops->per_client || file == FAB_NONE)
        return true;
    if (file / CHUNK >= meta->name_chunks) {
        const uint32_t count = (files->count + CHUNK - 1) / CHUNK;
        fab_file_t **names = fab_store_take(worker, count * sizeof *names);
        if (!names)
            return false;
        for (uint32_t c = 0; c < meta->name_chunks; c++)
            names[c] = meta->names[c];
        if (meta->names)
            fab_store_give(worker, meta->names, meta->name_chunks * sizeof *names);
        meta->names = names;
        meta->name_chunks = count;
    }
    fab_file_t **chunk = &meta->names[file / CHUNK];
    if (*chunk)
        return true;
    if (!(*chunk = fab_store_take(worker, CHUNK * sizeof **chunk)))
        return false;
    for (uint32_t i = 0; i < CHUNK; i++) { /* those behind the last may be added later: they are made in the run */
        const uint32_t f = file / CHUNK * CHUNK + i;
        (*chunk)[i] = (fab_file_t){.content = f, .exists = f < files->count && files->bytes[f] >= 0};
    }
    return true;
}

static void set_timer(const fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, uint8_t stage, int64_t now_ps,
                      int64_t when_ps)
{
    rpc->stage = stage;
    fab_store_set_timer(self->store, worker, host_of(self, now_ps), FAB_STORE_TIMER_META, rpc, when_ps);
}

/* ---- directories ------------------------------------------------------------------------------------- */

static int64_t *directory_of(const fab_server_t *self, fab_worker_t *worker, uint32_t file)
{
    meta_t *meta = self->meta_state;
    const uint32_t directory = self->store->files.directory[file];
    if (FAB_UNLIKELY(directory >= meta->directory_count)) {
        const uint32_t count = self->store->files.directory_count;
        int64_t *free_ps = fab_store_take(worker, count * sizeof *free_ps);
        if (!free_ps)
            return NULL;
        for (uint32_t d = 0; d < meta->directory_count; d++)
            free_ps[d] = meta->free_ps[d];
        if (meta->free_ps)
            fab_store_give(worker, meta->free_ps, meta->directory_count * sizeof *free_ps);
        meta->free_ps = free_ps;
        meta->directory_count = count;
    }
    return &meta->free_ps[directory];
}

/* Waits for a file's directory, and for that of another name here, and holds them so long; returns until when. */
static int64_t hold(fab_server_t *self, fab_worker_t *worker, uint32_t file, uint32_t other, int64_t held_ps,
                    int64_t now_ps)
{
    const bool two = other != FAB_NONE && self->store->files.directory[other] != self->store->files.directory[file];
    int64_t *second = two ? directory_of(self, worker, other) : NULL;
    int64_t *first = directory_of(self, worker, file);
    if (two) /* the first may have moved it */
        second = directory_of(self, worker, other);
    if (!first || (two && !second))
        return now_ps;
    int64_t free_ps = fab_max_i64(now_ps, *first);
    if (two)
        free_ps = fab_max_i64(free_ps, *second);
    *first = free_ps + held_ps;
    if (two)
        *second = *first;
    return *first;
}

/* ---- names ------------------------------------------------------------------------------------------- */

void fab_meta_place(fab_server_t *self, uint32_t file)
{
    const fab_store_config_t *config = fab_server_config(self);
    fab_file_t *content = &self->store->file_state[file];
    if (content->placed)
        return;
    content->placed = true;
    const fab_layout_t *layout = config->layout_count ? &config->layouts[self->store->files.layout[file]] : NULL;
    const uint32_t servers = config->meta_count ? config->meta_count : config->data_count;
    const uint32_t number = config->meta_count ? self->number - config->data_count : self->number;
    /* each server goes round by itself, from a place of its own */
    const uint64_t made = self->allocated++ + (uint64_t)number * config->target_count / servers;
    config->layout_ops->place(config, layout, file, made, self->store->seed, content->targets);
    for (uint32_t o = 0; config->meta_count && o < content->object_count; o++)
        if (content->targets[o] == config->target_count)
            content->targets[o] += number;
}

static void remember(fab_server_t *self, fab_worker_t *worker, uint32_t file, int64_t transno)
{
    meta_t *meta = self->meta_state;
    const fab_file_t *name = name_of(self, file);
    if (fab_server_config(self)->failure_count == 0)
        return;
    for (undo_t *old; (old = meta->undo_first) && old->transno <= self->committed;) {
        meta->undo_first = old->next;
        fab_store_give(worker, old, sizeof *old);
    }
    undo_t *undo = fab_store_take(worker, sizeof *undo);
    if (!undo)
        return;
    *undo = (undo_t){NULL, transno, file, name->content, name->exists};
    if (meta->undo_first)
        meta->undo_last->next = undo;
    else
        meta->undo_first = undo;
    meta->undo_last = undo;
}

/* A change of a name. */
static void change(fab_server_t *self, fab_worker_t *worker, const fab_rpc_t *rpc, uint32_t file, uint32_t content,
                   bool exists)
{
    fab_file_t *name = name_of(self, file);
    remember(self, worker, file, rpc->transno);
    name->content = content;
    name->exists = exists;
}

/* Tells a client what a name stands for; what was made as a directory has no objects. */
static void tell(const fab_server_t *self, fab_rpc_t *rpc)
{
    const fab_file_t *name = name_of(self, rpc->file);
    rpc->object = name->content;
    rpc->end = self->store->file_state[name->content].placed;
}

/* Returns whether the answer has to wait until the file is empty. */
static bool open_name(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    const bool creates = rpc->flags & FAB_IO_CREATE, there = is_there(self, rpc->file);
    const fab_file_t *name = name_of(self, rpc->file);
    rpc->refused = there ? creates && rpc->flags & FAB_IO_EXCL && !rpc->replay : !creates;
    if (rpc->refused)
        return false;
    if (!there || rpc->flags & FAB_IO_TRUNC)
        fab_server_changed(self, worker, rpc, now_ps);
    if (!there) {
        change(self, worker, rpc, rpc->file, name->content, true);
        fab_meta_place(self, name->content);
    }
    tell(self, rpc);
    return there && rpc->flags & FAB_IO_TRUNC && !rpc->replay &&
           fab_destroy_begin(self, worker, rpc->object, rpc, now_ps);
}

/* Makes or removes a name. */
static void turn_name(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, bool exists, int64_t now_ps)
{
    const fab_file_t *name = name_of(self, rpc->file);
    rpc->refused = name->exists == exists;
    if (rpc->refused)
        return;
    fab_server_changed(self, worker, rpc, now_ps);
    change(self, worker, rpc, rpc->file, name->content, exists);
    if (rpc->kind == FAB_RPC_UNLINK && !rpc->replay) /* else it has been done the first time */
        fab_destroy_begin(self, worker, name->content, NULL, now_ps);
}

/* Whether a name can be renamed: it is there, and not on its way to another server, where the first one takes it. */
static bool may_be_renamed(const fab_server_t *self, uint32_t file)
{
    for (const renaming_t *r = self->meta_state->renaming; r; r = r->next)
        if (r->rpc->file == file)
            return false;
    return is_there(self, file);
}

/* The new name is this server's own: both change at one moment. */
static void rename_here(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    const fab_file_t *name = name_of(self, rpc->file);
    rpc->refused = !may_be_renamed(self, rpc->file);
    if (rpc->refused)
        return;
    fab_server_changed(self, worker, rpc, now_ps);
    if (rpc->file == rpc->object)
        return;
    const uint32_t content = name->content, other = name_of(self, rpc->object)->content;
    change(self, worker, rpc, rpc->object, content, true);
    change(self, worker, rpc, rpc->file, other, false);
    if (!rpc->replay)
        fab_destroy_begin(self, worker, other, NULL, now_ps);
}

/* ---- renames across servers ----------------------------------------------------------------------------- */

/* Sends the other server a copy: the request itself stays here. If that one fails another will follow. */
static void forward(fab_server_t *self, fab_worker_t *worker, renaming_t *renaming, int64_t now_ps)
{
    const fab_store_config_t *config = fab_server_config(self);
    const uint32_t here = host_of(self, now_ps), there = fab_store_where(config, renaming->to, self->host, now_ps);
    renaming->copy = NULL;
    int64_t again_ps = FAB_NEVER;
    for (uint32_t i = 0; i < config->failure_count; i++)
        if (config->failures[i].server == renaming->to && config->failures[i].up_ps > now_ps)
            again_ps = fab_min_i64(again_ps, config->failures[i].up_ps);
    if (again_ps < FAB_NEVER)
        fab_store_set_timer(self->store, worker, here, FAB_STORE_TIMER_RECOVER, self, again_ps);
    if (there == FAB_NONE || !(renaming->copy = fab_store_rpc(worker)))
        return;
    renaming->epoch = fab_store_epoch(config, renaming->to, now_ps);
    fab_rpc_t *copy = renaming->copy;
    *copy = *renaming->rpc;
    copy->stage = STAGE_FORWARDED;
    copy->target = self->number;
    copy->end = self->epoch;
    copy->server = renaming->to;
    copy->epoch = renaming->epoch;
    copy->offset = name_of(self, copy->file)->content;
    fab_store_post(self->store, worker, here, there, FAB_STORE_REQUEST, copy, config->values[FAB_STORE_REQUEST_BYTES],
                   now_ps);
}

static void hand_over(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, uint32_t to, int64_t now_ps)
{
    renaming_t *renaming = fab_store_take(worker, sizeof *renaming);
    if (!renaming)
        return;
    *renaming = (renaming_t){.next = self->meta_state->renaming, .rpc = rpc, .to = to};
    self->meta_state->renaming = renaming;
    forward(self, worker, renaming, now_ps);
}

void fab_meta_hand_over_again(fab_server_t *self, fab_worker_t *worker, int64_t now_ps)
{
    for (renaming_t *r = self->meta_state ? self->meta_state->renaming : NULL; r; r = r->next)
        if (!r->copy || r->epoch != fab_store_epoch(fab_server_config(self), r->to, now_ps))
            forward(self, worker, r, now_ps);
}

/* At the second server. It may have made the change before, for a copy whose answer came to nobody. Neither has the
 * answer to this one anyone who waits for it if the first server has failed meanwhile. */
static void rename_there(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *copy, int64_t now_ps)
{
    const fab_store_config_t *config = fab_server_config(self);
    fab_file_t *name = name_of(self, copy->object);
    const uint32_t content = (uint32_t)copy->offset, first = copy->target;
    if (fab_destroy_waits(self, name->content, copy))
        return;
    if (content != name->content || !name->exists) {
        name->before = name->content;
        name->content = content;
        name->exists = true;
    }
    if (fab_store_epoch(config, first, now_ps) != (uint32_t)copy->end) {
        fab_store_give(worker, copy, sizeof *copy);
        return;
    }
    copy->stage = STAGE_RETURNED;
    copy->server = first;
    copy->epoch = (uint32_t)copy->end;
    copy->offset = name->before;
    fab_store_post(self->store, worker, host_of(self, now_ps), fab_store_where(config, first, self->host, now_ps),
                   FAB_STORE_REQUEST, copy, config->values[FAB_STORE_REQUEST_BYTES], now_ps);
}

/* ---- threads ----------------------------------------------------------------------------------------------- */

static bool is_change(const fab_server_t *self, const fab_rpc_t *rpc)
{
    switch (rpc->kind) {
    case FAB_RPC_OPEN: return rpc->flags & FAB_IO_CREATE && !is_there(self, rpc->file);
    case FAB_RPC_UNLINK:
    case FAB_RPC_MKDIR:
    case FAB_RPC_RMDIR:
    case FAB_RPC_RENAME: return true;
    default: return false;
    }
}

static int64_t service_ps(const fab_server_t *self, const fab_rpc_t *rpc, bool changes)
{
    const int64_t *values = values_of(self);
    switch (rpc->kind) {
    case FAB_RPC_OPEN: return values[changes ? FAB_STORE_CREATE_PS : FAB_STORE_OPEN_PS];
    case FAB_RPC_CLOSE: return values[FAB_STORE_CLOSE_PS];
    case FAB_RPC_STAT: return values[FAB_STORE_STAT_PS];
    case FAB_RPC_MKDIR: return values[FAB_STORE_MKDIR_PS];
    case FAB_RPC_RENAME: return values[FAB_STORE_RENAME_PS];
    case FAB_RPC_READDIR: return values[FAB_STORE_READDIR_PS];
    default: return values[FAB_STORE_UNLINK_PS];
    }
}

/* The part of a change's time that holds its directory. */
static int64_t held_ps(const fab_server_t *self, int64_t time_ps)
{
    return fab_min_i64(time_ps, values_of(self)[FAB_STORE_DIRECTORY_PS]);
}

static void begin(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    rpc->began_ps = now_ps;
    const bool changes = is_change(self, rpc);
    int64_t time_ps = service_ps(self, rpc, changes);
    if (changes)
        time_ps -= held_ps(self, time_ps);
    set_timer(self, worker, rpc, changes ? STAGE_BEGIN : STAGE_WORK, now_ps, now_ps + time_ps);
}

static void finish(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    fab_service_t *service = &self->meta;
    fab_rpc_t *next = service->first;
    if (next) {
        service->first = next->next;
        service->waiting--;
        begin(self, worker, next, now_ps);
    } else {
        service->threads_free++;
    }
    fab_server_answer(self, worker, rpc, 0, now_ps);
}

/* The server of a rename's new name; this one for all else. */
static uint32_t other_server(const fab_server_t *self, const fab_rpc_t *rpc)
{
    return rpc->kind == FAB_RPC_RENAME ? fab_store_meta_of(self->store, rpc->object) : self->number;
}

static void work(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    const uint32_t other = other_server(self, rpc);
    switch (rpc->kind) {
    case FAB_RPC_OPEN:
        if (rpc->flags & (FAB_IO_CREATE | FAB_IO_TRUNC) &&
            fab_destroy_waits(self, name_of(self, rpc->file)->content, rpc))
            return;
        if (open_name(self, worker, rpc, now_ps))
            return;
        break;
    case FAB_RPC_STAT:
        rpc->refused = !is_there(self, rpc->file);
        if (!rpc->refused)
            tell(self, rpc);
        break;
    case FAB_RPC_MKDIR: turn_name(self, worker, rpc, true, now_ps); break;
    case FAB_RPC_UNLINK:
    case FAB_RPC_RMDIR: turn_name(self, worker, rpc, false, now_ps); break;
    case FAB_RPC_RENAME:
        if (other == self->number) {
            rename_here(self, worker, rpc, now_ps);
            break;
        }
        rpc->refused = !may_be_renamed(self, rpc->file);
        if (rpc->refused)
            break;
        hand_over(self, worker, rpc, other, now_ps);
        return;
    default: break;
    }
    finish(self, worker, rpc, now_ps);
}

void fab_meta_go_on(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, bool done, int64_t now_ps)
{
    if (done)
        finish(self, worker, rpc, now_ps);
    else
        set_timer(self, worker, rpc, rpc->stage, now_ps, now_ps);
}

/* ---- what a server is told ------------------------------------------------------------------------------- */

int fab_meta_new(fab_server_t *self, fab_worker_t *worker)
{
    self->meta_state = fab_store_take(worker, sizeof *self->meta_state);
    return self->meta_state ? FAB_OK : FAB_E_MEMORY;
}

/* The second server has done its part; unless another copy told so already. */
static void is_renamed(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *copy, int64_t now_ps)
{
    renaming_t **place = &self->meta_state->renaming;
    while (*place && (*place)->copy != copy)
        place = &(*place)->next;
    renaming_t *renaming = *place;
    const uint32_t content = (uint32_t)copy->offset;
    fab_store_give(worker, copy, sizeof *copy);
    if (!renaming)
        return;
    fab_rpc_t *rpc = renaming->rpc;
    *place = renaming->next;
    fab_store_give(worker, renaming, sizeof *renaming);
    fab_server_changed(self, worker, rpc, now_ps);
    change(self, worker, rpc, rpc->file, content, false);
    if (!rpc->replay)
        fab_destroy_begin(self, worker, content, NULL, now_ps);
    finish(self, worker, rpc, now_ps);
}

void fab_meta_request(fab_server_t *self, fab_worker_t *worker, fab_rpc_t *rpc, int64_t now_ps)
{
    if (rpc->stage == STAGE_FORWARDED) {
        const int64_t time_ps = held_ps(self, values_of(self)[FAB_STORE_RENAME_PS]);
        set_timer(self, worker, rpc, STAGE_THERE, now_ps, hold(self, worker, rpc->object, FAB_NONE, time_ps, now_ps));
        return;
    }
    if (rpc->stage == STAGE_RETURNED) {
        is_renamed(self, worker, rpc, now_ps);
        return;
    }
    if (!learn(self, worker, rpc->file) || (rpc->kind == FAB_RPC_RENAME && !learn(self, worker, rpc->object)))
        return;
    fab_service_t *service = &self->meta;
    if (service->threads_free) {
        service->threads_free--;
        begin(self, worker, rpc, now_ps);
        return;
    }
    rpc->next = NULL;
    if (service->first)
        service->last->next = rpc;
    else
        service->first = rpc;
    service->last = rpc;
    if (++service->waiting > service->most_waiting)
        service->most_waiting = service->waiting;
}

void fab_meta_timer(fab_store_t *store, fab_worker_t *worker, uint32_t host, fab_rpc_t *rpc, int64_t now_ps)
{
    const bool local = store->configs[rpc->store].layout_ops->per_client;
    fab_server_t *self = store->servers[rpc->store][local ? host : rpc->server];
    switch (rpc->stage) {
    case STAGE_BEGIN: {
        const uint32_t other = other_server(self, rpc);
        const bool both = rpc->kind == FAB_RPC_RENAME && other == self->number;
        const int64_t time_ps = held_ps(self, service_ps(self, rpc, true));
        set_timer(self, worker, rpc, STAGE_WORK, now_ps,
                  hold(self, worker, rpc->file, both ? rpc->object : FAB_NONE, time_ps, now_ps));
        break;
    }
    case STAGE_THERE: rename_there(self, worker, rpc, now_ps); break;
    default: work(self, worker, rpc, now_ps); break;
    }
}

void fab_meta_forget(fab_server_t *self, fab_worker_t *worker)
{
    meta_t *meta = self->meta_state;
    if (!meta)
        return;
    self->meta.first = NULL;
    meta->renaming = NULL;
    self->meta.waiting = 0;
    self->meta.threads_free = (uint32_t)values_of(self)[FAB_STORE_META_THREADS_COUNT];
    for (uint32_t d = 0; d < meta->directory_count; d++)
        meta->free_ps[d] = 0;
    undo_t *last_first = NULL; /* the other way round: what was changed last goes back first */
    for (undo_t *undo; (undo = meta->undo_first);) {
        meta->undo_first = undo->next;
        undo->next = last_first;
        last_first = undo;
    }
    for (undo_t *undo; (undo = last_first);) {
        last_first = undo->next;
        if (undo->transno > self->committed) {
            fab_file_t *name = &self->store->file_state[undo->file];
            name->content = undo->content;
            name->exists = undo->existed;
        }
        fab_store_give(worker, undo, sizeof *undo);
    }
}
