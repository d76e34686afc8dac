/* Small topologies and tables of operations that several tests share. */
#ifndef FAB_TESTS_WORLDS_H
#define FAB_TESTS_WORLDS_H

#include "fabricsim.h"

enum { WORLD_CABLES = 512, WORLD_NODES = 512 };

/* A topology with room for its arrays; add cables, then take `topology`. */
typedef struct {
    fab_topology_t topology;
    int32_t a[WORLD_CABLES], b[WORLD_CABLES];
    int64_t rate_mbps[WORLD_CABLES], delay_ps[WORLD_CABLES], latency_ps[WORLD_NODES];
} world_t;

void world_start(world_t *self, int32_t hosts, int32_t switches);
void world_cable(world_t *self, int32_t a, int32_t b, int64_t rate_mbps, int64_t delay_ps);

/* Every world has cables of 100 Gb/s and 1 us unless it is changed afterwards. */
void world_star(world_t *self, int32_t hosts);
void world_leaf_spine(world_t *self, int32_t leaves, int32_t spines, int32_t hosts_a_leaf);
void world_fat_tree(world_t *self, int32_t k);
/* A ring of switches with a host each: two colours if even, three if odd. */
void world_ring(world_t *self, int32_t switches);
/* A torus of routers with a host each; router i stands at x + X (y + Y z). Dimensions of at least wrap_least wrap;
 * twisted: sizes k and 2k. */
void world_torus(world_t *self, const int32_t size[3], int32_t wrap_least, bool twisted);

enum { TABLE_ROWS = 256, TABLE_ITEMS = 4096 };

/* A table of operations with room for its arrays. */
typedef struct {
    fab_table_t table;
    int64_t id[TABLE_ROWS], bytes[TABLE_ROWS], duration_ps[TABLE_ROWS], delay_ps[TABLE_ROWS], tag[TABLE_ROWS];
    int8_t kind[TABLE_ROWS], priority[TABLE_ROWS];
    int32_t stream[TABLE_ROWS];
    int32_t rank_offset[TABLE_ROWS + 1], peer_offset[TABLE_ROWS + 1], split_offset[TABLE_ROWS + 1],
        after_offset[TABLE_ROWS + 1];
    int32_t ranks[TABLE_ITEMS], peers[TABLE_ITEMS];
    int64_t splits[TABLE_ITEMS], after[TABLE_ITEMS];
} rows_t;

void rows_start(rows_t *self);
/* Adds an operation over ranks first … first+count-1, without stream; returns its row. Lists are added to the
 * newest row. */
int32_t rows_add(rows_t *self, int kind, int32_t first, int32_t count, int64_t bytes);
void rows_rank(rows_t *self, int32_t rank);
void rows_peer(rows_t *self, int32_t rank);
void rows_after(rows_t *self, int64_t id);
void rows_split(rows_t *self, int64_t bytes);
/* A send and the recv it matches. */
void rows_flow(rows_t *self, int32_t src, int32_t dst, int64_t bytes, int64_t delay_ps);

typedef struct {
    const char *room, *impl, *name;
    int64_t value;
} choice_t;

/* Compiles a model with up to 16 choices (name NULL: only the implementation); checks that it succeeds. */
fab_model_t *world_model(const world_t *self, const choice_t *choices, int32_t count);
/* Compiles rank i on host i; checks that it succeeds. */
fab_program_t *world_program(const fab_model_t *model, const rows_t *rows, int32_t ranks);

typedef struct {
    int code;
    uint64_t digest;
    fab_counters_t counters;
    fab_problems_t problems;
} outcome_t;

/* Runs to the end in steps of `slice_ps` (0: at once). */
outcome_t world_run(const fab_model_t *model, const fab_program_t *program, fab_run_options_t options,
                    int64_t slice_ps);

#endif
