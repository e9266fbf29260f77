"""Picture codecs: JPEG and WebP through OpenCV and Pillow, AVIF through Pillow. All code 4:2:0."""

from __future__ import annotations

import io
from typing import cast

import cv2
import numpy as np
from PIL import Image

from apisr.core.errors import RunError
from apisr.degrade.codecs.base import CodecSettings, PictureCodec, RoundTrip, check_all_taken, taken
from apisr.image import ImageU8


def jpeg(picture: ImageU8, settings: CodecSettings) -> RoundTrip:
    """Take `quality` (1 to 100).

    Raises:
        InputError: a setting that is missing, unknown or out of range.
        RunError: the codec fails.
    """
    quality = int(taken(settings, "quality", None, 1, 100))
    check_all_taken("jpeg", settings)
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
    if decoded is None:
        raise _failed("jpeg", picture, "the coded picture cannot be decoded")
    return RoundTrip(cast("ImageU8", cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)), int(data.size))


def webp(picture: ImageU8, settings: CodecSettings) -> RoundTrip:
    """Take `quality` (1 to 100) and `method` (0 fast to 6).

    Raises:
        InputError: a setting that is missing, unknown or out of range.
        RunError: the codec fails.
    """
    quality, method = int(taken(settings, "quality", None, 1, 100)), int(taken(settings, "method", 4, 0, 6))
    check_all_taken("webp", settings)
    data = _saved("webp", picture, quality=quality, method=method)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # without Pillow's way through RGBA
    if decoded is None:
        raise _failed("webp", picture, "the coded picture cannot be decoded")
    return RoundTrip(cast("ImageU8", cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)), len(data))


def avif(picture: ImageU8, settings: CodecSettings) -> RoundTrip:
    """Take `quality` (1 to 100) and `speed` (0 to 10).

    Raises:
        InputError: a setting that is missing, unknown or out of range.
        RunError: the codec fails.
    """
    quality, speed = int(taken(settings, "quality", None, 1, 100)), int(taken(settings, "speed", 6, 0, 10))
    check_all_taken("avif", settings)
    data = _saved("avif", picture, quality=quality, speed=speed, subsampling="4:2:0", max_threads=1)
    try:
        with Image.open(io.BytesIO(data)) as image:
            decoded = np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise _failed("avif", picture, error) from error
    return RoundTrip(decoded, len(data))


def _saved(codec: str, picture: ImageU8, **options: int | str) -> bytes:
    stream = io.BytesIO()
    try:
        Image.fromarray(picture).save(stream, codec.upper(), **options)
    except (OSError, ValueError, KeyError) as error:
        raise _failed(codec, picture, error) from error
    return stream.getvalue()


def _failed(codec: str, picture: ImageU8, reason: object) -> RunError:
    height, width = picture.shape[:2]
    return RunError(f"the {codec} codec failed on a {width}x{height} picture: {reason}.", code="codec-failed")


#: Name -> codec.
CODECS: dict[str, PictureCodec] = {"jpeg": jpeg, "webp": webp, "avif": avif}
