"""SimAI and ASTRA-sim 1.0 workload text: parallelisms, groups, the order of a step, bad files."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import pytest

from fabricsim.convert import ConvertReport, convert, detect
from fabricsim.errors import ConfigError, InputError

HEAD = "HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 2 ep: 2 pp: 1 vpp: 1 ga: 1 all_gpus: 8"


def layer(
    name: str = "a", fwd: str = "5 NONE 0", ig: str = "3 NONE 0", wg: str = "2 NONE 0", update: int = 0
) -> str:
    return f"{name}\t-1\t{fwd}\t{ig}\t{wg}\t{update}"


def imported(tmp_path: Path, head: str, *layers: str, **options: Any) -> ConvertReport:
    path = tmp_path / "work.txt"
    path.write_text("\n".join([head, str(len(layers)), *layers, ""]))
    assert detect(path).name == "simai"
    return convert(path, **options)


def short(report: ConvertReport) -> list[Any]:
    """Rows as (name, kind, duration in ns or bytes, stream, after)."""
    return [
        (
            r["name"],
            r["kind"],
            r["bytes"] if r.get("duration_ps") is None else r["duration_ps"] // 1000,
            r["stream"],
            r["after"] or [],
        )
        for r in report.trace.table.to_pylist()
    ]


def test_groups_are_numbered_tp_ep_dp(tmp_path: Path) -> None:
    report = imported(
        tmp_path,
        HEAD,
        layer("a", "0 ALLREDUCE 64", "0 ALLTOALL_EP 32", "0 ALLREDUCE_DP_EP 16"),
        layer("b", "0 ALLGATHER_EP 8", "0 BROADCAST 4", "0 REDUCESCATTER 64"),
    )
    rows = {r["name"]: r for r in report.trace.table.to_pylist()}
    grouped = {n: (r["kind"], r["bytes"], r["ranks"], r["group_size"]) for n, r in rows.items()}
    expert = [0, 2, 1, 3, 4, 6, 5, 7]
    assert grouped == {
        "a forward": ("all_reduce", 64, list(range(8)), 2),
        "b forward": ("all_gather", 8, expert, 2),
        "b input grad": ("broadcast", 4, list(range(8)), 2),
        "b weight grad": ("reduce_scatter", 64, [0, 2, 4, 6, 1, 3, 5, 7], 4),
        "a input grad": ("all_to_all", 32, expert, 2),
        "a weight grad": ("all_reduce", 16, [0, 4, 1, 5, 2, 6, 3, 7], 2),
    }
    assert rows["b input grad"]["peer"] == [0, 2, 4, 6]
    assert report.counts["dp"] == 4 and report.trace.provenance["vpp"] == 1


def test_a_transformer_waits_for_input_gradients_but_not_for_weight_gradients(tmp_path: Path) -> None:
    head = "HYBRID_TRANSFORMER model_parallel_NPU_group: 2"
    layers = (layer("a", wg="2 ALLREDUCE 8", update=9), layer("b", ig="3 ALLREDUCE 4"))
    assert short(imported(tmp_path, head, *layers, ranks=4, passes=2))[:9] == [
        ("a forward", "compute", 5, 0, []),
        ("b forward", "compute", 5, 0, []),
        ("b input grad", "compute", 3, 0, []),
        ("b input grad", "all_reduce", 4, 0, []),
        ("b weight grad", "compute", 2, 0, []),
        ("a input grad", "compute", 3, 0, []),
        ("a weight grad", "compute", 2, 0, []),
        ("a weight grad", "all_reduce", 8, 1, [6]),
        ("a update", "compute", 9, None, [7]),
    ]
    second = imported(tmp_path, head, *layers, ranks=4, passes=2).trace.table.to_pylist()[9]
    assert (second["name"], second["after"], second["step"]) == ("a forward", [8], 1)


def test_inference_is_the_forward_phase_alone(tmp_path: Path) -> None:
    layers = (layer("a", "5 ALLTOALL_EP 64"), layer("b", ig="3 ALLREDUCE 4"))
    assert [r[:2] for r in short(imported(tmp_path, HEAD + " mode: 1", *layers))] == [
        ("a forward", "compute"),
        ("a forward", "all_to_all"),
        ("b forward", "compute"),
    ]
    assert len(short(imported(tmp_path, HEAD + " mode: 0", *layers))) == 8


def test_activations_between_checkpoints_are_made_anew(tmp_path: Path) -> None:
    head = HEAD + " checkpoints: 2 0 2 checkpoint_initiates: 1 2"
    names = [r[0] for r in short(imported(tmp_path, head, layer("a"), layer("b"), layer("c"), layer("d")))]
    assert names[4:8] == ["d input grad", "d weight grad", "c input grad", "c weight grad"]
    head = HEAD + " checkpoints: 1 0 checkpoint_initiates: 1 2"
    names = [r[0] for r in short(imported(tmp_path, head, layer("a"), layer("b"), layer("c"), layer("d")))]
    assert names[6:10] == ["a forward", "b forward", "c input grad", "c weight grad"]


def test_orders_of_other_parallelisms(tmp_path: Path) -> None:
    layers = (layer("a", "1 ALLREDUCE 8", "2 ALLREDUCE 8", "3 ALLREDUCE 8"), layer("b", "1 NONE 0"))
    layers = (*layers, layer("c", "1 ALLTOALL 8", "2 ALLREDUCE 8", "3 NONE 0"))
    data = imported(tmp_path, "DATA", *layers, ranks=4)
    assert [r[0] for r in short(data)] == [
        *("a forward", "b forward", "c forward", "c weight grad", "c input grad"),
        *("b weight grad", "b input grad", "a weight grad", "a weight grad"),
    ]
    assert data.warnings == ["collectives in a phase in which DATA does none, left out: 4"]
    model = short(imported(tmp_path, "MODEL", *layers, ranks=4))
    at = next(i for i, r in enumerate(model) if r[:2] == ("c input grad", "all_reduce"))
    # It runs beside the weight gradients, and the next layer waits for it; of layer 0 there is none.
    assert model[at][3:] == (2, [at - 1]) and model[at + 1][:2] == ("c weight grad", "compute")
    assert model[at + 2] == ("b input grad", "compute", 3, 0, [at])
    assert ("a input grad", "all_reduce") not in {r[:2] for r in model}
    assert [r[0] for r in short(imported(tmp_path, "DISTRIBUTED_INFERENCE", *layers, ranks=4))] == [
        *("a forward", "a forward", "b forward", "c forward", "c forward")
    ]
    micro = imported(tmp_path, "MICRO", layers[0], layers[0], ranks=4)
    assert short(micro) == [("a weight grad", "all_reduce", 8, 0, [])] * 2


def test_hybrids_of_data_and_model(tmp_path: Path) -> None:
    layers = (layer("a", "1 ALLREDUCE 8", wg="1 ALLREDUCE 8"),)
    near, far = [0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5]
    for head, sets in (("HYBRID_DATA_MODEL", (near, 3, far, 2)), ("HYBRID_MODEL_DATA", (far, 2, near, 3))):
        model, data = sets[:2], sets[2:]
        tp = model[1]
        rows = imported(tmp_path, head, *layers, ranks=6, tp=tp).trace.table.to_pylist()
        ranks = {r["name"]: (r["ranks"], r["group_size"]) for r in rows if r["kind"] == "all_reduce"}
        assert ranks == {"a forward": model, "a weight grad": data}
    custom = [layers[0] + "\tMODEL", layers[0] + "\tHYBRID_DATA_MODEL"]
    rows = imported(tmp_path, "HYBRID_CUSTOMIZED", *custom, ranks=6, tp=3).trace.table.to_pylist()
    assert [r["group_size"] for r in rows if r["kind"] == "all_reduce"] == [None, 3, 2]


def test_dlrm_overlaps_its_all_to_all_with_the_bottom_layers(tmp_path: Path) -> None:
    layers = (
        layer("emb", "1 ALLTOALL 8", "1 ALLTOALL 8", "1 NONE 0"),
        layer("bot", wg="1 ALLREDUCE 8"),
        layer("top"),
    )
    rows = short(imported(tmp_path, "HYBRID_DLRM DLRM_LAST_BOTTOM_LAYER: 1", *layers, ranks=4))
    assert rows == short(imported(tmp_path, "HYBRID_DLRM\t1", *layers, ranks=4))
    assert [r[0] for r in rows] == [
        *("emb forward", "emb forward", "bot forward", "top forward"),
        *("top weight grad", "top input grad", "emb input grad"),
        *("bot weight grad", "bot weight grad", "bot input grad", "emb weight grad"),
    ]
    assert rows[1][3] == 2 and rows[3][4] == [1] and rows[6][4] == [5]


def test_pipeline_stages_hand_over_micro_batches(tmp_path: Path) -> None:
    head = "HYBRID_TRANSFORMER model_parallel_NPU_group: 2 pp: 2 ga: 2 all_gpus: 8 pp_comm: 64.0"
    block = (layer("embedding_layer"), layer("mlp"))
    report = imported(tmp_path, head, layer("grad_norm"), *block, *block, layer("optimizer1"))
    messages = [r for r in report.trace.table.to_pylist() if r["kind"] in ("send", "recv")]
    first, second = [0, 1, 2, 3], [4, 5, 6, 7]
    assert [(r["kind"], r["ranks"], r["peer"], r["bytes"], r["tag"]) for r in messages] == [
        ("recv", second, first, 64, 1),
        ("send", first, second, 64, 1),
        ("recv", second, first, 64, 2),
        ("send", first, second, 64, 2),
        ("recv", first, second, 64, 3),
        ("send", second, first, 64, 3),
        ("recv", first, second, 64, 4),
        ("send", second, first, 64, 4),
    ]
    assert report.warnings == ["each of the 2 pipeline stages runs the layers of the file"]
    alone = imported(tmp_path, head.replace(" pp_comm: 64.0", ""), *block)
    assert alone.trace.kinds == {"compute": 6} and "no pp_comm" in alone.warnings[0]


def test_sizes_groups_of_one_and_zero(tmp_path: Path) -> None:
    gather = layer("a", "1 ALLGATHER 8", wg="1 ALLREDUCE 0")
    one = imported(tmp_path, "HYBRID_TRANSFORMER model_parallel_NPU_group: 1", gather, ranks=4)
    assert one.trace.kinds == {"compute": 3} and len(one.warnings) == 2
    head = "HYBRID_TRANSFORMER model_parallel_NPU_group: 1"
    zero = imported(tmp_path, head, gather, ranks=4, forward_groups="dp", all_gather_bytes="input")
    assert ("a forward", "all_gather", 32, 0, []) in short(zero)
    assert (
        imported(tmp_path, "HYBRID_TRANSFORMER model_parallel_NPU_group: 0", gather, ranks=4).counts["tp"]
        == 4
    )


def test_a_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "work.txt.gz"
    path.write_bytes(gzip.compress(f"{HEAD}\n1\n{layer()}\n".encode()))
    assert detect(path).name == "simai" and convert(path).trace.n_rows == 3


def test_all_that_is_wrong_comes_at_once_with_line_and_key(tmp_path: Path) -> None:
    rows = (layer("a", "x ALLREDUCE 8"), layer("b", "1 ALREDUCE 8"), "c -1 3", layer("d", "1 NONE -4"))
    with pytest.raises(InputError) as caught:
        imported(tmp_path, "HYBRID_TRANSFORMER model_parallel_NPU_grop: 2 pp: 0", *rows)
    place = f"{tmp_path}/work.txt"
    assert [str(p) for p in caught.value.problems] == [
        f"{place}:1: unknown key 'model_parallel_NPU_grop'; did you mean 'model_parallel_NPU_group'?"
        + " (known: DLRM_LAST_BOTTOM_LAYER, all_gpus, checkpoint_initiates, checkpoints, ep,"
        + " expert_parallel_npu_group, ga, mode, model_parallel_NPU_group, pp, pp_comm, vpp)",
        f"{place}:1:pp: found '0', allowed: a whole number from 1 to {1 << 62}",
        f"{place}:3:forward compute: found 'x', allowed: nanoseconds from 0 to {(1 << 62) // 1_024_000}",
        f"{place}:4:forward comm: unknown collective 'ALREDUCE'; did you mean 'ALLREDUCE'?"
        + " (known: ALLGATHER, ALLREDUCE, ALLTOALL, BROADCAST, NONE, REDUCESCATTER)",
        f"{place}:5: found 3 columns, allowed: 12: name, dependency, forward compute, forward comm,"
        + " forward bytes, input grad compute, input grad comm, input grad bytes, weight grad compute,"
        + " weight grad comm, weight grad bytes, update",
        f"{place}:6:forward bytes: found '-4', allowed: a whole number from 0 to {1 << 62}",
    ]


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("MODEL", {}, "1:all_gpus: found none"),
        ("HYBRID_TRANSFORMER", {"ranks": 4}, "1:model_parallel_NPU_group: found none"),
        (HEAD, {"ranks": 6}, "found 6 ranks, allowed: a multiple of tp 2 x ep 2 x pp 1 = 4"),
        ("DATA", {"ranks": 4, "tp": 2}, "DATA has no groups"),
        ("HYBRID_DATA_MODEL", {"ranks": 4, "tp": 2, "ep": 2}, "knows no ep or pp"),
        ("HYBRID_DLRM", {"ranks": 4}, "1:DLRM_LAST_BOTTOM_LAYER: found none, allowed: a layer from 0 to 0"),
        (HEAD + " checkpoints: 1 3", {}, "1:checkpoints: found layer 3, allowed: 0 to 0"),
        (HEAD + " checkpoints: 2 0", {}, "found 1 layers, but it says 2"),
        (HEAD + " checkpoint_initiates: 1 0", {}, "no checkpoint at or before it"),
        (HEAD + " pp: 1", {}, "1:pp: found it again"),
        (HEAD + " vpp", {}, "1:vpp: found no number behind it"),
        (HEAD + " mode: 2", {}, "1:mode: found '2', allowed: a whole number from 0 to 1"),
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, head: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        imported(tmp_path, head, layer(), **options)
    assert message in str(caught.value)


def test_bad_options_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "work.txt"
    path.write_text(f"{HEAD}\n2\n{layer()}\n")
    with pytest.raises(InputError, match="2:layers: found 2, but 1 lines of layers follow"):
        convert(path)
    with pytest.raises(ConfigError) as caught:
        convert(path, all_gather_bytes="all", forward_groups="x")
    assert len(caught.value.problems) == 2
    path.write_text(f"{HEAD}\n1\n{layer(fwd='1 ALLREDUCE_DP_EP 4')}\n".replace(HEAD, "MODEL"))
    with pytest.raises(InputError, match="groups of experts are of"):
        convert(path, ranks=4)


def test_fuzz(tmp_path: Path) -> None:
    rng = random.Random(6)
    good = f"{HEAD} checkpoints: 1 0 checkpoint_initiates: 1 1\n2\n" + "\n".join(
        [layer("a", "1 ALLREDUCE 64", "1 ALLTOALL_EP 8", "2 REDUCESCATTER 64", 7), layer("embedding_layer")]
    )
    words = [*good.split(), "-1", "1e9", "99999999999999999999", "", "MICRO", "pp_comm:", "\x00", "NONE_EP"]
    path = tmp_path / "work.txt"
    ended = 0
    for _ in range(400):
        text = list(good)
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(text))
            choice = rng.random()
            if choice < 0.2:
                text[at] = str(rng.randrange(10))
            elif choice < 0.5:
                text[at : at + rng.randint(0, 6)] = rng.choice(words) + rng.choice(["", " ", "\n"])
            elif choice < 0.7:
                text[at] = chr(rng.randrange(1, 256))
            else:
                del text[at : at + rng.randint(1, 40)]
        path.write_text("".join(text))
        try:
            convert(path, from_format="simai")
            ended += 1
        except InputError as error:
            assert all(str(path) in p.where for p in error.problems)
    assert 10 < ended < 390
