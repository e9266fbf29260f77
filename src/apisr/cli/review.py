"""``apisr review``: look at a dataset and decide, on a local page."""

from __future__ import annotations

from functools import partial
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
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The dataset's folder.")],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on this machine; 0 takes a free one.")
    ] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Show the pictures of a dataset, doubtful ones first; accept and reject them by keyboard, mouse or touch.

    The page is that of 'apisr app', for this dataset alone. Every decision is written to the manifest at once.
    Ctrl-C ends the review.
    """
    from apisr.cli.app import check_installed, show_address

    check_installed()

    from apisr.app.server import ServerOptions, serve
    from apisr.app.store import Store
    from apisr.core.worker_folder import temporary_folder
    from apisr.curate.review import Review

    Review(dataset)  # a folder that is not a dataset is refused before anything is served
    with temporary_folder("apisr-review-") as home:
        store = Store(home, folder=dataset)
        options = ServerOptions(port=port, review_only=True)
        serve(store, options, on_ready=partial(show_address, browser=browser))
