"""How a network and a layer show themselves in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyconv.see.svg import clean

if TYPE_CHECKING:
    from polyconv.layers import Layer
    from polyconv.network import Network

MOST_ROWS = 40


def layer_svg(layer: Layer) -> str | None:
    """A small drawing of the layer at work, or None where it is too large for one."""
    from polyconv.network import Network

    return network_svg(Network((layer,)))


def network_svg(network: Network) -> str | None:
    """A small drawing of the network at work, or None where it is too large for one."""
    from polyconv.see.drawing import draw
    from polyconv.see.svg import svg

    try:
        drawing = draw(network, max_frames=60)
    except ValueError:
        return None
    return svg(drawing.picture())


def network_html(network: Network) -> str:
    """The network as a table of its layers, and a small drawing where one is possible."""
    from polyconv.network import INPUT, Join
    from polyconv.notation import render

    rows = []
    for node in network.nodes[:MOST_ROWS]:
        line = node.layer.kind if isinstance(node.layer, Join) else render((node.layer,))
        source = ", ".join("input" if number == INPUT else network.nodes[number].name for number in node.inputs)
        rows.append(f"<tr><td>{clean(node.name)}</td><td><code>{clean(line)}</code></td><td>{clean(source)}</td></tr>")
    more = len(network.nodes) - MOST_ROWS
    if more > 0:
        rows.append(f"<tr><td></td><td>… and {more:,} more layers</td><td></td></tr>")
    head = "<thead><tr><th>stage</th><th>layer</th><th>reads</th></tr></thead>"
    table = f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"
    drawn = network_svg(network)
    return f'<div style="max-width:600px">{table}{drawn or ""}</div>'
