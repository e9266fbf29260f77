"""The record of an evaluation: `report.json`.

Two runs of one command give the same file, but for `time`. Every number is finite: a value that does not exist is
absent, and `absent` says why.

    >>> Report.model_json_schema()["title"]
    'Report'
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from apisr.core.errors import InputError
from apisr.core.files import read_plain
from apisr.core.text import printable
from apisr.evaluate.protocols import Crop, Protocol
from apisr.evaluate.statistics import Summary
from apisr.metrics.metric import Direction

REPORT_NAME = "report.json"
PAGE_NAME = "report.html"
#: A value of a metric: none comes near these limits, beyond which means and differences are no numbers.
Score = Annotated[float, Field(ge=-1e12, le=1e12)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class MetricInfo(_Record):
    """A metric of the report: what it is and where its definition or weights come from."""

    name: str
    title: str
    unit: str = ""
    digits: int = Field(default=4, ge=0, le=12)
    better: Direction
    needs_reference: bool
    source: str


class ModelInfo(_Record):
    """Who made the outputs; `sha256` is of the weights, None for plain resampling."""

    name: str
    scale: int
    engine: str
    sha256: str | None = None
    license: str | None = None


class PictureScore(_Record):
    """Scores of one picture or frame.

    Attributes:
        name: path below the folder, without the ending; for a frame of a video, the clip's name and the frame's number.
        clip: name of the clip, for frames.
        frame: number of the frame in its clip, from 0.
        input_sha256: of the file (picture) or of the whole video.
        reference_sha256: of the ground truth's file.
        output_sha256: of the scored pixels (RGB, 8 bit, row by row).
        width: of the output, pixels.
        height: of the output, pixels.
        crops: where learned no-reference metrics looked; empty: everywhere.
        values: metric name -> value.
        absent: metric name -> why there is no value.
    """

    name: str
    clip: str | None = None
    frame: int | None = None
    input_sha256: str
    reference_sha256: str | None = None
    output_sha256: str
    width: int
    height: int
    crops: tuple[Crop, ...] = ()
    values: dict[str, Score] = Field(default_factory=dict)
    absent: dict[str, str] = Field(default_factory=dict)


class ClipScore(_Record):
    """Scores of a clip as a whole (flicker)."""

    name: str
    frames: int
    scored: int
    values: dict[str, Score] = Field(default_factory=dict)
    absent: dict[str, str] = Field(default_factory=dict)


class Time(_Record):
    """When the run was made: all that may differ between two runs of one command."""

    started: str
    finished: str


class Report(_Record):
    """One evaluation."""

    schema_version: int = 1
    time: Time
    versions: dict[str, str]
    pictures_from: str
    reference_from: str | None
    model: ModelInfo | None
    protocol: Protocol
    metrics: list[MetricInfo]
    summary: dict[str, Summary]
    absent: dict[str, str]
    notices: list[str]
    clips: list[ClipScore]
    pictures: list[PictureScore]

    def metric(self, name: str) -> MetricInfo:
        """Return the description of a metric of this report.

        Raises:
            KeyError: it is not in the report.
        """
        found = {metric.name: metric for metric in self.metrics}
        return found[name]

    @model_validator(mode="after")
    def _described(self) -> Self:
        missing = self.summary.keys() - {metric.name for metric in self.metrics}
        if missing:
            raise ValueError(f"'{min(missing)}' is in the summary and not among the metrics")
        return self

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(path: Path | str) -> Report:
    """Read a report: the JSON file, or the folder that holds it.

    Raises:
        InputError: no such file, or not a report.
    """
    path = Path(path)
    file = path / REPORT_NAME if path.is_dir() else path
    try:
        return Report.model_validate_json(read_plain(file, at_most=1 << 30))
    except OSError as error:
        raise InputError(
            f"cannot read '{printable(file)}': {error.strerror or error}. Give a folder with {REPORT_NAME}.",
            code="cannot-read",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"cannot read '{printable(file)}': not a report of apisr evaluate "
            f"({printable(place)[:80]}: {printable(first['msg'])}).",
            code="bad-report",
        ) from error
