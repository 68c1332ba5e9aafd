"""Well-known networks, written in the notation: what convolutions are built into.

``ARCHITECTURES`` maps a name to its ``Architecture``; each is also a function of this module. Fully connected layers
stand as convolutions over all that is left (7x7, then pointwise), which is the same arithmetic.

Example:
    >>> from polyconv.architectures import ARCHITECTURES, vgg16
    >>> vgg16().count((1, 3, 224, 224)).params
    138357544
    >>> ARCHITECTURES["mobilenet_v1"].in_shape
    (1, 3, 224, 224)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from polyconv._checks import choice, whole
from polyconv.layers import Sizes
from polyconv.network import Network
from polyconv.notation import network

IMAGENET = (1, 3, 224, 224)
ResNetVariant = Literal["v1", "torchvision", "tf_slim"]


@dataclass(frozen=True)
class Architecture:
    """A network that has a name.

    Args:
        name: the name, as in ``ARCHITECTURES``.
        build: makes the network.
        in_shape: (batch, channels, *spatial) of the input it was published with.
        source: who published it, and where.
    """

    name: str
    build: Callable[[], Network]
    in_shape: Sizes
    source: str

    def __call__(self) -> Network:
        """The network."""
        return self.build()


def _row(stages: Iterable[str]) -> str:
    return " | ".join(stages)


def _vgg(widths: Sequence[Sequence[int]]) -> Network:
    """Blocks of 3x3 layers with a pooling after each, then three fully connected layers."""
    blocks = [_row([*(f"conv 3x3 {width} padding 1 relu" for width in block), "maxpool 2x2"]) for block in widths]
    return network(_row([*blocks, "conv 7x7 4096 relu | pointwise 4096 relu | pointwise 1000"]))


def vgg11() -> Network:
    """VGG-11 (configuration A)."""
    return _vgg([[64], [128], [256] * 2, [512] * 2, [512] * 2])


def vgg16() -> Network:
    """VGG-16 (configuration D)."""
    return _vgg([[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3])


def _mlpconv(first: str, *widths: int) -> str:
    """A convolution followed by pointwise layers: the "network in network" at every position."""
    return _row([f"{first} relu", *(f"pointwise {width} relu" for width in widths)])


def nin_imagenet() -> Network:
    """Network in network for ImageNet: pointwise layers after each convolution, an average for each class."""
    blocks = [
        _mlpconv("conv 11x11 96 stride 4", 96, 96),
        _mlpconv("conv 5x5 256 padding 2", 256, 256),
        _mlpconv("conv 3x3 384 padding 1", 384, 384),
        _mlpconv("conv 3x3 1024 padding 1", 1024, 1000),
    ]
    return network(" | maxpool 3x3 stride 2 | ".join(blocks) + " | globalpool")


def nin_cifar10() -> Network:
    """Network in network for CIFAR-10."""
    return network(
        _row(
            [
                _mlpconv("conv 5x5 192 padding 2", 160, 96),
                "maxpool 3x3 stride 2 ceil",
                _mlpconv("conv 5x5 192 padding 2", 192, 192),
                "avgpool 3x3 stride 2 ceil",
                _mlpconv("conv 3x3 192 padding 1", 192, 10),
                "globalpool",
            ]
        )
    )


def inception(one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int) -> Network:
    """An Inception module: 1x1, 3x3 and 5x5 layers and a pooling side by side, 1x1 layers before the costly ones.

    Args:
        one: channels of the 1x1 branch.
        reduce3: channels of the 1x1 before the 3x3.
        three: channels of the 3x3.
        reduce5: channels of the 1x1 before the 5x5.
        five: channels of the 5x5.
        pool: channels of the 1x1 after the pooling.
    """
    branches = (
        f"pointwise {one} relu",
        f"pointwise {reduce3} relu | conv 3x3 {three} padding 1 relu",
        f"pointwise {reduce5} relu | conv 5x5 {five} padding 2 relu",
        f"maxpool 3x3 stride 1 padding 1 | pointwise {pool} relu",
    )
    return network(f"concat({', '.join(branches)})")


def inception_3a() -> Network:
    """The module 3a of GoogLeNet, for 192 channels at 28x28."""
    return inception(64, 96, 128, 16, 32, 32)


def inception_3b() -> Network:
    """The module 3b of GoogLeNet, for 256 channels at 28x28."""
    return inception(128, 128, 192, 32, 96, 64)


def inception_4a() -> Network:
    """The module 4a of GoogLeNet, for 480 channels at 14x14."""
    return inception(192, 96, 208, 16, 48, 64)


def alexnet() -> Network:
    """AlexNet with its two groups, which once were two GPUs."""
    return network(
        "conv 11x11 96 stride 4 relu | maxpool 3x3 stride 2 | conv 5x5 256 padding 2 groups 2 relu | "
        "maxpool 3x3 stride 2 | conv 3x3 384 padding 1 relu | conv 3x3 384 padding 1 groups 2 relu | "
        "conv 3x3 256 padding 1 groups 2 relu | maxpool 3x3 stride 2 | conv 6x6 4096 relu | pointwise 4096 relu | "
        "pointwise 1000"
    )


def _normed(layer: str, *more: str) -> str:
    return _row([f"{layer} nobias", "batchnorm", *more])


def _bottleneck(width: int, strides: tuple[int, int], shortcut: str) -> str:
    """A residual unit: 1x1, 3x3, 1x1 with four times the channels, added to the shortcut."""
    words = [f" stride {stride}" if stride > 1 else "" for stride in strides]
    path = [
        _normed(f"conv 1x1 {width}{words[0]}", "relu"),
        _normed(f"conv 3x3 {width}{words[1]} padding 1", "relu"),
        _normed(f"conv 1x1 {4 * width}"),
    ]
    return f"add({shortcut}, {_row(path)}) | relu"


def resnet50(variant: ResNetVariant = "torchvision") -> Network:
    """ResNet-50, in the three variants that share the name and differ in where the stride is.

    Args:
        variant: "v1": in the first 1x1 of a block, as published; "torchvision": in its 3x3; "tf_slim": in the 3x3 of
            the last unit of the block before.
    """
    choice(variant, get_args(ResNetVariant), "variant")
    units = ["conv 7x7 64 stride 2 padding 3 nobias | batchnorm | relu | maxpool 3x3 stride 2 padding 1"]
    for block, (width, count) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True)):
        for unit in range(count):
            late = variant == "tf_slim"
            strided = (unit == count - 1 and block < 3) if late else (unit == 0 and block > 0)
            stride = 2 if strided else 1
            word = f" stride {stride}" if strided else ""
            shortcut = _normed(f"conv 1x1 {4 * width}{word}") if unit == 0 else "identity"
            if unit and strided:
                shortcut = "maxpool 1x1 stride 2"
            units.append(_bottleneck(width, (stride, 1) if variant == "v1" else (1, stride), shortcut))
    return network(_row([*units, "globalpool | pointwise 1000"]))


def resnet50_v1() -> Network:
    """ResNet-50 as published: the stride in the first 1x1."""
    return resnet50("v1")


def resnet50_tf_slim() -> Network:
    """ResNet-50 as in TF-slim: the stride at the end of each block."""
    return resnet50("tf_slim")


def mobilenet_v1() -> Network:
    """MobileNet v1 of full width: depthwise separable layers, each half with a batch norm."""
    stages = [_normed("conv 3x3 32 stride 2 same", "relu")]
    widths = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in widths:
        word = " stride 2" if stride == 2 else ""
        stages += [_normed(f"depthwise 3x3{word} same", "relu"), _normed(f"pointwise {width}", "relu")]
    return network(_row([*stages, "globalpool | pointwise 1000"]))


def context_module(channels: int = 21) -> Network:
    """The basic context module: dilations 1, 1, 2, 4, 8, 16, 1, which see 67x67 and keep the resolution.

    Args:
        channels: C, of input and every layer; the paper's classes.
    """
    whole(channels, "channels")
    layers = [f"conv 3x3 {channels} dilation {dilation} same relu" for dilation in (1, 1, 2, 4, 8, 16, 1)]
    return network(_row([*layers, f"pointwise {channels}"]))


def unet(widths: Sequence[int] = (64, 128, 256, 512, 1024), classes: int = 2) -> Network:
    """U-Net: an encoder, a decoder of transposed convolutions, and at each size a way across.

    The convolutions keep the size ("same"), so nothing is cropped on the way across; the paper's do not pad.

    Args:
        widths: channels at each size, from the finest.
        classes: channels of the output.
    """
    text = ""
    for width in reversed(widths):
        twice = f"2 * (conv 3x3 {whole(width, 'a width')} same relu)"
        across = f" | concat(identity, maxpool 2x2 | {text} | transposed 2x2 {width} stride 2) | {twice}"
        text = twice + (across if text else "")
    return network(f"{text} | pointwise {whole(classes, 'classes')}")


def _fire(squeeze: int, expand: int) -> str:
    """A fire module: few channels in between, then 1x1 and 3x3 side by side."""
    return f"pointwise {squeeze} relu | concat(pointwise {expand} relu, conv 3x3 {expand} padding 1 relu)"


def squeezenet1_1() -> Network:
    """SqueezeNet 1.1."""
    pool = "maxpool 3x3 stride 2 ceil"
    return network(
        _row(
            [
                f"conv 3x3 64 stride 2 relu | {pool}",
                f"2 * ({_fire(16, 64)}) | {pool}",
                f"2 * ({_fire(32, 128)}) | {pool}",
                f"2 * ({_fire(48, 192)}) | 2 * ({_fire(64, 256)})",
                "pointwise 1000 relu | globalpool",
            ]
        )
    )


def dcgan_generator() -> Network:
    """The generator of a DCGAN: from 100 numbers to a 64x64 picture by transposed convolutions."""
    stages = [_normed("transposed 4x4 512", "relu")]
    stages += [_normed(f"transposed 4x4 {width} stride 2 padding 1", "relu") for width in (256, 128, 64)]
    return network(_row([*stages, "transposed 4x4 3 stride 2 padding 1 nobias | tanh"]))


def fsrcnn() -> Network:
    """FSRCNN (56, 12, 4) for three times the size: everything at low resolution, one transposed layer at the end.

    The paper's PReLU, whose slopes are learnt, stands as a leaky ReLU.
    """
    return network(
        "conv 5x5 56 same leaky_relu | pointwise 12 leaky_relu | 4 * (conv 3x3 12 same leaky_relu) | "
        "pointwise 56 leaky_relu | transposed 9x9 1 stride 3 same"
    )


_HE = "K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, arXiv 1512.03385"
_INCEPTION = "C. Szegedy et al., Going deeper with convolutions, arXiv 1409.4842, table 1"
_LIN = "M. Lin, Q. Chen, S. Yan, Network in network, arXiv 1312.4400"
_VGG = "K. Simonyan, A. Zisserman, Very deep convolutional networks, arXiv 1409.1556, table 1"
_YU = "F. Yu, V. Koltun, Multi-scale context aggregation by dilated convolutions, arXiv 1511.07122, table 1"

_LISTED: tuple[tuple[str, Callable[[], Network], Sizes, str], ...] = (
    (
        "alexnet",
        alexnet,
        (1, 3, 227, 227),
        "A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet classification with deep convolutional neural networks, 2012",
    ),
    ("context_module", context_module, (1, 21, 64, 64), _YU),
    (
        "dcgan_generator",
        dcgan_generator,
        (1, 100, 1, 1),
        "A. Radford, L. Metz, S. Chintala, Unsupervised representation learning, arXiv 1511.06434",
    ),
    (
        "fsrcnn",
        fsrcnn,
        (1, 1, 32, 32),
        "C. Dong, C. Loy, X. Tang, Accelerating the super-resolution convolutional neural network, arXiv 1608.00367",
    ),
    ("inception_3a", inception_3a, (1, 192, 28, 28), _INCEPTION),
    ("inception_3b", inception_3b, (1, 256, 28, 28), _INCEPTION),
    ("inception_4a", inception_4a, (1, 480, 14, 14), _INCEPTION),
    ("mobilenet_v1", mobilenet_v1, IMAGENET, "A. Howard et al., MobileNets, arXiv 1704.04861, table 1"),
    ("nin_cifar10", nin_cifar10, (1, 3, 32, 32), _LIN),
    ("nin_imagenet", nin_imagenet, IMAGENET, _LIN),
    ("resnet50", resnet50, IMAGENET, f"{_HE}; stride in the 3x3 as in torchvision"),
    ("resnet50_tf_slim", resnet50_tf_slim, IMAGENET, f"{_HE}; stride at the end of each block as in TF-slim"),
    ("resnet50_v1", resnet50_v1, IMAGENET, _HE),
    (
        "squeezenet1_1",
        squeezenet1_1,
        IMAGENET,
        "F. Iandola et al., SqueezeNet, arXiv 1602.07360; version 1.1 of its authors' code",
    ),
    (
        "unet",
        unet,
        (1, 1, 512, 512),
        "O. Ronneberger, P. Fischer, T. Brox, U-Net, arXiv 1505.04597; with padding",
    ),
    ("vgg11", vgg11, IMAGENET, _VGG),
    ("vgg16", vgg16, IMAGENET, _VGG),
)

ARCHITECTURES: dict[str, Architecture] = {entry[0]: Architecture(*entry) for entry in _LISTED}
