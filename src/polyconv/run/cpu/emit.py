"""How a loop, a vector, a mask or a broadcast is written: LLVM IR as text, for any vector width.

An algorithm says *what* is computed, in which loops; this file says how that is spelled. A kernel is one function
``void NAME(ptr args, i64 first, i64 last, ptr scratch)`` that handles the work items first .. last - 1. Everything in
it is a `Value` (an SSA name with its IR type) made by a `Kernel`:

    k = Kernel("run0", target, "float32")                              # vectors of 16 lanes, where the target has them
    x, w, out, n = k.words("x: ptr", "w: ptr", "out: ptr", "n")        # the 64-bit words of args, in order
    with k.loop(k.first, k.last) as row:                               # for row in range(first, last)
        total = k.var(k.zero())                                        # a variable: carried through loops as a phi
        with k.loop(0, n, carry=[total]) as i:
            pixel = k.broadcast(k.load(k.at(x, row * n + i)))          # one scalar to every lane
            weight = k.load_vector(k.at(w, i * 16))                    # 16 lanes
            total.value = k.fma(pixel, weight, total.value)
        k.store_vector(total.value, k.at(out, row * 16), count=10)     # a masked tail: only 10 lanes are written
    text = k.module()

Rules:
* Integers are i64. ``Value`` has ``+ - * // %`` (unsigned division), ``<< >> & |`` and the comparisons (signed; ``==``
  and ``!=`` are methods ``eq`` and ``ne``); Python ints mix in freely and fold. On float vectors the operators are
  floating-point.
* Loops and branches are ``with`` blocks. What changes inside one and is used after it must be a `Var`, and must be
  named in ``carry=``; reading a plain Value made inside a block after that block is invalid IR.
* `Kernel.loop(..., nonempty=True)` drops the entry test; use it where the loop runs at least once.
* `Kernel.at(pointer, index)` addresses by *elements* of the kernel's dtype; `Kernel.word_at` by 64-bit words.
* A constant ``count`` smaller than the vector makes a masked access: lanes beyond it are never touched (safe next to
  a guard page), and read as zero. ``mask=`` takes a run-time mask (`Kernel.mask`).
* Unroll in Python: a plain ``for`` writes the body several times.
* Vectors are explicit: nothing is left to LLVM's vectorisers. ``lanes`` may be any power of two: pass a narrower one to
  `load_vector` and friends for a tail of few channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from struct import pack, unpack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyconv.run.cpu.target import Target

SCALARS = {"float32": "float", "float64": "double"}
SUFFIX = {"float": "f32", "double": "f64", "i64": "i64", "i32": "i32", "ptr": "p0", "i1": "i1"}


def float_constant(number: float, scalar: str) -> str:
    """The exact IR spelling of a number of this scalar type (IR wants float constants as doubles in hexadecimal)."""
    if scalar == "float":
        number = unpack("<f", pack("<f", number))[0]
    return f"0x{unpack('<Q', pack('<d', number))[0]:016X}"


def vector_of(scalar: str, lanes: int) -> str:
    """The IR type of a vector; one lane is still a vector, so that no caller has a special case."""
    return f"<{lanes} x {scalar}>"


def element(type_: str) -> str:
    """The scalar type of a vector type (or the type itself)."""
    return type_[1:-1].split(" x ")[1] if type_.startswith("<") else type_


def lanes_of(type_: str) -> int:
    """The number of lanes of a vector type; 0 for a scalar."""
    return int(type_[1:].split(" x ")[0]) if type_.startswith("<") else 0


class Value:
    """An SSA value: its IR spelling and type, and the kernel that wrote it."""

    __slots__ = ("code", "kernel", "type")

    def __init__(self, kernel: Kernel, code: str, type_: str) -> None:
        self.kernel = kernel
        self.code = code
        self.type = type_

    def __repr__(self) -> str:
        return f"{self.type} {self.code}"

    def _binary(self, other: Number, integer: str, real: str, swap: bool = False) -> Value:
        scalar = element(self.type)
        operator = real if scalar in ("float", "double") else integer
        if not operator:
            raise TypeError(f"no such operation on {self.type}; cast it first")
        if integer in ("add", "sub", "shl", "lshr", "or") and isinstance(other, int) and other == 0 and not swap:
            return self
        if integer == "mul" and isinstance(other, int) and other == 1:
            return self
        right = self.kernel.constant(other, self.type)
        left_code, right_code = (right.code, self.code) if swap else (self.code, right.code)
        return self.kernel.emit(f"{operator} {self.type} {left_code}, {right_code}", self.type)

    def __add__(self, other: Number) -> Value:
        return self._binary(other, "add", "fadd")

    def __radd__(self, other: Number) -> Value:
        return self._binary(other, "add", "fadd")

    def __sub__(self, other: Number) -> Value:
        return self._binary(other, "sub", "fsub")

    def __rsub__(self, other: Number) -> Value:
        return self._binary(other, "sub", "fsub", swap=True)

    def __mul__(self, other: Number) -> Value:
        return self._binary(other, "mul", "fmul")

    def __rmul__(self, other: Number) -> Value:
        return self._binary(other, "mul", "fmul")

    def __truediv__(self, other: Number) -> Value:
        return self._binary(other, "", "fdiv")

    def __rtruediv__(self, other: Number) -> Value:
        return self._binary(other, "", "fdiv", swap=True)

    def __floordiv__(self, other: Number) -> Value:
        return self if isinstance(other, int) and other == 1 else self._binary(other, "udiv", "")

    def __mod__(self, other: Number) -> Value:
        return self._binary(other, "urem", "")

    def __lshift__(self, other: Number) -> Value:
        return self._binary(other, "shl", "")

    def __rshift__(self, other: Number) -> Value:
        return self._binary(other, "lshr", "")

    def __and__(self, other: Number) -> Value:
        return self._binary(other, "and", "")

    def __or__(self, other: Number) -> Value:
        return self._binary(other, "or", "")

    def compare(self, other: Number, signed: str, real: str) -> Value:
        """A comparison: an i1, or a vector of them."""
        scalar = element(self.type)
        right = self.kernel.constant(other, self.type)
        name = f"fcmp {real}" if scalar in ("float", "double") else f"icmp {signed}"
        lanes = lanes_of(self.type)
        return self.kernel.emit(
            f"{name} {self.type} {self.code}, {right.code}", vector_of("i1", lanes) if lanes else "i1"
        )

    def __lt__(self, other: Number) -> Value:
        return self.compare(other, "slt", "olt")

    def __le__(self, other: Number) -> Value:
        return self.compare(other, "sle", "ole")

    def __gt__(self, other: Number) -> Value:
        return self.compare(other, "sgt", "ogt")

    def __ge__(self, other: Number) -> Value:
        return self.compare(other, "sge", "oge")

    def below(self, other: Number) -> Value:
        """Unsigned <: with a size on the right, one test for ``0 <= self < size``."""
        return self.compare(other, "ult", "ult")

    def eq(self, other: Number) -> Value:
        """Equal, as an i1 (or a vector of them)."""
        return self.compare(other, "eq", "oeq")

    def ne(self, other: Number) -> Value:
        """Not equal, as an i1 (or a vector of them)."""
        return self.compare(other, "ne", "une")


Number = Value | int | float


class Var:
    """A variable: assign ``.value`` inside a block that names it in ``carry=``."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


class Kernel:
    """Writes one function of the kernel ABI; several kernels may share a module (`join`)."""

    def __init__(self, name: str, target: Target, dtype: str) -> None:
        self.name = name
        self.target = target
        self.dtype = dtype
        self.lanes = target.lanes(dtype)
        self.scalar = SCALARS[dtype]
        self.bytes = 4 if self.scalar == "float" else 8
        self.vector = vector_of(self.scalar, self.lanes)
        self.lines: list[str] = ["entry:"]
        self.declarations: set[str] = set()
        self.globals: list[str] = []
        self.helpers: dict[str, str] = {}  # functions of the module's own, by name
        self.block = "entry"
        self._count = 0
        self.args = Value(self, "%args", "ptr")
        self.first = Value(self, "%first", "i64")
        self.last = Value(self, "%last", "i64")
        self.scratch = Value(self, "%scratch", "ptr")

    # ---- text ------------------------------------------------------------------------------------------------------
    def module(self) -> str:
        """The kernel as a module of its own."""
        return join([self])

    def text(self) -> str:
        """The function's text, without declarations."""
        head = (
            f"define void @{self.name}(ptr noalias nocapture readonly %args, i64 %first, i64 %last, "
            "ptr noalias nocapture %scratch) nounwind {"
        )
        return "\n".join([head, *self.lines, "  ret void", "}"])

    def fresh(self, prefix: str = "v") -> str:
        """A name not used before in this function."""
        self._count += 1
        return f"{prefix}{self._count}"

    def emit(self, code: str, type_: str) -> Value:
        """Append an instruction that makes a value."""
        name = f"%{self.fresh()}"
        self.lines.append(f"  {name} = {code}")
        return Value(self, name, type_)

    def do(self, code: str) -> None:
        """Append an instruction that makes no value."""
        self.lines.append(f"  {code}")

    def label(self, name: str) -> None:
        """Start a block."""
        self.lines.append(f"{name}:")
        self.block = name

    def call(self, name: str, type_: str, *arguments: Value | str) -> Value:
        """Call a function (most often an intrinsic), declaring it; a string argument is written as it stands."""
        spelled = [repr(a) if isinstance(a, Value) else a for a in arguments]
        types = ", ".join(a.type if isinstance(a, Value) else a.rsplit(" ", 1)[0] for a in arguments)
        self.declarations.add(f"declare {type_} @{name}({types})")
        if type_ == "void":
            self.do(f"call void @{name}({', '.join(spelled)})")
            return Value(self, "", "void")
        return self.emit(f"call {type_} @{name}({', '.join(spelled)})", type_)

    def helper(self, name: str, write: Callable[[Kernel, Value], Value], value: Value) -> Value:
        """Call a function of one value that ``write`` writes, once a module: for long code used in many places."""
        name = f"{name}.{lanes_of(value.type)}.{element(value.type)}"
        if name not in self.helpers:
            inner = Kernel(name, self.target, self.dtype)
            result = write(inner, Value(inner, "%x", value.type))
            head = f"define internal fastcc {result.type} @{name}({value.type} %x) noinline nounwind {{"
            self.helpers[name] = "\n".join([head, *inner.lines, f"  ret {result!r}", "}"])
            self.declarations |= inner.declarations
        return self.emit(f"call fastcc {value.type} @{name}({value!r})", value.type)

    # ---- constants, arguments --------------------------------------------------------------------------------------
    def constant(self, number: Number, type_: str) -> Value:
        """A constant of a type; a vector type gives it to every lane. A Value passes through, broadcast if needed."""
        if isinstance(number, Value):
            if lanes_of(type_) and not lanes_of(number.type):
                return self.broadcast(number, lanes_of(type_))
            if number.type != type_:
                raise TypeError(f"expected {type_}, got {number!r}")
            return number
        scalar = element(type_)
        if scalar in ("float", "double"):
            code = float_constant(float(number), scalar)
        elif isinstance(number, float):
            raise TypeError(f"expected an integer for {type_}, got {number}")
        else:
            code = str(int(number))
        if lanes := lanes_of(type_):
            code = "<" + ", ".join([f"{scalar} {code}"] * lanes) + ">"
        return Value(self, code, type_)

    def integer(self, number: Number) -> Value:
        """An i64."""
        return self.constant(number, "i64")

    def number(self, number: float, lanes: int | None = None) -> Value:
        """A vector of the kernel's dtype with this number in every lane."""
        return self.constant(number, vector_of(self.scalar, lanes or self.lanes))

    def zero(self, lanes: int | None = None) -> Value:
        """A vector of zeros."""
        return Value(self, "zeroinitializer", vector_of(self.scalar, lanes or self.lanes))

    def indices(self, lanes: int) -> Value:
        """The i64 vector 0, 1, 2, …."""
        return Value(self, "<" + ", ".join(f"i64 {i}" for i in range(lanes)) + ">", vector_of("i64", lanes))

    def words(self, *names: str) -> list[Value]:
        """The leading words of args: each ``"name"`` (an i64) or ``"name: ptr"``."""
        found = []
        for position, name in enumerate(names):
            type_ = "ptr" if name.endswith(": ptr") else "i64"
            found.append(self.load(self.word_at(self.args, position), type_, invariant=True))
        return found

    def var(self, value: Value) -> Var:
        """A variable with a first value."""
        return Var(value)

    # ---- memory ----------------------------------------------------------------------------------------------------
    def at(self, pointer: Value, index: Number, type_: str | None = None) -> Value:
        """The address ``index`` elements (of the kernel's dtype, or of ``type_``) after ``pointer``."""
        if isinstance(index, int) and index == 0:
            return pointer
        index = self.constant(index, "i64")
        return self.emit(f"getelementptr {type_ or self.scalar}, ptr {pointer.code}, i64 {index.code}", "ptr")

    def word_at(self, pointer: Value, index: Number) -> Value:
        """The address ``index`` 64-bit words after ``pointer``."""
        return self.at(pointer, index, "i64")

    def byte_at(self, pointer: Value, index: Number) -> Value:
        """The address ``index`` bytes after ``pointer``."""
        return self.at(pointer, index, "i8")

    def load(self, pointer: Value, type_: str | None = None, invariant: bool = False) -> Value:
        """One scalar: of the kernel's dtype, or ``"i64"``, ``"ptr"``. invariant: no kernel ever writes there."""
        type_ = type_ or self.scalar
        size = {"i32": 4, "float": 4, "i8": 1}.get(type_, 8)
        tail = ", !invariant.load !0" if invariant else ""
        return self.emit(f"load {type_}, ptr {pointer.code}, align {size}{tail}", type_)

    def store(self, value: Value, pointer: Value) -> None:
        """Store one scalar."""
        size = {"i32": 4, "float": 4, "i8": 1}.get(value.type, 8)
        self.do(f"store {value!r}, ptr {pointer.code}, align {size}")

    def mask(self, count: Number, lanes: int | None = None) -> Value:
        """A mask whose first ``count`` lanes are on."""
        lanes = lanes or self.lanes
        if isinstance(count, int):
            bits = ", ".join(f"i1 {int(i < count)}" for i in range(lanes))
            return Value(self, f"<{bits}>", vector_of("i1", lanes))
        return self.indices(lanes) < self.constant(count, vector_of("i64", lanes))

    def load_vector(
        self,
        pointer: Value,
        lanes: int | None = None,
        count: int | None = None,
        mask: Value | None = None,
        type_: str | None = None,
        align: int | None = None,
        other: Value | None = None,
    ) -> Value:
        """A vector from memory; only ``count`` lanes or those of ``mask`` are read, the rest are ``other`` (zero)."""
        scalar = type_ or self.scalar
        lanes = lanes or self.lanes
        vector = vector_of(scalar, lanes)
        size = align or (4 if scalar in ("float", "i32") else 8)
        if mask is None and (count is None or count >= lanes):
            return self.emit(f"load {vector}, ptr {pointer.code}, align {size}", vector)
        mask = mask or self.mask(count or 0, lanes)
        rest = other or Value(self, "zeroinitializer", vector)
        self.declarations.add(
            f"declare {vector} @llvm.masked.load.v{lanes}{SUFFIX[scalar]}.p0(ptr, i32, {mask.type}, {vector})"
        )
        return self.emit(
            f"call {vector} @llvm.masked.load.v{lanes}{SUFFIX[scalar]}.p0"
            f"(ptr {pointer.code}, i32 {size}, {mask!r}, {rest!r})",
            vector,
        )

    def store_vector(
        self,
        value: Value,
        pointer: Value,
        count: int | None = None,
        mask: Value | None = None,
        align: int | None = None,
        streaming: bool = False,
    ) -> None:
        """A vector to memory; only ``count`` lanes, or those of ``mask``, are written. streaming: past the caches."""
        scalar, lanes = element(value.type), lanes_of(value.type)
        size = align or (4 if scalar in ("float", "i32") else 8)
        if mask is None and (count is None or count >= lanes):
            tail = ", !nontemporal !1" if streaming else ""
            self.do(f"store {value!r}, ptr {pointer.code}, align {size}{tail}")
            return
        mask = mask or self.mask(count or 0, lanes)
        self.declarations.add(
            f"declare void @llvm.masked.store.v{lanes}{SUFFIX[scalar]}.p0({value.type}, ptr, i32, {mask.type})"
        )
        self.do(
            f"call void @llvm.masked.store.v{lanes}{SUFFIX[scalar]}.p0"
            f"({value!r}, ptr {pointer.code}, i32 {size}, {mask!r})"
        )

    def prefetch(self, pointer: Value, locality: int = 3, write: bool = False) -> None:
        """Ask for a cache line: locality 3 keeps it in every level, 0 in none."""
        self.declarations.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.do(f"call void @llvm.prefetch.p0(ptr {pointer.code}, i32 {int(write)}, i32 {locality}, i32 1)")

    def barrier(self, sums: Iterable[Var]) -> None:
        """Loads and sums before it stay before, those after it stay after: no code, but LLVM's scheduler keeps to it.

        Between the turns of an unrolled loop: loads that move ahead take the registers of the sums, which then go to
        memory and back in every turn. Nothing where the sums do not fit the registers, each in one.
        """
        held = list(sums)
        if len(held) + 2 > self.target.vector_registers or any(lanes_of(v.value.type) > self.lanes for v in held):
            return
        kinds = [var.value.type for var in held]
        vector = {"x86_64": "v" if self.target.has_mask else "x"}.get(self.target.arch, "w")
        given = ", ".join(f"{var.value!r}" for var in held)
        ties = ",".join([f"={vector}"] * len(held) + [str(n) for n in range(len(held))] + ["~{memory}"])
        kind = kinds[0] if len(kinds) == 1 else f"{{ {', '.join(kinds)} }}"
        found = self.emit(f'call {kind} asm sideeffect "", "{ties}"({given})', kind)
        for number, var in enumerate(held):
            one = found if len(held) == 1 else self.emit(f"extractvalue {found!r}, {number}", kinds[number])
            var.value = one

    # ---- vectors ---------------------------------------------------------------------------------------------------
    def broadcast(self, value: Value, lanes: int | None = None) -> Value:
        """One scalar to every lane."""
        lanes = lanes or self.lanes
        vector = vector_of(value.type, lanes)
        one = self.emit(f"insertelement {vector} poison, {value!r}, i64 0", vector)
        return self.shuffle(one, one, [0] * lanes)

    def shuffle(self, left: Value, right: Value, order: Sequence[int]) -> Value:
        """Lanes picked by constant index from two vectors laid end to end; -1 is any value."""
        picks = ", ".join("i32 poison" if i < 0 else f"i32 {i}" for i in order)
        vector = vector_of(element(left.type), len(order))
        return self.emit(f"shufflevector {left!r}, {right!r}, <{len(order)} x i32> <{picks}>", vector)

    def extract(self, value: Value, lane: int) -> Value:
        """One lane, as a scalar."""
        return self.emit(f"extractelement {value!r}, i64 {lane}", element(value.type))

    def insert(self, value: Value, scalar: Value, lane: int) -> Value:
        """The vector with one lane replaced."""
        return self.emit(f"insertelement {value!r}, {scalar!r}, i64 {lane}", value.type)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """``a * b + c``, rounded once where the target has the instruction."""
        return self._elementwise("fma", a, b, c) if self.target.has_fma else a * b + c

    def maximum(self, a: Value, b: Number) -> Value:
        """The larger. Floating point: NaN if ``a`` is NaN or ``b`` is NaN."""
        return self._extreme(a, b, "sgt", "ogt")

    def minimum(self, a: Value, b: Number) -> Value:
        """The smaller. Floating point: NaN if ``a`` is NaN or ``b`` is NaN."""
        return self._extreme(a, b, "slt", "olt")

    def absolute(self, a: Value) -> Value:
        """|a|."""
        return self._elementwise("fabs", a)

    def copysign(self, size: Value, sign: Value) -> Value:
        """The size of one with the sign of the other."""
        return self._elementwise("copysign", size, sign)

    def round_even(self, a: Value) -> Value:
        """To the nearest integer, halves to even, as a float."""
        return self._elementwise("roundeven", a)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        """``yes`` where the condition holds, else ``no``."""
        return self.emit(f"select {condition!r}, {yes!r}, {no!r}", yes.type)

    def bitcast(self, value: Value, type_: str) -> Value:
        """The same bits as another type."""
        return self.emit(f"bitcast {value!r} to {type_}", type_)

    def convert(self, value: Value, how: str, type_: str) -> Value:
        """A conversion instruction: ``fptosi``, ``sitofp``, ``trunc``, ``sext``, ``ptrtoint`` …."""
        return self.emit(f"{how} {value!r} to {type_}", type_)

    def reduce_add(self, value: Value) -> Value:
        """The sum of all lanes, halving: the same order always."""
        lanes = lanes_of(value.type)
        while lanes > 1:
            lanes //= 2
            low = self.shuffle(value, value, range(lanes))
            high = self.shuffle(value, value, range(lanes, 2 * lanes))
            value = low + high
        return self.extract(value, 0)

    def transpose(self, rows: Sequence[Value]) -> list[Value]:
        """As many vectors as each has lanes, transposed: lane j of row i becomes lane i of row j."""
        lanes, current, distance = len(rows), list(rows), 1
        while distance < lanes:
            low = [lane if not lane & distance else lanes + lane - distance for lane in range(lanes)]
            high = [lane + distance if not lane & distance else lanes + lane for lane in range(lanes)]
            for i in range(lanes):
                if not i & distance:
                    a, b = current[i], current[i + distance]
                    current[i], current[i + distance] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            distance *= 2
        return current

    def _elementwise(self, name: str, *values: Value) -> Value:
        type_ = values[0].type
        lanes = lanes_of(type_)
        suffix = f"v{lanes}{SUFFIX[element(type_)]}" if lanes else SUFFIX[type_]
        return self.call(f"llvm.{name}.{suffix}", type_, *values)

    def _extreme(self, a: Value, b: Number, integer: str, real: str) -> Value:
        # "b beyond a, else a" keeps a NaN in a, and is one instruction (it matches x86's order of operands); a NaN in b
        # needs a second look, unless b is a constant
        right = self.constant(b, a.type)
        picked = self.select(right.compare(a, integer, real), right, a)
        if not isinstance(b, Value) or element(a.type) not in ("float", "double"):
            return picked
        return self.select(right.compare(right, "", "uno"), right, picked)

    # ---- control flow ----------------------------------------------------------------------------------------------
    @contextmanager
    def loop(
        self,
        start: Number,
        stop: Number,
        step: Number = 1,
        carry: Iterable[Var] = (),
        nonempty: bool = False,
    ) -> Iterator[Value]:
        """``for i in range(start, stop, step)``; variables in ``carry`` live through it."""
        carried = list(carry)
        start, stop = self.integer(start), self.integer(stop)
        body, done, before = self.fresh("body"), self.fresh("done"), self.block
        outside = [var.value for var in carried]
        if not nonempty:
            self.do(f"br i1 {(start < stop).code}, label %{body}, label %{done}")
        else:
            self.do(f"br label %{body}")
        self.label(body)
        index = Value(self, f"%{self.fresh('i')}", "i64")
        phis = [Value(self, f"%{self.fresh('phi')}", value.type) for value in outside]
        place = len(self.lines)
        self.lines.extend([""] * (1 + len(phis)))
        for var, phi in zip(carried, phis, strict=True):
            var.value = phi
        yield index
        following = index + step
        inside = [var.value for var in carried]
        again = following < stop
        latch = self.block
        self.do(f"br i1 {again.code}, label %{body}, label %{done}")
        self.label(done)
        entries = zip([index, *phis], [start, *outside], [following, *inside], strict=True)
        for position, (phi, old, new) in enumerate(entries, place):
            self.lines[position] = f"  {phi.code} = phi {phi.type} [ {old.code}, %{before} ], [ {new.code}, %{latch} ]"
        for var, old, new in zip(carried, outside, inside, strict=True):
            var.value = new if nonempty else self.phi([(old, before), (new, latch)])

    @contextmanager
    def when(self, condition: Value, carry: Iterable[Var] = (), likely: bool | None = None) -> Iterator[None]:
        """A block that runs only if the condition (an i1) holds."""
        carried = list(carry)
        then, done, before = self.fresh("then"), self.fresh("endif"), self.block
        outside = [var.value for var in carried]
        weights = "" if likely is None else f", !prof !{2 if likely else 3}"
        self.do(f"br i1 {condition.code}, label %{then}, label %{done}{weights}")
        self.label(then)
        yield
        inside = [var.value for var in carried]
        end = self.block
        self.do(f"br label %{done}")
        self.label(done)
        for var, old, new in zip(carried, outside, inside, strict=True):
            var.value = self.phi([(old, before), (new, end)])

    def choose(
        self, condition: Value, yes: Callable[[], None], no: Callable[[], None], carry: Iterable[Var] = ()
    ) -> None:
        """If the condition (an i1) holds write what ``yes`` writes, else what ``no`` writes."""
        carried = list(carry)
        outside = [var.value for var in carried]
        then, other, done = self.fresh("then"), self.fresh("else"), self.fresh("endif")
        self.do(f"br i1 {condition.code}, label %{then}, label %{other}")
        ends: list[tuple[list[Value], str]] = []
        for name, write in ((then, yes), (other, no)):
            self.label(name)
            for var, old in zip(carried, outside, strict=True):
                var.value = old
            write()
            ends.append(([var.value for var in carried], self.block))
            self.do(f"br label %{done}")
        self.label(done)
        for position, var in enumerate(carried):
            var.value = self.phi([(values[position], block) for values, block in ends])

    def switch(self, value: Value, cases: Iterable[int], write: Callable[[int], None]) -> None:
        """For each case a block, written by ``write(case)``; a value that is no case does nothing."""
        cases = list(cases)
        labels = {case: self.fresh("case") for case in cases}
        done = self.fresh("endswitch")
        arms = " ".join(f"i64 {case}, label %{labels[case]}" for case in cases)
        self.do(f"switch i64 {value.code}, label %{done} [ {arms} ]")
        for case in cases:
            self.label(labels[case])
            write(case)
            self.do(f"br label %{done}")
        self.label(done)

    def phi(self, entries: Sequence[tuple[Value, str]]) -> Value:
        """Join values that come from different blocks."""
        pairs = ", ".join(f"[ {value.code}, %{block} ]" for value, block in entries)
        return self.emit(f"phi {entries[0][0].type} {pairs}", entries[0][0].type)


def join(kernels: Sequence[Kernel]) -> str:
    """One module of several kernels."""
    defined = tuple(f"declare void @{k.name}(" for k in kernels)  # what a kernel calls of its own module
    declarations = sorted(d for d in set().union(*(k.declarations for k in kernels)) if not d.startswith(defined))
    constants = [line for k in kernels for line in k.globals]
    helpers = dict(sorted(item for k in kernels for item in k.helpers.items()))
    metadata = ["!0 = !{}", "!1 = !{i32 1}"]
    metadata += ['!2 = !{!"branch_weights", i32 1000, i32 1}', '!3 = !{!"branch_weights", i32 1, i32 1000}']
    return "\n\n".join(
        [
            "\n".join(constants),
            *(k.text() for k in kernels),
            *helpers.values(),
            "\n".join(declarations),
            "\n".join(metadata),
        ]
    )
