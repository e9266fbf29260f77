"""Text in a scene: subtitles, titles and credits in many scripts.

Upscalers destroy text first, so training pictures show it in every size, plain, outlined and shadowed.
"""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from apisr.synthesis.assets import Assets
from apisr.synthesis.pixels import Layer, blend, random_colour

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


def write_lines(scene: Layer, assets: Assets, rng: Generator, *, lines: int, bubble: bool = False) -> None:
    """Write lines of text in one script, plain, outlined or shadowed, as subtitles and titles are."""
    scripts = sorted(assets.fonts)
    if not scripts:
        return
    height, width = scene.shape[:2]
    script = "japanese" if "japanese" in scripts and rng.random() < 0.4 else scripts[int(rng.integers(len(scripts)))]
    choices = TEXTS[script].split(";")
    size = int(np.exp(rng.uniform(np.log(13), np.log(90 if lines <= 2 else 44))) * height / 720) + 1
    font = _open_font(assets.fonts[script][int(rng.integers(len(assets.fonts[script])))], size, int(rng.integers(9)))
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
    ink = (
        np.zeros(3, np.float32)
        if bubble
        else (random_colour(rng, (0, 0.35)) if dark else random_colour(rng, (0.75, 1)))
    )
    edge = np.ones(3, np.float32) if dark or bubble else random_colour(rng, (0, 0.3))
    if bubble or rng.random() < 0.15:
        box = outline.getbbox()
        if box is not None:
            pad = size // 2
            cv2.rectangle(
                scene, (box[0] - pad, box[1] - pad), (box[2] + pad, box[3] + pad), edge.tolist(), -1, cv2.LINE_AA
            )
    if stroke:
        blend(scene, edge, np.asarray(outline, np.float32) / 255)
    elif rng.random() < 0.5:
        blend(scene, edge, np.roll(np.asarray(canvas, np.float32) / 255, (2, 2), (0, 1)) * 0.7)
    blend(scene, ink, np.asarray(canvas, np.float32) / 255)


@functools.lru_cache(maxsize=256)
def _open_font(path: Path, size_px: int, weight: int) -> ImageFont.FreeTypeFont:
    """Open a font; of a variable one, the `weight`-th of its named styles."""
    font = ImageFont.truetype(str(path), size_px)
    try:
        names = font.get_variation_names()
    except OSError:  # not a variable font
        return font
    font.set_variation_by_name(names[weight % len(names)])
    return font
