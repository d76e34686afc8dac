/* Operations, sends, what is blocked: from the times of instances. */
#include "work/times.h"

#include <inttypes.h>

#include "core/digest.h"

void fab_times_ops(fab_times_t self, int64_t *op_out, int32_t *rank_out, int64_t *start_ps_out, int64_t *end_ps_out)
{
    for (uint32_t i = 0; i < self.program->instance_count; i++) {
        op_out[i] = self.program->instance_op[i];
        rank_out[i] = (int32_t)fab_program_rank(self.program, i);
        start_ps_out[i] = self.start_ps[i];
        end_ps_out[i] = self.end_ps[i];
    }
}

void fab_times_sends(fab_times_t self, int64_t *op_out, int32_t *src_out, int32_t *dst_out, int64_t *bytes_out,
                     int64_t *start_ps_out, int64_t *end_ps_out, int64_t *delivered_ps_out)
{
    const fab_program_t *program = self.program;
    int64_t n = 0;
    for (uint32_t i = 0; i < program->instance_count; i++) {
        const fab_op_t *op = &program->ops[program->instance_op[i]];
        if (op->kind != FAB_OP_SEND)
            continue;
        op_out[n] = program->instance_op[i];
        src_out[n] = (int32_t)fab_program_rank(program, i);
        dst_out[n] = program->peers[op->peer_first + i - op->first_instance];
        bytes_out[n] = op->bytes;
        start_ps_out[n] = self.start_ps[i];
        end_ps_out[n] = self.end_ps[i];
        delivered_ps_out[n] = self.delivered_ps[program->match[i]];
        n++;
    }
}

uint64_t fab_times_digest(fab_times_t self, uint64_t digest)
{
    for (uint32_t i = 0; i < self.program->instance_count; i++) {
        digest = fab_digest_add(digest, (uint64_t)self.start_ps[i]);
        digest = fab_digest_add(digest, (uint64_t)self.end_ps[i]);
    }
    return digest;
}

int64_t fab_times_blocked(fab_times_t self, fab_blocked_t *blocked_out, int64_t limit)
{
    const fab_program_t *program = self.program;
    int64_t n = 0;
    /* running ones first: they are what the others wait for */
    for (int pass = 1; pass >= 0; pass--) {
        for (uint32_t i = 0; i < program->instance_count; i++) {
            const bool running = self.start_ps[i] >= 0;
            if (self.end_ps[i] >= 0 || running != pass)
                continue;
            if (n < limit) {
                const fab_op_t *op = &program->ops[program->instance_op[i]];
                const bool paired = running && (op->kind == FAB_OP_SEND || op->kind == FAB_OP_RECV);
                blocked_out[n] = (fab_blocked_t){
                    .op = program->instance_op[i],
                    .rank = (int32_t)fab_program_rank(program, i),
                    .waits_for = paired ? program->peers[op->peer_first + i - op->first_instance] : -1,
                    .state = running,
                };
            }
            n++;
        }
    }
    return n;
}

void fab_times_tell_deadlock(fab_times_t self, int64_t end_ps, int64_t done, fab_problems_t *problems)
{
    const uint32_t all = self.program->instance_count;
    fab_problems_add(
        problems, "nothing can happen any more after %" PRId64 " ps, and %" PRId64 " of %u operations have not ended",
        end_ps, all - done, all);
}

void fab_times_tell_blocked(fab_times_t self, fab_problems_t *problems)
{
    fab_blocked_t blocked[16];
    const int64_t n = fab_times_blocked(self, blocked, 16);
    for (int64_t i = 0; i < n && i < 16; i++) {
        const fab_blocked_t *b = &blocked[i];
        const int64_t id = self.program->ops[b->op].id;
        if (b->waits_for >= 0)
            fab_problems_add(problems, "operation %" PRId64 " on rank %d waits for rank %d", id, b->rank, b->waits_for);
        else
            fab_problems_add(problems, "operation %" PRId64 " on rank %d %s", id, b->rank,
                             !b->state                                      ? "waits for operations before it"
                             : self.program->ops[b->op].kind >= FAB_OP_OPEN ? "waits for storage"
                                                                            : "waits for messages of its collective");
    }
}
