/* SRD's parts against plain ones: lists in a window that grows, paths out of service and back, queues of messages and
 * cookies; and worlds with loss that give one digest however they are run. */
#include "check.h"
#include "transport/srd.h"
#include "worlds.h"

#include <string.h>

static world_t world;
static rows_t rows;

enum { PATHS = 8, WINDOW = 256 };

/* A transport of which only what paths and windows need is there. */
static int64_t values[SRD_VALUE_COUNT];
static fab_transport_config_t config;
static fab_worker_t worker;

static fab_transport_t parts(void)
{
    memset(&worker, 0, sizeof worker);
    values[SRD_PATH_REST_PS] = 1000;
    memcpy(config.values, values, sizeof values);
    return (fab_transport_t){.config = &config, .path_count = PATHS, .window_max = WINDOW, .slow_q16 = 1 << 15};
}

/* ---- lists -------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t psn[WINDOW];
    uint32_t count;
} plain_t;

static void plain_remove(plain_t *self, uint32_t at)
{
    memmove(&self->psn[at], &self->psn[at + 1], (self->count - at - 1) * sizeof *self->psn);
    self->count--;
}

static void list_is(const fab_srd_tx_t *tx, fab_flight_list_t list, const plain_t *plain)
{
    uint32_t n = 0, before = 0;
    for (uint32_t link = list.first; link; before = link, link = tx->flights[link - 1].newer) {
        CHECK(n < plain->count && link - 1 == (plain->psn[n] & tx->flight_mask));
        CHECK_EQ(tx->flights[link - 1].older, before);
        n++;
    }
    CHECK_EQ(n, plain->count);
    CHECK_EQ(list.last, before);
}

/* Packets are sent on random paths, lost, sent again and acknowledged in any order, while the window moves and grows. */
static void lists_survive_a_window_that_grows(void)
{
    fab_transport_t self = parts();
    fab_srd_tx_t tx = {.flight_mask = 15, .in_service = (1u << PATHS) - 1, .next_psn = 77, .una_psn = 77};
    static plain_t paths[PATHS], lost;
    memset(paths, 0, sizeof paths);
    lost.count = 0;
    dice_t dice = {5};
    uint32_t widest = 0;
    for (int i = 0; i < 30000; i++) {
        const uint32_t p = dice_below(&dice, PATHS), what = dice_below(&dice, i / 3000 % 2 ? 7 : 4);
        if (what < 2 && tx.next_psn - tx.una_psn < WINDOW) { /* send */
            CHECK(fab_srd_make_room(&self, &worker, &tx));
            if (lost.count && what) {
                const uint32_t at = tx.lost.first - 1u;
                fab_flights_remove(tx.flights, &tx.lost, at);
                fab_flights_append(tx.flights, &tx.paths[p].flights, at);
                tx.flights[at].path = (uint8_t)p;
                tx.flights[at].state = FAB_FLIGHT_FLYING;
                paths[p].psn[paths[p].count++] = lost.psn[0];
                plain_remove(&lost, 0);
            } else if (!lost.count) {
                const uint64_t psn = tx.next_psn++;
                fab_flight_t *flight = fab_srd_flight(&tx, psn);
                *flight = (fab_flight_t){.path = (uint8_t)p, .state = FAB_FLIGHT_FLYING};
                fab_flights_append(tx.flights, &tx.paths[p].flights, (uint32_t)psn & tx.flight_mask);
                paths[p].psn[paths[p].count++] = psn;
            }
        } else if (paths[p].count) { /* one of a path arrives, or is lost */
            const uint32_t n = dice_below(&dice, paths[p].count);
            const uint64_t psn = paths[p].psn[n];
            fab_flights_remove(tx.flights, &tx.paths[p].flights, (uint32_t)psn & tx.flight_mask);
            plain_remove(&paths[p], n);
            fab_srd_flight(&tx, psn)->state = FAB_FLIGHT_ARRIVED;
            if (what == 3) {
                fab_flights_append(tx.flights, &tx.lost, (uint32_t)psn & tx.flight_mask);
                fab_srd_flight(&tx, psn)->state = FAB_FLIGHT_LOST;
                lost.psn[lost.count++] = psn;
            }
        }
        while (tx.una_psn < tx.next_psn && fab_srd_flight(&tx, tx.una_psn)->state == FAB_FLIGHT_ARRIVED)
            tx.una_psn++;
        if (i % 16 == 0 && tx.flights) {
            for (uint32_t q = 0; q < PATHS; q++)
                list_is(&tx, tx.paths[q].flights, &paths[q]);
            list_is(&tx, tx.lost, &lost);
        }
        widest = tx.flight_mask > widest ? tx.flight_mask : widest;
    }
    CHECK_EQ(widest, WINDOW - 1);
    fab_pool_free(&worker.pool);
}

/* ---- paths -------------------------------------------------------------------------------------- */

static void paths_rest_and_come_back(void)
{
    fab_transport_t self = parts();
    fab_srd_tx_t tx = {.flight_mask = 15, .in_service = (1u << PATHS) - 1, .back_ps = FAB_NEVER};
    CHECK(fab_srd_make_room(&self, &worker, &tx));
    /* round robin */
    uint32_t p = PATHS - 1;
    for (uint32_t i = 0; i < 2 * PATHS; i++) {
        p = fab_srd_path_after(&tx, p);
        CHECK_EQ(p, i % PATHS);
    }
    /* half of them stay */
    for (uint32_t q = 0; q < PATHS; q++)
        CHECK_EQ(fab_srd_set_aside(&self, &tx, q, PATHS / 2, 100), q < PATHS / 2);
    CHECK_EQ(tx.in_service, 0xf0);
    CHECK_EQ(tx.back_ps, 1100);
    CHECK_EQ(fab_srd_path_after(&tx, 7), 4);
    CHECK_EQ(fab_srd_path_after(&tx, 5), 6);
    /* one that rests rests longer, and does not count as another strike */
    CHECK(fab_srd_set_aside(&self, &tx, 0, PATHS / 2, 600));
    CHECK_EQ(tx.paths[0].strikes, 1);
    /* two rests in a row: 1000, then 2000; path 2 has a packet under way and rests on */
    fab_flights_append(tx.flights, &tx.paths[2].flights, 0);
    fab_srd_take_back(&self, &tx, 1100);
    CHECK_EQ(tx.in_service, 0xfa); /* path 0 has been set aside again in its rest: 600 + 2000 */
    CHECK_EQ(tx.paths[0].rest_until_ps, 2600);
    CHECK_EQ(tx.paths[2].rest_until_ps, 2100);
    CHECK_EQ(tx.back_ps, 2100);
    CHECK(fab_srd_set_aside(&self, &tx, 1, PATHS / 2, 3000));
    CHECK_EQ(tx.paths[1].rest_until_ps, 5000);
    for (int64_t row = 0; row < 20; row++) {
        fab_srd_take_back(&self, &tx, 1000000 * (row + 1));
        fab_srd_set_aside(&self, &tx, 1, 1, 1000000 * (row + 1));
    }
    CHECK_EQ(tx.paths[1].rest_until_ps, 20000000 + (1000 << SRD_STRIKES_MAX));
    /* the last one never goes */
    for (uint32_t q = 0; q < PATHS; q++)
        fab_srd_set_aside(&self, &tx, q, 1, 0);
    CHECK_EQ(__builtin_popcountll(tx.in_service), 1);
    /* late: more than half as long again as the round trip */
    tx.srtt_ps = 1000;
    tx.flights[0].sent_ps = 5000;
    CHECK(!fab_srd_path_late(&self, &tx, 2, 6500));
    CHECK(fab_srd_path_late(&self, &tx, 2, 6501));
    CHECK(!fab_srd_path_late(&self, &tx, 3, 1000000));
    fab_pool_free(&worker.pool);
}

/* ---- acknowledgements --------------------------------------------------------------------------- */

/* What an acknowledgement says is what was meant, and never more than has arrived. */
static void acknowledgements_say_no_more_than_is_so(void)
{
    dice_t dice = {11};
    for (int i = 0; i < 20000; i++) {
        const uint64_t missing = dice_roll(&dice) >> (2 + dice_below(&dice, 60));
        const uint64_t named = missing + dice_below(&dice, 4000) - (missing < 2000 ? 0 : 2000);
        const uint64_t near = missing - (missing < 3000 ? missing : dice_below(&dice, 3000));
        uint64_t told;
        CHECK(fab_srd_ack_named(fab_srd_ack_of(named, missing), near, &told) == named);
        CHECK(told <= missing);
        const int64_t off = (int64_t)(missing - named);
        if (off >= -480 && off < 496)
            CHECK(told + 16 > missing);
    }
}

/* ---- messages and cookies ----------------------------------------------------------------------- */

static void cookies_arrive_in_order(void)
{
    memset(&worker, 0, sizeof worker);
    fab_messages_t messages = {0};
    fab_mail_t *first = NULL, *out = NULL, *in = NULL;
    uint32_t out_at = 0, in_at = 0;
    dice_t dice = {9};
    uint32_t put = 0, taken = 0;
    for (int i = 0; i < 20000; i++) {
        if (put == taken || dice_below(&dice, 100) < (i / 1000 % 2 ? 60 : 40)) {
            CHECK(fab_messages_add(&messages, &worker.pool, (fab_message_t){.first_psn = put, .end_psn = put + 1}));
            CHECK(fab_mail_put(&out, &out_at, &first, &worker.pool, (fab_cookie_t){.step = put++}));
        } else {
            CHECK_EQ(fab_messages_at(&messages, messages.head++)->first_psn, taken);
            CHECK_EQ(fab_mail_take(&in, &in_at, first, &worker.pool).step, taken);
            taken++;
        }
    }
    CHECK(worker.pool.held_bytes < 1 << 20); /* chunks are used again */
    fab_pool_free(&worker.pool);
}

/* ---- worlds ------------------------------------------------------------------------------------- */

static void many_to_one(const choice_t *choices, int32_t count)
{
    world_leaf_spine(&world, 3, 2, 4);
    rows_start(&rows);
    for (int32_t h = 0; h < 11; h++) {
        rows_flow(&rows, h, 11, 300000, h % 3 * 1000000);
        rows_flow(&rows, 11, h, 20000, 0);
        rows_flow(&rows, h, (h + 5) % 11, 100000, 2000000);
    }
    fab_model_t *model = world_model(&world, choices, count);
    fab_program_t *program = world_program(model, &rows, 12);
    const outcome_t one = world_run(model, program, (fab_run_options_t){.seed = 3, .threads = 1}, 0);
    CHECK_EQ(one.code, FAB_OK);
    CHECK_EQ(one.counters.messages, 33);
    const outcome_t others[] = {
        world_run(model, program, (fab_run_options_t){.seed = 3, .threads = 2}, 0),
        world_run(model, program, (fab_run_options_t){.seed = 3, .threads = 3, .plain = true}, 7000000),
        world_run(model, program, (fab_run_options_t){.seed = 3, .threads = 1, .record_packets = true}, 1000000),
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CHECK_EQ(others[i].digest, one.digest);
    fab_program_free(program);
    fab_model_free(model);
}

void test_srd(void)
{
    lists_survive_a_window_that_grows();
    paths_rest_and_come_back();
    acknowledgements_say_no_more_than_is_so();
    cookies_arrive_in_order();
    many_to_one((choice_t[]){{"transport", "srd", NULL, 0}}, 1);
    many_to_one((choice_t[]){{"transport", "srd", "control_priority", 1},
                             {"transport", "srd", "reorder_ps", 100000},
                             {"switch", "ethernet", "buffer_bytes", 300000},
                             {"cc", "srd_cc", NULL, 0}},
                4);
    many_to_one((choice_t[]){{"transport", "srd", "path_count", 3},
                             {"transport", "srd", "window_bytes", 0},
                             {"transport", "srd", "ack_every_count", 4},
                             {"switch", "ethernet", "buffer_bytes", 1000000},
                             {"link", "pause", NULL, 0}},
                5);
}
