"""Streams that the format of the output refuses when all the work is done."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from test_video_cases import FAST, packets
from test_video_clocks import RECORDING, ffmpeg
from video_clips import Nearest, make_clip, number_of, upscale_video

from apisr.core.errors import ApisrError
from apisr.upscale.options import VideoOptions
from apisr.video.source import VideoSource


def with_a_bad_second_video(folder: Path) -> Path:
    """A clip whose further AV1 stream has one packet that is not AV1; muxers look into each of them."""
    main = make_clip(folder / "main.mkv", frames=30, audio="libopus", options={"g": "12"})
    second = make_clip(folder / "second.mkv", codec="libsvtav1", frames=30, size=(64, 64), options={"preset": "12"})
    target = folder / "source.nut"
    with av.open(str(target), "w") as out, av.open(str(main)) as one, av.open(str(second)) as two:
        made = {stream: out.add_stream_from_template(stream, opaque=True) for stream in one.streams}
        further = out.add_stream_from_template(two.streams[0], opaque=True)
        bad = [bytes(packet) for packet in two.demux() if packet.size]
        waiting = [(packet, made[packet.stream]) for packet in one.demux() if packet.size]
        two.seek(0)
        for number, packet in enumerate(packet for packet in two.demux() if packet.size):
            content = av.Packet(bad[number] if number != 20 else b"\x82\xff" * 30)
            content.pts, content.dts, content.time_base = packet.pts, packet.dts, packet.time_base
            content.is_keyframe = packet.is_keyframe
            waiting.append((content, further))
        for packet, stream in sorted(waiting, key=lambda one: Fraction(one[0].dts or 0) * one[0].time_base):
            packet.stream = stream
            out.mux(packet)
    return target


def test_a_refused_stream_costs_neither_the_video_nor_the_segments(tmp_path: Path) -> None:
    source, target = with_a_bad_second_video(tmp_path), tmp_path / "out.mkv"
    with pytest.raises(ApisrError) as caught:
        upscale_video(source, target, Nearest, FAST)
    assert (caught.value.code, caught.value.exit_code) == ("join-failed", 1)
    message = str(caught.value)
    assert "av1" in message
    assert "--drop-streams 2" in message
    assert str(tmp_path / "out.partial.mkv") in message
    assert not target.exists()
    assert len(packets(tmp_path / "out.partial.mkv", "v:0")) == 30
    assert len(packets(tmp_path / "out.partial.mkv", "a")) == len(packets(source, "a"))
    with VideoSource.open(tmp_path / "out.partial.mkv") as partial:
        assert [number_of(frame.rgb, scale=2) for frame in partial.frames()] == list(range(30))
    assert len(list((tmp_path / "out.mkv.partial.segments").glob("*.segment"))) >= 2

    made = Nearest()
    options = VideoOptions(preset="ultrafast", segment_frames=12, drop_streams=("2",))
    result = upscale_video(source, target, lambda: made, options)
    assert result.frames_out == 30
    assert made.frames == 0  # the segments of the first run
    assert len(packets(target, "v")) == 30


def _renew_checksum(content: bytearray, page: int) -> None:
    segments = content[page + 26]
    end = page + 27 + segments + sum(content[page + 27 : page + 27 + segments])
    content[page + 22 : page + 26] = bytes(4)
    checksum = 0
    for byte in content[page:end]:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
    content[page + 22 : page + 26] = checksum.to_bytes(4, "little")


def test_a_refused_header_is_known_before_the_work(tmp_path: Path) -> None:
    """The headers of Vorbis are damaged: Matroska does not even begin."""
    ffmpeg(*RECORDING, "-c:v", "libtheora", "-q:v", "7", "-c:a", "libvorbis", tmp_path / "whole.ogv")
    content = bytearray((tmp_path / "whole.ogv").read_bytes())
    header = content.index(b"\x05vorbis")
    content[header] = 9
    _renew_checksum(content, content.rindex(b"OggS", 0, header))
    (tmp_path / "source.ogv").write_bytes(content)
    with pytest.raises(ApisrError) as caught:
        upscale_video(tmp_path / "source.ogv", tmp_path / "out.mkv", Nearest, FAST)
    assert (caught.value.code, caught.value.exit_code) == ("stream-not-in-container", 2)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("drop", [(), ("unsupported",)])
def test_packets_that_a_format_refuses_are_known_before_the_work(tmp_path: Path, drop: tuple[str, ...]) -> None:
    """AVI holds AAC, but not as broadcasts store it; ffmpeg says the same."""
    source, target = tmp_path / "in.ts", tmp_path / "out.avi"
    ffmpeg(*RECORDING, "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-c:a", "aac", source)
    made = Nearest()
    options = VideoOptions(preset="ultrafast", drop_streams=drop)
    if drop:
        result = upscale_video(source, target, lambda: made, options)
        assert any("left out" in notice for notice in result.notices)
        assert packets(target, "v")
        return
    with pytest.raises(ApisrError) as caught:
        upscale_video(source, target, lambda: made, options)
    assert (caught.value.code, caught.value.exit_code) == ("stream-not-in-container", 2)
    assert "--drop-streams 1" in str(caught.value)
    assert made.frames == 0
    assert not list(tmp_path.glob("out*"))


def test_sound_that_cannot_be_decoded_is_damage(tmp_path: Path) -> None:
    """WMA becomes PCM in Matroska; a packet of it that is cut off is not the fault of Matroska."""
    ffmpeg(*RECORDING, "-c:v", "wmv2", "-q:v", "4", "-c:a", "wmav2", tmp_path / "whole.wmv")
    content = (tmp_path / "whole.wmv").read_bytes()
    (tmp_path / "source.wmv").write_bytes(content[: len(content) * 4 // 5])
    with pytest.raises(ApisrError) as caught:
        upscale_video(tmp_path / "source.wmv", tmp_path / "out.mkv", Nearest, FAST)
    assert (caught.value.code, caught.value.exit_code) == ("source-damaged", 1)
    assert packets(tmp_path / "out.partial.mkv", "v")
