"""Nothing is lost: every stream, tag, font, chapter, cover and flag is in the output, or it is said before."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from video_clips import SRT, Nearest, ffprobe, make_clip, plan_video, read_back, small_png, upscale_video

from apisr.core.errors import InputError
from apisr.upscale.options import VideoOptions
from apisr.upscale.results import VideoResult
from apisr.video.subtitles import srt_to_tx3g, tx3g_to_srt

FAST = VideoOptions(preset="ultrafast")
FONT = bytes(range(256)) * 8


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """A file with everything that Matroska can hold."""
    return make_clip(
        tmp_path / "rich.mkv",
        audio="libopus",
        srt=True,
        ass=True,
        font=FONT,
        cover=True,
        chapters=True,
        tags={"title": "Folge 1: Ünïcode", "ARTIST": "studio", "MY_OWN_TAG": "kept"},
        sar=Fraction(8, 9),
    )


def upscale(source: Path, target: Path, options: VideoOptions = FAST) -> VideoResult:
    return upscale_video(source, target, Nearest, options, scale=2)


def test_matroska_keeps_every_stream_tag_font_chapter_and_cover(rich: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    upscale(rich, target)
    before, after = read_back(rich, decode=False), read_back(target, decode=False)
    assert set(before.packets) == {("audio", 0), ("subtitle", 0), ("subtitle", 1), ("cover", 0)}
    assert after.packets == before.packets
    with av.open(str(rich)) as one, av.open(str(target)) as two:
        fonts = [stream for stream in two.streams if stream.type == "attachment"]
        assert [(font.name, font.mimetype, font.data) for font in fonts] == [
            ("Font.ttf", "application/x-truetype-font", FONT)
        ]
        assert one.chapters() == two.chapters()
        assert len(two.chapters()) == 2
        assert {key: value for key, value in one.metadata.items() if key != "ENCODER"} == {
            key: value for key, value in two.metadata.items() if key != "ENCODER"
        }
        assert two.metadata["title"] == "Folge 1: Ünïcode"
        for kind in ("audio", "subtitles"):
            for left, right in zip(getattr(one.streams, kind), getattr(two.streams, kind), strict=True):
                assert int(left.disposition) == int(right.disposition)
                assert {k: v for k, v in left.metadata.items() if k not in ("DURATION", "ENCODER")} == {
                    k: v for k, v in right.metadata.items() if k not in ("DURATION", "ENCODER")
                }
        assert two.streams.video[0].sample_aspect_ratio == Fraction(8, 9)
    report = ffprobe(target, "streams", "chapters")
    kinds = sorted(stream.get("codec_name", "ttf") for stream in report["streams"])
    assert kinds == sorted(["h264", "opus", "subrip", "ass", "png", "ttf"])
    assert [chapter["tags"]["title"] for chapter in report["chapters"]] == ["Opening", "Part A"]
    forced = next(stream for stream in report["streams"] if stream.get("codec_name") == "subrip")
    assert forced["disposition"]["forced"] == 1
    assert forced["tags"]["language"] == "fre"
    covers = [stream for stream in report["streams"] if stream["disposition"]["attached_pic"]]
    assert [cover["codec_name"] for cover in covers] == ["png"]


def test_what_mp4_cannot_carry_is_an_error_before_any_work(rich: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        plan_video(rich, tmp_path / "out.mp4", FAST, 2)
    assert caught.value.code == "stream-not-in-container"
    assert "(ass, eng)" in str(caught.value)
    assert "'Font.ttf'" in str(caught.value)  # all of them at once
    assert "--drop-streams unsupported" in str(caught.value)
    with pytest.raises(InputError) as caught:
        upscale(rich, tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rich.mkv"]


def test_mp4_with_unsupported_streams_left_out_on_request(rich: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    outcome = upscale(rich, target, VideoOptions(preset="ultrafast", drop_streams=("unsupported",)))
    assert any("left out" in notice and "ass" in notice for notice in outcome.notices)
    assert any("subrip becomes mov_text" in notice for notice in outcome.notices)
    report = ffprobe(target, "streams", "chapters", "format")
    assert [stream["codec_name"] for stream in report["streams"] if stream["codec_type"] != "data"] == [
        *("h264", "opus", "mov_text", "png")
    ]
    assert [chapter["tags"]["title"] for chapter in report["chapters"]] == ["Opening", "Part A"]
    assert next(s for s in report["streams"] if s["codec_type"] == "video")["sample_aspect_ratio"] == "8:9"
    with av.open(str(target)) as container:
        lines: list[tuple[int, str]] = []
        for packet in container.demux(container.streams.subtitles[0]):
            text = tx3g_to_srt(bytes(packet)).decode() if packet.size else ""
            if text:
                lines.append((round(packet.pts * packet.time_base * 1000), text))
    with av.open(str(target)) as container:
        cover = next(stream for stream in container.streams.video if int(stream.disposition) & 1024)
        assert next(bytes(packet) for packet in container.demux(cover)) == small_png()
    assert lines == [(start, words) for start, _, words in SRT]


def test_subtitles_of_mp4_come_back_as_subrip(rich: Path, tmp_path: Path) -> None:
    middle, target = tmp_path / "out.mp4", tmp_path / "back.mkv"
    upscale(rich, middle, VideoOptions(preset="ultrafast", drop_streams=("unsupported",)))
    upscale_video(middle, target, lambda: Nearest(1), VideoOptions(preset="ultrafast"), scale=1)
    with av.open(str(target)) as container:
        found = [
            (round(packet.pts * packet.time_base * 1000), bytes(packet).decode())
            for packet in container.demux(container.streams.subtitles[0])
            if packet.size
        ]
        assert len(container.chapters()) == 2
    assert [line for line in found if line[1]] == [(start, words) for start, _, words in SRT]


@pytest.mark.parametrize(
    "text", ["plain", "<b>bold</b> and <i>it</i>", '<font color="#ff0000">red</font>', "two\nlines <u>x</u>", ""]
)
def test_styling_survives_the_way_to_timed_text_and_back(text: str) -> None:
    assert tx3g_to_srt(srt_to_tx3g(text.encode())).decode() == text


def test_streams_are_dropped_only_by_name(rich: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    upscale(rich, target, VideoOptions(preset="ultrafast", drop_streams=("attachments", "1")))
    with av.open(str(target)) as container:
        assert [stream.type for stream in container.streams] == ["video", "subtitle", "subtitle", "video"]
    for wrong in ("99", "0", "sprites"):
        with pytest.raises(InputError) as caught:
            plan_video(rich, tmp_path / "other.mkv", VideoOptions(drop_streams=(wrong,)), 2)
        assert caught.value.code == "bad-stream-selector"


@pytest.mark.parametrize(
    ("suffix", "codec", "code"),
    [
        (".webm", "libx264", "codec-not-in-container"),
        (".mov", "libvpx-vp9x", "unknown-encoder"),
        (".xyz", None, "unknown-container"),
        (".avi", "libx265", "codec-not-in-container"),
    ],
)
def test_impossible_combinations_are_refused_before_work(
    tmp_path: Path, suffix: str, codec: str | None, code: str
) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4)
    with pytest.raises(InputError) as caught:
        upscale(source, tmp_path / f"out{suffix}", VideoOptions(codec=codec))
    assert caught.value.code == code
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_opus_into_mov_is_refused_with_the_stream_named(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4, audio="libopus")
    with pytest.raises(InputError) as caught:
        upscale(source, tmp_path / "out.mov")
    assert caught.value.code == "stream-not-in-container"
    assert "#1 audio (opus, jpn, 'Stereo')" in str(caught.value)


def test_webm_takes_a_codec_that_it_can_carry_by_default(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4, audio="libopus")
    fast = VideoOptions(encoder_options=(("deadline", "realtime"), ("cpu-used", "8")))
    upscale(source, tmp_path / "out.webm", fast)
    names = [stream["codec_name"] for stream in ffprobe(tmp_path / "out.webm", "streams")["streams"]]
    assert names == ["vp9", "opus"]


def test_second_video_stream_is_copied_untouched(tmp_path: Path) -> None:
    one = make_clip(tmp_path / "one.mkv", frames=6)
    two = make_clip(tmp_path / "two.mkv", frames=6, codec="mpeg4", rate=Fraction(25))
    both = tmp_path / "both.mkv"
    with av.open(str(one)) as first, av.open(str(two)) as second, av.open(str(both), "w") as out:
        copies = [out.add_stream_from_template(part.streams.video[0], opaque=True) for part in (first, second)]
        for part, stream in zip((first, second), copies, strict=True):
            for packet in part.demux():
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    outcome = upscale(both, tmp_path / "out.mkv")
    assert any("further video stream" in notice for notice in outcome.notices)
    assert read_back(tmp_path / "out.mkv", decode=False).packets == read_back(both, decode=False).packets


@pytest.mark.parametrize("name", ["第一話 日本語.mkv", "épisode café.mkv", "with 'quotes' & %d.mkv"])
def test_file_names_of_all_kinds(tmp_path: Path, name: str) -> None:
    source = make_clip(tmp_path / name, frames=4)
    assert upscale(source, tmp_path / f"out {name}").frames_out == 4


def test_tags_that_are_not_utf8_survive_as_bytes(tmp_path: Path) -> None:
    source = tmp_path / "in.avi"
    make_clip(source, codec="mpeg4", frames=4, rate=Fraction(25), tags={"title": "XXXXYYYYZZZZ"})
    source.write_bytes(source.read_bytes().replace(b"XXXXYYYYZZZZ", "日本語題名".encode("cp932") + b"zz"))
    upscale(source, tmp_path / "out.avi")
    assert "日本語題名".encode("cp932") in (tmp_path / "out.avi").read_bytes()
