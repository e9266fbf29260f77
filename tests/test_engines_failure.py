"""A device that fails in the middle of a video: smaller parts, or the processor goes on; every frame arrives."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_clips import Nearest, make_clip, picture, upscale_video

from apisr.core.errors import RunError
from apisr.engines import Engine, engine_kind, open_engine
from apisr.engines.fallback import FallbackEngine
from apisr.engines.split import OutOfMemory, run_in_parts
from apisr.upscale.baselines import NearestEngine
from apisr.upscale.options import VideoOptions
from apisr.upscale.reuse import CanvasUpscaler
from apisr.weights import Model, resolve_model

FRAMES, SIZE = 12, (280, 120)


class Device:
    """A graphics card, as an engine sees it: from some call on it is lost, or its memory does not suffice.

    Args:
        model: the network, which onnxruntime runs.
        lost_at: number of the call from which on the device is lost.
        full_at: number of the call from which on pictures of more than 150 columns do not fit.
    """

    name = "device (gpu, fp32)"
    shape_exact = False

    def __init__(self, model: Model, *, lost_at: int | None = None, full_at: int | None = None) -> None:
        self._engine = open_engine(model, engine="onnx", device="cpu", threads=1)
        self.traits = self._engine.traits
        self._lost_at, self._full_at = lost_at, full_at
        self.calls = self.small_calls = 0

    def run(self, batch: np.ndarray) -> np.ndarray:
        return run_in_parts(self._run, batch, self.traits)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self._lost_at is not None and self.calls >= self._lost_at:
            raise RunError("the device is lost.", code="network-failed")
        if self._full_at is not None and self.calls >= self._full_at and batch.shape[3] > 150:
            raise OutOfMemory("its memory is full.")
        self.small_calls += batch.shape[3] <= 150
        return self._engine.run(batch)


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]


def upscaled(source: Path, target: Path, engine: Engine) -> list[np.ndarray]:
    options = VideoOptions(codec="ffv1", deinterlace="off")
    result = upscale_video(source, target, lambda: CanvasUpscaler(engine), options, scale=2)
    assert result.frames_in == result.frames_out == FRAMES
    return frames_of(target)


@pytest.mark.parametrize("failure", [{"lost_at": 8}, {"full_at": 8}], ids=["lost", "memory"])
def test_a_device_that_fails_in_a_video_loses_no_frame(
    failure: dict[str, int], tmp_path: Path, tiny_x2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = resolve_model(tiny_x2)
    clip = make_clip(tmp_path / "clip.mkv", frames=FRAMES, size=SIZE)

    def on_processor() -> Engine:
        return open_engine(model, engine="onnx", device="cpu", threads=1)

    sound, failing = Device(model), Device(model, **failure)
    expected = upscaled(clip, tmp_path / "sound.mkv", FallbackEngine(sound, on_processor))
    assert sound.calls > 2 * FRAMES / 3
    found = upscaled(clip, tmp_path / "failing.mkv", FallbackEngine(failing, on_processor))
    assert len(found) == len(expected) == FRAMES
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    notices = [record.getMessage() for record in caplog.records if record.name == "apisr.engines.fallback"]
    if "lost_at" in failure:
        assert failing.calls == failure["lost_at"]
        assert len(notices) == 1
        assert "onnx (cpu, fp32)" in notices[0]
    else:
        assert failing.small_calls > 0
        assert not notices


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
@pytest.mark.skipif("vulkan" not in engine_kind("ncnn").devices(), reason="no Vulkan device")
def test_a_vulkan_device_whose_memory_runs_out_goes_on_in_smaller_parts() -> None:
    """The memory really runs out: lavapipe's is that of the process, which gets a limit in the middle.

    The limit is lifted when the failure was reported, since the rest of the process lives under it too.
    """
    program = textwrap.dedent(
        """
        import logging, resource
        from pathlib import Path
        import numpy as np
        from apisr.engines import engine_kind
        from apisr.engines.base import Request, psnr_db
        from apisr.weights import resolve_model

        class Lift(logging.Handler):
            count = 0
            def emit(self, record):
                Lift.count += 1
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        logging.getLogger("apisr.engines").addHandler(Lift())
        model = resolve_model("apisr-x2-fast")
        processor, card = (engine_kind("ncnn").open(Request(model, name, "fp32", 1)) for name in ("cpu", "vulkan"))
        card.run(np.zeros((1, 3, 48, 64), np.float32))
        picture = np.random.default_rng(0).random((1, 3, 200, 264), dtype=np.float32)
        expected = processor.run(picture)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.RLIM_INFINITY))
        output = card.run(picture)
        print(Lift.count, output.shape == expected.shape, psnr_db(output, expected) > 90)
        card.run(picture)
        print(Lift.count)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "True", "True", "1"]


@pytest.mark.parametrize(("codec", "sar"), [("ffv1", None), ("ffv1", Fraction(8, 9)), ("libx264", None)])
def test_held_pictures_are_encoded_as_if_they_were_new(codec: str, sar: Fraction | None, tmp_path: Path) -> None:
    """A held frame is delivered as the same object and converted once; the file must not show it."""
    source = make_clip(
        tmp_path / "held.mkv",
        codec="ffv1",
        frames=FRAMES,
        sar=sar,
        pictures=lambda number, *rest: picture(number // 4, *rest),
    )
    options = VideoOptions(codec=codec, deinterlace="off")
    upscalers = {"new": lambda: Nearest(2), "held": lambda: CanvasUpscaler(NearestEngine(2))}
    found: dict[str, list[np.ndarray]] = {}
    for name, make in upscalers.items():
        result = upscale_video(source, tmp_path / f"{name}-{codec}.mkv", make, options, scale=2)
        assert result.frames_out == FRAMES
        found[name] = frames_of(result.target)
    assert result.reuse.whole_frames == FRAMES - FRAMES // 4
    for one, other in zip(found["new"], found["held"], strict=True):
        np.testing.assert_array_equal(one, other)


def test_values_that_are_not_numbers_are_not_a_picture(tmp_path: Path) -> None:
    """They became black, with exit 0."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Log", ["negative"], ["nan"]),
        helper.make_node("Less", ["large", "half"], ["dark"]),
        helper.make_node("Where", ["dark", "nan", "large"], ["y"]),
    ]
    values = {"scales": [1.0, 1.0, 2.0, 2.0], "negative": -1.0, "half": 0.001}
    arrays = [onnx.numpy_helper.from_array(np.array(value, np.float32), name) for name, value in values.items()]
    ends = [helper.make_tensor_value_info(name, 1, ["n", 3, f"h{name}", f"w{name}"]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], arrays)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "a.onnx").write_bytes(network.SerializeToString())
    engine = open_engine(resolve_model(tmp_path / "a.onnx"), engine="onnx", device="cpu", threads=1)
    assert np.isfinite(engine.run(np.full((1, 3, 64, 64), 0.5, np.float32))).all()
    with pytest.raises(RunError) as failure:
        engine.run(np.zeros((1, 3, 64, 64), np.float32))
    assert failure.value.code == "network-failed"
