r"""Text for people, and from strangers: names that can be shown whatever bytes they hold, JSON of any depth.

>>> printable("a\x1b[31m.png")
'a\\x1b[31m.png'
>>> printable("第一話 it's.mkv")
"第一話 it's.mkv"
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

#: Categories of characters that steer a terminal or a page instead of being seen: control, format (as that which turns
#: the direction of writing), surrogate, private, not assigned, line and paragraph separator.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Format characters that scripts and emoji need: zero width non-joiner and joiner.
_NEEDED = frozenset("\u200c\u200d")


def printable(text: str | Path) -> str:
    """Return text, or a path, in which every character can be seen and encoded as UTF-8.

    Bytes of a file name that are not UTF-8, control characters and escape sequences become escapes.
    """
    return "".join(
        character if unicodedata.category(character) not in _UNSEEN or character in _NEEDED else _escape(character)
        for character in str(text)
    )


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
