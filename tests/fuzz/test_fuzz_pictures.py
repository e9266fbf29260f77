"""A short round of damaged pictures: each is read or refused in one line, whatever is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from apisr.image import read_picture
from fuzz.child import decode_in_children
from fuzz.pictures import fuzz_pictures, valid_pictures


@pytest.mark.parametrize("name", sorted(valid_pictures()))
def test_the_seeds_are_read_as_they_are(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(valid_pictures()[name])
    picture = read_picture(tmp_path / name)
    expected = {"ico_small.ico": (17, 24), "jpeg_plain.jpg": (33, 24)}.get(name, (24, 33))
    assert picture.pixels.shape[:2] == expected
    assert len(picture.frames) == (3 if "animated" in name or "pages" in name else 1)


def test_damaged_pictures_are_read_or_refused() -> None:
    figures = fuzz_pictures(160, seed=1)
    assert figures.tried == 160
    assert figures.bad == []
    assert figures.kinds()["refused"] > 30


def test_the_limit_of_the_child_is_a_limit(tmp_path: Path) -> None:
    # What would hide a memory explosion: a child that may take everything. 40,000 x 40,000 gray pixels are 1.6 GB.
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    side = 40_000
    head = side.to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    path = tmp_path / "zeros.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    (outcome,) = decode_in_children([path], memory_mb=2048)
    assert (outcome.kind, outcome.code) == ("refused", "too-large")
