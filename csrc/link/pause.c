/* Priority flow control (IEEE 802.1Qbb) of the data class: thresholds and headroom. */
#include "link/link_room.h"

enum { XOFF_BYTES, XOFF_ALPHA_PPM, XON_GAP_BYTES, HEADROOM_BYTES, LOSSLESS_CLASSES };

static const fab_param_t params[] = {
    {"xoff_bytes", "bytes", 0, 0, INT64_C(1) << 32,
     "input queue that sends XOFF; 0: dynamic, xoff_alpha of the free buffer",
     "static thresholds: Zhu et al., DCQCN, SIGCOMM 2015, section 4"},
    {"xoff_alpha_ppm", "ppm", 125000, 1, 1000000, "share of the free shared buffer that one input may fill before XOFF",
     "1/8: HPCC's simulator (pfc_a_shift 3); DCQCN, SIGCOMM 2015, has all of it for one of 8 classes"},
    {"xon_gap_bytes", "bytes", 8356, 0, INT64_C(1) << 32, "XON when the input queue is this far below the XOFF level",
     "two frames of 4178 bytes: DCQCN, SIGCOMM 2015 (2 MTU)"},
    {"headroom_bytes", "bytes", 0, 0, INT64_C(1) << 32,
     "buffer of an input for what arrives after XOFF; 0: the wire there and back, two frames each way and the pause "
     "frame",
     "IEEE 802.1Qbb Annex O"},
    {"lossless_classes", "", 15, 1, 15, "bit set of the data classes that are paused and not dropped", "IEEE 802.1Qbb"},
    FAB_PARAM_END,
};

const fab_impl_t fab_link_pause = {"link", "pause", "priority flow control: XOFF and XON frames, lossless", params, 0};

void fab_link_pause_config(const int64_t *values, fab_link_config_t *config_out)
{
    *config_out = (fab_link_config_t){
        .pause = true,
        .lossless_classes = (uint32_t)values[LOSSLESS_CLASSES],
        .xoff_bytes = values[XOFF_BYTES],
        .xoff_alpha_q16 = (values[XOFF_ALPHA_PPM] << 16) / 1000000,
        .xon_gap_bytes = values[XON_GAP_BYTES],
        .headroom_bytes = values[HEADROOM_BYTES],
    };
}
