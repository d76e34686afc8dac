/* TIMELY: Mittal et al., "TIMELY: RTT-based congestion control for the datacenter", SIGCOMM 2015, algorithm 1.
 *
 * The rate follows the gradient of the round-trip time: up by a step while it falls (five steps after five falls in a
 * row), down by beta times the gradient while it rises. Below T_low it always goes up, above T_high always down. */
#include "cc/cc.h"

#include <string.h>

enum { ALPHA_PPM, BETA_PPM, T_LOW_PS, T_HIGH_PS, MIN_RTT_PS, RATE_AI_MBPS, HAI_COUNT, SEGMENT_BYTES, MIN_RATE_MBPS };

#define US INT64_C(1000000)

static const fab_param_t params[] = {
    {"alpha_ppm", "ppm", 875000, 1, 1000000, "weight of the newest difference of round trips in the gradient",
     "0.875: HPCC's simulator"},
    {"beta_ppm", "ppm", 800000, 0, 1000000, "weight of the gradient in a decrease", "0.8: TIMELY, SIGCOMM 2015"},
    {"t_low_ps", "ps", 50 * US, 0, 1000000 * US, "a round trip below this always raises the rate",
     "50 us: TIMELY, SIGCOMM 2015"},
    {"t_high_ps", "ps", 500 * US, 1, 1000000 * US, "a round trip above this always lowers the rate",
     "500 us: TIMELY, SIGCOMM 2015"},
    {"min_rtt_ps", "ps", 20 * US, 0, 1000000 * US, "the gradient is counted in it; 0: the least round trip measured",
     "20 us: TIMELY, SIGCOMM 2015"},
    {"rate_ai_mbps", "Mb/s", 10, 1, 1000000, "step of an increase (delta)",
     "10 Mb/s at 10 Gb/s: TIMELY, SIGCOMM 2015; HPCC's simulator scales it with the line"},
    {"hai_count", "", 5, 1, 1000, "falls in a row after which a step is this many (N)", "5: TIMELY, SIGCOMM 2015"},
    {"segment_bytes", "bytes", 16384, 0, 1 << 30,
     "bytes acknowledged between two updates; 0: an update a round trip, as in HPCC's simulator",
     "16 to 64 KB: TIMELY, SIGCOMM 2015"},
    {"min_rate_mbps", "Mb/s", 100, 1, 1000000, "the rate never falls below", "100 Mb/s: HPCC's simulator"},
    FAB_PARAM_END,
};

typedef struct {
    int64_t current_kbps, line_kbps;
    int64_t rtt_ps;      /* of the last update; 0: none yet */
    int64_t gradient_ps; /* smoothed difference of round trips */
    int64_t least_ps;    /* round trip ever */
    int64_t bytes;       /* acknowledged since the last update */
    uint64_t update_psn;
    uint64_t pacing_q16;
    int64_t falls;
} state_t;

_Static_assert(sizeof(state_t) <= sizeof(((fab_cc_state_t *)0)->words), "TIMELY's state fits");

static void set_rate(const int64_t *v, state_t *s, int64_t kbps)
{
    s->current_kbps = fab_cc_bounded_kbps(kbps, v[MIN_RATE_MBPS], s->line_kbps);
    s->pacing_q16 = fab_cc_pacing_q16(s->current_kbps);
}

static void init(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t line_kbps)
{
    state_t *s = (state_t *)state->words;
    memset(s, 0, sizeof *s);
    s->line_kbps = line_kbps;
    s->least_ps = FAB_NEVER;
    set_rate(config->values, s, line_kbps);
}

static uint64_t on_send(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t bytes, int64_t now_ps)
{
    (void)config, (void)bytes, (void)now_ps;
    return ((const state_t *)state->words)->pacing_q16;
}

static void update(const int64_t *v, state_t *s, int64_t rtt_ps)
{
    const int64_t difference_ps = rtt_ps - s->rtt_ps;
    s->gradient_ps =
        (int64_t)(((__int128)s->gradient_ps * (1000000 - v[ALPHA_PPM]) + (__int128)difference_ps * v[ALPHA_PPM]) /
                  1000000);
    const int64_t step_kbps = v[RATE_AI_MBPS] * 1000;
    if (rtt_ps < v[T_LOW_PS]) {
        set_rate(v, s, s->current_kbps + step_kbps);
    } else if (rtt_ps > v[T_HIGH_PS]) {
        s->falls = 0;
        const int64_t cut_ppm = (int64_t)((__int128)v[BETA_PPM] * (rtt_ps - v[T_HIGH_PS]) / rtt_ps);
        set_rate(v, s, s->current_kbps - fab_cc_ppm(s->current_kbps, cut_ppm));
    } else if (s->gradient_ps <= 0) {
        s->falls++;
        set_rate(v, s, s->current_kbps + (s->falls >= v[HAI_COUNT] ? v[HAI_COUNT] : 1) * step_kbps);
    } else {
        s->falls = 0;
        const int64_t least_ps = v[MIN_RTT_PS] ? v[MIN_RTT_PS] : s->least_ps,
                      cut_ppm = (int64_t)((__int128)v[BETA_PPM] * s->gradient_ps / least_ps);
        set_rate(v, s, s->current_kbps - fab_cc_ppm(s->current_kbps, fab_min_i64(cut_ppm, 1000000)));
    }
}

static void on_ack(const fab_cc_config_t *config, fab_cc_state_t *state, const fab_cc_ack_t *ack)
{
    state_t *s = (state_t *)state->words;
    const int64_t *v = config->values;
    s->bytes += ack->acked_bytes;
    if (ack->rtt_ps <= 0)
        return;
    s->least_ps = fab_min_i64(s->least_ps, ack->rtt_ps);
    if (v[SEGMENT_BYTES] ? s->bytes < v[SEGMENT_BYTES] : ack->acked_psn <= s->update_psn)
        return;
    if (s->rtt_ps)
        update(v, s, ack->rtt_ps);
    s->rtt_ps = ack->rtt_ps;
    s->bytes = 0;
    s->update_psn = ack->next_psn;
}

const fab_cc_ops_t fab_cc_timely = {
    .impl = {"cc", "timely", "rate by the gradient of the round-trip time", params, 0},
    .init = init,
    .on_send = on_send,
    .wants_rtt = true,
    .on_ack = on_ack,
};
