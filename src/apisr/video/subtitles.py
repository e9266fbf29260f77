"""Turning SubRip text into the timed text of MP4 (3GPP TS 26.245) and back, without losing text, times or styling.

>>> tx3g_to_srt(srt_to_tx3g(b"<i>Hello</i> world"))
b'<i>Hello</i> world'
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

#: Style sheet that the encoder of timed text wants to see before it opens.
ASS_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\nPlayResX: 384\r\nPlayResY: 288\r\n\r\n[V4+ Styles]\r\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, "
    b"Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, "
    b"MarginR, MarginV, Encoding\r\nStyle: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,"
    b"10,10,10,1\r\n\r\n[Events]\r\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)
_TAG = re.compile(r"</?(b|i|u|font)(?:\s[^>]*)?>", re.IGNORECASE)
_COLOUR = re.compile(r"color\s*=\s*[\"']?#?([0-9a-f]{6})", re.IGNORECASE)
_BOLD, _ITALIC, _UNDERLINE = 1, 2, 4
_WHITE = 0xFFFFFFFF


@dataclass(frozen=True)
class _Run:
    start: int
    end: int
    face: int
    colour: int


def srt_to_tx3g(data: bytes) -> bytes:
    """Turn the text of one SubRip packet into a timed-text sample with style records."""
    text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").rstrip("\n\0")
    plain, runs = _runs(text)
    body = plain.encode("utf-8", "surrogateescape")
    sample = struct.pack(">H", len(body)) + body
    if runs:
        records = b"".join(struct.pack(">HHHBBI", run.start, run.end, 1, run.face, 18, run.colour) for run in runs)
        sample += struct.pack(">I4sH", 10 + len(records), b"styl", len(runs)) + records
    return sample


def tx3g_to_srt(data: bytes) -> bytes:
    """Turn a timed-text sample into SubRip text with ``<b>``, ``<i>``, ``<u>`` and ``<font color>``."""
    if len(data) < 2:
        return b""
    length = int.from_bytes(data[:2], "big")
    text = data[2 : 2 + length].decode("utf-8", "surrogateescape")
    openings: dict[int, list[str]] = {}
    closings: dict[int, list[str]] = {}
    at = 2 + length
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"styl":
            count = int.from_bytes(data[at + 8 : at + 10], "big")
            for number in range(count):
                start, end, _, face, _, colour = struct.unpack(
                    ">HHHBBI", data[at + 10 + 12 * number : at + 22 + 12 * number]
                )
                tags = [tag for bit, tag in ((_BOLD, "b"), (_ITALIC, "i"), (_UNDERLINE, "u")) if face & bit]
                for tag in tags:
                    openings.setdefault(start, []).append(f"<{tag}>")
                    closings.setdefault(end, []).insert(0, f"</{tag}>")
                if colour != _WHITE:
                    openings.setdefault(start, []).insert(0, f'<font color="#{colour >> 8:06x}">')
                    closings.setdefault(end, []).append("</font>")
        if size < 8:
            break
        at += size
    parts: list[str] = []
    for position in range(len(text) + 1):
        parts += closings.get(position, [])
        parts += openings.get(position, [])
        parts.append(text[position : position + 1])
    return "".join(parts).encode("utf-8", "surrogateescape")


def _runs(text: str) -> tuple[str, list[_Run]]:
    plain = ""
    depth = {"b": 0, "i": 0, "u": 0}
    colours: list[int] = []
    runs: list[_Run] = []
    begin = 0
    at = 0

    def close(end: int) -> None:
        face = sum(bit for bit, tag in ((_BOLD, "b"), (_ITALIC, "i"), (_UNDERLINE, "u")) if depth[tag] > 0)
        colour = colours[-1] if colours else _WHITE
        if end > begin and (face or colour != _WHITE):
            runs.append(_Run(begin, end, face, colour))

    for match in _TAG.finditer(text):
        plain += text[at : match.start()]
        at = match.end()
        close(len(plain))
        begin = len(plain)
        tag, opening = match.group(1).lower(), not match.group(0).startswith("</")
        if tag == "font":
            found = _COLOUR.search(match.group(0))
            if opening:
                colours.append((int(found.group(1), 16) << 8 | 0xFF) if found else (colours[-1] if colours else _WHITE))
            elif colours:
                colours.pop()
        else:
            depth[tag] = max(0, depth[tag] + (1 if opening else -1))
    plain += text[at:]
    close(len(plain))
    return plain, runs
