"""Files and folders that change under a run: one file never takes the others down, and nothing is wrong in silence."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from video_clips import make_clip

from apisr.core.errors import InputError, RunError
from apisr.core.files import open_regular, read_plain, refused_to_keep, sha256_file
from apisr.core.media import find_media, media_kind
from apisr.core.progress import Progress
from apisr.image import open_picture, write_picture
from apisr.upscale.jobs import plan_jobs, run_jobs
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.results import JobResult

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes, links and permissions of POSIX")

Change = Callable[[Path], object]


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, np.random.default_rng(seed).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        picture(tmp_path / "in" / f"{number}.png", number)
    make_clip(tmp_path / "in" / "v.mkv", frames=6)
    picture(tmp_path / "other" / "o.png", 9)
    return tmp_path


def run(folder: Path, model: Path, change: Change, *, when: Callable[[Progress], bool]) -> dict[str, JobResult]:
    """Upscale the folder ``in``; change something when an event arrives (the run waits for it)."""
    options = UpscaleOptions(model=model)
    waiting = [change]

    def progress(event: Progress) -> None:
        if waiting and when(event):
            waiting.pop()(folder)

    results = run_jobs(plan_jobs([folder / "in"], folder / "out", options).jobs, options, progress=progress)
    assert not waiting, "the change was made"
    return {result.source.name: result for result in results}


def replaced(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / "other" / "o.png").replace(folder / "in" / name)

    return change


def became(name: str, make: Callable[[Path], object]) -> Change:
    def change(folder: Path) -> None:
        (folder / "in" / name).unlink()
        make(folder / "in" / name)

    return change


@pytest.mark.parametrize("name", ["1.png", "v.mkv"])
@pytest.mark.parametrize(
    ("make", "codes"),
    [
        (lambda path: None, {"cannot-read", "no-such-file"}),
        (os.mkfifo, {"not-a-file"}),
        (lambda path: path.symlink_to("/dev/zero"), {"not-a-file"}),
        (lambda path: path.symlink_to(path.name), {"cannot-read"}),
        (lambda path: path.symlink_to("nowhere"), {"cannot-read", "no-such-file"}),
        (Path.mkdir, {"cannot-read", "is-folder"}),
        (lambda path: path.write_bytes(b""), {"empty-file"}),
    ],
    ids=["gone", "pipe", "device", "circle", "nowhere", "folder", "empty"],
)
def test_what_has_become_of_one_file_does_not_stop_the_others(
    folder: Path, tiny_x2: Path, name: str, make: Callable[[Path], object], codes: set[str]
) -> None:
    results = run(folder, tiny_x2, became(name, make), when=lambda event: event.item.endswith("0.png"))
    failed = results.pop(name)
    assert failed.status == "failed"
    assert failed.code in codes, failed.message
    assert {result.status for result in results.values()} == {"done"}
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(results)


@pytest.mark.parametrize("late", [False, True], ids=["opened", "upscaled"])
@pytest.mark.parametrize(
    "change",
    [
        replaced("1.png"),
        lambda folder: shutil.copyfile(folder / "other" / "o.png", folder / "in" / "1.png"),
        lambda folder: (folder / "in" / "1.png").unlink(),
    ],
    ids=["replaced", "overwritten", "deleted"],
)
def test_a_picture_that_changes_while_it_is_read_is_not_a_result(
    folder: Path, tiny_x2: Path, change: Change, late: bool
) -> None:
    """The mark of an output says of which file it was made: pixels of one never get the mark of another."""

    def when(event: Progress) -> bool:
        return event.item.endswith("1.png") and event.kind == "advanced" and bool(event.done) == late

    results = run(folder, tiny_x2, change, when=when)
    failed = results.pop("1.png")
    assert failed.code in {"source-changed", "cannot-read"}
    assert not (folder / "out" / "1.png").exists()
    assert not (folder / "out" / "1.partial.png").exists()
    assert {result.status for result in results.values()} == {"done"}
    if (folder / "in" / "1.png").exists():
        options = UpscaleOptions(model=tiny_x2)
        again = run_jobs(plan_jobs([folder / "in"], folder / "out", options).jobs, options)
        assert [result.status for result in again] == ["skipped", "done", "skipped", "skipped"]


def test_a_folder_that_becomes_a_file_is_one_line_for_each_file(folder: Path, tiny_x2: Path) -> None:
    def change(folder: Path) -> None:
        (folder / "in").rename(folder / "moved")
        (folder / "in").write_text("a file")

    results = run(folder, tiny_x2, change, when=lambda event: event.item.endswith("0.png") and event.kind == "ended")
    assert [result.status for result in results.values()] == ["done", "failed", "failed", "failed"]
    assert not any("unexpected" in result.message for result in results.values())


@pytest.mark.parametrize("make", [shutil.rmtree, lambda path: path.rename(path.with_name("moved"))])
def test_a_removed_work_folder_is_not_said_to_be_kept(
    tmp_path: Path, tiny_x2: Path, make: Callable[[Path], object]
) -> None:
    (tmp_path / "in").mkdir()
    make_clip(tmp_path / "in" / "v.mkv", frames=6)
    results = run(
        tmp_path, tiny_x2, lambda folder: make(folder / "out"), when=lambda event: event.done == 3 and event.total == 6
    )
    failed = results["v.mkv"]
    assert (failed.status, failed.code) == ("failed", "cannot-write")
    assert "kept" not in failed.message
    assert not (tmp_path / "out" / "v.mkv").exists()


def test_regular_files_alone_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(InputError) as refused:
            open_regular(path)
        assert refused.value.code == "not-a-file"
        with pytest.raises(InputError) as refused, open_picture(path):
            pass
        assert refused.value.code == "not-a-file"


def test_an_open_picture_knows_whether_it_was_changed(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", 1)
    other = picture(tmp_path / "b.png", 2)
    shutil.copystat(path, other)
    with open_picture(path) as opened:
        opened.check_unchanged()
        other.replace(path)
        with pytest.raises(RunError) as refused:
            opened.check_unchanged()
    assert refused.value.code == "source-changed"


def without_rights() -> list[str]:
    """Return how a command is begun that has no rights beyond those of the files, also for the administrator."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("the administrator may read everything, and setpriv is not here")
    return ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]


_PROGRAM = """
import sys
import termios
from pathlib import Path
from apisr.core.media import find_media
listing = find_media(Path(sys.argv[1]))
print([path.name for path in listing.found], [path.name for path in listing.left_out])
"""


def test_folders_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    locked = [tmp_path / "closed", tmp_path / "listed", tmp_path / "hidden"]
    for path, mode in zip(locked, (0, 0o444, 0o111), strict=True):
        picture(path / f"{path.name}.png", 2)
        path.chmod(mode)
    command = [*without_rights(), sys.executable, "-c", _PROGRAM]
    try:
        found = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=True)
        alone = subprocess.run([*command, locked[0]], capture_output=True, text=True, check=False)
    finally:
        for path in locked:
            path.chmod(0o755)
    assert found.stdout.strip() == "['a.png'] ['closed', 'hidden', 'listed.png']"
    assert "cannot read the folder" in alone.stderr
    assert len(find_media(tmp_path).found) == 4


def test_an_output_folder_that_is_closed_in_the_middle_does_not_end_the_run(folder: Path, tiny_x2: Path) -> None:
    program = """
import sys
import termios
from pathlib import Path
from apisr.upscale.jobs import plan_jobs, run_jobs
from apisr.upscale.options import UpscaleOptions
folder, options = Path(sys.argv[1]), UpscaleOptions(model=Path(sys.argv[2]))
closed = lambda event: event.kind == "ended" and (folder / "out").exists() and (folder / "out").chmod(0)
results = run_jobs(plan_jobs([folder / "in"], folder / "out", options).jobs, options, progress=closed)
print([result.status for result in results], any("unexpected" in result.message for result in results))
"""
    command = [*without_rights(), sys.executable, "-c", program, folder, tiny_x2]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        (folder / "out").chmod(0o755)
    assert ran.stdout.strip() == "['done', 'failed', 'failed', 'failed'] False", ran.stderr


def test_numbered_pictures_are_all_there_or_none(tmp_path: Path, tiny_x2: Path) -> None:
    source = make_clip(tmp_path / "v.mkv", frames=6)
    pattern, options = tmp_path / "out" / "%03d.png", UpscaleOptions(model=tiny_x2)
    mine = tmp_path / "out" / "004.png"

    def appears(event: Progress) -> None:
        if event.done == 6 and not mine.exists():
            mine.parent.mkdir(exist_ok=True)
            mine.write_text("mine")

    (failed,) = run_jobs(plan_jobs([source], pattern, options).jobs, options, progress=appears)
    assert (failed.status, failed.code) == ("failed", "output-exists")
    assert mine.read_text() == "mine"
    assert [path.name for path in mine.parent.iterdir() if path.is_file()] == ["004.png"]
    mine.unlink()
    (done,) = run_jobs(plan_jobs([source], pattern, options).jobs, options)
    assert done.result is not None
    assert done.result.kind == "video"
    assert done.result.resumed_frames == 6
    assert sorted(path.name for path in mine.parent.iterdir()) == [f"00{number}.png" for number in range(1, 7)]


def test_pictures_of_a_longer_video_are_named(tmp_path: Path, tiny_x2: Path) -> None:
    source = make_clip(tmp_path / "v.mkv", frames=4)
    for number in (1, 5, 6):
        picture(tmp_path / "out" / f"{number:03d}.png", number)
    options = UpscaleOptions(model=tiny_x2, overwrite=True)
    (done,) = run_jobs(plan_jobs([source], tmp_path / "out" / "%03d.png", options).jobs, options)
    assert done.status == "done"
    assert any("005.png' and 1 more" in notice for notice in done.notices)
    assert len(list((tmp_path / "out").iterdir())) == 6


def killed_while_removing(target: Path) -> Path:
    """Make what is left where a run is killed while it removes its folder of segments."""
    left = target.with_name(f"{target.name}.partial.segments")
    left.mkdir()
    for name in ("00001.segment", "00002.json", "lock"):
        (left / name).write_bytes(b"{}")
    return left


def test_what_a_kill_leaves_after_the_end_goes_with_the_next_run(tmp_path: Path, tiny_x2: Path) -> None:
    source, target = make_clip(tmp_path / "v.mkv", frames=6), tmp_path / "out" / "v.mkv"
    options = UpscaleOptions(model=tiny_x2)
    run_jobs(plan_jobs([source], target, options).jobs, options)
    left = killed_while_removing(target)
    (left / "mine.txt").write_text("mine")
    (result,) = run_jobs(plan_jobs([source], target, options).jobs, options)
    assert result.status == "skipped"
    assert [path.name for path in left.iterdir()] == ["mine.txt"]
    shutil.rmtree(left)
    killed_while_removing(target)
    (left / "record.json").write_text("{}")  # segments of another run, which may go on
    run_jobs(plan_jobs([source], target, options).jobs, options)
    assert len(list(left.iterdir())) == 4


@pytest.mark.parametrize("begin", [[], ["nohup"]], ids=["stops", "nohup"])
def test_a_terminal_that_is_closed_stops_a_run_as_ctrl_c_does(tmp_path: Path, tiny_x2: Path, begin: list[str]) -> None:
    frames = 300 if begin else 3000
    source, target = make_clip(tmp_path / "v.mkv", frames=frames), tmp_path / "out" / "v.mkv"
    main, terminal = os.openpty()
    command = [*begin, sys.executable, "-m", "apisr", "upscale", source, "-o", target, "-m", tiny_x2]
    process = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        cwd=tmp_path,
        preexec_fn=lambda: (signal.signal(signal.SIGHUP, signal.SIG_DFL), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
    )
    os.close(terminal)
    while not target.with_name("v.mkv.partial.segments").exists():
        with contextlib.suppress(OSError):  # nohup has left the terminal
            os.read(main, 4096) if select.select([main], [], [], 0.1)[0] else None
        assert process.poll() is None
    os.close(main)
    code = process.wait(120)
    if begin:
        assert target.exists()
    else:
        assert code == 130
        assert not target.exists()


@pytest.mark.parametrize("kind", ["folder", "circle"])
def test_a_cache_that_takes_nothing_stops_nobody(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "kept.json"
    path.mkdir() if kind == "folder" else path.symlink_to(path.name)
    assert "kept.json" in refused_to_keep(path, b"{}")
    assert refused_to_keep(tmp_path / "other.json", b"{}") == ""
    assert (tmp_path / "other.json").read_bytes() == b"{}"


def test_the_writer_of_a_refused_pipe_is_not_disturbed(tmp_path: Path) -> None:
    """Were the pipe opened and closed, its writer would be let in and find nobody."""
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(path.write_bytes, b"whole")  # waits for a reader
        for _ in range(200):
            for read in (open_regular, read_plain, sha256_file, media_kind):
                with contextlib.suppress(InputError, OSError):
                    assert read(path) is None
        assert not written.done()
        assert path.read_bytes() == b"whole"
        assert written.result() == len(b"whole")
