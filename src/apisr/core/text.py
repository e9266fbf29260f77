r"""Text for people, and from strangers: names that can be shown whatever bytes they hold, JSON of any depth.

>>> printable("a\x1b[31m.png")
'a\\x1b[31m.png'
>>> printable("第一話 it's.mkv")
"第一話 it's.mkv"
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

#: Categories of characters that steer a terminal or a page instead of being seen: control, format (as that which turns
#: the direction of writing), surrogate, private, not assigned, line and paragraph separator.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Format characters that scripts and emoji need: zero width non-joiner and joiner.
_NEEDED = frozenset("\u200c\u200d")
#: So many of many names are shown.
NAMES_SHOWN = 6


def printable(text: str | Path) -> str:
    """Return text, or a path, in which every character can be seen and encoded as UTF-8.

    Bytes of a file name that are not UTF-8, control characters and escape sequences become escapes.
    """
    return "".join(
        character if unicodedata.category(character) not in _UNSEEN or character in _NEEDED else _escape(character)
        for character in str(text)
    )


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun in the right form.

    >>> counted(1, "picture"), counted(3, "picture")
    ('1 picture', '3 pictures')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def some_names(names: Sequence[str]) -> str:
    """Return names with commas, the first few of many.

    >>> some_names([f"{letter}.png" for letter in "abcdefgh"])
    'a.png, b.png, c.png, d.png, e.png, f.png and 2 more'
    """
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def lines_by_kind(found: Iterable[tuple[str, Iterable[str]]]) -> tuple[str, ...]:
    """Return one line for each kind of remark, with the names that it is true of.

    >>> lines_by_kind([("b.png", ["too deep", "cut off"]), ("a.png", ["too deep"])])
    ('cut off: b.png', 'too deep: a.png, b.png')
    """
    kinds: dict[str, set[str]] = {}
    for name, remarks in found:
        for remark in remarks:
            kinds.setdefault(remark, set()).add(name)
    return tuple(f"{kind}: {some_names(sorted(names))}" for kind, names in sorted(kinds.items()))


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: not JSON, or nested deeper than anything that is written here.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode writes it
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
