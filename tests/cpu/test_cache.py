"""The code cache: whatever happens to it, a kernel is right; and what is sound is used."""

import os
import sys
import threading

import numpy as np
import platformdirs
import pytest

from cpu.kernels import ADD_ONE
from cpu.process import run
from polyconv.run.cpu import cache, machine, pool
from polyconv.run.cpu.target import host

KEY = "ab" * 32


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path))
    return tmp_path / "code"


def test_what_is_written_is_read(place):
    assert cache.read(KEY) is None
    assert cache.write(KEY, b"payload")
    assert cache.read(KEY) == b"payload"
    assert cache.write(KEY, b"")
    assert cache.read(KEY) == b""
    assert [path.name for path in place.iterdir()] == [KEY + ".o"]
    assert place.stat().st_mode & 0o777 == 0o700


def test_an_entry_under_another_name_is_refused(place):
    cache.write(KEY, b"payload")
    other = "cd" * 32
    os.rename(place / (KEY + ".o"), place / (other + ".o"))
    assert cache.read(other) is None


def test_every_flipped_bit_and_every_truncation_is_noticed(place):
    cache.write(KEY, b"some machine code")
    path = place / (KEY + ".o")
    good = path.read_bytes()
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        assert cache.read(KEY) is None
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert cache.read(KEY) is None
    path.write_bytes(good + b"\0")
    assert cache.read(KEY) is None
    path.write_bytes(good)
    assert cache.read(KEY) == b"some machine code"


def test_a_damaged_object_is_compiled_again(place, monkeypatch):
    ir = ADD_ONE.replace("add_one", "damaged")
    key = machine.key_of(ir, host())
    first = machine.load(ir, "damaged", host()).address
    path = place / (key + ".o")
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    machine._loaded.clear()
    again = machine.load(ir, "damaged", host()).address
    assert again != first
    assert path.read_bytes() == good
    x, y = np.arange(5, dtype=np.float32), np.zeros(5, np.float32)
    pool.Call([pool.Phase(again, 5)], [x, y])()
    assert np.array_equal(y, x + 1)


def test_others_may_not_enter_the_folder(place):
    cache.write(KEY, b"payload")
    for mode in (0o750, 0o705, 0o777):
        place.chmod(mode)
        assert cache.read(KEY) is None
        assert not cache.write(KEY, b"payload")
    place.chmod(0o700)
    (place / (KEY + ".o")).chmod(0o666)
    assert cache.read(KEY) is None


def test_links_are_refused(place, tmp_path):
    real = tmp_path / "elsewhere"
    real.mkdir(mode=0o700)
    place.symlink_to(real)
    assert not cache.write(KEY, b"payload")
    assert not list(real.iterdir())
    place.unlink()
    cache.write(KEY, b"payload")
    os.rename(place / (KEY + ".o"), real / "file")
    (place / (KEY + ".o")).symlink_to(real / "file")
    assert cache.read(KEY) is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_foreign_owner_is_refused(place, what):
    cache.write(KEY, b"payload")
    os.chown(place if what == "folder" else place / (KEY + ".o"), 65534, 65534)
    assert cache.read(KEY) is None


def test_a_folder_that_cannot_be_made_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POLYCONV_CACHE_DIR", str(tmp_path / "file"))
    assert not cache.write(KEY, b"payload")
    assert cache.read(KEY) is None
    ir = ADD_ONE.replace("add_one", "homeless")
    assert machine.load(ir, "homeless", host()).address


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    out = run(
        f"""
        import resource
        from polyconv.run.cpu import cache
        assert cache.write("{KEY}", b"small")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        assert not cache.write("{"cd" * 32}", bytes(5000))
        check(add_one_call())
        print(sorted(os.listdir(cache.folder())))
        """,
        POLYCONV_CACHE_DIR=str(tmp_path),
    )
    assert KEY in out
    assert "tmp" not in out
    assert "cd" * 32 not in out


def test_the_least_recently_used_goes_first(place, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT_BYTES", 40_000)
    monkeypatch.setattr(cache, "_TRIM_EVERY", 1)
    keys = [f"{number:064x}" for number in range(40)]
    for number, key in enumerate(keys):
        assert cache.write(key, bytes(1900))
        os.utime(place / (key + ".o"), ns=(number * 10**9, number * 10**9))
        assert cache.read(keys[0]) is not None, "it was used just now"
        assert sum(path.stat().st_size for path in place.iterdir()) <= 40_000
    assert cache.read(keys[1]) is None
    assert cache.read(keys[-1]) is not None
    assert not cache.write(KEY, bytes(39_000)), "larger than a quarter of the limit"


def test_many_writers_at_once(place):
    payloads = [bytes([number]) * 10_000 for number in range(8)]
    seen = set()

    def work(payload: bytes) -> None:
        for _ in range(30):
            assert cache.write(KEY, payload)
            seen.add(cache.read(KEY))

    threads = [threading.Thread(target=work, args=(payload,)) for payload in payloads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= set(payloads)
    assert [path.name for path in place.iterdir()] == [KEY + ".o"]


def test_a_fresh_process_finds_its_code_without_loading_llvm(tmp_path):
    code = """
        check(add_one_call())
        if sys.platform == "linux" and os.uname().machine == "x86_64":
            assert ("llvmlite.binding" in sys.modules) == (os.environ["FIRST"] == "1")
        print(sorted(os.listdir(os.environ["POLYCONV_CACHE_DIR"] + "/code")))
    """
    first = run(code, POLYCONV_CACHE_DIR=str(tmp_path), FIRST="1")
    second = run(code, POLYCONV_CACHE_DIR=str(tmp_path), FIRST="0")
    assert first == second
    assert first.count(".o'") == 3, "the processor, the pool, the kernel"


def test_each_environment_has_names_of_its_own():
    from polyconv.run.cpu.target import avx2, neon

    names = {machine.key_of(ADD_ONE, target) for target in (host(), neon())} | {machine.key_of("", host())}
    assert len(names) == 3
    assert (machine.key_of(ADD_ONE, avx2()) in names) == (avx2() == host())
    assert len(cache.source_digest()) == 64


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs is asked")
@pytest.mark.parametrize("setting", [None, "", "relative", "/somewhere/else"])
def test_the_usual_place_is_that_of_platformdirs(setting, monkeypatch):
    monkeypatch.delenv("POLYCONV_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if setting is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", setting)
    if setting != "relative":  # the specification says to ignore it; platformdirs takes it
        assert cache.folder() == platformdirs.user_cache_dir("polyconv", appauthor=False) + "/code"
    assert os.path.isabs(cache.folder())
