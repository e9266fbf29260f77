"""The manifest of a dataset: one row a picture, in ``manifest.parquet``.

It is rewritten whole and swapped in with one rename, so that at any moment a complete manifest is on the disk.

A decision is ``accept``, ``reject`` or ``review`` (flagged, nobody has looked yet), and ``reserve`` for pictures kept
in place of duplicates that turn up later. ``decided_by`` says whether a person or the machine decided; what a person
decided is never changed by the machine.

    >>> row = Row(id="a-0", source="a.mkv", source_sha256="0" * 64)
    >>> row.decision
    'review'
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from apisr import __version__
from apisr.core.errors import InputError
from apisr.core.files import atomic_path

Decision = Literal["accept", "reject", "review", "reserve"]

#: Name of the manifest inside a dataset.
FILE_NAME = "manifest.parquet"


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
        source_width: width of the video.
        source_height: height of the video.
        crop_top: first row kept.
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
    "float": pa.float64(),
    "float | None": pa.float64(),
    "tuple[str, ...]": pa.list_(pa.string()),
}
SCHEMA = pa.schema([(field.name, _TYPES[str(field.type)]) for field in dataclasses.fields(Row)])


def write_manifest(folder: Path, rows: Iterable[Row], *, settings_json: str = "") -> Path:
    """Write ``manifest.parquet`` of a dataset folder, replacing the one that is there when complete."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for row in rows:
        for name, values in columns.items():
            values.append(getattr(row, name))
    columns["flags"] = [list(flags) for flags in columns["flags"]]
    arrays = [pa.array(columns[field.name], field.type) for field in SCHEMA]
    metadata = {"apisr.version": __version__, "apisr.settings": settings_json}
    table = pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(metadata))
    target = folder / FILE_NAME
    with atomic_path(target, overwrite=True) as partial:
        pq.write_table(table, partial, compression="zstd")
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
    return target


def read_manifest(folder: Path) -> tuple[list[Row], str]:
    """Read the rows of a dataset and the settings (JSON) it was made with.

    Raises:
        InputError: no dataset there, or a manifest that is not one.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise InputError(
            f"no dataset in '{folder}': '{FILE_NAME}' is missing. Make one with: apisr curate VIDEOS -o DATASET"
        )
    try:
        table: Any = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"cannot read '{path}': {str(error).splitlines()[0]}.") from error
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise InputError(f"'{path}' is not a manifest of apisr: column '{missing[0]}' is missing.")
    metadata: dict[bytes, bytes] = table.schema.metadata or {}
    records: list[dict[str, Any]] = table.select(SCHEMA.names).to_pylist()
    for record in records:
        record["flags"] = tuple(record["flags"] or ())
    rows = [Row(**record) for record in records]
    return rows, metadata.get(b"apisr.settings", b"").decode("utf-8")


def decide(rows: Sequence[Row], ids: Iterable[str], decision: Decision) -> list[Row]:
    """Return the rows with a person's decision on some of them.

    Raises:
        InputError: an id that is not in the manifest, or an unknown decision.
    """
    if decision not in get_args(Decision):
        raise InputError(f"unknown decision '{decision}'. Choose one of: {', '.join(get_args(Decision))}.")
    wanted = set(ids)
    unknown = wanted - {row.id for row in rows}
    if unknown:
        raise InputError(f"no picture '{min(unknown)}' in this dataset.")
    return [
        dataclasses.replace(row, decision=decision, decided_by="person") if row.id in wanted else row for row in rows
    ]
