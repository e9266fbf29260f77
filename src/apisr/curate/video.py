"""One video: from its packets to chosen, cropped, shrunk and written pictures.

Two passes over the packets. The first decodes every intra frame once and keeps of each a score, a fingerprint and
nothing else; the second decodes a few candidates again, each with the pictures after it (that is where a fade shows),
and writes the chosen ones. The memory in use does not grow with the length of the video beyond about a kilobyte an
intra frame.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from apisr.core.errors import RunError
from apisr.core.files import sha256_file
from apisr.curate.complexity import Scorer
from apisr.curate.duplicates import fingerprint
from apisr.curate.frames import (
    COMBED_SHARE,
    BarFinder,
    Crop,
    Flag,
    bars,
    combed_share,
    find_writing,
    in_fade,
    picture_flags,
)
from apisr.curate.manifest import Row
from apisr.curate.screen import Screen
from apisr.curate.select import Candidate, select
from apisr.curate.settings import Settings
from apisr.image import from_float, resize, to_float, write_picture
from apisr.video.colour import ToRgb, describe
from apisr.video.intra import IntraFrame, IntraReader, PacketStatistics
from apisr.video.native import NativeHeight, estimate_native_height

#: Pictures after a candidate that are looked at for fades, and the width at which they are compared.
FADE_FRAMES, FADE_WIDTH_PX = 5, 96
#: Native height is estimated from this many chosen frames.
NATIVE_FRAMES = 6
#: Below this confidence the native height is not used.
NATIVE_CONFIDENCE = 0.5
#: Longest side of the pictures of the review page, in pixels.
THUMBNAIL_PX = 320
#: Longest side of the pictures that are analysed where the score asks for no more, in pixels.
ANALYSIS_PX = 512


@dataclass(frozen=True)
class Tools:
    """What is loaded once and used for every video."""

    scorer: Scorer
    screens: dict[str, Screen] = field(default_factory=dict[str, Screen])
    enhance: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    threads: int = 1


@dataclass(frozen=True)
class VideoResult:
    """What one video gave.

    Attributes:
        rows: its pictures, best first; decisions are made later, over all videos.
        prints: the 32x32 gray pictures of the rows, for the comparison across videos.
        codec: codec of the video.
        width: its width.
        height: its height.
        duration_s: presentation time of its last packet.
        statistics: what its packets say.
        scores: scores of all intra frames that were not empty (the ten thousand first).
        left_out: how many intra frames were left out, by flag.
        native: the estimated native height.
    """

    rows: tuple[Row, ...]
    prints: tuple[bytes, ...]
    codec: str
    width: int
    height: int
    duration_s: float
    statistics: PacketStatistics
    scores: tuple[float, ...]
    left_out: dict[str, int]
    native: NativeHeight | None


def curate_video(
    path: Path, sha256: str, folder: Path, *, source: str, name: str, settings: Settings, tools: Tools
) -> VideoResult:
    """Choose frames of one video and write them.

    Args:
        path: the video.
        sha256: its SHA-256.
        folder: an empty or missing folder that is filled: ``images``, ``thumbs`` and, where asked, ``enhanced``.
        source: the video's path for the manifest.
        name: path of that folder's pictures inside the dataset, for the manifest.
        settings: what to do.
        tools: scorer, screening models and line enhancement.

    Raises:
        InputError: the file is no video.
        RunError: no picture could be decoded, or the disk is full.
    """
    survey = _survey(path, settings, tools)
    statistics = survey.statistics
    duration = float(statistics.last_time)
    if not survey.candidates and not survey.left_out:
        raise RunError(f"'{path}' has no intra frame that can be decoded ({statistics.undecodable} tried).")
    count = settings.frames_for(duration) + settings.reserve
    frames = _verified(path, survey, count, settings)
    scores = {candidate.number: candidate.score for candidate in survey.candidates}
    ordered = sorted(frames, key=lambda frame: (-scores[frame.info.number], frame.info.number))
    native = _native([frame.frame for frame in ordered[:NATIVE_FRAMES]])
    rows: list[Row] = []
    prints: list[bytes] = []
    for rank, intra in enumerate(ordered):
        written = _write(intra, folder, name=f"{sha256[:12]}-{intra.info.number:07d}", survey=survey, native=native,
                         settings=settings, tools=tools)  # fmt: skip
        rows.append(
            Row(
                **written.values,
                source=source,
                source_sha256=sha256,
                stream=survey.stream,
                time_s=float(intra.info.time),
                pts=intra.info.pts,
                time_base=str(survey.time_base),
                frame_kind=intra.info.kind,
                packet_bytes=intra.info.size_bytes,
                score=scores[intra.info.number],
                score_name=tools.scorer.name,
                rank=rank,
                file=f"images/{name}/{written.file}",
                enhanced_file=f"enhanced/{name}/{written.file}" if written.values["enhanced_sha256"] else None,
            )
        )
        prints.append(written.small)
    return VideoResult(
        tuple(rows), tuple(prints), survey.codec, survey.width, survey.height, duration, statistics,
        tuple(candidate.score for candidate in survey.candidates[:10_000]), survey.left_out, native,
    )  # fmt: skip


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


def _survey(path: Path, settings: Settings, tools: Tools) -> _Survey:
    """First pass: score and fingerprint of every intra frame."""
    candidates: list[Candidate] = []
    left_out: dict[str, int] = {}
    finder = BarFinder()
    with IntraReader(
        path,
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
                finder.add(_luma(frame))
            picture = _small(frame, tools.scorer.side_px)
            flags = picture_flags(picture)
            if flags:
                left_out[flags[0]] = left_out.get(flags[0], 0) + 1
                continue
            candidates.append(
                Candidate(intra.info.number, float(intra.info.time), tools.scorer(picture), fingerprint(picture))
            )
        crop = finder.crop() if settings.crop_bars else None
        width, height = size or (reader.width, reader.height)
        return _Survey(
            candidates, left_out, crop, reader.statistics, reader.stream_index, reader.codec, width, height,
            reader.time_base, reader.sample_aspect_ratio,
        )  # fmt: skip


def _verified(path: Path, survey: _Survey, count: int, settings: Settings) -> list[IntraFrame]:
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
        with IntraReader(path, numbers=unknown, following=following) as reader:
            for intra in reader:
                if following and in_fade([_tiny(frame) for frame in (intra.frame, *intra.following)]):
                    survey.left_out["fade"] = survey.left_out.get("fade", 0) + 1
                    continue
                good.add(intra.info.number)
                known[intra.info.number] = IntraFrame(intra.info, intra.frame)
        bad = unknown - good
        left = [candidate for candidate in left if candidate.number not in bad]


@dataclass(frozen=True)
class _Written:
    values: dict[str, Any]
    file: str
    small: bytes


def _write(
    intra: IntraFrame,
    folder: Path,
    *,
    name: str,
    survey: _Survey,
    native: NativeHeight | None,
    settings: Settings,
    tools: Tools,
) -> _Written:
    frame = intra.frame
    rgb = _rgb(frame, survey.codec)
    crop = survey.crop if survey.crop and (frame.width, frame.height) == (survey.width, survey.height) else None
    crop = crop or Crop(0, frame.height, 0, frame.width)
    luma = np.asarray(crop.cut(_luma(frame)), np.uint8)
    combed = combed_share(luma)
    picture = produce(crop.cut(rgb), frame.height, native=native, aspect=survey.aspect, settings=settings)
    writing = find_writing(picture)
    values: dict[str, Any] = dict.fromkeys(("nudity", "anime"))
    values |= {screen: model(picture) for screen, model in tools.screens.items()}
    flags: list[Flag] = list(writing.flags)
    if values["nudity"] is not None and values["nudity"] >= settings.nudity_threshold:
        flags.append("nudity")
    if values["anime"] is not None and values["anime"] < settings.anime_threshold:
        flags.append("live_action")
    if combed > COMBED_SHARE * (1 if frame.interlaced_frame else 4):
        flags.append("combed")
    if bars(luma).size != luma.shape[:2]:
        flags.append("bars")
    file = f"{name}.{settings.format}"
    target = folder / "images" / file
    write_picture(target, picture, overwrite=True, lossless=True)
    thumbnail = folder / "thumbs" / f"{name}.jpg"
    write_picture(thumbnail, _shrunk(picture, THUMBNAIL_PX), overwrite=True, quality=85)
    enhanced_sha256 = None
    if settings.enhance and tools.enhance is not None:
        enhanced = folder / "enhanced" / file
        write_picture(enhanced, tools.enhance(picture), overwrite=True, lossless=True)
        enhanced_sha256 = sha256_file(enhanced)
    print_ = fingerprint(picture)
    values |= {
        "id": name,
        "combed_share": combed,
        "text_lines": writing.lines,
        "native_height": native.height if native else frame.height,
        "native_kernel": native.kernel if native else None,
        "native_confidence": native.confidence if native else 0.0,
        "source_width": frame.width,
        "source_height": frame.height,
        "crop_top": crop.top,
        "crop_bottom": crop.bottom,
        "crop_left": crop.left,
        "crop_right": crop.right,
        "width": picture.shape[1],
        "height": picture.shape[0],
        "hash": f"{print_.hash:016x}",
        "flags": tuple(sorted(flags)),
        "file_sha256": sha256_file(target),
        "enhanced_sha256": enhanced_sha256,
    }
    return _Written(values, file, print_.small)


def produce(
    picture: NDArray[np.uint8],
    source_height: int,
    *,
    native: NativeHeight | None,
    aspect: Fraction = Fraction(1),
    settings: Settings,
) -> NDArray[np.uint8]:
    """Shrink a picture to its production size (paper 3.1).

    Args:
        picture: RGB ``(H, W, 3)``, bars already cut.
        source_height: lines of the whole video frame; the scale is that of the frame, bars or not.
        native: estimate for the video.
        aspect: width of a pixel over its height; the result has square pixels.
        settings: ``height``, ``resample`` and ``multiple_of``.

    Returns:
        RGB uint8; never larger than the input, except in width where pixels were narrow.
    """
    if settings.height == "keep":
        target = source_height
    elif settings.height == "native":
        sure = native is not None and native.confidence >= NATIVE_CONFIDENCE
        target = native.height if sure and native is not None else 720
    else:
        target = settings.height
    scale = min(Fraction(target, source_height), Fraction(1))
    height = max(round(picture.shape[0] * scale), 1)
    width = max(round(picture.shape[1] * scale * aspect), 1)
    if (height, width) != picture.shape[:2]:
        picture = from_float(resize(to_float(picture), height, width, method=settings.resample), np.uint8)
    step = settings.multiple_of
    height, width = max(height // step * step, step), max(width // step * step, step)
    return np.ascontiguousarray(picture[:height, :width])


def _native(frames: Sequence[VideoFrame]) -> NativeHeight | None:
    shapes = {(frame.width, frame.height) for frame in frames}
    if len(shapes) != 1:
        return None
    return estimate_native_height([_luma(frame) for frame in frames])


def _luma(frame: VideoFrame) -> NDArray[np.uint8]:
    return np.asarray(frame.to_ndarray(format="gray"), np.uint8)


def _rgb(frame: VideoFrame, codec: str) -> NDArray[np.uint8]:
    colour = describe(
        matrix=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        colour_range=int(frame.color_range),
        height=frame.height,
        pixel_format=frame.format.name,
        codec=codec,
    )
    return cast("NDArray[np.uint8]", ToRgb(colour, np.uint8)(frame))


def _small(frame: VideoFrame, side_px: int | None) -> NDArray[np.uint8]:
    """RGB for analysis: fast conversion, at most `side_px` long (None: full size)."""
    scale = min((side_px or 1 << 30) / max(frame.width, frame.height), 1.0)
    width, height = max(round(frame.width * scale), 16), max(round(frame.height * scale), 16)
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    return np.asarray(small.to_ndarray(), np.uint8)


def _tiny(frame: VideoFrame) -> NDArray[np.uint8]:
    height = max(round(frame.height * FADE_WIDTH_PX / frame.width), 8)
    small = frame.reformat(width=FADE_WIDTH_PX, height=height, format="gray", interpolation="AREA")
    return np.asarray(small.to_ndarray(), np.uint8)


def _shrunk(picture: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    scale = min(side_px / max(picture.shape[:2]), 1.0)
    size = max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def remove_tree(folder: Path) -> None:
    """Remove a folder that this package made, if it is there."""
    if folder.is_dir():
        shutil.rmtree(folder)
