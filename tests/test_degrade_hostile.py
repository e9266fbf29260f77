"""Degrading and enhancing what strangers made: folders, names, records and recipes of any kind, never in silence."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from error_codes import raises_code

from apisr.core.media import find_media
from apisr.degrade import apply, load_recipe
from apisr.degrade.folder import PARAMETERS_NAME, DegradeOptions, degrade_folder
from apisr.enhance import EnhanceOptions, enhance_files
from apisr.image import read_rgb, write_picture

RECIPE = load_recipe("bicubic", scale=2)
unix = pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and names of any bytes")


def drawing(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(8, axis=0).repeat(8, axis=1))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "high"
    for number in range(2):
        write_picture(folder / f"{number}.png", drawing(number))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@unix
def test_names_of_any_bytes_are_degraded_and_enhanced(tmp_path: Path) -> None:
    folder = tmp_path / "high"
    folder.mkdir()
    write_picture(tmp_path / "one.png", drawing(0))
    content = (tmp_path / "one.png").read_bytes()
    names = [b"bad\xff.png", b"new\nline.png", b"esc\x1b[31m.png", b"<b>'\".png", b"x" * 251 + b".png", b" %03d.png"]
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(content)
    low = degrade_folder(folder, tmp_path / "low", RECIPE, DegradeOptions())
    assert sorted(map(os.fsencode, low.done)) == sorted(names)
    assert not low.failed
    again = degrade_folder(folder, tmp_path / "low", RECIPE, DegradeOptions())
    assert sorted(map(os.fsencode, again.skipped)) == sorted(names)  # the record knows them
    options = EnhanceOptions(gamma_range=(0.97, 0.98))
    assert len(enhance_files(folder, tmp_path / "sharp", options).done) == len(names)


def test_the_seed_of_a_name_is_what_it_was(pictures: Path, tmp_path: Path) -> None:
    """A generator seeded by the CRC-32 of the name in UTF-8, whatever the system calls its bytes."""
    import zlib

    from apisr.degrade import sample

    (pictures / "0.png").rename(pictures / "第一話.png")
    recipe = load_recipe("apisr", scale=2)
    degrade_folder(pictures, tmp_path / "low", recipe, DegradeOptions(seed=5))
    rows = [json.loads(line) for line in (tmp_path / "low" / PARAMETERS_NAME).read_text("utf-8").splitlines()]
    row = next(row for row in rows if row["file"] == "第一話.png")
    expected = sample(recipe, np.random.default_rng([5, zlib.crc32("第一話.png".encode())]), 24, 32)
    assert row["parameters"] == expected


@unix
def test_what_is_no_file_is_named(pictures: Path, tmp_path: Path) -> None:
    (pictures / "dead.png").symlink_to(pictures / "nowhere.png")
    (pictures / "circle.png").symlink_to(pictures / "circle.png")
    (pictures / "null.png").symlink_to("/dev/null")
    os.mkfifo(pictures / "pipe.png")
    (pictures / "loop").symlink_to(pictures)
    expected = {"dead.png", "circle.png", "null.png", "pipe.png"}
    listing = find_media(pictures)
    assert {path.name for path in listing.left_out} == expected
    assert set(listing.left_out.values()) == {"not-a-file"}
    assert [path.name for path in listing.found] == ["0.png", "1.png"]
    result = degrade_folder(pictures, tmp_path / "low", RECIPE, DegradeOptions())
    assert {path.name for path in result.left_out} == expected
    assert {path.name for path in enhance_files(pictures, tmp_path / "sharp").left_out} == expected
    with raises_code("not-a-file"):
        degrade_folder(pictures / "pipe.png", tmp_path / "other", RECIPE, DegradeOptions())


@pytest.mark.parametrize("way", ["itself", "link to folder", "link to file"])
def test_the_sources_are_never_overwritten(pictures: Path, tmp_path: Path, way: str) -> None:
    before = contents(pictures)
    output = pictures
    if way == "link to folder":
        output = tmp_path / "link"
        output.symlink_to(pictures)
    elif way == "link to file":
        output = tmp_path / "out"
        output.mkdir()
        (output / "1.png").symlink_to(pictures / "1.png")
    with raises_code("output-is-input"):
        degrade_folder(pictures, output, RECIPE, DegradeOptions(overwrite=True))
    assert contents(pictures) == before


def test_a_sheet_is_not_written_through_a_link(pictures: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "_look").symlink_to(outside)
    with raises_code("cannot-write"):
        degrade_folder(pictures, tmp_path / "low", RECIPE, DegradeOptions())
    assert list(outside.iterdir()) == []


def set_all(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(parameters: dict[str, Any]) -> None:
        for stage in parameters["stages"]:
            stage.update({key: value for key in stage if key == name})

    return change


def add_stage(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda parameters: parameters["stages"].insert(0, values)


@pytest.mark.parametrize(
    "change",
    [
        set_all("height", 10**9),
        set_all("height", 1.5),
        set_all("width", "7"),
        set_all("width", 100_000),
        set_all("mode", float("nan")),
        add_stage(stage="blur", kind="iso", size=99_999_999, sigma=[1, 1]),
        add_stage(stage="blur", kind="iso", size=7, sigma=[1e300, float("inf")]),
        add_stage(stage="soften", sigma=[1e9, 1e9]),
        add_stage(stage="sharpen", radius=-1, amount=1, rows_only=False),
        add_stage(stage="noise", kind="gaussian", sigma=10**30, gray=False, seed=1),
        add_stage(stage="noise", kind="gaussian", sigma=1, gray=False, seed=-1),
        add_stage(stage="compress", codec="jpeg", quality="best"),
        add_stage(stage="compress", codec="h264", crf=23, frames=10**6, motion=[0, 0]),
        lambda parameters: parameters.update(stages=[]),
        lambda parameters: parameters.update(stages={"resize": 1}),
        lambda parameters: parameters.update(stages=[7]),
        lambda parameters: parameters.update(scale=0),
        lambda parameters: parameters.update(size="ab"),
    ],
)
def test_parameters_that_no_recipe_draws_are_refused(
    pictures: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    degrade_folder(pictures, tmp_path / "low", RECIPE, DegradeOptions())
    record = tmp_path / "low" / PARAMETERS_NAME
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    for row in rows:
        change(row["parameters"])
    record.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = degrade_folder(pictures, tmp_path / "again", RECIPE, DegradeOptions(replay=record))
    assert len(result.failed) == 2
    assert all("unexpected" not in reason for reason in result.failed.values())
    assert not list((tmp_path / "again").glob("*.png"))
    assert result.sheet is None
    with pytest.raises(Exception) as caught:
        apply(read_rgb(pictures / "0.png"), rows[0]["parameters"])
    assert getattr(caught.value, "code", "")


@unix
@pytest.mark.parametrize("where", ["/dev/zero", "pipe"])
def test_records_and_settings_are_not_read_from_pipes_and_devices(pictures: Path, tmp_path: Path, where: str) -> None:
    from apisr.curate.settings import load_settings
    from apisr.evaluate.report import read_report

    path = Path(where)
    if where == "pipe":
        path = tmp_path / "pipe.toml"
        os.mkfifo(path)
    with raises_code("cannot-read"):
        degrade_folder(pictures, tmp_path / "low", RECIPE, DegradeOptions(replay=path))
    with raises_code("cannot-read"):
        read_report(path)
    with raises_code("cannot-read"):
        load_settings(config=path)
    output = tmp_path / "made"
    output.mkdir()
    if where == "pipe":
        path.rename(output / PARAMETERS_NAME)
    else:
        (output / PARAMETERS_NAME).symlink_to(where)
    with raises_code("cannot-read"):
        degrade_folder(pictures, output, RECIPE, DegradeOptions())
