"""What practitioners learn the hard way: each warning with its stage, its numbers, the reason, the fix, the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd

from polyconv.count import holes
from polyconv.count.field import ReceptiveField, fields, misalignments, named_axes
from polyconv.geometry import Axis
from polyconv.layers import BatchNorm, Conv, ConvTranspose, Pool, Sizes
from polyconv.network import INPUT, Join, Network, Node
from polyconv.notation import network as parsed

ODENA = "A. Odena, V. Dumoulin, C. Olah, Deconvolution and checkerboard artifacts, Distill 2016, 10.23915/distill.00003"
WANG = "P. Wang et al., Understanding convolution for semantic segmentation, arXiv 1702.08502, section 3.2"
ARAUJO = "A. Araujo, W. Norris, J. Sim, Computing receptive fields, Distill 2019, 10.23915/distill.00021"
DUMOULIN = "V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning, arXiv 1603.07285"
TRICKS = "T. He et al., Bag of tricks for image classification, arXiv 1812.01187, section 4 (ResNet-D)"
EVEN = "S. Wu et al., Convolution with even-sized kernels and symmetric padding, arXiv 1903.08385"
SHUFFLE = "X. Zhang et al., ShuffleNet, arXiv 1707.01083, section 3.1"
NORM = "S. Ioffe, C. Szegedy, Batch normalization, arXiv 1502.03167, section 3.2"
FRAMEWORKS = "API documentation: tf.nn (notes on padding) and torch.nn.Conv2d, ConvTranspose2d"
POOLS = "API documentation: torch.nn.AvgPool2d (count_include_pad) and tf.nn.avg_pool"

_LARGEST_KERNEL, _LARGEST_SIZE = 2**12, 2**24  # dilated windows beyond these are not followed tap by tap
Windowed = Conv | Pool | ConvTranspose


@dataclass(frozen=True)
class Advice:
    """One warning.

    Args:
        stage: the name of the node, as in ``Network.nodes``.
        what: what was found, with its numbers.
        why: what it does to the result.
        fix: what to write instead.
        source: where it is described.

    Example:
        >>> import polyconv as pc
        >>> [advice.what for advice in pc.check(pc.network("transposed 3x3 8 stride 2"), (1, 3, 8, 8))]
        ['kernel 3 is not a multiple of stride 2 along axes 0 and 1: outputs get 1 to 2 taps, unevenly']
    """

    stage: str
    what: str
    why: str
    fix: str
    source: str

    def __str__(self) -> str:
        """All of it, on four lines."""
        return f"stage {self.stage}: {self.what}\n  why: {self.why}\n  fix: {self.fix}\n  source: {self.source}"


@dataclass(frozen=True)
class _Case:
    """The network under examination, with the shapes of all nodes where the input's is known."""

    network: Network
    shapes: tuple[Sizes, ...] | None

    @cached_property
    def ndim(self) -> int:
        return len(self.shapes[0]) - 2 if self.shapes else self.network.ndim or 2

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for index, node in enumerate(self.network.nodes):
            for number in node.inputs:
                found.setdefault(number, []).append(index)
        return found

    @cached_property
    def fields(self) -> tuple[ReceptiveField, ...] | None:
        """What every node sees; None where that needs an input shape nobody gave."""
        try:
            return fields(self.network, self.shapes)
        except ValueError:
            return None

    def windowed(self) -> Iterator[tuple[int, Node, Windowed]]:
        for index, node in enumerate(self.network.nodes):
            if isinstance(node.layer, Conv | Pool | ConvTranspose):
                yield index, node, node.layer

    def windows(self, layer: Windowed) -> tuple[Axis, ...]:
        """The layer's windows, without their padding."""
        return holes.windows(layer, self.ndim)

    def size_before(self, node: Node) -> Sizes | None:
        return self.shapes[node.inputs[0] + 1][2:] if self.shapes else None


def check(network: Network | str, in_shape: Sizes | None = None) -> list[Advice]:
    """Warn of what is known to go wrong with a network, in the order of its stages.

    Args:
        network: a network or its text.
        in_shape: (batch, channels, *spatial); what depends on sizes (a field larger than the input, inputs dropped at
            the end, the side on which "same" pads) is only looked at where it is given.

    Raises:
        ValueError: where ``in_shape`` does not fit the network.

    Example:
        >>> import polyconv as pc
        >>> for advice in pc.check("conv 3x3 8 same relu | transposed 3x3 8 stride 2"):
        ...     print(advice.stage, advice.what)
        1 kernel 3 is not a multiple of stride 2 along axes 0 and 1: outputs get 1 to 2 taps, unevenly
    """
    net = parsed(network)
    source = None if in_shape is None else net.checked_input(in_shape)
    case = _Case(net, None if source is None else (source, *net.shapes(source)))
    order = {node.name: index for index, node in enumerate(net.nodes)}
    return sorted((advice for rule in RULES for advice in rule(case)), key=lambda advice: order[advice.stage])


def _dims(values: list[int]) -> str:
    return "x".join(map(str, values))


def uneven_overlap(case: _Case) -> Iterator[Advice]:
    """Transposed kernels that do not divide into the stride: a checkerboard."""
    for _, node, layer in case.windowed():
        if not isinstance(layer, ConvTranspose):
            continue
        windows = case.windows(layer)
        ranges = [axis.overlap_range() for axis in windows]
        uneven = [number for number, (fewest, most) in enumerate(ranges) if fewest != most]
        if not uneven:
            continue
        first = windows[uneven[0]]
        fewest, most = ranges[uneven[0]]
        dilated = f" with dilation {first.dilation}" if first.dilation > 1 else ""
        even = [
            axis.kernel if low == high else _even_kernel(axis)
            for axis, (low, high) in zip(windows, ranges, strict=True)
        ]
        scales = _dims([axis.stride for axis in windows])
        yield Advice(
            node.name,
            f"kernel {first.kernel}{dilated} is not a multiple of stride {first.stride} along {named_axes(uneven)}: "
            f"outputs get {fewest} to {most} taps, unevenly",
            "a regular pattern (checkerboard) shows in the output"
            + (", and outputs without a tap hold the bias alone" if fewest == 0 else ""),
            f"a kernel of {_dims(even)}{' without dilation' if dilated else ''}, or upsample {scales} | "
            f"conv {_dims([axis.kernel for axis in windows])} {layer.out_channels} same",
            ODENA,
        )


def _even_kernel(axis: Axis) -> int:
    """The next kernel that meets every residue of the stride equally often."""
    return -(-axis.kernel // axis.stride) * axis.stride


def gridding(case: _Case) -> Iterator[Advice]:
    """Repeated dilations that leave holes in what an output sees."""
    for found in holes.gridded(case.network, case.ndim):
        rates = ", ".join(_dims(list(rate)) for rate in found.dilations)
        yield Advice(
            case.network.nodes[found.last].name,
            f"dilations {rates} in a row leave holes: along axis {found.axis}, {found.read} of {found.span} positions "
            f"between the first and the last are read",
            "neighbouring outputs are computed from different inputs, and fine structure is lost (gridding)",
            "dilations without a common factor that grow from 1, such as 1, 2, 3 or 1, 2, 5",
            WANG,
        )


def never_read(case: _Case) -> Iterator[Advice]:
    """Strides that jump over inputs, and inputs left over at the end, where no other branch reads them."""
    for source, readers in case.readers.items():
        skipping = [(index, _unread(case, case.network.nodes[index])) for index in readers]
        if not all(what for _, what in skipping):
            continue
        index, (what, fix) = skipping[0][0], skipping[0][1] or ("", "")
        also = "" if len(readers) == 1 else f" (nor does any other reader of {_name(case, source)})"
        yield Advice(
            case.network.nodes[index].name,
            what + also,
            "what those inputs hold cannot change the result, and its computation is wasted",
            fix,
            TRICKS if "stride" in what else DUMOULIN + ", relationship 6",
        )


def _name(case: _Case, index: int) -> str:
    return "the input" if index == INPUT else f"stage {case.network.nodes[index].name}"


def _unread(case: _Case, node: Node) -> tuple[str, str] | None:
    """(What a node does not read, and what would), or None where it reads everything or that is not known."""
    layer = node.layer
    if not isinstance(layer, Conv | Pool):
        return None
    windows = case.windows(layer)
    jumped = [number for number, axis in enumerate(windows) if axis.residues_met() < axis.stride]
    if jumped:
        axis = windows[jumped[0]]
        return (
            f"stride {axis.stride} with kernel {axis.kernel} and dilation {axis.dilation} reads "
            f"{axis.residues_met()} of every {axis.stride} inputs along {named_axes(jumped)}",
            f"a kernel of at least {axis.stride} without dilation, or avgpool {axis.stride} before a stride of 1",
        )
    size = case.size_before(node)
    if size is None:
        return None
    for number, (axis, length) in enumerate(zip(layer.axes(size), size, strict=True)):
        if axis.dilation > 1 and (axis.kernel > _LARGEST_KERNEL or length > _LARGEST_SIZE):
            continue
        left = axis.unread(length)
        if left:
            better = [size for size in (length - left, length + -left % axis.stride) if axis.unread(size) == 0]
            sizes = f"an input of {' or '.join(map(str, better))} along axis {number}, or " if better else ""
            return (
                f"{left} of {length} inputs along axis {number} are never read: no window reaches them",
                f"{sizes}padding, or 'same'",
            )
    return None


def misaligned(case: _Case) -> Iterator[Advice]:
    """Branches that meet with different strides or centres."""
    for node in case.network.nodes:
        if not isinstance(node.layer, Join) or case.fields is None:
            continue
        inputs = [case.fields[number] for number in node.inputs]
        names = [case.network.nodes[number].name for number in node.inputs]
        for what in misalignments(names, inputs):
            yield Advice(
                node.name,
                what,
                f"{node.text} puts together values that belong to different places of the input",
                "kernel, stride and padding that give every branch the same stride and centre: odd kernels with "
                "padding (kernel - 1) / 2",
                ARAUJO,
            )


def field_larger_than_input(case: _Case) -> Iterator[Advice]:
    """The first layer whose outputs see more than there is."""
    if case.shapes is None or case.fields is None:
        return
    size = case.shapes[0][2:]
    for index, node, layer in case.windowed():
        if isinstance(layer, ConvTranspose):
            continue
        seen = case.fields[index].size
        over = [number for number, (field, length) in enumerate(zip(seen, size, strict=True)) if field > length > 0]
        out = case.shapes[index + 1][2:]
        if over and any(length > 1 for length in out):
            yield Advice(
                node.name,
                f"its outputs see {_dims(list(seen))} pixels, the input has {_dims(list(size))}: "
                f"more along {named_axes(over)}",
                "from here on outputs at the border see mostly padding, and more layers widen nothing",
                "a larger input, or fewer layers, strides or dilations",
                ARAUJO,
            )
            return


def half_pixel_shift(case: _Case) -> Iterator[Advice]:
    """Padding "same" with a window of even span: no middle to centre it on."""
    for _, node, layer in case.windowed():
        if isinstance(layer, ConvTranspose) or layer.padding != "same":
            continue
        windows = case.windows(layer)
        even = [number for number, axis in enumerate(windows) if axis.stride == 1 and axis.span % 2 == 0]
        if even:
            axis = windows[even[0]]
            yield Advice(
                node.name,
                f"'same' with a window of even span {axis.span} along {named_axes(even)} pads {(axis.span - 1) // 2} "
                f"before and {axis.span // 2} after",
                "the output is shifted by half a pixel, and every such layer adds another half",
                f"an odd kernel ({axis.kernel + 1}), or the odd element of padding before in every other such layer",
                EVEN,
            )


def same_with_a_stride(case: _Case) -> Iterator[Advice]:
    """Padding "same" with a stride, where PyTorch's symmetric padding would give another picture of the same size."""
    for _, node, layer in case.windowed():
        size = case.size_before(node)
        if layer.padding != "same" or (size is None and not isinstance(layer, ConvTranspose)):
            continue
        axes = layer.axes(size or (1,) * case.ndim)
        shifted = [number for number, axis in enumerate(axes) if axis.stride > 1 and axis.before < axis.after]
        if not shifted:
            continue
        axis = axes[shifted[0]]
        fix, other = _symmetric(layer, axes)
        yield Advice(
            node.name,
            f"'same' {'crops' if isinstance(layer, ConvTranspose) else 'pads'} {axis.before} before and {axis.after} "
            f"after along {named_axes(shifted)}; PyTorch's {other} gives the same size, shifted",
            f"weights trained with the one see a picture shifted by {axis.after - axis.before} pixel"
            f"{'s' if axis.after - axis.before > 1 else ''} in the other",
            fix,
            FRAMEWORKS,
        )


def _symmetric(layer: Windowed, axes: tuple[Axis, ...]) -> tuple[str, str]:
    """(What to write for weights from PyTorch, PyTorch's own words)."""
    pads = [axis.after for axis in axes]
    words = f"padding={pads[0] if len(set(pads)) == 1 else tuple(pads)}"
    if isinstance(layer, ConvTranspose):
        extra = [axis.after - axis.before for axis in axes]
        words += f", output_padding={extra[0] if len(set(extra)) == 1 else tuple(extra)}"
        return (
            f"padding {_dims(pads)} output_padding {_dims(extra)} for weights from PyTorch; 'same' for Keras",
            words,
        )
    return (f"padding {_dims(pads)} for weights from PyTorch; 'same' for those from TensorFlow", words)


def groups_that_never_mix(case: _Case) -> Iterator[Advice]:
    """Grouped layers in a row between which no layer mixes the groups."""
    apart: dict[int, _Parts] = {INPUT: _Parts(INPUT)}
    for index, node in enumerate(case.network.nodes):
        before, layer = [apart[number] for number in node.inputs], node.layer
        if isinstance(layer, Join):
            one_source = layer.kind == "add" and len({parts.source for parts in before}) == 1
            name = next((parts.name for parts in before if parts.count), "")
            apart[index] = (
                _Parts(before[0].source, gcd(*(p.count for p in before)), name) if one_source else _Parts(index)
            )
            continue
        groups = layer.groups if isinstance(layer, Conv | ConvTranspose) else None
        if groups is None:  # depthwise, and all that treats every channel by itself
            apart[index] = before[0]
        elif groups == 1:
            apart[index] = _Parts(index)
        else:
            common = gcd(before[0].count, groups)
            if before[0].count and common > 1:
                yield _apart(node, groups, common, before[0].name)
            apart[index] = replace(before[0], count=common if common > 1 else groups, name=node.name)


@dataclass(frozen=True)
class _Parts:
    """Into how many parts the channels fall that ``source`` gave whole (0: each by itself), and which layer did it."""

    source: int
    count: int = 0
    name: str = ""


def _apart(node: Node, groups: int, apart: int, name: str) -> Advice:
    return Advice(
        node.name,
        f"groups {groups} follow the groups of stage {name} and nothing mixes them: {apart} parts stay apart",
        "an output sees one part of the channels only, however many such layers follow",
        "a pointwise layer (or a shuffle of the channels) in between, or one of the two without groups",
        SHUFFLE,
    )


def bias_before_batch_norm(case: _Case) -> Iterator[Advice]:
    """A bias that the batch norm behind it takes away again."""
    for index, node in enumerate(case.network.nodes):
        readers = [case.network.nodes[number].layer for number in case.readers.get(index, [])]
        layer = node.layer
        if not isinstance(layer, Conv | ConvTranspose) or not layer.bias or layer.activation:
            continue
        if readers and all(isinstance(reader, BatchNorm) for reader in readers):
            number = f"{case.shapes[index + 1][1]} biases" if case.shapes else "its bias"
            yield Advice(
                node.name,
                f"{number} before a batch norm, which subtracts the mean and adds a bias of its own",
                "the bias changes nothing in training and costs memory",
                "nobias",
                NORM,
            )


def only_padding(case: _Case) -> Iterator[Advice]:
    """Convolutions so widely padded that some windows hold no input at all."""
    for _, node, layer in case.windowed():
        if not isinstance(layer, Conv) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            continue
        axes = layer.axes(case.size_before(node) or (2**30,) * case.ndim)
        wide = [number for number, axis in enumerate(axes) if max(axis.before, axis.after) >= axis.span]
        if wide:
            axis = axes[wide[0]]
            yield Advice(
                node.name,
                f"padding {axis.before} before and {axis.after} after along {named_axes(wide)} holds whole windows of "
                f"span {axis.span}",
                "the outermost outputs see no input: they hold the bias alone",
                f"padding of at most {axis.span - 1} on each side",
                DUMOULIN,
            )


def padding_in_averages(case: _Case) -> Iterator[Advice]:
    """Averages that count padding, as PyTorch does and TensorFlow does not."""
    for _, node, layer in case.windowed():
        if not isinstance(layer, Pool) or layer.kind != "avg" or not layer.count_include_pad:
            continue
        size = case.size_before(node)
        if layer.padding == "valid" or (size is None and isinstance(layer.padding, str)):
            continue
        axes = layer.axes(size or (2**30,) * case.ndim)
        if any(axis.before or axis.after for axis in axes):
            fewest = [axis.span - max(axis.before, axis.after) for axis in axes]
            yield Advice(
                node.name,
                f"averages at the border divide by {_dims([axis.kernel for axis in axes])} positions of which only "
                f"{_dims(fewest)} hold data in the corner",
                "the border comes out too dark; TensorFlow divides by the data alone",
                "exclude_pad, unless the weights come from PyTorch with count_include_pad=True (its default)",
                POOLS,
            )


RULES: tuple[Callable[[_Case], Iterator[Advice]], ...] = (
    uneven_overlap,
    gridding,
    never_read,
    misaligned,
    field_larger_than_input,
    half_pixel_shift,
    same_with_a_stride,
    groups_that_never_mix,
    bias_before_batch_norm,
    only_padding,
    padding_in_averages,
)
