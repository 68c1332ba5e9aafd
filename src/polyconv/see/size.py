"""An input's size as people write it: "5x5", or "3x5x5" with its channels."""

from __future__ import annotations

import re

from polyconv.layers import Sizes
from polyconv.network import Network

_SIZES = re.compile(r"\d{1,10}(?:x\d{1,10})*", re.ASCII | re.IGNORECASE)


def sizes_in(text: str, name: str) -> Sizes:
    """The numbers of a text such as "3x5x5".

    Args:
        text: what was written.
        name: what the sentence of a mistake calls it.

    Raises:
        ValueError: for another text.

    Example:
        >>> sizes_in("3x5x5", "--input")
        (3, 5, 5)
    """
    if not _SIZES.fullmatch(text):
        raise ValueError(f"{name} {text[:40]!r} is no size. Give sizes joined by x: 5x5, or 3x5x5 with 3 channels")
    return tuple(map(int, text.lower().split("x")))


def with_channels(network: Network, sizes: Sizes, name: str, rank: int) -> tuple[int | None, Sizes]:
    """Channels, where the sizes have them, and the spatial sizes.

    Args:
        network: it says how many axes there are.
        sizes: what was given.
        name: what the sentence of a mistake calls it.
        rank: the number of axes where the network fits any.

    Raises:
        ValueError: for more or fewer sizes than the network has axes.

    Example:
        >>> from polyconv import network
        >>> with_channels(network("conv 3x3 8"), (3, 5, 7), "--input", 2)
        (3, (5, 7))
        >>> with_channels(network("conv 3x3 8"), (5, 7), "--input", 2)
        (None, (5, 7))
    """
    rank = network.ndim or rank
    if len(sizes) not in (rank, rank + 1):
        axes, given = "x".join("DHW"[-rank:]) if rank > 1 else "L", "x".join(map(str, sizes))
        raise ValueError(f"{name} {given} does not fit a {rank}-D network. Give {axes}, or Cx{axes} with channels")
    return (sizes[0], sizes[1:]) if len(sizes) == rank + 1 else (None, sizes)
