"""The nodes for ComfyUI, loaded as ComfyUI loads them: from a file, under a name of its own."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import apisr
from apisr.core.errors import InputError
from apisr.upscale.baselines import NearestEngine
from apisr.weights import resolve_model

torch = pytest.importorskip("torch", reason="ComfyUI's pictures are tensors of torch")
FOLDER = Path(__file__).resolve().parent.parent / "integrations" / "comfyui"


class CountingEngine(NearestEngine):
    """Enlarges by repeating pixels, and counts the pixels that it is given."""

    pixels = 0

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.pixels += batch.shape[2] * batch.shape[3]
        return super().run(batch)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["comfyui-apisr", str(FOLDER)], ids=["by folder", "by path"])
def pack(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Load the pack under the names that older and newer versions of ComfyUI give it."""
    name = str(request.param).replace(".", "_x_")
    yield load(name)
    for loaded in [key for key in sys.modules if key.startswith(name)]:
        del sys.modules[loaded]


@pytest.fixture
def batch() -> Any:
    return torch.rand((3, 20, 30, 3), generator=torch.Generator().manual_seed(0))


def defaults(node: type[Any]) -> dict[str, Any]:
    """Return what ComfyUI sends where nobody touched a widget."""
    found: dict[str, Any] = {}
    for name, entry in node.INPUT_TYPES()["required"].items():
        if name != "image":
            found[name] = entry[1]["default"] if len(entry) > 1 else entry[0][0]
    return found


@pytest.mark.parametrize("name", ["ApisrUpscale", "ApisrUpscaleToHeight"])
def test_a_node_says_what_comfyui_asks(pack: ModuleType, name: str) -> None:
    node = pack.NODE_CLASS_MAPPINGS[name]
    assert pack.NODE_DISPLAY_NAME_MAPPINGS.keys() == pack.NODE_CLASS_MAPPINGS.keys()
    required = node.INPUT_TYPES()["required"]
    assert required.keys() == inspect.signature(getattr(node(), node.FUNCTION)).parameters.keys()
    assert {"auto", "apisr-x2", "apisr-x4"} <= set(required["model"][0])
    assert node.RETURN_TYPES == ("IMAGE",)
    assert node.CATEGORY
    assert node.DESCRIPTION


def test_a_batch_equals_its_pictures(pack: ModuleType, batch: Any) -> None:
    node = pack.NODE_CLASS_MAPPINGS["ApisrUpscale"]
    (large,) = node().upscale(image=batch, **(defaults(node) | {"model": "apisr-x2-fast"}))
    assert (large.dtype, tuple(large.shape)) == (torch.float32, (3, 40, 60, 3))
    expected = apisr.load("apisr-x2-fast")(batch.numpy()).clip(0, 1)
    np.testing.assert_array_equal(large.numpy(), expected)


def test_height_and_the_model_for_it(pack: ModuleType, batch: Any) -> None:
    node = pack.NODE_CLASS_MAPPINGS["ApisrUpscaleToHeight"]
    (large,) = node().upscale(image=batch[:1, :, :29], **(defaults(node) | {"height": 33}))
    assert tuple(large.shape) == (1, 33, 48, 3)
    (vivid,) = node().upscale(image=batch[:1], height=40, model="auto", strength=1.0)
    (faithful,) = node().upscale(image=batch[:1], height=40, model="auto", strength=0.0)
    assert not torch.equal(vivid, faithful)


def test_frames_that_stand_still_are_computed_once(pack: ModuleType, batch: Any, tiny_x2: Path) -> None:
    engine = CountingEngine(2)
    model = apisr.LoadedModel(resolve_model(tiny_x2), engine)
    upscaled = sys.modules[pack.__name__ + ".nodes"].upscaled
    upscaled(batch[:1], model, scale=2)
    once = engine.pixels
    held = upscaled(batch[:1].repeat(8, 1, 1, 1), model, scale=2)
    assert engine.pixels == 2 * once
    np.testing.assert_array_equal(held[7].numpy(), batch[0].numpy().repeat(2, 0).repeat(2, 1))


def test_alpha_and_layouts_of_memory(pack: ModuleType, tiny_x2: Path) -> None:
    model = apisr.LoadedModel(resolve_model(tiny_x2), NearestEngine(2))
    upscaled = sys.modules[pack.__name__ + ".nodes"].upscaled
    picture = torch.rand((1, 4, 10, 12), generator=torch.Generator().manual_seed(1)).permute(0, 2, 3, 1)
    large = upscaled(picture, model, scale=2)
    expected = picture.contiguous().numpy().repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(large.numpy(), expected, atol=1e-6)


def test_what_cannot_be_done_is_said_in_a_line(pack: ModuleType, batch: Any, tiny_x2: Path) -> None:
    node = pack.NODE_CLASS_MAPPINGS["ApisrUpscale"]()
    with pytest.raises(InputError) as raised:
        node.upscale(image=batch, scale=2.0, model=str(tiny_x2), strength=0.5)
    assert raised.value.code == "no-vivid-twin"
    assert "\n" not in str(raised.value)


def test_the_name_of_the_package_is_refused_for_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apisr", apisr)
    with pytest.raises(ImportError, match="comfyui-apisr"):
        load("apisr")
