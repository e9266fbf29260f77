"""What is lost of pictures and videos that are read as 8-bit RGB is said before the work, and nothing else is."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Run
from PIL import Image, ImageCms, PngImagePlugin
from video_clips import make_clip

from apisr.core.errors import InputError
from apisr.core.progress import Progress
from apisr.curate.run import curate
from apisr.curate.settings import load_settings
from apisr.degrade import load_recipe
from apisr.degrade.folder import DegradeOptions, degrade_folder
from apisr.evaluate import EvaluateOptions, evaluate
from apisr.image import open_picture, read_rgb, rgb_and_losses, rgb_losses
from apisr.image.colour import gamma_profile
from apisr.train.config import load_config
from apisr.train.data.prepare import ShardRequest, prepare_shards
from apisr.train.trainer import train

P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)


def drawing(seed: int = 0, *, channels: int = 3) -> np.ndarray:
    small = np.random.default_rng(seed).integers(40, 256, (10, 12, channels), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(8, 0).repeat(8, 1))


def animation(path: Path) -> None:
    frames = [Image.fromarray(drawing(seed)) for seed in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)


def pages(path: Path) -> None:
    frames = [Image.fromarray(drawing(seed)) for seed in range(2)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def deep(path: Path) -> None:
    cv2.imwrite(str(path), drawing().astype(np.uint16) * 256 + 77)


def clear(path: Path) -> None:
    pixels = drawing(channels=4)
    pixels[..., 3] = 255
    pixels[8:40, 8:40, 3] = 100
    Image.fromarray(pixels).save(path)


def profiled(path: Path) -> None:
    Image.fromarray(drawing()).save(path, icc_profile=gamma_profile(1 / 2.2, P3, gray=False))


def linear(path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 100_000))
    Image.fromarray(drawing()).save(path, pnginfo=chunks)


def damaged(path: Path) -> None:
    packed = io.BytesIO()
    Image.fromarray(drawing()).save(packed, "jpeg")
    whole = packed.getvalue()
    path.write_bytes(whole[:-400] + whole[-380:])


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "moving.gif": (animation, "not the other frames"),
    "moving.webp": (animation, "not the other frames"),
    "moving.png": (animation, "not the other frames"),
    "pages.tif": (pages, "not the other pages"),
    "deep.png": (deep, "8 of 16 bits"),
    "deep.tif": (deep, "8 of 16 bits"),
    "clear.png": (clear, "over white"),
    "clear.webp": (clear, "over white"),
    "profile.png": (profiled, "as sRGB"),
    "profile.jpg": (profiled, "as sRGB"),
    "linear.png": (linear, "as sRGB"),
    "damaged.jpg": (damaged, "damaged in places"),
}


def opaque(path: Path) -> None:
    pixels = drawing(channels=4)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(path)


def srgb(path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(drawing()).save(path, icc_profile=profile)


def gray(path: Path) -> None:
    Image.fromarray(drawing()[..., 0]).save(path)


def usual(path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 45_455))
    Image.fromarray(drawing()).save(path, pnginfo=chunks)


PLAIN: dict[str, Callable[[Path], None]] = {
    "opaque.png": opaque,
    "srgb.png": srgb,
    "srgb.jpg": srgb,
    "gray.png": gray,
    "gray.tif": gray,
    "usual.png": usual,
    "one.gif": gray,
    "one.webp": srgb,
}


@pytest.mark.parametrize("name", ODD)
def test_every_loss_is_named_with_its_file(tmp_path: Path, name: str) -> None:
    make, word = ODD[name]
    make(tmp_path / name)
    (line,) = rgb_losses([tmp_path / name])
    assert word in line
    assert line.endswith(f": {name}")


def test_what_loses_nothing_is_not_named(tmp_path: Path) -> None:
    for name, make in PLAIN.items():
        make(tmp_path / name)
    assert rgb_losses(sorted(tmp_path.iterdir())) == ()


@pytest.mark.parametrize("name", [*ODD, *PLAIN])
def test_reading_a_picture_tells_what_the_survey_says(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (ODD[name][0] if name in ODD else PLAIN[name])(path)
    with open_picture(path) as picture:
        pixels, losses = rgb_and_losses(picture)
    np.testing.assert_array_equal(pixels, read_rgb(path))
    assert rgb_losses([path]) == tuple(sorted(f"{loss}: {name}" for loss in losses))


def test_the_survey_does_not_decode_a_jpeg(tmp_path: Path) -> None:
    profiled(tmp_path / "head.jpg")
    data = (tmp_path / "head.jpg").read_bytes()
    (tmp_path / "head.jpg").write_bytes(data[: data.index(b"\xff\xda") + 14])
    (line,) = rgb_losses([tmp_path / "head.jpg"])
    assert "as sRGB" in line
    with pytest.raises(InputError):
        read_rgb(tmp_path / "head.jpg")


def odd_folder(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        ODD[name][0](folder / name)
    return folder


def is_said_first(events: list[Progress], *words: str) -> bool:
    """Whether there is one notice for each of the words, all before any work."""
    first = next((place for place, event in enumerate(events) if event.kind == "advanced"), len(events))
    before = [event.message for event in events[:first] if event.kind == "notice"]
    return all(sum(word in line for line in before) == 1 for word in words)


def test_degrade_says_it_before_the_work_and_reads_what_others_read(tmp_path: Path) -> None:
    odd = odd_folder(tmp_path / "odd", "moving.gif", "deep.tif", "clear.webp")
    plain = tmp_path / "plain"
    plain.mkdir()
    for path in odd.iterdir():
        target = plain / path.with_suffix(".png").name
        flat = ["-background", "white", "-flatten", "-depth", "8", "-type", "TrueColor"]
        subprocess.run(["convert", f"{path}[0]", *flat, f"PNG24:{target}"], check=True)
    recipe, options = load_recipe("bicubic", scale=2), DegradeOptions(sheet=False)
    events: list[Progress] = []
    result = degrade_folder(odd, tmp_path / "a", recipe, options, progress=events.append)
    assert is_said_first(events, "moving.gif", "deep.tif", "clear.webp")
    assert len(result.notices) == 3
    events.clear()
    assert degrade_folder(plain, tmp_path / "b", recipe, options, progress=events.append).notices == ()
    assert not [event for event in events if event.kind == "notice"]
    written = sorted((tmp_path / "b").glob("*.png"))
    assert len(written) == 3
    for path in written:
        one, two = (np.asarray(Image.open(tmp_path / part / path.name), np.int16) for part in "ab")
        assert np.abs(one - two).max() <= 2  # ImageMagick rounds alpha in another order, before shrinking


def test_the_line_is_printed_and_stands_in_json(tmp_path: Path, apisr: Run) -> None:
    odd = odd_folder(tmp_path / "odd", "deep.png")
    done = apisr("degrade", odd, "-o", tmp_path / "a", "-p", "bicubic", "-s", 2, "--no-sheet")
    assert done.returncode == 0
    assert "8 of 16 bits are read: deep.png" in done.stderr
    done = apisr("degrade", odd, "-o", tmp_path / "b", "-p", "bicubic", "-s", 2, "--no-sheet", "--json")
    assert "deep.png" in json.loads(done.stdout)["notices"][0]


def test_shards_and_trainings_say_it_before_the_work(tmp_path: Path) -> None:
    odd = odd_folder(tmp_path / "odd", "moving.png", "deep.png", "clear.png")
    events: list[Progress] = []
    request = ShardRequest((odd,), tmp_path / "shards", scale=2, degradations=("web=bicubic",))
    prepare_shards(request, progress=events.append)
    assert is_said_first(events, "moving.png", "deep.png", "clear.png")
    quiet = ["log.tensorboard=false", "run.threads=1", "data.enhance=none", "loss.target=gt", "data.workers=0"]
    config = load_config("tiny-test", sets=[*quiet, f"run.folder={tmp_path / 'run'}", f'data.folders=["{odd}"]'])
    events.clear()
    train(config, progress=events.append)
    assert is_said_first(events, "moving.png", "deep.png", "clear.png")


def test_reports_say_what_was_not_scored(tmp_path: Path) -> None:
    odd = odd_folder(tmp_path / "odd", "deep.png")
    clip = make_clip(tmp_path / "odd" / "ten.mkv", frames=3, pix_fmt="yuv420p10le", codec="ffv1", options={})
    shutil.copytree(odd, tmp_path / "truth")
    options = EvaluateOptions(metrics=("psnr",))
    report = evaluate(odd, reference=tmp_path / "truth", options=options).report
    assert report.notices == [
        f"only the upper 8 of 10 bits are read: {clip.name}",
        "only the upper 8 of 16 bits are read: deep.png",
    ]


@pytest.mark.parametrize(("suffix", "word"), [(".jpg", "16 bit"), (".gif", "16 bit")])
def test_enhancing_says_it_before_the_work(tmp_path: Path, suffix: str, word: str, apisr: Run) -> None:
    odd = odd_folder(tmp_path / "odd", "deep.png")
    done = apisr("enhance", odd / "deep.png", "-o", tmp_path / f"a{suffix}")
    assert done.returncode == 0
    assert sum(word in line for line in done.stderr.splitlines()) == 1


def test_pictures_of_deep_videos_say_what_they_lost(tmp_path: Path) -> None:
    options = {"x265-params": "log-level=none:keyint=6", "color_trc": "smpte2084"}
    clip = make_clip(tmp_path / "ten.mkv", frames=12, pix_fmt="yuv420p10le", codec="libx265", options=options)
    make_clip(tmp_path / "eight.mkv", frames=12, options={"g": "6"})
    events: list[Progress] = []
    settings = load_settings(overrides={"score": "classical", "count": 1, "height": "keep"})
    curate([tmp_path], tmp_path / "set", settings=settings, workers=0, progress=events.append)
    lines = {Path(event.item).name: event.message for event in events if event.kind == "ended"}
    assert "8 of 10 bits" in lines[clip.name]
    assert "bits" not in lines["eight.mkv"]


def test_pictures_that_a_dataset_is_compared_with_say_it_too(tmp_path: Path, apisr: Run) -> None:
    make_clip(tmp_path / "film.mkv", frames=6, options={"g": "6"})
    settings = load_settings(overrides={"score": "classical", "count": 1, "height": "keep"})
    curate([tmp_path / "film.mkv"], tmp_path / "set", settings=settings, workers=0)
    odd = odd_folder(tmp_path / "odd", "deep.png", "clear.webp", "profile.jpg")
    done = apisr("curate", "-o", tmp_path / "set", "--report", "--compare", odd)
    assert done.returncode == 0
    for name in ("deep.png", "clear.webp", "profile.jpg"):
        assert sum(f": {name}" in line for line in done.stderr.splitlines()) == 1
    plain = tmp_path / "plain"
    plain.mkdir()
    usual(plain / "usual.png")
    assert "usual.png" not in apisr("curate", "-o", tmp_path / "set", "--report", "--compare", plain).stderr
    (odd / "last.png").write_bytes((odd / "deep.png").read_bytes()[:-60])
    done = apisr("curate", "-o", tmp_path / "set", "--report", "--compare", odd)
    assert done.returncode == 2
    assert "last.png" in done.stderr.splitlines()[-1]
    assert sum(": deep.png" in line for line in done.stderr.splitlines()) == 1
