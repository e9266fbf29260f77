"""Colour: what a frame means goes through the network's RGB and back within one code value, and is written again."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_video_clocks import ffmpeg
from video_clips import Nearest, ffprobe, make_clip, plan_video, upscale_video

from apisr.core.errors import InputError
from apisr.upscale.options import VideoOptions
from apisr.video.colour import LUMA_WEIGHTS, Colour, bit_depth, chroma_shift, describe
from apisr.video.rgb import FromRgb, ToRgb, plane_arrays
from apisr.video.source import VideoSource

#: 75 % bars of SMPTE RP 219 and a gray ramp, as R'G'B'.
BARS = [
    (1, 1, 1),
    *[tuple(0.75 * v for v in rgb) for rgb in [(1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1)]],
]
BARS += [(0, 0, 0), (0.1, 0.1, 0.1), (0.5, 0.5, 0.5), (0.9, 0.9, 0.9), (0.8, 0.5, 0.4)]
FORMATS = [
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p10le",
    "yuv444p12le",
    "nv12",
    "p010le",
]


def signal(rgb: tuple[float, ...], matrix: int, bits: int, *, full: bool) -> list[int]:
    """Y'CbCr codes by the equations of ITU-R BT.709 / BT.601 / BT.2020, written out independently of the package."""
    kr, kb = LUMA_WEIGHTS[matrix]
    red, green, blue = rgb
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    if full:
        top = 2**bits - 1
        values = [luma * top, cb * top + 2 ** (bits - 1), cr * top + 2 ** (bits - 1)]
    else:
        unit = 2 ** (bits - 8)
        values = [(219 * luma + 16) * unit, (224 * cb + 128) * unit, (224 * cr + 128) * unit]
    return [min(2**bits - 1, round(value)) for value in values]


def bars(pix_fmt: str, matrix: int, *, full: bool) -> tuple[av.VideoFrame, list[list[int]]]:
    """A frame of vertical bars, 16 pixels each, and the codes of each bar."""
    bits = bit_depth(pix_fmt)
    codes = [signal(rgb, matrix, bits, full=full) for rgb in BARS]
    frame = av.VideoFrame(16 * len(BARS), 32, pix_fmt)
    for plane, component in zip(plane_arrays(frame), range(3), strict=True):
        width = plane.shape[1] // len(BARS)
        for number, code in enumerate(codes):
            plane[:, number * width : (number + 1) * width] = code[component]
    return frame, codes


@pytest.mark.parametrize("pix_fmt", [name for name in FORMATS if not name.startswith(("nv", "p0"))])
@pytest.mark.parametrize("matrix", sorted(LUMA_WEIGHTS))
@pytest.mark.parametrize("full", [False, True])
def test_bars_are_read_right_and_come_back_within_one_code(pix_fmt: str, matrix: int, full: bool) -> None:
    frame, codes = bars(pix_fmt, matrix, full=full)
    colour = Colour(matrix, 1, 1, full)
    dtype = np.uint16 if bit_depth(pix_fmt) > 8 else np.uint8
    rgb = ToRgb(colour, dtype)(frame)
    top = np.iinfo(dtype).max
    step = 1.0 / (219 if not full else 255) / 2 ** (bit_depth(pix_fmt) - 8)
    for number, wanted in enumerate(BARS):
        seen = rgb[16, number * 16 + 8].astype(float) / top
        assert np.abs(seen - wanted).max() <= 1.6 * step + 0.6 / 255 * (top == 255), f"bar {number}"
    back = FromRgb(colour, pix_fmt)(rgb)
    for plane, component in zip(plane_arrays(back), range(3), strict=True):
        width = plane.shape[1] // len(BARS)
        for number, code in enumerate(codes):
            assert abs(int(plane[plane.shape[0] // 2, number * width + width // 2]) - code[component]) <= 1


@pytest.mark.parametrize("pix_fmt", ["nv12", "p010le", "yuyv422", "yuv411p"])
def test_formats_that_are_packed_or_rare(pix_fmt: str) -> None:
    colour = Colour(1, 1, 1, full_range=False)
    dtype = np.uint16 if bit_depth(pix_fmt) > 8 else np.uint8
    top = np.iinfo(dtype).max
    rgb = np.full((32, 64, 3), (0.7 * top, 0.3 * top, 0.5 * top), dtype)
    back = ToRgb(colour, dtype)(FromRgb(colour, pix_fmt)(rgb))
    assert np.abs(back.astype(float) - rgb).max() / top * 255 <= 2.0


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "gbrp", "gbrp10le", "rgb24", "bgr0"])
def test_gray_and_rgb_formats_are_exact(pix_fmt: str) -> None:
    colour = Colour(0 if "g" in pix_fmt and "gray" not in pix_fmt else 1, 1, 13, full_range=True)
    dtype = np.uint16 if bit_depth(pix_fmt) > 8 else np.uint8
    top = np.iinfo(dtype).max
    ramp = np.round(np.linspace(0, top, 64)).astype(dtype)
    rgb = np.repeat(np.tile(ramp, (16, 1))[:, :, None], 3, axis=2)
    back = ToRgb(colour, dtype)(FromRgb(colour, pix_fmt)(rgb))
    limit = 0 if bit_depth(pix_fmt) == 8 else 33
    assert np.abs(back.astype(int) - rgb).max() <= limit


def chroma_edge(position: str, shift: tuple[int, int], size: int = 64) -> NDArray[Any]:
    """Cb of a smooth horizontal and vertical wave, sampled where `position` says, from the formula itself."""
    across = {"left": 0.0, "topleft": 0.0, "center": 0.5}[position] if shift[0] else 0.0
    down = {"left": 0.5, "topleft": 0.0, "center": 0.5}[position] if shift[1] else 0.0
    x = np.arange(size >> shift[0]) * (1 << shift[0]) + across
    y = np.arange(size >> shift[1]) * (1 << shift[1]) + down
    return 128 + 60 * np.sin(x / 9)[None, :] * np.cos(y / 11)[:, None]


@pytest.mark.parametrize("position", ["left", "center", "topleft"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv422p"])
def test_chroma_sits_where_it_is_said_to_sit(pix_fmt: str, position: Any) -> None:
    """Full-size chroma by reading must equal the formula at the luma positions; taken wrongly it is off by 4 codes."""
    bits, shift = bit_depth(pix_fmt), chroma_shift(pix_fmt)
    unit = 2 ** (bits - 8)
    frame = av.VideoFrame(64, 64, pix_fmt)
    planes = plane_arrays(frame)
    planes[0][...] = 126 * unit
    planes[1][...] = np.round(chroma_edge(position, shift) * unit)
    planes[2][...] = 128 * unit
    colour = Colour(1, 1, 1, full_range=False, chroma=position)
    rgb = ToRgb(colour, np.uint16 if bits > 8 else np.uint8)(frame).astype(float)
    top = 65535.0 if bits > 8 else 255.0
    kb = LUMA_WEIGHTS[1][1]
    cb = (rgb[:, :, 2] / top - (126 - 16) / 219) / (2 - 2 * kb) * 224 + 128
    truth = chroma_edge(position, (0, 0))
    inner = slice(6, -6)
    assert np.abs(cb - truth)[inner, inner].max() < 1.5
    read = ToRgb(colour, np.uint16 if bits > 8 else np.uint8)(frame)
    written = plane_arrays(FromRgb(colour, pix_fmt)(read))[1]
    assert np.abs(written / unit - chroma_edge(position, shift))[inner, inner].max() < 2.0


@given(
    st.sampled_from(["yuv420p", "yuv444p", "yuv420p10le", "gray"]),
    st.integers(2, 40),
    st.integers(2, 40),
    st.integers(0, 1 << 16),
)
@settings(max_examples=25, deadline=None)
def test_any_size_comes_back_as_it_was(pix_fmt: str, width: int, height: int, seed: int) -> None:
    across, down = chroma_shift(pix_fmt)
    width, height = width << across >> across << across, height << down
    dtype = np.uint16 if bit_depth(pix_fmt) > 8 else np.uint8
    value = (
        np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, 3) if pix_fmt != "gray" else np.full(3, seed >> 8)
    )
    rgb = np.tile(value.astype(dtype), (height, width, 1))
    colour = Colour(1, 1, 1, full_range=False)
    once = ToRgb(colour, dtype)(FromRgb(colour, pix_fmt)(rgb))
    assert once.shape == (height, width, 3)
    assert np.abs(once.astype(float) - rgb).max() / np.iinfo(dtype).max * 255 <= 2.6


@pytest.mark.parametrize(
    ("tags", "height", "expected", "guessed"),
    [
        ((2, 2, 2, 0), 480, "smpte170m", ("matrix", "primaries", "transfer", "range")),
        ((2, 2, 2, 1), 576, "bt470bg", ("matrix", "primaries", "transfer")),
        ((2, 2, 2, 1), 720, "bt709", ("matrix", "primaries", "transfer")),
        ((6, 6, 6, 1), 1080, "smpte170m", ()),
        ((2, 9, 16, 1), 2160, "bt2020nc", ("matrix",)),
    ],
)
def test_untagged_colour_is_guessed_by_the_usual_rules(
    tags: tuple[int, ...], height: int, expected: str, guessed: tuple[str, ...]
) -> None:
    matrix, primaries, transfer, colour_range = tags
    colour = describe(
        matrix=matrix,
        primaries=primaries,
        transfer=transfer,
        colour_range=colour_range,
        height=height,
        pixel_format="yuv420p",
    )
    assert str(colour).startswith(expected)
    assert colour.guessed == guessed
    assert colour.full_range is False


def test_a_matrix_that_cannot_be_undone_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        describe(matrix=10, primaries=9, transfer=14, colour_range=1, height=2160, pixel_format="yuv420p10le")
    assert refused.value.code == "unknown-colour-matrix"


KINDS = {
    "sd": (Colour(6, 6, 6, full_range=False), "yuv420p", "libx264"),
    "pal": (Colour(5, 5, 6, full_range=False), "yuv420p", "libx264"),
    "hd": (Colour(1, 1, 1, full_range=False), "yuv420p", "libx264"),
    "full": (Colour(1, 1, 1, full_range=True), "yuv420p", "libx264"),
    "centre": (Colour(1, 1, 1, full_range=False, chroma="center"), "yuv420p", "libx264"),
    "corner": (Colour(1, 1, 1, full_range=False, chroma="topleft"), "yuv420p10le", "libx265"),
    "444": (Colour(1, 1, 1, full_range=False), "yuv444p", "libx264"),
    "hd10": (Colour(1, 1, 1, full_range=False), "yuv420p10le", "libx265"),
    "uhd": (Colour(9, 9, 14, full_range=False), "yuv420p10le", "libx265"),
    "pq": (Colour(9, 9, 16, full_range=False, chroma="topleft"), "yuv420p10le", "libx265"),
    "hlg": (Colour(9, 9, 18, full_range=False, chroma="topleft"), "yuv420p10le", "libx265"),
}


def bar_picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    row = np.repeat(np.round(np.array(BARS) * 255).astype(np.uint8), width // len(BARS), axis=0)
    return np.tile(row[None], (height, 1, 1))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_clips_of_every_kind_keep_codes_and_tags(tmp_path: Path, kind: str, suffix: str) -> None:
    colour, pix_fmt, codec = KINDS[kind]
    lossless = {"libx264": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:log-level=error"}}[codec]
    lossless = {**lossless, "chroma_sample_location": colour.chroma}
    size = (16 * len(BARS), 32)
    source = make_clip(
        tmp_path / f"in{suffix}", codec=codec, frames=3, size=size, pix_fmt=pix_fmt, colour=colour, options=lossless,
        pictures=bar_picture,
    )  # fmt: skip
    extra = (("qp", "0"),) if codec == "libx264" else (("x265-params", "lossless=1"),)
    options = VideoOptions(codec=codec, preset="ultrafast", encoder_options=extra)
    target = tmp_path / f"out{suffix}"
    outcome = upscale_video(source, target, Nearest, options, scale=2)
    assert not any("colour" in notice for notice in outcome.notices)
    with av.open(str(source)) as one, av.open(str(target)) as two:
        before, after = next(one.decode(video=0)), next(two.decode(video=0))
    assert {frame.format.name.replace("yuvj", "yuv") for frame in (before, after)} == {pix_fmt}
    for plane_one, plane_two in zip(plane_arrays(before), plane_arrays(after), strict=True):
        width = plane_one.shape[1] // len(BARS)
        for number in range(len(BARS)):
            middle = int(plane_one[plane_one.shape[0] // 2, number * width + width // 2])
            large = int(plane_two[plane_two.shape[0] // 2, 2 * number * width + width])
            assert abs(middle - large) <= 1, f"bar {number}"
    names = ("color_range", "color_space", "color_transfer", "color_primaries")
    reports = [ffprobe(path, "streams")["streams"][0] for path in (source, target)]
    assert {name: reports[1].get(name) for name in names} == {name: reports[0].get(name) for name in names}
    assert reports[1]["chroma_location"] == colour.chroma
    assert VideoSource.open(target).info.video.colour.chroma == colour.chroma


@pytest.mark.parametrize("codec", ["libx265", "libx264", "libsvtav1"])
def test_hdr_metadata_is_kept(tmp_path: Path, codec: str) -> None:
    colour, pix_fmt, _ = KINDS["pq"]
    master = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    source = make_clip(
        tmp_path / "in.mkv", codec="libx265", frames=3, pix_fmt=pix_fmt, colour=colour,
        options={"x265-params": f"log-level=error:master-display={master}:max-cll=1000,400"},
    )  # fmt: skip
    info = VideoSource.open(source).info.video
    assert info.light_level == (1000, 400)
    assert info.mastering is not None
    assert info.mastering.luminance == (Fraction(50, 10000), Fraction(1000))
    assert info.colour.transfer == 16  # PQ
    preset = {"libsvtav1": "12"}.get(codec, "ultrafast")
    upscale_video(source, tmp_path / "out.mkv", Nearest, VideoOptions(codec=codec, preset=preset), scale=2)
    after = VideoSource.open(tmp_path / "out.mkv").info.video
    assert after.light_level == (1000, 400)
    assert after.mastering is not None
    for one, two in zip(after.mastering.primaries, info.mastering.primaries, strict=True):
        assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < Fraction(1, 10_000)
    assert [float(v) for v in after.mastering.luminance] == pytest.approx([0.005, 1000.0], rel=0.03)
    assert after.colour.transfer == 16
    assert bit_depth(after.pixel_format) == 10


def test_an_encoder_that_cannot_keep_depth_or_metadata_says_so(tmp_path: Path) -> None:
    colour, pix_fmt, _ = KINDS["hd10"]
    source = make_clip(tmp_path / "in.mkv", codec="libx265", frames=3, pix_fmt=pix_fmt, colour=colour,
                       options={"x265-params": "log-level=error:max-cll=1000,400"})  # fmt: skip
    plan = plan_video(source, tmp_path / "out.webm", VideoOptions(), 2)
    assert any("8 bits; the source has 10" in notice for notice in plan.notices)
    assert any("libx265 can" in notice for notice in plan.notices)


def test_deeper_output_carries_more_than_eight_bits_of_the_network(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=2)
    seen: list[np.dtype[Any]] = []

    class Spy(Nearest):
        def process(self, rgb: Any) -> Any:
            seen.append(rgb.dtype)
            return super().process(rgb)

    upscale_video(source, tmp_path / "out.mkv", Spy, VideoOptions(pix_fmt="yuv420p10le"), scale=2)
    assert set(seen) == {np.dtype(np.uint16)}


def test_standard_definition_is_tagged_when_it_becomes_large(tmp_path: Path) -> None:
    """Untagged BT.601 enlarged to 1280 lines would be shown as BT.709 if it were not tagged now."""
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", frames=2, size=(96, 320))
    outcome = upscale_video(source, tmp_path / "out.mkv", lambda: Nearest(4), VideoOptions(preset="ultrafast"), scale=4)
    assert any("does not say its matrix" in notice and "smpte170m" in notice for notice in outcome.notices)
    assert ffprobe(tmp_path / "out.mkv", "streams")["streams"][0]["color_space"] == "smpte170m"


@pytest.mark.parametrize("transfer", ["log", "log_sqrt", "linear", "iec61966-2-1", "smpte428", "bt1361"])
def test_rare_transfers_pass_through(tmp_path: Path, transfer: str) -> None:
    """libswscale refuses frames of some of them."""
    source, target = tmp_path / "a.mkv", tmp_path / "b.mkv"
    tags = ["-color_trc", transfer, "-colorspace", "bt709", "-color_primaries", "bt709"]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=24:d=0.25", "-c:v", "libx264", "-pix_fmt", "yuv420p", *tags, source)
    upscale_video(source, target, Nearest, VideoOptions(preset="ultrafast"))
    before, after = (ffprobe(path, "streams")["streams"][0]["color_transfer"] for path in (source, target))
    assert before == after != "unknown"


@pytest.mark.parametrize(
    ("position", "across", "down"),
    [
        *(("left", 0, 128), ("center", 128, 128), ("topleft", 0, 0)),
        *(("top", 128, 0), ("bottomleft", 0, 256), ("bottom", 128, 256)),
    ],
)
def test_every_chroma_position_is_kept(tmp_path: Path, position: str, across: int, down: int) -> None:
    source, target = tmp_path / "a.mkv", tmp_path / "b.mkv"
    video = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=24:d=0.25", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    ffmpeg(*video, "-colorspace", "bt709", "-chroma_sample_location", position, source)
    upscale_video(source, target, Nearest, VideoOptions(preset="ultrafast"))
    assert ffprobe(target, "streams")["streams"][0]["chroma_location"] == position
    place = f"in_h_chr_pos={across}:in_v_chr_pos={down}"
    rgb = ["-vf", f"scale={place}:in_color_matrix=bt709:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"]
    judged = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", source, *rgb, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    )
    with VideoSource.open(source) as opened:
        frame = next(iter(opened.frames())).rgb
    difference = np.abs(frame.astype(int) - np.frombuffer(judged.stdout, np.uint8).reshape(64, 96, 3))
    assert difference.mean() < 0.5


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_what_the_headers_cut_off_at_the_left_is_not_shown(tmp_path: Path, codec: str) -> None:
    """A decoder keeps it unless it is asked not to, for the sake of even addresses."""
    whole, source = tmp_path / "whole.mp4", tmp_path / "a.mp4"
    coding = ["-c:v", {"h264": "libx264", "hevc": "libx265"}[codec], "-pix_fmt", "yuv420p"]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=24:d=0.25", *coding, whole)
    ffmpeg("-i", whole, "-c", "copy", "-bsf:v", f"{codec}_metadata=crop_left=10:crop_right=2:crop_top=4", source)
    shown = ffprobe(source, "streams")["streams"][0]
    assert (shown["width"], shown["height"]) == (84, 60)
    with VideoSource.open(whole) as one, VideoSource.open(source) as other:
        full, cut = (next(iter(opened.frames())).rgb for opened in (one, other))
    assert np.abs(full[4:, 10:94, :].astype(int) - cut).mean() < 1
    upscale_video(source, tmp_path / "b.mp4", Nearest, VideoOptions(preset="ultrafast"))
    shown = ffprobe(tmp_path / "b.mp4", "streams")["streams"][0]
    assert (shown["width"], shown["height"]) == (168, 120)
