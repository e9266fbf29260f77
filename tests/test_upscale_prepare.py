"""What happens between reader and network: frames keep their number, order and times."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from apisr.upscale.prepare import Preparation, preparation_for
from apisr.upscale.results import HoldStats
from apisr.video.reader import Frame


def frames() -> list[Frame]:
    generator = np.random.default_rng(0)
    drawing = generator.integers(40, 200, (64, 96, 3)).astype(np.uint8)
    noisy = [np.clip(drawing + generator.integers(-1, 2, drawing.shape), 0, 255).astype(np.uint8) for _ in range(12)]
    return [Frame(pts=100 + 7 * number**2, duration=7, rgb=rgb) for number, rgb in enumerate(noisy)]


@pytest.mark.parametrize(
    "preparation", [Preparation("auto"), Preparation("strong", 48), Preparation("off", 32, "lanczos")]
)
def test_times_are_untouched_and_sizes_as_asked(preparation: Preparation) -> None:
    given = frames()
    statistics = HoldStats()
    got = list(preparation(iter(given), statistics))
    assert [(frame.pts, frame.duration) for frame in got] == [(frame.pts, frame.duration) for frame in given]
    height = preparation.native or 64
    assert {frame.rgb.shape for frame in got} == {(height, 96 * height // 64, 3)}
    if preparation.hold != "off":
        assert statistics.frames == 12
        assert len({frame.rgb.tobytes() for frame in got}) < 12


def test_it_travels_to_other_machines() -> None:
    copy = pickle.loads(pickle.dumps(Preparation("auto", 720, "bicubic")))
    assert copy == Preparation("auto", 720, "bicubic")
    assert copy.identity == "hold=auto native=720 bicubic"
    assert not Preparation().wanted


def test_native_height_of_a_clip_that_was_never_enlarged(data: Path) -> None:
    clip = data.parent.parent / "examples" / "clip.mkv"
    preparation, notices = preparation_for(clip, hold="off", native="auto")
    assert preparation.native is None
    assert "none found" in notices[0]
    assert preparation_for(clip, hold="off", native=180)[0].native == 180


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
        assert preparation_for(path, hold="auto", native="off")[0].hold == expected
    assert preparation_for(tmp_path / "ffv1.mkv", hold="strong", native="off")[0].hold == "strong"
