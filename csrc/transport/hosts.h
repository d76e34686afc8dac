/* All hosts of a run: a transport for each network, and one door to them.
 *
 * What happens at a host happens in the order of time, whichever network it comes by; at one time, network by network. */
#ifndef FAB_TRANSPORT_HOSTS_H
#define FAB_TRANSPORT_HOSTS_H

#include "transport/transport.h"

typedef struct {
    uint32_t count; /* of networks */
    const fab_transport_ops_t *ops[FAB_NETWORKS_MAX];
    fab_transport_t *state[FAB_NETWORKS_MAX];
} fab_hosts_t;

int64_t fab_hosts_visit_all(const fab_hosts_t *self, fab_worker_t *worker, uint32_t slot, int64_t until_ps);

/* Handles all that happens at a host before until_ps; returns when its next event is. */
FAB_INLINE int64_t fab_hosts_visit(const fab_hosts_t *self, fab_worker_t *worker, uint32_t slot, int64_t until_ps)
{
    return FAB_LIKELY(self->count == 1) ? self->ops[0]->visit(self->state[0], worker, slot, until_ps)
                                        : fab_hosts_visit_all(self, worker, slot, until_ps);
}

/* A connection of a host: its network and the host's number of it there. */
FAB_INLINE uint32_t fab_hosts_connection(uint32_t network, uint32_t qpn) { return network << 16 | qpn; }

FAB_INLINE uint32_t fab_hosts_network(uint32_t connection) { return connection >> 16; }

FAB_INLINE void fab_hosts_post(const fab_hosts_t *self, fab_worker_t *worker, uint32_t host, uint32_t connection,
                               int64_t bytes, fab_cookie_t cookie, int64_t now_ps)
{
    const uint32_t network = fab_hosts_network(connection);
    self->ops[network]->post(self->state[network], worker, host, connection & UINT16_MAX, bytes, cookie, now_ps);
}

/* A timer of the user; false without memory. */
FAB_INLINE bool fab_hosts_set_timer(const fab_hosts_t *self, fab_worker_t *worker, uint32_t host, uint64_t key,
                                    int64_t when_ps)
{
    return self->ops[0]->set_timer(self->state[0], worker, host, key, when_ps);
}

#endif
