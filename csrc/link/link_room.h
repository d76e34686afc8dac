/* The link room: what a link does when its receiver has no room.
 *   lossy   nothing: the switch drops
 *   pause   priority flow control (IEEE 802.1Qbb): XOFF and XON frames for the data class, with headroom
 *   credit  nothing is sent that has no room: credits by virtual lane, as in InfiniBand */
#ifndef FAB_LINK_ROOM_H
#define FAB_LINK_ROOM_H

#include "core/param.h"

typedef struct {
    bool pause;
    uint32_t lossless_classes; /* bit set of data classes */
    int64_t xoff_bytes;        /* 0: dynamic, by alpha */
    int64_t xoff_alpha_q16;
    int64_t xon_gap_bytes;
    int64_t headroom_bytes; /* 0: computed from rate and delay */
    bool credit;
    int64_t vl_buffer_bytes; /* of each virtual lane; 0: computed from rate and delay */
    int64_t credit_block_bytes;
    int64_t credit_delay_ps;
} fab_link_config_t;

extern const fab_impl_t fab_link_lossy, fab_link_pause, fab_link_credit;

void fab_link_pause_config(const int64_t *values, fab_link_config_t *config_out);
void fab_link_credit_config(const int64_t *values, fab_link_config_t *config_out);

/* A pause frame on the wire: 64 bytes and preamble and gap (IEEE 802.3 Annex 31B). */
enum { FAB_PAUSE_FRAME_BYTES = 84 };

#endif
