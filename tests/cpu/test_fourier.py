"""Convolution by Fourier transforms, forced: within its stated error, the same bits however it is cut."""

import re
from dataclasses import replace

import numpy as np
import pytest

import oracle
import polyconv as pc
from cpu import forced
from cpu.forced import TARGETS, Layer
from polyconv.run.cpu import machine
from polyconv.run.cpu.algorithms import fft_code, fourier, fourier_tiles
from polyconv.run.cpu.algorithms.fourier_depthwise import FOURIER_DEPTHWISE
from polyconv.run.cpu.algorithms.fourier_tiles import Tile
from polyconv.run.cpu.target import host, neon
from polyconv.run.plan import CompiledEngine
from polyconv.run.problem import Problem

CASES = [
    Layer("conv", (17, 19), (7, 5), (7, 12), padding=((3, 2), (1, 4)), activation="relu"),
    Layer("conv", (16, 16), (5, 7), (12, 11), dilation=(3, 2), padding=((2, 0), (9, 3)), batch=1),
    Layer("conv", (32, 40), (5, 5), (6, 7), groups=2, bias=False, strided=True),
    Layer("conv", (16, 33), (9,), (59,), padding=((2, 0),)),
    Layer("conv", (3, 5), (5, 9), (11, 9), padding=((2, 0), (4, 4))),
    Layer("conv", (12, 8), (5, 5), (6, 7), padding=((2, 0), (2, 2)), groups=4),
    Layer("conv", (18, 16), (1, 7), (3, 13), padding=((0, 0), (3, 3)), batch=1),
    Layer("conv", (16, 17), (9, 1), (21, 4), padding=((2, 5), (0, 0)), activation="hardswish"),
    Layer("conv", (16, 19), (3, 5, 3), (4, 5, 7), dilation=(2, 1, 1), padding=((2, 2), (1, 1), (0, 1))),
    Layer("conv", (16, 16), (5, 5), (1, 1), padding=((2, 2), (2, 2)), batch=3),
    Layer(
        "conv", (16, 17), (33,), (80,), padding=((16, 16),), batch=1, activation="relu"
    ),  # long: loops, not straight code
    Layer("conv", (16, 17), (3, 17), (3, 21), padding=((1, 1), (8, 8)), batch=1),
    Layer("conv", (16, 16), (17, 3), (2, 40), padding=((8, 8), (0, 0)), batch=1),
]
DEPTHWISE = [
    Layer("conv", (5, 5), (9, 5), (7, 12), padding=((3, 2), (1, 4)), groups=5, activation="relu", strided=True),
    Layer("conv", (18, 18), (5, 7), (12, 11), dilation=(3, 2), padding=((2, 0), (9, 3)), groups=18, bias=False),
    Layer("conv", (17, 17), (35, 3), (40, 9), padding=((17, 17), (1, 1)), groups=17, batch=1),
    Layer("conv", (16, 16), (33,), (80,), padding=((16, 16),), groups=16, batch=1),
    Layer("conv", (33, 33), (9,), (59,), padding=((2, 0),), groups=33),
    Layer("conv", (3, 3), (3, 5, 3), (4, 5, 7), dilation=(2, 1, 1), padding=((2, 2), (1, 1), (0, 1)), groups=3),
    Layer("conv", (2, 2), (13, 13), (1, 1), padding=((6, 6), (6, 6)), groups=2, batch=3),
]
CASES += DEPTHWISE
PLANES = [
    *(replace(case, layout="channels_first", strided=False) for case in CASES if case.kernel[-1] > 1),
    Layer("conv", (16, 16), (5, 5), (17, 31), padding=((1, 1), (1, 1)), dilation=(4, 1), layout="channels_first"),
]
PLANES = [layer for layer in PLANES if layer.ones(layer.dilation)[-1] == 1]


@pytest.mark.parametrize("layer", CASES + PLANES, ids=str)
def test_same_bits_however_it_is_cut(layer):
    forced.check(layer, _name(layer), TARGETS["host"](), exact=False)


@pytest.mark.parametrize("layer", [CASES[0], CASES[2], DEPTHWISE[0], DEPTHWISE[3], PLANES[0], PLANES[-3]], ids=str)
def test_same_bits_with_sixteen_registers(layer):
    forced.check(layer, _name(layer), TARGETS["avx2"](), exact=False)


@pytest.mark.parametrize("layer", [CASES[0], PLANES[0], DEPTHWISE[0]], ids=str)
def test_it_assembles_for_arm(layer):
    problem, found = layer.problem(), forced.algorithm(_name(layer))
    assert found.fits(problem, neon()) is None
    text = machine.assembly(found.emit(problem, found.variants(problem, neon())[0], neon()), neon())
    assert re.search(r"fml[as]\s+v\d+\.4s", text)


def _name(layer: Layer) -> str:
    return "fourier_depthwise" if layer.groups == layer.channels[0] else "fourier"


def _windows_summed(x: np.ndarray, weight: np.ndarray, layer: Layer) -> np.ndarray:
    """The definition in float64, over channels first: windows by NumPy, and one sum."""
    axes = tuple(range(2, x.ndim))
    dilation = layer.ones(layer.dilation)
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *layer.ones(layer.padding, (0, 0))])
    reach = [(taps - 1) * step + 1 for taps, step in zip(layer.kernel, dilation, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    windows = windows[(..., *(slice(None, None, step) for step in dilation))]
    split = (x.shape[0], layer.groups, -1, *windows.shape[2:])
    parts = weight.astype(np.float64).reshape(layer.groups, -1, *weight.shape[1:])
    letters = "ijk"[: len(axes)]
    found = np.einsum(f"bgc...{letters},gnc{letters}->bgn...", windows.reshape(split), parts, optimize=True)
    return found.reshape(x.shape[0], -1, *found.shape[3:])


def _arrays(layer: Layer, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Input (channels first), weights, what is wanted, and what ``error_bound`` counts in."""
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(size=(layer.batch, layer.channels[0], *layer.in_size)), 0).astype(np.float32)
    x += np.float32(seed % 3)
    weight = rng.normal(size=layer.problem().weight_shape()).astype(np.float32)
    if seed == 1:  # one large tap: errors are those of the tile's largest values
        weight *= np.float32(0.001)
        weight[..., -1] += 1
    axes = tuple(range(2, x.ndim))
    inputs = np.sqrt((x.astype(np.float64) ** 2).sum(axes)).reshape(layer.batch, layer.groups, -1)
    sizes = np.sqrt((weight.astype(np.float64) ** 2).sum(axes)).reshape(layer.groups, -1, weight.shape[1])
    scale = np.einsum("bgc,gnc->bgn", inputs, sizes)
    return x, weight, _windows_summed(x, weight, layer), float(scale.max())


def _run(layer: Layer, tile: Tile, x: np.ndarray, weight: np.ndarray, out_size: tuple[int, ...]) -> np.ndarray:
    """Through the engine, channels first in and out whatever the layer's layout."""
    last = layer.layout == "channels_last"
    prepared = CompiledEngine(algorithm=_name(layer), tile=tile, threads=2).prepare(layer.problem(), weight, None)
    found = prepared(np.moveaxis(x, 1, -1) if last else x, layer.ones(layer.padding, (0, 0)), out_size)
    return np.moveaxis(found, -1, 1) if last else found


def test_the_definition_of_these_tests_is_the_oracle():
    layer = Layer("conv", (4, 6), (3, 2), (5, 6), dilation=(1, 2), padding=((1, 0), (2, 1)), groups=2)
    x, weight, wanted, _ = _arrays(layer, 0)
    options = {"dilation": layer.dilation, "padding": layer.padding, "groups": 2}
    np.testing.assert_allclose(wanted, oracle.conv(x.astype(float), weight.astype(float), **options).y, rtol=1e-12)


@pytest.mark.parametrize("layer", [*CASES[:6], *CASES[8:12], *DEPTHWISE[:5], *PLANES[:2], PLANES[-2]], ids=str)
def test_the_error_is_within_the_stated_bound(layer):
    layer = replace(layer, activation=None, bias=False, strided=False, batch=1)
    problem = layer.problem()
    for seed in range(3):
        x, weight, wanted, scale = _arrays(layer, seed)
        for tile in fourier_tiles.tiles_of(problem, host())[: 2 if seed == 1 else 1]:
            found = _run(layer, tile, x, weight, wanted.shape[2:])
            assert np.abs(found - wanted).max() / scale * 2**24 <= fourier_tiles.error_bound(problem, tile)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("mode", "of_numpy"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
@pytest.mark.parametrize(
    ("name", "text", "kernel"), [("fourier", "conv 9x7 32", (9, 7)), ("fourier_depthwise", "depthwise 31x25", (31, 25))]
)
def test_other_padding_than_zeros(name, text, kernel, mode, of_numpy, layout):
    """Through a network: the padded copy that the engine is handed is what is transformed."""
    pads = tuple((taps // 2, taps // 2) for taps in kernel)
    text = f"{text} same {mode} nobias"
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1, 32, 41, 37)).astype(np.float32)
    groups = 1 if name == "fourier" else 32
    weight = rng.normal(size=(32, 32 // groups, *kernel)).astype(np.float32)
    model = pc.network(text).bind({"0.weight": weight}, layout=layout)
    given = x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
    found = model(given)
    found = found if layout == "channels_first" else np.moveaxis(found, -1, 1)
    padded = np.pad(x, [(0, 0), (0, 0), *pads], of_numpy)
    case = Layer("conv", (32, 32), kernel, padded.shape[2:], groups=groups, layout=layout)
    wanted = _windows_summed(padded, weight, case)
    assert found.shape == wanted.shape == x.shape
    sizes = [np.sqrt((one.astype(np.float64) ** 2).sum((2, 3))) for one in (padded, weight)]
    scale = sizes[0].max() * sizes[1].sum(1).max()
    worst = max(
        fourier_tiles.error_bound(case.problem(), tile) for tile in fourier_tiles.tiles_of(case.problem(), host())
    )
    assert np.abs(found - wanted).max() <= worst * 2**-24 * scale
    assert worst * 2**-24 * scale < 0.01 * np.abs(wanted).max(), "the bound would notice a wrong border"
    (stage,) = model.stages(given.shape, given.dtype)
    assert stage.prepared.explain(stage.in_shape, stage.padding, stage.out_size).split()[0] == name


@pytest.mark.parametrize("tile", [(16, 16), (32, 8)])
def test_the_bound_would_notice_a_wrong_kernel(tile):
    layer = Layer("conv", (16, 16), (7, 7), (8, 8), bias=False)
    assert fourier_tiles.error_bound(layer.problem(), Tile(tile)) * 2**-24 < 1e-6


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_several_rounds_give_the_same_bits_in_a_bounded_workspace(layout, monkeypatch):
    layer = Layer("conv", (16, 16), (5, 5), (33, 31), padding=((2, 2), (2, 2)), batch=3, layout=layout)
    x, weight, wanted, _ = _arrays(layer, 0)
    shape = (3, 33, 31, 16) if layout == "channels_last" else x.shape
    results, texts = [], []
    for workspace in (fourier_tiles.WORKSPACE, 1):
        monkeypatch.setattr(fourier_tiles, "WORKSPACE", workspace)
        results.append(_run(layer, Tile((8, 12)), x, weight, wanted.shape[2:]).tobytes())
        prepared = CompiledEngine(algorithm="fourier", tile=Tile((8, 12))).prepare(layer.problem(), weight, None)
        texts.append(prepared.explain(shape, layer.padding, wanted.shape[2:]))
    assert results[0] == results[1]
    rounds = [int(re.search(r"in (\d+) round", text)[1]) for text in texts]
    memory = [int(re.search(r"(\d+) KiB of workspace", text)[1]) for text in texts]
    assert rounds[0] == 1 < rounds[1]
    assert memory[1] < memory[0] / 4


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_it_is_chosen_where_it_saves_much(layout):
    problem = Problem("conv", 64, 64, (7, 7), (1, 1), (1, 1), 1, True, None, "float32", layout)
    shape = (1, 56, 56, 64) if layout == "channels_last" else (1, 64, 56, 56)
    layer = CompiledEngine().prepare(problem, np.zeros(problem.weight_shape(), np.float32), None)
    assert layer.explain(shape, ((3, 3), (3, 3)), (56, 56)).split()[0] == "fourier"


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_large_depthwise_kernels_take_it_and_small_ones_do_not(layout):
    small = "depthwise" if layout == "channels_last" else "planes"
    for taps, name in ((31, "fourier_depthwise"), (5, small)):
        problem = Problem("conv", 32, 32, (taps, taps), (1, 1), (1, 1), 32, True, None, "float32", layout)
        shape = (1, 56, 56, 32) if layout == "channels_last" else (1, 32, 56, 56)
        layer = CompiledEngine().prepare(problem, np.zeros(problem.weight_shape(), np.float32), None)
        assert layer.explain(shape, ((taps // 2, taps // 2),) * 2, (56, 56)).split()[0] == name


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"op": "conv_transpose"}, "computes convolutions"),
        ({"stride": (2, 1)}, r"stride is \(2, 1\)"),
        ({"dtype": "float64"}, "exactness"),
        ({"groups": 16}, "a kernel of its own"),
        ({"kernel_size": (4, 4)}, r"no axis of the kernel \(4, 4\) has 5"),
        ({"kernel_size": (300, 300)}, "more than 4096 points"),
        ({"layout": "channels_first", "kernel_size": (7, 1)}, "along the last axis"),
        ({"layout": "channels_first", "dilation": (1, 2)}, r"dilation \(1, 2\)"),
    ],
)
def test_says_what_it_is_not_for(change, why):
    problem = Problem("conv", 16, 16, (5, 5), (1, 1), (1, 1), 1, True, None, "float32", "channels_last")
    assert fourier.FOURIER.fits(problem, host()) is None
    assert re.search(why, fourier.FOURIER.fits(replace(problem, **change), host()) or "")


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8, 12, 16, 24, 64, 96])
def test_long_transforms_are_those_of_numpy_by_their_tables(count):
    a, b = fft_code.split(count)
    assert a * b == count
    x = np.random.default_rng(count).normal(size=(count, 2)) @ [1, 1j]
    table = fft_code.turns(count) @ [1, 1j]  # [j][g]
    first = np.fft.fft(x.reshape(a, b).T, axis=1) * table  # [j][g]
    found = np.fft.fft(first, axis=0)  # [h][g]
    np.testing.assert_allclose(found.ravel(), np.fft.fft(x), atol=1e-12)


def test_depthwise_says_what_it_is_not_for():
    problem = Problem("conv", 16, 32, (13, 13), (1, 1), (1, 1), 16, True, None, "float32", "channels_last")
    assert "got 16 groups for 16 channels" in (FOURIER_DEPTHWISE.fits(problem, host()) or "")
    assert "stride" in (FOURIER_DEPTHWISE.fits(replace(problem, out_channels=16, stride=(1, 2)), host()) or "")
