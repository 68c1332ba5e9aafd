"""What a layer is: frozen values without arrays. Shapes, parameters and text are derived from the fields.

A convolution is geometry (kernel, stride, dilation, padding for each axis) plus connectivity (channels, groups).
Layers do not know their input: methods take its channels or its spatial size and answer for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias, cast

from polyconv._checks import choice, flag, pads_per_axis, per_axis, whole, whole_or_none
from polyconv.geometry import PADDING_WORDS, Axis, crop_for, padding_for

ACTIVATIONS = ("relu", "relu6", "leaky_relu", "silu", "gelu", "sigmoid", "tanh", "hardswish")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
LEAKY_SLOPE = 0.01

Pairs: TypeAlias = tuple[tuple[int, int], ...]
Padding: TypeAlias = "str | Pairs"
Sizes: TypeAlias = tuple[int, ...]


class Layer:
    """A step of a network with one input: what every layer answers.

    The defaults describe a layer that keeps its input's shape and has no parameters.

    Example:
        >>> Activation("relu").out_size((5, 7)), Activation("relu").parameters(in_channels=3, ndim=2)
        ((5, 7), {})
    """

    @property
    def ndim(self) -> int | None:
        """The number of spatial axes it is for, or None where it fits any."""
        return None

    def out_channels_for(self, in_channels: int) -> int:
        """Channels of the output for an input of ``in_channels``; ValueError where they do not fit."""
        return in_channels

    def out_size(self, spatial: Sizes) -> Sizes:
        """Spatial size of the output for an input of size ``spatial``; ValueError where no window fits."""
        return spatial

    def parameters(self, in_channels: int, ndim: int) -> dict[str, Sizes]:
        """Names and shapes of the weights, in order."""
        return {}

    def parts(self) -> tuple[tuple[str, Layer], ...]:
        """The primitive layers this one stands for, each with its name; itself under "" where it is one."""
        return (("", self),)

    def _repr_svg_(self) -> str | None:
        """How a notebook shows it: at work on a small input, where that can be drawn."""
        from polyconv.see.notebook import layer_svg

        return layer_svg(self)


def _spread(values: Sizes, ndim: int) -> Sizes:
    """A field of a layer without a rank of its own, for ``ndim`` axes."""
    return values * ndim if len(values) == 1 else values


@dataclass(frozen=True, kw_only=True)
class _Windowed(Layer):
    """A layer that slides a window: its geometry, for every axis."""

    kernel_size: Sizes | None
    stride: Sizes | int = 1
    padding: Padding | int | Sequence[int] | Sequence[tuple[int, int]] = "valid"
    dilation: Sizes | int = 1

    def __post_init__(self) -> None:
        """Normalise: tuples of one length, padding as a word or as pairs, plain zeros as "valid"."""
        if self.kernel_size is None:
            self._set("dilation", 1)  # one tap has no distance to another
            ndim = max(_length(self.stride), _length(self.padding))
        else:
            kernel = tuple(self.kernel_size) if isinstance(self.kernel_size, Iterable) else (self.kernel_size,)
            ndim = len(kernel)
            if ndim == 0:
                raise ValueError("kernel_size is empty: pass one number per axis")
            self._set("kernel_size", per_axis(kernel, ndim, "kernel_size"))
        self._set("stride", per_axis(self.stride, ndim, "stride"))
        self._set("dilation", per_axis(self.dilation, ndim, "dilation"))
        self._set("padding", self._normal_padding(ndim))
        if self.kernel_size is None:
            self._forget_rank()

    def _forget_rank(self) -> None:
        """A layer without a kernel fits any rank unless its axes differ."""
        names = ("stride", "dilation") if isinstance(self.padding, str) else ("stride", "dilation", "padding")
        if all(len(set(getattr(self, name))) == 1 for name in names):
            for name in names:
                self._set(name, getattr(self, name)[:1])

    def _normal_padding(self, ndim: int) -> Padding:
        if isinstance(self.padding, str):
            word = choice(self.padding, PADDING_WORDS, "padding")
            if word == "causal" and ndim != 1:
                raise ValueError(f"padding 'causal' is for 1-D layers, this one has {ndim} axes. Pass pairs instead")
            return word
        pairs = pads_per_axis(self.padding, ndim)
        return pairs if any(map(any, pairs)) else "valid"

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def ndim(self) -> int | None:
        """The number of spatial axes, or None where the layer fits any."""
        if self.kernel_size is not None:
            return len(self.kernel_size)
        length = max(_length(self.stride), _length(self.padding))
        return length if length > 1 else None

    def kernel_for(self, ndim: int) -> Sizes:
        """The kernel for data with ``ndim`` spatial axes (a layer without a kernel has a 1 on each)."""
        return (1,) * ndim if self.kernel_size is None else self.kernel_size

    def strides_for(self, ndim: int) -> Sizes:
        """The stride of each of ``ndim`` axes."""
        return _spread(cast(Sizes, self.stride), ndim)

    def dilations_for(self, ndim: int) -> Sizes:
        """The dilation of each of ``ndim`` axes."""
        return _spread(cast(Sizes, self.dilation), ndim)

    def _windows(self, ndim: int) -> list[tuple[int, int, int]]:
        return list(zip(self.kernel_for(ndim), self.strides_for(ndim), self.dilations_for(ndim), strict=True))

    def _pairs(self, ndim: int) -> Pairs:
        pairs = cast(Pairs, self.padding)
        return pairs * ndim if len(pairs) == 1 else pairs

    def axes(self, spatial: Sizes) -> tuple[Axis, ...]:
        """The sliding window of each axis over an input of size ``spatial``, padding words made numbers.

        Worked out once where it is the same for all sizes.

        Raises:
            ValueError: the layer does not fit the input.
        """
        return self._axes_and_pads(spatial)[0]

    def _axes_and_pads(self, spatial: Sizes) -> tuple[tuple[Axis, ...], Pairs]:
        """``axes``, and their padding (crop) again as pairs."""
        found = self._steady.get(len(spatial))
        if found is not None and 0 not in spatial:
            return found
        axes = self._axes(spatial)
        found = axes, tuple([(axis.before, axis.after) for axis in axes])
        if 0 not in spatial and self._is_steady(len(spatial)):
            self._steady[len(spatial)] = found
        return found

    @cached_property
    def _steady(self) -> dict[int, tuple[tuple[Axis, ...], Pairs]]:
        """What holds for all sizes but 0, by the number of axes."""
        return {}

    def _is_steady(self, ndim: int) -> bool:
        """Do the axes not depend on the sizes."""
        return self.padding != "same" or set(self.strides_for(ndim)) == {1}

    def _axes(self, spatial: Sizes) -> tuple[Axis, ...]:
        if self.ndim is not None and self.ndim != len(spatial):
            raise ValueError(f"the layer has {self.ndim} axes, the input has {len(spatial)} spatial sizes {spatial}")
        windows = self._windows(len(spatial))
        if isinstance(self.padding, str):
            pads = tuple([padding_for(self.padding, size, *w) for size, w in zip(spatial, windows, strict=True)])
        else:
            pads = self._pairs(len(spatial))
        return tuple([Axis(*w, *pad, self._ceil) for w, pad in zip(windows, pads, strict=True)])

    _ceil: ClassVar[bool] = False

    def out_size(self, spatial: Sizes) -> Sizes:
        """Spatial size of the output; ValueError where the kernel does not fit the padded input."""
        return self._out_of(self.axes(spatial), spatial)

    def _out_of(self, axes: tuple[Axis, ...], spatial: Sizes) -> Sizes:
        """The output's size, where the sliding windows are known."""
        sizes = tuple(map(Axis.out_size, axes, spatial))
        if 0 not in sizes or self.padding == "same":
            return sizes
        for number, (axis, size, out) in enumerate(zip(axes, spatial, sizes, strict=True)):
            if out == 0:
                raise ValueError(
                    f"axis {number}: kernel {axis.kernel} with dilation {axis.dilation} spans {axis.span} positions, "
                    f"the input has {size} plus padding {axis.before} + {axis.after} = "
                    f"{size + axis.before + axis.after}. Use a larger input, more padding or a smaller kernel"
                )
        return sizes


def windows_over(layer: _Windowed, spatial: Sizes) -> tuple[Pairs, Sizes]:
    """The padding of each axis as numbers (of a transposed layer: the crop), and the output's size.

    Raises:
        ValueError: the layer does not fit the input.
    """
    axes, pads = layer._axes_and_pads(spatial)
    return pads, layer._out_of(axes, spatial)


def _length(value: object) -> int:
    """How many axes a field speaks of."""
    return len(value) if isinstance(value, Sized) and not isinstance(value, str) else 1


def _check_kernel_given(layer: _Windowed) -> None:
    if layer.kernel_size is None:
        raise ValueError("kernel_size is None: pass one number per axis, such as (3, 3)")


def _checked_activation(value: str | None) -> str | None:
    return None if value is None else choice(value, ACTIVATIONS, "activation")


def _check_groups(in_channels: int, out_channels: int, groups: int) -> None:
    for count, name in ((in_channels, "in_channels"), (out_channels, "out_channels")):
        if count % groups:
            raise ValueError(
                f"groups = {groups} does not divide {name} = {count}. "
                f"Use a number of groups that divides both {in_channels} and {out_channels}"
            )


@dataclass(frozen=True, kw_only=True)
class Conv(_Windowed):
    """A convolution: standard, pointwise, dilated, grouped or depthwise.

    Args:
        kernel_size: taps per axis, height before width; None for a pointwise layer of any rank.
        out_channels: output channels; None for a depthwise layer (in_channels * multiplier).
        stride: one number or one per axis.
        padding: "valid", "same", "full", "causal", a number, one per axis, or (before, after) per axis.
        dilation: one number or one per axis; 1 is none.
        groups: groups of channels; None for a depthwise layer (as many as in_channels).
        multiplier: outputs per input channel of a depthwise layer.
        bias: whether a bias is added.
        activation: one of ``ACTIVATIONS``, or None.
        padding_mode: what padding holds: "zeros", "reflect", "replicate" or "circular".

    Example:
        >>> Conv(kernel_size=(3, 3), out_channels=64, padding="same", stride=2).out_size((224, 224))
        (112, 112)
    """

    out_channels: int | None
    groups: int | None = 1
    multiplier: int = 1
    bias: bool = True
    activation: str | None = None
    padding_mode: str = "zeros"

    def __post_init__(self) -> None:
        """Check every field, whatever the input."""
        super().__post_init__()
        whole_or_none(self.out_channels, "out_channels")
        whole_or_none(self.groups, "groups")
        whole(self.multiplier, "multiplier")
        if (self.groups is None) != (self.out_channels is None):
            raise ValueError("a depthwise layer has neither groups nor out_channels: give a multiplier")
        if self.depthwise and self.kernel_size is None:
            raise ValueError("a depthwise layer needs a kernel: pass kernel_size, such as (3, 3)")
        if not self.depthwise and self.multiplier != 1:
            raise ValueError(
                f"multiplier = {self.multiplier} is for depthwise layers, this one has groups = {self.groups} and "
                f"out_channels = {self.out_channels}. Use 1"
            )
        if self.groups is not None and self.out_channels is not None and self.out_channels % self.groups:
            raise ValueError(f"groups = {self.groups} does not divide out_channels = {self.out_channels}")
        flag(self.bias, "bias")
        choice(self.padding_mode, PADDING_MODES, "padding_mode")
        _checked_activation(self.activation)

    @property
    def depthwise(self) -> bool:
        """Whether each input channel has its own filters."""
        return self.groups is None

    def groups_for(self, in_channels: int) -> int:
        """The number of groups for an input of ``in_channels``."""
        return in_channels if self.groups is None else self.groups

    def out_channels_for(self, in_channels: int) -> int:
        """Output channels; ValueError where the groups do not divide the channels."""
        if self.out_channels is None or self.groups is None:
            return in_channels * self.multiplier
        if in_channels % self.groups:
            _check_groups(in_channels, self.out_channels, self.groups)
        return self.out_channels

    def parameters(self, in_channels: int, ndim: int) -> dict[str, Sizes]:
        """``weight`` (out_channels, in_channels / groups, *kernel) and ``bias`` (out_channels,)."""
        out = self.out_channels_for(in_channels)
        shapes: dict[str, Sizes] = {
            "weight": (out, in_channels // self.groups_for(in_channels), *self.kernel_for(ndim))
        }
        return shapes | ({"bias": (out,)} if self.bias else {})

    def _is_steady(self, ndim: int) -> bool:
        return self.padding_mode == "zeros" and super()._is_steady(ndim)

    def _axes(self, spatial: Sizes) -> tuple[Axis, ...]:
        """Those of every windowed layer, refusing padding that its mode cannot fill from the input."""
        axes = super()._axes(spatial)
        if self.padding_mode == "zeros":
            return axes
        for number, (axis, size) in enumerate(zip(axes, spatial, strict=True)):
            most = {"reflect": size - 1, "circular": size, "replicate": 0 if size == 0 else None}.get(self.padding_mode)
            if most is not None and max(axis.before, axis.after) > max(most, 0):
                raise ValueError(
                    f"axis {number}: padding_mode {self.padding_mode!r} can fill at most {max(most, 0)} positions from "
                    f"an input of {size}, padding is {axis.before} before and {axis.after} after"
                )
        return axes


@dataclass(frozen=True, kw_only=True)
class ConvTranspose(_Windowed):
    """A transposed (fractionally strided) convolution: the adjoint of ``Conv`` with the same window.

    Args:
        kernel_size: taps per axis.
        out_channels: output channels.
        stride: distance between the windows, in outputs.
        padding: positions cropped from the output, as PyTorch and ONNX have it, or a word: "same" gives
            input * stride cropped as Keras does.
        dilation: one number or one per axis; 1 is none.
        output_padding: outputs added at the end of each axis; smaller than the stride or the dilation.
        groups: groups of channels.
        bias: whether a bias is added.
        activation: one of ``ACTIVATIONS``, or None.

    Example:
        >>> ConvTranspose(kernel_size=(4, 4), out_channels=64, stride=2, padding=1).out_size((16, 16))
        (32, 32)
    """

    kernel_size: Sizes
    out_channels: int
    output_padding: Sizes | int = 0
    groups: int = 1
    bias: bool = True
    activation: str | None = None

    def __post_init__(self) -> None:
        """Check every field, whatever the input."""
        _check_kernel_given(self)
        super().__post_init__()
        ndim = len(self.kernel_size)
        whole(self.out_channels, "out_channels")
        whole(self.groups, "groups")
        flag(self.bias, "bias")
        if self.out_channels % self.groups:
            raise ValueError(f"groups = {self.groups} does not divide out_channels = {self.out_channels}")
        extra = per_axis(self.output_padding, ndim, "output_padding", minimum=0)
        self._set("output_padding", extra)
        if isinstance(self.padding, str) and self.padding != "valid" and any(extra):
            raise ValueError(f"padding {self.padding!r} fixes the output size: output_padding {extra} must be 0")
        for amount, stride, dilation in zip(extra, self.strides_for(ndim), self.dilations_for(ndim), strict=True):
            if amount >= max(stride, dilation):
                raise ValueError(
                    f"output_padding {amount} must be smaller than the stride {stride} or the dilation {dilation}"
                )
        _checked_activation(self.activation)

    def out_channels_for(self, in_channels: int) -> int:
        """Output channels; ValueError where the groups do not divide the channels."""
        _check_groups(in_channels, self.out_channels, self.groups)
        return self.out_channels

    def parameters(self, in_channels: int, ndim: int) -> dict[str, Sizes]:
        """``weight`` (in_channels, out_channels / groups, *kernel) and ``bias`` (out_channels,)."""
        self.out_channels_for(in_channels)
        shapes: dict[str, Sizes] = {"weight": (in_channels, self.out_channels // self.groups, *self.kernel_size)}
        return shapes | ({"bias": (self.out_channels,)} if self.bias else {})

    @cached_property
    def _crops(self) -> list[tuple[int, int, int]]:
        """(crop before, crop after, output padding) of each axis."""
        ndim = len(self.kernel_size)
        if isinstance(self.padding, str) and self.padding != "valid":
            return [crop_for(self.padding, *window) for window in self._windows(ndim)]
        extra = cast(Sizes, self.output_padding)
        pairs = ((0, 0),) * ndim if self.padding == "valid" else self._pairs(ndim)
        return [(before, after, more) for (before, after), more in zip(pairs, extra, strict=True)]

    @cached_property
    def as_conv(self) -> Conv | None:
        """The convolution that this is where its stride is 1: of the kernel flipped, padded by what it does not crop.

        None for other strides, and where it crops more than its window reaches.

        Example:
            >>> ConvTranspose(kernel_size=(3, 3), out_channels=8, padding=1).as_conv.padding
            ((1, 1), (1, 1))
        """
        windows = self._windows(len(self.kernel_size))
        if any(stride > 1 for _, stride, _ in windows):
            return None
        reach = [Axis(*window).span - 1 for window in windows]
        pads = tuple(
            (r - before, r - after + more) for r, (before, after, more) in zip(reach, self._crops, strict=True)
        )
        if any(min(pair) < 0 for pair in pads):
            return None
        return Conv(
            kernel_size=self.kernel_size,
            out_channels=self.out_channels,
            padding=pads,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.bias,
            activation=self.activation,
        )

    def _is_steady(self, ndim: int) -> bool:
        return True

    def _axes(self, spatial: Sizes) -> tuple[Axis, ...]:
        """The window of the convolution this is the adjoint of; its padding crops this layer's output."""
        if len(spatial) != self.ndim:
            raise ValueError(f"the layer has {self.ndim} axes, the input has {len(spatial)} spatial sizes {spatial}")
        windows = self._windows(len(spatial))
        return tuple(Axis(*w, crop[0], crop[1]) for w, crop in zip(windows, self._crops, strict=True))

    def out_size(self, spatial: Sizes) -> Sizes:
        """(input - 1) * stride + span - crops + output_padding; ValueError where nothing is left."""
        return self._out_of(self.axes(spatial), spatial)

    def _out_of(self, axes: tuple[Axis, ...], spatial: Sizes) -> Sizes:
        """The output's size, where the sliding windows are known."""
        sizes = []
        for number, (axis, size, crop) in enumerate(zip(axes, spatial, self._crops, strict=True)):
            out = axis.transposed_size(size, crop[2])
            if out <= 0 and size > 0:
                raise ValueError(
                    f"axis {number}: an input of {size} gives {axis.transposed_size(size, crop[2]) + crop[0] + crop[1]}"
                    f" outputs, padding crops {crop[0]} + {crop[1]} of them. Use less padding or a larger input"
                )
            sizes.append(out)
        return tuple(sizes)


@dataclass(frozen=True, kw_only=True)
class Pool(_Windowed):
    """Max or average pooling over a sliding window, each channel by itself.

    Args:
        kind: "max" or "avg".
        kernel_size: positions per axis.
        stride: one number or one per axis; None for the kernel's own size.
        padding: as for ``Conv``; padding never wins a maximum.
        dilation: for max pooling only.
        ceil_mode: round the output size up; a window must start inside the input or the padding before it.
        count_include_pad: for averages: whether padding counts in the divisor (PyTorch's default; not TensorFlow's).

    Example:
        >>> Pool(kind="max", kernel_size=(3, 3), stride=2, padding=1).out_size((112, 112))
        (56, 56)
    """

    kind: Literal["max", "avg"]
    kernel_size: Sizes
    stride: Sizes | int | None = None  # type: ignore[assignment]
    ceil_mode: bool = False
    count_include_pad: bool = True

    def __post_init__(self) -> None:
        """Check every field, whatever the input."""
        choice(self.kind, ("max", "avg"), "kind")
        _check_kernel_given(self)
        if self.stride is None:
            self._set("stride", self.kernel_size)
        flag(self.ceil_mode, "ceil_mode")
        flag(self.count_include_pad, "count_include_pad")
        if self.kind == "max":
            self._set("count_include_pad", True)  # a maximum has no divisor
        super().__post_init__()
        if self.kind == "avg" and any(d != 1 for d in self.dilations_for(len(self.kernel_size))):
            raise ValueError(f"average pooling has no dilation, got {self.dilation}. Use 1")

    @property
    def _ceil(self) -> bool:  # type: ignore[override]
        return self.ceil_mode

    def _axes(self, spatial: Sizes) -> tuple[Axis, ...]:
        """Those of every windowed layer, refusing those that would see nothing but padding."""
        axes = super()._axes(spatial)
        for number, (axis, size) in enumerate(zip(axes, spatial, strict=True)):
            if size == 0:
                raise ValueError(
                    f"axis {number}: pooling needs at least one input position, got spatial size {spatial}"
                )
            if max(axis.before, axis.after) >= axis.span:
                raise ValueError(
                    f"axis {number}: padding {axis.before} before and {axis.after} after must be smaller than the "
                    f"window's span {axis.span}, or a window would hold nothing but padding"
                )
        return axes


@dataclass(frozen=True)
class GlobalPool(Layer):
    """Pooling over all positions: every spatial size becomes 1.

    Args:
        kind: "avg" or "max".

    Example:
        >>> GlobalPool().out_size((5, 7))
        (1, 1)
    """

    kind: Literal["max", "avg"] = "avg"

    def __post_init__(self) -> None:
        """Check the kind."""
        choice(self.kind, ("avg", "max"), "kind")

    def out_size(self, spatial: Sizes) -> Sizes:
        """Ones."""
        return (1,) * len(self.pool(spatial).kernel_size)

    def pool(self, spatial: Sizes) -> Pool:
        """The same as a pooling layer whose window is the whole input."""
        if 0 in spatial:
            raise ValueError(f"global pooling needs at least one position, got spatial size {spatial}")
        return Pool(kind=self.kind, kernel_size=spatial)


@dataclass(frozen=True)
class Upsample(Layer):
    """Nearest-neighbour upsampling: each position is repeated ``scale`` times along each axis.

    Args:
        scale: one number, or one per axis.

    Example:
        >>> Upsample((2, 3)).out_size((5, 7))
        (10, 21)
    """

    scale: Sizes | int = 2

    def __post_init__(self) -> None:
        """Normalise the scale to a tuple."""
        length = _length(self.scale)
        object.__setattr__(self, "scale", per_axis(self.scale, length, "scale"))

    @property
    def ndim(self) -> int | None:
        """The number of spatial axes, or None where one number serves them all."""
        length = _length(self.scale)
        return length if length > 1 else None

    def scales_for(self, ndim: int) -> Sizes:
        """The scale of each of ``ndim`` axes."""
        return _spread(cast(Sizes, self.scale), ndim)

    def out_size(self, spatial: Sizes) -> Sizes:
        """Input size times scale."""
        scales = self.scales_for(len(spatial))
        if len(scales) != len(spatial):
            raise ValueError(f"upsample has {len(scales)} scales {scales}, the input has spatial size {spatial}")
        return tuple(size * scale for size, scale in zip(spatial, scales, strict=True))


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation at inference: (x - running_mean) / sqrt(running_var + eps) * weight + bias per channel.

    Example:
        >>> BatchNorm().parameters(in_channels=3, ndim=2)
        {'weight': (3,), 'bias': (3,), 'running_mean': (3,), 'running_var': (3,)}
    """

    eps: ClassVar[float] = 1e-5
    buffers: ClassVar[tuple[str, ...]] = ("running_mean", "running_var")

    def parameters(self, in_channels: int, ndim: int) -> dict[str, Sizes]:
        """``weight`` and ``bias`` (learnt), ``running_mean`` and ``running_var`` (statistics): one per channel."""
        return dict.fromkeys(("weight", "bias", *self.buffers), (in_channels,))


@dataclass(frozen=True)
class Activation(Layer):
    """A pointwise non-linearity.

    Args:
        name: one of ``ACTIVATIONS``.

    Example:
        >>> Activation("gelu")
        Activation(name='gelu')
    """

    name: str

    def __post_init__(self) -> None:
        """Check the name."""
        choice(self.name, ACTIVATIONS, "activation")


@dataclass(frozen=True)
class Identity(Layer):
    """Passes its input on: the straight branch of ``add`` and ``concat``.

    Example:
        >>> Identity().out_size((5, 7))
        (5, 7)
    """


@dataclass(frozen=True)
class Separable(Layer):
    """A depthwise separable convolution: a depthwise layer, then a pointwise one with the activation.

    Args:
        depthwise: the layer that mixes positions, one filter (or ``multiplier``) for each channel.
        pointwise: the layer that mixes channels.

    Example:
        >>> layer = Separable.of(Conv(kernel_size=(3, 3), out_channels=64, padding="same"))
        >>> [part.parameters(in_channels=32, ndim=2)["weight"] for part in (layer.depthwise, layer.pointwise)]
        [(32, 1, 3, 3), (64, 32, 1, 1)]
    """

    depthwise: Conv
    pointwise: Conv

    def __post_init__(self) -> None:
        """Refuse parts of which ``of`` makes no layer: the notation has no word for them."""
        window, mixing = self.depthwise, self.pointwise
        if not (window.depthwise and mixing == _mixing(mixing)) or window.activation or window.bias != mixing.bias:
            raise ValueError(
                "a separable layer is a depthwise layer without an activation, then a plain pointwise one, both with "
                f"a bias or both without; got groups {window.groups} with activation {window.activation}, kernel "
                f"{mixing.kernel_size}, and bias {window.bias} and {mixing.bias}. Use Separable.of, or two stages"
            )

    @classmethod
    def of(cls, spatial: Conv, multiplier: int = 1) -> Separable:
        """The separable layer with the window, channels, bias and activation of a standard one."""
        if spatial.groups != 1:
            raise ValueError(f"a separable layer has no groups of its own, got {spatial.groups}")
        return cls(
            replace(spatial, out_channels=None, groups=None, multiplier=multiplier, activation=None),
            _mixing(spatial),
        )

    @property
    def ndim(self) -> int | None:
        """The number of spatial axes."""
        return self.depthwise.ndim

    def out_channels_for(self, in_channels: int) -> int:
        """Channels of the pointwise layer."""
        return self.pointwise.out_channels_for(self.depthwise.out_channels_for(in_channels))

    def out_size(self, spatial: Sizes) -> Sizes:
        """Size after the depthwise layer: the pointwise one keeps it."""
        return self.depthwise.out_size(spatial)

    def parts(self) -> tuple[tuple[str, Layer], ...]:
        """The two layers, under "depthwise" and "pointwise"."""
        return (("depthwise", self.depthwise), ("pointwise", self.pointwise))


def _mixing(layer: Conv) -> Conv:
    """The pointwise layer with the channels, bias and activation of ``layer``."""
    return Conv(kernel_size=None, out_channels=layer.out_channels, bias=layer.bias, activation=layer.activation)


@dataclass(frozen=True)
class Spatial(Layer):
    """A spatially separable convolution: kx1, then 1xk (one layer for each axis), the activation last.

    Args:
        full: the layer whose kernel, stride, dilation and padding are dealt out to the axes.

    Example:
        >>> [(name, part.kernel_size) for name, part in Spatial(Conv(kernel_size=(3, 5), out_channels=64)).parts()]
        [('axis0', (3, 1)), ('axis1', (1, 5))]
    """

    full: Conv

    def __post_init__(self) -> None:
        """Refuse what has no meaning here."""
        if self.full.kernel_size is None or self.full.groups != 1:
            raise ValueError(f"a spatially separable layer needs a kernel and has no groups, got {self.full}")

    @property
    def ndim(self) -> int | None:
        """The number of spatial axes."""
        return self.full.ndim

    def out_channels_for(self, in_channels: int) -> int:
        """Channels of every one of its layers."""
        return self.full.out_channels_for(in_channels)

    def out_size(self, spatial: Sizes) -> Sizes:
        """Size after the last layer."""
        return self.full.out_size(spatial)

    def parts(self) -> tuple[tuple[str, Layer], ...]:
        """One layer an axis, under "axis0", "axis1", ..."""
        return tuple((f"axis{axis}", self._part(axis)) for axis in range(len(self.full.kernel_for(0))))

    def _part(self, axis: int) -> Conv:
        ndim = len(self.full.kernel_for(0))

        def only(values: Sizes) -> Sizes:
            return tuple(value if number == axis else 1 for number, value in enumerate(values))

        padding = self.full.padding
        if not isinstance(padding, str):
            pairs = self.full._pairs(ndim)
            padding = tuple(pair if number == axis else (0, 0) for number, pair in enumerate(pairs))
        return replace(
            self.full,
            kernel_size=only(self.full.kernel_for(ndim)),
            stride=only(self.full.strides_for(ndim)),
            dilation=only(self.full.dilations_for(ndim)),
            padding=padding,
            activation=self.full.activation if axis == ndim - 1 else None,
        )
