"""The planner: the choice may depend on sizes, its bits never on what ran before."""

import numpy as np
import pytest

import polyconv as pc
from polyconv.run.cpu.algorithms import NAMES, algorithm, worth_loading
from polyconv.run.cpu.algorithms.record import least_seconds
from polyconv.run.cpu.target import host
from polyconv.run.plan import CompiledEngine
from polyconv.run.problem import Problem

LAYERS = [
    ("conv", 37, 45, (3, 3), 1, 1),
    ("conv", 64, 3, (3, 3), 2, 1),
    ("conv_transpose", 33, 40, (4, 4), 2, 1),
    ("conv", 40, 40, (3, 3), 1, 40),
    ("conv", 48, 48, (3, 3), 1, 8),
    ("conv", 24, 24, (21, 21), 1, 1),
    ("conv", 37, 45, (1, 1), 1, 1),
    ("avg_pool", 40, 40, (3, 3), 2, 40),
]
LAYOUTS = ["channels_first", "channels_last"]


def problem_of(op, inputs, outputs, kernel, stride, groups, layout) -> Problem:
    ones = (1,) * len(kernel)
    return Problem(op, inputs, outputs, kernel, (stride,) * len(kernel), ones, groups, False, None, "float32", layout)


def case(problem: Problem, size: tuple[int, int]):
    """Random input and weights, padding and output size."""
    rng = np.random.default_rng(5)
    kernel, stride = problem.kernel_size[0], problem.stride[0]
    pads = ((kernel // 2, kernel // 2),) * 2
    grows = problem.op == "conv_transpose"
    out = tuple((n - 1) * stride + kernel % 2 if grows else (n - kernel % 2) // stride + 1 for n in size)
    channels = problem.in_channels
    x = rng.standard_normal((2, channels, *size) if problem.layout == "channels_first" else (2, *size, channels))
    shape = problem.weight_shape()
    weight = None if shape is None else np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    return x.astype(np.float32), weight, pads, out


def random_problem(rng: np.random.Generator) -> Problem:
    """Any kind of problem an engine may be asked for, of any rank."""
    ndim, op = int(rng.integers(1, 4)), str(rng.choice(["conv", "conv_transpose", "max_pool"]))
    groups = int(rng.choice([1, 1, 2, 8, 64]))
    inputs, outputs = (groups * int(rng.choice([1, 2, 16])) for _ in range(2))
    if op == "max_pool":
        groups = outputs = inputs
    kernel = tuple(int(taps) for taps in rng.choice([1, 2, 3, 4, 5, 7, 13], ndim))
    stride, dilation = (tuple(int(n) for n in rng.choice([1, 1, 1, 2], ndim)) for _ in range(2))
    dtype, layout = rng.choice(["float32", "float64"]), rng.choice(LAYOUTS)
    return Problem(op, inputs, outputs, kernel, stride, dilation, groups, True, None, str(dtype), str(layout))


def test_no_algorithm_that_fits_is_left_out_unseen():
    rng, left_out = np.random.default_rng(7), 0
    for _ in range(1500):
        problem = random_problem(rng)
        fitting = {name for name in NAMES if algorithm(name).fits(problem, host()) is None}
        loaded = worth_loading(problem)
        assert fitting <= set(loaded), problem
        left_out += len(NAMES) - len(loaded)
    assert left_out > 1500 * len(NAMES) / 2  # or nothing is saved


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_every_tile_of_an_algorithm_gives_the_same_bits(layer, layout):
    problem = problem_of(*layer, layout)
    x, weight, pads, out = case(problem, (19, 13))
    tried = 0
    for name in NAMES:
        found = algorithm(name)
        if found.fits(problem, host()) is None:
            tiles = found.variants(problem, host())
            results = {
                (
                    found.rounding(tile),
                    CompiledEngine(algorithm=name, tile=tile, threads=2)
                    .prepare(problem, weight, None)(x, pads, out)
                    .tobytes(),
                )
                for tile in tiles
            }
            assert len(results) == len({found.rounding(tile) for tile in tiles}), f"{name}: {tiles}"
            tried += len(tiles)
    assert tried


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layer", [LAYERS[0], LAYERS[2]], ids=str)
def test_sizes_seen_before_change_no_bits(layer, layout, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    problem, engine = problem_of(*layer, layout), CompiledEngine(threads=2)
    used = None
    for size in [(7, 9), (40, 33), (1, 1), (28, 5)]:
        x, weight, pads, out = case(problem, size)
        used = used or engine.prepare(problem, weight, None)
        assert used(x, pads, out).tobytes() == engine.prepare(problem, weight, None)(x, pads, out).tobytes()


def test_a_tile_at_hand_is_not_kept_where_it_rounds_otherwise(monkeypatch):
    problem = problem_of("conv", 64, 96, (3, 3), 1, 1, "channels_last")
    found = algorithm("winograd")
    if found.fits(problem, host()) is not None:
        pytest.skip("Winograd needs more vector registers")
    first, second = found.variants(problem, host())[:2]
    layer = CompiledEngine(algorithm="winograd", threads=2).prepare(problem, None, None)
    layer._packed["winograd", second] = np.zeros(0, np.float32)
    costs = {first: 1.0, second: 1.1}
    monkeypatch.setattr(layer, "choices", [(found, first), (found, second)])
    monkeypatch.setattr(type(found), "cost", property(lambda _: lambda problem, tile, *_: costs[tile]), raising=False)
    sizes = layer.sizes((1, 56, 56, 64), ((1, 1), (1, 1)), (56, 56))
    assert layer.choose(sizes)[1] == first
    monkeypatch.setattr(type(found), "rounding", property(lambda _: lambda tile: None), raising=False)
    assert layer.choose(sizes)[1] == second


def test_a_tile_at_hand_is_kept_where_another_saves_little(monkeypatch):
    problem = problem_of("conv", 64, 96, (3, 3), 2, 1, "channels_last")
    x, weight, pads, out = case(problem, (56, 56))
    found = algorithm("dense")
    first, second = found.variants(problem, host())[:2]
    layer = CompiledEngine(threads=2).prepare(problem, weight, None)
    layer._packed["dense", second] = np.zeros(0, np.float32)
    costs = {first: 1.0, second: 1.1}
    choices = [(found, first), (found, second)]
    monkeypatch.setattr(layer, "choices", choices)
    monkeypatch.setattr(layer, "_known", None)
    monkeypatch.setattr(type(found), "cost", property(lambda _: lambda problem, tile, *_: costs[tile]), raising=False)
    assert layer.explain(x.shape, pads, out).startswith(f"dense {second}")
    costs[second] = 1.2
    assert layer.explain((2, 57, 57, 64), pads, out).startswith(f"dense {first}")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_explain_tells_of_the_padded_copy_that_runs(mode, layout):
    net = pc.network(f"conv 3x3 40 padding 9:4x2:7 stride 2x1 {mode}")
    model = net.bind(net.weights(in_channels=24, seed=1), layout=layout)
    shape, padded = ((2, 24, 17, 19), (2, 24, 30, 28)) if layout == LAYOUTS[0] else ((2, 17, 19, 24), (2, 30, 28, 24))
    model(np.ones(shape, np.float32))
    (layer,) = model._prepared.values()
    said = model.explain(shape)
    assert [key[0] for key in layer._plans] == [padded], "what ran is what was explained, with no second copy"
    assert f"on a copy of the input padded ({mode}) to {padded}, 158 KiB more of workspace" in said
    assert said.startswith(f"0 {layer.explain(padded, ((0, 0), (0, 0)), (14, 26))};")
    unpadded = pc.network(f"conv 3x3 40 {mode}").bind(net.weights(in_channels=24), layout=layout)
    assert "copy" not in unpadded.explain(shape)


@pytest.mark.parametrize(
    "text", ["conv 1x1 70 relu", "conv 3x3 40 padding 1", "depthwise 3x3 padding 1", "maxpool 1x1"]
)
def test_pictures_of_one_pixel_have_no_layout(text):
    net = pc.network(text)
    weights = net.weights(33, seed=3)
    first, last = (net.bind(weights, layout=layout) for layout in ("channels_first", "channels_last"))
    wide = np.random.default_rng(0).standard_normal((9, 33, 2, 2), dtype=np.float32)
    for x in (wide[:, :, :1, :1], np.ascontiguousarray(wide[:, :, 1:, 1:])):  # a view with gaps, and none
        np.testing.assert_array_equal(first(x)[..., 0, 0], last(np.ascontiguousarray(np.moveaxis(x, 1, -1)))[:, 0, 0])
    assert first.explain((9, 33, 1, 1)) == last.explain((9, 1, 1, 33))
    np.testing.assert_allclose(first(wide), np.moveaxis(last(np.moveaxis(wide, 1, -1)), -1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kernel", "dilation"), [((1, 1), 1), ((3, 3), 1), ((3, 3), 4), ((5, 1), 1), ((9,), 2)])
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(3, 40, 1), (64, 64, 1), (64, 48, 16), (32, 32, 32)])
def test_no_direct_algorithm_costs_less_than_the_bound(layout, dtype, kernel, dilation, inputs, outputs, groups):
    """So one that is not asked, since a transforming one takes less, would not have been chosen."""
    ones, apart = (1,) * len(kernel), (dilation,) * len(kernel)
    problem = Problem("conv", inputs, outputs, kernel, ones, apart, groups, False, None, dtype, layout)
    asked = 0
    for side in (1, 7, 40):
        size = (side,) * len(kernel)
        for pads in (0, 1, dilation * (kernel[0] - 1)):
            out = tuple(side + 2 * pads - dilation * (taps - 1) for taps in kernel)
            if min(out) <= 0:
                continue
            layer = CompiledEngine(target=host()).prepare(problem, None, None)
            shape = (2, inputs, *size) if layout == "channels_first" else (2, *size, inputs)
            sizes = layer.sizes(shape, ((pads, pads),) * len(kernel), out)
            least = least_seconds(problem, host(), sizes)
            for one, tile in layer.choices:
                if one.direct:
                    asked += 1
                    assert one.cost(problem, tile, host(), sizes, 1) >= least, (one.name, tile, sizes)
    assert asked


@pytest.mark.parametrize("algorithm", ["dense_planar", "dense_rows", "in_place_planar", "depthwise"])
def test_strides_of_axes_of_one_element_do_not_count(algorithm):
    problem = Problem("conv", 1, 1, (2,), (1,), (1,), 1, False, None, "float32", "channels_first")
    layer = CompiledEngine(algorithm=algorithm).prepare(problem, np.array([[[3.0, 1.0]]], np.float32), None)
    x = np.lib.stride_tricks.as_strided(np.arange(32, dtype=np.float32), (3, 1, 1), (8, 36, 12))
    assert layer(x, ((1, 1),), (2,)).ravel().tolist() == [0, 0, 2, 6, 4, 12]


@pytest.mark.parametrize("name", ["gelu", "silu", "sigmoid", "tanh"])
def test_a_long_activation_counts_when_threads_are_chosen(name):
    """So few sums are one thread's work, their activations are not."""

    def threads(text):
        net = pc.network(text)
        model = net.bind(net.weights(in_channels=4), layout="channels_last")
        (stage,) = model.stages((1, 24, 24, 4), np.dtype("float32"))
        layer = stage.prepared
        layer.threads = 2
        return layer.choose(layer.sizes(stage.in_shape, stage.padding, stage.out_size)).threads

    assert threads("conv 1x1 32 relu") == 1
    assert threads(f"conv 1x1 32 {name}") == 2
