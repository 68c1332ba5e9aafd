"""Why another count of the same network may differ: sentences with the numbers of this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from polyconv.geometry import product
from polyconv.layers import BatchNorm, Conv, ConvTranspose
from polyconv.network import Network

if TYPE_CHECKING:
    from polyconv.architectures import ResNetVariant
    from polyconv.count.tally import Row


def notes_for(network: Network, rows: Sequence[Row]) -> tuple[str, ...]:
    """What other counters and papers count differently here, and what it comes to."""
    found = (_doubled(rows), _padding(rows), _biases(network, rows), _batch_norms(network, rows))
    kinds = (_grouped(network, rows), _transposed(network, rows), _resnet50(network, rows))
    return tuple(note for note in (*found, *kinds) if note)


def _doubled(rows: Sequence[Row]) -> str:
    macs = sum(row.macs for row in rows)
    if not macs:
        return ""
    return f"Most papers say FLOPs and mean MACs: then this network has {macs:,}; as 2 x MACs it has {2 * macs:,}."


def _padding(rows: Sequence[Row]) -> str:
    extra = sum(row.macs - row.macs_on_data for row in rows)
    return f"{extra:,} MACs touch padding or cropped outputs; counters that skip them report fewer." if extra else ""


def _biases(network: Network, rows: Sequence[Row]) -> str:
    biased = [
        (row, row.out_shape[1])
        for node, row in zip(network.nodes, rows, strict=True)
        if isinstance(node.layer, Conv | ConvTranspose) and node.layer.bias
    ]
    if not biased:
        return ""
    additions = sum(product(row.out_shape) for row, _ in biased)
    biases = sum(number for _, number in biased)
    return (
        f"Biases are {biases:,} of the parameters ({sum(row.params for row in rows) - biases:,} without them) and "
        f"{additions:,} additions; counted as MACs by some, not here."
    )


def _batch_norms(network: Network, rows: Sequence[Row]) -> str:
    norms = [row for node, row in zip(network.nodes, rows, strict=True) if isinstance(node.layer, BatchNorm)]
    if not norms:
        return ""
    return (
        f"Batch norms have {sum(row.params for row in norms):,} trainable parameters and "
        f"{sum(row.buffers for row in norms):,} statistics (not counted as parameters); folded into the convolutions "
        "at inference they cost no MACs."
    )


def _grouped(network: Network, rows: Sequence[Row]) -> str:
    groups = [
        (row, _groups(node.layer, row.in_shape[1]))
        for node, row in zip(network.nodes, rows, strict=True)
        if isinstance(node.layer, Conv | ConvTranspose)
    ]
    macs = sum(row.macs for row, number in groups if number > 1)
    if not macs:
        return ""
    dense = sum(row.macs * number for row, number in groups if number > 1)
    return f"Grouped and depthwise layers have {macs:,} MACs; counters that overlook the groups report {dense:,}."


def _groups(layer: Conv | ConvTranspose, in_channels: int) -> int:
    return layer.groups if isinstance(layer, ConvTranspose) else layer.groups_for(in_channels)


_RESNET50_PARAMS = 25_557_032  # of all three
_RESNET50: dict[ResNetVariant, str] = {
    "v1": "with the stride in the first 1x1 of a block, as published",
    "torchvision": "with the stride in its 3x3 (torchvision)",
    "tf_slim": "with the stride at the end of the block before (TF-slim)",
}


def _resnet50(network: Network, rows: Sequence[Row]) -> str:
    """Three networks share the name; their MACs are counted here, for the same input."""
    if sum(row.params for row in rows) != _RESNET50_PARAMS or len(network.nodes) < 100:
        return ""
    from polyconv.architectures import resnet50
    from polyconv.count.tally import total_macs

    listed = []
    for variant, words in _RESNET50.items():
        other = resnet50(variant)
        this = " (this one)" if other == network else ""
        listed.append(f"{total_macs(other, rows[0].in_shape):,} {words}{this}")
    return f"Three networks are called ResNet-50 and have as many parameters; their MACs here: {', '.join(listed)}."


def _transposed(network: Network, rows: Sequence[Row]) -> str:
    macs = wrong = 0
    for node, row in zip(network.nodes, rows, strict=True):
        if isinstance(node.layer, ConvTranspose):
            macs += row.macs
            wrong += row.macs * product(row.out_shape[2:]) // max(1, product(row.in_shape[2:]))
    if wrong == macs:
        return ""
    return (
        f"Transposed convolutions are counted by their input positions: {macs:,} MACs. Counters that multiply by the "
        f"output positions report {wrong:,}."
    )
