"""From what a person chose on the page to options of the package, and back to a command line."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import apisr
from apisr.core.errors import Cancelled, InputError, RunError
from apisr.core.media import media_kind
from apisr.core.progress import Cancel, ProgressFn

#: Setting of the page -> option of the command.
_FLAGS = {
    "model": "--model",
    "strength": "--strength",
    "source": "--source",
    "scale": "--scale",
    "height": "--height",
    "format": "--format",
    "quality": "--quality",
    "container": "--container",
    "codec": "--codec",
    "crf": "--crf",
    "hold": "--hold",
}
_PICTURES_ONLY = {"format", "quality"}
_VIDEOS_ONLY = {"container", "codec", "crf", "hold"}


def options_of(
    settings: Mapping[str, object], *, kind: str = "", part: tuple[Fraction, Fraction] | None = None
) -> apisr.UpscaleOptions:
    """Return the options for settings of the page.

    Args:
        settings: fields of :class:`apisr.app.store.Settings` that are set.
        kind: ``picture`` or ``video``: options of the other kind are left at their defaults.
        part: seconds to begin at and to stop before (videos).
    """
    values = {key: value for key, value in settings.items() if value is not None}
    picture = apisr.PictureOptions(format=_text(values, "format"), quality=_whole(values, "quality"))
    video = apisr.VideoOptions(
        container=_text(values, "container"),
        codec=_text(values, "codec"),
        crf=_number(values, "crf"),
        hold={"off": "off", "strong": "strong"}.get(str(values.get("hold")), "auto"),  # type: ignore[arg-type]
        start=part[0] if part else None,
        end=part[1] if part else None,
    )
    return apisr.UpscaleOptions(
        model=_text(values, "model"),
        strength=_number(values, "strength"),
        source={"crisp": "crisp", "soft": "soft"}.get(str(values.get("source")), "auto"),  # type: ignore[arg-type]
        scale=None if values.get("height") else _number(values, "scale"),
        height=_whole(values, "height"),
        tta=bool(values.get("tta", False)),
        picture=apisr.PictureOptions() if kind == "video" else picture,
        video=apisr.VideoOptions() if kind == "picture" else video,
    )


def option_words(settings: Mapping[str, object], kind: str) -> list[str]:
    """Return settings as words of a command line.

    >>> option_words({"scale": 4.0, "hold": "auto", "crf": 18.0}, "video")
    ['--scale', '4', '--crf', '18']
    """
    passed_over = _VIDEOS_ONLY if kind == "picture" else _PICTURES_ONLY
    words: list[str] = []
    for key, flag in _FLAGS.items():
        value = settings.get(key)
        if value is None or key in passed_over or (key in ("hold", "source") and value == "auto"):
            continue
        words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return [*words, "--tta"] if settings.get("tta") else words


def upscale_file(
    source: Path,
    target: Path,
    settings: Mapping[str, object],
    *,
    progress: ProgressFn,
    cancel: Cancel,
    part: tuple[Fraction, Fraction] | None = None,
) -> dict[str, object]:
    """Upscale one file.

    Returns:
        The result as ``apisr upscale --json`` prints it for the file.

    Raises:
        InputError: the input or the settings cannot be used.
        RunError: it failed; :class:`Cancelled` where it was stopped.
    """
    options = options_of(settings, kind=media_kind(source) or "", part=part)
    target.parent.mkdir(parents=True, exist_ok=True)
    result = apisr.upscale(source, target, options=options, progress=progress, cancel=cancel)[0]
    if result.status in ("done", "skipped"):  # skipped: a server that was killed had not written that it is done
        return result.model_dump(mode="json")
    if result.status == "cancelled":
        raise Cancelled(result.message, code="cancelled")
    kind = InputError if result.exit_code == InputError.exit_code else RunError
    raise kind(result.message, code=result.code or None)


def _text(values: Mapping[str, object], name: str) -> str | None:
    value = values.get(name)
    return None if value is None else str(value)


def _number(values: Mapping[str, object], name: str) -> float | None:
    value = values.get(name)
    return None if value is None else float(str(value))


def _whole(values: Mapping[str, object], name: str) -> int | None:
    value = values.get(name)
    return None if value is None else int(str(value))
