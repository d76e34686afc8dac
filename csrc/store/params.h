/* Parameters of a file system: one order of values, a table with its own defaults in each layout's file. */
#ifndef FAB_STORE_PARAMS_H
#define FAB_STORE_PARAMS_H

#include "core/param.h"

enum { FAB_STORE_VALUES_MAX = 64, FAB_TARGET_VALUES_MAX = 24 };

enum {
    /* client */
    FAB_STORE_RPC_BYTES,
    FAB_STORE_RPCS_IN_FLIGHT_COUNT, /* by client and target */
    FAB_STORE_META_RPCS_COUNT,      /* by client and metadata server */
    FAB_STORE_CACHE,                /* 0: every read and write goes to the servers before it ends */
    FAB_STORE_MAX_DIRTY_BYTES,      /* by client and target */
    FAB_STORE_CACHE_BYTES,          /* clean and dirty of a client */
    FAB_STORE_DIRTY_EXPIRE_PS,
    FAB_STORE_GRANT_BYTES,     /* by client and target, at first */
    FAB_STORE_READAHEAD_BYTES, /* of a file, 0: none */
    FAB_STORE_READAHEAD_WHOLE_BYTES,
    FAB_STORE_COPY_MBPS,   /* between application and cache */
    FAB_STORE_CLIENT_MBPS, /* all that a client sends and receives; 0: no limit */
    FAB_STORE_CALL_PS,     /* of each call of the application */
    /* messages */
    FAB_STORE_REQUEST_BYTES,
    FAB_STORE_REPLY_BYTES,
    FAB_STORE_FRAGMENT_BYTES,
    FAB_STORE_SHORT_IO_BYTES, /* up to this, data travels in the request or reply */
    FAB_STORE_DATA_CLASS,
    /* data servers */
    FAB_STORE_THREADS_COUNT,
    FAB_STORE_RPC_CPU_PS,
    FAB_STORE_CHECKSUM_MBPS,  /* of a thread; 0: none */
    FAB_STORE_SERVER_MBPS,    /* memory and buses of a server; 0: no limit */
    FAB_STORE_COMMIT_PS,      /* the journal's interval */
    FAB_STORE_COMMIT_COST_PS, /* time of a commit that someone waits for */
    /* locks */
    FAB_STORE_LOCKS, /* 0: none */
    FAB_STORE_LOCK_CPU_PS,
    /* metadata servers */
    FAB_STORE_META_THREADS_COUNT,
    FAB_STORE_OPEN_PS,
    FAB_STORE_CREATE_PS,
    FAB_STORE_CLOSE_PS,
    FAB_STORE_STAT_PS,
    FAB_STORE_UNLINK_PS,
    FAB_STORE_MKDIR_PS,
    FAB_STORE_RENAME_PS,
    FAB_STORE_READDIR_PS,
    FAB_STORE_DIRECTORY_PS, /* of a change, the part that holds the directory alone */
    /* failures */
    FAB_STORE_TIMEOUT_PS, /* without an answer for this long a client asks whether the server is there */
    FAB_STORE_RECONNECT_PS,
    FAB_STORE_RECOVERY_SOFT_PS,
    FAB_STORE_RECOVERY_HARD_PS,
    FAB_STORE_OWN /* a layout's own */
};

#endif
