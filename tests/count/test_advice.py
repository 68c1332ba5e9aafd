"""Every warning: where it is due, with its numbers, and where it is not."""

from __future__ import annotations

import dataclasses
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import polyconv as pc
from polyconv.count import advice, holes
from polyconv.geometry import Axis

# rule, network, input, stage, what it must say
DUE = [
    (
        "uneven_overlap",
        "relu | transposed 3x3 8 stride 2",
        None,
        "1",
        "kernel 3 is not a multiple of stride 2 .*axes 0 and 1: outputs get 1 to 2 taps",
    ),
    ("uneven_overlap", "transposed 4x3 8 stride 2x2", None, "0", "along axis 1: outputs get 1 to 2"),
    ("uneven_overlap", "transposed 2 8 stride 3", None, "0", "outputs get 0 to 1 taps"),
    ("uneven_overlap", "transposed 4 8 stride 2 dilation 2", None, "0", "kernel 4 with dilation 2 .* 0 to 4 taps"),
    ("gridding", "3 * (conv 3x3 8 dilation 2 same)", None, "2", "dilations 2x2, 2x2, 2x2 .* axis 0, 7 of 13 positions"),
    ("gridding", "conv 3x3 8 dilation 2x1 | relu | conv 3x3 8 dilation 4x1", None, "2", "axis 0, 7 of 13"),
    ("gridding", "2 * (add(identity, conv 3 8 dilation 2 same)) | maxpool 2", None, "1.1.0", "5 of 9"),
    (
        "never_read",
        "conv 1x1 8 stride 2",
        None,
        "0",
        "stride 2 with kernel 1 and dilation 1 reads 1 of every 2 inputs along axes 0 and 1",
    ),
    ("never_read", "conv 3 8 stride 2 dilation 2", None, "0", "reads 1 of every 2"),
    ("never_read", "maxpool 2x2", (1, 3, 8, 7), "0", "1 of 7 inputs along axis 1 are never read"),
    (
        "never_read",
        "add(conv 1x1 8 stride 2, maxpool 1x1 stride 2 | pointwise 8)",
        None,
        "0.0.0",
        "nor does any other reader of the input",
    ),
    (
        "misaligned",
        "add(identity, conv 3 1 padding 2:0)",
        None,
        "0",
        "branch ending in 0.0.0 has stride 1 and centre 0, .*0.1.0 has stride 1 and centre -1",
    ),
    (
        "field_larger_than_input",
        "4 * (conv 5x5 8 same)",
        (1, 3, 12, 40),
        "2",
        "see 13x13 pixels, the input has 12x40: more along axis 0",
    ),
    ("half_pixel_shift", "conv 4x3 8 same", None, "0", "even span 4 along axis 0 pads 1 before and 2 after"),
    (
        "same_with_a_stride",
        "conv 3x3 8 same stride 2",
        (1, 3, 8, 9),
        "0",
        r"pads 0 before and 1 after along axis 0; PyTorch's padding=1 ",
    ),
    (
        "same_with_a_stride",
        "transposed 3x3 8 same stride 2",
        None,
        "0",
        r"crops 0 before and 1 after .*padding=1, output_padding=1",
    ),
    (
        "groups_that_never_mix",
        "conv 1x1 8 groups 4 | depthwise 3x3 | conv 1x1 8 groups 2",
        None,
        "2",
        "groups 2 follow the groups of stage 0 .*: 2 parts",
    ),
    (
        "groups_that_never_mix",
        "add(identity, conv 1x1 8 groups 4) | conv 1x1 8 groups 4",
        None,
        "1",
        "groups 4 follow the groups of stage 0.1.0 .*: 4 parts",
    ),
    ("bias_before_batch_norm", "conv 3x3 8 | batchnorm", (1, 3, 8, 8), "0", "8 biases before a batch norm"),
    (
        "only_padding",
        "conv 3x3 8 padding 3x1",
        None,
        "0",
        "padding 3 before and 3 after along axis 0 holds whole windows of span 3",
    ),
    (
        "padding_in_averages",
        "avgpool 3x3 stride 1 padding 1",
        None,
        "0",
        "divide by 3x3 positions of which only 2x2 hold data",
    ),
]

FINE = [
    ("uneven_overlap", "transposed 4x4 8 stride 2 padding 1", None),
    ("uneven_overlap", "transposed 3x3 8", None),
    ("uneven_overlap", "conv 3x3 8 stride 2", None),
    ("gridding", "conv 3 8 | conv 3 8 dilation 2 | conv 3 8 dilation 3", None),
    ("gridding", "conv 3 8 dilation 2", None),
    ("gridding", "conv 3 8 dilation 2 | conv 3 8 dilation 2 | conv 3 8", None),
    ("gridding", "conv 3 8 dilation 2 | maxpool 2 | conv 3 8 dilation 2", None),
    ("never_read", "conv 3x3 8 stride 3", None),
    ("never_read", "add(conv 1x1 8 stride 2, conv 3x3 8 stride 2 padding 1)", None),
    ("never_read", "conv 3x3 8 stride 2", (1, 3, 9, 9)),
    ("misaligned", "add(identity, conv 3 1 padding 1)", None),
    ("field_larger_than_input", "4 * (conv 5x5 8 same)", (1, 3, 17, 17)),
    ("field_larger_than_input", "conv 3x3 8 | globalpool | pointwise 10", (1, 3, 5, 5)),
    ("half_pixel_shift", "conv 4x4 8 padding 2:1x2:1 | conv 3x3 8 same", None),
    ("same_with_a_stride", "conv 3x3 8 same stride 2", (1, 3, 9, 9)),
    ("same_with_a_stride", "transposed 4x4 8 same stride 2", None),
    ("groups_that_never_mix", "conv 1x1 8 groups 4 | pointwise 8 | conv 1x1 8 groups 4", None),
    ("groups_that_never_mix", "conv 1x1 6 groups 2 | conv 1x1 6 groups 3", None),
    ("groups_that_never_mix", "add(pointwise 8, conv 1x1 8 groups 2) | conv 1x1 8 groups 2", None),
    ("groups_that_never_mix", "concat(conv 1x1 8 groups 2, identity) | conv 1x1 8 groups 2", None),
    ("groups_that_never_mix", "depthwise 3x1 | depthwise 1x3 | pointwise 8", None),
    ("bias_before_batch_norm", "conv 3x3 8 nobias | batchnorm", None),
    ("bias_before_batch_norm", "conv 3x3 8 relu | batchnorm", None),
    ("bias_before_batch_norm", "conv 3x3 8 | add(batchnorm, identity)", None),
    ("only_padding", "conv 3x3 8 padding 2", None),
    ("padding_in_averages", "avgpool 3x3 stride 1 padding 1 exclude_pad", None),
    ("padding_in_averages", "maxpool 3x3 stride 1 padding 1", None),
]


def found(rule: str, text: str, in_shape: object) -> list[advice.Advice]:
    """What one rule says; it must be among what ``check`` says."""
    net = pc.network(text)
    shapes = (in_shape, *net.shapes(in_shape)) if in_shape else None
    said = list(getattr(advice, rule)(advice._Case(net, shapes)))
    assert all(item in pc.check(text, in_shape) for item in said)
    return said


@pytest.mark.parametrize(("rule", "text", "in_shape", "stage", "what"), DUE)
def test_where_it_is_due(rule: str, text: str, in_shape: object, stage: str, what: str) -> None:
    said = found(rule, text, in_shape)
    assert [item.stage for item in said] == [stage]
    with pytest.raises(ValueError, match=what):
        raise ValueError(said[0].what)
    assert all(getattr(said[0], field.name) for field in dataclasses.fields(said[0]))
    assert said[0].source in str(said[0])


@pytest.mark.parametrize(("rule", "text", "in_shape"), FINE)
def test_where_it_is_not(rule: str, text: str, in_shape: object) -> None:
    assert found(rule, text, in_shape) == []


def test_every_rule_is_tested_both_ways() -> None:
    rules = {rule.__name__ for rule in advice.RULES}
    assert rules == {row[0] for row in DUE} == {row[0] for row in FINE}


def test_a_sound_network_gets_no_advice() -> None:
    assert pc.check("2 * (conv 3x3 8 same relu) | maxpool 2x2 | transposed 2x2 8 stride 2", (1, 3, 16, 16)) == []


def test_in_the_order_of_stages() -> None:
    said = pc.check("conv 4x4 8 same | transposed 3x3 8 stride 2 | conv 4x4 8 same")
    assert [item.stage for item in said] == ["0", "1", "2"]


def test_an_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stage 0 .*the input has 2"):
        pc.check("conv 3x3 8", (1, 3, 2, 2))


@pytest.mark.parametrize(
    "rows", [((2, 3), (2, 3)), ((2, 3), (4, 3)), ((3, 2), (2, 5), (1, 2)), ((6, 3), (1, 4), (2, 3))]
)
def test_holes_are_what_no_input_reaches(rows: tuple[tuple[int, int], ...]) -> None:
    text = " | ".join(f"conv {kernel} 1 dilation {rate} nobias" for rate, kernel in rows)
    net = pc.network(text)
    weights = {name: np.ones_like(array) for name, array in net.weights(1, dtype="float64").items()}
    size = pc.receptive_field(net).size[0]
    reached = net.bind(weights)(np.eye(size)[:, None, :]) != 0
    (gridding,) = list(holes.gridded(net, 1)) or [None]
    if gridding is None:
        assert reached.sum() == size
    else:
        assert (gridding.read, gridding.span) == (reached.sum(), size)


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9))
def test_overlap_in_closed_form(kernel: int, stride: int, dilation: int) -> None:
    axis = Axis(kernel, stride, dilation)
    counts = axis.overlap()
    assert axis.overlap_range() == (min(counts), max(counts))
    assert axis.residues_met() == sum(count > 0 for count in counts)


def test_huge_numbers_cost_nothing() -> None:
    start = perf_counter()
    large = 2**31 - 1
    pc.check(f"transposed {large} 1 stride {large - 1}")
    pc.check(f"conv {large} 1 dilation {large} | conv 3 1 dilation {large}")
    pc.check(f"conv 3 1 stride {large}")
    pc.check("conv 5 1 stride 3 dilation 500000000", (1, 1, large))
    pc.check("conv 3 1 dilation 2", (1, 1, large))
    assert perf_counter() - start < 1
