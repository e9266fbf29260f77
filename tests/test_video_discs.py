"""What discs and broadcasts carry: picture subtitles and plain sound. Nothing is lost; ffprobe and ffmpeg judge."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_clips import Nearest, ffprobe, make_clip, plan_video, upscale_video

from apisr.core.errors import InputError
from apisr.upscale.options import VideoOptions
from apisr.upscale.results import VideoResult
from apisr.video.containers.registry import CONTAINERS

FAST = VideoOptions(preset="ultrafast", deinterlace="off")
SHOWN = [(200, 500, (8, 40, 60, 12)), (600, 900, (10, 44, 50, 10))]
"""Milliseconds of start and end, and the place (x, y, width, height), of the subtitles of these tests."""

pytestmark = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None, reason="ffmpeg or ffprobe is not installed"
)


def ffmpeg(*arguments: object) -> str:
    command = ["ffmpeg", "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def upscale(source: Path, target: Path) -> VideoResult:
    return upscale_video(source, target, Nearest, FAST, scale=2)


def packets(path: Path, kind: str = "s") -> tuple[str, str, list[tuple[float, str]]]:
    """Return codec, hash of its header, and time and hash of every packet of the first stream of a kind."""
    command = [
        *("ffprobe", "-v", "error", "-select_streams", f"{kind}:0", "-show_data_hash", "sha256", "-of", "json"),
        *("-show_entries", "stream=codec_name,extradata_hash:packet=pts_time,data_hash", str(path)),
    ]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    (stream,) = found["streams"]
    listed = [(round(float(packet["pts_time"]), 3), packet["data_hash"]) for packet in found["packets"]]
    return stream["codec_name"], stream.get("extradata_hash", ""), listed


def after_the_picture(path: Path) -> list[tuple[float, str]]:
    """Return time after the first frame, and hash, of every packet of the subtitles."""
    first = min(time for time, _ in packets(path, "v")[2])
    return [(round(time - first, 3), digest) for time, digest in packets(path)[2]]


def samples_of(path: Path) -> NDArray[np.float64]:
    """Decode the sound with ffmpeg."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a", "-c:a", "pcm_f64le", "-f", "f64le", "-"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.float64)


def presentation_graphics() -> bytes:
    """Write Blu-ray subtitles (a .sup file): for each of SHOWN one display set that shows a box, one that clears it."""

    def segment(time_ms: int, kind: int, body: bytes) -> bytes:
        return b"PG" + struct.pack(">IIBH", time_ms * 90, 0, kind, len(body)) + body

    out = b""
    for number, (start, end, (x, y, width, height)) in enumerate(SHOWN):
        for place, (moment, visible) in enumerate(((start, True), (end, False))):
            composed = struct.pack(">HHBHBBBB", 96, 64, 0x10, 2 * number + place, 0x80 * visible, 0, 0, visible)
            out += segment(moment, 0x16, composed + (struct.pack(">HBBHH", 0, 0, 0, x, y) if visible else b""))
            out += segment(moment, 0x17, struct.pack(">BBHHHH", 1, 0, x, y, width, height))
            if visible:
                out += segment(moment, 0x14, b"\0\0" + bytes([1, 235, 128, 128, 255, 2, 16, 128, 128, 255]))
                rows = b"".join(bytes([0, 0x80 | width, 1 + row % 2, 0, 0]) for row in range(height))
                size = (len(rows) + 4).to_bytes(3, "big") + struct.pack(">HH", width, height)
                out += segment(moment, 0x15, struct.pack(">HBB", 0, 0, 0xC0) + size + rows)
            out += segment(moment, 0x80, b"")
    return out


@pytest.fixture(scope="module")
def disc(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Videos with picture subtitles of every kind."""
    folder = tmp_path_factory.mktemp("disc")
    video, sup = make_clip(folder / "video.mkv"), folder / "in.sup"
    sup.write_bytes(presentation_graphics())
    made = {
        name: folder / f"{name.replace(' ', '.')}"
        for name in ("pgs mkv", "pgs m2ts", "dvd mkv", "dvd mp4", "dvb mkv", "dvb ts")
    }
    both = ("-copyts", "-i", video, "-fix_sub_duration", "-i", sup, "-map", 0, "-map", 1, "-c:v", "copy")
    for name, path in made.items():
        codec = {"pgs": "copy", "dvd": "dvdsub", "dvb": "dvbsub"}[name[:3]]
        ffmpeg(*both, "-c:s", codec, "-metadata:s:s:0", "language=fre", path)
    if shutil.which("mkvmerge"):
        made["pgs merged"] = folder / "merged.mkv"
        subprocess.run(["mkvmerge", "-q", "-o", str(made["pgs merged"]), str(video), str(sup)], check=True)
    return made


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *(
            ("pgs mkv", ".mkv"),
            ("pgs merged", ".mkv"),
            ("pgs m2ts", ".m2ts"),
            ("pgs mkv", ".m2ts"),
            ("pgs mkv", ".mts"),
        ),
        *(("dvd mkv", ".mkv"), ("dvd mkv", ".mp4"), ("dvd mp4", ".mp4")),
        *(("dvb mkv", ".mkv"), ("dvb ts", ".ts"), ("dvb ts", ".mkv"), ("dvb mkv", ".ts")),
    ],
)
def test_picture_subtitles_keep_every_packet_and_time(
    disc: dict[str, Path], tmp_path: Path, name: str, suffix: str
) -> None:
    if name not in disc:
        pytest.skip("mkvmerge is not installed")
    target = tmp_path / f"out{suffix}"
    upscale(disc[name], target)
    before, after = packets(disc[name]), packets(target)
    assert len(before[2]) >= 2
    assert [digest for _, digest in after[2]] == [digest for _, digest in before[2]]
    places = zip(after_the_picture(disc[name]), after_the_picture(target), strict=True)
    assert all(abs(one - two) <= 0.0011 for (one, _), (two, _) in places)
    assert after[0] == before[0]
    if suffix == ".mp4":  # stored as YUV there: some versions of libav round on the way
        one, two = palette(disc[name]), palette(target)
        assert one.shape == (16, 3)
        assert np.abs(one - two).max() <= 4
    elif before[1]:
        assert after[1] == before[1]


def palette(path: Path) -> np.ndarray:
    """Return the ``(16, 3)`` colours of the DVD subtitles of a file."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == "subtitle")
        header = bytes(stream.codec_context.extradata or b"").decode()
    colours = re.search(r"palette: (.*)", header)
    assert colours is not None
    return np.array([list(bytes.fromhex(colour)) for colour in colours.group(1).strip().split(", ")], int)


def test_blu_ray_subtitles_of_a_transport_stream_become_whole_sets_in_matroska(
    disc: dict[str, Path], tmp_path: Path
) -> None:
    """There every segment is a packet; Matroska wants one packet for all segments of a moment."""
    upscale(disc["pgs m2ts"], tmp_path / "out.mkv")
    first = after_the_picture(disc["pgs m2ts"])[0][0]
    expected = [(round(time - SHOWN[0][0] / 1000 + first, 3), digest) for time, digest in packets(disc["pgs mkv"])[2]]
    assert after_the_picture(tmp_path / "out.mkv") == expected


def test_dvd_subtitles_from_mp4_say_their_screen_in_matroska(disc: dict[str, Path], tmp_path: Path) -> None:
    upscale(disc["dvd mp4"], tmp_path / "out.mkv")
    assert packets(tmp_path / "out.mkv")[2] == packets(disc["dvd mp4"])[2]
    with av.open(str(tmp_path / "out.mkv")) as container:
        header: Any = container.streams.subtitles[0].codec_context.extradata
    assert header.startswith(b"size: 96x64\npalette: ")


@pytest.mark.parametrize(
    ("name", "target"),
    [("pgs mkv", "out.mp4"), ("pgs mkv", "out.ts"), ("dvb ts", "out.mp4"), ("dvd mkv", "out.ts"), ("dvb mkv", "o.mov")],
)
def test_what_cannot_carry_picture_subtitles_is_refused_before_work(
    disc: dict[str, Path], tmp_path: Path, name: str, target: str
) -> None:
    with pytest.raises(InputError) as refused:
        plan_video(disc[name], tmp_path / target, FAST, 2)
    assert refused.value.code == "stream-not-in-container"
    assert "#1 subtitle" in str(refused.value)


def test_teletext_is_refused_by_name_or_left_out_on_request(tmp_path: Path) -> None:
    """PyAV has no decoder for it and cannot copy it; it must not be lost in silence."""
    video, source = make_clip(tmp_path / "video.mkv"), tmp_path / "in.ts"
    line = bytes([0x03, 0x2C, 0xE7, 0xE4]) + bytes(range(42))
    page = bytes([0x10]) + line * 3 + (b"\xff\x2c" + b"\xff" * 44)
    with av.open(str(video)) as origin, av.open(str(source), "w", format="mpegts") as out:
        copy = out.add_stream_from_template(origin.streams.video[0], opaque=True)
        text: Any = out.add_mux_stream("dvb_teletext")
        text.metadata["language"] = "ger"
        for packet in origin.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
        for number in range(4):
            packet = av.Packet(page + bytes([number]))
            packet.pts = packet.dts = 20_000 * number
            packet.time_base = Fraction(1, 90_000)
            packet.stream = text
            out.mux(packet)
    assert packets(source)[0] == "dvb_teletext"
    for name in ("out.ts", "out.mkv"):
        with pytest.raises(InputError) as refused:
            plan_video(source, tmp_path / name, FAST, 2)
        assert refused.value.code == "stream-not-in-container"
    outcome = upscale_video(source, tmp_path / "out.ts", Nearest, replace(FAST, drop_streams=("1",)), scale=2)
    assert any("#1 subtitle" in notice and "left out" in notice for notice in outcome.notices)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Videos with the plain sound of discs and of old files; six channels on the Blu-ray."""
    folder = tmp_path_factory.mktemp("samples")
    video = make_clip(folder / "video.mkv", rate=Fraction(25), frames=25, codec="mpeg2video")
    source = ("-f", "lavfi", "-i", "aevalsrc=exprs={}:s=48000:d=1")
    noise = "sin(440*2*PI*t)/3+random({})/2-0.25"
    kinds = {
        "bluray16.m2ts": ("pcm_bluray", "s16", 2),
        "bluray24.m2ts": ("pcm_bluray", "s32", 6),
        "dvd16.vob": ("pcm_dvd", "s16", 2),
        "dvd24.vob": ("pcm_dvd", "s32", 2),
        "float.mov": ("pcm_f32be", "flt", 2),
        "eight.mov": ("pcm_s8", "u8", 1),
        "alaw.avi": ("pcm_alaw", "s16", 1),
        "adpcm.avi": ("adpcm_ms", "s16", 2),
        "media.wmv": ("wmav2", "fltp", 2),
    }
    made: dict[str, Path] = {}
    for name, (codec, kind, channels) in kinds.items():
        made[name] = folder / name
        sound = [word.format("|".join(noise.format(number) for number in range(channels))) for word in source]
        layout = ("-af", "channelmap=channel_layout=5.1") if channels == 6 else ()
        ffmpeg("-i", video, *sound, "-c:v", "copy", *layout, "-c:a", codec, "-sample_fmt", kind, made[name])
    return made


@pytest.mark.parametrize(
    ("name", "suffix", "becomes"),
    [
        ("bluray16.m2ts", ".mkv", "pcm_s16le"),
        ("bluray24.m2ts", ".mkv", "pcm_s24le"),
        ("bluray24.m2ts", ".mov", "pcm_s24le"),
        ("bluray24.m2ts", ".m2ts", ""),
        ("dvd16.vob", ".mkv", "pcm_s16le"),
        ("dvd24.vob", ".mkv", "pcm_s24le"),
        ("float.mov", ".mkv", "pcm_f32le"),
        ("eight.mov", ".mkv", "pcm_u8"),
        ("alaw.avi", ".mkv", "pcm_s16le"),
        ("adpcm.avi", ".mkv", "pcm_s16le"),
        ("media.wmv", ".mkv", "pcm_f32le"),
    ],
)
def test_plain_sound_keeps_every_sample_and_time(
    samples: dict[str, Path], tmp_path: Path, name: str, suffix: str, becomes: str
) -> None:
    source, target = samples[name], tmp_path / f"out{suffix}"
    outcome = upscale(source, target)
    if becomes:
        assert any(f"becomes {becomes}, samples and times unchanged" in notice for notice in outcome.notices)
        assert packets(target, "a")[0] == becomes
    one, two = samples_of(source), samples_of(target)
    assert one.shape == two.shape
    # another libav than ours judges; two of them decode Windows Media to floats that differ in the last bits
    assert np.abs(one - two).max() <= (1e-6 if name == "media.wmv" else 0)
    times = [time for time, _ in packets(target, "a")[2]]
    with av.open(str(source)) as container:
        heard = [float(frame.time or 0) for frame in container.decode(audio=0) if frame.pts is not None]
    if name.endswith((".m2ts", ".vob")) and suffix != ".m2ts":  # clocks that begin anywhere
        begin = float(ffprobe(source, "format")["format"]["start_time"])
        heard = [time - begin for time in heard]
    if suffix == ".mkv":  # which counts milliseconds
        assert times[: len(heard)] == pytest.approx(heard, abs=0.00101)
        assert len(times) - len(heard) == (name == "media.wmv")  # the decoder's last samples have no time of their own
    else:
        assert times[0] == pytest.approx(heard[0])


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "pcm_f32le"])
def test_plain_sound_in_mp4(tmp_path: Path, codec: str) -> None:
    """FFmpeg 5 cannot read this (ISO/IEC 23003-5); MediaInfo names it, and the samples come back bit for bit."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
    sine = ("-f", "lavfi", "-i", "sine=d=1", "-f", "lavfi", "-i", "testsrc2=s=96x64:d=1", "-c:a", codec)
    ffmpeg(*sine, source)
    upscale(source, target)
    decoded = []
    for path in (source, target):
        with av.open(str(path)) as container:
            decoded.append(np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)]))
    assert np.array_equal(*decoded)
    if shutil.which("mediainfo"):
        answer = subprocess.run(["mediainfo", "--Inform=Audio;%Format%", str(target)], capture_output=True, text=True)
        assert answer.stdout.strip() in ("ipcm", "fpcm", "PCM")


def test_six_channels_stay_in_their_places(samples: dict[str, Path], tmp_path: Path) -> None:
    upscale(samples["bluray24.m2ts"], tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.streams.audio[0].codec_context.layout.nb_channels == 6


def test_plain_sound_that_fits_nowhere_is_refused_before_work(samples: dict[str, Path], tmp_path: Path) -> None:
    for name, target in (("bluray24.m2ts", "out.ts"), ("dvd16.vob", "out.ts"), ("float.mov", "out.webm")):
        options = VideoOptions(codec="libvpx-vp9") if target.endswith("webm") else FAST
        with pytest.raises(InputError) as caught:
            plan_video(samples[name], tmp_path / target, options, 2)
        assert caught.value.code == "stream-not-in-container"
        assert "audio (pcm_" in str(caught.value)


@pytest.mark.parametrize(
    "suffix", [suffix for suffix, one in CONTAINERS.items() if suffix not in (".nut", ".mts") and not one.pictures_only]
)
def test_the_muxer_takes_what_the_table_says(suffix: str) -> None:
    container = CONTAINERS[suffix]
    with av.open(io.BytesIO(), "w", format=container.muxer) as out:
        names = out.supported_codecs
    takes: set[str] = set()
    for name in names:
        for mode in ("r", "w"):
            with contextlib.suppress(ValueError):
                takes.add(av.codec.Codec(name, mode).canonical_name)
    said = (container.video or set()) | (container.audio or set()) | container.subtitle
    if container.muxer != "mpegts":  # which takes anything, see below
        assert said - takes == set()


@pytest.mark.parametrize(
    ("suffix", "codecs"),
    [(".ts", ("aac", "mp2", "libmp3lame", "ac3", "eac3", "libopus", "dca")), (".m2ts", ("ac3", "eac3", "dca"))],
)
def test_what_the_table_says_of_transport_streams_comes_back(
    tmp_path: Path, suffix: str, codecs: tuple[str, ...]
) -> None:
    """Their muxer takes anything; what it has no number for cannot be read back."""
    for codec in codecs:
        source, target = tmp_path / f"{codec}.mkv", tmp_path / f"{codec}{suffix}"
        ffmpeg(
            *("-f", "lavfi", "-i", "testsrc=s=96x64:r=24:d=0.3", "-f", "lavfi", "-i", "sine=d=0.3:r=48000"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-ac", 2, "-strict", -2, "-c:a", codec, source),
        )
        upscale(source, target)
        before, after = packets(source, "a"), packets(target, "a")
        assert after[0] == before[0], codec
        assert len(after[2]) == len(before[2]), codec
