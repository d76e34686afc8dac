/* Dissemination barrier: in round k every rank tells the one 2^k ahead; after ceil(log2 n) rounds all know of all.
 * Hensgen, Finkel, Manber, "Two algorithms for barrier synchronization", IJPP 1988. */
#include "coll/shared.h"

enum { MESSAGE_BYTES = FAB_COLL_OWN };

static const fab_param_t params[] = {
    FAB_COLL_COMMON_PARAMS,
    {"message_bytes", "bytes", 8, 0, 1 << 20, "payload of a barrier's message", ""},
    FAB_PARAM_END,
};

enum { ARRIVED, ROUND }; /* bit set of rounds that came; the round being waited for */

static void peers(const fab_coll_t *c, fab_coll_emit_t *emit, void *context)
{
    for (uint32_t ahead = 1; ahead < c->count; ahead *= 2)
        emit(context, (c->position + ahead) % c->count, 0);
}

static bool start(const fab_coll_t *c, fab_coll_state_t *state, fab_coll_out_t out)
{
    (void)state;
    if (c->count == 1)
        return true;
    out.send(out.self, (c->position + 1) % c->count, c->values[MESSAGE_BYTES], 0, 0);
    return false;
}

static bool received(const fab_coll_t *c, fab_coll_state_t *state, uint32_t step, fab_coll_out_t out)
{
    state->words[ARRIVED] |= 1u << step;
    while (state->words[ARRIVED] >> state->words[ROUND] & 1) {
        const uint32_t round = ++state->words[ROUND];
        if (UINT64_C(1) << round >= c->count)
            return true;
        out.send(out.self, (c->position + (1u << round)) % c->count, c->values[MESSAGE_BYTES], round, 0);
    }
    return false;
}

const fab_coll_ops_t fab_coll_dissemination = {
    .impl = {"coll", "dissemination", "a barrier in log2 n rounds", params, 1u << FAB_OP_BARRIER},
    .peers = peers,
    .start = start,
    .received = received,
};
