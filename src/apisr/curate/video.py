"""One video: from its packets to chosen, cropped, shrunk and written pictures.

Two passes over the packets. The first decodes every intra frame once and keeps of each a score, a fingerprint and
nothing else; the second decodes a few candidates again, each with the pictures after it (that is where a fade shows),
and writes the chosen ones. The memory in use does not grow with the length of the video beyond about a kilobyte an
intra frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from apisr.core.errors import RunError
from apisr.curate.complexity import Scorer
from apisr.curate.duplicates import fingerprint
from apisr.curate.frames import BarFinder, Crop, in_fade, picture_flags
from apisr.curate.manifest import Row
from apisr.curate.production import Production, luma_of, orientation_of
from apisr.curate.screen import Screen
from apisr.curate.select import Candidate, select
from apisr.curate.settings import CurateSettings
from apisr.image.types import ImageU8
from apisr.video.intra import IntraFrame, PacketStatistics
from apisr.video.losses import losses_as_rgb
from apisr.video.native import NativeHeight, estimate_native_height
from apisr.video.source import VideoSource

#: Pictures after a candidate that are looked at for fades, and the width at which they are compared.
FADE_FRAMES, FADE_WIDTH_PX = 5, 96
#: Native height is estimated from this many chosen frames.
NATIVE_FRAMES = 6
#: Scores that are kept of a video for the report.
KEPT_SCORES = 10_000


@dataclass(frozen=True)
class Tools:
    """What is loaded once and used for every video.

    Attributes:
        scorer: gives every intra frame its score.
        screens: screening models by name.
        enhance: enhances the lines of a picture, None where that is not asked for.
        threads: decoders that work side by side.
    """

    scorer: Scorer
    screens: dict[str, Screen] = field(default_factory=dict[str, Screen])
    enhance: Callable[[ImageU8], ImageU8] | None = None
    threads: int = 1


@dataclass(frozen=True)
class CuratedVideo:
    """What one video gave.

    Attributes:
        rows: its pictures, best first; decisions are made later, over all videos.
        fingerprints: the 32x32 gray pictures of the rows, for the comparison across videos.
        codec: codec of the video.
        width: its width.
        height: its height.
        duration_s: presentation time of its last packet.
        statistics: what its packets say.
        scores: scores of all intra frames that were not empty (the ten thousand first).
        left_out: how many intra frames were left out, by flag.
        native_height: the estimated native height, None where frames differ in size.
        notices: what its pictures have lost of the video (see :func:`apisr.video.losses.losses_as_rgb`).
    """

    rows: tuple[Row, ...]
    fingerprints: tuple[bytes, ...]
    codec: str
    width: int
    height: int
    duration_s: float
    statistics: PacketStatistics
    scores: tuple[float, ...]
    left_out: dict[str, int]
    native_height: NativeHeight | None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Video:
    """The video that is worked on: where it is, its SHA-256, and its path for the manifest."""

    path: Path
    sha256: str
    source: str

    @property
    def name(self) -> str:
        """Name of its folders in the dataset."""
        return self.sha256[:16]


def curate_video(video: Video, folder: Path, *, settings: CurateSettings, tools: Tools) -> CuratedVideo:
    """Choose frames of one video and write them.

    Args:
        video: which.
        folder: an empty or missing folder that is filled: ``images``, ``thumbs`` and, where asked, ``enhanced``.
        settings: what to do.
        tools: scorer, screening models and line enhancement.

    Raises:
        InputError: the file is no video.
        RunError: no picture could be decoded, or the disk is full.
    """
    with VideoSource.open(video.path) as source:
        return _curate_source(source, video, folder, settings, tools)


def _curate_source(
    source: VideoSource, video: Video, folder: Path, settings: CurateSettings, tools: Tools
) -> CuratedVideo:
    survey = _survey(source, settings, tools)
    statistics = survey.statistics
    duration = float(statistics.last_time)
    if not survey.candidates and not survey.left_out:
        raise RunError(
            f"'{video.source}' has no intra frame that can be decoded ({statistics.undecodable} tried).",
            code="nothing-decoded",
        )
    frames = _verified(source, survey, settings.frames_for(duration) + settings.reserve, settings)
    scores = {candidate.number: candidate.score for candidate in survey.candidates}
    ordered = sorted(frames, key=lambda frame: (-scores[frame.info.number], frame.info.number))
    production = Production(
        folder=folder,
        name=video.name,
        settings=settings,
        crop=survey.crop,
        size=(survey.width, survey.height),
        codec=survey.codec,
        aspect=survey.aspect,
        native_height=_native_height([frame.frame for frame in ordered[:NATIVE_FRAMES]]),
        screens=tools.screens,
        enhance=tools.enhance if settings.enhance else None,
    )
    written = [
        production.write(
            intra.frame,
            _row(video, survey, intra, rank=rank, score=scores[intra.info.number], score_name=tools.scorer.name),
        )
        for rank, intra in enumerate(ordered)
    ]
    return CuratedVideo(
        rows=tuple(row for row, _ in written),
        fingerprints=tuple(small.small for _, small in written),
        codec=survey.codec,
        width=survey.width,
        height=survey.height,
        duration_s=duration,
        statistics=statistics,
        scores=tuple(candidate.score for candidate in survey.candidates[:KEPT_SCORES]),
        left_out=survey.left_out,
        native_height=production.native_height,
        notices=losses_as_rgb(source.info),
    )


@dataclass
class _Survey:
    candidates: list[Candidate]
    left_out: dict[str, int]
    crop: Crop | None
    statistics: PacketStatistics
    stream: int
    codec: str
    width: int
    height: int
    time_base: Fraction
    aspect: Fraction


def _row(video: Video, survey: _Survey, intra: IntraFrame, *, rank: int, score: float, score_name: str) -> Row:
    return Row(
        id=f"{video.sha256[:12]}-{intra.info.number:07d}",
        source=video.source,
        source_sha256=video.sha256,
        stream=survey.stream,
        time_s=float(intra.info.time),
        pts=intra.info.pts,
        time_base=str(survey.time_base),
        frame_kind=intra.info.kind,
        packet_bytes=intra.info.size_bytes,
        score=score,
        score_name=score_name,
        rank=rank,
    )


def _survey(source: VideoSource, settings: CurateSettings, tools: Tools) -> _Survey:
    """First pass: score and fingerprint of every intra frame."""
    candidates: list[Candidate] = []
    left_out: dict[str, int] = {}
    finder = BarFinder()
    area = _shown_area(source)
    with source.intra_frames(
        keyframes_only=settings.frames == "key",
        every=settings.every,
        spacing_s=settings.spacing_s,
        threads=tools.threads,
    ) as reader:
        size: tuple[int, int] | None = None
        for intra in reader:
            frame = intra.frame
            shape = (frame.width, frame.height)
            if size is None:
                size = shape
            if shape == size:
                finder.add(np.asarray(area.cut(luma_of(frame)) if area else luma_of(frame), np.uint8))
            picture = _small(frame, tools.scorer.side_px)
            flags = picture_flags(picture)
            if flags:
                left_out[flags[0]] = left_out.get(flags[0], 0) + 1
                continue
            candidates.append(
                Candidate(intra.info.number, float(intra.info.time), tools.scorer(picture), fingerprint(picture))
            )
        width, height = size or (reader.width, reader.height)
        return _Survey(
            candidates=candidates,
            left_out=left_out,
            crop=_inside(area, finder.crop() if settings.crop_bars else None),
            statistics=reader.statistics,
            stream=reader.stream_index,
            codec=reader.codec,
            width=width,
            height=height,
            time_base=reader.time_base,
            aspect=reader.sample_aspect_ratio,
        )


def _verified(source: VideoSource, survey: _Survey, count: int, settings: CurateSettings) -> list[IntraFrame]:
    """Second pass: decode the best candidates again, leave out those in fades, until there are enough."""
    known: dict[int, IntraFrame] = {}
    left = survey.candidates
    following = FADE_FRAMES - 1 if settings.leave_out_fades else 0
    while True:
        chosen = select(left, count=count, parts=settings.parts, distance_s=settings.distance_s)
        unknown = {candidate.number for candidate in chosen} - set(known)
        if not unknown:
            return [known[candidate.number] for candidate in chosen]
        good: set[int] = set()
        with source.intra_frames(numbers=unknown, following=following) as reader:
            for intra in reader:
                if following and in_fade([_tiny(frame) for frame in (intra.frame, *intra.following)]):
                    survey.left_out["fade"] = survey.left_out.get("fade", 0) + 1
                    continue
                good.add(intra.info.number)
                known[intra.info.number] = IntraFrame(intra.info, intra.frame)
        bad = unknown - good
        left = [candidate for candidate in left if candidate.number not in bad]


def _shown_area(source: VideoSource) -> Crop | None:
    """Return the part of the stored frames that is shown, None where that is all of them."""
    video = source.info.video
    if not any(video.crop):
        return None
    top, _, left, _ = video.crop
    return Crop(top, top + video.height, left, left + video.width)


def _inside(area: Crop | None, crop: Crop | None) -> Crop | None:
    """Return a crop that was found in an area as a crop of the whole frame."""
    if area is None or crop is None:
        return crop or area
    return Crop(area.top + crop.top, area.top + crop.bottom, area.left + crop.left, area.left + crop.right)


def _native_height(frames: Sequence[VideoFrame]) -> NativeHeight | None:
    shapes = {(frame.width, frame.height) for frame in frames}
    if len(shapes) != 1:
        return None
    return estimate_native_height([orientation_of(frame).upright(luma_of(frame)) for frame in frames])


def _small(frame: VideoFrame, side_px: int | None) -> ImageU8:
    """RGB for analysis: fast conversion, at most `side_px` long (None: full size)."""
    scale = min((side_px or 1 << 30) / max(frame.width, frame.height), 1.0)
    width, height = max(round(frame.width * scale), 16), max(round(frame.height * scale), 16)
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    return np.asarray(small.to_ndarray(), np.uint8)


def _tiny(frame: VideoFrame) -> ImageU8:
    height = max(round(frame.height * FADE_WIDTH_PX / frame.width), 8)
    small = frame.reformat(width=FADE_WIDTH_PX, height=height, format="gray", interpolation="AREA")
    return np.asarray(small.to_ndarray(), np.uint8)
