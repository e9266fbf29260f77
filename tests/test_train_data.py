"""Crops: aligned, reproducible, of the whole degraded picture."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from apisr.core.errors import InputError
from apisr.curate.manifest import Row, write_manifest
from apisr.image import Picture, write_picture

torch = pytest.importorskip("torch")

from apisr.image.chroma import clean_colours  # noqa: E402
from apisr.synthesis.assets import Assets  # noqa: E402 - torch may be absent
from apisr.train.config import DataConfig  # noqa: E402
from apisr.train.data.crops import CropOptions, bilinear_error, cut  # noqa: E402
from apisr.train.data.degradation import Mixture  # noqa: E402
from apisr.train.data.loader import Loader, on_device  # noqa: E402
from apisr.train.data.pictures import ScenePictures, find_training_pictures  # noqa: E402
from apisr.train.data.shards import ShardCrops, ShardOptions, build_shards  # noqa: E402
from apisr.train.data.sources import DegradedCrops, open_source  # noqa: E402


def degraded(pictures: Any, degradation: str, **options: Any) -> DegradedCrops:
    return DegradedCrops(pictures, CropOptions(**options), degradation)


def shard_crops(folder: Path, weights: dict[str, float] | None = None, **options: Any) -> ShardCrops:
    return ShardCrops.open(folder, CropOptions(**options), sampling_weights=weights)


def build(folder: Path, pictures: Any, mixtures: dict[str, str], *, scale: int = 2, **options: Any) -> None:
    parsed = {name: Mixture.parse(text, scale=scale) for name, text in mixtures.items()}
    build_shards(folder, pictures, parsed, ShardOptions(scale=scale, **options))


def code_of(function: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        function()
    return caught.value.code


@dataclass
class Smooth:
    """Smooth random pictures: reducing loses little, so that crops can be compared across resolutions."""

    count: int = 3
    size: tuple[int, int] = (96, 128)
    fixed: bool = True

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"smooth {index}"

    def load(self, epoch: int, index: int) -> Any:
        grid = np.random.default_rng(index).random((5, 6, 3), dtype=np.float32)
        return (np.clip(cv2.resize(grid, self.size[::-1], interpolation=cv2.INTER_CUBIC), 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [2, 4])
def test_parts_of_a_crop_show_the_same_place(scale: int) -> None:
    source = degraded(Smooth(), "bicubic", scale=scale, patch_px=32, crops_per_picture=12, enhance="paper", seed=4)
    for crop in source.crops(0, 1):
        lr, gt, pseudo = (crop[key].numpy().transpose(1, 2, 0).astype(np.float32) for key in ("lr", "gt", "pseudo"))
        assert lr.shape == (32 // scale, 32 // scale, 3)
        assert gt.shape == pseudo.shape == (32, 32, 3)
        reduced = cv2.resize(gt, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        assert float(np.abs(reduced - lr)[2:-2, 2:-2].mean()) < 2
        assert float(np.abs(pseudo - gt).mean()) < 6


def test_flips_and_turns_all_occur_and_keep_parts_together() -> None:
    low = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    high = low.repeat(2, 0).repeat(2, 1)
    seen: set[bytes] = set()
    rng = np.random.default_rng(0)
    for _ in range(100):
        crop = cut({"lr": low, "gt": high, "pseudo": high}, CropOptions(scale=2, patch_px=32), rng)
        lr, gt, pseudo = (crop[key].numpy() for key in ("lr", "gt", "pseudo"))
        assert np.array_equal(gt[:, ::2, ::2], lr)
        assert np.array_equal(gt, pseudo)
        seen.add(lr.tobytes())
    assert len(seen) == 8


def test_crops_depend_on_seed_epoch_and_picture_alone() -> None:
    def values(seed: int, epoch: int, index: int) -> bytes:
        source = degraded(Smooth(), "apisr", scale=2, patch_px=32, crops_per_picture=2, seed=seed)
        source.crops(0, 0)  # what was asked before must not matter
        return b"".join(crop[key].numpy().tobytes() for crop in source.crops(epoch, index) for key in ("lr", "gt"))

    first = values(1, 2, 1)
    assert values(1, 2, 1) == first
    assert len({first, values(2, 2, 1), values(1, 3, 1), values(1, 2, 0)}) == 4


def test_the_loader_gives_the_same_batches_with_workers_and_after_resuming() -> None:
    source = degraded(Smooth(), "bicubic:1, apisr:1", scale=2, patch_px=32, crops_per_picture=4)

    def batches(count: int, **options: Any) -> list[bytes]:
        with Loader(source, batch=4, seed=3, shuffle_crops=8, **options) as loader:
            return [
                b"".join(batch[key].numpy().tobytes() for key in ("lr", "gt"))
                for batch in itertools.islice(loader, count)
            ]

    plain = batches(6)
    assert batches(3, start=12) == plain[3:]
    assert batches(4, workers=1) == plain[:4]


def test_the_whole_picture_is_degraded_before_cutting() -> None:
    """The crops of one picture share one degradation: overlapping places agree exactly."""
    source = degraded(Smooth(1, (64, 64)), "video", scale=2, patch_px=64, crops_per_picture=3, flips=False)
    first, *others = source.crops(0, 0)
    assert all(torch.equal(first["lr"], other["lr"]) for other in others)


def test_mixture_draws_each_recipe_by_its_weight() -> None:
    mixture = Mixture.parse("bicubic:3, apisr:1", scale=4)
    assert [recipe.name for recipe in mixture.recipes] == ["bicubic", "apisr"]
    assert mixture.weights == (0.75, 0.25)
    assert Mixture.parse("paper", scale=4).recipes[0].name == "apisr"


@pytest.mark.parametrize("text", ["bicubic:0", "bicubic:-1", "bicubic:x", "nonsense", ""])
def test_bad_mixture_is_one_clear_line(text: str) -> None:
    with pytest.raises(InputError) as error:
        Mixture.parse(text, scale=2)
    assert "\n" not in str(error.value)


def test_small_picture_is_named() -> None:
    source = degraded(Smooth(1, (24, 64)), "bicubic", scale=2, patch_px=32)
    with pytest.raises(InputError) as caught:
        source.crops(0, 0)
    assert caught.value.code == "picture-too-small"


def test_all_small_pictures_are_named_before_the_first_step(tmp_path: Path) -> None:
    sizes = {"large.png": (70, 80), "small.png": (90, 40), "flat.png": (31, 90), "edge.png": (65, 65)}
    for name, (height, width) in sizes.items():
        write_picture(tmp_path / name, Picture((np.zeros((height, width, 3), np.uint8),)))
    config = DataConfig(folders=(tmp_path,), patch_px=64)
    with pytest.raises(InputError, match=r"2 pictures .* of 64 pixels .*40x90: .*small\.png.*; 90x30: .*flat\.png"):
        open_source(config, scale=2, seed=0)
    for name in ("small.png", "flat.png"):
        (tmp_path / name).unlink()
    assert len(open_source(config, scale=2, seed=0)) == 2


def test_odd_sizes_are_cut_to_the_grid() -> None:
    source = degraded(Smooth(1, (99, 131)), "bicubic", scale=4, patch_px=32, flips=False)
    for crop in source.crops(0, 0):
        lr, gt = (crop[key].numpy().astype(np.float32) for key in ("lr", "gt"))
        assert float(np.abs(gt.reshape(3, 8, 4, 8, 4).mean((2, 4)) - lr).mean()) < 1


def test_pseudo_gt_is_kept_on_disk(tmp_path: Path) -> None:
    def pseudo() -> Any:
        options = {"patch_px": 32, "crops_per_picture": 1, "enhance": "paper", "cache": tmp_path}
        source = degraded(Smooth(1), "bicubic", scale=2, **options)
        return source.crops(0, 0)[0]["pseudo"].numpy()

    first = pseudo()
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    assert files[0].suffix == ".npy"
    assert np.array_equal(pseudo(), first)


def test_scenes_are_new_in_every_epoch() -> None:
    pictures = ScenePictures(Assets.none(), count=2, height=64, width=96)
    assert len(pictures) == 2
    assert not np.array_equal(pictures.load(0, 0), pictures.load(1, 0))
    assert np.array_equal(pictures.load(1, 0), pictures.load(1, 0))


def test_shards_hold_the_pictures_and_is_continued(tmp_path: Path) -> None:
    pictures = Smooth(4)
    mixtures = {"clean": "bicubic", "web": "video"}
    build(tmp_path, pictures, mixtures, count=2, pictures_per_shard=2)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert set(before) == {"gt_0000.npy", "lr2_clean_0000.npy", "lr2_web_0000.npy"}
    build(tmp_path, pictures, mixtures, count=4, pictures_per_shard=2)
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in before.items())
    source = shard_crops(tmp_path, scale=2, patch_px=32, crops_per_picture=2)
    assert len(source) == 8
    gt = {bytes(pictures.load(0, index).tobytes()) for index in range(4)}
    stored = np.load(tmp_path / "gt_0001.npy")
    assert {bytes(one.tobytes()) for one in stored} <= gt
    for crop in source.crops(0, 0):  # the first low file is the clean one
        lr, high = (crop[key].numpy().astype(np.float32) for key in ("lr", "gt"))
        assert float(np.abs(high.reshape(3, 16, 2, 16, 2).mean((2, 4)) - lr).mean()) < 0.6


def test_shards_of_another_scale_are_refused(tmp_path: Path) -> None:
    build(tmp_path, Smooth(1), {"clean": "bicubic"}, count=1, pictures_per_shard=1)
    assert code_of(lambda: shard_crops(tmp_path, scale=4)) == "no-shards-of-scale"
    assert code_of(lambda: shard_crops(tmp_path / "nowhere", scale=4)) == "bad-shards"
    (tmp_path / "shards.json").write_text("[1]", encoding="utf-8")
    assert code_of(lambda: shard_crops(tmp_path, scale=2)) == "bad-shards"


def test_open_source_reads_folders(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        write_picture(tmp_path / name, Picture((Smooth().load(0, 0),)))
    (tmp_path / "notes.txt").write_text("not a picture")
    assert [path.name for path in find_training_pictures([tmp_path])] == ["a.png", "b.png"]
    config = DataConfig(folders=(tmp_path,), degradation="bicubic", enhance="none", patch_px=32, crops_per_picture=2)
    source = open_source(config, scale=2, seed=0)
    assert len(source) == 2
    assert len(source.crops(0, 1)) == 2
    assert code_of(lambda: find_training_pictures([tmp_path / "nowhere"])) == "no-such-folder"
    assert code_of(lambda: open_source(DataConfig(), scale=2, seed=0)) == "no-data"
    both = DataConfig(folders=(tmp_path,), scenes=tmp_path)
    assert code_of(lambda: open_source(both, scale=2, seed=0)) == "several-origins"


def test_no_path_of_a_manifest_leaves_its_folder(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    folder = tmp_path / "dataset"
    write_picture(folder / "pictures" / "a.png", Picture((Smooth().load(0, 0),)))
    write_picture(tmp_path / "secret.png", Picture((Smooth().load(0, 0),)))
    (folder / "link").symlink_to(tmp_path)
    row = Row(id="a", source="a.mkv", source_sha256="0" * 64, file="pictures/a.png", decision="accept")
    write_manifest(folder, [row])
    assert find_training_pictures([folder]) == (folder / "pictures" / "a.png",)
    table = parquet.read_table(folder / "manifest.parquet")
    place = table.schema.get_field_index("file")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "link/secret.png"):
        hostile = table.set_column(place, table.schema.field(place), pyarrow.array([name]))
        parquet.write_table(hostile, folder / "manifest.parquet")
        assert code_of(lambda: find_training_pictures([folder])) == "path-outside"


@dataclass
class HalfDetailed(Smooth):
    """The left half is flat, the right half is noise."""

    def load(self, epoch: int, index: int) -> Any:
        picture = np.random.default_rng(index).integers(0, 256, (*self.size, 3), dtype=np.uint8)
        picture[:, : self.size[1] // 2] = 90
        return picture


def test_crops_know_the_error_of_their_whole_picture(tmp_path: Path) -> None:
    pictures = Smooth(1, (64, 96))
    high = pictures.load(0, 0)
    low = cv2.resize(high, (48, 32), interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(low, (96, 64), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    assert bilinear_error(low, high) == pytest.approx(np.mean((enlarged / 255 - high / 255) ** 2), rel=1e-9)
    build(tmp_path, pictures, {"harsh": "apisr"}, count=1, pictures_per_shard=1)
    source = shard_crops(tmp_path, scale=2, patch_px=32, crops_per_picture=3)
    expected = bilinear_error(np.load(tmp_path / "lr2_harsh_0000.npy")[0], high)
    crops = [*source.crops(0, 0), *source.crops(1, 0)]
    assert [float(crop["bilinear_error"]) for crop in crops] == pytest.approx([expected] * 6)
    with Loader(source, batch=2, seed=0, shuffle_crops=4) as loader:
        batch = on_device(next(loader), torch.device("cpu"), channels_last=True)
    assert batch["bilinear_error"].tolist() == pytest.approx([expected] * 2)


def test_crops_are_cleaned_as_the_whole_picture_is(tmp_path: Path) -> None:
    build(tmp_path, Smooth(1, (64, 96)), {"harsh": "apisr"}, count=1, pictures_per_shard=1)
    low = np.load(tmp_path / "lr2_harsh_0000.npy")[0]
    options = {"scale": 2, "patch_px": 32, "crops_per_picture": 20, "flips": False}
    plain = shard_crops(tmp_path, **options).crops(0, 0)
    cleaned = shard_crops(tmp_path, **options, cleans_colours=True).crops(0, 0)
    windows = np.lib.stride_tricks.sliding_window_view(low, (16, 16), axis=(0, 1))
    for before, after in zip(plain, cleaned, strict=True):
        assert torch.equal(before["gt"], after["gt"])
        (top, left), *others = np.argwhere((windows == before["lr"].numpy()).all((2, 3, 4)))
        assert not others
        expected = clean_colours(low)[top : top + 16, left : left + 16].transpose(2, 0, 1)
        np.testing.assert_array_equal(after["lr"].numpy(), expected)
    assert any(not torch.equal(before["lr"], after["lr"]) for before, after in zip(plain, cleaned, strict=True))


def test_some_crops_are_flat() -> None:
    options = {"scale": 2, "patch_px": 16, "crops_per_picture": 400}
    crops = degraded(HalfDetailed(1, (64, 256)), "bicubic", **options, flat_share=0.25).crops(0, 0)
    flat = [crop for crop in crops if float(crop["bilinear_error"]) == 0]
    assert 60 < len(flat) < 140
    for crop in flat:
        (colour,) = {tuple(pixel) for part in ("lr", "gt") for pixel in crop[part].flatten(1).T.tolist()}
        assert crop["lr"].shape == (3, 8, 8)
        assert crop["gt"].shape == (3, 16, 16)
        assert len(colour) == 3
    ends = [set(crop["gt"].flatten().tolist()) <= {0, 255} for crop in flat]
    assert 0.3 < np.mean(ends) < 0.7
    assert all(float(crop["bilinear_error"]) > 0 for crop in crops if crop["gt"][0].float().std() > 0)


def test_detail_bias_takes_the_more_detailed_of_two_places() -> None:
    def share_of_noise(bias: float) -> float:
        options = {"patch_px": 16, "crops_per_picture": 200, "detail_bias": bias}
        source = degraded(HalfDetailed(1, (64, 256)), "bicubic", scale=2, **options)
        return float(np.mean([crop["gt"].float().std() > 10 for crop in source.crops(0, 0)]))

    random, chosen = share_of_noise(0.0), share_of_noise(1.0)
    assert 0.4 < random < 0.65
    assert chosen == pytest.approx(1 - (1 - random) ** 2, abs=0.1)  # flat only where both candidates are


def test_channel_shuffle_permutes_the_channels_of_all_parts_alike() -> None:
    low = np.stack([np.full((16, 16), value, np.uint8) for value in (10, 20, 30)], axis=2)
    high = low.repeat(2, 0).repeat(2, 1)
    rng = np.random.default_rng(0)
    seen: list[tuple[int, ...]] = []
    for _ in range(300):
        options = CropOptions(scale=2, patch_px=16, flips=False, channel_shuffle=0.5)
        crop = cut({"lr": low, "gt": high, "pseudo": high}, options, rng)
        colours = tuple(int(value) for value in crop["lr"][:, 0, 0])
        assert sorted(colours) == [10, 20, 30]
        assert all(torch.equal(crop[key][:, ::2, ::2], crop["lr"]) for key in ("gt", "pseudo"))
        seen.append(colours)
    assert len(set(seen)) == 6
    assert 0.5 < seen.count((10, 20, 30)) / 300 < 0.68  # 1/2 are left alone, 1/6 of the others come out the same


def test_choices_of_crops_are_reproducible() -> None:
    def values(epoch: int) -> bytes:
        source = degraded(Smooth(), "bicubic", scale=2, patch_px=32, detail_bias=0.6, channel_shuffle=0.5, seed=9)
        return b"".join(crop[key].numpy().tobytes() for crop in source.crops(epoch, 1) for key in ("lr", "gt"))

    assert values(3) == values(3) != values(4)


def test_sampling_weights_and_pictures_degraded_again(tmp_path: Path) -> None:
    mixtures = {"clean": "bicubic", "web": "bicubic"}
    build(tmp_path, Smooth(2), mixtures, count=2, pictures_per_shard=2)
    np.save(tmp_path / "lr2_web_0000b.npy", np.full_like(np.load(tmp_path / "lr2_web_0000.npy"), 77))
    np.save(tmp_path / "lr2_web_0000.npy", np.full_like(np.load(tmp_path / "lr2_web_0000.npy"), 66))
    options: dict[str, Any] = {"patch_px": 32, "crops_per_picture": 1, "seed": 5}
    assert len(shard_crops(tmp_path, scale=2, **options)) == 6
    source = shard_crops(tmp_path, {"clean": 1, "web": 3}, scale=2, **options)
    means = [float(source.crops(epoch, 0)[0]["lr"].float().mean()) for epoch in range(200)]
    assert 0.63 < np.mean([mean in (66, 77) for mean in means]) < 0.87
    assert {66, 77} <= set(means)
    for weights in ({"dvd": 1.0}, {"clean": -1.0}, {"clean": 0.0}):
        assert code_of(lambda weights=weights: shard_crops(tmp_path, weights, scale=2)) == "bad-sampling-weights"
    plain = DataConfig(folders=(tmp_path,), sampling_weights={"clean": 1.0})
    assert code_of(lambda: open_source(plain, scale=2, seed=0)) == "weights-without-shards"


def test_shards_of_one_picture_may_differ_in_size(tmp_path: Path) -> None:
    @dataclass
    class Growing(Smooth):
        def load(self, epoch: int, index: int) -> Any:
            return Smooth(1, (64 + 16 * index, 96)).load(epoch, index)

    build(tmp_path / "apart", Growing(3), {"clean": "bicubic"}, count=3, pictures_per_shard=1)
    source = shard_crops(tmp_path / "apart", scale=2, patch_px=32, crops_per_picture=1)
    assert len([source.crops(0, index) for index in range(3)]) == 3
    together = tmp_path / "together"
    assert (
        code_of(lambda: build(together, Growing(3), {"clean": "bicubic"}, count=3, pictures_per_shard=3))
        == "shard-sizes-differ"
    )


def test_pseudo_gt_of_shards_is_kept(tmp_path: Path) -> None:
    build(tmp_path / "shards", Smooth(1), {"clean": "bicubic"}, count=1, pictures_per_shard=1)
    options: dict[str, Any] = {"scale": 2, "patch_px": 32, "crops_per_picture": 1, "enhance": "paper"}
    plain = shard_crops(tmp_path / "shards", **options).crops(0, 0)[0]["pseudo"]
    for _ in range(2):
        kept = shard_crops(tmp_path / "shards", cache=tmp_path / "kept", **options).crops(0, 0)[0]["pseudo"]
        assert torch.equal(kept, plain)
    assert len(list((tmp_path / "kept").iterdir())) == 1
