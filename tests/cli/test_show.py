"""Numbers and tables, on any width of terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from polyconv._units import amount, gflops, milliseconds, shown_shape
from polyconv.cli.show import Table

TABLE = Table(
    ("kind", "network", "parameters", "MACs on data"),
    [("standard", "conv 3x3 64 same [bold]", "18,496", "56,434,688"), ("\x1b[31mred", "relu", "0", "0")],
    words=2,
)


def printed(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    console.print(TABLE.fitted(width))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_number_is_ever_cut_and_no_line_is_too_long(width):
    lines = printed(width)
    text = " ".join(lines)
    for cell in ("18,496", "56,434,688"):
        assert cell in text
    assert all(len(line) <= width for line in lines)
    assert "\x1b" not in text


def test_a_wide_terminal_gets_columns_and_brackets_are_no_markup():
    text = "\n".join(printed(200))
    assert "conv 3x3 64 same [bold]" in text
    assert "─" in text


def test_a_narrow_terminal_gets_the_words_above_columns_of_numbers():
    assert printed(34) == [
        "                    MACs",
        "  parameters     on data",
        "-" * 24,
        "standard  conv 3x3 64 same [bold]",
        "      18,496  56,434,688",
        "?[31mred  relu",
        "           0           0",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999_499, "999,499"),
        (1_190_000, "1.19 M"),
        (999_900_000, "1,000 M"),
        (4.1e9, "4.1 G"),
        (6.2e11, "620 G"),
    ],
)
def test_amounts(value, text):
    assert amount(value) == text


def test_times_rates_and_shapes():
    assert milliseconds(0.000471) == "0.471"
    assert milliseconds(0.0123) == "12.3"
    assert milliseconds(3.844) == "3,844"
    assert gflops(5e8, 0.1) == "10"
    assert gflops(0, 0.1) == "-"
    assert shown_shape((1, 3, 8, 9)) == "3x8x9"
    assert shown_shape((296, 3, 448)) == "296 of 3x448"


def test_a_letter_that_the_terminal_lacks_is_no_error():
    code = (
        "import sys, click; from polyconv import cli; from polyconv.cli.show import Table, echo; "
        "said = click.Command('say', callback=lambda: echo(Table(('kind', 'ms'), [('à trous', '1')]))); "
        "cli.commands.add_command(said); sys.argv = ['polyconv', 'say']; cli.main()"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "? trous" in done.stdout
