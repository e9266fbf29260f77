r"""Hearing what libtiff says: it prints its errors on standard error, where nobody but us may speak to the user.

Pillow has no way to be told them, and some damage shows only in them: a fax whose codes break off is filled up with
white and given out as whole. Pages are decoded with libtiff one at a time (it holds Python's lock anyway).

    >>> with heard() as lines:
    ...     _ = os.write(2, b"ZIPDecode: Decoding error at scanline 0.\n")
    >>> lines
    ['ZIPDecode: Decoding error at scanline 0']
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Generator

#: Its lines begin with the name of a function, or with the name that Pillow gives every file.
_LINE = re.compile(rb"^(?:tempfile\.tif|_?[A-Z]\w*[A-Z]\w*): [^\n]+\.\n", re.MULTILINE)
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def heard() -> Generator[list[str]]:
    """Collect the errors of libtiff while the block runs (filled in when it ends).

    What others write to standard error meanwhile is passed on afterwards.
    """
    lines: list[str] = []
    with _one_at_a_time, contextlib.ExitStack() as stack:
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error
            yield lines
            return
        stack.callback(os.close, kept)
        try:
            taken = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # no place for a file: then they are not known
            taken = stack.enter_context(open(os.devnull, "w+b"))  # noqa: PTH123 - a device
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
        os.dup2(taken.fileno(), 2)
        try:
            yield lines
        finally:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.flush()
            os.dup2(kept, 2)
            taken.seek(0)
            written = taken.read()
            lines += [line.decode(errors="replace").strip().rstrip(".") for line in _LINE.findall(written)]
            if others := _LINE.sub(b"", written):
                with contextlib.suppress(OSError):
                    os.write(2, others)
