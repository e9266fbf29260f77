"""The command and its folders: files written, resume, workers, replay, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from apisr.cli import main
from apisr.core.errors import Cancelled, InputError
from apisr.core.progress import Cancel, Progress
from apisr.degrade import apply, load_recipe, sample
from apisr.degrade.folder import PARAMETERS_NAME, SHEET_NAME, DegradeOptions, degrade_folder
from apisr.image import read_rgb, write_picture


@pytest.fixture(scope="module")
def pictures(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("high")
    with np.load(data / "lines.npz") as arrays:
        for index in range(5):
            part = np.ascontiguousarray(arrays[f"{index % 2}.input_rgb"][20 * index : 20 * index + 90, :121])
            write_picture(folder / ("below" if index == 4 else "") / f"p {index}.png", part)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_command_writes_pictures_parameters_and_sheet(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "low"
    code, out, _ = run(capsys, "degrade", pictures, "-o", output, "--scale", 2, "--seed", 3)
    assert code == 0
    assert "5 pictures degraded" in out
    names = sorted(contents(output))
    assert names.pop(0) == "_look/.not-sources"
    assert names == [SHEET_NAME, "below/p 4.png", "p 0.png", "p 1.png", "p 2.png", "p 3.png", PARAMETERS_NAME]
    lines = [json.loads(line) for line in (output / PARAMETERS_NAME).read_text().splitlines()]
    assert [line["file"] for line in lines] == ["below/p 4.png", "p 0.png", "p 1.png", "p 2.png", "p 3.png"]
    for line in lines:
        low = read_rgb(output / line["file"])
        high = read_rgb(pictures / line["file"])
        assert line["seed"] == 3
        np.testing.assert_array_equal(apply(high, line["parameters"]), low)
    sheet = read_rgb(output / SHEET_NAME)
    assert sheet.shape[0] > 3 * 256
    assert sheet.std() > 10


def test_workers_order_and_resume_do_not_change_a_byte(pictures: Path, tmp_path: Path) -> None:
    recipe = load_recipe("apisr", scale=4)
    degrade_folder(pictures, tmp_path / "one", recipe, DegradeOptions(seed=5))
    degrade_folder(pictures, tmp_path / "many", recipe, DegradeOptions(seed=5, workers=3))
    expected = contents(tmp_path / "one")
    assert contents(tmp_path / "many") == expected
    # An interrupted run: two pictures there, the record cut off in the middle of its third line.
    torn = tmp_path / "torn"
    torn.mkdir()
    rows = (tmp_path / "one" / PARAMETERS_NAME).read_text().splitlines(keepends=True)
    for row in rows[:2]:
        name = json.loads(row)["file"]
        (torn / name).parent.mkdir(exist_ok=True)
        (torn / name).write_bytes(expected[name])
    (torn / PARAMETERS_NAME).write_text("".join(rows[:2]) + rows[2][:40])
    result = degrade_folder(pictures, torn, recipe, DegradeOptions(seed=5, workers=2))
    assert len(result.skipped) == 2
    assert len(result.done) == 3
    assert contents(torn) == expected


def test_seeds_differ_and_are_not_mixed(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "low"
    assert run(capsys, "degrade", pictures, "-o", output, "--seed", 1, "--no-sheet", "-q") == (0, "", "")
    before = contents(output)
    code, _, err = run(capsys, "degrade", pictures, "-o", output, "--seed", 2)
    assert code == 2
    assert "seed 1" in err
    assert "--overwrite" in err
    assert contents(output) == before
    assert run(capsys, "degrade", pictures, "-o", output, "--seed", 2, "--overwrite", "--no-sheet", "-q")[0] == 0
    assert contents(output) != before
    assert not list(output.rglob("*.partial*"))


def test_replay_repeats_a_record(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run(capsys, "degrade", pictures, "-o", first, "--preset", "bsrgan", "--no-sheet", "-q")
    record = first / PARAMETERS_NAME
    code, out, _ = run(capsys, "degrade", pictures, "-o", second, "--replay", record, "--no-sheet", "--json")
    assert code == 0
    assert len(json.loads(out)["done"]) == 5
    for name, data in contents(first).items():
        if name.endswith(".png"):
            assert (second / name).read_bytes() == data


def test_foreign_files_are_not_replaced(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "low"
    output.mkdir()
    (output / "p 0.png").write_text("mine")
    with pytest.raises(InputError) as caught:
        degrade_folder(pictures, output, load_recipe("bicubic"))
    assert caught.value.code == "output-exists"
    assert contents(output) == {"p 0.png": b"mine"}


def test_a_damaged_picture_fails_alone(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes((pictures / "p 0.png").read_bytes())
    (folder / "bad.png").write_bytes((pictures / "p 0.png").read_bytes()[:500])
    code, out, err = run(capsys, "degrade", folder, "-o", tmp_path / "out", "--preset", "bicubic")
    assert code == 1
    assert "1 picture degraded" in out
    assert "bad.png" in err
    assert (tmp_path / "out" / "good.png").is_file()
    assert not (tmp_path / "out" / "bad.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "-o", "out"], "no such file or folder"),
        (["{pictures}", "-o", "{file}"], "it is a file"),
        (["{pictures}", "-o", "out", "--preset", "apsir"], "did you mean 'apisr'"),
        (["{pictures}", "-o", "out", "--scale", "3"], "scale 3 is not supported"),
        (["{pictures}", "-o", "out", "--replay", "{file}"], "is not a record of parameters"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    words: str,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("text")
    filled = [argument.format(pictures=pictures, file=tmp_path / "file.txt") for argument in arguments]
    code, out, err = run(capsys, "degrade", *filled)
    assert code == 2
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("apisr: error:")]
    assert len(errors) == 1
    assert words in errors[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(1, 1), (3, 300), (257, 5)])
def test_tiny_pictures_have_their_place_on_the_sheet(size: tuple[int, int], tmp_path: Path) -> None:
    high = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    write_picture(tmp_path / "a.png", high)
    result = degrade_folder(tmp_path / "a.png", tmp_path / "out", load_recipe("bicubic"))
    assert result.done == ("a.png",)
    assert read_rgb(tmp_path / "out" / SHEET_NAME).shape[0] > 256


def test_the_example_of_the_note_is_a_recipe(tmp_path: Path) -> None:
    note = Path(__file__).parent.parent / "docs" / "degrade.md"
    text = note.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    (tmp_path / "old-dvd.toml").write_text(text, encoding="utf-8")
    recipe = load_recipe(tmp_path / "old-dvd.toml", scale=2)
    parameters = sample(recipe, np.random.default_rng(0), 64, 64)
    assert apply(np.zeros((64, 64, 3), np.uint8), parameters).shape == (32, 32, 3)


def test_two_inputs_with_one_output_name(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    high = read_rgb(pictures / "p 0.png")
    write_picture(folder / "a.png", high)
    write_picture(folder / "a.bmp", high)
    with pytest.raises(InputError) as caught:
        degrade_folder(folder, tmp_path / "out", load_recipe("bicubic"))
    assert caught.value.code == "name-taken"


def test_a_stopped_run_keeps_what_is_finished_and_goes_on(pictures: Path, tmp_path: Path) -> None:
    cancel, events = Cancel(), []

    def stop_after_two(event: Progress) -> None:
        events.append((event.stage, event.done, event.total))
        if event.done == 2:
            cancel.request()

    recipe = load_recipe("bicubic")
    with pytest.raises(Cancelled):
        degrade_folder(pictures, tmp_path / "out", recipe, progress=stop_after_two, cancel=cancel)
    assert events[:2] == [("degrade", 1, 5), ("degrade", 2, 5)]
    result = degrade_folder(pictures, tmp_path / "out", recipe)
    assert len(result.skipped) >= 2
    assert len(result.skipped) + len(result.done) == 5
