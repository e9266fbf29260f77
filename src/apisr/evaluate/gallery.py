"""A page on which people vote: the same crops by many models, in an order that does not tell who made which.

The page is one file without network access. It shows one place of a picture after the other, as each contestant made
it; keys choose the best. At the end it names the contestants and says which share of the votes each has, with an
interval (bootstrap over pictures: crops of one picture are drawn together).

    >>> make_gallery(["frames"], ["lanczos", "apisr-x4", "peer=outputs/peer"], Path("vote"))  # doctest: +SKIP
    PosixPath('vote/gallery.html')
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError
from apisr.core.files import check_target, write_atomic
from apisr.core.pages import render
from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.core.text import printable
from apisr.evaluate.crops import busiest_window, data_uri
from apisr.evaluate.inputs import Entry, find_entries
from apisr.evaluate.models import Enlarger, open_model
from apisr.evaluate.options import Layout
from apisr.image.types import ImageU8

GALLERY_NAME = "gallery.html"
#: Contestants that fit a screen and a keyboard.
MAX_CONTESTANTS = 9


@dataclass(frozen=True)
class GalleryOptions:
    """What the gallery shows.

    Attributes:
        crop_px: width and height of a crop, in output pixels.
        crops: crops of each picture.
        pictures: pictures at most, spread evenly over the clips.
        frame_step: of a clip, every frame whose number is a multiple of this may be shown.
        scale: factor of the models; needed where a contestant is plain resampling and no other has a factor.
        layout: how folders are read.
        allow_missing: leave out pictures that a contestant or the ground truth does not have, instead of stopping.
        device: for models.
        seed: of the order in which contestants and crops are shown.
    """

    crop_px: tuple[int, int] = (320, 240)
    crops: int = 2
    pictures: int = 20
    frame_step: int = 10
    scale: int | None = None
    layout: Layout = "pictures"
    allow_missing: bool = False
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Question:
    """One place of a picture, as each contestant made it.

    Attributes:
        picture: name of the picture.
        left_px: place of the crop in the outputs.
        top_px: place of the crop in the outputs.
        order: numbers of the contestants in the order in which they are shown.
        panels: data URIs by contestant.
        extra: ``input`` and ``truth``, where there are any.
    """

    picture: str
    left_px: int
    top_px: int
    order: tuple[int, ...]
    panels: tuple[str, ...]
    extra: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class _Contestant:
    """Who makes the outputs: a model, or whoever filled a folder."""

    label: str
    enlarger: Enlarger | None = None
    outputs: dict[str, Entry] = field(default_factory=dict[str, Entry])

    def has(self, entry: Entry) -> bool:
        """Return whether there is an output for an entry."""
        return self.enlarger is not None or entry.name in self.outputs


def make_gallery(
    pictures: Sequence[str | Path],
    contestants: Sequence[str],
    folder: Path,
    *,
    reference: Path | None = None,
    options: GalleryOptions | None = None,
    overwrite: bool = False,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> Path:
    """Write ``gallery.html``.

    Args:
        pictures: inputs: files, folders, or patterns with one ``*``.
        contestants: each a model's name or file, ``lanczos``, ``bicubic``, ``nearest``, or ``LABEL=FOLDER`` for outputs
            that were made elsewhere, with the names of the inputs.
        folder: where the page is written.
        reference: ground truth with the same names; the page shows it on a key.
        options: what is shown.
        overwrite: replace a page that is there.
        progress: called after every picture.
        cancel: checked before every picture.

    Raises:
        InputError: fewer than two contestants, outputs of different sizes, pictures that cannot be read or paired.
        Cancelled: a stop was asked for.
    """
    options = options or GalleryOptions()
    target = folder / GALLERY_NAME
    check_target(target, overwrite=overwrite)
    if not 2 <= len(contestants) <= MAX_CONTESTANTS:
        raise InputError(
            f"a gallery compares 2 to {MAX_CONTESTANTS} contestants, got {len(contestants)}. "
            "Give models with commas, or LABEL=FOLDER.",
            code="bad-contestants",
        )
    paths = [Path(path) for path in pictures]
    entries = _entries(paths, reference, options)
    opened = [_open(contestant, paths, options) for contestant in contestants]
    entries = [entry for entry in entries if all(contestant.has(entry) for contestant in opened)]
    if not entries:
        raise InputError(
            "there is no picture that all contestants have. Names (without ending) must be the same.", code="no-pairs"
        )
    if len({contestant.label for contestant in opened}) != len(opened):
        raise InputError("two contestants have the same name. Write LABEL=FOLDER.", code="bad-contestants")
    questions = _all_questions(entries, opened, options, progress, cancel or Cancel())
    page = render(
        "apisr.evaluate",
        "gallery.html.j2",
        data={
            "contestants": [contestant.label for contestant in opened],
            "questions": [vars(question) for question in questions],
            "seed": options.seed,
            "crop_px": options.crop_px,
        },
    )
    write_atomic(target, page.encode("utf-8"), overwrite=overwrite)
    return target


def _entries(paths: Sequence[Path], reference: Path | None, options: GalleryOptions) -> list[Entry]:
    return find_entries(paths, reference=reference, layout=options.layout, allow_missing=options.allow_missing)[0]


def _open(contestant: str, paths: Sequence[Path], options: GalleryOptions) -> _Contestant:
    label, equals, outputs = contestant.partition("=")
    if equals and label and not Path(contestant).exists():
        entries = _entries(paths, Path(outputs), options)
        return _Contestant(printable(label), outputs={entry.name: entry for entry in entries})
    enlarger = open_model(contestant, scale=options.scale, device=options.device)
    return _Contestant(printable(enlarger.info.name), enlarger)


def _all_questions(
    entries: Sequence[Entry],
    contestants: Sequence[_Contestant],
    options: GalleryOptions,
    progress: ProgressFn,
    cancel: Cancel,
) -> list[Question]:
    """Return the questions in a random order."""
    each = -(-options.pictures // len(entries))
    count = min(len(entries), options.pictures)
    questions: list[Question] = []
    for number, entry in enumerate(entries[:count], start=1):
        cancel.check()
        for name, outputs, extra in _pictures(entry, contestants, options, most=each):
            questions += _questions(name, outputs, extra, options)
        progress(Progress("gallery", item=entry.name, index=number, count=count, done=number, total=count))
    order = np.random.default_rng(options.seed).permutation(len(questions))
    return [questions[number] for number in order]


def _pictures(
    entry: Entry, contestants: Sequence[_Contestant], options: GalleryOptions, *, most: int
) -> Iterator[tuple[str, list[ImageU8], dict[str, ImageU8]]]:
    """Yield name, outputs of the contestants, and input and truth, of the pictures of an entry."""
    made = {
        number: iter(_outputs(contestant, entry))
        for number, contestant in enumerate(contestants)
        if contestant.enlarger is None
    }
    truth = None if entry.reference is None else entry.reference.frames()
    shown = 0
    for index, low in enumerate(entry.source.frames()):
        ready = {number: next(frames, None) for number, frames in made.items()}
        true = None if truth is None else next(truth, None)
        if index % options.frame_step:
            continue
        outputs = [
            ready.get(number) if contestant.enlarger is None else contestant.enlarger.enlarge(low)
            for number, contestant in enumerate(contestants)
        ]
        name = f"{entry.name}/{index:05d}" if entry.source.clip else entry.name
        complete = [output for output in outputs if output is not None]
        _check_sizes(name, contestants, outputs)
        size = (complete[0].shape[1], complete[0].shape[0])
        extra = {"input": np.asarray(cv2.resize(low, size, interpolation=cv2.INTER_NEAREST), np.uint8)}
        if true is not None and true.shape == complete[0].shape:
            extra["truth"] = true
        yield name, complete, extra
        shown += 1
        if shown >= most:
            return


def _outputs(contestant: _Contestant, entry: Entry) -> Iterator[ImageU8]:
    source = contestant.outputs[entry.name].reference
    return iter(()) if source is None else source.frames()


def _check_sizes(name: str, contestants: Sequence[_Contestant], outputs: Sequence[ImageU8 | None]) -> None:
    sizes = [None if output is None else (output.shape[1], output.shape[0]) for output in outputs]
    if len(set(sizes)) > 1 or None in sizes:
        listed = ", ".join(
            f"{contestant.label} {'nothing' if size is None else f'{size[0]}x{size[1]}'}"
            for contestant, size in zip(contestants, sizes, strict=True)
        )
        raise InputError(
            f"'{name}': the contestants gave different sizes ({listed}). Compare models of one factor.",
            code="size-mismatch",
        )


def _questions(
    name: str, outputs: Sequence[ImageU8], extra: dict[str, ImageU8], options: GalleryOptions
) -> Iterator[Question]:
    """Cut the crops where the contestants differ most."""
    width, height = options.crop_px
    spread: NDArray[np.floating] = np.std(np.stack(outputs).astype(np.float32), axis=0)
    for crop in range(options.crops):
        top, left = busiest_window(spread, width_px=width, height_px=height)
        window = (slice(top, top + height), slice(left, left + width))
        if crop and not spread[window].any():
            return  # there is no second place at which they differ
        spread[window] = 0
        key = hashlib.sha256(f"{options.seed}/{name}/{top}/{left}".encode()).digest()
        order = np.random.default_rng(int.from_bytes(key[:8], "big")).permutation(len(outputs))
        yield Question(
            picture=name,
            left_px=left,
            top_px=top,
            order=tuple(int(number) for number in order),
            panels=tuple(data_uri(np.ascontiguousarray(output[window])) for output in outputs),
            extra={label: data_uri(np.ascontiguousarray(picture[window])) for label, picture in extra.items()},
        )
