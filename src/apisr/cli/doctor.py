"""``apisr doctor``: what is installed, which devices, engines and codecs can be used."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from apisr.cli.completing import ENCODERS
from apisr.cli.helping import examples
from apisr.cli.options import JsonOption

EXAMPLES = examples(
    "apisr doctor",
    "apisr doctor --benchmark               which engine is fastest here",
    "apisr doctor --json                    for scripts and reports of bugs",
    "apisr upscale examples --dry-run       whether a run would work here",
)

#: Packages whose versions are shown.
_PACKAGES = (
    "numpy",
    "onnxruntime",
    "openvino",
    "ncnn",
    "av",
    "opencv-python-headless",
    "pillow",
    "torch",
    "spandrel",
    "pyiqa",
    "lightning",
    "ray",
)
#: From this PSNR on, two outputs are called the same.
_SAME_DB = 90.0


def command(
    measure: Annotated[
        bool, typer.Option("--benchmark", help="Measure every engine, device and precision on this machine.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show versions, devices, engines and codecs of this installation."""
    from apisr.cli.output import say, say_json

    if measure:
        _benchmark(as_json=as_json)
        return
    examined = _examine()
    if as_json:
        say_json(examined)
        return
    for section, content in examined.items():
        say(f"{section}:")
        for key, value in content.items():
            say(f"    {key}: {value}")


def _benchmark(*, as_json: bool) -> None:
    from apisr.cli.output import say, say_json
    from apisr.engines.benchmark import benchmark

    result = benchmark()
    if as_json:
        say_json(result)
        return
    say(f"{result.model}, frames of 640x360, {result.threads} processor threads:")
    say(f"{'engine':<10} {'device':<10} {'precision':<10} {'frames/s':>9} {'dB to fp32':>11}")
    for row in result.rows:
        exact = "same" if row.psnr_db >= _SAME_DB else f"{row.psnr_db:.1f}"
        text = f"{row.frames_per_s:>9.2f} {exact:>11}" if not row.problem else f"  does not run: {row.problem}"
        mark = "   <- auto" if row.automatic else ""
        say(f"{row.engine:<10} {row.device:<10} {row.precision:<10} {text}{mark}")
    say(result.advice)


def _examine() -> dict[str, dict[str, Any]]:
    import importlib.metadata
    import platform
    import sys

    from PIL import features

    from apisr.core.version import __version__
    from apisr.engines import ENGINES, engine_kind
    from apisr.engines.base import usable_threads
    from apisr.weights import list_models

    packages: dict[str, Any] = {}
    for name in _PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = "not installed"
    devices = {name: engine_kind(name).devices() for name in ENGINES}
    return {
        "system": {
            "apisr": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processor threads": usable_threads(),
            "executable": sys.executable,
        },
        "packages": packages,
        "devices": {
            name: ", ".join(f"{device} ({title})" for device, title in found.items()) or "not installed"
            for name, found in devices.items()
        },
        "models": {model.name: f"x{model.scale}, {model.architecture}" for model in list_models()},
        "video encoders": {name: "yes" if _encodes(name) else "no" for name in ENCODERS},
        "picture formats": {
            name: "yes" if features.check(feature) else "no"
            for name, feature in (
                ("JPEG", "jpg"),
                ("PNG", "zlib"),
                ("WebP", "webp"),
                ("AVIF", "avif"),
                ("TIFF", "libtiff"),
            )
        },
    }


def _encodes(name: str) -> bool:
    """Tell whether the encoder can be used; hardware encoders are opened, since many are built in without a device."""
    from fractions import Fraction

    import av
    import av.logging
    from av.codec import Codec, CodecContext
    from av.codec.codec import UnknownCodecError
    from av.error import FFmpegError

    try:
        codec = Codec(name, "w")
    except UnknownCodecError:
        return False
    if not name.endswith(("_nvenc", "_qsv", "_vaapi", "_videotoolbox", "_amf")):
        return True
    level = av.logging.get_level()
    av.logging.set_level(None)
    try:
        context: Any = CodecContext.create(codec, "w")
        context.width, context.height, context.pix_fmt, context.time_base = 256, 256, "yuv420p", Fraction(1, 24)
        context.open()
    except (FFmpegError, ValueError, OSError):
        return False
    finally:
        av.logging.set_level(level)
    return True
