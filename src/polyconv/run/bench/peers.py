"""The libraries a layer can be timed in, each with its best legal settings. Nothing is imported until it is used.

Every adapter gets the same input and weights (shaped as in ``torch.nn.functional``), converts them beforehand, and
hands back a call that runs the layer and a fetch that runs it once and gives the answer as (batch, channels, *spatial).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

import numpy as np

from polyconv.run.bench import jax_model, litert_model, onnx_model, torch_model
from polyconv.run.bench.case import Case, Weights, named_arrays
from polyconv.run.cpu.cores import threads_allowed
from polyconv.run.problem import Array, Layout


@dataclass(frozen=True, slots=True)
class Run:
    """A layer set up in a library."""

    call: Callable[[], Any]
    fetch: Callable[[], Array]


def _takes_all(case: Case) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Library:
    """One library: its variants (name to the layout of what goes in and comes out), and how it runs a case."""

    title: str
    modules: tuple[str, ...]
    distribution: str
    variants: dict[str, Layout]
    prepare: Callable[[Case, Array, list[Weights], str, Path], Run]
    refuses: Callable[[Case], str | None] = _takes_all

    def installed(self) -> bool:
        """Whether this environment can import it."""
        return all(util.find_spec(name) is not None for name in self.modules)

    def version(self) -> str:
        """Its installed version."""
        return metadata.version(self.distribution)


def _in_layout(x: Array, layout: Layout) -> Array:
    """The input as a library is given it: in its layout, on a cache line, as the libraries' own arrays lie."""
    moved = x if layout == "channels_first" else np.moveaxis(x, 1, -1)
    room = np.empty(moved.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    placed = room[start : start + moved.nbytes].view(moved.dtype).reshape(moved.shape)
    placed[...] = moved
    return placed


def _channels_first(y: Array, layout: Layout) -> Array:
    return y if layout == "channels_first" else np.moveaxis(y, -1, 1)


def _polyconv(case: Case, x: Array, weights: list[Weights], variant: str, folder: Path) -> Run:
    polyconv = import_module("polyconv")
    layout = LIBRARIES["polyconv"].variants[variant]
    model = polyconv.network(case.notation).bind(named_arrays(case, weights), layout=layout)
    data = _in_layout(x, layout)
    return Run(lambda: model(data), lambda: _channels_first(model(data), layout))


def _torch(case: Case, x: Array, weights: list[Weights], variant: str, folder: Path) -> Run:
    torch = import_module("torch")
    torch.set_num_threads(threads_allowed())
    last = variant == "torch_channels_last"
    call = torch_model.build(torch, case, _in_layout(x, "channels_first"), weights, channels_last=last)
    return Run(call, lambda: call().contiguous().numpy().reshape(_unlifted(case, call().shape)))


def _unlifted(case: Case, shape: tuple[int, ...]) -> tuple[int, ...]:
    """An answer's shape without the height of 1 that a 1-D case may have been given."""
    return (*shape[:2], *shape[len(shape) - case.ndim :])


def _onnxruntime(case: Case, x: Array, weights: list[Weights], variant: str, folder: Path) -> Run:
    ort = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads_allowed()
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    model = onnx_model.build(case, weights)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"x": ort.OrtValue.ortvalue_from_numpy(x)}
    run = session.run_with_ort_values
    return Run(lambda: run(["y"], feed), lambda: run(["y"], feed)[0].numpy())


def _openvino(case: Case, x: Array, weights: list[Weights], variant: str, folder: Path) -> Run:
    ov = import_module("openvino")
    core = ov.Core()
    model = core.read_model(onnx_model.build(case, weights))
    layout = LIBRARIES["openvino"].variants[variant]
    if layout == "channels_last":
        spatial = "DHW"[3 - case.ndim :]
        steps = ov.preprocess.PrePostProcessor(model)
        for end in (steps.input(), steps.output()):
            end.tensor().set_layout(ov.Layout(f"N{spatial}C"))
            end.model().set_layout(ov.Layout(f"NC{spatial}"))
        model = steps.build()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads_allowed(),
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    data = _in_layout(x, layout)

    def call() -> Any:
        return request.infer({0: data}, share_inputs=True, share_outputs=True)

    return Run(call, lambda: _channels_first(np.array(call()[0]), layout))


def _jax(case: Case, x: Array, weights: list[Weights], variant: str, folder: Path) -> Run:
    layout = LIBRARIES["jax"].variants[variant]
    call = jax_model.build(import_module("jax"), case, x, weights, channels_last=layout == "channels_last")
    return Run(call, lambda: _channels_first(np.asarray(call()), layout))


def _litert(case: Case, x: Array, weights: list[Weights], variant: str, folder: Path) -> Run:
    model = folder / litert_model.FILE
    if not model.exists():
        model.write_bytes(litert_model.convert(case, weights))
    interpreter_module = import_module("ai_edge_litert.interpreter")
    interpreter = interpreter_module.Interpreter(str(model), num_threads=threads_allowed())
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.set_tensor(source, _in_layout(x.reshape(case.lifted().shape), "channels_last"))

    def fetch() -> Array:
        interpreter.invoke()
        y = _channels_first(interpreter.get_tensor(target), "channels_last")
        return y.reshape(_unlifted(case, y.shape))

    return Run(interpreter.invoke, fetch)


def _converter(case: Case, x: Array, weights: list[Weights], variant: str, folder: Path) -> Run:
    """Not timed: writes the LiteRT model of a case, in the environment that has TensorFlow."""
    (folder / litert_model.FILE).write_bytes(litert_model.convert(case, weights))
    return Run(lambda: None, lambda: np.zeros(0))


LIBRARIES: dict[str, Library] = {
    "polyconv": Library(
        "polyconv",
        ("polyconv",),
        "polyconv",
        {"polyconv": "channels_first", "polyconv_channels_last": "channels_last"},
        _polyconv,
    ),
    "torch": Library(
        "PyTorch", ("torch",), "torch", {"torch": "channels_first", "torch_channels_last": "channels_last"}, _torch
    ),
    "onnxruntime": Library(
        "ONNX Runtime",
        ("onnxruntime", "onnx"),
        "onnxruntime",
        {"onnxruntime": "channels_first"},
        _onnxruntime,
        onnx_model.refuses,
    ),
    "openvino": Library(
        "OpenVINO",
        ("openvino", "onnx"),
        "openvino",
        {"openvino": "channels_first", "openvino_channels_last": "channels_last"},
        _openvino,
        onnx_model.refuses,
    ),
    "jax": Library("JAX", ("jax",), "jax", {"jax": "channels_first", "jax_channels_last": "channels_last"}, _jax),
    "litert": Library(
        "LiteRT (XNNPACK)",
        ("ai_edge_litert",),
        "ai-edge-litert",
        {"litert": "channels_last"},
        _litert,
        litert_model.refuses,
    ),
    "tensorflow": Library("TensorFlow", ("tensorflow",), "tensorflow", {}, _converter, litert_model.refuses),
}


def library_of(variant: str) -> str:
    """The library a variant belongs to."""
    for name, library in LIBRARIES.items():
        if variant in library.variants:
            return name
    known = [variant for library in LIBRARIES.values() for variant in library.variants]
    raise ValueError(f"no library has a variant {variant!r}; there are {', '.join(known)}")


def title_of(variant: str) -> str:
    """What tables call a variant: its library, and the layout where that is not the usual one.

    Example:
        >>> title_of("torch"), title_of("torch_channels_last")
        ('PyTorch', 'PyTorch channels_last')
    """
    library = LIBRARIES[library_of(variant)]
    return library.title + (" channels_last" if variant.endswith("_channels_last") else "")
