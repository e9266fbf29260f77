"""Datasets, settings and names from others: nothing is read or written outside, every problem is one line."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curate_clips import scene, short_film
from video_clips import make_clip

from apisr.core.errors import InputError
from apisr.core.files import sha256_file
from apisr.curate.export import export_dataset
from apisr.curate.manifest import SCHEMA, Row, read_manifest, write_manifest
from apisr.curate.records import read_records
from apisr.curate.review import Review
from apisr.curate.run import curate, write_report_again
from apisr.curate.settings import load_settings
from apisr.image import read_rgb, write_picture
from apisr.video.colour import Colour

SETTINGS = load_settings(overrides={"score": "classical", "count": 2, "distance_s": 0.3, "height": "keep"})


def picture_row(folder: Path, **changes: object) -> Row:
    """A dataset of one picture, and its row with some changes."""
    write_picture(folder / "images" / "v" / "p.png", scene(1))
    digest = sha256_file(folder / "images" / "v" / "p.png")
    row = Row(id="p", source="a.mkv", source_sha256="0" * 64, file="images/v/p.png", file_sha256=digest)
    return dataclasses.replace(row, decision="accept", **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../outside"},
        {"id": "a/b"},
        {"id": "..\\outside"},
        {"id": "C:stream"},
        {"id": ".hidden"},
        {"id": ""},
        {"id": "a\x1b[2J"},
        {"id": "x" * 300},
        {"file": "../outside.png"},
        {"file": "/etc/hostname"},
        {"file": "images/../../outside.png"},
        {"file": "..\\outside.png"},
        {"file": "C:\\windows\\win.ini"},
        {"file": "\\\\server\\share\\a.png"},
        {"file": "images/\0.png"},
        {"enhanced_file": "../outside.png"},
    ],
)
def test_manifests_that_lead_out_are_refused_by_everything(tmp_path: Path, changes: dict[str, object]) -> None:
    dataset = tmp_path / "set"
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"mine")
    write_manifest(dataset, [picture_row(dataset, **changes)])
    calls = [
        lambda: read_manifest(dataset),
        lambda: export_dataset(dataset, tmp_path / "out", kind="plain"),
        lambda: Review(dataset),
        lambda: write_report_again(dataset),
    ]
    for call in calls:
        with pytest.raises(InputError) as refused:
            call()
        assert refused.value.code == "path-outside"
        assert "\x1b" not in str(refused.value)
    assert outside.read_bytes() == b"mine"
    assert not (tmp_path / "out").exists()


def test_links_out_of_a_dataset_are_not_followed(tmp_path: Path) -> None:
    dataset = tmp_path / "set"
    row = picture_row(dataset)
    secret = tmp_path / "secret.png"
    (dataset / row.file).rename(secret)
    (dataset / row.file).symlink_to(secret)
    write_manifest(dataset, [row])
    with pytest.raises(InputError) as refused:
        export_dataset(dataset, tmp_path / "out", kind="plain")
    assert refused.value.code == "path-outside"
    review = Review(dataset)
    assert review.file("p", small=False) is None
    assert review.file("p", small=True) is None


def _table(**columns: pa.Array) -> pa.Table:
    table = pa.Table.from_pylist([dataclasses.asdict(Row(id="a", source="s", source_sha256="0"))], schema=SCHEMA)
    for name, values in columns.items():
        table = table.set_column(SCHEMA.get_field_index(name), name, values)
    return table


@pytest.mark.parametrize(
    "table",
    [
        _table(id=pa.array([None], pa.string())),
        _table(width=pa.array(["wide"])),
        _table(score=pa.array([float("nan")])),
        _table(flags=pa.array(["one"])),
        _table(decision=pa.array(["burn"])),
        _table(hash=pa.array(["zz"])),
        _table().drop_columns(["file"]),
        pa.concat_tables([_table(), _table()]),
        _table(source=pa.array(["x" * (20 << 20)])),
    ],
    ids=["null", "text", "nan", "flags", "decision", "hash", "column", "twice", "large"],
)
def test_manifests_that_hold_other_things_are_refused(tmp_path: Path, table: pa.Table) -> None:
    pq.write_table(table, tmp_path / "manifest.parquet")
    with pytest.raises(InputError) as refused:
        read_manifest(tmp_path)
    assert refused.value.code == "bad-manifest"
    assert len(str(refused.value)) < 600


def test_damaged_records_and_settings_are_named(tmp_path: Path) -> None:
    film = short_film(tmp_path / "a.mkv", 1)
    dataset = tmp_path / "set"
    curate([film], dataset, settings=SETTINGS)
    (record,) = (dataset / "videos").glob("*.json")
    good = record.read_text(encoding="utf-8")
    values = json.loads(good)
    values["rows"][0]["file"] = "../../elsewhere.png"
    short = json.loads(good)
    short["fingerprints"] = short["fingerprints"][:1]
    for text in ("", "[" * 5000, good.replace('"rows"', '"crows"'), json.dumps(values), json.dumps(short)):
        record.write_text(text, encoding="utf-8")
        with pytest.raises(InputError) as damaged:
            read_records(dataset)
        assert damaged.value.code in ("bad-record", "path-outside")
    record.write_text(good, encoding="utf-8")
    for text in ("", "[" * 5000, '{"settings": 3}', '{"settings": {"cuont": 1}}'):
        (dataset / "settings.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError) as odd:
            curate([film], dataset, settings=SETTINGS)
        assert odd.value.code in ("bad-settings", "bad-setting")


def test_settings_nested_too_deeply_are_one_line(tmp_path: Path) -> None:
    for text in ("a = " + "[" * 5000 + "]" * 5000, ".".join("a" * 5000) + " = 1", "a" * (5 << 20)):
        (tmp_path / "deep.toml").write_text(text)
        with pytest.raises(InputError) as refused:
            load_settings(config=tmp_path / "deep.toml")
        assert refused.value.code in ("bad-toml", "bad-setting")
        assert len(str(refused.value)) < 1000


def test_names_of_any_bytes_go_through_the_whole_room(tmp_path: Path) -> None:
    """Names that are not UTF-8, that steer a terminal, or that are markup: they are seen as escapes, nothing breaks."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    names = [b"\xff\xfe bytes.mkv", b"\x1b[31mred\x07.mkv", b"<img src=x onerror=alert(1)>.mkv", b"new\nline.mkv"]
    for number, name in enumerate(names):
        film = short_film(tmp_path / "film.mkv", number)
        os.rename(film, os.path.join(os.fsencode(shelf), name))  # noqa: PTH104, PTH118 - the name is bytes
    dataset = tmp_path / "set"
    result = curate([shelf], dataset, settings=SETTINGS)
    assert (result.videos, result.pictures, result.failed) == (4, 8, ())
    rows = read_manifest(dataset)[0]
    assert {Path(row.source).name for row in rows} == {
        "\\xff\\xfe bytes.mkv",
        "\\x1b[31mred\\x07.mkv",
        "<img src=x onerror=alert(1)>.mkv",
        "new\\x0aline.mkv",
    }
    report = (dataset / "report.html").read_text(encoding="utf-8")
    assert "\x1b" not in report
    assert "<img" not in report
    assert export_dataset(dataset, tmp_path / "out", kind="imagefolder") == 8
    assert len(json.loads(json.dumps(Review(dataset).listing(), allow_nan=False))["rows"]) == 8
    assert curate([shelf], dataset, settings=SETTINGS).done_now == 0


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_rotated_clips_are_curated_upright(tmp_path: Path, quarter_turns: int) -> None:
    """As a telephone films: the frames lie on their side, and the container says how to turn them."""
    upright = scene(3, width=320, height=180)
    stored = np.ascontiguousarray(np.rot90(upright, quarter_turns))
    turned = make_clip(
        tmp_path / "turned.mp4",
        frames=4,
        size=(stored.shape[1], stored.shape[0]),
        options={"crf": "12"},
        rotation=-90 * quarter_turns,
        colour=Colour(1, 1, 1, full_range=False),
        pictures=lambda number, width, height: stored,
    )
    shown = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", turned, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        check=True,
        capture_output=True,
    ).stdout
    judge = np.frombuffer(shown, np.uint8).reshape(upright.shape)
    assert np.abs(judge.astype(int) - upright).mean() < 6  # so the clip is what it should be
    curate([turned], tmp_path / "set", settings=SETTINGS)
    row = read_manifest(tmp_path / "set")[0][0]
    assert (row.width, row.height, row.quarter_turns, row.mirrored) == (320, 180, quarter_turns, False)
    picture = read_rgb(tmp_path / "set" / row.file)
    assert np.abs(picture.astype(int) - upright).mean() < 6


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")
def test_low_memory_is_called_by_its_name(tmp_path: Path) -> None:
    """In a process that may take 100 MB more than it has, a film of 4K frames cannot be decoded."""
    film = short_film(tmp_path / "a.mkv", 1, scenes=1, width=3840, height=2160)
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from apisr.curate.run import curate\n"
        "from apisr.curate.settings import load_settings\n"
        "settings = load_settings(overrides={'score': 'classical', 'height': 'keep'})\n"
        "if len(sys.argv) > 2:\n"
        "    curate([Path(sys.argv[2])], Path(sys.argv[1] + '-warm'), settings=settings)\n"
        "pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
        "limit = pages * resource.getpagesize() + (100 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "result = curate([Path(sys.argv[3])], Path(sys.argv[1]), settings=settings)\n"
        "print(result.failed[0].reason if result.failed else 'decoded')\n"
    )
    small = short_film(tmp_path / "small.mkv", 2, scenes=1)
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "set", small, film], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("there is not enough memory for it")
