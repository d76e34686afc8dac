/* The state of an input-buffered switch with virtual output queues: what waits for each output, by lane and input. */
#ifndef FAB_SWITCH_VOQ_H
#define FAB_SWITCH_VOQ_H

#include "link/credit.h"
#include "switch/switch.h"

/* The packets of one input and lane for one output: a list in the switch's pool. Meaningless while its bit in `waiting`
 * is not set. */
typedef struct {
    uint32_t head, tail;
} fab_voq_t;

/* An output port. What every packet needs is a cache line. */
typedef struct {
    fab_link_t *link;
    fab_credit_t *credit;
    uint64_t *waiting; /* [lane][word] bit set of inputs with packets */
    fab_voq_t *queues; /* [lane][input] */
    uint32_t queued_bytes[FAB_LANES_MAX];
    uint32_t watch_bytes; /* a queue above this is worth a look: the lesser of mark_bytes and most_bytes */
    uint32_t link_at;
    uint16_t next_input; /* where the round robin of lane 0 goes on */
    uint8_t lanes;       /* bit set of those with packets */
    bool blocked;        /* the link is free and packets wait, but none has credits */
    fab_lane_turns_t turns;
    uint16_t next_input_of[FAB_LANES_MAX]; /* the same of the other lanes */
    uint32_t mark_bytes;                   /* a queue above this may be marked; UINT32_MAX: none */
    uint32_t most_bytes;                   /* longest queue so far */
    uint32_t
        short_bytes[FAB_LANES_MAX]; /* blocked: credits that the next packet of each lane takes; 0: there is none */
    uint32_t markable;              /* packets that could be marked so far: numbers the draws */
} __attribute__((aligned(FAB_CACHE_LINE))) fab_voq_output_t;

_Static_assert(offsetof(fab_voq_output_t, turns) <= FAB_CACHE_LINE, "what every packet needs is a cache line");

/* What a lane of an input has beside its virtual output queues, where inputs are first in, first out. */
typedef struct {
    fab_voq_t line;     /* behind the head */
    int64_t release_ps; /* the head has left; FAB_NEVER: it is not on its way */
    bool busy;          /* there is a head: offered to its output, or on its way */
    bool has_line;
} fab_voq_input_t;

struct fab_voq_switch {
    uint32_t port_count, lane_count, words;
    uint32_t levels;           /* of the tree of events: outputs are the first half of its leaves, inputs the second */
    int64_t *wake_ps;          /* [output] its next turn; FAB_NEVER */
    fab_voq_output_t *outputs; /* [output] */
    uint64_t *waiting;         /* [output][lane][word] backs theirs */
    uint64_t *blocked;         /* [word] bit set of outputs */
    fab_voq_t *queues;         /* [output][lane][input] backs theirs */
    uint32_t *in_bytes;        /* [input][lane] credits of what lies in the queues */
    /* Packets in queues. delta_ps holds the index of the one behind and the lane it came in. */
    fab_packet_t *pool;
    uint32_t pool_capacity, free;
    /* Where some output is faster than some input: packets that must not be sent on yet. */
    int64_t *held_ps;   /* [input] when it may join its queue; FAB_NEVER: none is held. NULL: no output is faster */
    uint32_t *held_for; /* [input] output */
    fab_voq_input_t *inputs; /* [input][lane] where inputs are first in, first out; else NULL */
    uint16_t *pool_output;   /* beside the pool, with `inputs` */
    int64_t release_ps;      /* the least of theirs */
};

typedef struct fab_voq_switch fab_voq_switch_t;

enum { FAB_VOQ_LANE_BITS = 2, FAB_VOQ_NONE = UINT32_MAX >> 2 };

bool fab_voq_grow(fab_voq_switch_t *self, fab_worker_t *worker);
int64_t fab_voq_visit(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t slot,
                      int64_t base_ps, int64_t until_ps);

#endif
