"""Decisions: what the machine accepts over all videos, and what a person says afterwards.

The machine's decisions depend on the records alone, in an order that does not depend on which worker was faster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from apisr.core.config import unknown_name
from apisr.core.errors import InputError
from apisr.core.text import printable
from apisr.curate.duplicates import Fingerprint, first_of_each
from apisr.curate.manifest import DECISIONS, Decision, Row
from apisr.curate.records import VideoRecord
from apisr.curate.settings import CurateSettings

#: Flags with which a picture waits for a person instead of being accepted.
DOUBTFUL = frozenset({"nudity", "live_action", "credits", "subtitle", "combed", "bars"})


def decide_by_machine(records: Sequence[VideoRecord], settings: CurateSettings) -> list[Row]:
    """Return the rows of all videos with the machine's decisions, ordered by source and time.

    Duplicates across the whole set keep the largest picture (then the best ranked of its video, then the one with the
    largest packet). Of every video, the best pictures that are no duplicates are taken up to the number asked for; the
    others are reserve.
    """
    pairs = [(row, small) for record in records for row, small in zip(record.rows, record.fingerprints, strict=True)]
    pairs.sort(key=lambda pair: _preference(pair[0]))
    originals = first_of_each([Fingerprint(int(row.hash, 16), small) for row, small in pairs])
    limits = {record.source_sha256: settings.frames_for(record.duration_s) for record in records}
    taken: dict[str, int] = {}
    rows: list[Row] = []
    for (row, _), original in zip(pairs, originals, strict=True):
        video = row.source_sha256
        if original is not None:
            flags = tuple(sorted({*row.flags, "duplicate"}))
            rows.append(dataclasses.replace(row, flags=flags, duplicate_of=pairs[original][0].id, decision="reject"))
        elif taken.get(video, 0) >= limits[video]:
            rows.append(dataclasses.replace(row, decision="reserve"))
        else:
            taken[video] = taken.get(video, 0) + 1
            decision = "review" if DOUBTFUL & set(row.flags) else "accept"
            rows.append(dataclasses.replace(row, decision=decision))
    return sorted(rows, key=lambda row: (row.source, row.time_s, row.id))


def keep_persons_decisions(rows: Sequence[Row], before: Iterable[Row]) -> list[Row]:
    """Return rows in which the decisions stand that a person made in an earlier manifest."""
    by_person = {row.id: row for row in before if row.decided_by == "person"}
    return [
        dataclasses.replace(row, decision=by_person[row.id].decision, decided_by="person")
        if row.id in by_person
        else row
        for row in rows
    ]


def decide_by_person(rows: Sequence[Row], ids: Iterable[str], decision: Decision | str) -> list[Row]:
    """Return the rows with a person's decision on some of them.

    Raises:
        InputError: an id that is not in the manifest, or an unknown decision.
    """
    if decision not in DECISIONS:
        raise unknown_name("decision", printable(decision), DECISIONS)
    chosen = set(ids)
    unknown = chosen - {row.id for row in rows}
    if unknown:
        raise InputError(
            f"there is no picture '{printable(min(unknown))}' in this dataset. Give ids of its manifest.",
            code="unknown-picture",
        )
    return [
        dataclasses.replace(row, decision=decision, decided_by="person") if row.id in chosen else row for row in rows
    ]


def _preference(row: Row) -> tuple[int, int, int, str, float]:
    return -row.width * row.height, row.rank, -row.packet_bytes, row.source, row.time_s
