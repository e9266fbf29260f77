"""`apisr enhance`: files, formats, panels, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from apisr.cli import main
from apisr.core.errors import Cancelled, InputError
from apisr.core.progress import Cancel, Progress
from apisr.enhance import EnhanceOptions, enhance, enhance_files
from apisr.image import Metadata, Picture, read_picture, read_rgb, write_picture


@pytest.fixture(scope="module")
def picture(data: Path) -> np.ndarray:
    with np.load(data / "lines.npz") as arrays:
        return np.ascontiguousarray(arrays["0.input_rgb"][:100, :140])


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def test_one_picture_to_a_file_with_a_panel(
    picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "a.png", picture)
    code, out, _ = run(capsys, "enhance", tmp_path / "a.png", "-o", tmp_path / "b.png", "--show")
    assert code == 0
    assert "1 picture enhanced" in out
    np.testing.assert_array_equal(read_rgb(tmp_path / "b.png"), enhance(picture))
    panel = read_rgb(tmp_path / "_look" / "b.panel.png")
    assert panel.shape == (100, 3 * 140 + 16, 3)
    np.testing.assert_array_equal(panel[:, :140], picture)
    assert set(np.unique(panel[:, 148:288])) == {0, 255}


def test_alpha_sixteen_bit_gray_and_metadata_are_kept(
    picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    alpha = np.tile(np.arange(140, dtype=np.uint8), (100, 1))[..., None]
    sixteen = np.concatenate([picture, alpha], 2).astype(np.uint16) * 257
    write_picture(folder / "deep.png", Picture((sixteen,), metadata=Metadata(dpi=(300.0, 300.0))))
    write_picture(folder / "sub" / "gray.tif", picture[..., :1])
    write_picture(folder / "photo.jpg", picture)
    code, out, _ = run(capsys, "enhance", folder, "-o", output, "--preset", "reference", "--json")
    assert code == 0
    files = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*"))
    assert files == ["deep.png", "photo.png", "sub/gray.tif"]
    assert len(json.loads(out)["done"]) == 3
    deep = read_picture(output / "deep.png")
    assert deep.pixels.dtype == np.uint16
    np.testing.assert_array_equal(deep.pixels[..., 3], sixteen[..., 3])
    np.testing.assert_array_equal(deep.pixels, enhance(sixteen, preset="reference"))
    assert deep.metadata.dpi == pytest.approx((300, 300), rel=1e-3)
    assert read_picture(output / "sub" / "gray.tif").pixels.shape == (100, 140, 1)


def test_gamma_range_is_drawn_from_the_seed(
    picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "in" / "a.png", picture)
    write_picture(tmp_path / "in" / "b.png", picture)
    drawn: list[list[float]] = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        options = ["--gamma-range", 0.97, 0.98, "--seed", seed, "--json"]
        code, out, _ = run(capsys, "enhance", tmp_path / "in", "-o", tmp_path / name, *options)
        assert code == 0
        drawn.append(list(json.loads(out)["done"].values()))
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[0][0] != drawn[0][1]
    assert all(0.97 <= gamma <= 0.98 for run_ in drawn for gamma in run_)


def test_nothing_is_replaced_unasked(picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "a.png", picture)
    (tmp_path / "b.png").write_text("mine")
    code, _, err = run(capsys, "enhance", tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert code == 2
    assert "exists" in err
    assert (tmp_path / "b.png").read_text() == "mine"
    assert run(capsys, "enhance", tmp_path / "a.png", "-o", tmp_path / "b.png", "--overwrite", "-q") == (0, "", "")
    np.testing.assert_array_equal(read_rgb(tmp_path / "b.png"), enhance(picture))


def test_a_damaged_picture_fails_alone(picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "in" / "good.png", picture)
    (tmp_path / "in" / "bad.png").write_bytes((tmp_path / "in" / "good.png").read_bytes()[:300])
    code, out, err = run(capsys, "enhance", tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1
    assert "1 picture enhanced" in out
    assert "bad.png" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]


@pytest.mark.parametrize(
    ("arguments", "options", "code"),
    [
        (["none.png", "-o", "out"], EnhanceOptions(), "cannot-read"),
        (["a.png", "-o", "a.png", "--overwrite"], EnhanceOptions(overwrite=True), "output-is-input"),
        (["a.png", "-o", "b.xyz"], EnhanceOptions(), "unknown-ending"),
        (["a.png", "-o", "b.png", "--gamma", "2"], EnhanceOptions(gamma=2.0), "out-of-range"),
        (
            ["a.png", "-o", "b.png", "--gamma-range", "0.98", "0.97"],
            EnhanceOptions(gamma_range=(0.98, 0.97)),
            "out-of-range",
        ),
    ],
)
def test_bad_input_is_one_line_with_a_code(
    arguments: list[str],
    options: EnhanceOptions,
    code: str,
    picture: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "a.png", picture)
    with pytest.raises(InputError) as caught:
        enhance_files(Path(arguments[0]), Path(arguments[2]), options)
    assert caught.value.code == code
    status, out, err = run(capsys, "enhance", *arguments)
    assert (status, out) == (2, "")
    assert len([line for line in err.splitlines() if line.startswith("apisr: error:")]) == 1
    assert str(caught.value) in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png"]


def test_pages_animations_and_a_stop(picture: np.ndarray, tmp_path: Path) -> None:
    small = picture[:40, :50]
    write_picture(tmp_path / "in" / "pages.tif", Picture((small, small[:20])))
    write_picture(tmp_path / "in" / "moving.gif", Picture((small, small[::-1]), (50.0, 70.0)))
    events: list[Progress] = []
    result = enhance_files(tmp_path / "in", tmp_path / "out", progress=events.append)
    assert result.failed == {}
    assert [frame.shape for frame in read_picture(tmp_path / "out" / "pages.tif").frames] == [(40, 50, 3), (20, 50, 3)]
    assert read_picture(tmp_path / "out" / "moving.gif").durations_ms == (50.0, 70.0)
    assert [event.done for event in events] == [1, 2]
    cancel = Cancel()
    cancel.request()
    with pytest.raises(Cancelled):
        enhance_files(tmp_path / "in", tmp_path / "never", cancel=cancel)
    assert not list((tmp_path / "never").rglob("*.*"))
