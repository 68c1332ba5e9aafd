"""Counts against the multiplications that loops really do, and the traps in which known counters fall."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given

import oracle
import polyconv as pc
import strategies
from polyconv.geometry import Axis


def spatial(case: strategies.Case) -> tuple[int, ...]:
    return case.x.shape[2:] if case.options["layout"] == "channels_first" else case.x.shape[1:-1]


def counted(layer: pc.Layer, case: strategies.Case) -> Any:
    channels = case.x.shape[1 if case.options["layout"] == "channels_first" else -1]
    return pc.Network((layer,)).count((case.x.shape[0], channels, *spatial(case)))


def answer_of(operator: Any, case: strategies.Case) -> oracle.Answer:
    try:
        return operator(*case.arrays, **case.options)
    except oracle.NoOutputError:
        assume(False)
        raise


@given(strategies.convs())
def test_conv_counts_what_the_loops_do(case: strategies.Case) -> None:
    answer = answer_of(oracle.conv, case)
    fields = {name: value for name, value in case.options.items() if name != "layout"}
    weight, bias = case.arrays[1], case.arrays[2]
    layer = pc.Conv(kernel_size=weight.shape[2:], out_channels=weight.shape[0], bias=bias is not None, **fields)
    report = counted(layer, case)
    assert (report.macs, report.macs_on_data) == (answer.multiplications, answer.on_data)
    assert report.params == weight.size + (0 if bias is None else bias.size)


@given(strategies.conv_transposes())
def test_transposed_counts_what_the_loops_do(case: strategies.Case) -> None:
    answer = answer_of(oracle.conv_transpose, case)
    fields = {name: value for name, value in case.options.items() if name != "layout"}
    weight, bias = case.arrays[1], case.arrays[2]
    out_channels = weight.shape[1] * case.options["groups"]
    layer = pc.ConvTranspose(kernel_size=weight.shape[2:], out_channels=out_channels, bias=bias is not None, **fields)
    report = counted(layer, case)
    assert (report.macs, report.macs_on_data) == (answer.multiplications, answer.on_data)
    assert report.params == weight.size + (0 if bias is None else bias.size)


@given(strategies.pools(average=False))
def test_pooling_has_no_multiplications_but_window_positions(case: strategies.Case) -> None:
    answer = answer_of(oracle.max_pool, case)
    kernel = case.options["kernel_size"]
    fields = {name: value for name, value in case.options.items() if name not in ("layout", "kernel_size")}
    layer = pc.Pool(kind="max", kernel_size=oracle.per_axis(kernel, case.ndim), **fields)
    if 0 in spatial(case):
        return  # pooling over nothing is refused
    report = counted(layer, case)
    planes = case.x.shape[0] * (case.x.shape[1] if case.options["layout"] == "channels_first" else case.x.shape[-1])
    assert report.macs == report.macs_on_data == report.params == 0
    assert report.other_operations == planes * sum(map(len, answer.reads.values()))


@pytest.mark.parametrize(
    ("text", "shape", "macs"),
    [
        ("transposed 4x4 4 stride 2 padding 1", (1, 8, 16, 16), 131_072),
        ("transposed 4x4 4 stride 2 padding 1 groups 4", (1, 8, 16, 16), 32_768),
        ("conv 3x3 8 same", (1, 4, 10, 12), 34_560),
        ("conv 3x3 8 stride 2 same", (1, 4, 11, 12), 10_368),
        ("conv 3x3 8 groups 4", (2, 4, 10, 10), 2 * 8 * 9 * 64),
        ("depthwise 3x3 multiplier 2", (1, 4, 10, 10), 8 * 9 * 64),
        ("separable 3x3 8 same", (1, 4, 10, 10), 4 * 9 * 100 + 4 * 8 * 100),
        ("spatial 3x3 8 same", (1, 4, 10, 10), 4 * 8 * 3 * 100 + 8 * 8 * 3 * 100),
        ("conv 3x3 8 padding 1 reflect", (1, 4, 10, 10), 4 * 8 * 9 * 100),
    ],
)
def test_what_other_counters_get_wrong(text: str, shape: tuple[int, ...], macs: int) -> None:
    report = pc.network(text).count(shape)
    assert report.macs == macs
    assert report.flops == 2 * macs
    assert report.macs_on_data <= macs


def test_reflected_padding_is_data() -> None:
    report = pc.network("conv 3x3 8 padding 1 reflect").count((1, 4, 10, 10))
    assert report.macs_on_data == report.macs
    assert pc.network("conv 3x3 8 padding 1").count((1, 4, 10, 10)).macs_on_data == 28 * 28 * 32


def test_figures_of_dumoulin_and_visin(request: pytest.FixtureRequest) -> None:
    data = json.loads((request.config.rootpath / "tests" / "data" / "dumoulin_visin.json").read_text())
    for figure in data["figures"]:
        text = "conv {k}x{k} 1 stride {s} padding {p} dilation {d} nobias".format(**figure)
        report = pc.network(text).count((1, 1, figure["i"], figure["i"]))
        assert report.out_shape == (1, 1, figure["o"], figure["o"]), figure["name"]
        assert (report.macs_on_data, report.macs) == (figure["nonzeros"], figure["macs"]), figure["name"]


@pytest.mark.parametrize("seed", range(40))
def test_taps_on_data_against_listing_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, stride, dilation, before, after = (int(n) for n in rng.integers([1, 1, 1, 0, 0], [12, 6, 6, 9, 9]))
    size = int(rng.integers(0, 30))
    for windows in (0, 1, 2, 7, 30):
        axis = Axis(kernel, stride, dilation, before, after)
        pairs = ((axis.position(window, tap)) for window in range(windows) for tap in range(kernel))
        assert axis.taps_on_data(size, windows) == sum(0 <= position < size for position in pairs)


def test_large_inputs_and_kernels_are_counted_at_once() -> None:
    report = pc.network("conv 3x3 64 same").count((1, 3, 10_000, 10_000))
    assert report.macs_on_data == 29_998**2 * 192
    line = pc.network("conv 2000000000 1 full nobias").count((1, 1, 5))
    assert line.macs_on_data == 5 * 2_000_000_000
    deep = pc.network("conv 1000000007 1 full stride 3 dilation 2 nobias").count((1, 1, 4))
    assert deep.macs_on_data == sum(len(range((p + 2 * 1_000_000_006) % 3 * 2 % 3, 1_000_000_007, 3)) for p in range(4))


def test_rows_and_totals() -> None:
    report = pc.network("conv 3x3 8 same nobias | batchnorm | relu | maxpool 2x2").count((2, 3, 8, 10))
    conv, norm, act, pool = report.rows
    assert [row.name for row in report.rows] == ["0", "1", "2", "3"]
    assert conv.text == "conv 3x3 8 same nobias"
    assert (conv.in_shape, conv.out_shape) == ((2, 3, 8, 10), (2, 8, 8, 10))
    assert (conv.params, norm.params, norm.buffers) == (216, 16, 16)
    assert (report.params, report.buffers) == (232, 16)
    assert conv.macs == 2 * 216 * 80
    assert report.macs == conv.macs
    assert report.macs_on_data == 2 * 24 * (8 * 3 - 2) * (10 * 3 - 2)
    assert (norm.other_operations, act.other_operations) == (2 * 1280, 1280)
    assert pool.other_operations == 1280
    assert (report.weight_bytes, conv.activation_bytes) == (4 * 248, 4 * 1280)
    assert report.activation_bytes == 4 * (3 * 1280 + 320)
    assert conv.intensity == 2 * conv.macs / (4 * (480 + 216 + 1280))
    assert report.out_shape == (2, 8, 4, 5)
    assert report.receptive_field.size == (4, 4)


def test_bytes_follow_the_dtype() -> None:
    net = pc.network("conv 3x3 8")
    single, double = net.count((1, 3, 8, 8)), net.count((1, 3, 8, 8), dtype="float64")
    assert double.weight_bytes == 2 * single.weight_bytes
    assert double.peak_activation_bytes == 2 * single.peak_activation_bytes
    with pytest.raises(ValueError, match=r"dtype must be one of float16, .*got 'int8'"):
        net.count((1, 3, 8, 8), dtype="int8")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("conv 1x1 5", 300 + 500),  # input and output
        ("conv 1x1 5 | conv 1x1 7", 500 + 700),
        ("identity", 300),  # passes its input on
        ("identity | identity | conv 1x1 1", 300 + 100),
        ("add(identity, conv 1x1 3 | conv 1x1 9 | conv 1x1 3)", 300 + 900 + 300),  # the input waits
        ("concat(conv 1x1 4, conv 1x1 6)", 400 + 600 + 1000),  # the input is no longer needed
        ("concat(conv 1x1 20, conv 1x1 1)", 2000 + 100 + 2100),
        ("conv 1x1 20 | concat(conv 1x1 1, conv 1x1 1)", 300 + 2000),
        ("conv 1x1 20 | concat(conv 1x1 8, conv 1x1 8)", 2000 + 800 + 800),
        ("conv 1x1 9 | add(identity, identity)", 900 + 900),
    ],
)
def test_peak_of_what_is_alive_at_once(text: str, values: int) -> None:
    assert pc.network(text).count((1, 3, 10, 10)).peak_activation_bytes == 4 * values


def test_batch_zero_costs_nothing_and_is_no_error() -> None:
    report = pc.network("conv 3x3 4 | maxpool 2x2").count((0, 3, 8, 8))
    assert (report.macs, report.macs_on_data, report.activation_bytes) == (0, 0, 0)
    assert report.intensity == 0.0
    assert "total" in str(report)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("conv 3x3 8", (1, 3, 2, 8), r"stage 0 \(conv 3x3 8\): axis 0: kernel 3 .* the input has 2 plus padding"),
        ("conv 3x3 8", (3, 8, 8), r"must be \(batch, channels, height, width\), got \(3, 8, 8\)"),
        ("conv 3x3 8 groups 2", (1, 3, 8, 8), r"groups = 2 does not divide in_channels = 3"),
        ("conv 3x3 8", 5, r"must be \(batch, channels, \*spatial\), got 5"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pc.network(text).count(shape)


NET = "conv 3x3 8 stride 2 padding 1 relu | transposed 3x3 4 stride 2 | concat(identity, conv 2x2 4 same)"


def test_table_names_both_counts_with_units() -> None:
    report = pc.network(NET).count((2, 3, 8, 10))
    for text in (str(report), report.table(), report._repr_html_()):
        for heading in ("MACs", "MACs on data", "FLOPs (2 x MACs)", "weights (bytes)", "field (pixels)", "parameters"):
            assert heading in text
        assert "batch 2 counted" in text
        assert f"{report.macs:,}" in text
        assert f"{report.macs_on_data:,}" in text
        assert "Pooling has no MACs" in text
    assert "<table>" in report._repr_html_()
    assert len({len(line) for line in str(report).splitlines() if line.startswith("---")}) == 1


def test_dictionary_json_and_csv_agree() -> None:
    report = pc.network(NET).count((2, 3, 8, 10))
    plain = report.as_dict()
    assert json.loads(report.to_json()) == plain
    assert plain["macs"] == report.macs == sum(row["macs"] for row in plain["rows"])
    assert plain["flops"] == 2 * plain["macs"]
    assert "2 x MACs" in plain["units"]["flops"]
    assert plain["receptive_field_size"] == list(report.receptive_field.size)
    lines = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [line["name"] for line in lines] == [*(row.name for row in report.rows), "total"]
    assert lines[-1]["macs_on_data"] == str(report.macs_on_data)
    assert lines[1]["receptive_field_stride_pixels"] == "1x1"


def test_every_number_in_csv_has_its_unit_in_the_header() -> None:
    names = pc.network(NET).count((2, 3, 8, 10)).to_csv().splitlines()[0].split(",")
    units = ("params", "macs", "macs_on_data", "flops", "operations", "bytes", "flops_per_byte", "pixels")
    assert [name for name in names if not name.endswith(units)] == ["name", "text", "out_shape"]
    assert {"macs", "macs_on_data", "intensity_flops_per_byte", "receptive_field_size_pixels"} <= set(names)


def test_html_escapes_what_it_shows() -> None:
    report = dataclasses.replace(pc.network("conv 3x3 8").count((1, 3, 8, 8)), notes=("<b>1 & 2</b>",))
    assert "&lt;b&gt;1 &amp; 2&lt;/b&gt;" in report._repr_html_()
    assert "<b>" not in report._repr_html_()


def test_notes_carry_this_networks_numbers() -> None:
    report = pc.network("conv 3x3 8 padding 1 | batchnorm | transposed 4x4 4 stride 2 padding 1").count((1, 8, 16, 16))
    notes = " ".join(report.notes)
    assert f"as 2 x MACs it has {2 * report.macs:,}" in notes
    assert f"{report.macs - report.macs_on_data:,} MACs touch padding" in notes
    assert "16 trainable parameters and 16 statistics" in notes
    assert "131,072 MACs. Counters that multiply by the output positions report 524,288" in notes
    assert "Biases are 12 of the parameters" in notes
