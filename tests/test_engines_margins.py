"""Windows whose margin is thrown away: the same bits as the whole, for less work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from apisr.engines.base import Request
from apisr.engines.fallback import FallbackEngine
from apisr.engines.pixels import NO_MARGINS, Margins, cut, on_all_sides, run_inside, run_pixels
from apisr.engines.registry import engine_kind, open_engine
from apisr.engines.tta import TtaEngine
from apisr.weights import choose_model

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")

from apisr.engines.openvino import OpenvinoEngine  # noqa: E402
from apisr.engines.openvino_margins import WindowMargins, without_margins  # noqa: E402
from apisr.engines.openvino_pixels import in_whole_numbers  # noqa: E402

MODELS = Path(__file__).parent / "data" / "models"
NAMES = ["apisr-x2-fast", "apisr-x4-fast", "tiny-x2", "tiny-x4", "tiny-x4-unshuffled", "tiny-lite"]
#: Halos, rims, nothing, and widths that are neither.
MARGINS: list[Margins] = [(20, 20, 20, 20), (4, 4, 4, 4), (88, 8, 8, 88), (0, 20, 4, 0), (3, 1, 0, 0), (16, 7, 12, 9)]


def opened(name: str, precision: str = "fp32") -> OpenvinoEngine:
    model = choose_model(MODELS / f"{name}.onnx" if name.startswith("tiny") else name)
    request = Request(model, "cpu", precision, threads=1)  # type: ignore[arg-type]
    engine = OpenvinoEngine(request)
    assert engine._windows is not None
    engine._windows.at_once = True
    return engine


@pytest.mark.parametrize("name", NAMES)
def test_the_middle_has_the_same_bits(name: str) -> None:
    precisions = engine_kind("openvino").precisions("cpu", choose_model("apisr-x4-fast"))
    engine = opened(name, "bf16" if "bf16" in precisions else "fp32")
    pixels = np.random.default_rng(1).integers(0, 256, (120, 136, 3), dtype=np.uint8)
    floats = pixels.astype(np.float32) / np.float32(255)
    whole, whole_floats = run_pixels(engine, pixels), run_pixels(engine, floats)
    scale = engine.traits.scale
    for margins in MARGINS:
        expected = cut(whole, margins, scale, rows_axis=0)
        np.testing.assert_array_equal(run_pixels(engine, pixels, margins), expected)
        np.testing.assert_array_equal(
            run_pixels(engine, floats, margins), cut(whole_floats, margins, scale, rows_axis=0)
        )


@pytest.mark.parametrize("name", ["apisr-x2", "apisr-x2-fast"])
def test_a_window_with_its_halo_is_computed_without_zeros_around_it(name: str) -> None:
    """Every convolution gives less than it is given; only what is sure to be wanted is computed."""
    engine = opened(name)
    network = in_whole_numbers(engine._network, scale=2, on_processor=True)
    halo = engine.traits.aligned_halo_px
    smaller = without_margins(network, on_all_sides(halo), scale=2, axes=(1, 2))
    convolutions = [node for node in smaller.get_ordered_ops() if node.get_type_name() == "Convolution"]
    assert len(convolutions) > 10
    assert all(set(node.get_attributes()["pads_begin"]) == {0} for node in convolutions)
    smaller.reshape([1, 40 + 2 * halo, 60 + 2 * halo, 3])
    assert list(smaller.output(0).shape) == [1, 80, 120, 3]


def test_what_looks_far_is_computed_on_the_coarse_grid_only() -> None:
    """The body of a Lite network sees a few pixels of the 88 that its branch sees."""
    engine = opened("apisr-x4-fast")
    network = in_whole_numbers(engine._network, scale=4, on_processor=True)
    smaller = without_margins(network, on_all_sides(88), scale=4, axes=(1, 2))
    smaller.reshape([1, 64 + 176, 64 + 176, 3])
    sizes = {
        node.get_friendly_name(): node.get_output_shape(0)[2]
        for node in smaller.get_ordered_ops()
        if node.get_type_name() == "Convolution"
    }
    assert max(sizes.values()) < 64 + 2 * 10


def test_a_network_that_is_no_chain_is_cut_at_its_end() -> None:
    model = choose_model("apisr-x4-max")
    engine = OpenvinoEngine(Request(model, "cpu", "fp32", threads=1))
    assert engine._windows is None
    pixels = np.random.default_rng(1).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    network = in_whole_numbers(engine._network, scale=4, on_processor=True)
    smaller = without_margins(network, (2, 0, 3, 5), scale=4, axes=(1, 2))
    smaller.reshape([1, 24, 20, 3])
    assert list(smaller.output(0).shape) == [1, 88, 48, 3]
    np.testing.assert_array_equal(
        run_pixels(engine, pixels, (2, 0, 3, 5)), cut(engine.run_pixels(pixels), (2, 0, 3, 5), 4, rows_axis=0)
    )


def test_networks_for_margins_are_made_when_they_pay() -> None:
    windows = WindowMargins(20, 4)
    whole, inside = on_all_sides(4), (20, 20, 4, 20)
    assert windows.worth("uint8", whole, 230_000) == whole  # a picture with its rim: at once
    assert windows.worth("uint8", (19, 5, 4, 6), 1000) == whole
    assert windows.worth("uint8", (20, 0, 20, 20), 1000) == NO_MARGINS
    chosen = [windows.worth("uint8", (22, 20, 5, 20), 100_000) for _ in range(7)]
    assert chosen[0] == whole
    assert chosen[-1] == inside
    assert windows.worth("float32", inside, 1000) == whole  # counted apart
    assert windows.worth("uint8", inside, 2**19 + 1) == whole  # large windows gain little and need much memory


def test_networks_for_margins_that_hold_too_much_memory_go() -> None:
    windows = WindowMargins(20, 4)
    kinds: list[Margins] = [(20, 20, 20, 20), (20, 4, 20, 20), (4, 20, 20, 20), (20, 20, 4, 4), (4, 4, 20, 20)]
    assert windows.used("whole", on_all_sides(4), 2**23) == []  # always wanted
    assert [windows.used(number, kinds[number], 2**19) for number in range(4)] == [[], [], [], []]
    assert windows.used(0, kinds[0], 1000) == []
    assert windows.used(4, kinds[4], 2**19) == [1]


def test_many_kinds_of_windows_in_a_row() -> None:
    """More networks than memory is kept for: they are made again, and the bits stay."""
    engine = opened("tiny-x2")
    pixels = np.random.default_rng(2).integers(0, 256, (560, 580, 3), dtype=np.uint8)
    whole = run_pixels(engine, pixels)
    for number in [*range(1, 16), 1, 5]:
        top, bottom, left, right = (8 * (number >> place & 1) for place in range(4))
        margins = top, bottom, left, right
        np.testing.assert_array_equal(run_pixels(engine, pixels, margins), cut(whole, margins, 2, rows_axis=0))
    assert len(engine._requests) < 10  # of 17


def test_several_that_begin_at_once_measure_without_getting_in_each_other_s_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "apisr"))
    engines = [opened("tiny-x2") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda engine: engine.shape_exact, engines)) == {True}
    assert len(list((tmp_path / "apisr" / "engines").glob("exact-*.json"))) == 1


def test_wrappers_pass_margins_on() -> None:
    engine = open_engine(choose_model(MODELS / "tiny-x2.onnx"), engine="openvino", device="cpu", precision="fp32")
    batch = np.random.default_rng(3).random((1, 3, 40, 48), dtype=np.float32)
    pixels = (batch[0].transpose(1, 2, 0) * 255).astype(np.uint8)
    margins = (8, 2, 10, 4)
    for wrapped in (FallbackEngine(engine, lambda: engine), TtaEngine(engine)):
        expected = cut(wrapped.run(batch), margins, 2, rows_axis=2)
        np.testing.assert_array_equal(run_inside(wrapped, batch, margins), expected)
    fallback = FallbackEngine(engine, lambda: engine)
    np.testing.assert_array_equal(
        run_pixels(fallback, pixels, margins), cut(run_pixels(engine, pixels), margins, 2, rows_axis=0)
    )
