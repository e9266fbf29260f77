"""What the shell completes: names of models, codecs, presets and profiles. Files and folders are the shell's own."""

from __future__ import annotations

from collections.abc import Callable, Collection

from apisr.cli.parsers import names

#: Video encoders that are completed, and looked for by 'apisr doctor'.
ENCODERS = (
    "libx264",
    "libx265",
    "libsvtav1",
    "libaom-av1",
    "libvpx-vp9",
    "ffv1",
    "prores_ks",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_qsv",
    "hevc_qsv",
    "h264_vaapi",
    "hevc_vaapi",
    "h264_videotoolbox",
    "hevc_videotoolbox",
    "h264_amf",
    "hevc_amf",
)
#: Speed settings of libx264 and libx265, from the fastest.
SPEEDS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


def words(known: Collection[str]) -> Callable[[str], list[str]]:
    """Return what completes some words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete


def models(incomplete: str) -> list[str]:
    """Return shipped models that begin so."""
    from apisr.weights import list_models

    return [model.name for model in list_models() if model.name.startswith(incomplete)]


def releases(incomplete: str) -> list[str]:
    """Return official releases that can be fetched and begin so."""
    from apisr.weights.releases import CATALOGUE

    return [name for name in CATALOGUE if name.startswith(incomplete)]


def presets(package: str) -> Callable[[str], list[str]]:
    """Return what completes the presets of a package."""

    def complete(incomplete: str) -> list[str]:
        from apisr.core.config import Presets

        return [name for name in Presets(package).names() if name.startswith(incomplete)]

    return complete


def profiles(incomplete: str) -> list[str]:
    """Return profiles, shipped and own, that begin so."""
    from apisr.cli.settings import read_settings

    return [name for name in read_settings().profiles if name.startswith(incomplete)]


def metrics(incomplete: str) -> list[str]:
    """Return built-in metrics that complete the last of some names with commas."""
    from apisr.metrics.registry import built_in

    done, _, last = incomplete.rpartition(",")
    begin = f"{done}," if done else ""
    return [begin + name for name in built_in() if name.startswith(last) and name not in names(done)]
