"""The engine that needs nothing but NumPy: the reference, for both layouts.

It serves where machine code cannot be made, and as what the compiled engine is compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from polyconv import reference
from polyconv.run.problem import Array, Pads, Prepared, Problem


class NumpyEngine:
    """Runs problems through ``polyconv.reference``.

    Args:
        why: why it runs and machine code does not, for ``explain``.
    """

    name = "numpy"

    def __init__(self, why: str = "") -> None:
        self.why = why

    def prepare(self, problem: Problem, weight: Array | None, bias: Array | None, *, far: bool = False) -> Prepared:
        """Keep private copies of the weights."""
        return _Numpy(problem, self.why, *(None if a is None else np.array(a, order="C") for a in (weight, bias)))


class _Numpy:
    def __init__(self, problem: Problem, why: str, weight: Array | None, bias: Array | None) -> None:
        self.problem, self.why, self.weight, self.bias = problem, why, weight, bias

    def __call__(self, x: Array, padding: Pads, out_size: tuple[int, ...]) -> Array:
        last = self.problem.layout == "channels_last"
        y = self._run(np.moveaxis(x, -1, 1) if last else x, padding, out_size)
        if self.bias is not None:
            y += self.bias.reshape(-1, *(1,) * len(out_size))
        if self.problem.activation is not None:
            y = reference.ACTIVATIONS[self.problem.activation](y)
        return np.ascontiguousarray(np.moveaxis(y, 1, -1)) if last else y

    def at(self, in_shape: tuple[int, ...], padding: Pads, out_size: tuple[int, ...]) -> Callable[[Array], Array]:
        """The layer with these sizes: nothing here depends on them."""
        return lambda x: self(x, padding, out_size)

    def _run(self, x: Array, padding: Pads, out_size: tuple[int, ...]) -> Array:
        problem = self.problem
        stride, dilation = problem.stride, problem.dilation
        if problem.op == "max_pool":
            return reference.max_pool(
                x, problem.kernel_size, stride=stride, dilation=dilation, padding=padding, out_size=out_size
            )
        if problem.op == "avg_pool":
            return reference.avg_pool(
                x,
                problem.kernel_size,
                stride=stride,
                padding=padding,
                out_size=out_size,
                count_include_pad=problem.count_include_pad,
            )
        run = reference.conv if problem.op == "conv" else reference.conv_transpose
        weight = cast(Array, self.weight)
        return run(
            x, weight, stride=stride, dilation=dilation, groups=problem.groups, padding=padding, out_size=out_size
        )

    def explain(self, in_shape: tuple[int, ...], padding: Pads, out_size: tuple[int, ...]) -> str:
        """What runs, what it needs, and why no machine code does."""
        copied = any(map(any, padding)) and self.problem.op != "conv_transpose"
        workspace = "a padded copy of the input, and one product per tap" if copied else "one product per tap"
        why = f" ({self.why})" if self.why else ""
        return f"numpy reference: a loop over {np.prod(self.problem.kernel_size)} taps; workspace: {workspace}{why}"
