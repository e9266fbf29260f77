"""A person's review of a dataset: what there is to decide, and where the decisions go.

The page that shows it is part of the app (:mod:`apisr.app.reviewing`). A decision is in the manifest, on the disk,
before it is answered. The dataset is held only while a decision is written, so that several pages (and processes)
agree, and what another run wrote meanwhile is read first.

    >>> review = Review(Path("dataset"))                        # doctest: +SKIP
    >>> review.decide(["3f2a-000012"], "reject")                # doctest: +SKIP
"""

from __future__ import annotations

import threading
from pathlib import Path

from apisr.core.dataset import MANIFEST_NAME
from apisr.core.errors import InputError
from apisr.core.files import path_inside
from apisr.core.text import printable
from apisr.curate.dataset import hold_dataset
from apisr.curate.decide import decide_by_person
from apisr.curate.manifest import Row, read_manifest, write_manifest

#: Formats of pictures that a dataset holds, and that a browser shows.
PICTURE_ENDINGS = frozenset({".png", ".webp", ".avif", ".jpg"})


class Review:
    """The rows of one dataset, and decisions on them.

    Args:
        dataset: the dataset's folder.

    Raises:
        InputError: no dataset, or a damaged one.
    """

    def __init__(self, dataset: Path) -> None:
        self.dataset = dataset
        self._mutex = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._rows: dict[str, Row] = {}
        self._settings_json = ""
        self._read()

    def listing(self) -> dict[str, object]:
        """Return the name of the dataset and all rows: what the page needs to know of them."""
        with self._mutex:
            self._read()
            rows = list(self._rows.values())
        return {"name": printable(self.dataset.resolve().name), "rows": [_public(row) for row in rows]}

    def decide(self, ids: list[str], decision: str) -> None:
        """Write a person's decision on some pictures to the manifest.

        Raises:
            InputError: unknown picture or decision, or another run works on the dataset (``dataset-busy``).
            RunError: the manifest cannot be written.
        """
        with self._mutex, hold_dataset(self.dataset):
            self._read()
            rows = decide_by_person(list(self._rows.values()), ids, decision)
            write_manifest(self.dataset, rows, settings_json=self._settings_json)
            self._take(rows)

    def file(self, identifier: str, *, small: bool) -> Path | None:
        """Return the file of a picture, or of its thumbnail if there is one; None where there is no such picture."""
        row = self._rows.get(identifier)
        if row is None:
            return None
        try:
            path = self._path(row, small=small)
        except InputError:
            return None
        return path if path.suffix in PICTURE_ENDINGS and path.is_file() else None

    def _path(self, row: Row, *, small: bool) -> Path:
        parts = Path(row.file).parts
        if small and len(parts) == 3:
            thumbnail = path_inside(self.dataset, f"thumbs/{parts[1]}/{row.id}.jpg")
            if thumbnail.is_file():
                return thumbnail
        return path_inside(self.dataset, row.file)

    def _read(self) -> None:
        stamp = _stamp_of(self.dataset)
        if stamp is None or stamp != self._stamp:
            rows, self._settings_json = read_manifest(self.dataset)
            self._rows = {row.id: row for row in rows}
            self._stamp = stamp

    def _take(self, rows: list[Row]) -> None:
        self._rows = {row.id: row for row in rows}
        self._stamp = _stamp_of(self.dataset)


def _stamp_of(dataset: Path) -> tuple[int, int] | None:
    try:
        status = (dataset / MANIFEST_NAME).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _public(row: Row) -> dict[str, object]:
    return {
        "id": row.id,
        "source": printable(row.source),
        "time": round(row.time_s, 3),
        "kind": row.frame_kind,
        "score": round(row.score, 4),
        "nudity": row.nudity,
        "anime": row.anime,
        "native": row.native_height if row.native_kernel else None,
        "width": row.width,
        "height": row.height,
        "hash": row.hash,
        "flags": list(row.flags),
        "duplicate": row.duplicate_of,
        "decision": row.decision,
        "person": row.decided_by == "person",
    }
