/* No congestion control: a connection always sends at line rate. */
#include "cc/cc.h"

static const fab_param_t params[] = {FAB_PARAM_END};

static void init(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t line_kbps)
{
    (void)config;
    state->words[0] = (int64_t)fab_cc_pacing_q16(line_kbps);
}

static uint64_t on_send(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t bytes, int64_t now_ps)
{
    (void)config, (void)bytes, (void)now_ps;
    return (uint64_t)state->words[0];
}

static void on_cnp(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t now_ps)
{
    (void)config, (void)state, (void)now_ps;
}

const fab_cc_ops_t fab_cc_none = {
    .impl = {"cc", "none", "line rate always", params, 0},
    .init = init,
    .on_send = on_send,
    .on_cnp = on_cnp,
};
