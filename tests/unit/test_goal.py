"""GOAL schedules: statements, what starts when, matching, the binary format, bad files."""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from goal_makers import binary

from fabricsim.convert import ConvertReport, convert, detect
from fabricsim.convert.goal import parse
from fabricsim.errors import ConfigError, InputError

PING = """
num_ranks 2  // two
rank 0 { /* the first
            sends */
s: send 64b to 1 tag 7 cpu 2 nic 1
c: calc 1000 cpu 1
c requires s
}
rank 1 {
r: recv 64b from 0 tag 7
calc 5
}
"""


def imported(tmp_path: Path, text: str, **options: Any) -> ConvertReport:
    path = tmp_path / "a.goal"
    path.write_text(text)
    return convert(path, from_format="goal", **options)


def rank(number: int, *statements: str) -> str:
    return "\n".join([f"rank {number} {{", *statements, "}"])


def goal(*ranks: list[str] | tuple[str, ...]) -> str:
    return "\n".join([f"num_ranks {len(ranks)}", *(rank(i, *s) for i, s in enumerate(ranks))])


def problems(tmp_path: Path, text: str, **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        imported(tmp_path, text, **options)
    return [str(p).replace(f"{tmp_path}/a.goal", "") for p in caught.value.problems]


def by_name(report: ConvertReport) -> dict[str, dict[str, Any]]:
    return {r["name"]: r for r in report.trace.table.to_pylist()}


def waits(report: ConvertReport) -> dict[str, set[str]]:
    rows = report.trace.table.to_pylist()
    names = {r["id"]: r["name"] for r in rows}
    return {r["name"]: {names[a] for a in r["after"] or ()} for r in rows}


def test_statements_become_rows(tmp_path: Path) -> None:
    report = imported(tmp_path, PING)
    assert detect(tmp_path / "a.goal").name == "goal"
    rows = {r["name"] or "calc": r for r in report.trace.table.to_pylist()}
    s, c, r = rows["s"], rows["c"], rows["r"]
    assert (s["kind"], s["ranks"], s["peer"], s["bytes"], s["tag"], s["stream"]) == (
        *("send", [0], [1], 64, 7, None),
    )
    assert (r["kind"], r["ranks"], r["peer"], r["bytes"], r["tag"]) == ("recv", [1], [0], 64, 7)
    assert (c["duration_ps"], c["stream"], c["after"]) == (1_000_000, 1, [s["id"]])
    assert (rows["calc"]["ranks"], rows["calc"]["stream"]) == ([1], 0)
    assert report.counts == {"ranks": 2, "operations": 4, "sends": 1, "recvs": 1, "calcs": 2}
    assert report.warnings == ["messages of a nic above 0, which is not told from the others: 1"]


def test_who_waits_for_a_start_waits_for_what_that_waits_for(tmp_path: Path) -> None:
    own = ["x: calc 4 cpu 1", "a: calc 9", "b: calc 5", "c: calc 2 cpu 2", "d: calc 1 cpu 3", "b requires x"]
    report = imported(tmp_path, goal([*own, "c irequires b", "d irequires c"], ["calc 1"]))
    # b starts when x has ended, and behind a on its cpu: so do c and d, and d so through c.
    assert waits(report)["c"] == waits(report)["d"] == {"x", "a"}
    assert by_name(report)["b"]["stream"] == by_name(report)["a"]["stream"] == 0
    free = imported(tmp_path, goal(["a: calc 9 cpu 1", "b: calc 5", "b irequires a"], ["calc 1"]))
    assert waits(free)["b"] == set()


def test_a_cpu_computes_in_the_order_of_becoming_ready(tmp_path: Path) -> None:
    text = goal(["a: calc 3", "b: calc 2", "c: calc 9 cpu 1", "a requires c", "z: calc 0"], ["calc 1"])
    names = [r["name"] for r in imported(tmp_path, text).trace.table.to_pylist() if r["ranks"] == [0]]
    assert [n for n in names if n != "c"] == ["b", "z", "a"]


def test_many_that_start_with_one_that_waits_for_many(tmp_path: Path) -> None:
    own = [f"x{i}: calc 1 cpu {i}" for i in range(70)] + ["b: calc 5 cpu 99"]
    own += [f"b requires x{i}" for i in range(70)]
    own += [f"y{i}: calc 1 cpu {100 + i}" for i in range(50)] + [f"y{i} irequires b" for i in range(50)]
    report = imported(tmp_path, goal(own, ["calc 1"]))
    rows = report.trace.table.to_pylist()
    assert sum(len(r["after"] or ()) for r in rows) == 70 + 1 + 50
    assert report.warnings == ["computations of 0 ns added where many things start with one: 1"]


def test_messages_without_tags_match_in_the_order_of_posting(tmp_path: Path) -> None:
    first = [
        "a: send 1b to 1",
        "b: send 2b to 1",
        "w: calc 5",
        "c: send 3b to 1",
        "a requires w",
        "c requires a",
    ]
    other = [
        "r1: recv 2b from 0",
        "r2: recv 1b from 0",
        "r3: recv 3b from 0",
        "r2 requires r1",
        "r3 requires r2",
    ]
    report = by_name(imported(tmp_path, goal(first, other)))
    # b waits for nothing, so it is posted before a.
    assert [report[n]["tag"] >> 32 for n in ("b", "a", "c", "r1", "r2", "r3")] == [0, 1, 2, 0, 1, 2]
    text = goal([*first[:3], "a requires w"], ["r1: recv 1b from 0", "r2: recv 2b from 0"])
    assert problems(tmp_path, text) == [
        ":9: found recv r1 of rank 1 from 0, tag 0, 1 bytes, but it matches send b of rank 0 to 1, tag 0,"
        f" 2 bytes ({tmp_path}/a.goal:4)".replace(f"{tmp_path}/a.goal", ""),
        ":10: found recv r2 of rank 1 from 0, tag 0, 2 bytes, but it matches send a of rank 0 to 1, tag 0,"
        " 1 bytes (:3)",
    ]


def test_an_order_that_nothing_decides_is_refused(tmp_path: Path) -> None:
    first = ["x: calc 1 cpu 1", "y: calc 1 cpu 2", "a: send 8b to 1", "b: send 8b to 1"]
    first += ["a requires x", "b requires y"]
    other = ["r: recv 8b from 0", "q: recv 8b from 0", "z: calc 1", "z requires r"]
    text = goal(first, other)
    assert problems(tmp_path, text) == [
        ":5: send a of rank 0 to 1, tag 0, 8 bytes and send b of rank 0 to 1, tag 0, 8 bytes (:6): nothing"
        " tells which is posted first, so which of 2 messages is whose; allowed: different tags, or one that"
        " requires the other"
    ]
    assert imported(tmp_path, text, matching="file").trace.n_rows == 7
    # The same, but for who waits: then it does not matter.
    assert imported(tmp_path, goal(first[:4], other[:2])).trace.n_rows == 6


def test_what_is_left_over_is_named(tmp_path: Path) -> None:
    text = goal(
        ["a: send 8b to 1 tag 3", "send 8b to 1 tag 3"], ["r: recv 8b from 0 tag 3", "recv 1b from 0 tag 4"]
    )
    assert problems(tmp_path, text) == [
        ":4: send of rank 0 to 1, tag 3, 8 bytes: 2 such sends, but 1 receives, so one has no partner",
        ":8: recv of rank 1 from 0, tag 4, 1 bytes: 1 such receives, but 0 sends, so one has no partner",
    ]


def test_receives_from_any_source(tmp_path: Path) -> None:
    sends = (["s: send 8b to 0 tag 1"], ["t: send 8b to 0 tag 2"])
    gathered = [
        "a: recv 8b from -1 tag -1",
        "b: recv 8b from -1 tag -1",
        "c: calc 1",
        "c requires a",
        "c requires b",
    ]
    report = by_name(imported(tmp_path, goal(gathered, *sends)))
    assert [(report[n]["peer"], report[n]["tag"]) for n in "ab"] == [([1], 1), ([2], 2)]
    assert problems(tmp_path, goal(gathered[:4], *sends)) == [
        ":3: recv a of rank 0 from any, tag any, 8 bytes: 2 such receives and messages of 2 ranks, whose"
        " order of arrival decides; allowed: a source in each receive"
    ]
    by_tag = goal(["a: recv 8b from -1 tag 2", "b: recv 8b from -1 tag 1"], *sends)
    assert by_name(imported(tmp_path, by_tag))["a"]["peer"] == [2]
    one = goal(["a: recv 8b from 1 tag -1", "b: recv 8b from 2"], sends[0], ["send 8b to 0"])
    assert by_name(imported(tmp_path, one))["a"]["tag"] == 1
    both = goal(["recv 8b from -1 tag 1", "recv 8b from 1 tag -1"], sends[0], sends[1])
    assert any("ask for the same messages" in p for p in problems(tmp_path, both))
    assert "sends that none else asks for" in problems(tmp_path, goal(gathered, sends[0], ["calc 1"]))[0]
    assert "no receive asks for it" in problems(tmp_path, goal(["recv 8b from -1 tag 1"], *sends))[0]
    taken = goal(
        ["recv 8b from 1 tag 1", "recv 8b from -1 tag 1"], [*sends[0], "send 8b to 0 tag 1"], ["calc 1"]
    )
    assert "may take either" in problems(tmp_path, taken)[0]


def test_circles_are_named_on_a_rank_and_between_ranks(tmp_path: Path) -> None:
    own = ["a: calc 1", "b: calc 1", "a requires b", "b irequires a"]
    assert problems(tmp_path, goal(own, ["calc 1"])) == [
        ":3: found a circle: calc a of rank 0 (:3) waits for calc b of rank 0 (:4) waits for calc a of rank 0"
        " (:3), allowed: none"
    ]
    each = ["s: send 8b to {}", "r: recv 8b from {}", "s requires r"]
    between = goal([s.format(1) for s in each], [s.format(0) for s in each])
    (text,) = problems(tmp_path, between)
    assert text.count("waits for") == 4 and "recv r of rank 1" in text


BAD = """num_ranks 2
rank 0 {
a: sned 8b to 1
a: send 8 to 1
a: send 8b to 5
a: calc 5
b: send 8b to 0 tag 99999999999
c requires q
c: recv 8b from -1 cpu 300
d: send 8b to -1
calc 99999999999999999
}
calc 5
rank 0 {
rank 7 {
"""


def test_all_problems_of_a_file_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, BAD)
    lines = [int(text.split(":")[1]) for text in found]
    assert lines == [3, 4, 6, 7, 8, 8, 9, 10, 11, 13, 14, 15, 15, 15, 5, 7, 10]
    assert "unknown statement 'sned'; did you mean 'send'?" in found[0]
    assert "allowed: [label:] send Nb to R [tag T] [cpu C] [nic K]" in found[1]
    assert problems(tmp_path, "rank 0 {\ncalc 5\n}\n")[0] == ":1: found a rank before num_ranks"
    assert problems(tmp_path, "num_ranks 1 /* \n")[0] == ":1: found a /* that no */ ends"
    assert problems(tmp_path, "num_ranks 1\nrank 0 {\n}\n") == [": found no operation, allowed: at least one"]
    with pytest.raises(ConfigError, match="matching: found 'loose', allowed: strict, file"):
        imported(tmp_path, PING, matching="loose")


def every(n: int, k: int, seed: int) -> str:
    """A schedule of messages and computations with random dependencies, all with tags."""
    rng = random.Random(seed)
    own: list[list[str]] = [[] for _ in range(n)]
    for tag in range(k):
        src, dst = rng.sample(range(n), 2)
        own[src].append(f"m{tag}: send {rng.randrange(1000)}b to {dst} tag {tag} cpu {tag % 3}")
        own[dst].append(f"m{tag}: recv {own[src][-1].split()[2]} from {src} tag {tag}")
        own[src].append(f"c{tag}: calc {rng.randrange(50)} cpu {tag % 2}")
    for statements in own:
        labels = [s.split(":")[0] for s in statements]
        for i in range(1, len(labels)):
            for j in rng.sample(range(i), min(i, 2)):
                statements.append(f"{labels[i]} {rng.choice(['requires', 'irequires'])} {labels[j]}")
    return goal(*own)


@pytest.mark.parametrize("seed", range(5))
def test_binary_and_text_give_the_same_rows(tmp_path: Path, seed: int) -> None:
    text = every(4, 40, seed)
    one = imported(tmp_path, text).trace.table.drop_columns(["name"])
    data = binary(parse(text, "a"))
    for name, written in (("a.bin", data), ("a.bin.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(written)
        assert detect(tmp_path / name).name == "goal"
        assert convert(tmp_path / name).trace.table.drop_columns(["name"]).equals(one)


def test_imported_schedules_replay(tmp_path: Path) -> None:
    import fabricsim

    report = imported(tmp_path, every(4, 40, 9))
    result = fabricsim.replay(report.trace, fabricsim.Cluster.from_toml("leaf-spine-64-400g-roce"))
    assert result.ops.num_rows == report.trace.n_rows


def test_binary_files_that_cannot_be(tmp_path: Path) -> None:
    data = bytearray(binary(parse(PING, "a")))
    path = tmp_path / "a.bin"
    node = 14 + 32 + 8 + 4  # of rank 0: one root

    def told(at: int, new: bytes) -> str:
        changed = bytearray(data)
        changed[at : at + len(new)] = new
        path.write_bytes(changed)
        with pytest.raises(InputError) as caught:
            convert(path, from_format="goal")
        return str(caught.value)

    assert "ranks: found 0" in told(8, struct.pack("<I", 0))
    assert "ends within the table of its 99999 ranks" in told(8, struct.pack("<I", 99999))
    assert "byte 14: rank 0: found 1 to" in told(14, struct.pack("<Q", 1))
    assert "but only" in told(46, struct.pack("<I", 4000))
    assert "says that it waits for 3, but is listed by 0" in told(node, struct.pack("<I", 3))
    assert "type: found 9, allowed: 1, 2 or 3 (send, recv, calc)" in told(node + 4, b"\x09")
    assert "peer: found 2, allowed: 0 to 1" in told(node + 5, struct.pack("<I", 2))
    assert "peer: found 0, allowed: another rank" in told(node + 5, struct.pack("<I", 0))
    assert "allowed: up to" in told(node + 9, struct.pack("<Q", 1 << 63))
    assert "after: found 77 from 0" in told(node + 23, struct.pack("<I", 77))
    assert "the roots are not the nodes that wait for none" in told(node - 4, struct.pack("<I", 1))
    path.write_bytes(data[:12])
    with pytest.raises(InputError, match="ends within its head"):
        convert(path, from_format="goal")


def test_fuzz(tmp_path: Path) -> None:
    rng = random.Random(3)
    text = every(3, 8, 1)
    data = binary(parse(text, "a"))
    words = [*text.split(), "{", "}", "/*", "-1", "irequires", "99999999999999999999", "rank 1 {\n"]
    ended = [0, 0]
    for turn in range(500):
        path = tmp_path / f"{turn % 2}"
        if turn % 2:
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 3)):
                damaged[rng.randrange(8, len(damaged))] = rng.choice((0, 1, 2, 3, rng.randrange(256)))
            path.write_bytes(damaged if rng.random() < 0.8 else damaged[: rng.randrange(8, len(damaged))])
        else:
            at = rng.randrange(len(text))
            if rng.random() < 0.5:
                at = rng.choice([i for i, c in enumerate(text) if c.isdigit()])
                path.write_text(text[:at] + str(rng.randrange(10)) + text[at + 1 :])
            else:
                path.write_text(text[:at] + rng.choice(words) + text[at + rng.randint(0, 5) :])
        try:
            convert(path, from_format="goal")
            ended[turn % 2] += 1
        except InputError as error:
            assert error.problems and all(str(path) in p.where for p in error.problems)
    assert min(ended) > 20


@pytest.mark.parametrize("seed", range(20, 30))
def test_everything_starts_when_the_schedule_says(tmp_path: Path, seed: int) -> None:
    """Start times by `requires` and `irequires` themselves are those by what the rows wait for."""
    text = every(3, 30, seed)
    schedule = parse(text, "a")
    rows = imported(tmp_path, text).trace.table.to_pylist()
    op_of = {(schedule.rank[op], schedule.label[op]): op for op in range(len(schedule))}
    said: dict[int, tuple[int, int]] = {}
    made: dict[int, tuple[int, int]] = {}
    sent: dict[int, tuple[int, int]] = {}
    free: dict[tuple[int, int], tuple[int, int]] = {}
    for row in rows:
        op = op_of[row["ranks"][0], row["name"]]
        wanted = [said[b][1] for b in schedule.after[op]] + [said[b][0] for b in schedule.starts.get(op, ())]
        waits = [made[a][1] for a in row["after"]]
        if row["kind"] == "compute":
            # Both take the order of the cpu from the trace.
            core = (row["ranks"][0], row["stream"])
            wanted.append(free.get(core, (0, 0))[0])
            waits.append(free.get(core, (0, 0))[1])
        first, second = max(wanted, default=0), max(waits, default=0)
        took = row["duration_ps"] or 0
        ends = (first + took, second + took)
        if row["kind"] == "compute":
            free[core] = ends
        elif row["kind"] == "send":
            sent[row["tag"]] = ends
        else:
            ends = (max(first, sent[row["tag"]][0]), max(second, sent[row["tag"]][1]))
        said[op], made[row["id"]] = (first, ends[0]), (second, ends[1])
        assert first == second, (row, text)
    assert len(said) == len(schedule)
