"""The machine that code is made for: instruction set, registers, caches.

``host()`` is found out once a process. Asking LLVM costs 30 ms (most of it loading the library), so what LLVM said is
kept in the code cache under a hash of what the kernel says about the processor.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
from dataclasses import dataclass, field, replace

from polyconv.run.cpu import cache

CLOCK = 3.5e9  # cycles a second, about: cost models compare, so that only the ratio of their terms matters
_AVX512 = r"[+-]((?:avx512|avx10|evex)[\w.-]*)"


@dataclass(frozen=True, slots=True)
class Target:
    """What code generation may count on; frozen and hashable.

    Sizes are in bytes. ``has_mask`` says that loads, stores and arithmetic take a mask register (AVX-512); otherwise
    masks are emulated. ``features`` is LLVM's list, ``+`` for present and ``-`` for absent.

    ``slow_vectors``: a core starts one multiply-add or load of a whole vector a cycle, not two. So does Zen 4, whose
    vectors of 64 bytes pass in two halves: loads and addresses hide behind the arithmetic. ``vector_rate``:
    multiply-adds of whole vectors that a core starts in a second, about: what the cost models count in.
    """

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    vector_registers: int
    has_mask: bool
    has_fma: bool
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    cores: int
    slow_vectors: bool = field(init=False, repr=False, compare=False)
    vector_rate: float = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        slow = self.cpu == "znver4" and self.vector_bytes == 64
        object.__setattr__(self, "slow_vectors", slow)
        object.__setattr__(self, "vector_rate", CLOCK if slow else 2 * CLOCK)
        sizes = (self.vector_bytes, self.vector_registers, self.l1_bytes, self.l2_bytes, self.l3_bytes, self.cores)
        object.__setattr__(self, "_hash", hash((self.triple, self.cpu, self.features, sizes)))

    def __hash__(self) -> int:
        """Worked out once: planning a size looks a target up twenty times."""
        return self._hash

    @property
    def arch(self) -> str:
        """First part of the triple: ``x86_64``, ``aarch64`` or ``arm64``."""
        return self.triple.split("-", 1)[0]

    def code_key(self) -> str:
        """What of the target the bytes of an object depend on."""
        return f"{self.triple}\n{self.cpu}\n{self.features}"

    def lanes(self, dtype: str) -> int:
        """Elements of ``float32`` or ``float64`` in one vector register."""
        return self.vector_bytes // {"float32": 4, "float64": 8}[dtype]


def host() -> Target:
    """The processor this process runs on, or what ``POLYCONV_TARGET`` asks for (``host`` or ``avx2``).

    Raises:
        ValueError: ``POLYCONV_TARGET`` names something else.
    """
    wish = os.environ.get("POLYCONV_TARGET", "host") or "host"
    if wish == "host":
        return native()
    if wish == "avx2":
        return avx2()
    raise ValueError(f"POLYCONV_TARGET={wish!r} is not known; use 'host' or 'avx2', or leave it unset.")


@functools.cache
def native() -> Target:
    """The processor this process runs on, whatever the environment asks for."""
    triple, cpu, features = _identity()
    have = set(features.split(","))
    l1, l2, l3 = cache_sizes()
    if triple.startswith(("aarch64", "arm64")):
        vector_bytes, registers, has_mask, has_fma = 16, 32, False, True
    elif "+avx512f" in have and "+avx512vl" in have and "+avx512dq" in have and "+avx512bw" in have:
        vector_bytes, registers, has_mask, has_fma = 64, 32, True, True
    elif "+avx" in have:
        vector_bytes, registers, has_mask, has_fma = 32, 16, False, "+fma" in have
    else:
        vector_bytes, registers, has_mask, has_fma = 16, 16, False, False
    return Target(triple, cpu, features, vector_bytes, registers, has_mask, has_fma, l1, l2, l3, os.cpu_count() or 1)


@functools.cache
def avx2() -> Target:
    """The host with its AVX-512 masked away (the host itself where it has none)."""
    host_target = native()
    if not host_target.has_mask:
        return host_target
    features = re.sub(_AVX512, r"-\1", host_target.features)
    return replace(host_target, features=features, vector_bytes=32, vector_registers=16, has_mask=False)


@functools.cache
def neon() -> Target:
    """A common 64-bit Arm core: for emitting and assembling code where none is at hand."""
    return Target(
        triple="aarch64-unknown-linux-gnu",
        cpu="neoverse-n1",
        features="+neon,+fp-armv8",
        vector_bytes=16,
        vector_registers=32,
        has_mask=False,
        has_fma=True,
        l1_bytes=64 << 10,
        l2_bytes=1 << 20,
        l3_bytes=32 << 20,
        cores=4,
    )


def cache_sizes(root: str = "/sys/devices/system/cpu/cpu0/cache") -> tuple[int, int, int]:
    """Bytes of the first core's data caches (L1, L2, L3), with common sizes where the system does not say."""
    found = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    for index in range(8):
        try:
            kind, level, size = (_first_line(f"{root}/index{index}/{name}") for name in ("type", "level", "size"))
            scale = {"K": 10, "M": 20, "G": 30}.get(size[-1:])
            if kind != "Instruction":
                found[int(level)] = int(size) if scale is None else int(size[:-1]) << scale
        except (OSError, ValueError):
            continue
    return found[1], found[2], found[3]


def _first_line(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.readline().strip()


def _processor_text() -> str | None:
    """What the kernel says about the first processor, or None where it is not known to identify it."""
    if sys.platform != "linux":
        return None
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(8192).split(b"\n\n", 1)[0].decode("utf-8", "replace")
    except OSError:
        return None
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU ")
    lines = [line for line in first.splitlines() if line.startswith(wanted)]
    return "\n".join(lines) if any(line.startswith(("flags", "Features")) for line in lines) else None


def _identity() -> tuple[str, str, str]:
    """Triple, processor name and features as LLVM names them; remembered in the code cache."""
    text = _processor_text()
    if text is None:
        return _ask_llvm()
    key = hashlib.sha256(f"host 1\n{cache.llvm_version()}\n{platform.machine()}\n{text}".encode()).hexdigest()
    known = cache.read(key)
    if known is not None:
        parts = known.decode("utf-8", "replace").split("\n")
        if len(parts) == 3:
            return parts[0], parts[1], parts[2]
    answer = _ask_llvm()
    cache.write(key, "\n".join(answer).encode())
    return answer


def _ask_llvm() -> tuple[str, str, str]:
    """The same three from LLVM itself."""
    from polyconv.run.cpu import machine

    with machine.LOCK:
        llvm = machine.binding()
        features = llvm.get_host_cpu_features().flatten()
        if platform.machine() in ("x86_64", "AMD64"):
            features += ",-prefer-256-bit"
        return llvm.get_process_triple(), llvm.get_host_cpu_name(), features
