"""How layers connect: stages in a row, branches that are added or concatenated; shapes flow through.

A network is a frozen value. ``Network.nodes`` is the same network as a graph in the order of execution, with
composite layers taken apart: counting, running and drawing all walk that one list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from polyconv._checks import choice, whole
from polyconv.layers import Conv, ConvTranspose, Layer, Pool, Sizes, windows_over

if TYPE_CHECKING:
    from polyconv.count.tally import Report
    from polyconv.run.model import Model
    from polyconv.run.problem import Array
    from polyconv.see.drawing import Drawing
    from polyconv.see.theme import ThemeName

MAX_STAGES = 10_000
MAX_DEPTH = 40
INPUT = -1  # the index that stands for the network's input among a node's inputs


@dataclass(frozen=True)
class Join(Layer):
    """Where branches meet: ``add`` sums equal shapes, ``concat`` puts channels one after the other.

    Args:
        kind: "add" or "concat".
    """

    kind: Literal["add", "concat"]

    def __post_init__(self) -> None:
        """Check the kind."""
        choice(self.kind, ("add", "concat"), "kind")

    def joined(self, shapes: list[Sizes]) -> Sizes:
        """The shape (channels, *spatial) of the join; ValueError where the branches do not fit."""
        first = shapes[0]
        if self.kind == "add" and any(shape != first for shape in shapes):
            raise ValueError(
                f"add needs branches of one shape, got (channels, *spatial) {_listed(shapes)}. "
                "Make them equal, for example with a pointwise layer on the shortcut"
            )
        if any(shape[1:] != first[1:] for shape in shapes):
            raise ValueError(
                f"concat needs branches of one spatial size, got (channels, *spatial) {_listed(shapes)}. "
                "Use 'same' padding, and one stride for every branch"
            )
        return first if self.kind == "add" else (sum(shape[0] for shape in shapes), *first[1:])


def _listed(shapes: list[Sizes]) -> str:
    return ", ".join(map(str, shapes))


@dataclass(frozen=True)
class Branches:
    """Several sequences of stages that read the same input, and the join of their outputs.

    Args:
        kind: "add" or "concat".
        branches: for each branch, its stages.

    Example:
        >>> from polyconv import Conv, Identity, Network
        >>> str(Network((Branches("add", ((Identity(),), (Conv(kernel_size=3, out_channels=8, padding="same"),))),)))
        'add(identity, conv 3 8 same)'
    """

    kind: Literal["add", "concat"]
    branches: tuple[tuple[Stage, ...], ...]

    def __post_init__(self) -> None:
        """Refuse what has nothing to join."""
        choice(self.kind, ("add", "concat"), "kind")
        object.__setattr__(self, "branches", tuple(_checked_stages(branch, "a branch") for branch in self.branches))
        if not self.branches or not all(self.branches):
            raise ValueError(
                f"{self.kind} needs at least one branch, and in each at least one stage (identity will do)"
            )


Stage: TypeAlias = Layer | Branches


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive layer, or join, of a network's graph.

    Args:
        name: where it stands: "3" is stage 3, "2.0.1" stage 1 of branch 0 of stage 2, "4.depthwise" a part.
        layer: a primitive layer or a ``Join``.
        inputs: indices of the nodes whose outputs it reads; -1 is the network's input.
    """

    name: str
    layer: Layer
    inputs: tuple[int, ...]

    @property
    def text(self) -> str:
        """The layer in notation; a join's kind."""
        return _text(self.layer)


@dataclass(frozen=True)
class Network:
    """Layers and how they connect; made by ``network(text)`` or from stages.

    Example:
        >>> from polyconv import network
        >>> net = network("conv 3x3 64 same relu | maxpool 2x2")
        >>> net.out_shape((1, 3, 224, 224))
        (1, 64, 112, 112)
        >>> str(net)
        'conv 3x3 64 same relu | maxpool 2x2'
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        """Check that there is something, that it is bounded, and that the ranks agree."""
        object.__setattr__(self, "stages", _checked_stages(self.stages, "a network"))
        if not self.stages:
            raise ValueError("a network needs at least one stage")
        if _depth(self.stages) > MAX_DEPTH:
            raise ValueError(f"branches are nested more than {MAX_DEPTH} deep")
        ranks: dict[int, str] = {}
        for node in self.nodes:
            if node.layer.ndim is not None:
                ranks.setdefault(node.layer.ndim, node.name)
        if len(ranks) > 1:
            (one, first), (two, second) = list(ranks.items())[:2]
            raise ValueError(
                f"stage {first} is {one}-D and stage {second} is {two}-D. Give every kernel one number for each "
                "spatial axis, as in 3x3 for pictures"
            )

    @cached_property
    def ndim(self) -> int | None:
        """The number of spatial axes, or None where every layer fits any."""
        return next((node.layer.ndim for node in self.nodes if node.layer.ndim is not None), None)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The graph in an order of execution, composite layers taken apart."""
        found: list[Node] = []
        _append(found, self.stages, "", INPUT)
        return tuple(found)

    def shapes(self, in_shape: Sizes) -> tuple[Sizes, ...]:
        """The output shape (batch, channels, *spatial) of every node for an input of shape ``in_shape``.

        Raises:
            ValueError: where the input or a layer does not fit, naming the stage.
        """
        batch, *rest = self.checked_input(in_shape)
        flowing: list[Sizes] = []
        for node in self.nodes:
            inputs = [tuple(rest) if index == INPUT else flowing[index] for index in node.inputs]
            try:
                flowing.append(flow(node.layer, inputs))
            except ValueError as error:
                raise ValueError(f"stage {node.name} ({node.text}): {error}") from None
        return tuple((batch, *shape) for shape in flowing)

    def out_shape(self, in_shape: Sizes) -> Sizes:
        """The output shape (batch, channels, *spatial) for an input of shape ``in_shape``."""
        return self.shapes(in_shape)[-1]

    def checked_input(self, in_shape: Sizes) -> Sizes:
        """The input shape as a tuple of ints; ValueError where it cannot be one of this network's."""
        try:
            shape = tuple(in_shape)
        except TypeError:
            raise ValueError(f"the input shape must be (batch, channels, *spatial), got {in_shape!r}") from None
        if len(shape) < 3 or (self.ndim is not None and len(shape) != self.ndim + 2):
            raise ValueError(f"the input shape must be (batch, channels, {axis_names(self.ndim)}), got {shape}")
        minimum = (0, 1) + (0,) * (len(shape) - 2)
        return tuple(
            whole(size, "a size of the input shape", least) for size, least in zip(shape, minimum, strict=True)
        )

    def parameters(self, in_channels: int, ndim: int | None = None) -> dict[str, Sizes]:
        """Names and shapes of all weights for an input of ``in_channels``, in order of execution."""
        rank = self.ndim or ndim or 2
        found: dict[str, Sizes] = {}
        channels = self.channels(in_channels)
        for node in self.nodes:
            shapes = node.layer.parameters(channels[node.inputs[0]], rank)
            found.update({f"{node.name}.{key}": shape for key, shape in shapes.items()})
        return found

    def channels(self, in_channels: int) -> dict[int, int]:
        """Output channels of every node, by index, with the input's under -1; ValueError where they do not fit."""
        found = {INPUT: whole(in_channels, "in_channels")}
        for index, node in enumerate(self.nodes):
            inputs = [found[number] for number in node.inputs]
            try:
                if isinstance(node.layer, Join):
                    found[index] = node.layer.joined([(count,) for count in inputs])[0]
                else:
                    found[index] = node.layer.out_channels_for(inputs[0])
            except ValueError as error:
                raise ValueError(f"stage {node.name} ({node.text}): {error}") from None
        return found

    def weights(
        self, in_channels: int, seed: int = 0, *, dtype: str = "float32", ndim: int | None = None
    ) -> dict[str, Array]:
        """Random weights to try a network with: He-normal kernels, small biases, neutral batch norms.

        Args:
            in_channels: channels of the network's input.
            seed: the same seed gives the same weights.
            dtype: "float32" or "float64".
            ndim: spatial axes, where no layer says (pointwise layers only); 2 if not given.

        Example:
            >>> from polyconv import network
            >>> {name: array.shape for name, array in network("separable 3x3 8").weights(in_channels=3).items()}
            ... # doctest: +NORMALIZE_WHITESPACE
            {'0.depthwise.weight': (3, 1, 3, 3), '0.depthwise.bias': (3,),
             '0.pointwise.weight': (8, 3, 1, 1), '0.pointwise.bias': (8,)}
        """
        from polyconv.run.weights import random_weights

        return random_weights(self, in_channels, seed=seed, dtype=dtype, ndim=ndim)

    def bind(
        self, weights: Mapping[str, Any], *, layout: Literal["channels_first", "channels_last"] = "channels_first"
    ) -> Model:
        """A callable with these weights packed once; call it many times, with any spatial size.

        Args:
            weights: arrays under the names that ``Network.parameters`` gives, all float32 or all float64.
            layout: of the arrays the model takes and returns; weights are the same for both.

        Raises:
            ValueError: names missing or unknown, or shapes that do not fit.
            TypeError: other dtypes.
        """
        from polyconv.run.model import Model

        return Model(self, weights, layout=layout)

    def count(self, in_shape: Sizes, *, dtype: str = "float32") -> Report:
        """What the network costs and sees for an input of shape ``in_shape``: see ``polyconv.count.tally.count``.

        Args:
            in_shape: (batch, channels, *spatial); MACs and activations scale with the batch.
            dtype: of weights and activations, for the bytes.

        Raises:
            ValueError: where the input or a layer does not fit, naming the stage.

        Example:
            >>> from polyconv import network
            >>> report = network("conv 3x3 64 same relu | maxpool 2x2").count((1, 3, 224, 224))
            >>> report.params, report.macs, report.macs_on_data, report.receptive_field.size
            (1792, 86704128, 86188800, (4, 4))
        """
        from polyconv.count.tally import count

        return count(self, in_shape, dtype=dtype)

    def draw(
        self,
        input_size: Sizes | int | None = None,
        in_channels: int | None = None,
        *,
        x: Any = None,
        weights: Mapping[str, Any] | None = None,
        seed: int = 0,
        view: Literal["stamp", "slide"] = "stamp",
        flip: bool = False,
        theme: ThemeName = "auto",
        max_frames: int = 200,
        max_channels: int = 4,
    ) -> Drawing:
        """The network at work on a small input, frame by frame; ``save`` it as SVG, GIF, PNG, MP4 or a page.

        Args:
            input_size: positions along each axis; a small one that fits if not given.
            in_channels: channels of the input; the fewest that fit if not given.
            x: the input as (channels, *spatial); small whole numbers if not given.
            weights: arrays under the names of ``parameters``; small whole numbers if not given.
            seed: of the numbers that are not given.
            view: a transposed convolution as "stamp" (each input stamps the kernel on the output) or "slide" (a
                window slides over the input with zeros in between).
            flip: whether convolutions are those of mathematics, which flip the kernel before it slides; deep learning
                (and polyconv everywhere else) correlates, without a flip.
            theme: "light", "dark", or "auto": light, where a page follows its reader.
            max_frames: of more moments only every second, third, ... is shown, and the picture says so.
            max_channels: of more channels only the first are drawn, and the picture says how many more there are.

        Raises:
            ValueError: sizes that do not fit the network, or would need more cells than can be read.

        Example:
            >>> from polyconv import network
            >>> network("conv 3x3 1").draw(input_size=(5, 5))
            Drawing('conv 3x3 1', 9 frames of 600x362)
        """
        from polyconv.see.drawing import draw

        return draw(
            self,
            input_size,
            in_channels,
            x=x,
            weights=weights,
            seed=seed,
            view=view,
            flip=flip,
            theme=theme,
            max_frames=max_frames,
            max_channels=max_channels,
        )

    def __str__(self) -> str:
        """The canonical text, which parses back to an equal network."""
        from polyconv.notation import render

        return render(self.stages)

    def __repr__(self) -> str:
        """As one would write it."""
        return f"network({str(self)!r})"

    def _repr_html_(self) -> str:
        """How a notebook shows it: its layers, and a small drawing where one is possible."""
        from polyconv.see.notebook import network_html

        return network_html(self)

    def __iter__(self) -> Iterator[Stage]:
        """The stages."""
        return iter(self.stages)

    def __len__(self) -> int:
        """The number of stages."""
        return len(self.stages)


def axis_names(ndim: int | None) -> str:
    """What the spatial axes are called in messages: "height, width" for two."""
    names = ("depth", "height", "width")
    return ", ".join(names[-ndim:]) if ndim is not None and ndim <= len(names) else "*spatial"


def _checked_stages(stages: Any, what: str) -> tuple[Stage, ...]:
    """The stages as a tuple; TypeError for what is no layer."""
    found = tuple(stages) if isinstance(stages, Iterable) and not isinstance(stages, str) else (stages,)
    for stage in found:
        if not isinstance(stage, Layer | Branches) or isinstance(stage, Join) or type(stage) is Layer:
            raise TypeError(f"{what} holds layers and Branches, got {stage!r}. Text goes through polyconv.network(...)")
    return found


def _depth(stages: tuple[Stage, ...]) -> int:
    """How deep branches nest, without recursion, so that hostile nesting cannot exhaust the stack."""
    depth, level = 0, [stages]
    while level:
        level = [branch for row in level for stage in row if isinstance(stage, Branches) for branch in stage.branches]
        depth += bool(level)
        if depth > MAX_DEPTH:
            break
    return depth


def _append(found: list[Node], stages: tuple[Stage, ...], prefix: str, source: int) -> int:
    """Append the nodes of ``stages`` that read ``source``; return the index of the last."""
    for number, stage in enumerate(stages):
        name = f"{prefix}{number}"
        if isinstance(stage, Branches):
            ends = tuple(
                _append(found, branch, f"{name}.{which}.", source) for which, branch in enumerate(stage.branches)
            )
            found.append(Node(name, Join(stage.kind), ends))
        else:
            for part, layer in stage.parts():
                found.append(Node(f"{name}.{part}" if part else name, layer, (source,)))
                source = len(found) - 1
        source = len(found) - 1
        if len(found) > MAX_STAGES:
            raise ValueError(f"the network has more than {MAX_STAGES} layers")
    return source


def flow(layer: Layer, inputs: list[Sizes]) -> Sizes:
    """The shape (channels, *spatial) after ``layer``, for those of its inputs."""
    if isinstance(layer, Join):
        return layer.joined(inputs)
    channels, *rest = inputs[0]
    spatial = tuple(rest)
    out_size = (
        windows_over(layer, spatial)[1] if isinstance(layer, Conv | ConvTranspose | Pool) else layer.out_size(spatial)
    )
    return (layer.out_channels_for(channels), *out_size)


def _text(layer: Layer) -> str:
    from polyconv.notation import render

    return layer.kind if isinstance(layer, Join) else render((layer,))
