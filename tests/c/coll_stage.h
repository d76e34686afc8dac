/* A stage for collectives' state machines, alone: messages are delivered in random legal order (between two
 * positions and on one channel in order, else any), ranks start at random times, acknowledgements come late. Every
 * position must end, once, with nothing left over. The stage follows the data: which ranks have contributed to
 * every byte at every position. */
#ifndef FAB_TESTS_COLL_STAGE_H
#define FAB_TESTS_COLL_STAGE_H

#include "check.h"
#include "coll/list.h"
#include "fabricsim.h"

enum { STAGE_POSITIONS = 52, STAGE_QUEUE = 20000, STAGE_EARLY = 8192, STAGE_BYTES_MOST = 3000 };

typedef struct {
    uint32_t from, to, step, channel;
    int64_t bytes;
    bool ack;
    uint64_t *data; /* contributors of each byte carried, as they were when it was sent; NULL if not followed */
} flight_t;

typedef struct {
    const fab_coll_ops_t *ops;
    uint32_t positions; /* ranks and reducers */
    fab_coll_t coll[STAGE_POSITIONS];
    fab_coll_state_t state[STAGE_POSITIONS];
    bool started[STAGE_POSITIONS], ended[STAGE_POSITIONS];
    uint32_t early_count[STAGE_POSITIONS], flight_count;
    uint64_t peer[STAGE_POSITIONS][STAGE_POSITIONS]; /* set of channels */
    int64_t sent[STAGE_POSITIONS][STAGE_POSITIONS];
    int64_t on_channel[FAB_COLL_CHANNELS_MAX];
    uint32_t now; /* the position that acts */
    int64_t messages;
    bool follows;   /* the data */
    int64_t cells;  /* bytes of the buffer; all_to_all: pairs */
    uint64_t *data; /* [position * cells + byte] set of ranks */
    /* not cleared between plays */
    uint32_t early[STAGE_POSITIONS][STAGE_EARLY];
    flight_t flights[STAGE_QUEUE];
} stage_t;

extern stage_t stage;

/* Plays one collective; totals are in stage.sent and stage.messages. Checks the data if there is not too much of it. */
void stage_play(const fab_coll_ops_t *ops, fab_coll_t coll, uint64_t seed);

/* For playing step by step: sets the stage, starts a position, lets a random message arrive. */
void stage_set(const fab_coll_ops_t *ops, fab_coll_t coll);
void stage_start(uint32_t position);
void stage_arrive(dice_t *dice);

int64_t stage_sent_by(uint32_t position);
int64_t stage_received_by(uint32_t position);
int64_t stage_sent_in_all(void);

/* Values of an algorithm's table, `own` from FAB_COLL_OWN on; valid until the next call. */
const int64_t *stage_values(int count, const int64_t *own);
#define VALUES(...) stage_values(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (const int64_t[]){__VA_ARGS__})

#endif
