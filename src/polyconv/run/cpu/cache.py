"""Compiled objects on disk: named by a hash of what they were made from, checked before use, never needed.

Every failure (no folder, foreign owner, full disk, damaged file) reads as "not there" and the caller compiles again.
An entry is 8 bytes of magic, 32 bytes of SHA-256 over the key and the payload, and the payload.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import sys
import threading
from pathlib import Path

MAGIC = b"pcobj\0\0\1"
LIMIT_BYTES = 256 << 20
_SUFFIX = ".o"


@functools.cache
def llvm_version() -> str:
    """Version of llvmlite (which pins one LLVM), without loading LLVM; empty where it is absent."""
    try:
        import llvmlite
    except ImportError:
        return ""
    return str(llvmlite.__version__)


def folder() -> Path:
    """Where entries live: ``POLYCONV_CACHE_DIR``, or the user's cache folder."""
    chosen = os.environ.get("POLYCONV_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("polyconv", appauthor=False)) / "code"


def read(key: str) -> bytes | None:
    """The payload stored under a key (hex digits), or None for any reason at all."""
    try:
        place = _private_folder(create=False)
        if place is None:
            return None
        descriptor = os.open(place / (key + _SUFFIX), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not _is_ours(os.fstat(descriptor), stat.S_ISREG):
                return None
            data = file.read()
            payload = _checked(key, data)
            if payload is not None:
                os.utime(descriptor)  # the least recently used entry goes first
    except (OSError, AttributeError, NotImplementedError):
        return None
    return payload


def write(key: str, payload: bytes) -> bool:
    """Store a payload under a key; False where that was not possible, which is never an error."""
    data = MAGIC + _digest(key, payload) + payload
    temporary = None
    try:
        place = _private_folder(create=True)
        if place is None or len(data) > LIMIT_BYTES:
            return False
        temporary = place / f".{key[:16]}.{os.getpid()}.{threading.get_ident()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(data)
        os.replace(temporary, place / (key + _SUFFIX))
        _trim(place)
    except (OSError, AttributeError, NotImplementedError):
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return False
    return True


def drop(key: str) -> None:
    """Forget an entry."""
    with contextlib.suppress(OSError):
        os.unlink(folder() / (key + _SUFFIX))


def _digest(key: str, payload: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + payload).digest()


def _checked(key: str, data: bytes) -> bytes | None:
    """The payload of an entry whose magic and checksum are right."""
    payload = data[len(MAGIC) + 32 :]
    if data[: len(MAGIC)] != MAGIC or data[len(MAGIC) : len(MAGIC) + 32] != _digest(key, payload):
        return None
    return payload


def _is_ours(status: os.stat_result, kind: object) -> bool:
    """Whether a file or folder is of that kind, belongs to this user and only this user can write it."""
    return bool(kind(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022)  # type: ignore[operator]


def _private_folder(*, create: bool) -> Path | None:
    """The folder if it is a real folder of ours that nobody else can enter, made first if need be."""
    if sys.platform == "win32":
        return None
    place = folder()
    if create and not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
    status = os.lstat(place)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return None
    if status.st_mode & 0o077:
        return None
    return place


def _trim(place: Path) -> None:
    """Remove the least recently used entries until the folder is within its limit, and temporary files left behind."""
    entries = []
    with os.scandir(place) as listing:
        for entry in listing:
            if entry.name.endswith((_SUFFIX, ".tmp")):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    entries.append((status.st_mtime_ns, status.st_size, entry.path))
    total = sum(size for _, size, _ in entries)
    if total <= LIMIT_BYTES:
        return
    for _, size, path in sorted(entries):
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
        if total <= LIMIT_BYTES * 3 // 4:
            return
