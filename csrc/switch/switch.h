/* The switch room: how a switch moves what arrives to its output links. */
#ifndef FAB_SWITCH_SWITCH_H
#define FAB_SWITCH_SWITCH_H

#include "core/lanes.h"
#include "link/change.h"
#include "link/link_room.h"
#include "net/link.h"
#include "route/route.h"

/* What the model fixes for all switches of a network. */
typedef struct {
    uint32_t network; /* whose switches they are */
    int64_t buffer_bytes;
    bool cut_through;
    bool ecn;
    int64_t ecn_kmin_bytes, ecn_kmax_bytes, ecn_pmax_ppm;
    int64_t alpha_q16;      /* dynamic threshold of an output queue of a lossy fabric */
    int64_t wire_max_bytes; /* the largest frame there can be */
    bool control_priority;  /* control packets overtake data */
    int64_t data_class_count;
    bool telemetry;                /* outputs write on data packets what they do */
    bool scheduled;                /* queues and turns at outputs, not departures fixed at arrival */
    fab_arbitration_t arbitration; /* among data classes */
    fab_link_config_t link;
    bool
        always_cut_through; /* even where an output is faster than the input: the switch waits no longer than it must */
    bool input_queue;       /* first in, first out by input */
    fab_lanes_t lanes;
    int64_t fecn_threshold, fecn_marking_rate, fecn_packet_blocks;
    bool fecn_victim_mask;
} fab_switch_config_t;

enum { FAB_BUFFER_BLOCK = 8 };

/* The buffer of one switch in a run. */
typedef struct {
    int64_t used_bytes;      /* of counted packets; lags behind departures unless an input is paused */
    int64_t shared_bytes;    /* the buffer less all headroom */
    int64_t calm_bytes;      /* an input up to this cannot be above its XOFF level, whatever the others do */
    int64_t calm_queue_ps;   /* lossy: the same in time of the fastest output wire; FAB_NEVER when lossless */
    int64_t *in_bytes;       /* [port] lags like used_bytes */
    int64_t *level_bytes;    /* [port] in_bytes when XOFF was sent */
    int64_t *headroom_bytes; /* [port] */
    int64_t *release_ps;     /* [port] next departure, kept while an input is paused; FAB_NEVER behind the last port */
    int64_t *block_ps;       /* [port / FAB_BUFFER_BLOCK] the least of them */
    uint64_t *in_paused;     /* [port / 64] bits: the inputs that are */
    uint32_t paused_count;
    bool tight;                   /* a lossy switch so full that every queue must be looked at */
    int64_t seen_ps, seen_bytes;  /* lossy: when the whole buffer was last added up, and what was in it */
    uint64_t in_bytes_per_ps_q32; /* lossy: the most that can come in */
} fab_buffer_t;

typedef struct {
    const fab_switch_config_t *config;
    const fab_route_t *route;
    fab_buffer_t *buffers;                    /* [switch_count] with one data class */
    struct fab_class_switch **class_switches; /* [switch_count] with several */
    struct fab_voq_switch **voq_switches;     /* [switch_count] with virtual output queues */
    uint32_t count;
    int64_t memory_bytes; /* beside what the workers' pools hold */
} fab_switches_t;

typedef struct {
    fab_impl_t impl;
    bool writes_telemetry;
    void (*configure)(const int64_t *values, fab_switch_config_t *config_out);
    /* Checks that the buffer can hold the headroom that the links need. */
    int (*check)(const fab_switch_config_t *config, const fab_net_t *net, fab_problems_t *problems);
    int (*init)(fab_switches_t *self, const fab_fabric_t *fabric);
    void (*free)(fab_switches_t *self);
    /* Handles all that happens at the switch before until_ps, nothing of it before base_ps; returns the
     * time of what is next, as far as the switch knows. */
    int64_t (*visit)(const fab_switches_t *self, const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t slot,
                     int64_t base_ps, int64_t until_ps);
    /* Between phases: carries out a change of a link that leaves a switch; everything before now_ps has happened. */
    void (*change)(const fab_switches_t *self, const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t link,
                   fab_link_change_t what, int64_t value, int64_t now_ps);
    /* The data classes that the switch at the end of a link has paused there; NULL: it never pauses. */
    uint32_t (*pauses)(const fab_switches_t *self, const fab_fabric_t *fabric, uint32_t link);
    /* What has not been given back by the end of a run, as a line for each problem; NULL: nothing is held. */
    void (*check_end)(const fab_switches_t *self, const fab_fabric_t *fabric, fab_problems_t *problems);
} fab_switch_ops_t;

extern const fab_switch_ops_t fab_switch_ethernet, fab_switch_voq;

#endif
