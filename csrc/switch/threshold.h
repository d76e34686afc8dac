/* The thresholds of a switch, shared by its one-class and its several-class ports: RED, XOFF, headroom. */
#ifndef FAB_SWITCH_THRESHOLD_H
#define FAB_SWITCH_THRESHOLD_H

#include "switch/switch.h"

/* A share of a number of bytes, rounded down; up to 2^40 bytes and 64 times. */
FAB_INLINE int64_t fab_threshold_share(int64_t bytes, int64_t alpha_q16) { return bytes * alpha_q16 >> 16; }

/* May a packet join a lossy queue? By the dynamic threshold, and never beyond what is free. */
FAB_INLINE bool fab_threshold_admits(const fab_switch_config_t *config, int64_t free_bytes, int64_t queue_bytes,
                                     int64_t bytes)
{
    return bytes <= free_bytes && queue_bytes + bytes <= fab_threshold_share(free_bytes, config->alpha_q16);
}

/* The level of an input above which it sends XOFF. Where the buffer is overfull nobody may hold more than what all may
 * hold without asking. */
FAB_INLINE int64_t fab_threshold_xoff(const fab_switch_config_t *config, int64_t shared_bytes, int64_t used_bytes,
                                      int64_t calm_bytes)
{
    const int64_t free_bytes = shared_bytes - used_bytes;
    const int64_t level = config->link.xoff_bytes
                              ? config->link.xoff_bytes
                              : fab_threshold_share(fab_max_i64(free_bytes, 0), config->link.xoff_alpha_q16);
    return free_bytes < 0 ? fab_min_i64(level, calm_bytes) : level;
}

/* What every one of `inputs` may hold without asking. Dynamic: k inputs at their level and the others at this fit together,
 * k a S/(1+k a) + (n-k) c <= S for every k. Static: the level, if all fit at once; else nothing. */
FAB_INLINE int64_t fab_threshold_calm_input(const fab_switch_config_t *config, int64_t shared_bytes, int64_t inputs)
{
    if (config->link.xoff_bytes)
        return config->link.xoff_bytes <= shared_bytes / inputs ? config->link.xoff_bytes : 0;
    const int64_t alpha_q16 = config->link.xoff_alpha_q16, one_q16 = 1 << 16;
    const int64_t share = (shared_bytes << 16) / (inputs * (one_q16 + alpha_q16 * inputs));
    const int64_t level = (fab_threshold_share(shared_bytes, alpha_q16) << 16) / (one_q16 + alpha_q16 * inputs);
    return fab_min_i64(level, share);
}

/* RED: nothing below kmin, linear to pmax at kmax, everything above. `entry` numbers the draw. */
static inline bool fab_threshold_marks(uint64_t seed, const fab_port_t *port, uint32_t entry, int64_t backlog_ps)
{
    if (backlog_ps <= port->kmin_ps)
        return false;
    if (backlog_ps > port->kmax_ps)
        return true;
    const uint64_t chance = ((uint64_t)(backlog_ps - port->kmin_ps) * port->mark_slope_q16) >> 16;
    return (fab_keyed_draw(seed, FAB_KEY_MARK, port->name, entry) >> 32) < chance;
}

/* What may still arrive at an input after its XOFF was decided: the pause frame waits for a frame under way, travels, the
 * sender ends a frame, and the wire empties (IEEE 802.1Qbb Annex O). */
static inline int64_t fab_threshold_headroom_of_port(const fab_switch_config_t *config, const fab_net_t *net,
                                                     uint32_t in_link)
{
    if (config->link.headroom_bytes)
        return config->link.headroom_bytes;
    const uint32_t out_link = net->out_link[in_link];
    const uint32_t q16 = fab_wire_ps_per_byte_q16(net->rate_mbps[in_link]);
    const int64_t wire_ps = net->delay_ps[in_link] + net->delay_ps[out_link];
    return fab_wire_bytes(wire_ps, q16) + 4 * config->wire_max_bytes + 2 * FAB_PAUSE_FRAME_BYTES;
}

static inline int64_t fab_threshold_headroom(const fab_switch_config_t *config, const fab_net_t *net,
                                             const fab_node_t *node)
{
    int64_t sum = 0;
    for (uint32_t p = 0; p < node->port_count; p++)
        sum += fab_threshold_headroom_of_port(config, net, node->first_link + p);
    return sum;
}

/* Checks that every switch's buffer holds the headroom of its lossless classes and two frames a port and class, and
 * that the queues of lossy ones (if there are any) hold two frames. */
void fab_threshold_check(const fab_switch_config_t *config, const fab_net_t *net, int64_t lossless_count,
                         fab_problems_t *problems);

#endif
