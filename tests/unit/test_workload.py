"""The workloads made here."""

import pytest

from fabricsim.errors import ConfigError
from fabricsim.trace import read_trace, write_trace
from fabricsim.workload import collective, file_io, flows, incast, permutation
from fabricsim.workload.demo import demo_path, demo_trace
from fabricsim.workload.selftest import SELF_TEST_DIGEST, self_test


def test_the_shipped_demo_is_what_the_generator_makes(tmp_path):
    made = demo_trace()
    write_trace(made, tmp_path / "demo.arrow", provenance=made.provenance)
    assert (tmp_path / "demo.arrow").read_bytes() == demo_path().read_bytes()


def test_the_demo_is_a_training_step_of_64_ranks():
    trace = read_trace(demo_path())
    assert trace.n_ranks == 64
    assert set(trace.kinds) == {"compute", "all_reduce", "reduce_scatter", "all_gather"}
    # Data packets of 4096 bytes on rings over at least two links each: the size of the replay.
    rows = trace.table.select(["kind", "bytes", "ranks"]).to_pylist()
    share = {"all_reduce": 14, "reduce_scatter": 7, "all_gather": 7, "compute": 0}
    packets = sum(share[row["kind"]] * (row["bytes"] or 0) // 4096 for row in rows)
    assert 3_000_000 < packets < 6_000_000


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "all_to_all", "broadcast", "reduce", "barrier"])
def test_a_collective_is_a_row_an_iteration(kind):
    trace = collective(kind, size_bytes=4096, n_ranks=8, iterations=2)
    assert trace.n_ranks == 8 and trace.kinds == {kind: 2}


def test_the_core_does_here_what_it_did_where_it_was_recorded():
    pytest.importorskip(
        "fabricsim._core.engine", reason="the compiled core is not built", exc_type=ImportError
    )
    found = self_test()
    assert len(set(found.values())) == 1, found
    assert found["plain"] == SELF_TEST_DIGEST


def test_patterns_of_flows():
    assert flows([(0, 1, 10, 7)]).table["delay_ps"].to_pylist() == [7, None]
    table = permutation(n_ranks=64, size_bytes=1, seed=3).table
    pairs = list(zip(table["ranks"].to_pylist()[::2], table["peer"].to_pylist()[::2], strict=True))
    assert all(source != target for source, target in pairs)
    assert sorted(target for _, target in pairs) == [[rank] for rank in range(64)]
    assert permutation(n_ranks=64, size_bytes=1, seed=3).table.equals(table)
    assert incast(n_senders=32, size_bytes=1).kinds == {"send": 32, "recv": 32}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: collective("all_gatter", size_bytes=-1, n_ranks=0, iterations=0),
            "did you mean 'all_gather'",
        ),
        (
            lambda: collective("all_gather", size_bytes=-1, n_ranks=0, iterations=0),
            "size_bytes.*n_ranks.*iter",
        ),
        (lambda: collective("broadcast", size_bytes=1, n_ranks=4, root=4), "root: found 4, allowed: 0 to 3"),
        (
            lambda: file_io("append", n_ranks=1, size_bytes=0, transfer_bytes=0),
            "append.*size_bytes.*transfer",
        ),
        (lambda: permutation(n_ranks=1, size_bytes=1), "n_ranks: found 1, allowed: at least 2"),
        (lambda: incast(n_senders=0, size_bytes=-1), "n_senders: found 0.*size_bytes: found -1"),
    ],
)
def test_what_cannot_be_made_is_said_all_at_once(make, words) -> None:
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        make()
