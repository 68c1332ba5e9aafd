"""polyconv: every kind of convolution in deep learning. Run it, count it, see it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from polyconv import architectures
    from polyconv.count.advice import Advice, check
    from polyconv.count.alternatives import Comparison, compare
    from polyconv.count.field import MisalignedError, receptive_field
    from polyconv.count.matrix import matrix
    from polyconv.run.tune import tune
    from polyconv.see.correlation import draw_correlation
    from polyconv.see.costs import draw_costs
    from polyconv.see.features import draw_features
    from polyconv.see.field import draw_field
    from polyconv.see.matrix import draw_matrix
    from polyconv.see.widget import widget

__version__ = "0.1.0"

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Advice",
    "BatchNorm",
    "Branches",
    "Comparison",
    "Conv",
    "ConvTranspose",
    "GlobalPool",
    "Identity",
    "Layer",
    "MisalignedError",
    "Network",
    "NotationError",
    "Pool",
    "Separable",
    "Spatial",
    "Upsample",
    "architectures",
    "avg_pool",
    "check",
    "compare",
    "conv",
    "conv_transpose",
    "depthwise_conv",
    "draw_correlation",
    "draw_costs",
    "draw_features",
    "draw_field",
    "draw_matrix",
    "matrix",
    "max_pool",
    "network",
    "pointwise_conv",
    "receptive_field",
    "separable_conv",
    "spatially_separable_conv",
    "tune",
    "widget",
]

_MODULES = ("architectures",)
_LATER = {  # what is imported when it is first used
    "Advice": "polyconv.count.advice",
    "Comparison": "polyconv.count.alternatives",
    "MisalignedError": "polyconv.count.field",
    "architectures": "polyconv.architectures",
    "compare": "polyconv.count.alternatives",
    "check": "polyconv.count.advice",
    "draw_correlation": "polyconv.see.correlation",
    "draw_costs": "polyconv.see.costs",
    "draw_features": "polyconv.see.features",
    "draw_field": "polyconv.see.field",
    "draw_matrix": "polyconv.see.matrix",
    "matrix": "polyconv.count.matrix",
    "receptive_field": "polyconv.count.field",
    "tune": "polyconv.run.tune",
    "widget": "polyconv.see.widget",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'polyconv' has no attribute {name!r}")
    module = import_module(_LATER[name])
    value = module if name in _MODULES else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
