"""Links, leftovers and other people's files where a run reads and writes: none is touched, none ends a run oddly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run
from error_codes import raises_code
from test_video_crash import FAST, Stopped, frames_of
from video_clips import Nearest, make_clip, upscale_video

from apisr.core.files import atomic_path, partial_path, write_atomic
from apisr.core.media import media_kind
from apisr.core.text import parse_json
from apisr.upscale.video.work_folder import WorkFolder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in.mkv", frames=96, options={"g": "5", "bf": "2"})


def interrupted(source: Path, target: Path) -> WorkFolder:
    """Leave a work folder with a few complete segments."""
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, target, lambda: Stopped(45), FAST)
    return WorkFolder.beside(target)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_what_a_link_at_the_partial_name_leads_to_is_left_alone(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_bytes(b"precious")
    target = tmp_path / "out.bin"
    link(precious, partial_path(target))
    write_atomic(target, b"new")
    assert (precious.read_bytes(), target.read_bytes(), target.is_symlink()) == (b"precious", b"new", False)
    assert not partial_path(target).exists()


def test_a_partial_file_of_a_killed_run_is_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    partial_path(target).write_bytes(b"half of something longer")
    write_atomic(target, b"whole")
    assert target.read_bytes() == b"whole"
    assert sorted(tmp_path.iterdir()) == [target]


def test_two_processes_never_write_into_one_file(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from apisr.core.files import atomic_path
        with atomic_path(Path(sys.argv[1])) as partial:
            partial.write_bytes(b"the first")
            print("half", flush=True)
            sys.stdin.readline()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "half\n"
        with raises_code("output-busy"):
            write_atomic(target, b"the second, which is longer")
        assert partial_path(target).read_bytes() == b"the first"
        first.communicate("go on\n")
    assert first.returncode == 0
    assert target.read_bytes() == b"the first"
    with raises_code("output-exists"), atomic_path(target):
        pass


def test_links_in_a_circle_are_one_line_or_passed_over(apisr: Run, data: Path, tiny_x2: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture = folder / "a.png"
    picture.write_bytes(_png(data))
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "nothing.png").symlink_to("gone.png")
    for command in (["upscale", "-m", tiny_x2], ["enhance"], ["degrade", "-s", "1", "-p", "bicubic"]):
        out = tmp_path / f"out-{command[0]}"
        ran = apisr(command[0], folder, "-o", out, *command[1:])
        assert (ran.returncode, ran.code) == (0, "")
        assert len(list(out.glob("a*.png"))) == 1
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "out.png").symlink_to("out.png")
    for target in (tmp_path / "loop", tmp_path / "loop" / "b.png", tmp_path / "out.png"):
        ran = apisr("upscale", picture, "-o", target, "-m", tiny_x2)
        assert ran.returncode == 2
        assert "unexpected" not in ran.stderr
        ran = apisr("enhance", picture, "-o", target)
        assert (ran.returncode, ran.code) == (2, "cannot-write")
    ran = apisr("upscale", folder / "circle.png", "-o", tmp_path / "b.png", "-m", tiny_x2)
    assert ran.returncode == 2


def test_pipes_and_devices_are_not_waited_for(apisr: Run, tiny_x2: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert media_kind(tmp_path / "pipe.png") is None
    for name in (tmp_path / "pipe.png", "/dev/zero", "/dev/stdin"):
        ran = apisr("upscale", name, "-o", tmp_path / "out.png", "-m", tiny_x2)
        assert (ran.returncode, ran.code) == (2, "not-a-file")
        assert apisr("enhance", name, "-o", tmp_path / "out.png").returncode == 2
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_pipe_whose_ends_are_closed(tiny_x2: Path, closed: str) -> None:
    command = f'"{sys.executable}" -m apisr upscale - -o - -m "{tiny_x2}" {closed}'
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 2
    assert "unexpected" not in ran.stderr
    assert len(ran.stderr.splitlines()) == (0 if "2>" in closed else 1)


def test_a_folder_at_the_partial_name_is_seen_before_the_work(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.partial.mkv").mkdir()
    counter = Nearest()
    with raises_code("output-is-folder"):
        upscale_video(source, tmp_path / "out.mkv", lambda: counter, FAST)
    assert counter.frames == 0


@pytest.mark.parametrize("arguments", [["upscale", "", "-o", "out"], ["upscale", "a.png", "-o", ""], ["enhance", " "]])
def test_an_empty_argument_is_not_this_folder(apisr: Run, tmp_path: Path, data: Path, arguments: list[str]) -> None:
    (tmp_path / "a.png").write_bytes(_png(data))
    ran = apisr(*arguments, cwd=tmp_path)
    assert (ran.returncode, ran.code) == (2, "empty-argument")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_work_folder_that_is_a_link_is_not_followed(source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("precious")
    target = tmp_path / "out.mkv"
    WorkFolder.beside(target).path.symlink_to(outside)
    with raises_code("work-folder-foreign"):
        upscale_video(source, target, Nearest, FAST)
    assert [path.name for path in outside.iterdir()] == ["precious.txt"]


def test_other_files_in_a_work_folder_stay(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    folder = WorkFolder.beside(target).path
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "mine.txt").write_text("mine")
    (folder / "mine.txt").write_text("mine")
    assert upscale_video(source, target, Nearest, FAST).frames_out == 96
    assert sorted(path.name for path in folder.iterdir()) == ["mine.txt", "notes"]
    assert (folder / "notes" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: {**record, "pts": record["pts"][::-1]},
        lambda record: {**record, "pts": [time + 100_000 for time in record["pts"]]},
        lambda record: {**record, "pts": "soon"},
        lambda record: {**record, "durations": record["durations"][1:]},
        lambda record: {**record, "size_bytes": 1e999},
        lambda record: [record],
    ],
)
def test_a_segment_whose_record_says_something_else_is_made_again(
    source: Path, tmp_path: Path, damage: Callable[[dict[str, object]], object]
) -> None:
    upscale_video(source, tmp_path / "whole.mkv", Nearest, FAST)
    target = tmp_path / "out.mkv"
    folder = interrupted(source, target)
    record = folder.path / "00001.json"
    record.write_text(json.dumps(damage(json.loads(record.read_text()))))
    assert upscale_video(source, target, Nearest, FAST).resumed_frames <= 45 - 10
    assert frames_of(target) == frames_of(tmp_path / "whole.mkv")
    assert not folder.path.exists()


def test_segments_that_changed_places_are_made_again(source: Path, tmp_path: Path) -> None:
    upscale_video(source, tmp_path / "whole.mkv", Nearest, FAST)
    target = tmp_path / "out.mkv"
    folder = interrupted(source, target).path
    for ending in ("json", "segment"):
        first, second = (folder / f"0000{number}.{ending}" for number in (0, 1))
        one, other = first.read_bytes(), second.read_bytes()
        first.write_bytes(other)
        second.write_bytes(one)
    upscale_video(source, target, Nearest, FAST)
    assert frames_of(target) == frames_of(tmp_path / "whole.mkv")


@pytest.mark.parametrize("text", ["", "\0\1", "[]", "null", "1e999", "[" * 100_000])
def test_a_damaged_record_of_a_run_begins_it_again(source: Path, tmp_path: Path, text: str) -> None:
    target = tmp_path / "out.mkv"
    folder = interrupted(source, target).path
    (folder / "record.json").write_text(text)
    outcome = upscale_video(source, target, Nearest, FAST)
    assert (outcome.resumed_frames, outcome.frames_out) == (0, 96)
    assert not folder.exists()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 4), (3, 5), (400, 1), (2, 400)])
def test_videos_of_a_few_lines(tmp_path: Path, size: tuple[int, int]) -> None:
    """No warning is shown (they are errors here), and every frame comes out."""
    small = make_clip(tmp_path / "small.mkv", codec="ffv1", frames=12, size=size, pix_fmt="yuv444p")
    result = upscale_video(small, tmp_path / "out.mkv", Nearest, FAST, scale=2)
    assert (result.frames_out, result.output_size) == (12, (2 * size[0], 2 * size[1]))


def test_json_of_any_depth_is_a_value_error() -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, b"\xff", "9" * 5000):
        with pytest.raises(ValueError):
            parse_json(text)


def _png(data: Path) -> bytes:
    return (data / "metrics" / "high.png").read_bytes()
