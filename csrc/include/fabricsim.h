/* fabricsim's core: the only header that a binding sees.
 *
 * Two constant nouns, a Model (the fabric) and a Program (what the ranks do), are compiled once; a Run
 * holds all that changes. The same model, program and seed give the same result on every machine, for
 * every number of threads and whatever is recorded. Times are int64 picoseconds, sizes are bytes.
 *
 * Whoever can fail returns 0 or a negative FAB_E_* and leaves lines of detail in a fab_problems_t.
 * Outputs (last, `_out`) are written only on success. */
#ifndef FABRICSIM_H
#define FABRICSIM_H

#include <stdbool.h>
#include <stdint.h>

#define FAB_ERRORS(X)                                                                                                  \
    X(FAB_OK, 0, "ok")                                                                                                 \
    X(FAB_E_MEMORY, -1, "no memory")                                                                                   \
    X(FAB_E_CONFIG, -2, "a setting is not allowed")                                                                    \
    X(FAB_E_TOPOLOGY, -3, "the topology is not usable")                                                                \
    X(FAB_E_TRACE, -4, "the trace is not usable")                                                                      \
    X(FAB_E_DEADLOCK, -5, "the program can never finish")                                                              \
    X(FAB_E_LIMIT, -6, "a limit of the core was reached")                                                              \
    X(FAB_E_TRANSPORT, -7, "a connection gave up")                                                                     \
    X(FAB_E_INTERNAL, -8, "an internal check failed")                                                                  \
    X(FAB_E_CUT_OFF, -9, "ranks are cut off from each other")

enum {
#define FAB_ERROR_ENUM(name, value, text) name = value,
    FAB_ERRORS(FAB_ERROR_ENUM)
#undef FAB_ERROR_ENUM
};

const char *fab_error_name(int code);

enum { FAB_PROBLEMS_KEPT = 50, FAB_PROBLEMS_BYTES = 16384 };

/* Lines of detail, '\n' after each; `count` also counts those that no longer fitted. */
typedef struct {
    int32_t count;
    int32_t used;
    char text[FAB_PROBLEMS_BYTES];
} fab_problems_t;

void fab_problems_clear(fab_problems_t *self);

/* ---- parameters and implementations ------------------------------------------------------------ */

typedef struct {
    const char *name; /* ends in its unit; NULL ends a table */
    const char *unit;
    int64_t preset, least, most;
    const char *meaning;
    const char *source;
} fab_param_t;

typedef struct {
    const char *room; /* switch, link, route, transport, cc, coll */
    const char *impl;
    const char *summary;
    const fab_param_t *params;
    uint32_t kinds; /* coll: bit set of the FAB_OP_* it does */
} fab_impl_t;

/* Every implementation of every room; NULL ends the list. */
extern const fab_impl_t *const fab_implementations[];

/* A choice of an implementation and values for its parameters. */
typedef struct {
    const char *room;
    const char *impl;
    int32_t count;
    const char *const *names;
    const int64_t *values;
    int32_t network;
} fab_setting_t;

/* ---- storage ------------------------------------------------------------------------------------ */

enum { FAB_STORES_MAX = 4 };

/* A part of a layout: a range of the file, striped over objects. Rows of a layout are in the order of (mirror, begin). */
typedef struct {
    int32_t layout, mirror;
    int64_t begin_bytes, end_bytes; /* -1: to the end of the file */
    int64_t stripe_bytes;
    int32_t stripe_count; /* -1: all targets; more than there are: overstriped */
    int32_t first_target; /* -1: the allocator's choice */
    int32_t on_meta;      /* 1: the metadata server keeps it (data on MDT) */
} fab_layout_row_t;

/* A file system; its model is the setting of the room store, that of its targets of the room target, both with its number
 * in `network`. Servers 0 … data_count-1 keep data, the meta_count after them metadata. */
typedef struct {
    int32_t data_count, meta_count, target_count;
    const int32_t *server_host;    /* [data_count + meta_count]; data_count 0: every rank's own host (node-local) */
    const int32_t *server_partner; /* [data_count + meta_count] who takes its targets over, -1: nobody */
    const int32_t *target_server;  /* [target_count] */
    const fab_layout_row_t *layouts;
    int32_t layout_row_count;
    const int64_t *slow; /* [slow_count][3]: when_ps, target, ppm of its rate from then on */
    int32_t slow_count;
    const int64_t *failures; /* [failure_count][3]: when_ps, server, when it is up again (at its partner, or itself) */
    int32_t failure_count;
} fab_store_spec_t;

/* ---- model -------------------------------------------------------------------------------------- */

/* Hosts are nodes 0 … host_count-1, switches follow. Cable i is full duplex: directed link 2i runs from
 * a to b, 2i+1 back. The order of a node's cables is the order of its ports.
 *
 * Cables belong to networks: 0 the scale-out fabric, 1 the scale-up domains. A switch's cables are all of one network;
 * a host has at most one cable in each, and two hosts talk over the highest network that joins them. */
enum { FAB_NETWORKS_MAX = 2 };

typedef struct {
    int32_t host_count, switch_count, cable_count;
    const int32_t *cable_a, *cable_b;
    const int64_t *cable_rate_mbps, *cable_delay_ps;
    const int64_t *node_latency_ps; /* pipeline latency added to whatever enters the node */
    const int8_t *cable_network;    /* NULL: all 0 */
    int32_t reducer_count;          /* the last hosts: reducing units of switches (NVLS, SHARP), where no rank is */
    int32_t server_count;           /* hosts before those: servers of storage, on any switch, where no rank is either */
    const fab_store_spec_t *stores; /* file systems */
    int32_t store_count;
} fab_topology_t;

typedef struct fab_model fab_model_t;

int fab_model_new(const fab_topology_t *topology, const fab_setting_t *settings, int32_t setting_count,
                  fab_problems_t *problems, fab_model_t **model_out);
void fab_model_free(fab_model_t *self);

typedef struct {
    int64_t lookahead_ps;
    int32_t node_count, host_count, link_count, colour_count, arithmetic_switch_count;
    int64_t memory_bytes;
} fab_model_info_t;

void fab_model_info(const fab_model_t *self, fab_model_info_t *info_out);

/* The way of packets with an entropy (0 to 65535) between two hosts, as directed links in the topology's order. Returns
 * how many links it has, and writes up to `limit` of them; 0: no way, or the same host. Of an adaptive switch it tells
 * the port that ties begin with. */
int32_t fab_model_path(const fab_model_t *self, int32_t src, int32_t dst, int32_t entropy, int32_t *links_out,
                       int32_t limit);

/* ---- program ------------------------------------------------------------------------------------ */

/* Kinds of operations, in the order of the trace schema's list. */
enum {
    FAB_OP_COMPUTE,
    FAB_OP_ALL_REDUCE,
    FAB_OP_REDUCE_SCATTER,
    FAB_OP_ALL_GATHER,
    FAB_OP_ALL_TO_ALL,
    FAB_OP_BROADCAST,
    FAB_OP_REDUCE,
    FAB_OP_BARRIER,
    FAB_OP_SEND,
    FAB_OP_RECV,
    FAB_OP_OPEN,
    FAB_OP_READ,
    FAB_OP_WRITE,
    FAB_OP_FSYNC,
    FAB_OP_CLOSE,
    FAB_OP_STAT,
    FAB_OP_UNLINK,
    FAB_OP_MKDIR,
    FAB_OP_RMDIR,
    FAB_OP_RENAME,
    FAB_OP_READDIR,
    FAB_OP_KINDS
};

/* Flags of storage operations. */
enum {
    FAB_IO_CREATE = 1, /* open: makes the file if it is not there */
    FAB_IO_EXCL = 2,   /* open with CREATE: it must not be there; read and write nothing else */
    FAB_IO_TRUNC = 4,  /* open: its size becomes 0 */
    FAB_IO_DIRECT = 8, /* read, write: around the client's cache */
    FAB_IO_GROUP = 16  /* read, write: under a group lock, which those of the group share */
};

/* The files that a program names. */
typedef struct {
    int32_t count, directory_count;
    const int8_t *store;              /* [count] */
    const int32_t *directory;         /* [count] */
    const int32_t *layout;            /* [count] of its store's; 0 without any */
    const int64_t *bytes;             /* [count] size before the run, -1: it is not there */
    const int32_t *directory_stripes; /* [directory_count] metadata targets that it is spread over */
    const int32_t *clients;           /* [client_count] ranks that may do I/O beside those of the rows: fab_run_io */
    int32_t client_count;
    int32_t ranks_per_client; /* so many ranks one after another share the client of the first; 0 as 1: none do */
} fab_file_table_t;

/* Canonical columns (see fabricsim/trace/lower.py), as plain arrays. Lists are offsets and values. */
typedef struct {
    int64_t op_count;
    const int64_t *id;
    const int8_t *kind;
    const int32_t *rank_offset, *ranks;
    const int32_t *peer_offset, *peers;
    const int64_t *bytes;
    const int32_t *split_offset;
    const int64_t *splits;
    const int64_t *duration_ps, *delay_ps;
    const int32_t *stream;
    const int32_t *after_offset;
    const int64_t *after; /* ids */
    const int64_t *tag;
    const int8_t *priority; /* data class of its messages; NULL: all 0 */
    const int16_t
        *variant; /* of a collective: an index of the program's variants, -1: its kind's algorithm; NULL: all -1 */
    /* of a collective: its ranks do it so many at a time, each such group by itself, 0: all together; and so many times
     * one after another. NULL: all 0, all 1 */
    const int32_t *group_size;
    const int64_t *count;
    /* storage kinds; NULL: the program has none */
    const int32_t *file_offset, *file;         /* one file for all ranks, or one for each */
    const int32_t *new_file_offset, *new_file; /* rename: what it is called then */
    const int64_t *offset;                     /* of the first rank of the row; the others go on by stride */
    const int64_t *stride;
    const int16_t *flags;          /* FAB_IO_* */
    const fab_file_table_t *files; /* NULL: none */
} fab_table_t;

/* The Arrow C data interface (arrow.apache.org/docs/format/CDataInterface.html). */
struct ArrowSchema;
struct ArrowArray;
struct ArrowArrayStream;

typedef struct fab_program fab_program_t;

/* How a program does its collectives. algorithms[kind] names the implementation of each kind, NULL for the default; its
 * parameters are the model's settings of the room coll. A variant is an implementation with parameters of its own, for
 * the rows that choose it. */
typedef struct {
    const char *algorithms[FAB_OP_KINDS];
    const fab_setting_t *variants;
    int32_t variant_count;
} fab_collectives_t;

/* rank_host has rank_count entries: the host of each rank, no host twice. */
int fab_program_new(const fab_model_t *model, const fab_table_t *table, const int32_t *rank_host, int32_t rank_count,
                    const fab_collectives_t *collectives, fab_problems_t *problems, fab_program_t **program_out);

/* The same, reading the canonical columns from an Arrow C stream, which it consumes but does not release. */
int fab_program_from_arrow(const fab_model_t *model, struct ArrowArrayStream *stream, const int32_t *rank_host,
                           int32_t rank_count, const fab_collectives_t *collectives, const fab_file_table_t *files,
                           fab_problems_t *problems, fab_program_t **program_out);
void fab_program_free(fab_program_t *self);

typedef struct {
    int64_t op_count, instance_count, connection_count, send_count, memory_bytes;
    int32_t rank_count;
} fab_program_info_t;

void fab_program_info(const fab_program_t *self, fab_program_info_t *info_out);

/* ---- run ---------------------------------------------------------------------------------------- */

typedef struct fab_run fab_run_t;

/* What changes in the fabric during a run. A change at a time comes before all that happens at it; of one time they are
 * carried out in the order of the list. */
enum {
    FAB_CHANGE_DOWN,   /* a cable: what is under way on it, and what is sent until it is up again, is lost */
    FAB_CHANGE_UP,     /* a cable; one that went down twice comes up with the second */
    FAB_CHANGE_RATE,   /* a link: packets not begun go at value Mb/s, 0: as the cable does */
    FAB_CHANGE_ERRORS, /* a link: value wrong bits in 10^18 from now on */
    FAB_CHANGE_DARK    /* a cable between switches: begins no packet for value ps */
};

typedef struct {
    int64_t when_ps;
    int32_t link; /* directed link in the topology's order; of a cable either */
    int32_t what;
    int64_t value;
} fab_change_t;

/* A cable that is an optical circuit: dark but from first_ps + k period_ps, up_ps long. Rows of one cable add up. A packet
 * only begins if the largest there is would leave before the circuit goes dark. */
typedef struct {
    int64_t cable, first_ps, up_ps, period_ps;
} fab_circuit_t;

typedef struct {
    const fab_change_t *changes;
    int64_t change_count;
    const fab_circuit_t *circuits;
    int64_t circuit_count;
    int64_t heal_ps; /* so long after a cable went down or up the routes go by it; -1: never */
} fab_changes_t;

typedef struct {
    uint64_t seed;
    int32_t threads;
    bool record_packets;          /* keep every arrival; for small worlds */
    bool record_rpcs;             /* keep the way of every storage RPC */
    bool plain;                   /* the plain reference windows instead of leapfrog: same result, slower */
    const fab_changes_t *changes; /* NULL: none; read by fab_run_new alone */
} fab_run_options_t;

int fab_run_new(const fab_model_t *model, const fab_program_t *program, const fab_run_options_t *options,
                fab_problems_t *problems, fab_run_t **run_out);
void fab_run_free(fab_run_t *self);

/* Runs all that happens before until_ps; *finished_out tells whether nothing is left to happen. */
int fab_run_step(fab_run_t *self, int64_t until_ps, fab_problems_t *problems, bool *finished_out);

typedef struct {
    int64_t now_ps; /* everything before has happened */
    int64_t end_ps; /* the end of the last operation that ended */
    int64_t packets, packet_hops, drops, ecn_marks, pfc_pauses, pfc_resumes;
    int64_t acks, naks, cnps, retransmits, timeouts, duplicates, messages, windows, visits;
    int64_t done_instances;
    int64_t memory_bytes;
    int64_t ring_bytes_peak;
    int64_t lost, changes, heals; /* packets lost on links, changes carried out, times that routes were made anew */
} fab_counters_t;

void fab_run_counters(const fab_run_t *self, fab_counters_t *counters_out);

/* How far a run is, at no cost: the time before which everything has happened, and how many instances have ended. */
void fab_run_progress(const fab_run_t *self, int64_t *now_ps_out, int64_t *done_out);
uint64_t fab_run_digest(const fab_run_t *self);

/* Per instance (operation x rank, in row and set order): start and end, -1 where it has not happened. */
void fab_run_ops(const fab_run_t *self, int64_t *op_out, int32_t *rank_out, int64_t *start_ps_out, int64_t *end_ps_out);

/* Per send instance, in row and set order. */
void fab_run_sends(const fab_run_t *self, int64_t *op_out, int32_t *src_out, int32_t *dst_out, int64_t *bytes_out,
                   int64_t *start_ps_out, int64_t *end_ps_out, int64_t *delivered_ps_out);

typedef struct {
    int64_t packets, bytes, ecn_marks, drops, pauses, paused_ps, max_queue_bytes, busy_ps, lost, down_ps;
} fab_link_stats_t;

/* Per directed link, in the topology's order. */
void fab_run_links(fab_run_t *self, fab_link_stats_t *stats_out);

/* What a run tells of storage: a row a target, a server, a client, and (with record_rpcs) a remote procedure call. */
typedef struct {
    int64_t store, target, server, rpcs, bytes_read, bytes_written, busy_ps, queue_max, wait_ps, service_ps;
} fab_target_row_t;

typedef struct {
    int64_t store, server, host, is_meta, queue_max, changes, committed, failures;
} fab_server_row_t;

typedef struct {
    int64_t rank, calls, bytes_read, bytes_written, cache_hit_bytes, readahead_bytes, rpc_read_bytes, rpc_written_bytes,
        lost_dirty_bytes, max_dirty_bytes, blocked_ps, lock_wait_ps, rpcs, resent, evictions, refused, failed;
} fab_client_row_t;

typedef struct {
    int64_t rank, store, server, target, kind, file, object, offset, bytes;
    int64_t granted_end; /* lock: the last byte granted; -1 else */
    int64_t sent_ps, queued_ps, began_ps, target_ps, served_ps, done_ps;
} fab_rpc_row_t;

/* Each returns how many rows there are, and writes them if they fit in `limit`. */
int64_t fab_run_targets(const fab_run_t *self, fab_target_row_t *rows_out, int64_t limit);
int64_t fab_run_servers(const fab_run_t *self, fab_server_row_t *rows_out, int64_t limit);
int64_t fab_run_clients(const fab_run_t *self, fab_client_row_t *rows_out, int64_t limit);
int64_t fab_run_rpcs(const fab_run_t *self, fab_rpc_row_t *rows_out, int64_t limit);

typedef struct {
    int64_t op;
    int32_t rank;
    int32_t waits_for; /* rank it waits for a message from or to, -1: an operation before it */
    int32_t state;     /* 0 not released, 1 running */
} fab_blocked_t;

/* Up to `limit` instances that have not ended; returns how many there are in all. */
int64_t fab_run_blocked(const fab_run_t *self, fab_blocked_t *blocked_out, int64_t limit);

typedef struct {
    int64_t when_ps;
    int32_t link;       /* directed link in the topology's order */
    int32_t dst;        /* host it is for */
    int32_t connection; /* that host's index of it */
    uint32_t psn;
    uint16_t bytes;
    uint8_t kind;  /* 0 data, 1 ack, 2 nak, 3 cnp, 4 pause, 5 resume */
    uint8_t flags; /* 1 congestion experienced, 2 last of its message */
} fab_arrival_t;

/* After a run that finished: whether buffers, queues and links are empty and nothing is paused; FAB_OK or
 * FAB_E_INTERNAL with a line for each thing that is left. */
int fab_run_check(const fab_run_t *self, fab_problems_t *problems);

/* Recorded arrivals ordered by (time, link); returns the count, and writes them if they fit in `limit`. */
int64_t fab_run_arrivals(const fab_run_t *self, fab_arrival_t *arrivals_out, int64_t limit);

/* ---- storage operations that no program names: a session --------------------------------------- */

/* Adds a directory or a file to those of the program, for this run alone; neither is there before an operation makes
 * it. */
int fab_run_add_directory(fab_run_t *self, int32_t stripes, fab_problems_t *problems, int32_t *directory_out);
int fab_run_add_file(fab_run_t *self, int32_t store, int32_t directory, int32_t layout, fab_problems_t *problems,
                     int32_t *file_out);

typedef struct {
    int32_t rank; /* one of the file table's clients, or of those whose rows do I/O */
    int32_t kind; /* FAB_OP_OPEN and on */
    int32_t flags, file, new_file;
    int64_t offset, bytes;
} fab_io_request_t;

/* Begins an operation where the run stands; the token tells it apart. */
int fab_run_io(fab_run_t *self, const fab_io_request_t *request, fab_problems_t *problems, int64_t *token_out);

/* Goes on until the operation has ended, and at most one lookahead further. */
int fab_run_wait(fab_run_t *self, int64_t token, fab_problems_t *problems, int64_t *start_ps_out, int64_t *end_ps_out);

/* The same for the first of several to end; *which_out is its index. At until_ps it gives up, with -1; INT64_MAX: never.
 * Without tokens that is how time passes. */
int fab_run_wait_any(fab_run_t *self, const int64_t *tokens, int32_t count, int64_t until_ps, fab_problems_t *problems,
                     int32_t *which_out, int64_t *start_ps_out, int64_t *end_ps_out);

/* Where the run stands: everything before has happened, and what begins now begins here. */
int64_t fab_run_frontier_ps(const fab_run_t *self);

/* ---- flow: the same program without packets ---------------------------------------------------- */

/* A second executor of a program: collectives and sends are fluid activities that share links max-min fair. */
typedef struct fab_flow fab_flow_t;

/* The activities of a program: each group of a collective, and each send of a rank, in row order. Returns how many there
 * are, and writes row and group (of a send: its position in the row) if they fit in `limit`. */
int64_t fab_program_activities(const fab_program_t *self, int64_t *op_out, int32_t *group_out, int64_t limit);

typedef struct {
    uint64_t seed;
    /* [activity count] what each takes if it has the fabric for itself: a time before and the time at work; -1, or NULL:
     * as the dry run of its algorithm says. Read by fab_flow_new alone. */
    const int64_t *latency_ps, *work_ps;
} fab_flow_options_t;

int fab_flow_new(const fab_model_t *model, const fab_program_t *program, const fab_flow_options_t *options,
                 fab_problems_t *problems, fab_flow_t **flow_out);
void fab_flow_free(fab_flow_t *self);

/* As those of a run. Counters that have no meaning without packets are 0; windows counts how often rates were found anew,
 * visits how many activities have ended. Of links the bytes are told, of data and answers, and how
 * long they were busy. */
int fab_flow_step(fab_flow_t *self, int64_t until_ps, fab_problems_t *problems, bool *finished_out);
void fab_flow_counters(const fab_flow_t *self, fab_counters_t *counters_out);
void fab_flow_progress(const fab_flow_t *self, int64_t *now_ps_out, int64_t *done_out);
uint64_t fab_flow_digest(const fab_flow_t *self);
void fab_flow_ops(const fab_flow_t *self, int64_t *op_out, int32_t *rank_out, int64_t *start_ps_out,
                  int64_t *end_ps_out);
void fab_flow_sends(const fab_flow_t *self, int64_t *op_out, int32_t *src_out, int32_t *dst_out, int64_t *bytes_out,
                    int64_t *start_ps_out, int64_t *end_ps_out, int64_t *delivered_ps_out);
void fab_flow_links(const fab_flow_t *self, fab_link_stats_t *stats_out);
int64_t fab_flow_blocked(const fab_flow_t *self, fab_blocked_t *blocked_out, int64_t limit);

/* What the activities take by themselves, as in use. */
int fab_flow_costs(fab_flow_t *self, fab_problems_t *problems, int64_t *latency_ps_out, int64_t *work_ps_out);

/* Data that an activity puts on links, without answers: on the wire, and in packets. Both arrays are of all links. */
int fab_flow_loads(fab_flow_t *self, int64_t activity, fab_problems_t *problems, int64_t *bytes_out,
                   int64_t *packets_out);

#endif
