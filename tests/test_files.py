"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from polyconv._files import checked_output, write_whole


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "out.bin"
    write_whole(target, b"old")

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_permissions_are_kept_or_the_usual_ones(tmp_path: Path):
    target, fresh = tmp_path / "out.bin", tmp_path / "usual"
    write_whole(target, b"1")
    fresh.write_bytes(b"1")
    assert target.stat().st_mode == fresh.stat().st_mode
    target.chmod(0o640)
    write_whole(target, b"2")
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path: Path):
    target, link = tmp_path / "real", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_device_is_written_directly():
    write_whole("/dev/null", b"gone")


def test_a_long_name_is_fine(tmp_path: Path):
    target = tmp_path / ("n" * 250 + ".png")
    write_whole(target, b"x")
    assert target.read_bytes() == b"x"


def test_large_letters_in_the_extension_are_fine(tmp_path: Path):
    assert checked_output(tmp_path / "A.PNG", (".png",)) == tmp_path / "A.PNG"
