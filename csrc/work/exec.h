/* The execution of a program: what is released, running and done on each rank. */
#ifndef FAB_WORK_EXEC_H
#define FAB_WORK_EXEC_H

#include "work/program.h"

typedef struct fab_exec fab_exec_t;

fab_exec_t *fab_exec_new(const fab_program_t *program, const fab_hosts_t *hosts);
void fab_exec_free(fab_exec_t *self);

/* Releases an instance if it waits for nothing. Once for each, before the first window. */
void fab_exec_begin(fab_exec_t *self, fab_worker_t *worker, uint32_t instance);

/* What the transport of a network tells. */
fab_user_t fab_exec_user(fab_exec_t *self, uint32_t network);

/* Start and end of an instance, -1 where it has not happened. */
int64_t fab_exec_start_ps(const fab_exec_t *self, uint32_t instance);
int64_t fab_exec_end_ps(const fab_exec_t *self, uint32_t instance);
/* When the last byte of a recv's message was there, -1 if not yet. */
int64_t fab_exec_delivered_ps(const fab_exec_t *self, uint32_t recv_instance);

int64_t fab_exec_memory_bytes(const fab_exec_t *self);

#endif
