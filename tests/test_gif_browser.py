"""GIF is what browsers show: every frame as Chromium's own decoder composes it.

ImageMagick agrees where the first frame covers the canvas. Pillow and ffmpeg fill what is disposed of to the
background with a colour of the palette, which no browser does: pages are seen through it.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browsers import Page, launched

from apisr.image import read_picture

DECODE = """async (encoded) => {
  const file = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const decoder = new ImageDecoder({data: file, type: "image/gif"});
  await decoder.tracks.ready;
  await decoder.completed;
  const frames = [];
  for (let index = 0; index < decoder.tracks.selectedTrack.frameCount; index++) {
    const {image} = await decoder.decode({frameIndex: index});
    const canvas = new OffscreenCanvas(image.displayWidth, image.displayHeight).getContext("2d");
    canvas.drawImage(image, 0, 0);
    const {data} = canvas.getImageData(0, 0, image.displayWidth, image.displayHeight);
    frames.push(btoa(Array.from(data, (value) => String.fromCharCode(value)).join("")));
  }
  return frames;
}"""
#: The first frame fills the canvas, leaves most of it as it was, or has transparent parts itself.
BEGINNINGS = {"full": ["-size", "40x30", "xc:yellow"], "part": [], "holes": ["-size", "40x30", "xc:none"]}
HOLES = ["-fill", "black", "-draw", "rectangle 2,2 30,20"]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with launched() as browser:
        opened = browser.new_page()
        opened.route("https://gif.test/", lambda route: route.fulfill(body="<p>GIF", content_type="text/html"))
        opened.goto("https://gif.test/")
        yield opened


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("disposal", ["Undefined", "None", "Background", "Previous"])
@pytest.mark.parametrize("transparent", [False, True])
def test_frames_are_those_of_a_browser(
    tmp_path: Path, page: Page, beginning: str, disposal: str, transparent: bool
) -> None:
    path = tmp_path / "a.gif"
    frames: list[str] = []
    for number, colour in enumerate(("red", "lime", "blue")):
        drawn = ["xc:none", "-fill", colour, "-draw", "circle 6,4 6,1"] if transparent else [f"xc:{colour}"]
        frames += ["(", "-size", "12x9", *drawn, "-repage", f"40x30+{5 + 7 * number}+{3 + 4 * number}", ")"]
    first = [*BEGINNINGS[beginning], *(HOLES if beginning == "holes" else [])]
    subprocess.run(["convert", "-dispose", disposal, "-delay", "10", *first, *frames, str(path)], check=True)
    shown = page.evaluate(DECODE, base64.b64encode(path.read_bytes()).decode())
    ours = read_picture(path).frames
    assert len(shown) == len(ours) == 3 + (beginning != "part")
    for frame, pixels in zip(ours, shown, strict=True):
        judged = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(30, 40, 4)
        full = frame if frame.shape[2] == 4 else np.dstack([frame, np.full((30, 40), 255, np.uint8)])
        np.testing.assert_array_equal(full[..., 3], judged[..., 3])
        np.testing.assert_array_equal(full[full[..., 3] > 0], judged[judged[..., 3] > 0])
