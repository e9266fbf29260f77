"""The join in small, before the work: what a format refuses of a stream shows in its header and first packets.

AAC of broadcasts in AVI, for example: the codec is one of AVI's, the form of its packets is not.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError

from apisr.video.containers.registry import container_of
from apisr.video.join import PacketOrder
from apisr.video.libav import reason, reports
from apisr.video.output_streams import copied_stream
from apisr.video.source import VideoSource
from apisr.video.streams import StreamPlan

_PACKETS = 50
#: Samples of Opus in a second, whatever it was made from.
_OPUS_RATE = 48_000
#: The options of a muxer that make it read again what it wrote, which it cannot in memory.
_REREADING = ("movflags",)


def refused_streams(source: VideoSource, target: Path, plans: Sequence[StreamPlan]) -> dict[int, str]:
    """Write the header and the first packets of each copied sound and subtitle into memory, in the output's format.

    Args:
        source: the video.
        target: name of the output.
        plans: what becomes of each stream.

    Returns:
        Why the format refuses a stream, by its number.
    """
    container = container_of(target)
    options = {key: value for key, value in dict(container.options).items() if key not in _REREADING}
    refused: dict[int, str] = {}
    for plan in plans:
        if plan.action != "copy" or plan.stream.kind not in ("audio", "subtitle") or container.pictures_only:
            continue
        try:
            with (
                source.reopened() as origin,
                av.open(io.BytesIO(), "w", format=container.muxer, options=options) as out,
            ):
                made = copied_stream(out, origin.streams[plan.stream.index], source, container.muxer)
                out.start_encoding()
                order = PacketOrder(made)
                packets = (packet for packet in source.packets_from(origin, {plan.stream.index}) if packet.size)
                damaged = 0
                for number, packet in enumerate(itertools.islice(packets, _PACKETS), start=1):
                    order.set(packet)
                    packet.stream = made
                    try:
                        out.mux_one(packet)
                    except InvalidDataError:  # of one packet among others: the join leaves it out
                        damaged += 1
                        if 2 * damaged > number:
                            raise
        except FFmpegError as error:
            refused[plan.stream.index] = reason(error)
    return refused


def undecodable_streams(source: VideoSource, plans: Sequence[StreamPlan]) -> list[str]:
    """Return a notice for each copied sound whose header no decoder takes; its packets are copied all the same."""
    copied = [plan.stream for plan in plans if plan.action == "copy" and plan.stream.kind == "audio"]
    notices: list[str] = []
    if copied:
        with source.reopened() as origin, reports():
            for stream in copied:
                context = getattr(origin.streams[stream.index], "codec_context", None)
                try:
                    if context is not None:
                        context.open(strict=False)
                except FFmpegError as error:
                    notices.append(f"stream {stream.label} cannot be played ({reason(error)}); it is copied as it is.")
    return notices


def lost_ends(source: VideoSource, target: Path, plans: Sequence[StreamPlan]) -> list[str]:
    """Return a notice for each copied Opus sound that ends inside its last packet, which libav does not write to MP4.

    Args:
        source: the video.
        target: name of the output.
        plans: what becomes of each stream.
    """
    sounds = [plan.stream for plan in plans if plan.action == "copy" and plan.stream.codec == "opus"]
    if not sounds or container_of(target).muxer != "mp4":
        return []
    notices: list[str] = []
    for stream in sounds:
        with source.reopened() as origin:
            samples = _unheard_at_end(origin, stream.index)
        if samples:
            notices.append(
                f"{target.suffix} has no place for where stream {stream.label} ends inside its last packet; "
                f"about {1000 * samples / _OPUS_RATE:.0f} ms more of it are played."
            )
    return notices


def _unheard_at_end(origin: InputContainer, number: int) -> int:
    """Return how many samples of the last packet of a stream are to be left out."""
    samples = 0
    with contextlib.suppress(FFmpegError):
        if origin.duration:
            origin.seek(origin.duration)
        for packet in origin.demux(origin.streams[number]):
            if packet.size and packet.has_sidedata("skip_samples"):
                # two numbers of 32 bits: what is left out of the beginning, and of the end
                samples = int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[4:8], "little")
            elif packet.size:
                samples = 0
    return samples
