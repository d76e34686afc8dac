/* Storage operations of a program: the files it names, and which rank does what to which. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "work/program.h"

static void *copied(const void *from, size_t count, size_t size)
{
    void *copy = malloc((count + 1) * size);
    if (copy && count)
        memcpy(copy, from, count * size);
    return copy;
}

static void check_files(const fab_program_t *self, const fab_file_table_t *t, fab_problems_t *problems)
{
    for (int32_t d = 0; d < t->directory_count; d++)
        if (t->directory_stripes[d] < 1)
            fab_problems_add(problems, "directory %d: stripes: found %d, allowed: at least 1", d,
                             t->directory_stripes[d]);
    for (int32_t f = 0; f < t->count; f++) {
        if (t->store[f] < 0 || t->store[f] >= (int32_t)self->store_count) {
            fab_problems_add(problems, "file %d: found store %d, of %u", f, t->store[f], self->store_count);
            continue;
        }
        const int32_t layouts = (int32_t)self->stores[t->store[f]].layout_count;
        if (t->directory[f] < 0 || t->directory[f] >= t->directory_count)
            fab_problems_add(problems, "file %d: found directory %d, of %d", f, t->directory[f], t->directory_count);
        if (t->layout[f] < 0 || t->layout[f] >= (layouts ? layouts : 1))
            fab_problems_add(problems, "file %d: found layout %d, of %d", f, t->layout[f], layouts);
        if (t->bytes[f] < -1 || t->bytes[f] >= INT64_C(1) << 50)
            fab_problems_add(problems, "file %d: found %" PRId64 " bytes, allowed -1 to 2^50 - 1", f, t->bytes[f]);
    }
}

static int read_files(fab_program_t *self, const fab_file_table_t *t, fab_problems_t *problems)
{
    fab_files_t *files = &self->files;
    if (!t)
        return FAB_OK;
    check_files(self, t, problems);
    if (problems->count)
        return FAB_E_TRACE;
    const size_t n = (size_t)t->count, directories = (size_t)t->directory_count;
    files->store = malloc(n + 1);
    files->directory = copied(t->directory, n, sizeof *t->directory);
    files->layout = copied(t->layout, n, sizeof *t->layout);
    files->bytes = copied(t->bytes, n, sizeof *t->bytes);
    files->directory_stripes = copied(t->directory_stripes, directories, sizeof *t->directory_stripes);
    if (!files->store || !files->directory || !files->layout || !files->bytes || !files->directory_stripes)
        return FAB_E_MEMORY;
    for (size_t f = 0; f < n; f++)
        files->store[f] = (uint8_t)t->store[f];
    files->count = (uint32_t)t->count;
    files->directory_count = (uint32_t)t->directory_count;
    self->memory_bytes += (int64_t)(n * 17 + directories * 4);
    return FAB_OK;
}

/* The files of a row: one for all its ranks, or one for each. */
static uint64_t take_files(fab_program_t *self, const int32_t *from, int64_t n, uint32_t ranks, int64_t row,
                           uint64_t *fill, fab_problems_t *problems)
{
    if (n != 1 && n != ranks)
        fab_problems_add(problems, "row %" PRId64 ": file: found %" PRId64 " files for %u ranks, allowed 1 or %u", row,
                         n, ranks, ranks);
    const uint64_t first = *fill;
    for (int64_t i = 0; i < n; i++) {
        if (from[i] < 0 || from[i] >= (int32_t)self->files.count)
            fab_problems_add(problems, "row %" PRId64 ": file: found %d, of %u", row, from[i], self->files.count);
        self->op_files[(*fill)++] = (uint32_t)from[i];
    }
    return first;
}

static void read_row(fab_program_t *self, const fab_table_t *t, int64_t i, uint64_t *fill, fab_problems_t *problems)
{
    fab_op_t *op = &self->ops[i];
    const fab_set_t *set = &self->sets[op->set];
    const int64_t n = t->file_offset[i + 1] - t->file_offset[i];
    const int64_t more = t->new_file_offset[i + 1] - t->new_file_offset[i];
    fab_op_io_t *io = &self->ios[self->io_count];
    op->io = self->io_count++;
    *io = (fab_op_io_t){.flags = (uint16_t)t->flags[i],
                        .offset = t->offset[i],
                        .stride = t->stride[i],
                        .each = n > 1,
                        .new_each = more > 1};
    const int64_t last = io->offset + io->stride * (int64_t)(set->count - 1);
    if (io->offset < 0 || last < 0 || io->offset >= INT64_C(1) << 50 || last >= INT64_C(1) << 50)
        fab_problems_add(
            problems, "row %" PRId64 ": offset: found %" PRId64 " with a stride of %" PRId64 ", allowed 0 to 2^50 - 1",
            i, io->offset, io->stride);
    io->first_file = take_files(self, t->file + t->file_offset[i], n, set->count, i, fill, problems);
    if (op->kind == FAB_OP_RENAME)
        io->first_new_file = take_files(self, t->new_file + t->new_file_offset[i], more, set->count, i, fill, problems);
    for (uint32_t p = 0; p < set->count; p++)
        self->has_client[self->client_host[self->rank_host[self->ranks[set->first + p]]]] = true;
}

int fab_program_read_storage(fab_program_t *self, const fab_table_t *t, fab_problems_t *problems)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < self->op_count; i++)
        count += self->ops[i].kind >= FAB_OP_OPEN;
    if (!count && !(t->files && t->files->client_count))
        return FAB_OK;
    if (!self->store_count || !t->files || (count && !t->offset)) {
        fab_problems_add(problems, "the program has %u storage operations, and the model %u file systems", count,
                         self->store_count);
        return FAB_E_TRACE;
    }
    int code = read_files(self, t->files, problems);
    if (code)
        return code;
    const size_t names = !count ? 0
                                : (size_t)(t->file_offset[self->op_count] - t->file_offset[0]) +
                                      (size_t)(t->new_file_offset[self->op_count] - t->new_file_offset[0]);
    self->ios = calloc((size_t)count + 1, sizeof *self->ios);
    self->op_files = malloc((names + 1) * sizeof *self->op_files);
    self->has_client = calloc(self->net->host_count, sizeof *self->has_client);
    self->client_host = calloc(self->net->host_count, sizeof *self->client_host);
    if (!self->ios || !self->op_files || !self->has_client || !self->client_host)
        return FAB_E_MEMORY;
    const int32_t together = t->files->ranks_per_client;
    if (together < 0) {
        fab_problems_add(problems, "ranks_per_client: found %d, allowed: at least 1", together);
        return FAB_E_TRACE;
    }
    for (int32_t r = 0; r < self->rank_count; r++)
        self->client_host[self->rank_host[r]] = self->rank_host[together > 1 ? r / together * together : r];
    self->memory_bytes += (int64_t)(count * sizeof *self->ios + names * 4);
    uint64_t fill = 0;
    for (uint32_t i = 0; i < self->op_count; i++)
        if (self->ops[i].kind >= FAB_OP_OPEN)
            read_row(self, t, i, &fill, problems);
    for (int32_t i = 0; i < t->files->client_count; i++) {
        const int32_t rank = t->files->clients[i];
        if (rank < 0 || rank >= self->rank_count)
            fab_problems_add(problems, "clients: found rank %d, allowed 0 to %d", rank, self->rank_count - 1);
        else
            self->has_client[self->client_host[self->rank_host[rank]]] = true;
    }
    return problems->count ? FAB_E_TRACE : FAB_OK;
}

void fab_program_free_storage(fab_program_t *self)
{
    free(self->ios);
    free(self->op_files);
    free(self->has_client);
    free(self->client_host);
    free(self->files.store);
    free(self->files.directory);
    free(self->files.layout);
    free(self->files.bytes);
    free(self->files.directory_stripes);
}

fab_io_t fab_program_io(const fab_program_t *self, uint32_t instance)
{
    const fab_op_t *op = &self->ops[self->instance_op[instance]];
    const fab_op_io_t *io = &self->ios[op->io];
    const uint32_t position = instance - op->first_instance;
    return (fab_io_t){
        .instance = instance,
        .kind = op->kind,
        .flags = io->flags,
        .file = self->op_files[io->first_file + (io->each ? position : 0)],
        .new_file =
            op->kind == FAB_OP_RENAME ? self->op_files[io->first_new_file + (io->new_each ? position : 0)] : FAB_NONE,
        .offset = io->offset + io->stride * (int64_t)position,
        .bytes = op->bytes,
    };
}
