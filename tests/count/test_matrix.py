"""The matrix against the loops, against the operators, and against its own transpose."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given

import oracle
import polyconv as pc
import strategies

sparse = pytest.importorskip("scipy.sparse")


def first_layout(case: strategies.Case, array: np.ndarray) -> np.ndarray:
    return array if case.options["layout"] == "channels_first" else np.moveaxis(array, -1, 1)


def answer_of(operator: Any, case: strategies.Case) -> oracle.Answer:
    try:
        return operator(*case.arrays, **(case.options | {"activation": None}))
    except oracle.NoOutputError:
        assume(False)
        raise


def check(c: Any, case: strategies.Case, answer: oracle.Answer, bias: np.ndarray | None) -> None:
    x, y = first_layout(case, case.x), first_layout(case, answer.y)
    if bias is not None:
        y = y - bias.reshape(-1, *(1,) * case.ndim)
    assert c.shape == (int(np.prod(y.shape[1:])), int(np.prod(x.shape[1:])))
    for picture, expected in zip(x, y, strict=True):
        assert np.array_equal(c @ picture.ravel(), expected.ravel())


@given(strategies.convs())
def test_convolution_is_the_matrix(case: strategies.Case) -> None:
    answer = answer_of(oracle.conv, case)
    _, weight, bias = case.arrays
    fields = {name: value for name, value in case.options.items() if name not in ("layout", "activation")}
    layer = pc.Conv(kernel_size=weight.shape[2:], out_channels=weight.shape[0], bias=bias is not None, **fields)
    size = first_layout(case, case.x).shape[2:]
    c = pc.matrix(pc.Network((layer,)), weight, size)
    assert isinstance(c, sparse.csr_array)
    assert c.dtype == weight.dtype
    check(c, case, answer, bias)
    if fields["padding_mode"] == "zeros":
        batch = case.x.shape[0]
        assert c.nnz * batch == answer.on_data
        assert c.nnz == pc.Network((layer,)).count((1, *first_layout(case, case.x).shape[1:])).macs_on_data


@given(strategies.conv_transposes())
def test_transposed_is_the_transpose(case: strategies.Case) -> None:
    answer = answer_of(oracle.conv_transpose, case)
    _, weight, bias = case.arrays
    fields = {name: value for name, value in case.options.items() if name not in ("layout", "activation")}
    layer = pc.ConvTranspose(
        kernel_size=weight.shape[2:],
        out_channels=weight.shape[1] * fields["groups"],
        bias=bias is not None,
        **fields,
    )
    c = pc.matrix(pc.Network((layer,)), weight, first_layout(case, case.x).shape[2:])
    check(c, case, answer, bias)
    assert c.nnz * case.x.shape[0] == answer.on_data


def test_the_transpose_of_a_convolution_is_the_transposed_one() -> None:
    weight = strategies.integers((6, 2, 3, 4), "float64", seed=3)
    options = "stride 2x3 padding 1:2x0:1 groups 3"
    c = pc.matrix(f"conv 3x4 6 {options}", weight, (8, 11))
    y = strategies.integers((1, 6, 5, 3), "float64", seed=4)
    x = pc.conv_transpose(y, weight, stride=(2, 3), padding=((1, 2), (0, 1)), groups=3, output_padding=(0, 2))
    assert np.array_equal(c.T @ y.ravel(), x.ravel())
    back = pc.matrix(f"transposed 3x4 6 {options} output_padding 0x2", weight, (5, 3))
    assert (back != c.T).nnz == 0


def test_first_row_of_dumoulin_and_visins_matrix() -> None:
    c = pc.matrix("conv 3x3 1 nobias", np.arange(1.0, 10.0).reshape(1, 1, 3, 3), input_size=(4, 4))
    assert c.toarray()[0].tolist() == [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("avgpool 3x2 padding 1", lambda x: oracle.avg_pool(x, (3, 2), padding=1).y),
        (
            "avgpool 3x2 padding 1 exclude_pad",
            lambda x: oracle.avg_pool(x, (3, 2), padding=1, count_include_pad=False).y,
        ),
        ("avgpool 2x3 stride 2 ceil", lambda x: oracle.avg_pool(x, (2, 3), stride=2, ceil_mode=True).y),
        ("avgpool 3x3 stride 2 same", lambda x: oracle.avg_pool(x, 3, stride=2, padding="same").y),
        ("globalpool", lambda x: x.mean(axis=(2, 3), keepdims=True)),
        ("upsample 2x3", lambda x: x.repeat(2, 2).repeat(3, 3)),
        ("identity", lambda x: x),
    ],
)
def test_layers_without_weights(text: str, call: Any, seed: int) -> None:
    x = strategies.integers((1, 3, 5 + seed, 9 - seed), "float64", seed)
    c = pc.matrix(text, input_size=x.shape[2:], in_channels=3)
    assert np.allclose(c @ x.ravel(), call(x).ravel(), rtol=0, atol=1e-14)


def test_pointwise_and_depthwise_weights() -> None:
    x = strategies.integers((1, 3, 4, 5), "float32", 1)
    pointwise = strategies.integers((2, 3), "float32", 2)
    c = pc.matrix("pointwise 2", pointwise, (4, 5))
    assert np.array_equal(c @ x.ravel(), pc.pointwise_conv(x, pointwise).ravel())
    depthwise = strategies.integers((6, 1, 2, 3), "float32", 3)
    c = pc.matrix("depthwise 2x3 multiplier 2", depthwise, (4, 5))
    assert np.array_equal(c @ x.ravel(), pc.depthwise_conv(x, depthwise).ravel())


def test_one_number_for_one_axis() -> None:
    assert pc.matrix("conv 3 1", np.ones((1, 1, 3)), 7).shape == (5, 7)
    assert pc.matrix("conv 3x3 1", np.ones((1, 1, 3, 3)), 7).shape == (25, 49)


@pytest.mark.parametrize(
    ("text", "weight", "size", "error", "message"),
    [
        ("conv 3x3 4", np.ones((4, 2, 3, 3)), None, ValueError, "pass input_size"),
        ("conv 3x3 4", None, (4, 4), ValueError, r"needs its weight.*\(4, in_channels / 1, 3, 3\)"),
        ("conv 3x3 4", np.ones((4, 2, 3, 2)), (4, 4), ValueError, r"\(4, 2, 3, 2\), the layer expects \(4, in_ch"),
        (
            "transposed 3x3 4 groups 2",
            np.ones((3, 2, 3, 3)),
            4,
            ValueError,
            r"\(3, 2, 3, 3\).* \(in_channels, 2, 3, 3\)",
        ),
        ("depthwise 3x3 multiplier 2", np.ones((3, 1, 3, 3)), 4, ValueError, r"expects \(in_channels x 2, 1, 3, 3\)"),
        ("conv 3x3 4", np.ones((4, 2, 3, 3), int), (4, 4), TypeError, r"weight has dtype int64.*astype"),
        ("conv 3x3 4", np.ones((4, 2, 3, 3)), (2, 4), ValueError, "axis 0: kernel 3 .* the input has 2"),
        ("conv 3x3 4", np.ones((4, 2, 3, 3)), (4, 4, 4), ValueError, "input_size has 3 values"),
        ("conv 3x3 4 relu", np.ones((4, 2, 3, 3)), (4, 4), ValueError, "relu is not linear"),
        ("separable 3x3 4", None, (4, 4), ValueError, "a matrix is of one layer, 'separable 3x3 4' has 2"),
        ("maxpool 2x2", None, (4, 4), ValueError, "maxpool 2x2 is not a linear layer"),
        ("batchnorm", None, (4, 4), ValueError, "batchnorm is not a linear layer"),
        ("avgpool 2x2", np.ones(3), (4, 4), ValueError, r"without weights got one of shape \(3,\)"),
        ("conv 3x3 64 same", np.ones((64, 64, 3, 3)), (999, 999), ValueError, r"would have 36,\d+,\d+,\d+ entries"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, weight: Any, size: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        pc.matrix(text, weight, size)


def test_channels_that_contradict_the_weight() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 2, 3, 3\) and in_channels = 3"):
        pc.matrix("conv 3x3 4", np.ones((4, 2, 3, 3)), 5, in_channels=3)


def test_without_scipy_the_error_says_what_to_install() -> None:
    hide = "import sys; sys.modules['scipy'] = None; sys.modules['scipy.sparse'] = None"
    code = f"{hide}\nimport polyconv\npolyconv.matrix('identity')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert 'pip install "polyconv[matrix]"' in run.stderr.splitlines()[-1]
