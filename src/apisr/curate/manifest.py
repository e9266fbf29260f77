"""The manifest of a dataset: one row a picture, in ``manifest.parquet``.

It is rewritten whole and swapped in with one rename, so that at any moment a complete manifest is on the disk.

A decision is ``accept``, ``reject`` or ``review`` (flagged, nobody has looked yet), and ``reserve`` for pictures kept
in place of duplicates that turn up later. ``decided_by`` says whether a person or the machine decided; what a person
decided is never changed by the machine.

    >>> row = Row(id="a-0", source="a.mkv", source_sha256="0" * 64)
    >>> row.decision
    'review'

A manifest may have been made by somebody else: :func:`read_manifest` refuses one whose names lead out of the dataset,
whose columns hold other things than they should, or that unpacks into more than a manifest needs.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, get_args

import numpy as np

from apisr.core.dataset import MANIFEST_NAME, not_a_manifest
from apisr.core.errors import InputError, MissingExtra
from apisr.core.files import atomic_path
from apisr.core.memory import check_memory
from apisr.core.text import printable
from apisr.core.version import __version__

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingExtra("curate", "to read and write datasets") from error

Decision = Literal["accept", "reject", "review", "reserve"]
DECISIONS: tuple[str, ...] = get_args(Decision)

#: Memory that a row takes when it is read, at most; a manifest whose rows take more is refused.
ROW_BYTES = 64 << 10

_BATCH_ROWS = 256
_MAX_ID_LETTERS = 200


@dataclass(frozen=True)
class Row:
    """One picture of a dataset.

    Attributes:
        id: name of the picture, unique in the dataset: start of the video's SHA-256 and ordinal of the packet.
        source: path of the video as it was given.
        source_sha256: SHA-256 of the video.
        stream: number of the video stream in its file.
        time_s: presentation time in seconds.
        pts: the same, exactly, in units of `time_base`.
        time_base: seconds a unit, as a fraction.
        frame_kind: ``key`` or ``intra``.
        packet_bytes: coded size of the frame.
        score: what frames were chosen by (more is better).
        score_name: which score that is.
        nudity: highest score of a detector of nudity, None when not screened.
        anime: probability of a drawing, None when not screened.
        combed_share: share of blocks with combs (fields of different times).
        text_lines: lines of writing found.
        native_height: estimated lines of the drawing (per video); the video's own height where unsure.
        native_kernel: kernel by which it was enlarged, None where unsure.
        native_confidence: 0 to 1; 0 where unsure.
        source_width: width of the video's frames as they are stored.
        source_height: their height.
        quarter_turns: quarter turns clockwise by which the stored frame is turned to be shown (0 to 3).
        mirrored: whether it is mirrored left to right after that.
        crop_top: first row kept, of the frame as it is stored.
        crop_bottom: row after the last kept.
        crop_left: first column kept.
        crop_right: column after the last kept.
        width: width of the picture.
        height: height of the picture.
        hash: 64-bit perceptual hash as 16 hexadecimal digits.
        rank: place of the frame among those of its video by score, from 0.
        flags: what the machine noticed.
        duplicate_of: id of the picture that this one repeats.
        decision: what to do with it.
        decided_by: ``machine`` or ``person``.
        file: path inside the dataset, with ``/``.
        file_sha256: SHA-256 of that file.
        enhanced_file: picture with enhanced lines.
        enhanced_sha256: SHA-256 of that file.
    """

    id: str
    source: str
    source_sha256: str
    stream: int = 0
    time_s: float = 0.0
    pts: int = 0
    time_base: str = "1/1000"
    frame_kind: str = "key"
    packet_bytes: int = 0
    score: float = 0.0
    score_name: str = ""
    nudity: float | None = None
    anime: float | None = None
    combed_share: float = 0.0
    text_lines: int = 0
    native_height: int = 0
    native_kernel: str | None = None
    native_confidence: float = 0.0
    source_width: int = 0
    source_height: int = 0
    quarter_turns: int = 0
    mirrored: bool = False
    crop_top: int = 0
    crop_bottom: int = 0
    crop_left: int = 0
    crop_right: int = 0
    width: int = 0
    height: int = 0
    hash: str = ""
    rank: int = 0
    flags: tuple[str, ...] = ()
    duplicate_of: str | None = None
    decision: str = "review"
    decided_by: str = "machine"
    file: str = ""
    file_sha256: str = ""
    enhanced_file: str | None = None
    enhanced_sha256: str | None = None


_TYPES: dict[str, pa.DataType] = {
    "str": pa.string(),
    "str | None": pa.string(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "float": pa.float64(),
    "float | None": pa.float64(),
    "tuple[str, ...]": pa.list_(pa.string()),
}
SCHEMA = pa.schema([(field.name, _TYPES[str(field.type)]) for field in dataclasses.fields(Row)])


def write_manifest(folder: Path, rows: Iterable[Row], *, settings_json: str = "") -> Path:
    """Write ``manifest.parquet`` of a dataset folder, replacing the one that is there when complete."""
    table = pa.Table.from_pylist([vars(row) for row in rows], schema=SCHEMA)
    target = folder / MANIFEST_NAME
    with atomic_path(target, overwrite=True) as partial:
        metadata = {"apisr.version": __version__, "apisr.settings": settings_json}
        pq.write_table(table.replace_schema_metadata(metadata), partial, compression="zstd")
    return target


def read_manifest(folder: Path) -> tuple[list[Row], str]:
    """Read the rows of a dataset and the settings (JSON) it was made with.

    Raises:
        InputError: no dataset there, or a manifest that is not one (code ``bad-manifest``), or one whose names lead out
            of the dataset (code ``path-outside``).
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise InputError(
            f"no dataset in '{printable(folder)}': '{MANIFEST_NAME}' is missing. "
            "Make one with: apisr curate VIDEOS -o DATASET",
            code="no-dataset",
        )
    try:
        table, settings_json = _read_table(path)
        records = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise not_a_manifest(path, reason[0]) from error
    rows: list[Row] = []
    for values in records:
        values["flags"] = tuple(str(flag) for flag in values["flags"] or ())
        rows.append(Row(**values))
    for row in rows:
        check_row(path, row)
    if len({row.id for row in rows}) != len(rows):
        raise not_a_manifest(path, "two rows have the same id")
    return rows, settings_json


def _read_table(path: Path) -> tuple[pa.Table, str]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        missing = [name for name in SCHEMA.names if name not in file.schema_arrow.names]
        if missing:
            raise ValueError(f"column '{missing[0]}' is missing")
        count = file.metadata.num_rows
        check_memory(count * 4096, what=f"the manifest '{path}' ({count} rows)", advice="Split the dataset.")
        batches: list[pa.RecordBatch] = []
        for batch in file.iter_batches(_BATCH_ROWS, columns=SCHEMA.names, use_threads=False):
            if batch.nbytes > ROW_BYTES * _BATCH_ROWS:
                raise ValueError("its rows are larger than those of any dataset")
            batches.append(batch)
        metadata: dict[bytes, bytes] = file.schema_arrow.metadata or {}
        table = pa.Table.from_batches(batches, file.schema_arrow.empty_table().select(SCHEMA.names).schema)
        table = table.select(SCHEMA.names).cast(SCHEMA)
    for field in dataclasses.fields(Row):
        column = table.column(field.name)
        if column.null_count and "None" not in str(field.type):
            raise ValueError(f"column '{field.name}' has empty values")
        if pa.types.is_floating(column.type) and not np.isfinite(column.drop_null().to_numpy()).all():
            raise ValueError(f"column '{field.name}' has values that are not numbers")
    return table, metadata.get(b"apisr.settings", b"").decode("utf-8")


def check_row(path: Path, row: Row) -> None:
    """Refuse a row that would lead out of the dataset, or break the page that shows it.

    Args:
        path: the file that it comes from, for the message.
        row: the row.

    Raises:
        InputError: with code ``path-outside`` or ``bad-manifest``.

    Links are followed where a file is opened (:func:`apisr.core.files.path_inside`); this is about the names alone.
    """
    for name in (row.file, row.enhanced_file or ""):
        if not _leads_inside(name):
            raise InputError(
                f"the manifest '{printable(path)}' names '{printable(name)}', which leads out of the dataset. "
                "Do not use this dataset.",
                code="path-outside",
            )
    if not _plain_name(row.id):
        raise InputError(
            f"the manifest '{printable(path)}' has the id '{printable(row.id[:80])}', which cannot name a file. "
            "Do not use this dataset.",
            code="path-outside",
        )
    if row.decision not in DECISIONS:
        raise not_a_manifest(path, f"unknown decision '{printable(row.decision[:40])}'")
    if row.hash and not _is_hash(row.hash):
        raise not_a_manifest(path, f"'{printable(row.hash[:40])}' is not a hash of 16 hexadecimal digits")


def _leads_inside(name: str) -> bool:
    if not name:
        return True
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    absolute = PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor)
    return not absolute and ".." not in parts and "\0" not in name


def _plain_name(name: str) -> bool:
    return (
        0 < len(name) <= _MAX_ID_LETTERS
        and not name.startswith(".")
        and not any(letter in '/\\:*?"<>|' or unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    )


def _is_hash(text: str) -> bool:
    return len(text) == 16 and all(digit in "0123456789abcdef" for digit in text)
