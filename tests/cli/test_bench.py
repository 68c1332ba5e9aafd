"""``polyconv bench``."""

from __future__ import annotations

import json

LAYER = "conv 3x3 8 same relu"


def test_bench_times_and_checks_both_layouts(polyconv):
    done = polyconv("bench", LAYER, "--input", "4x12x13", "--with", "polyconv")
    assert done.exit_code == 0, done.output
    for words in ("Input 1x4x12x13, float32", "time (us)", "polyconv channels_last", "of the limit", "This machine:"):
        assert words in done.stdout


def test_bench_as_json_holds_times_work_and_ceilings(polyconv):
    found = json.loads(polyconv("bench", LAYER, "--input", "4x12x13", "--with", "polyconv", "--json").stdout)
    assert found["in_shape"] == [1, 4, 12, 13]
    assert found["macs"] == 8 * 4 * 9 * 12 * 13
    assert found["macs_on_data"] < found["macs"]
    for variant in ("polyconv", "polyconv_channels_last"):
        assert 0 < found["results"][variant]["low_s"] <= found["results"][variant]["median_s"]
        assert found["results"][variant]["error"] < 1e-5


def test_bench_refuses_in_one_line(polyconv):
    for arguments, says in [
        (("concat(conv 3x3 4 same, pointwise 4)", "--input", "4x8x8"), "chains of layers"),
        ((LAYER, "--input", "4x8x8", "--with", "caffe"), "library 'caffe' cannot be timed here; installed are"),
        ((LAYER,), "--input"),
    ]:
        done = polyconv("bench", *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert says in done.stderr
