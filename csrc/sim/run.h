/* A run: everything that changes. */
#ifndef FAB_SIM_RUN_H
#define FAB_SIM_RUN_H

#include <stdatomic.h>

#include "sim/fault.h"
#include "sim/model.h"
#include "work/exec.h"

enum { FAB_THREADS_MAX = 64 };

/* What the threads tell each other between phases, in two turns. */
typedef struct {
    int64_t *colour_ps[2]; /* [colour] earliest event that this thread knows of */
    int64_t *view_ps;      /* [colour] the least over all boards */
    int error[2];
} __attribute__((aligned(2 * FAB_CACHE_LINE))) fab_board_t;

typedef struct {
    uint32_t first_block, end_block;
    uint16_t colour;
    bool is_switch;
    uint8_t network; /* of switches */
} fab_range_t;

struct fab_run {
    const fab_model_t *model;
    const fab_program_t *program;
    fab_run_options_t options;
    fab_fabric_t fabric;
    fab_switches_t switches[FAB_NETWORKS_MAX];
    fab_hosts_t hosts;
    fab_exec_t *exec;
    fab_faults_t *faults; /* NULL: nothing changes */
    uint32_t thread_count;
    fab_worker_t *workers; /* [thread] */
    fab_board_t *boards;   /* [thread] */
    fab_range_t *ranges;   /* [thread][group] */
    int64_t *residual_ps;  /* [thread][colour] earliest event of the thread's own nodes, as of their last phase */
    int64_t now_ps;        /* everything before has happened */
    int64_t frontier_ps;   /* and everything before this, even if nothing was to happen until then */
    int64_t windows;
    int64_t carried_hops; /* when link counts were last carried over */
    uint32_t turn;
    bool finished;
    int failed; /* the error that ended the run */
    _Atomic uint32_t barrier_count, barrier_turn;
};

#endif
