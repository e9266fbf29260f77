"""The pictures of the README, the gallery and the models' pages, made from the validation scenes and the example clip.

    python scripts/pictures.py                all of them
    python scripts/pictures.py hero clip      these only: hero, clip, gallery, models

Peers are taken where they can be had (`apisr models fetch realesr-animevideov3`, with torch); a picture that shows one
is left as it is where it cannot.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from apisr.image import read_rgb  # noqa: E402
from apisr.video.source import VideoSource  # noqa: E402
from apisr.weights import list_models  # noqa: E402
from benchmarks.validation import SMALL, Upscaler, upscalers  # noqa: E402

IMAGES, MODELS = ROOT / "docs" / "images", ROOT / "docs" / "models"
#: Low pixels around a crop, so that the networks see what surrounds it; Real-CUGAN looks at the whole picture.
MARGIN_PX, WHOLE = 48, ("Real-CUGAN",)
LABEL_PX, FONT_PX, GAP_PX = 36, 26, 4
PAPER, INK = (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True)
class Crop:
    """A place of a scene: its centre and size in pixels of the ground truth."""

    row: str
    scene: str
    centre: tuple[int, int]
    size: tuple[int, int] = (160, 140)

    @property
    def scale(self) -> int:
        """Return the factor of the row."""
        return int(self.row[-1])


#: What the first screen shows: an old transfer, whose damage goes, and a clean drawing, which stays as it was drawn.
HERO = (
    Crop("old_x2", "03", (392, 166), (160, 160)),
    Crop("clean_x2", "05", (846, 446)),
)
GALLERY = {
    "old-x2": Crop("old_x2", "10", (700, 240)),
    "web-x2": Crop("web_x2", "05", (600, 160)),
    "dvd-x2": Crop("dvd_x2", "00", (660, 260)),
    "clean-x2": Crop("clean_x2", "05", (600, 160)),
    "bokeh-x2": Crop("web_x2", "15", (610, 190)),
    "clean-x4": Crop("clean_x4", "03", (392, 150)),
    "old-x4": Crop("old_x4", "00", (1020, 150)),
    "compressed-x4": Crop("compressed_x4", "02", (690, 270)),
}
OF_MODELS = {
    2: (Crop("clean_x2", "03", (392, 150)), Crop("web_x2", "05", (600, 160)), Crop("old_x2", "10", (700, 240))),
    4: (Crop("clean_x4", "03", (392, 150)), Crop("old_x4", "00", (1020, 150)), Crop("compressed_x4", "02", (690, 270))),
}
NAMES = {"lanczos": "Lanczos"}
INPUTS = {
    "old": "input: old transfer",
    "web": "input: H.264",
    "dvd": "input: MPEG-2",
    "clean": "input: clean",
    "compressed": "input: all damage",
}


def main(arguments: Sequence[str]) -> int:
    """Make the pictures that were asked for."""
    makers = {"hero": make_hero, "clip": make_clip, "gallery": make_gallery, "models": make_model_panels}
    for name in arguments or makers:
        for path in makers[name]():
            sys.stdout.write(f"{path.relative_to(ROOT)}  {path.stat().st_size} bytes\n")
    return 0


def make_hero() -> Iterator[Path]:
    """Two rows: input, Lanczos, the most used peer, ours, the original."""
    ways = ("input", "lanczos", "animevideov3", "apisr", "original")
    yield _save(np.vstack([_panel(crop, ways, zoom=2) for crop in HERO]), IMAGES / "before-after.webp")


def make_gallery() -> Iterator[Path]:
    """A panel for each kind of source."""
    for name, crop in GALLERY.items():
        peers = ("animevideov3", "Real-CUGAN") if crop.scale == 2 else ("animevideov3",)
        largest = () if crop.scale == 2 else ("apisr-x4-max",)
        ways = ("input", "lanczos", *peers, "apisr fast", "apisr", *largest, "original")
        yield _save(_panel(crop, ways, zoom=2, columns=4), IMAGES / "gallery" / f"{name}.webp")


def make_model_panels() -> Iterator[Path]:
    """For each shipped model: three kinds of source, Lanczos, the model, the original."""
    for model in list_models():
        if not model.name.endswith("-vivid"):
            rows = [
                _panel(crop, ("input", "lanczos", model.name, "original"), zoom=2) for crop in OF_MODELS[model.scale]
            ]
            yield _save(np.vstack(rows), MODELS / f"{model.name}.webp")


def make_clip(frames: int = 48, step: int = 2) -> Iterator[Path]:
    """Half of the example clip's frames, before on the left and after on the right of a line that moves."""
    ways = upscalers(2)
    before, after = ways["lanczos"], _named("apisr", 2, ways)
    left, top, width, height = 252, 24, 128, 104
    pictures: list[Image.Image] = []
    made: dict[bytes, tuple[np.ndarray, ...]] = {}
    with VideoSource.open(ROOT / "examples" / "clip.mkv") as source:
        for index, frame in enumerate(source.frames()):
            if index >= frames * step:
                break
            if index % step:
                continue
            whole = np.asarray(frame.rgb)
            near = np.ascontiguousarray(whole[: top + height + MARGIN_PX, left - MARGIN_PX : left + width + MARGIN_PX])
            key = near.tobytes()
            if key not in made:
                made[key] = tuple(
                    high[2 * top : 2 * (top + height), 2 * MARGIN_PX : 2 * (MARGIN_PX + width)]
                    .repeat(2, 0)
                    .repeat(2, 1)
                    for high in (before.apply(near), after.apply(near, part_of=whole))
                )
            split = round(4 * width * (0.5 + 0.4 * np.sin(2 * np.pi * index / (frames * step))))
            pictures.append(_split(*made[key], split))
    target = IMAGES / "clip.webp"
    pictures[0].save(
        target,
        save_all=True,
        append_images=pictures[1:],
        duration=round(1001 / 24 * step),
        loop=0,
        quality=72,
        method=4,
    )
    yield target


def _split(before: np.ndarray, after: np.ndarray, at: int) -> Image.Image:
    picture = Image.fromarray(np.hstack([before[:, :at], after[:, at:]]))
    drawn = ImageDraw.Draw(picture)
    drawn.line([(at, 0), (at, picture.height)], fill=PAPER, width=2)
    for text, side in (("before", 8), ("after", picture.width - 72)):
        drawn.text(
            (side, picture.height - 30),
            text,
            font=ImageFont.load_default(20),
            fill=PAPER,
            stroke_width=2,
            stroke_fill=INK,
        )
    return picture


def _panel(crop: Crop, ways: Sequence[str], *, zoom: int, columns: int | None = None) -> np.ndarray:
    low = read_rgb(SMALL / crop.row / f"{crop.scene}.webp")
    truth = read_rgb(SMALL / "gt" / f"{crop.scene}.webp")
    found = upscalers(crop.scale)
    cells = [_labelled(_cut(way, crop, low, truth, found), _label(way, crop), zoom) for way in ways]
    columns = columns or len(cells)
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % columns)
    lines = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    return np.vstack(lines)


def _cut(way: str, crop: Crop, low: np.ndarray, truth: np.ndarray, found: dict[str, Upscaler]) -> np.ndarray:
    width, height = crop.size
    left, top = crop.centre[0] - width // 2, max(0, crop.centre[1] - height // 2)
    left, top = left - left % crop.scale, top - top % crop.scale
    if way == "original":
        return truth[top : top + height, left : left + width]
    small = [value // crop.scale for value in (left, top, left + width, top + height)]
    if way == "input":
        part = low[small[1] : small[3], small[0] : small[2]]
        return part.repeat(crop.scale, axis=0).repeat(crop.scale, axis=1)
    name, upscaler = way, _named(way, crop.scale, found)
    margin = max(low.shape) if name in WHOLE else MARGIN_PX
    from_x, from_y = max(0, small[0] - margin), max(0, small[1] - margin)
    part = np.ascontiguousarray(low[from_y : small[3] + margin, from_x : small[2] + margin])
    high = upscaler.apply(part, part_of=low)
    x, y = left - from_x * crop.scale, top - from_y * crop.scale
    return high[y : y + height, x : x + width]


def _named(way: str, scale: int, found: dict[str, Upscaler]) -> Upscaler:
    plain = {"apisr": f"apisr-x{scale}", "apisr fast": f"apisr-x{scale}-fast"}.get(way, way)
    upscaler = found.get(f"{plain}, auto") or found.get(plain)
    if upscaler is None:
        raise SystemExit(f"{way} is not on this machine: apisr models fetch realesr-animevideov3, with torch")
    return upscaler


def _label(way: str, crop: Crop) -> str:
    kind = INPUTS[crop.row.partition("_")[0]]
    names = {
        "input": kind,
        "lanczos": "Lanczos",
        "apisr": f"apisr-x{crop.scale}",
        "apisr fast": f"apisr-x{crop.scale}-fast",
    }
    return names.get(way, way)


def _labelled(pixels: np.ndarray, text: str, zoom: int) -> np.ndarray:
    height, width = pixels.shape[0] * zoom, pixels.shape[1] * zoom
    picture = Image.new("RGB", (width + GAP_PX, height + LABEL_PX + GAP_PX), PAPER)
    picture.paste(Image.fromarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)), (0, LABEL_PX))
    ImageDraw.Draw(picture).text((4, 3), text, font=ImageFont.load_default(FONT_PX), fill=INK)
    return np.asarray(picture)


def _save(pixels: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, quality=88, method=4)
    return path


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
