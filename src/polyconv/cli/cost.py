"""The commands that need no picture: ``count``, ``explain`` and ``architectures``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from polyconv.cli.app import Command, Given, batched, input_option, network_argument
from polyconv.cli.show import echo, sizes, table

if TYPE_CHECKING:
    from polyconv.count.tally import Report


@click.command(
    cls=Command,
    short_help="What a network costs: shapes, parameters, MACs, receptive fields.",
    examples=(
        'polyconv count "conv 3x3 64 same relu | maxpool 2x2" --input 3x224x224',
        "polyconv count @resnet50 --json",
    ),
)
@network_argument
@input_option
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
def count(given: Given, input_shape: tuple[int, ...] | None, form: str | None) -> None:
    """Count NETWORK: shapes, parameters, multiply-accumulates, bytes, receptive fields.

    MACs are those of the defining sum, padding included, without bias; MACs on data leave out what multiplies padding.
    FLOPs are 2 x MACs. A named network has its own --input.
    """
    report = given.network.count(batched(input_shape, given))
    if form == "json":
        click.echo(report.to_json())
    elif form == "csv":
        click.echo(report.to_csv(), nl=False)
    else:
        _print(report)


def _print(report: Report) -> None:
    from polyconv.count.render import remarks

    headings = ("stage", "layer", "output", "parameters", "MACs", "MACs on data", "field (px)", "stride (px)")
    rows = []
    for row in report.rows:
        field = row.receptive_field
        seen = ("?", "?") if field is None else (sizes(field.size), sizes(field.stride))
        numbers = (f"{row.params:,}", f"{row.macs:,}", f"{row.macs_on_data:,}")
        rows.append((row.name, row.text, sizes(row.out_shape), *numbers, *seen))
    totals = (f"{report.params:,}", f"{report.macs:,}", f"{report.macs_on_data:,}")
    rows.append(("total", "", sizes(report.out_shape), *totals, *rows[-1][-2:]))
    echo(table("", headings, rows, words=2), *remarks(report))


@click.command(
    cls=Command,
    short_help="Which kernel runs each stage on this machine, and why.",
    examples=('polyconv explain "conv 3x3 64 same relu | depthwise 3x3" --input 32x56x56',),
)
@network_argument
@input_option
def explain(given: Given, input_shape: tuple[int, ...] | None) -> None:
    """Say which kernel runs each stage of NETWORK on this machine, and why."""
    from polyconv.cli.run import check_memory

    shape = batched(input_shape, given)
    network = given.network
    check_memory(network.count(shape))
    model = network.bind(network.weights(shape[1], ndim=len(shape) - 2))
    echo(model.explain(shape))


@click.command(cls=Command, short_help="Known networks, to use as @NAME.", examples=("polyconv architectures",))
def architectures() -> None:
    """List the networks that have a name: give @NAME where a command wants a NETWORK."""
    from polyconv.architectures import ARCHITECTURES

    rows = [(f"@{name}", sizes(known.in_shape), known.source) for name, known in ARCHITECTURES.items()]
    echo(table("", ("network", "input", "source"), rows, words=3))
