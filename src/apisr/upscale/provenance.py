"""What an output says of its making, and whether an existing file was made of this source with these settings.

Every output carries the program, the model and the settings where its format has a place, and one mark: the hash of
everything that decides its content. A later run that would make the same file finds the mark and skips the work.

>>> mark = run_mark("0" * 64, "1" * 64, {"scale": 2})
>>> mark.startswith("apisr-run-"), len(mark)
(True, 50)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from apisr.core.version import __version__
from apisr.upscale.options import PictureOptions, UpscaleOptions, VideoOptions
from apisr.upscale.results import Kind

if TYPE_CHECKING:
    from apisr.weights import Model

#: How every mark begins.
MARK = "apisr-run-"
#: How much of the beginning and of the end of a file is searched for its mark.
SEARCHED_BYTES = 4 << 20

#: Where libav's muxers put it, if not under ``encoding_tool``.
_VIDEO_TAG = {".mov": "keywords", ".avi": "encoded_by"}

#: Settings that do not change what is made.
_WITHOUT_EFFECT = {
    *("accept_damage", "segment_frames", "restart", "reuse", "max_pixels", "provenance", "tile_px", "format"),
    "container",
}


def run_mark(source_sha256: str, model_sha256: str, settings: dict[str, object]) -> str:
    """Return the mark of an output: the same for the same source, model and settings."""
    content = json.dumps([source_sha256, model_sha256, settings], sort_keys=True, default=str)
    return f"{MARK}{hashlib.sha256(content.encode()).hexdigest()[:40]}"


def settings_of(options: UpscaleOptions, kind: Kind, model: Model) -> dict[str, object]:
    """Return the settings that were chosen and that change what is made of a picture or video."""
    group: PictureOptions | VideoOptions = options.picture if kind == "picture" else options.video
    defaults = type(group)()
    chosen: dict[str, object] = {
        field.name: getattr(group, field.name)
        for field in dataclasses.fields(group)
        if field.name not in _WITHOUT_EFFECT and getattr(group, field.name) != getattr(defaults, field.name)
    }
    if options.height is not None:
        chosen["height"] = options.height
    else:
        chosen["scale"] = float(options.scale or model.scale)
    if options.tta:
        chosen["tta"] = True
    return chosen


def provenance_tags(mark: str, model: Model, options: UpscaleOptions, kind: Kind) -> dict[str, str]:
    """Return what is written into an output, as names and values; empty where that was not asked for."""
    if not options.provenance:
        return {}
    settings = ", ".join(f"{name} {_shown(value)}" for name, value in settings_of(options, kind, model).items())
    return {
        "Software": f"apisr {__version__}",
        "Run": mark,
        "Model": f"{model.name} x{model.scale} (sha256 {model.sha256[:16]})",
        **({"Settings": settings} if settings else {}),
    }


def video_tags(tags: dict[str, str], target: Path) -> dict[str, str]:
    """Return the tags of a picture as the one tag that the container of a video keeps (MPEG-TS keeps none)."""
    text = "; ".join(f"{name}: {value}" for name, value in tags.items())
    return {_VIDEO_TAG.get(target.suffix.lower(), "encoding_tool"): text} if tags else {}


def carries_mark(path: Path, mark: str) -> bool:
    """Return whether a file carries a mark; unreadable files do not."""
    try:
        with path.open("rb") as file:
            head = file.read(SEARCHED_BYTES)
            size = file.seek(0, 2)
            file.seek(max(len(head), size - SEARCHED_BYTES))
            return mark.encode() in head or mark.encode() in file.read()
    except OSError:
        return False


def distinguishing_label(model: Model, options: UpscaleOptions, kind: Kind) -> str:
    """Return what tells an output from one with the default settings, for its name; empty if nothing does.

    >>> distinguishing_label(model, UpscaleOptions(strength=0.5, tta=True), "picture")      # doctest: +SKIP
    'strength0.5_tta'
    """
    parts: list[str] = []
    settings = settings_of(options, kind, model)
    if "start" in settings or "end" in settings:
        begin, end = settings.get("start", Fraction(0)), settings.get("end", "end")
        parts.append(
            "-".join(f"{float(time):g}s" if isinstance(time, Fraction) else str(time) for time in (begin, end))
        )
    if "compare" in settings:
        parts.append(str(settings["compare"]))
    if options.model is not None:
        parts.append(model.name)
    if options.strength is not None:
        parts.append(f"strength{options.strength:g}")
    named = {"scale", "height", "start", "end", "compare"}
    for name, value in settings.items():
        if name not in named:
            parts.append(name if value is True else f"{name}{_shown(value)}")
    return "_".join("".join(c if c.isalnum() or c in "-._" else "-" for c in part) for part in parts)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return "+".join(str(item) for item in value)  # type: ignore[reportUnknownVariableType]
    return str(value)
