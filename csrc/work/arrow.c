/* Reads the canonical columns of a trace from an Arrow C stream, batch by batch, into plain arrays. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "work/arrow_abi.h"

enum {
    COL_ID,
    COL_KIND,
    COL_RANKS,
    COL_PEER,
    COL_BYTES,
    COL_SPLITS,
    COL_DURATION,
    COL_DELAY,
    COL_STREAM,
    COL_AFTER,
    COL_TAG,
    COL_PRIORITY,
    COL_VARIANT, /* may be missing */
    COL_FILES,   /* the columns of storage: all, or none */
    COL_NEW_FILES,
    COL_OFFSET,
    COL_STRIDE,
    COL_FLAGS,
    COL_GROUP_SIZE, /* both, or neither */
    COL_REPEAT,
    COL_COUNT
};

typedef struct {
    const char *name;
    const char *format; /* Arrow's: l int64, i int32, c int8, +l list */
    const char *item;   /* of a list */
    size_t bytes;       /* of a value, or of a list's item */
} column_t;

static const column_t columns[COL_COUNT] = {
    {"id", "l", NULL, 8},      {"kind", "c", NULL, 1},   {"ranks", "+l", "i", 4},       {"peer", "+l", "i", 4},
    {"bytes", "l", NULL, 8},   {"splits", "+l", "l", 8}, {"duration_ps", "l", NULL, 8}, {"delay_ps", "l", NULL, 8},
    {"stream", "i", NULL, 4},  {"after", "+l", "l", 8},  {"tag", "l", NULL, 8},         {"priority", "c", NULL, 1},
    {"variant", "s", NULL, 2}, {"files", "+l", "i", 4},  {"new_files", "+l", "i", 4},   {"offset", "l", NULL, 8},
    {"stride", "l", NULL, 8},  {"flags", "s", NULL, 2},  {"group_size", "i", NULL, 4},  {"count", "l", NULL, 8},
};

/* Columns that are there together, or not at all; those before must be there. */
static const int optional[] = {COL_VARIANT, COL_FILES, COL_GROUP_SIZE, COL_COUNT};

typedef struct {
    char *data;
    size_t used, capacity;
} bytes_t;

typedef struct {
    bytes_t values[COL_COUNT];
    bytes_t offsets[COL_COUNT];
    int column_of[COL_COUNT]; /* by place in the table */
    int64_t rows;
} gathered_t;

static bool append(bytes_t *self, const void *data, size_t bytes)
{
    if (self->used + bytes > self->capacity) {
        const size_t capacity = 2 * (self->used + bytes) + 64;
        char *bigger = realloc(self->data, capacity);
        if (!bigger)
            return false;
        self->data = bigger;
        self->capacity = capacity;
    }
    if (bytes)
        memcpy(self->data + self->used, data, bytes);
    self->used += bytes;
    return true;
}

/* Finds out which columns the table has; -1: it cannot be told. */
static int find_columns(gathered_t *to, const struct ArrowSchema *schema)
{
    int count = 0;
    for (int c = 0; c < COL_VARIANT; c++)
        to->column_of[count++] = c;
    for (int b = 0; optional[b] < COL_COUNT; b++) {
        if (count >= schema->n_children || strcmp(schema->children[count]->name, columns[optional[b]].name) != 0)
            continue;
        for (int c = optional[b]; c < optional[b + 1]; c++)
            to->column_of[count++] = c;
    }
    return count == schema->n_children ? count : -1;
}

static void check_schema(gathered_t *to, const struct ArrowSchema *schema, fab_problems_t *problems)
{
    const int count = strcmp(schema->format, "+s") == 0 ? find_columns(to, schema) : -1;
    if (count < 0) {
        fab_problems_add(problems,
                         "the program's table has %" PRId64 " columns, allowed %d, then variant, those of storage, and "
                         "group_size with count",
                         schema->n_children, COL_VARIANT);
        return;
    }
    for (int i = 0; i < count; i++) {
        const struct ArrowSchema *child = schema->children[i];
        const int c = to->column_of[i];
        const bool list = columns[c].item != NULL;
        if (strcmp(child->name, columns[c].name) != 0 || strcmp(child->format, columns[c].format) != 0 ||
            (list && (child->n_children != 1 || strcmp(child->children[0]->format, columns[c].item) != 0)))
            fab_problems_add(problems, "column %d: found %s of type %s%s, allowed %s of type %s%s", i, child->name,
                             child->format, list && child->n_children ? child->children[0]->format : "",
                             columns[c].name, columns[c].format, list ? columns[c].item : "");
    }
}

/* Some producers leave the null count open (-1): then the bitmap, buffer 0, tells. */
static bool has_nulls(const struct ArrowArray *array)
{
    return array->null_count > 0 || (array->null_count < 0 && array->n_buffers && array->buffers[0]);
}

static int take_column(gathered_t *to, int c, const struct ArrowArray *array, int64_t rows, fab_problems_t *problems)
{
    if (array->length < rows || has_nulls(array)) {
        fab_problems_add(problems, "column %s: has nulls or too few rows", columns[c].name);
        return FAB_E_TRACE;
    }
    if (!columns[c].item) {
        const char *data = rows ? (const char *)array->buffers[1] + (size_t)array->offset * columns[c].bytes : NULL;
        return append(&to->values[c], data, (size_t)rows * columns[c].bytes) ? FAB_OK : FAB_E_MEMORY;
    }
    const struct ArrowArray *items = array->children[0];
    if (has_nulls(items)) {
        fab_problems_add(problems, "column %s: has null items", columns[c].name);
        return FAB_E_TRACE;
    }
    if (!rows)
        return FAB_OK;
    const int32_t *offsets = (const int32_t *)array->buffers[1] + array->offset;
    const int64_t before = (int64_t)(to->values[c].used / columns[c].bytes), shift = before - offsets[0];
    if (before + offsets[rows] - offsets[0] > INT32_MAX) {
        fab_problems_add(problems, "column %s: has more than 2^31 items", columns[c].name);
        return FAB_E_LIMIT;
    }
    if (!to->offsets[c].data && !append(&to->offsets[c], &(int32_t){0}, 4))
        return FAB_E_MEMORY;
    const size_t at = to->offsets[c].used;
    if (!append(&to->offsets[c], offsets + 1, (size_t)rows * 4))
        return FAB_E_MEMORY;
    int32_t *own = (int32_t *)(void *)(to->offsets[c].data + at);
    for (int64_t i = 0; i < rows; i++)
        own[i] = (int32_t)(own[i] + shift);
    const size_t count = (size_t)(offsets[rows] - offsets[0]);
    const char *data =
        count ? (const char *)items->buffers[1] + (size_t)(items->offset + offsets[0]) * columns[c].bytes : NULL;
    return append(&to->values[c], data, count * columns[c].bytes) ? FAB_OK : FAB_E_MEMORY;
}

/* The first line of what the producer says: the rest may be its stack. */
static void stream_failed(struct ArrowArrayStream *stream, const char *otherwise, fab_problems_t *problems)
{
    const char *why = stream->get_last_error(stream);
    if (!why || !*why)
        why = otherwise;
    fab_problems_add(problems, "the program's table: %.*s", (int)strcspn(why, "\n"), why);
}

static int gather(struct ArrowArrayStream *stream, gathered_t *to, fab_problems_t *problems)
{
    struct ArrowSchema schema = {0};
    if (stream->get_schema(stream, &schema)) {
        stream_failed(stream, "no schema", problems);
        return FAB_E_TRACE;
    }
    check_schema(to, &schema, problems);
    schema.release(&schema);
    if (problems->count)
        return FAB_E_TRACE;
    for (;;) {
        struct ArrowArray batch = {0};
        if (stream->get_next(stream, &batch)) {
            stream_failed(stream, "a batch could not be read", problems);
            return FAB_E_TRACE;
        }
        if (!batch.release)
            return FAB_OK;
        int code = FAB_OK;
        for (int i = 0; i < batch.n_children && i < COL_COUNT && !code; i++) {
            /* a struct's own offset applies to its children */
            struct ArrowArray child = *batch.children[i];
            child.offset += batch.offset;
            child.length -= batch.offset;
            code = take_column(to, to->column_of[i], &child, batch.length, problems);
        }
        to->rows += batch.length;
        batch.release(&batch);
        if (code)
            return code;
    }
}

int fab_program_from_arrow(const fab_model_t *model, struct ArrowArrayStream *stream, const int32_t *rank_host,
                           int32_t rank_count, const fab_collectives_t *collectives, const fab_file_table_t *files,
                           fab_problems_t *problems, fab_program_t **program_out)
{
    gathered_t g = {0};
    static const int32_t no_rows = 0;
    static const int64_t no_values = 0;
    int code = gather(stream, &g, problems);
    if (!code) {
#define VALUES(c) (g.values[c].data ? (const void *)g.values[c].data : (const void *)&no_values)
#define OFFSETS(c) (g.offsets[c].data ? (const int32_t *)(const void *)g.offsets[c].data : &no_rows)
        const fab_table_t table = {
            .op_count = g.rows,
            .id = VALUES(COL_ID),
            .kind = VALUES(COL_KIND),
            .rank_offset = OFFSETS(COL_RANKS),
            .ranks = VALUES(COL_RANKS),
            .peer_offset = OFFSETS(COL_PEER),
            .peers = VALUES(COL_PEER),
            .bytes = VALUES(COL_BYTES),
            .split_offset = OFFSETS(COL_SPLITS),
            .splits = VALUES(COL_SPLITS),
            .duration_ps = VALUES(COL_DURATION),
            .delay_ps = VALUES(COL_DELAY),
            .stream = VALUES(COL_STREAM),
            .after_offset = OFFSETS(COL_AFTER),
            .after = VALUES(COL_AFTER),
            .tag = VALUES(COL_TAG),
            .priority = VALUES(COL_PRIORITY),
            .variant = (const void *)g.values[COL_VARIANT].data,
            .file_offset = OFFSETS(COL_FILES),
            .file = VALUES(COL_FILES),
            .new_file_offset = OFFSETS(COL_NEW_FILES),
            .new_file = VALUES(COL_NEW_FILES),
            .offset = (const void *)g.values[COL_OFFSET].data,
            .stride = (const void *)g.values[COL_STRIDE].data,
            .flags = (const void *)g.values[COL_FLAGS].data,
            .group_size = (const void *)g.values[COL_GROUP_SIZE].data,
            .count = (const void *)g.values[COL_REPEAT].data,
            .files = files,
        };
#undef VALUES
#undef OFFSETS
        code = fab_program_new(model, &table, rank_host, rank_count, collectives, problems, program_out);
    }
    for (int c = 0; c < COL_COUNT; c++) {
        free(g.values[c].data);
        free(g.offsets[c].data);
    }
    return code;
}
