"""What ``Network.draw`` returns: frames to look at, in a notebook or saved as a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from polyconv._checks import whole
from polyconv.layers import Sizes
from polyconv.see.choose import MAX_CHANNELS
from polyconv.see.compose import Composer
from polyconv.see.parts import Scene
from polyconv.see.scene import DEFAULT_FRAMES, scene
from polyconv.see.shapes import Picture
from polyconv.see.svg import svg
from polyconv.see.theme import theme_named

if TYPE_CHECKING:
    from polyconv.network import Network


class Frames(Sequence[Picture]):
    """The pictures of a drawing, each made when it is asked for."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    def __len__(self) -> int:
        """How many there are."""
        return len(self._composer.scene.frames)

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
    """The frames of a network at work.

    Args:
        scene: what they show.
        theme: "light" or "dark".
    """

    def __init__(self, scene: Scene, theme: str = "light") -> None:
        self.scene = scene
        self.theme = theme
        self._composer = Composer(scene, theme_named(theme))
        _ = self._composer.height  # what does not fit is refused now

    @property
    def frames(self) -> Frames:
        """Every frame as a ``Picture``."""
        return Frames(self._composer)

    def picture(self, frame: int | None = None) -> Picture:
        """One frame as shapes; the one in the middle if not said."""
        index = len(self.frames) // 2 if frame is None else whole(frame, "frame", 0)
        if index >= len(self.frames):
            raise ValueError(f"frame {index} does not exist: the drawing has frames 0 to {len(self.frames) - 1}")
        return self._composer.picture(index)

    def _repr_svg_(self) -> str:
        """How a notebook shows it where nothing moves."""
        return svg(self.picture())

    def __repr__(self) -> str:
        """What is drawn, and in how many frames."""
        size = f"{self._composer.width}x{self._composer.height}"
        return f"Drawing({self.scene.title!r}, {len(self.frames)} frames of {size})"


def draw(
    network: Network,
    input_size: Sizes | int | None = None,
    in_channels: int | None = None,
    *,
    x: Any = None,
    weights: Mapping[str, Any] | None = None,
    seed: int = 0,
    view: Literal["stamp", "slide"] = "stamp",
    theme: Literal["light", "dark"] = "light",
    max_frames: int = DEFAULT_FRAMES,
    max_channels: int = MAX_CHANNELS,
) -> Drawing:
    """Draw a network at work: see ``Network.draw``."""
    theme_named(theme)
    made = scene(
        network,
        input_size,
        in_channels,
        x=x,
        weights=weights,
        seed=seed,
        view=view,
        max_frames=max_frames,
        max_channels=max_channels,
    )
    return Drawing(made, theme)
