"""What happens between reader and network: frames keep their number, order and times."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from apisr.upscale.options import VideoOptions
from apisr.upscale.preprocess import Preprocess, plan_preprocess
from apisr.upscale.results import HoldStats
from apisr.video.reader import Frame
from apisr.video.source import VideoSource


def frames() -> list[Frame]:
    generator = np.random.default_rng(0)
    drawing = generator.integers(40, 200, (64, 96, 3)).astype(np.uint8)
    noisy = [np.clip(drawing + generator.integers(-1, 2, drawing.shape), 0, 255).astype(np.uint8) for _ in range(12)]
    return [Frame(pts=100 + 7 * number**2, duration=7, rgb=rgb) for number, rgb in enumerate(noisy)]


@pytest.mark.parametrize("preprocess", [Preprocess("auto"), Preprocess("strong", 48), Preprocess("off", 32, "lanczos")])
def test_times_are_untouched_and_sizes_as_asked(preprocess: Preprocess) -> None:
    given = frames()
    statistics = HoldStats()
    got = list(preprocess(iter(given), statistics))
    assert [(frame.pts, frame.duration) for frame in got] == [(frame.pts, frame.duration) for frame in given]
    height = preprocess.native_height or 64
    assert {frame.rgb.shape for frame in got} == {(height, 96 * height // 64, 3)}
    if preprocess.hold != "off":
        assert statistics.frames == 12
        assert len({frame.rgb.tobytes() for frame in got}) < 12


def test_it_travels_to_other_machines() -> None:
    copy = pickle.loads(pickle.dumps(Preprocess("auto", 720, "bicubic")))
    assert copy == Preprocess("auto", 720, "bicubic")
    assert copy.identity == "hold=auto native=720 bicubic"


def test_native_height_of_a_clip_that_was_never_enlarged(data: Path) -> None:
    clip = data.parent.parent / "examples" / "clip.mkv"
    with VideoSource.open(clip) as source:
        preprocess, notices = plan_preprocess(source, VideoOptions(hold="off", native_resolution="auto"))
        assert preprocess.native_height is None
        assert "left as it is" in notices[0]
        assert plan_preprocess(source, VideoOptions(hold="off", native_resolution=180))[0].native_height == 180


def test_lossless_video_is_not_held(tmp_path: Path) -> None:
    import av

    for codec, expected in (("ffv1", "off"), ("libx264", "auto")):
        path = tmp_path / f"{codec}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=24)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(3):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        with VideoSource.open(path) as source:
            assert plan_preprocess(source, VideoOptions())[0].hold == expected
            assert plan_preprocess(source, VideoOptions(hold="strong"))[0].hold == "strong"
