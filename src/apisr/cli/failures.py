"""The one place where errors become a line and an exit code.

Exit codes: 0 complete success, 1 a failed run, 2 bad input, 130 stopped by the user.

    >>> failure_of(FileNotFoundError(2, "No such file or directory", "a.png"))
    Failure(line="cannot use 'a.png': No such file or directory.", exit_code=1, code='system')
    >>> failure_of(MemoryError()).code
    'out-of-memory'
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from apisr.cli.output import note
from apisr.core.errors import ApisrError
from apisr.core.memory import is_out_of_memory
from apisr.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence


class Failure(NamedTuple):
    """What an error means to the user.

    Attributes:
        line: one line: what was expected, what was found, what to do.
        exit_code: of the program.
        code: stable name of the kind of error.
    """

    line: str
    exit_code: int
    code: str


def failure_of(error: BaseException, line: Sequence[str] = ()) -> Failure:
    """Return the line, the exit code and the name of an error.

    Args:
        error: what was raised.
        line: the command line, from which a usage error takes the value that was given.
    """
    if isinstance(error, ApisrError):
        return Failure(str(error), error.exit_code, error.code)
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return Failure("stopped", 130, "cancelled")
    usage = getattr(error, "format_message", None)
    if usage is not None:  # a usage error of the option parser, whichever package carries the parser
        return Failure(_usage_line(error, usage(), line), int(getattr(error, "exit_code", 2)), "usage")
    if is_out_of_memory(error):
        return Failure(
            "not enough memory. Close other programs, or take smaller pieces (--tile), or a smaller model.",
            1,
            "out-of-memory",
        )
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return Failure(_too_long(error.filename), 2, "name-too-long")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        name = f"'{printable(os.fsdecode(error.filename))}'" if _is_named(error) else "standard output"
        return Failure(f"cannot write {name}: the disk is full.", 1, "disk-full")
    if isinstance(error, OSError):
        name = f" '{printable(os.fsdecode(error.filename))}'" if _is_named(error) else ""
        reason = error.strerror or str(error) or type(error).__name__
        return Failure(f"cannot use{name or ' a file'}: {_one_line(reason)}.", 1, "system")
    if isinstance(error, UnicodeError):
        return Failure(f"a text or a name is not valid: {_one_line(str(error))}. Give UTF-8.", 2, "bad-text")
    return Failure(f"unexpected {type(error).__name__}: {_one_line(str(error))} (add --debug to see where)", 1, "bug")


def report(error: BaseException, line: Sequence[str] = ()) -> int:
    """Print an error as one line on standard error and return the exit code; arguments as in :func:`failure_of`."""
    if isinstance(error, BrokenPipeError):
        leave_output()
        return 1
    failure = failure_of(error, line)
    note(f"apisr: error: {failure.line}")
    return failure.exit_code


def leave_output() -> None:
    """Point standard output to nowhere, so that nothing is written to a closed pipe when the program ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _is_named(error: OSError) -> bool:
    return isinstance(error.filename, (str, bytes))


def _too_long(filename: object) -> str:
    text = os.fsdecode(filename) if isinstance(filename, (str, bytes)) else ""
    longest = max(Path(text).parts, key=lambda part: len(os.fsencode(part)), default="")
    return (
        f"a name has {len(os.fsencode(longest))} bytes: '{printable(longest[:40])}...'. "
        "File systems take 255 bytes a name at most, and about 4000 a path. Give a shorter one."
    )


def _usage_line(error: BaseException, message: str, line: Sequence[str]) -> str:
    command = getattr(getattr(error, "ctx", None), "command_path", None) or " ".join(["apisr", *line[:1]])
    for argument in line:
        value = argument.partition("=")[2] if argument.startswith("-") else argument
        message = message.replace(value, printable(value)) if value else message
    text = _tidy(_one_line(message))
    near = getattr(error, "possibilities", None)
    if near:  # each version of the parser lists them in its own words
        text = text.partition(" (")[0].partition(" Did you mean")[0].rstrip(".")
    text = _with_hint(text, error, line, near or ())
    options: list[str] = getattr(getattr(error, "param", None), "opts", None) or []
    for number, argument in enumerate(line):
        name, _, value = argument.partition("=")
        if name in options and not value:
            value = line[number + 1] if number + 1 < len(line) else ""
        value = printable(value)
        if name in options and value and f"'{value}'" not in text:
            text = f"{text.rstrip('.')}, got '{value}'"
    origin = _from_settings(error)
    text = text.rstrip(".") + origin if origin else text
    return f"{text}{'' if text.endswith(('.', '?')) else '.'} Try: {command} --help"


def _from_settings(error: BaseException) -> str:
    """Return where a value comes from that does not stand on the command line; empty for one that does."""
    context, name = getattr(error, "ctx", None), getattr(getattr(error, "param", None), "name", None)
    if context is None or name is None or getattr(context.get_parameter_source(name), "name", "") != "DEFAULT_MAP":
        return ""
    value = (context.default_map or {}).get(name)
    return f" (a settings file or profile says {value!r}; see 'apisr config')"


def _tidy(text: str) -> str:
    """Return a usage error without the words of the packages that found it.

    >>> _tidy("Invalid value for '--tile': Input should be a valid integer, unable to parse string as an integer")
    "Invalid value for '--tile': expected a whole number"
    """
    text = re.sub(r"( Did you mean '[^']+'\?)\1", r"\1", text)
    return re.sub(r"Input should be a valid (\w+).*", _expected, text.replace(": Value error, ", ": "))


def _expected(match: re.Match[str]) -> str:
    return {"integer": "expected a whole number", "number": "expected a number"}.get(match[1], match[0])


def _with_hint(text: str, error: BaseException, line: Sequence[str], names: Sequence[str]) -> str:
    """Return a usage error with what an unknown option or command most likely means, of this or of other programs."""
    from apisr.cli.familiar import hint_for_command, hint_for_option
    from apisr.core.config import nearest

    option = str(getattr(error, "option_name", None) or "")
    command = re.match(r"No such command '(.+?)'\.?$", text)
    hint = hint_for_option(option, line) if option else hint_for_command(command[1]) if command else ""
    if not hint and option and (near := nearest(option, names, cutoff=0.7)):
        hint = f"Did you mean '{near}'?"
    return f"{text.rstrip('.')}. {hint}" if hint else text


def _one_line(text: str) -> str:
    return " ".join(text.split())
