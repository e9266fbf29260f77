"""Checksums of what is said of a model beside its file: cards, and the metadata of safetensors files.

What a card says decides how a network is run (its rim, its halo, whether colours are cleaned before it), so that a
damaged bit in it would change every output. The checksum is of the values, not of the bytes of the text: a card may be
indented in another way.

    >>> card = sealed({"name": "a", "scale": 2})
    >>> check_sealed(card)
    >>> check_sealed({**card, "scale": 4})
    Traceback (most recent call last):
    ValueError: its entries do not have the SHA-256 that it states
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

#: Entry of a card, and of metadata: the SHA-256 of all other entries.
CARD_SHA256, METADATA_SHA256 = "card_sha256", "apisr.metadata_sha256"


def digest_of(entries: Mapping[str, object], *, without: str) -> str:
    """Return the SHA-256 of the entries of a card or of metadata, but for one."""
    content = {name: value for name, value in entries.items() if name != without}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(content: Mapping[str, object], *, entry: str = CARD_SHA256) -> dict[str, object]:
    """Return a card, or what else is kept as JSON, with its checksum as the last entry."""
    others = {name: value for name, value in content.items() if name != entry}
    return {**others, entry: digest_of(others, without=entry)}


def check_sealed(content: Mapping[str, object], *, entry: str = CARD_SHA256) -> None:
    """Check a card, or what else is kept as JSON, against its checksum.

    Raises:
        ValueError: it has none, or another one.
    """
    if entry not in content:
        raise ValueError(f"it has no entry {entry}")
    if content[entry] != digest_of(content, without=entry):
        raise ValueError("its entries do not have the SHA-256 that it states")
