/* Compiling programs: what is accepted, what is laid out, and every refusal with its words. */
#include "check.h"
#include "work/program.h"
#include "worlds.h"

#include <string.h>

static world_t world;
static rows_t rows;
static fab_model_t *model;
static fab_problems_t problems;

static int compile(int32_t ranks, const int32_t *rank_host, const char *const *algorithms, fab_program_t **program_out)
{
    static int32_t straight[WORLD_NODES];
    for (int32_t r = 0; r < WORLD_NODES; r++)
        straight[r] = r;
    fab_problems_clear(&problems);
    *program_out = NULL;
    fab_collectives_t collectives = {0};
    for (int kind = 0; algorithms && kind < FAB_OP_KINDS; kind++)
        collectives.algorithms[kind] = algorithms[kind];
    return fab_program_new(model, &rows.table, rank_host ? rank_host : straight, ranks, &collectives, &problems,
                           program_out);
}

static void refused(int code, int32_t ranks, const char *words)
{
    fab_program_t *program;
    CHECK_EQ(compile(ranks, NULL, NULL, &program), code);
    CHECK(program == NULL);
    const bool told = strstr(problems.text, words) != NULL;
    CHECK(told);
    if (!told)
        printf("wanted \"%s\" in:\n%s", words, problems.text);
}

static int32_t one(int kind, int32_t first, int32_t count, int64_t bytes)
{
    rows_start(&rows);
    return rows_add(&rows, kind, first, count, bytes);
}

static void refusals(void)
{
    one(FAB_OP_ALL_REDUCE, 0, 5, 100);
    refused(FAB_E_TRACE, 4, "row 0: ranks: found 4, allowed 0 to 3");
    one(FAB_OP_ALL_REDUCE, -1, 2, 100);
    refused(FAB_E_TRACE, 4, "row 0: ranks: found -1");
    one(FAB_OP_ALL_REDUCE, 0, 2, 100);
    rows_rank(&rows, 0);
    refused(FAB_E_TRACE, 4, "rank 0 is there twice");
    one(FAB_OP_ALL_REDUCE, 0, 0, 100);
    refused(FAB_E_TRACE, 4, "row 0: kind 1 of 0 ranks");
    one(FAB_OP_KINDS, 0, 2, 100);
    refused(FAB_E_TRACE, 4, "row 0: kind 21");
    one(-1, 0, 2, 100);
    refused(FAB_E_TRACE, 4, "row 0: kind -1");
    rows.stream[one(FAB_OP_COMPUTE, 0, 1, 0)] = -2;
    refused(FAB_E_TRACE, 4, "stream -2");
    one(FAB_OP_ALL_REDUCE, 0, 2, -1);
    refused(FAB_E_TRACE, 4, "row 0: bytes: found -1");
    one(FAB_OP_ALL_REDUCE, 0, 2, INT64_MAX);
    refused(FAB_E_TRACE, 4, "row 0: bytes: found 9223372036854775807");
    rows.duration_ps[one(FAB_OP_COMPUTE, 0, 2, 0)] = -5;
    refused(FAB_E_TRACE, 4, "duration_ps, delay_ps: found -5");
    rows.delay_ps[one(FAB_OP_COMPUTE, 0, 2, 0)] = INT64_MAX;
    refused(FAB_E_TRACE, 4, "duration_ps, delay_ps");
    one(FAB_OP_BROADCAST, 0, 3, 10);
    refused(FAB_E_TRACE, 4, "peer: found 0 entries for a broadcast of 3 ranks");
    one(FAB_OP_BROADCAST, 0, 3, 10);
    rows_peer(&rows, 3);
    refused(FAB_E_TRACE, 4, "root 3 is not one of the ranks");
    one(FAB_OP_REDUCE, 0, 3, 10);
    rows_peer(&rows, -1);
    refused(FAB_E_TRACE, 4, "root -1 is not one of the ranks");
    one(FAB_OP_ALL_REDUCE, 0, 3, 10);
    rows_peer(&rows, 0);
    refused(FAB_E_TRACE, 4, "peer: found 1 entries for a all_reduce");
    one(FAB_OP_SEND, 0, 2, 10);
    rows_peer(&rows, 1);
    refused(FAB_E_TRACE, 4, "peer: found 1 entries for a send of 2 ranks");
    one(FAB_OP_SEND, 0, 1, 10);
    rows_peer(&rows, 4);
    refused(FAB_E_TRACE, 4, "row 0: peer: found 4, allowed 0 to 3");
    one(FAB_OP_RECV, 0, 1, 10);
    rows_peer(&rows, -1);
    refused(FAB_E_TRACE, 4, "row 0: peer: found -1");
    one(FAB_OP_SEND, 0, 1, 10);
    rows_peer(&rows, 1);
    refused(FAB_E_TRACE, 4, "operation 1000: the send from rank 0 to rank 1 with tag 0 has no matching recv");
    one(FAB_OP_RECV, 0, 1, 10);
    rows_peer(&rows, 1);
    refused(FAB_E_TRACE, 4, "the recv from rank 1 to rank 0 with tag 0 has no matching send");
    rows_start(&rows);
    rows_flow(&rows, 0, 1, 10, 0);
    rows.tag[1] = 77;
    refused(FAB_E_TRACE, 4, "has no matching");
    CHECK_EQ(problems.count, 2);
    rows_start(&rows);
    rows_flow(&rows, 0, 1, 10, 0);
    rows.bytes[1] = 11;
    refused(FAB_E_TRACE, 4, "recv of 11 bytes from rank 0 matches a send of 10 bytes");
    one(FAB_OP_ALL_TO_ALL, 0, 3, 10);
    rows_split(&rows, 4);
    refused(FAB_E_TRACE, 4, "splits: found 1 entries for a all_to_all of 3 ranks");
    one(FAB_OP_ALL_REDUCE, 0, 2, 10);
    rows_split(&rows, 4);
    rows_split(&rows, 4);
    refused(FAB_E_TRACE, 4, "splits: found 2 entries for a all_reduce");
    one(FAB_OP_ALL_TO_ALL, 0, 2, 0);
    rows_split(&rows, 4);
    rows_split(&rows, -4);
    refused(FAB_E_TRACE, 4, "splits: found -4");
    one(FAB_OP_ALL_TO_ALL, 0, 2, 0);
    rows_split(&rows, 4);
    rows_split(&rows, INT64_MAX);
    refused(FAB_E_TRACE, 4, "splits: found 9223372036854775807");
    one(FAB_OP_COMPUTE, 0, 2, 0);
    rows_after(&rows, 55);
    refused(FAB_E_TRACE, 4, "row 0: after: no operation has the id 55");
    one(FAB_OP_COMPUTE, 0, 2, 0);
    rows_add(&rows, FAB_OP_COMPUTE, 2, 2, 0);
    rows_after(&rows, 1000);
    refused(FAB_E_TRACE, 4, "row 1: after: shares no rank with the operation 1000");
    one(FAB_OP_COMPUTE, 0, 2, 0);
    rows.id[rows_add(&rows, FAB_OP_COMPUTE, 2, 2, 0)] = 1000;
    refused(FAB_E_TRACE, 4, "row 1: id: 1000 is also the id of row 0");
}

static void ranks_on_hosts(void)
{
    fab_program_t *program;
    one(FAB_OP_COMPUTE, 0, 2, 0);
    CHECK_EQ(compile(2, (const int32_t[]){0, 6}, NULL, &program), FAB_E_CONFIG);
    CHECK(strstr(problems.text, "rank 1: is placed on host 6, hosts are 0 to 5") != NULL);
    CHECK_EQ(compile(2, (const int32_t[]){-1, 2}, NULL, &program), FAB_E_CONFIG);
    CHECK_EQ(compile(2, (const int32_t[]){3, 3}, NULL, &program), FAB_E_CONFIG);
    CHECK(strstr(problems.text, "rank 1: is placed on host 3, where rank 0 is") != NULL);
}

static void algorithms(void)
{
    fab_program_t *program;
    one(FAB_OP_BARRIER, 0, 4, 0);
    const char *names[FAB_OP_KINDS] = {0};
    names[FAB_OP_BARRIER] = "ring";
    CHECK_EQ(compile(4, NULL, names, &program), FAB_E_CONFIG);
    CHECK(strstr(problems.text, "collectives.barrier: found algorithm ring, which does not do it") != NULL);
    names[FAB_OP_BARRIER] = "nonsense";
    CHECK_EQ(compile(4, NULL, names, &program), FAB_E_CONFIG);
    names[FAB_OP_BARRIER] = NULL;
    names[FAB_OP_SEND] = "ring";
    CHECK_EQ(compile(4, NULL, names, &program), FAB_E_CONFIG);
    names[FAB_OP_SEND] = NULL;
    CHECK_EQ(compile(4, NULL, names, &program), FAB_OK);
    fab_program_free(program);
}

/* Hosts of different parts of the topology cannot talk; and hosts of one part can. */
static void parts_of_a_topology(void)
{
    fab_model_t *whole = model;
    world_start(&world, 4, 2);
    for (int32_t h = 0; h < 4; h++)
        world_cable(&world, h, 4 + h / 2, 100000, 1000);
    model = world_model(&world, NULL, 0);
    one(FAB_OP_ALL_REDUCE, 0, 4, 10);
    refused(FAB_E_TRACE, 4, "are not connected: the topology has several parts");
    fab_program_t *program;
    one(FAB_OP_ALL_REDUCE, 0, 2, 10);
    CHECK_EQ(compile(4, NULL, NULL, &program), FAB_OK);
    fab_program_free(program);
    fab_model_free(model);
    model = whole;
}

static void counts(void)
{
    fab_program_t *program;
    fab_program_info_t info;
    rows_start(&rows);
    CHECK_EQ(compile(1, NULL, NULL, &program), FAB_OK);
    fab_program_info(program, &info);
    CHECK_EQ(info.instance_count, 0);
    fab_program_free(program);

    one(FAB_OP_ALL_REDUCE, 0, 6, 100); /* a ring: 6 connections; twice over: still 6 */
    rows_add(&rows, FAB_OP_ALL_REDUCE, 0, 6, 100);
    rows_add(&rows, FAB_OP_COMPUTE, 1, 3, 0);
    CHECK_EQ(compile(6, NULL, NULL, &program), FAB_OK);
    fab_program_info(program, &info);
    CHECK_EQ(info.op_count, 3);
    CHECK_EQ(info.instance_count, 15);
    CHECK_EQ(info.connection_count, 6);
    fab_program_free(program);

    one(FAB_OP_ALL_TO_ALL, 0, 6, 600);
    CHECK_EQ(compile(6, NULL, NULL, &program), FAB_OK);
    fab_program_info(program, &info);
    CHECK_EQ(info.connection_count, 30);
    fab_program_free(program);

    /* flows without stream have a connection each; in one stream they share it; to oneself none */
    rows_start(&rows);
    for (int i = 0; i < 3; i++)
        rows_flow(&rows, 0, 1, 10, 0);
    rows_flow(&rows, 2, 2, 10, 0);
    CHECK_EQ(compile(6, NULL, NULL, &program), FAB_OK);
    fab_program_info(program, &info);
    CHECK_EQ(info.connection_count, 3);
    CHECK_EQ(info.send_count, 4);
    fab_program_free(program);
    for (int i = 0; i < 6; i += 2)
        rows.stream[i] = 4;
    CHECK_EQ(compile(6, NULL, NULL, &program), FAB_OK);
    fab_program_info(program, &info);
    CHECK_EQ(info.connection_count, 1);
    fab_program_free(program);
}

/* A connection belongs to one data class; who has no column has class 0. */
static void data_classes(void)
{
    const choice_t three[] = {{"switch", "ethernet", "data_class_count", 3}};
    fab_model_t *one_class = model;
    fab_program_t *program;
    fab_program_info_t info;
    model = world_model(&world, three, 1);
    rows_start(&rows);
    for (int8_t i = 0; i < 4; i++) {
        rows_flow(&rows, 0, 1, 10, 0);
        rows.stream[2 * i] = 4;
        rows.priority[2 * i] = (int8_t)(i % 3); /* of the recv nothing is asked */
    }
    rows.priority[rows_add(&rows, FAB_OP_ALL_REDUCE, 0, 6, 100)] = 2;
    rows_add(&rows, FAB_OP_ALL_REDUCE, 0, 6, 100);
    CHECK_EQ(compile(6, NULL, NULL, &program), FAB_OK);
    if (program) {
        fab_program_info(program, &info);
        CHECK_EQ(info.connection_count, 3 + 2 * 6);
        const fab_connections_t *c = &program->connections[0];
        for (uint32_t e = 0; e < c->count; e++)
            for (uint32_t h = 0; h < 6; h++) {
                const bool mine = e >= c->tx_first[h] && e < c->tx_first[h + 1];
                const uint32_t found =
                    fab_program_find(program, h, c->tx_dst[e], c->tx_lane[e], c->tx_class[e], c->tx_channel[e]);
                CHECK(!mine || found == e - c->tx_first[h]);
            }
        CHECK_EQ(fab_program_find(program, 0, 1, -1, 1, 0), FAB_NONE);
        CHECK(program->connection[0] == program->connection[6] && program->connection[0] != program->connection[2]);
        fab_program_free(program);
    }
    rows.priority[0] = 3;
    refused(FAB_E_TRACE, 6, "row 0: priority: found 3, allowed 0 to 2");
    rows.priority[0] = -1;
    refused(FAB_E_TRACE, 6, "row 0: priority: found -1, allowed 0 to 2");
    rows.table.priority = NULL;
    CHECK_EQ(compile(6, NULL, NULL, &program), FAB_OK);
    fab_program_info(program, &info);
    CHECK_EQ(info.connection_count, 1 + 6);
    fab_program_free(program);
    fab_model_free(model);
    model = one_class;
    rows.table.priority = rows.priority;
    rows.priority[0] = 1;
    refused(FAB_E_TRACE, 6, "row 0: priority: found 1, allowed 0 to 0");
}

/* Positions in sets given in any order. */
static void sets(void)
{
    static const int32_t order[] = {5, 0, 3, 1};
    fab_program_t *program;
    one(FAB_OP_ALL_REDUCE, 0, 0, 100);
    for (int i = 0; i < 4; i++)
        rows_rank(&rows, order[i]);
    rows_add(&rows, FAB_OP_COMPUTE, 2, 3, 0);
    CHECK_EQ(compile(6, NULL, NULL, &program), FAB_OK);
    if (!program)
        return;
    for (uint32_t rank = 0; rank < 6; rank++) {
        uint32_t wanted = FAB_NONE;
        for (uint32_t i = 0; i < 4; i++)
            wanted = (uint32_t)order[i] == rank ? i : wanted;
        CHECK_EQ(fab_program_position(program, program->ops[0].set, rank), wanted);
        CHECK_EQ(fab_program_position(program, program->ops[1].set, rank),
                 rank >= 2 && rank <= 4 ? rank - 2 : FAB_NONE);
    }
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(fab_program_rank(program, i), order[i]);
        CHECK_EQ(fab_program_coll(program, i).position, i);
    }
    fab_program_free(program);
}

/* Settings of a model that must be told at once. */
static void settings(void)
{
    const char *const names[] = {"g_inverse", "nonsense"};
    const int64_t values[] = {1, 2};
    const fab_setting_t given[] = {
        {"cc", "dcqcn", 2, names, values, 0}, {"link", "none", 0, NULL, NULL, 0}, {"moon", "x", 0, NULL, NULL, 0}};
    fab_model_t *none = NULL;
    world_star(&world, 2);
    fab_problems_clear(&problems);
    CHECK_EQ(fab_model_new(&world.topology, given, 3, &problems, &none), FAB_E_CONFIG);
    CHECK(strstr(problems.text, "link: no such implementation as none") != NULL);
    CHECK(strstr(problems.text, "moon: no such room") != NULL);
    fab_problems_clear(&problems);
    CHECK_EQ(fab_model_new(&world.topology, given, 1, &problems, &none), FAB_E_CONFIG);
    CHECK_EQ(problems.count, 2);
    const fab_setting_t both[] = {{"cc", "dcqcn", 0, NULL, NULL, 0}, {"cc", "none", 0, NULL, NULL, 0}};
    fab_problems_clear(&problems);
    CHECK_EQ(fab_model_new(&world.topology, both, 2, &problems, &none), FAB_E_CONFIG);
    CHECK(strstr(problems.text, "both dcqcn and none are chosen") != NULL);
    const char *const buffer[] = {"buffer_bytes"};
    const int64_t small[] = {16384};
    const fab_setting_t tight[] = {{"link", "pause", 0, NULL, NULL, 0}, {"switch", "ethernet", 1, buffer, small, 0}};
    fab_problems_clear(&problems);
    CHECK_EQ(fab_model_new(&world.topology, tight, 2, &problems, &none), FAB_E_CONFIG);
    CHECK(strstr(problems.text, "for headroom") != NULL);
    CHECK(none == NULL);
    fab_model_free(none);
}

void test_program(void)
{
    world_star(&world, 6);
    model = world_model(&world, NULL, 0);
    refusals();
    ranks_on_hosts();
    algorithms();
    counts();
    data_classes();
    sets();
    parts_of_a_topology();
    fab_model_free(model);
    settings();
}
