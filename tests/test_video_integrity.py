"""What is passed over by libav in silence, and shown by the numbers that a file holds about itself."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from test_video_cases import FAST, packets
from test_video_clocks import RECORDING, ffmpeg
from video_clips import Nearest, plan_video, upscale_video

from apisr.core.errors import ApisrError
from apisr.video.containers.avi import index_problem
from apisr.video.containers.matroska import break_of
from apisr.video.containers.mpegts import stray_bytes
from apisr.video.containers.obu import temporal_units
from apisr.video.source import VideoSource

CODINGS = {
    "ogv": ["-c:v", "libtheora", "-q:v", "7", "-c:a", "libvorbis"],
    "rm": ["-c:v", "rv20", "-q:v", "4", "-c:a", "ac3"],
    "wmv": ["-c:v", "wmv2", "-q:v", "4", "-c:a", "wmav2"],
    "avi": ["-c:v", "huffyuv", "-c:a", "pcm_s16le"],
    "nut": ["-an", "-c:v", "mjpeg", "-q:v", "3"],
    "mp4": ["-c:v", "libx264", "-bf", "2", "-g", "12", "-c:a", "aac"],
    "y4m": ["-pix_fmt", "yuv420p"],
    "mjpeg": ["-an", "-c:v", "mjpeg"],
    "ivf": ["-an", "-c:v", "libvpx", "-deadline", "realtime"],
    "obu": ["-an", "-c:v", "libaom-av1", "-cpu-used", "8"],
    "fragments.mp4": ["-c:v", "libx264", "-g", "6", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"],
    "ts": ["-c:v", "libx264", "-bf", "2", "-g", "12", "-c:a", "aac"],
    "mpg": ["-c:v", "mpeg2video", "-g", "12", "-c:a", "mp2"],
    "dv": ["-c:v", "dvvideo", "-s", "720x480", "-r", "30000/1001", "-pix_fmt", "yuv411p", "-ac", "2", "-ar", "48000"],
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
    if how == "empty":  # a download into a file of the final size
        return content[:middle] + bytes(len(content) - middle)
    if how == "sound":  # the header of a frame of AAC
        at = content.index(b"\xff\xf1", middle)
        return content[:at] + bytes(2) + content[at + 2 :]
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
        *(("mjpeg", "end"), ("ivf", "end"), ("dv", "end")),
        *(("fragments.mp4", "empty"), ("ts", "sound")),
    ],
)
def test_what_libav_passes_over_is_damage(tmp_path: Path, suffix: str, how: str) -> None:
    whole = clip(tmp_path, suffix)
    assert upscale_video(whole, tmp_path / "whole.mkv", Nearest, FAST).frames_out == len(packets(whole, "v"))
    source = tmp_path / f"damaged.{suffix}"
    source.write_bytes(damaged(whole.read_bytes(), how))
    with pytest.raises(ApisrError) as caught:
        upscale_video(source, tmp_path / "out.mkv", Nearest, FAST)
    assert (caught.value.code, caught.value.exit_code) == ("source-damaged", 1)
    assert not (tmp_path / "out.mkv").exists()
    assert packets(tmp_path / "out.partial.mkv", "v")


def test_units_of_a_plain_av1_stream(tmp_path: Path) -> None:
    whole = clip(tmp_path, "obu")
    assert temporal_units(whole) == (len(packets(whole, "v")), 0)
    content = whole.read_bytes()
    broken = tmp_path / "broken.obu"
    broken.write_bytes(content[:-5])
    marks, rest = temporal_units(broken)
    assert (marks, rest > 0) == (len(packets(whole, "v")), True)


def test_sound_whose_header_is_damaged_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "a.mkv"
    ffmpeg(*RECORDING, "-c:v", "libx264", "-c:a", "libvorbis", whole)
    content = whole.read_bytes()
    at = content.index(b"\5vorbis") + 200  # in the third header, that of the codebooks
    source = tmp_path / "b.mkv"
    source.write_bytes(content[:at] + bytes(400) + content[at + 400 :])
    judged = subprocess.run(["ffprobe", "-v", "error", source], capture_output=True, text=True, check=False)
    assert "Setup header corrupt" in judged.stderr
    assert any("cannot be played" in notice for notice in plan_video(source, tmp_path / "c.mkv", FAST).notices)
    assert not any("cannot be played" in notice for notice in plan_video(whole, tmp_path / "d.mkv", FAST).notices)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi", "ts", "mov"])
@pytest.mark.parametrize(("sound", "picture"), [(20, 0), (1, 4)], ids=["longer sound", "later picture"])
def test_sound_of_another_length_than_the_picture_is_no_damage(
    tmp_path: Path, suffix: str, sound: int, picture: int
) -> None:
    """libav gives the length of a Matroska file to its video, which may be that of the sound."""
    source, audio = tmp_path / f"a.{suffix}", "libmp3lame" if suffix == "avi" else "aac"
    video = ["-itsoffset", str(picture), "-f", "lavfi", "-i", "testsrc2=s=96x64:r=24:d=1"]
    sine = ["-f", "lavfi", "-i", f"sine=d={sound}", "-map", "0", "-map", "1"]
    ffmpeg(*video, *sine, "-c:v", "libx264", "-bf", "0", "-c:a", audio, source)
    upscale_video(source, tmp_path / f"b.{suffix}", Nearest, FAST)
    before, after = source, tmp_path / f"b.{suffix}"
    assert len(packets(after, "v")) == len(packets(before, "v"))
    assert len(packets(after, "a")) == len(packets(before, "a"))


@pytest.mark.parametrize(
    ("how", "words"),
    [("lost", "not whole packets"), ("empty", "not whole packets"), ("end", "in the middle of a packet")],
)
def test_what_is_lost_of_a_program_stream_is_said(tmp_path: Path, how: str, words: str) -> None:
    whole = clip(tmp_path, "mpg")
    assert not any("packet" in notice for notice in plan_video(whole, tmp_path / "a.mkv", FAST).notices)
    source = tmp_path / "damaged.mpg"
    source.write_bytes(damaged(whole.read_bytes(), how))
    assert any(words in notice for notice in plan_video(source, tmp_path / "b.mkv", FAST).notices)


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


def shown_by_others(path: Path) -> int:
    """How many frames ffmpeg decodes."""
    count = ["-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"]
    done = subprocess.run(["ffprobe", "-v", "quiet", *count, path], capture_output=True, text=True, check=True)
    return int(done.stdout.split(",")[0].split()[0])


@pytest.mark.parametrize("how", ["overwritten", "cut"])
def test_pictures_that_a_recording_cannot_show_at_its_beginning_are_named(tmp_path: Path, how: str) -> None:
    """The first keyframe is gone: what refers to it is not shown, and nothing but the frames say so."""
    path = tmp_path / "clip.ts"
    ffmpeg(*RECORDING, "-c:v", "mpeg2video", "-g", "12", "-bf", "0", "-an", path)
    before = shown_by_others(path)
    content = path.read_bytes()
    second = next(at for at in range(4 * 188, len(content), 188) if content[at + 1] & 0x40)  # the next picture begins
    junk = bytes(second - 188) if how == "overwritten" else b""
    path.write_bytes(content[:188] + junk + content[second:])
    assert shown_by_others(path) == before - 12
    with VideoSource.open(path) as source:
        assert source.index.before_keyframe == 11
        notices = [line for line in source.info.notices if "11 pictures" in line]
    assert len(notices) == 1
    plan = plan_video(path, tmp_path / "out.mkv", FAST, scale=2)
    assert [line for line in plan.notices if "11 pictures" in line] == notices


def test_a_transport_stream_whose_first_packets_are_destroyed_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "clip.ts"
    ffmpeg(*RECORDING, "-c:v", "mpeg2video", "-g", "12", "-an", path)
    content = path.read_bytes()
    assert stray_bytes(path) == (0, 0)
    for packets_lost in (1, 4, 9):
        path.write_bytes(bytes(packets_lost * 188) + content[packets_lost * 188 :])
        assert stray_bytes(path) == (packets_lost * 188, 0)


@pytest.mark.parametrize("suffix", ["ts", "mpg", "mkv", "mp4", "avi", "webm"])
def test_whole_recordings_have_no_such_notice(tmp_path: Path, suffix: str) -> None:
    codec = {"ts": "libx264", "mpg": "mpeg2video", "webm": "libvpx", "avi": "mpeg4"}.get(suffix, "libx264")
    path = tmp_path / f"clip.{suffix}"
    ffmpeg(*RECORDING, "-c:v", codec, "-g", "12", "-an", path)
    with VideoSource.open(path) as source:
        assert source.index.before_keyframe == 0
        assert not [line for line in source.info.notices if "keyframe" in line]


def test_bytes_that_are_no_chunk_before_the_frames_of_an_avi_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    ffmpeg(*RECORDING, *CODINGS["avi"], path)
    content = path.read_bytes()
    header = content.index(b"movi") - 8
    path.write_bytes(content[: header - 20] + bytes(1000) + content[header - 20 :])
    assert index_problem(path) is not None


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_break_in_the_structure_of_matroska_is_damage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    codec = "libx264" if suffix == "mkv" else "libvpx"
    ffmpeg(*RECORDING, "-c:v", codec, "-g", "6", "-an", "-cluster_time_limit", "200", path)
    content, shown = path.read_bytes(), shown_by_others(path)
    assert break_of(path) is None
    cluster = content.index(bytes.fromhex("1f43b675"))
    second = content.index(bytes.fromhex("1f43b675"), cluster + 4)
    for at, junk in ((cluster, bytes(40)), (second, random.Random(3).randbytes(60))):
        path.write_bytes(content[:at] + junk + content[at + len(junk) :])
        assert shown_by_others(path) < shown
        assert break_of(path) == at
        with VideoSource.open(path) as source:
            assert any("breaks" in line for line in (*source.index.lost, *source.index.problems, *source.info.problems))
    path.write_bytes(content[:second] + bytes(300) + content[second:])  # something was put in
    assert break_of(path) == second
