/* The stage: see its header. */
#include "coll_stage.h"

#include <stdlib.h>
#include <string.h>

stage_t stage;

/* ---- data --------------------------------------------------------------------------------------- */

static uint64_t everybody(void)
{
    return stage.coll[0].count == 64 ? ~UINT64_C(0) : (UINT64_C(1) << stage.coll[0].count) - 1;
}

static uint32_t part_of(int64_t byte)
{
    const fab_coll_t *c = &stage.coll[0];
    uint32_t part = 0;
    for (int64_t end = 0; (end += fab_coll_part(c->bytes, c->count, part)) <= byte;)
        part++;
    return part;
}

static int64_t between(uint32_t from, uint32_t to)
{
    const fab_coll_t *c = &stage.coll[0];
    return !c->splits ? fab_coll_part(c->bytes, c->count, to)
                      : c->splits[c->splits_by_sender ? (uint64_t)from * c->count + to : to];
}

/* What a rank has before anything is sent. */
static void set_data(void)
{
    const fab_coll_t *c = &stage.coll[0];
    stage.follows = stage.ops->carries && c->bytes <= STAGE_BYTES_MOST;
    if (!stage.follows)
        return;
    stage.cells = c->kind == FAB_OP_ALL_TO_ALL ? (int64_t)c->count * c->count : c->bytes;
    stage.data = calloc((size_t)(stage.positions * stage.cells + 1), sizeof *stage.data);
    for (uint32_t r = 0; r < c->count; r++)
        for (int64_t b = 0; b < stage.cells; b++) {
            bool has = true;
            if (c->kind == FAB_OP_ALL_GATHER)
                has = part_of(b) == r;
            else if (c->kind == FAB_OP_BROADCAST)
                has = r == c->root;
            else if (c->kind == FAB_OP_ALL_TO_ALL)
                has = b / c->count == r;
            stage.data[r * stage.cells + b] = has ? UINT64_C(1) << r : 0;
        }
}

typedef struct {
    flight_t *flight;
    int64_t bytes; /* told so far */
    uint32_t at;   /* in the flight's data */
    bool arrives;
} cargo_t;

static void move_range(void *context, fab_coll_range_t range, fab_coll_use_t use)
{
    cargo_t *cargo = context;
    cargo->bytes += range.bytes;
    CHECK(range.bytes >= 0 && range.offset >= 0);
    const int64_t cells = stage.coll[0].kind == FAB_OP_ALL_TO_ALL ? range.bytes > 0 : range.bytes;
    CHECK(range.offset + cells <= stage.cells);
    const uint32_t position = cargo->arrives ? cargo->flight->to : cargo->flight->from;
    uint64_t *data = stage.data + position * stage.cells + range.offset;
    int64_t twice = 0, nothing = 0;
    for (int64_t i = 0; i < cells; i++) {
        uint64_t *carried = &cargo->flight->data[cargo->at++];
        if (!cargo->arrives) {
            *carried = data[i];
            nothing += data[i] == 0;
            if (use == FAB_COLL_HANDED_OVER)
                data[i] = 0;
            continue;
        }
        twice += use != FAB_COLL_KEPT && (data[i] & *carried);
        data[i] = use == FAB_COLL_KEPT ? *carried : data[i] | *carried;
    }
    CHECK_EQ(nothing, 0); /* bytes sent that the sender does not have */
    CHECK_EQ(twice, 0);   /* contributions added that were in it */
}

static void move_data(flight_t *flight, bool arrives)
{
    if (!stage.follows)
        return;
    if (!arrives)
        flight->data = malloc((size_t)(flight->bytes + 1) * sizeof *flight->data);
    cargo_t cargo = {flight, 0, 0, arrives};
    stage.ops->carries(&stage.coll[flight->from], flight->to, flight->step, move_range, &cargo);
    CHECK_EQ(cargo.bytes, stage.coll[0].kind == FAB_OP_BARRIER ? 0 : flight->bytes);
    if (arrives)
        free(flight->data);
}

/* Every rank has what the collective promises. A ring's reduce_scatter leaves the part of the next rank. */
static void check_data(void)
{
    const fab_coll_t *c = &stage.coll[0];
    for (uint32_t r = 0; stage.follows && r < c->count; r++) {
        int64_t wrong = 0, whole = 0, wanted = 0;
        for (int64_t b = 0; b < stage.cells; b++) {
            const uint64_t found = stage.data[r * stage.cells + b];
            whole += found == everybody();
            switch (c->kind) {
            case FAB_OP_ALL_REDUCE: wrong += found != everybody(); break;
            case FAB_OP_ALL_GATHER: wrong += found != UINT64_C(1) << part_of(b); break;
            case FAB_OP_BROADCAST: wrong += found != UINT64_C(1) << c->root; break;
            case FAB_OP_REDUCE: wrong += r == c->root && found != everybody(); break;
            case FAB_OP_REDUCE_SCATTER: wrong += part_of(b) == r && found != everybody(); break;
            default:
                wanted = b % c->count == r && between((uint32_t)(b / c->count), r) > 0;
                wrong += wanted && found != UINT64_C(1) << b / c->count;
            }
        }
        if (c->kind == FAB_OP_REDUCE_SCATTER && stage.ops == &fab_coll_ring && c->count > 1)
            CHECK(llabs(whole - c->bytes / c->count) <= (int64_t)stage.coll[0].count);
        else
            CHECK_EQ(wrong, 0);
    }
    free(stage.data);
    stage.data = NULL;
}

/* ---- messages ----------------------------------------------------------------------------------- */

static void emit(void *context, uint32_t position, uint32_t channel)
{
    const uint32_t self = *(const uint32_t *)context;
    CHECK(channel < FAB_COLL_CHANNELS_MAX);
    CHECK(position < stage.positions && position != self);
    stage.peer[self][position] |= UINT64_C(1) << channel;
}

static void send(void *self, uint32_t to, int64_t bytes, uint32_t step, uint32_t channel)
{
    (void)self;
    CHECK(channel < FAB_COLL_CHANNELS_MAX);
    CHECK(to < stage.positions && to != stage.now);
    CHECK(stage.peer[stage.now][to] >> channel & 1); /* peers() named it: others have no connection */
    CHECK(bytes >= 0);
    CHECK(step < 1u << FAB_COLL_STEP_BITS);
    CHECK(stage.flight_count < STAGE_QUEUE);
    if (stage.flight_count == STAGE_QUEUE)
        return;
    flight_t *flight = &stage.flights[stage.flight_count++];
    *flight = (flight_t){stage.now, to, step, channel, bytes, false, NULL};
    move_data(flight, false);
    stage.sent[stage.now][to] += bytes;
    stage.on_channel[channel] += bytes;
    stage.messages++;
}

static void after(uint32_t position, bool done)
{
    CHECK(!stage.ended[position]);
    stage.ended[position] = done;
}

static const fab_coll_out_t out = {NULL, send};

void stage_start(uint32_t position)
{
    stage.now = position;
    stage.started[position] = true;
    bool done = stage.ops->start(&stage.coll[position], &stage.state[position], out);
    for (uint32_t i = 0; i < stage.early_count[position]; i++) {
        CHECK(!done);
        done = stage.ops->received(&stage.coll[position], &stage.state[position], stage.early[position][i], out);
    }
    after(position, done);
}

static void arrive(flight_t flight)
{
    if (flight.ack) {
        stage.now = flight.from;
        /* an operation that has ended does not hear of its acknowledgements */
        if (stage.ops->acknowledged && !stage.ended[flight.from])
            after(flight.from,
                  stage.ops->acknowledged(&stage.coll[flight.from], &stage.state[flight.from], flight.step, out));
        return;
    }
    move_data(&flight, true);
    stage.flights[stage.flight_count++] =
        (flight_t){flight.from, flight.to, flight.step, flight.channel, flight.bytes, true, NULL};
    if (!stage.started[flight.to] && flight.to < stage.coll[0].count) {
        CHECK(stage.early_count[flight.to] < STAGE_EARLY);
        if (stage.early_count[flight.to] < STAGE_EARLY)
            stage.early[flight.to][stage.early_count[flight.to]++] = flight.step;
        return;
    }
    if (!stage.started[flight.to]) /* a reducer starts with its first message */
        stage_start(flight.to);
    stage.now = flight.to;
    after(flight.to, stage.ops->received(&stage.coll[flight.to], &stage.state[flight.to], flight.step, out));
}

/* Takes a flight at random that no earlier one of the same pair, channel and kind is before. */
void stage_arrive(dice_t *dice)
{
    uint32_t at = dice_below(dice, stage.flight_count);
    const flight_t chosen = stage.flights[at];
    for (uint32_t i = 0; i < at; i++)
        if (stage.flights[i].from == chosen.from && stage.flights[i].to == chosen.to &&
            stage.flights[i].channel == chosen.channel && stage.flights[i].ack == chosen.ack) {
            at = i;
            break;
        }
    const flight_t flight = stage.flights[at];
    memmove(&stage.flights[at], &stage.flights[at + 1], (--stage.flight_count - at) * sizeof *stage.flights);
    arrive(flight);
}

/* ---- the play ----------------------------------------------------------------------------------- */

void stage_set(const fab_coll_ops_t *ops, fab_coll_t coll)
{
    memset(&stage, 0, offsetof(stage_t, early));
    stage.ops = ops;
    stage.positions = coll.count + (ops->reduces_in_network ? coll.tree->reducer_count : 0);
    CHECK(stage.positions <= STAGE_POSITIONS);
    CHECK(!ops->refuses || !ops->refuses(&coll));
    for (uint32_t p = 0; p < stage.positions; p++) {
        stage.coll[p] = coll;
        stage.coll[p].position = p;
        ops->peers(&stage.coll[p], emit, &p);
    }
    set_data();
}

void stage_play(const fab_coll_ops_t *ops, fab_coll_t coll, uint64_t seed)
{
    stage_set(ops, coll);
    dice_t dice = {seed * 2 + 1};
    uint32_t waiting = coll.count;
    const uint32_t haste = dice_below(&dice, 4); /* how the starts are spread */
    while (waiting || stage.flight_count) {
        if (waiting && (!stage.flight_count || dice_below(&dice, 4) <= haste)) {
            uint32_t rank = dice_below(&dice, coll.count);
            while (stage.started[rank])
                rank = (rank + 1) % coll.count;
            stage_start(rank);
            waiting--;
        } else {
            stage_arrive(&dice);
        }
        if (check_failed > CHECK_TOLD)
            return;
    }
    for (uint32_t p = 0; p < stage.positions; p++)
        CHECK(stage.ended[p] || (p >= coll.count && !stage.started[p] && coll.count == 1));
    check_data();
}

int64_t stage_sent_by(uint32_t position)
{
    int64_t bytes = 0;
    for (uint32_t to = 0; to < STAGE_POSITIONS; to++)
        bytes += stage.sent[position][to];
    return bytes;
}

int64_t stage_received_by(uint32_t position)
{
    int64_t bytes = 0;
    for (uint32_t from = 0; from < STAGE_POSITIONS; from++)
        bytes += stage.sent[from][position];
    return bytes;
}

int64_t stage_sent_in_all(void)
{
    int64_t bytes = 0;
    for (uint32_t p = 0; p < STAGE_POSITIONS; p++)
        bytes += stage_sent_by(p);
    return bytes;
}

const int64_t *stage_values(int count, const int64_t *own)
{
    static int64_t values[FAB_COLL_VALUES_MAX];
    memset(values, 0, sizeof values);
    memcpy(values + FAB_COLL_OWN, own, (size_t)count * sizeof *own);
    return values;
}
