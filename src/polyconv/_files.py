"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path


def checked_output(path: str | os.PathLike[str], extensions: Collection[str]) -> Path:
    """``path`` where it can be written: call it before the work, so that an hour's result is not lost at its end.

    Args:
        path: the file to write.
        extensions: what it may end with, in small letters and with the dot.

    Raises:
        ValueError: another extension, a folder that does not exist, or a folder where the file should be.

    Example:
        >>> checked_output("photo.gif", (".png", ".jpg"))
        Traceback (most recent call last):
        ValueError: cannot write photo.gif: the extension '.gif' is none of .png, .jpg
    """
    target = Path(path)
    if target.suffix.lower() not in extensions:
        found = f"the extension {target.suffix!r} is none of" if target.suffix else "it has no extension; use one of"
        raise ValueError(f"cannot write {target}: {found} {', '.join(extensions)}")
    if not target.parent.is_dir():
        raise ValueError(f"cannot write {target}: the folder {target.parent} does not exist. Create it first")
    if target.is_dir():
        raise ValueError(f"cannot write {target}: it is a folder")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"cannot write {target}: the folder {target.parent} is not writable")
    return target


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` under another name and rename it: whoever looks sees the old file or the new, never half.

    A link is followed, and a device such as /dev/stdout is written directly.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    target = target.resolve()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name[:80]}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _mode(target: Path) -> int:
    """The permissions the file has, or would have if it were created the usual way."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
