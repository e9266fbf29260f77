"""Values of options as people write them: ``x4``, ``1:30``, ``5s@0:10:00``, ``jpeg``.

Each parser takes the text and returns the value, or raises ``typer.BadParameter`` with what was expected.

    >>> factor("4x"), factor("x1.5"), seconds("1:30")
    (4.0, 1.5, Fraction(90, 1))
"""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import typer

from apisr.core.config import nearest

#: Other spellings of picture formats.
FORMAT_ALIASES = {"jpeg": "jpg", "jpe": "jpg", "tiff": "tif"}
#: Picture formats that can be written.
PICTURE_FORMATS = ("png", "jpg", "webp", "avif", "tif", "bmp", "gif")
#: Containers that can be written.
CONTAINERS = ("mkv", "mp4", "mov", "webm", "ts", "avi")


def factor(text: str | float) -> float:
    """Read a factor: ``2``, ``x4``, ``4x`` or ``1.5``.

    Raises:
        typer.BadParameter: another thing.
    """
    try:
        value = float(str(text).strip().lower().strip("x"))
    except ValueError:
        value = math.nan
    if not 0.1 <= value <= 16:
        raise typer.BadParameter(f"expected a factor from 0.1 to 16 like 2, x4 or 1.5, got '{text}'.")
    return value


def lines(text: str | int) -> int:
    """Read a number of lines: ``1080`` or ``1080p``."""
    value = str(text).strip().lower().removesuffix("p")
    if not value.isdecimal() or not int(value):
        raise typer.BadParameter(f"expected a number of lines like 1080 or 2160, got '{text}'.")
    return int(value)


def seconds(text: str | float) -> Fraction:
    """Read a time exactly: ``90``, ``1:30``, ``0:01:30.5`` or ``90s``.

    Raises:
        typer.BadParameter: another thing.
    """
    try:
        value = Fraction(0)
        for part in str(text).strip().removesuffix("s").split(":"):
            value = value * 60 + Fraction(part)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(f"expected a time like 90, 1:30 or 0:01:30.5, got '{text}'.") from None
    if value < 0:
        raise typer.BadParameter(f"expected a time from 0, got '{text}'.")
    return value


@dataclass(frozen=True)
class TimeRange:
    """A part of a video, in seconds."""

    begin: Fraction
    end: Fraction


def time_range(text: str) -> TimeRange:
    """Read ``LENGTH@TIME``, or ``LENGTH`` for the beginning.

    Raises:
        typer.BadParameter: another thing, or no length.

    >>> time_range("5s@0:10")
    TimeRange(begin=Fraction(10, 1), end=Fraction(15, 1))
    """
    length, _, at = text.partition("@")
    begin = seconds(at) if at else Fraction(0)
    span = seconds(length)
    if not span:
        raise typer.BadParameter(f"expected a length above 0 like 5s@0:10:00, got '{text}'.")
    return TimeRange(begin, begin + span)


def frame_rate(text: str | float) -> Fraction:
    """Read frames per second: ``24``, ``23.976`` or ``24000/1001``.

    Raises:
        typer.BadParameter: another thing.
    """
    try:
        value = Fraction(str(text).strip())
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value <= 1000:
        raise typer.BadParameter(f"expected frames per second like 24 or 24000/1001, got '{text}'.")
    return value


def native_lines(text: str | int) -> str:
    """Read ``off``, ``auto`` or a number of lines.

    Raises:
        typer.BadParameter: another thing.
    """
    value = str(text).strip().lower()
    if value not in ("off", "auto") and (not value.isdecimal() or int(value) < 16):
        raise typer.BadParameter(f"expected off, auto or a number of lines from 16, got '{text}'.")
    return value


def key_value(text: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``.

    Raises:
        typer.BadParameter: another thing.
    """
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise typer.BadParameter(f"expected KEY=VALUE, for example tune=animation, got '{text}'.")
    return key, value


def one_of(choices: Sequence[str], aliases: dict[str, str] | None = None) -> Callable[[str], str]:
    """Return a parser of one of some words, in any case, with a leading dot allowed and other spellings understood.

    >>> one_of(PICTURE_FORMATS, FORMAT_ALIASES)(".JPEG")
    'jpg'
    """

    def word(text: str) -> str:
        value = text.strip().lower().removeprefix(".")
        value = (aliases or {}).get(value, value)
        if value not in choices:
            near = nearest(value, choices)
            hint = f" Did you mean '{near}'?" if near else ""
            raise typer.BadParameter(f"expected one of {', '.join(choices)}, got '{text}'.{hint}")
        return value

    return word


def names(text: str) -> list[str]:
    """Read names with commas between them.

    >>> names("psnr, ssim")
    ['psnr', 'ssim']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


def expand(inputs: Sequence[Path]) -> list[Path]:
    """Return inputs with patterns (``*.png``, ``season/**/*.mkv``) replaced by the files that they match.

    A name that exists is taken as it is, whatever characters it has.

    Raises:
        InputError: a pattern matches nothing.
    """
    from apisr.core.errors import InputError

    expanded: list[Path] = []
    for path in inputs:
        if not glob.has_magic(str(path)) or path.exists():
            expanded.append(path)
            continue
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns
        if not found:
            raise InputError(f"nothing matches the pattern '{path}'. Check the folder and the ending.", code="no-match")
        expanded += found
    return expanded
