"""``polyconv tour``: every kind of convolution on a photograph."""

from __future__ import annotations

import os

import click

from polyconv._units import amount, gflops, milliseconds, shown_shape
from polyconv.cli.app import Command
from polyconv.cli.show import Table, echo
from polyconv.count.render import sizes_text

PAGE = "polyconv-tour.html"


@click.command(
    cls=Command,
    short_help="Every kind of convolution on a photograph, in one page.",
    examples=(
        "polyconv tour",
        "polyconv tour picture.jpg -o tour.html",
    ),
)
@click.argument("picture", type=click.Path(), required=False)
@click.option("-o", "--output", default=PAGE, show_default=True, help="The page to write.")
@click.option("--open", "show", is_flag=True, help="Show the page in the browser.")
def tour(picture: str | None, output: str, show: bool) -> None:
    """Show every kind of convolution on a photograph, side by side, in one page.

    PICTURE is made smaller where it is large; without one the photograph that ships is taken. Prints what each kind
    costs, and writes an HTML file that holds everything and can be sent to a friend.
    """
    from polyconv._files import checked_output, write_whole
    from polyconv.images import photograph, read_picture
    from polyconv.tour import prepared, visits
    from polyconv.tour.page import page

    target = checked_output(output, (".html", ".htm"))
    pixels = prepared(photograph() if picture is None else read_picture(picture))
    done = list(visits(pixels))
    write_whole(target, page(done, pixels, None if picture is None else os.path.basename(picture)).encode())
    rows = [
        (
            visit.stop.title,
            visit.stop.notation,
            shown_shape(visit.report.out_shape),
            f"{visit.report.params:,}",
            amount(visit.report.macs),
            amount(visit.report.macs_on_data),
            sizes_text(visit.report.receptive_field.size),
            milliseconds(visit.seconds),
            gflops(visit.report.macs, visit.seconds),
        )
        for visit in done
    ]
    headings = ("kind", "notation", "output", "parameters", "MACs", "MACs on data", "field (px)", "ms", "GFLOP/s")
    echo(Table(headings, rows, words=2), f"The pictures are in {target.resolve()}")
    if show:
        click.launch(str(target.resolve()))
