"""Crashes: killed at any moment, the work goes on where it stood and the result is the same as without."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_clips import Nearest, make_clip, number_of, read_back, upscale_video

from apisr.core.errors import Cancelled, InputError, RunError
from apisr.core.progress import Cancel
from apisr.image import ImageInt
from apisr.upscale.options import VideoOptions
from apisr.upscale.sizes import SizeRequest
from apisr.upscale.video import upscale
from apisr.upscale.video.output import OutputRequest
from apisr.upscale.video.plan import plan_video as plan_opened
from apisr.upscale.video.run import Processing
from apisr.upscale.video.work_folder import WorkFolder
from apisr.video.source import VideoSource

FAST = VideoOptions(preset="ultrafast", segment_frames=10)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in.mkv", frames=96, options={"g": "5", "bf": "2"}, audio="libopus", srt=True)


def frames_of(path: Path) -> list[tuple[int, str]]:
    """Time and hash of every decoded frame."""
    with av.open(str(path)) as container:
        return [
            (frame.pts, hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()) for frame in container.decode(video=0)
        ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Stopped(Nearest):
    """Raises KeyboardInterrupt, as Ctrl-C does, at a certain frame."""

    def __init__(self, at: int) -> None:
        super().__init__(2)
        self.at = at

    def process(self, rgb: ImageInt) -> ImageInt:
        if self.frames == self.at:
            raise KeyboardInterrupt
        return super().process(rgb)


def test_interrupted_run_is_continued_and_equals_an_uninterrupted_one(source: Path, tmp_path: Path) -> None:
    upscale_video(source, tmp_path / "whole.mkv", Nearest, FAST, scale=2)
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, target, lambda: Stopped(45), FAST, scale=2)
    assert not target.exists()
    assert (tmp_path / "out.mkv.partial.segments").is_dir()
    counter = Nearest()
    seen: list[tuple[int, int | None]] = []
    outcome = upscale_video(source, target, lambda: counter, FAST, lambda *call: seen.append(call), scale=2)
    assert 20 <= outcome.resumed_frames <= 45
    assert counter.frames == 96 - outcome.resumed_frames
    assert seen[0] == (outcome.resumed_frames, 96)
    assert seen[-1] == (96, 96)
    assert frames_of(target) == frames_of(tmp_path / "whole.mkv")
    assert read_back(target, scale=2).packets == read_back(source).packets
    assert names(tmp_path) == ["in.mkv", "out.mkv", "whole.mkv"]


def test_nothing_is_left_when_nothing_was_finished(source: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, tmp_path / "out.mkv", lambda: Stopped(3), FAST, scale=2)
    assert names(tmp_path) == ["in.mkv"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"crf": 30.0}, "crf"),
        ({"size": SizeRequest(height=100)}, "size"),
        ({"segment_frames": 20}, "segments"),
        ({"identity": "b"}, "model"),
    ],
)
def test_another_setting_is_refused_with_its_name(
    source: Path, tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, target, lambda: Stopped(45), FAST, scale=2, identity="a")
    settings = {"identity": "a", **{key: change.pop(key) for key in ("identity", "size") if key in change}}
    with pytest.raises(InputError) as refused:
        upscale_video(source, target, Nearest, replace(FAST, **change), **settings)
    assert refused.value.code == "other-settings"
    assert f"another {key} " in str(refused.value)
    outcome = upscale_video(source, target, Nearest, replace(FAST, restart=True, **change), **settings)
    assert outcome.resumed_frames == 0
    assert outcome.frames_out == 96


def test_another_source_is_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, target, lambda: Stopped(45), FAST, scale=2)
    data = bytearray(source.read_bytes())
    data[-3] ^= 1
    source.write_bytes(bytes(data))
    with pytest.raises(InputError) as refused:
        upscale_video(source, target, Nearest, FAST, scale=2)
    assert refused.value.code == "other-settings"


def test_two_fresh_runs_at_once_one_works_and_the_other_says_so(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    working, release = threading.Event(), threading.Event()

    class Waiting(Nearest):
        def process(self, rgb: ImageInt) -> ImageInt:
            working.set()
            assert release.wait(60)
            return super().process(rgb)

    results: list[int] = []
    first = threading.Thread(
        target=lambda: results.append(upscale_video(source, target, Waiting, FAST).frames_out), daemon=True
    )
    first.start()
    assert working.wait(60)
    for options in (FAST, replace(FAST, restart=True)):
        with pytest.raises(InputError) as refused:
            upscale_video(source, target, Nearest, options)
        assert refused.value.code == "work-folder-busy"
    assert upscale_video(source, tmp_path / "out.mp4", Nearest, FAST).frames_out == 96
    release.set()
    first.join(60)
    assert results == [96]
    assert names(tmp_path) == ["in.mkv", "out.mkv", "out.mp4"]


def test_a_lock_of_a_killed_process_is_none(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    folder = WorkFolder.beside(target)
    program = (
        "import sys, time; from pathlib import Path; from apisr.core.locks import take_lock\n"
        "lock = take_lock(Path(sys.argv[1]), busy='busy')\nprint('held', flush=True)\ntime.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(folder.path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError) as refused:
            upscale_video(source, target, Nearest, FAST)
        assert refused.value.code == "work-folder-busy"
        holder.kill()
        holder.wait()
    assert upscale_video(source, target, Nearest, FAST).frames_out == 96


def test_a_segment_changed_on_disk_is_made_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, target, lambda: Stopped(45), FAST)
    folder = WorkFolder.beside(target)
    done = folder.finished()
    video = folder.video_path(done[0])
    content = bytearray(video.read_bytes())
    content[len(content) // 2] ^= 1
    video.write_bytes(content)
    upscale_video(source, tmp_path / "whole.mkv", Nearest, FAST)
    outcome = upscale_video(source, target, Nearest, FAST)
    assert outcome.resumed_frames <= 45 - 10
    assert frames_of(target) == frames_of(tmp_path / "whole.mkv")


def test_a_source_replaced_while_it_runs_is_refused(source: Path, tmp_path: Path) -> None:
    other = make_clip(tmp_path / "other.mkv", frames=96, options={"g": "5"}, audio="libopus")

    class Replacing(Nearest):
        def process(self, rgb: ImageInt) -> ImageInt:
            if self.frames == 60:
                other.replace(source)
            return super().process(rgb)

    target = tmp_path / "out.mkv"
    with pytest.raises(RunError) as refused:
        upscale_video(source, target, Replacing, FAST)
    assert refused.value.code == "source-changed"
    assert not target.exists()
    assert not target.with_name("out.partial.mkv").exists()


def test_a_stop_says_where_and_the_next_run_where_it_goes_on(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    cancel = Cancel()
    with pytest.raises(Cancelled) as stopped:
        upscale_video(
            source, target, Nearest, FAST, lambda done, _: cancel.request() if done >= 45 else None, cancel=cancel
        )
    assert stopped.value.code == "cancelled"
    notices: list[str] = []
    with VideoSource.open(source) as opened:
        upscale.upscale_video(
            opened,
            plan_opened(opened, OutputRequest(target), scale=2, options=FAST),
            Processing(Nearest, 2),
            FAST,
            progress=lambda event: notices.append(event.message) if event.kind == "notice" else None,
        )
    assert len(notices) == 1
    kept = str(stopped.value).rstrip(".").split()[-1]
    assert notices[0] == f"continuing at frame {kept} of 96."


def test_a_damaged_segment_is_made_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, target, lambda: Stopped(45), FAST, scale=2)
    folder = WorkFolder.beside(target)
    first, second = folder.finished()[:2]
    video = folder.video_path(first)
    video.write_bytes(video.read_bytes()[:-100])
    (folder.path / f"{second:05d}.json").write_text("{")
    upscale_video(source, tmp_path / "whole.mkv", Nearest, FAST, scale=2)
    upscale_video(source, target, Nearest, FAST, scale=2)
    assert frames_of(target) == frames_of(tmp_path / "whole.mkv")


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1", "mpeg4", "ffv1"])
def test_segments_of_other_encoders_join_too(source: Path, tmp_path: Path, codec: str) -> None:
    preset = {"libx265": "ultrafast", "libsvtav1": "12"}.get(codec)
    options = VideoOptions(codec=codec, preset=preset, segment_frames=30)
    upscale_video(source, tmp_path / "out.mkv", Nearest, options, scale=2)
    after = read_back(tmp_path / "out.mkv", scale=2)
    assert after.numbers == list(range(96))
    assert after.times == read_back(source).times


def test_several_workers_give_the_same_file(source: Path, tmp_path: Path) -> None:
    upscale_video(source, tmp_path / "one.mkv", Nearest, FAST, scale=2)
    made: list[Nearest] = []

    def make() -> Nearest:
        made.append(Nearest())
        return made[-1]

    outcome = upscale_video(source, tmp_path / "three.mkv", make, FAST, workers=3)
    assert len(made) == 3
    assert outcome.reuse.frames == 96
    assert sum(worker.frames for worker in made) == 96
    assert frames_of(tmp_path / "three.mkv") == frames_of(tmp_path / "one.mkv")


def assert_lost_and_goes_on(source: Path, target: Path, failing: type[Nearest]) -> None:
    with pytest.raises(RuntimeError, match="device lost"):
        upscale_video(source, target, failing, FAST, workers=2)
    assert not target.exists()
    assert upscale_video(source, target, Nearest, FAST, workers=2).frames_out == 96


def test_a_failing_worker_stops_the_others_and_the_rest_goes_on_later(source: Path, tmp_path: Path) -> None:
    class Failing(Nearest):
        def process(self, rgb: ImageInt) -> ImageInt:
            time.sleep(0.002)
            if self.frames == 25:
                raise RuntimeError("device lost")
            return super().process(rgb)

    assert_lost_and_goes_on(source, tmp_path / "out.mkv", Failing)


def test_the_reason_of_a_stop_is_what_failed_wherever_in_the_video(source: Path, tmp_path: Path) -> None:
    """The part that fails may lie after one that is only stopped for it, which is looked at first."""
    failed = threading.Event()

    class Failing(Nearest):
        def process(self, rgb: ImageInt) -> ImageInt:
            number = number_of(rgb)
            if number >= 20:  # the worker that failed has said so, and has taken the next part
                failed.set()
            elif number >= 10:
                raise RuntimeError("device lost")
            else:
                assert failed.wait(60)
            return super().process(rgb)

    assert_lost_and_goes_on(source, tmp_path / "out.mkv", Failing)


def test_no_thread_survives(source: Path, tmp_path: Path) -> None:
    before = threading.active_count()
    upscale_video(source, tmp_path / "out.mkv", Nearest, FAST, scale=2)
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, tmp_path / "two.mkv", lambda: Stopped(45), FAST, scale=2)
    assert threading.active_count() == before


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_killed_ten_times_at_random_moments(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=144, options={"g": "4", "bf": "2"}, audio="libopus")
    target = tmp_path / "out.mkv"
    options = VideoOptions(preset="ultrafast", segment_frames=6)
    upscale_video(source, tmp_path / "whole.mkv", Nearest, options, scale=2)
    program = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from video_clips import Nearest
        from apisr.upscale.options import VideoOptions
        from video_clips import upscale_video

        class Slow(Nearest):
            def process(self, rgb):
                time.sleep(0.02)
                return super().process(rgb)

        print("working", flush=True)
        options = VideoOptions(preset="ultrafast", segment_frames=6)
        upscale_video(Path({str(source)!r}), Path({str(target)!r}), Slow, options, scale=2)
        """
    )
    moments = random.Random(7)
    kills = 0
    progress: list[int] = []
    for _ in range(40):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            code = process.wait(moments.uniform(0.02, 0.7) if kills < 10 else 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            kills += 1
            assert not target.exists()
            folder = WorkFolder.beside(target)
            progress.append(len(folder.finished()) if folder.path.exists() else 0)
            continue
        process.stdout.close()
        assert code == 0
        break
    assert kills == 10 or target.exists()
    assert progress == sorted(progress), "no finished segment is ever lost"
    assert target.exists()
    assert frames_of(target) == frames_of(tmp_path / "whole.mkv")
    assert read_back(target, scale=2).packets == read_back(source).packets
    assert not WorkFolder.beside(target).path.exists()


def test_the_record_says_everything_that_decides_the_result(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, target, lambda: Stopped(45), FAST, scale=2, identity="network sha256:abc")
    record = json.loads((WorkFolder.beside(target).path / "record.json").read_text())
    assert record["source"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert record["model"] == "network sha256:abc"
    assert {"encoder", "size", "segments", "colour", "rate", "fields", "scale"} <= set(record)
    assert np.sum([frames for *_, frames in record["segments"]]) == 96
