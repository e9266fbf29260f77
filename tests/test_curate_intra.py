"""Intra frames by packets equal those of a full decode, for every codec at hand."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from curate_clips import encode, scene

from apisr.core.errors import InputError
from apisr.video.intra import IntraReader

FRAMES = [np.roll(scene(number // 16, width=192, height=112), 2 * number, axis=1) for number in range(64)]


def by_full_decode(path: Path) -> dict[int, np.ndarray]:
    with av.open(str(path)) as container:
        return {
            int(frame.pts): frame.to_ndarray(format="gray")
            for frame in container.decode(video=0)
            if int(frame.pict_type) == 1 and frame.pts is not None
        }


CASES = {
    "h264_open_groups.mkv": ("libx264", {"g": "12", "x264-params": "open-gop=1:bframes=3"}, None),
    "h264_plain_intra.mp4": ("libx264", {"g": "250", "x264-params": "keyint=250:min-keyint=250"}, {16, 32, 48}),
    "h264_start_codes.ts": ("libx264", {"g": "16"}, None),
    "hevc_open_groups.mkv": ("libx265", {"x265-params": "log-level=none:keyint=16:open-gop=1:pools=1"}, None),
    "hevc_start_codes.ts": ("libx265", {"x265-params": "log-level=none:keyint=16:pools=1"}, None),
    "mpeg2.mpg": ("mpeg2video", {"g": "12", "bf": "2", "qscale": "4"}, None),
    "mpeg4.avi": ("mpeg4", {"g": "12", "bf": "2"}, None),
    "vp9.webm": ("libvpx-vp9", {"g": "16", "cpu-used": "8", "deadline": "realtime"}, None),
    "av1.mkv": ("libsvtav1", {"g": "16", "preset": "12", "svtav1-params": "lp=1"}, None),
    "huffyuv.avi": ("huffyuv", {}, None),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_to_a_full_decode(tmp_path: Path, name: str) -> None:
    codec, options, keyframes = CASES[name]
    pixel_format = "yuv422p" if codec == "huffyuv" else "yuv420p"
    path = encode(tmp_path / name, FRAMES, codec=codec, pixel_format=pixel_format, keyframes=keyframes, **options)
    expected = by_full_decode(path)
    with IntraReader(path, threads=2) as reader:
        found = {intra.info.pts: intra.frame.to_ndarray(format="gray") for intra in reader}
        assert reader.statistics.undecodable == 0
        assert sum(reader.statistics.counts.values()) == len(FRAMES)
        assert reader.statistics.counts["I"] == len(expected)
    assert len(expected) >= 4
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[pts], expected[pts]) for pts in expected)


def test_keyframes_and_other_intra_frames_are_told_apart(tmp_path: Path) -> None:
    options = {"g": "250", "x264-params": "open-gop=1"}
    path = encode(tmp_path / "a.mkv", FRAMES, keyframes={16, 32, 48}, **options)
    with IntraReader(path) as reader:
        kinds = [intra.info.kind for intra in reader]
    assert kinds[0] == "key"
    assert "intra" in kinds
    with IntraReader(path, keyframes_only=True) as reader:
        assert len(list(reader)) == kinds.count("key")


def test_following_frames_and_wanted_numbers(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", FRAMES, keyframes={0, 16, 32, 48}, g="250", bf="0")
    with IntraReader(path, numbers={16, 48}, following=3) as reader:
        found = list(reader)
    assert [intra.info.number for intra in found] == [16, 48]
    assert [len(intra.following) for intra in found] == [3, 3]
    with av.open(str(path)) as container:
        everything = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    for intra in found:
        for step, frame in enumerate(intra.following, start=1):
            assert np.array_equal(frame.to_ndarray(format="gray"), everything[intra.info.number + step])


def test_spacing_and_every(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", FRAMES, codec="huffyuv", pixel_format="yuv422p")
    with IntraReader(path, spacing_s=0.5) as reader:
        assert [intra.info.number for intra in reader] == [0, 12, 24, 36, 48, 60]
    with IntraReader(path, every=20) as reader:
        assert [intra.info.number for intra in reader] == [0, 20, 40, 60]


def test_packet_sizes_by_type(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", FRAMES, g="16", crf="20")
    with IntraReader(path) as reader:
        sizes = {intra.info.number: intra.info.size_bytes for intra in reader}
    statistics = reader.statistics
    assert sum(sizes.values()) == statistics.total_bytes["I"]
    assert sum(statistics.histogram["P"].values()) == statistics.counts["P"]
    mean = {kind: statistics.total_bytes[kind] / statistics.counts[kind] for kind in ("I", "P", "B")}
    assert mean["I"] > 2 * mean["P"] > 2 * mean["B"]


def test_bad_files(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(b"no video at all" * 100)
    with pytest.raises(InputError) as refused:
        IntraReader(broken)
    assert refused.value.code == "not-a-video"
    with pytest.raises(InputError) as refused:
        IntraReader(tmp_path / "missing.mkv")
    assert refused.value.code == "no-such-file"


def test_a_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mkv", FRAMES, g="8", crf="10")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with IntraReader(whole) as reader:
        everything = [intra.info.number for intra in reader]
    with IntraReader(cut) as reader:
        part = [intra.info.number for intra in reader]
    assert 2 <= len(part) < len(everything)
    assert part == everything[: len(part)]


REAL = ["action/web.mkv", "episode/dvd.mpg", "episode/episode.mkv", "episode/ten_bit.mkv", "episode/vfr.mkv"]


@pytest.mark.parametrize("clip", REAL)
def test_real_clips(shared: Path, clip: str) -> None:
    path = shared / "data" / "clips" / clip
    expected = by_full_decode(path)
    with IntraReader(path) as reader:
        found = {intra.info.pts: intra.frame.to_ndarray(format="gray") for intra in reader}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[pts], expected[pts]) for pts in expected)
