"""The command that measures which way each layer runs fastest on this machine, and remembers it."""

from __future__ import annotations

from typing import Literal

import click

from polyconv.cli.app import Command, Given, batched, input_option, network_argument
from polyconv.cli.show import Table, echo

_HEADINGS = ("stage", "layout", "planned", "fastest", "planned (us)", "fastest (us)", "tried")


@click.command(
    cls=Command,
    short_help="Measure which way each layer runs fastest here, and remember it.",
    examples=(
        'polyconv tune "conv 3x3 64 same relu" --input 32x56x56',
        'polyconv tune "depthwise 3x3 same | pointwise 64" --input 32x56x56 --layout channels_last --seconds 0.02',
    ),
)
@network_argument
@input_option
@click.option(
    "--layout", type=click.Choice(["both", "channels_first", "channels_last"]), default="both", show_default=True,
    help="Which layout of the arrays to tune for.",
)  # fmt: skip
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True)
@click.option("--seconds", type=float, default=0.1, show_default=True, help="Time to spend on each way.")
def tune(
    given: Given,
    input_shape: tuple[int, ...] | None,
    layout: Literal["both", "channels_first", "channels_last"],
    dtype: Literal["float32", "float64"],
    seconds: float,
) -> None:
    """Time every way to run each layer of NETWORK at this input's shape, and remember the fastest.

    What was measured is kept beside the code cache, for this machine, this version and this number of threads; models
    bound later use it, and polyconv explain says "measured". Deleting the cache forgets it.
    """
    from polyconv.cli.run import check_memory
    from polyconv.run.tune import tune as measure

    shape = batched(input_shape, given)
    check_memory(given.network.count(shape))
    found = measure(given.network, shape, layout=layout, dtype=dtype, seconds=seconds)
    if not found:
        echo("Nothing to tune: no stage runs as machine code here (polyconv explain says why).")
        return
    rows = []
    for one in found:
        times = [f"{value * 1e6:,.1f}" for value in (one.planned_seconds, one.seconds)]
        rows.append((one.stage, one.layout, one.planned, one.fastest, *times, str(one.tried)))
    echo(Table(_HEADINGS, rows, words=4))
    if not all(one.kept for one in found):
        echo("The code cache cannot be written, so nothing is remembered (POLYCONV_CACHE_DIR names another folder).")
