"""``polyconv run``: a network on a picture."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyconv._units import amount, gflops, milliseconds
from polyconv.cli.app import Command, Given, network_argument
from polyconv.cli.show import Table, echo
from polyconv.count.render import sizes_text
from polyconv.network import Network

if TYPE_CHECKING:
    from polyconv.count.tally import Report
    from polyconv.run.problem import Array

REPEATS = 3
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma


@click.command(
    cls=Command,
    short_help="A network on a picture, with a chart of its layers.",
    examples=(
        'polyconv run "conv 3x3 16 same relu | maxpool 2x2" picture.jpg -o features.png',
        'polyconv run "depthwise 5x5 dilation 2 same" picture.jpg -o out.npy --seed 3',
    ),
)
@network_argument
@click.argument("picture", type=click.Path())
@click.option(
    "-o", "--output", required=True, help="Where the result goes: .png, .jpg, .webp, or .npy for the numbers."
)
@click.option("--weights", type=click.Path(), help="A .npz file with the arrays that the network needs, by name.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random weights.")
@click.option("--grey", is_flag=True, help="Read the picture as one grey channel instead of red, green and blue.")
def run(given: Given, picture: str, output: str, weights: str | None, seed: int, grey: bool) -> None:
    """Run NETWORK on PICTURE and chart its layers: shape, MACs, time, GFLOP/s.

    The picture's values go in as 0 to 1, with its colours as 3 channels. A 1-D network reads each row of pixels as a
    signal; a 3-D one reads the three colours as depth, with one channel. A .npy file goes in as it is:
    (batch, channels, *spatial).

    Without --weights they are random, the same for the same seed. The names and shapes they need: --weights with any
    file tells what is missing. A result of 1 or 3 channels becomes a grey or colour picture, scaled where values lie
    outside 0 to 1; of any other number the first 16 channels are shown as tiles. A .npy file gets all of it.
    """
    from polyconv._files import checked_output, write_whole
    from polyconv.images import WRITABLE

    network = given.network
    target = checked_output(output, (*WRITABLE, ".npy"))
    arrays = None if weights is None else read_weights(weights)
    x = read_input(picture, network, grey or _wants_grey(network, arrays))
    report = network.count(x.shape)
    check_memory(report)
    if arrays is None:
        arrays = network.weights(x.shape[1], seed, dtype=x.dtype.name, ndim=x.ndim - 2)
    try:
        model = network.bind(arrays)
        if model.dtype is not None and Path(picture).suffix.lower() != ".npy":
            x = x.astype(model.dtype)
        result, seconds = model.profile(x, repeats=REPEATS)
    except TypeError as error:  # a dtype that does not fit
        raise ValueError(str(error)) from None
    content, words = encoded_result(result, target.suffix.lower())
    write_whole(target, content)
    echo(
        chart(report, seconds),
        f"Input {sizes_text(x.shape)}, weights {weights or f'random, seed {seed}'}.",
        f"{target}: {words}",
    )


def _wants_grey(network: Network, arrays: dict[str, Any] | None) -> bool:
    """Whether the weights are for one input channel."""
    if arrays is None:
        return False
    from polyconv.run.weights import checked_weights

    try:
        return checked_weights(network, arrays)[1] == 1
    except TypeError as error:
        raise ValueError(str(error)) from None


def read_weights(path: str) -> dict[str, Any]:
    """The arrays of an .npz file; ValueError for anything else."""
    import zipfile

    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > memory():
            raise ValueError(f"it holds {size:,} bytes, this machine has {memory():,}")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except OSError as error:
        raise ValueError(f"cannot read the weights {path}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, NotImplementedError) as error:
        raise ValueError(f"cannot read the weights {path}: {error}. Write them with numpy.savez") from None


def read_input(path: str, network: Network, grey: bool) -> Array:
    """A picture or array as (batch, channels, *spatial) for this network."""
    import numpy as np

    if Path(path).suffix.lower() == ".npy":
        try:
            array: Array = np.load(path, allow_pickle=False)
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
        except (ValueError, EOFError) as error:
            raise ValueError(f"cannot read {path}: {error}") from None
        if array.dtype.name not in ("float32", "float64"):
            raise ValueError(f"{path} holds {array.dtype}, polyconv runs float32 or float64. Convert it with astype")
        return array
    from polyconv.images import read_picture

    pixels = read_picture(path)
    channels = (pixels @ np.array(GREY, np.float32))[None] if grey else np.moveaxis(pixels, -1, 0)
    if network.ndim == 1:
        return np.ascontiguousarray(np.moveaxis(channels, 1, 0))
    if network.ndim == 3:
        return np.ascontiguousarray(channels[None, None])
    return np.ascontiguousarray(channels[None])


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(*reports: Report) -> None:
    """Refuse what would need more memory than there is, before any work."""
    needed = max(report.peak_activation_bytes + report.weight_bytes for report in reports)
    if needed > memory():
        raise ValueError(
            f"this needs {amount(needed)}B of memory or more, this machine has {amount(memory())}B. "
            "Use a smaller input or fewer channels"
        )


def encoded_result(result: Array, extension: str) -> tuple[bytes, str]:
    """The result as a file's bytes, and in words what the file shows."""
    import numpy as np

    if extension == ".npy":
        file = io.BytesIO()
        np.save(file, result)
        return file.getvalue(), f"all values, {result.dtype} of shape {result.shape}"
    if result.size == 0:
        raise ValueError(f"the output of shape {result.shape} is empty: there is nothing to show. Write it as .npy")
    from polyconv.images import encoded
    from polyconv.views import first_look

    rows = result.ndim == 3  # rows of pixels were the batch
    planes = np.moveaxis(result, 0, 1) if rows else result[0].reshape(-1, *result.shape[-2:])
    image, words = first_look(planes)
    if len(result) > 1 and not rows:
        words += f", of the first of {len(result)} in the batch"
    return encoded(image, extension), f"{image.shape[1]} x {image.shape[0]} pixels: {words}"


def chart(report: Report, seconds: dict[str, float]) -> Any:
    """What each layer does and how fast, with the total."""
    rows = [
        (
            row.name,
            row.text,
            sizes_text(row.out_shape),
            amount(row.params),
            amount(row.macs),
            amount(row.macs_on_data),
            milliseconds(seconds[row.name]),
            gflops(row.macs, seconds[row.name]),
        )
        for row in report.rows
    ]
    total = sum(seconds.values())
    last = (sizes_text(report.out_shape), amount(report.params), amount(report.macs), amount(report.macs_on_data))
    if len(rows) > 1:
        rows.append(("total", "", *last, milliseconds(total), gflops(report.macs, total)))
    headings = ("stage", "layer", "output", "parameters", "MACs", "MACs on data", "ms", "GFLOP/s")
    return Table(headings, rows, words=2)
