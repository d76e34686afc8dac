/* A host of several networks: the next event of any, one at a time. */
#include "transport/hosts.h"

int64_t fab_hosts_visit_all(const fab_hosts_t *self, fab_worker_t *worker, uint32_t slot, int64_t until_ps)
{
    for (;;) {
        uint32_t first = 0;
        int64_t least_ps = FAB_NEVER;
        for (uint32_t w = 0; w < self->count; w++) {
            const int64_t next_ps = self->ops[w]->next_ps(self->state[w], slot);
            if (next_ps < least_ps) {
                least_ps = next_ps;
                first = w;
            }
        }
        if (least_ps >= until_ps)
            return least_ps;
        self->ops[first]->turn(self->state[first], worker, slot);
    }
}
