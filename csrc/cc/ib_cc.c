/* InfiniBand congestion control at the channel adapter: InfiniBand Architecture Specification vol. 1, annex A10.
 *
 * A queue pair has an index into the congestion control table (CCTI). Every BECN adds CCTI_Increase to it, every turn
 * of CCTI_Timer takes one off. The entry of the table is the inter-packet delay, counted in times of the packet: a
 * multiplier of 14 bits over 2^shift of 2 bits. The specification leaves the table to the subnet manager; here it
 * follows from two parameters. */
#include "cc/cc.h"

#include <string.h>

enum { CCTI_INCREASE, CCTI_TIMER_COUNT, CCTI_MIN, CCTI_LIMIT, CCT_STEP_PPM, CCT_EXPONENTIAL };

static const fab_param_t params[] = {
    {"ccti_increase_count", "", 1, 1, 255, "what a BECN adds to the index of the table (CCTI)",
     "1: Mellanox congestion control manager"},
    {"ccti_timer_count", "", 150, 1, 65535, "units of 1.024 us after which the index goes down by one (CCTI_Timer)",
     "150: Gran et al., IPDPS 2010"},
    {"ccti_min_count", "", 0, 0, 16383, "least index", "0: Mellanox congestion control manager"},
    {"ccti_limit_count", "", 127, 1, 16383, "largest index (CCTI_Limit)", "127: Gran et al., IPDPS 2010"},
    {"cct_step_ppm", "ppm", 125000, 1, 16000000, "what an entry of the table adds to the one before it", ""},
    {"cct_exponential", "", 0, 0, 1,
     "0: entry i is i * step packet times; 1: it is (1 + step)^i - 1, so that every index slows by the same part", ""},
    FAB_PARAM_END,
};

#define TIMER_UNIT_PS INT64_C(1024000)
enum { DELAY_SHIFT = 32, MULTIPLIER_MAX = (1 << 14) - 1, SHIFT_MAX = 3 };

typedef struct {
    int64_t line_pacing_q16;
    int64_t turns; /* of the timer, up to now; it runs from time 0 on */
    uint64_t pacing_q16;
    int64_t ccti;
} state_t;

_Static_assert(sizeof(state_t) <= sizeof(((fab_cc_state_t *)0)->words), "the state fits");

/* Delay of an index, in 2^-32 packet times; more than an entry can say counts as its most. */
static uint64_t ideal_delay(const int64_t *v, int64_t index)
{
    const uint64_t one = UINT64_C(1) << DELAY_SHIFT, most = (uint64_t)(MULTIPLIER_MAX + 1) << DELAY_SHIFT;
    if (!v[CCT_EXPONENTIAL]) {
        const unsigned __int128 delay =
            ((unsigned __int128)(uint64_t)(index * v[CCT_STEP_PPM]) << DELAY_SHIFT) / 1000000;
        return delay < most ? (uint64_t)delay : most;
    }
    unsigned __int128 power = one,
                      square = one + ((unsigned __int128)(uint64_t)v[CCT_STEP_PPM] << DELAY_SHIFT) / 1000000;
    for (uint64_t bits = (uint64_t)index; bits; bits >>= 1) {
        if (bits & 1)
            power = power * square >> DELAY_SHIFT;
        if (power > most)
            return most;
        square = square * square >> DELAY_SHIFT;
        if (square > most) /* any further bit is beyond the most */
            square = most;
    }
    return (uint64_t)power - one;
}

/* Sets the pacing of the table's entry: its finest shift, rounded to nearest. */
static void set_index(const int64_t *v, state_t *s, int64_t index)
{
    s->ccti = index;
    const uint64_t delay = ideal_delay(v, index);
    uint32_t shift = SHIFT_MAX;
    uint64_t multiplier;
    for (;; shift--) {
        multiplier = (delay + (UINT64_C(1) << (DELAY_SHIFT - shift - 1))) >> (DELAY_SHIFT - shift);
        if (multiplier <= MULTIPLIER_MAX)
            break;
        if (!shift) {
            multiplier = MULTIPLIER_MAX;
            break;
        }
    }
    s->pacing_q16 = (uint64_t)s->line_pacing_q16 + ((uint64_t)s->line_pacing_q16 * multiplier >> shift);
}

static void init(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t line_kbps)
{
    const int64_t *v = config->values;
    state_t *s = (state_t *)state->words;
    memset(s, 0, sizeof *s);
    s->line_pacing_q16 = (int64_t)fab_cc_pacing_q16(line_kbps);
    set_index(v, s, fab_min_i64(v[CCTI_MIN], v[CCTI_LIMIT]));
}

/* Takes off what the timer has since the index was last looked at. */
static void advance(const int64_t *v, state_t *s, int64_t now_ps)
{
    const int64_t turns = now_ps / (v[CCTI_TIMER_COUNT] * TIMER_UNIT_PS);
    const int64_t least = fab_min_i64(v[CCTI_MIN], v[CCTI_LIMIT]);
    if (s->ccti > least && turns > s->turns)
        set_index(v, s, fab_max_i64(least, s->ccti - (turns - s->turns)));
    s->turns = turns;
}

static uint64_t on_send(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t bytes, int64_t now_ps)
{
    (void)bytes;
    state_t *s = (state_t *)state->words;
    if (s->ccti > config->values[CCTI_MIN])
        advance(config->values, s, now_ps);
    return s->pacing_q16;
}

static void on_cnp(const fab_cc_config_t *config, fab_cc_state_t *state, int64_t now_ps)
{
    state_t *s = (state_t *)state->words;
    const int64_t *v = config->values;
    advance(v, s, now_ps);
    set_index(v, s, fab_min_i64(v[CCTI_LIMIT], s->ccti + v[CCTI_INCREASE]));
}

const fab_cc_ops_t fab_cc_ib_cc = {
    .impl = {"cc", "ib_cc", "InfiniBand's table of inter-packet delays, moved by BECNs", params, 0},
    .wants_cnp = true,
    .init = init,
    .on_send = on_send,
    .on_cnp = on_cnp,
};
