"""Opening the folder of a result on the screen of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def can_open(*, local: bool) -> bool:
    """Return whether a folder can be opened where the person sits.

    Args:
        local: whether the page is served to this machine alone.
    """
    if not local:
        return False
    if sys.platform.startswith("linux"):
        screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        return bool(screen) and shutil.which("xdg-open") is not None
    return sys.platform in ("darwin", "win32")


def open_folder(file: Path) -> None:
    """Show a file in the file manager (on Linux the folder that it lies in). The program goes on by itself."""
    if sys.platform == "win32":
        command = ["explorer", f"/select,{file}"]
    elif sys.platform == "darwin":
        command = ["open", "-R", str(file)]
    else:
        command = ["xdg-open", str(file.parent)]
    subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
