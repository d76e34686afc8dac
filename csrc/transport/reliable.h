/* Reliable connections, as RoCEv2, InfiniBand, NVLink and ICI differ only in sizes and classes: one engine, and a
 * file with a table of parameters for each. */
#ifndef FAB_TRANSPORT_RELIABLE_H
#define FAB_TRANSPORT_RELIABLE_H

#include "transport/transport.h"

enum {
    RELIABLE_MTU_BYTES,
    RELIABLE_HEADER_BYTES,
    RELIABLE_FIRST_HEADER_BYTES,
    RELIABLE_MIN_WIRE_BYTES,
    RELIABLE_ACK_BYTES,
    RELIABLE_CNP_BYTES,
    RELIABLE_ACK_EVERY_COUNT,
    RELIABLE_RTO_PS,
    RELIABLE_NAK_INTERVAL_PS,
    RELIABLE_RETRY_LIMIT_COUNT,
    RELIABLE_WINDOW_BYTES,
    RELIABLE_CNP_INTERVAL_PS,
    RELIABLE_CONTROL_PRIORITY,
    RELIABLE_REORDER_COUNT,
    RELIABLE_TELEMETRY_BYTES,
    RELIABLE_SELECTIVE_REPEAT,
    RELIABLE_REORDER_DISTANCE_COUNT,
    RELIABLE_QP_COUNT,
    RELIABLE_TRAIN_COUNT,
    RELIABLE_VALUE_COUNT
};

/* The parameters in their order, ended; a personality gives what is its own: value and source of each size. */
#define FAB_RELIABLE_PARAMS(mtu, mtu_source, header, header_source, first, first_source, least, least_source, ack,     \
                            ack_source, cnp, cnp_source, every, every_source, interval, interval_source, priority,     \
                            priority_source)                                                                           \
    {"mtu_bytes", "bytes", mtu, 64, 49152, "payload of a full packet", mtu_source},                                    \
        {"header_bytes", "bytes",                                                                                      \
         header,         0,                                                                                            \
         4096,           "what a packet takes on the wire beside its payload, with preamble and gap",                  \
         header_source},                                                                                               \
        {"first_header_bytes", "bytes", first, 0, 1024, "the same, more in the first packet of a message",             \
         first_source},                                                                                                \
        {"min_wire_bytes", "bytes", least, 1, 1024, "the least that a packet takes on the wire", least_source},        \
        {"ack_bytes", "bytes", ack, 1, 1024, "an acknowledgement on the wire", ack_source},                            \
        {"cnp_bytes", "bytes", cnp, 1, 1024, "a congestion notification on the wire", cnp_source},                     \
        {"ack_every_count",                                                                                            \
         "packets",                                                                                                    \
         every,                                                                                                        \
         1,                                                                                                            \
         1024,                                                                                                         \
         "packets an acknowledgement covers; the last of a message is always acknowledged",                            \
         every_source},                                                                                                \
        {"rto_ps",                                                                                                     \
         "ps",                                                                                                         \
         INT64_C(67109000000),                                                                                         \
         1000000,                                                                                                      \
         INT64_C(10000000000000),                                                                                      \
         "time without progress after which a sender goes back",                                                       \
         "4.096 us * 2^14: InfiniBand local ACK timeout 14, perftest's default"},                                      \
        {"nak_interval_ps",                                                                                            \
         "ps",                                                                                                         \
         500000000,                                                                                                    \
         1000000,                                                                                                      \
         INT64_C(10000000000000),                                                                                      \
         "a NAK for the same packet is repeated after this long",                                                      \
         "500 us: HPCC's simulator"},                                                                                  \
        {"retry_limit_count", "", 7, 0, 1000000, "time-outs in a row after which a connection gives up",               \
         "7: InfiniBand spec"},                                                                                        \
        {"window_bytes",       "bytes", 0, 0, INT64_C(1) << 40, "bytes a connection may have under way; 0: no limit",  \
         "RDMA NICs have none"},                                                                                       \
        {"cnp_interval_ps",                                                                                            \
         "ps",                                                                                                         \
         interval,                                                                                                     \
         0,                                                                                                            \
         INT64_C(1000000000000),                                                                                       \
         "a connection's receiver sends at most one congestion notification in this time",                             \
         interval_source},                                                                                             \
        {"control_priority",                                                                                           \
         "",                                                                                                           \
         priority,                                                                                                     \
         0,                                                                                                            \
         1,                                                                                                            \
         "1: acknowledgements and notifications travel in a class before data; 0: with data",                          \
         priority_source},                                                                                             \
        {"reorder_count",                                                                                              \
         "packets",                                                                                                    \
         1024,                                                                                                         \
         64,                                                                                                           \
         8192,                                                                                                         \
         "packets a receiver keeps that came before a missing one; where packets of a connection take several paths "  \
         "only",                                                                                                       \
         "no NIC documents one: a window of 4 MB at 4096"},                                                            \
        {"telemetry_bytes",                                                                                            \
         "bytes",                                                                                                      \
         42,                                                                                                           \
         0,                                                                                                            \
         1024,                                                                                                         \
         "more in data packets and acknowledgements with a controller that wants telemetry",                           \
         "5 switches of 8 bytes and 2: HPCC, SIGCOMM 2019, and its simulator"},                                        \
        {"selective_repeat",                                                                                           \
         "",                                                                                                           \
         0,                                                                                                            \
         0,                                                                                                            \
         1,                                                                                                            \
         "1: receivers keep packets that came early and name each missing one in a NAK, and only those are sent "      \
         "again; 0: go-back-N",                                                                                        \
         "0: RoCEv2 NICs; 1: IRN, SIGCOMM 2018"},                                                                      \
        {"reorder_distance_count",                                                                                     \
         "packets",                                                                                                    \
         64,                                                                                                           \
         1,                                                                                                            \
         8192,                                                                                                         \
         "with selective repeat, where packets of a connection take several paths: one is missing when one so many "   \
         "numbers later has come; 1 where there is one path",                                                          \
         ""},                                                                                                          \
        {"qp_count",                                                                                                   \
         "",                                                                                                           \
         1,                                                                                                            \
         1,                                                                                                            \
         64,                                                                                                           \
         "queue pairs of a connection, each with a path of its own; messages take them in turn",                       \
         "NCCL_IB_QPS_PER_CONNECTION: 1; 4 to 16 at Meta, SIGCOMM 2024"},                                              \
        {"train_count",                                                                                                \
         "packets",                                                                                                    \
         1,                                                                                                            \
         1,                                                                                                            \
         15,                                                                                                           \
         "packets of a message that travel as one, with the headers of all: a level of detail, faster and coarser; "   \
         "1: every packet by itself",                                                                                  \
         ""},                                                                                                          \
        FAB_PARAM_END

void fab_reliable_configure(const int64_t *values, fab_transport_config_t *config_out);
fab_wire_need_t fab_reliable_need(const fab_transport_config_t *config, int64_t bytes);
fab_transport_t *fab_reliable_new(const fab_transport_config_t *config, const fab_cc_ops_t *cc,
                                  const fab_cc_config_t *cc_config, const fab_fabric_t *fabric, uint32_t network,
                                  const fab_connections_t *connections);
void fab_reliable_free(fab_transport_t *self);
void fab_reliable_set_user(fab_transport_t *self, fab_user_t user);
int64_t fab_reliable_next_ps(const fab_transport_t *self, uint32_t slot);
void fab_reliable_turn(fab_transport_t *self, fab_worker_t *worker, uint32_t slot);
int64_t fab_reliable_visit(fab_transport_t *self, fab_worker_t *worker, uint32_t slot, int64_t until_ps);
void fab_reliable_post(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint32_t qpn, int64_t bytes,
                       fab_cookie_t cookie, int64_t now_ps);
bool fab_reliable_set_timer(fab_transport_t *self, fab_worker_t *worker, uint32_t host, uint64_t key, int64_t when_ps);
void fab_reliable_change(fab_transport_t *self, fab_worker_t *worker, uint32_t slot, fab_link_change_t what,
                         int64_t value, int64_t now_ps);
bool fab_reliable_is_pending(const fab_transport_t *self, uint32_t connection);
int64_t fab_reliable_memory_bytes(const fab_transport_t *self);
uint64_t fab_reliable_digest(const fab_transport_t *self, uint64_t digest);

#define FAB_RELIABLE_OPS                                                                                               \
    .takes_credits = true, .carries_telemetry = true, .configure = fab_reliable_configure, .need = fab_reliable_need,  \
    .new = fab_reliable_new, .free = fab_reliable_free, .set_user = fab_reliable_set_user,                             \
    .next_ps = fab_reliable_next_ps, .turn = fab_reliable_turn, .visit = fab_reliable_visit,                           \
    .post = fab_reliable_post, .set_timer = fab_reliable_set_timer, .change = fab_reliable_change,                     \
    .is_pending = fab_reliable_is_pending, .memory_bytes = fab_reliable_memory_bytes, .digest = fab_reliable_digest

#endif
