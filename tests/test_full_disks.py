"""Full disks and programs that are ended: nothing half under a final name, one line, and the work goes on later."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from curate_clips import short_film
from error_codes import raises_code
from PIL import Image
from video_clips import make_clip

from apisr.core.files import sha256_file
from apisr.core.worker_folder import temporary_folder
from apisr.curate.export import export_dataset
from apisr.curate.manifest import read_manifest
from apisr.curate.run import curate
from apisr.curate.settings import load_settings
from apisr.weights.releases import CATALOGUE, adopt, fetch

Mount = Callable[[str], Path]


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """Six pictures of noise, about 57 kB each as PNG."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (120, 160, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", ["40k", "64k", "80k", "128k", "200k"])
def test_degrading_leaves_whole_pictures_and_goes_on(
    apisr: Run, drawings: Path, tmp_path: Path, mounted: Mount, size: str
) -> None:
    arguments = ["degrade", drawings, "-p", "bicubic", "-s", 1, "--no-sheet"]
    assert apisr(*arguments, "-o", tmp_path / "whole").returncode == 0
    disk = mounted(f"size={size}")
    done = apisr(*arguments, "-o", disk / "out")
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "unexpected" not in done.stderr
    pictures = list((disk / "out").glob("*.png"))
    assert len(pictures) < 6
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()
    records = disk / "out" / "parameters.jsonl"
    named = [json.loads(line)["file"] for line in records.read_text().splitlines()] if records.exists() else []
    assert {path.name for path in pictures} <= set(named)
    enlarge(disk)
    assert apisr(*arguments, "-o", disk / "out").returncode == 0
    assert contents(disk / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("size", ["40k", "100k", "240k"])
def test_shards_are_whole_and_the_rest_is_made_later(
    apisr: Run, drawings: Path, tmp_path: Path, mounted: Mount, size: str
) -> None:
    arguments = ["shards", drawings, "-s", 2, "--degradation", "web=bicubic", "--workers", 1]
    assert apisr(*arguments, "-o", tmp_path / "whole").returncode == 0
    disk = mounted(f"size={size}")
    done = apisr(*arguments, "-o", disk / "out")
    assert (done.returncode, done.code) == (1, "disk-full")
    for path in (disk / "out").glob("*.npy"):
        np.load(path)
    enlarge(disk)
    assert apisr(*arguments, "-o", disk / "out").returncode == 0
    assert contents(disk / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("size", ["4k", "64k"])
def test_a_gallery_or_report_is_there_or_not(
    apisr: Run, drawings: Path, tmp_path: Path, mounted: Mount, size: str
) -> None:
    disk = mounted(f"size={size}")
    done = apisr("evaluate", drawings, "--gallery", "lanczos,bicubic", "--scale", 2, "-o", disk / "g")
    assert (done.returncode, done.code) == (1, "disk-full")
    assert not contents(disk)
    (tmp_path / "b").mkdir()
    for path in drawings.iterdir():
        Image.open(path).point(lambda value: value // 2).save(tmp_path / "b" / path.name)
    done = apisr("evaluate", drawings, "--reference", tmp_path / "b", "--metrics", "psnr", "-o", disk / "r")
    if done.returncode:
        assert (done.returncode, done.code) == (1, "disk-full")
        assert not {name for name in contents(disk) if "report.html" in name or ".partial" in name}
    else:
        assert json.loads((disk / "r" / "report.json").read_text())["pictures"]


@pytest.mark.parametrize("kind", ["plain", "imagefolder"])
def test_no_half_picture_is_exported(tmp_path: Path, mounted: Mount, kind: str) -> None:
    dataset = tmp_path / "set"
    small = {"score": "classical", "distance_s": 0.1, "count": 6, "height": "keep"}
    curate([short_film(tmp_path / "film.mkv", 1)], dataset, settings=load_settings(overrides=small), workers=0)
    digests = {row.file_sha256 for row in read_manifest(dataset)[0]}
    largest = max(path.stat().st_size for path in (dataset / "images").iterdir())
    disk = mounted(f"size={(largest * 3 // 2) >> 10}k")
    with raises_code("disk-full"):
        export_dataset(dataset, disk / "out", kind=kind)  # type: ignore[arg-type]
    copied = [path for path in (disk / "out").rglob("*") if path.suffix == ".png"]
    assert {sha256_file(path) for path in copied} < digests
    assert not [path for path in disk.rglob("*") if "partial" in path.name]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server on this machine that has one file of 300 kB."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "net.pth").write_bytes(np.random.default_rng(0).bytes(300_000))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "www")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/net.pth"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("size", ["4k", "64k", "200k"])
def test_a_download_that_does_not_fit_is_a_full_disk_and_goes_on(
    tmp_path: Path, mounted: Mount, address: str, size: str
) -> None:
    disk, release = mounted(f"size={size}"), CATALOGUE["vgg16"]
    digest = sha256_file(tmp_path / "www" / "net.pth")
    release = type(release)(**{**vars(release), "sha256": digest, "sha256_prefix": None})
    with raises_code("disk-full"):
        fetch(release, folder=disk / "cache", url=address)
    assert not (disk / "cache" / release.file_name).exists()
    with raises_code("disk-full"):
        adopt(release, tmp_path / "www" / "net.pth", folder=disk / "cache")
    assert not (disk / "cache" / release.file_name).exists()
    enlarge(disk)
    assert sha256_file(fetch(release, folder=disk / "cache", url=address)) == digest


def folders_of(temporary: Path) -> list[str]:
    return [path.name for path in temporary.iterdir() if path.name.startswith("apisr-")]


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_estimate_that_is_ended_leaves_no_folder(tmp_path: Path, number: signal.Signals) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=48, size=(320, 192))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    arguments = ["upscale", source, "-o", tmp_path / "o.mkv", "--dry-run", "--model", "apisr-x4-max"]
    running = subprocess.Popen(
        [sys.executable, "-m", "apisr", *map(str, arguments)],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background jobs ignore some
    )
    while not folders_of(temporary):
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    running.send_signal(number)
    _, told = running.communicate()
    assert folders_of(temporary) == []
    assert running.returncode == 130, told
    assert b"Traceback" not in told


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_what_a_power_cut_leaves_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, signal, sys, tempfile\ntempfile.tempdir = sys.argv[1]\n"
        "from apisr.core.worker_folder import temporary_folder\n"
        "with temporary_folder('apisr-estimate-') as folder:\n"
        "    (folder / 'a').write_text('a')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -9
    (left,) = tmp_path.iterdir()
    with temporary_folder("apisr-estimate-") as held:
        assert left.exists(), "it may belong to a program that has just begun"
        os.utime(left / "in-use", (1, 1))
        os.utime(held / "in-use", (1, 1))
        with temporary_folder("apisr-estimate-"):
            assert not left.exists()
            assert held.exists(), "it is in use"
    assert list(tmp_path.iterdir()) == []
