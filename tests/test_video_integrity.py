"""What is passed over by libav in silence, and shown by the numbers that a file holds about itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from test_video_cases import FAST, packets
from test_video_clocks import RECORDING, ffmpeg
from video_clips import Nearest, upscale_video

from apisr.core.errors import ApisrError

CODINGS = {
    "ogv": ["-c:v", "libtheora", "-q:v", "7", "-c:a", "libvorbis"],
    "rm": ["-c:v", "rv20", "-q:v", "4", "-c:a", "ac3"],
    "wmv": ["-c:v", "wmv2", "-q:v", "4", "-c:a", "wmav2"],
    "avi": ["-c:v", "huffyuv", "-c:a", "pcm_s16le"],
    "nut": ["-an", "-c:v", "mjpeg", "-q:v", "3"],
    "mp4": ["-c:v", "libx264", "-bf", "2", "-g", "12", "-c:a", "aac"],
    "y4m": ["-pix_fmt", "yuv420p"],
}


def clip(folder: Path, suffix: str) -> Path:
    path = folder / f"clip.{suffix}"
    ffmpeg(*(RECORDING[:4] if suffix == "y4m" else RECORDING), *CODINGS[suffix], path)
    return path


def damaged(content: bytes, how: str) -> bytes:
    """Cut off the last fifth, lose 700 bytes, overwrite the beginning of a frame, or insert 333 bytes."""
    middle = len(content) // 2
    if how == "end":
        return content[: len(content) * 4 // 5 + 1]
    if how == "lost":
        return content[:middle] + content[middle + 700 :]
    if how == "frame":  # the last picture and its header
        start = content.rindex(b"\xff\xd8")
        return content[: start - 8] + content[content.rindex(bytes.fromhex("4e58dd672f23e64e")) :]
    if how == "magic":
        return bytes(40) + content[40:]
    if how == "reorderings":
        at = content.index(b"ctts") + 12
        return content[:at] + b"\x7f" + content[at + 1 :]
    if how == "zeros":
        frame = content.index(b"00dc", middle)
        return content[:frame] + bytes(64) + content[frame + 64 :]
    return content[:middle] + random.Random(1).randbytes(333) + content[middle:]


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        *(("ogv", "end"), ("ogv", "lost"), ("rm", "lost"), ("rm", "inserted")),
        *(("wmv", "end"), ("wmv", "lost"), ("wmv", "inserted")),
        *(("nut", "frame"), ("nut", "magic"), ("mp4", "reorderings")),
        *(("avi", "zeros"), ("avi", "inserted"), ("y4m", "end")),
    ],
)
def test_what_libav_passes_over_is_damage(tmp_path: Path, suffix: str, how: str) -> None:
    whole = clip(tmp_path, suffix)
    assert upscale_video(whole, tmp_path / "whole.mkv", Nearest, FAST).frames_out == 24
    source = tmp_path / f"damaged.{suffix}"
    source.write_bytes(damaged(whole.read_bytes(), how))
    with pytest.raises(ApisrError) as caught:
        upscale_video(source, tmp_path / "out.mkv", Nearest, FAST)
    assert (caught.value.code, caught.value.exit_code) == ("source-damaged", 1)
    assert not (tmp_path / "out.mkv").exists()
    assert packets(tmp_path / "out.partial.mkv", "v")


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv444p", "gray", "yuv411p", "gray16le", "yuv420p12le"])
def test_whole_frames_of_y4m_are_not_damage(tmp_path: Path, name: str) -> None:
    arguments = ["-f", "lavfi", "-i", "testsrc2=s=97x65:r=24:d=0.25", "-pix_fmt", name, "-strict", "-1"]
    ffmpeg(*arguments, tmp_path / "a.y4m")
    assert upscale_video(tmp_path / "a.y4m", tmp_path / "out.mkv", Nearest, FAST).frames_out == 6


def test_a_segment_without_a_frame_does_not_end_the_run(tmp_path: Path) -> None:
    """All frames of a segment are destroyed: the others are kept, and the damage is reported."""
    arguments = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=24:d=2", "-c:v", "libx264", "-bf", "0", "-g", "12"]
    ffmpeg(*arguments, "-x264-params", "scenecut=0", tmp_path / "a.mp4")
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    import av

    with av.open(str(tmp_path / "a.mp4")) as container:
        for number, packet in enumerate(container.demux(video=0)):
            if 12 <= number < 24 and packet.pos is not None:
                content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    (tmp_path / "b.mp4").write_bytes(content)
    with pytest.raises(ApisrError) as caught:
        upscale_video(tmp_path / "b.mp4", tmp_path / "out.mkv", Nearest, FAST)
    assert caught.value.code == "source-damaged"
    assert 24 <= len(packets(tmp_path / "out.partial.mkv", "v")) <= 47
