"""What all codecs share: the result of a round trip, one entry of the registry, and the reading of settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from apisr.core.errors import InputError
from apisr.image import ImageU8

Matrix = Literal["bt601", "bt709"]
#: Settings of one round trip by name; each codec takes out what it knows.
CodecSettings = dict[str, object]


@dataclass(frozen=True)
class RoundTrip:
    """A picture after coding and decoding.

    Attributes:
        picture: ``(H, W, 3)`` uint8 RGB, the size of the input.
        size_bytes: what the coded picture takes (for video codecs: all packets).
    """

    picture: ImageU8
    size_bytes: int


class PictureCodec(Protocol):
    """Codes one picture in memory and decodes it."""

    def __call__(self, picture: ImageU8, settings: CodecSettings) -> RoundTrip:
        """Code and decode; the settings that are known are taken out of `settings`."""
        ...


class VideoOptions(Protocol):
    """Makes the encoder's options of our settings."""

    def __call__(self, settings: CodecSettings) -> Mapping[str, str]:
        """Take the settings that are known out of `settings` and return the encoder's options."""
        ...


@dataclass(frozen=True)
class VideoCodec:
    """One video codec of FFmpeg's libraries.

    Attributes:
        encoder: name of the encoder.
        decoder: name of the decoder.
        options: see :class:`VideoOptions`.
        pixel_format: of the coded frames; ``yuvj420p`` is 4:2:0 with full range.
        smallest_px: least side that the encoder takes.
        realtime: whether the encoder leaves its threads under the real-time scheduler.
    """

    encoder: str
    decoder: str
    options: VideoOptions
    pixel_format: str = "yuv420p"
    smallest_px: int = 2
    realtime: bool = False


def taken(settings: CodecSettings, name: str, default: float | None, low: float, high: float) -> float:
    """Take a number out of the settings.

    Raises:
        InputError: it is missing and has no default, or is not a number in ``[low, high]``.
    """
    value = settings.pop(name, default)
    if value is None:
        raise InputError(
            f"the setting '{name}' is missing: give a value from {low} to {high}.", code="codec-setting-missing"
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(
            f"{name} {value!r} is out of range. Give a value from {low} to {high}.", code="codec-setting-range"
        )
    return value


def check_all_taken(codec: str, settings: CodecSettings) -> None:
    """Check that no setting is left, which the codec would not know.

    Raises:
        InputError: one is left.
    """
    if settings:
        raise InputError(
            f"the codec {codec} has no setting '{next(iter(settings))}'. Take it out.", code="codec-setting-unknown"
        )
