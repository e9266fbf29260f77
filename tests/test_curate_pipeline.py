"""Whole curations: what is chosen and written, going on after a kill, bad files, decisions, exports."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as parquet
import pytest
from curate_clips import encode, scene, short_film
from PIL import Image

from apisr.cli import main
from apisr.core.errors import InputError, RunError
from apisr.core.files import sha256_file
from apisr.curate.dataset import hold_dataset
from apisr.curate.decide import decide_by_person
from apisr.curate.export import export_dataset
from apisr.curate.manifest import SCHEMA, Row, read_manifest, write_manifest
from apisr.curate.production import produce
from apisr.curate.records import read_records
from apisr.curate.run import CurateResult, curate, find_videos
from apisr.curate.screen import open_screen
from apisr.curate.settings import CurateSettings, load_settings
from apisr.image import read_rgb
from apisr.video.native import NativeHeight

SMALL: dict[str, Any] = {"score": "classical", "distance_s": 0.3, "count": 2, "height": "keep"}


def run(inputs: list[Path], dataset: Path, **overrides: Any) -> CurateResult:
    return curate(inputs, dataset, settings=load_settings(overrides=SMALL | overrides))


def cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def error(picture: np.ndarray, seed: int) -> float:
    return float(np.abs(picture.astype(np.float32) - scene(seed).astype(np.float32)).mean())


def test_a_video_that_is_named_itself_is_not_left_out(tmp_path: Path) -> None:
    for name in ("b.mkv", "c.txt", "d.txt"):
        (tmp_path / name).write_bytes(b"")
    found = find_videos([tmp_path, tmp_path / "c.txt"])
    assert found == ([tmp_path / "b.mkv", tmp_path / "c.txt"], {tmp_path / "d.txt": "other-kind"})


def test_names_in_any_script_broken_files_and_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shelf = tmp_path / "my shelf"
    first = short_film(shelf / "season 1" / "第一話 it's 100% (v1.0).mkv", 1)
    short_film(shelf / "Сезон" / "b.c.d.mp4", 2)
    shutil.copy(first, shelf / "a copy.mkv")
    (shelf / "broken.mkv").write_bytes(b"\x1aE\xdf\xa3" + os.urandom(4000))
    (shelf / "notes.txt").write_text("not a video")
    before = {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()}
    dataset = tmp_path / "data set"
    options = ["--score", "classical", "--count", 2, "--distance", 0.3, "--height", "keep", "--json", "-q"]
    assert cli("curate", shelf, "-o", dataset, *options) == 1
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["videos"], outcome["pictures"]) == (2, 4)
    assert [Path(video["source"]).name for video in outcome["failed"]] == ["broken.mkv"]
    assert len(outcome["repeated"]) == 1
    assert {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()} == before
    rows, settings_json = read_manifest(dataset)
    assert CurateSettings.model_validate_json(settings_json).count == 2
    for row in rows:
        assert sha256_file(dataset / row.file) == row.file_sha256
        assert sha256_file(Path(row.source)) == row.source_sha256
        seed = 1 if row.source_sha256 == sha256_file(first) else 2
        assert error(read_rgb(dataset / row.file), 1000 * seed + round(row.time_s * 24) // 16) < 4
        assert row.frame_kind in ("key", "intra")
        assert Fraction(row.time_base) * row.pts == pytest.approx(row.time_s)
        assert row.packet_bytes > 1000
    assert not (dataset / ".work").exists()


def test_the_manifest_says_what_others_find_in_the_files(tmp_path: Path) -> None:
    film = short_film(tmp_path / "a.mkv", 1)
    run([film], tmp_path / "set")
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_packets", "-of", "json", film]
    packets = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["packets"]
    known = {
        packet["pts"]: (float(packet["pts_time"]), int(packet["size"])) for packet in packets if "K" in packet["flags"]
    }
    rows = parquet.read_table(tmp_path / "set" / "manifest.parquet").to_pylist()
    assert len(rows) == 2
    for row in rows:
        path = tmp_path / "set" / row["file"]
        assert row["source_sha256"] == hashlib.sha256(film.read_bytes()).hexdigest()
        assert row["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        with Image.open(path) as picture:
            assert picture.size == (row["width"], row["height"])
        assert (pytest.approx(row["time_s"]), row["packet_bytes"]) == known[row["pts"]]


def test_the_most_complex_frames_are_chosen(tmp_path: Path) -> None:
    shapes = [2, 40, 6, 55, 1, 25]
    drawings = [scene(10 + number, shapes=count) for number, count in enumerate(shapes)]
    pictures = [drawing for drawing in drawings for _ in range(12)]
    path = encode(tmp_path / "a.mkv", pictures, keyframes={12 * number for number in range(6)}, g="250")
    run([path], tmp_path / "set", count=3)
    rows = sorted(read_manifest(tmp_path / "set")[0], key=lambda row: row.rank)
    assert sorted(round(row.time_s * 2) for row in rows) == [1, 3, 5]
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)


def test_empty_frames_fades_and_bars_are_left_out(tmp_path: Path) -> None:
    wide = [np.maximum(scene(seed, width=320, height=180), 60) for seed in (1, 2, 3)]
    for picture in wide:
        picture[:20] = picture[-20:] = 0
    black = np.zeros_like(wide[0])
    mixes = [((1 - n / 24) * wide[1] + n / 24 * wide[2]).round().astype(np.uint8) for n in range(24)]
    pictures = [black] * 12 + [wide[0]] * 24 + [wide[1]] * 24 + mixes + [wide[2]] * 24
    path = encode(tmp_path / "a.mkv", pictures, keyframes={0, 12, 36, 70, 84}, g="250", crf="12")
    run([path], tmp_path / "set", count=10)
    rows = read_manifest(tmp_path / "set")[0]
    assert [round(row.time_s * 24) for row in rows] == [12, 36, 84]
    assert {(row.crop_top, row.crop_bottom, row.height) for row in rows} == {(20, 160, 140)}
    assert {row.flags for row in rows} == {()}
    (record,) = read_records(tmp_path / "set").values()
    assert record.left_out == {"black": 1, "fade": 1}


def test_duplicates_across_videos_give_way_to_reserves(tmp_path: Path) -> None:
    opening = [scene(500, shapes=60)] * 16
    for number in range(3):
        pictures = opening + [picture for seed in range(3) for picture in [scene(10 * number + seed, shapes=20)] * 16]
        encode(tmp_path / f"{number}.mkv", pictures, keyframes={0, 16, 32, 48}, crf=str(18 + number), g="250")
    run([tmp_path], tmp_path / "set", count=2, reserve=1)
    rows = read_manifest(tmp_path / "set")[0]
    accepted = [row for row in rows if row.decision == "accept"]
    assert len(accepted) == 6
    openings = [row for row in rows if row.time_s < 0.1]
    assert sorted(row.decision for row in openings) == ["accept", "reject", "reject"]
    kept = next(row for row in openings if row.decision == "accept")
    assert all(row.duplicate_of == kept.id and "duplicate" in row.flags for row in openings if row is not kept)


def test_going_on_and_refusing(tmp_path: Path) -> None:
    shelf, dataset = tmp_path / "shelf", tmp_path / "set"
    short_film(shelf / "a.mkv", 1)
    assert run([shelf], dataset).done_now == 1
    rows, settings_json = read_manifest(dataset)
    write_manifest(dataset, decide_by_person(rows, [rows[0].id], "reject"), settings_json=settings_json)
    short_film(shelf / "b.mkv", 2)
    outcome = run([shelf], dataset)
    assert (outcome.done_now, outcome.videos, outcome.pictures) == (1, 2, 4)
    again = {row.id: row for row in read_manifest(dataset)[0]}
    assert (again[rows[0].id].decision, again[rows[0].id].decided_by) == ("reject", "person")
    assert run([shelf], dataset).done_now == 0
    with pytest.raises(InputError) as changed:
        run([shelf], dataset, count=3)
    assert changed.value.code == "other-settings"
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.txt").write_text("mine")
    with pytest.raises(InputError) as strange:
        run([shelf], other)
    assert strange.value.code == "not-a-dataset"
    assert [path.name for path in other.iterdir()] == ["precious.txt"]


def test_two_runs_do_not_mix(tmp_path: Path) -> None:
    short_film(tmp_path / "a.mkv", 1)
    with hold_dataset(tmp_path / "set", create=True), pytest.raises(InputError) as busy:
        run([tmp_path / "a.mkv"], tmp_path / "set")
    assert busy.value.code == "dataset-busy"


def test_killed_in_the_middle_and_continued(tmp_path: Path) -> None:
    """Two workers, kill -9 of all processes at a moment in the middle; the end equals a run in peace."""
    for number in range(10):
        short_film(tmp_path / "shelf" / f"{number}.mkv", number)

    def command(target: str) -> list[str]:
        options = ["--score", "classical", "--count", "2", "--distance", "0.3", "--height", "keep", "-q", "-w", "2"]
        return [
            sys.executable,
            "-m",
            "apisr",
            "curate",
            str(tmp_path / "shelf"),
            "-o",
            str(tmp_path / target),
            *options,
        ]

    process = subprocess.Popen(command("killed"), start_new_session=True)
    records = tmp_path / "killed" / "videos"

    def finished() -> list[Path]:
        return [path for path in records.glob("*.json") if ".partial" not in path.name]

    while len(finished()) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in finished()}
    assert 3 <= len(done) < 10
    subprocess.run(command("killed"), check=True, stdout=subprocess.DEVNULL)
    assert all((records / name).stat().st_mtime_ns == stamp for name, stamp in done.items())
    outcome = run([tmp_path / "shelf"], tmp_path / "peace")
    assert outcome.pictures == 20
    rows = read_manifest(tmp_path / "killed")[0]
    assert rows == read_manifest(tmp_path / "peace")[0]
    files = {path.relative_to(tmp_path / "killed").as_posix() for path in (tmp_path / "killed/images").rglob("*.*")}
    assert files == {row.file for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_dies_costs_its_video_only(tmp_path: Path, workers: int) -> None:
    """As when a decoder crashes: whichever process takes up one of the videos gets a SIGSEGV, every time."""
    shelf, dataset = tmp_path / "shelf", tmp_path / "set"
    for number in (1, 3, 4):
        short_film(shelf / f"{number}.mkv", number)
    victim = short_film(shelf / "2 crashes.mkv", 2, scenes=12, width=960, height=544)
    mark = sha256_file(victim)[:16]
    options = ["--score", "classical", "--count", "2", "--distance", "0.3", "--height", "keep", "--json", "-q"]
    command = [sys.executable, "-m", "apisr", "curate", str(shelf), "-o", str(dataset), *options, "-w", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    shot: set[int] = set()
    while process.poll() is None:
        for folder in (dataset / ".work").glob(f"{mark}-*"):
            worker = int(folder.name.rpartition("-")[2])
            if worker not in shot:
                shot.add(worker)
                os.kill(worker, signal.SIGSEGV)
        time.sleep(0.002)
    output, errors = process.communicate()
    assert process.returncode == 1, errors
    outcome = json.loads(output)
    assert outcome["failed"] == [{"source": str(victim), "reason": "the decoder crashed on this file"}]
    assert (outcome["videos"], outcome["pictures"]) == (3, 6)
    assert len(shot) == (1 if workers == 1 else 2)  # beside others, it is tried once more, alone
    assert {Path(row.source).name for row in read_manifest(dataset)[0]} == {"1.mkv", "3.mkv", "4.mkv"}
    assert not (dataset / ".work").exists()
    assert not (dataset / "images" / mark).exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_on_a_cluster(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    for number in range(4):
        short_film(tmp_path / "shelf" / f"{number}.mkv", number)
    settings = load_settings(overrides=SMALL)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        outcome = curate([tmp_path / "shelf"], tmp_path / "far", settings=settings, cluster="local")
    finally:
        ray.shutdown()
    assert (outcome.videos, outcome.pictures, outcome.failed) == (4, 8, ())
    run([tmp_path / "shelf"], tmp_path / "near")
    assert read_manifest(tmp_path / "far")[0] == read_manifest(tmp_path / "near")[0]
    assert run([tmp_path / "shelf"], tmp_path / "far").done_now == 0


def test_manifest_columns_and_round_trip(tmp_path: Path) -> None:
    asked = "id source source_sha256 stream time_s frame_kind packet_bytes native_height decision file file_sha256"
    assert set(asked.split()) <= set(SCHEMA.names)
    rows = [Row(id="a", source="名前 'x'.mkv", source_sha256="0" * 64, flags=("bars", "combed"), nudity=0.25)]
    write_manifest(tmp_path, rows, settings_json="{}")
    assert read_manifest(tmp_path) == (rows, "{}")
    with pytest.raises(InputError) as absent:
        read_manifest(tmp_path / "nothing")
    assert absent.value.code == "no-dataset"
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError) as damaged:
        read_manifest(tmp_path)
    assert damaged.value.code == "bad-manifest"


def test_export(tmp_path: Path) -> None:
    short_film(tmp_path / "a.mkv", 1)
    run([tmp_path / "a.mkv"], tmp_path / "set", format="webp")
    rows = read_manifest(tmp_path / "set")[0]
    assert export_dataset(tmp_path / "set", tmp_path / "hf", kind="imagefolder") == 2
    lines = (tmp_path / "hf" / "train" / "metadata.csv").read_text().splitlines()
    assert lines[0].startswith("file_name,")
    assert [line.split(",")[0] for line in lines[1:]] == [f"{row.id}.webp" for row in rows]
    assert (tmp_path / "hf" / "README.md").read_text().startswith("---\nlicense: unknown\n")
    assert cli("curate", "-o", tmp_path / "set", "--export", f"plain={tmp_path / 'plain'}") == 0
    assert np.array_equal(
        read_rgb(tmp_path / "plain" / f"{rows[0].id}.webp"), read_rgb(tmp_path / "set" / rows[0].file)
    )
    with pytest.raises(InputError) as full:
        export_dataset(tmp_path / "set", tmp_path / "plain", kind="plain")
    assert full.value.code == "output-exists"
    (tmp_path / "set" / rows[0].file).unlink()
    with pytest.raises(RunError) as damaged:
        export_dataset(tmp_path / "set", tmp_path / "more", kind="plain")
    assert damaged.value.code == "damaged-picture"


def test_lossless_avif(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = short_film(tmp_path / "a.mkv", 1)
    run([film], tmp_path / "set")
    options = ["--format", "avif", "--score", "classical", "--distance", 0.3, "--count", 2, "--height", "keep", "-q"]
    code = cli("curate", film, "-o", tmp_path / "avif", *options)
    if importlib.util.find_spec("imagecodecs") is None:
        assert code == 2
        assert '".[avif]"' in capsys.readouterr().err
        assert not (tmp_path / "avif").exists()
        return
    rows, others = read_manifest(tmp_path / "set")[0], read_manifest(tmp_path / "avif")[0]
    assert code == 0
    assert {Path(row.file).suffix for row in others} == {".avif"}
    for row, other in zip(rows, others, strict=True):
        assert np.array_equal(read_rgb(tmp_path / "avif" / other.file), read_rgb(tmp_path / "set" / row.file))


def test_report_and_card(tmp_path: Path) -> None:
    short_film(tmp_path / "<b>&.mkv", 1)
    run([tmp_path / "<b>&.mkv"], tmp_path / "set")
    compare = tmp_path / "set" / "images"
    assert cli("curate", "-o", tmp_path / "set", "--report", "--compare", compare, "--license", "cc-by-4.0") == 0
    report = (tmp_path / "set" / "report.html").read_text()
    assert report.count("<svg") == 2
    assert "I (3)" in report
    assert "images (2, mean" in report
    assert "&lt;b&gt;&amp;.mkv" in report
    assert "<b>&.mkv" not in report
    assert "license: cc-by-4.0" in (tmp_path / "set" / "README.md").read_text()
    assert cli("curate", "-o", tmp_path / "nowhere", "--report") == 2


def test_enhanced_pictures(tmp_path: Path) -> None:
    from apisr.enhance import enhance

    short_film(tmp_path / "a.mkv", 1)
    assert cli(
        *("curate", tmp_path / "a.mkv", "-o", tmp_path / "set", "--enhance", "--count", 1, "--score", "classical", "-q")
    ) == 0  # fmt: skip
    (row,) = read_manifest(tmp_path / "set")[0]
    assert row.enhanced_file
    assert sha256_file(tmp_path / "set" / row.enhanced_file) == row.enhanced_sha256
    plain = read_rgb(tmp_path / "set" / row.file)
    assert np.array_equal(read_rgb(tmp_path / "set" / row.enhanced_file), enhance(plain))


@pytest.mark.parametrize(("height", "matrix"), [(720, 1), (480, 6)])
def test_colours_are_those_of_the_source(tmp_path: Path, height: int, matrix: int) -> None:
    colours = np.random.default_rng(1).integers(30, 220, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(colours, (height * 4 // 3, height), interpolation=cv2.INTER_NEAREST)
    import av

    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame = frame.reformat(
        format="yuv420p", dst_colorspace="ITU709" if matrix == 1 else "ITU601", dst_color_range="MPEG"
    )
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"qp": "4"})
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
        for number in range(3):
            frame.pts, frame.time_base = number, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    run([tmp_path / "a.mkv"], tmp_path / "set")
    (row,) = read_manifest(tmp_path / "set")[0]
    found = read_rgb(tmp_path / "set" / row.file).astype(int)
    step = height // 6
    middle = found[step // 2 :: step, step // 2 :: step]
    assert np.abs(middle - colours).max() <= 3


def test_production_size() -> None:
    settings = load_settings
    picture = scene(1, width=1920, height=1080)
    assert produce(picture, 1080, native_height=None, settings=settings()).shape == (720, 1280, 3)
    assert produce(picture[140:940], 1080, native_height=None, settings=settings()).shape == (533, 1280, 3)
    small = scene(1, width=640, height=480)
    assert np.array_equal(produce(small, 480, native_height=None, settings=settings()), small)
    wide = produce(small, 480, native_height=None, aspect=Fraction(4, 3), settings=settings())
    assert wide.shape == (480, 853, 3)
    eight = produce(small[:477, :635], 480, native_height=None, settings=settings(preset="reference"))
    assert eight.shape == (472, 632, 3)
    native = settings(overrides={"height": "native"})
    assert produce(picture, 1080, native_height=NativeHeight(810, "bicubic", 0.9), settings=native).shape[0] == 810
    assert produce(picture, 1080, native_height=NativeHeight(1080, None, 0.0), settings=native).shape[0] == 720
    assert produce(picture, 1080, native_height=None, settings=settings(overrides={"height": "keep"})).shape[0] == 1080


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda path: load_settings(preset="best"), "unknown-preset"),
        (lambda path: load_settings(overrides={"cuont": 1}), "bad-setting"),
        (lambda path: load_settings(overrides={"count": 0}), "bad-setting"),
        (lambda path: load_settings(config=path / "no.toml"), "cannot-read"),
        (lambda path: find_videos([path / "no.mkv"]), "cannot-read"),
        (lambda path: find_videos([path]), "no-videos"),
    ],
)
def test_bad_input(tmp_path: Path, call: Callable[[Path], object], code: str) -> None:
    with pytest.raises(InputError) as refused:
        call(tmp_path)
    assert refused.value.code == code


def test_a_toml_file_and_options_on_top(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('count = 5\nheight = "native"\n')
    settings = load_settings(preset="reference", config=tmp_path / "c.toml", overrides={"count": 7, "parts": None})
    assert (settings.count, settings.height, settings.parts, settings.count_long) == (7, "native", 8, 24)
    assert (settings.frames_for(1800), settings.frames_for(1801)) == (7, 24)


def test_screening_models() -> None:
    skimage = pytest.importorskip("skimage.data")
    try:
        anime, nudity = open_screen("anime"), open_screen("nudity")
    except InputError as error:
        pytest.skip(str(error))
    photograph = skimage.astronaut()
    assert anime(photograph) < 0.1
    assert nudity(photograph) < 0.2
    assert 0 <= anime(scene(1)) <= 1


def test_screening_knows_drawings(shared: Path) -> None:
    try:
        anime = open_screen("anime")
    except InputError as error:
        pytest.skip(str(error))
    paths = sorted((shared / "data" / "val" / "gt").glob("*.png"))
    assert float(np.median([anime(read_rgb(path)) for path in paths])) > 0.5


def _children(parent: int) -> set[int]:
    """The processes below a process, by the system's own list."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    waiting = [parent]
    while waiting:
        waiting = [child for child, above in parents.items() if above in waiting and child not in found]
        found |= set(waiting)
    return found


def _alive(process: int) -> bool:
    try:
        state = (
            Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
        )
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the process list is read from /proc")
@pytest.mark.parametrize("moment", ["starting", "working"])
def test_a_killed_curation_leaves_no_process(tmp_path: Path, moment: str) -> None:
    """kill -9 of the parent alone, while its workers start or work: all of them end."""
    for number in range(6):
        short_film(tmp_path / "shelf" / f"{number}.mkv", number)
    options = ["--score", "classical", "--count", "2", "--distance", "0.3", "--height", "keep", "-q", "-w", "2"]
    command = [sys.executable, "-m", "apisr", "curate", str(tmp_path / "shelf"), "-o", str(tmp_path / "set"), *options]
    process = subprocess.Popen(command, start_new_session=True)
    children: set[int] = set()
    while len(children) < 3 or (moment == "working" and not list((tmp_path / "set" / ".work").glob("*"))):
        assert process.poll() is None
        children = _children(process.pid)  # two workers and the tracker of the standard library
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while any(_alive(child) for child in children):  # ends, or the test does not
        time.sleep(0.05)
