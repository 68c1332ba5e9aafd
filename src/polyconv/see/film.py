"""The frames of a drawing as files of pixels: GIF, WebP, APNG, MP4, one PNG, or all frames on one sheet."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyconv.see.raster import raster
from polyconv.see.shapes import Picture, Raster

if TYPE_CHECKING:
    from PIL.Image import Image

COLOURS = 96  # of a GIF's palette
LARGEST_FILM = 500_000_000  # pixels, of all frames together
SHEET_WIDTH = 2400
INSTALL = 'writing .mp4 needs imageio-ffmpeg. Install it with: pip install "polyconv[see]"'


def check_size(pictures: Sequence[Picture], count: int, scale: float) -> None:
    """Refuse a film that would not fit the memory, before any frame is drawn."""
    width, height = pictures[0].width, pictures[0].height
    pixels = int(count * width * scale * height * scale)
    if pixels > LARGEST_FILM:
        raise ValueError(
            f"{count} frames of {round(width * scale)}x{round(height * scale)} are {pixels:,} pixels, at most "
            f"{LARGEST_FILM:,} are drawn. Use a smaller scale or fewer max_frames"
        )


def gif(pictures: Sequence[Picture], fps: float, scale: float = 1.0) -> bytes:
    """An animated GIF that repeats for ever; its last frame stays three times as long."""
    import PIL.Image

    frames = [raster(picture, scale) for picture in pictures]
    photographic = any(isinstance(shape, Raster) for shape in pictures[0].shapes)
    palette, plain = _palette(frames, 256 if photographic else COLOURS), PIL.Image.Dither.NONE
    indexed = [frame.quantize(palette=palette, dither=plain) for frame in frames]
    return _animated(indexed, "GIF", fps, loop=0, optimize=True, disposal=1)


def webp(pictures: Sequence[Picture], fps: float, scale: float = 1.0) -> bytes:
    """An animated WebP without loss."""
    return _animated([raster(p, scale) for p in pictures], "WEBP", fps, loop=0, lossless=True, quality=60, method=2)


def apng(pictures: Sequence[Picture], fps: float, scale: float = 1.0) -> bytes:
    """An animated PNG."""
    return _animated([raster(p, scale) for p in pictures], "PNG", fps, loop=0)


def png(picture: Picture, scale: float = 2.0) -> bytes:
    """One frame."""
    return _saved(raster(picture, scale))


def sheet(pictures: Sequence[Picture], scale: float = 1.0) -> bytes:
    """All frames on one PNG, in rows."""
    return _saved(tiled([raster(p, scale) for p in pictures], pictures[0].background))


def tiled(images: Sequence[Image], background: str, gap: int = 12) -> Image:
    """Images beside and below each other, each row as high as its highest."""
    from PIL import Image

    width = max(image.width for image in images)
    columns = max(1, min(len(images), round((len(images) * 1.4) ** 0.5), SHEET_WIDTH // (width + gap) or 1))
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    heights = [max(image.height for image in row) for row in rows]
    made = Image.new("RGB", (columns * (width + gap) + gap, sum(heights) + gap * (len(rows) + 1)), background)
    y = gap
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            made.paste(image, (gap + column * (width + gap), y))
        y += height + gap
    return made


def mp4(pictures: Sequence[Picture], fps: float, scale: float = 2.0) -> bytes:
    """A film in H.264, its sides even as the codec needs.

    Raises:
        ImportError: without imageio-ffmpeg, which carries the encoder.
    """
    try:
        import imageio_ffmpeg
    except ImportError:
        raise ImportError(INSTALL) from None
    first = _even(raster(pictures[0], scale))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        writer: Any = imageio_ffmpeg.write_frames(
            str(path), first.size, fps=fps, codec="libx264", macro_block_size=2, quality=8, ffmpeg_log_level="error"
        )
        writer.send(None)
        for frame in _after(first, pictures, scale):
            writer.send(frame.tobytes())
        writer.close()
        return path.read_bytes()


def _after(first: Image, pictures: Iterable[Picture], scale: float) -> Iterator[Image]:
    for index, picture in enumerate(pictures):
        yield first if index == 0 else _even(raster(picture, scale))


def _even(image: Image) -> Image:
    """The image, at most a row and a column of its margin less."""
    return image.crop((0, 0, image.width // 2 * 2, image.height // 2 * 2))


def _palette(frames: Sequence[Image], colours: int) -> Image:
    """The colours of the first, the middle and the last frame."""
    from PIL import Image

    chosen = [frames[0], frames[len(frames) // 2], frames[-1]]
    joined = Image.new("RGB", (chosen[0].width, chosen[0].height * 3))
    for index, frame in enumerate(chosen):
        joined.paste(frame, (0, index * frame.height))
    return joined.quantize(colors=colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def _animated(frames: list[Image], kind: str, fps: float, **options: Any) -> bytes:
    """Several images as one animated file."""
    duration = max(20, round(1000 / fps))
    durations = [duration] * (len(frames) - 1) + [duration * 3]
    file = io.BytesIO()
    if len(frames) == 1:
        frames[0].save(file, kind, **{key: value for key, value in options.items() if key in ("lossless", "quality")})
    else:
        frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=durations, **options)
    return file.getvalue()


def _saved(image: Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
