"""Bad arguments: refused before any work, with what was received, what fits and what to change.

Each row is a call, the error, and the words and numbers its message must contain. A message is part of the contract.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import numpy as np
import pytest

import polyconv as pc


def a(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.ones(shape, dtype)


NET = "conv 3x3 4 same relu | maxpool 2x2"


def bound(text: str = "conv 3x3 4", in_channels: int = 3) -> object:
    net = pc.network(text)
    return net.bind(net.weights(in_channels=in_channels, seed=0))


Row = tuple[str, Callable[[], object], list[str]]

CHANNELS: list[Row] = [
    ("conv channels", lambda: pc.conv(a(1, 3, 8, 8), a(4, 5, 3, 3)), ["3", "5", "(1, 3, 8, 8)", "(4, 5, 3, 3)"]),
    (
        "conv channels last",
        lambda: pc.conv(a(1, 8, 9, 3), a(4, 5, 3, 3), layout="channels_last"),
        ["3", "5", "(1, 8, 9, 3)", "(4, 5, 3, 3)"],
    ),
    ("conv groups of inputs", lambda: pc.conv(a(1, 6, 8), a(4, 2, 3), groups=2), ["6", "2", "groups"]),
    ("conv groups of outputs", lambda: pc.conv(a(1, 6, 8), a(5, 3, 3), groups=2), ["5", "2", "groups"]),
    ("groups 0", lambda: pc.conv(a(1, 6, 8), a(5, 6, 3), groups=0), ["groups", "0"]),
    ("groups negative", lambda: pc.conv(a(1, 6, 8), a(5, 6, 3), groups=-2), ["groups", "-2"]),
    ("groups a fraction", lambda: pc.conv(a(1, 6, 8), a(5, 6, 3), groups=1.5), ["groups", "1.5"]),
    ("transposed channels", lambda: pc.conv_transpose(a(1, 3, 8), a(4, 5, 3)), ["3", "4", "(1, 3, 8)", "(4, 5, 3)"]),
    ("transposed groups", lambda: pc.conv_transpose(a(1, 5, 8), a(5, 2, 3), groups=2), ["5", "2", "groups"]),
    ("depthwise weight", lambda: pc.depthwise_conv(a(1, 3, 8), a(3, 2, 3)), ["3", "2", "(3, 2, 3)"]),
    ("depthwise multiplier", lambda: pc.depthwise_conv(a(1, 3, 8), a(4, 1, 3)), ["3", "4"]),
    ("pointwise weight", lambda: pc.pointwise_conv(a(1, 3, 8, 8), a(4, 5)), ["3", "5"]),
    ("pointwise kernel", lambda: pc.pointwise_conv(a(1, 3, 8, 8), a(4, 3, 3, 1)), ["(4, 3, 3, 1)"]),
    ("pointwise shape as given", lambda: pc.pointwise_conv(a(1, 3, 8, 8), a(4, 5)), ["weight=(4, 5)"]),
    ("pointwise axes", lambda: pc.pointwise_conv(a(1, 3, 8, 8), a(4, 3, 1)), ["(4, 3, 1)", "2", "(1, 3, 8, 8)"]),
    ("pointwise groups", lambda: pc.pointwise_conv(a(1, 6, 8), a(4, 2), groups=2), ["6", "2", "groups"]),
    ("separable middle", lambda: pc.separable_conv(a(1, 3, 8), a(6, 1, 3), a(4, 5)), ["6", "5"]),
    (
        "spatial count",
        lambda: pc.spatially_separable_conv(a(1, 2, 8, 8), [a(4, 2, 3, 1)]),
        ["1", "2"],
    ),
    (
        "spatial kernel",
        lambda: pc.spatially_separable_conv(a(1, 2, 8, 8), [a(4, 2, 3, 3), a(4, 4, 1, 3)]),
        ["(4, 2, 3, 3)"],
    ),
    (
        "spatial channels",
        lambda: pc.spatially_separable_conv(a(1, 2, 8, 8), [a(4, 2, 3, 1), a(4, 5, 1, 3)]),
        ["4", "5"],
    ),
    (
        "spatial biases",
        lambda: pc.spatially_separable_conv(a(1, 2, 8, 8), [a(4, 2, 3, 1), a(4, 4, 1, 3)], [a(4)]),
        ["1", "2"],
    ),
]

SHAPES: list[Row] = [
    (
        "depthwise bias of a separable",
        lambda: pc.separable_conv(a(1, 3, 8), a(3, 1, 3), a(4, 3), depthwise_bias=a(4)),
        ["depthwise_bias", "3", "4"],
    ),
    (
        "a bias of a spatial",
        lambda: pc.spatially_separable_conv(a(1, 2, 8, 8), [a(4, 2, 3, 1), a(4, 4, 1, 3)], [None, a(3)]),
        ["biases[1]", "3", "4"],
    ),
    ("no weights", lambda: pc.spatially_separable_conv(a(1, 2, 8, 8), None), ["weights", "None"]),
    (
        "channels of a spatial",
        lambda: pc.spatially_separable_conv(a(1, 2, 8, 8), [a(4, 3, 3, 1), a(4, 4, 1, 3)]),
        ["2", "3", "weights[0]", "(4, 3, 3, 1)"],
    ),
    ("empty pointwise", lambda: pc.separable_conv(a(1, 3, 8), a(3, 1, 3), a(0, 3)), ["pointwise_weight", "(0, 3)"]),
    ("bias size", lambda: pc.conv(a(1, 3, 8), a(4, 3, 3), a(5)), ["bias", "5", "4"]),
    ("bias rank", lambda: pc.conv(a(1, 3, 8), a(4, 3, 3), a(4, 1)), ["bias", "(4, 1)", "4"]),
    ("transposed bias", lambda: pc.conv_transpose(a(1, 4, 8), a(4, 3, 3), a(4)), ["bias", "4", "3"]),
    ("depthwise bias", lambda: pc.depthwise_conv(a(1, 3, 8), a(6, 1, 3), a(3)), ["bias", "3", "6"]),
    ("rank of weight", lambda: pc.conv(a(1, 3, 8, 8), a(4, 3, 3)), ["(1, 3, 8, 8)", "(4, 3, 3)"]),
    ("rank of transposed", lambda: pc.conv_transpose(a(1, 3, 8), a(3, 4, 3, 3)), ["(1, 3, 8)", "(3, 4, 3, 3)"]),
    ("no spatial axis", lambda: pc.conv(a(1, 3), a(4, 3)), ["(1, 3)"]),
    ("a number", lambda: pc.conv(np.float32(3), a(4, 3, 3)), ["()"]),
    ("pool without axes", lambda: pc.avg_pool(a(2, 3), 2), ["(2, 3)"]),
    ("empty kernel", lambda: pc.conv(a(1, 3, 8), a(4, 3, 0)), ["(4, 3, 0)"]),
]

SIZES: list[Row] = [
    ("window beyond input", lambda: pc.conv(a(1, 1, 4, 9), a(1, 1, 5, 3)), ["5", "4"]),
    ("span beyond input", lambda: pc.conv(a(1, 1, 4), a(1, 1, 3), dilation=2), ["5", "4", "dilation"]),
    ("span beyond padded", lambda: pc.conv(a(1, 1, 4), a(1, 1, 7), padding=1), ["7", "6", "4"]),
    ("pool beyond input", lambda: pc.max_pool(a(1, 1, 4), 5), ["5", "4"]),
    ("average beyond input", lambda: pc.avg_pool(a(1, 1, 4, 4), (2, 5)), ["5", "4"]),
    ("pool of padding", lambda: pc.max_pool(a(1, 1, 8), 3, padding=3), ["padding", "3"]),
    ("average of padding", lambda: pc.avg_pool(a(1, 1, 8), 2, padding=((0, 2),)), ["padding", "0", "2"]),
    ("nothing to pool", lambda: pc.max_pool(a(1, 1, 0, 8), 1), ["(0, 8)"]),
    ("crop leaves nothing", lambda: pc.conv_transpose(a(1, 1, 2), a(1, 1, 3), padding=2), ["2", "4"]),
    ("reflect too wide", lambda: pc.conv(a(1, 1, 3), a(1, 1, 7), padding=3, padding_mode="reflect"), ["3", "2"]),
    ("circular too wide", lambda: pc.conv(a(1, 1, 3), a(1, 1, 9), padding=4, padding_mode="circular"), ["4", "3"]),
    (
        "nothing to replicate",
        lambda: pc.conv(a(1, 1, 0), a(1, 1, 2), padding=1, padding_mode="replicate"),
        ["replicate", "0"],
    ),
]

GEOMETRY: list[Row] = [
    (f"{function} {name} {value!r}", call, [name, shown])
    for value, shown in [(0, "0"), (-1, "-1"), (1.5, "1.5"), ((1, 2, 3), "3"), ((1,), "1"), ("2", "2"), (None, "None")]
    for name in ("stride", "dilation")
    for function, call in [
        ("conv", lambda n=name, v=value: pc.conv(a(1, 1, 8, 8), a(1, 1, 3, 3), **{n: v})),
        ("conv_transpose", lambda n=name, v=value: pc.conv_transpose(a(1, 1, 8, 8), a(1, 1, 3, 3), **{n: v})),
        ("max_pool", lambda n=name, v=value: pc.max_pool(a(1, 1, 8, 8), 2, **{n: v})),
    ]
    if not (function == "max_pool" and name == "stride" and value is None)
]

PADDING: list[Row] = [
    (f"{function} padding {value!r}", call, ["padding", *shown])
    for value, shown in [
        (-1, ["-1"]),
        (1.5, ["1.5"]),
        ((1, 2, 3), ["3", "2"]),
        (((1, 2), (3, -4)), ["-4"]),
        (((1, 2, 3), (1, 2)), ["3"]),
        ("smae", ["smae", "same"]),
        ("causal", ["causal", "2"]),
        (None, ["None"]),
    ]
    for function, call in [
        ("conv", lambda v=value: pc.conv(a(1, 1, 8, 8), a(1, 1, 3, 3), padding=v)),
        ("conv_transpose", lambda v=value: pc.conv_transpose(a(1, 1, 8, 8), a(1, 1, 3, 3), padding=v)),
        ("max_pool", lambda v=value: pc.max_pool(a(1, 1, 8, 8), 2, padding=v)),
        ("avg_pool", lambda v=value: pc.avg_pool(a(1, 1, 8, 8), 2, padding=v)),
    ]
]

OPTIONS: list[Row] = [
    ("kernel size 0", lambda: pc.max_pool(a(1, 1, 8), 0), ["kernel_size", "0"]),
    ("kernel size per axis", lambda: pc.avg_pool(a(1, 1, 8, 8), (2, 2, 2)), ["kernel_size", "3", "2"]),
    ("kernel size float", lambda: pc.avg_pool(a(1, 1, 8, 8), 2.0), ["kernel_size", "2.0"]),
    ("ceil_mode", lambda: pc.max_pool(a(1, 1, 8), 2, ceil_mode="up"), ["ceil_mode", "up"]),
    ("count_include_pad", lambda: pc.avg_pool(a(1, 1, 8), 2, count_include_pad=0), ["count_include_pad", "0"]),
    ("dilation 0", lambda: pc.conv(a(1, 1, 8), a(1, 1, 3), dilation=0), ["dilation", "0", "1", "none"]),
    ("padding without a hash", lambda: pc.conv(a(1, 1, 8), a(1, 1, 3), padding={1: 2}), ["padding", "1: 2"]),
    ("padding mode", lambda: pc.conv(a(1, 1, 8), a(1, 1, 3), padding_mode="mirror"), ["mirror", "reflect"]),
    ("activation", lambda: pc.conv(a(1, 1, 8), a(1, 1, 3), activation="rellu"), ["rellu", "relu"]),
    ("activation type", lambda: pc.conv(a(1, 1, 8), a(1, 1, 3), activation=max), ["activation"]),
    ("layout", lambda: pc.conv(a(1, 1, 8), a(1, 1, 3), layout="NHWC"), ["NHWC", "channels_last"]),
    ("pool layout", lambda: pc.max_pool(a(1, 1, 8), 2, layout="last"), ["last", "channels_last"]),
    (
        "output padding",
        lambda: pc.conv_transpose(a(1, 1, 8), a(1, 1, 3), stride=3, output_padding=4),
        ["output_padding", "4", "3"],
    ),
    (
        "output padding negative",
        lambda: pc.conv_transpose(a(1, 1, 8), a(1, 1, 3), stride=3, output_padding=-1),
        ["output_padding", "-1"],
    ),
]

NETWORK: list[Row] = [
    ("channels of a stage", lambda: pc.network("conv 3 4 groups 3").out_shape((1, 4, 9)), ["4", "3", "groups"]),
    ("rank of the input", lambda: pc.network("conv 3x3 4").out_shape((1, 3, 8)), ["(1, 3, 8)", "height"]),
    ("too small", lambda: pc.network("conv 3x3 4 | conv 7x7 4").out_shape((1, 3, 8, 8)), ["7", "6"]),
    ("negative size", lambda: pc.network("conv 3x3 4").out_shape((1, 3, -8, 8)), ["-8"]),
    ("not a shape", lambda: pc.network("conv 3x3 4").out_shape((1, 3, 8.5, 8)), ["8.5"]),
    ("no channels", lambda: pc.network("conv 3x3 4").weights(in_channels=0), ["0"]),
    ("a missing weight", lambda: pc.network(NET).bind({"0.weight": a(4, 3, 3, 3)}), ["0.bias"]),
    (
        "an unknown weight",
        lambda: pc.network("conv 3x3 4 nobias").bind({"0.weight": a(4, 3, 3, 3), "1.weight": a(1)}),
        ["1.weight"],
    ),
    (
        "a weight of another shape",
        lambda: pc.network(NET).bind({"0.weight": a(4, 3, 3, 5), "0.bias": a(4)}),
        ["0.weight", "(4, 3, 3, 5)"],
    ),
    (
        "a bias of another shape",
        lambda: pc.network(NET).bind({"0.weight": a(4, 3, 3, 3), "0.bias": a(3)}),
        ["0.bias", "3", "4"],
    ),
    (
        "stages which do not meet",
        lambda: pc.network("conv 3 4 nobias | conv 3 5 nobias").bind({"0.weight": a(4, 3, 3), "1.weight": a(5, 6, 3)}),
        ["1.weight", "(5, 6, 3)", "4"],
    ),
    (
        "layout of a model",
        lambda: pc.network(NET).bind(pc.network(NET).weights(in_channels=3), layout="nhwc"),
        ["nhwc"],
    ),
    ("channels of an input", lambda: bound()(a(1, 4, 8, 8)), ["4", "3"]),
    ("rank of an input", lambda: bound()(a(3, 8, 8)), ["(3, 8, 8)", "height", "width"]),
    ("dtype of weights", lambda: pc.network("conv 3 4").weights(in_channels=1, dtype="int8"), ["int8", "float64"]),
    ("input too small", lambda: bound()(a(1, 3, 2, 8)), ["3", "2"]),
    ("concat sizes", lambda: pc.network("concat(identity, conv 3 4)").out_shape((1, 2, 9)), ["9", "7"]),
    ("add channels", lambda: pc.network("add(identity, conv 3 4 same)").out_shape((1, 2, 9)), ["2", "4"]),
]

ROWS = [*CHANNELS, *SHAPES, *SIZES, *GEOMETRY, *PADDING, *OPTIONS, *NETWORK]


def missing(message: str, needles: list[str]) -> list[str]:
    """The words and numbers which the message does not contain as whole words."""
    return [n for n in needles if not re.search(rf"(?<![\w.]){re.escape(n)}(?![\w])", message)]


@pytest.mark.parametrize(("call", "needles"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_bad_arguments(call, needles):
    with pytest.raises(ValueError, match=r"\S") as caught:
        call()
    message = str(caught.value)
    assert missing(message, needles) == [], message
    assert not re.search(r"Error|Traceback|<function|object at 0x", message), message


@pytest.mark.parametrize(
    "name", ["conv", "conv_transpose", "max_pool", "avg_pool", "pointwise_conv", "depthwise_conv", "separable_conv"]
)
def test_options_are_keyword_only_and_known(name):
    """Misspelt or positional options are Python's own TypeError."""
    arrays = [a(1, 1, 8), 2] if "pool" in name else [a(1, 1, 8), a(1, 1, 3), a(1, 1, 1)][: 3 if "sep" in name else 2]
    with pytest.raises(TypeError):
        getattr(pc, name)(*arrays, strides=2)
    with pytest.raises(TypeError):
        getattr(pc, name)(*arrays, None, 2, 1, 1)


def test_the_check_of_messages_can_fail():
    assert missing("input has 3 channels, got 13", ["3", "13", "channels"]) == []
    assert missing("input has 13 channels", ["3"]) == ["3"]
    assert missing("stride is 2.5", ["5"]) == ["5"]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: pc.separable_conv(a(1, 3, 8), a(3, 1, 3, dtype="float64"), a(4, 3)), "depthwise_weight"),
        (lambda: pc.separable_conv(a(1, 3, 8), a(3, 1, 3), a(4, 3, dtype="float64")), "pointwise_weight"),
        (lambda: pc.spatially_separable_conv(a(1, 2, 8), [a(4, 2, 3)], [a(4, dtype="float64")]), r"biases\[0\]"),
    ],
)
def test_a_mixture_names_the_array_to_convert(call, name):
    with pytest.raises(TypeError, match=rf"{name} float64. Convert one: {name}\.astype\('float32'\)"):
        call()


class OnlyDLPack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyInterface:
    def __init__(self, array):
        self.array, self.__array_interface__ = array, array.__array_interface__


def a_tensor(array):
    return pytest.importorskip("torch", reason="PyTorch is not installed").tensor(array)


KINDS_OF_ARRAYS = {"numpy": np.asarray, "list": np.ndarray.tolist, "torch": a_tensor} | {
    "interface": OnlyInterface, "dlpack": OnlyDLPack,
}  # fmt: skip
BOUND = {"0.weight": a(4, 2, 3)}
TAKES_ONE = [
    ("x", (1, 2, 8), lambda x: pc.network("conv 3 4 nobias").bind(BOUND)(x)),
    ("weight", (4, 2, 3), lambda weight: pc.conv(a(1, 2, 8), weight)),
    ("weight", (4, 1, 3), lambda weight: pc.depthwise_conv(a(1, 4, 8), weight)),
    ("bias", (4,), lambda bias: pc.conv_transpose(a(1, 2, 8), a(2, 4, 3), bias)),
    ("weights[1]", (2, 2, 1, 3), lambda w: pc.spatially_separable_conv(a(1, 2, 8, 8), iter([a(2, 2, 3, 1), w]))),
    ("0.bias", (4,), lambda bias: pc.network("conv 3 4").bind(BOUND | {"0.bias": bias})(a(1, 2, 8))),
]


@pytest.mark.parametrize("kind", KINDS_OF_ARRAYS)
@pytest.mark.parametrize(("name", "shape", "call"), TAKES_ONE, ids=[name for name, *_ in TAKES_ONE])
@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_the_conversion_named_works_for_the_kind_of_array_passed(dtype, name, shape, call, kind):
    """What the message proposes is run, and with its result the call goes through."""
    wrong = KINDS_OF_ARRAYS[kind](np.ones(shape, dtype))
    with pytest.raises(TypeError) as caught:
        call(wrong)
    hint = re.search(r"Convert[ \w]*: (.*\))", str(caught.value))[1]
    assert name in hint
    names = {"numpy": np, "given": wrong, "torch": sys.modules.get("torch")}
    call(eval(hint.replace(name, "given"), names))


def test_refused_before_any_work():
    """A layer of a huge output with one bad argument fails at once, without the memory for it."""
    x = np.lib.stride_tricks.as_strided(np.zeros(1, "float32"), (1, 64, 1 << 20, 1 << 20), (0, 0, 0, 0))
    with pytest.raises(ValueError, match="bias"):
        pc.conv(x, a(64, 64, 3, 3), a(63))
    with pytest.raises(TypeError, match="float64"):
        pc.conv(x, a(64, 64, 3, 3, dtype="float64"))
    with pytest.raises(ValueError, match="pointwise"):  # the second layer's mistakes before the first layer's work
        pc.separable_conv(x, a(64, 1, 3, 3), a(4, 64, 3, 3))
    with pytest.raises(ValueError, match="axis 1: padding_mode 'circular'"):
        pc.spatially_separable_conv(
            x[..., :2], [a(4, 64, 3, 1), a(4, 4, 1, 9)], padding=(1, 4), padding_mode="circular"
        )
