"""The published arithmetic of convolutions: fifteen relationships, eight figures, and the numbers in them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import oracle
import polyconv as pc
from tolerance import assert_equal

GUIDE = json.loads((Path(__file__).parent / "data" / "dumoulin_visin.json").read_text())
FIGURES = GUIDE["figures"]
SIZES, K, S, P = range(1, 13), range(1, 6), range(1, 5), range(6)


def size_of(text: str, i: int) -> int | None:
    """The output size of a one-axis network, or None where it refuses."""
    try:
        return pc.network(text).out_shape((1, 1, i))[2]
    except ValueError:
        return None


def conv(i: int, k: int, s: int = 1, p: int | str = 0, d: int = 1) -> int | None:
    padding = p if isinstance(p, str) else f"padding {p}"
    return size_of(f"conv {k} 1 stride {s} {padding} dilation {d} nobias", i)


def transposed(i: int, k: int, s: int = 1, p: int = 0, a: int = 0) -> int | None:
    return size_of(f"transposed {k} 1 stride {s} padding {p} output_padding {a} nobias", i)


def fitting(*ranges: range):
    """All (i, k, ...) whose window fits without padding."""
    return [case for case in itertools.product(*ranges) if case[0] >= case[1]]


def test_relationships_1_and_2_no_stride():
    for i, k in fitting(SIZES, K):
        assert conv(i, k) == i - k + 1
        for p in P:
            assert conv(i, k, 1, p) == i - k + 2 * p + 1


def test_relationships_3_and_4_half_and_full():
    for i, n in itertools.product(SIZES, range(3)):
        assert conv(i, 2 * n + 1, 1, n) == i
        assert conv(i, 2 * n + 1, 1, "same") == i
    for i, k in itertools.product(SIZES, K):
        assert conv(i, k, 1, k - 1) == i + k - 1
        assert conv(i, k, 1, "full") == i + k - 1


def test_relationships_5_and_6_strides():
    for i, k, s in fitting(SIZES, K, S):
        assert conv(i, k, s) == (i - k) // s + 1
        for p in P:
            assert conv(i, k, s, p) == (i + 2 * p - k) // s + 1


def test_relationship_7_pooling():
    for i, k, s in fitting(SIZES, K, S):
        for kind in ("maxpool", "avgpool"):
            assert size_of(f"{kind} {k} stride {s}", i) == (i - k) // s + 1


def test_relationships_8_to_11_transposed_without_stride():
    for i, k in fitting(SIZES, K):
        out = conv(i, k)
        assert transposed(out, k) == out + (k - 1) == i
        for p in range(k):
            out = conv(i, k, 1, p)
            assert transposed(out, k, 1, p) == out + (k - 1) - 2 * p == i
            assert conv(out, k, 1, k - p - 1) == i, "the equivalent convolution, p' = k - p - 1"
        if k % 2:
            assert transposed(i, k, 1, k // 2) == i
        full = conv(i, k, 1, k - 1)
        assert transposed(full, k, 1, k - 1) == full - (k - 1) == i


def test_relationships_12_to_14_transposed_with_stride():
    for i, k, s in fitting(SIZES, K, S):
        for p in range(k):
            a, out = (i + 2 * p - k) % s, conv(i, k, s, p)
            assert out is not None
            if p == 0 and a == 0:
                assert transposed(out, k, s) == s * (out - 1) + k == i
            if a == 0:
                assert transposed(out, k, s, p) == s * (out - 1) + k - 2 * p == i
            assert transposed(out, k, s, p, a) == s * (out - 1) + a + k - 2 * p == i


def test_relationship_15_dilation():
    for i, k, s, p, d in itertools.product((5, 8, 11, 13), K, (1, 2, 3), (0, 1, 2), (1, 2, 3)):
        left = i + 2 * p - k - (k - 1) * (d - 1)
        assert conv(i, k, s, p, d) == (left // s + 1 if left >= 0 else None)


def test_a_relationship_can_fail():
    assert conv(5, 3) != 4
    assert conv(2, 3) is None


@pytest.mark.parametrize("f", FIGURES, ids=[f["name"] for f in FIGURES])
def test_figures(f):
    """Output, transposed output, multiply-accumulates, and those of them which touch data (the matrix' non-zeros)."""
    i, k, o = f["i"], f["k"], f["o"]
    options = {"stride": f["s"], "padding": f["p"], "dilation": f["d"]}
    x, w = np.ones((1, 1, i, i)), np.ones((1, 1, k, k))
    answer = oracle.conv(x, w, **options)
    y = pc.conv(x, w, **options)
    assert y.shape == (1, 1, o, o)
    assert_equal(y, answer.y)
    assert (answer.multiplications, answer.on_data) == (f["macs"], f["nonzeros"])
    assert [o * o, i * i] == f["matrix"]
    if f["transposed_p"] is None:
        return
    back = pc.conv_transpose(np.ones((1, 1, o, o)), w, output_padding=f["a"], stride=f["s"], padding=f["p"])
    assert back.shape == (1, 1, i, i)
    # The same thing as a convolution of the stretched input, padded by p' = k - p - 1 (and a at the end)
    stretched = np.zeros((1, 1, f["s"] * (o - 1) + 1, f["s"] * (o - 1) + 1))
    stretched[..., :: f["s"], :: f["s"]] = 1
    assert f["transposed_p"] == k - f["p"] - 1
    side = (f["transposed_p"], f["transposed_p"] + f["a"])
    assert_equal(back, pc.conv(stretched, w[..., ::-1, ::-1], padding=(side, side)))


def numbers(name: str) -> np.ndarray:
    return np.array(GUIDE["numeric"][name], dtype=np.float64)[None, None]


def test_numeric_figures():
    x, w = numbers("x"), numbers("weight")
    assert_equal(pc.conv(x, w), numbers("conv"))
    assert_equal(pc.conv(x, w, stride=2, padding=1), numbers("conv stride 2 padding 1"))
    assert_equal(pc.max_pool(x, 3, stride=1), numbers("max pool 3 stride 1"))
    assert_equal(pc.avg_pool(x, 3, stride=1).round(1), numbers("average pool 3 stride 1, one decimal"))


def test_numeric_figure_transposed():
    x, w, y = (np.array(GUIDE["transposed"][n], dtype=np.float64)[None, None] for n in ("x", "weight", "y"))
    assert_equal(pc.conv_transpose(x, w), y)


def test_overlap_of_transposed_kernels():
    """Kernel 3, stride 2 overlaps unevenly (the checkerboard); kernel 4, stride 2 evenly."""

    def overlap(kernel: int, inputs: int) -> list[float]:
        return pc.conv_transpose(np.ones((1, 1, inputs)), np.ones((1, 1, kernel)), stride=2)[0, 0].tolist()

    assert overlap(3, 2) == [1, 1, 2, 1, 1]
    assert overlap(4, 4) == [1, 1, 2, 2, 2, 2, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("conv 3x3 1", (1, 1, 11, 11), (1, 1, 9, 9)),
        ("maxpool 3x3", (1, 1, 11, 11), (1, 1, 3, 3)),
        ("conv 3x3 1 dilation 2", (1, 1, 5, 5), (1, 1, 1, 1)),
        ("pointwise 32", (1, 192, 28, 28), (1, 32, 28, 28)),
    ],
)
def test_lecture_sizes(text, shape, expected):
    assert pc.network(text).out_shape(shape) == expected


def test_six_weights_for_nine():
    def weights(text: str, channels: int) -> int:
        return sum(w.size for w in pc.network(text).weights(in_channels=channels).values())

    assert weights("spatial 3x3 1 nobias", 1) == 6
    assert weights("conv 3x3 1 nobias", 1) == 9
    assert weights("conv 3x5 7 nobias", 2) == 2 * 7 * 15
