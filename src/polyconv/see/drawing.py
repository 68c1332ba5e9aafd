"""What ``Network.draw`` returns: frames to look at, in a notebook or saved as a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from polyconv._checks import real_between, whole
from polyconv._files import checked_output, write_whole
from polyconv.layers import Sizes
from polyconv.see.choose import MAX_CHANNELS
from polyconv.see.compose import Composer
from polyconv.see.scene import DEFAULT_FRAMES, scene
from polyconv.see.shapes import Picture
from polyconv.see.sums import Sum
from polyconv.see.svg import svg
from polyconv.see.theme import Theme, ThemeName, theme_named

if TYPE_CHECKING:
    from polyconv.network import Network

EXTENSIONS = (".gif", ".svg", ".png", ".webp", ".apng", ".mp4", ".html")


class Frameable(Protocol):
    """What a drawing needs: how many frames there are, each as a picture, and what each output is the sum of."""

    @property
    def title(self) -> str:
        """What is drawn."""

    @property
    def theme(self) -> Theme:
        """Its colours."""

    @property
    def width(self) -> int:
        """Of every frame."""

    @property
    def height(self) -> int:
        """Of every frame."""

    @property
    def still(self) -> int:
        """The frame that says most on its own."""

    def __len__(self) -> int:
        """The number of frames."""

    def check(self) -> None:
        """Refuse what does not fit, before any frame is made."""

    def picture(self, index: int) -> Picture:
        """One frame."""

    def outputs(self) -> dict[str, Sum]:
        """The sum of every output, under the tag of its cell."""


class Frames(Sequence[Picture]):
    """The pictures of a drawing, each made when it is asked for."""

    def __init__(self, composer: Frameable) -> None:
        self._composer = composer

    def __len__(self) -> int:
        """How many there are."""
        return len(self._composer)

    def __getitem__(self, index: Any) -> Any:
        """One picture, or a list of them."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} does not exist: the drawing has frames 0 to {len(self) - 1}")
        return self._composer.picture(index % len(self))

    def __iter__(self) -> Iterator[Picture]:
        """The pictures in order."""
        return (self[number] for number in range(len(self)))


class Drawing:
    """Something at work, frame by frame.

    Args:
        composer: what makes the frames.
    """

    def __init__(self, composer: Frameable) -> None:
        self.composer = composer
        composer.check()

    @property
    def title(self) -> str:
        """What is drawn."""
        return self.composer.title

    @property
    def frames(self) -> Frames:
        """Every frame as a ``Picture``."""
        return Frames(self.composer)

    def picture(self, frame: int | None = None) -> Picture:
        """One frame as shapes; one near the middle if not said."""
        index = self.composer.still if frame is None else whole(frame, "frame", 0)
        if index >= len(self.frames):
            raise ValueError(f"frame {index} does not exist: the drawing has frames 0 to {len(self.frames) - 1}")
        return self.composer.picture(index)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        frame: int | None = None,
        sheet: bool = False,
        fps: float = 2.0,
        scale: float | None = None,
    ) -> Path:
        """Write the drawing; the path's extension says as what.

        ``.gif``, ``.webp``, ``.apng`` and ``.mp4`` are films, ``.html`` is a page with a player, ``.svg`` and ``.png``
        are one frame. ``.mp4`` needs the extra ``polyconv[see]``.

        Args:
            path: the file; its folder must exist. It is written whole or not at all.
            frame: for .svg and .png: which frame; one near the middle if not given.
            sheet: for .png: all frames on one sheet.
            fps: frames a second, from 0.1 to 30.
            scale: pixels for each of the drawing's (600 across), from 0.25 to 8; 1 for films, 2 for .png and .mp4.

        Returns:
            The path.

        Raises:
            ValueError: another extension, a folder that is not there, or options that do not fit.
            ImportError: for .mp4 without imageio-ffmpeg.
        """
        target = checked_output(path, EXTENSIONS)
        kind = target.suffix.lower()
        _check_options(kind, frame, sheet, fps, scale)
        write_whole(target, self._encoded(kind, frame, sheet, fps, scale))
        return target

    def _encoded(self, kind: str, frame: int | None, sheet: bool, fps: float, scale: float | None) -> bytes:
        """The content of a file of this kind."""
        if kind == ".html":
            from polyconv.see.page import page

            return page(self, fps).encode()
        if kind == ".svg":
            return svg(self.picture(frame)).encode()
        from polyconv.see import film

        chosen = scale or (2.0 if kind in (".png", ".mp4") and not sheet else 1.0)
        if kind == ".png" and not sheet:
            return film.png(self.picture(frame), chosen)
        film.check_size(self.frames, len(self.frames), chosen)
        if sheet:
            return film.sheet(self.frames, chosen)
        write = {".gif": film.gif, ".webp": film.webp, ".apng": film.apng, ".mp4": film.mp4}[kind]
        return write(self.frames, fps, chosen)

    def _repr_html_(self) -> str:
        """How a notebook shows it: with its player."""
        from polyconv.see.page import embedded

        return embedded(self)

    def _repr_svg_(self) -> str:
        """How a notebook shows it where nothing moves."""
        return svg(self.picture())

    def __repr__(self) -> str:
        """What is drawn, and in how many frames."""
        return f"Drawing({self.title!r}, {len(self.frames)} frames of {self.composer.width}x{self.composer.height})"


def _check_options(kind: str, frame: int | None, sheet: bool, fps: float, scale: float | None) -> None:
    """Refuse what has no meaning for a kind of file."""
    if frame is not None and (kind not in (".svg", ".png") or sheet):
        raise ValueError(f"frame={frame} is for one picture, .svg or .png; a {'sheet' if sheet else kind} has them all")
    if sheet and kind != ".png":
        raise ValueError(f"a sheet of all frames is a .png, got {kind}")
    real_between(fps, "fps", 0.1, 30.0)
    real_between(1.0 if scale is None else scale, "scale", 0.25, 8.0)


def draw(
    network: Network,
    input_size: Sizes | int | None = None,
    in_channels: int | None = None,
    *,
    x: Any = None,
    weights: Mapping[str, Any] | None = None,
    seed: int = 0,
    view: Literal["stamp", "slide"] = "stamp",
    flip: bool = False,
    theme: ThemeName = "auto",
    max_frames: int = DEFAULT_FRAMES,
    max_channels: int = MAX_CHANNELS,
) -> Drawing:
    """Draw a network at work: see ``Network.draw``."""
    colours = theme_named(theme)
    made = scene(
        network,
        input_size,
        in_channels,
        x=x,
        weights=weights,
        seed=seed,
        view=view,
        flip=flip,
        max_frames=max_frames,
        max_channels=max_channels,
    )
    return Drawing(Composer(made, colours))
