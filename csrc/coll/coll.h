/* The collective room: how ranks turn one collective into messages, each as its own small state machine.
 *
 * A rank knows its position, the number of ranks and what it has received; it sends to positions. State is
 * a few words a rank, so a ring of 16,384 ranks is never written out as messages. `step` tells the receiver
 * which message it is; messages between two ranks arrive in order, others in any order. An operation ends at a
 * rank when it has received all that it needs and all that it sent has been acknowledged. */
#ifndef FAB_COLL_COLL_H
#define FAB_COLL_COLL_H

#include "core/param.h"

enum { FAB_COLL_VALUES_MAX = 16, FAB_COLL_STEP_BITS = 24, FAB_COLL_CHANNELS_MAX = 64 };

/* Every algorithm's table begins with these; the work room applies them. */
enum {
    FAB_COLL_LAUNCH_PS,
    FAB_COLL_STEP_PS,
    FAB_COLL_NET_STEP_PS,
    FAB_COLL_OVERHEAD_PPM,
    FAB_COLL_UP_OVERHEAD_PPM,
    FAB_COLL_OWN
};

#define FAB_COLL_COMMON_PARAMS                                                                                          \
    {                                                                                                                   \
        "launch_ps", "ps", 0, 0, INT64_C(1000000000000), "time from the start of the operation to its first message",   \
        ""},                                                                                                            \
        {"step_ps", "ps", 0, 0, INT64_C(1000000000000), "time from a message's arrival until what it triggers is sent", \
         ""},                                                                                                           \
        {"net_step_ps",                                                                                                 \
         "ps",                                                                                                          \
         0,                                                                                                             \
         0,                                                                                                             \
         INT64_C(1000000000000),                                                                                        \
         "added to step_ps when the message came over the scale-out network",                                           \
         ""},                                                                                                           \
        {"overhead_ppm",                                                                                                \
         "ppm",                                                                                                         \
         0,                                                                                                             \
         0,                                                                                                             \
         10000000,                                                                                                      \
         "bytes that the protocol sends beside the data",                                                               \
         "NCCL: LL sends 8 bytes of flags with 8 of data, LL128 8 with 120"},                                           \
        {"up_overhead_ppm",                                                                                             \
         "ppm",                                                                                                         \
         0,                                                                                                             \
         0,                                                                                                             \
         10000000,                                                                                                      \
         "the same over the scale-up network, beside the protocol's: what stores of a kernel attain of its links",      \
         ""}

typedef struct {
    uint32_t reducer_count;
    const uint32_t *parent;      /* [count + reducer_count] position, FAB_NONE at a root */
    const uint32_t *child_first; /* [count + reducer_count + 1] */
    const uint32_t *children;    /* positions */
} fab_coll_tree_t;

typedef struct {
    int32_t kind; /* FAB_OP_* */
    uint32_t count, position, root;
    int64_t bytes;         /* as the trace counts them, by kind */
    const int64_t *splits; /* all_to_all: count x count by sender and receiver, or count by receiver; or NULL */
    bool splits_by_sender;
    uint32_t local_count;        /* ranks of a scale-up domain, if positions are blocks of so many a domain; else 1 */
    const fab_coll_tree_t *tree; /* NULL without in-network reducers */
    const int64_t *values;       /* of the algorithm's table */
} fab_coll_t;

typedef struct {
    uint32_t words[12];
} fab_coll_state_t;

/* Where an algorithm sends. Each channel has connections of its own; messages of one channel between two ranks stay in
 * order. */
typedef struct {
    void *self;
    void (*send)(void *self, uint32_t to_position, int64_t bytes, uint32_t step, uint32_t channel);
} fab_coll_out_t;

/* What peers() calls for every position and channel that it may send to. */
typedef void fab_coll_emit_t(void *context, uint32_t position, uint32_t channel);

/* Some of the bytes that a collective is about. */
typedef struct {
    int64_t offset, bytes;
} fab_coll_range_t;

/* What becomes of bytes that arrive: they take the place of what is there, are added to it, or are added and no
 * longer at the sender, who gets them back in a sum. */
typedef enum { FAB_COLL_KEPT, FAB_COLL_ADDED, FAB_COLL_HANDED_OVER } fab_coll_use_t;

/* What carries() calls for every range of a message. In an all_to_all the offset is sender * count + receiver. */
typedef void fab_coll_carry_t(void *context, fab_coll_range_t range, fab_coll_use_t use);

/* Which reducers an algorithm uses: none, those of each scale-up domain (one tree a domain), or one tree over all
 * ranks, which lies in the domain if they share one and in the scale-out fabric else. */
typedef enum { FAB_REDUCES_NOWHERE, FAB_REDUCES_IN_DOMAIN, FAB_REDUCES_IN_FABRIC } fab_reduces_t;

typedef struct {
    fab_impl_t impl;
    /* Calls emit for every position and channel that `coll->position` may send to. */
    void (*peers)(const fab_coll_t *coll, fab_coll_emit_t *emit, void *context);
    /* Tells which data the message `step` carries that `coll->position` sends to `to`: how the tests know that
     * every byte gets where it belongs, once. NULL: none. */
    void (*carries)(const fab_coll_t *coll, uint32_t to, uint32_t step, fab_coll_carry_t *carry, void *context);
    /* Why it cannot run over these ranks, as the end of a sentence; NULL: it can. May be NULL. */
    const char *(*refuses)(const fab_coll_t *coll);
    /* Of an algorithm whose ranks do the same over and over: how many rounds that is, and how many messages of all ranks are
     * in a round, as many on every connection; so a few rounds tell how long all take. NULL: it has none. */
    uint64_t (*rounds)(const fab_coll_t *coll, uint64_t *messages_out);
    fab_reduces_t reduces_in_network; /* uses coll->tree; peers, start and received are called for reducers too */
    /* Each returns whether the rank is done. */
    bool (*start)(const fab_coll_t *coll, fab_coll_state_t *state, fab_coll_out_t out);
    bool (*received)(const fab_coll_t *coll, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out);
    bool (*acknowledged)(const fab_coll_t *coll, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out);
} fab_coll_ops_t;

/* Bytes of part i of `parts` even parts. */
FAB_INLINE int64_t fab_coll_part(int64_t bytes, uint32_t parts, uint32_t i)
{
    return (int64_t)((unsigned __int128)bytes * (i + 1) / parts) - (int64_t)((unsigned __int128)bytes * i / parts);
}

/* How many pieces of at most `chunk_bytes` (0: no limit) to cut `bytes` in, at most `most`. */
FAB_INLINE uint32_t fab_coll_pieces(int64_t bytes, int64_t chunk_bytes, uint32_t most)
{
    const int64_t pieces = chunk_bytes && bytes ? (bytes + chunk_bytes - 1) / chunk_bytes : 1;
    return pieces > (int64_t)most ? most : (uint32_t)pieces;
}

#endif
