"""A function for VapourSynth scripts: ``apisr.vapoursynth.upscale(clip)``.

    import apisr.vapoursynth
    import vapoursynth as vs

    clip = vs.core.bs.VideoSource("episode.mkv")
    apisr.vapoursynth.upscale(clip, height=2160).set_output()

Format, depth and properties of the clip are kept. Parts that did not change since the frame before are not computed
again, and frames that are asked for in another order come out the same. VapourSynth is loaded on the first call.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError, MissingExtra
from apisr.model import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from apisr.upscale.options import UpscaleOptions
    from apisr.upscale.sequence import FrameSequence

__all__ = ["upscale"]

_GUESSED = (None, 0, 2, 3)
"""Values of ``_Matrix`` that say nothing about a YUV clip."""


class _Clip(Protocol):
    """What is used of ``vapoursynth.VideoNode`` (its package has no types)."""

    width: int
    height: int
    format: _Format | None
    std: _Functions
    resize: _Functions


class _Format(Protocol):
    """What is used of ``vapoursynth.VideoFormat``."""

    id: int
    name: str
    color_family: int
    sample_type: int
    bits_per_sample: int
    subsampling_w: int
    subsampling_h: int


class _Functions(Protocol):
    """A namespace of filters."""

    def __getattr__(self, name: str) -> Callable[..., _Clip]: ...


class _Frame(Protocol):
    """What is used of ``vapoursynth.VideoFrame``; as an array, ``frame[0]`` is its first plane."""

    props: dict[str, object]

    def copy(self) -> _Frame: ...

    def __getitem__(self, plane: int) -> NDArray[np.uint8]: ...


def upscale(
    clip: object,
    model: LoadedModel | str | Path | None = None,
    *,
    scale: float | None = None,
    height: int | None = None,
    strength: float | None = None,
    options: UpscaleOptions | None = None,
) -> _Clip:
    """Upscale a clip of VapourSynth.

    Args:
        clip: of constant format and size: RGB, YUV or gray, 8 to 16 bits or float, progressive.
        model: from :func:`apisr.load`, a name, a file, or None for the one that ships for the factor.
        scale: factor of the output; by default the model's, else 2.
        height: lines of the output, in place of a factor.
        strength: 0 (faithful) to 1 (vivid) where the model has a vivid twin.
        options: engine, device, precision, threads and so on, as for files.

    Returns:
        A clip of the same format, length and rate. ``_Matrix`` is set where it was not: an untagged clip has the
        matrix of its size before it was enlarged.

    Raises:
        InputError: not a clip of VapourSynth, or a format that changes or is not supported.
        ModelError: unknown or damaged, or no model has that scale.
        MissingExtra: VapourSynth is not installed.
    """
    try:
        import vapoursynth as vs  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("vapoursynth", "for clips of VapourSynth") from None

    if not isinstance(clip, vs.VideoNode):
        raise InputError(
            f"expected a clip of VapourSynth, got {type(clip).__name__}. Give what a source filter returns.",
            code="bad-clip",
        )
    source = cast("_Clip", clip)
    layout = source.format
    if layout is None or not layout.id or not source.width or not source.height:
        raise InputError(
            "expected a clip of constant format and size, got one that changes. Resize it first.", code="bad-clip"
        )
    frames = _sequence(source, model, scale=scale, height=height, strength=strength, options=options)
    rows, columns = frames.size_of(source.height, source.width)
    if rows % (1 << layout.subsampling_h) or columns % (1 << layout.subsampling_w):
        raise InputError(
            f"{columns}x{rows} is not a size that {layout.name} can have. Give another scale or height.",
            code="bad-size",
        )
    integer = layout.sample_type == vs.INTEGER
    rgb_format = vs.RGBS if not integer else vs.RGB24 if layout.bits_per_sample == 8 else vs.RGB48
    tagged = _checked(source, tag=layout.color_family != vs.RGB)
    rgb = tagged if layout.id == rgb_format else tagged.resize.Bicubic(format=int(rgb_format))
    blank = rgb.std.BlankClip(width=columns, height=rows, keep=True)
    large = blank.std.ModifyFrame(clips=[blank, rgb], selector=_selector(frames))
    if layout.id != rgb_format:
        large = _converted(large, tagged, layout)
    return large.std.CopyFrameProps(prop_src=tagged)


def _sequence(
    clip: _Clip,
    model: LoadedModel | str | Path | None,
    *,
    scale: float | None,
    height: int | None,
    strength: float | None,
    options: UpscaleOptions | None,
) -> FrameSequence:
    """Choose the model as for a video file of this size, load it, and return what upscales the frames."""
    from apisr.upscale.models import Networks
    from apisr.upscale.options import UpscaleOptions

    chosen = options or UpscaleOptions()
    named = model.model if isinstance(model, LoadedModel) else model
    asked = {"model": named, "scale": scale, "height": height, "strength": strength}
    chosen = replace(chosen, **{key: value for key, value in asked.items() if value is not None})
    size = chosen.size  # a scale and a height are refused before anything is loaded
    engine = model.engine if isinstance(model, LoadedModel) else None
    networks = Networks(chosen, None if engine is None else lambda _model: engine)
    found = networks.model_for(clip.height, video=True)
    opened = LoadedModel(found, networks.engine(found))
    return opened.sequence(scale=size.factor, height=size.height, reuse=chosen.video.reuse)


def _checked(clip: _Clip, *, tag: bool) -> _Clip:
    """Refuse interlaced frames; set ``_Matrix`` where it says nothing: BT.601 up to 576 lines, else BT.709."""
    from apisr.video.colour import describe

    guess = describe(
        matrix=2, primaries=2, transfer=2, colour_range=0, height=clip.height, pixel_format="yuv420p"
    ).matrix

    def checked(n: int, f: _Frame) -> _Frame:
        if f.props.get("_FieldBased"):
            raise InputError(
                f"frame {n} is interlaced (_FieldBased). Deinterlace the clip first, or call std.SetFieldBased(0).",
                code="interlaced",
            )
        if not tag or f.props.get("_Matrix") not in _GUESSED:
            return f
        copy = f.copy()
        copy.props["_Matrix"] = guess
        return copy

    return clip.std.ModifyFrame(clips=clip, selector=checked)


def _selector(frames: FrameSequence) -> Callable[[int, Sequence[_Frame]], _Frame]:
    """Return what fills an empty frame with the upscaled one."""

    def fill(n: int, f: Sequence[_Frame]) -> _Frame:
        empty, source = f
        output = frames(np.stack([np.asarray(source[plane]) for plane in range(3)], axis=2))
        filled = empty.copy()
        for plane in range(3):
            np.asarray(filled[plane])[:] = output[..., plane]
        return filled

    return fill


def _converted(rgb: _Clip, source: _Clip, layout: _Format) -> _Clip:
    """Bring RGB frames to a format, each with matrix, range and chroma position of its frame in `source`."""
    blank = rgb.std.BlankClip(format=layout.id, keep=True)
    made: dict[tuple[object, ...], _Clip] = {}

    def chosen(n: int, f: _Frame) -> _Clip:
        colour = _colour(f.props) if layout.color_family != rgb.format.color_family else {}  # type: ignore[union-attr]
        key = tuple(colour.values())
        if key not in made:
            made[key] = rgb.resize.Bicubic(format=layout.id, **colour)
        return made[key]

    return blank.std.FrameEval(eval=chosen, prop_src=source, clip_src=rgb)


def _colour(properties: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments of a conversion to YUV or gray that bring about some frame properties."""
    named = set(properties)  # an earlier VapourSynth has _ColorRange, where 0 is full
    full = properties["_Range"] == 1 if "_Range" in named else "_ColorRange" in named and properties["_ColorRange"] == 0
    found: dict[str, object] = {"matrix": properties["_Matrix"], "range_s": "full" if full else "limited"}
    if "_ChromaLocation" in named:
        found["chromaloc"] = properties["_ChromaLocation"]
    return found
