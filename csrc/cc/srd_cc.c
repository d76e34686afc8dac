/* A controller in the manner of SRD: Shalev et al., "A cloud-optimized transport protocol for elastic and scalable
 * HPC", IEEE Micro 40(6), 2020.
 *
 * Published: a connection has a rate and a limit of bytes under way, both of all its paths together; it goes by the
 * rate at which acknowledgements come and by round trips that rise on the majority of its paths; it keeps queues
 * short instead of filling them until packets drop. The numbers and the steps are not published: those here are our
 * reading. In rounds of one round trip: if most acknowledgements of a round were late, the rate becomes a part of
 * what was delivered in that round; else it rises, by one step more each round. */
#include "cc/cc.h"

#include <string.h>

enum {
    BASE_RTT_PS,
    INFLATION_PPM,
    MAJORITY_PPM,
    BACKOFF_PPM,
    INCREASE_PPM,
    WINDOW_GAIN_PPM,
    INITIAL_WINDOW_BYTES,
    MIN_RATE_MBPS
};

static const fab_param_t params[] = {
    {"base_rtt_ps", "ps", 0, 0, INT64_C(10000000000), "round trip without queues; 0: the least one measured", ""},
    {"inflation_ppm", "ppm", 500000, 1, 100000000, "a round trip longer than the base by this part of it is late", ""},
    {"majority_ppm", "ppm", 500000, 0, 1000000, "a round of which more than this part was late is congested",
     "the majority: Shalev et al., IEEE Micro 2020"},
    {"backoff_ppm", "ppm", 900000, 1, 1000000, "part of the delivered rate that is kept after a congested round", ""},
    {"increase_ppm", "ppm", 5000, 1, 1000000,
     "part of the line that the first round without congestion adds; the next adds two, and so on", ""},
    {"window_gain_ppm", "ppm", 2000000, 100000, 100000000,
     "bytes that may be under way, in products of rate and base round trip", ""},
    {"initial_window_bytes", "bytes", 131072, 1, INT64_C(1) << 40,
     "bytes that may be under way before the first acknowledgement", ""},
    {"min_rate_mbps", "Mb/s", 100, 1, 1000000, "the rate never falls below", ""},
    FAB_PARAM_END,
};

typedef struct {
    int64_t rate_kbps, line_kbps;
    int64_t base_ps;     /* FAB_NEVER: not known yet */
    int64_t round_at_ps; /* when it began */
    int64_t round_bytes; /* acknowledged in it */
    int64_t rtt_ps;      /* of the newest acknowledgement */
    uint64_t pacing_q16;
    uint32_t samples, late;
    int64_t clear_rounds; /* in a row */
    bool running;         /* a round has begun */
} state_t;

_Static_assert(sizeof(state_t) <= sizeof(((fab_cc_state_t *)0)->words), "the state fits");

static void set_rate(const int64_t *v, state_t *s, int64_t kbps)
{
    s->rate_kbps = fab_cc_bounded_kbps(kbps, v[MIN_RATE_MBPS], s->line_kbps);
    s->pacing_q16 = fab_cc_pacing_q16(s->rate_kbps);
}

static void init(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t line_kbps)
{
    state_t *s = (state_t *)state->words;
    memset(s, 0, sizeof *s);
    s->line_kbps = line_kbps;
    s->base_ps = config->values[BASE_RTT_PS] ? config->values[BASE_RTT_PS] : FAB_NEVER;
    set_rate(config->values, s, line_kbps);
}

static uint64_t on_send(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t bytes, int64_t now_ps)
{
    (void)config, (void)bytes, (void)now_ps;
    return ((const state_t *)state->words)->pacing_q16;
}

static void begin_round(state_t *s, int64_t now_ps)
{
    s->running = true;
    s->round_at_ps = now_ps;
    s->round_bytes = 0;
    s->samples = s->late = 0;
}

static void end_round(const int64_t *v, state_t *s, int64_t now_ps)
{
    if ((int64_t)s->late * 1000000 > (int64_t)s->samples * v[MAJORITY_PPM]) {
        s->clear_rounds = 0;
        const int64_t delivered_kbps = fab_cc_kbps(s->round_bytes, now_ps - s->round_at_ps);
        set_rate(v, s, fab_cc_ppm(fab_min_i64(s->rate_kbps, delivered_kbps), v[BACKOFF_PPM]));
    } else {
        s->clear_rounds++;
        const int64_t step_kbps = fab_cc_ppm(s->line_kbps, v[INCREASE_PPM]);
        set_rate(v, s, s->rate_kbps + fab_min_i64(s->clear_rounds * step_kbps, s->line_kbps));
    }
}

static void on_ack(const fab_cc_config_t *config, fab_cc_state_t *state, const fab_cc_ack_t *ack)
{
    state_t *s = (state_t *)state->words;
    const int64_t *v = config->values;
    if (!s->running) { /* what it acknowledges was sent before the round */
        begin_round(s, ack->now_ps);
    } else {
        s->round_bytes += ack->acked_bytes;
    }
    if (ack->rtt_ps > 0) {
        if (!v[BASE_RTT_PS])
            s->base_ps = fab_min_i64(s->base_ps, ack->rtt_ps);
        s->rtt_ps = ack->rtt_ps;
        s->samples++;
        s->late += ack->rtt_ps - s->base_ps > fab_cc_ppm(s->base_ps, v[INFLATION_PPM]);
    }
    if (s->samples && ack->now_ps - s->round_at_ps >= fab_max_i64(s->rtt_ps, s->base_ps)) {
        end_round(v, s, ack->now_ps);
        begin_round(s, ack->now_ps);
    }
}

static int64_t window_bytes(const fab_cc_config_t *config, const fab_cc_state_t *state)
{
    const state_t *s = (const state_t *)state->words;
    const int64_t *v = config->values;
    if (!s->rtt_ps)
        return v[INITIAL_WINDOW_BYTES];
    return fab_max_i64(1, fab_cc_ppm(fab_cc_bytes(s->rate_kbps, s->base_ps), v[WINDOW_GAIN_PPM]));
}

static void on_loss(const fab_cc_config_t *config, fab_cc_state_t *state, bool timeout, int64_t now_ps)
{
    (void)now_ps;
    state_t *s = (state_t *)state->words;
    s->samples++; /* a lost packet is a late one */
    s->late++;
    if (timeout)
        set_rate(config->values, s, s->rate_kbps / 2);
}

const fab_cc_ops_t fab_cc_srd_cc = {
    .impl = {"cc", "srd_cc", "rate and window of an SRD connection, by delivery and delay", params, 0},
    .init = init,
    .on_send = on_send,
    .wants_rtt = true,
    .on_ack = on_ack,
    .window_bytes = window_bytes,
    .on_loss = on_loss,
};
