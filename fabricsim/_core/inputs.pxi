# What Python gives, as the core reads it: each class owns the memory, or keeps the arrays.


cdef class _Stores:
    """File systems as the core reads them; owns the memory."""

    cdef c.fab_store_spec_t *items
    cdef int32_t count
    cdef list keep

    cdef const int32_t *_ints(self, name, values) except? NULL:
        cdef const int32_t[::1] array = _array(name, values, np.int32)
        if not len(array):
            return NULL
        self.keep.append(array)
        return &array[0]

    cdef const int64_t *_triples(self, name, values, int32_t *count_out) except? NULL:
        cdef const int64_t[:, ::1] array = _rows(name, values, 3)
        count_out[0] = <int32_t>array.shape[0]
        if not array.shape[0]:
            return NULL
        self.keep.append(array)
        return &array[0, 0]

    def __cinit__(self, stores):
        cdef c.fab_store_spec_t *item
        cdef c.fab_layout_row_t *rows
        cdef int32_t i
        known = ("servers", "partners", "targets", "meta", "meta_partners", "layouts", "slow", "failures")
        self.keep = []
        self.items = <c.fab_store_spec_t *>calloc(len(stores) + 1, sizeof(c.fab_store_spec_t))
        if self.items == NULL:
            raise MemoryError
        for number, given in enumerate(stores):
            where = f"stores[{number}]"
            unknown = sorted(set(given) - set(known))
            if unknown:
                raise ConfigError([f"{where}: unknown {name}" for name in unknown])
            data, meta = list(given.get("servers", ())), list(given.get("meta", ()))
            partners = list(given.get("partners", ())) or [-1] * len(data)
            partners += list(given.get("meta_partners", ())) or [-1] * len(meta)
            if len(partners) != len(data) + len(meta):
                raise ConfigError([f"{where}: found {len(partners)} partners of {len(data) + len(meta)} servers"])
            item = &self.items[number]
            self.count = number + 1
            item.data_count, item.meta_count = len(data), len(meta)
            item.target_count = len(given.get("targets", ()))
            item.server_host = self._ints(f"{where}.servers", data + meta)
            item.server_partner = self._ints(f"{where}.partners", partners)
            item.target_server = self._ints(f"{where}.targets", given.get("targets", ()))
            item.slow = self._triples(f"{where}.slow", given.get("slow", ()), &item.slow_count)
            item.failures = self._triples(f"{where}.failures", given.get("failures", ()), &item.failure_count)
            layouts = _rows(f"{where}.layouts", given.get("layouts", ()), 8).tolist()
            rows = <c.fab_layout_row_t *>calloc(len(layouts) + 1, sizeof(c.fab_layout_row_t))
            if rows == NULL:
                raise MemoryError
            item.layouts = rows
            item.layout_row_count = len(layouts)
            for i, row in enumerate(layouts):
                if any(not -2**31 <= row[k] < 2**31 for k in (0, 1, 5, 6, 7)):
                    raise ConfigError([f"{where}.layouts: row {i}: found {row}, allowed: numbers of 32 bits"])
                rows[i] = c.fab_layout_row_t(row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7])

    def __dealloc__(self):
        for i in range(self.count):
            free(<void *>self.items[i].layouts)
        free(self.items)


cdef class _Settings:
    """Settings as the core reads them; owns the memory."""

    cdef c.fab_setting_t *items
    cdef int32_t count
    cdef list keep

    def __cinit__(self, settings):
        cdef int32_t i = 0, j
        cdef const char **names
        cdef int64_t *values
        self.keep = []
        self.items = <c.fab_setting_t *>calloc(len(settings) + 1, sizeof(c.fab_setting_t))
        if self.items == NULL:
            raise MemoryError
        for room, impl, chosen, *network in settings:
            self.keep += [room.encode(), impl.encode()]
            self.items[i].room = self.keep[-2]
            self.items[i].impl = self.keep[-1]
            names = <const char **>calloc(len(chosen) + 1, sizeof(char *))
            values = <int64_t *>calloc(len(chosen) + 1, sizeof(int64_t))
            self.items[i].network = index(network[0]) if network else 0
            self.items[i].names = names
            self.items[i].values = values
            self.count = i + 1
            if names == NULL or values == NULL:
                raise MemoryError
            j = 0
            for name, value in chosen.items():
                self.keep.append(name.encode())
                names[j] = self.keep[-1]
                try:
                    values[j] = index(value)
                except (TypeError, OverflowError) as error:
                    raise ConfigError([f"{room}.{impl}.{name}: found {value!r}, allowed: a whole number of 64 bits"]) from error
                j += 1
            self.items[i].count = j
            i += 1

    def __dealloc__(self):
        for i in range(self.count):
            free(<void *>self.items[i].names)
            free(<void *>self.items[i].values)
        free(self.items)


cdef class _Files:
    """Files of a program as the core reads them; keeps the memory."""

    cdef c.fab_file_table_t table
    cdef list keep

    cdef const int32_t *_ints(self, files, name, int32_t *count_out) except? NULL:
        cdef const int32_t[::1] array = _array(f"files.{name}", files.get(name, ()), np.int32)
        count_out[0] = <int32_t>len(array)
        if not len(array):
            return NULL
        self.keep.append(array)
        return &array[0]

    def __cinit__(self, files):
        cdef int32_t directories = 0, layouts = 0
        unknown = sorted(set(files) - {"store", "directory", "layout", "bytes", "directory_stripes", "clients", "ranks_per_client"})
        if unknown:
            raise ConfigError([f"files: unknown {name}" for name in unknown])
        self.keep = []
        cdef const int8_t[::1] store = _array("files.store", files.get("store", ()), np.int8)
        cdef const int64_t[::1] size = _array("files.bytes", files.get("bytes", ()), np.int64)
        self.table.directory = self._ints(files, "directory", &directories)
        self.table.layout = self._ints(files, "layout", &layouts)
        if not (len(store) == len(size) == directories == layouts):
            raise ConfigError(["files: the arrays differ in length"])
        self.table.count = <int32_t>len(store)
        self.table.directory_stripes = self._ints(files, "directory_stripes", &self.table.directory_count)
        self.table.ranks_per_client = index(files.get("ranks_per_client", 1))
        self.table.clients = self._ints(files, "clients", &self.table.client_count)
        if len(store):
            self.keep += [store, size]
            self.table.store = &store[0]
            self.table.bytes = &size[0]


cdef class _Changes:
    """Changes of a fabric as the core reads them; owns the memory."""

    cdef c.fab_changes_t all
    cdef c.fab_change_t *items
    cdef c.fab_circuit_t *rows

    def __cinit__(self, changes, circuits, heal_ps):
        cdef int64_t[:, ::1] change = _rows("changes", changes)
        cdef int64_t[:, ::1] circuit = _rows("circuits", circuits)
        cdef int64_t i, n = change.shape[0]
        self.items = <c.fab_change_t *>calloc(n + 1, sizeof(c.fab_change_t))
        self.rows = <c.fab_circuit_t *>calloc(circuit.shape[0] + 1, sizeof(c.fab_circuit_t))
        if self.items == NULL or self.rows == NULL:
            raise MemoryError
        for i in range(n):
            if not (-1 <= change[i, 1] <= INT32_MAX and -1 <= change[i, 2] <= INT32_MAX):
                raise ConfigError([f"change {i}: found link {change[i, 1]} and kind {change[i, 2]}, allowed: 31 bits"])
            self.items[i] = c.fab_change_t(change[i, 0], <int32_t>change[i, 1], <int32_t>change[i, 2], change[i, 3])
        if circuit.shape[0]:
            memcpy(self.rows, &circuit[0, 0], circuit.shape[0] * sizeof(c.fab_circuit_t))
        self.all.changes = self.items
        self.all.change_count = n
        self.all.circuits = self.rows
        self.all.circuit_count = circuit.shape[0]
        self.all.heal_ps = index(heal_ps)

    def __dealloc__(self):
        free(self.items)
        free(self.rows)
