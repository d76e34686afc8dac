# cython: language_level=3
"""The binding of the core: four classes, each one pointer. No algorithm here."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport INT32_MAX, INT64_MAX, int8_t, int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cimport fabricsim._core.core as c

from operator import index

import numpy as np

from fabricsim.errors import ConfigError, DeadlockError, EngineError, InputError

_KINDS = ("compute", "all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "reduce", "barrier",
          "send", "recv",
          "open", "read", "write", "fsync", "close", "stat", "unlink", "mkdir", "rmdir", "rename", "readdir")


_LINK_COUNTS = ("packets", "bytes", "ecn_marks", "drops", "pauses", "paused_ps", "max_queue_bytes", "busy_ps", "lost",
                "down_ps")


cdef object _blocked(c.fab_blocked_t *items, int64_t n):
    return [{"row": items[i].op, "rank": items[i].rank, "waits_for": items[i].waits_for,
             "why": (f"waits for rank {items[i].waits_for}" if items[i].waits_for >= 0
                     else "waits for messages or storage" if items[i].state
                     else "waits for operations before it")} for i in range(n)]


cdef object _lines(c.fab_problems_t *problems, int code):
    lines = problems.text.decode("utf-8", "replace").splitlines()
    if problems.count > c.FAB_PROBLEMS_KEPT:
        lines[c.FAB_PROBLEMS_KEPT - 1:] = [f"and {problems.count - c.FAB_PROBLEMS_KEPT + 1} more"]
    return lines or [c.fab_error_name(code).decode()]


cdef int check(int code, c.fab_problems_t *problems) except -1:
    """Turn an error code and its lines into the exception of its family."""
    if code == c.FAB_OK:
        return 0
    lines = _lines(problems, code)
    if code == c.FAB_E_MEMORY:
        raise MemoryError("; ".join(lines))
    if code == c.FAB_E_CONFIG or code == c.FAB_E_TOPOLOGY:
        raise ConfigError(lines)
    if code == c.FAB_E_DEADLOCK:
        raise DeadlockError(lines)
    if code == c.FAB_E_TRACE:
        raise InputError(lines)
    raise EngineError("\n".join(lines))


def _array(name, values, dtype):
    """Return whole numbers as a contiguous array of the core's type; ConfigError if any does not fit."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ConfigError([f"{name}: found {array.ndim} dimensions, allowed: 1"])
    if not len(array):
        return np.empty(0, dtype)
    if array.dtype.kind not in "iu":
        raise ConfigError([f"{name}: found {array.dtype} values, allowed: whole numbers"])
    limits = np.iinfo(dtype)
    if int(array.min()) < limits.min or int(array.max()) > limits.max:
        raise ConfigError([f"{name}: found {int(array.min())} to {int(array.max())}, allowed: {limits.min} to {limits.max}"])
    return np.ascontiguousarray(array, dtype)


def _rows(name, values, width=4):
    """Return rows of so many whole numbers as a contiguous array; ConfigError if they are none."""
    array = np.asarray(values)
    if not array.size:
        return np.empty((0, width), np.int64)
    if array.ndim != 2 or array.shape[1] != width:
        raise ConfigError([f"{name}: found shape {array.shape}, allowed: (n, {width})"])
    return _array(name, array.reshape(-1), np.int64).reshape(-1, width)


def _columns(names, rows, n):
    table = np.asarray(rows)
    return {name: np.ascontiguousarray(table[:n, i]) for i, name in enumerate(names)}


#: Kinds of storage RPCs, as ``Run.rpcs()`` numbers them.
RPC_KINDS = ("read", "write", "sync", "lock", "glimpse", "open", "close", "stat", "unlink", "mkdir", "rmdir", "rename",
             "readdir", "ping", "connect")


cdef object _text(const char *text):
    return text.decode() if text != NULL else ""


def implementations():
    """Return the names of the implementations of every room: ``{"cc": ["none", "dcqcn"], ...}``."""
    names = {}
    cdef int i = 0
    while c.fab_implementations[i] != NULL:
        names.setdefault(_text(c.fab_implementations[i].room), []).append(_text(c.fab_implementations[i].impl))
        i += 1
    return names


def summaries():
    """Return ``(room, name, summary, kinds)`` of every implementation; kinds are a collective's operations."""
    rows = []
    cdef int i = 0
    while c.fab_implementations[i] != NULL:
        bits = c.fab_implementations[i].kinds
        rows.append((_text(c.fab_implementations[i].room), _text(c.fab_implementations[i].impl),
                     _text(c.fab_implementations[i].summary),
                     [name for k, name in enumerate(_KINDS) if bits >> k & 1]))
        i += 1
    return rows


def params():
    """Return the parameters of every implementation as dicts: room, impl, name, unit, default, min, max, meaning, source."""
    rows = []
    cdef int i = 0, j
    cdef const c.fab_param_t *p
    while c.fab_implementations[i] != NULL:
        j = 0
        while c.fab_implementations[i].params[j].name != NULL:
            p = &c.fab_implementations[i].params[j]
            rows.append({"room": _text(c.fab_implementations[i].room), "impl": _text(c.fab_implementations[i].impl),
                         "name": _text(p.name), "unit": _text(p.unit), "default": p.preset, "min": p.least, "max": p.most,
                         "meaning": _text(p.meaning), "source": _text(p.source)})
            j += 1
        i += 1
    return rows


include "inputs.pxi"


cdef class Model:
    """A fabric, compiled and constant.

    Parameters
    ----------
    n_hosts, n_switches
        Hosts are nodes ``0 … n_hosts-1``, switches follow.
    cable_a, cable_b
        int32 arrays: the nodes that each full-duplex cable joins; directed links are ``2i`` (a to b) and ``2i+1``.
    cable_rate_mbps, cable_delay_ps
        int64 arrays: rate in Mb/s, propagation delay in ps.
    node_latency_ps
        int64 array over nodes: pipeline latency added to what enters a node.
    settings
        ``[(room, implementation, {parameter: int}), ...]``; a fourth item is the network (default 0).
    cable_network
        int8 array over cables: 0 the scale-out network, 1 the scale-up network; None: all 0.
    reducer_count
        The last so many hosts are reducing units of switches (NVLS, SHARP), where no rank is.
    server_count
        So many hosts before those are servers of storage, on any switch, where no rank is either.
    stores
        File systems: dicts of arrays, each may be left out where it is empty. ``servers`` (host of each data server),
        ``partners`` (who takes over, -1 nobody), ``targets`` (server of each), ``meta`` and ``meta_partners``, ``layouts``
        int64[n, 8] (layout, mirror, begin, end or -1, stripe_bytes, stripe_count or -1, first_target or -1, on_meta),
        ``slow`` int64[n, 3] (when_ps, target, ppm), ``failures`` int64[n, 3] (when_ps, server, up_ps). Their models and
        parameters are settings of the rooms ``store`` and ``target``, whose fourth item is the number here.

    Raises
    ------
    ConfigError
        With every problem found.
    """

    cdef c.fab_model_t *ptr

    def __cinit__(self, *, int n_hosts, int n_switches, cable_a, cable_b, cable_rate_mbps, cable_delay_ps,
                  node_latency_ps, settings=(), cable_network=None, int reducer_count=0, int server_count=0, stores=()):
        cdef const int32_t[::1] a = _array("cable_a", cable_a, np.int32)
        cdef const int32_t[::1] b = _array("cable_b", cable_b, np.int32)
        cdef const int64_t[::1] rate = _array("cable_rate_mbps", cable_rate_mbps, np.int64)
        cdef const int64_t[::1] delay = _array("cable_delay_ps", cable_delay_ps, np.int64)
        cdef const int64_t[::1] latency = _array("node_latency_ps", node_latency_ps, np.int64)
        if not (len(a) == len(b) == len(rate) == len(delay)) or len(latency) != n_hosts + n_switches:
            raise ConfigError(["topology: the arrays of cables, or of nodes, differ in length"])
        if not len(a) or not len(latency):
            raise ConfigError(["topology: no cable"])
        cdef const int8_t[::1] network = _array("cable_network", [0] if cable_network is None else cable_network, np.int8)
        if cable_network is not None and len(network) != len(a):
            raise ConfigError(["topology: the arrays of cables differ in length"])
        cdef c.fab_topology_t topology
        topology.host_count = n_hosts
        topology.switch_count = n_switches
        topology.cable_count = <int32_t>len(a)
        topology.cable_a = &a[0]
        topology.cable_b = &b[0]
        topology.cable_rate_mbps = &rate[0]
        topology.cable_delay_ps = &delay[0]
        topology.node_latency_ps = &latency[0]
        topology.cable_network = NULL if cable_network is None else &network[0]
        topology.reducer_count = reducer_count
        topology.server_count = server_count
        cdef _Stores file_systems = _Stores(stores)
        topology.stores = file_systems.items
        topology.store_count = file_systems.count
        cdef _Settings own = _Settings(settings)
        cdef c.fab_problems_t problems
        c.fab_problems_clear(&problems)
        check(c.fab_model_new(&topology, own.items, own.count, &problems, &self.ptr), &problems)

    def __dealloc__(self):
        c.fab_model_free(self.ptr)

    def info(self):
        """Return lookahead_ps, nodes, hosts, links, colours, arithmetic switches and memory."""
        cdef c.fab_model_info_t info
        c.fab_model_info(self.ptr, &info)
        return info

    def path(self, int src, int dst, int entropy=0):
        """Return the directed links of packets with an entropy (0 to 65535) between two hosts; empty where none lead."""
        cdef int32_t n = c.fab_model_path(self.ptr, src, dst, entropy, NULL, 0)
        cdef int32_t[::1] links = np.empty(n + 1, np.int32)
        c.fab_model_path(self.ptr, src, dst, entropy, &links[0], n)
        return np.asarray(links)[:n]

    @property
    def lookahead_ps(self):
        return self.info()["lookahead_ps"]

    @property
    def n_links(self):
        return self.info()["link_count"]

    @property
    def n_colours(self):
        return self.info()["colour_count"]


cdef class Program:
    """What the ranks do, compiled against a model and constant.

    Parameters
    ----------
    model
        The fabric.
    table
        Anything with ``__arrow_c_stream__`` in the schema of ``fabricsim.trace.lower``.
    rank_host
        int32 array: the host of each rank.
    algorithms
        ``{kind: collective implementation}``; kinds left out use the core's defaults.
    variants
        ``[(collective implementation, {parameter: int}), ...]``: what the table's column ``variant`` (int16, the
        last, may be missing) chooses from; -1 there is the kind's own algorithm.
    files
        What the table's storage rows name, as a dict of arrays: ``store`` int8[n], ``directory`` int32[n], ``layout``
        int32[n], ``bytes`` int64[n] (size before the run, -1: it is not there), ``directory_stripes`` int32[d]; and
        ``clients`` int32[k], ranks that ``Run.io`` may be called for; ``ranks_per_client``, how many ranks
        one after another share the client of the first. None: no file.

    Raises
    ------
    InputError
        With every problem found, by row.
    """

    cdef c.fab_program_t *ptr
    cdef readonly Model model

    def __cinit__(self, Model model not None, table, *, rank_host, algorithms=None, variants=(), files=None):
        self.model = model
        cdef const int32_t[::1] hosts = _array("rank_host", rank_host, np.int32)
        if not len(hosts):
            raise InputError(["the program has no rank"])
        capsule = table.__arrow_c_stream__()
        cdef c.ArrowArrayStream *stream = <c.ArrowArrayStream *>PyCapsule_GetPointer(capsule, "arrow_array_stream")
        cdef c.fab_collectives_t collectives
        cdef _Settings own = _Settings([("coll", name, values) for name, values in variants])
        collectives.variants = own.items
        collectives.variant_count = own.count
        chosen = {kind: name.encode() for kind, name in (algorithms or {}).items()}
        unknown = sorted(set(chosen) - set(_KINDS))
        if unknown:
            raise ConfigError([f"algorithms: unknown kind {kind}" for kind in unknown])
        cdef _Files own_files = _Files(files or {})
        for i, kind in enumerate(_KINDS):
            collectives.algorithms[i] = <const char *>chosen[kind] if kind in chosen else NULL
        cdef c.fab_problems_t problems
        c.fab_problems_clear(&problems)
        cdef int code
        cdef int32_t count = <int32_t>len(hosts)
        with nogil:
            code = c.fab_program_from_arrow(model.ptr, stream, &hosts[0], count, &collectives, &own_files.table, &problems,
                                            &self.ptr)
        check(code, &problems)

    def __dealloc__(self):
        c.fab_program_free(self.ptr)

    def info(self):
        """Return op_count, instance_count, connection_count, send_count, rank_count and memory_bytes."""
        cdef c.fab_program_info_t info
        c.fab_program_info(self.ptr, &info)
        return info

    @property
    def n_ops(self):
        return self.info()["op_count"]

    @property
    def n_instances(self):
        return self.info()["instance_count"]

    @property
    def n_connections(self):
        return self.info()["connection_count"]


cdef class Run:
    """A program running on a model; everything that changes.

    Parameters
    ----------
    model, program
        Kept alive by the run; other runs may share them.
    seed
        Of every random draw.
    threads
        1 to 64; any number gives the same result.
    record_rpcs
        Keep the way of every storage RPC for ``rpcs()``.
    record_packets
        Keep every packet's arrivals for ``packets()``; for small worlds.
    plain
        Use the plain reference windows instead of leapfrog: the same result, slower.
    changes
        int64[n, 4]: time in ps, directed link, kind (0 down, 1 up, 2 rate, 3 errors, 4 dark) and value (Mb/s, wrong
        bits in 10^18, ps) of what changes in the fabric; down, up and dark act on both directions of the cable.
    circuits
        int64[n, 4]: cable, first_ps, up_ps and period_ps of what lights optical circuits.
    heal_ps
        How long after a cable went down or came up the routes go by it; -1: never.

    Raises
    ------
    ConfigError
        With every change that is not possible.
    """

    cdef c.fab_run_t *ptr
    cdef readonly Model model
    cdef readonly Program program

    def __cinit__(self, Model model not None, Program program not None, *, seed=1, int threads=1,
                  bint record_packets=False, bint record_rpcs=False, bint plain=False, changes=(), circuits=(), heal_ps=-1):
        if program.model is not model:
            raise ConfigError(["run: the program was compiled for another model"])
        self.model = model
        self.program = program
        cdef c.fab_run_options_t options
        options.seed = index(seed)
        options.threads = threads
        options.record_packets = record_packets
        options.record_rpcs = record_rpcs
        options.plain = plain
        cdef _Changes own = _Changes(changes, circuits, heal_ps)
        options.changes = &own.all if own.all.change_count or own.all.circuit_count else NULL
        cdef c.fab_problems_t problems
        c.fab_problems_clear(&problems)
        check(c.fab_run_new(model.ptr, program.ptr, &options, &problems, &self.ptr), &problems)

    def __dealloc__(self):
        c.fab_run_free(self.ptr)

    def step(self, until_ps=None):
        """Run everything that happens before ``until_ps`` (all, if None); return whether nothing is left.

        Raises
        ------
        DeadlockError
            Nothing can happen any more, but operations have not ended; says who waits for whom.
        EngineError
            A connection gave up, or a limit was reached.
        """
        cdef int64_t until = INT64_MAX if until_ps is None else index(until_ps)
        cdef c.fab_problems_t problems
        cdef c.bool finished = False
        cdef int code
        c.fab_problems_clear(&problems)
        with nogil:
            code = c.fab_run_step(self.ptr, until, &problems, &finished)
        check(code, &problems)
        return bool(finished)

    def counters(self):
        """Return the totals so far as a dict of int."""
        cdef c.fab_counters_t counters
        c.fab_run_counters(self.ptr, &counters)
        return counters

    @property
    def now_ps(self):
        cdef int64_t now_ps, done
        c.fab_run_progress(self.ptr, &now_ps, &done)
        return now_ps

    @property
    def done_ops(self):
        cdef int64_t now_ps, done
        c.fab_run_progress(self.ptr, &now_ps, &done)
        return done

    @property
    def total_ops(self):
        return self.program.info()["instance_count"]

    @property
    def digest(self):
        """16 hex digits over every operation's times and every link's counts."""
        return f"{c.fab_run_digest(self.ptr):016x}"

    def ops(self):
        """Return row, rank, start_ps, end_ps of every operation on every rank; -1 where it has not happened."""
        n = self.program.info()["instance_count"]
        row, start, end = (np.empty(max(n, 1), np.int64) for _ in range(3))
        rank = np.empty(max(n, 1), np.int32)
        cdef int64_t[::1] row_v = row, start_v = start, end_v = end
        cdef int32_t[::1] rank_v = rank
        c.fab_run_ops(self.ptr, &row_v[0], &rank_v[0], &start_v[0], &end_v[0])
        return {"row": row[:n], "rank": rank[:n], "start_ps": start[:n], "end_ps": end[:n]}

    def sends(self):
        """Return row, src, dst (ranks), bytes, start_ps, end_ps (acknowledged) and delivered_ps of every send."""
        n = self.program.info()["send_count"]
        row, size, start, end, delivered = (np.empty(max(n, 1), np.int64) for _ in range(5))
        src, dst = (np.empty(max(n, 1), np.int32) for _ in range(2))
        cdef int64_t[::1] row_v = row, size_v = size, start_v = start, end_v = end, delivered_v = delivered
        cdef int32_t[::1] src_v = src, dst_v = dst
        c.fab_run_sends(self.ptr, &row_v[0], &src_v[0], &dst_v[0], &size_v[0], &start_v[0], &end_v[0], &delivered_v[0])
        return {"row": row[:n], "src": src[:n], "dst": dst[:n], "bytes": size[:n], "start_ps": start[:n],
                "end_ps": end[:n], "delivered_ps": delivered[:n]}

    def links(self):
        """Return the counts of every directed link, in the topology's order, as int64 arrays."""
        table = np.empty((self.model.info()["link_count"], len(_LINK_COUNTS)), np.int64)
        cdef int64_t[:, ::1] view = table
        c.fab_run_links(self.ptr, <c.fab_link_stats_t *>&view[0, 0])
        return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(_LINK_COUNTS)}

    def targets(self):
        """Return a row a storage target, as a dict of int64 arrays: counts, bytes, busy time, waits (sums), queue."""
        names = ("store", "target", "server", "rpcs", "bytes_read", "bytes_written", "busy_ps", "queue_max", "wait_ps",
                 "service_ps")
        cdef int64_t n = c.fab_run_targets(self.ptr, NULL, -1)
        cdef int64_t[:, ::1] rows = np.empty((n + 1, len(names)), np.int64)
        c.fab_run_targets(self.ptr, <c.fab_target_row_t *>&rows[0, 0], n)
        return _columns(names, rows, n)

    def servers(self):
        """Return a row a storage server, as a dict of int64 arrays."""
        names = ("store", "server", "host", "is_meta", "queue_max", "changes", "committed", "failures")
        cdef int64_t n = c.fab_run_servers(self.ptr, NULL, -1)
        cdef int64_t[:, ::1] rows = np.empty((n + 1, len(names)), np.int64)
        c.fab_run_servers(self.ptr, <c.fab_server_row_t *>&rows[0, 0], n)
        return _columns(names, rows, n)

    def clients(self):
        """Return a row a rank that does I/O, as a dict of int64 arrays."""
        names = ("rank", "calls", "bytes_read", "bytes_written", "cache_hit_bytes", "readahead_bytes", "rpc_read_bytes",
                 "rpc_written_bytes", "lost_dirty_bytes", "max_dirty_bytes", "blocked_ps", "lock_wait_ps", "rpcs",
                 "resent", "evictions", "refused", "failed")
        cdef int64_t n = c.fab_run_clients(self.ptr, NULL, -1)
        cdef int64_t[:, ::1] rows = np.empty((n + 1, len(names)), np.int64)
        c.fab_run_clients(self.ptr, <c.fab_client_row_t *>&rows[0, 0], n)
        return _columns(names, rows, n)

    def rpcs(self):
        """Return the way of every storage RPC (needs ``record_rpcs``), by rank and completion; kind as in ``RPC_KINDS``."""
        names = ("rank", "store", "server", "target", "kind", "file", "object", "offset", "bytes", "granted_end",
                 "sent_ps", "queued_ps", "began_ps", "target_ps", "served_ps", "done_ps")
        cdef int64_t n = c.fab_run_rpcs(self.ptr, NULL, -1)
        cdef int64_t[:, ::1] rows = np.empty((n + 1, len(names)), np.int64)
        c.fab_run_rpcs(self.ptr, <c.fab_rpc_row_t *>&rows[0, 0], n)
        return _columns(names, rows, n)

    def add_directory(self, int stripes=1):
        """Add a directory to those of the program, for this run alone; return its number."""
        cdef c.fab_problems_t problems
        cdef int32_t number
        c.fab_problems_clear(&problems)
        check(c.fab_run_add_directory(self.ptr, stripes, &problems, &number), &problems)
        return number

    def add_file(self, int store, int directory, int layout=0):
        """Add a file that is not there yet, for this run alone; return its number."""
        cdef c.fab_problems_t problems
        cdef int32_t number
        c.fab_problems_clear(&problems)
        check(c.fab_run_add_file(self.ptr, store, directory, layout, &problems, &number), &problems)
        return number

    def io(self, int rank, kind, int file, *, offset=0, size=0, int flags=0, int new_file=-1):
        """Begin a storage operation of a rank where the run stands; return the token that ``wait`` takes.

        ``kind`` is a storage kind of the trace (``"open"``, ``"write"``, ...), ``size`` in bytes, ``flags`` as FAB_IO_* of
        the core (create 1, excl 2, trunc 4, direct 8, group 16).
        """
        if kind not in _KINDS:
            raise ConfigError([f"kind: unknown {kind!r}"])
        cdef c.fab_io_request_t request
        request.rank, request.kind, request.flags = rank, _KINDS.index(kind), flags
        request.file, request.new_file = file, new_file
        request.offset, request.bytes = index(offset), index(size)
        cdef c.fab_problems_t problems
        cdef int64_t token
        c.fab_problems_clear(&problems)
        check(c.fab_run_io(self.ptr, &request, &problems, &token), &problems)
        return token

    def wait(self, token):
        """Go on until an operation of ``io`` has ended, at most one lookahead further; return (start_ps, end_ps)."""
        cdef c.fab_problems_t problems
        cdef int64_t start, end, number = index(token)
        cdef int code
        c.fab_problems_clear(&problems)
        with nogil:
            code = c.fab_run_wait(self.ptr, number, &problems, &start, &end)
        check(code, &problems)
        return start, end

    def wait_any(self, tokens, until_ps=None):
        """Go on until the first of some operations has ended; return (which, start_ps, end_ps), which is its index.

        At ``until_ps`` it gives up, and which is -1; without tokens that is how time passes.
        """
        cdef const int64_t[::1] view = _array("tokens", tokens, np.int64)
        cdef int32_t count = len(view), which = -1
        cdef int64_t start = -1, end = -1, until = (1 << 63) - 1 if until_ps is None else index(until_ps)
        cdef c.fab_problems_t problems
        cdef int code
        if not count and until_ps is None:
            raise ConfigError(["tokens: found none, allowed: at least one, or until_ps"])
        cdef const int64_t *items = NULL
        if count:
            items = &view[0]
        c.fab_problems_clear(&problems)
        with nogil:
            code = c.fab_run_wait_any(self.ptr, items, count, until, &problems, &which, &start, &end)
        check(code, &problems)
        return which, start, end

    @property
    def frontier_ps(self):
        """Where the run stands: everything before has happened, and what ``io`` begins now begins here."""
        return c.fab_run_frontier_ps(self.ptr)

    def check(self):
        """Raise EngineError if the run, which has finished, has left anything in buffers, queues or links."""
        cdef c.fab_problems_t problems
        c.fab_problems_clear(&problems)
        check(c.fab_run_check(self.ptr, &problems), &problems)

    def blocked(self, limit=20):
        """Return up to ``limit`` operations that have not ended: row, rank, waits_for (rank or -1), why."""
        limit = min(max(index(limit), 0), self.program.info()["instance_count"])
        cdef c.fab_blocked_t *items = <c.fab_blocked_t *>calloc(limit + 1, sizeof(c.fab_blocked_t))
        if items == NULL:
            raise MemoryError
        try:
            n = min(c.fab_run_blocked(self.ptr, items, limit), limit)
            return _blocked(items, n)
        finally:
            free(items)

    def packets(self):
        """Return the recorded arrivals as a structured array, ordered by time and link."""
        dtype = np.dtype([("when_ps", "i8"), ("link", "i4"), ("dst", "i4"), ("connection", "i4"), ("psn", "u4"),
                          ("bytes", "u2"), ("kind", "u1"), ("flags", "u1")], align=True)
        if dtype.itemsize != sizeof(c.fab_arrival_t):
            raise EngineError("the layout of recorded arrivals differs from the core's")
        n = c.fab_run_arrivals(self.ptr, NULL, -1)
        rows = np.empty(n + 1, dtype)
        cdef char[::1] view = rows.view(np.int8).reshape(-1)
        c.fab_run_arrivals(self.ptr, <c.fab_arrival_t *>&view[0], n)
        return rows[:n]


include "flow.pxi"
