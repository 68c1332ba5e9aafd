"""Counts against the multiplications which the loops really do, and the layers that known counters get wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

import oracle
import polyconv as pc
import strategies
from test_arithmetic import FIGURES


def notation(word: str, kernel: tuple[int, ...], channels: int, options: dict[str, Any]) -> str:
    """A drawn call as a line of text."""

    def axes(value: Any) -> str:
        if isinstance(value, int):
            return str(value)
        return "x".join(str(v) if isinstance(v, int) else f"{v[0]}:{v[1]}" for v in value)

    padding = options["padding"]
    text = f"{word} {'x'.join(map(str, kernel))} {channels} nobias stride {axes(options['stride'])}"
    text += f" dilation {axes(options['dilation'])} groups {options['groups']}"
    text += f" {padding}" if isinstance(padding, str) else f" padding {axes(padding)}"
    if options.get("output_padding"):
        text += f" output_padding {axes(options['output_padding'])}"
    return text


def first_shape(case: strategies.Case) -> tuple[int, ...]:
    shape = case.x.shape
    return shape if case.options["layout"] == "channels_first" else (shape[0], shape[-1], *shape[1:-1])


@given(strategies.convs(activations=[None], modes=["zeros"], smallest=1))
def test_conv_counts_are_the_loops(case):
    weight = case.arrays[1]
    text = notation("conv", weight.shape[2:], weight.shape[0], case.options)
    try:
        answer = oracle.conv(case.x, weight, **case.options)
    except oracle.NoOutputError:
        with pytest.raises(ValueError, match=r"\d"):
            pc.network(text).count(first_shape(case))
        return
    report = pc.network(text).count(first_shape(case))
    assert (report.macs, report.macs_on_data) == (answer.multiplications, answer.on_data), text
    assert report.params == weight.size


@given(strategies.conv_transposes(activations=[None]))
def test_transposed_counts_are_the_loops(case):
    weight, groups = case.arrays[1], case.options["groups"]
    text = notation("transposed", weight.shape[2:], weight.shape[1] * groups, case.options)
    try:
        answer = oracle.conv_transpose(case.x, weight, **case.options)
    except oracle.NoOutputError:
        with pytest.raises(ValueError, match=r"\d"):
            pc.network(text).count(first_shape(case))
        return
    report = pc.network(text).count(first_shape(case))
    assert (report.macs, report.macs_on_data) == (answer.multiplications, answer.on_data), text
    assert report.params == weight.size


@pytest.mark.parametrize("f", FIGURES, ids=[f["name"] for f in FIGURES])
def test_figures_are_counted(f):
    """Multiply-accumulates with padding, and those which touch data."""
    text = f"conv {f['k']}x{f['k']} 1 stride {f['s']} padding {f['p']} dilation {f['d']} nobias"
    report = pc.network(text).count((1, 1, f["i"], f["i"]))
    assert (report.macs, report.macs_on_data) == (f["macs"], f["nonzeros"])


def test_transposed_layers_are_not_counted_four_times():
    """ConvTranspose2d(8, 4, 4, stride 2, padding 1) on 16x16: thop, torchinfo, torchscan say x4, onnx-tool x2."""
    report = pc.network("transposed 4x4 4 stride 2 padding 1").count((1, 8, 16, 16))
    assert report.macs == 131_072
    assert report.params == 8 * 4 * 16 + 4


def test_grouped_transposed_layers_are_counted():
    """calflops says 0."""
    report = pc.network("transposed 4x4 4 stride 2 padding 1 groups 4").count((1, 8, 16, 16))
    assert report.macs == 131_072 // 4


def test_same_is_counted():
    """fvcore says 0."""
    same = pc.network("conv 3x3 4 same").count((1, 8, 16, 16))
    assert same.macs == pc.network("conv 3x3 4 padding 1").count((1, 8, 16, 16)).macs == 16 * 16 * 9 * 8 * 4
    assert same.macs_on_data == (16 * 3 - 2) ** 2 * 8 * 4


def test_depthwise_separable_over_standard():
    """1/out_channels + 1/kernel positions."""
    shape, wide = (1, 32, 14, 14), 64
    separable = pc.network(f"separable 3x3 {wide} same nobias").count(shape)
    standard = pc.network(f"conv 3x3 {wide} same nobias").count(shape)
    assert separable.macs / standard.macs == pytest.approx(1 / wide + 1 / 9, rel=1e-12)
    assert separable.params / standard.params == pytest.approx(1 / wide + 1 / 9, rel=1e-12)


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_the_batch_counts(batch):
    report = pc.network("conv 3x3 4").count((batch, 2, 8, 8))
    assert report.macs == batch * 36 * 9 * 2 * 4
    assert report.params == 2 * 4 * 9 + 4


def test_counting_does_not_loop_over_positions():
    """10,000 x 10,000 at once, in exact integers."""
    report = pc.network("conv 3x3 8 same stride 2 | transposed 4x4 3 stride 2 padding 1").count((1, 3, 10_000, 10_000))
    assert report.out_shape == (1, 3, 10_000, 10_000)
    assert report.macs == 5000**2 * 9 * 24 + 5000**2 * 16 * 24
    # "same" with stride 2 pads (0, 1): the last window of each axis has one tap in the padding;
    # the transposed layer crops one tap at each end
    assert report.macs_on_data == (5000 * 3 - 1) ** 2 * 24 + (5000 * 4 - 2) ** 2 * 24


def test_reads_of_the_oracle_are_what_the_operator_reads():
    """Change one input: exactly the outputs which read it change."""
    x = strategies.integers((1, 1, 6, 5), "float64", 1)
    w = strategies.integers((1, 1, 3, 2), "float64", 2, 1, 9)
    options = {"stride": (2, 1), "dilation": (1, 2), "padding": ((1, 0), (0, 2))}
    answer = oracle.conv(x, w, **options)
    for at in np.ndindex(6, 5):
        other = x.copy()
        other[(0, 0, *at)] += 1
        changed = {tuple(map(int, p[2:])) for p in np.argwhere(pc.conv(other, w, **options) != answer.y)}
        assert changed == {out for out, reads in answer.reads.items() if at in reads}


def test_one_multiply_accumulate_is_two_flops():
    """fvcore, torchvision and most papers say FLOPs and mean MACs; TensorFlow's profiler counts 2 x MAC."""
    report = pc.network("conv 3x3 8 same").count((1, 4, 10, 12))
    assert report.macs == 10 * 12 * 9 * 4 * 8
    assert report.flops == 2 * report.macs
