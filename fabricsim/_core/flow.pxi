# The second executor of a program: fluid activities instead of packets.


cdef class Flow:
    """A program running on a model as fluid activities that share links; no packets.

    It tells what a ``Run`` tells, by the same names. An activity is a group of a collective, or a send of a rank.

    Parameters
    ----------
    model, program
        Kept alive by the flow; other flows and runs may share them.
    seed
        Of the hashes that routes go by; as that of a run.
    costs
        What activities take that have the fabric for themselves: ``latency_ps`` and ``work_ps``, int64[n] in the order of
        ``activities``, -1: as the dry run of the algorithm says. None: that for all.

    Raises
    ------
    ConfigError
        With what a flow cannot do (storage operations), or costs that are not possible.
    """

    cdef c.fab_flow_t *ptr
    cdef readonly Model model
    cdef readonly Program program

    def __cinit__(self, Model model not None, Program program not None, *, seed=1, costs=None):
        if program.model is not model:
            raise ConfigError(["flow: the program was compiled for another model"])
        self.model = model
        self.program = program
        cdef c.fab_flow_options_t options
        options.seed = index(seed)
        options.latency_ps = options.work_ps = NULL
        cdef int64_t n = c.fab_program_activities(program.ptr, NULL, NULL, -1)
        cdef const int64_t[::1] latency
        cdef const int64_t[::1] work
        given = dict(costs or {})
        unknown = sorted(set(given) - {"latency_ps", "work_ps"})
        if unknown:
            raise ConfigError([f"costs: unknown {name}" for name in unknown])
        for name, values in given.items():
            if len(values) != n:
                raise ConfigError([f"costs: found {len(values)} of {name}, allowed: {n}, one an activity"])
        if n and "latency_ps" in given:
            latency = _array("costs.latency_ps", given["latency_ps"], np.int64)
            options.latency_ps = &latency[0]
        if n and "work_ps" in given:
            work = _array("costs.work_ps", given["work_ps"], np.int64)
            options.work_ps = &work[0]
        cdef c.fab_problems_t problems
        cdef int code
        c.fab_problems_clear(&problems)
        with nogil:
            code = c.fab_flow_new(model.ptr, program.ptr, &options, &problems, &self.ptr)
        check(code, &problems)

    def __dealloc__(self):
        c.fab_flow_free(self.ptr)

    @staticmethod
    def activities(Program program not None):
        """Return the activities of a program, in row order, as a dict of arrays.

        ``op`` int64[n] is the row, ``group`` int32[n] the group of a collective's ranks, or the position of a send's rank.
        """
        cdef int64_t n = c.fab_program_activities(program.ptr, NULL, NULL, -1)
        cdef int64_t[::1] op = np.empty(n + 1, np.int64)
        cdef int32_t[::1] group = np.empty(n + 1, np.int32)
        c.fab_program_activities(program.ptr, &op[0], &group[0], n)
        return {"op": np.asarray(op)[:n], "group": np.asarray(group)[:n]}

    def costs(self):
        """Return ``latency_ps`` and ``work_ps`` of each activity as they are in use, int64[n]."""
        cdef int64_t n = c.fab_program_activities(self.program.ptr, NULL, NULL, -1)
        cdef int64_t[::1] latency = np.empty(n + 1, np.int64), work = np.empty(n + 1, np.int64)
        cdef c.fab_problems_t problems
        cdef int code
        c.fab_problems_clear(&problems)
        with nogil:
            code = c.fab_flow_costs(self.ptr, &problems, &latency[0], &work[0])
        check(code, &problems)
        return {"latency_ps": np.asarray(latency)[:n], "work_ps": np.asarray(work)[:n]}

    def loads(self, activity):
        """Return what data of one activity, of one time that it happens, puts on links: link, bytes, packets.

        ``link`` int32[k] are the directed links that carry any; ``bytes`` int64[k] on the wire, without answers; ``packets``
        int64[k]. Where packets are spread over links each has its even share.
        """
        cdef int64_t number = index(activity)
        links = self.model.info()["link_count"]
        cdef int64_t[::1] size = np.empty(links, np.int64), packets = np.empty(links, np.int64)
        cdef c.fab_problems_t problems
        cdef int code
        c.fab_problems_clear(&problems)
        with nogil:
            code = c.fab_flow_loads(self.ptr, number, &problems, &size[0], &packets[0])
        check(code, &problems)
        link = np.flatnonzero(np.asarray(size)).astype(np.int32)
        return {"link": link, "bytes": np.asarray(size)[link], "packets": np.asarray(packets)[link]}

    def step(self, until_ps=None):
        """Run everything that happens before ``until_ps`` (all, if None); return whether nothing is left.

        Raises
        ------
        DeadlockError
            Nothing can happen any more, but operations have not ended; says who waits for whom.
        EngineError
            A limit was reached.
        """
        cdef int64_t until = INT64_MAX if until_ps is None else index(until_ps)
        cdef c.fab_problems_t problems
        cdef c.bool finished = False
        cdef int code
        c.fab_problems_clear(&problems)
        with nogil:
            code = c.fab_flow_step(self.ptr, until, &problems, &finished)
        check(code, &problems)
        return bool(finished)

    def counters(self):
        """Return the totals so far as a dict of int, by the names of a run's; what only packets have is 0.

        ``windows`` counts how often rates were found anew, ``visits`` the activities that have ended.
        """
        cdef c.fab_counters_t counters
        c.fab_flow_counters(self.ptr, &counters)
        return counters

    @property
    def now_ps(self):
        cdef int64_t now_ps, done
        c.fab_flow_progress(self.ptr, &now_ps, &done)
        return now_ps

    @property
    def done_ops(self):
        cdef int64_t now_ps, done
        c.fab_flow_progress(self.ptr, &now_ps, &done)
        return done

    @property
    def total_ops(self):
        return self.program.info()["instance_count"]

    @property
    def digest(self):
        """16 hex digits over every operation's times and every link's bytes."""
        return f"{c.fab_flow_digest(self.ptr):016x}"

    def ops(self):
        """Return row, rank, start_ps, end_ps of every operation on every rank; -1 where it has not happened."""
        n = self.program.info()["instance_count"]
        row, start, end = (np.empty(max(n, 1), np.int64) for _ in range(3))
        rank = np.empty(max(n, 1), np.int32)
        cdef int64_t[::1] row_v = row, start_v = start, end_v = end
        cdef int32_t[::1] rank_v = rank
        c.fab_flow_ops(self.ptr, &row_v[0], &rank_v[0], &start_v[0], &end_v[0])
        return {"row": row[:n], "rank": rank[:n], "start_ps": start[:n], "end_ps": end[:n]}

    def sends(self):
        """Return row, src, dst (ranks), bytes, start_ps, end_ps (acknowledged) and delivered_ps of every send."""
        n = self.program.info()["send_count"]
        row, size, start, end, delivered = (np.empty(max(n, 1), np.int64) for _ in range(5))
        src, dst = (np.empty(max(n, 1), np.int32) for _ in range(2))
        cdef int64_t[::1] row_v = row, size_v = size, start_v = start, end_v = end, delivered_v = delivered
        cdef int32_t[::1] src_v = src, dst_v = dst
        c.fab_flow_sends(self.ptr, &row_v[0], &src_v[0], &dst_v[0], &size_v[0], &start_v[0], &end_v[0], &delivered_v[0])
        return {"row": row[:n], "src": src[:n], "dst": dst[:n], "bytes": size[:n], "start_ps": start[:n],
                "end_ps": end[:n], "delivered_ps": delivered[:n]}

    def links(self):
        """Return ``bytes`` and ``busy_ps`` of every directed link, and a run's other counts as 0, as int64 arrays."""
        table = np.empty((self.model.info()["link_count"], len(_LINK_COUNTS)), np.int64)
        cdef int64_t[:, ::1] view = table
        c.fab_flow_links(self.ptr, <c.fab_link_stats_t *>&view[0, 0])
        return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(_LINK_COUNTS)}

    def blocked(self, limit=20):
        """Return up to ``limit`` operations that have not ended: row, rank, waits_for (rank or -1), why."""
        limit = min(max(index(limit), 0), self.program.info()["instance_count"])
        cdef c.fab_blocked_t *items = <c.fab_blocked_t *>calloc(limit + 1, sizeof(c.fab_blocked_t))
        if items == NULL:
            raise MemoryError
        try:
            n = min(c.fab_flow_blocked(self.ptr, items, limit), limit)
            return _blocked(items, n)
        finally:
            free(items)
