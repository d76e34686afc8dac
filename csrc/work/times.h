/* What an execution of a program tells of its operations, whoever executed it. */
#ifndef FAB_WORK_TIMES_H
#define FAB_WORK_TIMES_H

#include "work/program.h"

/* Per instance, -1 where it has not happened. */
typedef struct {
    const fab_program_t *program;
    const int64_t *start_ps, *end_ps;
    const int64_t *delivered_ps; /* of recvs: the last byte of the message is there; NULL: the program sends nothing */
} fab_times_t;

void fab_times_ops(fab_times_t self, int64_t *op_out, int32_t *rank_out, int64_t *start_ps_out, int64_t *end_ps_out);
void fab_times_sends(fab_times_t self, int64_t *op_out, int32_t *src_out, int32_t *dst_out, int64_t *bytes_out,
                     int64_t *start_ps_out, int64_t *end_ps_out, int64_t *delivered_ps_out);
uint64_t fab_times_digest(fab_times_t self, uint64_t digest);

/* Up to `limit` instances that have not ended; returns how many there are in all. */
int64_t fab_times_blocked(fab_times_t self, fab_blocked_t *blocked_out, int64_t limit);

/* Adds lines for a program that can never finish: how many instances have ended, and who waits for whom. */
void fab_times_tell_deadlock(fab_times_t self, int64_t end_ps, int64_t done, fab_problems_t *problems);
void fab_times_tell_blocked(fab_times_t self, fab_problems_t *problems);

#endif
