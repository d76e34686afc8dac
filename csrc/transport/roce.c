/* RoCEv2: InfiniBand's reliable connections over UDP on Ethernet. InfiniBand Architecture Specification vol. 1, annex
 * A17. */
#include "transport/reliable.h"

static const fab_param_t params[] = {FAB_RELIABLE_PARAMS(
    4096, "InfiniBand spec: 256 to 4096; more for other fabrics", 82,
    "Ethernet 38, IPv4 20, UDP 8, BTH 12, ICRC 4: RoCEv2 (IPv6: 102)", 16, "RETH of an RDMA write: 16", 84,
    "64-byte Ethernet frame, preamble 8, gap 12", 86, "header and AETH 4", 98,
    "header and 16 reserved: RoCEv2 annex A17", 1, "", 50000000, "50 us: DCQCN, SIGCOMM 2015; 0: one a marked packet",
    1, "CNP class: DCQCN, SIGCOMM 2015, section 5")};

const fab_transport_ops_t fab_transport_roce = {
    .impl = {"transport", "roce", "RoCEv2 reliable connections, go-back-N", params, 0},
    FAB_RELIABLE_OPS,
};
