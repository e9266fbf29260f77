"""Scenes: seeded, of the right form, and with the properties that the recipe promises."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code

from apisr.image import Picture, write_picture
from apisr.synthesis.assets import SOURCES, Assets
from apisr.synthesis.compose import compose
from apisr.synthesis.effects import defocus
from apisr.synthesis.lettering import write_lines
from apisr.synthesis.pixels import draw_over, reduce


@pytest.fixture(scope="module")
def art(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    """A red character on transparent ground, a striped background, and a drawing that may not be used."""
    folder = tmp_path_factory.mktemp("art")
    figure = np.zeros((300, 120, 4), np.uint8)
    figure[20:, 20:100] = (200, 30, 30, 255)
    ground = np.tile(np.arange(320, dtype=np.uint8)[None, :, None] % 64 * 4, (200, 1, 3))
    for path, pixels in (
        ("sprites/renpy/figure.png", figure),
        ("backgrounds/renpy/ground.png", ground),
        ("vector/openmoji/face.png", figure),
    ):
        (folder / path).parent.mkdir(parents=True)
        write_picture(folder / path, Picture((pixels,)))
    return Assets.open(folder)


def test_equal_seeds_give_equal_scenes_and_others_differ(art: Assets) -> None:
    first, again, other = (compose(art, np.random.default_rng(seed), height=144, width=256) for seed in (5, 5, 6))
    assert first.shape == (144, 256, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_kind_of_scene_can_be_made_with_and_without_files(art: Assets) -> None:
    for seed in range(30):
        for source in (art, Assets.none()):
            scene = compose(source, np.random.default_rng(seed), height=96, width=160)
            assert scene.shape == (96, 160, 3)


def test_copyleft_sources_are_left_out(art: Assets) -> None:
    assert art.files["vector"] == ()
    assert {path.name for path in art.files["sprites"]} == {"figure.png"}
    for source in SOURCES:
        copyleft = any(word in source.licence for word in ("GPL", "-SA"))
        assert source.used != copyleft, source


def test_sources_can_be_named(art: Assets) -> None:
    folder = art.files["sprites"][0].parents[2]
    assert [path.name for path in Assets.open(folder, sources=["openmoji"]).files["vector"]] == ["face.png"]


def test_any_folder_of_art_can_be_composed(tmp_path: Path) -> None:
    """Own pictures need no folders: what has transparent parts is a sprite, the rest are backgrounds."""
    figure = np.zeros((90, 60, 4), np.uint8)
    figure[10:80, 10:50] = (30, 200, 60, 255)
    write_picture(tmp_path / "me" / "figure.png", Picture((figure,)))
    write_picture(tmp_path / "room.png", Picture((np.full((120, 160, 3), 90, np.uint8),)))
    assets = Assets.open(tmp_path)
    assert [path.name for path in assets.files["sprites"]] == ["figure.png"]
    assert [path.name for path in assets.files["backgrounds"]] == ["room.png"]
    assert len({compose(assets, np.random.default_rng(seed), height=72, width=96).tobytes() for seed in range(6)}) == 6


def test_own_folders_of_a_kind_are_taken(tmp_path: Path) -> None:
    for place in ("sprites/mine/a.png", "sprites/b.png", "vector/openmoji/c.png"):
        write_picture(tmp_path / place, Picture((np.full((20, 20, 3), 9, np.uint8),)))
    files = Assets.open(tmp_path).files
    assert {path.name for path in files["sprites"]} == {"a.png", "b.png"}
    assert files["vector"] == ()


def test_assets_travel_to_workers(art: Assets) -> None:
    there = pickle.loads(pickle.dumps(art))
    scenes = [compose(assets, np.random.default_rng(4), height=72, width=96) for assets in (art, there)]
    assert np.array_equal(*scenes)


def test_folder_without_art_is_refused(tmp_path: Path) -> None:
    with raises_code("no-pictures"):
        Assets.open(tmp_path)


def test_folder_without_fonts_is_refused(art: Assets, tmp_path: Path) -> None:
    with raises_code("no-fonts"):
        Assets.open(art.files["sprites"][0].parents[2], fonts=tmp_path)


def test_placing_a_figure_leaves_no_fringe() -> None:
    """Transparent pixels of a cut-out carry any colour; reducing must not mix it in."""
    figure = np.zeros((64, 64, 4), np.float32)
    figure[..., 1] = 1.0  # bright green where nothing shows
    figure[16:48, 16:48] = (1, 0, 0, 1)
    small = reduce(figure, 0.37)
    scene = np.zeros((40, 40, 3), np.float32)
    draw_over(scene, small, 4, 4)
    assert float(scene[..., 1].max()) < 1e-3
    assert float(scene[..., 0].max()) > 0.99


def test_nothing_is_enlarged() -> None:
    picture = np.random.default_rng(0).random((20, 30, 4), dtype=np.float32)
    assert reduce(picture, 1.7) is picture


def test_text_is_drawn_in_the_script_that_is_asked(art: Assets) -> None:
    fonts = sorted(Path("/usr/share/fonts").rglob("DejaVuSans.ttf"))
    if not fonts:
        pytest.skip("no DejaVu font on this machine")
    with_text = Assets(art.files, {"latin": (fonts[0],), "cyrillic": (fonts[0],)})
    blank = np.full((120, 400, 3), 0.5, np.float32)
    drawn = blank.copy()
    write_lines(drawn, with_text, np.random.default_rng(3), lines=3)
    assert float(np.abs(drawn - blank).max()) > 0.2
    silent = blank.copy()
    write_lines(silent, art, np.random.default_rng(3), lines=3)
    assert np.array_equal(silent, blank)


def test_defocus_is_soft_and_keeps_brightness() -> None:
    scene = np.zeros((64, 64, 3), np.float32)
    scene[:, 32:] = 1
    for seed in range(4):
        soft = defocus(scene, np.random.default_rng(seed), 5.0)
        assert float(np.abs(np.diff(soft[32, 10:54, 0])).max()) < 0.35
        assert float(soft[32, 60, 0]) == pytest.approx(1, abs=0.02)
        assert float(soft[32, 3, 0]) == pytest.approx(0, abs=0.02)


@pytest.mark.slow
def test_the_art_that_the_shipped_models_use(shared: Path) -> None:
    art = Assets.open(shared / "data" / "train")
    used = {source.name for source in SOURCES if source.used}
    assert {path.parent.name for paths in art.files.values() for path in paths} == used
    sharp = [
        float(np.abs(np.diff(compose(art, np.random.default_rng(seed)).astype(np.float32), axis=1)).mean())
        for seed in range(6)
    ]
    assert max(sharp) > 2
