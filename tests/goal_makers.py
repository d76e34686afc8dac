"""Binary GOAL schedules made by the tests, byte for byte what LogGOPSim's txt2bin writes."""

from __future__ import annotations

import struct

from fabricsim.convert.goal import CALC, Schedule


def binary(schedule: Schedule) -> bytes:
    """A schedule that has been parsed, and not been matched, in the binary format."""
    n = schedule.n_ranks
    ops: list[list[int]] = [[] for _ in range(n)]
    for op, rank in enumerate(schedule.rank):
        ops[rank].append(op)
    body, spans = b"", []
    begin = 6 + 16 * n
    for own in ops:
        number = {op: i for i, op in enumerate(own)}
        after: dict[int, list[int]] = {op: [] for op in own}
        starts: dict[int, list[int]] = {op: [] for op in own}
        waits = dict.fromkeys(own, 0)
        for op in own:
            for b in schedule.after[op]:
                after[b].append(number[op])
            for b in schedule.starts.get(op, ()):
                starts[b].append(number[op])
            waits[op] = len(schedule.after[op]) + len(schedule.starts.get(op, ()))
        roots = [number[op] for op in own if not waits[op]]
        data = struct.pack(f"<II{len(roots)}I", len(own), len(roots), *roots)
        listed: list[int] = []
        for op in own:
            message = schedule.kind[op] != CALC
            peer, tag = (schedule.peer[op], schedule.tag[op]) if message else (0, 0)
            first = len(listed)
            second = first + len(after[op])
            listed += after[op] + starts[op]
            counts = (len(after[op]), first, len(starts[op]), second)
            fields = (waits[op], schedule.kind[op], peer, schedule.size[op], tag, schedule.cpu[op], 0)
            data += struct.pack("<IBIQIBBIIII", *fields, *counts)
        data += struct.pack(f"<{len(listed)}I", *listed)
        spans += [begin + len(body), begin + len(body) + len(data)]
        body += data
    return (
        struct.pack("<QIBB", 4223, n, max(schedule.cpu, default=0), 0)
        + struct.pack(f"<{2 * n}Q", *spans)
        + body
    )
