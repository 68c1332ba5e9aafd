"""Kernels with a meaning: what one would write by hand to blur, sharpen, find edges or change colours."""

from __future__ import annotations

import numpy as np

from polyconv.run.problem import Array

LUMA = np.array((0.299, 0.587, 0.114))  # ITU-R BT.601: how bright red, green and blue look
SEPIA = np.array(((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131)))
EDGE_RIGHT = np.array(((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))) / 4  # Sobel: brighter to the right
EDGE_DOWN = EDGE_RIGHT.T
SPOT = np.array(((-1, -1, -1), (-1, 8, -1), (-1, -1, -1))) / 8  # brighter than its surroundings
BINOMIAL = np.array((1, 2, 1)) / 4


def gaussian(size: int, sigma: float) -> Array:
    """A bell over ``size`` taps that sums to 1."""
    distance = np.arange(size) - (size - 1) / 2
    bell = np.exp(-0.5 * (distance / sigma) ** 2)
    return np.asarray(bell / bell.sum())


def trail(size: int, fade: float) -> Array:
    """Taps that fade into the past, the present last; they sum to 1."""
    weights = fade ** np.arange(size)[::-1]
    return np.asarray(weights / weights.sum())


def centre(size: int, at: int | None = None) -> Array:
    """One tap of 1: in the middle, or ``at``."""
    taps = np.zeros(size)
    taps[size // 2 if at is None else at] = 1
    return taps


def square(taps: Array) -> Array:
    """A separable 2-D kernel from its 1-D taps."""
    return np.outer(taps, taps)


def sharpen(size: int, sigma: float, strength: float) -> Array:
    """The picture plus ``strength`` times what a blur takes from it (unsharp masking)."""
    return np.asarray((1 + strength) * square(centre(size)) - strength * square(gaussian(size, sigma)))


def spots(size: int, sigma: float) -> Array:
    """A narrow bell minus a wide one: dots and lines of one width (difference of Gaussians)."""
    return square(gaussian(size, sigma)) - square(gaussian(size, 1.6 * sigma))


def tent(stride: int) -> Array:
    """Taps of linear interpolation between samples ``stride`` apart, for a transposed layer of kernel 2 * stride."""
    distance = np.abs(np.arange(2 * stride) - (2 * stride - 1) / 2)
    return np.asarray(1 - distance / stride)


def oriented(size: int, sigma: float, directions: int) -> Array:
    """Edges in several directions (directions, size, size): derivatives of a bell along each."""
    position = np.arange(size) - (size - 1) / 2
    angles = np.arange(directions) * np.pi / directions
    along = np.cos(angles)[:, None, None] * position + np.sin(angles)[:, None, None] * position[:, None]
    kernels = along * square(gaussian(size, sigma))
    return np.asarray(kernels / np.abs(kernels).sum(axis=(1, 2), keepdims=True))


def cosines(size: int, number: int) -> Array:
    """The ``number`` slowest waves of the discrete cosine transform (number, size, size), orthonormal."""
    wave, place = np.arange(size)[:, None], np.arange(size)
    basis = np.cos(np.pi * wave * (2 * place + 1) / (2 * size)) * np.sqrt(np.where(wave == 0, 1, 2) / size)
    order = sorted(np.ndindex(size, size), key=lambda pair: (sum(pair), pair))[:number]
    return np.stack([np.outer(basis[down], basis[right]) for down, right in order])


def saturation(strength: float) -> Array:
    """A colour mix (3, 3): each colour's distance from grey times ``strength``."""
    return np.asarray(strength * np.eye(3) + (1 - strength) * np.ones((3, 1)) * LUMA)


def per_colour(kernel: Array, channels: int = 3) -> Array:
    """Weights (channels, channels, *kernel) that do the same to each channel and mix none."""
    return np.asarray(np.multiply.outer(np.eye(channels), kernel))


def of_grey(kernels: Array) -> Array:
    """Weights (n, 3, *kernel) that look at how bright the picture is, from kernels (n, *kernel)."""
    return np.moveaxis(np.multiply.outer(LUMA, kernels), 0, 1)
