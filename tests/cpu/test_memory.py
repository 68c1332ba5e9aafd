"""Memory besides the arrays: what is planned for random layers keeps to its bounds, and is what a call takes.

Layers are planned, not run. A direct algorithm takes at most a quarter of input, output and weights, with all its
threads; one that transforms takes what `record.keeps_to_memory` says.
"""

import random
from collections import Counter
from collections.abc import Sequence
from math import prod

import numpy as np
import pytest

import polyconv as pc
from polyconv.run import fuse, tune
from polyconv.run.choices import Choice
from polyconv.run.cpu import chain, pool
from polyconv.run.cpu.algorithms import algorithm
from polyconv.run.cpu.algorithms.record import allowance, in_words
from polyconv.run.cpu.target import avx2, host
from polyconv.run.lower import problem_of, sizes_of
from polyconv.run.plan import CompiledEngine, CompiledLayer
from polyconv.run.problem import Problem

LAYERS = 250  # for each number of threads
CHANNELS = {True: [1, 2, 3, 4, 5, 8, 16, 32], False: [1, 2, 3, 4, 8, 12, 16, 24, 32, 64, 128, 256]}
SIDES = {True: [1, 2, 3, 4, 5, 7, 8, 9, 14], False: [14, 20, 28, 32, 56, 64, 112]}


def windows(rng: random.Random, problem: Problem, small: bool) -> tuple[tuple, tuple, tuple] | None:
    """Input size, padding and output size; None where nothing comes out, or far too much."""
    longer = {1: 8, 2: 1, 3: 0.5}[problem.ndim] if not small else 1
    size = tuple(max(int(rng.choice(SIDES[small]) * longer), 1) for _ in problem.kernel_size)
    spans = [(taps - 1) * apart + 1 for taps, apart in zip(problem.kernel_size, problem.dilation, strict=True)]
    padding = tuple((rng.randrange(span // 2 + 1),) * 2 for span in spans)
    axes = list(zip(size, padding, spans, problem.stride, strict=True))
    if problem.op == "conv_transpose":
        out = tuple((n - 1) * step + span - 2 * pad for n, (pad, _), span, step in axes)
    else:
        out = tuple((n + 2 * pad - span) // step + 1 for n, (pad, _), span, step in axes)
    fits = min(out) > 0 and max(prod(size), prod(out)) * max(problem.in_channels, problem.out_channels) < 3e6
    return (size, padding, out) if fits else None


def random_layer(rng: random.Random) -> tuple[Problem, int, tuple, tuple, tuple]:
    while True:
        ndim, small = rng.choice([1, 2, 2, 2, 3]), rng.random() < 0.6
        op = rng.choice(["conv"] * 5 + ["conv_transpose"] * 3 + ["max_pool", "avg_pool"])
        inputs, outputs, groups = rng.choice(CHANNELS[small]), rng.choice(CHANNELS[small]), 1
        if op.endswith("pool") or rng.random() < 0.25:
            groups, outputs = inputs, inputs if op.endswith("pool") else inputs * rng.choice([1, 1, 2, 20])
        elif rng.random() < 0.2:
            groups = rng.choice([2, 3, 8])
            inputs, outputs = groups * rng.choice([2, 4, 20]), groups * rng.choice([1, 2, 8, 40])
        problem = Problem(
            op, inputs, outputs, tuple(rng.choice([1, 2, 3, 3, 3, 4, 5, 7, 9]) for _ in range(ndim)),
            (rng.choice([1, 1, 2, 3, 4, 5]),) * ndim, (rng.choice([1, 1, 1, 2, 3]),) * ndim, groups,
            not op.endswith("pool") and rng.random() < 0.5, None, rng.choice(["float32", "float32", "float64"]),
            rng.choice(["channels_first", "channels_last"]),
        )  # fmt: skip
        found = windows(rng, problem, small)
        if found and prod(problem.weight_shape() or (1,)) < 3e6:
            return problem, rng.choice([1, 1, 1, 2, 8]), *found


def planner(problem: Problem, target, threads: int) -> CompiledLayer:
    """A layer that plans freely, and remembers nothing for other processes."""
    engine = CompiledEngine(target=target, threads=threads)
    return CompiledLayer(problem, engine.candidates, target, threads, None, None, {"other": Choice("dense", "", 1, 0)})


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("machine", [host, avx2])
def test_what_is_planned_keeps_to_its_memory(machine, threads):
    rng, used, target = random.Random(7 + threads), Counter(), machine()
    for _ in range(LAYERS):
        problem, batch, in_size, padding, out_size = random_layer(rng)
        first = problem.layout == "channels_first"
        shape = (batch, problem.in_channels, *in_size) if first else (batch, *in_size, problem.in_channels)
        layer = planner(problem, target, threads)
        sizes = layer.sizes(shape, padding, out_size)
        found = layer.choose(sizes)
        used[found.algorithm.direct] += 1
        plan = found.algorithm.schedule(problem, found.tile, target, sizes, found.threads)
        arrays = prod(shape) + prod(problem.out_shape(batch, out_size)) + prod(problem.weight_shape() or (0,))
        arrays *= problem.numpy_dtype().itemsize
        memory = plan.workspace_bytes + found.threads * plan.scratch_bytes
        if found.algorithm.direct:
            assert memory <= arrays / 4, (found, problem, sizes)
        else:
            assert plan.scratch_bytes <= max(16 << 20, 5 * target.l2_bytes), (found, problem, sizes)
            assert plan.workspace_bytes <= max(32 << 20, arrays), (found, problem, sizes)
        others = {planner(problem, target, count).choose(sizes).algorithm.name for count in (1, 2, 3)}
        assert others == {found.algorithm.name}, "which algorithm runs depends on the number of threads"
    assert used[True] > LAYERS / 2


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize(
    ("notation", "channels", "size"),
    [
        ("conv 3x3 32 same", 16, (20, 20)),
        ("conv 1x1 1", 1, (1, 1)),
        ("conv 5x5 8 groups 8 same", 8, (9, 9)),
        ("conv 31 16 same", 16, (500,)),
        ("conv 3x3 64 same", 64, (56, 56)),
        ("transposed 4x4 8 stride 2 padding 1", 16, (9, 9)),
        ("maxpool 3x3 stride 2 padding 1", 6, (15, 15)),
        ("conv 3x3 16 same relu | conv 3x3 16 same relu | maxpool 2x2", 8, (64, 64)),
    ],
)
def test_explain_states_what_a_call_takes(notation, channels, size, layout, monkeypatch):
    taken = []
    made = pool.Call.__init__

    def note(self, phases, *given, **named):
        made(self, phases, *given, **named)
        scratch, workspace = self.block[:2]
        taken.append(pool.rounded(workspace) + scratch * max(threads for *_, threads in self.phases))

    monkeypatch.setattr(pool.Call, "__init__", note)
    net = pc.network(notation)
    model = net.bind(net.weights(channels), layout=layout)
    shape = (1, channels, *size) if layout == "channels_first" else (1, *size, channels)
    said = model.explain(shape)
    assert f" {in_words(taken[-1])} of workspace" in said  # those before belong to self-tests of new code


@pytest.mark.parametrize(("memory", "text"), [(0, "0 bytes"), (10239, "10239 bytes"), (10240, "10 KiB")])
def test_small_amounts_are_told_by_the_byte(memory, text):
    assert in_words(memory) == text


LINKS = [
    "depthwise 3x3 same relu", "pointwise 8 relu", "pointwise 64 relu", "conv 3x3 16 same relu",
    "conv 3x3 64 stride 2 padding 1", "maxpool 2x2", "avgpool 3x3 stride 1 padding 1",
]  # fmt: skip


class Planned:
    """A chain without its machine code."""

    def __init__(self, members: Sequence[fuse.Member], bands: fuse.Bands) -> None:
        target, strides, packed = members[0].layer.target, members[0].sizes.x_strides, [np.zeros(1)] * len(members)
        program = chain.write_program(
            [member.link for member in members], target, strides, bands.rows, bands.runs, packed,
            lambda place, phases: [1] * len(phases),
        )  # fmt: skip
        self.memory, self.threads = bands.threads * pool.rounded(program.scratch_bytes), bands.threads


def members_of(text: str, shape: tuple[int, ...], layout: str, threads: int) -> list[fuse.Member]:
    members, (batch, channels, *size) = [], shape
    for node in pc.network(text).nodes:
        problem = problem_of(node.layer, channels, len(size), "float32", layout)
        full = (batch, channels, *size) if layout == "channels_first" else (batch, *size, channels)
        padding, size = sizes_of(node.layer, tuple(size))
        members.append(fuse.Member(planner(problem, host(), threads), full, padding, size))
        channels = problem.out_channels
    return members


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_layers_that_run_as_one_take_no_more_than_one_by_one(layout, threads, monkeypatch):
    monkeypatch.setattr(fuse, "CompiledChain", Planned)
    rng, kept = random.Random(threads), Counter()
    for _ in range(40):
        text = " | ".join(rng.choice(LINKS) for _ in range(rng.choice([2, 2, 3])))
        side = rng.choice([8, 8, 14, 20, 28, 56, 112])
        shape = (rng.choice([1, 1, 2]), rng.choice([3, 8, 24, 64]), side, side)
        members = members_of(text, shape, layout, threads)
        for first, last, bands in fuse.chains(members):
            part = members[first:last]
            made = fuse.compiled(part, bands)
            kept[made is not None] += 1
            if made is not None and all(member.link.algorithm.direct for member in part):
                between = sum(member.out_bytes for member in part[:-1])
                allowed = sum(allowance(member.layer.problem, member.sizes) for member in part)
                assert made.memory <= between + allowed, (text, shape)
    assert kept[True] > kept[False]


def test_only_what_keeps_to_its_memory_is_measured():
    net, shape = pc.network("conv 3x3 32 same nobias"), (1, 24, 8, 8)
    weights = net.weights(24)
    (stage,) = net.bind(weights).stages(shape, np.dtype("float32"))
    layer = stage.prepared
    ways, planned = tune._ways(stage, layer, np.ones(layer.problem.weight_shape(), np.float32), None)
    assert planned in ways
    assert len(ways) > 1
    sizes = layer.sizes(stage.in_shape, stage.padding, stage.out_size)
    arrays = prod(shape) + 32 * 8 * 8 + 32 * 24 * 9
    for way in ways:
        found = algorithm(way.algorithm)
        plan = found.schedule(layer.problem, way.tile, host(), sizes, way.threads)
        assert plan.workspace_bytes + way.threads * plan.scratch_bytes <= arrays or not found.direct
