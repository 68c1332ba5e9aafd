"""The figures of the guide as sparse matrices, and what the matrix refuses."""

from __future__ import annotations

import numpy as np
import pytest

import polyconv as pc
from test_arithmetic import FIGURES
from test_errors import Row, a, missing
from tolerance import assert_equal

pytest.importorskip("scipy", reason="SciPy is not installed: the matrix needs it")


@pytest.mark.parametrize("f", FIGURES, ids=[f["name"] for f in FIGURES])
def test_figures_as_matrices(f):
    """The non-zeros of C are the multiply-accumulates on data; C' is the transposed convolution."""
    i, k, o = f["i"], f["k"], f["o"]
    w = np.arange(1.0, k * k + 1).reshape(1, 1, k, k)
    text = f"conv {k}x{k} 1 stride {f['s']} padding {f['p']} dilation {f['d']} nobias"
    matrix = pc.matrix(text, w, input_size=(i, i))
    assert list(matrix.shape) == f["matrix"]
    assert matrix.nnz == f["nonzeros"]
    y = np.arange(1.0, o * o + 1)
    if f["a"] is not None:
        back = pc.conv_transpose(y.reshape(1, 1, o, o), w, stride=f["s"], padding=f["p"], output_padding=f["a"])
        assert_equal(matrix.T @ y, back.ravel())


def test_the_first_row_of_the_first_matrix():
    w = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    row = pc.matrix("conv 3x3 1 nobias", w, input_size=(4, 4)).toarray()[0]
    assert row.tolist() == [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 0, 0, 0, 0]


MATRIX: list[Row] = [
    ("matrix weight", lambda: pc.matrix("conv 3x3 1 nobias", a(1, 1, 3, 5), input_size=(4, 4)), ["(1, 1, 3, 5)"]),
    ("matrix size", lambda: pc.matrix("conv 3x3 1 nobias", a(1, 1, 3, 3), input_size=(2, 4)), ["3", "2"]),
    ("matrix rank", lambda: pc.matrix("conv 3x3 1 nobias", a(1, 1, 3, 3), input_size=(4,)), ["(4,)"]),
]


@pytest.mark.parametrize(("call", "needles"), [row[1:] for row in MATRIX], ids=[row[0] for row in MATRIX])
def test_bad_arguments(call, needles):
    with pytest.raises(ValueError, match=r"\S") as caught:
        call()
    assert missing(str(caught.value), needles) == [], str(caught.value)
