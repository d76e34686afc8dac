/* Links with credits: a sender knows what room the receiver's buffer has, in blocks and for each virtual lane, and sends
 * nothing that would not fit (InfiniBand Architecture Specification vol. 1, ch. 7.9).
 *
 * What the receiver gives back comes to the sender a link's delay later. Returns lie in a ring in the order of their
 * times, written by the receiver and read by the sender only when it is short of credits. Neither works while the other
 * does (they have different colours), and a return is written at least one lookahead before it counts: so no order of
 * visits can change what a sender sees. */
#ifndef FAB_LINK_CREDIT_H
#define FAB_LINK_CREDIT_H

#include "core/lanes.h"
#include "link/link_room.h"
#include "net/link.h"

typedef struct {
    int64_t when_ps; /* the sender may use it from here on */
    uint32_t bytes;
    uint32_t lane;
} fab_credit_return_t;

/* The credits of a directed link, kept in bytes of whole blocks. */
typedef struct fab_credit {
    uint32_t bytes[FAB_LANES_MAX]; /* the sender's: free for it to use, as far as it has looked */
    fab_credit_return_t *ring;
    uint32_t mask;
    uint32_t head;    /* the sender's */
    uint32_t tail;    /* the receiver's */
    uint32_t back_ps; /* from the release of a buffer until the sender can use it */
    int64_t last_ps;  /* of the newest return */
    uint32_t tx_slot;
    uint32_t buffer_bytes; /* of each lane */
    uint16_t block_mask;   /* bytes of a block less one */
    bool wanted;           /* the sender has packets but no credits for them: returns wake it */
} __attribute__((aligned(FAB_CACHE_LINE))) fab_credit_t;

_Static_assert(sizeof(fab_credit_t) == FAB_CACHE_LINE, "the credits of a link are a cache line");

/* Bytes of a lane's buffer at the end of a link, in whole blocks. */
int64_t fab_credit_buffer_bytes(const fab_link_config_t *config, const fab_net_t *net, uint32_t link,
                                int64_t wire_max_bytes);

/* Checks that every buffer holds the largest packet, and that nothing is out of reach of 32 bits. */
void fab_credit_check(const fab_link_config_t *config, const fab_net_t *net, int64_t wire_max_bytes,
                      fab_problems_t *problems);

/* Gives a link all its credits; false without memory. */
bool fab_credit_init(fab_credit_t *self, const fab_link_config_t *config, const fab_net_t *net, uint32_t link,
                     int64_t wire_max_bytes, fab_pool_t *pool);

/* Slow paths: a full ring, or a return that comes before the newest one. */
bool fab_credit_make_room(fab_credit_t *self, fab_worker_t *worker, int64_t seen_ps);
void fab_credit_insert(fab_credit_t *self, fab_credit_return_t credit);

/* What a packet takes of a buffer. */
FAB_INLINE uint32_t fab_credit_size(const fab_credit_t *self, uint32_t wire_bytes)
{
    const uint32_t mask = self->block_mask;
    return (wire_bytes + mask) & ~mask;
}

/* Sender: counts what has come back by now. */
FAB_INLINE void fab_credit_collect(fab_credit_t *self, int64_t now_ps)
{
    const fab_credit_return_t *ring = self->ring;
    const uint32_t tail = self->tail, mask = self->mask;
    uint32_t head = self->head;
    for (; head != tail; head++) {
        const fab_credit_return_t *credit = &ring[head & mask];
        if (credit->when_ps > now_ps)
            break;
        self->bytes[credit->lane] += credit->bytes;
    }
    self->head = head;
}

/* Sender: are there credits for a packet of this size now? */
FAB_INLINE bool fab_credit_available(fab_credit_t *self, uint32_t lane, uint32_t size, int64_t now_ps)
{
    if (FAB_LIKELY(self->bytes[lane] >= size))
        return true;
    fab_credit_collect(self, now_ps);
    return self->bytes[lane] >= size;
}

/* Sender: when there will be, as far as is known yet. */
FAB_INLINE int64_t fab_credit_available_ps(const fab_credit_t *self, uint32_t lane, uint32_t size)
{
    const uint32_t tail = self->tail;
    uint32_t sum = self->bytes[lane];
    for (uint32_t i = self->head; i != tail; i++) {
        const fab_credit_return_t *credit = &self->ring[i & self->mask];
        if (credit->lane == lane && (sum += credit->bytes) >= size)
            return credit->when_ps;
    }
    return FAB_NEVER;
}

/* Sender: uses credits for a packet that begins now. */
FAB_INLINE void fab_credit_take(fab_credit_t *self, uint32_t lane, uint32_t size) { self->bytes[lane] -= size; }

/* Receiver: gives back what a packet held until release_ps, and wakes a sender that waits for it. now_ps is the time of
 * the event that knows of it. */
FAB_INLINE void fab_credit_return(fab_credit_t *self, fab_worker_t *worker, const fab_net_t *net, uint32_t lane,
                                  uint32_t size, int64_t release_ps, int64_t now_ps)
{
    const int64_t when_ps = release_ps + self->back_ps;
    if (FAB_UNLIKELY(self->tail - self->head > self->mask) &&
        !fab_credit_make_room(self, worker, now_ps - net->lookahead_ps))
        return;
    if (FAB_LIKELY(when_ps >= self->last_ps)) {
        const uint32_t tail = self->tail;
        fab_credit_return_t *credit = &self->ring[tail & self->mask];
        credit->when_ps = when_ps;
        credit->bytes = size;
        credit->lane = lane;
        self->last_ps = when_ps;
        self->tail = tail + 1;
    } else {
        fab_credit_insert(self, (fab_credit_return_t){when_ps, size, lane});
    }
    if (FAB_UNLIKELY(self->wanted))
        fab_link_notify(worker, net, self->tx_slot, when_ps);
}

#endif
