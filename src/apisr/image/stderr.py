r"""Capturing what libtiff and libjpeg report: they write it to standard error, where only we may write to the user.

There is no other way to learn of it, and some damage shows only there: a fax whose codes break off is filled up with
white, a JPEG of which a piece is lost goes on somewhere else. Pictures are decoded one at a time meanwhile.

    >>> with captured_stderr(LIBTIFF) as lines:
    ...     _ = os.write(2, b"ZIPDecode: Decoding error at scanline 0.\n")
    >>> lines
    ['ZIPDecode: Decoding error at scanline 0']
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Generator
from typing import BinaryIO

from apisr.core.stderr import diverted_stderr

#: Lines of libtiff begin with the name of a function, or with the name that Pillow gives every file.
LIBTIFF = re.compile(rb"^(?:tempfile\.tif|_?[A-Z]\w*[A-Z]\w*): [^\n]+\.\n", re.MULTILINE)
#: What libjpeg reports, and OpenCV around it.
LIBJPEG = re.compile(
    rb"^(?:Corrupt JPEG data|Premature end|Warning|Invalid|Inconsistent|Unsupported|\[ *(?:WARN|ERROR))[^\n]*\n",
    re.MULTILINE,
)
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def captured_stderr(kind: re.Pattern[bytes]) -> Generator[list[str]]:
    """Collect the lines of a kind while the block runs (filled in when it ends).

    What others write to standard error meanwhile is passed on afterwards.
    """
    lines: list[str] = []
    with _one_at_a_time, contextlib.ExitStack() as stack:
        try:
            taken: BinaryIO = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # no place for a file: then they are not known
            taken = stack.enter_context(open(os.devnull, "w+b"))  # noqa: PTH123 - a device
        try:
            with diverted_stderr(taken):
                yield lines
        finally:
            taken.seek(0)
            written = taken.read()
            lines += [line.decode(errors="replace").strip().rstrip(".") for line in kind.findall(written)]
            if others := kind.sub(b"", written):
                with contextlib.suppress(OSError):
                    os.write(2, others)
