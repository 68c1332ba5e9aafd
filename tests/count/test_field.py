"""Receptive fields against which inputs really reach an output, and against published ones."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import polyconv as pc

SIZE, MARGIN = 240, 60


def reached(text: str, size: int) -> list[tuple[int, int] | None]:
    """First and last input that changes each output of a 1-D network with weights of 1, by trying every input."""
    net = pc.network(text)
    weights = {name: np.ones_like(array) for name, array in net.weights(1, dtype="float64", ndim=1).items()}
    weights |= {name: np.zeros_like(array) for name, array in weights.items() if name.endswith(".bias")}
    touched = net.bind(weights)(np.eye(size)[:, None, :]).sum(axis=1) != 0
    hits = (np.flatnonzero(column) for column in touched.T)
    return [(int(hit[0]), int(hit[-1])) if len(hit) else None for hit in hits]


@st.composite
def layers(draw: st.DrawFn, branches: bool = True) -> str:
    kind = draw(st.sampled_from(["conv", "conv", "transposed", "transposed", "pool", "upsample", "join", "causal"]))
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    dilation, padding = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    if kind == "conv":
        return f"conv {kernel} 1 stride {stride} dilation {dilation} padding {padding}:{draw(st.integers(0, 2))}"
    if kind == "transposed":
        return f"transposed {kernel} 1 stride {stride} dilation {dilation} padding {padding}:{draw(st.integers(0, 2))}"
    if kind == "pool":
        return f"{draw(st.sampled_from(['max', 'avg']))}pool {kernel} stride {stride}"
    if kind == "upsample":
        return f"upsample {stride}"
    if kind == "causal" or not branches:
        return f"conv {kernel} 1 dilation {dilation} {draw(st.sampled_from(['causal', 'same', 'full', 'valid']))}"
    other = f"transposed {kernel} 1 same"
    return f"{draw(st.sampled_from(['add', 'concat']))}(identity, conv {kernel} 1 same dilation {dilation} | {other})"


@settings(max_examples=200)
@given(st.lists(layers(), min_size=1, max_size=4).map(" | ".join))
def test_field_is_what_reaches_the_output(text: str) -> None:
    try:
        shape = pc.network(text).out_shape((1, 1, SIZE))
    except ValueError:
        assume(False)
        return
    assume(shape[2] < 3000)
    field = pc.receptive_field(text, (1, 1, SIZE), allow_misaligned=True)
    axis = field.axes[0]
    checked = 0
    for output, actual in enumerate(reached(text, SIZE)):
        expected = axis.at(output)
        place = output * axis.advance / axis.period
        if not MARGIN < place < SIZE - MARGIN:
            continue
        if expected is not None and not (expected[0] >= 0 and expected[1] < SIZE):
            continue
        checked += 1
        assert actual == expected, f"{text}: output {output}"
    assume(checked >= axis.period)


def test_the_probe_sees_a_wrong_field() -> None:
    axis = pc.receptive_field("conv 3 1 dilation 2").axes[0]
    assert reached("conv 3 1 dilation 2", 20)[5] == axis.at(5) == (5, 9)
    assert reached("conv 3 1 dilation 3", 20)[5] != axis.at(5)


# Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks", Distill 2019
VGG = [
    ("pool1", "2 * (conv 3x3 64 padding 1) | maxpool 2x2", 6, 2, 2),
    ("conv2_1", "conv 3x3 128 padding 1", 10, 2, 4),
    ("pool2", "conv 3x3 128 padding 1 | maxpool 2x2", 16, 4, 6),
    ("pool3", "3 * (conv 3x3 256 padding 1) | maxpool 2x2", 44, 8, 18),
    ("pool4", "3 * (conv 3x3 512 padding 1) | maxpool 2x2", 100, 16, 42),
    ("conv5_1", "conv 3x3 512 padding 1", 132, 16, 58),
    ("pool5", "2 * (conv 3x3 512 padding 1) | maxpool 2x2", 212, 32, 90),
]


def test_vgg_16() -> None:
    text = ""
    for name, more, size, stride, padding in VGG:
        text = f"{text} | {more}" if text else more
        field = pc.receptive_field(text)
        assert (field.size, field.stride, field.padding) == ((size,) * 2, (stride,) * 2, (padding,) * 2), name


def test_context_module() -> None:
    # F. Yu and V. Koltun, "Multi-scale context aggregation by dilated convolutions", arXiv 1511.07122, table 1
    sizes = []
    stages = [f"conv 3x3 8 dilation {d} same" for d in (1, 1, 2, 4, 8, 16, 1)] + ["conv 1x1 8"]
    for count in range(1, 9):
        sizes.append(pc.receptive_field(" | ".join(stages[:count])).size[0])
    assert sizes == [3, 5, 9, 17, 33, 65, 67, 67]
    doubling = [f"conv 3x3 8 dilation {2**n}" for n in range(6)]
    fields = [pc.receptive_field(" | ".join(doubling[:count])).size[1] for count in range(1, 7)]
    assert fields == [3, 7, 15, 31, 63, 127]


@pytest.mark.parametrize(
    ("text", "size", "stride", "padding"),
    [
        # the small networks of the same article's library
        ("concat(conv 1x1 1 stride 4, conv 3x3 1 stride 2 padding 1 | conv 1x1 1 stride 2)", (3, 3), (4, 4), (1, 1)),
        ("conv 3x5 1 stride 2 | conv 3x1 1 stride 2", (7, 5), (4, 4), (0, 0)),
        ("conv 1x1 8", (1, 1), (1, 1), (0, 0)),
        ("separable 5x3 8 padding 1", (5, 3), (1, 1), (1, 1)),
        ("spatial 5x3 8 same stride 1x1", (5, 3), (1, 1), (2, 1)),
        ("conv 3 1 dilation 4 causal", (9,), (1,), (8,)),
        ("upsample 2 | conv 3x3 8 padding 1", (2, 2), (Fraction(1, 2),) * 2, (1, 1)),
        ("maxpool 2x2 | upsample 2", (2, 2), (1, 1), (0, 0)),
        ("transposed 4x4 8 stride 2 padding 1", (2, 2), (Fraction(1, 2),) * 2, (1, 1)),
        ("transposed 3x3 8 stride 2", (2, 2), (Fraction(1, 2),) * 2, (1, 1)),
        ("conv 3x3x3 8 stride 1x2x3", (3, 3, 3), (1, 2, 3), (0, 0, 0)),
        ("batchnorm | relu | identity", (1, 1), (1, 1), (0, 0)),
    ],
)
def test_size_stride_padding(text: str, size: object, stride: object, padding: object) -> None:
    field = pc.receptive_field(text)
    assert (field.size, field.stride, field.padding) == (size, stride, padding)
    assert field.aligned
    assert all(isinstance(number, int) or number.denominator > 1 for number in field.stride)


def test_same_with_stride_pads_by_the_input() -> None:
    text = "conv 3x3 8 stride 2 same"
    assert pc.receptive_field(text, (1, 3, 224, 225)).padding == (0, 1)
    with pytest.raises(ValueError, match=r"stage 0 .*'same' with stride 2x2 pads by the input's size: pass in_shape"):
        pc.receptive_field(text)


def test_global_pooling_sees_everything() -> None:
    text = "conv 3x3 8 | globalpool"
    assert pc.receptive_field(text, (1, 3, 10, 12)).size == (10, 12)
    with pytest.raises(ValueError, match="pass in_shape"):
        pc.receptive_field(text)


MISALIGNED = "concat(conv 5x5 1 stride 2 padding 2 | conv 3x3 1 padding 1, conv 3x3 1 stride 2 | conv 3x3 1)"


def test_misaligned_branches_are_an_error_with_both_paths() -> None:
    with pytest.raises(
        pc.MisalignedError, match=r"stage 0 \(concat\).*axes 0 and 1: .*0\.0\.1 has stride 2 and centre 0, "
    ):
        pc.receptive_field(MISALIGNED)
    field = pc.receptive_field(MISALIGNED, allow_misaligned=True)
    assert not field.aligned
    assert len(field.misaligned) == 1
    assert (field.size, field.padding) == ((11, 11), (4, 4))


def test_misaligned_branches_do_not_stop_a_count() -> None:
    report = pc.network("add(identity, conv 3x3 3 padding 2:0x1:1) | conv 3x3 3").count((1, 3, 8, 8))
    assert report.rows[0].receptive_field.aligned
    assert not report.receptive_field.aligned
    assert "stride 1 and centre -1" in report.receptive_field.misaligned[0]
    assert "misaligned along axis 0" in str(report)
    assert report.as_dict()["misaligned"]


def test_strides_that_differ_are_misaligned() -> None:
    with pytest.raises(pc.MisalignedError, match=r"stride 2 and centre 0, .*stride 1 and centre 0"):
        pc.receptive_field("add(maxpool 1x1 stride 2, conv 3x3 3 padding 1)")


def test_encoder_and_decoder_line_up() -> None:
    up = pc.receptive_field("add(identity, maxpool 2x2 | transposed 2x2 3 stride 2)")
    assert (up.size, up.stride, up.centre) == ((2, 2), (1, 1), (0, 0))
    with pytest.raises(pc.MisalignedError, match="centre 1/2"):
        pc.receptive_field("add(identity, maxpool 2x2 | transposed 3x3 3 stride 2 padding 1 output_padding 1)")


def test_too_many_phases_are_refused_and_a_count_goes_on() -> None:
    text = "upsample 5000 | conv 3 1"
    with pytest.raises(ValueError, match="5000 different phases, at most 4096"):
        pc.receptive_field(text)
    report = pc.network(text).count((1, 1, 4))
    assert report.macs == 3 * (20_000 - 2)
    assert "5000 different phases" in str(report)
    with pytest.raises(ValueError, match="5000 different phases"):
        _ = report.receptive_field
