"""A person's decisions: what is listed, and what ends in the manifest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from apisr.core.errors import InputError
from apisr.core.media import is_dataset
from apisr.curate.dataset import hold_dataset
from apisr.curate.manifest import Row, read_manifest, write_manifest
from apisr.curate.review import Review
from apisr.image import write_picture


def make_dataset(folder: Path, count: int) -> list[Row]:
    """A dataset with `count` rows over 40 picture files; every tenth is flagged."""
    rng = np.random.default_rng(0)
    for number in range(40):
        colours = rng.integers(0, 256, (2, 3, 3), dtype=np.uint8)
        picture = np.kron(colours, np.ones((45, 53, 1), np.uint8)).astype(np.uint8)
        write_picture(folder / "images" / "v" / f"{number}.png", picture)
    rows = [
        Row(
            id=f"p-{number:05d}",
            source="a film/名前.mkv",
            source_sha256="0" * 64,
            time_s=number / 4,
            score=((number * 7919) % count) / count,
            hash=f"{(number * 2654435761) % 2**64:016x}",
            width=159,
            height=90,
            flags=("subtitle",) if number % 10 == 0 else (),
            decision="review" if number % 10 == 0 else "accept",
            file=f"images/v/{number % 40}.png",
            file_sha256="0" * 64,
        )
        for number in range(count)
    ]
    write_manifest(folder, rows)
    return rows


def test_decisions_are_on_the_disk(tmp_path: Path) -> None:
    make_dataset(tmp_path, 20)
    review = Review(tmp_path)
    review.decide(["p-00007"], "reject")
    rows = {row.id: row for row in read_manifest(tmp_path)[0]}
    assert (rows["p-00007"].decision, rows["p-00007"].decided_by) == ("reject", "person")
    assert (rows["p-00008"].decision, rows["p-00008"].decided_by) == ("accept", "machine")
    for ids, decision, code in ((["no"], "reject", "unknown-picture"), (["p-00007"], "?", "unknown-decision")):
        with pytest.raises(InputError) as caught:
            review.decide(ids, decision)
        assert caught.value.code == code


def test_what_others_wrote_is_kept(tmp_path: Path) -> None:
    rows = make_dataset(tmp_path, 20)
    first, second = Review(tmp_path), Review(tmp_path)
    first.decide(["p-00001"], "reject")
    second.decide(["p-00002"], "reject")
    listed = {row["id"]: row["decision"] for row in first.listing()["rows"]}  # type: ignore[attr-defined]
    assert (listed["p-00001"], listed["p-00002"]) == ("reject", "reject")
    write_manifest(tmp_path, [dataclasses.replace(row, score=0.5) for row in rows[:3]])
    assert [row["score"] for row in first.listing()["rows"]] == [0.5, 0.5, 0.5]  # type: ignore[attr-defined]


def test_a_dataset_that_is_worked_on_takes_no_decisions(tmp_path: Path) -> None:
    make_dataset(tmp_path, 5)
    review = Review(tmp_path)
    with hold_dataset(tmp_path), pytest.raises(InputError) as busy:
        review.decide(["p-00001"], "reject")
    assert busy.value.code == "dataset-busy"
    assert read_manifest(tmp_path)[0][1].decision == "accept"


def test_only_pictures_of_the_dataset_are_files(tmp_path: Path) -> None:
    dataset = tmp_path / "set"
    rows = make_dataset(dataset, 5)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (dataset / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    write_manifest(dataset, [*rows, Row(id="evil", source="", source_sha256="", file="images/link.png")])
    review = Review(dataset)
    assert review.file("p-00001", small=False) == dataset / "images" / "v" / "1.png"
    thumbnail = dataset / "thumbs" / "v" / "p-00001.jpg"
    thumbnail.parent.mkdir(parents=True)
    thumbnail.write_bytes(b"small")
    assert review.file("p-00001", small=True) == thumbnail
    for name in ("evil", "", "../secret", "images/v/1.png"):
        assert review.file(name, small=False) is None
    assert is_dataset(dataset)
    assert not is_dataset(tmp_path)
