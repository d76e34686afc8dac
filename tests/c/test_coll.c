/* The collectives' state machines, alone: messages are delivered in random legal order (between two ranks in
 * order, else any), ranks start at random times, acknowledgements come late. Every rank must end, once, with
 * nothing left over, and the bytes must be those of the closed forms. */
#include "check.h"
#include "coll/coll.h"
#include "fabricsim.h"

#include <stdlib.h>
#include <string.h>

enum { RANKS = 33, QUEUE = 12000, EARLY = 1024 };

typedef struct {
    uint32_t from, to, step;
    int64_t bytes;
    bool ack;
} flight_t;

typedef struct {
    const fab_coll_ops_t *ops;
    fab_coll_t coll[RANKS];
    fab_coll_state_t state[RANKS];
    bool started[RANKS], ended[RANKS];
    uint32_t early[RANKS][EARLY];
    uint32_t early_count[RANKS];
    flight_t flights[QUEUE];
    uint32_t flight_count;
    bool peer[RANKS][RANKS];
    int64_t sent[RANKS][RANKS];
    uint32_t now; /* the rank that acts */
    int64_t messages;
} stage_t;

static stage_t stage;

static void emit(void *context, uint32_t position, uint32_t channel)
{
    CHECK(channel < FAB_COLL_CHANNELS_MAX);
    CHECK(position < stage.coll[0].count);
    stage.peer[*(const uint32_t *)context][position] = true;
}

static void send(void *self, uint32_t to, int64_t bytes, uint32_t step, uint32_t channel)
{
    (void)self;
    CHECK(channel < FAB_COLL_CHANNELS_MAX);
    CHECK(to < stage.coll[0].count && to != stage.now);
    CHECK(stage.peer[stage.now][to]); /* only to those that peers() named: others have no connection */
    CHECK(bytes >= 0);
    CHECK(step < 1u << FAB_COLL_STEP_BITS);
    CHECK(stage.flight_count < QUEUE);
    if (stage.flight_count == QUEUE)
        return;
    stage.flights[stage.flight_count++] = (flight_t){stage.now, to, step, bytes, false};
    stage.sent[stage.now][to] += bytes;
    stage.messages++;
}

static void after(uint32_t rank, bool done)
{
    CHECK(!stage.ended[rank]);
    stage.ended[rank] = done;
}

static const fab_coll_out_t out = {NULL, send};

static void start(uint32_t rank)
{
    stage.now = rank;
    stage.started[rank] = true;
    bool done = stage.ops->start(&stage.coll[rank], &stage.state[rank], out);
    for (uint32_t i = 0; i < stage.early_count[rank]; i++) {
        CHECK(!done);
        done = stage.ops->received(&stage.coll[rank], &stage.state[rank], stage.early[rank][i], out);
    }
    after(rank, done);
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
    stage.flights[stage.flight_count++] = (flight_t){flight.from, flight.to, flight.step, flight.bytes, true};
    if (!stage.started[flight.to]) {
        stage.early[flight.to][stage.early_count[flight.to]++] = flight.step;
        return;
    }
    stage.now = flight.to;
    after(flight.to, stage.ops->received(&stage.coll[flight.to], &stage.state[flight.to], flight.step, out));
}

/* Takes a flight at random that no earlier one of the same pair and kind is before. */
static flight_t take(dice_t *dice)
{
    uint32_t at = dice_below(dice, stage.flight_count);
    const flight_t chosen = stage.flights[at];
    for (uint32_t i = 0; i < at; i++)
        if (stage.flights[i].from == chosen.from && stage.flights[i].to == chosen.to &&
            stage.flights[i].ack == chosen.ack) {
            at = i;
            break;
        }
    const flight_t flight = stage.flights[at];
    memmove(&stage.flights[at], &stage.flights[at + 1], (--stage.flight_count - at) * sizeof *stage.flights);
    return flight;
}

/* Plays one collective; the totals are in stage.sent and stage.messages. */
static void play(const fab_coll_ops_t *ops, fab_coll_t coll, uint64_t seed)
{
    memset(&stage, 0, sizeof stage);
    stage.ops = ops;
    dice_t dice = {seed * 2 + 1};
    for (uint32_t r = 0; r < coll.count; r++) {
        stage.coll[r] = coll;
        stage.coll[r].position = r;
        ops->peers(&stage.coll[r], emit, &r);
    }
    uint32_t waiting = coll.count;
    const uint32_t haste = dice_below(&dice, 4); /* how the starts are spread */
    while (waiting || stage.flight_count) {
        if (waiting && (!stage.flight_count || dice_below(&dice, 4) <= haste)) {
            uint32_t rank = dice_below(&dice, coll.count);
            while (stage.started[rank])
                rank = (rank + 1) % coll.count;
            start(rank);
            waiting--;
        } else {
            arrive(take(&dice));
        }
        if (check_failed > CHECK_TOLD)
            return;
    }
    for (uint32_t r = 0; r < coll.count; r++)
        CHECK(stage.ended[r]);
}

static int64_t sent_by(uint32_t rank)
{
    int64_t bytes = 0;
    for (uint32_t to = 0; to < RANKS; to++)
        bytes += stage.sent[rank][to];
    return bytes;
}

static int64_t sent_in_all(void)
{
    int64_t bytes = 0;
    for (uint32_t r = 0; r < RANKS; r++)
        bytes += sent_by(r);
    return bytes;
}

static const int64_t sizes[] = {0, 5, 1000, 65537};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* Values of an algorithm's table with its own parameter (chunks, window, message) set. */
static const int64_t *with(int64_t own)
{
    static int64_t values[FAB_COLL_VALUES_MAX];
    values[FAB_COLL_OWN] = own;
    return values;
}

static void parts_add_up(void)
{
    dice_t dice = {71};
    for (int i = 0; i < 1000; i++) {
        const int64_t bytes = (int64_t)(dice_roll(&dice) >> (18 + dice_below(&dice, 40)));
        const uint32_t parts = 1 + dice_below(&dice, 300);
        int64_t sum = 0, least = INT64_MAX, most = 0;
        for (uint32_t p = 0; p < parts; p++) {
            const int64_t part = fab_coll_part(bytes, parts, p);
            sum += part;
            least = part < least ? part : least;
            most = part > most ? part : most;
        }
        CHECK_EQ(sum, bytes);
        CHECK(most - least <= 1);
    }
    CHECK_EQ(fab_coll_pieces(0, 100, 10), 1);
    CHECK_EQ(fab_coll_pieces(100, 0, 10), 1);
    CHECK_EQ(fab_coll_pieces(100, 100, 10), 1);
    CHECK_EQ(fab_coll_pieces(101, 100, 10), 2);
    CHECK_EQ(fab_coll_pieces(100000, 100, 10), 10);
}

static void ring(uint32_t n, int64_t bytes, uint64_t seed)
{
    const int64_t chunk = seed % 3 == 0 ? 0 : 500 * (int64_t)(1 + seed % 7);
    const int64_t *values = with(chunk);
    play(&fab_coll_ring, (fab_coll_t){.kind = FAB_OP_ALL_REDUCE, .count = n, .bytes = bytes, .values = values}, seed);
    CHECK_EQ(sent_in_all(), 2 * (int64_t)(n - 1) * bytes);
    for (uint32_t r = 0; r < n; r++) { /* busbw's factor 2 (n-1) / n, up to rounding of parts */
        CHECK(llabs(sent_by(r) * n - 2 * (int64_t)(n - 1) * bytes) <= 2 * (int64_t)n * n);
        CHECK_EQ(stage.sent[r][(r + 1) % n], sent_by(r));
    }
    for (int kind = FAB_OP_REDUCE_SCATTER; kind <= FAB_OP_ALL_GATHER; kind++) {
        play(&fab_coll_ring, (fab_coll_t){.kind = kind, .count = n, .bytes = bytes, .values = values}, seed);
        CHECK_EQ(sent_in_all(), (int64_t)(n - 1) * bytes);
    }
}

static void rooted(uint32_t n, int64_t bytes, uint64_t seed)
{
    const fab_coll_ops_t *const both[] = {&fab_coll_tree, &fab_coll_chain};
    const int64_t *values = with(seed % 3 == 0 ? 0 : bytes / (1 + (int64_t)(seed % 9)) + 1);
    for (int a = 0; a < 2; a++)
        for (int kind = FAB_OP_BROADCAST; kind <= FAB_OP_REDUCE; kind++) {
            const uint32_t root = (uint32_t)(seed * 7 % n);
            play(both[a], (fab_coll_t){.kind = kind, .count = n, .root = root, .bytes = bytes, .values = values}, seed);
            CHECK_EQ(sent_in_all(), (int64_t)(n - 1) * bytes);
            for (uint32_t r = 0; r < n; r++) {
                int64_t received = 0;
                for (uint32_t from = 0; from < n; from++)
                    received += stage.sent[from][r];
                if (kind == FAB_OP_BROADCAST) /* everybody but the root gets it once */
                    CHECK_EQ(received, r == root ? 0 : bytes);
                else /* everybody but the root passes its sum on once */
                    CHECK_EQ(sent_by(r), r == root ? 0 : bytes);
            }
        }
    play(&fab_coll_tree, (fab_coll_t){.kind = FAB_OP_ALL_REDUCE, .count = n, .bytes = bytes, .values = values}, seed);
    CHECK_EQ(sent_in_all(), 2 * (int64_t)(n - 1) * bytes);
}

static void pairwise(uint32_t n, int64_t bytes, uint64_t seed)
{
    const int64_t *values = with(1 + (int64_t)(seed % 9));
    for (int kind = FAB_OP_REDUCE_SCATTER; kind <= FAB_OP_ALL_TO_ALL; kind++) {
        play(&fab_coll_pairwise, (fab_coll_t){.kind = kind, .count = n, .bytes = bytes, .values = values}, seed);
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t to = 0; to < n; to++)
                CHECK_EQ(stage.sent[r][to], r == to ? 0 : fab_coll_part(bytes, n, kind == FAB_OP_ALL_GATHER ? r : to));
        CHECK_EQ(sent_in_all(), (int64_t)(n - 1) * bytes);
    }
    static int64_t splits[RANKS * RANKS];
    dice_t dice = {seed + 5};
    for (uint32_t i = 0; i < n * n; i++)
        splits[i] = dice_below(&dice, 3) ? dice_below(&dice, 5000) : 0;
    for (int by_sender = 0; by_sender < 2; by_sender++) {
        play(&fab_coll_pairwise,
             (fab_coll_t){.kind = FAB_OP_ALL_TO_ALL,
                          .count = n,
                          .splits = splits,
                          .splits_by_sender = by_sender,
                          .values = values},
             seed);
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t to = 0; to < n; to++)
                CHECK_EQ(stage.sent[r][to], r == to ? 0 : splits[by_sender ? r * n + to : to]);
    }
}

static void dissemination(uint32_t n, uint64_t seed)
{
    uint32_t rounds = 0;
    while (1u << rounds < n)
        rounds++;
    play(&fab_coll_dissemination, (fab_coll_t){.kind = FAB_OP_BARRIER, .count = n, .values = with(8)}, seed);
    CHECK_EQ(stage.messages, (int64_t)n * rounds);
    CHECK_EQ(sent_in_all(), 8 * (int64_t)n * rounds);
}

/* A barrier ends nowhere before it has begun everywhere. */
static void nobody_leaves_a_barrier_early(void)
{
    for (uint32_t n = 2; n <= RANKS; n++) {
        memset(&stage, 0, sizeof stage);
        stage.ops = &fab_coll_dissemination;
        dice_t dice = {n};
        const uint32_t late = dice_below(&dice, n);
        for (uint32_t r = 0; r < n; r++) {
            stage.coll[r] = (fab_coll_t){.kind = FAB_OP_BARRIER, .count = n, .position = r, .values = with(8)};
            stage.ops->peers(&stage.coll[r], emit, &r);
        }
        for (uint32_t r = 0; r < n; r++)
            if (r != late)
                start(r);
        while (stage.flight_count)
            arrive(take(&dice));
        for (uint32_t r = 0; r < n; r++)
            CHECK(!stage.ended[r]);
        start(late);
        while (stage.flight_count)
            arrive(take(&dice));
        for (uint32_t r = 0; r < n; r++)
            CHECK(stage.ended[r]);
    }
}

void test_coll(void)
{
    parts_add_up();
    for (uint32_t n = 1; n <= RANKS; n += n < 6 ? 1 : 4 + n % 2)
        for (int s = 0; s < SIZES; s++)
            for (uint64_t seed = n; seed < n + 2; seed++) {
                ring(n, sizes[s], seed);
                rooted(n, sizes[s], seed);
                pairwise(n, sizes[s], seed);
                dissemination(n, seed);
            }
    nobody_leaves_a_barrier_early();
}
