"""Receptive fields: which inputs each output sees, through strides, dilation, branches, transposed and upsample layers.

Along one axis every layer repeats itself: ``period`` outputs further on, a field lies ``advance`` inputs further on.
A convolution alone has period 1; after a transposed or upsample layer of stride 2 the outputs come in two phases.
An ``AxisField`` holds one period exactly, and every layer maps one to the next.

Sources: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks" (Distill 2019,
doi 10.23915/distill.00021) for size, stride, padding and alignment; the phases extend them to fractional strides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm

from polyconv.geometry import Axis
from polyconv.layers import Conv, ConvTranspose, GlobalPool, Layer, Pool, Sizes, Upsample
from polyconv.network import INPUT, Join, Network
from polyconv.notation import network as parsed

MAX_PHASES = 4096
_ANY_SIZE = 2**30  # stands for an input size nobody gave, where the field does not depend on it

Span = tuple[int, int]  # the first and the last input that is seen, both included
Number = int | Fraction


class MisalignedError(ValueError):
    """Branches meet whose fields have different strides or centres: the receptive field is not one window.

    Example:
        >>> import polyconv as pc
        >>> try:
        ...     pc.receptive_field("concat(conv 3 8, conv 5 8 padding 2)")
        ... except pc.MisalignedError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        stage 0 (concat): the branches are misaligned along axis 0: ... centre 1, ... centre 0
    """


@dataclass(frozen=True, slots=True)
class AxisField:
    """What the outputs of a layer see along one axis of the network's input.

    Output ``q * period + phase`` sees inputs ``low + q * advance`` to ``high + q * advance``, where (low, high) is
    ``spans[phase]``, or nothing where that is None. Positions below 0 are padding.
    """

    spans: tuple[Span | None, ...] = ((0, 0),)
    advance: int = 1

    @property
    def period(self) -> int:
        """Outputs until the pattern repeats."""
        return len(self.spans)

    @property
    def stride(self) -> Number:
        """Inputs between neighbouring outputs, on average; a Fraction only where it is not whole."""
        return _plain(Fraction(self.advance, self.period))

    @property
    def size(self) -> int:
        """Inputs from the first to the last that the widest output sees."""
        return max((high - low + 1 for low, high in self._seen()), default=0)

    @property
    def padding(self) -> int:
        """How far the field of the first output that sees anything starts before the input."""
        return next((-low for low, _ in self._seen()), 0)

    @property
    def centre(self) -> Number:
        """Where the first output's field is centred, averaged over the phases: -padding + (size - 1) / 2 for one."""
        stride = Fraction(self.advance, self.period)
        centres = [Fraction(sum(span), 2) - stride * phase for phase, span in enumerate(self.spans) if span is not None]
        return _plain(sum(centres, Fraction()) / len(centres)) if centres else 0

    def _seen(self) -> Iterable[Span]:
        return (span for span in self.spans if span is not None)

    def at(self, output: int) -> Span | None:
        """The first and last input that ``output`` sees, or None."""
        turns, phase = divmod(output, self.period)
        span = self.spans[phase]
        return None if span is None else (span[0] + turns * self.advance, span[1] + turns * self.advance)


def _plain(value: Fraction) -> Number:
    return value.numerator if value.denominator == 1 else value


def _union(spans: Iterable[Span | None]) -> Span | None:
    seen = [span for span in spans if span is not None]
    return (min(low for low, _ in seen), max(high for _, high in seen)) if seen else None


def _phases(count: int) -> range:
    if count > MAX_PHASES:
        raise ValueError(
            f"the outputs see the input in {count} different phases, at most {MAX_PHASES} are followed. "
            "Use smaller transposed and upsample strides"
        )
    return range(count)


def _extremes(items: range, count: int) -> Iterable[int]:
    """The first and the last ``count`` of ``items``: a field never moves back by whole periods, so no other counts."""
    return items if len(items) <= 2 * count else (*items[:count], *items[-count:])


@lru_cache(maxsize=4096)
def through_window(field: AxisField, axis: Axis) -> AxisField:
    """The field after a convolution or pooling that slides ``axis`` over the outputs of ``field``."""
    common = gcd(field.period, axis.stride)
    taps = tuple(_extremes(range(axis.kernel), field.period // gcd(field.period, axis.dilation)))
    spans = (_union(field.at(axis.position(window, tap)) for tap in taps) for window in _phases(field.period // common))
    return AxisField(tuple(spans), field.advance * (axis.stride // common))


@lru_cache(maxsize=4096)
def through_transposed(field: AxisField, axis: Axis) -> AxisField:
    """The field after a transposed convolution: the adjoint of ``axis``, whose windows are its inputs."""
    return AxisField(
        tuple(
            _union(field.at(axis.window_of(output, tap)) for tap in _extremes(axis.taps_onto(output), field.period))
            for output in _phases(field.period * axis.stride)
        ),
        field.advance,
    )


@lru_cache(maxsize=4096)
def through_upsample(field: AxisField, scale: int) -> AxisField:
    """The field after nearest-neighbour upsampling."""
    return AxisField(tuple(field.at(output // scale) for output in _phases(field.period * scale)), field.advance)


def joined(fields: Sequence[AxisField]) -> AxisField:
    """The union of what branches see; where their strides differ, over one period of the widest branch."""
    period = lcm(*(field.period for field in fields))
    widest = max(fields, key=lambda field: field.size)
    spans = tuple(_union(field.at(output) for field in fields) for output in _phases(period))
    return AxisField(spans, widest.advance * (period // widest.period))


@dataclass(frozen=True, repr=False)
class ReceptiveField:
    """What one output of a network sees of its input; one number per axis, in input positions (pixels).

    Args:
        axes: the exact field along each axis.
        misaligned: for each join of misaligned branches on the way: which, and by how much.

    Example:
        >>> from polyconv import receptive_field
        >>> field = receptive_field("conv 3x3 64 padding 1 | maxpool 2x2 | conv 3x3 64 padding 1")
        >>> field.size, field.stride, field.padding
        ((8, 8), (2, 2), (3, 3))
    """

    axes: tuple[AxisField, ...]
    misaligned: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, ...]:
        """Inputs from the first to the last that an output sees (the widest output, where the phases differ)."""
        return tuple(axis.size for axis in self.axes)

    @property
    def stride(self) -> tuple[Number, ...]:
        """Distance between neighbouring outputs; a Fraction where it is not whole."""
        return tuple(axis.stride for axis in self.axes)

    @property
    def padding(self) -> tuple[int, ...]:
        """How far the first output's field starts before the input (negative: inside it)."""
        return tuple(axis.padding for axis in self.axes)

    @property
    def centre(self) -> tuple[Number, ...]:
        """The input position that the first output is centred on."""
        return tuple(axis.centre for axis in self.axes)

    @property
    def aligned(self) -> bool:
        """Whether all paths agree on stride and centre, so that the field is one window that slides."""
        return not self.misaligned

    def __repr__(self) -> str:
        """What it is along each axis."""
        return f"<ReceptiveField {self}>"

    def __str__(self) -> str:
        """Size, stride and padding in a line."""
        parts = (self.size, self.stride, self.padding)
        size, stride, padding = ("x".join(map(str, part)) for part in parts)
        return f"{size} stride {stride} padding {padding}" + ("" if self.aligned else " (misaligned)")


def receptive_field(
    network: Network | str, in_shape: Sizes | None = None, *, allow_misaligned: bool = False
) -> ReceptiveField:
    """The receptive field of a network's output.

    Args:
        network: a network or its text.
        in_shape: (batch, channels, *spatial); needed where a field depends on it: "same" with a stride, and global
            pooling. It is then also checked.
        allow_misaligned: return the union of misaligned branches (its ``misaligned`` says which) instead of raising.

    Raises:
        MisalignedError: where branches meet with different strides or centres.
        ValueError: where ``in_shape`` is needed, or does not fit.

    Example:
        >>> from polyconv import receptive_field
        >>> print(receptive_field("conv 7x7 64 stride 2 padding 3 | maxpool 3x3 stride 2 padding 1"))
        11x11 stride 4x4 padding 5x5
    """
    net = parsed(network)
    source = None if in_shape is None else net.checked_input(in_shape)
    found = fields(net, None if source is None else (source, *net.shapes(source)))[-1]
    if found.misaligned and not allow_misaligned:
        raise MisalignedError(". ".join(found.misaligned))
    return found


def fields(network: Network, shapes: Sequence[Sizes] | None = None) -> tuple[ReceptiveField, ...]:
    """The receptive field of every node's output, in the order of ``network.nodes``.

    Args:
        network: the network.
        shapes: the input's shape, then every node's output shape (``Network.shapes``); None where sizes are unknown.
    """
    ndim = len(shapes[0]) - 2 if shapes else network.ndim or 2
    found: list[ReceptiveField] = []
    start = ReceptiveField((AxisField(),) * ndim)
    for node in network.nodes:
        inputs = [start if index == INPUT else found[index] for index in node.inputs]
        if isinstance(node.layer, Join):
            names = [network.nodes[index].name for index in node.inputs]
            found.append(_join(f"stage {node.name} ({node.text})", names, inputs))
            continue
        spatial = shapes[node.inputs[0] + 1][2:] if shapes else None
        try:
            found.append(ReceptiveField(_through(node.layer, inputs[0].axes, spatial), inputs[0].misaligned))
        except ValueError as error:
            raise ValueError(f"stage {node.name} ({node.text}): {error}") from None
    return tuple(found)


def _through(layer: Layer, before: tuple[AxisField, ...], spatial: Sizes | None) -> tuple[AxisField, ...]:
    """The field after one layer."""
    match layer:
        case Conv() | Pool() | ConvTranspose():
            step = through_transposed if isinstance(layer, ConvTranspose) else through_window
            windows = layer.axes(_known_sizes(layer, len(before)) if spatial is None else spatial)
            return tuple(step(field, axis) for field, axis in zip(before, windows, strict=True))
        case GlobalPool():
            if spatial is None:
                raise ValueError("global pooling sees its whole input: pass in_shape for its receptive field")
            return _through(layer.pool(spatial), before, spatial)
        case Upsample():
            scales = layer.scales_for(len(before))
            return tuple(through_upsample(field, scale) for field, scale in zip(before, scales, strict=True))
        case _:
            return before


def _known_sizes(layer: Conv | Pool | ConvTranspose, ndim: int) -> Sizes:
    """Sizes to ask a layer's geometry with, where nobody gave any; ValueError where they would matter."""
    strides = layer.strides_for(ndim)
    if not isinstance(layer, ConvTranspose) and layer.padding == "same" and max(strides) > 1:
        raise ValueError(
            f"'same' with stride {'x'.join(map(str, strides))} pads by the input's size: pass in_shape for its "
            "receptive field"
        )
    return (_ANY_SIZE,) * ndim


def _join(name: str, branches: list[str], inputs: list[ReceptiveField]) -> ReceptiveField:
    """The field where branches meet, noting where they are not aligned."""
    earlier = dict.fromkeys(note for field in inputs for note in field.misaligned)
    notes = (f"{name}: {what}" for what in misalignments(branches, inputs))
    axes = tuple(joined(fields_here) for fields_here in zip(*(field.axes for field in inputs), strict=True))
    return ReceptiveField(axes, (*earlier, *notes))


def misalignments(branches: Sequence[str], inputs: Sequence[ReceptiveField]) -> Iterable[str]:
    """Along which axes branches differ in stride or centre, and what they have, by the branches' last stages."""
    found: dict[tuple[tuple[Number, Number], ...], list[int]] = {}
    for axis, fields_here in enumerate(zip(*(field.axes for field in inputs), strict=True)):
        found.setdefault(tuple((field.stride, field.centre) for field in fields_here), []).append(axis)
    for places, axes in found.items():
        if len(set(places)) > 1:
            listed = ", ".join(
                f"the branch ending in {branch} has stride {stride} and centre {centre}"
                for branch, (stride, centre) in zip(branches, places, strict=True)
            )
            yield f"the branches are misaligned along {named_axes(axes)}: {listed}"


def named_axes(numbers: Sequence[int]) -> str:
    """Axes in words: "axis 0", or "axes 0 and 1"."""
    words = [str(number) for number in numbers]
    return f"axis {words[0]}" if len(words) == 1 else f"axes {', '.join(words[:-1])} and {words[-1]}"
