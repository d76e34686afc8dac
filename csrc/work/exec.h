/* The execution of a program: what is released, running and done on each rank. */
#ifndef FAB_WORK_EXEC_H
#define FAB_WORK_EXEC_H

#include "work/times.h"

typedef struct fab_exec fab_exec_t;

/* `workers` are the run's; of a program with storage operations the file systems begin here. */
int fab_exec_new(const fab_program_t *program, const fab_hosts_t *hosts, fab_worker_t *workers, uint64_t seed,
                 bool record_rpcs, fab_exec_t **exec_out);
void fab_exec_free(fab_exec_t *self);

/* Releases an instance if it waits for nothing. Once for each, before the first window. */
void fab_exec_begin(fab_exec_t *self, fab_worker_t *worker, uint32_t instance);

/* What the transport of a network tells. */
fab_user_t fab_exec_user(fab_exec_t *self, uint32_t network);

fab_times_t fab_exec_times(const fab_exec_t *self);

/* Begins a storage operation that no program names; its number is one of FAB_EXEC_SESSION's. FAB_NONE without memory. */
enum { FAB_EXEC_SESSION_MAX = 1 << 24 };
uint32_t fab_exec_io(fab_exec_t *self, fab_worker_t *worker, uint32_t host, fab_io_t io, int64_t now_ps);
/* When it ended, -1 if it has not; and when it began. */
int64_t fab_exec_io_end_ps(const fab_exec_t *self, uint32_t number, int64_t *start_ps_out);

/* The file systems; NULL: the program uses none. */
fab_store_t *fab_exec_store(const fab_exec_t *self);

int64_t fab_exec_memory_bytes(const fab_exec_t *self);

#endif
