"""A video file, opened once: what is in it, its packets, its frames.

Everything that reads a video (upscaling, curation, evaluation, the native height) goes through :class:`VideoSource`:
one probe, one index, one rule for the main stream, one identity. Nobody else opens a video by its path.

    >>> with VideoSource.open("episode.mkv") as source:  # doctest: +SKIP
    ...     print(source.info.video.width, source.index.rate)
    ...     for frame in source.frames(start=None, end=None):
    ...         print(frame.pts * source.info.video.time_base, frame.rgb.shape)
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import DTypeLike

from apisr.core.errors import RunError
from apisr.core.files import open_regular, source_changed
from apisr.core.progress import Cancel
from apisr.video.clock import FollowingClock
from apisr.video.early import early_times, timed
from apisr.video.fields import FieldFilter, combed_share
from apisr.video.index import PacketIndex, read_index
from apisr.video.info import RAW_CONTAINERS, SourceInfo
from apisr.video.integrity import lost_parts, unshown_beginning
from apisr.video.intra import IntraReader
from apisr.video.libav import demuxer_problems, exact, reason, reports
from apisr.video.probe import Probed, is_header, open_file, packets_of, probe_container
from apisr.video.reader import Frame, ReadReport, decoded_frames, read_frames
from apisr.video.sequence import is_sequence, numbers_of, picture_at, sha256_of
from apisr.video.webp import is_animated_webp, video_in, video_of_webp

_PROBED_BYTES = 1 << 16
#: Ogg's last page may end before its last packet begins; libav gives the difference as a number without a sign.
_NEGATIVE_DURATION = 1 << 31
#: A recording whose sound goes on for this share of a leap of the video's clock has a pause there, not a break.
_SOUND_GOES_ON = 0.5


@dataclass(frozen=True)
class SourceIdentity:
    """By what a replaced file is noticed.

    Attributes:
        size_bytes: of the file, or of all pictures of a sequence.
        modified_ns: time of the last change.
        sample: SHA-256 of the first and the last 64 KiB.
    """

    size_bytes: int
    modified_ns: int
    sample: str


class VideoSource:
    """One video file. Make it with :meth:`open`; use it as a context manager.

    It can be pickled: a worker gets the path, the identity, the description and the index, and reads the file itself.

    Attributes:
        path: the file, or the pattern of numbered pictures.
        info: what is in it.
        identity: by what a replaced file is noticed.
        arrived: whether it has just come from another process, perhaps on another machine.
        stand_in: the folder of a video that is read in place of the file, where libav cannot read it itself; `info`
            describes that video.
    """

    def __init__(
        self,
        path: Path,
        info: SourceInfo,
        identity: SourceIdentity,
        index: PacketIndex | None = None,
        *,
        stack: contextlib.ExitStack | None = None,
        probed: Probed | None = None,
    ) -> None:
        self.path = path
        self.info = info
        self.identity = identity
        self._index = index
        self._stack = stack or contextlib.ExitStack()
        self._probed = probed
        self._sha256 = ""
        self._lock = threading.Lock()
        self.arrived = False
        self.stand_in: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def open(cls, path: Path | str, *, stream: int | None = None, rate: Fraction | None = None) -> VideoSource:
        """Open a video and decode its first frame.

        Args:
            path: the file, or a pattern of numbered pictures (``frames/%05d.png``).
            stream: number of the video stream, None for the main one (:func:`apisr.video.probe.main_stream`).
            rate: frames per second of numbered pictures (24000/1001 by default) and of raw streams.

        Raises:
            InputError: not readable, no video stream, or a video stream whose frames cannot be decoded.
        """
        path = Path(path)
        if is_sequence(path):
            rate = rate or Fraction(24000, 1001)
        stand_in = video_of_webp(path) if is_animated_webp(path) else None
        read = path if stand_in is None else video_in(stand_in)
        with contextlib.ExitStack() as stack:
            with reports() as lines:
                container = stack.enter_context(open_file(read))
                identity = identity_of(path)
                probed = probe_container(container, read, stream=stream, rate=rate)
            info = replace(probed.info, problems=demuxer_problems(lines, probed.info.container))
            source = cls(path, info, identity, stack=stack.pop_all(), probed=probed)
            source.stand_in = stand_in
            if info.clock_may_jump or info.container in RAW_CONTAINERS:
                index = source.index
                source.info = _with_largest_size(source.info, index)
            return source

    @property
    def index(self) -> PacketIndex:
        """The packets of the video, read when they are first asked for."""
        with self._lock:
            if self._index is None:
                index = self._read_index()
                self._index = replace(index, lost=tuple(lost_parts(self.info, index)))
                if early := unshown_beginning(index):
                    self.info = replace(self.info, notices=(*self.info.notices, early))
            return self._index

    @property
    def origin(self) -> Fraction:
        """What the clock of the file shows in seconds where its output begins: not zero where it begins anywhere.

        Formats disagree about pictures that are shown before zero: MP4 hides them, AVI has no such places.
        """
        first = int(self.index.pts[0]) * self.info.video.time_base
        return min(first, self.info.start, self.info.origin) if first < 0 else self.info.origin

    def frames(
        self,
        *,
        start: int | None = None,
        end: int | None = None,
        dtype: DTypeLike = np.uint8,
        fields: FieldFilter = "none",
        threads: int = 0,
        report: ReadReport | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[Frame]:
        """Read frames with ``start <= pts < end`` in presentation order.

        Args:
            start: first time stamp, None for the beginning.
            end: time stamp to stop before, None for the end of the file.
            dtype: of the RGB arrays, uint8 or uint16 (full range).
            fields: ``bwdif`` deinterlaces (one frame out for one in), ``detelecine`` restores film from 3:2 material.
            threads: of the decoder, 0 for automatic.
            report: filled in while reading.
            cancel: checked at every frame.

        Yields:
            Frames with strictly increasing times.

        Raises:
            RunError: the file was replaced since it was opened, or memory ran out.
            Cancelled: a stop was asked for.
        """
        self.check_unchanged()
        return read_frames(
            self.info,
            self.index,
            start=start,
            end=end,
            dtype=dtype,
            fields=fields,
            threads=threads,
            report=report,
            cancel=cancel,
        )

    def __iter__(self) -> Iterator[Frame]:
        """Read all frames in presentation order, as :meth:`frames` without arguments does."""
        return self.frames()

    def intra_frames(
        self,
        *,
        keyframes_only: bool = False,
        numbers: Collection[int] | None = None,
        every: int = 1,
        spacing_s: float = 0.0,
        following: int = 0,
        threads: int = 1,
    ) -> IntraReader:
        """Return a reader of the intra pictures alone (a context manager, see :class:`IntraReader`)."""
        self.check_unchanged()
        return IntraReader(
            self.info.path,
            stream=self.info.video.index,
            keyframes_only=keyframes_only,
            numbers=numbers,
            every=every,
            spacing_s=spacing_s,
            following=following,
            threads=threads,
        )

    def packets(self, streams: Collection[int], problems: list[str] | None = None) -> Iterator[av.Packet[Any]]:
        """Yield the packets of other streams in the order of the file, on the same clock as the frames.

        Args:
            streams: their numbers.
            problems: takes what went wrong (a damaged end stops the iteration).
        """
        with self.reopened() as container:
            yield from self.packets_from(container, streams, problems)

    @contextlib.contextmanager
    def reopened(self) -> Generator[InputContainer]:
        """Open the file again, for its streams as libav has them.

        Raises:
            RunError: the file was replaced since it was opened, or while it was read.
        """
        self.check_unchanged()
        with open_file(self.info.path) as container:
            yield container
        self.check_unchanged()

    def packets_from(
        self, container: InputContainer, streams: Collection[int], problems: list[str] | None = None
    ) -> Iterator[av.Packet[Any]]:
        """Yield the packets of an open container of this file, see :meth:`packets`."""
        shifts_s = [part.shift * self.info.video.time_base for part in self.index.parts]
        clocks: dict[int, FollowingClock] = {}
        demuxed = container.demux([container.streams[number] for number in sorted(streams)])
        packets = timed(demuxed, early_times(container))
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                if problems is not None:
                    problems.append(f"reading the other streams stopped: {reason(error)}")
                return
            if packet is None:
                return
            number = packet.stream.index
            if packet.size and is_header(packet, self.info.streams[number].codec):
                continue
            if (packet.duration or 0) >= _NEGATIVE_DURATION:
                packet.duration = 0
            if shifts_s and packet.size:
                if number not in clocks:
                    clocks[number] = FollowingClock(shifts_s, exact(packet.time_base))
                moment = packet.dts if packet.dts is not None else packet.pts
                shift = clocks[number].shift_of(moment, packet.duration or 0)
                packet.pts = None if packet.pts is None else packet.pts + shift
                packet.dts = None if packet.dts is None else packet.dts + shift
            yield packet

    def combed_share(self, *, frames: int = 120) -> float:
        """Return the share of moving frames at the beginning that show interlacing combs."""
        return combed_share(decoded_frames(self.info, None, report=ReadReport()), most=frames)

    def sha256(self) -> str:
        """Return the SHA-256 of the file, or of all pictures of a sequence together."""
        self.check_unchanged()
        self._sha256 = self._sha256 or sha256_of(self.path)
        return self._sha256

    def check_unchanged(self) -> None:
        """Check that the file is the one that was opened.

        Raises:
            RunError: it was replaced or changed.
        """
        try:
            identity = identity_of(self.path)
        except OSError:
            identity = None
        if self.arrived and identity is not None:  # on this machine its copy may have another time
            self.arrived, self.identity = False, replace(self.identity, modified_ns=identity.modified_ns)
        if identity != self.identity:
            raise source_changed(self.path)

    def moved_to(self, path: Path) -> VideoSource:
        """Return the source for a copy of the same file, on another machine perhaps.

        Raises:
            RunError: it is another file.
        """
        identity = identity_of(path)
        if (identity.size_bytes, identity.sample) != (self.identity.size_bytes, self.identity.sample):
            raise RunError(f"'{path}' is not a copy of '{self.path}'.", code="source-changed")
        return VideoSource(path, replace(self.info, path=path), identity, self.index)

    def close(self) -> None:
        """Close the file; descriptions and a finished index stay."""
        self._probed = None
        self._stack.close()
        if self.stand_in is not None:
            self.stand_in.cleanup()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, tuple[Path, SourceInfo, SourceIdentity, PacketIndex]]:
        """Travel to another process: the index is read first, so that nobody reads it twice."""
        return _arrived, (self.path.absolute(), self.info, self.identity, self.index)

    def _read_index(self) -> PacketIndex:
        jumps = self.info.clock_may_jump
        if self._probed is not None:
            packets = self._probed.packets
            self._probed = None
            index = read_index(packets, self.info, jumps=jumps)
            self._stack.close()
        else:
            index = self._indexed_again(jumps=jumps)
        leaps = [part for part in index.parts if part.shift < 0]
        if jumps and leaps and self._sound_goes_on():
            return self._indexed_again(jumps=False)
        return index

    def _indexed_again(self, *, jumps: bool) -> PacketIndex:
        with open_file(self.info.path) as container:
            return read_index(packets_of(container, self.info.video.index), self.info, jumps=jumps)

    def _sound_goes_on(self) -> bool:
        """Whether the sound has no break where the video's clock leaps: then it is a pause of the picture."""
        audio = [stream.index for stream in self.info.streams if stream.kind == "audio"]
        if not audio:
            return False
        first: Fraction | None = None
        played = Fraction(0)
        last = Fraction(0)
        with open_file(self.info.path) as container:
            for packet in container.demux(container.streams[audio[0]]):
                moment = packet.dts if packet.dts is not None else packet.pts
                if moment is None or not packet.size:
                    continue
                unit = exact(packet.time_base)
                first = moment * unit if first is None else first
                last = moment * unit
                played += (packet.duration or 0) * unit
        return first is not None and played > _SOUND_GOES_ON * (last - first) > 0


def _arrived(path: Path, info: SourceInfo, identity: SourceIdentity, index: PacketIndex) -> VideoSource:
    source = VideoSource(path, info, identity, index)
    source.arrived = True
    return source


def _with_largest_size(info: SourceInfo, index: PacketIndex) -> SourceInfo:
    """Describe a stream whose pictures change their size by the largest of them, so that no part loses detail."""
    own = (info.video.width, info.video.height)
    sizes = [own, *(size for size in index.sizes if size != own)]
    if len(set(sizes)) == 1:
        return info
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    shown = ", ".join(f"{size[0]}x{size[1]}" for size in dict.fromkeys(sizes))
    notice = f"the size of the pictures changes inside the file ({shown}); all are brought to that of {width}x{height}."
    video = replace(info.video, width=width, height=height, crop=(0, 0, 0, 0))
    return replace(info, video=video, notices=(*info.notices, notice))


def identity_of(path: Path) -> SourceIdentity:
    """Return the identity of a file or of the pictures of a sequence."""
    if is_sequence(path):
        stats = [picture_at(path, number).stat() for number in numbers_of(path)]
        size = sum(stat.st_size for stat in stats)
        return SourceIdentity(size, max((stat.st_mtime_ns for stat in stats), default=0), "")
    stat = path.stat()
    with open_regular(path) as file:
        digest = hashlib.sha256(file.read(_PROBED_BYTES))
        file.seek(max(0, stat.st_size - _PROBED_BYTES))
        digest.update(file.read(_PROBED_BYTES))
    return SourceIdentity(stat.st_size, stat.st_mtime_ns, digest.hexdigest())
