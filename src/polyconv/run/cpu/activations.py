"""Activations as vector code, shared by every algorithm."""

from __future__ import annotations

from polyconv.run.cpu.emit import Kernel, Value


def activate(k: Kernel, name: str | None, value: Value) -> Value:
    """The activation of a vector; None leaves it alone."""
    if name is None:
        return value
    if name == "relu":
        return k.maximum(value, 0.0)
    raise ValueError(f"activation {name!r} has no vector code; give the layer none and apply it afterwards.")
