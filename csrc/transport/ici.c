/* Inter-chip interconnect of TPU pods. */
#include "transport/reliable.h"

static const fab_param_t params[] = {
    FAB_RELIABLE_PARAMS(4096, "not published: a model's grain", 0,
                        "published link rates are of payload (45 and 90 GB/s one way): jax-ml scaling book", 0, "", 32,
                        "a flit", 32, "a flit", 32, "a flit", 16, "responses are small and coalesced", 50000000,
                        "50 us: DCQCN, SIGCOMM 2015; 0: one a marked packet", 0,
                        "responses travel in the virtual lane of their requests in this model")};

const fab_transport_ops_t fab_transport_ici = {
    .impl = {"transport", "ici", "writes between the chips of a TPU pod (ICI)", params, 0},
    FAB_RELIABLE_OPS,
};
