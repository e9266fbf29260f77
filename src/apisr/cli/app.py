"""``apisr app``: everything on a local page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from apisr.cli.helping import examples

EXAMPLES = examples(
    "apisr app                           drop files onto the page",
    "apisr app ~/Videos                  pick files of a folder, too",
    "apisr app --port 0 --no-browser     any free port; only the address is printed",
)


def command(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="Folder whose files can be picked on the page; results go to FOLDER/upscaled."
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Others than this machine need the printed address.")
    ] = "127.0.0.1",
    home: Annotated[
        Path | None,
        typer.Option(
            "--home", help="The app's own folder (uploads, queue, results); by default the user's data folder."
        ),
    ] = None,
    max_upload_gb: Annotated[float, typer.Option("--max-upload-gb", min=0.001, help="Largest upload.")] = 64.0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Drop files, look at the result before the work, and let it run, on a page in the browser.

    The page is served on this machine alone. Ctrl-C ends it; unfinished work goes on when it is started again.
    """
    from apisr.core.errors import InputError

    check_installed()
    if folder is not None and not folder.is_dir():
        raise InputError(f"cannot open '{folder}': it is not a folder.", code="not-a-folder")
    import platformdirs

    from apisr.app.server import ServerOptions, serve
    from apisr.app.store import Store

    store = Store(home or platformdirs.user_data_path("apisr") / "app", folder=folder)
    options = ServerOptions(host=host, port=port, max_upload_bytes=int(max_upload_gb * 1e9))
    serve(store, options, on_ready=partial(show_address, browser=browser))


def check_installed() -> None:
    """Check that the libraries of the server are installed.

    Raises:
        MissingExtra: they are not.
    """
    import importlib.util

    from apisr.core.errors import MissingExtra

    for module in ("starlette", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra("app", "for the page")


def show_address(address: str, *, browser: bool) -> None:
    """Print the address of the page, and open it where asked."""
    from apisr.cli.output import say

    say(address)
    if browser:
        import webbrowser

        webbrowser.open(address)
