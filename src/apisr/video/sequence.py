"""Numbered pictures as a video: ``frames/%05d.png``.

>>> from pathlib import Path
>>> is_sequence(Path("frames/%05d.png")), is_sequence(Path("clip.mkv"))
(True, False)
>>> picture_at(Path("frames/%05d.png"), 7).name
'00007.png'
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from apisr.core.errors import InputError
from apisr.core.files import sha256_file
from apisr.core.media import kind_of_name

_NUMBER = re.compile(r"%(0?)(\d*)d")


def is_sequence(path: Path) -> bool:
    """Return whether a file name is a pattern for numbered pictures (holds ``%d``, ``%05d``) and not a file itself."""
    return len(_NUMBER.findall(path.name)) == 1 and kind_of_name(path) == "picture" and not path.exists()


def picture_at(pattern: Path, number: int) -> Path:
    """Return the name of one picture of a sequence.

    Raises:
        InputError: `pattern` is not one.
    """
    match = _NUMBER.search(pattern.name)
    if match is None:
        raise InputError(
            f"'{pattern}' is not a pattern for numbered pictures. Expected a name like frames/%05d.png.",
            code="not-a-sequence",
        )
    width = int(match.group(2) or 0)
    digits = str(number).zfill(width) if match.group(1) else str(number).rjust(width)
    return pattern.with_name(pattern.name[: match.start()] + digits + pattern.name[match.end() :])


def numbers_of(pattern: Path) -> list[int]:
    """Return the numbers of the pictures that exist, sorted."""
    match = _NUMBER.search(pattern.name)
    if match is None or not pattern.parent.is_dir():
        return []
    head, tail = re.escape(pattern.name[: match.start()]), re.escape(pattern.name[match.end() :])
    name = re.compile(rf"{head}\s*(\d+){tail}")
    matches = (name.fullmatch(path.name) for path in pattern.parent.iterdir())
    return sorted(number for match in matches if match and picture_at(pattern, number := int(match.group(1))).exists())


def check_sequence(pattern: Path) -> list[int]:
    """Return the numbers of a sequence to be read.

    Raises:
        InputError: there are no such pictures, or some are missing in between.
    """
    numbers = numbers_of(pattern)
    if not numbers:
        raise InputError(
            f"cannot read '{pattern}': no picture of that name exists (such as '{picture_at(pattern, 1)}').",
            code="no-such-file",
        )
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"cannot read '{pattern}': '{picture_at(pattern, missing[0]).name}'{more} is missing in between.",
            code="picture-missing",
        )
    return numbers


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of all pictures of a sequence together."""
    if not is_sequence(path):
        return sha256_file(path)
    together = hashlib.sha256()
    for number in numbers_of(path):
        together.update(sha256_file(picture_at(path, number)).encode())
    return together.hexdigest()
