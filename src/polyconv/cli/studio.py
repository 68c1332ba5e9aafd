"""The command ``polyconv studio``."""

from __future__ import annotations

import click

from polyconv.cli.app import Command


@click.command(
    cls=Command,
    short_help="A page in which networks are built, seen at work and counted.",
    examples=(
        "polyconv studio",
        'polyconv studio "depthwise 3x3 stride 2 same" --input 3x8x8',
        'polyconv studio --export page.html "transposed 3x3 1 stride 2" --input 4x4',
    ),
)
@click.argument("network", required=False)
@click.option("--input", "size", default="", metavar="[Cx]HxW", help="Size of the input, such as 5x5 or 3x5x5.")
@click.option("--view", type=click.Choice(["stamp", "slide"]), default="stamp", help="Of transposed layers.")
@click.option("--flip", is_flag=True, help="Convolution as in mathematics: the kernel flipped.")
@click.option("--dark", is_flag=True, help="For --export: light on dark.")
@click.option("--fps", type=click.FloatRange(0.1, 30), default=2.0, help="For --export: frames a second.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the page; a free one if not given.")
@click.option("--no-browser", is_flag=True, help="Only say the address.")
@click.option("--export", "path", metavar="FILE.html", help="Write the view as one page that stands alone.")
def studio(
    network: str | None,
    size: str,
    view: str,
    flip: bool,
    dark: bool,
    fps: float,
    port: int,
    no_browser: bool,
    path: str | None,
) -> None:
    """Open the studio, showing NETWORK: type or build it, see it move, count it, try it on a picture.

    The page is served on this machine's loopback address alone and asks no other host for anything. Its address holds
    all that it shows. Stop it with control-C.
    """
    from urllib.parse import urlencode

    from polyconv.see.studio.state import read_state

    given = ({} if network is None else {"net": network}) | ({"input": size} if size else {})
    shown = {"view": view, "flip": str(int(flip))}
    state = read_state({**given, **shown, "theme": "dark" if dark else "light"})
    if path is not None:
        from polyconv._files import checked_output, write_whole
        from polyconv.see.studio.page import exported

        target = checked_output(path, (".html",))
        write_whole(target, exported(state, fps).encode())
        click.echo(f"wrote {target}: {target.stat().st_size:,} bytes")
        return
    from polyconv.see.studio.server import StudioServer

    try:
        server = StudioServer(port)
    except OSError as error:
        raise ValueError(f"port {port} cannot be used: {error.strerror or error}. Give another --port") from None
    address = server.url + (f"?{urlencode({**given, **shown})}" if given else "")
    click.echo(f"the studio is at {address}\nstop it with control-C")
    if not no_browser:
        import webbrowser

        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("stopped")
    finally:
        server.server_close()
