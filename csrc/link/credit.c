/* Credits: parameters, buffer sizes, and the slow paths of their rings. */
#include "link/credit.h"

#include <inttypes.h>

enum { VL_BUFFER_BYTES, CREDIT_BLOCK_BYTES, CREDIT_DELAY_PS };

enum { FIRST_RETURNS = 16 };
#define BUFFER_MOST_BYTES (INT64_C(1) << 31)

static const fab_param_t params[] = {
    {"vl_buffer_bytes", "bytes", 0, 0, INT64_C(1) << 31,
     "buffer of each virtual lane at the end of a link; 0: what the wire there and back and the credit delay hold, and "
     "two of the largest packets",
     "InfiniBand spec vol. 1, ch. 7.9; the zero-loss condition of a credit loop"},
    {"credit_block_bytes", "bytes", 64, 16, 4096, "what one credit stands for; a power of two", "InfiniBand spec: 64"},
    {"credit_delay_ps", "ps", 0, 0, INT64_C(1000000000), "from the release of a buffer until the credit is on the wire",
     "implementations publish none"},
    FAB_PARAM_END,
};

const fab_impl_t fab_link_credit = {"link", "credit", "credits by virtual lane: nothing is sent that has no room",
                                    params, 0};

void fab_link_credit_config(const int64_t *values, fab_link_config_t *config_out)
{
    *config_out = (fab_link_config_t){
        .credit = true,
        .vl_buffer_bytes = values[VL_BUFFER_BYTES],
        .credit_block_bytes = values[CREDIT_BLOCK_BYTES],
        .credit_delay_ps = values[CREDIT_DELAY_PS],
    };
}

int64_t fab_credit_buffer_bytes(const fab_link_config_t *config, const fab_net_t *net, uint32_t link,
                                int64_t wire_max_bytes)
{
    const int64_t block = config->credit_block_bytes;
    if (config->vl_buffer_bytes)
        return config->vl_buffer_bytes / block * block;
    const int64_t loop_ps = net->delay_ps[link] + net->delay_ps[net->out_link[link]] + config->credit_delay_ps;
    const int64_t largest = (wire_max_bytes + block - 1) / block * block;
    const int64_t loop_bytes = fab_wire_bytes(loop_ps, fab_wire_ps_per_byte_q16(net->rate_mbps[link]));
    return fab_min_i64((loop_bytes + block - 1) / block * block + 2 * largest, BUFFER_MOST_BYTES);
}

void fab_credit_check(const fab_link_config_t *config, const fab_net_t *net, int64_t wire_max_bytes,
                      fab_problems_t *problems)
{
    const int64_t block = config->credit_block_bytes, largest = (wire_max_bytes + block - 1) / block * block;
    if (block & (block - 1))
        fab_problems_add(problems, "link.credit.credit_block_bytes: found %" PRId64 ", allowed are powers of two",
                         block);
    else if (config->vl_buffer_bytes && config->vl_buffer_bytes < largest)
        fab_problems_add(problems,
                         "link.credit.vl_buffer_bytes: %" PRId64 " does not hold the largest packet, %" PRId64
                         " bytes on the wire in blocks of %" PRId64,
                         config->vl_buffer_bytes, wire_max_bytes, block);
    (void)net;
}

bool fab_credit_init(fab_credit_t *self, const fab_link_config_t *config, const fab_net_t *net, uint32_t link,
                     int64_t wire_max_bytes, fab_pool_t *pool)
{
    const uint32_t bytes = (uint32_t)fab_credit_buffer_bytes(config, net, link, wire_max_bytes);
    *self = (fab_credit_t){
        .ring = fab_pool_take(pool, fab_pool_class(FIRST_RETURNS * sizeof *self->ring)),
        .mask = FIRST_RETURNS - 1,
        .back_ps = (uint32_t)(net->delay_ps[net->out_link[link]] + config->credit_delay_ps),
        .last_ps = -FAB_NEVER,
        .tx_slot = net->tx_slot[link],
        .buffer_bytes = bytes,
        .block_mask = (uint16_t)(config->credit_block_bytes - 1),
    };
    for (uint32_t lane = 0; lane < FAB_LANES_MAX; lane++)
        self->bytes[lane] = bytes;
    return self->ring != NULL;
}

/* What was usable at seen_ps counts already, whoever adds it up: the sender will not look at any earlier time again. Only
 * if that makes no room the ring grows. */
FAB_NOINLINE bool fab_credit_make_room(fab_credit_t *self, fab_worker_t *worker, int64_t seen_ps)
{
    fab_credit_collect(self, seen_ps);
    const uint32_t capacity = self->mask + 1, doubled = 2 * capacity;
    if (self->tail - self->head <= capacity / 2)
        return true;
    fab_credit_return_t *ring = fab_pool_take(&worker->pool, fab_pool_class(doubled * sizeof *ring));
    if (!ring) {
        worker->error = FAB_E_MEMORY;
        return false;
    }
    for (uint32_t i = self->head; i != self->tail; i++)
        ring[i & (doubled - 1)] = self->ring[i & self->mask];
    fab_pool_give(&worker->pool, self->ring, fab_pool_class(capacity * sizeof *ring));
    self->ring = ring;
    self->mask = doubled - 1;
    worker->ring_bytes += (int64_t)(capacity * sizeof *ring);
    return true;
}

/* A packet that began later can have left earlier, by another output. */
FAB_NOINLINE void fab_credit_insert(fab_credit_t *self, fab_credit_return_t credit)
{
    uint32_t at = self->tail++;
    for (; at != self->head && self->ring[(at - 1) & self->mask].when_ps > credit.when_ps; at--)
        self->ring[at & self->mask] = self->ring[(at - 1) & self->mask];
    self->ring[at & self->mask] = credit;
}
