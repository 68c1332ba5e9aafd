"""How many threads: told, allowed, or limited by a control group."""

import os

import pytest

from polyconv.run.cpu import cores


def group(root, path, **files):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"cpu.{name}").write_text(text)


def processors(tmp_path, membership):
    (tmp_path / "membership").write_text(membership)
    return cores.cgroup_processors(str(tmp_path / "membership"), str(tmp_path / "fs"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("1000 100000\n", 1),
        ("nonsense", None),
        ("", None),
        ("100 0", None),
    ],
)
def test_version_2(tmp_path, text, expected):
    group(tmp_path / "fs", "a/b", max=text)
    assert processors(tmp_path, "0::/a/b\n") == expected


def test_the_tightest_group_above_binds(tmp_path):
    group(tmp_path / "fs", "a/b", max="800000 100000")
    group(tmp_path / "fs", "a", max="300000 100000")
    group(tmp_path / "fs", "", max="max 100000")
    assert processors(tmp_path, "0::/a/b\n") == 3


def test_inside_a_container_the_root_binds(tmp_path):
    group(tmp_path / "fs", "", max="400000 100000")
    assert processors(tmp_path, "0::/kubepods/not/visible\n") == 4


@pytest.mark.parametrize(("quota", "expected"), [("-1", None), ("250000", 3), ("x", None)])
@pytest.mark.parametrize("controllers", ["cpu,cpuacct", "cpu"])
def test_version_1(tmp_path, quota, expected, controllers):
    group(tmp_path / "fs", f"{controllers}/docker/x", cfs_quota_us=quota, cfs_period_us="100000")
    text = f"4:memory:/docker/x\n3:{controllers}:/docker/x\n1:name=systemd:/\n0::/\n"
    assert processors(tmp_path, text) == expected


def test_no_control_groups(tmp_path):
    assert cores.cgroup_processors(str(tmp_path / "none"), str(tmp_path)) is None
    assert processors(tmp_path, "garbage\n\n:::\n") is None


def test_told(monkeypatch):
    monkeypatch.setenv("POLYCONV_NUM_THREADS", "7")
    assert cores.threads_allowed() == 7
    monkeypatch.setenv("POLYCONV_NUM_THREADS", "100000")
    assert cores.threads_allowed() == cores.MAX_THREADS
    for wrong in ("0", "-2", "two", "1.5"):
        monkeypatch.setenv("POLYCONV_NUM_THREADS", wrong)
        with pytest.raises(ValueError, match=f"POLYCONV_NUM_THREADS='{wrong}' is not a number of threads"):
            cores.threads_allowed()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_and_quota_bound_it(monkeypatch):
    monkeypatch.delenv("POLYCONV_NUM_THREADS", raising=False)
    monkeypatch.setattr(cores, "cgroup_processors", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert cores.threads_allowed() == 6
    monkeypatch.setattr(cores, "cgroup_processors", lambda: 4)
    assert cores.threads_allowed() == 4
    monkeypatch.setattr(cores, "cgroup_processors", lambda: 40)
    assert cores.threads_allowed() == 6
