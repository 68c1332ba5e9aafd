"""polyconv: every kind of convolution in deep learning. Run it, count it, see it."""

from polyconv.layers import (
    ACTIVATIONS,
    Activation,
    BatchNorm,
    Conv,
    ConvTranspose,
    GlobalPool,
    Identity,
    Layer,
    Pool,
    Separable,
    Spatial,
    Upsample,
)
from polyconv.network import Branches, Network
from polyconv.notation import NotationError, network
from polyconv.operators import (
    avg_pool,
    conv,
    conv_transpose,
    depthwise_conv,
    max_pool,
    pointwise_conv,
    separable_conv,
    spatially_separable_conv,
)

__version__ = "0.1.0"

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "BatchNorm",
    "Branches",
    "Conv",
    "ConvTranspose",
    "GlobalPool",
    "Identity",
    "Layer",
    "Network",
    "NotationError",
    "Pool",
    "Separable",
    "Spatial",
    "Upsample",
    "avg_pool",
    "conv",
    "conv_transpose",
    "depthwise_conv",
    "max_pool",
    "network",
    "pointwise_conv",
    "separable_conv",
    "spatially_separable_conv",
]
