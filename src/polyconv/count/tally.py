"""What a network costs: parameters, multiply-accumulates, bytes and receptive field, for each node and in all.

The unit is the multiply-accumulate (MAC), one product added to a sum. ``macs`` counts the defining sum, padding
included and bias excluded; ``macs_on_data`` only the products whose input is real data and whose output is kept: the
non-zeros of the layer's matrix. FLOPs are 2 x MACs. All of them scale with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from polyconv._checks import dtype_name
from polyconv.count.field import ReceptiveField, fields
from polyconv.geometry import Axis, product
from polyconv.layers import Activation, BatchNorm, Conv, ConvTranspose, GlobalPool, Identity, Layer, Pool, Sizes
from polyconv.network import INPUT, Join, Network

ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class Row:
    """What one node of a network costs.

    Args:
        name: where it stands, as in ``Network.nodes``.
        text: the layer in notation.
        in_shapes: (batch, channels, *spatial) of what it reads: one shape, or one for each branch of a join.
        out_shape: (batch, channels, *spatial) of its output.
        params: trainable numbers: weights, biases, and the scale and shift of batch norms.
        buffers: numbers that are kept but not trained: a batch norm's statistics.
        macs: multiply-accumulates of the defining sum, padding included, without bias; 0 for pooling.
        macs_on_data: those whose input is real data and whose output is kept.
        other_operations: additions of biases and branches, comparisons and additions of pooling windows (on data),
            2 per value of a batch norm, 1 per value of an activation.
        weight_bytes: bytes of ``params`` and ``buffers``.
        in_bytes: bytes of everything it reads but its weights.
        activation_bytes: bytes of its output; 0 for an identity, which passes its input on.
        receptive_field: what one of its outputs sees of the network's input; None where ``field_problem`` says why.
        field_problem: why there is no receptive field, or an empty text.
    """

    name: str
    text: str
    in_shapes: tuple[Sizes, ...]
    out_shape: Sizes
    params: int
    buffers: int
    macs: int
    macs_on_data: int
    other_operations: int
    weight_bytes: int
    in_bytes: int
    activation_bytes: int
    receptive_field: ReceptiveField | None
    field_problem: str = ""

    @property
    def in_shape(self) -> Sizes:
        """The shape of what it reads; of the first branch for a join."""
        return self.in_shapes[0]

    @property
    def flops(self) -> int:
        """2 x MACs: a multiplication and an addition each."""
        return 2 * self.macs

    @property
    def moved_bytes(self) -> int:
        """Bytes read and written if everything moves once: inputs, weights and output."""
        return self.in_bytes + self.weight_bytes + self.activation_bytes

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs (2 x MACs) per byte moved; 0 where nothing moves."""
        return self.flops / self.moved_bytes if self.moved_bytes else 0.0


@dataclass(frozen=True, repr=False)
class Report:
    """What a network costs for one input: a row for each node, and totals.

    ``str(report)`` is a table, a notebook shows it as HTML; ``as_dict``, ``to_json`` and ``to_csv`` are for programs.

    Args:
        network: the network in notation.
        in_shape: (batch, channels, *spatial) of the input.
        dtype: of weights and activations, for the bytes.
        rows: one for each node, in order of execution.
        peak_activation_bytes: the most that must be alive at once: inputs and output of the node that runs, and all
            that is still to be read. Without weights, and without what an engine needs for itself.
        peak_stage: the node at which that is.
        notes: why other counts of this network may differ.
    """

    network: str
    in_shape: Sizes
    dtype: str
    rows: tuple[Row, ...]
    peak_activation_bytes: int
    peak_stage: str
    notes: tuple[str, ...]

    @property
    def out_shape(self) -> Sizes:
        """(batch, channels, *spatial) of the output."""
        return self.rows[-1].out_shape

    @property
    def receptive_field(self) -> ReceptiveField:
        """What one output sees of the input: ``.size``, ``.stride``, ``.padding``, one number per axis, in pixels.

        Where branches are misaligned it is their union, and ``.misaligned`` says which.

        Raises:
            ValueError: where it could not be followed (the row's ``field_problem``).
        """
        last = self.rows[-1]
        if last.receptive_field is None:
            raise ValueError(last.field_problem)
        return last.receptive_field

    @cached_property
    def params(self) -> int:
        """Trainable numbers; a batch norm's scale and shift, not its statistics."""
        return sum(row.params for row in self.rows)

    @cached_property
    def buffers(self) -> int:
        """Numbers that are kept but not trained."""
        return sum(row.buffers for row in self.rows)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the defining sums, padding included, without bias."""
        return sum(row.macs for row in self.rows)

    @cached_property
    def macs_on_data(self) -> int:
        """Multiply-accumulates whose input is real data and whose output is kept."""
        return sum(row.macs_on_data for row in self.rows)

    @property
    def flops(self) -> int:
        """2 x MACs."""
        return 2 * self.macs

    @cached_property
    def other_operations(self) -> int:
        """Operations that are not multiply-accumulates: biases, pooling, batch norms, activations, additions."""
        return sum(row.other_operations for row in self.rows)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of all parameters and buffers."""
        return sum(row.weight_bytes for row in self.rows)

    @cached_property
    def activation_bytes(self) -> int:
        """Bytes of all outputs together, as training keeps them; ``peak_activation_bytes`` is for inference."""
        return sum(row.activation_bytes for row in self.rows)

    @cached_property
    def intensity(self) -> float:
        """FLOPs (2 x MACs) per byte moved, if every node reads its inputs and weights and writes its output once."""
        moved = sum(row.moved_bytes for row in self.rows)
        return self.flops / moved if moved else 0.0

    def __repr__(self) -> str:
        """In a line; ``print`` it for the table."""
        return (
            f"<Report of {self.network!r} for {self.in_shape}: {self.params:,} parameters, {self.macs:,} MACs, "
            f"{self.macs_on_data:,} on data>"
        )

    def table(self) -> str:
        """The rows and totals as plain text, with units."""
        from polyconv.count.render import as_text

        return as_text(self)

    __str__ = table

    def _repr_html_(self) -> str:
        from polyconv.count.render import as_html

        return as_html(self)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and texts; "units" says what they are."""
        from polyconv.count.render import as_dict

        return as_dict(self)

    def to_json(self) -> str:
        """``as_dict`` as JSON."""
        import json

        return json.dumps(self.as_dict(), indent=2)

    def to_csv(self) -> str:
        """A header with units, a line for each row, and a line "total"; sizes are written as 64x112x112."""
        from polyconv.count.render import as_csv

        return as_csv(self)


def count(network: Network, in_shape: Sizes, *, dtype: str = "float32") -> Report:
    """Count a network for an input of shape ``in_shape``.

    Args:
        network: the network.
        in_shape: (batch, channels, *spatial); MACs and activations scale with the batch.
        dtype: "float32", "float64", "float16" or "bfloat16", for the bytes.

    Raises:
        ValueError: where the input or a layer does not fit, naming the stage.

    Example:
        >>> from polyconv import network
        >>> report = network("transposed 4x4 4 stride 2 padding 1 nobias").count((1, 8, 16, 16))
        >>> report.out_shape, report.macs, report.macs_on_data, report.flops
        ((1, 4, 32, 32), 131072, 123008, 262144)
    """
    dtype = dtype_name(dtype, tuple(ITEM_BYTES))
    size = ITEM_BYTES[dtype]
    source = network.checked_input(in_shape)
    shapes = (source, *network.shapes(source))
    seen = _fields(network, shapes)
    rows = tuple(_row(network, index, shapes, seen[index], size) for index in range(len(network.nodes)))
    peak, where = _peak(network, rows, size * product(source))
    from polyconv.count.notes import notes_for

    return Report(str(network), source, dtype, rows, peak, network.nodes[where].name, notes_for(network, rows))


def _fields(network: Network, shapes: Sequence[Sizes]) -> Sequence[ReceptiveField | str]:
    """The receptive field of every node, or why there is none."""
    try:
        return fields(network, shapes)
    except ValueError as error:
        return [str(error)] * len(network.nodes)


def _row(network: Network, index: int, shapes: Sequence[Sizes], field: ReceptiveField | str, size: int) -> Row:
    node, out = network.nodes[index], shapes[index + 1]
    inputs = tuple(shapes[number + 1] for number in node.inputs)
    weights = node.layer.parameters(inputs[0][1], len(out) - 2)
    held = {key: product(shape) for key, shape in weights.items()}
    buffers = sum(held[key] for key in BatchNorm.buffers) if isinstance(node.layer, BatchNorm) else 0
    macs, on_data = multiply_accumulates(node.layer, inputs[0], out)
    passes = isinstance(node.layer, Identity)
    return Row(
        name=node.name,
        text=node.text,
        in_shapes=inputs,
        out_shape=out,
        params=sum(held.values()) - buffers,
        buffers=buffers,
        macs=macs,
        macs_on_data=on_data,
        other_operations=_other_operations(node.layer, inputs, out),
        weight_bytes=size * sum(held.values()),
        in_bytes=0 if passes else size * sum(map(product, inputs)),
        activation_bytes=0 if passes else size * product(out),
        receptive_field=None if isinstance(field, str) else field,
        field_problem=field if isinstance(field, str) else "",
    )


def multiply_accumulates(layer: Layer, in_shape: Sizes, out_shape: Sizes) -> tuple[int, int]:
    """(macs, macs_on_data) of one layer: a convolution's by its outputs, a transposed one's by its inputs.

    Padding that reflects, replicates or wraps round holds real data, so there both are equal.
    """
    if not isinstance(layer, Conv | ConvTranspose):
        return (0, 0)
    (batch, channels, *sizes), (_, out_channels, *out) = in_shape, out_shape
    axes = layer.axes(tuple(sizes))
    # A transposed convolution is read backwards: its windows are its inputs, and they slide over its outputs.
    windows, under = (sizes, out) if isinstance(layer, ConvTranspose) else (out, sizes)
    groups = layer.groups if isinstance(layer, ConvTranspose) else layer.groups_for(channels)
    links = batch * channels * out_channels // groups
    macs = links * product(axis.kernel for axis in axes) * product(windows)
    if isinstance(layer, Conv) and layer.padding_mode != "zeros":
        return (macs, macs)
    return (macs, links * product(map(_on_data, axes, under, windows)))


def total_macs(network: Network, in_shape: Sizes) -> int:
    """The MACs of a network, and nothing else."""
    shapes = (in_shape, *network.shapes(in_shape))
    return sum(
        multiply_accumulates(node.layer, shapes[node.inputs[0] + 1], out)[0]
        for node, out in zip(network.nodes, shapes[1:], strict=True)
    )


def _on_data(axis: Axis, size: int, windows: int) -> int:
    return axis.taps_on_data(size, windows)


def _other_operations(layer: Layer, inputs: Sequence[Sizes], out: Sizes) -> int:
    """Operations that are not multiply-accumulates."""
    values = product(out)
    match layer:
        case Conv() | ConvTranspose():
            return values * (layer.bias + (layer.activation is not None))
        case Pool():
            spatial = inputs[0][2:]
            return product(out[:2]) * product(map(_on_data, layer.axes(spatial), spatial, out[2:]))
        case GlobalPool():
            return product(inputs[0])
        case BatchNorm():
            return 2 * values
        case Activation():
            return values
        case Join():
            return values * (len(inputs) - 1) if layer.kind == "add" else 0
        case _:
            return 0


def _peak(network: Network, rows: Sequence[Row], in_bytes: int) -> tuple[int, int]:
    """The most bytes alive at once, and the node that runs then. What an identity passes on stays one array."""
    held = {INPUT: in_bytes}
    owner = {INPUT: INPUT}
    for index, node in enumerate(network.nodes):
        owner[index] = owner[node.inputs[0]] if isinstance(node.layer, Identity) else index
        held[index] = rows[index].activation_bytes
    last = {owner[number]: index for index, node in enumerate(network.nodes) for number in node.inputs}
    last[owner[len(rows) - 1]] = len(rows)  # the output is the caller's
    alive, peak, where = in_bytes, 0, 0
    for index, node in enumerate(network.nodes):
        alive += held[index]
        if alive > peak:
            peak, where = alive, index
        done = {owner[number] for number in (*node.inputs, index)}
        alive -= sum(held[number] for number in done if last.get(number, index) == index)
    return peak, where
