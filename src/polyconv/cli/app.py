"""What all commands share: how a mistake is told (one line, exit status 2), what a NETWORK and an --input are."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from polyconv._checks import choice
from polyconv.network import Network
from polyconv.notation import network

WRONG = 2  # exit status for whatever the caller can put right
STOPPED = 130  # exit status after control-C, as shells have it
_SHAPE = re.compile(r"\d{1,10}(?:x\d{1,10})+", re.ASCII | re.IGNORECASE)


class Command(click.Command):
    """A command whose help ends with examples, each a line that can be copied and run."""

    def __init__(self, *args: Any, examples: Sequence[str], **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        write_lines(formatter, "Examples", self.examples)


def write_lines(formatter: click.HelpFormatter, title: str, lines: Sequence[str]) -> None:
    """A section of a help text, its lines as they are."""
    with formatter.section(title):
        for line in lines:
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Commands(click.Group):
    """A group of commands that tells every mistake in one line, without a traceback, with exit status 2."""

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; exit with 0, with 2 after a mistake, with 130 where it was stopped."""
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        try:
            status = super().main(args, prog_name, standalone_mode=False, **extra)
            sys.stdout.flush()
            sys.exit(status if isinstance(status, int) else 0)
        except click.ClickException as error:
            _tell(_with_hint(error), getattr(error, "ctx", None))
        except (ValueError, MemoryError) as error:
            _tell(str(error) or "there is not enough memory for this")
        except click.Abort:
            click.echo("stopped", err=True)
            sys.exit(STOPPED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader, such as head, has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(0)
            where = f"{error.filename}: " if error.filename else ""
            _tell(f"{where}{error.strerror or error}")


def _with_hint(error: click.ClickException) -> str:
    """The message, and for a mistake in the command line where its help is."""
    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split())
    if context is None or not isinstance(error, click.UsageError):
        return message
    return f"{message}{'' if message[-1:] in '.?' else '.'} See {context.command_path} --help"


def _tell(message: str, context: click.Context | None = None) -> NoReturn:
    """One line on standard error; the lines with the caret of a mistake in the notation are kept."""
    first, *rest = message.split("\n")
    lines = [first, *rest] if len(rest) == 2 and rest[1].strip(" ^") == "" else [" ".join([first, *rest])]
    name = context.command_path if context is not None else "polyconv"
    printable = ["".join(c if c.isprintable() else "?" for c in line) for line in lines]
    click.echo(f"{name}: " + "\n".join(printable), err=True)
    sys.exit(WRONG)


@dataclass(frozen=True)
class Given:
    """A NETWORK as it was given: the network, and for a named one the input it was published with."""

    network: Network
    in_shape: tuple[int, ...] | None = None


def _given(ctx: click.Context, param: click.Parameter, value: str) -> Given:
    """A network from notation, or by name after an @."""
    if not value.startswith("@"):
        return Given(network(value))
    from polyconv.architectures import ARCHITECTURES

    name = value[1:]
    choice(name, tuple(ARCHITECTURES), "a network's name after @")
    return Given(ARCHITECTURES[name](), ARCHITECTURES[name].in_shape)


def _shape(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """The numbers of --input."""
    if value is None:
        return None
    if not _SHAPE.fullmatch(value):
        raise ValueError(
            f"--input {value!r} is no shape. Give channels and sizes joined by x, such as 3x224x224, "
            "or with the batch first: 8x3x224x224"
        )
    return tuple(map(int, value.lower().split("x")))


network_argument = click.argument("given", metavar="NETWORK", callback=_given)
input_option = click.option(
    "--input",
    "input_shape",
    metavar="CxHxW",
    callback=_shape,
    help="Channels and sizes of the input, such as 3x224x224; with the batch first: 8x3x224x224.",
)


def batched(shape: tuple[int, ...] | None, given: Given) -> tuple[int, ...]:
    """``--input`` as (batch, channels, *spatial): a batch of 1 where it was left out, a named network's own for None.

    A network whose layers fit any number of axes takes up to four numbers as channels and sizes.
    """
    if shape is None:
        if given.in_shape is None:
            raise ValueError("the input's shape is missing: give --input, such as --input 3x224x224")
        return given.in_shape
    ndim = given.network.ndim
    if len(shape) < 2 or (ndim is not None and len(shape) not in (ndim + 1, ndim + 2)):
        axes = "CxL" if ndim == 1 else "x".join(("C", *"DHW"[-(ndim or 2) :]))
        text = "x".join(map(str, shape))
        raise ValueError(
            f"--input {text} does not fit a {ndim or 2}-D network. Give {axes}, or Nx{axes} with the batch"
        )
    has_batch = len(shape) == ndim + 2 if ndim is not None else len(shape) > 4
    return shape if has_batch else (1, *shape)
