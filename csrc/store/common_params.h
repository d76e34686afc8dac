/* What the tables of parameters of all file systems share: each parameter's name, unit, range and meaning, once.
 *
 * A layout's table has a line for each, in the order of params.h, with its own default and where that is from; what it
 * has not, such as locks, comes from the groups at the end. Rates are in Mb/s, 10^6 bits a second. */
#ifndef FAB_STORE_COMMON_PARAMS_H
#define FAB_STORE_COMMON_PARAMS_H

#include "core/classes.h"
#include "store/params.h"

#define FAB_STORE_LONGEST_PS INT64_C(10000000000000000)
#define FAB_STORE_FASTEST_MBPS INT64_C(1000000000)
#define FAB_STORE_US INT64_C(1000000)
#define FAB_STORE_S (INT64_C(1000000) * FAB_STORE_US)

#define FAB_STORE_PARAM(id, name, unit, preset, least, most, meaning, source)                                          \
    [FAB_STORE_##id] = {name, unit, preset, least, most, meaning, source}

/* client */
#define FAB_STORE_P_RPC_BYTES(preset, source)                                                                          \
    FAB_STORE_PARAM(RPC_BYTES, "rpc_bytes", "bytes", preset, 4096, INT64_C(64) << 20,                                  \
                    "most data of a read or write RPC; larger calls are cut at its multiples", source)
#define FAB_STORE_P_RPCS_IN_FLIGHT_COUNT(preset, source)                                                               \
    FAB_STORE_PARAM(RPCS_IN_FLIGHT_COUNT, "rpcs_in_flight_count", "", preset, 1, 4096,                                 \
                    "read and write RPCs that a client has under way to a target", source)
#define FAB_STORE_P_META_RPCS_COUNT(preset, source)                                                                    \
    FAB_STORE_PARAM(META_RPCS_COUNT, "meta_rpcs_count", "", preset, 1, 4096,                                           \
                    "metadata RPCs that a client has under way to a metadata server", source)
#define FAB_STORE_P_CACHE(preset, source)                                                                              \
    FAB_STORE_PARAM(                                                                                                   \
        CACHE, "cache", "", preset, 0, 1,                                                                              \
        "1: writes end in the client's cache, and reads may be answered by it; 0: each goes to the servers", source)
#define FAB_STORE_P_MAX_DIRTY_BYTES(preset, source)                                                                    \
    FAB_STORE_PARAM(MAX_DIRTY_BYTES, "max_dirty_bytes", "bytes", preset, 4096, INT64_C(1) << 44,                       \
                    "written but unanswered data of a client for a target; a writer waits for room", source)
#define FAB_STORE_P_CACHE_BYTES(preset, source)                                                                        \
    FAB_STORE_PARAM(CACHE_BYTES, "cache_bytes", "bytes", preset, 0, INT64_C(1) << 44,                                  \
                    "what a client keeps in all, clean and dirty; oldest clean objects go first", source)
#define FAB_STORE_P_DIRTY_EXPIRE_PS(preset, source)                                                                    \
    FAB_STORE_PARAM(DIRTY_EXPIRE_PS, "dirty_expire_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                         \
                    "dirty data older than this is sent though no whole RPC is there; 0: never", source)
#define FAB_STORE_P_GRANT_BYTES(preset, source)                                                                        \
    FAB_STORE_PARAM(GRANT_BYTES, "grant_bytes", "bytes", preset, 4096, INT64_C(1) << 44,                               \
                    "space of a target that a client may fill before it hears from the server", source)
#define FAB_STORE_P_READAHEAD_BYTES(preset, source)                                                                    \
    FAB_STORE_PARAM(READAHEAD_BYTES, "readahead_bytes", "bytes", preset, 0, INT64_C(1) << 40,                          \
                    "most that is read ahead of a sequential reader of a file; 0: none", source)
#define FAB_STORE_P_READAHEAD_WHOLE_BYTES(preset, source)                                                              \
    FAB_STORE_PARAM(READAHEAD_WHOLE_BYTES, "readahead_whole_bytes", "bytes", preset, 0, INT64_C(1) << 40,              \
                    "files up to this size are read whole at the first read", source)
#define FAB_STORE_P_COPY_MBPS(preset, source)                                                                          \
    FAB_STORE_PARAM(COPY_MBPS, "copy_mbps", "Mb/s", preset, 1, FAB_STORE_FASTEST_MBPS,                                 \
                    "copying between application and cache", source)
#define FAB_STORE_P_CLIENT_MBPS(preset, source)                                                                        \
    FAB_STORE_PARAM(CLIENT_MBPS, "client_mbps", "Mb/s", preset, 0, FAB_STORE_FASTEST_MBPS,                             \
                    "all bytes of file data that a client sends and receives; 0: no limit", source)
#define FAB_STORE_P_CALL_PS(preset, source)                                                                            \
    FAB_STORE_PARAM(CALL_PS, "call_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                                         \
                    "time of a read or write call of the application, beside the copy", source)

/* messages */
#define FAB_STORE_P_REQUEST_BYTES(preset, source)                                                                      \
    FAB_STORE_PARAM(REQUEST_BYTES, "request_bytes", "bytes", preset, 1, INT64_C(1) << 20,                              \
                    "a request without data, a pull, a callback or a cancellation on the network", source)
#define FAB_STORE_P_REPLY_BYTES(preset, source)                                                                        \
    FAB_STORE_PARAM(REPLY_BYTES, "reply_bytes", "bytes", preset, 1, INT64_C(1) << 20, "a reply without data", source)
#define FAB_STORE_P_FRAGMENT_BYTES(preset, source)                                                                     \
    FAB_STORE_PARAM(FRAGMENT_BYTES, "fragment_bytes", "bytes", preset, 4096, INT64_C(64) << 20,                        \
                    "data of an RPC goes in messages of at most this", source)
#define FAB_STORE_P_SHORT_IO_BYTES(preset, source)                                                                     \
    FAB_STORE_PARAM(SHORT_IO_BYTES, "short_io_bytes", "bytes", preset, 0, INT64_C(1) << 20,                            \
                    "data up to this goes in the request or the reply itself", source)
#define FAB_STORE_P_DATA_CLASS(preset, source)                                                                         \
    FAB_STORE_PARAM(DATA_CLASS, "data_class", "", preset, 0, FAB_DATA_CLASSES_MAX - 1,                                 \
                    "data class that all messages of the file system travel in", source)

/* data servers */
#define FAB_STORE_P_THREADS_COUNT(preset, source)                                                                      \
    FAB_STORE_PARAM(THREADS_COUNT, "threads_count", "", preset, 1, 65536,                                              \
                    "RPCs that a data server has in work; others wait in the order that they came", source)
#define FAB_STORE_P_RPC_CPU_PS(preset, source)                                                                         \
    FAB_STORE_PARAM(RPC_CPU_PS, "rpc_cpu_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                                   \
                    "time of a thread for an RPC, before any data moves", source)
#define FAB_STORE_P_CHECKSUM_MBPS(preset, source)                                                                      \
    FAB_STORE_PARAM(CHECKSUM_MBPS, "checksum_mbps", "Mb/s", preset, 0, FAB_STORE_FASTEST_MBPS,                         \
                    "rate at which a thread checksums an RPC's data; 0: no checksums", source)
#define FAB_STORE_P_SERVER_MBPS(preset, source)                                                                        \
    FAB_STORE_PARAM(SERVER_MBPS, "server_mbps", "Mb/s", preset, 0, FAB_STORE_FASTEST_MBPS,                             \
                    "all file data through a server's memory and buses, one after another; 0: no limit", source)
#define FAB_STORE_P_COMMIT_PS(preset, source)                                                                          \
    FAB_STORE_PARAM(COMMIT_PS, "commit_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                                     \
                    "the journal commits this long after the first change that it has not; 0: with each change",       \
                    source)
#define FAB_STORE_P_COMMIT_COST_PS(preset, source)                                                                     \
    FAB_STORE_PARAM(COMMIT_COST_PS, "commit_cost_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                           \
                    "time of a commit that someone waits for", source)

/* locks */
#define FAB_STORE_P_LOCKS(preset, source)                                                                              \
    FAB_STORE_PARAM(LOCKS, "locks", "", preset, 0, 1,                                                                  \
                    "1: reads and writes go under extent locks of the objects; 0: no locks", source)
#define FAB_STORE_P_LOCK_CPU_PS(preset, source)                                                                        \
    FAB_STORE_PARAM(LOCK_CPU_PS, "lock_cpu_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                                 \
                    "time of a server for a request for a lock or a glimpse", source)

/* metadata servers */
#define FAB_STORE_P_META_THREADS_COUNT(preset, source)                                                                 \
    FAB_STORE_PARAM(META_THREADS_COUNT, "meta_threads_count", "", preset, 1, 65536,                                    \
                    "metadata RPCs that a metadata server has in work", source)
#define FAB_STORE_P_OPEN_PS(preset, source)                                                                            \
    FAB_STORE_PARAM(OPEN_PS, "open_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                                         \
                    "service time of an open of a file that is there", source)
#define FAB_STORE_P_CREATE_PS(preset, source)                                                                          \
    FAB_STORE_PARAM(CREATE_PS, "create_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                                     \
                    "service time of an open that makes the file", source)
#define FAB_STORE_P_CLOSE_PS(preset, source)                                                                           \
    FAB_STORE_PARAM(CLOSE_PS, "close_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS, "service time of a close", source)
#define FAB_STORE_P_STAT_PS(preset, source)                                                                            \
    FAB_STORE_PARAM(STAT_PS, "stat_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS, "service time of a stat", source)
#define FAB_STORE_P_UNLINK_PS(preset, source)                                                                          \
    FAB_STORE_PARAM(UNLINK_PS, "unlink_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                                     \
                    "service time of an unlink, or of removing a directory", source)
#define FAB_STORE_P_MKDIR_PS(preset, source)                                                                           \
    FAB_STORE_PARAM(MKDIR_PS, "mkdir_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS, "service time of making a directory", \
                    source)
#define FAB_STORE_P_RENAME_PS(preset, source)                                                                          \
    FAB_STORE_PARAM(RENAME_PS, "rename_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS, "service time of a rename", source)
#define FAB_STORE_P_READDIR_PS(preset, source)                                                                         \
    FAB_STORE_PARAM(READDIR_PS, "readdir_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                                   \
                    "service time of listing a directory", source)
#define FAB_STORE_P_DIRECTORY_PS(preset, source)                                                                       \
    FAB_STORE_PARAM(DIRECTORY_PS, "directory_ps", "ps", preset, 0, FAB_STORE_LONGEST_PS,                               \
                    "part of a change's service time that holds its directory (a striped one: that stripe) alone",     \
                    source)

/* failures */
#define FAB_STORE_P_TIMEOUT_PS(preset, source)                                                                         \
    FAB_STORE_PARAM(TIMEOUT_PS, "timeout_ps", "ps", preset, 1, FAB_STORE_LONGEST_PS,                                   \
                    "a client that has no answer for this long asks whether the server is there", source)
#define FAB_STORE_P_RECONNECT_PS(preset, source)                                                                       \
    FAB_STORE_PARAM(RECONNECT_PS, "reconnect_ps", "ps", preset, 1, FAB_STORE_LONGEST_PS,                               \
                    "time between a client's attempts to reach a server or its partner", source)
#define FAB_STORE_P_RECOVERY_SOFT_PS(preset, source)                                                                   \
    FAB_STORE_PARAM(RECOVERY_SOFT_PS, "recovery_soft_ps", "ps", preset, 1, FAB_STORE_LONGEST_PS,                       \
                    "a server that is up again waits this long for its clients", source)
#define FAB_STORE_P_RECOVERY_HARD_PS(preset, source)                                                                   \
    FAB_STORE_PARAM(RECOVERY_HARD_PS, "recovery_hard_ps", "ps", preset, 1, FAB_STORE_LONGEST_PS,                       \
                    "the same, while clients still come", source)

/* ---- groups, for file systems that have not such a thing or of which nothing is published ----------- */

/* No cache in the client: nothing dirty, nothing ahead; what is read or written goes straight to the application. */
#define FAB_STORE_NO_CACHE_PARAMS(why)                                                                                 \
    FAB_STORE_P_CACHE(0, why), FAB_STORE_P_MAX_DIRTY_BYTES(INT64_C(64) << 20, "unused without a cache"),               \
        FAB_STORE_P_CACHE_BYTES(0, why), FAB_STORE_P_DIRTY_EXPIRE_PS(30 * FAB_STORE_S, "unused without a cache"),      \
        FAB_STORE_P_GRANT_BYTES(INT64_C(64) << 20, "unused without a cache"), FAB_STORE_P_READAHEAD_BYTES(0, why),     \
        FAB_STORE_P_READAHEAD_WHOLE_BYTES(0, why)

/* Locks are not used. */
#define FAB_STORE_NO_LOCKS_PARAMS(why)                                                                                 \
    FAB_STORE_P_LOCKS(0, why), FAB_STORE_P_LOCK_CPU_PS(5 * FAB_STORE_US, "assumed; for glimpses")

/* Failures: time-outs of the order of seconds. */
#define FAB_STORE_FAILURE_PARAMS(timeout_s, reconnect_s, soft_s, hard_s, source)                                       \
    FAB_STORE_P_TIMEOUT_PS((timeout_s) * FAB_STORE_S, source),                                                         \
        FAB_STORE_P_RECONNECT_PS((reconnect_s) * FAB_STORE_S, source),                                                 \
        FAB_STORE_P_RECOVERY_SOFT_PS((soft_s) * FAB_STORE_S, source),                                                  \
        FAB_STORE_P_RECOVERY_HARD_PS((hard_s) * FAB_STORE_S, source)

#endif
