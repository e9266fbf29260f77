"""Looking before the work: what a file is, its frames, crops upscaled at once, what a job would do.

Runs in a child process of the app (:mod:`apisr.app.worker`). Models stay loaded, and the last frame that was read stays
in memory, so that moving the crop costs the network alone.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import apisr
from apisr.app.upscaling import option_words, options_of
from apisr.core.errors import InputError
from apisr.core.media import media_kind

if TYPE_CHECKING:
    from apisr.app.store import Job
    from apisr.image import ImageU8

#: Longer side of a thumbnail, in pixels.
THUMBNAIL_PX = 320
#: Pixels around a crop that go through the network too, so that its rim is as good as its middle.
CONTEXT_PX = 32
#: Largest crop, in pixels.
MAX_CROP_PX = 2_000_000
_KEPT = 4
_MODEL_SETTINGS = {"model", "strength", "source", "scale", "height", "tta"}


@dataclass
class Looker:
    """Reads files and keeps what is expensive: models, the last frame, and what was measured."""

    _upscalers: dict[apisr.UpscaleOptions, apisr.Upscaler] = field(
        default_factory=dict["apisr.UpscaleOptions", "apisr.Upscaler"]
    )
    _frame: tuple[tuple[Path, int, Fraction], ImageU8] | None = None

    def probe(self, path: Path, *, thumbnail: Path) -> dict[str, object]:
        """Return size, length and streams of a file, and write its thumbnail.

        Raises:
            InputError: it cannot be read.
        """
        info = _picture_info(path) if media_kind(path) == "picture" else _video_info(path)
        seconds = info.get("duration_s")
        middle = Fraction(str(float(seconds) / 3)) if isinstance(seconds, int | float) else Fraction(0)
        _write_png(thumbnail, _fitted(self._read(path, middle), THUMBNAIL_PX))
        return {**info, "bytes": path.stat().st_size}

    def write_frame(self, path: Path, at: Fraction, output: Path, *, longest_px: int | None) -> dict[str, object]:
        """Write a picture, or the frame of a video at a time in seconds, as PNG; reduced if it is longer than asked."""
        frame = self._read(path, at)
        height, width = frame.shape[:2]
        _write_png(output, frame if longest_px is None else _fitted(frame, longest_px))
        return {"width": width, "height": height}

    def preview(
        self,
        path: Path,
        at: Fraction,
        box: tuple[int, int, int, int],
        settings: Mapping[str, object],
        *,
        before: Path,
        after: Path,
    ) -> dict[str, object]:
        """Upscale a crop (left, top, width, height) and write it beside the source's crop, enlarged as browsers do.

        Raises:
            InputError: the crop lies outside, or is too large.
        """
        frame = self._read(path, at)
        rows, columns = frame.shape[:2]
        left, top, width, height = box
        if min(left, top) < 0 or min(width, height) < 1 or left + width > columns or top + height > rows:
            raise InputError(
                f"the crop {box} lies outside of the picture of {columns}x{rows}. Move it inside.", code="bad-request"
            )
        if width * height > MAX_CROP_PX:
            raise InputError(
                f"the crop has {width * height} pixels, {MAX_CROP_PX} at most can be shown. Choose a smaller one.",
                code="bad-request",
            )
        x0, y0 = max(0, left - CONTEXT_PX), max(0, top - CONTEXT_PX)
        x1, y1 = min(columns, left + width + CONTEXT_PX), min(rows, top + height + CONTEXT_PX)
        options = options_of({key: value for key, value in settings.items() if key in _MODEL_SETTINGS})
        model = self._upscaler(options).model_for(path)  # that of a job, so that the preview is what comes out
        factor = options.height / rows if options.height else options.scale or float(model.scale)
        began = time.monotonic()
        large = model(frame[y0:y1, x0:x1], scale=factor)
        seconds = time.monotonic() - began
        out_top, out_left = round((top - y0) * factor), round((left - x0) * factor)
        out_height, out_width = max(1, round(height * factor)), max(1, round(width * factor))
        _write_png(after, large[out_top : out_top + out_height, out_left : out_left + out_width])
        _write_png(before, _resized(frame[top : top + height, left : left + width], out_height, out_width))
        return {"seconds": round(seconds, 3), "scale": factor, "model": model.name}

    def plan(self, source: Path, folder: Path, settings: Mapping[str, object]) -> dict[str, object]:
        """Return what a job would do: name and size of the output, streams that are kept, notices, time, bytes."""
        upscaler = self._upscaler(options_of(settings, kind=media_kind(source) or ""))
        file = upscaler.plan(source, folder, estimate=True).files[0]
        width, height = file.output_size
        return {
            "seconds": None if file.estimate is None else file.estimate.seconds,
            "bytes": None if file.estimate is None else file.estimate.size_bytes,
            "name": file.target.name,
            "size": f"{width}×{height}",
            "model": file.model,
            "streams": file.streams,
            "notices": file.notices,
        }

    def targets(self, sources: list[Path], folder: Path, settings: Mapping[str, object]) -> list[Path]:
        """Return the names that outputs get by default."""
        found: list[Path] = []
        for source in sources:
            upscaler = self._upscaler(options_of(settings, kind=media_kind(source) or ""))
            found.append(upscaler.targets(source, folder)[source])
        return found

    def made_before(self, source: Path, existing: Sequence[Path], settings: Mapping[str, object]) -> Path | None:
        """Return the first of some files that a run with these settings would find made of this source.

        That is the rule by which ``apisr upscale`` skips a file.

        Raises:
            InputError: the source cannot be read.
        """
        return self._upscaler(options_of(settings, kind=media_kind(source) or "")).made_before(source, existing)

    def _upscaler(self, options: apisr.UpscaleOptions) -> apisr.Upscaler:
        """Return what upscales with these options, made where it is not kept; the least used goes."""
        upscaler = self._upscalers.pop(options, None) or apisr.Upscaler(options)
        self._upscalers[options] = upscaler
        while len(self._upscalers) > _KEPT:
            self._upscalers.pop(next(iter(self._upscalers)))
        return upscaler

    def _read(self, path: Path, at: Fraction) -> ImageU8:
        key = (path, path.stat().st_mtime_ns, at)
        if self._frame is not None and self._frame[0] == key:
            return self._frame[1]
        frame = _read_picture(path) if media_kind(path) == "picture" else _read_video_frame(path, at)
        self._frame = (key, frame)
        return frame


def _picture_info(path: Path) -> dict[str, object]:
    from apisr.image import open_picture

    with open_picture(path) as picture:
        info = picture.info
    return {"width": info.width, "height": info.height, "frames": info.frame_count, "alpha": info.channels in (2, 4)}


def _video_info(path: Path) -> dict[str, object]:
    with apisr.open_video(path) as source:
        video, times = source.info.video, source.index.pts
        seconds = float((times[-1] - times[0]) * video.time_base + 1 / source.index.rate) if times.size else 0.0
        return {
            "width": video.width,
            "height": video.height,
            "frames": int(times.size),
            "duration_s": round(seconds, 3),
            "streams": [stream.label for stream in source.info.streams if stream.index != video.index],
        }


def _read_picture(path: Path) -> ImageU8:
    from apisr.image import read_rgb

    return read_rgb(path)


def _read_video_frame(path: Path, at: Fraction) -> ImageU8:
    """Return the frame that is shown at a time in seconds; the last one where there is none any more."""
    import numpy as np

    from apisr.image import from_float, to_float

    with apisr.open_video(path) as source:
        times = source.index.pts
        if times.size:
            moment = int(times[0]) + int(at / source.info.video.time_base)
            place = max(0, int(times.searchsorted(moment, side="right")) - 1)
            for frame in source.frames(start=int(times[place])):
                return from_float(to_float(frame.rgb), np.uint8)
    raise InputError("there is no frame at this time. Choose an earlier one.", code="no-frame")


def _fitted(picture: ImageU8, longest_px: int) -> ImageU8:
    height, width = picture.shape[:2]
    factor = longest_px / max(height, width)
    if factor >= 1:
        return picture
    return _resized(picture, max(1, round(height * factor)), max(1, round(width * factor)))


def _resized(picture: ImageU8, height: int, width: int) -> ImageU8:
    import numpy as np

    from apisr.image import from_float, resize, to_float

    return from_float(resize(to_float(picture), height, width, method="bicubic"), np.uint8)


def _write_png(path: Path, picture: ImageU8) -> None:
    from apisr.image import write_picture

    write_picture(path, picture, overwrite=True)


def models() -> list[dict[str, object]]:
    """Return the shipped models for the page: name, a sentence, a picture, what they can."""
    shipped = apisr.list_models()
    default = apisr.default_model(2)
    pictures = resources.files("apisr.app").joinpath("static", "models")
    return [
        {
            "name": model.name,
            "text": str(model.card.get("title", "")).partition(": ")[2],
            "scale": model.scale,
            "default": model.name == default,
            "has_strength": f"{model.name}-vivid" in {other.name for other in shipped},
            "picture": f"/static/models/{model.name}.webp"
            if pictures.joinpath(f"{model.name}.webp").is_file()
            else None,
        }
        for model in shipped
        if not model.name.endswith("-vivid")
    ]


def command_line(job: Job) -> str:
    """Return the command that does the same as a job.

    Paths are those of the job: the page shows them to the person whose files they are, for copying.
    """
    words = ["apisr", "upscale", str(job.source), "-o", str(job.target)]
    return shlex.join(words + option_words(job.settings.model_dump(exclude_none=True), job.kind))
