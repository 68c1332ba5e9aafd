"""Compiling, linking, refusing; for the targets at hand and those that are not."""

import random
import re

import numpy as np
import pytest

from cpu.kernels import ADD_ONE, AVX512_ONLY
from cpu.process import run
from polyconv.run.cpu import entry_code, linker, machine, pool, pool_code
from polyconv.run.cpu.target import avx2, cache_sizes, host, native, neon

WHAT = "conv 3x3 8->8"
X86 = native().arch == "x86_64"


def run_add_one(address: int) -> None:
    x, y = np.arange(50, dtype=np.float32), np.zeros(50, np.float32)
    pool.Call([pool.Phase(address, 50)], [x, y])()
    assert np.array_equal(y, x + 1)


def test_loaded_once():
    first = machine.load(ADD_ONE, "add_one", host())
    assert machine.load(ADD_ONE, "add_one", host()) is first
    run_add_one(first.address)


def test_a_recipe_is_written_out_only_when_its_object_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "_loaded", {})
    monkeypatch.setattr(machine, "_recipes", {})
    written = []

    def emit() -> str:
        written.append(1)
        return ADD_ONE

    def address(recipe: str) -> int:
        return machine.load_recipe(recipe, emit, ["add_one"], host(), WHAT)["add_one"].address

    for _ in range(3):
        run_add_one(address("recipe 1"))
        assert address("recipe 1") == address("recipe 1")
        machine._loaded.clear()
        machine._recipes.clear()
    assert len(written) == 1
    assert address("recipe 2") == address("recipe 1"), "the same IR, the same object"
    assert len(written) == 2
    objects = [path for path in (tmp_path / "code").iterdir() if path.stat().st_size > 200]
    assert len(objects) == 1
    objects[0].unlink()
    machine._loaded.clear()
    machine._recipes.clear()
    run_add_one(address("recipe 2"))
    assert len(written) == 3


def test_orc_links_what_we_link():
    code = machine.compile(ADD_ONE, host())
    with machine.LOCK:
        run_add_one(machine.link_with_orc(code, ("add_one",), host(), WHAT)["add_one"])


@pytest.mark.skipif(not X86, reason="for x86-64")
def test_constants_tables_and_the_c_library_are_linked():
    """Every kind of reference an object here may have: constants, variables, jump tables, functions of the process."""
    ir = """
    @table = internal constant [4 x i64] [i64 10, i64 20, i64 30, i64 40]
    @pointers = internal constant [2 x ptr] [ptr @table, ptr @count]
    @count = internal global i64 5
    @seen = dso_local global i64 0
    declare ptr @memcpy(ptr, ptr, i64)
    declare i64 @labs(i64)
    define void @mixed(ptr %args, i64 %first, i64 %last, ptr %scratch) {
      %r = call ptr @memcpy(ptr %args, ptr @table, i64 32)
      %n = load i64, ptr @count
      %m = add i64 %n, %first
      store i64 %m, ptr @count
      store i64 %m, ptr @seen
      %p4 = getelementptr i64, ptr %args, i64 4
      %l = call i64 @labs(i64 -77)
      store i64 %l, ptr %p4
      %pp = getelementptr [2 x ptr], ptr @pointers, i64 0, i64 %last
      %q = load ptr, ptr %pp
      %v = load i64, ptr %q
      %p5 = getelementptr i64, ptr %args, i64 5
      store i64 %v, ptr %p5
      %f = sitofp i64 %n to double
      %g = fmul double %f, 0x3FB999999999999A
      %p6 = getelementptr i64, ptr %args, i64 6
      store double %g, ptr %p6
      ret void
    }
    """
    words = pool.run(machine.load(ir, "mixed", host(), WHAT), [0] * 7, 1)
    assert words[:6] == [10, 20, 30, 40, 77, 5]
    assert np.int64(words[6]).view(np.float64) == 0.5


@pytest.mark.skipif(not X86, reason="for x86-64")
def test_a_damaged_object_never_harms_the_linker():
    """The checksum keeps such objects away; even so the linker checks every bound."""
    good = machine.compile(pool_code.pool_ir(native()), native())
    random.seed(3)
    refused = 0
    for length in range(0, len(good), 97):
        with pytest.raises(linker.Unsupported):
            linker.place(good[:length], ("polyconv_call",))
    for _ in range(1500):
        bad = bytearray(good)
        for _ in range(random.randint(1, 3)):
            bad[random.randrange(len(bad))] = random.randrange(256)
        try:
            linker.place(bytes(bad), ("polyconv_call",))
        except linker.Unsupported:
            refused += 1
    assert refused > 100
    with pytest.raises(linker.Unsupported, match="no symbol nothing"):
        linker.place(good, ("nothing",))


@pytest.mark.parametrize(
    ("ir", "message"),
    [
        ("define void @f( {", "does not accept the generated code"),
        ("define void @f() {\n  %a = add i64 %b, 1\n  %b = add i64 %a, 1\n  ret void\n}", "is not valid"),
    ],
)
def test_a_failure_names_the_layer(ir, message):
    with pytest.raises(RuntimeError, match=f"{WHAT}: .*{message}"):
        machine.load(ir, "f", host(), WHAT)
    run_add_one(machine.load(ADD_ONE, "add_one", host()).address)


def test_a_missing_function_names_the_layer():
    with pytest.raises(RuntimeError, match=f"{WHAT}: the machine code could not be linked"):
        machine.load(ADD_ONE, "add_two", host(), WHAT)


@pytest.mark.skipif(not X86, reason="for x86-64")
def test_what_the_target_lacks_is_refused_before_llvm_aborts():
    with pytest.raises(RuntimeError, match=rf"{WHAT}: .*avx512.max.ps.512.*\+avx512f"):
        machine.compile(AVX512_ONLY, avx2(), WHAT)
    with pytest.raises(RuntimeError, match=f"{WHAT}: .*aarch64 does not have"):
        machine.compile(AVX512_ONLY, neon(), WHAT)


def test_avx2_code_has_no_wide_registers():
    ir = ADD_ONE.replace("load float", "load <16 x float>").replace("fadd float %v, 1.0", "fadd <16 x float> %v, %v")
    ir = ir.replace("store float", "store <16 x float>")
    narrow = machine.assembly(ir, avx2())
    assert avx2().vector_bytes == 32 or not native().has_mask
    assert "zmm" not in narrow
    assert not re.search(r"[xy]mm(1[6-9]|[23]\d)", narrow)
    if native().has_mask:
        assert "zmm" in machine.assembly(ir, native())


def test_code_for_arm_is_emitted_and_assembled():
    assert re.search(r"fadd\s+s\d", machine.assembly(ADD_ONE, neon()))
    for parking in ("futex", "pthread"):
        code = machine.compile(f"{pool_code.pool_ir(neon(), parking=parking)}\n{entry_code.entry_ir()}", neon())
        assert code[:4] == b"\x7fELF"
        assert int.from_bytes(code[18:20], "little") == 183  # EM_AARCH64
    if X86:
        with pytest.raises(linker.Unsupported, match="x86-64"):
            linker.place(code, ("polyconv_call",))


def test_every_lowering_step_is_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYCONV_DUMP", str(tmp_path / "steps"))
    machine.load(ADD_ONE.replace("add_one", "shown"), "shown", host())
    names = sorted(path.name for path in (tmp_path / "steps").iterdir())
    assert [re.sub("-[0-9a-f]{8}", "", name) for name in names] == ["shown.ll", "shown.opt.ll", "shown.s"]
    assert "shown:" in (tmp_path / "steps" / names[2]).read_text()


def test_poly_target_chooses(monkeypatch):
    monkeypatch.setenv("POLYCONV_TARGET", "avx2")
    assert host() == avx2()
    monkeypatch.setenv("POLYCONV_TARGET", "vax")
    with pytest.raises(ValueError, match="'vax' is not known; use 'host' or 'avx2'"):
        host()


def test_cache_sizes_are_read_or_guessed(tmp_path):
    for index, (kind, level, size) in enumerate([("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "2M")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(f"{value}\n")
    assert cache_sizes(str(tmp_path)) == (48 << 10, 2 << 20, 8 << 20)
    assert cache_sizes(str(tmp_path / "nowhere")) == (32 << 10, 512 << 10, 8 << 20)
    (tmp_path / "index0" / "size").write_text("lots")
    assert cache_sizes(str(tmp_path))[0] == 32 << 10


def test_this_target_makes_sense():
    target = native()
    assert target.vector_bytes in (16, 32, 64)
    assert target.lanes("float32") == 2 * target.lanes("float64") == target.vector_bytes // 4
    assert 0 < target.l1_bytes < target.l2_bytes
    assert not X86 or "-prefer-256-bit" in target.features


def test_where_machine_code_cannot_be_used_the_reason_is_told():
    ask = "from polyconv.run.cpu import support; print(support.why_not())"
    assert run(ask) == "None\n"
    assert "POLYCONV_ENGINE=numpy" in run(ask, POLYCONV_ENGINE="numpy")
    hide = "import builtins; real = __import__\n"
    hide += "def no(name, *a, **k):\n    if name.startswith('llvmlite'): raise ImportError('none')\n"
    hide += "    return real(name, *a, **k)\nbuiltins.__import__ = no\n"
    assert "llvmlite is not installed" in run(hide + ask)


@pytest.mark.skipif(not X86, reason="Linux on x86-64")
def test_memory_that_may_not_be_executed_is_the_reason_told(tmp_path):
    deny = "import ctypes; denied = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0\n"  # PR_SET_MDWE, Linux 6.3
    ask = "from polyconv.run.cpu import support; print(support.why_not() if denied else 'refused')"
    assert "refused" in run(deny + ask, POLYCONV_CACHE_DIR=str(tmp_path))


def test_a_wrong_engine_is_an_error(monkeypatch):
    from polyconv.run.cpu import support

    monkeypatch.setenv("POLYCONV_ENGINE", "gpu")
    with pytest.raises(ValueError, match="POLYCONV_ENGINE='gpu' is not known"):
        support.why_not()
