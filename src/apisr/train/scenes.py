"""Scenes: varied, seeded training pictures composed from a small collection of openly licensed art.

The paper trains on 3,740 frames of commercial anime, which nobody may pass on. The models in the wheel are trained on
art whose licence allows it: about thirty characters, a handful of backgrounds, line drawings and vector art. That is
far less variety than 3,740 frames, so every training picture is *composed*: characters over backgrounds at several
sizes, with shadows, depth of field (blurred backgrounds must stay blurred), times of day, titles in many scripts,
manga panels with screentone, particles and glows, and painted textures (fractal clouds, leaves, brush strokes,
interiors) that are drawn by the program. Nothing is ever enlarged: the composed picture is as sharp as its art.

A scene is a function of the art and of one random generator, so a seed names a picture:

    >>> from pathlib import Path
    >>> import numpy as np
    >>> compose(Art.none(), np.random.default_rng(1), height=90, width=160).shape
    (90, 160, 3)

The layout of an art folder is ``<kind>/<source>/*.webp`` (any picture format) with the kinds ``sprites``,
``backgrounds``, ``lineart`` and ``vector``; :data:`SOURCES` lists the sources that we use, with their licences.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from apisr.core.errors import InputError
from apisr.image import is_picture_name, read_picture

Floats = NDArray[Any]  # float32 unless said otherwise; OpenCV's types do not tell
Random = np.random.Generator

KINDS = ("sprites", "backgrounds", "lineart", "vector")


@dataclass(frozen=True)
class Source:
    """One source of art: where it comes from and under which licence.

    Attributes:
        name: folder name below the kind.
        origin: repository or package that publishes it.
        licence: SPDX-like name.
        credit: author, where the licence asks for it.
        used: whether shipped models train on it (copyleft and share-alike art is left out).
    """

    name: str
    origin: str
    licence: str
    credit: str = ""
    used: bool = True


SOURCES = (
    Source("taisei", "github.com/taisei-project/taisei (portraits)", "CC-BY-4.0", "art by afensorm"),
    Source("nova_vn", "github.com/Lunatic-Works/Nova", "MIT"),
    Source("renpy", "github.com/renpy/renpy (demo, The Question)", "MIT"),
    Source("suika2", "github.com/ktabata/suika2", "MIT"),
    Source("ltcrpg", "github.com/freeCodeCamp/LearnToCodeRPG", "BSD-3-Clause"),
    Source("sachi", "github.com/squishy-scsi/squishy", "BSD-3-Clause", "art by Tyson Tan"),
    Source("taisei_lineart", "github.com/taisei-project/taisei-rawmedia", "MIT"),
    Source("dialogic", "github.com/dialogic-godot/dialogic", "MIT"),
    Source("openclipart", "openclipart", "public domain"),
    Source("dicebear", "dicebear", "CC-BY-4.0 / CC0-1.0"),
    Source("gophers_marialetta", "github.com/MariaLetta/free-gophers-pack", "CC0-1.0"),
    Source("morevna", "morevna", "CC0-1.0"),
    Source("snowy_vn", "github.com/SnowyYANG/godot-visual-novel", "CC-BY-SA-4.0", used=False),
    Source("plasma_wallpapers", "plasma-workspace-wallpapers", "LGPL-3.0 / CC-BY-SA-4.0", used=False),
    Source("openmoji", "openmoji", "CC-BY-SA-4.0", used=False),
    Source("hedgewars", "hedgewars", "GPL-2.0", used=False),
    Source("ktuberling", "ktuberling", "GPL-2.0-or-later", used=False),
    Source("synfig_examples", "synfig-examples", "GPL-2.0-or-later", used=False),
)

#: Sample text. Upscalers destroy text first, so titles, subtitles and credits appear in many scripts.
TEXTS = {
    "latin": "Once upon a time;The Quick Brown Fox;EPISODE 12;Don't look back!;Next time: the harbour;Directed by;"
    "original work / script;To be continued...;0123456789;Ça va? Où êtes-vous?;Straße & Übung;Año Nuevo;chapter",
    "japanese": "第三話 夏の終わり;つづく;おはようございます;魔法使いの約束;監督・脚本;次回予告;"
    "あの日見た空を覚えている;放課後;制作進行 原画 動画検査;"
    "カメラ ピアノ ハンバーグ;東京都千代田区;ありがとう、さようなら。;!?ドドドド",
    "chinese": "第十二集 星空之下;未完待续;你好,世界;導演 編劇 製作;我們走吧;图书馆",
    "korean": "안녕하세요;다음 이야기;감독 각본;끝까지 함께;서울특별시",
    "cyrillic": "Конец первой серии;Продолжение следует;Привет, как дела?;режиссёр",
    "greek": "Τέλος πρώτου μέρους;Καλημέρα κόσμε",
    "thai": "สวัสดีครับ;ตอนต่อไป",
    "arabic": "مرحبا بالعالم;النهاية",
    "hebrew": "שלום עולם;סוף",
    "devanagari": "नमस्ते दुनिया;समाप्त",
}
_FONT_HINTS = {
    "japanese": ("cjk", "ipaex", "dotgothic", "takao", "mplus", "notosansjp", "notoserifjp"),
    "chinese": ("cjk", "wqy"),
    "korean": ("cjk", "nanum"),
    "thai": ("thai",),
    "arabic": ("arabic", "dejavusans.", "dejavusans-bold."),
    "hebrew": ("hebrew",),
    "devanagari": ("devanagari",),
    "greek": ("dejavu", "liberation", "notosans["),
    "cyrillic": ("dejavu", "liberation", "notosans["),
}


class Art:
    """A folder of art, indexed once, decoded on demand (the last pictures stay in memory)."""

    def __init__(self, files: dict[str, tuple[Path, ...]], fonts: dict[str, tuple[Path, ...]]) -> None:
        self.files = files
        self.fonts = fonts
        self._read = functools.lru_cache(maxsize=48)(_read_rgba)

    @classmethod
    def none(cls) -> Art:
        """No files at all: scenes are then made of what the program draws by itself."""
        return cls(dict.fromkeys(KINDS, ()), {})

    @classmethod
    def open(cls, folder: Path, *, fonts: Path | None = None, sources: Sequence[str] | None = None) -> Art:
        """Index an art folder.

        Args:
            folder: holds ``<kind>/<source>/`` folders of pictures.
            fonts: folder of TrueType/OpenType fonts for the text in the scenes; None writes no text.
            sources: names of the source folders to use; None takes all of :data:`SOURCES` that are marked `used`.

        Raises:
            InputError: the folder holds no picture of these sources.
        """
        names = set(sources if sources is not None else (source.name for source in SOURCES if source.used))
        files = {
            kind: tuple(
                sorted(
                    path
                    for source in sorted((folder / kind).glob("*"))
                    if source.is_dir() and source.name in names
                    for path in source.iterdir()
                    if is_picture_name(path)
                )
            )
            for kind in KINDS
        }
        if not any(files.values()):
            raise InputError(
                f"cannot use '{folder}' as art: no pictures in <kind>/<source>/ below it (kinds: {', '.join(KINDS)})."
            )
        return cls(files, _fonts_by_script(fonts) if fonts is not None else {})

    def pick(self, kind: str, rng: Random) -> Floats | None:
        """Draw one picture of a kind, every source folder being equally likely; None where there is none.

        Returns:
            float32 RGBA ``(h, w, 4)`` in [0, 1], colours not multiplied by alpha.
        """
        paths = self.files[kind]
        if not paths:
            return None
        folders = sorted({path.parent for path in paths})
        # Between "every source alike" and "every file alike": sixty files are drawn more often than five.
        counts = np.array([sum(path.parent == folder for path in paths) for folder in folders]) ** 0.75
        folder = folders[int(rng.choice(len(folders), p=counts / counts.sum()))]
        own = [path for path in paths if path.parent == folder]
        return _float(self._read(own[int(rng.integers(len(own)))]))


def compose(art: Art, rng: Random, *, height: int = 720, width: int = 1280) -> NDArray[np.uint8]:
    """Compose one scene.

    Args:
        art: what to compose from.
        rng: the only source of randomness; equal states give equal scenes.
        height: of the scene, in pixels.
        width: of the scene, in pixels.

    Returns:
        uint8 RGB ``(height, width, 3)``.
    """
    kinds: tuple[Callable[..., Floats], ...] = (_story, _illustration, _collage, _manga, _credits)
    kind = kinds[int(rng.choice(len(kinds), p=(0.58, 0.12, 0.14, 0.09, 0.07)))]
    scene = np.clip(kind(art, rng, height, width), 0, 1)
    if rng.random() < 0.06:
        scene = scene + rng.normal(0, rng.uniform(0.004, 0.02), scene.shape).astype(np.float32)
    return (np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8)


# --- kinds of scenes -------------------------------------------------------------------------------------------------


def _story(art: Art, rng: Random, height: int, width: int) -> Floats:
    """Characters over a background, as in a film or a visual novel."""
    scene = _background(art, rng, height, width)
    if rng.random() < 0.3:
        scene = _bokeh(scene, rng, rng.uniform(1.5, 9) * height / 720)
    light = np.ones(3, np.float32)
    if rng.random() < 0.35:
        light = rng.uniform(0.55, 1.1, 3).astype(np.float32)
        scene = scene * light
    for _ in range(int(rng.choice(4, p=(0.08, 0.4, 0.35, 0.17)))):
        sprite = art.pick("sprites" if rng.random() < 0.85 else "vector", rng)
        if sprite is None:
            break
        sprite = _recoloured(sprite, rng)
        sprite[..., :3] *= light
        _place_character(scene, sprite, rng)
    scene = _effects(scene, rng)
    if rng.random() < 0.3:
        _write(scene, art, rng, lines=int(rng.integers(1, 3)))
    return scene


def _illustration(art: Art, rng: Random, height: int, width: int) -> Floats:
    """One picture, alone and large: a finished drawing, or a close-up of a character on a plain ground."""
    picture = art.pick("backgrounds" if rng.random() < 0.4 else "sprites", rng)
    if picture is None:
        return _painting(rng, height, width)
    scene = _plain(rng, height, width)
    scale = max(height / picture.shape[0], width / picture.shape[1])
    scale = min(1.0, scale * float(rng.uniform(1.0, 2.0)))
    _paste(scene, _scaled(_recoloured(picture, rng), scale), rng)
    return scene


def _collage(art: Art, rng: Random, height: int, width: int) -> Floats:
    """Many vector drawings and sprites at any size and angle: edges of every direction and thickness."""
    scene = _background(art, rng, height, width) if rng.random() < 0.4 else _plain(rng, height, width)
    for _ in range(int(rng.integers(4, 14))):
        picture = art.pick("vector" if rng.random() < 0.75 else "sprites", rng)
        if picture is None:
            return _painting(rng, height, width)
        size = float(np.exp(rng.uniform(np.log(60), np.log(700)))) * height / 720
        picture = _scaled(_recoloured(picture, rng), min(1.0, size / max(picture.shape[:2])))
        if rng.random() < 0.4:
            picture = _rotated(picture, float(rng.uniform(-180, 180)))
        _paste(scene, picture, rng)
    if rng.random() < 0.3:
        _write(scene, art, rng, lines=2)
    return scene


def _manga(art: Art, rng: Random, height: int, width: int) -> Floats:
    """Black and white panels: line drawings, screentone, speed lines, hard black lettering."""
    scene = np.ones((height, width, 3), np.float32)
    columns = int(rng.integers(1, 4))
    edges = np.linspace(0, width, columns + 1).astype(int)
    for left, right in itertools.pairwise(edges):
        panel = scene[:, left + 4 : right - 4]
        if panel.shape[1] < 32:
            continue
        if rng.random() < 0.5:
            panel[...] = _screentone(rng, height, panel.shape[1])[..., None]
        elif rng.random() < 0.4:
            _speed_lines(panel, rng)
        drawing = art.pick("lineart" if rng.random() < 0.6 else "sprites", rng)
        if drawing is not None:
            gray = cv2.cvtColor(drawing[..., :3], cv2.COLOR_RGB2GRAY)
            if rng.random() < 0.4:
                tone = _screentone(rng, *gray.shape)
                gray = np.where(gray < 0.75, np.minimum(gray * 1.4, tone), gray).astype(np.float32)
            drawing = np.dstack([gray, gray, gray, drawing[..., 3]])
            fit = max(panel.shape[0] / drawing.shape[0], panel.shape[1] / drawing.shape[1])
            _paste(panel, _scaled(drawing, min(1.0, fit * float(rng.uniform(0.7, 1.5)))), rng)
        cv2.rectangle(scene, (left + 4, 4), (right - 5, height - 5), (0, 0, 0), int(rng.integers(1, 5)))
    if rng.random() < 0.6:
        _write(scene, art, rng, lines=int(rng.integers(1, 4)), bubble=True)
    if rng.random() < 0.3:
        scene = scene * rng.uniform(0.75, 1, 3).astype(np.float32)
    return scene


def _credits(art: Art, rng: Random, height: int, width: int) -> Floats:
    """Titles, credits and text cards."""
    scene = _background(art, rng, height, width) if rng.random() < 0.4 else _plain(rng, height, width)
    if rng.random() < 0.3:
        scene = _bokeh(scene, rng, rng.uniform(2, 8) * height / 720)
    _write(scene, art, rng, lines=int(rng.integers(4, 14)))
    return _effects(scene, rng) if rng.random() < 0.3 else scene


# --- backgrounds -----------------------------------------------------------------------------------------------------


def _background(art: Art, rng: Random, height: int, width: int) -> Floats:
    picture = art.pick("backgrounds", rng) if rng.random() < 0.62 else None
    if picture is None:
        return _painting(rng, height, width) if rng.random() < 0.85 else _plain(rng, height, width)
    picture = _recoloured(picture, rng)
    least = max(height / picture.shape[0], width / picture.shape[1])
    scaled = _scaled(
        picture[..., :3], float(rng.uniform(min(least, 1.0), 1.0)) if rng.random() < 0.7 else min(least, 1.0)
    )
    short = (max(0, height - scaled.shape[0]), max(0, width - scaled.shape[1]))
    if any(short):
        scaled = cv2.copyMakeBorder(scaled, 0, short[0], 0, short[1], cv2.BORDER_REFLECT_101)
    top, left = (
        int(rng.integers(have - want + 1)) for have, want in zip(scaled.shape[:2], (height, width), strict=True)
    )
    scene = scaled[top : top + height, left : left + width].copy()
    return np.ascontiguousarray(scene[:, ::-1]) if rng.random() < 0.5 else scene


def _painting(rng: Random, height: int, width: int) -> Floats:
    """A background drawn by the program."""
    kinds = (_landscape, _leaves, _interior, _strokes)
    return kinds[int(rng.choice(4, p=(0.35, 0.2, 0.3, 0.15)))](rng, height, width)


def _landscape(rng: Random, height: int, width: int) -> Floats:
    scene = _gradient(rng, height, width, sky=True)
    clouds = np.clip((_fractal(rng, height, width) - rng.uniform(0.45, 0.6)) * rng.uniform(3, 14), 0, 1)[..., None]
    scene = scene * (1 - clouds) + clouds * (1 - 0.25 * _fractal(rng, height, width)[..., None])
    horizon = int(height * rng.uniform(0.35, 0.8))
    for layer in range(int(rng.integers(1, 4))):
        base = horizon + layer * height // 12
        profile = _fractal(rng, 8, width)[4] * rng.uniform(0.1, 0.35) * height
        mask = (np.arange(height)[:, None] > base - profile[None, :]).astype(np.uint8) * 255
        smooth = cv2.GaussianBlur(mask, (0, 0), 0.6).astype(np.float32)[..., None] / 255
        colour = _colour(rng, (0.15, 0.75))
        texture = 0.7 + 0.6 * _fractal(rng, height, width, roughness=float(rng.uniform(0.5, 0.85)))[..., None]
        scene = scene * (1 - smooth) + np.clip(colour * texture, 0, 1) * smooth
    if rng.random() < 0.6:
        scene = _scatter(scene, rng, top=horizon - height // 6, count=int(rng.integers(200, 2500)))
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 6))):
            x, thick = int(rng.integers(width)), int(rng.integers(1, 10))
            cv2.line(
                scene,
                (x, int(horizon * rng.uniform(0, 0.7))),
                (x + int(rng.integers(-9, 9)), height),
                _colour(rng, (0, 0.4)).tolist(),
                thick,
                cv2.LINE_AA,
            )
    return scene.astype(np.float32)


def _leaves(rng: Random, height: int, width: int) -> Floats:
    """Dead leaves: overlapping shapes of power-law sizes have the statistics of natural pictures."""
    scene = np.empty((height, width, 3), np.float32)
    scene[...] = _colour(rng)
    palette = [_colour(rng) for _ in range(int(rng.integers(3, 9)))]
    outline = rng.random() < 0.4
    for _ in range(int(rng.integers(400, 1200))):
        radius = min(height / 3, 4 / (1 - rng.random() * 0.985))
        colour = np.clip(palette[int(rng.integers(len(palette)))] + rng.normal(0, 0.06, 3), 0, 1).tolist()
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        if rng.random() < 0.5:
            axes = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.2, 1))))
            angle = float(rng.uniform(0, 180))
            cv2.ellipse(scene, centre, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
            if outline:
                cv2.ellipse(
                    scene, centre, axes, angle, 0, 360, (0.05, 0.05, 0.08), max(1, int(radius / 25)), cv2.LINE_AA
                )
        else:
            corners = int(rng.integers(3, 7))
            angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
            points = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], 1)
            cv2.fillPoly(scene, [(points * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    if rng.random() < 0.5:
        scene *= 0.8 + 0.4 * _fractal(rng, height, width, roughness=0.7)[..., None]
    return np.clip(scene, 0, 1)


def _interior(rng: Random, height: int, width: int) -> Floats:
    """A room or street in one-point perspective: walls with windows and boards, floor and ceiling with grids."""
    scene = np.empty((height, width, 3), np.float32)
    centre = np.array([width * rng.uniform(0.25, 0.75), height * rng.uniform(0.3, 0.65)])
    ratio = rng.uniform(0.12, 0.5)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    back = centre + (corners - centre) * ratio
    faces = [[corners[i], corners[(i + 1) % 4], back[(i + 1) % 4], back[i]] for i in range(4)]
    faces.append(list(back))
    tone = _colour(rng)
    for face in faces:
        columns, rows = int(rng.integers(256, 900)), int(rng.integers(256, 700))
        wall = _wall(rng, rows, columns, np.clip(tone + rng.normal(0, 0.13, 3), 0.05, 1).astype(np.float32))
        source = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
        matrix = cv2.getPerspectiveTransform(source, np.array(face, np.float32))
        # Drawn at twice the size and reduced by area: perspective without jagged lines.
        big = np.diag([2.0, 2.0, 1.0]) @ matrix
        warped = cv2.warpPerspective(
            wall, big, (2 * width, 2 * height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        mask = np.zeros((2 * height, 2 * width), np.float32)
        cv2.fillConvexPoly(mask, (np.array(face) * 2).astype(np.int32), 1.0)
        warped = cv2.resize(warped, (width, height), interpolation=cv2.INTER_AREA)
        cover = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)[..., None]
        scene = scene * (1 - cover) + warped * cover if face is not faces[0] else warped
    distance = (
        np.hypot(*(np.mgrid[:height, :width].astype(np.float32)[::-1] - centre[:, None, None].astype(np.float32)))
        / width
    )
    return np.clip(scene * (1.05 - rng.uniform(0, 0.5) * distance[..., None]), 0, 1).astype(np.float32)


def _wall(rng: Random, rows: int, columns: int, colour: Floats) -> Floats:
    wall = np.empty((rows, columns, 3), np.float32)
    wall[...] = colour * (0.85 + 0.3 * _fractal(rng, rows, columns, roughness=float(rng.uniform(0.4, 0.8)))[..., None])
    if rng.random() < 0.6:
        step_x, step_y = int(rng.integers(12, 160)), int(rng.integers(12, 160))
        dark = (colour * rng.uniform(0.2, 0.8)).tolist()
        thick = int(rng.integers(1, 5))
        for x in range(0, columns, step_x):
            cv2.line(wall, (x, 0), (x, rows), dark, thick, cv2.LINE_AA)
        for y in range(0, rows, step_y):
            cv2.line(wall, (0, y), (columns, y), dark, thick, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 14))):
        x, y = int(rng.integers(columns)), int(rng.integers(rows))
        w, h = int(rng.integers(10, max(11, columns // 4))), int(rng.integers(10, max(11, rows // 3)))
        cv2.rectangle(wall, (x, y), (x + w, y + h), _colour(rng).tolist(), -1)
        cv2.rectangle(
            wall, (x, y), (x + w, y + h), _colour(rng, (0, 0.5)).tolist(), int(rng.integers(1, 6)), cv2.LINE_AA
        )
        if rng.random() < 0.5:
            cv2.line(
                wall, (x + w // 2, y), (x + w // 2, y + h), _colour(rng, (0, 0.9)).tolist(), int(rng.integers(1, 4))
            )
    return np.clip(wall, 0, 1)


def _strokes(rng: Random, height: int, width: int) -> Floats:
    """Brush strokes that follow a smooth direction field."""
    scene = _gradient(rng, height, width)
    direction = _fractal(rng, height, width, roughness=0.3) * rng.uniform(2, 9)
    palette = _fractal(rng, height, width, roughness=0.4)
    colours = np.stack([_colour(rng) for _ in range(6)])
    for _ in range(int(rng.integers(1500, 6000))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        length, angle = rng.uniform(4, 50), direction[y, x]
        end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        colour = np.clip(colours[int(palette[y, x] * 5.99)] + rng.normal(0, 0.05, 3), 0, 1).tolist()
        cv2.line(scene, (x, y), end, colour, int(rng.integers(1, 9)), cv2.LINE_AA)
    return scene


def _plain(rng: Random, height: int, width: int) -> Floats:
    """A flat colour, a gradient, stripes, checks, dots, or screentone in colour."""
    choice = rng.random()
    if choice < 0.25:
        scene = np.empty((height, width, 3), np.float32)
        scene[...] = _colour(rng)
        return scene
    if choice < 0.6:
        return _gradient(rng, height, width)
    first, second = _colour(rng), _colour(rng)
    if choice < 0.75:
        tone = _screentone(rng, height, width)
    else:
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 90)
        ys, xs = np.mgrid[:height, :width].astype(np.float32)
        wave = np.sin((xs * np.cos(angle) + ys * np.sin(angle)) * np.float32(2 * np.pi / period))
        if rng.random() < 0.4:
            wave = wave * np.sin((xs * -np.sin(angle) + ys * np.cos(angle)) * np.float32(2 * np.pi / period))
        tone = np.clip(wave * period / 5 + 0.5, 0, 1)
    return (first * tone[..., None] + second * (1 - tone[..., None])).astype(np.float32)


def _gradient(rng: Random, height: int, width: int, *, sky: bool = False) -> Floats:
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    angle = np.pi / 2 if sky else rng.uniform(0, 2 * np.pi)
    ramp = xs / width * np.cos(angle) + ys / height * np.sin(angle)
    if not sky and rng.random() < 0.3:
        ramp = np.hypot(xs / width - rng.uniform(0, 1), ys / height - rng.uniform(0, 1))
    ramp = ((ramp - ramp.min()) / max(1e-6, float(np.ptp(ramp))))[..., None]
    first, second = _colour(rng), _colour(rng)
    if sky:
        first = np.array([rng.uniform(0.05, 0.5), rng.uniform(0.2, 0.6), rng.uniform(0.55, 1)], np.float32)
    return (first * (1 - ramp) + second * ramp).astype(np.float32)


def _fractal(rng: Random, height: int, width: int, *, roughness: float = 0.55) -> Floats:
    """Fractal value noise in [0, 1]: octaves of random grids, each finer one weaker by `roughness`."""
    total = np.zeros((height, width), np.float32)
    cells, weight = 3, 1.0
    while cells < max(height, width) / 2:
        grid = rng.random((max(2, cells * height // width), cells), dtype=np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * roughness
    return (total - total.min()) / max(1e-6, float(np.ptp(total)))


def _scatter(scene: Floats, rng: Random, *, top: int, count: int) -> Floats:
    """Leaves or blades of grass in clusters."""
    height, width = scene.shape[:2]
    clusters = [(rng.uniform(0, width), rng.uniform(max(0, top), height), _colour(rng, (0.1, 0.8))) for _ in range(9)]
    for _ in range(count):
        x, y, colour = clusters[int(rng.integers(len(clusters)))]
        spot = (int(x + rng.normal(0, width / 9)), int(y + rng.normal(0, height / 10)))
        shade = np.clip(colour * rng.uniform(0.5, 1.35), 0, 1).tolist()
        axes = (int(rng.integers(1, 10)), int(rng.integers(1, 5)))
        cv2.ellipse(scene, spot, axes, float(rng.uniform(0, 180)), 0, 360, shade, -1, cv2.LINE_AA)
    return scene


# --- figures, text, effects ------------------------------------------------------------------------------------------


def _place_character(scene: Floats, sprite: Floats, rng: Random) -> None:
    height, width = scene.shape[:2]
    wanted = height * float(np.exp(rng.uniform(np.log(0.5), np.log(2.6))))
    sprite = _scaled(sprite, min(1.0, wanted / sprite.shape[0]))
    if rng.random() < 0.12:
        sprite = _rotated(sprite, float(rng.uniform(-25, 25)))
    if rng.random() < 0.1:
        sprite = np.clip(cv2.GaussianBlur(sprite, (0, 0), float(rng.uniform(1, 5))), 0, 1)
    rows, columns = sprite.shape[:2]
    left = int(rng.integers(-columns // 3, max(width - 2 * columns // 3, 1 - columns // 3)))
    top = (
        height - rows + int(rng.integers(0, rows // 4 + 1))
        if rows < height
        else -int(rng.integers(0, max(1, (rows - height) // 2 + 1)))
    )
    if rng.random() < 0.3:
        shadow = np.zeros_like(sprite)
        shadow[..., 3] = cv2.GaussianBlur(sprite[..., 3], (0, 0), float(rng.uniform(2, 14))) * rng.uniform(0.2, 0.7)
        _over(scene, shadow, top + int(rng.integers(0, 16)), left + int(rng.integers(-20, 20)))
    _over(scene, sprite, top, left)


def _write(scene: Floats, art: Art, rng: Random, *, lines: int, bubble: bool = False) -> None:
    """Write lines of text in one script, plain, outlined or shadowed, as subtitles and titles are."""
    scripts = sorted(art.fonts)
    if not scripts:
        return
    height, width = scene.shape[:2]
    script = "japanese" if "japanese" in scripts and rng.random() < 0.4 else scripts[int(rng.integers(len(scripts)))]
    choices = TEXTS[script].split(";")
    size = int(np.exp(rng.uniform(np.log(13), np.log(90 if lines <= 2 else 44))) * height / 720) + 1
    font = _font(art.fonts[script][int(rng.integers(len(art.fonts[script])))], size, int(rng.integers(9)))
    canvas = Image.new("L", (width, height))
    outline = Image.new("L", (width, height))
    stroke = int(rng.integers(1, max(2, size // 9))) if rng.random() < 0.6 else 0
    y = int(rng.uniform(0, max(1, height - lines * size * 1.4)))
    x = int(rng.uniform(-0.05, 0.6) * width)
    for _ in range(lines):
        text = "  ".join(choices[int(rng.integers(len(choices)))] for _ in range(int(rng.integers(1, 3))))
        ImageDraw.Draw(canvas).text((x, y), text, 255, font)
        ImageDraw.Draw(outline).text((x, y), text, 255, font, stroke_width=stroke)
        y += int(size * rng.uniform(1.2, 1.7))
    dark = rng.random() < 0.5
    ink = np.zeros(3, np.float32) if bubble else (_colour(rng, (0, 0.35)) if dark else _colour(rng, (0.75, 1)))
    edge = np.ones(3, np.float32) if dark or bubble else _colour(rng, (0, 0.3))
    if bubble or rng.random() < 0.15:
        box = outline.getbbox()
        if box is not None:
            pad = size // 2
            cv2.rectangle(
                scene, (box[0] - pad, box[1] - pad), (box[2] + pad, box[3] + pad), edge.tolist(), -1, cv2.LINE_AA
            )
    if stroke:
        _blend(scene, edge, np.asarray(outline, np.float32) / 255)
    elif rng.random() < 0.5:
        _blend(scene, edge, np.roll(np.asarray(canvas, np.float32) / 255, (2, 2), (0, 1)) * 0.7)
    _blend(scene, ink, np.asarray(canvas, np.float32) / 255)


def _effects(scene: Floats, rng: Random) -> Floats:
    """Particles, glows, light beams, speed lines, bloom: each now and then."""
    height, width = scene.shape[:2]
    if rng.random() < 0.14:
        layer = np.zeros_like(scene)
        colour = _colour(rng, (0.5, 1)).tolist()
        for _ in range(int(rng.integers(20, 300))):
            spot = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.circle(layer, spot, int(rng.integers(1, 7)), colour, -1, cv2.LINE_AA)
        scene = np.maximum(scene, layer) if rng.random() < 0.5 else scene + layer
        scene = scene + cv2.GaussianBlur(layer, (0, 0), float(rng.uniform(3, 12))) * rng.uniform(0.3, 1.2)
    if rng.random() < 0.1:
        spot = np.zeros((height, width), np.float32)
        cv2.circle(
            spot,
            (int(rng.integers(width)), int(rng.integers(height))),
            int(rng.integers(10, height // 3 + 11)),
            1.0,
            -1,
            cv2.LINE_AA,
        )
        glow = _fast_blur(spot, float(rng.uniform(8, 60)))[..., None]
        scene = scene + glow * _colour(rng, (0.4, 1)) * rng.uniform(0.3, 1)
    if rng.random() < 0.06:
        _speed_lines(scene, rng)
    if rng.random() < 0.1:
        scene = scene + _fast_blur(np.clip(scene - 0.6, 0, 1), float(rng.uniform(6, 30))) * rng.uniform(0.3, 1)
    if rng.random() < 0.12:
        scene = scene * rng.uniform(0.25, 0.8)
    return np.clip(scene, 0, 1).astype(np.float32)


def _speed_lines(scene: Floats, rng: Random) -> None:
    height, width = scene.shape[:2]
    centre = (width * rng.uniform(0.3, 0.7), height * rng.uniform(0.3, 0.7))
    colour = [0.0] * 3 if rng.random() < 0.5 else [1.0] * 3
    for _ in range(int(rng.integers(30, 160))):
        angle, near = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.7) * width
        far = near + width
        start = (int(centre[0] + near * np.cos(angle)), int(centre[1] + near * np.sin(angle)))
        end = (int(centre[0] + far * np.cos(angle)), int(centre[1] + far * np.sin(angle)))
        cv2.line(scene, start, end, colour, int(rng.integers(1, 6)), cv2.LINE_AA)


def _screentone(rng: Random, height: int, width: int) -> Floats:
    """Printed dots, 1 = paper, as ``(height, width)``."""
    angle, period = np.pi / 4 if rng.random() < 0.7 else rng.uniform(0, np.pi), rng.uniform(4.5, 14)
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    u = (xs * np.cos(angle) + ys * np.sin(angle)) * np.float32(2 * np.pi / period)
    v = (ys * np.cos(angle) - xs * np.sin(angle)) * np.float32(2 * np.pi / period)
    level = float(rng.uniform(0.2, 1.4))
    if rng.random() < 0.3:
        level = level * (ys / height)
    return np.clip((np.cos(u) + np.cos(v) + level) * period / 6 + 0.5, 0, 1).astype(np.float32)


def _bokeh(scene: Floats, rng: Random, radius_px: float) -> Floats:
    """Out of focus: a disc (highlights become discs) or a Gaussian."""
    if rng.random() < 0.5:
        return _fast_blur(scene, radius_px)
    side = 2 * int(np.ceil(radius_px)) + 1
    ys, xs = np.mgrid[:side, :side] - side // 2
    disc = np.clip(radius_px + 0.5 - np.hypot(xs, ys), 0, 1).astype(np.float32)
    linear = cv2.filter2D(np.clip(scene, 0, 1) ** 2.2, -1, disc / disc.sum())
    return np.clip(linear, 0, 1) ** np.float32(1 / 2.2)


def _fast_blur(values: Floats, sigma: float) -> Floats:
    """Gaussian blur; wide ones at a reduced size, where they are the same picture and many times cheaper."""
    factor = int(sigma // 4)
    if factor < 2:
        return cv2.GaussianBlur(values, (0, 0), max(sigma, 0.3))
    height, width = values.shape[:2]
    small = cv2.resize(values, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / factor), (width, height), interpolation=cv2.INTER_CUBIC)


# --- pixels ----------------------------------------------------------------------------------------------------------


def _recoloured(picture: Floats, rng: Random) -> Floats:
    """Shift hue, saturation, brightness and contrast, and mirror: one drawing serves as many."""
    picture = picture[:, ::-1] if rng.random() < 0.5 else picture
    colours = np.clip(picture[..., :3], 0, 1)
    if rng.random() < 0.6:
        hsv = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2HSV)
        turn = rng.uniform(-180, 180) if rng.random() < 0.4 else rng.normal(0, 12)
        hsv[..., 0] = (hsv[..., 0] + turn) % 360
        hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.3, 1.5), 0, 1)
        colours = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if rng.random() < 0.5:
        colours = np.clip(colours, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.25))) * np.float32(rng.uniform(0.7, 1.1))
    result = picture.copy()
    result[..., :3] = np.clip(colours, 0, 1)
    return result


def _scaled(picture: Floats, factor: float) -> Floats:
    """Reduce by area with colours weighted by alpha (no fringes); `factor` is at most 1."""
    if factor >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    if picture.shape[2] == 3:
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    weighted = picture.copy()
    weighted[..., :3] *= picture[..., 3:]
    small = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-4)
    return np.clip(small, 0, 1)


def _rotated(picture: Floats, degrees: float) -> Floats:
    rows, columns = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), degrees, 1.0)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (int(columns * cos + rows * sin) + 2, int(columns * sin + rows * cos) + 2)
    matrix[0, 2] += size[0] / 2 - columns / 2
    matrix[1, 2] += size[1] / 2 - rows / 2
    weighted = picture.copy()
    weighted[..., :3] *= picture[..., 3:]
    turned = np.clip(cv2.warpAffine(weighted, matrix, size, flags=cv2.INTER_CUBIC), 0, 1)
    turned[..., :3] = np.clip(turned[..., :3] / np.maximum(turned[..., 3:], 1e-4), 0, 1)
    return turned


def _paste(scene: Floats, picture: Floats, rng: Random) -> None:
    """Put a picture anywhere such that at least a third of it is inside where that is possible."""
    spots: list[int] = []
    for have, want in zip(scene.shape[:2], picture.shape[:2], strict=True):
        low, high = (have - want, 0) if want >= have else (-want // 3, have - 2 * want // 3)
        spots.append(int(rng.integers(low, max(low, high) + 1)))
    _over(scene, picture, spots[0], spots[1])


def _over(scene: Floats, picture: Floats, top: int, left: int) -> None:
    rows, columns = scene.shape[:2]
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(rows, top + picture.shape[0]), min(columns, left + picture.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    part = picture[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = part[..., 3:] if part.shape[2] == 4 else np.float32(1)
    region = scene[y0:y1, x0:x1]
    region[...] = region * (1 - alpha) + part[..., :3] * alpha


def _blend(scene: Floats, colour: Floats, alpha: Floats) -> None:
    scene[...] = scene * (1 - alpha[..., None]) + colour * alpha[..., None]


def _colour(rng: Random, value_range: tuple[float, float] = (0.05, 1.0)) -> Floats:
    """A random RGB colour with its brightness in the range; saturation as drawn art has it."""
    hsv = np.array([[[rng.uniform(0, 360), rng.beta(1.4, 1.8), rng.uniform(*value_range)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]


def _read_rgba(path: Path) -> NDArray[np.uint8]:
    pixels: Any = read_picture(path).pixels
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    channels = pixels.shape[2]
    colours = pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    alpha = pixels[..., -1:] if channels in (2, 4) else np.full_like(pixels[..., :1], 255)
    return np.ascontiguousarray(np.concatenate([colours, alpha], axis=2))


def _float(pixels: NDArray[np.uint8]) -> Floats:
    return pixels.astype(np.float32) * np.float32(1 / 255)


def _fonts_by_script(folder: Path) -> dict[str, tuple[Path, ...]]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".ttf", ".otf", ".ttc"})
    if not paths:
        raise InputError(f"cannot use '{folder}' for text: no .ttf, .otf or .ttc file below it.")
    special = {hint for script in ("thai", "arabic", "hebrew", "devanagari") for hint in _FONT_HINTS[script][:1]}
    found: dict[str, tuple[Path, ...]] = {
        "latin": tuple(path for path in paths if not any(hint in path.name.lower() for hint in special))
    }
    for script, hints in _FONT_HINTS.items():
        found[script] = tuple(path for path in paths if any(hint in path.name.lower() for hint in hints))
    return {script: tuple(files) for script, files in found.items() if files}


@functools.lru_cache(maxsize=256)
def _font(path: Path, size_px: int, weight: int) -> ImageFont.FreeTypeFont:
    """Open a font; of a variable one, the `weight`-th of its named styles."""
    font = ImageFont.truetype(str(path), size_px)
    try:
        names = font.get_variation_names()
    except OSError:  # not a variable font
        return font
    font.set_variation_by_name(names[weight % len(names)])
    return font
