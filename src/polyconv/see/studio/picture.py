"""A person's own picture through the network: read in memory, made small, never kept."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from time import perf_counter

import numpy as np

from polyconv._units import amount, milliseconds
from polyconv.count.render import sizes_text
from polyconv.count.tally import ITEM_BYTES, Report, count
from polyconv.images import encoded, fitted, photograph, picture_from
from polyconv.run.problem import Array
from polyconv.see.studio.answers import Answer
from polyconv.see.studio.state import State, read_state
from polyconv.views import first_look

MAX_BYTES, MAX_PIXELS = 16 * 2**20, 40_000_000
SIDES = (320, 160, 80)  # pixels along the longest side: the first whose work is small enough
MAX_MACS, MAX_VALUES = 1_500_000_000, 2**24
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma


def picture(query: Mapping[str, str], content: bytes) -> Answer:
    """A picture before and after the network, or a sentence under "problem"; for no content, the photograph we ship."""
    try:
        pixels = picture_from(content, max_pixels=MAX_PIXELS) if content else photograph()
        return through(read_state(query), pixels)
    except (ValueError, TypeError, ArithmeticError, MemoryError) as error:
        return {"problem": str(error)}


def through(state: State, pixels: Array) -> Answer:
    """The network on a picture of shape (height, width, 3)."""
    rank = len(state.in_shape) - 1
    if rank == 3:
        raise ValueError("a picture has 2 axes and the network takes 3. Choose 2-D, or 1-D for each row of pixels")
    for side in SIDES:
        small = fitted(pixels, side)
        x = arranged(small, state.in_shape[0], rank)
        report = count(state.network, x.shape)
        if report.macs <= MAX_MACS and _largest(report) <= MAX_VALUES:
            break
    else:
        what = f"{amount(report.macs)} MACs and {amount(_largest(report))} numbers at once"
        raise ValueError(
            f"this network needs {what} on a picture of {SIDES[-1]} pixels, the studio does up to {amount(MAX_MACS)} "
            f"and {amount(MAX_VALUES)}. Use fewer channels or layers, or less upsampling"
        )
    model = state.network.bind(state.network.weights(state.in_shape[0], state.seed, ndim=rank))
    start = perf_counter()
    y = np.asarray(model(x))
    seconds = perf_counter() - start
    planes = np.moveaxis(y, 0, 1) if rank == 1 else y[0]
    shown, words = first_look(planes)
    sizes = f"{sizes_text(x.shape[1:])} in, {sizes_text(y.shape[1:])} out"
    how = f"with random weights (seed {state.seed})"
    return {
        "before": url(small),
        "after": url(shown),
        "words": f"{sizes}, {how}: {words}. {milliseconds(seconds)} ms",
    }


def _largest(report: Report) -> int:
    """Numbers that must be held at once."""
    return report.peak_activation_bytes // ITEM_BYTES[report.dtype]


def arranged(pixels: Array, channels: int, rank: int) -> Array:
    """A picture as a network's input: grey for one channel, colours in turn for more; rows as signals in 1-D."""
    if channels * pixels.shape[0] * pixels.shape[1] > MAX_VALUES:
        raise ValueError(f"the network takes {channels:,} channels: too many for a picture. Use 1 or 3")
    if channels == 1:
        planes = (pixels @ np.array(GREY, np.float32))[None]
    else:
        planes = np.moveaxis(pixels, -1, 0)[np.arange(channels) % 3]
    x = planes[None] if rank == 2 else np.moveaxis(planes, 1, 0)
    return np.ascontiguousarray(x, np.float32)


def url(values: Array) -> str:
    """A picture as a data address."""
    return "data:image/png;base64," + base64.b64encode(encoded(values, ".png")).decode("ascii")
