"""The command ``polyconv``: one group, one command for each thing one wants to know or do."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from polyconv import __version__
from polyconv.cli.app import Commands, write_lines
from polyconv.cli.bench import bench
from polyconv.cli.cost import architectures, check, compare, count, explain
from polyconv.cli.draw import draw
from polyconv.cli.run import run
from polyconv.cli.studio import studio
from polyconv.cli.tour import tour
from polyconv.cli.tune import tune

__all__ = ["commands", "main"]

NOTATION = (
    '"conv 3x3 64 stride 2 same relu | maxpool 2x2"',
    '"depthwise 3x3 same | pointwise 64"',
    '"separable 5x5 16 same"',
    '"conv 3x3 8 dilation 4 padding 4 groups 2 nobias"',
    '"transposed 4x4 8 stride 2 padding 1"',
    '"concat(pointwise 8, conv 3x3 8 same) | 3 * (conv 3x3 16 same relu)"',
)
START = (
    "polyconv tour",
    'polyconv count "conv 3x3 64 same relu | maxpool 2x2" --input 3x224x224',
)


class _Polyconv(Commands):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_lines(formatter, "A NETWORK is one line of text in quotes, or a known one such as @resnet50", NOTATION)
        write_lines(formatter, "Start with", START)


@click.group(cls=_Polyconv, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="polyconv")
def commands() -> None:
    """Every kind of convolution in deep learning: run it, count it, see it."""


for _command in (tour, studio, run, bench, draw, count, compare, check, explain, tune, architectures):
    commands.add_command(_command)


def main() -> None:
    """The entry point of the ``polyconv`` script: what the terminal's encoding lacks is printed as a question mark."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    commands(prog_name="polyconv")
