"""Stages without a window in machine code: as NumPy, no byte beyond the arrays, nothing lost that is read later."""

import itertools

import numpy as np
import pytest

import polyconv as pc
from cpu.forced import TARGETS, guarded
from polyconv.run.between import Expression, InNumPy, joining, pooling, repeating, step_for
from polyconv.run.cpu import buffers, copying, elementwise, global_pooling, machine, pool
from polyconv.run.cpu.emit import Value

F32 = np.dtype("float32")

SHAPES = [(1, 1, 1), (2, 3, 5), (1, 64, 9, 7), (3, 19, 31), (1, 5, 40, 41), (2, 130, 2, 3, 4), (0, 4, 5), (2, 3, 0)]
EXPRESSIONS = [
    Expression(count, scaled, activation)
    for count, scaled, activation in itertools.product((1, 2, 3), (False, True), (None, "relu", "gelu"))
    if (count, scaled, activation) != (1, False, None)
]


def made(expression, shape, dtype, layout, target, over=None):
    """The compiled expression for a target, and NumPy's; with scales of whole numbers."""
    channels = shape[-1] if layout == "channels_last" else shape[1]
    beside = [np.arange(channels).astype(dtype) % 5 + n for n in (1, -3)] if expression.scaled else []
    along = (-1,) if layout == "channels_last" else (-1, *(1,) * (len(shape) - 2))
    code = machine.load(elementwise.emit(expression, dtype, layout, target), "run0", target)
    rows = elementwise._rows(expression, shape, layout)
    plain = InNumPy(lambda *x: expression.evaluate(list(x), *[one.reshape(along) for one in beside]))
    return elementwise.made(code, expression.count, shape, np.dtype(dtype), rows, plain, beside, over), plain


def whole_numbers(shape, dtype, seed):
    return np.random.default_rng(seed).integers(-9, 9, shape).astype(dtype)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_is_what_numpy_gives(expression, layout, dtype, target):
    for shape in SHAPES:
        run, plain = made(expression, shape, dtype, layout, TARGETS[target]())
        x = [whole_numbers(shape, dtype, n) for n in range(expression.count)]
        before = [one.copy() for one in x]
        y = run(*x)
        if expression.activation == "gelu":
            np.testing.assert_allclose(y, plain(*x), rtol=1e-5, atol=1e-6)
        else:
            assert np.array_equal(y, plain(*x)), shape
        assert y.dtype == dtype
        assert all(np.array_equal(one, old) for one, old in zip(x, before, strict=True))


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("over", [0, 1])
def test_touches_nothing_beyond_its_arrays(over, target, at_end):
    for shape in SHAPES:
        run, plain = made(Expression(2, activation="relu"), shape, "float32", "channels_first", TARGETS[target](), over)
        x = [guarded(whole_numbers(shape, "float32", n), at_end) for n in range(2)]
        expected = plain(*x)
        y = run(*x)
        assert y is x[over]
        assert np.array_equal(y, expected)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_threads_give_the_same_bits(layout, monkeypatch):
    x = [np.random.default_rng(n).standard_normal((3, 37, 41, 29), dtype=np.float32) for n in range(2)]
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(pool, "threads", lambda threads=threads: threads)
        run, _ = made(Expression(2, True, "silu"), x[0].shape, "float32", layout, TARGETS["host"]())
        assert run.threads == threads
        found.append(run(*x))
    assert all(np.array_equal(one, found[0]) for one in found)


def test_other_arrays_go_to_numpy():
    run, plain = made(Expression(2), (4, 3, 5), "float32", "channels_first", TARGETS["host"](), over=0)
    x, y = (whole_numbers((4, 3, 10), "float32", n)[..., ::2] for n in range(2))
    old = x.copy()
    assert np.array_equal(run(x, y), plain(old, y))
    assert np.array_equal(x, old)
    assert step_for(Expression(2), (4, 3), np.dtype("int64"), "channels_first")(np.ones(3, int), 1).dtype == np.int64


def test_wrong_code_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    for name in ("_recipes", "_loaded"):
        monkeypatch.setattr(machine, name, {})
    real = elementwise.emit
    monkeypatch.setattr(elementwise, "emit", lambda e, *rest: real(Expression(e.count, e.scaled, "tanh"), *rest))
    elementwise._function.cache_clear()
    with pytest.warns(RuntimeWarning, match="sum of 2 then relu runs in NumPy: .*wrong results"):
        step = step_for(Expression(2, activation="relu"), (1, 3, 4), np.dtype("float32"), "channels_first")
    assert str(step) == "one NumPy expression"
    elementwise._function.cache_clear()


def half(real):
    """A copy that stops half-way: of its arguments the last value is the length."""

    def wrong(k, *given):
        last = max(place for place, one in enumerate(given) if isinstance(one, Value))
        real(k, *given[:last], given[last] // 2, *given[last + 1 :])

    return wrong


def other_kind(real):
    return lambda kind, *rest: real("max" if kind == "avg" else "avg", *rest)


WRONG = [
    (copying, "_copy", half, "concat", lambda: joining([(1, 3, 4), (1, 2, 4)], F32, "channels_first")),
    (copying, "_copy", half, "upsample", lambda: repeating((1, 4, 5, 3), (2, 1), F32, "channels_last")),
    (copying, "_repeat", half, "upsample", lambda: repeating((1, 3, 4, 5), (1, 2), F32, "channels_first")),
    (global_pooling, "emit", other_kind, "global pooling", lambda: pooling((1, 3, 4), "avg", F32, "channels_first")),
    (global_pooling, "emit", other_kind, "global pooling", lambda: pooling((1, 4, 3), "max", F32, "channels_last")),
]


@pytest.mark.parametrize(("module", "name", "wrong", "what", "make"), WRONG)
def test_wrong_copies_and_pools_are_not_used(module, name, wrong, what, make, monkeypatch, tmp_path):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    for table in ("_recipes", "_loaded"):
        monkeypatch.setattr(machine, table, {})
    functions = (copying._concat_function, copying._repeat_function, global_pooling._function)
    for function in functions:
        function.cache_clear()
    assert "compiled" in str(make())
    for function in functions:
        function.cache_clear()
    monkeypatch.setattr(module, name, wrong(getattr(module, name)))
    for table in ("_recipes", "_loaded"):
        monkeypatch.setattr(machine, table, {})
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path / "other"))
    with pytest.warns(RuntimeWarning, match=f"{what} runs in NumPy: .*{what} gives wrong results"):
        step = make()
    assert str(step) == "one NumPy expression"
    for function in functions:
        function.cache_clear()


NETWORKS = [
    "add(identity, identity) | relu",
    "add(identity, conv 3x3 4 same) | relu | conv 1x1 4",
    "conv 3x3 4 same | add(identity, relu) | add(identity, conv 1x1 4) | relu",
    "conv 3x3 4 same | add(identity, identity, conv 1x1 4) | batchnorm | relu",
    "relu | add(batchnorm, batchnorm | relu) | maxpool 2x2",
    "conv 1x1 4 | concat(relu, add(identity, gelu), batchnorm | silu)",
    "upsample 2 | add(identity, conv 3x3 4 same) | sigmoid",
    "add(add(conv 1x1 4, conv 1x1 4) | relu, identity) | add(identity, relu)",
    "conv 1x1 4 | add(maxpool 3x3 stride 1 padding 1, avgpool 3x3 stride 1 padding 1) | hardswish | relu",
]


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("text", NETWORKS)
def test_networks_give_what_the_reference_gives_and_keep_their_input(text, layout, monkeypatch):
    net = pc.network(text)
    weights = net.weights(4, ndim=2)
    x = np.random.default_rng(1).standard_normal((2, 4, 10, 12), dtype=np.float32)
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "channels_last" else x
    old = x.copy()
    model = net.bind(weights, layout=layout)
    first, second = model(x), model(x)
    assert np.array_equal(x, old)
    assert np.array_equal(first, second)
    assert "one pass over memory" in model.explain(x.shape)
    monkeypatch.setenv("POLYCONV_ENGINE", "numpy")
    np.testing.assert_allclose(first, net.bind(weights, layout=layout)(x), rtol=2e-5, atol=2e-5)


def test_a_result_is_written_over_what_nobody_reads_again():
    net = pc.network("conv 3x3 4 same | add(identity, conv 1x1 4, conv 1x1 4 | relu) | relu | maxpool 2x2")
    said = net.bind(net.weights(4)).explain((1, 4, 8, 8))
    assert "add: one pass over memory, written over an input" in said
    assert "with relu" in said
    alone = pc.network("add(identity, identity) | relu")
    assert "written over" not in alone.bind({}).explain((1, 4, 8, 8))


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_copies_are_what_numpy_gives(layout, target, dtype, at_end, monkeypatch):
    monkeypatch.setattr(copying, "host", TARGETS[target])
    monkeypatch.setattr(buffers, "allocator", lambda s, d: lambda: guarded(np.full(s, 7, d), at_end))
    for function in (copying._concat_function, copying._repeat_function):
        function.cache_clear()
    for shape in SHAPES:
        axis = -1 if layout == "channels_last" else 1
        x = [guarded(whole_numbers(shape, dtype, n), at_end) for n in range(3)]
        x[1] = guarded(np.concatenate([x[1], x[1]], axis), at_end)
        step = joining([one.shape for one in x], np.dtype(dtype), layout)
        assert "compiled" in str(step)
        assert np.array_equal(step(*x), np.concatenate(x, axis))
        places = range(1, len(shape) - 1) if layout == "channels_last" else range(2, len(shape))
        for scales in itertools.product((1, 2, 3), repeat=len(places)):
            step = repeating(shape, scales, np.dtype(dtype), layout)
            expected = x[0]
            for place, scale in zip(places, scales, strict=True):
                expected = expected.repeat(scale, place)
            assert np.array_equal(step(x[0]), expected)
    for function in (copying._concat_function, copying._repeat_function):
        function.cache_clear()


def test_large_copies_are_shared_out(monkeypatch):
    monkeypatch.setattr(pool, "threads", lambda: 3)
    for layout, axis in (("channels_first", 1), ("channels_last", -1)):
        x = [np.random.default_rng(n).standard_normal((2, 40 + n, 61, 53), dtype=np.float32) for n in range(2)]
        x = [np.ascontiguousarray(np.moveaxis(one, 1, axis)) for one in x]
        step = joining([one.shape for one in x], x[0].dtype, layout)
        assert step.threads == 3
        assert np.array_equal(step(*x), np.concatenate(x, axis))
        assert np.array_equal(step(*(one[::-1] for one in x)), np.concatenate([one[::-1] for one in x], axis))


def test_code_that_cannot_be_made_is_numpy(monkeypatch):
    def fail(*_):
        raise RuntimeError("no code today")

    monkeypatch.setattr(copying, "_concat_function", fail)
    with pytest.warns(RuntimeWarning, match="concat runs in NumPy: no code today"):
        step = joining([(1, 2, 3), (1, 1, 3)], np.dtype("float32"), "channels_first")
    assert step(np.ones((1, 2, 3), np.float32), np.zeros((1, 1, 3), np.float32)).shape == (1, 3, 3)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_global_pooling_is_what_numpy_gives(layout, target, dtype, at_end, monkeypatch):
    monkeypatch.setattr(global_pooling, "host", TARGETS[target])
    monkeypatch.setattr(buffers, "allocator", lambda s, d: lambda: guarded(np.full(s, 7, d), at_end))
    global_pooling._function.cache_clear()
    for shape in [(1, 20, 9, 7), (2, 3, 5), (3, 19, 31), (1, 5, 40, 41), (2, 130, 2, 3, 4), (1, 1, 1), (1, 33, 300)]:
        x = guarded(whole_numbers(shape, dtype, 3) - 20, at_end)
        axes = tuple(range(1, len(shape) - 1) if layout == "channels_last" else range(2, len(shape)))
        largest, mean = (pooling(shape, kind, np.dtype(dtype), layout) for kind in ("max", "avg"))
        assert "compiled" in str(mean)
        assert np.array_equal(largest(x), x.max(axes, keepdims=True))
        np.testing.assert_allclose(mean(x), x.mean(axes, dtype=np.float64, keepdims=True), rtol=np.finfo(dtype).eps)
        x[(-1,) * len(shape)] = np.nan
        assert np.isnan(largest(x)).sum() == 1 == np.isnan(mean(x)).sum()
    global_pooling._function.cache_clear()


def test_the_mean_of_many_stays_accurate():
    x = np.random.default_rng(0).uniform(1, 2, (1, 3, 700, 900)).astype(np.float32)
    for layout, axis in (("channels_first", 1), ("channels_last", -1)):
        turned = np.ascontiguousarray(np.moveaxis(x, 1, axis))
        y = pooling(turned.shape, "avg", x.dtype, layout)(turned)
        np.testing.assert_allclose(y.ravel(), x.mean((2, 3), dtype=np.float64)[0], rtol=3e-6)
