"""The address of the running app, token included: kept for whoever starts a second one and has closed the page.

It lies in the app's own folder, for the user alone, while the app runs. The lock of that folder says that the app is
alive; whether it answers is asked before anybody is sent there.
"""

from __future__ import annotations

import contextlib
import http.client
import os
from pathlib import Path
from urllib.parse import urlsplit

#: Name of the file in the app's own folder.
ADDRESS_FILE = ".address"
#: How long the running app may take to answer, in seconds.
_ANSWER_SECONDS = 3.0


def keep_address(home: Path, address: str) -> None:
    """Write the address of the running app; the file is readable by the user alone from the beginning.

    Raises:
        OSError: the disk refuses it.
    """
    path = home / ADDRESS_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(address)


def forget_address(home: Path) -> None:
    """Remove the address of an app that ends, or that was killed."""
    with contextlib.suppress(OSError):
        (home / ADDRESS_FILE).unlink(missing_ok=True)


def running_page(home: Path) -> str | None:
    """Return the address of the app that holds the lock of a folder, None if it does not answer to it."""
    try:
        address = (home / ADDRESS_FILE).read_text(encoding="utf-8")
        parts = urlsplit(address)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            return None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_ANSWER_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", f"{parts.path}?{parts.query}")
            answer = connection.getresponse()
    except (OSError, ValueError, http.client.HTTPException):
        return None
    opened = answer.status == http.HTTPStatus.SEE_OTHER  # what a page says to its token
    return address if opened else None
