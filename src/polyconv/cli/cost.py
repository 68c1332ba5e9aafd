"""The commands that need no picture: what networks cost, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from polyconv.cli.app import Command, Given, batched, input_option, network_argument
from polyconv.cli.show import Table, echo
from polyconv.count.render import sizes_text

if TYPE_CHECKING:
    from polyconv.count.advice import Advice
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
        seen = ("?", "?") if field is None else (sizes_text(field.size), sizes_text(field.stride))
        numbers = (f"{row.params:,}", f"{row.macs:,}", f"{row.macs_on_data:,}")
        rows.append((row.name, row.text, sizes_text(row.out_shape), *numbers, *seen))
    totals = (f"{report.params:,}", f"{report.macs:,}", f"{report.macs_on_data:,}")
    rows.append(("total", "", sizes_text(report.out_shape), *totals, *rows[-1][-2:]))
    echo(Table(headings, rows, words=2), *remarks(report))


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

    rows = [(f"@{name}", sizes_text(known.in_shape), known.source) for name, known in ARCHITECTURES.items()]
    echo(Table(("network", "input", "source"), rows, words=3))


@click.command(
    cls=Command,
    short_help="What other kinds of convolution would cost in a layer's place.",
    examples=(
        'polyconv compare "conv 3x3 64 same" --input 32x56x56',
        'polyconv compare "conv 3x3 64 same" --input 32x56x56 --chart costs.svg',
    ),
)
@network_argument
@input_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--chart", type=click.Path(), metavar="FILE", help="Also draw a chart: .svg or .png.")
def compare(given: Given, input_shape: tuple[int, ...] | None, as_json: bool, chart: str | None) -> None:
    """Compare one convolution with what other kinds would cost at the same input and output.

    Parameters, MACs, receptive field and the time on this machine, each with its ratio to the standard convolution.
    """
    from polyconv._files import checked_output
    from polyconv.cli.run import check_memory
    from polyconv.count.alternatives import compare

    if chart is not None:
        checked_output(chart, (".svg", ".png"))
    comparison = compare(given.network, batched(input_shape, given))
    check_memory(*(row.report for row in comparison.rows))
    comparison = comparison.timed()
    if chart is not None:
        from polyconv.see.costs import draw_costs

        draw_costs(comparison).save(chart)
    if as_json:
        click.echo(json.dumps(comparison.as_dict(), indent=2))
        return
    headings, *rows = comparison.lines()
    echo(comparison.heading, Table(headings, rows, words=2), *comparison.remarks())


@click.command(
    cls=Command,
    short_help="What is known to go wrong with a network, and how to fix it.",
    examples=(
        'polyconv check "conv 3x3 8 same relu | transposed 3x3 8 stride 2"',
        "polyconv check @mobilenet_v1 --input 3x32x32",
    ),
)
@network_argument
@input_option
@click.option("--strict", is_flag=True, help="Exit with status 1 where there is a warning.")
def check(given: Given, input_shape: tuple[int, ...] | None, strict: bool) -> int:
    """Check NETWORK for what practitioners learn the hard way: each warning with the reason, the fix and the source.

    With --input, or for a named network, it also looks at what depends on sizes.
    """
    from polyconv.count.advice import check

    shape = given.in_shape if input_shape is None else batched(input_shape, given)
    found = check(given.network, shape)
    echo(*_merged(found))
    echo({0: "No warnings.", 1: "1 warning."}.get(len(found), f"{len(found)} warnings."))
    return 1 if found and strict else 0


def _merged(found: Sequence[Advice]) -> list[str]:
    """The warnings as text, those that differ only in their stage as one."""
    stages: dict[Advice, list[str]] = {}
    for advice in found:
        stages.setdefault(replace(advice, stage=""), []).append(advice.stage)
    return [str(replace(advice, stage=", ".join(names))) for advice, names in stages.items()]
