"""Batches: order, mixing, ranks, workers, resuming at any sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apisr.core.errors import RunError
from apisr.train.data.loader import Batch, Loader, on_device


@dataclass(frozen=True)
class Blocks:
    """Random squares, halved; every crop is a function of (epoch, picture, crop)."""

    pictures: int = 5
    crops_per_picture: int = 4
    side: int = 32
    fail_at: int = -1
    spoiled_epoch: int = -1
    spoil: float = 1.0

    def __len__(self) -> int:
        return self.pictures

    def crops(self, epoch: int, index: int) -> list[dict[str, torch.Tensor]]:
        if index == self.fail_at:
            raise ValueError("cannot draw")
        random = np.random.default_rng((epoch, index))
        result: list[dict[str, torch.Tensor]] = []
        for _ in range(self.crops_per_picture):
            values = np.kron(random.integers(0, 256, (3, self.side // 4, self.side // 4)), np.ones((1, 4, 4)))
            high = torch.from_numpy(values.astype(np.uint8))
            crop = {"lr": high[:, ::2, ::2].contiguous(), "gt": high, "pseudo": high.flip(0).contiguous()}
            if self.spoiled_epoch >= 0:
                factor = self.spoil if epoch == self.spoiled_epoch else 1.0
                crop = {key: value.float() / 255 * factor for key, value in crop.items()}
            result.append(crop)
        return result


def take(loader: Loader, count: int) -> list[Batch]:
    with loader:
        return [next(loader) for _ in range(count)]


def ids(batches: Sequence[Batch]) -> list[bytes]:
    return [crop.numpy().tobytes() for batch in batches for crop in batch["gt"]]


@settings(max_examples=25, deadline=None)
@given(
    skipped=st.integers(0, 60), batch=st.integers(1, 7), shuffle=st.sampled_from([0, 3, 10, 64]), seed=st.integers(0, 3)
)
def test_loader_continues_at_any_sample(skipped: int, batch: int, shuffle: int, seed: int) -> None:
    source = Blocks(side=8)
    whole = ids(take(Loader(source, batch=1, seed=seed, shuffle_crops=shuffle), skipped + 2 * batch))
    rest = ids(take(Loader(source, batch=batch, seed=seed, shuffle_crops=shuffle, start=skipped), 2))
    assert rest == whole[skipped:]


@settings(max_examples=15, deadline=None)
@given(world=st.integers(1, 5), shuffle=st.sampled_from([0, 12]), seed=st.integers(0, 3))
def test_every_sample_once_an_epoch_over_all_ranks(world: int, shuffle: int, seed: int) -> None:
    source = Blocks(pictures=5 * world, side=8)
    each = 5 * source.crops_per_picture
    found = [
        one
        for rank in range(world)
        for one in ids(take(Loader(source, batch=1, seed=seed, shuffle_crops=shuffle, rank=rank, world=world), each))
    ]
    wanted = [crop["gt"].numpy().tobytes() for index in range(len(source)) for crop in source.crops(0, index)]
    if shuffle == 0 or each % 12 == 0:
        assert sorted(found) == sorted(wanted)
    else:  # the last block of an epoch reaches into the next one
        assert set(found) - set(wanted) <= {
            crop["gt"].numpy().tobytes() for index in range(len(source)) for crop in source.crops(1, index)
        }


def test_workers_change_nothing() -> None:
    here = take(Loader(Blocks(), batch=3, seed=1, shuffle_crops=8), 4)
    there = take(Loader(Blocks(), batch=3, seed=1, shuffle_crops=8, workers=2), 4)
    assert ids(here) == ids(there)
    assert all(torch.equal(a["pseudo"], b["pseudo"]) for a, b in zip(here, there, strict=True))


def test_workers_stop_in_the_middle_of_handing_over() -> None:
    source = Blocks(pictures=50, crops_per_picture=16, side=256)  # 3 MB a picture: the pipes are full when they stop
    for seed in range(3):
        assert len(take(Loader(source, batch=3, seed=seed, shuffle_crops=0, workers=2), 1)) == 1


def test_mixing_mixes() -> None:
    plain = ids(take(Loader(Blocks(), batch=20, seed=1, shuffle_crops=0), 1))
    mixed = ids(take(Loader(Blocks(), batch=20, seed=1, shuffle_crops=20), 1))
    assert plain != mixed
    assert sorted(plain) == sorted(mixed)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_fails_stops_the_run(workers: int) -> None:
    with pytest.raises(RunError) as caught:
        take(Loader(Blocks(fail_at=2), batch=4, seed=0, workers=workers), 5)
    assert caught.value.code == "bad-picture"


def test_bytes_become_unit_floats() -> None:
    batch = take(Loader(Blocks(), batch=2, seed=0), 1)[0]
    there = on_device(batch, torch.device("cpu"), channels_last=True)
    assert there["lr"].dtype == torch.float32
    assert torch.equal(there["gt"], batch["gt"] / 255)
    assert there["gt"].is_contiguous(memory_format=torch.channels_last)
