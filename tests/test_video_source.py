"""One video, opened once: the main stream, identity, travel between processes, names, clocks."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_clips import Nearest, make_clip, upscale_video

from apisr.core.errors import ApisrError
from apisr.core.progress import Cancel
from apisr.upscale.options import VideoOptions
from apisr.video.clock import FollowingClock, Packet, VideoClock, decoding_times
from apisr.video.containers.mpegts import stray_bytes
from apisr.video.ffv1 import damaged_slices
from apisr.video.index import grid_rate
from apisr.video.info import StreamInfo
from apisr.video.probe import main_stream
from apisr.video.source import VideoSource
from apisr.video.verify import missing_frames


def test_frames_of_a_copy_that_travelled(tmp_path: Path) -> None:
    source = VideoSource.open(make_clip(tmp_path / "in.mkv", frames=12, options={"g": "4"}))
    there = pickle.loads(pickle.dumps(source))
    one = [(frame.pts, frame.rgb.tobytes()) for frame in source.frames()]
    assert [(frame.pts, frame.rgb.tobytes()) for frame in there.frames()] == one
    shutil.copyfile(tmp_path / "in.mkv", tmp_path / "copy.mkv")
    moved = there.moved_to(tmp_path / "copy.mkv")
    assert [(frame.pts, frame.rgb.tobytes()) for frame in moved.frames()] == one


def test_a_replaced_file_is_noticed(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mkv", frames=6)
    other = make_clip(tmp_path / "other.mkv", frames=6, size=(96, 66))
    source = VideoSource.open(path)
    travelled = pickle.loads(pickle.dumps(source))
    other.replace(path)
    for opened in (source, travelled):
        with pytest.raises(ApisrError) as caught:
            next(iter(opened.frames()))
        assert caught.value.code == "source-changed"
    with pytest.raises(ApisrError) as caught:
        source.moved_to(path)
    assert caught.value.code == "source-changed"


def test_a_change_that_keeps_the_size_is_noticed(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mkv", frames=6)
    source = VideoSource.open(path)
    content = path.read_bytes()
    times = path.stat()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ApisrError) as caught:
        source.check_unchanged()
    assert caught.value.code == "source-changed"


@pytest.mark.parametrize(
    "name", ["Re:Zero - 01.mkv", "http:x.mkv", "subfile,,start,0:x.mkv", "é" * 120 + ".mkv", "%03d.mkv"]
)
def test_names_are_never_protocols(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / "in.mkv", frames=4).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with VideoSource.open(name) as source:
        assert source.index.frames == 4
        assert len(list(source.frames())) == 4
        with source.intra_frames() as reader:
            assert len(list(reader)) == 1


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mkv"))
    make_clip(tmp_path / "in.mkv", frames=4).rename(path)
    with VideoSource.open(path) as source:
        assert len(list(source.frames())) == 4


def test_a_stop_ends_the_frames(tmp_path: Path) -> None:
    cancel = Cancel()
    frames = VideoSource.open(make_clip(tmp_path / "in.mkv")).frames(cancel=cancel)
    next(frames)
    cancel.request()
    with pytest.raises(ApisrError) as caught:
        next(frames)
    assert caught.value.code == "cancelled"


def stream(index: int, size: tuple[int, int], seconds: float | None, **more: object) -> StreamInfo:
    return StreamInfo(index, "video", "h264", width=size[0], height=size[1], duration_s=seconds, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("streams", "chosen"),
    [
        ([stream(0, (320, 180), 60), stream(1, (1280, 720), 60)], 1),  # a proxy first
        ([stream(0, (3840, 2160), 2), stream(1, (1280, 720), 1400)], 1),  # a short intro in high resolution
        ([stream(0, (640, 480), 60), stream(1, (640, 480), 60, default=True)], 1),
        ([stream(0, (640, 480), 60), stream(1, (640, 480), 60)], 0),
        ([stream(0, (1920, 1080), 60, thumbnail=True), stream(1, (640, 480), 60)], 1),
        ([stream(0, (1920, 1080), None, frames=1), stream(1, (640, 480), 60)], 1),
        ([stream(0, (1920, 1080), None, frames=1)], 0),
        ([stream(0, (640, 480), None), stream(1, (320, 240), None)], 0),
    ],
)
def test_the_main_stream(streams: list[StreamInfo], chosen: int) -> None:
    assert main_stream(streams, Path("x.mkv")).index == chosen


@given(st.lists(st.integers(2, 40), min_size=1, max_size=4), st.integers(-(10**7), 10**7), st.integers(0, 3))
def test_clocks_go_on_at_every_break(parts: list[int], origin: int, delay: int) -> None:
    """However the parts of a file begin, the times go on by one frame; the sound follows."""
    unit = Fraction(1, 25)
    clock = VideoClock(unit, threshold_s=10)
    given_times: list[int] = []
    result: list[int] = []
    for number, count in enumerate(parts):
        start = origin + (0 if number % 2 == 0 else 100_000 * number)
        for place in range(count):
            given_times.append(start + place)
            moved = clock.shifted(Packet(start + place + delay, start + place, 1, place == 0))
            result.append(moved.dts if moved.dts is not None else -1)
    assert result == list(range(origin, origin + len(result)))
    sound = FollowingClock([part.shift * unit for part in clock.parts], unit)
    followed = [moment + sound.shift_of(moment, 1) for moment in given_times]
    assert followed == result


@given(st.permutations(list(range(8))), st.integers(1, 50))
def test_decoding_times_increase_and_never_come_late(order: list[int], step: int) -> None:
    shown = [place * step for place in order]
    decoded = decoding_times(shown, step=step)
    assert len(decoded) == len(shown)
    assert all(one < two for one, two in itertools.pairwise(decoded))
    assert all(early <= late for early, late in zip(decoded, shown, strict=True))


def test_checksums_of_ffv1(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "in.mkv", codec="ffv1", frames=3, options={"level": "3", "slicecrc": "1", "slices": "4"}
    )
    plain = make_clip(tmp_path / "plain.mkv", codec="ffv1", frames=3, options={"level": "3", "slicecrc": "0"})
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert [damaged_slices(packet) for packet in packets] == [0, 0, 0]
    broken = bytearray(packets[1])
    broken[len(broken) // 2] ^= 4
    assert damaged_slices(bytes(broken)) == 1
    with av.open(str(plain)) as container:
        assert [damaged_slices(bytes(packet)) for packet in container.demux(video=0) if packet.size] == [0, 0, 0]


def test_missing_frames_and_second_fields(tmp_path: Path) -> None:
    index = VideoSource.open(make_clip(tmp_path / "in.mkv", frames=24)).index
    times = index.pts.tolist()
    assert missing_frames(index, times) == []
    assert missing_frames(index, times[:10] + times[11:]) == [times[10]]
    assert missing_frames(index, times[:-3]) == times[-3:]
    assert missing_frames(index, times[4:8], (times[4], times[8])) == []
    assert missing_frames(index, []) == times


def test_frames_on_a_grid(tmp_path: Path) -> None:
    even = VideoSource.open(make_clip(tmp_path / "even.mkv", frames=6))
    assert grid_rate(even.index, even.info.video) == 24
    times = [0, 40, 121, 160, 205]
    uneven = VideoSource.open(make_clip(tmp_path / "uneven.mkv", frames=5, times=times, time_base=Fraction(1, 1000)))
    assert grid_rate(uneven.index, uneven.info.video) is None
    assert np.array_equal(uneven.index.pts, times)


@pytest.mark.parametrize("suffix", [".ts", ".m2ts"])
def test_bytes_that_are_not_transport_packets_are_counted(tmp_path: Path, suffix: str) -> None:
    options = {"mpegts_m2ts_mode": "1"} if suffix == ".m2ts" else None
    path = make_clip(tmp_path / f"in{suffix}", codec="mpeg2video", format="mpegts", container_options=options)
    content, step = path.read_bytes(), 192 if suffix == ".m2ts" else 188
    assert stray_bytes(path) == (0, 0)
    path.write_bytes(content[: 6 * step] + bytes(50) + content[6 * step : -20])
    assert stray_bytes(path) == (50, step - 20)
    assert sum("packet" in notice for notice in VideoSource.open(path).info.notices) == 2
    path.write_bytes(bytes(300))
    assert stray_bytes(path) == (0, 0)


def test_names_of_240_letters_are_written(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4).rename(tmp_path / f"{'x' * 240}.mkv")
    for letter in ("y", "\u00e9"):
        target = tmp_path / f"{letter * (240 // len(letter.encode()))}.mkv"
        assert upscale_video(source, target, Nearest, VideoOptions(preset="ultrafast")).frames_out == 4
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".mkv"] * 3


# --- interlacing: what is progressive is left alone, whatever its texture; what is interlaced is seen


def drawing(moment: float, texture: str, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    """A moving box on a gradient, drawn with a texture of single lines; `moment` in frames."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    left = int(moment * 5) % (width - 50)
    inside = (x >= left) & (x < left + 50) & (y > 20) & (y < 100)
    levels = np.where(inside, 190.0, 60 + 40 * x / width)
    marks = {
        "plain": np.zeros_like(levels),
        "dither": 60.0 * ((x + y) % 2),
        "lines": 60.0 * (y % 2),
        "moving dither": 60.0 * ((x - left + y) % 2) * inside,
        "noise": np.random.default_rng(int(moment * 2)).normal(0, 20, levels.shape),
    }
    return np.clip(levels + marks[texture], 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


@pytest.mark.parametrize("texture", ["plain", "dither", "lines", "moving dither", "noise"])
def test_progressive_textures_show_no_combs(tmp_path: Path, texture: str) -> None:
    path = make_clip(
        tmp_path / "in.mkv", frames=30, size=(160, 120), pictures=lambda n, w, h: drawing(n, texture), codec="ffv1"
    )
    assert VideoSource.open(path).combed_share() == 0


@pytest.mark.parametrize("texture", ["plain", "noise"])
@pytest.mark.parametrize("top_first", [True, False])
def test_interlaced_video_shows_combs_in_either_order(tmp_path: Path, texture: str, top_first: bool) -> None:
    def woven(number: int, width: int, height: int) -> np.ndarray:
        frame, later = drawing(number, texture), drawing(number + 0.5, texture)
        frame[1 if top_first else 0 :: 2] = later[1 if top_first else 0 :: 2]
        return frame

    path = make_clip(tmp_path / "in.mkv", frames=30, size=(160, 120), pictures=woven, codec="ffv1")
    assert VideoSource.open(path).combed_share() > 0.8
