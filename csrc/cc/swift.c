/* Swift: Kumar et al., "Swift: Delay is simple and effective for congestion control in the datacenter", SIGCOMM 2020.
 *
 * A window that grows by ai packets a round trip while the delay is below a target, and shrinks in proportion to the
 * excess, at most once a round trip and by at most max_mdf. The target is a base, a part for every hop, and a part
 * that grows as 1/sqrt(window), which makes shares fair. A window of less than a packet is paced: a packet every
 * round trip / window. */
#include "cc/cc.h"

#include <string.h>

enum {
    BASE_TARGET_PS,
    HOP_PS,
    FS_RANGE_PS,
    FS_MIN_CWND_PPM,
    FS_MAX_CWND_PPM,
    AI_PPM,
    BETA_PPM,
    MAX_MDF_PPM,
    MIN_CWND_PPM,
    MAX_CWND_PPM,
    INITIAL_WINDOW_BYTES,
    RETX_RESET_COUNT
};

#define US INT64_C(1000000)

static const fab_param_t params[] = {
    {"base_target_ps", "ps", 20 * US, 1000, 1000000 * US, "target of the round trip, before the other two parts",
     "20 us: csg-htsim's Swift; the paper gives none"},
    {"hop_ps", "ps", 3 * US, 0, 1000 * US, "more target for every switch on the way", "base / 6.55: csg-htsim's Swift"},
    {"fs_range_ps", "ps", 100 * US, 0, 1000000 * US, "the most that flow scaling adds to the target",
     "5 times base: csg-htsim's Swift"},
    {"fs_min_cwnd_ppm", "ppm", 100000, 1000, INT64_C(10000000000),
     "window, of a packet, up to which flow scaling adds all", "0.1 packets: Swift, SIGCOMM 2020"},
    {"fs_max_cwnd_ppm", "ppm", 100000000, 1000, INT64_C(10000000000),
     "window, of a packet, from which flow scaling adds nothing", "100 packets: Swift, SIGCOMM 2020"},
    {"ai_ppm", "ppm", 1000000, 1, INT64_C(1000000000), "packets that the window grows by in a round trip",
     "1: csg-htsim's Swift"},
    {"beta_ppm", "ppm", 800000, 0, 1000000, "weight of the excess in a decrease", "0.8: csg-htsim's Swift"},
    {"max_mdf_ppm", "ppm", 500000, 0, 1000000, "the most that one decrease takes", "0.5: csg-htsim's Swift"},
    {"min_cwnd_ppm", "ppm", 1000, 1, 1000000, "least window, of a packet", "0.001 packets: Swift, SIGCOMM 2020"},
    {"max_cwnd_ppm", "ppm", INT64_C(1000000000), 1000000, INT64_C(100000000000), "largest window, of a packet",
     "1000 packets: csg-htsim's Swift"},
    {"initial_window_bytes", "bytes", 0, 0, INT64_C(1) << 40,
     "window that a connection starts with; 0: what the line carries in base_target", ""},
    {"retx_reset_count", "", 5, 1, 1000, "time-outs in a row that bring the window to its least",
     "5: csg-htsim's Swift"},
    FAB_PARAM_END,
};

/* The window counts in 2^-16 bytes. */
enum { WINDOW_SHIFT = 16 };

typedef struct {
    int64_t window_q16;
    int64_t packet_bytes; /* the largest packet sent so far */
    int64_t rtt_ps;       /* the newest; 0: none yet */
    int64_t cut_at_ps;
    int64_t line_kbps;
    uint64_t pacing_q16;
    int64_t timeouts; /* in a row */
} state_t;

_Static_assert(sizeof(state_t) <= sizeof(((fab_cc_state_t *)0)->words), "Swift's state fits");

static uint64_t square_root(uint64_t x)
{
    if (x < 2)
        return x;
    uint64_t root = UINT64_C(1) << (32 - __builtin_clzll(x) / 2); /* above the root; Newton comes down to it */
    for (;;) {
        const uint64_t next = (root + x / root) / 2;
        if (next >= root)
            return root;
        root = next;
    }
}

/* 1 / sqrt(a window in 2^-16 packets), in 2^-16. */
static int64_t inverse_root(int64_t packets_q16)
{
    return (int64_t)((UINT64_C(1) << 32) / square_root((uint64_t)fab_max_i64(packets_q16, 1) << 16));
}

static int64_t packets_of_ppm(int64_t ppm) { return (int64_t)(((__int128)ppm << 16) / 1000000); }

static int64_t target_ps(const int64_t *v, const state_t *s, uint32_t hop_count)
{
    const int64_t least = inverse_root(packets_of_ppm(v[FS_MAX_CWND_PPM])),
                  most = inverse_root(packets_of_ppm(v[FS_MIN_CWND_PPM])),
                  root = inverse_root(s->window_q16 / s->packet_bytes);
    int64_t scaled_ps = 0;
    if (most > least && root > least)
        scaled_ps = (int64_t)((__int128)v[FS_RANGE_PS] * (fab_min_i64(root, most) - least) / (most - least));
    return v[BASE_TARGET_PS] + hop_count * v[HOP_PS] + scaled_ps;
}

/* Keeps the window within its bounds, and sets the pacing that goes with it. */
static void set_window(const int64_t *v, state_t *s, int64_t window_q16)
{
    const int64_t least = (int64_t)(((__int128)s->packet_bytes * v[MIN_CWND_PPM] << WINDOW_SHIFT) / 1000000),
                  most = (int64_t)(((__int128)s->packet_bytes * v[MAX_CWND_PPM] << WINDOW_SHIFT) / 1000000);
    s->window_q16 = fab_max_i64(fab_min_i64(window_q16, most), fab_max_i64(least, 1));
    s->pacing_q16 = fab_cc_pacing_q16(s->line_kbps);
    if (s->window_q16 >> WINDOW_SHIFT < s->packet_bytes && s->rtt_ps) {
        const uint64_t slow = (uint64_t)(((unsigned __int128)(uint64_t)s->rtt_ps << (FAB_WIRE_SHIFT + WINDOW_SHIFT)) /
                                         (uint64_t)s->window_q16);
        s->pacing_q16 = slow > s->pacing_q16 ? slow : s->pacing_q16;
    }
}

static void cut(const int64_t *v, state_t *s, int64_t window_q16, int64_t now_ps)
{
    const int64_t before = s->window_q16;
    set_window(v, s, window_q16);
    if (s->window_q16 < before)
        s->cut_at_ps = now_ps;
}

static bool may_cut(const state_t *s, int64_t now_ps) { return now_ps - s->cut_at_ps >= s->rtt_ps; }

static int64_t less_ppm(int64_t window_q16, int64_t ppm) { return window_q16 - fab_cc_ppm(window_q16, ppm); }

static void init(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t line_kbps)
{
    const int64_t *v = config->values;
    state_t *s = (state_t *)state->words;
    memset(s, 0, sizeof *s);
    s->line_kbps = line_kbps;
    s->packet_bytes = 1;
    s->cut_at_ps = -FAB_NEVER;
    s->pacing_q16 = fab_cc_pacing_q16(line_kbps);
    const int64_t bytes =
        v[INITIAL_WINDOW_BYTES] ? v[INITIAL_WINDOW_BYTES] : fab_cc_bytes(line_kbps, v[BASE_TARGET_PS]);
    s->window_q16 = fab_max_i64(bytes, 1) << WINDOW_SHIFT;
}

static uint64_t on_send(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t bytes, int64_t now_ps)
{
    (void)config, (void)now_ps;
    state_t *s = (state_t *)state->words;
    s->packet_bytes = fab_max_i64(s->packet_bytes, bytes);
    return s->pacing_q16;
}

static void grow(const int64_t *v, state_t *s, int64_t acked_bytes)
{
    const __int128 step_q16 = (__int128)acked_bytes * v[AI_PPM] << WINDOW_SHIFT;
    const int64_t window_bytes = s->window_q16 >> WINDOW_SHIFT;
    if (window_bytes >= s->packet_bytes)
        set_window(v, s,
                   s->window_q16 + (int64_t)((step_q16 / 1000000 * s->packet_bytes << WINDOW_SHIFT) / s->window_q16));
    else
        set_window(v, s, s->window_q16 + (int64_t)(step_q16 / 1000000));
}

static void on_ack(const fab_cc_config_t *config, fab_cc_state_t *state, const fab_cc_ack_t *ack)
{
    state_t *s = (state_t *)state->words;
    const int64_t *v = config->values;
    if (ack->acked_bytes > 0)
        s->timeouts = 0;
    if (ack->rtt_ps <= 0)
        return;
    const bool may = may_cut(s, ack->now_ps); /* by the round trip before this one */
    s->rtt_ps = ack->rtt_ps;
    const int64_t target = target_ps(v, s, ack->hop_count);
    if (ack->rtt_ps < target) {
        grow(v, s, ack->acked_bytes);
    } else if (may) {
        const int64_t excess_ppm = (int64_t)((__int128)v[BETA_PPM] * (ack->rtt_ps - target) / ack->rtt_ps);
        cut(v, s, less_ppm(s->window_q16, fab_min_i64(excess_ppm, v[MAX_MDF_PPM])), ack->now_ps);
    }
}

static int64_t window_bytes(const fab_cc_config_t *config, const fab_cc_state_t *state)
{
    (void)config;
    const state_t *s = (const state_t *)state->words;
    /* a packet leaves if the window holds all of it */
    return fab_max_i64(1, (s->window_q16 >> WINDOW_SHIFT) - s->packet_bytes + 1);
}

static void on_loss(const fab_cc_config_t *config, fab_cc_state_t *state, bool timeout, int64_t now_ps)
{
    state_t *s = (state_t *)state->words;
    const int64_t *v = config->values;
    s->timeouts = timeout ? s->timeouts + 1 : 0;
    if (s->timeouts >= v[RETX_RESET_COUNT])
        cut(v, s, 0, now_ps);
    else if (may_cut(s, now_ps))
        cut(v, s, less_ppm(s->window_q16, v[MAX_MDF_PPM]), now_ps);
}

const fab_cc_ops_t fab_cc_swift = {
    .impl = {"cc", "swift", "window by a target of the round-trip time", params, 0},
    .init = init,
    .on_send = on_send,
    .wants_rtt = true,
    .wants_hop_count = true,
    .on_ack = on_ack,
    .window_bytes = window_bytes,
    .on_loss = on_loss,
};
