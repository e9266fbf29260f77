"""``apisr app``: everything on a local page."""

from __future__ import annotations

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
        typer.Argument(help="Folder whose files can be picked on the page; results go to FOLDER/upscaled."),
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
    max_upload_gb: Annotated[float, typer.Option("--max-upload-gb", min=0.001, help="Longest upload.")] = 64.0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Drop files, look at the result before the work, and let it run, on a page in the browser.

    The page is served on this machine alone. Ctrl-C ends it; unfinished work goes on when it is started again.

    """
    import importlib.util

    from apisr.core.errors import InputError, MissingExtra

    for module in ("starlette", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra("app", "for the app")
    if folder is not None and not folder.is_dir():
        raise InputError(f"cannot open '{folder}': it is not a folder.", code="not-a-folder")
    import platformdirs

    from apisr.app.server import serve
    from apisr.app.store import Store
    from apisr.cli.output import say

    def ready(address: str) -> None:
        say(address)
        if browser:
            import webbrowser

            webbrowser.open(address)

    own = home or platformdirs.user_data_path("apisr") / "app"
    store = Store(own, folder=folder)
    serve(store, host=host, port=port, max_upload_bytes=int(max_upload_gb * 1e9), on_ready=ready)
