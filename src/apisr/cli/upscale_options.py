"""The options of ``apisr upscale`` and ``apisr watch``, in groups, and what the library makes of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from apisr.cli import completing, parsers
from apisr.cli.options import (
    PICTURES,
    RUNNING,
    VIDEOS,
    ClusterOption,
    DeviceOption,
    ModelOption,
    OverwriteOption,
    ProfileOption,
    ScaleOption,
    ThreadsOption,
    TtaOption,
    is_typed,
)

if TYPE_CHECKING:
    from apisr.upscale.options import NativeResolution, UpscaleOptions, VideoOptions

Group = TypeVar("Group", "Pictures", "Encoding", "Frames", "Part")

OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder or file to write; by default name_x2.ext beside the input, or for a folder the folder name_x2.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Result:
    """What comes out: size, model, and what may be replaced."""

    scale: ScaleOption = None
    height: Annotated[
        int | None,
        typer.Option(
            "--height",
            help="Lines of the output, in place of --scale (1080, 2160); the model follows.",
            parser=parsers.lines,
            metavar="LINES",
            show_default=False,
        ),
    ] = None
    model: ModelOption = None
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            help="0 keeps to the source, 1 is vivid, for models that have a NAME-vivid beside NAME.",
            min=0,
            max=1,
            show_default=False,
        ),
    ] = None
    source: Annotated[
        Literal["auto", "crisp", "soft"],
        typer.Option(
            "--source",
            help="crisp or soft at its own size: which weights of a pair are taken where no strength is given.",
        ),
    ] = "auto"
    tta: TtaOption = False
    profile: ProfileOption = None
    overwrite: OverwriteOption = False
    provenance: Annotated[
        bool,
        typer.Option(
            "--provenance/--no-provenance", help="Write the program, the model and the settings into the outputs."
        ),
    ] = True


@dataclass(frozen=True)
class Pictures:
    """What concerns pictures only."""

    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="|".join(parsers.PICTURE_FORMATS),
            parser=parsers.one_of(parsers.PICTURE_FORMATS, parsers.FORMAT_ALIASES),
            help="Format of picture outputs; by default that of the input.",
            autocompletion=completing.words(parsers.PICTURE_FORMATS),
            show_default=False,
            rich_help_panel=PICTURES,
        ),
    ] = None
    quality: Annotated[
        int | None,
        typer.Option(
            "--quality",
            help="Quality of JPEG, WebP and AVIF.",
            min=1,
            max=100,
            show_default=False,
            rich_help_panel=PICTURES,
        ),
    ] = None
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            help="Side of the pieces that go through the network at once, in pixels; by default what fits the memory.",
            min=16,
            show_default=False,
            rich_help_panel=PICTURES,
        ),
    ] = None

    max_pixels: Annotated[
        int | None,
        typer.Option(
            "--max-pixels",
            help="Refuse pictures of more pixels; by default what fits the memory.",
            min=1,
            show_default=False,
            rich_help_panel=PICTURES,
        ),
    ] = None


@dataclass(frozen=True)
class Encoding:
    """How videos are encoded."""

    purpose: Annotated[
        Literal["archive", "share", "edit"] | None,
        typer.Option(
            "--purpose",
            help="archive (FFV1 in mkv), share (H.264 in mp4), edit (ProRes in mov).",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None
    container: Annotated[
        str | None,
        typer.Option(
            "--container",
            metavar="|".join(parsers.CONTAINERS),
            parser=parsers.one_of(parsers.CONTAINERS, {"matroska": "mkv"}),
            help="Container of video outputs; by default that of the input.",
            autocompletion=completing.words(parsers.CONTAINERS),
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            help="Video encoder: libx264, libx265, libsvtav1, h264_nvenc, ...; by default that of the container.",
            show_default=False,
            rich_help_panel=VIDEOS,
            autocompletion=completing.words(completing.ENCODERS),
        ),
    ] = None
    crf: Annotated[
        float | None,
        typer.Option(
            "--crf",
            help="Constant quality, lower is better; by default what suits the encoder.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="Speed preset of the encoder.",
            show_default=False,
            rich_help_panel=VIDEOS,
            autocompletion=completing.words(completing.SPEEDS),
        ),
    ] = None
    pix_fmt: Annotated[
        str | None,
        typer.Option(
            "--pix-fmt",
            help="Pixel format; by default depth and subsampling of the source.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None
    encoder_options: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder-option",
            metavar="KEY=VALUE",
            help="Any option of the encoder; may be repeated.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None


@dataclass(frozen=True)
class Frames:
    """Which streams and frames are taken, and what is done to frames before the network."""

    video_stream: Annotated[
        int | None,
        typer.Option(
            "--video-stream",
            metavar="N",
            help="Number of the video stream; by default the main one.",
            min=0,
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None
    drop_streams: Annotated[
        list[str] | None,
        typer.Option(
            "--drop-streams",
            metavar="STREAM",
            help="Leave out streams: a number, subtitle, attachment, data, audio, cover, or unsupported. Repeatable.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None
    deinterlace: Annotated[
        Literal["auto", "on", "off"],
        typer.Option("--deinterlace", help="auto asks the flags and looks at the pictures.", rich_help_panel=VIDEOS),
    ] = "auto"
    detelecine: Annotated[
        bool, typer.Option("--detelecine", help="Restore 24 frames from 3:2 film material.", rich_help_panel=VIDEOS)
    ] = False
    native_resolution: Annotated[
        str,
        typer.Option(
            "--native-resolution",
            metavar="off|auto|LINES",
            parser=parsers.native_lines,
            help="Shrink to the size the video was drawn at before the network; auto estimates it.",
            rich_help_panel=VIDEOS,
        ),
    ] = "off"
    hold: Annotated[
        Literal["off", "auto", "strong"],
        typer.Option(
            "--hold",
            help="Hold drawings that a codec changes a little in every frame; saves work, stops shimmer.",
            rich_help_panel=VIDEOS,
        ),
    ] = "auto"
    reuse: Annotated[
        Literal["exact", "off"],
        typer.Option(
            "--reuse",
            help="Compute only what changed between frames (same result, bit for bit), or every frame whole.",
            rich_help_panel=VIDEOS,
        ),
    ] = "exact"
    rate: Annotated[
        Fraction | None,
        typer.Option(
            "--rate",
            metavar="FPS",
            parser=parsers.frame_rate,
            help="Frames per second of numbered pictures (frames/%05d.png): 24, 24000/1001.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None


@dataclass(frozen=True)
class Part:
    """Which part of a video, and how it is shown."""

    start: Annotated[
        Fraction | None,
        typer.Option(
            "--start",
            metavar="TIME",
            parser=parsers.seconds,
            help="Begin at: 90, 1:30 or 0:01:30.5.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None
    end: Annotated[
        Fraction | None,
        typer.Option(
            "--end",
            metavar="TIME",
            parser=parsers.seconds,
            help="Stop before.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None
    preview: Annotated[
        parsers.TimeRange | None,
        typer.Option(
            "--preview",
            metavar="LENGTH@TIME",
            parser=parsers.time_range,
            help="Only a part, for a look: 5s@00:10:00.",
            show_default=False,
            rich_help_panel=VIDEOS,
        ),
    ] = None
    compare: Annotated[
        Literal["side", "wipe"] | None,
        typer.Option("--compare", help="Source and result in one clip.", show_default=False, rich_help_panel=VIDEOS),
    ] = None
    accept_damage: Annotated[
        bool,
        typer.Option(
            "--accept-damage", help="Finish although parts of the source cannot be decoded.", rich_help_panel=VIDEOS
        ),
    ] = False
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Throw away an interrupted run instead of continuing it.", rich_help_panel=VIDEOS
        ),
    ] = False

    def range(self) -> tuple[Fraction | None, Fraction | None]:
        """Return begin and end in seconds.

        Raises:
            InputError: --preview together with --start or --end, or an end before the start.
        """
        from apisr.core.errors import InputError

        if self.preview is not None:
            if self.start is not None or self.end is not None:
                raise InputError("--preview was given with --start or --end. Give one or the other.", code="bad-range")
            return self.preview.begin, self.preview.end
        if self.end is not None and self.end <= (self.start or 0):
            raise InputError(
                f"expected an end after the start, got {float(self.start or 0):g} s to {float(self.end):g} s.",
                code="bad-range",
            )
        return self.start, self.end


@dataclass(frozen=True)
class Running:
    """Where and how the work is done."""

    engine: Annotated[
        Literal["auto", "onnx", "openvino", "ncnn", "torch"],
        typer.Option(
            "--engine", help="What runs the network; auto measures (see 'apisr doctor').", rich_help_panel=RUNNING
        ),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "bf16", "int8"],
        typer.Option(
            "--precision",
            help="Of the network's arithmetic; auto takes the fastest that is accurate enough.",
            rich_help_panel=RUNNING,
        ),
    ] = "auto"
    device: DeviceOption = "auto"
    threads: ThreadsOption = None
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Segments upscaled at the same time (1); with --cluster its workers (one a card, else one a machine).",
            min=1,
            show_default=False,
            rich_help_panel=RUNNING,
        ),
    ] = None
    cluster: ClusterOption = None


@dataclass(frozen=True)
class Choice:
    """All groups of a command line together."""

    result: Result
    pictures: Pictures
    encoding: Encoding
    frames: Frames
    part: Part
    running: Running

    def options(self) -> UpscaleOptions:
        """Return the library's options.

        Raises:
            InputError: options contradict each other.
        """
        from apisr.upscale.options import PictureOptions, UpscaleOptions

        result, running = self.result, self.running
        return UpscaleOptions(
            model=result.model,
            strength=result.strength,
            source=result.source,
            scale=result.scale,
            height=result.height,
            engine=running.engine,
            precision=running.precision,
            device=running.device,
            threads=running.threads,
            tta=result.tta,
            overwrite=result.overwrite,
            provenance=result.provenance,
            cluster=running.cluster,
            workers=running.workers,
            picture=PictureOptions(
                tile_px=self.pictures.tile,
                quality=self.pictures.quality,
                format=self.pictures.format,
                max_pixels=self.pictures.max_pixels,
            ),
            video=self._video_options(),
        )

    def without_settings(self, context: typer.Context, *groups: str) -> Choice:
        """Return the choice with only what stands on the command line in some groups (``"pictures"``, ...)."""
        return replace(self, **{name: _given_only(getattr(self, name), context) for name in groups})

    def _video_options(self) -> VideoOptions:
        from apisr.upscale.options import VideoOptions

        encoding, frames, part = self.encoding, self.frames, self.part
        begin, end = part.range()
        return VideoOptions(
            codec=encoding.codec,
            crf=encoding.crf,
            preset=encoding.preset,
            pix_fmt=encoding.pix_fmt,
            encoder_options=tuple(parsers.key_value(option) for option in encoding.encoder_options or ()),
            purpose=encoding.purpose,
            container=encoding.container,
            reuse=frames.reuse,
            hold=frames.hold,
            native_resolution=_native_resolution(frames.native_resolution),
            deinterlace=frames.deinterlace,
            detelecine=frames.detelecine,
            stream=frames.video_stream,
            drop_streams=tuple(frames.drop_streams or ()),
            start=begin,
            end=end,
            compare=part.compare,
            rate=frames.rate,
            accept_damage=part.accept_damage,
            restart=part.restart,
        )


def _given_only(group: Group, context: typer.Context) -> Group:
    """Return a group with the defaults in place of what does not stand on the command line."""
    typed = {field.name: getattr(group, field.name) for field in fields(group) if is_typed(context, field.name)}
    return type(group)(**typed)


def _native_resolution(text: str) -> NativeResolution:
    if text == "auto":
        return "auto"
    return "off" if text == "off" else int(text)
