"""Degradation: in memory against one ffmpeg pair and PNG files per picture.

The same drawn parameters (preset `apisr`, x4, whole 1280x720 pictures) are executed twice, in turn: by `apisr.degrade`,
and by the method of the released reference implementation: blur, noise and resizing as torch operations on the
processor, JPEG, WebP and AVIF in memory as here, and for the video codecs a PNG file, an `ffmpeg` process that encodes
it, a second one that decodes it, and a PNG file back. Times are processor time of this process and its children, in
milliseconds a picture, so that they are times on one core; both sides may use one thread. Below: one video codec step
on a 320x180 picture, and how our own time divides (its "codecs" row is the time spent inside encoders and decoders).

Run: python -m benchmarks degrade --dry-run
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from apisr.degrade import Parameters, apply, codecs, load_recipe, sample
from apisr.degrade.pixels import to_bytes
from apisr.degrade.recipe import run_stage
from apisr.degrade.stages import make_kernel
from benchmarks import Skip

NEEDS = ("torch",)
SIZE = (720, 1280)
Row = dict[str, object]

_PROGRAM = {
    "mpeg2": ("mpeg2video", ".mpg", lambda stage: ["-q:v", str(stage["quantizer"])]),
    "mpeg4": ("mpeg4", ".mp4", lambda stage: ["-q:v", str(stage["quantizer"])]),
    "h264": ("libx264", ".mp4", lambda stage: ["-crf", str(stage["crf"]), "-preset", stage["preset"]]),
    "h265": (
        "libx265",
        ".mp4",
        lambda stage: ["-crf", str(stage["crf"]), "-preset", stage["preset"], "-x265-params", "log-level=none"],
    ),
}


def run(*, quick: bool = False) -> list[Row]:
    """Measure; see the module's text."""
    import torch

    if shutil.which("ffmpeg") is None:
        raise Skip("the ffmpeg program is not installed")
    pictures = [scene(seed) for seed in range(3)]
    generator = np.random.default_rng(2024)
    drawn = [sample(load_recipe("apisr", scale=4), generator, *SIZE) for _ in range(8 if quick else 40)]
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        return [*_whole(pictures, drawn), *_steps(pictures[0], quick=quick), *_shares(pictures, drawn)]
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def scene(seed: int) -> np.ndarray:
    """Draw a 1280x720 picture with flat cels, dark lines and a soft background, as a drawing has."""
    generator = np.random.default_rng(seed)
    soft = generator.integers(40, 255, (6, 9, 3), dtype=np.uint8)
    image = Image.fromarray(soft).resize(SIZE[::-1], Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = generator.integers(0, SIZE[1]), generator.integers(0, SIZE[0])
        width, height = generator.integers(20, 260, 2)
        fill = tuple(int(value) for value in generator.integers(60, 255, 3))
        draw.ellipse(
            (x, y, x + width, y + height), fill=fill, outline=(20, 15, 25), width=int(generator.integers(2, 5))
        )
    for _ in range(90):
        points = generator.normal(0, 60, (4, 2)) + generator.uniform((0, 0), SIZE[::-1])
        draw.line(
            [tuple(point) for point in points], fill=(25, 20, 30), width=int(generator.integers(1, 4)), joint="curve"
        )
    return np.asarray(image)


def _whole(pictures: list[np.ndarray], drawn: list[Parameters]) -> list[Row]:
    apply(pictures[0], drawn[0])  # tables are made once
    ours = theirs = 0.0
    for index, parameters in enumerate(drawn):
        picture = pictures[index % len(pictures)]
        with tempfile.TemporaryDirectory() as folder:
            theirs += _spent(lambda: reference_method(picture, parameters, Path(folder)))  # noqa: B023 - called at once
        ours += _spent(lambda: apply(picture, parameters))  # noqa: B023
    return [_row(f"whole picture, {len(drawn)} draws", ours / len(drawn), theirs / len(drawn))]


def _steps(picture: np.ndarray, *, quick: bool) -> Iterator[Row]:
    small = np.asarray(Image.fromarray(picture).resize((320, 180), Image.Resampling.BOX))
    stages: list[dict[str, Any]] = [
        {"codec": "h264", "crf": 30, "preset": "medium"},
        {"codec": "h265", "crf": 35, "preset": "medium"},
        {"codec": "mpeg2", "quantizer": 12},
        {"codec": "mpeg4", "quantizer": 12},
    ]
    for stage in stages:
        settings = {key: value for key, value in stage.items() if key != "codec"}
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(3 if quick else 8):
            with tempfile.TemporaryDirectory() as folder:
                theirs.append(_spent(lambda: _program(small, stage, Path(folder))))  # noqa: B023
            ours.append(_spent(lambda: codecs.round_trip(small, stage["codec"], **settings)))  # noqa: B023
        yield _row(f"{stage['codec']}, 320x180, one frame", float(np.median(ours)), float(np.median(theirs)))


def _shares(pictures: list[np.ndarray], drawn: list[Parameters]) -> Iterator[Row]:
    spent: defaultdict[str, float] = defaultdict(float)
    for index, parameters in enumerate(drawn):
        state: Any = pictures[index % len(pictures)]
        for stage in parameters["stages"]:
            name = stage["stage"]
            with _timed(spent, name):
                result = run_stage(state, stage)
            if name == "compress":
                spent["codecs"] += _codec_alone(to_bytes(state), stage)
            state = result
    for name in ("blur", "noise", "resize", "compress", "codecs"):
        label = "of compress: inside the codecs" if name == "codecs" else f"of ours: {name}"
        yield _row(label, spent[name] / len(drawn), None)


def reference_method(picture: np.ndarray, parameters: Parameters, folder: Path) -> np.ndarray:
    """Execute drawn parameters as the reference implementation does; returns the low picture, uint8."""
    import torch
    from torch.nn import functional

    tensor = torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / 255)

    def pixels() -> np.ndarray:
        rounded = (tensor.clamp(0, 1) * 255).round().to(torch.uint8)
        return np.ascontiguousarray(rounded[0].permute(1, 2, 0).numpy())

    for stage in parameters["stages"]:
        name = stage["stage"]
        if name == "blur":
            kernel = make_kernel(stage)
            padding = (21 - len(kernel)) // 2  # all kernels are padded to 21
            weight = torch.from_numpy(np.pad(kernel, padding).astype(np.float32))[None, None]
            padded = functional.pad(tensor, (10, 10, 10, 10), mode="reflect")
            tensor = functional.conv2d(padded.transpose(0, 1), weight).transpose(0, 1)
        elif name == "noise":
            torch.manual_seed(stage["seed"] % 2**31)
            tensor = _torch_noise(tensor, stage)
        elif name == "resize":
            options = {} if stage["mode"] == "area" else {"align_corners": False}
            size = (stage["height"], stage["width"])
            tensor = functional.interpolate(tensor, size=size, mode=stage["mode"], **options)
        else:
            if stage["codec"] in _PROGRAM:
                decoded = _program(pixels(), stage, folder)
            else:
                settings = {key: value for key, value in stage.items() if key not in ("stage", "codec")}
                decoded = codecs.round_trip(pixels(), stage["codec"], **settings).picture
            tensor = torch.from_numpy(decoded.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    result = pixels()
    Image.fromarray(result).save(folder / "low.png")
    return result


def _torch_noise(tensor: Any, stage: dict[str, Any]) -> Any:
    import torch

    height, width = tensor.shape[2:]
    channels = 1 if stage["gray"] else 3
    if stage["kind"] == "gaussian":
        noise = torch.randn(1, channels, height, width) * stage["sigma"] / 255
    else:
        source = tensor
        if stage["gray"]:
            source = (tensor * torch.tensor([0.2989, 0.587, 0.114])[None, :, None, None]).sum(1, keepdim=True)
        source = (source * 255).round().clamp(0, 255) / 255
        counts = 2 ** np.ceil(np.log2(len(torch.unique(source))))
        noise = (torch.poisson(source * counts) / counts - source) * stage["scale"]
    return (tensor + noise).clamp(0, 1)


def _program(picture: np.ndarray, stage: dict[str, Any], folder: Path) -> np.ndarray:
    encoder, ending, options = _PROGRAM[stage["codec"]]
    source, coded, target = folder / "in.png", folder / f"coded{ending}", folder / "out.png"
    Image.fromarray(picture).save(source)
    quiet = ["ffmpeg", "-y", "-v", "error"]
    encode = [*quiet, "-i", str(source), "-pix_fmt", "yuv420p", "-c:v", encoder, *options(stage), str(coded)]
    subprocess.run(encode, check=True, capture_output=True)
    subprocess.run([*quiet, "-i", str(coded), "-frames:v", "1", str(target)], check=True, capture_output=True)
    with Image.open(target) as image:
        return np.asarray(image.convert("RGB"))


def _codec_alone(picture: np.ndarray, stage: dict[str, Any]) -> float:
    """Time of one encode and decode, without conversions of arrays and colours."""
    import io

    import av

    settings = {key: value for key, value in stage.items() if key not in ("stage", "codec")}
    codec = stage["codec"]
    if codec == "jpeg":
        swapped = np.ascontiguousarray(picture[..., ::-1])
        return _spent(
            lambda: cv2.imdecode(cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, settings["quality"]])[1], 1)
        )
    if codec in ("webp", "avif"):
        image = Image.fromarray(picture)
        extra = {"speed": 6, "max_threads": 1} if codec == "avif" else {}

        def both() -> None:
            stream = io.BytesIO()
            image.save(stream, codec.upper(), **settings, **extra)
            with Image.open(stream) as back:
                back.load()

        return _spent(both)
    kind = codecs.VIDEO_CODECS[codec]
    even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24").reformat(format=kind.pixel_format)
    frame.pts = 0
    options = kind.options(dict(settings))

    def code() -> None:
        encoder = av.CodecContext.create(kind.encoder, "w")
        encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, kind.pixel_format
        encoder.time_base, encoder.framerate, encoder.thread_count = Fraction(1, 25), Fraction(25), 1
        encoder.options = options
        packets = [*encoder.encode(frame), *encoder.encode(None)]
        decoder = av.CodecContext.create(kind.decoder, "r")
        decoder.thread_count = 1
        if encoder.extradata:
            decoder.extradata = encoder.extradata
        for packet in [*packets, None]:
            decoder.decode(packet)

    return _spent(code)


def _spent(work: Callable[[], object]) -> float:
    """Processor time of this process and its ended children while `work` runs, in milliseconds."""
    import os

    before = os.times()
    start = time.process_time()
    work()
    own = time.process_time() - start
    after = os.times()
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return 1000 * (own + children)


@contextmanager
def _timed(spent: defaultdict[str, float], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    spent[name] += 1000 * (time.process_time() - start)


def _row(what: str, ours: float, theirs: float | None) -> Row:
    ratio = None if theirs is None else theirs / ours
    return {"what": what, "ours ms": ours, "reference's method ms": theirs, "times faster": ratio}
