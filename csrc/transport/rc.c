/* InfiniBand reliable connections: InfiniBand Architecture Specification vol. 1, chapters 5 and 9. */
#include "transport/reliable.h"

static const fab_param_t params[] = {
    FAB_RELIABLE_PARAMS(4096, "InfiniBand spec: 256 to 4096", 26,
                        "LRH 8, BTH 12, ICRC 4, VCRC 2: InfiniBand spec; a routed packet has a GRH of 40 more", 16,
                        "RETH of an RDMA write: 16", 26, "header without payload", 30, "header and AETH 4", 42,
                        "header and 16 reserved: BECN in a congestion notification packet", 1, "", 0,
                        "0: a BECN for every FECN: InfiniBand spec, annex A10; the table of ib_cc counts them", 0,
                        "acknowledgements travel in the virtual lane of their connection: InfiniBand spec")};

const fab_transport_ops_t fab_transport_rc = {
    .impl = {"transport", "rc", "InfiniBand reliable connections", params, 0},
    FAB_RELIABLE_OPS,
};
