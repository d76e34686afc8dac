"""Metadata servers: threads, directories that one change holds at a time, names and what they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .store_destroy import Destroys
from .store_server import Service

if TYPE_CHECKING:
    from .storage import File, Rpc, Store
    from .store_server import Server

CREATE, EXCL, TRUNC = 1, 2, 4


class Meta:
    """What a server does with names."""

    def __init__(self, store: Store, server: Server) -> None:
        self.store, self.server, self.param = store, server, store.param
        self.service = Service(self.param["meta_threads_count"], self.begin)
        self.held_until: dict[int, int] = {}  # by directory: in the order that threads come to it
        self.made = 0
        self.destroys = Destroys(self)
        self.leaving: set[int] = set()  # names that are under way to another server
        self.own: dict[int, File] = {}  # names of a node of a local store

    def name(self, number: int) -> File:
        if not self.store.local:
            return self.store.files[number]
        if number not in self.own:
            self.own[number] = replace(self.store.files[number])
        return self.own[number]

    def arrive(self, rpc: Rpc) -> None:
        if rpc.stage == "over there":
            held = min(self.param["rename_ps"], self.param["directory_ps"])
            until = self.hold([rpc.object], held)
            self.server.timer(until - self.server.now, self.rename_there, rpc)
        elif rpc.stage == "back":
            self.leaving.remove(rpc.file)
            old = self.store.files[rpc.file]
            old.content, old.exists = rpc.content, False
            self.server.changed(rpc)
            self.destroys.begin(self.store.files[rpc.file].content)
            self.answer(rpc)
        else:
            self.service.arrive(rpc)

    # ---- threads

    def begin(self, rpc: Rpc) -> None:
        rpc.began_ps = self.server.now
        kind = rpc.kind
        if kind == "open" and rpc.flags & CREATE and not self.name(rpc.file).exists:
            kind = "create"
        time = self.param[("unlink" if kind == "rmdir" else kind) + "_ps"]
        if kind in ("create", "mkdir", "unlink", "rmdir", "rename"):
            held = min(time, self.param["directory_ps"])
            self.server.timer(time - held, self.hold_and_work, rpc, held)
        else:
            self.server.timer(time, self.work, rpc)

    def hold(self, names: list[int], held: int) -> int:
        """Wait for the directories of names, and hold them all at once; return until when."""
        directories = {self.store.files[name].directory for name in names}
        until = max([self.server.now, *(self.held_until.get(d, 0) for d in directories)]) + held
        self.held_until |= dict.fromkeys(directories, until)
        return until

    def hold_and_work(self, rpc: Rpc, held: int) -> None:
        names = [rpc.file]
        if rpc.kind == "rename" and self.store.meta_of(rpc.object) == self.server.number:
            names.append(rpc.object)
        self.server.timer(self.hold(names, held) - self.server.now, self.work, rpc)

    def answer(self, rpc: Rpc) -> None:
        self.service.release()
        self.server.reply(rpc)

    # ---- names

    def work(self, rpc: Rpc) -> None:
        kind, name = rpc.kind, self.name(rpc.file)
        there = name.exists
        if kind == "open":
            if self.open(rpc, there):
                return
        elif kind == "stat":
            rpc.refused = not there
            if there:
                self.tell(rpc)
        elif kind in ("mkdir", "unlink", "rmdir"):
            wanted = kind == "mkdir"
            rpc.refused = there == wanted
            if not rpc.refused:
                name.exists = wanted
                self.server.changed(rpc)
                if kind == "unlink":
                    self.destroys.begin(name.content)
        elif kind == "rename":
            there = there and rpc.file not in self.leaving
            rpc.refused = not there
            if there and self.store.meta_of(rpc.object) != self.server.number:
                rpc.content = name.content
                self.leaving.add(rpc.file)
                self.pass_on(rpc, self.store.meta_of(rpc.object), "over there")
                return
            if there:
                self.server.changed(rpc)
                if rpc.object != rpc.file:
                    new = self.name(rpc.object)
                    name.content, new.content = new.content, name.content
                    name.exists, new.exists = False, True
                    self.destroys.begin(name.content)
        self.answer(rpc)

    def open(self, rpc: Rpc, there: bool) -> bool:
        """Return whether the answer is to come later."""
        creates, name = rpc.flags & CREATE, self.name(rpc.file)
        changes = rpc.flags & (CREATE | TRUNC)
        if changes and self.destroys.waits(name.content, self.work, rpc):
            return True
        if there:
            rpc.refused = bool(creates and rpc.flags & EXCL)
        else:
            rpc.refused = not creates
        if rpc.refused:
            return False
        if not there or rpc.flags & TRUNC:
            self.server.changed(rpc)
        if not there:
            name.exists = True
            self.store.place(self, name.content)
        self.tell(rpc)
        return there and bool(rpc.flags & TRUNC) and self.destroys.begin(rpc.object, rpc)

    def tell(self, rpc: Rpc) -> None:
        """Tell what a name stands for; what was made as a directory has no objects."""
        rpc.object = self.name(rpc.file).content
        rpc.end = bool(self.store.files[rpc.object].targets)

    # ---- renames from one server to another

    def pass_on(self, rpc: Rpc, to: int, stage: str) -> None:
        rpc.stage, rpc.server = stage, to
        host = self.store.servers[to].host
        self.store.post(
            self.server.host, host, self.param["request_bytes"], self.store.servers[to].request, rpc
        )

    def rename_there(self, rpc: Rpc) -> None:
        new = self.store.files[rpc.object]
        if self.destroys.waits(new.content, self.rename_there, rpc):
            return
        new.content, rpc.content, new.exists = rpc.content, new.content, True
        self.pass_on(rpc, self.store.meta_of(rpc.file), "back")
