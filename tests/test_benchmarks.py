"""The benchmark itself: its statistics, limits, lists and referee, and that a wrong answer is caught, not timed."""

from __future__ import annotations

import gc
import io
import itertools
import json
import os
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from benchmarks import command, extras, report, suite, tables
from benchmarks.reference import ACTIVATIONS, reference
from benchmarks.results import Results

import oracle
from polyconv.layers import ACTIVATIONS as ACTIVATION_NAMES
from polyconv.notation import network
from polyconv.run.bench import ceilings, session
from polyconv.run.bench.case import Case, case_of, named_arrays, sample_arrays
from polyconv.run.bench.ceilings import Ceilings
from polyconv.run.bench.disturbance import busy_s, disturbed
from polyconv.run.bench.peers import LIBRARIES, library_of
from polyconv.run.bench.race import available, race
from polyconv.run.bench.session import Effort, Result, Session, Worker, WorkerError, check, relative_error
from polyconv.run.bench.timing import Timing, time_calls
from polyconv.run.bench.truth import by_definition
from polyconv.run.bench.work import work_of
from polyconv.run.bench.worker import serve
from polyconv.run.cpu import target

BRIEF = Effort(rounds=1, budget_s=0.002, max_samples=5, attempts=1)
MACHINE = Ceilings(2, 200e9, {1_000: 100e9, 100_000: 100e9, 10_000_000: 10e9})


# -- timing ------------------------------------------------------------------------------------------------------------


def test_low_and_median_are_the_20th_and_50th_percentile() -> None:
    timing = Timing(tuple(float(n) for n in (5, 1, 4, 2, 3, 11, 6, 10, 9, 8, 7)))
    assert (timing.low, timing.median) == (3.0, 6.0)


def test_a_timing_needs_a_call() -> None:
    with pytest.raises(ValueError, match="at least one call"):
        Timing(())


def test_time_calls_measures_the_call() -> None:
    samples = time_calls(lambda: time.sleep(0.002), budget_s=0.02)
    assert 3 <= len(samples) <= 10
    assert 0.002 <= min(samples) < 0.02


def test_a_call_longer_than_the_budget_is_timed_all_the_same() -> None:
    assert len(time_calls(lambda: time.sleep(0.003), budget_s=0.0, min_samples=2)) == 2


def test_a_short_call_is_timed_several_at_a_time_and_reported_singly() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    samples = time_calls(call, budget_s=0.05, max_samples=50)
    assert len(samples) == 50
    assert calls > 20 * len(samples)
    assert min(samples) < 5e-6


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_off_while_timing_and_then_as_before(enabled: bool) -> None:
    seen: list[bool] = []
    (gc.enable if enabled else gc.disable)()
    try:
        time_calls(lambda: seen.append(gc.isenabled()), budget_s=0.0)
        assert seen[-1] is False
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_senseless_efforts_are_refused() -> None:
    with pytest.raises(ValueError, match="budget_s=-1"):
        time_calls(lambda: None, budget_s=-1)
    with pytest.raises(ValueError, match="min_samples=0"):
        time_calls(lambda: None, min_samples=0)


def test_disturbance_is_what_others_worked() -> None:
    assert not disturbed(10.0, 10.2, own_s=0.2, wall_s=0.1)
    assert disturbed(10.0, 10.3, own_s=0.2, wall_s=0.1)
    assert not disturbed(None, 10.3, own_s=0.0, wall_s=0.1)


def test_busy_counts_all_but_idle_and_waiting(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_text("cpu  100 20 30 99999 88888 4 5 6 0 0\ncpu0 1 2 3\n")
    if hasattr(os, "sysconf"):
        assert busy_s(file) == 165 / os.sysconf("SC_CLK_TCK")
    assert busy_s(tmp_path / "missing") is None


# -- limits ------------------------------------------------------------------------------------------------------------


def test_limit_is_the_longer_of_arithmetic_and_bytes() -> None:
    assert MACHINE.limit_s(flops=2e9, moved=1_000) == pytest.approx(2e9 / 200e9)
    assert MACHINE.limit_s(flops=2e3, moved=10_000_000) == pytest.approx(10_000_000 / 10e9)


def test_bandwidth_lies_between_the_measured_sizes() -> None:
    assert MACHINE.bytes_s(1) == 100e9
    assert MACHINE.bytes_s(1_000_000) == pytest.approx(10**1.5 * 1e9)
    assert MACHINE.bytes_s(10**12) == 10e9


def test_ceilings_survive_json() -> None:
    assert Ceilings.from_json(json.loads(json.dumps(MACHINE.to_json()))) == MACHINE


def test_work_is_counted_from_the_definition() -> None:
    work = work_of(case_of("conv 3x3 8 padding 1 nobias", (2, 4, 5, 7)))
    assert work.macs == 2 * 8 * 4 * 9 * 35
    assert work.macs_on_data == 2 * 8 * 4 * 13 * 19
    assert work.moved == 4 * (2 * 4 * 35 + 8 * 4 * 9 + 2 * 8 * 35)
    assert work.gflops(1e-6) == pytest.approx(2 * work.macs / 1e3)
    assert work.limit_s(MACHINE) == MACHINE.limit_s(2 * work.macs_on_data, work.moved)


def test_the_copy_kernel_copies_and_the_other_adds_up() -> None:
    pytest.importorskip("llvmlite")
    import ctypes

    host = target.host()
    kernel = ceilings._load(ceilings.copy_ir(host), "copy", host, *(ctypes.c_void_p,) * 2, *(ctypes.c_int64,) * 2)
    source = np.arange(3 * 4 * host.vector_bytes, dtype=np.int64).astype(np.uint8)
    goal = np.zeros(source.size + 1, np.uint8)
    kernel(goal.ctypes.data, source.ctypes.data, 3, 2)
    np.testing.assert_array_equal(goal, [*source, 0])
    sink = np.zeros(host.lanes("float32"), np.float32)
    ceilings._load(ceilings.fma_ir(host), "fma", host, ctypes.c_void_p, ctypes.c_int64)(sink.ctypes.data, 10)
    np.testing.assert_allclose(sink, 12 * 10, rtol=1e-5)


# -- cases and lists ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(suite.LISTS))
def test_every_row_of_a_list_becomes_the_layer_it_names(name: str) -> None:
    for row, case in zip(suite.rows(name), suite.layers(name), strict=True):
        (step,) = case.steps
        ndim = len(row["spatial"])
        per_axis = {
            field: tuple(row[field]) if isinstance(row[field], list) else (row[field],) * ndim
            for field in ("kernel", "stride", "dilation", "padding")
        }
        assert case.shape == (row["batch"], row["in_channels"], *row["spatial"])
        assert (step.op, step.in_channels, step.out_channels) == (row["op"], row["in_channels"], row["out_channels"])
        assert (step.kernel, step.stride, step.dilation) == tuple(
            per_axis[field] for field in ("kernel", "stride", "dilation")
        )
        assert step.padding == tuple((amount, amount) for amount in per_axis["padding"])
        assert (step.bias, step.activation) == (False, None)
        assert step.groups == row["groups"] or step.is_pool


def test_the_lists_are_long_enough_and_share_nothing() -> None:
    ours, others = (suite.layers(name) + suite.chains(name) for name in ("suite", "others"))
    assert len(suite.chains("networks")) >= 12
    assert len(suite.layers("suite")) == 45
    assert len(suite.chains("suite")) == 5
    assert len(suite.layers("others")) >= 40
    assert all(row["source"] for row in suite.rows("others"))
    names = [case.name for case in ours + others]
    assert len(set(names)) == len(names)
    assert not {(case.shape, case.steps) for case in ours} & {(case.shape, case.steps) for case in others}


def test_selecting_by_pattern() -> None:
    cases = suite.layers()
    assert {case.kind for case in suite.select(cases, "pool/*,depthwise/mbv1*")} == {"pool", "depthwise"}
    with pytest.raises(ValueError, match="no layer fits 'nothing'"):
        suite.select(cases, "nothing")


def test_a_case_survives_json_and_a_1d_one_is_lifted() -> None:
    case = case_of("conv 3 8 stride 2 padding 1:0 | transposed 4 8 stride 2 output_padding 1 relu", (1, 4, 20))
    assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case
    high = case.lifted()
    assert high.shape == (1, 4, 1, 20)
    assert high.steps[0].weight_shape() == (8, 4, 1, 3)
    assert high.steps[0].padding == ((0, 0), (1, 0))
    assert high.steps[1].output_padding == (0, 1)
    assert high.lifted() is high


@pytest.mark.parametrize(
    ("notation", "message"),
    [
        ("conv 3x3 4 same reflect", "other libraries take zeros"),
        ("maxpool 2x2 stride 2 ceil", "libraries differ there"),
        ("relu | upsample 2", "no convolution or pooling"),
        ("identity", "no convolution or pooling"),
    ],
)
def test_what_other_libraries_cannot_be_asked_is_refused(notation: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case_of(notation, (1, 4, 9, 9))


# -- the referee -------------------------------------------------------------------------------------------------------

TRICKY = [
    ("conv 3x2 6 stride 2x1 padding 0:2x1:0 dilation 1x3 groups 2", (2, 4, 8, 9)),
    ("transposed 4x3 6 stride 3x2 padding 1:0x1 output_padding 1x0 groups 2 relu", (2, 4, 3, 5)),
    ("transposed 3 4 stride 2 dilation 2", (1, 3, 5)),
    ("depthwise 3x3x2 multiplier 2 padding 1 nobias", (1, 3, 4, 5, 3)),
    ("maxpool 3x2 stride 2x1 padding 1x0", (2, 3, 7, 5)),
    ("avgpool 3x3 stride 2 padding 1", (1, 2, 7, 5)),
]


BRANCHED = [
    ("add(conv 3x3 4 same nobias | batchnorm | relu | conv 3x3 4 same | batchnorm, identity) | relu", (2, 4, 6, 5)),
    (
        "concat(identity, conv 3x3 3 same gelu, maxpool 3x3 stride 1 padding 1 | pointwise 2) | batchnorm silu",
        (1, 4, 5, 7),
    ),
    ("conv 3x3 4 same | concat(relu, identity) | pointwise 3 | tanh | sigmoid", (2, 3, 5, 5)),
    ("add(pointwise 4, depthwise 3x3 same, identity) | upsample 2x3 | conv 2x2 3", (1, 4, 4, 5)),
    ("concat(globalpool, globalpool max) | pointwise 5 | upsample 4", (2, 3, 4, 6)),
    ("conv 3 6 same relu | add(conv 3 6 same, identity) | upsample 2 | globalpool", (2, 3, 9)),
    ("add(conv 1x3x3 4 same | batchnorm, identity) | hardswish | globalpool max | upsample 2", (1, 4, 3, 4, 5)),
]


@pytest.mark.parametrize(("notation", "shape"), BRANCHED)
def test_referee_and_definition_agree_with_the_model_on_networks(notation: str, shape: tuple[int, ...]) -> None:
    case = case_of(notation, shape)
    x, weights = sample_arrays(case)
    named = {name: array.astype(np.float64) for name, array in named_arrays(case, weights).items()}
    expected = network(notation).bind(named)(x.astype(np.float64))
    right = reference(case, x, weights)
    np.testing.assert_allclose(right, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(by_definition(case, x, weights), right, rtol=1e-12, atol=1e-12)
    assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case


def test_batch_norms_are_folded_and_branches_read_what_they_share() -> None:
    case = case_of(BRANCHED[0][0], BRANCHED[0][1])
    assert [(step.op, step.inputs, step.bias, step.activation) for step in case.steps] == [
        ("conv", (-1,), True, "relu"),
        ("conv", (0,), True, None),
        ("add", (1, -1), False, "relu"),
    ]
    shared = case_of(BRANCHED[2][0], BRANCHED[2][1])
    assert [(step.op, step.inputs) for step in shared.steps[:3]] == [
        ("conv", (-1,)),
        ("activate", (0,)),
        ("concat", (1, 0)),
    ]
    assert shared.last_uses()[:3] == [(-1,), (), (0, 1)]


@pytest.mark.parametrize(("notation", "shape"), TRICKY)
def test_referee_and_definition_agree_with_the_loop_oracle(notation: str, shape: tuple[int, ...]) -> None:
    case = case_of(notation, shape)
    x, weights = sample_arrays(case)
    (step,) = case.steps
    ((weight, bias),) = weights
    window = {"stride": step.stride, "padding": step.padding}
    wide = x.astype(np.float64)
    if step.is_pool:
        pool = oracle.max_pool if step.op == "max_pool" else oracle.avg_pool
        expected = pool(wide, step.kernel, **window).y
    else:
        extra = {"output_padding": step.output_padding} if step.op == "conv_transpose" else {}
        run = oracle.conv_transpose if step.op == "conv_transpose" else oracle.conv
        expected = run(
            wide,
            weight.astype(np.float64),
            None if bias is None else bias.astype(np.float64),
            **window,
            **extra,
            dilation=step.dilation,
            groups=step.groups,
            activation=step.activation,
        ).y
    np.testing.assert_allclose(reference(case, x, weights), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(by_definition(case, x, weights), expected, rtol=1e-12, atol=1e-12)


def test_the_referee_knows_every_activation() -> None:
    assert set(ACTIVATIONS) == set(ACTIVATION_NAMES)
    x = np.linspace(-8, 8, 33)
    for name, function in ACTIVATIONS.items():
        np.testing.assert_allclose(function(x), oracle.activate(x, name), rtol=1e-12, atol=1e-12, err_msg=name)


def test_check_lets_rounding_pass_and_nothing_else() -> None:
    case = case_of("conv 3x3 8 padding 1 nobias", (1, 16, 12, 12))
    x, weights = sample_arrays(case)
    right = reference(case, x, weights)
    assert 0 < check(right.astype(np.float32), right) < 1e-6
    weight = weights[0][0]
    assert weight is not None
    half = (weight.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # bfloat16's eight bits
    for wrong in (half, np.flip(weight, axis=(2, 3)), weight.swapaxes(2, 3)):
        with pytest.raises(ValueError, match="wrong answer: differs"):
            check(reference(case, x, [(np.ascontiguousarray(wrong), None)]), right)


def test_check_refuses_other_shapes_and_values_that_are_not_finite() -> None:
    right = np.ones((1, 2, 3))
    with pytest.raises(ValueError, match=r"shape \(1, 3, 2\), the reference has \(1, 2, 3\)"):
        relative_error(np.ones((1, 3, 2)), right)
    with pytest.raises(ValueError, match="not finite"):
        relative_error(np.full((1, 2, 3), np.nan), right)


# -- processes ---------------------------------------------------------------------------------------------------------

SMALL = case_of("conv 3x3 8 padding 1 nobias", (1, 4, 9, 10), "small")


def test_polyconv_is_checked_and_timed_in_both_layouts() -> None:
    with Session(reference) as one:
        results = one.measure(SMALL, ["polyconv", "polyconv_channels_last"], BRIEF)
    for result in results.values():
        assert result.problem is None
        assert result.timing is not None
        assert result.timing.low > 0
        assert result.error is not None
        assert result.error < 1e-5


def test_a_wrong_answer_is_reported_and_not_timed() -> None:
    def shifted(case: Case, x: object, weights: object) -> np.ndarray:
        return np.roll(reference(case, x, weights), 1, axis=-1)  # type: ignore[arg-type]

    with Session(shifted) as one:
        (result,) = one.measure(SMALL, ["polyconv"], BRIEF).values()
    assert result.timing is None
    assert result.problem is not None
    assert result.problem.startswith("wrong answer")
    assert "low_s" not in result.to_json()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the process state from /proc")
def test_a_process_stands_still_until_it_is_asked() -> None:
    worker = Worker("polyconv")
    try:
        assert worker.ask("drop") == {}
        state = Path(f"/proc/{worker._process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        assert state == "T"
    finally:
        worker.close()


def test_what_a_library_raises_is_reported_and_it_goes_on() -> None:
    worker = Worker("polyconv")
    try:
        with pytest.raises(WorkerError, match="KeyError: 'nothing'"):
            worker.ask("time", variant="nothing", options={})
        assert worker.ask("drop") == {}
    finally:
        worker.close()
    with pytest.raises(WorkerError, match="has ended"):
        worker.ask("drop")


def test_an_answer_that_does_not_come_ends_the_process(tmp_path: Path) -> None:
    mute = tmp_path / "mute"
    mute.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    mute.chmod(mute.stat().st_mode | stat.S_IXUSR)
    worker = Worker("jax", str(mute))
    with pytest.raises(WorkerError, match=r"gave no answer to 'drop' in 0\.3 s"):
        worker.ask("drop", patience=0.3)
    assert not worker.alive


@pytest.mark.parametrize("interpreter", ["missing", "ends"])
def test_a_library_whose_process_fails_is_a_row_without_a_time(tmp_path: Path, interpreter: str) -> None:
    if interpreter == "ends":
        (tmp_path / "ends").write_text(f"#!{sys.executable}\nraise SystemExit(3)\n")
        (tmp_path / "ends").chmod(0o755)
    with Session(reference, {"jax": str(tmp_path / interpreter)}) as one:
        results = one.measure(SMALL, ["jax", "polyconv"], BRIEF)
    assert results["jax"].timing is None
    assert "jax" in (results["jax"].problem or "")
    assert results["polyconv"].timing is not None


def test_a_library_that_refuses_a_case_is_left_out() -> None:
    with Session(reference) as one:
        (result,) = one.measure(case_of("conv 3x3x3 4", (1, 4, 5, 5, 5)), ["litert"], BRIEF).values()
    assert result.problem == "left out: XNNPACK has no 3-D operators"


def test_disturbed_rounds_are_timed_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(session, "disturbed", lambda *args: calls.append(args) or True)
    monkeypatch.setattr(session, "_PAUSE", 0.0)
    with Session(reference) as one:
        (result,) = one.measure(SMALL, ["polyconv"], Effort(rounds=2, budget_s=0.001, attempts=3)).values()
    assert result.disturbed == 2
    assert len(calls) == 2 * 3


def test_serving_answers_every_line() -> None:
    answers = io.StringIO()
    serve("polyconv", io.StringIO('{"do": "drop"}\n{"do": "jump"}\n'), answers)
    first, second = map(json.loads, answers.getvalue().splitlines())
    assert first == {}
    assert second["error"] == "KeyError: 'jump'"


def test_variants_are_known_by_name() -> None:
    assert library_of("torch_channels_last") == "torch"
    with pytest.raises(ValueError, match="no library has a variant 'caffe'"):
        library_of("caffe")


@pytest.mark.parametrize("library", sorted(set(available()) - {"polyconv", "litert"}))
@pytest.mark.parametrize(("notation", "shape"), TRICKY + BRANCHED)
def test_installed_libraries_give_the_same_answer(
    library: str, notation: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    case = case_of(notation, shape)
    x, weights = sample_arrays(case)
    if LIBRARIES[library].refuses(case):
        pytest.skip("the library refuses it")
    for variant in LIBRARIES[library].variants:
        check(LIBRARIES[library].prepare(case, x, weights, variant, tmp_path).fetch(), reference(case, x, weights))


def test_race_ranks_what_is_installed() -> None:
    found = race("conv 3x3 8 same relu | maxpool 2x2", (1, 4, 8, 8), libraries=["polyconv"], effort=BRIEF)
    assert {row[0] for row in found.rows()} == {"polyconv", "polyconv channels_last"}
    assert found.ratio("channels_last") is None
    times = [result.timing.low for result in found.results.values() if result.timing]
    assert times == sorted(times)
    with pytest.raises(ValueError, match="library 'caffe' cannot be timed here; installed are polyconv"):
        race("conv 3x3 8", (1, 4, 8, 8), libraries=["caffe"])


# -- results and tables ------------------------------------------------------------------------------------------------


def _timed(seconds: float) -> Result:
    return Result("", Timing((seconds,)), 1e-7)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Two layers: polyconv twice as fast as the fastest peer, and half as fast; one wrong, one refused."""
    made = Results(tmp_path / "out" / "bench.json")
    made.describe(MACHINE)
    fast = {"polyconv": 2e-6, "polyconv_channels_last": 1e-6, "torch": 6e-6, "torch_channels_last": 2e-6, "jax": 8e-6}
    slow = {"polyconv": 4e-6, "polyconv_channels_last": 4e-6, "torch": 8e-6, "torch_channels_last": 2e-6}
    first, second = case_of("conv 3x3 8", (1, 4, 9, 9), "standard/a"), case_of("maxpool 2x2", (1, 4, 9, 9), "pool/b")
    made.add(first, {variant: _timed(seconds) for variant, seconds in fast.items()})
    made.add(first, {"openvino": Result("openvino", problem="wrong answer: differs\nby much")})
    made.add(second, {variant: _timed(seconds) for variant, seconds in slow.items()})
    made.add(second, {"litert": Result("litert", problem="left out: why")})
    made.write()
    return Results.read(made.path)


def test_results_are_kept_and_added_to(results: Results) -> None:
    assert list(results.rows) == ["standard/a", "pool/b"]
    assert results.missing(case_of("conv 3x3 8", (1, 4, 9, 9), "standard/a"), ["torch", "litert"]) == ["litert"]
    assert results.missing(SMALL, ["torch"]) == ["torch"]
    assert results.ceilings == MACHINE
    assert "processor" in results.machine


def test_the_highest_ceiling_is_kept(results: Results) -> None:
    results.describe(Ceilings(2, 100e9, {1_000: 300e9}))
    assert (results.ceilings.flops_s, results.ceilings.copies[1_000]) == (200e9, 300e9)
    results.describe(Ceilings(1, 100e9, {1_000: 50e9}))
    assert results.ceilings == Ceilings(1, 100e9, {1_000: 50e9})


def test_each_layout_is_judged_against_its_own_peers(results: Results) -> None:
    last, first = (tables.rows_of(results, layout) for layout in ("channels_last", "channels_first"))
    assert [(row.fastest, row.ratio) for row in last] == [
        ("torch_channels_last", pytest.approx(2.0)),
        ("torch_channels_last", pytest.approx(0.5)),
    ]
    assert [(row.fastest, row.ratio) for row in first] == [
        ("torch", pytest.approx(3.0)),
        ("torch", pytest.approx(2.0)),
    ]


def test_means_by_kind_and_in_all(results: Results) -> None:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in _means(results).splitlines()]
    assert lines[2:] == [
        ["standard", "1", "2.00", "2.00", "standard/a", "0"],
        ["pool", "1", "0.50", "0.50", "pool/b", "1"],
        ["all", "2", "1.00", "0.50", "pool/b", "1"],
    ]


def _means(results: Results) -> str:
    return tables.means_table(tables.rows_of(results, "channels_last"))


def test_a_row_shows_time_ratio_rate_and_share(results: Results) -> None:
    row = tables.rows_of(results, "channels_last")[0]
    head, _, line = tables.layers_table([row], MACHINE).splitlines()
    shown = dict(zip(*([cell.strip() for cell in text.split("|")[1:-1]] for text in (head, line)), strict=True))
    assert (shown["polyconv"], shown["PyTorch c.l."], shown["PyTorch"]) == ("1.0", "**2.0**", "6.0")
    assert (shown["ratio"], shown["GFLOP/s"]) == ("2.00", f"{2 * row.work.macs / 1e3:.0f}")
    assert shown["of limit"] == f"{row.work.limit_s(MACHINE) / 1e-6:.0%}"


def test_the_limit_is_that_of_the_same_rounds(results: Results) -> None:
    row = tables.rows_of(results, "channels_last")[0]
    results.rows[row.name]["results"]["polyconv_channels_last"]["peak_flops_s"] = MACHINE.flops_s / 4
    slower = tables.rows_of(results, "channels_last")[0]
    assert slower.limit_s(MACHINE) == 2 * row.work.macs_on_data / (MACHINE.flops_s / 4) > row.limit_s(MACHINE)


def test_a_multiply_add_loop_runs_in_the_rounds_of_polyconv_alone() -> None:
    case = case_of("conv 3x3 4 same", (1, 4, 8, 8))
    with session.Session(by_definition) as running:
        found = running.measure(case, ["polyconv"], session.Effort(1, 0.01, 5))["polyconv"]
    assert found.peak_flops_s is not None
    assert 1e8 < found.peak_flops_s == found.to_json()["peak_flops_s"]
    assert all(rate > 1e8 for rate in ceilings.flops_rates(0.001, turns=1000))


def test_the_summary_names_what_was_wrong_and_what_was_left_out(results: Results) -> None:
    text = report.summary(results)
    assert "## Wrong or failed\n\n- standard/a, openvino: wrong answer: differs\n" in text
    assert "## Left out\n\n- pool/b, litert: left out: why" in text
    assert "by much" not in text


def test_the_summary_says_what_was_disturbed(results: Results) -> None:
    assert "Disturbed" not in report.summary(results)
    results.add(SMALL, {name: Result(name, Timing((1e-6,)), 1e-7, disturbed=2) for name in ("polyconv", "torch")})
    assert "2 timings had a round" in report.summary(results)
    assert "\n- small: polyconv, torch\n" in report.summary(results)


def test_the_page_is_written_from_the_results(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PLACES", {"suite": "The suite"})
    monkeypatch.setattr(report.chart, "draw", lambda rows, machine, layout, path: path.write_text("<svg/>"))
    name = suite.layers()[0].name
    results.rows = {name: results.rows["standard/a"]}
    page = report.publish(results, tmp_path / "docs")
    text = page.read_text()
    assert "## The suite: channels_last" in text
    assert name in text
    assert "differs by at most 2e-4" in text
    assert session.TOLERANCE == 2e-4
    derived = json.loads((tmp_path / "docs" / "benchmarks.json").read_text())
    assert derived["suite_channels_last"][0]["ratio"] == pytest.approx(2.0)


def test_options_choose_variants() -> None:
    assert command.chosen_variants("polyconv,torch", "channels_last") == [
        "polyconv_channels_last",
        "torch",
        "torch_channels_last",
    ]
    assert command.chosen_variants("polyconv,torch", "channels_first") == ["polyconv", "torch"]
    with pytest.raises(ValueError, match="library 'caffe' is not known; there are polyconv, torch"):
        command.chosen_variants("caffe", "both")


# -- what a call costs besides its arithmetic --------------------------------------------------------------------------


def test_probes_run_in_a_process_of_their_own(tmp_path: Path) -> None:
    small = {"notation": "conv 3x3 8 same nobias", "shape": (1, 4, 8, 8), "layout": "channels_last"}
    first = extras.probe("first_call", small, str(tmp_path))
    assert 0 < first["second_s"] < first["first_s"]
    sizes = [(8, 8), (9, 5), (3, 11)]
    libraries = ["polyconv", *(["torch"] if "torch" in available() else [])]
    found = []
    for library, (gap, seconds) in itertools.product(libraries, (("apart", 0.002), ("in_a_row", 0.0))):
        job = {**small, "start": (1, 4), "sizes": sizes, "library": library, "gap_s": seconds}
        rows = extras.probe("new_sizes", job)
        assert [tuple(row["size"]) for row in rows] == sizes[1:]
        assert all(row["first_s"] > 0 and row["later_s"] > 0 for row in rows)
        assert all(row["extra_s"] == row["first_s"] - row["later_s"] for row in rows)
        found.append({**job, "gap": gap, "rows": rows})
    table = report._new_sizes(found)
    assert "polyconv, channels_last, one size after another" in table
    assert "2 sizes of 9 to 71" in table
    assert len(set(extras.new_sizes(50))) == 51
    memory = extras.probe("memory", {"layers": [(small["notation"], small["shape"])], "calls": 20})
    assert [mark["calls"] for mark in memory["marks"]] == [2, 10, 20]
    assert memory["growth"] >= 0
    with pytest.raises(RuntimeError, match="does not divide in_channels = 4"):
        extras.probe("tiny", {**small, "notation": "conv 3x3 8 same groups 8"})
