"""What is known of each finished video: one JSON file a video, ``videos/VIDEO.json``.

The record is written last, when the video's pictures are in place; a video without a record is done again.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from apisr.core.errors import InputError
from apisr.core.files import read_plain, write_atomic
from apisr.core.text import printable
from apisr.curate.duplicates import FINGERPRINT_BYTES
from apisr.curate.manifest import Row, check_row


class VideoRecord(BaseModel):
    """The record of a finished video.

    Attributes:
        source: path of the video as it was given.
        source_sha256: SHA-256 of the video.
        size_bytes: its size.
        modified_ns: when it was changed last.
        codec: codec of its main video stream.
        width: width of its pictures as they are shown.
        height: their height.
        duration_s: presentation time of its last packet.
        packets: number of packets by picture type.
        packet_total_bytes: sum of their sizes by picture type.
        packet_histogram: sizes by picture type, in bins (:data:`apisr.video.intra.BINS_PER_OCTAVE`).
        undecodable: intra packets that gave no picture.
        left_out: intra frames left out before selection, by flag.
        scores: scores of its intra frames (the first ten thousand).
        native_height: estimated lines of the drawing; the video's own height where unsure.
        native_kernel: kernel by which it was enlarged, None where unsure.
        native_confidence: 0 to 1.
        rows: its pictures, best first, before any decision.
        fingerprints: the 32x32 gray pictures of the rows, for the comparison across videos.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, ser_json_bytes="base64", val_json_bytes="base64"
    )

    source: str
    source_sha256: str
    size_bytes: int
    modified_ns: int
    codec: str
    width: int
    height: int
    duration_s: float
    packets: dict[str, int]
    packet_total_bytes: dict[str, int]
    packet_histogram: dict[str, dict[int, int]]
    undecodable: int
    left_out: dict[str, int]
    scores: tuple[float, ...]
    native_height: int
    native_kernel: str | None
    native_confidence: float
    rows: tuple[Row, ...]
    fingerprints: tuple[bytes, ...]


def record_path(dataset: Path, name: str) -> Path:
    """Return where the record of a video is, by the name of its folder in the dataset."""
    return dataset / "videos" / f"{name}.json"


def write_record(dataset: Path, name: str, record: VideoRecord) -> None:
    """Write the record of a finished video."""
    write_atomic(record_path(dataset, name), record.model_dump_json().encode("utf-8"), overwrite=True)


def read_record(path: Path) -> VideoRecord:
    """Read one record.

    Raises:
        InputError: it is damaged (code ``bad-record``).
    """
    try:
        record = VideoRecord.model_validate_json(read_plain(path, at_most=1 << 30))
        if len(record.rows) != len(record.fingerprints):
            raise ValueError(f"{len(record.rows)} pictures and {len(record.fingerprints)} fingerprints")
        if any(len(small) != FINGERPRINT_BYTES for small in record.fingerprints):
            raise ValueError(f"a fingerprint is not {FINGERPRINT_BYTES} bytes long")
        if not all(row.hash and row.source_sha256 == record.source_sha256 for row in record.rows):
            raise ValueError("a picture has no hash, or that of another video")
        for row in record.rows:
            check_row(path, row)
    except (OSError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InputError(
            f"'{printable(path)}' is damaged ({printable(reason)}). Remove it to have that video done again.",
            code="bad-record",
        ) from error
    return record


def read_records(dataset: Path) -> dict[str, VideoRecord]:
    """Return the records of all finished videos by name, sorted by name; errors as in :func:`read_record`."""
    paths = sorted((dataset / "videos").glob("*.json"))
    return {path.stem: read_record(path) for path in paths if not path.name.endswith(".partial.json")}
