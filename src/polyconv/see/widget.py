"""The interactive view in a notebook, as a widget whose state is shared with Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyconv.layers import Sizes
from polyconv.network import Network
from polyconv.notation import network as parsed
from polyconv.see.drawing import Drawing

if TYPE_CHECKING:
    from polyconv.see.player import Player


def widget(
    network: Network | str | Drawing,
    input_size: Sizes | int | None = None,
    in_channels: int | None = None,
    *,
    fps: float = 2.0,
    **options: Any,
) -> Player:
    """A network at work as a notebook widget whose state Python sees and sets: play, step, slide, pin, change the text.

    Its traits can be read, set and observed: ``notation`` (the network's text), ``frame`` (from 0), ``playing``,
    ``speed`` (0.5, 1, 2 or 4), ``pinned`` (the tag of an output: "0:0:1,2" is step 0, channel 0, position (1, 2); empty
    for none). ``problem`` says why a text could not be drawn, ``count`` is the number of frames, ``lines`` the sum of
    the pinned output. It needs the extra ``polyconv[notebook]``.

    Args:
        network: a network, its text, or a drawing such as ``draw_matrix`` makes (which has no text to change).
        input_size: positions along each axis; a small one that fits if not given.
        in_channels: channels of the input; the fewest that fit if not given.
        fps: frames a second at speed 1, from 0.1 to 30.
        options: further ones of ``Network.draw``, such as ``view="slide"``.

    Raises:
        ValueError: for what cannot be drawn.
        ImportError: without anywidget.

    Example:
        >>> import polyconv as pc
        >>> player = pc.widget("conv 3x3 1", (5, 5))  # doctest: +SKIP
        >>> player.frame, player.pinned = 3, "0:0:1,2"  # doctest: +SKIP
    """
    if isinstance(network, Drawing):
        if input_size is not None or in_channels is not None or options:
            raise ValueError("a drawing takes no input_size, in_channels or options. Give them where it is made")
        drawing, text = network, ""
    else:
        text = str(parsed(network))
        options |= {"input_size": input_size, "in_channels": in_channels}
        drawing = parsed(text).draw(**options)
    try:
        from polyconv.see.player import Player
    except ImportError as error:
        raise ImportError(
            f'the widget needs anywidget, which cannot be imported ({error}). Run pip install "polyconv[notebook]"'
        ) from None
    return Player(drawing, text, fps, options)
