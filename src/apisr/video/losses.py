"""What of a video the format of the output has no place for, named before the work.

Which tags a format takes is not looked up in a table: they are written to a tiny file of that format in memory, and
read back.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import av
from av.error import FFmpegError
from av.video.stream import VideoStream

from apisr.video.colour import bit_depth, has_alpha
from apisr.video.containers.base import Container
from apisr.video.containers.registry import container_of
from apisr.video.info import SourceInfo, TrackDetails
from apisr.video.output_streams import kept_file_tags, kept_tags, language_for
from apisr.video.streams import StreamPlan
from apisr.video.turn import is_right_angle

#: Transfer characteristics of PQ and HLG (ITU-T H.273).
_HDR_TRANSFERS = (16, 18)
#: Muxers that write how a picture is to be turned.
_TURNING = {"mov", "mp4", "matroska", "webm"}
#: As many frames are written as a transport stream needs to be known for one.
_FRAMES = 12
_CODECS = ("mpeg4", "mpeg2video", "vp8", "mjpeg")
#: Tags of a stream that programs write for programs.
_OF_THE_MACHINE = {"language", "handler_name", "creation_time", "timecode", "filename", "mimetype", "variant_bitrate"}


def losses_as_rgb(source: SourceInfo) -> tuple[str, ...]:
    """Return what is lost of a video whose frames are read as 8-bit RGB, for scoring and training, a sentence each."""
    video = source.video
    lost: list[str] = []
    if (bits := bit_depth(video.pixel_format)) > 8:
        lost.append(f"only the upper 8 of {bits} bits are read")
    if video.colour.transfer in _HDR_TRANSFERS:
        lost.append("the values of HDR (PQ, HLG) are read as they are coded, not brought to those of sRGB")
    if video.separate_alpha or has_alpha(video.pixel_format):
        lost.append("alpha is left out")
    return tuple(lost)


def losses(source: SourceInfo, target: Path, streams: Sequence[StreamPlan]) -> tuple[str, ...]:
    """Say what of a video the format of the output cannot hold, one sentence each.

    Args:
        source: the file.
        target: name of the output.
        streams: what becomes of each stream.
    """
    container = container_of(target)
    suffix, video = target.suffix, source.video
    notices: list[str] = []
    matrix = video.display_matrix
    if matrix is not None and not _turns(container, matrix):
        notices.append(
            f"{suffix} has no place for how the picture is to be turned ({video.rotation} degrees); it is shown as it "
            "is stored. Write to .mkv, .mp4 or .mov."
        )
    if container.pictures_only and video.sar not in (None, 1):
        notices.append(f"the pixels are not square ({video.sar}), which {suffix} has no place for.")
    if source.chapters and not container.chapters:
        notices.append(f"{suffix} has no place for the {source.chapters} chapters.")
    if not container.pictures_only:
        notices += _lost_details(source, container, streams, suffix)
        lost = _lost_tags(source, container, streams)
        if lost:
            notices.append(f"{suffix} has no place for the tags {', '.join(lost)}.")
    return tuple(notices)


def _lost_details(source: SourceInfo, container: Container, streams: Sequence[StreamPlan], suffix: str) -> list[str]:
    """Name what only Matroska tracks say of themselves: a region or script of the language, that they are off."""
    if container.muxer == "matroska":
        return []
    kept = [one.stream for one in streams if one.action in ("upscale", "copy", "convert")]
    details = [(stream, source.structure.tracks.get(stream.index, TrackDetails())) for stream in kept]
    notices: list[str] = []
    tags = dict.fromkeys(one.language for _, one in details if "-" in one.language)
    if tags:
        notices.append(f"{suffix} has no place for the region or script of languages: {', '.join(tags)}.")
    off = [stream.label for stream, one in details if not one.enabled]
    if off:
        notices.append(f"{suffix} has no place for the flag of tracks that are switched off: {', '.join(off)}.")
    return notices


def _turns(container: Container, matrix: tuple[int, ...]) -> bool:
    """Whether the output is shown as the source is: pictures are turned themselves."""
    return container.muxer in _TURNING or (container.pictures_only and is_right_angle(matrix))


def _lost_tags(source: SourceInfo, container: Container, streams: Sequence[StreamPlan]) -> list[str]:
    """Return the names of tags that do not come back from a file of this format."""
    of_file = {key: value for key, value in kept_file_tags(source.tags).items() if key.lower() != "software"}
    of_video = {
        key: value for key, value in kept_tags(source.video.metadata).items() if key.lower() not in _OF_THE_MACHINE
    }
    of_streams = [
        {key: value for key, value in (("title", one.stream.title), ("language", one.stream.language)) if value}
        for one in streams
        if one.action in ("copy", "convert") and one.stream.kind in ("audio", "subtitle", "video")
    ]
    if container.muxer != "mov":  # the one format with languages of its own
        of_streams = [{key: value for key, value in tags.items() if key == "title"} for tags in of_streams]
    of_streams = [tags for tags in of_streams if tags]
    if not (of_file or of_video or of_streams):
        return []
    found = _read_back(container, of_file, [of_video, *of_streams])
    if found is None:
        return []
    written = [
        *of_file.items(),
        *of_video.items(),
        *((key, language_for(container.muxer, value)) for tags in of_streams for key, value in tags.items()),
    ]
    found |= {_moment(value) for value in found}
    return list(dict.fromkeys(key for key, value in written if value and _moment(value) not in found))


def _moment(value: str) -> str:
    """Return a moment without its fraction of a second, which MP4 does not count; anything else as it is.

    >>> _moment("2020-02-03T04:05:06.789000Z"), _moment("Commentary")
    ('2020-02-03T04:05:06Z', 'Commentary')
    """
    return re.sub(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z$", r"\1Z", value)


def _read_back(container: Container, tags: dict[str, str], streams: Sequence[dict[str, str]]) -> set[str] | None:
    """Write tags to a tiny file and return the values that a reader finds; None where that cannot be tried."""
    codec = next((name for name in _CODECS if container.video is None or name in container.video), None)
    if codec is None:
        return None
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format=container.muxer) as out:
            out.metadata.update(tags)
            tracks: list[VideoStream] = []
            for words in streams:
                track = cast(VideoStream, out.add_stream(codec, rate=25))
                track.width = track.height = 16
                track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                track.metadata.update({key: language_for(container.muxer, value) for key, value in words.items()})
                tracks.append(track)
            for track in tracks:
                for number in range(_FRAMES):
                    frame = av.VideoFrame(16, 16, str(track.pix_fmt))
                    for plane in frame.planes:
                        plane.update(bytes(plane.buffer_size))
                    frame.pts = number
                    out.mux(track.encode(frame))
                out.mux(track.encode(None))
        buffer.seek(0)
        with av.open(buffer) as written:
            every = [written.metadata, *(stream.metadata for stream in written.streams)]
            return {value for words in every for value in words.values()}
    except (FFmpegError, ValueError):
        return None
