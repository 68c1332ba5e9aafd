"""The command: ``scripts/bench``, or ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import environments

OUT = environments.ROOT / "out" / "bench.json"


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    made.add_argument("--list", default="suite", choices=["suite", "others", "networks", "all"], help="which list")
    made.add_argument("--layers", default="*", metavar="GLOB", help="layers by name, as in 'depthwise/*,pool/*'")
    made.add_argument("--peers", metavar="NAMES", help="libraries to time, as in polyconv,torch (default: all)")
    made.add_argument("--layout", default="both", choices=["both", "channels_last", "channels_first"])
    made.add_argument("--repeat", type=int, default=3, metavar="N", help="interleaved rounds (3)")
    made.add_argument("--quick", action="store_true", help="short rounds: for a first look")
    made.add_argument("--json", type=Path, default=OUT, metavar="FILE", help="results, added to what is there")
    made.add_argument("--resume", action="store_true", help="leave out what the results already have")
    made.add_argument("--seconds", type=float, metavar="S", help="start no new layer after this long; then --resume")
    made.add_argument("--threads", type=int, default=2, metavar="N", help="threads of every library (2)")
    made.add_argument("--extras", action="store_true", help="polyconv's first calls, new sizes, tiny layer, memory")
    made.add_argument("--calls", type=int, default=100_000, metavar="N", help="calls of the memory test (100,000)")
    made.add_argument("--report", action="store_true", help="write docs/benchmarks.md from the results; times nothing")
    made.add_argument("--no-install", action="store_true", help="use this interpreter's environment as it is")
    return made


def main() -> int:
    """Install, measure, print; 1 where polyconv gave a wrong answer."""
    options = parser().parse_args()
    if not options.no_install:
        environments.ensure()
        environments.enter()
    sys.path.insert(0, str(environments.ROOT / "src"))
    from benchmarks import command

    return command.run(options)


if __name__ == "__main__":
    sys.exit(main())
