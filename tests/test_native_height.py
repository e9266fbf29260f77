"""The native height of enlarged drawings is found; pictures that were never enlarged are left alone."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from curate_clips import scene
from PIL import Image

from apisr.core.errors import InputError
from apisr.video.native import NativeHeight, estimate_native_height

PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

#: The cases of the quick tests; the others are marked slow.
QUICK = {(720, "bicubic"), (810, "bilinear"), (900, "lanczos")}


def drawing(seed: int, height: int) -> np.ndarray:
    """A drawing of that height with fine detail, as an antialiased reduction of a larger one."""
    width = height * 16 // 9
    large = scene(seed, width=2 * width, height=2 * height, shapes=160)
    return np.asarray(Image.fromarray(large).resize((width, height), Image.Resampling.LANCZOS))


def enlarged(picture: np.ndarray, kernel: str, height: int = 1080) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((height * 16 // 9, height), PILLOW[kernel]))


def coded(picture: np.ndarray, crf: int) -> np.ndarray:
    """One H.264 intra frame and back."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = picture.shape[1], picture.shape[0], "yuv420p"
    encoder.time_base = Fraction(1, 24)
    encoder.thread_count = 1
    encoder.options = {"crf": str(crf), "preset": "medium"}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = 0, encoder.time_base
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    frames = [out for packet in packets for out in decoder.decode(packet)] + decoder.decode(None)
    return frames[0].to_ndarray(format="rgb24")


@pytest.mark.parametrize(
    ("height", "kernel"),
    [
        pytest.param(height, kernel, marks=() if (height, kernel) in QUICK else pytest.mark.slow)
        for height in (540, 720, 810, 900)
        for kernel in PILLOW
    ],
)
def test_synthetic_upscales_after_h264(height: int, kernel: str) -> None:
    """Asked: within 8 lines in 9 of 10. Here each of the twelve must be right."""
    frame = coded(enlarged(drawing(height, height), kernel), crf=17)
    found = estimate_native_height([frame])
    assert abs(found.height - height) <= 1
    assert found.confidence >= 0.5
    assert found.kernel in PILLOW


def test_odd_heights_and_several_frames() -> None:
    frames = [enlarged(drawing(seed, 837), "bicubic") for seed in (1, 2)]
    found = estimate_native_height(frames)
    assert (found.height, found.kernel) == (837, "bicubic")


@pytest.mark.parametrize("seed", range(3))
def test_never_enlarged(seed: int) -> None:
    assert estimate_native_height([coded(drawing(seed, 1080), crf=20)]) == NativeHeight(1080, None, 0.0)


def test_unsure_is_off() -> None:
    assert estimate_native_height([np.zeros((1080, 1920), np.uint8)]).kernel is None
    soft = cv2.GaussianBlur(drawing(4, 1080), (0, 0), 4)
    assert estimate_native_height([soft]).kernel is None
    assert estimate_native_height([drawing(4, 360)]).height == 360


def test_bad_input() -> None:
    with pytest.raises(InputError) as refused:
        estimate_native_height([])
    assert refused.value.code == "no-pictures"
    with pytest.raises(InputError) as refused:
        estimate_native_height([np.zeros((500, 20), np.uint8), np.zeros((400, 20), np.uint8)])
    assert refused.value.code == "sizes-differ"
