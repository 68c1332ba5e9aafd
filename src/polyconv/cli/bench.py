"""The command that times a network beside the other libraries of this environment."""

from __future__ import annotations

import json

import click

from polyconv.cli.app import Command, Given, batched, input_option, network_argument
from polyconv.cli.show import Table, echo

_HEADINGS = ("library", "time (us)", "GFLOP/s", "of the limit", "error")


@click.command(
    cls=Command,
    short_help="Time a network here, beside the libraries that are installed.",
    examples=(
        'polyconv bench "depthwise 7x7 same" --input 96x56x56',
        'polyconv bench "conv 3x3 64 same relu | maxpool 2x2" --input 3x64x64 --with polyconv --json',
        "polyconv bench @mobilenet_v1 --with torch",
    ),
)
@network_argument
@input_option
@click.option("--with", "others", multiple=True, metavar="LIBRARY", help="Only these libraries beside polyconv.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(given: Given, input_shape: tuple[int, ...] | None, others: tuple[str, ...], as_json: bool) -> None:
    """Time NETWORK in polyconv and in the libraries installed here.

    Every library runs in a process of its own, the others stopped, and its answer is checked first. Times are the 20th
    percentile of many calls. The limit is what this machine's measured arithmetic and memory allow a direct method.
    Batch norms are folded into the convolutions before them, for all libraries alike.
    """
    from polyconv.cli.run import check_memory
    from polyconv.count.render import sizes_text
    from polyconv.run.bench.race import race

    shape = batched(input_shape, given)
    check_memory(given.network.count(shape))
    found = race(given.network, shape, libraries=["polyconv", *others] if others else None)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    machine = found.ceilings
    echo(f"Input {sizes_text(shape)}, float32, {machine.threads} threads.", Table(_HEADINGS, found.rows()))
    echo(*(f"{title}: {problem}" for title, problem in found.problems()))
    for layout in ("channels_first", "channels_last"):
        ratio = found.ratio(layout)
        if ratio is not None:
            echo(f"{layout}: the fastest other library takes {ratio:.2f} times as long as polyconv.")
    rate = machine.bytes_s(2**28) / 1e9
    echo(f"This machine: {machine.flops_s / 1e9:.0f} GFLOP/s, copies {rate:.0f} GB/s from memory.")
