/* What changes in the fabric during a run: faults and optical circuits, carried out at cuts between windows, and routes that
 * heal. */
#ifndef FAB_SIM_FAULT_H
#define FAB_SIM_FAULT_H

#include "sim/model.h"

struct fab_run;

typedef struct {
    int64_t when_ps;
    uint64_t order; /* of one time */
    int32_t what;
    uint32_t link; /* in the core's order */
    int64_t value;
} fab_event_t;

/* The next change of a row of the circuits' schedule. */
typedef struct {
    int64_t when_ps;
    uint32_t row;
    bool lights;
} fab_turn_t;

/* A cable as the changes see it. */
typedef struct {
    uint32_t link;     /* the first of its two in the core's order */
    uint16_t down;     /* how often it went down without coming up */
    uint16_t dead;     /* the same as the routes know it */
    uint16_t darkened; /* how many changes hold it dark */
    uint16_t lit;      /* how many rows of the schedule light it */
    bool is_scheduled, is_dark;
    int64_t dark_until_ps; /* of the changes */
    uint32_t first_row, end_row;
} fab_cable_t;

typedef struct {
    fab_event_t *events; /* in their order */
    int64_t count, next;
    fab_circuit_t *rows; /* by cable */
    fab_turn_t *turns;   /* a heap: turns[0] is the next */
    uint32_t row_count, turn_count;
    int64_t longest_ps;  /* until each row has been lit once more */
    fab_cable_t *cables; /* [link_count / 2] by the user's number */
    uint8_t *dead_links; /* [link_count] for the routes */
    int64_t *least_mbps; /* [link_count] the lowest rate that a link ever has */
    fab_route_t routes[FAB_NETWORKS_MAX];
    bool healing[FAB_NETWORKS_MAX]; /* routes[] are not those of the model any more */
    bool stale[FAB_NETWORKS_MAX];   /* routes are to be made anew */
    int64_t stalled_ps;             /* since when nothing happens but changes; -1: something does */
    int64_t applied, heals;
    fab_problems_t problems; /* why the run ended */
} fab_faults_t;

int fab_faults_new(const fab_model_t *model, const fab_changes_t *changes, fab_problems_t *problems,
                   fab_faults_t **faults_out);
void fab_faults_free(fab_faults_t *self);

/* The time of the next change; FAB_NEVER: there is none. */
int64_t fab_faults_next_ps(const fab_faults_t *self);

/* Before anything happens: darkens the circuits that are dark at first. */
void fab_faults_begin(struct fab_run *run);

/* Carries out all changes of a time, before which everything has happened. */
int fab_faults_apply(struct fab_run *run, int64_t now_ps);

/* Nothing is in the calendar of the run: can a change still bring something about? */
bool fab_faults_may_help(fab_faults_t *self);

/* The operations have ended: lights all that is dark, and changes nothing any more. */
void fab_faults_end(struct fab_run *run, int64_t now_ps);

/* Cables went down: whether ranks that still have something to say to each other are cut off for good. */
int fab_faults_check_reach(struct fab_run *run, int64_t now_ps, fab_problems_t *problems);

/* Within the room: orders the heap; how long before it goes dark a link begins no packet; kinds of events that follow from
 * others. */
void fab_faults_order_turns(fab_faults_t *self);
int64_t fab_faults_guard_ps(const fab_model_t *model, const fab_faults_t *self, uint32_t link);
enum { FAB_EVENT_DARK_ENDS = 16, FAB_EVENT_ROUTES_DOWN, FAB_EVENT_ROUTES_UP };

#endif
