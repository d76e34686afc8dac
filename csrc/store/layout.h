/* Where a file's bytes are: the mapper of a file system, one implementation a file.
 *
 * A file has objects, numbered from 0; each lies on a target. A mapper cuts a range of a file into pieces, each in one
 * object, in the order of their offsets in the file. */
#ifndef FAB_STORE_LAYOUT_H
#define FAB_STORE_LAYOUT_H

#include "core/param.h"

struct fab_store_config;

enum { FAB_LAYOUT_COMPONENTS_MAX = 8, FAB_LAYOUT_MIRRORS_MAX = 4 };

typedef struct {
    int64_t begin, end; /* of the file; end INT64_MAX: as far as it goes */
    int64_t stripe_bytes;
    uint32_t stripe_count; /* of objects; more than there are targets only where overstriped */
    uint32_t first_target; /* FAB_NONE: the allocator's choice */
    uint8_t mirror;        /* 0 … mirror_count-1 */
    bool on_meta;          /* data on MDT: the metadata server keeps it */
} fab_layout_component_t;

typedef struct {
    uint32_t component_count, mirror_count;
    fab_layout_component_t components[FAB_LAYOUT_COMPONENTS_MAX];
} fab_layout_t;

/* A file as it is in a run: a name, and a content, which is another's after a rename. What is said here of the name is its
 * metadata server's alone. targets[] is written when the content is first made, and constant then. */
typedef struct {
    uint32_t object_count;
    uint32_t *targets;  /* [object_count] target of each object; those on metadata servers: target_count + server */
    uint32_t content;   /* of the name: the file whose objects it stands for */
    uint32_t before;    /* and what it stood for before a rename from another server */
    bool exists;        /* the name */
    bool placed, stale; /* the content: it has its targets; all its mirrors but the first are stale */
} fab_file_t;

/* A piece of a range. */
typedef struct {
    int64_t file_offset, object_offset, bytes;
    uint32_t object, target;
} fab_piece_t;

/* Called for every piece; returns whether to go on. */
typedef bool fab_layout_emit_t(void *context, const fab_piece_t *piece);

/* A part of a write that goes to a target of its own. */
typedef struct {
    uint32_t target;
    int64_t offset, bytes; /* of the object there, that has the target's number; offset -1: parity */
} fab_layout_shard_t;

enum { FAB_LAYOUT_SHARDS_MAX = 24 };

typedef struct {
    fab_impl_t impl;
    /* Works out values that follow from the layout's own parameters; NULL: none do. */
    void (*derive)(int64_t *values);
    /* Layout 0, of the store's own parameters; NULL: files have no layouts. */
    void (*standard)(const struct fab_store_config *config, fab_layout_t *layout_out);
    /* How many objects a file has, and on which target each lies; `allocated` counts the files that this metadata server
     * has made before: what an allocator goes round by. */
    uint32_t (*objects)(const struct fab_store_config *config, const fab_layout_t *layout);
    void (*place)(const struct fab_store_config *config, const fab_layout_t *layout, uint32_t file, uint64_t allocated,
                  uint64_t seed, uint32_t *targets_out);
    /* The pieces of a range. For a write mirror 0 is the primary; reads may choose by `client`. */
    void (*map)(const struct fab_store_config *config, const fab_layout_t *layout, const fab_file_t *state,
                uint32_t file, uint32_t client, bool write, int64_t offset, int64_t bytes, fab_layout_emit_t *emit,
                void *context);
    /* The shards that the server of a write makes of it; returns how many, at most FAB_LAYOUT_SHARDS_MAX. Some may be
     * the server's own. NULL: it keeps all itself. */
    uint32_t (*spread)(const struct fab_store_config *config, uint32_t file, int64_t offset, int64_t bytes,
                       fab_layout_shard_t *shards_out);
    /* The end of the file, from the end of one of its objects. */
    int64_t (*file_end)(const struct fab_store_config *config, const fab_layout_t *layout, uint32_t object,
                        int64_t object_end);
    /* The part of a file that an object has anything of; NULL: all. */
    void (*part_of)(const struct fab_store_config *config, const fab_layout_t *layout, uint32_t object,
                    int64_t *begin_out, int64_t *end_out);
    bool per_client; /* each client's host has a server of its own (node-local) */
} fab_layout_ops_t;

extern const fab_layout_ops_t fab_layout_lustre, fab_layout_weka, fab_layout_beegfs, fab_layout_local;

#endif
