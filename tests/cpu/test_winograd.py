"""Winograd's convolution, forced: within its stated error, the same bits however it is cut, nothing else touched."""

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import oracle
from cpu import forced
from cpu.forced import TARGETS, Layer
from polyconv.run.cpu.algorithms import winograd, winograd_planar, winograd_rows, winograd_tiles
from polyconv.run.cpu.algorithms.cook_toom import kernel_matrix, short_convolution
from polyconv.run.cpu.target import host
from polyconv.run.plan import CompiledEngine
from polyconv.run.problem import Problem

wide = pytest.mark.skipif(host().vector_registers < 32, reason="needs 32 vector registers")

CASES = [
    Layer("conv", (17, 19), (3, 3), (7, 11), padding=((1, 1), (1, 1)), activation="relu"),
    Layer("conv", (17, 16), (3, 3), (9, 5), dilation=(2, 3), padding=((2, 0), (3, 4))),
    Layer("conv", (32, 40), (3, 3), (6, 7), groups=2, bias=False, strided=True),
    Layer("conv", (132, 180), (3, 3), (9, 7), padding=((1, 0), (1, 1)), groups=6),  # two clusters of three groups
    Layer("conv", (16, 33), (3,), (59,), padding=((2, 0),)),
    Layer("conv", (18, 16), (1, 7), (3, 13), padding=((0, 0), (3, 3)), batch=1),
    Layer("conv", (16, 17), (5, 2), (7, 5), padding=((2, 2), (1, 0))),
    Layer("conv", (16, 19), (3, 3, 3), (4, 5, 7), dilation=(2, 1, 1), padding=((2, 2), (1, 1), (0, 1))),
    Layer("conv", (16, 16), (3, 3), (1, 1), padding=((1, 1), (1, 1)), batch=3),
    Layer("conv", (17, 16), (2, 4), (7, 9), dilation=(3, 1), padding=((3, 0), (1, 2))),
    Layer("conv", (17, 19), (3, 3), (13, 18), stride=(2, 2), padding=((1, 1), (0, 1)), activation="relu"),
    Layer("conv", (16, 40), (4, 5), (15, 17), stride=(2, 2), padding=((1, 1), (2, 2)), strided=True),
    Layer("conv", (34, 36), (5, 3), (17, 7), stride=(3, 1), padding=((2, 1), (1, 1)), groups=2),
    Layer("conv", (16, 17), (7,), (61,), stride=(2,), padding=((3, 3),), bias=False),
    Layer("conv", (18, 16), (3, 1), (15, 9), stride=(2, 2), padding=((1, 1), (0, 0))),
    Layer("conv", (16, 18), (3, 3, 3), (5, 7, 9), stride=(2, 2, 2), padding=((1, 1), (1, 0), (0, 1))),
    Layer("conv", (16, 16), (4, 3), (9, 9), stride=(2, 1), dilation=(2, 2), padding=((1, 2), (2, 2))),
]
PLANES = [
    *(replace(case, layout="channels_first", strided=False) for case in CASES),
    Layer("conv", (16, 16), (3, 3), (5, 61), padding=((1, 1), (1, 1)), batch=1, layout="channels_first"),
    Layer("conv", (16, 20), (7, 1), (9, 50), padding=((3, 3), (0, 0)), batch=1, layout="channels_first"),
    Layer("conv", (16, 16), (3, 3), (22, 78), padding=((1, 1), (1, 1)), batch=1, layout="channels_first"),  # runs of 40
    Layer("conv", (16, 18), (7,), (131,), dilation=(5,), padding=((15, 15),), layout="channels_first"),  # three runs
    Layer("conv", (17, 16), (3,), (67,), dilation=(64,), padding=((64, 64),), layout="channels_first"),
    Layer("conv", (16, 16), (3, 3), (7, 61), dilation=(2, 6), padding=((2, 2), (6, 0)), layout="channels_first"),
]
ROWS = [
    Layer("conv", (17, 19), (3, 1), (7, 41), padding=((1, 1), (0, 0)), activation="relu", layout="channels_first"),
    Layer("conv", (16, 33), (3, 1), (9, 35), dilation=(2, 1), padding=((2, 0), (1, 2)), layout="channels_first"),
    Layer("conv", (18, 16), (3, 1, 1), (6, 5, 9), padding=((1, 1), (0, 0), (0, 0)), layout="channels_first"),
    Layer(
        "conv", (16, 17), (3, 3, 1), (5, 7, 20), padding=((1, 0), (1, 1), (0, 0)), bias=False, layout="channels_first"
    ),
    Layer("conv", (16, 29), (1, 7, 1), (3, 13, 16), padding=((0, 0), (3, 3), (1, 0)), layout="channels_first"),
    Layer("conv", (16, 16), (5, 1), (1, 3), padding=((2, 2), (0, 0)), batch=3, layout="channels_first"),
    Layer("conv", (40, 16), (3, 1), (4, 800), padding=((1, 1), (0, 0)), batch=1, layout="channels_first"),  # segments
]
TRANSPOSED = [
    Layer("conv_transpose", (17, 19), (4, 4), (5, 7), stride=(2, 2), padding=((1, 1), (1, 1)), activation="relu"),
    Layer("conv_transpose", (16, 36), (3, 3), (6, 5), stride=(2, 2), padding=((1, 1), (0, 1)), output_padding=(1, 1)),
    Layer("conv_transpose", (16, 17), (5, 3), (4, 9), stride=(3, 1), padding=((1, 0), (1, 1)), strided=True),
    Layer("conv_transpose", (18, 16), (16,), (23,), stride=(8,), padding=((4, 4),), bias=False),
    Layer("conv_transpose", (16, 16), (7,), (19,), stride=(2,), padding=((5, 0),)),
    Layer("conv_transpose", (16, 20), (3, 2), (7, 6), stride=(2, 3), output_padding=(0, 2)),
    Layer("conv_transpose", (16, 17), (3, 4, 4), (3, 4, 5), stride=(2, 2, 2), padding=((1, 0), (1, 1), (1, 2))),
]
TRANSPOSED += [
    *(replace(case, layout="channels_first", strided=False) for case in TRANSPOSED),
    Layer(
        "conv_transpose", (17, 16), (4, 4), (3, 50), stride=(2, 2), padding=((1, 1), (0, 1)), layout="channels_first"
    ),
    Layer("conv_transpose", (16, 16), (3,), (131,), stride=(2,), padding=((1, 1),), layout="channels_first"),
    Layer("conv_transpose", (16, 18), (3, 1), (5, 20), stride=(2, 1), layout="channels_first"),
]
NAMES = {"channels_last": "winograd", "channels_first": "winograd_planar"}


@wide
@pytest.mark.parametrize("layer", CASES + PLANES + TRANSPOSED, ids=str)
def test_same_bits_however_it_is_cut(layer):
    forced.check(layer, NAMES[layer.layout], TARGETS["host"](), exact=False)


WIDE = [
    Layer("conv", (48, 112), (3, 3), (13, 21), padding=((1, 1), (1, 1)), batch=1),
    Layer("conv", (16, 200), (3, 3), (15, 9), dilation=(3, 2), padding=((3, 2), (0, 4)), activation="relu", batch=1),
    Layer("conv", (64, 144), (3, 3), (9, 7), groups=2, padding=((1, 1), (1, 1))),
    Layer("conv", (16, 112), (3, 3, 3), (3, 5, 7), padding=((1, 1), (1, 1), (1, 1))),
    Layer("conv", (32, 176), (5,), (75,), padding=((2, 2),)),
]


@wide
@pytest.mark.parametrize("layout", list(NAMES))
@pytest.mark.parametrize("layer", WIDE, ids=str)
def test_any_cut_gives_the_same_bits(layer, layout, monkeypatch):
    """Several output blocks at a time, their weights fetched ahead: as with one at a time and weights in the L2."""
    layer, target = replace(layer, layout=layout), replace(host(), l2_bytes=1 << 17)
    problem, found, used = layer.problem(), forced.algorithm(NAMES[layout]), set()
    x, weight, bias = forced.data(layer)
    padding = layer.ones(layer.padding, (0, 0))
    out_size = [
        size + sum(pads) - step * (taps - 1)
        for size, pads, step, taps in zip(layer.in_size, padding, problem.dilation, layer.kernel, strict=True)
    ]
    last = layout == "channels_last"
    out_shape = (layer.batch, *out_size, layer.channels[1]) if last else (layer.batch, layer.channels[1], *out_size)

    def cut_by(most: int, chunk: int, together: int):
        def cut(shape, target, tiles, run, threads):
            made = winograd_tiles._cut(shape, tiles, run * max(1, most // run), chunk, together)
            used.add((made.items > 1, made.together > 1))
            return made

        return cut

    for tile in found.variants(problem, target):
        assert winograd_tiles.shape_of_tiles(problem, tile, target).u_bytes > target.l2_bytes // 2
        wanted = forced.run(layer, found, tile, host(), x, weight, bias, out_shape)
        for cut in [(7, 3, 2), (1000, 5, 5), (15, 2, 1), (9, 4, 3)]:
            for module in (winograd, winograd_planar):
                monkeypatch.setattr(module, "cut_work", cut_by(*cut))
            for options in ({}, {"piecewise": True, "threads": 2}):
                again = forced.run(layer, found, tile, target, x, weight, bias, out_shape, **options)
                assert again.tobytes() == wanted.tobytes(), (tile, cut, options)
        monkeypatch.undo()
    assert used >= {(True, True), (True, False)}


@pytest.mark.parametrize(
    ("channels", "tiles", "threads"),
    [((512, 512), 16, 2), ((512, 256), 144, 2), ((512, 256), 60, 4), ((512, 64), 9, 2)],
)
def test_threads_have_equal_shares_in_bounded_memory(channels, tiles, threads):
    target = replace(host(), l2_bytes=1 << 20)
    problem = Problem("conv", *channels, (3, 3), (1, 1), (1, 1), 1, True, None, "float32", "channels_last")
    for tile in winograd_tiles.variants(problem, target):
        cut = winograd_tiles.cut_work(winograd_tiles.shape_of_tiles(problem, tile, target), target, tiles, 1, threads)
        assert cut.blocks * cut.block >= tiles > (cut.blocks - 1) * cut.block
        assert cut.items % threads == 0
        assert cut.bytes <= winograd_tiles.LARGEST * target.l2_bytes


@wide
@pytest.mark.parametrize("layer", ROWS, ids=str)
def test_same_bits_with_positions_in_the_lanes(layer):
    forced.check(layer, "winograd_rows", TARGETS["host"](), exact=False)


def _error(layer: Layer, tile: winograd_tiles.Tile, seed: int) -> float:
    """The largest error over 2^-24 times the largest sum of |weight| |x|."""
    rng = np.random.default_rng(seed)
    problem = layer.problem()
    last = layer.layout == "channels_last"
    size = (*layer.in_size, layer.channels[0]) if last else (layer.channels[0], *layer.in_size)
    x = rng.normal(size=(layer.batch, *size)).astype(np.float32)
    x = np.maximum(x, 0) + np.float32(seed % 3)
    weight = rng.normal(size=problem.weight_shape()).astype(np.float32)
    options = {"dilation": layer.ones(layer.dilation), "padding": layer.ones(layer.padding, (0, 0))}
    options |= {"groups": layer.groups, "layout": layer.layout, "stride": layer.ones(layer.stride)}
    if layer.op == "conv_transpose":
        options["output_padding"] = layer.ones(layer.output_padding, 0)
    compute = getattr(oracle, layer.op)
    wanted = compute(x.astype(np.float64), weight.astype(np.float64), **options).y
    scale = compute(np.abs(x).astype(np.float64), np.abs(weight).astype(np.float64), **options).y
    padding, out_size = layer.ones(layer.padding, (0, 0)), wanted.shape[1:-1] if last else wanted.shape[2:]
    name = "winograd_rows" if isinstance(tile, winograd_rows.Tile) else NAMES[layer.layout]
    found = CompiledEngine(algorithm=name, tile=tile).prepare(problem, weight, None)(x, padding, out_size)
    return float(np.abs(found - wanted).max() / scale.max() * 2**24)


@wide
@pytest.mark.parametrize(
    "layer", [*(CASES[n] for n in (0, 1, 4, 6, 7, 9, 10, 11, 13)), PLANES[1], PLANES[18], *TRANSPOSED[:4]], ids=str
)
def test_the_error_is_within_the_stated_bound(layer):
    layer = replace(layer, activation=None, bias=False, strided=False)
    for tile in winograd_tiles.variants(layer.problem(), host()):
        for seed in range(3):
            assert _error(layer, tile, seed) <= winograd_tiles.error_bound(layer.problem(), tile)


@wide
@pytest.mark.parametrize("layer", [ROWS[0], ROWS[3], ROWS[5]], ids=str)
def test_the_error_is_within_the_bound_with_positions_in_the_lanes(layer):
    layer = replace(layer, activation=None, bias=False)
    for tile in winograd_rows.variants(layer.problem(), host()):
        assert _error(layer, tile, 1) <= winograd_tiles.error_bound(layer.problem(), tile)


def test_the_bound_would_notice_a_wrong_kernel():
    layer = Layer("conv", (16, 16), (3, 3), (8, 8), bias=False)
    tile = winograd_tiles.Tile((4, 4))
    assert winograd_tiles.error_bound(layer.problem(), tile) * 2**-24 < 1e-4


@pytest.mark.parametrize(("outputs", "taps"), [(2, 3), (4, 3), (2, 5), (4, 7), (3, 2), (6, 3)])
def test_short_convolutions_are_exact(outputs, taps):
    found = short_convolution(outputs, taps)
    data = [Fraction(7 * n * n - 11 * n + 3) for n in range(found.points)]
    kernel = [Fraction(5 - 3 * n, 2) for n in range(taps)]

    def times(matrix, vector):
        return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]

    products = [a * b for a, b in zip(times(found.kernel, kernel), times(found.data, data), strict=True)]
    wanted = [sum(data[n + k] * kernel[k] for k in range(taps)) for n in range(outputs)]
    assert times(found.inverse, products) == wanted
    assert kernel_matrix(outputs, taps) == [[float(number) for number in row] for row in found.kernel]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"op": "max_pool"}, "computes convolutions"),
        ({"op": "conv_transpose", "dilation": (2, 1)}, "without dilation"),
        ({"op": "conv_transpose", "in_channels": 32, "out_channels": 32, "groups": 2}, "one group"),
        ({"stride": (3, 4)}, r"stride \(3, 4\) .* 2 or 3 .* neighbouring inputs"),
        ({"dtype": "float64"}, "exactness"),
        ({"in_channels": 4}, "few channels"),
        ({"kernel_size": (6, 6)}, r"no axis of the kernel \(6, 6\)"),
    ],
)
def test_says_what_it_is_not_for(change, why):
    problem = Problem("conv", 16, 16, (3, 3), (1, 1), (1, 1), 1, True, None, "float32", "channels_last")
    assert winograd.fits(problem, host()) is None or host().vector_registers < 32
    assert re.search(why, winograd.fits(replace(problem, **change), host()) or "")


@wide
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"layout": "channels_last"}, "planes"),
        ({"groups": 2, "in_channels": 32, "out_channels": 32}, "one group, not 2"),
        ({"kernel_size": (3, 2)}, "2 taps lie along it"),
        ({"stride": (2, 1)}, r"stride 1, not conv of stride \(2, 1\)"),
        ({"kernel_size": (3, 6, 1), "stride": (1, 1, 1), "dilation": (1, 1, 1)}, "neither short nor one tap"),
    ],
)
def test_says_what_rows_are_not_for(change, why):
    problem = Problem("conv", 16, 16, (3, 1), (1, 1), (1, 1), 1, True, None, "float32", "channels_first")
    assert winograd_rows.fits(problem, host()) is None
    assert re.search(why, winograd_rows.fits(replace(problem, **change), host()) or "")
