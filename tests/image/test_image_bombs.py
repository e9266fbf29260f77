"""Files of a few bytes that ask for gigabytes, and animations longer than the memory: one line, or frame by frame."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from fuzz.child import decode_in_children
from PIL import Image

from apisr.core.errors import InputError
from apisr.image import Picture, open_picture, read_picture, write_picture

MEMORY_MB = 1500


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(3 * width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff_header(width: int, height: int) -> bytes:
    entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 10)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(16)


def webp_header(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", len(body)) + body


BOMBS = {
    "bomb.png": png_header(60_000, 60_000),
    "bomb.tif": tiff_header(60_000, 60_000),
    "bomb.gif": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b",",
    "bomb.bmp": b"BM"
    + struct.pack("<IIIIiiHHIIiiII", 154, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    + bytes(100),
    "bomb.webp": webp_header(16_384, 16_384),
    "bomb.ppm": b"P6 60000 60000 255\n" + bytes(50),
    "bomb.tga": struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 60_000, 60_000, 24, 0) + bytes(50),
    "bomb.qoi": b"qoif" + struct.pack(">IIBB", 60_000, 60_000, 3, 0) + bytes(20),
    "bomb.psd": b"8BPS\0\1" + bytes(6) + b"\0\3" + struct.pack(">II", 30_000, 30_000) + b"\0\x08\0\3" + bytes(40),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_bomb_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BOMBS[name])
    (outcome,) = decode_in_children([tmp_path / name], memory_mb=MEMORY_MB)
    assert outcome.kind == "refused", outcome
    assert outcome.code in ("too-large", "damaged-picture"), outcome


@pytest.mark.parametrize("suffix", [".jpg", ".avif", ".webp", ".jp2", ".png", ".tif", ".gif"])
def test_max_pixels_is_a_limit_for_every_format(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (60, 50)).save(tmp_path / f"a{suffix}")
    assert read_picture(tmp_path / f"a{suffix}", max_pixels=3000).pixels.shape == (50, 60, 3)
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / f"a{suffix}", max_pixels=2999)
    assert caught.value.code == "too-large"


def test_a_large_valid_picture_is_read_and_no_global_is_touched(tmp_path: Path) -> None:
    # 14,000 x 14,000 is beyond the limit that Pillow itself sets.
    limit = Image.MAX_IMAGE_PIXELS
    Image.fromarray(np.zeros((14_000, 14_000), bool)).save(tmp_path / "a.png")
    with open_picture(tmp_path / "a.png") as source:
        assert (source.info.height, source.info.width) == (14_000, 14_000)
    assert limit == Image.MAX_IMAGE_PIXELS
    assert limit is not None


STREAM = """
import resource, sys
from pathlib import Path
from apisr.image import open_picture, open_writer
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (300 << 20),) * 2)
count = 0
with open_picture(Path(sys.argv[1])) as source, open_writer(Path(sys.argv[2]), source.info) as writer:
    for frame in source.frames():
        writer.start_frame(*frame.pixels.shape, frame.pixels.dtype, duration_ms=frame.duration_ms)
        writer.write(frame.pixels)
        count += 1
print(count)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_larger_than_the_memory_passes_through(tmp_path: Path, suffix: str) -> None:
    # 200 frames of 1000 x 1000 are 600 MB; the child may take 300 MB beyond its libraries.
    frames = tuple(np.full((1000, 1000, 3), level, np.uint8) for level in (10, 200))
    write_picture(tmp_path / "two.gif", Picture(frames, (50.0, 50.0)))
    content = (tmp_path / "two.gif").read_bytes()
    start = content.index(b"!\xf9\x04")
    (tmp_path / "many.gif").write_bytes(content[:start] + content[start:-1] * 100 + b";")
    done = subprocess.run(
        [sys.executable, "-c", STREAM, str(tmp_path / "many.gif"), str(tmp_path / f"out{suffix}")],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.stdout.strip() == "200", done.stderr
    with open_picture(tmp_path / f"out{suffix}") as source:
        assert source.info.frame_count == 200


def test_a_gif_of_a_hundred_thousand_frames_is_refused_whole_and_given_one_by_one(tmp_path: Path) -> None:
    picture = Picture((np.zeros((60, 60, 3), np.uint8), np.ones((60, 60, 3), np.uint8)), (50.0, 50.0))
    write_picture(tmp_path / "two.gif", picture)
    content = (tmp_path / "two.gif").read_bytes()
    block = content[content.rindex(b"!\xf9\x04") : -1]
    (tmp_path / "many.gif").write_bytes(content[:-1] + block * 100_000 + b";")
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "many.gif", max_pixels=10_000_000)
    assert caught.value.code == "too-large"
    with open_picture(tmp_path / "many.gif", max_pixels=3600) as source:
        assert source.info.frame_count == 100_002
        assert next(source.frames()).pixels.shape == (60, 60, 3)


def test_many_frames_of_a_gif_are_counted_without_composing_them(tmp_path: Path) -> None:
    frame = b"!\xf9\4\0\1\0\0\0," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HHBBB", 2000, 2000, 0x80, 0, 0) + bytes(6)
    (tmp_path / "a.gif").write_bytes(head + frame * 50_000 + b";")
    with open_picture(tmp_path / "a.gif") as picture:
        assert (picture.info.frame_count, picture.info.width) == (50_000, 2000)
