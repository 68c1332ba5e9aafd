"""From LLVM IR to a callable address: verify, generate an object, keep it, link it into this process.

Everything that enters LLVM holds ``LOCK``: llvmlite allows one thread at a time, and ``os.fork`` waits for it, so that
a child never inherits a lock whose owner is not there.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from polyconv.run.cpu import cache, linker
from polyconv.run.cpu.target import Target

FORMAT = 2  # part of every key: raise it when objects made by an older polyconv must not be used

LOCK = threading.RLock()

_recipes: dict[str, str] = {}  # recipe -> key of the IR it gives
_loaded: dict[tuple[str, tuple[str, ...]], dict[str, Function]] = {}
_numbers = itertools.count()
_state: dict[str, Any] = {}
_TARGET_INTRINSIC = r"@(llvm\.(x86|aarch64)\.(\w+)[\w.]*)"
_NEEDS = {"avx512": "+avx512f", "avx2": "+avx2", "avx": "+avx", "fma": "+fma"}


class Function(NamedTuple):
    """Machine code in this process, there until the process ends."""

    symbol: str
    address: int


class Unusable(RuntimeError):  # noqa: N818 (a finding about the code, not about the call)
    """An algorithm cannot be used for a layer on this machine."""

    finding = "not usable here"

    def __init__(self, algorithm: str, message: str) -> None:
        super().__init__(message)
        self.algorithm = algorithm


class WrongCode(Unusable):
    """Its machine code gives wrong results (`polyconv.run.trial`)."""

    finding = "wrong results here"


class NoCode(Unusable):
    """Its machine code could not be made."""

    finding = "machine code could not be made"


Trial = Callable[[Callable[[Sequence[str]], dict[str, Function]]], None]


def binding() -> ModuleType:
    """``llvmlite.binding``, imported and initialised at the first use (26 to 40 ms). Call with ``LOCK`` held."""
    if "binding" not in _state:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _state["binding"] = llvm
    return _state["binding"]  # type: ignore[no-any-return]


def key_of(ir: str, target: Target) -> str:
    """The name an object goes by: a hash of everything its bytes depend on."""
    parts = (f"object {FORMAT}", cache.llvm_version(), target.code_key(), ir)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def compile(ir: str, target: Target, what: str = "a kernel") -> bytes:
    """Object code of a module.

    Args:
        ir: LLVM IR as text.
        target: the machine it is for.
        what: named in the message when something fails: the layer this code is for.

    Raises:
        RuntimeError: LLVM does not accept the module, or the target lacks what it needs.
    """
    code: bytes = _emit(ir, target, what, "object")
    return code


def assembly(ir: str, target: Target, what: str = "a kernel") -> str:
    """The same code as readable assembly."""
    text: str = _emit(ir, target, what, "assembly")
    return text


def load(ir: str, symbol: str, target: Target, what: str = "a kernel") -> Function:
    """A function of a module, ready to call: from memory, else from the code cache, else compiled.

    Args:
        ir: LLVM IR as text.
        symbol: the function's name in it.
        target: the machine it is for.
        what: named in the message when something fails: the layer this code is for.

    Raises:
        RuntimeError: the code could not be made or linked.
    """
    return load_all(ir, (symbol,), target, what)[symbol]


def load_all(ir: str, symbols: Sequence[str], target: Target, what: str = "a kernel") -> dict[str, Function]:
    """As ``load``, for several functions of one module."""
    return _load(key_of(ir, target), lambda: ir, tuple(symbols), target, what)


def load_recipe(
    recipe: str,
    emit: Callable[[], str],
    symbols: Sequence[str],
    target: Target,
    what: str = "a kernel",
    trial: Trial | None = None,
) -> dict[str, Function]:
    """As ``load_all``, but the IR is written only when no object made from it is at hand.

    Recipes that give the same IR share one object: the code cache also remembers which IR a recipe gave.

    Args:
        recipe: everything that ``emit`` depends on besides the target and polyconv's own source (which are added).
        emit: writes the IR.
        symbols: the functions' names in it.
        target: the machine it is for.
        what: named in the message when something fails: the layer this code is for.
        trial: called when code was compiled, before it is kept, with what links its functions; where it raises, the
            code is neither kept nor used.

    Raises:
        RuntimeError: the code could not be made or linked.
    """
    name = key_of(f"recipe\0{cache.source_digest()}\0{recipe}", target)
    key = _recipes.get(name)
    if key is None:
        with LOCK:
            remembered = cache.read(name)
            if remembered is None or os.environ.get("POLYCONV_DUMP"):
                ir = emit()
                key = key_of(ir, target)
                loaded = _load(key, lambda: ir, tuple(symbols), target, what, trial)
                cache.write(name, key.encode())
            else:
                key = remembered.decode()
                loaded = _load(key, emit, tuple(symbols), target, what, trial)
            _recipes[name] = key
            return loaded
    return _load(key, emit, tuple(symbols), target, what, trial)


def _load(
    key: str,
    emit: Callable[[], str],
    symbols: tuple[str, ...],
    target: Target,
    what: str,
    trial: Trial | None = None,
) -> dict[str, Function]:
    known = _loaded.get((key, symbols))
    if known is not None:
        return known
    with LOCK:
        if (key, symbols) not in _loaded:
            code = None if os.environ.get("POLYCONV_DUMP") else cache.read(key)
            if code is None:
                code = compile(emit(), target, what)
                if trial is not None:
                    trial(lambda names: _functions(code, tuple(names), target, what))
                cache.write(key, code)
            _loaded[key, symbols] = _functions(code, symbols, target, what)
        return _loaded[key, symbols]


def _functions(code: bytes, symbols: tuple[str, ...], target: Target, what: str) -> dict[str, Function]:
    """An object's functions, linked."""
    return {symbol: Function(symbol, address) for symbol, address in _link(code, symbols, target, what).items()}


def _link(code: bytes, symbols: tuple[str, ...], target: Target, what: str) -> dict[str, int]:
    """Place an object in executable memory, where it stays for good: by ourselves, or else by LLVM's ORC engine."""
    try:
        return linker.place(code, symbols)
    except linker.Unsupported:
        return link_with_orc(code, symbols, target, what)


def link_with_orc(code: bytes, symbols: tuple[str, ...], target: Target, what: str) -> dict[str, int]:
    """Place an object in executable memory by LLVM. Call with ``LOCK`` held."""
    llvm = binding()
    if "jit" not in _state:
        _state["jit"] = llvm.create_lljit_compiler(_machine(target))
        _state["libraries"] = []
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
    for symbol in symbols:
        builder.export_symbol(symbol)
    try:
        library = builder.link(_state["jit"], f"polyconv{next(_numbers)}")
    except RuntimeError as error:
        raise RuntimeError(f"{what}: the machine code could not be linked: {error}") from error
    _state["libraries"].append(library)
    return {symbol: library[symbol] for symbol in symbols}


def _machine(target: Target) -> Any:
    """LLVM's target machine, made once a target."""
    machines = _state.setdefault("machines", {})
    key = target.code_key()
    if key not in machines:
        llvm = binding()
        try:
            chosen = llvm.Target.from_triple(target.triple)
        except RuntimeError:
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
            chosen = llvm.Target.from_triple(target.triple)
        machines[key] = chosen.create_target_machine(
            cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
        )
    return machines[key]


def _emit(ir: str, target: Target, what: str, kind: str) -> Any:
    """Parse, verify, optimise and generate."""
    _check_features(ir, target, what)
    with LOCK:
        llvm = binding()
        machine = _machine(target)
        try:
            module = llvm.parse_assembly(ir)
        except RuntimeError as error:
            raise RuntimeError(f"{what}: LLVM does not accept the generated code: {error}") from error
        with module:
            module.triple = target.triple
            module.data_layout = str(machine.target_data)
            try:
                module.verify()
            except RuntimeError as error:
                raise RuntimeError(f"{what}: the generated code is not valid: {error}") from error
            _optimise(llvm, machine, module)
            code = machine.emit_object(module) if kind == "object" else machine.emit_assembly(module)
            _dump(ir, module, machine)
    return code


def _optimise(llvm: ModuleType, machine: Any, module: Any) -> None:
    """What the code generator does not do itself: inlining, memory to registers, dead code.

    The loops arrive the way they should stay, so LLVM's usual passes doubled the time to compile and left the speed of
    60 kernels of every kind where it was (docs/engine-machinery.md).
    """
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    with llvm.create_pass_builder(machine, options) as builder, llvm.create_new_module_pass_manager() as passes:
        passes.add_always_inliner_pass()
        passes.add_sroa_pass()
        passes.add_simplify_cfg_pass()
        passes.add_instruction_combine_pass()
        passes.add_aggressive_dce_pass()
        passes.run(module, builder)


def _check_features(ir: str, target: Target, what: str) -> None:
    """Refuse what LLVM would end the process over: instructions that the target does not have."""
    have = set(target.features.split(","))
    for name, arch, group in sorted(set(re.findall(_TARGET_INTRINSIC, ir))):
        if (arch == "x86") != (target.arch == "x86_64"):
            raise RuntimeError(f"{what}: the code uses {name}, which {target.arch} does not have.")
        if _NEEDS.get(group, "+") not in have | {"+"}:
            raise RuntimeError(f"{what}: the code uses {name}, but this {target.cpu} goes without {_NEEDS[group]}.")


def _dump(ir: str, module: Any, machine: Any) -> None:
    """Write each lowering step where ``POLYCONV_DUMP`` says: .ll as emitted, .opt.ll as optimised, .s as generated."""
    place = os.environ.get("POLYCONV_DUMP")
    if not place:
        return
    names = re.findall(r"define (?!internal)[^@]*@\"?([\w.]+)", ir)
    stem = f"{names[0] if names else 'module'}-{hashlib.sha256(ir.encode()).hexdigest()[:8]}"
    os.makedirs(place, exist_ok=True)
    for suffix, text in ((".ll", ir), (".opt.ll", str(module)), (".s", machine.emit_assembly(module))):
        with open(os.path.join(place, stem + suffix), "w", encoding="utf-8") as file:
            file.write(text)


def _before_fork() -> None:
    LOCK.acquire()
    inner = _llvmlite_lock()
    if inner is not None:
        inner.acquire()


def _after_fork() -> None:
    inner = _llvmlite_lock()
    if inner is not None:
        inner.release()
    LOCK.release()


def _llvmlite_lock() -> Any:
    """The lock of llvmlite itself (finalizers and other users of llvmlite take it), where it can be reached."""
    llvm = _state.get("binding")
    return getattr(getattr(getattr(getattr(llvm, "ffi", None), "lib", None), "_lock", None), "_lock", None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
