"""The gallery in a real browser: blind order, votes by key, shares with intervals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from curate_clips import scene

from apisr.core.errors import InputError
from apisr.evaluate.gallery import GalleryOptions, make_gallery
from apisr.image import write_picture

MODELS = ["lanczos", "nearest", "peer & <b>=PEER"]


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Six small pictures by two models and a folder of outputs."""
    for number in range(6):
        high = scene(number, width=320, height=240)
        write_picture(tmp_path / "low" / f"{number}.png", cv2.resize(high, (160, 120), interpolation=cv2.INTER_AREA))
        write_picture(tmp_path / "peer" / f"{number}.png", cv2.GaussianBlur(high, (0, 0), 1.5))
        write_picture(tmp_path / "truth" / f"{number}.png", high)
    models = [model.replace("PEER", str(tmp_path / "peer")) for model in MODELS]
    options = GalleryOptions(crop_px=(96, 64), crops=2, scale=2)
    return make_gallery([tmp_path / "low"], models, tmp_path / "out", reference=tmp_path / "truth", options=options)


def data_of(page: Path) -> Any:
    text = re.search(r"^const data = (.*);$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert text is not None
    return json.loads(text[1])


def test_the_page_is_whole_and_shows_the_same_place_of_all(gallery: Path, tmp_path: Path) -> None:
    data = data_of(gallery)
    assert data["contestants"] == ["lanczos", "nearest", "peer & <b>"]
    assert "<b>" not in gallery.read_text(encoding="utf-8")
    questions = data["questions"]
    assert len(questions) == 12
    assert len({tuple(question["order"]) for question in questions}) > 1  # the order does not tell
    for question in questions:
        assert sorted(question["order"]) == [0, 1, 2]
        assert set(question["extra"]) == {"input", "truth"}
        panels = [_decoded(uri) for uri in [*question["panels"], *question["extra"].values()]]
        assert {panel.shape for panel in panels} == {(64, 96, 3)}
        window = (
            slice(question["top_px"], question["top_px"] + 64),
            slice(question["left_px"], question["left_px"] + 96),
        )
        peer = cv2.imread(str(tmp_path / "peer" / f"{question['picture']}.png"))
        assert np.array_equal(panels[2], peer[window])


def _decoded(uri: str) -> np.ndarray:
    import base64

    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)


def test_what_cannot_be_compared_is_refused(gallery: Path, tmp_path: Path) -> None:
    for models, code in (
        (["lanczos"], "bad-contestants"),
        (["lanczos", "lanczos"], "bad-contestants"),
        (["lanczos", f"small={tmp_path / 'low'}"], "size-mismatch"),
        (["lanczos", f"none={tmp_path / 'nowhere'}"], "cannot-read"),
    ):
        with pytest.raises(InputError) as refused:
            make_gallery([tmp_path / "low"], models, tmp_path / "other", options=GalleryOptions(scale=2))
        assert refused.value.code == code
        assert not (tmp_path / "other").exists()
    with pytest.raises(InputError) as there:
        make_gallery([tmp_path / "low"], ["lanczos", "nearest"], tmp_path / "out", options=GalleryOptions(scale=2))
    assert there.value.code == "output-exists"


@pytest.fixture
def page(page: Any, gallery: Path) -> Iterator[Any]:
    """The gallery, open in Chromium."""
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(gallery.as_uri())
    page.wait_for_selector("body[data-ready='1']", state="attached")
    yield page
    assert errors == []


def test_votes_by_key_end_in_shares_with_intervals(page: Any, gallery: Path) -> None:
    """A voter who likes lanczos in pictures 0 to 3, the peer in 4, and sees no difference in 5."""
    questions = data_of(gallery)["questions"]
    for number, question in enumerate(questions):
        assert page.evaluate("document.body.dataset.here") == str(number)
        liked = {"4": 2, "5": None}.get(question["picture"], 0)
        shown = page.evaluate("[...document.querySelectorAll('#panels img')].map((image) => image.src)")
        assert shown == [question["panels"][who] for who in question["order"]]
        assert "lanczos" not in page.inner_text("body")
        page.keyboard.press("0" if liked is None else str(question["order"].index(liked) + 1))
    page.wait_for_selector("body[data-result]", state="attached")
    found = {row["label"]: row for row in json.loads(page.evaluate("document.body.dataset.result"))}
    expected = {"lanczos": (8 + 2 / 3) / 12, "peer & <b>": (2 + 2 / 3) / 12, "nearest": (2 / 3) / 12}
    for label, share in expected.items():
        assert found[label]["share"] == pytest.approx(share)
        low, high = _bootstrap(label, found[label], share)
        assert found[label]["low"] == pytest.approx(low, abs=0.06)
        assert found[label]["high"] == pytest.approx(high, abs=0.06)
    table = page.inner_text("#results")
    assert "72.2 %" in table
    assert "peer & <b>" in table
    with page.expect_download() as download:
        page.click("#save")
    votes = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert [vote["choice"] for vote in votes["votes"]].count("lanczos") == 8
    page.reload()  # the votes are still there
    page.wait_for_selector("body[data-ready='1']", state="attached")
    page.keyboard.press("r")
    assert {row["label"]: row["share"] for row in json.loads(page.evaluate("document.body.dataset.result"))} == {
        label: pytest.approx(share) for label, share in expected.items()
    }


def _bootstrap(label: str, row: dict[str, float], share: float) -> tuple[float, float]:
    """The interval by numpy: six pictures of two crops each."""
    by_picture = np.array(
        {"lanczos": [1, 1, 1, 1, 0, 1 / 3], "nearest": [0, 0, 0, 0, 0, 1 / 3]}.get(label, [0, 0, 0, 0, 1, 1 / 3])
    )
    rng = np.random.default_rng(0)
    means = by_picture[rng.integers(0, 6, (4000, 6))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    assert low <= share <= high
    return float(low), float(high)


def test_keys_go_back_and_show_input_and_truth(page: Any, gallery: Path) -> None:
    question = data_of(gallery)["questions"][0]
    sources = "[...new Set([...document.querySelectorAll('#panels img')].map((image) => image.src))]"
    page.keyboard.press("t")
    assert page.evaluate(sources) == [question["extra"]["truth"]]
    page.keyboard.press("i")
    assert page.evaluate(sources) == [question["extra"]["input"]]
    page.keyboard.press("i")
    assert len(page.evaluate(sources)) == 3
    page.keyboard.press("2")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.body.dataset.here") == "0"
    chosen = page.evaluate("[...document.querySelectorAll('#panels figure')].map((f) => f.className)")
    assert chosen == ["", "chosen", ""]
    page.wait_for_selector("#panels img[width='288']")  # three times fits the window
    page.keyboard.press("z")
    page.wait_for_selector("#panels img[width='96']")
