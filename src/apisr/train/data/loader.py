"""The loader: from a source of crops to batches, with order, mixing, processes and resuming.

The unit of work is one picture (or composed scene): a worker process degrades the whole of it in memory and cuts
several crops (paper section 3.2: a codec predicts across the picture, so a crop must be taken after it). Workers hand
over pictures in a fixed order, whatever their number; the crops then wait in a shuffle buffer in the training process
and leave it as batches. Every choice is a function of (seed, epoch, position): a run continues at sample `n` with
exactly the batches that an uninterrupted one would have seen. Nothing is skipped: an error in a picture stops the run.

    >>> import torch
    >>> class Gray:
    ...     crops_per_picture = 1
    ...     def __len__(self): return 4
    ...     def crops(self, epoch, index):
    ...         value = torch.full((3, 8, 8), 10 * index, dtype=torch.uint8)
    ...         return [{"lr": value, "gt": value.repeat(1, 2, 2)}]
    >>> with Loader(Gray(), batch=2, seed=0, shuffle_crops=0) as loader:
    ...     batch = next(loader)
    >>> batch["lr"].shape, batch["pseudo"].shape
    (torch.Size([2, 3, 8, 8]), torch.Size([2, 3, 16, 16]))
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from apisr.core.errors import ApisrError, RunError

#: One crop: ``lr`` (3, h, w), ``gt`` (3, s*h, s*w) and ``pseudo`` like ``gt`` (absent: the same as ``gt``); uint8, or
#: float32 in [0, 1]. ``bilinear_error`` (absent: unknown): the mean squared error of the bilinear enlargement of its
#: picture.
Sample = Mapping[str, Tensor]
#: The same with a leading N.
Batch = dict[str, Tensor]

_ORDER, _BUFFER = 1, 2


class CropSource(Protocol):
    """Where crops come from; must survive being copied to worker processes."""

    @property
    def crops_per_picture(self) -> int:
        """How many crops every picture gives."""
        ...

    def __len__(self) -> int:
        """How many pictures one epoch has."""
        ...

    def crops(self, epoch: int, index: int) -> Sequence[Sample]:
        """The crops of picture `index` in `epoch`: a pure function of the source's seed, the epoch and the picture."""
        ...


class Loader:
    """An endless iterator of batches.

    Args:
        source: where the crops come from.
        batch: crops in each batch of this process.
        seed: of the order of pictures and of the mixing.
        shuffle_crops: size of the shuffle buffer; 0 keeps the order of the source.
        workers: processes that make crops; 0 makes them here.
        rank: number of this process; it makes the pictures whose place in the order is ``rank`` modulo ``world``.
        world: number of processes.
        start: crops that were handed out before (resume): the first batch is the one after them.

    Raises:
        RunError: a picture failed; the message names it.
    """

    def __init__(
        self,
        source: CropSource,
        *,
        batch: int,
        seed: int,
        shuffle_crops: int = 256,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
    ) -> None:
        if len(source) == 0:
            raise RunError("the training data has no pictures.", code="no-pictures")
        self.batch = batch
        #: Seconds that the caller waited for batches.
        self.wait_s = 0.0
        self._shuffle = shuffle_crops
        self._seed = seed
        self._rank = rank
        self._pictures = _Pictures(source, seed=seed, rank=rank, world=world)
        self._workers = workers
        self._crops = self._mixed(start)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        began = time.monotonic()
        samples = [next(self._crops) for _ in range(self.batch)]
        # What only some of them have (teachers' outputs of a part of the shards) is no part of the batch.
        shared = [key for key in samples[0] if all(key in sample for sample in samples)]
        stacked: Batch = {key: torch.stack([sample[key] for sample in samples]) for key in shared}
        stacked.setdefault("pseudo", stacked["gt"])
        self.wait_s += time.monotonic() - began
        return stacked

    def close(self) -> None:
        """Stop the workers."""
        self._crops.close()

    def _mixed(self, start: int) -> Generator[Sample]:
        """Crops in mixed order from crop `start` on.

        The buffer is filled and emptied block by block: crops ``block*size ... (block+1)*size`` of the order leave in a
        permutation that depends on the seed and the block alone. Resuming makes one block again, less its beginning.
        """
        per_picture = self._pictures.crops_per_picture
        size = max(1, -(-self._shuffle // per_picture)) * per_picture if self._shuffle else per_picture
        block, offset = divmod(start, size)
        ordered = self._ordered(block * size // per_picture)
        try:
            while True:
                crops = [next(ordered) for _ in range(size)]
                if self._shuffle:
                    random = np.random.default_rng((self._seed, _BUFFER, self._rank, block))
                    crops = [crops[place] for place in random.permutation(size)]
                yield from crops[offset:]
                block, offset = block + 1, 0
        finally:
            ordered.close()

    def _ordered(self, first: int) -> Generator[Sample]:
        per_picture = self._pictures.crops_per_picture
        loader = DataLoader(
            _From(self._pictures, first),
            batch_size=None,
            sampler=_Endless(),
            num_workers=self._workers,
            multiprocessing_context="spawn" if self._workers else None,
            prefetch_factor=4 if self._workers else None,
            worker_init_fn=_prepare_worker,
            generator=torch.Generator(),  # or the loader would draw from the global one, and a resumed run differ
        )
        iterator = iter(loader)
        try:
            for crops in iterator:
                if isinstance(crops, str):
                    raise RunError(crops, code="bad-picture")
                count = crops["lr"].shape[0]
                if count != per_picture:
                    raise RunError(
                        f"a training picture gave {count} crops, the first one {per_picture}. Expected the same.",
                        code="crop-count",
                    )
                for number in range(count):
                    yield {key: value[number] for key, value in crops.items()}
        finally:
            shutdown = getattr(iterator, "_shutdown_workers", None)
            if shutdown is not None:
                shutdown()


def on_device(batch: Batch, device: torch.device, *, channels_last: bool = False) -> Batch:
    """Move a batch to a device as float32 in [0, 1]."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    moved: Batch = {}
    for key, value in batch.items():
        if key == "pseudo" and value is batch["gt"]:
            continue
        there = value.to(device, non_blocking=True)
        there = there.float().div_(255.0) if there.dtype == torch.uint8 else there.float()
        moved[key] = there.contiguous(memory_format=layout) if there.ndim == 4 else there
    moved.setdefault("pseudo", moved["gt"])
    return moved


class _Pictures:
    """The pictures of this rank in the order of training, without end."""

    def __init__(self, source: CropSource, *, seed: int, rank: int, world: int) -> None:
        self._source = source
        self._seed = seed
        self._rank = rank
        self._world = world
        self.crops_per_picture = source.crops_per_picture

    def __call__(self, place: int) -> Batch | str:
        """The crops at a place of this rank's order, or, for the parent process to raise, what went wrong."""
        overall = place * self._world + self._rank
        epoch, position = divmod(overall, len(self._source))
        order = np.random.default_rng((self._seed, _ORDER, epoch)).permutation(len(self._source))
        index = int(order[position])
        try:
            crops = self._source.crops(epoch, index)
            return {key: torch.stack([crop[key] for crop in crops]) for key in crops[0]}
        except ApisrError as error:
            return f"training picture {index} (epoch {epoch}): {error}"
        except Exception as error:  # noqa: BLE001 - whatever a picture's code raises must reach the user with its number
            return f"training picture {index} (epoch {epoch}): {type(error).__name__}: {error}"


class _From(Dataset["Batch | str"]):
    """The pictures as a dataset whose first place is `first`."""

    def __init__(self, pictures: _Pictures, first: int) -> None:
        self._pictures = pictures
        self._first = first

    def __getitem__(self, place: int) -> Batch | str:
        return self._pictures(self._first + place)


def _prepare_worker(_worker: int) -> None:
    """One thread a worker; and a worker leaves without tearing its interpreter down.

    A worker that is told to stop may still be handing over crops in a thread. That thread, in the middle of torch's
    code while the interpreter ends under it, aborts the process, which the training process takes for a failed worker.
    """
    torch.set_num_threads(1)
    atexit.register(os._exit, 0)


class _Endless:
    """The places 0, 1, 2, ... without end."""

    def __iter__(self) -> Iterator[int]:
        place = 0
        while True:
            yield place
            place += 1

    def __len__(self) -> int:
        return 2**31
