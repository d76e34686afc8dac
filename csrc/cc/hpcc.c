/* HPCC: Li et al., "HPCC: High precision congestion control", SIGCOMM 2019, algorithm 1.
 *
 * Every switch on the way writes when a packet left, how much its output had sent by then and what was queued. From
 * two such notes of an output comes its load: what it sent, and what waits for it, as parts of what it can send in a
 * round trip. The most loaded output sets the rate: reference * eta / load + a small step, or the step alone while
 * the load is below eta. The reference moves once a round trip, so that notes of one queue are answered once.
 * Rate and window are one: window = rate * T. The rules of the authors' simulator (minimum rate, no fast reaction)
 * are settings. */
#include "cc/cc.h"

#include <string.h>

enum { ETA_PPM, MAX_STAGE_COUNT, AI_BYTES, BASE_RTT_PS, MIN_RATE_MBPS, FAST_REACT };

static const fab_param_t params[] = {
    {"eta_ppm", "ppm", 950000, 100000, 1000000, "the load that an output is steered to", "95 %: HPCC, SIGCOMM 2019"},
    {"max_stage_count", "", 5, 0, 1000, "additive steps in a row before the rate follows the load again",
     "5: HPCC, SIGCOMM 2019; 0: its simulator's run.py"},
    {"ai_bytes", "bytes", 80, 1, 1 << 24, "additive step of the window (W_AI)",
     "80: HPCC, SIGCOMM 2019, section 5.1; its simulator: 10 Mb/s a 25 Gb/s"},
    {"base_rtt_ps", "ps", 0, 0, INT64_C(10000000000), "round trip without queues (T); 0: the least one measured",
     "HPCC: one value for a network, 13 us in its simulations"},
    {"min_rate_mbps", "Mb/s", 100, 1, 1000000, "the rate never falls below",
     "100 Mb/s: HPCC's simulator; 1 Gb/s in its run.py"},
    {"fast_react", "", 1, 0, 1, "1: every acknowledgement moves the rate; 0: one a round trip",
     "1: HPCC, SIGCOMM 2019"},
    FAB_PARAM_END,
};

enum { LOAD_SHIFT = 24 };

typedef struct {
    int64_t line_kbps, reference_kbps, current_kbps;
    int64_t base_rtt_ps; /* FAB_NEVER: not known yet */
    int64_t load_q24;    /* of the most loaded output, smoothed over a round trip */
    uint64_t pacing_q16;
    uint64_t update_psn; /* the reference moves when packets sent after this one are acknowledged */
    uint32_t stage, hop_count;
} state_t;

typedef struct {
    fab_hop_t hops[FAB_HOPS_MAX]; /* of the last acknowledgement that was looked at */
} more_t;

_Static_assert(sizeof(state_t) <= sizeof(((fab_cc_state_t *)0)->words), "HPCC's state fits");

static void init(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t line_kbps)
{
    state_t *s = (state_t *)state->words;
    memset(s, 0, sizeof *s);
    s->line_kbps = s->reference_kbps = s->current_kbps = line_kbps;
    s->base_rtt_ps = config->values[BASE_RTT_PS] ? config->values[BASE_RTT_PS] : FAB_NEVER;
    s->pacing_q16 = fab_cc_pacing_q16(line_kbps);
}

static uint64_t on_send(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t bytes, int64_t now_ps)
{
    (void)config, (void)bytes, (void)now_ps;
    return ((const state_t *)state->words)->pacing_q16;
}

static bool same_path(const state_t *s, const more_t *more, const fab_cc_ack_t *ack)
{
    bool same = s->hop_count == ack->hop_count;
    for (uint32_t i = 0; same && i < ack->hop_count; i++)
        same = more->hops[i].link == ack->hops[i].link && more->hops[i].when_ps < ack->hops[i].when_ps &&
               more->hops[i].sent_bytes <= ack->hops[i].sent_bytes;
    return same;
}

/* Parts of an output's round trip that are sent or wait, in 2^-24. */
static int64_t hop_load(const fab_hop_t *before, const fab_hop_t *now, int64_t base_rtt_ps)
{
    const unsigned __int128 byte = (unsigned __int128)8000000 << LOAD_SHIFT; /* at 1 Mb/s and 1 ps */
    const uint64_t queue = (uint64_t)fab_min_i64(before->queue_bytes, now->queue_bytes),
                   sent = (uint64_t)(now->sent_bytes - before->sent_bytes), rate = (uint64_t)now->rate_mbps;
    return (int64_t)(byte * queue / ((unsigned __int128)rate * (uint64_t)base_rtt_ps)) +
           (int64_t)(byte * sent / ((unsigned __int128)rate * (uint64_t)(now->when_ps - before->when_ps)));
}

static void measure(state_t *s, const more_t *more, const fab_cc_ack_t *ack)
{
    int64_t most = 0, span_ps = 0;
    for (uint32_t i = 0; i < ack->hop_count; i++) {
        const int64_t load = hop_load(&more->hops[i], &ack->hops[i], s->base_rtt_ps);
        if (load > most) {
            most = load;
            span_ps = ack->hops[i].when_ps - more->hops[i].when_ps;
        }
    }
    span_ps = fab_min_i64(span_ps, s->base_rtt_ps);
    s->load_q24 =
        (int64_t)(((__int128)s->load_q24 * (s->base_rtt_ps - span_ps) + (__int128)most * span_ps) / s->base_rtt_ps);
}

static void compute_rate(const int64_t *v, state_t *s, bool moves_reference)
{
    const int64_t eta_q24 = (v[ETA_PPM] << LOAD_SHIFT) / 1000000, step_kbps = fab_cc_kbps(v[AI_BYTES], s->base_rtt_ps);
    const bool follow = s->load_q24 >= eta_q24 || s->stage >= v[MAX_STAGE_COUNT];
    int64_t kbps = s->reference_kbps;
    if (follow) /* no load at all: as fast as the line */
        kbps = s->load_q24 ? (int64_t)((__int128)kbps * eta_q24 / s->load_q24) : s->line_kbps;
    kbps = fab_max_i64(kbps + step_kbps, fab_min_i64(v[MIN_RATE_MBPS] * 1000, s->line_kbps));
    s->current_kbps = fab_min_i64(kbps, s->line_kbps);
    s->pacing_q16 = fab_cc_pacing_q16(s->current_kbps);
    if (moves_reference) {
        s->reference_kbps = s->current_kbps;
        s->stage = follow ? 0 : s->stage + 1;
    }
}

static void on_ack(const fab_cc_config_t *config, fab_cc_state_t *state, const fab_cc_ack_t *ack)
{
    state_t *s = (state_t *)state->words;
    more_t *more = state->more;
    const int64_t *v = config->values;
    if (!v[BASE_RTT_PS] && ack->rtt_ps > 0)
        s->base_rtt_ps = fab_min_i64(s->base_rtt_ps, ack->rtt_ps);
    if (s->base_rtt_ps == FAB_NEVER || !ack->hop_count)
        return;
    const bool full = ack->acked_psn > s->update_psn, first = !s->update_psn;
    if (!full && !first && !v[FAST_REACT])
        return;
    if (!first && same_path(s, more, ack)) {
        measure(s, more, ack);
        compute_rate(v, s, full);
    }
    s->hop_count = ack->hop_count;
    memcpy(more->hops, ack->hops, ack->hop_count * sizeof *ack->hops);
    if (full || first)
        s->update_psn = ack->next_psn > s->update_psn ? ack->next_psn : s->update_psn;
}

static int64_t window_bytes(const fab_cc_config_t *config, const fab_cc_state_t *state)
{
    (void)config;
    const state_t *s = (const state_t *)state->words;
    return s->base_rtt_ps == FAB_NEVER ? FAB_CC_NO_WINDOW
                                       : fab_max_i64(1, fab_cc_bytes(s->current_kbps, s->base_rtt_ps));
}

const fab_cc_ops_t fab_cc_hpcc = {
    .impl = {"cc", "hpcc", "rate and window by what switches write on packets", params, 0},
    .init = init,
    .on_send = on_send,
    .more_bytes = sizeof(more_t),
    .wants_rtt = true,
    .wants_hops = true,
    .on_ack = on_ack,
    .window_bytes = window_bytes,
};
