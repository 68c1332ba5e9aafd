"""Compiled objects on disk: named by a hash of what they were made from, checked before use, never needed.

Every failure (no folder, foreign owner, full disk, damaged file) reads as "not there" and the caller compiles again.
An entry is 8 bytes of magic, 32 bytes of SHA-256 over the key and the payload, and the payload. Paths are handled as
text, and the usual place on Linux is worked out here: ``pathlib`` and ``platformdirs`` would cost 9 of the 25 ms that a
first call may take.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import stat
import sys
import threading
from collections.abc import Iterator

MAGIC = b"pcobj\0\0\1"
LIMIT_BYTES = 256 << 20  # of all entries together
_TRIM_EVERY = 32  # writes between two looks at the folder's size
_SUFFIX = ".o"
_writes = itertools.count()


@functools.cache
def llvm_version() -> str:
    """Version of llvmlite (which pins one LLVM), without loading LLVM; empty where it is absent."""
    try:
        import llvmlite
    except ImportError:
        return ""
    return str(llvmlite.__version__)


@functools.cache
def source_digest() -> str:
    """A hash of the compiler's own source: what was made by another version of it has another name."""
    digest = hashlib.sha256()
    here = os.path.dirname(os.path.abspath(__file__))
    for folder_name, folders, names in os.walk(here):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                with open(os.path.join(folder_name, name), "rb") as file:
                    digest.update(name.encode() + b"\0" + file.read())
    return digest.hexdigest()


def folder() -> str:
    """Where entries live: below ``POLYCONV_CACHE_DIR``, or below the user's cache folder."""
    chosen = os.environ.get("POLYCONV_CACHE_DIR")
    return os.path.join(chosen or _user_cache(), "code")


def read(key: str) -> bytes | None:
    """The payload stored under a key (hex digits), or None for any reason at all."""
    try:
        with _private_folder(create=False) as place:
            descriptor = os.open(key + _SUFFIX, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    return None
                payload = _checked(key, file.read())
                if payload is not None:
                    with contextlib.suppress(OSError):  # the least recently used entry goes first
                        os.utime(descriptor)
    except (OSError, AttributeError, NotImplementedError, MemoryError):
        return None
    return payload


def write(key: str, payload: bytes) -> bool:
    """Store a payload under a key; False where that was not possible, which is never an error."""
    data = MAGIC + _digest(key, payload) + payload
    if len(data) > LIMIT_BYTES // 4:
        return False
    temporary = f".{key[:16]}.{os.getpid()}.{threading.get_ident()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with _private_folder(create=True) as place:
            try:
                with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=place), "wb") as file:
                    file.write(data)
                os.replace(temporary, key + _SUFFIX, src_dir_fd=place, dst_dir_fd=place)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=place)
                raise
            if next(_writes) % _TRIM_EVERY == 0:
                _trim(place)
    except (OSError, AttributeError, NotImplementedError):
        return False
    return True


def _user_cache() -> str:
    """The user's folder for caches, as ``platformdirs`` has it."""
    if sys.platform == "linux" and "ANDROID_DATA" not in os.environ:
        base = os.environ.get("XDG_CACHE_HOME", "").strip()
        return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "polyconv")
    import platformdirs

    return platformdirs.user_cache_dir("polyconv", appauthor=False)


def _digest(key: str, payload: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + payload).digest()


def _checked(key: str, data: bytes) -> bytes | None:
    """The payload of an entry whose magic and checksum are right."""
    start = len(MAGIC) + 32
    payload = data[start:]
    return payload if data[:start] == MAGIC + _digest(key, payload) else None


@contextlib.contextmanager
def _private_folder(*, create: bool) -> Iterator[int]:
    """The folder, opened: a real one (no link) of ours that nobody else can enter; made first if need be.

    Raises:
        OSError: there is none.
    """
    place = folder()
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(place, flags)
    except FileNotFoundError:
        if not create:
            raise
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, mode=0o700)
        descriptor = os.open(place, flags)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(f"{place} is not private")
        yield descriptor
    finally:
        os.close(descriptor)


def _trim(place: int) -> None:
    """Remove the least recently used entries, and temporary files left behind, until three quarters of the limit."""
    entries = []
    with os.scandir(place) as listing:
        for entry in listing:
            if entry.name.endswith((_SUFFIX, ".tmp")):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    entries.append((status.st_mtime_ns, status.st_size, entry.name))
    total = sum(size for _, size, _ in entries)
    if total <= LIMIT_BYTES:
        return
    for _, size, name in sorted(entries):
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=place)
        total -= size
        if total <= LIMIT_BYTES * 3 // 4:
            return
