"""Bad input: one clear line, nothing lost, nothing under the final name."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_clips import Nearest, make_clip, read_back, upscale_video

from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.files import write_atomic
from apisr.image import ImageInt, write_picture
from apisr.upscale.options import VideoOptions
from apisr.upscale.results import VideoResult

FAST = VideoOptions(preset="ultrafast", segment_frames=6)


def upscale(source: Path, target: Path, options: VideoOptions = FAST, **settings: Any) -> VideoResult:
    return upscale_video(source, target, Nearest, options, **settings)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def noisy(number: int, width: int, height: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "empty-file"), (b"this is no video\n" * 100, "not-a-video"), (None, "no-such-file")],
)
def test_files_that_are_no_videos(tmp_path: Path, content: bytes | None, code: str) -> None:
    source = tmp_path / "in.mkv"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(InputError) as caught:
        upscale(source, tmp_path / "out.mkv")
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == (["in.mkv"] if content is not None else [])


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4", "in.ts"])
def test_a_list_that_is_called_a_video_opens_no_other_file(tmp_path: Path, name: str) -> None:
    """libav goes by the content: a list of files would have been upscaled as if it were theirs."""
    make_clip(tmp_path / "private.mkv", frames=8)
    (tmp_path / name).write_text("ffconcat version 1.0\nfile private.mkv\n")
    with pytest.raises(InputError) as caught:
        upscale(tmp_path / name, tmp_path / "out.mkv")
    assert caught.value.code == "not-a-video"
    assert names(tmp_path) == sorted([name, "private.mkv"])


def test_no_video_stream(tmp_path: Path) -> None:
    import av

    source = tmp_path / "sound.mkv"
    full = make_clip(tmp_path / "full.mkv", frames=8, audio="aac")
    with av.open(str(full)) as container, av.open(str(source), "w") as out:
        copy = out.add_stream_from_template(container.streams.audio[0], opaque=True)
        for packet in container.demux(container.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    with pytest.raises(InputError) as refused:
        upscale(source, tmp_path / "out.mkv")
    assert refused.value.code == "no-video-stream"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_truncated_video_is_an_error_at_the_end_and_only_a_partial_is_kept(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"in{suffix}"
    make_clip(
        source, frames=48, options={"g": "6"}, container_options={"movflags": "faststart"} if suffix == ".mp4" else None
    )
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) * 2 // 3])
    target = tmp_path / f"out{suffix}"
    with pytest.raises(RunError) as caught:
        upscale(source, target)
    assert caught.value.code == "source-damaged"
    assert caught.value.exit_code == 1
    assert not target.exists()
    kept = read_back(tmp_path / f"out.partial{suffix}", scale=2)
    assert kept.numbers == list(range(len(kept.numbers)))
    assert 12 <= len(kept.numbers) < 48
    outcome = upscale(source, target, VideoOptions(preset="ultrafast", segment_frames=6, accept_damage=True))
    assert outcome.resumed_frames == outcome.frames_out == len(kept.numbers)  # nothing was computed again
    assert any("damaged" in notice for notice in outcome.notices)
    assert names(tmp_path) == [f"in{suffix}", f"out{suffix}"]


def test_damage_in_the_middle_does_not_end_as_a_success(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=48, options={"g": "12"}, pictures=noisy)
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = os.urandom(3000)
    source.write_bytes(bytes(data))
    with pytest.raises(ApisrError) as refused:
        upscale(source, tmp_path / "out.mkv")
    assert refused.value.code == "source-damaged"
    assert not (tmp_path / "out.mkv").exists()


def test_truncated_before_the_first_frame(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=8)
    source.write_bytes(source.read_bytes()[:200])
    with pytest.raises(InputError) as refused:
        upscale(source, tmp_path / "out.mp4")
    assert refused.value.code == "not-a-video"


def test_existing_output_is_not_touched_unless_asked(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4)
    target = tmp_path / "out.mkv"
    target.write_bytes(b"precious")
    with pytest.raises(InputError) as refused:
        upscale(source, target)
    assert refused.value.code == "output-exists"
    assert target.read_bytes() == b"precious"
    upscale(source, target, overwrite=True)
    assert read_back(target, scale=2).numbers == [0, 1, 2, 3]


_NOBODY = 65534


def outcome_without_privileges(work: Callable[[], object]) -> str:
    """Return the code of the error of `work` in a child process that may not write everywhere; "" without an error."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = "died"
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresuid(_NOBODY, _NOBODY, _NOBODY)
            work()
            code = ""
        except ApisrError as error:
            code = error.code
        except BaseException as error:  # noqa: BLE001 - the child answers whatever happens
            code = repr(error)
        finally:
            os.write(write, code.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_unwritable_folder() -> None:
    """Before any work, and for what is written without a check before it; as nobody where root runs the tests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        source = make_clip(folder / "in.mkv", frames=4)
        source.chmod(0o644)
        locked = folder / "locked"
        locked.mkdir(mode=0o555)
        pixels = np.zeros((4, 4, 3), np.uint8)
        assert outcome_without_privileges(lambda: upscale(source, locked / "out.mkv")) == "cannot-write"
        assert outcome_without_privileges(lambda: write_picture(locked / "a.png", pixels)) == "cannot-write"
        assert outcome_without_privileges(lambda: write_atomic(locked / "b" / "a.txt", b"x")) == "cannot-write"
        assert list(locked.iterdir()) == []


def test_the_source_is_never_its_own_output(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4)
    before = source.read_bytes()
    with pytest.raises(InputError) as refused:
        upscale(source, tmp_path / "." / "in.mkv", overwrite=True)
    assert refused.value.code == "output-is-input"
    assert source.read_bytes() == before


def test_output_folder_that_is_a_file(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=4)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError) as refused:
        upscale(source, tmp_path / "file" / "out.mkv")
    assert refused.value.code == "cannot-write"


def test_full_disk_says_so_and_the_work_goes_on_later(tmp_path: Path) -> None:
    """A limit on the size of files fails the same calls as a full disk, with another number."""
    source = make_clip(
        tmp_path / "in.mkv", frames=60, options={"g": "10", "crf": "30"}, pictures=noisy, size=(160, 120)
    )
    program = textwrap.dedent(
        f"""
        import resource, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from video_clips import Nearest
        from apisr.core.errors import ApisrError
        from apisr.upscale.options import VideoOptions
        from video_clips import upscale_video
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))
        try:
            options = VideoOptions(codec="ffv1", segment_frames=10)
            upscale_video(Path({str(source)!r}), Path({str(tmp_path / "out.mkv")!r}), Nearest, options, scale=2)
        except ApisrError as error:
            print(error.code, error)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("file-too-large cannot write"), done.stdout + done.stderr
    assert len(done.stdout.strip().splitlines()) == 1
    assert not (tmp_path / "out.mkv").exists()
    options = VideoOptions(codec="ffv1", segment_frames=10)
    assert upscale(source, tmp_path / "out.mkv", options).frames_out == 60


def test_a_full_file_system(tmp_path: Path) -> None:
    """The real thing, where a small file system can be mounted."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    try:
        source = make_clip(tmp_path / "in.mkv", frames=40, pictures=noisy, size=(160, 120), options={"crf": "30"})
        with pytest.raises(RunError) as refused:
            upscale(source, small / "out.mkv", VideoOptions(codec="ffv1", segment_frames=10))
        assert refused.value.code == "disk-full"
        assert not (small / "out.mkv").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_an_error_of_the_network_is_not_swallowed(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=12)

    class Failing:
        frames = 0

        def process(self, rgb: ImageInt) -> ImageInt:
            self.frames += 1
            if self.frames == 7:
                raise MemoryError("no memory left on the device")
            return rgb.repeat(2, 0).repeat(2, 1)

    with pytest.raises(MemoryError, match="on the device"):
        upscale_video(source, tmp_path / "out.mkv", Failing, FAST, scale=2)
    assert not (tmp_path / "out.mkv").exists()
