/* What a data server has: objects with what was there before the run, and writes that a failure takes back. */
#include "check.h"
#include "store/server.h"

#include <string.h>

enum { FILES = 3, TARGETS = 4 };

static fab_worker_t worker;
static fab_store_t store;
static fab_store_config_t config;
static fab_layout_t layout;
static uint32_t target_server[TARGETS], file_layout[FILES];
static int64_t file_bytes[FILES];
static fab_server_t *server;

/* A store with one data server and BeeGFS' layout: 512 KiB chunks over four targets. */
static void make(void)
{
    fab_problems_t problems;
    fab_problems_clear(&problems);
    memset(&worker, 0, sizeof worker);
    memset(&config, 0, sizeof config);
    memset(&store, 0, sizeof store);
    const fab_impl_t *file_system = &fab_layout_beegfs.impl, *target = &fab_target_flash.impl;
    fab_param_resolve("store", file_system->impl, file_system->params, NULL, 0, config.values, &problems);
    fab_param_resolve("target", target->impl, target->params, NULL, 0, config.target_values, &problems);
    CHECK_EQ(problems.count, 0);
    config.layout_ops = &fab_layout_beegfs;
    config.target_ops = &fab_target_flash;
    config.data_count = config.meta_count = 1;
    config.target_count = TARGETS;
    config.target_server = target_server;
    config.layouts = &layout;
    config.layout_count = 1;
    fab_layout_beegfs.standard(&config, &layout);
    store.count = 1;
    store.configs = &config;
    store.files.count = FILES;
    store.files.bytes = file_bytes;
    store.files.layout = file_layout;
    CHECK_EQ(fab_server_new(&store, &worker, 0, 0, 0, &server), FAB_OK);
    config.failure_count = 1; /* from here on it remembers what is not committed */
}

static void finish(void) { fab_pool_free(&worker.pool); }

static void a_server_has_its_targets(void)
{
    make();
    CHECK_EQ(server->target_count, TARGETS);
    for (uint32_t t = 0; t < TARGETS; t++)
        CHECK_EQ(fab_server_target(server, t)->number, t);
    CHECK(fab_server_target(server, TARGETS) == NULL);
    CHECK(fab_server_object(server, &worker, TARGETS, 0, 0) == NULL);
    CHECK_EQ(worker.error, FAB_E_INTERNAL);
    finish();
}

/* Sizes of objects are those of the pieces of a file's bytes. */
static void objects_begin_with_what_was_there(void)
{
    dice_t dice = {21};
    for (int round = 0; round < 50; round++) {
        make();
        const int64_t bytes = dice_below(&dice, 1 << 23), chunk = config.layouts[0].components[0].stripe_bytes;
        file_bytes[0] = bytes;
        file_bytes[1] = -1;
        for (uint32_t object = 0; object < 4; object++) {
            int64_t wanted = 0;
            for (int64_t at = object * chunk; at < bytes; at += 4 * chunk)
                wanted += fab_min_i64(chunk, bytes - at);
            const fab_object_t *made = fab_server_object(server, &worker, object, 0, object);
            CHECK_EQ(made->size, wanted);
            CHECK_EQ(made->written.bytes, wanted);
            CHECK(fab_server_object(server, &worker, object, 0, object) == made);
            CHECK_EQ(fab_server_object(server, &worker, object, 1, object)->size, 0);
        }
        finish();
    }
}

static void many_objects_are_found_again(void)
{
    make();
    for (uint32_t f = 0; f < FILES; f++)
        file_bytes[f] = -1;
    for (uint32_t object = 0; object < 5000; object++)
        fab_server_object(server, &worker, 0, object % FILES, object)->last_transno = object + 1;
    CHECK_EQ(fab_server_target(server, 0)->object_count, 5000);
    for (uint32_t object = 0; object < 5000; object++)
        CHECK_EQ(fab_server_object(server, &worker, 0, object % FILES, object)->last_transno, object + 1);
    finish();
}

/* Writes over one another, some committed: after a failure exactly the committed bytes are left. */
static void a_failure_takes_back_what_is_not_committed(void)
{
    enum { SPAN = 300 };
    dice_t dice = {5};
    for (int round = 0; round < 300; round++) {
        make();
        file_bytes[0] = round & 1 ? -1 : 40;
        uint8_t safe[SPAN] = {0}, held[SPAN] = {0};
        for (int64_t i = 0; i < file_bytes[0]; i++)
            safe[i] = held[i] = 1;
        const uint32_t writes = 1 + dice_below(&dice, 20), kept = dice_below(&dice, writes + 1);
        for (uint32_t w = 0; w < writes; w++) {
            const int64_t offset = dice_below(&dice, SPAN - 1),
                          bytes = 1 + dice_below(&dice, (uint32_t)(SPAN - offset));
            fab_server_fill(server, &worker, 0, 0, 0, offset, bytes, ++server->transno);
            for (int64_t i = offset; i < offset + bytes; i++) {
                held[i] = 1;
                safe[i] |= w < kept;
            }
        }
        const fab_object_t *object = fab_server_object(server, &worker, 0, 0, 0);
        for (int64_t i = 0; i < SPAN; i++)
            CHECK_EQ(fab_extents_covered(&object->written, i, i + 1), held[i]);
        fab_server_committed(server, &worker, kept);
        server->io.threads_free = 0;
        server->io.waiting = 2;
        fab_server_target(server, 0)->queued = 3;
        const uint32_t epoch = server->epoch;
        fab_server_forget(server, &worker);
        int64_t end = 0;
        for (int64_t i = 0; i < SPAN; i++) {
            CHECK_EQ(fab_extents_covered(&object->written, i, i + 1), safe[i]);
            end = safe[i] ? i + 1 : end;
        }
        CHECK_EQ(object->size, end);
        CHECK_EQ(server->transno, kept);
        CHECK_EQ(server->epoch, epoch + 1);
        fab_problems_t problems;
        fab_problems_clear(&problems);
        fab_server_check(server, &problems);
        CHECK_EQ(problems.count, 0);
        finish();
    }
}

/* With a commit at every change the write is safe before its bytes are counted. */
static void a_write_that_is_committed_at_once_stays(void)
{
    make();
    config.values[FAB_STORE_COMMIT_PS] = 0;
    file_bytes[0] = -1;
    fab_rpc_t rpc = {0};
    fab_server_changed(server, &worker, &rpc, 1);
    fab_server_fill(server, &worker, 0, 0, 0, 10, 20, rpc.transno);
    fab_server_forget(server, &worker);
    CHECK_EQ(fab_server_object(server, &worker, 0, 0, 0)->written.bytes, 20);
    CHECK_EQ(server->transno, 1);
    finish();
}

static void what_is_left_undone_is_told(void)
{
    make();
    server->io.threads_free -= 2;
    server->io.waiting = 1;
    server->transno = 7;
    fab_server_target(server, 2)->queued = 4;
    fab_problems_t problems;
    fab_problems_clear(&problems);
    fab_server_check(server, &problems);
    CHECK_EQ(problems.count, 4);
    CHECK(strstr(problems.text, "store 0: server 0: 2 of its threads are not free\n") != NULL);
    CHECK(strstr(problems.text, "store 0: server 0: 4 operations of target 2 have not ended\n") != NULL);
    CHECK(strstr(problems.text, "store 0: server 0: 7 changes are not committed\n") != NULL);
    finish();
}

void test_store_state(void)
{
    a_server_has_its_targets();
    objects_begin_with_what_was_there();
    many_objects_are_found_again();
    a_failure_takes_back_what_is_not_committed();
    a_write_that_is_committed_at_once_stays();
    what_is_left_undone_is_told();
}
