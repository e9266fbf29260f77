"""``apisr review``: look at a dataset and decide, on a local page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apisr.cli.helping import examples

EXAMPLES = examples(
    "apisr review dataset                  the page opens in the browser",
    "apisr review dataset --no-browser     only its address is printed",
    "apisr review dataset --port 8000      always the same address",
)


def command(
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder.")],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on this machine; 0 takes a free one.")
    ] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Show the pictures of a dataset, doubtful ones first; accept and reject them with the keyboard.

    Every decision is written to the manifest at once. Ctrl-C ends the review.
    """
    from apisr.cli.output import note, say
    from apisr.curate.review import Review

    with Review(dataset, port=port) as review:
        say(review.url)
        if browser:
            import webbrowser

            webbrowser.open(review.url)
        try:
            review.serve()
        except KeyboardInterrupt:
            note("review ended")
