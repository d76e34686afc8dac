/* NVLink-class links between accelerators: writes of remote memory with responses. */
#include "transport/reliable.h"

static const fab_param_t params[] = {FAB_RELIABLE_PARAMS(
    4096, "a model's packet stands for 16 NVLink packets of 256 bytes: what differs is grain, not bandwidth", 256,
    "a header of 16 bytes for each 256 of payload: NVLink, NVIDIA Tesla P100 white paper", 0, "", 32,
    "a flit and its header", 32, "a flit and its header", 32, "a flit and its header", 16,
    "responses are small and coalesced", 50000000, "50 us: DCQCN, SIGCOMM 2015; 0: one a marked packet", 0,
    "responses travel in the virtual lane of their requests in this model")};

const fab_transport_ops_t fab_transport_scale_up = {
    .impl = {"transport", "scale_up", "writes between accelerators of a scale-up domain (NVLink)", params, 0},
    FAB_RELIABLE_OPS,
};
