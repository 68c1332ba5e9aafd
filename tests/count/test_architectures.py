"""Well-known networks against published parameters, multiply-accumulates and receptive fields."""

from __future__ import annotations

import json
from pathlib import Path
from time import process_time

import pytest

import polyconv as pc
from polyconv.architectures import ARCHITECTURES, context_module, inception, resnet50, unet

DATA = json.loads((Path(__file__).parents[1] / "data" / "networks.json").read_text())


@pytest.mark.parametrize("row", DATA["networks"], ids=lambda row: row["name"])
def test_parameters_and_macs(row: dict[str, object]) -> None:
    known = ARCHITECTURES[str(row["name"])]
    report = known().count(known.in_shape)
    assert report.params == row["params"]
    assert row["macs"] is None or report.macs == row["macs"]
    assert known.source


@pytest.mark.parametrize("row", DATA["weights"], ids=lambda row: row["name"])
def test_weights_without_biases(row: dict[str, object]) -> None:
    known = ARCHITECTURES[str(row["name"])]
    report = known().count(known.in_shape)
    biases = sum(shape[0] for name, shape in known().parameters(known.in_shape[1]).items() if name.endswith("bias"))
    assert report.params - biases == row["weights"]
    assert round(report.macs / 1e6, 2) == row["mega_macs"]
    assert f"({row['weights']:,} without them)" in " ".join(report.notes)


def test_mobilenet_by_kind() -> None:
    rows = ARCHITECTURES["mobilenet_v1"]().count((1, 3, 224, 224)).rows
    kinds = {"stem": rows[:1], "classifier": rows[-1:]}
    kinds |= {kind: [row for row in rows[1:-1] if row.text.startswith(kind)] for kind in ("depthwise", "pointwise")}
    assert {kind: sum(row.macs for row in found) for kind, found in kinds.items()} == DATA["mobilenet_v1"]


@pytest.mark.parametrize("name", ["resnet50", "resnet50_v1", "vgg16"])
def test_receptive_field_of_the_trunk(name: str) -> None:
    stages = ARCHITECTURES[name]().stages
    field = pc.receptive_field(pc.Network(stages[: -2 if name != "vgg16" else -3]))
    expected = DATA["fields"][name]
    assert field.size == (expected["size"],) * 2
    assert field.stride == (expected["stride"],) * 2
    assert field.padding == (expected["padding"],) * 2


def test_every_architecture_is_text_and_runs_through() -> None:
    for name, known in ARCHITECTURES.items():
        net = known()
        assert pc.network(str(net)) == net, name
        report = net.count(known.in_shape)
        assert report.receptive_field.aligned, name
        assert report.macs_on_data <= report.macs


def test_context_module_has_64_c_squared_weights() -> None:
    for channels in (3, 21):
        report = context_module(channels).count((1, channels, 70, 71))
        assert report.params - 8 * channels == 64 * channels**2
        assert report.out_shape == (1, channels, 70, 71)
        assert report.receptive_field.size == (67, 67)


def test_unet_by_hand() -> None:
    widths, classes = (4, 8, 16), 3
    down = 9 * (4 + 4 * 4 + 4 * 8 + 8 * 8 + 8 * 16 + 16 * 16)
    up = 4 * (16 * 8 + 8 * 4) + 9 * (16 * 8 + 8 * 8 + 8 * 4 + 4 * 4)
    biases = 2 * (4 + 8 + 16) + (8 + 4) + 2 * (8 + 4) + classes
    report = unet(widths, classes).count((1, 1, 32, 48))
    assert report.params == down + up + 4 * classes + biases
    assert report.out_shape == (1, classes, 32, 48)
    assert ARCHITECTURES["unet"]().count((1, 1, 512, 512)).params == 31_030_658


def test_an_inception_module_joins_four_branches() -> None:
    assert inception(1, 2, 3, 4, 5, 6).out_shape((1, 7, 9, 11)) == (1, 15, 9, 11)


def test_resnet50_says_which_of_three_it_is() -> None:
    (note,) = (note for note in resnet50("v1").count((1, 3, 224, 224)).notes if "ResNet-50" in note)
    for row in DATA["networks"]:
        if str(row["name"]).startswith("resnet50"):
            assert f"{row['macs']:,}" in note
    assert "3,857,973,248 with the stride in the first 1x1 of a block, as published (this one)" in note
    assert note.count("(this one)") == 1
    with pytest.raises(ValueError, match="variant must be one of v1, torchvision, tf_slim; got 'v2'"):
        resnet50("v2")  # type: ignore[arg-type]


def test_counting_resnet50_is_quick() -> None:
    net = resnet50()
    net.count((1, 3, 224, 224))
    times = []
    for size in range(225, 239, 2):  # sizes not seen before
        start = process_time()  # not the time that others take of this machine
        net.count((1, 3, size, size))
        times.append(process_time() - start)
    assert min(times) < 0.05, f"{min(times) * 1e3:.0f} ms"
