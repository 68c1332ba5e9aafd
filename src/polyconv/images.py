"""Pictures at the border: files to arrays and back. Arrays are (height, width, channels), values from 0 to 1."""

from __future__ import annotations

import io
import os
import warnings
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from polyconv.run.problem import Array

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MAX_PIXELS = 64_000_000
READABLE = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # formats read by Pillow alone, without other programs
WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_WHITE = 255


def photograph() -> Array:
    """The photograph that ships with polyconv (see data/README.md), (296, 448, 3).

    Example:
        >>> photograph().shape
        (296, 448, 3)
    """
    content = (resources.files("polyconv") / "data" / "chelsea.jpg").read_bytes()
    return _as_array(_opened(io.BytesIO(content), "chelsea.jpg"))


def read_picture(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Array:
    """A picture as float32 of shape (height, width, 3) from 0 to 1: upright, in colour, transparency over white.

    Args:
        path: a JPEG, PNG, WebP, GIF (first frame), BMP, TIFF or PPM file.
        max_pixels: larger pictures are refused before their pixels are read.

    Raises:
        ValueError: no such file, no picture, or too large a one.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            return _as_array(_opened(file, name, max_pixels))
    except OSError as error:
        raise ValueError(f"cannot read {name}: {error.strerror or error}") from None


def picture_from(content: bytes, *, name: str = "the picture", max_pixels: int = MAX_PIXELS) -> Array:
    """A picture file's bytes as float32 of shape (height, width, 3) from 0 to 1; see ``read_picture``.

    Raises:
        ValueError: no picture, or too large a one.
    """
    return _as_array(_opened(io.BytesIO(content), name, max_pixels))


def _opened(file: Any, name: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture with its pixels read, upright; ValueError for all that can be wrong with one."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's own limit and of broken metadata
            image = Image.open(file, formats=READABLE)
            if image.width * image.height <= max_pixels:
                image.load()
                return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise ValueError(f"cannot read {name}: it is no picture that polyconv knows ({', '.join(READABLE)})") from None
    except Image.DecompressionBombError:
        raise ValueError(f"cannot read {name}: more than {max_pixels:,} pixels. Make it smaller first") from None
    except Exception as error:  # decoders raise whatever comes to them
        raise ValueError(f"cannot read {name}: the picture is damaged ({error})") from None
    raise ValueError(
        f"cannot read {name}: {image.width} x {image.height} pixels are more than {max_pixels:,}. Make it smaller first"
    )


def _as_array(image: Picture) -> Array:
    from PIL import Image

    if image.mode in _SIXTEEN_BITS:
        grey = np.clip(np.asarray(image, np.float32) / 65535, 0, 1)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        return np.repeat(np.clip(np.asarray(image, np.float32), 0, 1)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (_WHITE,) * 4)
        image = Image.alpha_composite(paper, image)
    return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)


def fitted(picture: Array, longest: int, multiple: int = 1) -> Array:
    """The picture made smaller so that no side is longer than ``longest``, its sides cut to a multiple.

    Args:
        picture: (height, width, 3) from 0 to 1.
        longest: pixels; smaller pictures keep their size.
        multiple: both sides are cut, as much on either end, to multiples of this.

    Raises:
        ValueError: where a side would vanish.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    if max(height, width) > longest:
        scale = longest / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = Image.fromarray(to_bytes(picture)).resize(size, Image.Resampling.LANCZOS)
        picture = np.asarray(image, np.float32) / np.float32(255)
    height, width = picture.shape[:2]
    if min(height, width) < multiple:
        raise ValueError(f"a picture of {width} x {height} pixels is too small: both sides need at least {multiple}")
    top, left = height % multiple // 2, width % multiple // 2
    return picture[top : top + height - height % multiple, left : left + width - width % multiple]


def to_bytes(values: Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Values from 0 to 1 as bytes, those beyond cut off, what is no number black."""
    limited = np.clip(np.nan_to_num(values, nan=0.0), 0, 1)
    return np.asarray(limited * 255 + 0.5, np.uint8)


def encoded(values: Array, extension: str, *, quality: int = 90) -> bytes:
    """A picture file as bytes.

    Args:
        values: (height, width), (height, width, 1) or (height, width, 3), from 0 to 1.
        extension: one of ``WRITABLE``.
        quality: of JPEG and WebP.

    Raises:
        ValueError: a picture without pixels, or one larger than the format holds.
    """
    from PIL import Image

    if values.size == 0:
        raise ValueError(f"a picture of shape {values.shape} has no pixels to write")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    content = io.BytesIO()
    options = {"quality": quality} if extension != ".png" else {"optimize": True}
    try:
        Image.fromarray(to_bytes(values)).save(content, WRITABLE[extension], **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"a picture of {values.shape[1]} x {values.shape[0]} pixels cannot be written: {error}"
        ) from None
    return content.getvalue()
