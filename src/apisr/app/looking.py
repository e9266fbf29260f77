"""Looking before the work: what a file is, its frames, crops upscaled at once, what a job would do.

Runs in a child process of the app (:mod:`apisr.app.worker`). Models stay loaded, and the last frame that was read stays
in memory, so that moving the crop costs the network alone.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from apisr.app.upscaling import option_words, options_of
from apisr.core.errors import InputError
from apisr.core.files import write_atomic
from apisr.core.media import media_kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from apisr.app.store import Job
    from apisr.engines.base import Engine
    from apisr.upscale.options import UpscaleOptions

    ImageU8 = NDArray[np.uint8]

#: Longer side of a thumbnail, in pixels.
THUMBNAIL_PX = 320
#: Pixels around a crop that go through the network too, so that its rim is as good as its middle.
CONTEXT_PX = 32
#: Largest crop, in pixels.
MAX_CROP_PX = 2_000_000
_KEPT_MODELS = 4
_MODEL_SETTINGS = {"model", "strength", "scale", "height", "tta"}


@dataclass
class Looker:
    """Reads files and keeps what is expensive: models, and the last frame."""

    _models: dict[UpscaleOptions, Engine] = field(default_factory=dict["UpscaleOptions", "Engine"])
    _estimates: dict[tuple[Path, UpscaleOptions], tuple[float, int]] = field(
        default_factory=dict[tuple[Path, "UpscaleOptions"], tuple[float, int]]
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
        from apisr.upscale.picture import upscale_pixels

        frame = self._read(path, at)
        rows, columns = frame.shape[:2]
        left, top, width, height = box
        if min(left, top) < 0 or min(width, height) < 1 or left + width > columns or top + height > rows:
            raise InputError("the crop lies outside of the picture.", code="bad-request")
        if width * height > MAX_CROP_PX:
            raise InputError("the crop is too large.", code="bad-request")
        x0, y0 = max(0, left - CONTEXT_PX), max(0, top - CONTEXT_PX)
        x1, y1 = min(columns, left + width + CONTEXT_PX), min(rows, top + height + CONTEXT_PX)
        model = self._model(settings, rows)
        began = time.monotonic()
        large = upscale_pixels(frame[y0:y1, x0:x1], model)
        seconds = time.monotonic() - began
        scale = model.traits.scale
        inner = large[
            (top - y0) * scale : (top - y0 + height) * scale, (left - x0) * scale : (left - x0 + width) * scale
        ]
        _write_png(after, inner.astype("uint8", copy=False))
        _write_png(before, _resized(frame[top : top + height, left : left + width], width * scale, height * scale))
        return {"seconds": round(seconds, 3), "scale": scale}

    def plan(self, source: Path, folder: Path, settings: Mapping[str, object]) -> dict[str, object]:
        """Return what a job would do: name and size of the output, streams that are kept, notices, time, bytes."""
        from apisr.upscale.dry_run import DryRun
        from apisr.upscale.jobs import plan_jobs
        from apisr.upscale.models import Networks

        options = options_of(settings, kind=media_kind(source) or "")
        networks = Networks(options)
        job = plan_jobs([source], folder, options, networks=networks).jobs[0]
        dry_run = DryRun(options, networks, estimate=(source, options) not in self._estimates)
        row = dry_run.describe(job)
        if dry_run.total is not None:
            self._estimates[source, options] = (dry_run.total.seconds, dry_run.total.size_bytes)
        seconds, size_bytes = self._estimates.get((source, options), (None, None))
        return {
            "seconds": seconds,
            "bytes": size_bytes,
            "target": str(job.target),
            "name": job.target.name,
            "size": str(row["size"]).rsplit(" ", 1)[-1].replace("x", "×"),
            "model": row["model"],
            "streams": row.get("streams", []),
            "notices": [notice for notice in (row.get("network"), *row.get("notices", [])) if notice],
        }

    def targets(self, sources: list[Path], folder: Path, settings: Mapping[str, object]) -> list[Path]:
        """Return the names that outputs get by default."""
        from apisr.upscale.jobs import plan_jobs

        found: list[Path] = []
        for source in sources:
            options = options_of(settings, kind=media_kind(source) or "")
            found.append(plan_jobs([source], folder, options).jobs[0].target)
        return found

    def _model(self, settings: Mapping[str, object], rows: int) -> Engine:
        from apisr.upscale.models import Networks

        options = options_of({key: value for key, value in settings.items() if key in _MODEL_SETTINGS})
        model = self._models.pop(options, None)
        if model is None:
            networks = Networks(options)
            model = networks.engine(networks.model_for(rows))
        self._models[options] = model
        while len(self._models) > _KEPT_MODELS:
            self._models.pop(next(iter(self._models)))
        return model

    def _read(self, path: Path, at: Fraction) -> ImageU8:
        key = (path, path.stat().st_mtime_ns, at)
        if self._frame is not None and self._frame[0] == key:
            return self._frame[1]
        frame = _read_picture(path) if media_kind(path) == "picture" else _read_video_frame(path, at)
        self._frame = (key, frame)
        return frame


def _picture_info(path: Path) -> dict[str, object]:
    from apisr.image import read_picture

    picture = read_picture(path)
    height, width, channels = picture.pixels.shape
    return {"width": width, "height": height, "frames": len(picture.frames) or 1, "alpha": channels in (2, 4)}


def _video_info(path: Path) -> dict[str, object]:
    from apisr.video.source import VideoSource

    with VideoSource.open(path) as source:
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
    from apisr.video.source import VideoSource

    with VideoSource.open(path) as source:
        times = source.index.pts
        if times.size:
            wanted = int(times[0]) + int(at / source.info.video.time_base)
            place = max(0, int(times.searchsorted(wanted, side="right")) - 1)
            for frame in source.frames(start=int(times[place])):
                return from_float(to_float(frame.rgb), np.uint8)
    raise InputError("there is no frame at this time.", code="no-frame")


def _fitted(picture: ImageU8, longest_px: int) -> ImageU8:
    height, width = picture.shape[:2]
    factor = longest_px / max(height, width)
    if factor >= 1:
        return picture
    import cv2

    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype("uint8")


def _resized(picture: ImageU8, width: int, height: int) -> ImageU8:
    import cv2

    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC).astype("uint8")


def _write_png(path: Path, picture: ImageU8) -> None:
    import io

    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG", compress_level=1)
    write_atomic(path, content.getvalue(), overwrite=True)


def models() -> list[dict[str, object]]:
    """Return the shipped models for the page: name, a sentence, what they can."""
    from apisr.weights import default_model, list_models

    shipped = list_models()
    default = default_model(2)
    return [
        {
            "name": model.name,
            "text": str(model.card.get("title", "")).partition(": ")[2],
            "scale": model.scale,
            "default": model.name == default,
            "has_strength": f"{model.name}-vivid" in {other.name for other in shipped},
            "default_strength": 0,
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
