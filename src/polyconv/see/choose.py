"""Which channels a picture shows when there are too many for it, and which of its moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_CHANNELS = 4


@dataclass(frozen=True)
class Shown:
    """The channels that are drawn.

    Args:
        inputs: input channels, ascending.
        outputs: output channels, ascending.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def shown(in_channels: int, out_channels: int, groups: int = 1, most: int = MAX_CHANNELS) -> Shown:
    """The first channels of the first groups, at most ``most`` on each side.

    An output is drawn only with at least one of the inputs of its group.

    Example:
        >>> shown(64, 64, groups=2)
        Shown(inputs=(0, 1, 32, 33), outputs=(0, 1, 32, 33))
    """
    per_in, per_out = in_channels // groups, out_channels // groups
    used = min(groups, most)
    if per_out > 1 and used * per_out > most:  # a multiplier: rather whole groups than one filter of each
        used = max(1, min(used, most // 2))
    return Shown(_first(per_in, used, most), _first(per_out, used, most))


def _first(per_group: int, groups: int, most: int) -> tuple[int, ...]:
    quota = min(per_group, max(1, most // groups))
    return tuple(group * per_group + index for group in range(groups) for index in range(quota))


def kept(moments: Sequence[int], most: int) -> tuple[int, list[list[int]]]:
    """Every how many moments one is kept so that at most about ``most`` remain, and those of each step.

    The first and the last moment of a step always stay.

    Example:
        >>> kept([5], 3)
        (2, [[0, 2, 4]])
    """
    every = max(1, -(-sum(moments) // most))
    chosen = []
    for count in moments:
        numbers = list(range(0, count, every))
        if numbers and numbers[-1] != count - 1:
            numbers.append(count - 1)
        chosen.append(numbers)
    return every, chosen
