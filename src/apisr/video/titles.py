"""Titles of tracks: QuickTime has two places for them, and libav hands both on under names of its own.

>>> with_title({"handler_name": "SoundHandler", "name": "Commentary"}, "mov,mp4,m4a,3gp,3g2,mj2")
{'handler_name': 'SoundHandler', 'title': 'Commentary'}
"""

from __future__ import annotations

import re

from av.stream import Stream

#: What writers call every track of a kind; any other name of a handler was given to this track.
_NO_TITLE = re.compile(r"handler|core media|iso media|mainconcept|^(vide|soun|text|sbtl|subt|video|sound|audio)$", re.I)


def track_tags(stream: Stream) -> dict[str, str]:
    """Return the tags of a stream, its title under ``title`` whatever the format calls it."""
    container = getattr(stream, "container", None)
    return with_title(dict(stream.metadata), "" if container is None else container.format.name)


def with_title(tags: dict[str, str], container: str) -> dict[str, str]:
    """Return the tags of a stream of a format (libav's name), with its title under ``title``."""
    if "mov" not in container.split(","):
        return tags
    kept = {key: value for key, value in tags.items() if key not in ("name", "vendor_id")}
    handler = tags.get("handler_name", "").strip("\0 ")
    named = "" if not handler or _NO_TITLE.search(handler) else handler
    title = tags.get("title") or tags.get("name") or named
    if title:
        kept["title"] = title
    if title == handler:
        kept.pop("handler_name", None)
    return kept
