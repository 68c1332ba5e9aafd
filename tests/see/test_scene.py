"""Scenes against the operators: what a frame marks as read is what the output depends on, and its numbers add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import oracle
import polyconv as pc
import strategies
from polyconv.see.parts import Frame, Kind, Scene, Step
from polyconv.see.scene import scene

ALL = 64  # no case that is drawn has more channels
few = settings(max_examples=60, suppress_health_check=list(HealthCheck))


def one_picture(case: strategies.Case) -> np.ndarray:
    """The case's input as (channels, *spatial), all numbers different so that a maximum has one place."""
    x = case.x if case.options["layout"] == "channels_first" else np.moveaxis(case.x, -1, 1)
    shape = x.shape[1:]
    assume(0 < np.prod(shape) <= 400)
    order = np.random.default_rng(int(np.prod(shape))).permutation(int(np.prod(shape)))
    return order.reshape(shape).astype(np.float64) + 1.0


def positive(array: np.ndarray) -> np.ndarray:
    """No factor is zero and none cancels another."""
    return np.abs(np.asarray(array, np.float64)) + 1.0


def draw(layer: pc.Layer, x: np.ndarray, weights: dict[str, Any], **options: Any) -> Scene:
    """The scene of one layer, every channel and at most a few hundred frames of it."""
    try:
        return scene(pc.Network((layer,)), x=x, weights=weights, max_channels=ALL, **options)
    except ValueError as error:
        assume("has no cells" not in str(error) and "spans" not in str(error) and "crops" not in str(error))
        raise


def depends(network: pc.Network, weights: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """(inputs, *output): whether raising each input by a lot changes each output."""
    raised = np.repeat(x[None], x.size, axis=0)
    raised.reshape(x.size, x.size)[np.diag_indices(x.size)] += 1000.0
    model = network.bind(weights) if weights else network.bind({})
    base = model(x[None])
    return np.concatenate([model(raised[i : i + 64]) for i in range(0, len(raised), 64)]) != base


def marked(step: Step, frame: Frame, x: np.ndarray) -> set[int]:
    """The flat indices of the inputs that a frame marks as read."""
    found = set()
    for term in frame.terms:
        source = step.inputs[term.grid].source(term.cell)
        if source is not None:
            found.add(step.in_channels[term.grid] * int(np.prod(x.shape[1:])) + source)
    return found


def check_slide(made: Scene, network: pc.Network, weights: dict[str, Any], x: np.ndarray) -> None:
    """Every frame of a sliding window."""
    step = made.steps[0]
    truth = depends(network, weights, x)
    bias = weights.get("0.bias")
    for frame in made.frames:
        ((channel, cell),) = frame.writes
        position = tuple(c + low for c, low in zip(cell, step.outputs[0].low, strict=True))
        expected = set(np.flatnonzero(truth[(slice(None), channel, *position)]))
        assert marked(step, frame, x) == expected, (frame.caption, frame.lines)
        for term in frame.terms:
            source = step.inputs[term.grid].source(term.cell)
            if source is not None:
                assert term.value == x[step.in_channels[term.grid]].reshape(-1)[source]
        if weights:
            total = sum(t.value * t.weight for t in frame.terms) + (0 if bias is None else bias[channel])
            np.testing.assert_allclose(total, frame.result, rtol=1e-12)


@few
@given(strategies.convs(activations=[None]))
def test_a_convolution_reads_what_it_depends_on(case):
    x = one_picture(case)
    options = {k: v for k, v in case.options.items() if k != "layout"}
    weight = positive(case.arrays[1])
    layer = pc.Conv(kernel_size=weight.shape[2:], out_channels=len(weight), bias=case.arrays[2] is not None, **options)
    weights = {"0.weight": weight} | ({} if case.arrays[2] is None else {"0.bias": positive(case.arrays[2])})
    made = draw(layer, x, weights)
    check_slide(made, pc.Network((layer,)), weights, x)
    if x.ndim == 2:
        answer = oracle.conv(x[None], weight, weights.get("0.bias"), **options)
        np.testing.assert_allclose(made.values[1], answer.y[0])


@few
@given(st.booleans().flatmap(lambda average: st.tuples(st.just(average), strategies.pools(average))))
def test_a_pooling_reads_what_it_depends_on(drawn):
    average, case = drawn
    x = one_picture(case)
    options = {k: v for k, v in case.options.items() if k != "layout"}
    options["kernel_size"] = oracle.per_axis(options["kernel_size"], x.ndim - 1)
    layer = pc.Pool(kind="avg" if average else "max", **options)
    made = draw(layer, x, {})
    check_slide(made, pc.Network((layer,)), {}, x)
    for frame in made.frames:
        values = [term.value for term in frame.terms]
        said = sum(values) / len(values) if average else max(values)
        np.testing.assert_allclose(said, frame.result, rtol=1e-12)


def transposed_case(case: strategies.Case) -> tuple[pc.ConvTranspose, dict[str, Any], np.ndarray]:
    x = one_picture(case)
    weight = positive(case.arrays[1])
    options = {k: v for k, v in case.options.items() if k != "layout"}
    layer = pc.ConvTranspose(
        kernel_size=weight.shape[2:],
        out_channels=weight.shape[1] * options["groups"],
        bias=case.arrays[2] is not None,
        **options,
    )
    return layer, {"0.weight": weight} | ({} if case.arrays[2] is None else {"0.bias": positive(case.arrays[2])}), x


@few
@given(strategies.conv_transposes(activations=[None]))
def test_a_transposed_window_reads_what_it_depends_on(case):
    layer, weights, x = transposed_case(case)
    check_slide(draw(layer, x, weights, view="slide"), pc.Network((layer,)), weights, x)


@few
@given(strategies.conv_transposes(activations=[None, "relu"]))
def test_stamps_add_up_to_the_output(case):
    layer, weights, x = transposed_case(case)
    made = draw(layer, x, weights, view="stamp", max_frames=2000)
    step = made.steps[0]
    assume(len(made.frames) == step.moments)
    bias = weights.get("0.bias", np.zeros(made.values[1].shape[0]))
    total = {o: np.full(step.outputs[0].shape, bias[o]) for o in step.out_channels}
    for frame in made.frames:
        for term in frame.terms:
            total[frame.channel][term.target] += term.value * term.weight
        if frame.terms:
            np.testing.assert_allclose(frame.outputs[step.out_channels.index(frame.channel)], total[frame.channel])
    kept = step.outputs[0].kinds == Kind.DATA
    for o in step.out_channels:
        np.testing.assert_allclose(total[o][kept].reshape(made.values[1][o].shape), made.values[1][o])


def test_the_checker_sees_a_wrong_mark():
    """The checks above do fail: a frame that forgets one of its cells is caught."""
    network, x = pc.network("conv 3x3 1 nobias"), np.arange(25.0).reshape(1, 5, 5) + 1
    weights = {"0.weight": np.ones((1, 1, 3, 3))}
    made = scene(network, x=x, weights=weights)
    check_slide(made, network, weights, x)
    object.__setattr__(made.frames[4], "terms", made.frames[4].terms[1:])
    with pytest.raises(AssertionError):
        check_slide(made, network, weights, x)


@pytest.mark.parametrize("text", ["conv 3x3 6", "conv 3x3 6 groups 2 relu", "transposed 3x3 6 stride 2 groups 2"])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_channels_that_are_not_drawn_still_count(text, most):
    for view in ("slide", "stamp"):
        made = scene(pc.network(text), (5, 4), 8, max_channels=most, view=view, max_frames=2000)
        step = made.steps[0]
        assert len(step.in_channels) <= most
        assert any("more input channels" in note for note in step.notes)
        for frame in made.frames:
            if frame.result is not None:
                bias = float(frame.lines[-1].partition("bias ")[2].split(" ")[0].strip("()").replace("−", "-"))
                total = sum(t.value * t.weight for t in frame.terms) + frame.hidden + bias
                assert frame.result == (max(total, 0) if "relu" in text else total)
        if view == "stamp":
            np.testing.assert_array_equal(made.frames[-1].outputs[-1], made.values[1][step.out_channels[-1]])


def test_a_chain_shows_every_size():
    made = scene(pc.network("conv 3x3 2 | maxpool 3x3"), (11, 11))
    assert [step.in_shape[1:] for step in made.steps] == [(11, 11), (9, 9)]
    assert [step.out_shape for step in made.steps] == [(2, 9, 9), (2, 3, 3)]
    np.testing.assert_array_equal(made.steps[1].inputs[1].values, made.values[1][1])


def test_numbers_of_the_known_figure(numeric):
    x, weight = (np.array(numeric[key], float) for key in ("x", "weight"))
    made = scene(pc.network("conv 3x3 1 nobias"), x=x, weights={"0.weight": weight[None, None]})
    assert [frame.result for frame in made.frames] == np.ravel(numeric["conv"]).tolist()
    assert made.frames[0].lines == ("3·0 + 3·1 + 2·2 + 0·2 + 0·2 + 1·0 + 3·0 + 1·1 + 2·2 = 12",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("maxpool 2", "max(3, 1) = 3"),
        ("avgpool 2", "(3 + 1) / 2 = 2"),
        ("relu", "relu(3) = 3"),
        ("upsample 2", "copied: 3"),
        ("add(identity, identity)", "3 + 3 = 6"),
        ("concat(identity, relu)", "relu(3) = 3"),
        ("globalpool", "(3 + 1 + (−2)) / 3 = 0.67"),
    ],
)
def test_formulas(text, line):
    assert scene(pc.network(text), x=np.array([[3.0, 1.0, -2.0]])).frames[0].lines == (line,)


def test_more_moments_than_frames_are_thinned_and_said():
    made = scene(pc.network("conv 3x3 1"), (20, 20), max_frames=50)
    assert len(made.frames) <= 51
    assert made.frames[-1].number == 18 * 18 - 1
    assert made.notes == (f"{len(made.frames)} of 324 steps are shown",)
    assert not np.isnan(made.frames[-1].outputs[0]).any()


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("conv 3x3 1", {"input_size": 10**6}, r"1,000,000,000,000 numbers, a drawing takes at most 1,000,000"),
        ("conv 3x3 1", {"input_size": (100, 100)}, r"98x98 = 9,604 cells; a drawing shows at most 4,096"),
        ("conv 3x3 1", {"input_size": (2, 2)}, r"stage 0 \(conv 3x3 1\): axis 0: kernel 3"),
        ("conv 3x3 1", {"input_size": (5,)}, r"input_size has 1 values"),
        ("conv 3x3 1", {"x": np.zeros((1, 5, 5)), "in_channels": 2}, r"x has in_channels 1, the argument says 2"),
        (
            "conv 3x3 1",
            {"x": np.zeros((5,))},
            r"x must be \(channels, \*spatial\) with 2 spatial axes, got shape \(5,\)",
        ),
        ("conv 3x3 1", {"x": np.zeros((5, 5), complex)}, None),
        ("conv 3x3 1", {"view": "side"}, r"view must be one of stamp, slide; got 'side'"),
        ("conv 3x3 1", {"max_frames": 10**6}, r"max_frames is 1,000,000, a film has at most 4,096"),
        ("conv 3x3 4096", {"in_channels": 4096, "input_size": 5}, r"the largest weight has 150,994,944 numbers"),
        ("3 * (conv 3x3 1 same) | 12 * (relu)", {}, r"15 layers, a drawing shows at most 12"),
        ("conv 3x3 1", {"weights": {"weight": 1}}, r"weights must be named 0.weight, 0.bias; got weight"),
        ("conv 3x3 1 nobias", {"weights": {"0.weight": np.zeros((1, 3, 3))}}, r"expected \(1, 1, 3, 3\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_sentence(text, arguments, message):
    with pytest.raises(TypeError if message is None else ValueError, match=message or "complex128"):
        scene(pc.network(text), **arguments)


@pytest.mark.parametrize(("text", "size"), [("conv 3x2 1 nobias", (5, 4)), ("conv 3 1 nobias", (7,))])
def test_flipped_it_is_the_convolution_of_mathematics(text, size):
    signal = pytest.importorskip("scipy.signal", reason="NOT RUN: the convolution of mathematics is SciPy's")
    random = np.random.default_rng(0)
    x, weight = (
        random.integers(-3, 4, (1, *size)),
        random.integers(-3, 4, (1, 1, *map(int, text.split()[1].split("x")))),
    )
    made = scene(pc.network(text), x=x, weights={"0.weight": weight}, flip=True)
    np.testing.assert_array_equal(made.values[1][0], signal.convolve(x[0], weight[0, 0], mode="valid"))
    step = made.steps[0]
    assert step.flipped
    np.testing.assert_array_equal(step.kernels[0, 0].values, np.flip(weight[0, 0]))
    before = str(weight[0, 0].tolist()).replace("-", "−")
    assert f"the kernel before it was flipped: {before}" in step.notes
    for frame in made.frames:
        assert sum(term.value * term.weight for term in frame.terms) == frame.result
    plain = scene(pc.network(text), x=x, weights={"0.weight": weight})
    assert not np.array_equal(plain.values[1], made.values[1])


def test_nothing_but_a_convolution_is_flipped():
    with pytest.raises(ValueError, match="flip is for convolutions, maxpool 2x2 has none"):
        scene(pc.network("maxpool 2x2"), flip=True)
    made = scene(pc.network("conv 2x2 1 | transposed 2x2 1"), (4, 4), flip=True)
    assert [step.flipped for step in made.steps] == [True, False]
