/* DCQCN's reaction point: Zhu et al., "Congestion control for large-scale RDMA deployments", SIGCOMM 2015.
 *
 * On a notification: target <- current, current <- current (1 - alpha/2), alpha <- (1-g) alpha + g. Without
 * one for the alpha timer: alpha <- (1-g) alpha. A timer T and a byte counter B count rounds of increase: fast
 * recovery while both are below F (current <- mean of current and target), hyper increase when both are above,
 * additive increase between. Three settings take it from the paper to what NICs and HPCC's simulator do:
 * decrease_timer (at most one cut in that time), alpha_by_timer (alpha grows at most once an alpha timer) and
 * clamp_target. */
#include "cc/cc.h"

#include <string.h>

enum {
    G_INVERSE,
    ALPHA_TIMER_PS,
    INCREASE_TIMER_PS,
    BYTE_COUNTER_BYTES,
    FAST_RECOVERY_COUNT,
    RATE_AI_MBPS,
    RATE_HAI_MBPS,
    MIN_RATE_MBPS,
    DECREASE_TIMER_PS,
    ALPHA_BY_TIMER,
    CLAMP_TARGET
};

#define US INT64_C(1000000)

static const fab_param_t params[] = {
    {"g_inverse", "", 256, 2, 1 << 20, "1/g: weight of the newest notification in alpha", "1/256: DCQCN, SIGCOMM 2015"},
    {"alpha_timer_ps", "ps", 55 * US, 1000, 1000000 * US, "alpha decays after this long without a notification (K)",
     "55 us: DCQCN, SIGCOMM 2015"},
    {"increase_timer_ps", "ps", 55 * US, 1000, 1000000 * US, "time between rounds of increase (T)",
     "55 us: DCQCN, SIGCOMM 2015"},
    {"byte_counter_bytes", "bytes", 10000000, 0, INT64_C(1) << 40,
     "bytes between rounds of increase (B); 0: no byte counter", "10 MB: DCQCN, SIGCOMM 2015"},
    {"fast_recovery_count", "", 5, 1, 1000, "rounds of fast recovery (F)", "5: DCQCN, SIGCOMM 2015"},
    {"rate_ai_mbps", "Mb/s", 40, 1, 1000000, "additive increase of the target", "40 Mb/s: DCQCN, SIGCOMM 2015"},
    {"rate_hai_mbps", "Mb/s", 400, 1, 1000000, "hyper increase of the target, times the rounds beyond F",
     "ten times additive, as in HPCC's simulator"},
    {"min_rate_mbps", "Mb/s", 100, 1, 1000000, "the rate never falls below",
     "100 Mb/s: HPCC's simulator, smallest setting"},
    {"decrease_timer_ps", "ps", 0, 0, 1000000 * US,
     "least time between two cuts; a notification in between waits for its end",
     "0: DCQCN, SIGCOMM 2015; 4 us: ConnectX default rate_reduce_monitor_period"},
    {"alpha_by_timer", "", 0, 0, 1,
     "1: alpha grows when the alpha timer ends with a notification in it; 0: at each notification",
     "0: DCQCN, SIGCOMM 2015; 1: HPCC's simulator"},
    {"clamp_target", "", 1, 0, 1,
     "1: every cut brings the target down to the rate; 0: only the first after an increase does",
     "1: DCQCN, SIGCOMM 2015; 0: ConnectX default clamp_tgt_rate, HPCC's simulator"},
    FAB_PARAM_END,
};

#define ALPHA_ONE (UINT32_C(1) << 30)

typedef struct {
    int64_t current_kbps, target_kbps, line_kbps;
    int64_t alpha_at_ps; /* the alpha timer was last set */
    int64_t timer_at_ps; /* the increase timer was last set */
    int64_t cut_at_ps;   /* the last cut */
    int64_t bytes;       /* since the byte counter's last round */
    uint64_t pacing_q16;
    uint32_t alpha;
    uint16_t timer_rounds, byte_rounds;
    bool active;    /* notified at least once: before that, nothing moves */
    bool cut_waits; /* a cut is due when the decrease timer ends */
    bool notified;  /* since the alpha timer was last set */
} state_t;

_Static_assert(sizeof(state_t) <= sizeof(fab_cc_state_t), "DCQCN's state fits");

static void set_rate(const int64_t *v, state_t *s, int64_t kbps)
{
    s->current_kbps = fab_cc_bounded_kbps(kbps, v[MIN_RATE_MBPS], s->line_kbps);
    s->pacing_q16 = fab_cc_pacing_q16(s->current_kbps);
}

static void init(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t line_kbps)
{
    state_t *s = (state_t *)state;
    memset(s, 0, sizeof *s);
    s->line_kbps = s->target_kbps = line_kbps;
    s->alpha = ALPHA_ONE;
    s->cut_at_ps = -FAB_NEVER;
    set_rate(config->values, s, line_kbps);
}

static void decay_alpha(const int64_t *v, state_t *s, bool notified)
{
    s->alpha -= s->alpha / (uint32_t)v[G_INVERSE];
    if (notified)
        s->alpha += ALPHA_ONE / (uint32_t)v[G_INVERSE];
}

static void cut(const int64_t *v, state_t *s, int64_t now_ps)
{
    if (v[CLAMP_TARGET] || s->timer_rounds || s->byte_rounds)
        s->target_kbps = s->current_kbps;
    set_rate(v, s,
             s->current_kbps - (int64_t)(((unsigned __int128)s->current_kbps * s->alpha) / (2 * (uint64_t)ALPHA_ONE)));
    s->cut_at_ps = now_ps;
    s->cut_waits = false;
    s->timer_at_ps = now_ps;
    s->timer_rounds = s->byte_rounds = 0;
    s->bytes = 0;
}

static void increase(const int64_t *v, state_t *s)
{
    const int64_t t = s->timer_rounds, b = v[BYTE_COUNTER_BYTES] ? (int64_t)s->byte_rounds : t,
                  f = v[FAST_RECOVERY_COUNT];
    if (fab_min_i64(t, b) > f)
        s->target_kbps += (fab_min_i64(t, b) - f) * v[RATE_HAI_MBPS] * 1000;
    else if (fab_max_i64(t, b) >= f)
        s->target_kbps += v[RATE_AI_MBPS] * 1000;
    s->target_kbps = fab_min_i64(s->target_kbps, s->line_kbps);
    set_rate(v, s, (s->current_kbps + s->target_kbps + 1) / 2);
}

/* All timers that end by now, in their order; at one time alpha, then the cut, then the increase. */
static void advance(const int64_t *v, state_t *s, int64_t now_ps)
{
    for (;;) {
        const bool rising = s->current_kbps < s->line_kbps;
        const int64_t alpha_ps =
            s->alpha >= (uint32_t)v[G_INVERSE] || s->notified ? s->alpha_at_ps + v[ALPHA_TIMER_PS] : FAB_NEVER;
        const int64_t cut_ps = s->cut_waits ? s->cut_at_ps + v[DECREASE_TIMER_PS] : FAB_NEVER;
        const int64_t timer_ps = rising ? s->timer_at_ps + v[INCREASE_TIMER_PS] : FAB_NEVER;
        const int64_t next_ps = fab_min_i64(alpha_ps, fab_min_i64(cut_ps, timer_ps));
        if (next_ps > now_ps)
            return;
        if (alpha_ps == next_ps) {
            decay_alpha(v, s, s->notified);
            s->notified = false;
            s->alpha_at_ps = alpha_ps;
        } else if (cut_ps == next_ps) {
            cut(v, s, cut_ps);
        } else {
            s->timer_at_ps = timer_ps;
            s->timer_rounds = (uint16_t)(s->timer_rounds + (s->timer_rounds < UINT16_MAX));
            increase(v, s);
        }
    }
}

static uint64_t on_send(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t bytes, int64_t now_ps)
{
    state_t *s = (state_t *)state;
    if (!s->active)
        return s->pacing_q16;
    const int64_t *v = config->values;
    advance(v, s, now_ps);
    if (v[BYTE_COUNTER_BYTES] && s->current_kbps < s->line_kbps) {
        s->bytes += bytes;
        if (s->bytes >= v[BYTE_COUNTER_BYTES]) {
            s->bytes -= v[BYTE_COUNTER_BYTES];
            s->byte_rounds = (uint16_t)(s->byte_rounds + (s->byte_rounds < UINT16_MAX));
            increase(v, s);
        }
    }
    return s->pacing_q16;
}

static void on_cnp(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t now_ps)
{
    state_t *s = (state_t *)state;
    const int64_t *v = config->values;
    if (!s->active) {
        s->active = true;
        s->alpha_at_ps = s->timer_at_ps = now_ps;
        if (v[DECREASE_TIMER_PS]) /* the first notification starts the timer of the cuts */
            s->cut_at_ps = now_ps;
    }
    advance(v, s, now_ps);
    if (!s->notified && s->alpha < (uint32_t)v[G_INVERSE]) /* the timer slept: alpha had nothing left to lose */
        s->alpha_at_ps += (now_ps - s->alpha_at_ps) / v[ALPHA_TIMER_PS] * v[ALPHA_TIMER_PS];
    if (now_ps >= s->cut_at_ps + v[DECREASE_TIMER_PS])
        cut(v, s, now_ps);
    else
        s->cut_waits = true;
    if (v[ALPHA_BY_TIMER]) {
        s->notified = true;
    } else {
        decay_alpha(v, s, true);
        s->alpha_at_ps = now_ps;
    }
}

const fab_cc_ops_t fab_cc_dcqcn = {
    .impl = {"cc", "dcqcn", "ECN-driven rate control of RoCEv2 NICs", params, 0},
    .wants_cnp = true,
    .init = init,
    .on_send = on_send,
    .on_cnp = on_cnp,
};
