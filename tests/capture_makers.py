"""Small captures made by the tests: Chakra messages, PyTorch execution traces, Kineto events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def blob(field: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def attribute(name: str, value: Any) -> bytes:
    if isinstance(value, bool):
        return blob(1, name) + number(27, value)
    if isinstance(value, str):
        return blob(1, name) + blob(29, value)
    return blob(1, name) + number(9, value)


def node(
    id: int,
    type: int,
    *,
    name: str = "n",
    data: list[int] | None = None,
    ctrl: list[int] | None = None,
    start: int = 0,
    us: int = 0,
    inputs: str | None = None,
    **attrs: Any,
) -> bytes:
    out = number(1, id) + blob(2, name) + number(3, type)
    if ctrl:
        out += blob(4, b"".join(map(varint, ctrl)))
    if data:
        out += blob(5, b"".join(map(varint, data)))
    out += number(6, start) + number(7, us)
    if inputs is not None:
        out += blob(8, blob(1, inputs))
    return out + b"".join(blob(10, attribute(k, v)) for k, v in attrs.items())


def et(*nodes: bytes) -> bytes:
    messages = [blob(1, "0.0.4"), *nodes]
    return b"".join(varint(len(m)) + m for m in messages)


def write_et(folder: Path, ranks: dict[int, list[bytes]], prefix: str = "job") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for rank, nodes in ranks.items():
        (folder / f"{prefix}.{rank}.et").write_bytes(et(*nodes))
    return folder


def record(
    id: int,
    name: str,
    elements: int,
    *,
    rank: int,
    out: int | None = None,
    sends=(),
    receives=(),
    pg: Any = 77,
) -> dict[str, Any]:
    """A record_param_comms of schema 1.0.1 with float tensors."""
    tensor = [id, id, 0, elements, 4, "cuda:0"]
    given = [[tensor], id, pg, rank, name, list(sends), list(receives)]
    if name == "wait":
        given = [id, 0, rank, "wait", [], []]
    made = [] if out is None else [[id + 1, id + 1, 0, out, 4, "cuda:0"]]
    return {"name": "record_param_comms", "id": id, "rf_id": id, "inputs": given, "outputs": made}


def write_pytorch_et(folder: Path, ranks: dict[int, list[dict[str, Any]]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for rank, nodes in ranks.items():
        (folder / f"et_{rank}.json").write_text(json.dumps({"schema": "1.0.1", "nodes": nodes}))
    return folder


class Profile:
    """A Kineto trace of one rank, event by event; times in microseconds."""

    def __init__(self, rank: int, world: int) -> None:
        self.events: list[dict[str, Any]] = []
        self.info = {"backend": "nccl", "rank": rank, "world_size": world}
        self.correlation = 0

    def add(self, cat: str, name: str, ts: float, dur: float, tid: Any, **args: Any) -> None:
        event = {
            "ph": "X",
            "cat": cat,
            "name": name,
            "ts": ts,
            "dur": dur,
            "pid": 1,
            "tid": tid,
            "args": args,
        }
        self.events.append(event)

    def kernel(
        self,
        launch: float,
        start: float,
        dur: float,
        *,
        stream: int = 7,
        name: str = "gemm",
        thread: int = 1,
        **args,
    ) -> None:
        self.correlation += 1
        self.add("cuda_runtime", "cudaLaunchKernel", launch, 2, thread, correlation=self.correlation)
        self.add("kernel", name, start, dur, stream, stream=stream, correlation=self.correlation, **args)

    def collective(
        self,
        launch: float,
        start: float,
        dur: float,
        *,
        name: str = "AllReduce",
        thread: int = 1,
        **args: Any,
    ) -> None:
        self.add("cpu_op", "record_param_comms", launch - 3, 8, thread)
        self.add("cuda_runtime", "cudaStreamWaitEvent", launch - 2, 1, thread, correlation=0)
        self.kernel(launch, start, dur, stream=20, name=f"ncclKernel_{name}_RING_LL", thread=thread, **args)

    def wait(self, at: float, thread: int = 1) -> None:
        self.add("cuda_runtime", "cudaStreamWaitEvent", at, 1, thread, correlation=0)

    def sync(self, at: float, dur: float, name: str = "cudaStreamSynchronize", thread: int = 1) -> None:
        self.add("cuda_runtime", name, at, dur, thread, correlation=0)

    def document(self) -> dict[str, Any]:
        return {"schemaVersion": 1, "distributedInfo": self.info, "traceEvents": self.events}

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"worker{self.info['rank']}.pt.trace.json"
        path.write_text(json.dumps(self.document()))
        return path


NCCL = {"Collective name": "allreduce", "In msg nelems": 256, "Out msg nelems": 256, "dtype": "Float"}


def replay(trace: Any) -> dict[int, tuple[int, int]]:
    """Start and end of every row, in ps, when collectives take the time that was measured."""
    ends: dict[int, dict[int, int]] = {}
    lanes: dict[tuple[int, int], int] = {}
    out = {}
    for row in trace.table.to_pylist():
        took = row["duration_ps"] if row["kind"] == "compute" else row["end_ps"] - row["start_ps"]
        ready = 0
        for rank in row["ranks"]:
            known = [ends[a][rank] for a in row["after"] or () if rank in ends[a]]
            if row["stream"] is not None:
                known.append(lanes.get((rank, row["stream"]), 0))
            ready = max(ready, max(known, default=0) + (row["delay_ps"] or 0))
        out[row["id"]] = (ready, ready + took)
        ends[row["id"]] = dict.fromkeys(row["ranks"], ready + took)
        for rank in row["ranks"]:
            if row["stream"] is not None:
                lanes[rank, row["stream"]] = ready + took
    return out
