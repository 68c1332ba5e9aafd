"""What each other kind of convolution would cost at the same input and output, as ratios to the standard one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import gcd
from statistics import median
from time import perf_counter
from typing import Any

from polyconv._checks import whole
from polyconv.count.render import Line, as_columns, columns_html, paragraphs_html, sizes_text
from polyconv.count.tally import Report
from polyconv.geometry import Axis
from polyconv.layers import Conv, ConvTranspose, Layer, Separable, Sizes, Spatial, Upsample
from polyconv.network import Network
from polyconv.notation import network as parsed

GROUPS = 4  # what a grouped alternative has where the channels allow it
GIVEN = "as given"  # a layer that is none of the kinds
_SECONDS, _MOST_ROUNDS = 0.3, 200  # rounds of timing are repeated for so long, or so often
BOTTLENECK = 4  # how much narrower a bottleneck is
_NUMBERS = (2, 3, 4, 5, 6, 8, 9)  # the columns of numbers in a table
_Standard = Conv | ConvTranspose
_Kind = tuple[str, Callable[[Any, int], "tuple[tuple[Layer, ...], str]"]]


@dataclass(frozen=True)
class Alternative:
    """One kind of convolution in place of the standard one.

    Args:
        kind: "standard", "grouped", ...
        network: it, with the same input and output shapes.
        report: what it costs.
        note: what it gives up, or brings.
        seconds: the time of one run on this machine (median), where it was measured.
        given: whether it is the layer that was asked about.
    """

    kind: str
    network: Network
    report: Report
    note: str
    seconds: float | None = None
    given: bool = False

    @property
    def title(self) -> str:
        """Its kind, and whether it is the layer that was asked about."""
        return f"{self.kind} (given)" if self.given and self.kind != GIVEN else self.kind


@dataclass(frozen=True, repr=False)
class Comparison:
    """A layer and its alternatives; the first row is the standard convolution.

    Args:
        in_shape: (batch, channels, *spatial) of the input of each.
        rows: one for each kind, and the layer as given where it is none of them.
        left_out: kinds that cannot stand in for this layer, and why.

    Example:
        >>> import polyconv as pc
        >>> comparison = pc.compare("conv 3x3 64 same", (1, 32, 56, 56))
        >>> [f"{row.kind}: {comparison.params_ratio(row):.2f}" for row in comparison.rows[:3]]
        ['standard: 1.00', 'spatially separable: 1.00', 'depthwise separable: 0.13']
    """

    in_shape: Sizes
    rows: tuple[Alternative, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @cached_property
    def standard(self) -> Alternative:
        """What the ratios are to."""
        return self.rows[0]

    def params_ratio(self, row: Alternative) -> float:
        """Its parameters, as a multiple of the standard one's."""
        return row.report.params / self.standard.report.params

    def macs_ratio(self, row: Alternative) -> float:
        """Its MACs, as a multiple of the standard one's; NaN for an empty batch."""
        macs = self.standard.report.macs
        return row.report.macs / macs if macs else float("nan")

    def time_ratio(self, row: Alternative) -> float | None:
        """Its time, as a multiple of the standard one's; None where it was not measured."""
        return row.seconds / self.standard.seconds if row.seconds and self.standard.seconds else None

    def timed(self, repeats: int = 7) -> Comparison:
        """The same with the time of each on this machine, measured in turn so that all see the same disturbances."""
        seconds = _timed_in_turn([row.network for row in self.rows], self.in_shape, repeats)
        return replace(
            self, rows=tuple(replace(row, seconds=time) for row, time in zip(self.rows, seconds, strict=True))
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values; ratios are to the standard convolution, times in seconds."""
        return {
            "in_shape": list(self.in_shape),
            "out_shape": list(self.standard.report.out_shape),
            "rows": [self._values(row) for row in self.rows],
            "left_out": dict(self.left_out),
        }

    def _values(self, row: Alternative) -> dict[str, Any]:
        report = row.report
        return {
            "kind": row.kind,
            "given": row.given,
            "network": str(row.network),
            "params": report.params,
            "params_ratio": self.params_ratio(row),
            "macs": report.macs,
            "macs_on_data": report.macs_on_data,
            "flops": report.flops,
            "macs_ratio": self.macs_ratio(row),
            "receptive_field_size": list(report.receptive_field.size),
            "seconds": row.seconds,
            "time_ratio": self.time_ratio(row),
            "note": row.note,
        }

    def lines(self) -> list[Line]:
        """Headings with units, then a line of texts for each row."""
        times = self.standard.seconds is not None
        head = ["kind", "network", "parameters", "ratio", "MACs", "MACs on data", "ratio", "field (pixels)"]
        found = [tuple(head + (["time (ms)", "ratio"] if times else []))]
        for row in self.rows:
            cells = [
                row.title,
                str(row.network),
                f"{row.report.params:,}",
                f"{self.params_ratio(row):.3f}",
                f"{row.report.macs:,}",
                f"{row.report.macs_on_data:,}",
                f"{self.macs_ratio(row):.3f}",
                sizes_text(row.report.receptive_field.size),
            ]
            if times:
                cells += [f"{(row.seconds or 0) * 1e3:.3f}", f"{self.time_ratio(row) or 0:.3f}"]
            found.append(tuple(cells))
        return found

    @property
    def heading(self) -> str:
        """The shapes that all rows share."""
        return f"Input {sizes_text(self.in_shape)}, output {sizes_text(self.standard.report.out_shape)}."

    def remarks(self) -> list[str]:
        """What each kind gives up or brings, and why kinds are left out."""
        notes = [f"{row.kind}: {row.note}." for row in self.rows if row.note]
        return notes + [f"{kind}: left out, {why}." for kind, why in self.left_out]

    def __str__(self) -> str:
        """A table, then what each gives up."""
        return "\n".join([self.heading, as_columns(self.lines(), _NUMBERS), *self.remarks()])

    def __repr__(self) -> str:
        """In a line; ``print`` it for the table."""
        return f"<Comparison of {str(self.standard.network)!r} with {len(self.rows) - 1} alternatives>"

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        body = columns_html(self.lines(), _NUMBERS) + paragraphs_html(self.remarks())
        return paragraphs_html([self.heading]) + body


def compare(network: Network | str, in_shape: Sizes) -> Comparison:
    """What a layer would cost as each other kind of convolution, at the same input and output.

    Args:
        network: one convolution of any kind, or its text; the standard one with its window and channels is what the
            others are compared with.
        in_shape: (batch, channels, *spatial).

    Raises:
        ValueError: for other layers, for several layers, or where the input does not fit.

    Example:
        >>> import polyconv as pc
        >>> comparison = pc.compare("conv 3x3 64 same", (1, 32, 56, 56))
        >>> for row in comparison.rows:
        ...     print(f"{row.kind:20} {comparison.macs_ratio(row):.3f}  {row.network}")
        standard             1.000  conv 3x3 64 same
        spatially separable  1.000  spatial 3x3 64 same
        depthwise separable  0.127  separable 3x3 64 same
        grouped              0.250  conv 3x3 64 same groups 4
        bottleneck           0.073  pointwise 8 | conv 3x3 8 same | pointwise 64
        dilated              1.000  conv 3x3 64 same dilation 2
    """
    net = parsed(network)
    shape = net.checked_input(in_shape)
    standard = _standard(net, shape)
    rows, left_out = [], []
    out_shape = Network((standard,)).out_shape(shape)
    for kind, build in _kinds(standard):
        try:
            stages, note = build(standard, shape[1])
            report = Network(stages).count(shape)
        except ValueError as error:
            left_out.append((kind, str(error)))
            continue
        if report.out_shape != out_shape:
            left_out.append((kind, f"its output would be {sizes_text(report.out_shape)}"))
            continue
        alternative = Network(stages)
        given = alternative == net or (kind == "standard" and _is_standard(net))
        rows.append(Alternative(kind, alternative, report, note, given=given))
    if not any(row.given for row in rows):
        rows.insert(1, Alternative(GIVEN, net, net.count(shape), "", given=True))
    return Comparison(shape, tuple(rows), tuple(left_out))


def timed(network: Network | str, in_shape: Sizes, repeats: int = 7) -> float:
    """Seconds that one run of a network takes on this machine: the median of many, after one to warm up.

    Args:
        network: a network or its text; it gets random float32 weights.
        in_shape: (batch, channels, *spatial).
        repeats: how often it runs at least.
    """
    return _timed_in_turn([parsed(network)], in_shape, repeats)[0]


def _timed_in_turn(networks: Sequence[Network], in_shape: Sizes, repeats: int) -> list[float]:
    """The median time of each, every round running each once."""
    import numpy as np

    least = whole(repeats, "repeats")
    shape = networks[0].checked_input(in_shape)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    models = [net.bind(net.weights(shape[1], ndim=len(shape) - 2)) for net in networks]
    for net, model in zip(networks, models, strict=True):
        if model(x).shape != net.out_shape(shape):
            raise RuntimeError(f"{net} gave an output of shape {model(x).shape}, expected {net.out_shape(shape)}")
    rounds: list[list[float]] = []
    began = perf_counter()
    while len(rounds) < least or (len(rounds) < _MOST_ROUNDS and perf_counter() - began < _SECONDS):
        times = [perf_counter()]
        for model in models:
            model(x)
            times.append(perf_counter())
        rounds.append([end - start for start, end in pairwise(times)])
    return [median(times) for times in zip(*rounds, strict=True)]


def _is_standard(network: Network) -> bool:
    """Whether a layer is the standard kind, however it is written (pointwise 8 is conv 1x1 8)."""
    layer = network.stages[0]
    return isinstance(layer, Conv | ConvTranspose) and layer.groups == 1


def _standard(network: Network, shape: Sizes) -> _Standard:
    """The standard convolution with the window, channels, bias and activation of a layer of any kind."""
    if len(network.stages) != 1:
        raise ValueError(f"one layer is compared at a time, {str(network)!r} has {len(network.stages)} stages")
    network.shapes(shape)
    layer = network.stages[0]
    ndim = len(shape) - 2
    match layer:
        case ConvTranspose():
            return replace(layer, groups=1)
        case Spatial():
            return layer.full
        case Separable():
            both = replace(layer.depthwise, groups=1, out_channels=layer.pointwise.out_channels, multiplier=1)
            return replace(both, activation=layer.pointwise.activation)
        case Conv():
            out = layer.out_channels_for(shape[1])
            kernel = layer.kernel_for(ndim)
            return replace(
                layer,
                kernel_size=kernel,
                stride=layer.strides_for(ndim),
                dilation=layer.dilations_for(ndim),
                groups=1,
                multiplier=1,
                out_channels=out,
            )
        case _:
            raise ValueError(f"{network} is not a convolution. Pass one, as in conv 3x3 64 same")


def _kinds(standard: _Standard) -> Iterator[_Kind]:
    yield "standard", lambda layer, channels: ((layer,), "")
    if isinstance(standard, Conv):
        yield "spatially separable", _spatial
    yield "depthwise separable", _separable
    yield "grouped", _grouped
    yield "bottleneck", _bottleneck
    if isinstance(standard, Conv):
        yield "dilated", _dilated
    else:
        yield "upsample and conv", _resized


def _spatial(layer: Conv, channels: int) -> tuple[tuple[Layer, ...], str]:
    if sum(size > 1 for size in layer.kernel_for(0)) < 2:
        raise ValueError("the kernel has one axis only")
    return (Spatial(layer),), "kernels of rank 1 along the axes only"


def _separable(layer: _Standard, channels: int) -> tuple[tuple[Layer, ...], str]:
    if max(layer.kernel_for(0)) == 1:
        raise ValueError("a pointwise layer has no positions to separate from the channels")
    note = "positions and channels are mixed one after the other"
    if isinstance(layer, Conv):
        return (Separable.of(layer),), note
    apart = replace(layer, out_channels=channels, groups=channels, activation=None)
    return (apart, _pointwise(layer, layer.out_channels, last=True)), note


def _grouped(layer: _Standard, channels: int) -> tuple[tuple[Layer, ...], str]:
    common = gcd(channels, _out(layer))
    groups = next((number for number in (GROUPS, *range(2, min(common, 64) + 1)) if common % number == 0), 0)
    if not groups:
        raise ValueError(f"{channels} and {_out(layer)} channels have no common divisor up to 64")
    return (replace(layer, groups=groups),), f"an output sees one of {groups} groups of channels"


def _bottleneck(layer: _Standard, channels: int) -> tuple[tuple[Layer, ...], str]:
    narrow = min(channels, _out(layer)) // BOTTLENECK
    if not narrow:
        raise ValueError(f"{min(channels, _out(layer))} channels cannot be made {BOTTLENECK} times fewer")
    middle = replace(layer, out_channels=narrow, activation=None)
    ends = (_pointwise(layer, narrow, last=False), _pointwise(layer, _out(layer), last=True))
    return (ends[0], middle, ends[1]), f"all passes through {narrow} channels"


def _dilated(layer: Conv, channels: int) -> tuple[tuple[Layer, ...], str]:
    """Fewer taps over the same span where the kernel is large; else the same taps over a larger one."""
    kernel, dilation = layer.kernel_for(0), layer.dilations_for(len(layer.kernel_for(0)))
    if max(kernel) == 1:
        raise ValueError("a kernel of 1 has no taps to move apart")
    if max(kernel) >= 5 and all(size % 2 for size in kernel):
        rates = tuple(rate * max(1, size // 2) for size, rate in zip(kernel, dilation, strict=True))
        few = replace(layer, kernel_size=tuple(min(size, 3) for size in kernel), dilation=rates)
        return (few,), f"sees what the standard one sees with {sizes_text(few.kernel_for(0))} taps"
    wide = replace(layer, dilation=tuple(2 * rate for rate in dilation))
    if not isinstance(layer.padding, str) or layer.padding == "valid":
        wide = replace(wide, padding=_wider(layer, wide))
    spans = sizes_text(
        [Axis(*pair).span for pair in zip(kernel, (1,) * len(kernel), wide.dilations_for(0), strict=True)]
    )
    return (wide,), f"sees as far as a kernel of {spans}, at the cost of this one"


def _wider(layer: Conv, wide: Conv) -> tuple[tuple[int, int], ...]:
    """The padding with which a wider window gives as many outputs."""
    sizes = (2**30,) * len(layer.kernel_for(0))
    pairs = []
    for old, new in zip(layer.axes(sizes), wide.axes(sizes), strict=True):
        more = new.span - old.span
        pairs.append((old.before + more // 2, old.after + more - more // 2))
    return tuple(pairs)


def _resized(layer: ConvTranspose, channels: int) -> tuple[tuple[Layer, ...], str]:
    strides = layer.strides_for(len(layer.kernel_size))
    conv = Conv(
        kernel_size=tuple(size - (size % 2 == 0) for size in layer.kernel_size),
        out_channels=layer.out_channels,
        padding="same",
        bias=layer.bias,
        activation=layer.activation,
    )
    return (Upsample(strides), conv), "no checkerboard; the kernel is odd, so that nothing is shifted"


def _pointwise(layer: _Standard, out_channels: int, *, last: bool) -> Conv:
    activation = layer.activation if last else None
    return Conv(kernel_size=None, out_channels=out_channels, bias=layer.bias, activation=activation)


def _out(layer: _Standard) -> int:
    return layer.out_channels or 0
