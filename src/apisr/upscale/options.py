"""What may be chosen about upscaling: one frozen dataclass for the run, one for pictures, one for videos.

The command, the Python functions and the page fill in the same three classes. Importing this module is cheap.

>>> options = UpscaleOptions(scale=4, video=VideoOptions(crf=16))
>>> options.video.codec is None
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from apisr.upscale.sizes import SizeRequest

if TYPE_CHECKING:
    from apisr.engines import PrecisionChoice
    from apisr.image import Resampling
    from apisr.video.encoders import Purpose
    from apisr.weights import Model

Reuse = Literal["exact", "off"]
SourceKind = Literal["auto", "crisp", "soft"]
Hold = Literal["off", "auto", "strong"]
NativeResolution = Literal["off", "auto"] | int
Deinterlace = Literal["auto", "on", "off"]
Compare = Literal["side", "wipe"]

#: A segment has at least this many frames (about ten seconds of film): so much is lost at most by a crash.
SEGMENT_FRAMES = 240


@dataclass(frozen=True)
class PictureOptions:
    """What may be chosen about pictures.

    Attributes:
        tile_px: side of the tiles that go through the network; None for what the memory allows, 512 at most.
        quality: quality of JPEG, WebP and AVIF from 1 to 100; None for the default of the format.
        format: ending of the outputs (``"png"``); None keeps that of the input.
        max_pixels: refuse inputs of more pixels than this; None: what the memory allows.
        provenance: what made the output, written into it where its format has a place.
    """

    tile_px: int | None = None
    quality: int | None = None
    format: str | None = None
    max_pixels: int | None = None
    provenance: Mapping[str, str] | None = None


@dataclass(frozen=True)
class VideoOptions:
    """What may be chosen about videos.

    Attributes:
        codec: encoder, by libav's name or a usual one; None for the default of the container.
        crf: quality on the encoder's own scale; None for its default.
        preset: speed setting of the encoder.
        pix_fmt: pixel format; None keeps depth and subsampling of the source.
        encoder_options: further options of the encoder.
        purpose: ``archive`` (FFV1), ``share`` (H.264, 8 bits, MP4), ``edit`` (ProRes); the options above win.
        container: ending of the outputs (``"mkv"``); None keeps that of the input where it can be written.
        resampling: how the network's output is brought to another final size.
        reuse: ``exact`` computes only what changed between frames, with the same bits; ``off`` computes every frame.
        hold: whether drawings that a codec changes a little in every frame are held (:mod:`apisr.upscale.hold`).
        stream: number of the video stream; None for the main one.
        native_resolution: ``off``, ``auto`` or a number of lines: frames are shrunk to the size they were drawn at.
        deinterlace: ``auto`` looks at the flags and at the first seconds; ``on``; ``off``.
        detelecine: restore 24 frames from 3:2 material (the number of frames changes).
        drop_streams: streams to leave out, see :func:`apisr.video.streams.plan_streams`.
        start: seconds to begin at.
        end: seconds to stop before.
        compare: write source and result side by side, or divided by a line, instead of the result alone.
        rate: frames per second of numbered pictures (``frames/%05d.png``); 24000/1001 if it is not given.
        accept_damage: finish although parts of the source cannot be decoded.
        segment_frames: least number of frames in a segment.
        restart: throw away an interrupted run instead of continuing it.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    encoder_options: tuple[tuple[str, str], ...] = ()
    purpose: Purpose | None = None
    container: str | None = None
    resampling: Resampling = "lanczos"
    reuse: Reuse = "exact"
    hold: Hold = "auto"
    native_resolution: NativeResolution = "off"
    stream: int | None = None
    deinterlace: Deinterlace = "auto"
    detelecine: bool = False
    drop_streams: tuple[str, ...] = ()
    start: Fraction | None = None
    end: Fraction | None = None
    compare: Compare | None = None
    rate: Fraction | None = None
    accept_damage: bool = False
    segment_frames: int = SEGMENT_FRAMES
    restart: bool = False


@dataclass(frozen=True)
class UpscaleOptions:
    """How the files of a run are upscaled.

    Attributes:
        model: name or file of a model, or a model; None for the shipped one that fits the factor.
        strength: 0 (faithful) to 1 (crisp) where the model has a crisp twin; None lets `source` decide.
        source: ``crisp`` sources get strength 0 and ``soft`` ones strength 1 of a model whose twin is trained for soft
            sources; ``auto`` measures each file (:mod:`apisr.upscale.softness`).
        scale: factor of the outputs; None for the model's own.
        height: rows of the outputs, in place of a factor.
        engine: what runs the network.
        device: where it runs: ``auto``, ``cpu``, ``cuda``, ...
        precision: of the network's arithmetic; ``auto`` takes the fastest that stays above 50 dB of fp32.
        threads: processor threads of the network, on a cluster those of one worker; None for all.
        tta: mean over eight flips and turns of each tile (test-time augmentation).
        overwrite: replace existing outputs.
        provenance: write the program, model and settings into the outputs.
        cluster: address of a Ray cluster (``"host:6379"``, ``"auto"``, ``"local"``); None for this process.
        workers: segments upscaled at the same time; on a cluster its workers.
        picture: what concerns pictures only.
        video: what concerns videos only.
    """

    model: Model | str | Path | None = None
    strength: float | None = None
    source: SourceKind = "auto"
    scale: float | None = None
    height: int | None = None
    engine: str = "auto"
    device: str = "auto"
    precision: PrecisionChoice = "auto"
    threads: int | None = None
    tta: bool = False
    overwrite: bool = False
    provenance: bool = True
    cluster: str | None = None
    workers: int | None = None
    picture: PictureOptions = field(default_factory=PictureOptions)
    video: VideoOptions = field(default_factory=VideoOptions)

    @property
    def size(self) -> SizeRequest:
        """The size of the outputs."""
        return SizeRequest(self.scale, self.height)

    @property
    def portable(self) -> UpscaleOptions:
        """The options without the model, which travels to other machines by itself."""
        return replace(self, model=None)
