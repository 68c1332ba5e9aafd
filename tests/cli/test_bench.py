"""``polyconv bench``."""

from __future__ import annotations

import json
import shlex

LAYER = "conv 3x3 8 same relu"
EXAMPLE = 'polyconv bench "conv 3x3 64 same relu | maxpool 2x2" --input 3x64x64 --with polyconv --json'  # of its help


def test_bench_times_and_checks_both_layouts(polyconv):
    done = polyconv("bench", LAYER, "--input", "4x12x13", "--with", "polyconv")
    assert done.exit_code == 0, done.output
    for words in ("Input 1x4x12x13, float32", "time (us)", "polyconv channels_last", "of the limit", "This machine:"):
        assert words in done.stdout


def test_the_example_with_json_holds_times_work_and_ceilings(polyconv):
    assert f"\n  {EXAMPLE}\n" in polyconv("bench", "--help").stdout
    found = json.loads(polyconv(*shlex.split(EXAMPLE)[1:]).stdout)
    assert found["in_shape"] == [1, 3, 64, 64]
    assert found["macs"] == 64 * 3 * 9 * 64 * 64
    assert found["macs_on_data"] < found["macs"]
    for variant in ("polyconv", "polyconv_channels_last"):
        assert 0 < found["results"][variant]["low_s"] <= found["results"][variant]["median_s"]
        assert found["results"][variant]["error"] < 1e-5


def test_bench_refuses_in_one_line(polyconv):
    for arguments, says in [
        (("conv 3x3 4 same reflect", "--input", "4x8x8"), "other libraries take zeros"),
        ((LAYER, "--input", "4x8x8", "--with", "caffe"), "library 'caffe' cannot be timed here; installed are"),
        ((LAYER,), "--input"),
    ]:
        done = polyconv("bench", *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert says in done.stderr
