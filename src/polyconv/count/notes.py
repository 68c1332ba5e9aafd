"""Why another count of the same network may differ: sentences with the numbers of this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from polyconv.geometry import product
from polyconv.layers import BatchNorm, Conv, ConvTranspose
from polyconv.network import Network

if TYPE_CHECKING:
    from polyconv.count.tally import Row


def notes_for(network: Network, rows: Sequence[Row]) -> tuple[str, ...]:
    """What other counters and papers count differently here, and what it comes to."""
    found = (_doubled(rows), _padding(rows), _biases(network, rows), _batch_norms(network, rows))
    return tuple(note for note in (*found, _transposed(network, rows)) if note)


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
    return (
        f"Biases are {sum(number for _, number in biased):,} of the parameters and {additions:,} additions; "
        "counted as MACs by some, not here."
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
