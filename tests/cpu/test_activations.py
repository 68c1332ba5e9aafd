"""Activations in machine code against the mathematical library in double precision (within an ulp of float64)."""

import math

import numpy as np
import pytest

from cpu.forced import TARGETS
from polyconv.run.cpu import machine, pool
from polyconv.run.cpu.activations import ACTIVATIONS, activate
from polyconv.run.cpu.emit import Kernel


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v)) if v > -700 else math.exp(v)


TRUE = {
    "relu": lambda v: max(v, 0),
    "relu6": lambda v: min(max(v, 0), 6),
    "leaky_relu": lambda v: v if v >= 0 else 0.01 * v,
    "silu": lambda v: v * sigmoid(v),
    "gelu": lambda v: v * math.erfc(-v * math.sqrt(0.5)) / 2,
    "sigmoid": sigmoid,
    "tanh": math.tanh,
    "hardswish": lambda v: v * min(max(v + 3, 0), 6) / 6,
}
ULPS = {  # of the larger of 1 and the result
    "relu": (0, 0),
    "relu6": (0, 0),
    "leaky_relu": (0.6, 0.6),
    "hardswish": (2, 2),
    "sigmoid": (2, 2),
    "tanh": (2, 2),
    "silu": (2, 2),
    "gelu": (1, 2),
}


def apply(name: str, x: np.ndarray, target) -> np.ndarray:
    k = Kernel("activation", target, x.dtype.name)
    source, sink = k.words("x: ptr", "y: ptr")
    with k.loop(k.first, k.last) as i:
        k.store_vector(activate(k, name, k.load_vector(k.at(source, i * k.lanes))), k.at(sink, i * k.lanes))
    y = np.empty_like(x)
    pool.run(machine.load(k.module(), "activation", target), [x, y], x.size // k.lanes)
    return y


def arguments(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    size = 10.0 ** rng.uniform(-30, 2.2, 800)
    near = rng.uniform(-8, 8, 1600)
    return np.concatenate([size, -size, near, np.linspace(-110, 110, 416)]).astype(dtype)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_is_close_to_mathematics(name, dtype, target):
    x = arguments(dtype)
    y = apply(name, x, TARGETS[target]())
    epsilon = float(np.finfo(dtype).eps)
    wrong = [abs(float(b) - TRUE[name](float(a))) for a, b in zip(x, y, strict=True)]
    scaled = [w / (epsilon * max(1.0, abs(float(b)))) for w, b in zip(wrong, y, strict=True)]
    assert max(scaled) <= ULPS[name][dtype == "float64"], (max(scaled), x[int(np.argmax(scaled))])


@pytest.mark.parametrize("name", ["sigmoid", "silu", "gelu", "tanh"])
def test_tails_keep_their_relative_accuracy(name):
    x = arguments("float32")
    y = apply(name, x, TARGETS["host"]())
    for a, b in zip(x, y, strict=True):
        true = TRUE[name](float(a))
        if abs(true) > 1e-36:
            assert math.isclose(b, true, rel_tol=2e-5), (a, b, true)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_special_values(name, dtype):
    x = np.zeros(64, dtype)
    x[:3] = np.nan, np.inf, -np.inf
    y = apply(name, x, TARGETS["host"]())
    assert np.isnan(y[0])
    assert y[1] == {"sigmoid": 1, "tanh": 1, "relu6": 6}.get(name, np.inf)
    if name in ("silu", "gelu", "hardswish"):
        assert np.isnan(y[2])  # minus infinity times zero, as the definition has it
    else:
        assert y[2] == {"tanh": -1, "leaky_relu": -np.inf}.get(name, 0)
    assert y[3] == (0.5 if name == "sigmoid" else 0)
