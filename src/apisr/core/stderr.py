"""Standard error as the libraries below see it: a number, which may be closed, taken by a file, or led elsewhere.

>>> with open(os.devnull, "wb") as nowhere, diverted_stderr(nowhere):
...     _ = os.write(2, b"a line that nobody sees")
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Generator
from typing import BinaryIO

_one_at_a_time = threading.RLock()


def fill_closed_streams() -> None:
    """Lead the numbers 0, 1 and 2 to nowhere where they are closed.

    The next file that is opened would take a closed one, and what a library writes to standard error would go into it.
    ``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` still say that they are closed.
    """
    with contextlib.suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) < 3:
            os.set_inheritable(number, True)
        os.close(number)


@contextlib.contextmanager
def diverted_stderr(target: BinaryIO) -> Generator[None]:
    """Lead what is written to standard error into a file while the block runs; where it is closed, nothing is.

    One block runs at a time.
    """
    with _one_at_a_time:
        try:
            kept = os.dup(2)
        except OSError:  # it is closed
            yield
            return
        try:
            _flush()
            os.dup2(target.fileno(), 2)
            try:
                yield
            finally:
                _flush()
                os.dup2(kept, 2)
        finally:
            os.close(kept)


def _flush() -> None:
    """Hand on what Python holds of standard error, which is None where it was closed at the start."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
