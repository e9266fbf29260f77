r"""What is printed: safely, and as JSON that is exactly the result model.

Names of files may hold anything: control characters are shown as escapes, so that a name can neither colour the
terminal nor overwrite a line. A closed standard output or error is never a crash.

    >>> printable_lines("a\x1b[31m.png")
    'a\\x1b[31m.png'
    >>> duration(12000)
    '3 h 20 min'
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from apisr.core.errors import RunError
from apisr.core.text import printable

if TYPE_CHECKING:
    from pydantic import BaseModel


def printable_lines(text: str) -> str:
    """Return a text of lines as :func:`apisr.core.text.printable` shows each of them."""
    return "\n".join(printable(line) for line in text.split("\n"))


def say(text: str = "") -> None:
    """Print a line of a result on standard output; a line break in it (in the name of a file) becomes an escape."""
    _write(sys.stdout, printable(text) + "\n")


def say_lines(text: str, *, end: str = "\n") -> None:
    """Print a table or another text of lines on standard output; names in it have been made printable."""
    _write(sys.stdout, printable_lines(text) + end)


def note(text: str) -> None:
    """Print a line for people on standard error; a line break in it (in the name of a file) becomes an escape."""
    _write(sys.stderr, printable(text) + "\n", ignore_closed=True)


def say_json(value: BaseModel | Sequence[BaseModel] | Mapping[str, object] | Sequence[Mapping[str, object]]) -> None:
    """Print result models, or plain values, as JSON on standard output.

    Bytes of names that are not UTF-8 become escapes that :func:`json.loads` reads back.

    Raises:
        RunError: standard output is closed.
    """
    say_for_programs(json.dumps(plain(value), indent=2, default=str) + "\n")


def say_for_programs(text: str) -> None:
    """Print a result that a program reads, as it is, on standard output.

    Raises:
        RunError: standard output is closed; the result was asked for, and nobody gets it.
    """
    stream: TextIO | None = sys.stdout
    if stream is None or stream.closed:
        raise RunError(
            "cannot write the result: standard output is closed. Open it (> result.json), or leave --json out.",
            code="output-closed",
        )
    _write(stream, text)


def plain(value: object) -> object:
    """Return models, and containers of models, as plain values.

    >>> plain([{"a": 1}])
    [{'a': 1}]
    """
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="python", by_alias=True))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def duration(seconds: float) -> str:
    """Return a length of time for people: ``4.2 s``, ``38 s``, ``2 min 5 s``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for big, big_name, small, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= big:
            rest = whole % big // small
            return f"{whole // big} {big_name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"


def make_streams_safe() -> None:
    """Let standard output and error write escapes where their encoding has no such character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is there and a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _write(stream: TextIO | None, text: str, *, ignore_closed: bool = False) -> None:
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except (ValueError, OSError) as error:
        # Standard error has no other place to complain; a closed output ends the program as a broken pipe does.
        if not ignore_closed and not _is_closed_terminal(stream, error):
            raise


def _is_closed_terminal(stream: TextIO, error: Exception) -> bool:
    """Whether nobody can read what is written, because the terminal of the program was closed."""
    with contextlib.suppress(OSError, ValueError):
        return getattr(error, "errno", None) == errno.EIO and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    return False
