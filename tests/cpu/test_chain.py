"""Layers run as one, band by band: the bits of the layers run one by one, whatever the bands; nothing else touched."""

import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod

import numpy as np
import pytest

import oracle
import polyconv as pc
from cpu.forced import TARGETS, guarded
from polyconv.geometry import Axis
from polyconv.run import fuse
from polyconv.run.cpu import algorithms, chain
from polyconv.run.cpu.algorithms.record import contiguous, whole_only
from polyconv.run.cpu.target import avx2, host
from polyconv.run.fuse import Bands, CompiledChain, Member
from polyconv.run.lower import problem_of, sizes_of
from polyconv.run.plan import CompiledEngine

LAYOUTS = ("channels_last", "channels_first")


def members_of(text, shape, layout, dtype="float32", engines=None, target=None, whole=False):
    """The layers of a network in a row, for an input of (batch, channels, *spatial); weights are whole if asked."""
    network = pc.network(text)
    weights = network.weights(in_channels=shape[1], seed=3)
    channels, size, found = shape[1], shape[2:], []
    for number, node in enumerate(network.nodes):
        engine = CompiledEngine(algorithm=(engines or {}).get(number), target=target)
        problem = problem_of(node.layer, channels, len(size), dtype, layout)
        padding, out_size = sizes_of(node.layer, size)
        full = (shape[0], channels, *size) if layout == "channels_first" else (shape[0], *size, channels)
        arrays = [weights.get(f"{node.name}.{kind}") for kind in ("weight", "bias")]
        if whole:
            draw = np.random.default_rng(number)
            arrays = [None if a is None else draw.integers(-2, 3, a.shape) for a in arrays]
        layer = engine.prepare(problem, *(None if a is None else a.astype(dtype) for a in arrays))
        found.append(Member(layer, full, padding, out_size))
        channels, size = problem.out_channels, out_size
    return found


def input_of(members, seed=5):
    first = members[0]
    return np.random.default_rng(seed).normal(size=first.in_shape).astype(first.layer.problem.dtype)


def one_by_one(members, x):
    for member in members:
        x = member.layer(x, member.padding, member.out_size)
    return x


def check(members, ways, x=None):
    x = input_of(members) if x is None else x
    wanted = one_by_one(members, x)
    for rows, runs, threads in ways:
        made = CompiledChain(members, Bands(rows, runs, threads, 1.0, 1.0))(x)
        assert made.shape == wanted.shape
        assert made.tobytes() == wanted.tobytes(), (rows, runs, threads, np.abs(made - wanted).max())


WAYS = [(1, 1, 1), (2, 3, 2), (3, 2, 1), (5, 4, 2), (1000, 1, 1)]
TWO_AXES = [
    "conv 3x3 16 same relu",
    "conv 3x5 7 stride 2x1 padding 1:0x3:2",
    "conv 1x7 16 same",
    "conv 5x1 12 dilation 3x1 padding 4:9x0",
    "pointwise 18 relu6",
    "pointwise 9 stride 3",
    "depthwise 3x3 same relu",
    "depthwise 5x3 stride 2 padding 2",
    "depthwise 3x2 multiplier 2 dilation 2x1 padding 3:2x1",
    "conv 3x3 24 groups {groups} same silu",
    "transposed 4x4 8 stride 2 padding 1",
    "transposed 2x3 10 stride 3x1 padding 0:1x1",
    "transposed 3x3 1 stride 1x2",
    "maxpool 3x3 stride 2 padding 1",
    "maxpool 2x2",
    "avgpool 3x2 stride 1 padding 1",
]
ONE_AXIS = [
    "conv 3 8 dilation 5 padding 10:0 relu",
    "depthwise 9 same",
    "pointwise 17",
    "maxpool 4",
    "transposed 4 6 stride 2",
]
THREE_AXES = [
    "conv 3x3x3 8 same relu",
    "depthwise 3x3x3 same",
    "pointwise 20",
    "avgpool 2x2x2",
    "depthwise 1x3x3 stride 2x1x1",
]


def drawn(seed):
    """A chain: its text, input shape and layout."""
    draw = random.Random(seed)
    kinds, axes = draw.choice([(TWO_AXES, 2)] * 4 + [(ONE_AXIS, 1), (THREE_AXES, 3)])
    channels = draw.choice([6, 8, 16, 18])
    words = []
    for _ in range(draw.choice([2, 2, 3, 4])):
        words.append(draw.choice(kinds).format(groups=2))
    size = {1: (draw.randint(40, 200),), 2: (draw.randint(11, 40), draw.randint(9, 40)), 3: (9, 7, 11)}[axes]
    return " | ".join(words), (draw.randint(1, 3), channels, *size), draw.choice(LAYOUTS), draw


@pytest.mark.parametrize("seed", range(70))
def test_the_bits_of_the_layers_one_by_one(seed):
    text, shape, layout, draw = drawn(seed)
    try:
        members = members_of(text, shape, layout, draw.choice(["float32", "float32", "float64"]))
    except ValueError:  # a window larger than what the layer before left, or channels that do not divide
        members = members_of(text.split(" | ")[0] + " | pointwise 5", (2, 18, *shape[2:]), layout)
    ways = [(draw.randint(1, 9), draw.randint(1, 4), draw.choice([1, 2])) for _ in range(4)]
    check(members, [*ways, (1000, 1, 1)])


# text, input shape, and what the oracle is asked for each layer
AGAINST_THE_ORACLE = [
    (
        "depthwise 3x3 same relu | pointwise 7 relu",
        (2, 5, 11, 9),
        [
            (oracle.conv, {"padding": 1, "groups": 5, "activation": "relu"}),
            (oracle.conv, {"activation": "relu"}),
        ],
    ),
    (
        "pointwise 18 relu | depthwise 3x2 stride 2x1 padding 1:0x0 | pointwise 4",
        (1, 3, 13, 8),
        [
            (oracle.conv, {"activation": "relu"}),
            (oracle.conv, {"stride": (2, 1), "padding": [(1, 0), (0, 0)], "groups": 18}),
            (oracle.conv, {}),
        ],
    ),
    (
        "conv 5x1 6 dilation 2x1 padding 3:5x0 | conv 1x3 5 padding 0x1 relu | maxpool 3x3 stride 2 padding 1",
        (2, 4, 12, 7),
        [
            (oracle.conv, {"dilation": (2, 1), "padding": [(3, 5), (0, 0)]}),
            (oracle.conv, {"padding": [(0, 0), (1, 1)], "activation": "relu"}),
            (oracle.max_pool, {"stride": 2, "padding": 1}),
        ],
    ),
    (
        "transposed 4x4 3 stride 2 padding 1 | conv 3x3 5 same | avgpool 2x2",
        (1, 4, 6, 5),
        [
            (oracle.conv_transpose, {"stride": 2, "padding": 1}),
            (oracle.conv, {"padding": 1}),
            (oracle.avg_pool, {}),
        ],
    ),
    (
        "conv 3 8 dilation 5 padding 10:0 relu | maxpool 2 | pointwise 3",
        (2, 5, 41),
        [
            (oracle.conv, {"dilation": 5, "padding": [(10, 0)], "activation": "relu"}),
            (oracle.max_pool, {}),
            (oracle.conv, {}),
        ],
    ),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("text", "shape", "asked"), AGAINST_THE_ORACLE, ids=[one[0] for one in AGAINST_THE_ORACLE])
def test_whole_numbers_equal_the_oracle(text, shape, asked, layout):
    members = members_of(text, shape, layout, whole=True)
    x = np.random.default_rng(7).integers(-3, 4, members[0].in_shape).astype(np.float32)
    wanted = x
    for member, (function, options) in zip(members, asked, strict=True):
        given = [a for a in (member.layer._weight, member.layer._bias) if a is not None]
        given = given or [member.layer.problem.kernel_size]
        wanted = function(wanted, *given, layout=layout, **options).y
    for rows, runs, threads in [*WAYS, (3, 1, 1), (7, 2, 2)]:
        made = CompiledChain(members, Bands(rows, runs, threads, 1.0, 1.0))(x)
        np.testing.assert_array_equal(made, wanted, f"{rows} rows, {runs} runs")
    assert np.abs(wanted).max() < 2**24
    assert len(np.unique(wanted)) > 20


FORCED = {
    "dense": ("conv 3x3 20 same relu", "channels_last"),
    "dense_near": ("conv 3x2 20 same relu", "channels_last"),
    "dense_near_planar": ("conv 3x2 20 same relu", "channels_first"),
    "dense_near_turned": ("conv 9x9 20 same relu", "channels_first"),
    "dense_dot": ("conv 3x3 2 same", "channels_last"),
    "dense_planar": ("conv 3x3 20 same relu", "channels_first"),
    "dense_rows": ("conv 3x3 5 same", "channels_first"),
    "dense_spread": ("transposed 4x4 20 stride 2 padding 1 relu", "channels_first"),
    "dense_turned": ("conv 3x3 20 same dilation 2 relu", "channels_first"),
    "depthwise": ("depthwise 5x5 same", "channels_first"),
    "grouped": ("conv 3x3 24 groups 6 same", "channels_first"),
    "in_place": ("conv 3x3 9 groups 3 same relu", "channels_last"),
    "in_place_planar": ("conv 3x3 7 stride 2 padding 1 relu", "channels_first"),
    "planes": ("depthwise 3x3 stride 2 padding 1", "channels_first"),
    "pooling": ("avgpool 3x3 stride 2 padding 1", "channels_first"),
    "subpixel": ("transposed 6x6 1 stride 3 padding 2", "channels_first"),
    "winograd": ("conv 3x3 20 same", "channels_last"),
    "winograd_planar": ("conv 3x3 20 same", "channels_first"),
    "winograd_rows": ("conv 3x1 20 same", "channels_first"),
}


@pytest.mark.parametrize(
    ("name", "target"),
    [(name, target) for name in FORCED for target in TARGETS if target == "host" or not name.startswith("winograd")],
)
def test_every_algorithm_first_and_last(name, target):
    text, layout = FORCED[name]
    channels = 5 if name in ("dense_near_planar", "dense_near_turned") else 18
    target = TARGETS[target]()
    if name.startswith("winograd") and target.vector_registers < 32:
        pytest.skip("needs 32 vector registers")
    for layer, engines in (
        (f"{text} | maxpool 3x3 stride 1 padding 1", {0: name}),
        (f"pointwise {channels} | {text}", {1: name}),
    ):
        members = members_of(layer, (2, channels, 23, 37), layout, engines=engines, target=target)
        assert members[max(engines)].link.algorithm.name == name
        check(members, WAYS)


def test_every_algorithm_is_tried_and_reads_bands():
    in_bands = {found.name for found in algorithms.every() if found.grain is not whole_only}
    assert in_bands == set(FORCED)
    assert all(algorithms.algorithm(name).reads is not contiguous for name in in_bands)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_dilated_winograd_keeps_its_tiles(layout):
    if host().vector_registers < 32:
        pytest.skip("needs 32 vector registers")
    name = "winograd" if layout == "channels_last" else "winograd_planar"
    text = "conv 3x3 16 dilation 2 padding 2 | conv 3x3 16 dilation 3x1 padding 3x1 | maxpool 2x2"
    members = members_of(text, (1, 16, 41, 30), layout, engines={0: name, 1: name})
    check(members, WAYS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tall_pictures_are_loops(layout):
    text = "pointwise 12 | depthwise 3x3 same | conv 5x1 8 padding 2x0 | maxpool 2x1"
    members = members_of(text, (2, 5, 403, 6), layout)
    check(members, [(1, 1, 1), (3, 2, 2), (7, 3, 1), (64, 2, 2)])
    links = [member.link for member in members]
    bands = chain.bands_of(links, [1] * len(links), 0, 201, 3)
    assert len(bands) < 12
    assert sum(band.times for band in bands) == 67


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_but_the_output_is_written(layout, at_end):
    members = members_of(
        "conv 3x3 19 same relu | depthwise 3x3 same | pointwise 7 | maxpool 2x2", (2, 5, 21, 13), layout
    )
    x = guarded(input_of(members), at_end)
    before, wanted = x.copy(), one_by_one(members, x)
    made = CompiledChain(members, Bands(3, 2, 2, 1.0, 1.0))
    out = guarded(np.full(wanted.shape, -12345.678, wanted.dtype), at_end)
    made._call(x, out)
    assert out.tobytes() == wanted.tobytes()
    assert x.tobytes() == before.tobytes()


def test_any_strides_and_many_callers():
    members = members_of("depthwise 3x3 same | pointwise 7", (2, 5, 40, 13), "channels_first")
    x = input_of(members)
    made = CompiledChain(members, Bands(4, 3, 2, 1.0, 1.0))
    wanted = one_by_one(members, x)
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::-2] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    for given in (wide[..., ::-2], np.asfortranarray(x), frozen):
        assert made(given).tobytes() == wanted.tobytes()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: made(x).tobytes(), range(64)))
    assert set(results) == {wanted.tobytes()}


# ---- bands, without machine code -----------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(200))
def test_a_band_finds_in_its_buffers_what_it_reads(seed):
    draw = random.Random(seed)
    text, shape = drawn(seed)[:2]
    try:
        members = members_of(text, (1, 18, draw.randint(20, 300), *shape[3:]), "channels_last")
    except ValueError:
        return
    links = [member.link for member in members]
    grains = [draw.choice([1, 1, 2, 4]) for _ in links]
    height, rows = links[-1].out_size[0], grains[-1] * draw.randint(1, 6)
    done = []
    for first, last in chain.runs_of(height, rows, draw.randint(1, 4)):
        held = [(0, 0)] * len(links)  # the rows in the buffer before each layer, as moves and calls leave them
        for band in chain.bands_of(links, grains, first, last, rows):
            for time in range(band.times):
                down = [step * time for step in band.steps]
                for place, part in enumerate(band.parts):
                    link, by = links[place], down[place]
                    a, b = part.first + by, part.last + by
                    if place + 1 < len(links):
                        following, moved = band.parts[place + 1], down[place]
                        base = following.base + moved
                        if following.kept:
                            assert held[place + 1] == (base - following.moved, base + following.kept)
                        assert a == base + following.kept
                        if a < b:
                            assert a % grains[place] == 0
                            assert b % grains[place] == 0 or b == link.out_size[0]
                        held[place + 1] = (base, b)
                    else:
                        done += range(a, b)
                    if a < b:
                        start, stop = link.window(a, b)
                        assert (stop - start) == part.stop - part.start
                        if place:
                            assert held[place][0] <= start < stop <= held[place][1]
                            assert start - held[place][0] == part.start - part.base
                        assert link.padding_of(a, start, stop) == link.padding_of(part.first, part.start, part.stop)
    assert done == list(range(height))


def test_sources_of_a_transposed_layer():
    for axis in (Axis(3, 2, 1, 1, 0), Axis(2, 3, 1, 0, 0), Axis(4, 2, 3, 2, 5), Axis(1, 4, 1, 3, 0)):
        reach = {}
        for position in range(40):
            for tap in range(axis.kernel):
                reach.setdefault(axis.position(position, tap), []).append(position)
        for first in range(20):
            for last in range(first + 1, first + 6):
                wanted = {p for out in range(first, last) for p in reach.get(out, [])}
                low, high = axis.sources(first, last)
                assert wanted <= set(range(low, high))
                assert (
                    high - low <= (last - 1 - first + axis.span) // axis.stride + 2
                )  # no more than could, and the one before


# ---- where it is done ----------------------------------------------------------------------------------------------
def bound(text, channels, layout="channels_first", wish="auto", monkeypatch=None):
    if monkeypatch is not None:
        monkeypatch.setenv("POLYCONV_FUSE", wish)
    network = pc.network(text)
    return network.bind(network.weights(in_channels=channels, seed=1), layout=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_gives_the_same_bits_fused_and_not(layout, monkeypatch):
    text = (
        "conv 3x3 16 same | batchnorm | relu | maxpool 2x2 | separable 3x3 24 same relu"
        " | add(identity, depthwise 3x3 same | pointwise 24) | spatial 3x3 8 same | conv 3x3 5 padding 1 nobias"
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 30, 26)).astype(np.float32)
    x = x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
    made = {wish: bound(text, 3, layout, wish, monkeypatch) for wish in ("on", "off", "auto")}
    results = {wish: model(x).tobytes() for wish, model in made.items()}
    assert len(set(results.values())) == 1
    assert "fused with" in made["on"].explain(x.shape)
    assert "fused with" not in made["off"].explain(x.shape)
    assert made["on"](x).tobytes() == results["off"]
    assert made["on"].profile(x, repeats=1)[0].tobytes() == results["off"]


def fused_stages(model, shape):
    return [line.split(" ", 1)[0] for line in model.explain(shape).splitlines() if "fused with" in line]


def test_what_others_read_is_not_fused(monkeypatch):
    text = "conv 3x3 8 same | add(identity, conv 3x3 8 same) | conv 3x3 8 same | conv 3x3 8 same"
    model = bound(text, 8, wish="on", monkeypatch=monkeypatch)
    assert fused_stages(model, (1, 8, 20, 20)) == ["2", "3"]


def test_explain_says_bands_memory_and_reason(monkeypatch):
    model = bound("depthwise 3x3 same relu | pointwise 64 relu", 32, "channels_last", "on", monkeypatch)
    first, second = model.explain((1, 112, 112, 32)).splitlines()
    for words in ("fused with the next layer (1): bands of", "rows", "KiB of workspace", "expected", "instead of"):
        assert words in first
    assert "fused with stage 0" in second


def test_a_chain_pays_where_much_lies_between(monkeypatch):
    model = bound("depthwise 3x3 same relu | pointwise 16 relu", 16, "channels_last", "auto", monkeypatch)
    assert fused_stages(model, (1, 1024, 1024, 16)) == ["0", "1"]
    deep = bound("depthwise 3x3 same relu | pointwise 2048", 2048, "channels_last", "auto", monkeypatch)
    assert fused_stages(deep, (1, 7, 7, 2048)) == []


def test_an_unknown_wish_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="POLYCONV_FUSE='yes' is not known; use 'auto', 'on' or 'off'"):
        bound("conv 3x3 8 same | maxpool 2x2", 3, wish="yes", monkeypatch=monkeypatch)


def test_empty_outputs_are_not_fused(monkeypatch):
    model = bound("depthwise 3x3 same | pointwise 4", 3, wish="on", monkeypatch=monkeypatch)
    assert model(np.zeros((0, 3, 5, 5), np.float32)).shape == (0, 4, 5, 5)
    assert fused_stages(model, (0, 3, 5, 5)) == []


def test_memory_between_layers_is_saved(monkeypatch):
    members = members_of("pointwise 64 | depthwise 3x3 same | pointwise 8", (1, 8, 256, 256), "channels_last")
    made = CompiledChain(members)
    between = prod(members[0].layer.problem.out_shape(1, members[0].out_size)) * 4
    assert made.program.buffer_bytes < between / 10
    assert made.bands.seconds < made.bands.apart


def test_avx2_and_one_thread_choose_bands_too():
    members = members_of("depthwise 3x3 same | pointwise 7", (1, 8, 64, 64), "channels_last", target=avx2())
    for threads in (1, 2):
        bands = replace(fuse.best_bands(members), threads=threads)
        check(members, [(bands.rows, bands.runs, threads)])


@pytest.mark.parametrize(
    ("runs", "batch", "threads", "part"),
    [
        ([(0, 4), (4, 8), (8, 12), (12, 14)], 1, 2, 8 / 14),
        ([(0, 7), (7, 14)], 1, 2, 7 / 14),
        ([(0, 14)], 3, 2, 2 / 3),
        ([(0, 4), (4, 6)], 3, 2, 10 / 18),  # 4 2 4 | 2 4 2
        ([(0, 5)], 1, 1, 1.0),
    ],
)
def test_the_busiest_thread_has_the_most_rows(runs, batch, threads, part):
    assert fuse._busiest(runs, batch, threads) == pytest.approx(part)


def test_threads_share_a_small_picture_evenly():
    """14 rows are 7 and 7, not 8 and 6 in four pieces."""
    net = pc.network("depthwise 3x3 same relu | pointwise 512 relu")
    said = net.bind(net.weights(in_channels=512), layout="channels_last").explain((1, 14, 14, 512))
    if "2 thread(s)" not in said:
        pytest.skip("not two threads here")
    runs = int(re.search(r"(\d+) run\(s\)", said)[1])
    rows = int(re.search(r"bands of (\d+) rows", said)[1])
    assert fuse._busiest(chain.runs_of(14, rows, runs), 1, 2) == 0.5
