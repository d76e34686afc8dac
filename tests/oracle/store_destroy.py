"""Files that go: what their metadata server asks of those that have their objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .store_locks import EOF, PW, Lock

if TYPE_CHECKING:
    from .store_calls import Rpc
    from .store_meta import Meta
    from .store_server import Object, Server


@dataclass(eq=False)
class Destroy:
    """A content that is to be empty."""

    content: int
    rpc: Rpc | None  # answered when it is
    left: int = 0  # servers
    waiting: list[tuple[Callable[[Rpc], None], Rpc]] = field(default_factory=list)


@dataclass(eq=False)
class Order:
    """What one server is to do."""

    destroy: Destroy
    by: Destroys
    left: int = 0  # objects whose locks others have
    granted: list[Lock] = field(default_factory=list)


class Destroys:
    """Those that a metadata server has begun, the last one first."""

    def __init__(self, meta: Meta) -> None:
        self.meta, self.store = meta, meta.store
        self.all: list[Destroy] = []

    def begin(self, content: int, rpc: Rpc | None = None) -> bool:
        targets, here = self.store.files[content].targets, self.meta.server
        if not targets:
            return False
        destroy = Destroy(content, rpc)
        self.all.insert(0, destroy)
        servers = dict.fromkeys(self.store.owner(target, here.host) for target in targets)
        destroy.left = len(servers)
        for server in servers:
            self.post(here, server, server.emptier.arrive, Order(destroy, self))
        return True

    def waits(self, content: int, again: Callable[[Rpc], None], rpc: Rpc) -> bool:
        for destroy in self.all:
            if destroy.content == content:
                destroy.waiting.append((again, rpc))
                return True
        return False

    def done(self, order: Order) -> None:
        destroy = order.destroy
        destroy.left -= 1
        if destroy.left:
            return
        self.all.remove(destroy)
        if destroy.rpc:
            self.meta.answer(destroy.rpc)
        for again, rpc in destroy.waiting:
            self.meta.server.timer(0, again, rpc)

    def post(self, src: Server, dst: Server, action: Callable[[Any], None], order: Order) -> None:
        self.store.post(src.host, dst.host, self.store.param["request_bytes"], action, order)


class Emptier:
    """What a server does with the objects of files that go."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.now_asking = False  # callbacks say that what is dirty may be dropped

    def arrive(self, order: Order) -> None:
        self.server.timer(self.server.param["lock_cpu_ps"], self.begin, order)

    def begin(self, order: Order) -> None:
        content = order.destroy.content
        for number, target in enumerate(self.server.store.files[content].targets):
            if target not in self.server.targets:
                continue
            here = self.server.object_at(target, content, number)
            if not here.locks.granted and not here.locks.waiting:
                self.empty(here)
                continue
            order.left += 1
            self.now_asking = True
            here.locks.ask(Lock(PW, -1, (0, EOF), order, (target, content, number)))
            self.now_asking = False
        if not order.left:
            self.tell(order)

    def empty(self, here: Object) -> None:
        here.size = 0
        here.generation += 1

    def granted(self, lock: Lock) -> None:
        order = lock.rpc
        order.granted.insert(0, lock)
        if len(order.granted) == 1:
            self.server.timer(0, self.take, order)

    def take(self, order: Order) -> None:
        while order.granted:
            lock = order.granted.pop(0)
            here = self.server.objects[lock.key]
            self.empty(here)
            order.left -= 1
            here.locks.give_back(lock)
        if not order.left:
            self.tell(order)

    def tell(self, order: Order) -> None:
        order.by.post(self.server, order.by.meta.server, order.by.done, order)
