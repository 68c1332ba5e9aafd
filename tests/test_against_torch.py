"""PyTorch in float64 as a second oracle, with code and authors of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import oracle
import polyconv as pc
import strategies
from tolerance import assert_close, assert_equal

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the second oracle is missing")
F = torch.nn.functional

TORCH_ACTIVATIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
}


def tensor(a):
    return None if a is None else torch.tensor(np.array(a, order="C"))


def torch_padding(pads):
    """F.pad counts from the last axis."""
    return [side for pair in reversed(pads) for side in pair]


def resolved(case, kernel):
    sizes = case.x.shape[2:]
    strides = oracle.per_axis(case.options["stride"] or kernel, case.ndim)
    dilations = oracle.per_axis(case.options.get("dilation", 1), case.ndim)
    reaches = [oracle.reach(k, d) for k, d in zip(kernel, dilations, strict=True)]
    return oracle.conv_padding(case.options["padding"], sizes, reaches, strides)


def torch_conv(case):
    x, weight, bias = case.arrays
    o = case.options
    pads, mode = torch_padding(resolved(case, weight.shape[2:])), o["padding_mode"]
    padded = F.pad(tensor(x), pads, mode="constant" if mode == "zeros" else mode)
    run = getattr(F, f"conv{case.ndim}d")
    return run(padded, tensor(weight), tensor(bias), o["stride"], 0, o["dilation"], o["groups"]).numpy()


@pytest.mark.parametrize("meaning", [pc.conv, lambda *a, **o: oracle.conv(*a, **o).y], ids=["polyconv", "oracle"])
@given(case=strategies.convs(dtypes=["float64"], layouts=["channels_first"], activations=[None], smallest=1))
def test_conv(meaning, case):
    try:
        expected = torch_conv(case)
    except (RuntimeError, NotImplementedError):  # what PyTorch cannot do
        return
    assert_equal(meaning(*case.arrays, **case.options), expected)


@pytest.mark.parametrize(
    "meaning", [pc.conv_transpose, lambda *a, **o: oracle.conv_transpose(*a, **o).y], ids=["polyconv", "oracle"]
)
@given(
    case=strategies.conv_transposes(
        dtypes=["float64"], layouts=["channels_first"], activations=[None], words=False, smallest=1
    )
)
def test_conv_transpose(meaning, case):
    o = case.options
    pads = resolved(case, case.arrays[1].shape[2:])
    symmetric = [pair[0] for pair in pads]
    options = {**o, "padding": tuple(symmetric)}
    run = getattr(F, f"conv_transpose{case.ndim}d")
    try:
        expected = run(
            *map(tensor, case.arrays), o["stride"], symmetric, o["output_padding"], o["groups"], o["dilation"]
        ).numpy()
    except RuntimeError:
        return
    if 0 in expected.shape[2:]:  # an empty batch is let through where a full one is refused
        return
    assert_equal(meaning(*case.arrays, **options), expected)


@pytest.mark.parametrize(
    "meaning", [pc.max_pool, lambda *a, **o: oracle.max_pool(*a, **o).y], ids=["polyconv", "oracle"]
)
@given(case=strategies.pools(average=False, words=False))
def test_max_pool(meaning, case):
    check_pool(meaning, case, "max_pool", ["dilation", "ceil_mode"])


@pytest.mark.parametrize(
    "meaning", [pc.avg_pool, lambda *a, **o: oracle.avg_pool(*a, **o).y], ids=["polyconv", "oracle"]
)
@given(case=strategies.pools(average=True, words=False))
def test_avg_pool(meaning, case):
    check_pool(meaning, case, "avg_pool", ["ceil_mode", "count_include_pad"])


def check_pool(meaning, case, name, flags):
    o = {**case.options, "layout": "channels_first"}
    if case.options["layout"] == "channels_last":
        case = type(case)((np.moveaxis(case.x, -1, 1),), case.options)
    x, kernel = case.x, oracle.per_axis(o["kernel_size"], case.ndim)
    o["padding"] = tuple(pair[0] for pair in resolved(case, kernel))
    try:
        run = getattr(F, f"{name}{case.ndim}d")
        expected = run(tensor(x), kernel, o["stride"], o["padding"], **{flag: o[flag] for flag in flags}).numpy()
    except RuntimeError:
        return
    assert_close(meaning(x, **o), expected, terms=1 if name == "max_pool" else 2)


@pytest.mark.parametrize("name", list(TORCH_ACTIVATIONS))
def test_activations(name):
    x = np.linspace(-15, 15, 601).reshape(1, 1, -1)
    expected = TORCH_ACTIVATIONS[name](torch.tensor(x)).numpy()
    assert_close(pc.conv(x, np.ones((1, 1, 1)), activation=name), expected, terms=1, activation=name)


def test_weights_of_a_layer_are_those_of_pytorch():
    """FACTS: conv (O, I/g, k...), transposed (I, O/g, k...)."""
    conv = torch.nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, dilation=(1, 2), groups=2, dtype=torch.float64)
    transposed = torch.nn.ConvTranspose2d(
        6, 4, (3, 2), stride=3, padding=1, output_padding=(2, 1), groups=2, dtype=torch.float64
    )
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = conv(x)
        z = transposed(y)
        ours = pc.conv(
            x.numpy(), conv.weight.numpy(), conv.bias.numpy(), stride=2, padding=1, dilation=(1, 2), groups=2
        )
        back = pc.conv_transpose(
            ours,
            transposed.weight.numpy(),
            transposed.bias.numpy(),
            stride=3,
            padding=1,
            output_padding=(2, 1),
            groups=2,
        )
    assert_close(ours, y.numpy(), terms=16, magnitude=4.0)
    assert_close(back, z.numpy(), terms=32, magnitude=8.0)
