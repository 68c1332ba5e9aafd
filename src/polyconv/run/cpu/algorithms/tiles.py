"""Where the tiles of a picture lie, for algorithms that transform tiles (`winograd`, `fourier`).

A tile has some outputs along each axis, a dilation apart from each other: a dilated axis is that many interleaved
pictures.
"""

from __future__ import annotations

from collections.abc import Sequence


def tile_starts(outputs: Sequence[int], dilations: Sequence[int], out_size: Sequence[int]) -> list[list[int]]:
    """The first output position of each tile along each axis; dilated axes picture by interleaved picture.

    Args:
        outputs: of a tile, along each axis.
        dilations: between a tile's outputs.
        out_size: of the picture.

    Example:
        >>> tile_starts((4, 2), (1, 2), (9, 5))
        [[0, 4, 8], [0, 4, 1]]
    """
    found = []
    for count, dilation, size in zip(outputs, dilations, out_size, strict=True):
        if count == 1 or dilation == 1:
            found.append(list(range(0, size, count)))
        else:
            found.append([s for rest in range(min(dilation, size)) for s in range(rest, size, dilation * count)])
    return found


def tile_counts(outputs: Sequence[int], dilations: Sequence[int], out_size: Sequence[int]) -> list[int]:
    """How many tiles lie along each axis: the lengths of ``tile_starts``.

    Example:
        >>> tile_counts((4, 2), (1, 2), (9, 5))
        [3, 3]
    """
    found = []
    for count, dilation, size in zip(outputs, dilations, out_size, strict=True):
        if count > 1:
            least, longer = divmod(size, dilation)  # of the interleaved pictures so many have a position more
            size = (dilation - longer) * -(-least // count) + longer * -(-(least + 1) // count)
        found.append(size)
    return found
