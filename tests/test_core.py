"""The floor: atomic files, the lock, media search, settings, stages, memory, workers that end with their parent."""

from __future__ import annotations

import os
import pickle
import platform
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from apisr.core import memory
from apisr.core.config import Presets, nearest, read_toml, read_toml_file, validated, write_toml
from apisr.core.errors import ApisrError, Cancelled, InputError, MissingExtra, ModelError, RunError
from apisr.core.files import atomic_path, check_target, free_bytes, path_inside, read_plain, write_atomic
from apisr.core.locks import hold_lock, take_lock
from apisr.core.media import find_media, kind_of_content, media_kind
from apisr.core.memory import available_memory, check_memory, total_memory
from apisr.core.pipeline import Stage, map_ordered, prefetch
from apisr.core.progress import Cancel, Progress
from apisr.image import find_pictures


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(ApisrError) as caught:
        action()
    return caught.value.code


def test_errors_keep_their_code_between_processes() -> None:
    for error in (InputError("a", code="b"), ModelError("a"), RunError("x", code="disk-full"), Cancelled("stopped")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.code) == (type(error), str(error), error.code)
    missing = pickle.loads(pickle.dumps(MissingExtra("torch", "to load 'a.pth'")))
    assert (missing.extra, missing.code, missing.exit_code) == ("torch", "missing-extra", 2)
    assert '".[torch]"' in str(missing)


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"

    def fail() -> None:
        with atomic_path(target) as partial:
            partial.write_text("half")
            raise RunError("no")

    assert code_of(fail) == "run-failed"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    assert code_of(lambda: write_atomic(target, b"new")) == "output-exists"
    assert target.read_text() == "old"
    write_atomic(target, b"new", overwrite=True)
    assert target.read_text() == "new"
    assert code_of(lambda: check_target(tmp_path)) == "output-is-folder"
    assert code_of(lambda: check_target(target / "b.txt")) == "cannot-write"


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"

    def race() -> None:
        with atomic_path(target) as partial:
            partial.write_text("ours")
            target.write_text("theirs")

    assert code_of(race) == "output-exists"
    assert target.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_a_limit_on_file_sizes_never_leaves_a_cut_file(tmp_path: Path) -> None:
    child = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from apisr.core.errors import ApisrError
        from apisr.core.files import write_atomic
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_atomic(Path(sys.argv[1]), bytes(5000))
        except ApisrError as error:
            print(error.code)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", child, str(tmp_path / "a.bin")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("file-too-large\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../b", "/etc/passwd", "a/../../b", "", "C:\\b", "link/b", "a\0b"])
def test_no_name_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    assert code_of(lambda: path_inside(folder, name)) == "path-outside"


def test_names_inside_a_folder_are_followed(tmp_path: Path) -> None:
    assert path_inside(tmp_path, "a/b..c.png") == tmp_path / "a" / "b..c.png"


def test_free_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") == free_bytes(tmp_path) > 0


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "work" / ".lock"
    with hold_lock(path, busy="another run works here", code="work-folder-busy"):
        assert code_of(lambda: take_lock(path, busy="another", code="work-folder-busy")) == "work-folder-busy"
    take_lock(path, busy="nobody").release()


def test_a_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    child = (
        "import sys, time; from pathlib import Path; from apisr.core.locks import take_lock\n"
        "lock = take_lock(Path(sys.argv[1]), busy='busy'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", child, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert code_of(lambda: take_lock(path, busy="busy")) == "busy"
        holder.kill()
        holder.wait()
    take_lock(path, busy="busy").release()


def test_content_decides_before_the_ending(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "b.png").write_bytes(b"\x1aE\xdf\xa3")
    (tmp_path / "c.jfif").write_bytes(b"")
    (tmp_path / "d.TGA").write_bytes(b"\0\0\2")
    (tmp_path / "e.txt").write_text("hello")
    (tmp_path / ".hidden.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "f.partial.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    kinds = {path.name: media_kind(path) for path in sorted(tmp_path.iterdir())}
    assert kinds["a.mkv"] == kinds["c.jfif"] == kinds["d.TGA"] == "picture"
    assert kinds["b.png"] == "video"
    assert kinds["e.txt"] is None
    listing = find_media(tmp_path)
    assert [path.name for path in listing.found] == ["a.mkv", "b.png", "c.jfif", "d.TGA"]
    assert [path.name for path in listing.left_out] == ["e.txt"]
    assert [path.name for path in find_media(tmp_path, kinds=["video"]).found] == ["b.png"]


def test_a_picture_that_is_named_itself_is_not_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "b.mkv", "c.txt", "d.txt"):
        (tmp_path / name).write_bytes(b"")
    assert find_pictures([tmp_path, tmp_path / "c.txt"]).left_out == dict.fromkeys(
        [tmp_path / "b.mkv", tmp_path / "d.txt"], "other-kind"
    )


def test_a_search_follows_links_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    assert [path.name for path in find_media(tmp_path).found] == ["a.png"]
    assert find_media(tmp_path, recursive=False).found == ()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"RIFF\0\0\0\0WEBPVP8 ", "picture"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "picture"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", "video"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "picture"),
        (b"G" + bytes(187) + b"G" + bytes(187) + b"G", "video"),
        (b"P6\n2 2\n255\n", "picture"),
        (b"Plain text", None),
        (b"", None),
    ],
)
def test_first_bytes_name_the_kind(head: bytes, kind: str | None) -> None:
    assert kind_of_content(head) == kind


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: int = 1
    rate: float = 0.5


def test_settings_name_the_key_and_its_neighbour(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        validated(Settings, {"stpes": 3}, name="'my.toml'")
    assert caught.value.code == "bad-setting"
    assert "'stpes'" in str(caught.value)
    assert "'steps'" in str(caught.value)
    assert validated(Settings, {"steps": 3}, name="x").steps == 3
    deep = tmp_path / "deep.toml"
    deep.write_text("a = " + "[" * 5000 + "]" * 5000)
    assert code_of(lambda: read_toml_file(deep)) == "bad-toml"
    deep.write_text("a = " + "9" * 100_000)
    assert code_of(lambda: read_toml_file(deep)) == "bad-toml"
    assert code_of(lambda: read_toml("a = ", name="x")) == "bad-toml"
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\0")
    assert code_of(lambda: read_toml_file(tmp_path / "binary.toml")) == "bad-toml"
    assert code_of(lambda: read_toml_file(tmp_path / "none.toml")) == "cannot-read"


def test_toml_travels_there_and_back() -> None:
    values = {"run": {"name": 'a"b\\n', "steps": 3, "rate": 1e-4, "on": True, "list": [1, 2]}, "none": None}
    assert read_toml(write_toml(values), name="x") == {"run": values["run"]}
    assert nearest("papre", ["paper", "reference"]) == "paper"


def test_presets_are_files() -> None:
    presets = Presets("apisr.degrade")
    assert "apisr" in presets.names()
    assert presets.load("apisr")
    assert code_of(lambda: presets.text("../presets/apisr")) == "unknown-preset"


def test_prefetch_stops_its_producer_when_the_taker_leaves() -> None:
    ended = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            ended.set()

    taken = prefetch(numbers(), ahead=2)
    assert next(taken) == 0
    taken.close()
    assert ended.wait(5)


def test_errors_of_threads_reach_the_caller() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise RunError("broken", code="broken")

    assert code_of(lambda: list(prefetch(broken(), ahead=1))) == "broken"

    def square(value: int) -> int:
        if value == 3:
            raise RunError("three", code="three")
        return value * value

    results = map_ordered(square, range(10), workers=3)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert code_of(lambda: next(results)) == "three"

    def failing(value: int) -> None:
        raise RunError(str(value), code="stage")

    stage = Stage(failing, ahead=1)

    def fill() -> None:
        for value in range(100):
            stage.put(value)
        stage.finish()

    assert code_of(fill) == "stage"


def test_a_stage_keeps_the_order_and_finishes_everything() -> None:
    taken: list[int] = []
    stage = Stage(taken.append, ahead=2)
    for value in range(50):
        stage.put(value)
    stage.finish()
    assert taken == list(range(50))


def test_an_abandoned_stage_leaves_no_thread() -> None:
    started = threading.Event()

    def slow(value: int) -> None:
        started.set()
        time.sleep(0.01)

    stage = Stage(slow, ahead=3, name="apisr-test-stage")
    for value in range(3):
        stage.put(value)
    started.wait(5)
    stage.abandon()
    assert "apisr-test-stage" not in {thread.name for thread in threading.enumerate()}


def test_a_cancel_stops_a_map() -> None:
    cancel = Cancel()

    def work(value: int) -> int:
        if value == 2:
            cancel.request()
        return value

    with pytest.raises(Cancelled) as caught:
        list(map_ordered(work, range(100), workers=1, ahead=1, cancel=cancel))
    assert caught.value.exit_code == 130
    assert not pickle.loads(pickle.dumps(cancel)).requested


def test_progress_knows_its_share() -> None:
    assert Progress("upscale", done=3, total=4).share == 0.75
    assert Progress("upscale", done=3).share is None


def test_memory_is_asked_before_it_is_taken() -> None:
    assert 0 < available_memory() <= total_memory()
    check_memory(1, what="a pixel")
    assert code_of(lambda: check_memory(1 << 60, what="'a.png'")) == "too-large"


def test_a_small_request_is_not_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    with pytest.raises(
        InputError, match=r"'a\.png' needs 0\.12 MB of memory, 0\.00 MB can be taken\. Close other"
    ) as small:
        check_memory(1 << 17, what="'a.png'")
    assert "smaller picture" not in str(small.value)
    with pytest.raises(InputError, match=r"needs 64 MB of memory.*Use a smaller picture"):
        check_memory(64 << 20, what="'a.png'")


def test_a_limit_of_the_process_counts_as_memory() -> None:
    child = (
        "import resource\nfrom apisr.core.memory import available_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\nprint(available_memory() < 1 << 30)"
    )
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True\n", done.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 1 << 30


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    parent = textwrap.dedent(
        """
        import multiprocessing, os, sys, time
        from pathlib import Path
        from apisr.core.processes import end_with_parent

        def worker(path):
            end_with_parent()
            Path(path).write_text(str(os.getpid()))
            time.sleep(120)

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            for number in range(2):
                context.Process(target=worker, args=(f"{sys.argv[1]}/{number}",)).start()
            time.sleep(120)
        """
    )
    script = tmp_path / "parent.py"
    script.write_text(parent)
    marks = [tmp_path / "0", tmp_path / "1"]
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)]) as process:
        wait_for(lambda: all(mark.exists() and mark.read_text() for mark in marks), seconds=60)
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not any(alive(int(mark.read_text())) for mark in marks), seconds=20)


def wait_for(condition: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs (one that has ended and waits to be reaped does not)."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_short_text_takes_no_more_memory_than_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom apisr.core.files import read_plain\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\n"
        "print(len(read_plain(Path(sys.argv[1]), at_most=2 << 30)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.json"], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("2", "")


def test_a_text_of_the_largest_length_is_read_and_a_longer_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(bytes(1 << 20))
    assert len(read_plain(path, at_most=1 << 20)) == 1 << 20
    path.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(OSError, match="longer than 1 MB"):
        read_plain(path, at_most=1 << 20)


_TAKING_AND_FREEING = """
import resource, sys
import numpy as np
from apisr.core.memory import keep_freed_memory
told = keep_freed_memory() if sys.argv[1] == "keep" else False
for _ in range(3):
    np.ones(10_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(10_000_000)
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to keep memory")
def test_freed_memory_is_kept_and_not_mapped_anew() -> None:
    def faults(argument: str, **environment: str) -> tuple[str, int]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        command = [sys.executable, "-c", _TAKING_AND_FREEING, argument]
        printed = subprocess.check_output(command, env=clean | environment, text=True).split()
        return printed[0], int(printed[1])

    assert faults("keep")[0] == "True"
    assert faults("keep")[1] * 10 < faults("leave")[1]
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="100000")[0] == "False"  # what the user has set up stays
