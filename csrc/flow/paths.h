/* Ways through the fabric as a fluid sees them: which resources a connection uses, and how long its first bits take.
 *
 * A resource is a directed link, or a stage: all links side by side that packets of one connection are spread over evenly
 * (packet spraying, adaptive routing, SRD), with the rate of all together. */
#ifndef FAB_FLOW_PATHS_H
#define FAB_FLOW_PATHS_H

#include "route/torus.h"
#include "sim/model.h"
#include "work/map.h"

enum { FAB_WAY_MOST = 512 };

/* Of one queue pair: what its packets pass, in their order. */
typedef struct {
    uint32_t count;
    uint32_t resource[FAB_WAY_MOST];
    double share[FAB_WAY_MOST]; /* of the data that passes it: 1, but where packets take different ways round */
    int64_t end_delay_ps;       /* of links and pipelines, to the end of the last */
    double end_stored;          /* ps for each byte of a packet that the wires and the stores of switches take */
    double slowest;             /* ps a byte of the slowest */
    int32_t network;
} fab_way_t;

/* What a stage is made of. */
typedef struct {
    uint32_t first, count; /* in members[] */
} fab_stage_t;

typedef struct {
    const fab_model_t *model;
    double *ps_per_byte; /* [resource_count] links, then stages */
    uint32_t resource_count, resource_capacity;
    fab_stage_t *stages; /* [resource_count - link_count] */
    uint32_t stage_capacity;
    uint32_t *members;
    uint32_t member_count, member_capacity;
    fab_map_t by_links; /* stages by a hash of their links */
    uint32_t *scratch[3];
    uint8_t *seen; /* [slot_count] */
    uint8_t *cuts; /* [link_count] the switch at its end sends packets on while they arrive */
    uint16_t torus_entropy[FAB_TORUS_CHOICES];
} fab_paths_t;

int fab_paths_new(const fab_model_t *model, fab_paths_t *self);
void fab_paths_free(fab_paths_t *self);

/* Whether packets of a connection are spread over all equal ways. */
bool fab_paths_spread(const fab_paths_t *self, int32_t network);

/* Whether the ways of a network depend on a hash of the connection. */
bool fab_paths_hashed(const fab_paths_t *self, int32_t network);

/* The way of packets with an entropy from one host to another, which the network joins. */
int fab_paths_find(fab_paths_t *self, uint32_t src, uint32_t dst, int32_t network, uint16_t entropy,
                   fab_way_t *way_out);

/* The time from the first bit of a message's start to its last one's arrival, where nothing else is under way. */
FAB_INLINE int64_t fab_way_ps(const fab_way_t *way, int64_t wire_bytes, int64_t packet_bytes)
{
    return way->end_delay_ps +
           (int64_t)((double)packet_bytes * way->end_stored + (double)(wire_bytes - packet_bytes) * way->slowest);
}

#endif
