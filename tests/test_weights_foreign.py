"""Networks that are not ours, through spandrel (extra ``foreign``): recognised, run; refused where it must be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spandrel", reason="the extra 'foreign' (spandrel) is not installed")

from typer.testing import CliRunner  # noqa: E402

from apisr.cli import build as build_cli  # noqa: E402
from apisr.core.errors import ApisrError  # noqa: E402
from apisr.image import from_float, read_rgb, write_picture  # noqa: E402
from apisr.weights import resolve_model  # noqa: E402
from apisr.weights.convert import drawn_pictures  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of spandrel's and torchvision's own code


@contextlib.contextmanager
def refused(code: str) -> Iterator[None]:
    """The block ends in an error of this code."""
    with pytest.raises(ApisrError) as caught:
        yield
    assert caught.value.code == code, str(caught.value)


def span() -> Any:
    from spandrel.architectures.SPAN import SPAN

    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2)


def swinir() -> Any:
    from spandrel.architectures.SwinIR import SwinIR

    return SwinIR(
        img_size=32,
        embed_dim=12,
        depths=[2, 2],
        num_heads=[2, 2],
        window_size=8,
        mlp_ratio=2,
        upscale=2,
        upsampler="pixelshuffledirect",
    )


def esrgan() -> Any:
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(num_filters=8, num_blocks=1, scale=2)  # names begin with "model.", as those of a wrapper do


@pytest.mark.parametrize(("make", "title"), [(span, "SPAN"), (swinir, "SwinIR"), (esrgan, "ESRGAN")])
def test_a_checkpoint_of_another_network_enlarges(tmp_path: Path, make: Callable[[], Any], title: str) -> None:
    torch.manual_seed(0)
    module = make().eval()
    path = tmp_path / "theirs.pth"
    torch.save({"params_ema": module.state_dict()}, path)
    model = resolve_model(path)
    assert (model.architecture, model.scale, model.card["hyper"]) == ("foreign", 2, {"spandrel": title})
    picture = np.ascontiguousarray(drawn_pictures(1, side=48, multiple=1)[0].transpose(1, 2, 0)[:44, :40])
    write_picture(tmp_path / "in.png", from_float(picture, np.uint8))
    arguments = ["upscale", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--model", str(path)]
    result = CliRunner().invoke(build_cli(), [*arguments, "--device", "cpu", "--quiet"])
    assert result.exit_code == 0, (result.output, result.exception)
    given = read_rgb(tmp_path / "in.png").astype(np.float32) / 255
    # Sizes are made whole as the engine does it; the network itself says what the picture is.
    multiple = model.traits.multiple_px
    rows, columns = (-size % multiple for size in given.shape[:2])
    padded = np.pad(given, ((0, rows), (0, columns), (0, 0)), mode="reflect")
    with torch.inference_mode():
        expected = module(torch.from_numpy(padded.transpose(2, 0, 1)[None]))[0].numpy().transpose(1, 2, 0)
    expected = (expected[:88, :80].clip(0, 1) * 255).round()
    assert expected.std() > 1
    assert np.abs(read_rgb(tmp_path / "out.png") - expected).max() <= 1


def test_a_network_for_gray_pictures_is_refused(tmp_path: Path) -> None:
    from spandrel.architectures.SPAN import SPAN

    path = tmp_path / "gray.pth"
    torch.save(SPAN(num_in_ch=1, num_out_ch=1, feature_channels=16, upscale=2).state_dict(), path)
    with refused("not-an-upscaler"):
        resolve_model(path)
    torch.save({"something.else": torch.zeros(3)}, path)
    with refused("unknown-network"):
        resolve_model(path)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("apisr-x2", "RealESRGAN Compact"), ("apisr-x4", "RealESRGAN Compact"), ("apisr-x4-max", "ESRGAN")],
)
def test_exported_checkpoints_are_read_by_spandrel(name: str, architecture: str, tmp_path: Path) -> None:
    from spandrel import ModelLoader

    from apisr import load
    from apisr.weights.convert import convert

    path = tmp_path / f"{name}.safetensors"
    convert(Path(name), path)
    theirs = ModelLoader().load_from_file(path)
    assert (theirs.architecture.name, theirs.scale) == (architecture, resolve_model(name).scale)
    picture = torch.rand((1, 3, 32, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        large = theirs(picture).clip(0, 1).numpy()
    ours = load(name, engine="onnx", device="cpu").engine.run(picture.numpy()).clip(0, 1)
    np.testing.assert_allclose(large, ours, atol=1e-5)
