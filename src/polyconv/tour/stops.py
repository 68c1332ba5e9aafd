"""The stops of the tour: every kind of convolution, with kernels that do something one can see.

A stop is a record; adding a kind adds a record to ``STOPS`` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from polyconv.network import Network
from polyconv.notation import network
from polyconv.run.problem import Array
from polyconv.tour import kernels as k
from polyconv.views import magnitude, sheet, signed

MULTIPLE = 8  # the sides of the photograph are multiples of this, so that strides of 2, 4 and 8 come out even
LEAST = 64  # pixels that a side needs: below this the pictures show nothing
_FRAMES, _PAN = 5, 3  # of the short film for the 3-D stop: pictures, and pixels the camera moves between them


@dataclass(frozen=True)
class Stop:
    """One kind of convolution on the photograph.

    Args:
        part: the heading it stands under.
        title: the kind.
        notation: the network.
        read: the photograph (height, width, 3) as the network's input (batch, channels, *spatial).
        weights: the weights in the order of ``Network.parameters``.
        show: the output as a picture (height, width) or (height, width, 3), from 0 to 1.
        seen: what the picture shows.
        use: when one takes this kind.
        source: who introduced or described it.
        show_input: what the network reads as a picture; None where that is the photograph as it is.
    """

    part: str
    title: str
    notation: str
    read: Callable[[Array], Array]
    weights: Callable[[], Sequence[Array]]
    show: Callable[[Array], Array]
    seen: str
    use: str
    source: str
    show_input: Callable[[Array], Array] | None = None

    @property
    def network(self) -> Network:
        """The network of its notation."""
        return network(self.notation)

    def arrays(self, in_channels: int, ndim: int) -> dict[str, Array]:
        """The weights by name, float32."""
        shapes = self.network.parameters(in_channels, ndim)
        return {
            name: np.asarray(array, np.float32).reshape(shape)
            for (name, shape), array in zip(shapes.items(), self.weights(), strict=True)
        }

    def output(self, photograph: Array) -> Array:
        """What the network makes of the photograph."""
        x = self.read(photograph)
        result: Array = self.network.bind(self.arrays(x.shape[1], x.ndim - 2))(x)
        return result


def _colour(photograph: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(photograph, -1, 0)[None])


def _grey(photograph: Array) -> Array:
    return np.asarray(photograph @ k.LUMA, np.float32)[None, None]


def _rows(photograph: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(photograph, -1, 1))


def _with_mirror(photograph: Array) -> Array:
    return np.concatenate([_colour(photograph), _colour(photograph[:, ::-1])], axis=1)


def _film(photograph: Array) -> Array:
    grey = _grey(photograph)[0, 0]
    width = grey.shape[1] - _PAN * (_FRAMES - 1)
    return np.stack([grey[:, _PAN * frame : _PAN * frame + width] for frame in range(_FRAMES)])[None, None]


def _as_colour(result: Array) -> Array:
    return np.moveaxis(result[0], 0, -1)


def _as_grey(result: Array) -> Array:
    return np.asarray(result[0, 0])


def _as_edges(result: Array) -> Array:
    return signed(result[0, 0])


def _as_strengths(result: Array) -> Array:
    return magnitude(_as_colour(result))


def _as_rows(result: Array) -> Array:
    return np.moveaxis(result, 1, -1)


def _as_middle_frame(result: Array) -> Array:
    return signed(result[0, 0, result.shape[2] // 2])


def _two_colour_pictures(planes: Array) -> Array:
    """Six planes, three for each picture, side by side."""
    return np.stack([sheet(planes[[colour, colour + 3]], columns=2) for colour in range(3)], axis=-1)


def _as_two_edges(result: Array) -> Array:
    return _two_colour_pictures(magnitude(result[0])[[0, 2, 4, 1, 3, 5]])


def _as_groups(result: Array) -> Array:
    first, second = result[0, :3], np.stack([signed(plane) for plane in result[0, 3:]])
    return _two_colour_pictures(np.concatenate([np.clip(first, 0, 1), second]))


def _as_modules(result: Array) -> Array:
    grey, fine, coarse, brightest = result[0]
    return sheet(np.stack([np.clip(grey, 0, 1), signed(fine), signed(coarse), np.clip(brightest, 0, 1)]), columns=2)


_BASICS, _CHEAPER, _AXES = "One convolution, many settings", "Cheaper kinds", "One axis, three axes"
_POOLS, _BUILT = "Pooling", "Built from them"

STRIDED = Stop(
    part=_BASICS,
    title="Strided",
    notation="conv 3x3 3 stride 4 padding 1 nobias",
    read=_colour,
    weights=lambda: [k.per_colour(k.square(k.BINOMIAL))],
    show=_as_colour,
    seen="Every fourth position in both directions: a small blurred picture, shown enlarged, with a sixteenth of the "
    "pixels.",
    use="Makes what follows cheaper and lets it see more; a learnt alternative to pooling.",
    source="Springenberg et al., Striving for simplicity, arXiv 1412.6806",
)

STOPS = (
    Stop(
        part=_BASICS,
        title="Standard, one channel",
        notation="conv 3x3 1 same replicate nobias",
        read=_grey,
        weights=lambda: [k.EDGE_RIGHT],
        show=_as_edges,
        seen="Where it gets brighter to the right, bright; where it gets darker, dark; grey where nothing changes.",
        use="The window slides over the picture and writes one weighted sum for each place. All other kinds are "
        "this one with something changed.",
        source="LeCun et al., Gradient-based learning applied to document recognition, 1998",
        show_input=_as_grey,
    ),
    Stop(
        part=_BASICS,
        title="Standard, many channels",
        notation="conv 3x3 3 same replicate nobias",
        read=_colour,
        weights=lambda: [k.of_grey(np.stack([k.EDGE_RIGHT, k.EDGE_DOWN, k.SPOT]))],
        show=_as_strengths,
        seen="Three filters, each summing over all three colours: upright edges shown in red, level ones in green, "
        "fine detail in blue.",
        use="The layer of most networks: every output channel reads every input channel.",
        source="Krizhevsky, Sutskever, Hinton, ImageNet classification with deep networks, 2012",
    ),
    Stop(
        part=_BASICS,
        title="Pointwise (1x1)",
        notation="pointwise 3 nobias",
        read=_colour,
        weights=lambda: [k.SEPIA],
        show=_as_colour,
        seen="Each pixel's colours are mixed anew, and no pixel looks at its neighbours: sepia.",
        use="Changes the number of channels cheaply, before or after a layer that looks around.",
        source="Lin, Chen, Yan, Network in network, arXiv 1312.4400",
    ),
    Stop(
        part=_BASICS,
        title="Dilated (à trous)",
        notation="conv 3x3 1 dilation 6 same replicate nobias",
        read=_grey,
        weights=lambda: [k.SPOT],
        show=_as_edges,
        seen="Nine weights, six pixels apart: patches of a dozen pixels stand out instead of single hairs. What lies "
        "between the taps is not read.",
        use="Sees far without losing resolution or adding weights, as segmentation and audio need.",
        source="Yu, Koltun, Multi-scale context aggregation by dilated convolutions, arXiv 1511.07122",
        show_input=_as_grey,
    ),
    STRIDED,
    Stop(
        part=_BASICS,
        title="Transposed",
        notation="transposed 8x8 3 stride 4 padding 2 nobias",
        read=STRIDED.output,
        weights=lambda: [k.per_colour(k.square(k.tent(4)))],
        show=_as_colour,
        seen="The small picture of the strided layer, back at full size: each of its pixels stamps a smooth 8x8 tent "
        "on the output. What was lost stays lost.",
        use="Up-samples with learnt weights in decoders and generators. A kernel divisible by the stride, as here, "
        "avoids checkerboards.",
        source="Dumoulin, Visin, A guide to convolution arithmetic, arXiv 1603.07285",
        show_input=_as_colour,
    ),
    Stop(
        part=_CHEAPER,
        title="Spatially separable",
        notation="spatial 15x15 3 same replicate nobias",
        read=_colour,
        weights=lambda: [k.per_colour(k.gaussian(15, 3.0))] * 2,
        show=_as_colour,
        seen="A Gaussian blur of 15x15 pixels as 15x1 and then 1x15: 30 products a pixel and channel instead of 225.",
        use="Where the kernel is a product of a column and a row, or may be taken as one.",
        source="Szegedy et al., Rethinking the Inception architecture, arXiv 1512.00567",
    ),
    Stop(
        part=_CHEAPER,
        title="Depthwise",
        notation="depthwise 1x17 same replicate nobias",
        read=_colour,
        weights=lambda: [np.stack([k.centre(17, 16), k.centre(17), k.centre(17, 0)])],
        show=_as_colour,
        seen="Each colour has a filter of its own and never sees the others: red moves left, blue moves right, green "
        "stays.",
        use="The cheap half of a depthwise separable layer: looks around, mixes no channels.",
        source="Sifre, Rigid-motion scattering for image classification, 2014",
    ),
    Stop(
        part=_CHEAPER,
        title="Depthwise, multiplier 2",
        notation="depthwise 3x3 multiplier 2 same replicate nobias",
        read=_colour,
        weights=lambda: [np.stack([k.EDGE_RIGHT, k.EDGE_DOWN] * 3)],
        show=_as_two_edges,
        seen="Two filters for each colour make six channels: left the upright edges of each colour, right the level "
        "ones.",
        use="More features from each channel, before a pointwise layer picks among them.",
        source="API documentation: keras.layers.DepthwiseConv2D (depth_multiplier)",
    ),
    Stop(
        part=_CHEAPER,
        title="Depthwise separable",
        notation="separable 5x5 3 same replicate nobias",
        read=_colour,
        weights=lambda: [np.stack([k.sharpen(5, 1.2, 1.5)] * 3), k.saturation(1.6)],
        show=_as_colour,
        seen="First each colour is sharpened by itself (depthwise), then the colours are mixed for more saturation "
        "(pointwise).",
        use="Stands in for a standard layer at a fraction of its cost: the layer of MobileNets.",
        source="Howard et al., MobileNets, arXiv 1704.04861",
    ),
    Stop(
        part=_CHEAPER,
        title="Grouped",
        notation="conv 5x5 6 groups 2 same replicate nobias",
        read=_with_mirror,
        weights=lambda: [np.concatenate([k.per_colour(k.square(k.gaussian(5, 2.0))), k.per_colour(k.spots(5, 0.8))])],
        show=_as_groups,
        seen="Six channels, the photograph and its mirror image, in two groups that never meet: one is blurred, the "
        "other shows its fine lines.",
        use="Splits a layer into independent halves or more, as AlexNet did over two GPUs and ResNeXt for accuracy.",
        source="Xie et al., Aggregated residual transformations, arXiv 1611.05431",
        show_input=lambda x: _two_colour_pictures(x[0]),
    ),
    Stop(
        part=_AXES,
        title="1-D, along the rows",
        notation="conv 31 3 same replicate nobias",
        read=_rows,
        weights=lambda: [k.per_colour(np.full(31, 1 / 31))],
        show=_as_rows,
        seen="Each row of pixels is a signal of its own: a camera that moved sideways.",
        use="Sound, text, sensors: whatever comes in a sequence.",
        source="Kiranyaz et al., 1D convolutional neural networks and applications, arXiv 1905.03554",
    ),
    Stop(
        part=_AXES,
        title="1-D, causal",
        notation="conv 48 3 causal nobias",
        read=_rows,
        weights=lambda: [k.per_colour(k.trail(48, 0.93))],
        show=_as_rows,
        seen="Each pixel sees only itself and what came before it, so light leaves a trail to the right. Before the "
        "first pixel there is nothing: the left edge fades in.",
        use="Predicting the next sample: the future must not leak in.",
        source="van den Oord et al., WaveNet, arXiv 1609.03499",
    ),
    Stop(
        part=_AXES,
        title="3-D",
        notation="conv 3x5x5 1 same nobias",
        read=_film,
        weights=lambda: [np.multiply.outer((-1, 0, 1), k.square(k.gaussian(5, 1.0)))],
        show=_as_middle_frame,
        seen="Five frames of a camera that pans: the frame after minus the frame before, smoothed. What moves stands "
        "out.",
        use="Video and volumes, where depth or time is an axis like the others.",
        source="Tran et al., Learning spatiotemporal features with 3D convolutional networks, arXiv 1412.0767",
        show_input=lambda x: x[0, 0, _FRAMES // 2],
    ),
    Stop(
        part=_POOLS,
        title="Max pooling",
        notation="maxpool 8x8",
        read=_colour,
        weights=list,
        show=_as_colour,
        seen="The brightest value of each 8x8 block, for each colour.",
        use="Keeps that a feature is there and drops where exactly.",
        source="Scherer, Müller, Behnke, Evaluation of pooling operations, 2010",
    ),
    Stop(
        part=_POOLS,
        title="Average pooling",
        notation="avgpool 8x8",
        read=_colour,
        weights=list,
        show=_as_colour,
        seen="The mean of each 8x8 block: a mosaic.",
        use="A smooth summary; over the whole picture it ends most classifiers.",
        source="Lin, Chen, Yan, Network in network, arXiv 1312.4400",
    ),
    Stop(
        part=_BUILT,
        title="Network in network",
        notation="conv 3x3 4 same replicate relu nobias | pointwise 1 nobias",
        read=_grey,
        weights=lambda: [
            np.stack([k.EDGE_RIGHT, -k.EDGE_RIGHT, k.EDGE_DOWN, -k.EDGE_DOWN]),
            np.ones((1, 4)),
        ],
        show=lambda result: magnitude(result[0, 0]),
        seen="Edges towards all four sides, negative ones cut off, then added up at each pixel: how strong an edge is, "
        "whatever its direction. A sum that no single convolution can give.",
        use="A small network at every place instead of one weighted sum.",
        source="Lin, Chen, Yan, Network in network, arXiv 1312.4400",
        show_input=_as_grey,
    ),
    Stop(
        part=_BUILT,
        title="Inception module",
        notation="concat(pointwise 1 nobias, conv 3x3 1 same replicate nobias, conv 5x5 1 same replicate nobias, "
        "maxpool 3x3 stride 1 same | pointwise 1 nobias)",
        read=_colour,
        weights=lambda: [k.LUMA, k.of_grey(k.SPOT[None]), k.of_grey(k.spots(5, 1.0)[None]), k.LUMA],
        show=_as_modules,
        seen="Four branches side by side: brightness, fine detail, coarser detail, the brightest neighbour.",
        use="Looks at several scales at once and lets the next layer choose.",
        source="Szegedy et al., Going deeper with convolutions, arXiv 1409.4842",
    ),
    Stop(
        part=_BUILT,
        title="Dilated context",
        notation="conv 3x3 3 same replicate nobias | conv 3x3 3 dilation 2 same replicate nobias | "
        "conv 3x3 3 dilation 4 same replicate nobias | conv 3x3 3 dilation 8 same replicate nobias",
        read=_colour,
        weights=lambda: [k.per_colour(k.square(k.BINOMIAL))] * 4,
        show=_as_colour,
        seen="Four 3x3 layers, the dilation doubled each time: a blur that reads 31x31 pixels with 36 weights for each "
        "pair of channels.",
        use="The field grows exponentially with depth, at full resolution.",
        source="Yu, Koltun, Multi-scale context aggregation by dilated convolutions, arXiv 1511.07122",
    ),
    Stop(
        part=_BUILT,
        title="Encoder and decoder",
        notation="conv 8x8 18 stride 8 nobias | transposed 8x8 3 stride 8 nobias",
        read=_colour,
        weights=lambda: [_by_colour(k.cosines(8, 6))] * 2,
        show=_as_colour,
        seen="Each 8x8 block of 192 numbers becomes 18, the slowest waves of each colour, and is painted back from "
        "them: the idea of JPEG as two layers that share one kernel.",
        use="Squeeze, then rebuild: segmentation, denoising, generation.",
        source="Ronneberger, Fischer, Brox, U-Net, arXiv 1505.04597",
    ),
    Stop(
        part=_BUILT,
        title="Deconvolutional network",
        notation="conv 7x7 8 stride 2 padding 3 replicate relu nobias | "
        "transposed 7x7 3 stride 2 padding 3 output_padding 1 nobias",
        read=_colour,
        weights=lambda: [k.of_grey(k.oriented(7, 1.6, 8))] * 2,
        show=lambda result: signed(_as_colour(result)),
        seen="Eight edge filters look at every second pixel, and what they found is projected back with the same "
        "weights: what this layer knows of the picture.",
        use="Shows what a layer responds to, in pixels.",
        source="Zeiler, Fergus, Visualizing and understanding convolutional networks, arXiv 1311.2901",
    ),
)


def _by_colour(filters: Array) -> Array:
    """Weights (3 * n, 3, *kernel): n filters for each colour, reading that colour alone."""
    return np.concatenate([np.multiply.outer(filters, np.eye(3)[colour]).transpose(0, 3, 1, 2) for colour in range(3)])
