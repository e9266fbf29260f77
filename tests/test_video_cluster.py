"""A real Ray cluster of two nodes on this machine: the same result as alone, also when a worker is killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import Run
from PIL import Image
from video_clips import make_clip, plan_video, read_back, upscale_video

from apisr.core.cluster import ActorPool, Lost, or_raise
from apisr.core.errors import Cancelled, InputError, RunError
from apisr.core.progress import Cancel
from apisr.engines import open_engine
from apisr.image import ImageInt, write_picture
from apisr.upscale.jobs import plan_jobs, run_jobs
from apisr.upscale.options import UpscaleOptions, VideoOptions
from apisr.upscale.recipe import NetworkRecipe
from apisr.upscale.remote import PictureFile, PictureWorker
from apisr.upscale.results import ReuseStats
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.video.run import Processing, VideoRun
from apisr.upscale.video.work_folder import WorkFolder
from apisr.video.source import VideoSource
from apisr.weights import choose_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
ray = pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
cluster = pytest.importorskip("apisr.upscale.video.remote")

OPTIONS = VideoOptions(preset="ultrafast", segment_frames=8)


class Marked:
    """Nearest neighbour that leaves the number of its process in a folder for every frame; picklable by value."""

    def __init__(self, folder: str, delay_s: float = 0.0) -> None:
        self.folder = folder
        self.delay_s = delay_s
        self.stats = ReuseStats()

    def process(self, rgb: ImageInt) -> ImageInt:
        (Path(self.folder) / str(os.getpid())).write_text(str(self.stats.frames))
        time.sleep(self.delay_s)
        self.stats.frames += 1
        return np.ascontiguousarray(rgb.repeat(2, 0).repeat(2, 1))


class Make:
    def __init__(self, folder: Path, delay_s: float = 0.0) -> None:
        self.folder = str(folder)
        self.delay_s = delay_s

    def __call__(self) -> Marked:
        return Marked(self.folder, self.delay_s)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 << 20})
        nodes.add_node(num_cpus=2, object_store_memory=100 << 20)
    yield nodes.address
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(autouse=True)
def by_value() -> None:
    """Test classes travel by value: the workers cannot import this file."""
    import video_clips
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cloudpickle.register_pickle_by_value(video_clips)


def frames_of(path: Path) -> list[tuple[int, str]]:
    with av.open(str(path)) as container:
        return [
            (frame.pts, hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()) for frame in container.decode(video=0)
        ]


def test_two_nodes_give_what_one_machine_gives(two_nodes: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=64, options={"g": "4", "bf": "2"}, audio="libopus", srt=True)
    marks = tmp_path / "marks"
    marks.mkdir()
    upscale_video(source, tmp_path / "alone.mkv", Make(marks), OPTIONS, scale=2)
    for mark in marks.iterdir():
        mark.unlink()
    seen: list[int] = []
    runner = cluster.ClusterRunner(two_nodes)
    outcome = upscale_video(
        source,
        tmp_path / "out.mkv",
        Make(marks, 0.01),
        OPTIONS,
        lambda done, _: seen.append(done),
        scale=2,
        runner=runner,
    )
    assert frames_of(tmp_path / "out.mkv") == frames_of(tmp_path / "alone.mkv")
    assert read_back(tmp_path / "out.mkv", scale=2).packets == read_back(source).packets
    assert len(list(marks.iterdir())) == 2, "one worker on each node, each with one network"
    assert outcome.reuse.frames == 64
    assert seen[-1] == 64
    assert outcome.seconds.upscale >= 0.6


def test_a_killed_worker_is_replaced_and_its_segment_done_again(two_nodes: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=64, options={"g": "4", "bf": "2"})
    marks = tmp_path / "marks"
    marks.mkdir()
    upscale_video(source, tmp_path / "alone.mkv", Make(marks), OPTIONS, scale=2)
    for mark in marks.iterdir():
        mark.unlink()
    killed: list[int] = []

    def kill_one(done: int, _: Any) -> None:
        pids = [int(mark.name) for mark in marks.iterdir()]
        if done and not killed and pids:
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])

    runner = cluster.ClusterRunner(two_nodes)
    upscale_video(source, tmp_path / "out.mkv", Make(marks, 0.02), OPTIONS, kill_one, scale=2, runner=runner)
    assert len(killed) == 1
    assert len(list(marks.iterdir())) == 3, "a third worker took the place of the killed one"
    assert frames_of(tmp_path / "out.mkv") == frames_of(tmp_path / "alone.mkv")


def test_a_worker_that_does_not_see_the_source_gets_a_copy(two_nodes: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=16, options={"g": "4"})
    marks = tmp_path / "marks"
    marks.mkdir()

    class Elsewhere(cluster.SegmentWorker):
        def sees_source(self) -> bool:
            return False

    plan = plan_video(source, tmp_path / "out.mkv", OPTIONS, 2)
    with VideoSource.open(source) as opened:
        opened.index  # noqa: B018 - read while it is open
    run = VideoRun(
        opened, plan, WorkFolder.beside(tmp_path / "out.mkv"), plan.segments, Processing(Make(marks), 2), OPTIONS
    )
    pool: ActorPool[Any, Any] = ActorPool(Elsewhere, (run,), address=two_nodes)
    worker = pool.start_worker()
    cluster.Shipment(opened).deliver(worker)
    source.rename(tmp_path / "moved.mkv")
    made = ray.get(worker.work.remote(plan.segments[0]))
    ray.get(worker.close.remote())
    ray.kill(worker)
    (tmp_path / "first.mkv").write_bytes(made.content)
    assert made.segment.size_bytes == len(made.content)
    assert read_back(tmp_path / "first.mkv", scale=2).numbers == list(range(plan.segments[0].frames))


class Calls:
    """A worker that calls a function."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def work(self, item: Any) -> Any:
        return self.function(item)

    def close(self) -> None:
        pass


def test_any_worker_can_be_spread(two_nodes: str) -> None:
    def spread(function: Any, items: Any) -> dict[Any, Any]:
        pool: ActorPool[Any, Any] = ActorPool(Calls, (function,), address=two_nodes)
        return dict(or_raise(pool.map_unordered(items)))

    assert spread(lambda number: number * number, range(12)) == {number: number * number for number in range(12)}

    def fails(number: int) -> int:
        raise InputError(f"cannot read '{number}.png'", code="no-such-picture")

    with pytest.raises(InputError) as failure:
        spread(fails, [0])
    assert failure.value.code == "no-such-picture"

    def dies(_: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RunError) as death:
        spread(dies, [0])
    assert death.value.code == "workers-died"
    assert "'0'" in str(death.value)


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".mkv"}


def test_pictures_and_videos_of_a_folder_by_the_command(
    two_nodes: str, apisr: Run, tiny_x2: Path, tmp_path: Path
) -> None:
    """Colour, gray, alpha, 16 bit, an animation and a bad file, beside a video: the same files as without a cluster."""
    generator = np.random.default_rng(3)
    folder = tmp_path / "in"
    for name, shape, kind in (
        ("colour.png", (65, 90, 3), np.uint8),
        ("deep.png", (40, 33, 4), np.uint16),
        ("gray.tif", (31, 47, 1), np.uint16),
        ("photo.jpg", (48, 80, 3), np.uint8),
        ("alpha.webp", (50, 50, 4), np.uint8),
    ):
        pixels = generator.integers(0, np.iinfo(kind).max, shape).astype(kind)
        pixels[: shape[0] // 2] = 0
        write_picture(folder / name, pixels)
    Image.fromarray(generator.integers(0, 255, (30, 40, 3), np.uint8)).save(
        folder / "moving.gif", save_all=True, append_images=[Image.new("RGB", (40, 30), (200, 30, 30))], duration=80
    )
    (folder / "broken.png").write_bytes(b"no picture")
    make_clip(folder / "clip.mkv", frames=24, options={"g": "4", "bf": "2", "crf": "30"})
    common = ("upscale", folder, "--model", tiny_x2, "--threads", "1", "--device", "cpu", "--preset", "ultrafast")
    alone = apisr(*common, "-o", tmp_path / "alone", "--json")
    done = apisr(*common, "-o", tmp_path / "out", "--cluster", two_nodes, "--json")
    assert alone.returncode == done.returncode == 1, done.stderr
    assert written(tmp_path / "out") == written(tmp_path / "alone")
    assert len(written(tmp_path / "out")) == 6
    assert frames_of(tmp_path / "out/clip.mkv") == frames_of(tmp_path / "alone/clip.mkv")
    reports = [json.loads(run.stdout)["files"] for run in (alone, done)]
    for here, there in zip(*reports, strict=True):
        assert {key: here[key] for key in ("source", "kind", "status")} == {
            key: there[key] for key in ("source", "kind", "status")
        }
        assert there["message"] == here["message"]
        if here["status"] == "done" and here["kind"] == "picture":
            assert there["result"]["size"] == here["result"]["size"]
            assert there["result"]["frames"] == here["result"]["frames"]
    clip_here, clip_there = (next(row["result"] for row in report if row["kind"] == "video") for report in reports)
    assert clip_there["notices"] == clip_here["notices"]
    assert clip_there["hold"] == clip_here["hold"], "what the hold filter did is gathered too"
    assert clip_there["hold"]["blocks"] > 0
    assert clip_there["reuse"]["total_px"] == 24 * 96 * 64
    again = json.loads(apisr(*common, "-o", tmp_path / "out", "--cluster", two_nodes, "--json").stdout)
    assert [row["status"] for row in again["files"]].count("skipped") == 7


def test_a_picture_that_kills_its_workers_does_not_stop_the_others(
    two_nodes: str, tiny_x2: Path, tmp_path: Path
) -> None:
    class Deadly(PictureWorker):
        def work(self, picture: PictureFile) -> Any:
            if picture.source.name == "b.png":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().work(picture)

    write_picture(tmp_path / "a.png", np.full((20, 20, 3), 90, np.uint8))
    content = (tmp_path / "a.png").read_bytes()
    options = UpscaleOptions(device="cpu", threads=1)
    pool: ActorPool[PictureFile, Any] = ActorPool(
        Deadly, ([NetworkRecipe.of(choose_model(tiny_x2), options)], options), address=two_nodes
    )
    files = [PictureFile(i, Path(f"{n}.png"), Path(f"{n}_x2.png"), content) for i, n in enumerate("abcd")]
    answers = {file.source.stem: answer for file, answer in pool.map_unordered(files)}
    lost = answers.pop("b")
    assert isinstance(lost, Lost)
    assert lost.error.code == "workers-died"
    assert len(answers) == 3
    assert all(isinstance(answer, tuple) for answer in answers.values())


def test_a_network_that_cannot_be_loaded_there_ends_the_run(two_nodes: str, tiny_x2: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", np.full((20, 20, 3), 90, np.uint8))
    options = UpscaleOptions(model=choose_model(tiny_x2), device="cuda", cluster=two_nodes)
    jobs = plan_jobs([tmp_path / "a.png"], tmp_path / "b.png", options).jobs
    with pytest.raises(InputError) as refused:
        run_jobs(jobs, options)
    assert refused.value.code == "device-not-available"


def test_a_real_network_travels_with_its_file(two_nodes: str, tmp_path: Path) -> None:
    model = choose_model(None, scale=2)
    source = make_clip(tmp_path / "in.mkv", frames=16, options={"g": "4"})
    engine = open_engine(model, device="cpu", threads=1)
    upscale_video(source, tmp_path / "alone.mkv", lambda: CanvasUpscaler(engine), OPTIONS, scale=2)
    recipe = NetworkRecipe.of(model, UpscaleOptions(device="cpu", threads=1))
    runner = cluster.ClusterRunner(two_nodes)
    upscale_video(source, tmp_path / "out.mkv", recipe, OPTIONS, scale=2, runner=runner)
    assert frames_of(tmp_path / "out.mkv") == frames_of(tmp_path / "alone.mkv")


_DRIVER = """
import os, sys, time
from pathlib import Path
from apisr.core.cluster import ActorPool

class Sleeper:
    def __init__(self, folder):
        self.folder = folder
    def work(self, item):
        Path(self.folder, str(os.getpid())).write_text("")
        time.sleep(600)
    def close(self):
        pass

for _ in ActorPool(Sleeper, (sys.argv[1],), address=sys.argv[2], workers=2).map_unordered(range(2)):
    pass
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def descendants(pid: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            content = entry.read_text()
        except OSError:
            continue
        children.setdefault(int(content.rpartition(")")[2].split()[1]), []).append(int(entry.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_end_with_a_killed_run(tmp_path: Path) -> None:
    """And so does everything else that a cluster of its own consists of."""
    command = [sys.executable, "-W", "ignore", "-c", _DRIVER, str(tmp_path), "local"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    with subprocess.Popen(command, env=environment) as driver:
        deadline = time.monotonic() + 150
        while len(list(tmp_path.iterdir())) < 2 and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        watched = {int(path.name) for path in tmp_path.iterdir()}
        assert len(watched) == 2
        watched |= descendants(driver.pid)
        driver.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 150
    while any(map(alive, watched)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [pid for pid in watched if alive(pid)] == []


def folders() -> set[str]:
    """What our workers keep on the disk of this machine."""
    return {path.name for path in Path(tempfile.gettempdir()).glob("apisr-segments-*")}


class Slow(Marked):
    """Stands still in the middle of a segment."""

    def process(self, rgb: ImageInt) -> ImageInt:
        if self.stats.frames >= 2:
            time.sleep(600)
        return super().process(rgb)


class Broken(Marked):
    def process(self, rgb: ImageInt) -> ImageInt:
        raise InputError("this network cannot do it", code="cannot-do-it")


class MakeOther(Make):
    def __init__(self, folder: Path, kind: type[Marked]) -> None:
        super().__init__(folder)
        self.kind = kind

    def __call__(self) -> Marked:
        return self.kind(self.folder, self.delay_s)


@pytest.mark.parametrize("how", ["raises", "cancelled", "stopped"])
def test_a_run_that_does_not_end_well_leaves_no_folder_and_no_process(two_nodes: str, tmp_path: Path, how: str) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=32, options={"g": "4", "bf": "2"})
    marks = tmp_path / "marks"
    marks.mkdir()
    before = folders()
    runner = cluster.ClusterRunner(two_nodes)
    if how == "raises":
        make = MakeOther(marks, Broken)
        with pytest.raises(InputError) as failure:
            upscale_video(source, tmp_path / "out.mkv", make, OPTIONS, scale=2, runner=runner)
        assert failure.value.code == "cannot-do-it"
    elif how == "stopped":  # in the middle of a segment that would last for ever
        cancel = Cancel()

        def stop() -> None:
            while not any(marks.iterdir()):
                time.sleep(0.1)
            cancel.request()

        stopper = threading.Thread(target=stop, daemon=True)
        stopper.start()
        with pytest.raises(Cancelled):
            upscale_video(
                source, tmp_path / "out.mkv", MakeOther(marks, Slow), OPTIONS, scale=2, runner=runner, cancel=cancel
            )
        assert not (tmp_path / "out.mkv").exists()
    else:
        plan = plan_video(source, tmp_path / "out.mkv", OPTIONS, 2)
        with VideoSource.open(source) as opened:
            opened.index  # noqa: B018 - read while it is open
        folder = WorkFolder.beside(tmp_path / "out.mkv")
        processing = Processing(MakeOther(marks, Slow), 2)
        run = VideoRun(opened, plan, folder, plan.segments, processing, OPTIONS)
        pool: ActorPool[Any, Any] = ActorPool(cluster.SegmentWorker, (run,), address=two_nodes)

        def stopped_while_busy() -> Iterator[Any]:
            yield plan.segments[0]
            while not any(marks.iterdir()):
                time.sleep(0.1)
            assert folders() - before
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            next(pool.map_unordered(stopped_while_busy()))
        assert len(list(marks.iterdir())) == 1
    deadline = time.monotonic() + 60
    watched = {int(mark.name) for mark in marks.iterdir()}
    while (folders() - before or any(map(alive, watched))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert folders() - before == set()
    assert [pid for pid in watched if alive(pid)] == []


def test_workers_run_what_the_leading_machine_chose(tiny_x2: Path) -> None:
    """Else each would measure for itself, and the segments of one video could have different bits."""
    model = choose_model(tiny_x2)
    chosen = open_engine(model, engine="onnx", device="cpu", precision="fp32", threads=1)
    recipe = NetworkRecipe.of(model, UpscaleOptions(threads=1), engine_name=chosen.name)
    assert (recipe.options.engine, recipe.options.device, recipe.options.precision) == ("onnx", "cpu", "fp32")
    assert recipe.load().name == chosen.name
    with pytest.raises(InputError) as refused:
        replace(recipe, engine_name="another (cuda, fp32)").load()
    assert refused.value.code == "workers-differ"


def test_segments_of_different_engines_are_not_joined() -> None:
    def made(engine: str) -> Any:
        return cluster.MadeSegment(None, b"", "machine 1", engine, None, ReuseStats(), None)  # type: ignore[arg-type]

    cluster.check_same_engine(made("torch (cuda, bf16)"), made("torch (cuda, bf16)"))
    with pytest.raises(RunError) as refused:
        cluster.check_same_engine(made("torch (cuda, bf16)"), made("onnxruntime (cpu, fp32)"))
    assert refused.value.code == "workers-differ"
