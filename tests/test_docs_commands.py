"""Every command of every page is pasted and run on tiny data, in the page's order; the rest says why it is not run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from curate_clips import encode, scene, short_film
from docs_blocks import ROOT, blocks, pages, prose

from apisr.core.media import find_media
from apisr.curate.manifest import Row, write_manifest

#: What makes a command small: appended to every `apisr NAME ...`; everything else is as it stands on the page.
SMALL = {
    "train": "--set run.steps=2 --set data.patch_px=64 --set data.batch=2 --set run.accelerator=cpu "
    "--set run.threads=1 --set data.workers=0 --set log.tensorboard=false",
    "shards": "--workers 1",
    "curate": "--score classical --distance 0.3 --count 4 --height keep --workers 1",
}
SHELL = [(page, list(blocks(page))) for page in pages()]
RUN = {
    page.relative_to(ROOT).as_posix(): [block for block in found if block.kind == "sh" and block.reason is None]
    for page, found in SHELL
}


def picture(path: Path, seed: int, width: int = 96, height: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), scene(seed, width=width, height=height, shapes=9)[..., ::-1])


def clip(path: Path, frames: int, *, width: int = 96, height: int = 64, codec: str = "libx264", rate: int = 24) -> None:
    drawings = [scene(seed, width=width, height=height, shapes=9) for seed in range(4)]
    encode(path, (drawings[number // 8 % 4] for number in range(frames)), codec=codec, rate=rate)


def folder(path: Path, count: int, *, width: int = 96, height: int = 64) -> None:
    for number in range(count):
        picture(path / f"{number:02}.png", number, width, height)


def make_readme(root: Path) -> None:
    picture(root / "examples" / "scene.png", 1, 160, 90)
    picture(root / "examples" / "character.webp", 2, 60, 80)
    clip(root / "examples" / "clip.mkv", 80, width=160, height=90)


def make_index(root: Path) -> None:
    make_readme(root)
    clip(root / "episode.mkv", 620, rate=1, width=64, height=48)
    clip(root / "season" / "one.mkv", 2, width=480, height=270)
    clip(root / "dvd.vob", 12, codec="mpeg2video", width=96, height=80)
    picture(root / "picture.png", 3)
    folder(root / "drawings", 12, width=192, height=192)


def make_faq(root: Path) -> None:
    picture(root / "picture.png", 3)
    clip(root / "in.mkv", 6)
    command = [sys.executable, "-m", "apisr", "export", "apisr-x2-fast", "-o", "mine.safetensors"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def make_evaluate(root: Path) -> None:
    for name in ("low", "frames"):
        folder(root / name, 2)
    for name in ("gt", "outputs", "new", "others/peer"):
        folder(root / name, 2, width=192, height=128)
    for name in ("one", "two"):
        clip(root / "clips" / name / "web.mkv", 3)
        clip(root / "clips" / name / "gt.mkv", 3, width=192, height=128)


def make_curate(root: Path) -> None:
    short_film(root / "shelf" / "film.mkv", seed=1)
    folder(root / "other" / "pictures", 3)


def make_training(root: Path) -> None:
    folder(root / "drawings", 12, width=192, height=192)
    short_film(root / "videos" / "film.mkv", seed=1)
    picture(root / "picture.png", 3)


def make_pictures(root: Path) -> None:
    folder(root / "pictures", 3)
    picture(root / "frame.png", 5)


def make_settings(root: Path) -> None:
    clip(root / "episode.mkv", 6)


#: Not these: written by a program, lists of measurements, or with long lines of code in their text.
WIDE = ("benchmarks", "experiments", "reliability", "models", "machines", "app", "CHANGELOG", "CONTRIBUTING")
WRAPPED = [page for page in pages() if page.stem not in WIDE]
MAKERS: dict[str, Callable[[Path], None]] = {
    "README.md": make_readme,
    "docs/index.md": make_index,
    "docs/faq.md": make_faq,
    "docs/evaluate.md": make_evaluate,
    "docs/curate.md": make_curate,
    "docs/training.md": make_training,
    "docs/degrade.md": make_pictures,
    "docs/enhance.md": make_pictures,
    "docs/settings.md": make_settings,
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """`apisr` and `python` on the path: this environment, with the options that make commands small."""
    programs = tmp_path / "bin"
    programs.mkdir()
    cases = "\n".join(
        f'  {name}) case "${{2-}}" in -*) ;; *) set -- "$@" {more};; esac;;' for name, more in SMALL.items()
    )
    shim = programs / "apisr"
    shim.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\nesac\nexec "{sys.executable}" -m apisr "$@"\n')
    shim.chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "APISR_CACHE": str(tmp_path / "cache"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, found in RUN.items() if found])
def test_the_commands_of_a_page_work_in_order(page: str, tmp_path: Path, environment: dict[str, str]) -> None:
    if page == "docs/training.md":
        pytest.importorskip("lightning", reason="its commands train")
    if page == "docs/faq.md" and not shutil.which("ffmpeg"):
        pytest.skip("a pipe on the page needs the program ffmpeg")
    here = tmp_path / "here"
    here.mkdir()
    MAKERS.get(page, lambda root: None)(here)
    for block in RUN[page]:
        for command in block.commands:
            if command.startswith("python -m pip install"):
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=here,
                env=environment,
                capture_output=True,
                text=True,
                timeout=570,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-600:]}\n{done.stderr[-1500:]}"
            assert "Traceback" not in done.stderr, command
            assert "Warning" not in done.stderr, f"{command}\n{done.stderr[-1500:]}"
    if page == "docs/training.md":
        report = json.loads((here / "report" / "report.json").read_text(encoding="utf-8"))
        assert report["model"]["name"]


@pytest.mark.parametrize("page", WRAPPED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_line_of_prose_fits(page: Path) -> None:
    for line in prose(page).splitlines():
        assert len(line) <= 100 or line.lstrip().startswith(("|", "![", "<!--")), line


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_shell_commands_stand_in_blocks_that_are_run_or_say_why_not(page: Path) -> None:
    """No commands in indented or other blocks, where nothing would run them; every reason is a sentence."""
    assert not re.search(r"^ {4,}(\$ )?(apisr|python -m|ray|ffmpeg) ", prose(page), re.MULTILINE)
    for block in blocks(page):
        assert block.kind not in ("bash", "shell", "console"), block.text
        assert block.kind == "sh" or not re.search(r"^(\$ )?apisr ", block.text, re.MULTILINE), block.text
        assert block.reason is None or len(block.reason) > 10


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_is_installed_exists_and_pastes_everywhere(page: Path) -> None:
    """Extras that there are, double quotes, the clone's form, nothing that PowerShell 5 cannot read."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"pip install [^\n`]*?(\S*)\[([\w,]+)\](.?)", text):
        assert found[1] in ('".', "."), found[0]
        assert set(found[2].split(",")) <= set(extras), found[0]
    for block in blocks(page):
        for command in block.commands:
            if command.startswith(("apisr", "python")):
                assert "&&" not in command, command
                assert "pip install '" not in command, command


def test_what_is_made_to_look_at_is_not_taken_for_pictures(tmp_path: Path) -> None:
    """Sheets and panels of one command, and a dataset's thumbnails, are no input of the next."""
    folder(tmp_path / "drawings", 3)
    for words in (
        ["degrade", "drawings", "-o", "low", "--preset", "bicubic", "--scale", "2"],
        ["enhance", "drawings", "-o", "enhanced", "--show"],
    ):
        subprocess.run([sys.executable, "-m", "apisr", *words], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "low" / "_look" / "contact_sheet.png").is_file()
    assert len(list((tmp_path / "enhanced" / "_look").glob("*.panel.png"))) == 3
    for name in ("low", "enhanced"):
        assert [path.name for path in find_media(tmp_path / name).found] == ["00.png", "01.png", "02.png"]
    dataset = tmp_path / "dataset"
    folder(dataset / "images" / "film", 3)
    folder(dataset / "thumbs" / "film", 2)
    folder(dataset / "enhanced" / "film", 2)
    rows = [Row(id=f"a-{number}", source="a.mkv", source_sha256="0" * 64) for number in range(3)]
    names = ["images/film/00.png", "images/film/01.png", "images/film/02.png"]
    decisions = ["accept", "accept", "reject"]
    write_manifest(
        dataset,
        [replace(row, file=name, decision=said) for row, name, said in zip(rows, names, decisions, strict=True)],
    )
    assert find_media(dataset).found == tuple(dataset / "images" / "film" / f"0{number}.png" for number in range(2))
    assert find_media(dataset).left_out == {dataset / "images" / "film" / "02.png": "not-accepted"}
    for words in (["enhance", "dataset", "-o", "clear"], ["degrade", "dataset", "-o", "small", "--scale", "2"]):
        run = subprocess.run(
            [sys.executable, "-m", "apisr", *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert "1 file left out" in run.stdout + run.stderr
        assert "02.png" in run.stdout + run.stderr
        assert sorted(path.name for path in (tmp_path / words[3]).glob("images/film/*.png")) == ["00.png", "01.png"]
