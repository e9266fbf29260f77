"""Damages valid files and looks at what becomes of each, in a child with a memory limit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from .child import Media, Outcome, decode_in_children
from .mutate import mutate

#: Kinds of outcome that a damaged file may have.
ALLOWED = {"read", "refused", "silent loss"}


@dataclass
class Figures:
    """What came of a run.

    Attributes:
        counts: (format, kind of outcome) -> files.
        bad: every file that was neither read nor refused in one line.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: list[Outcome] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """All files."""
        return sum(self.counts.values())

    def kinds(self) -> dict[str, int]:
        """Return kind of outcome -> files."""
        kinds: Counter[str] = Counter()
        for (_, kind), count in self.counts.items():
            kinds[kind] += count
        return dict(kinds)


def fuzz_seeds(
    seeds: Mapping[str, bytes],
    count: int,
    *,
    what: Media,
    seed: int,
    memory_mb: int,
    keep: Path | None,
    kind_of: Callable[[Outcome], str] = lambda outcome: outcome.kind,
) -> Figures:
    """Damage valid files and read each result in a child with a memory limit.

    Args:
        seeds: name -> content of the valid files.
        count: how many files.
        what: ``"pictures"`` or ``"videos"``.
        seed: of all draws; the same seed gives the same files.
        memory_mb: limit of address space of the child.
        keep: a folder for the files that were neither read nor refused.
        kind_of: names what became of a file.
    """
    figures = Figures()
    with TemporaryDirectory(prefix=f"fuzz-{what}-") as folder:
        for outcome in decode_in_children(_files(seeds, count, seed, Path(folder)), memory_mb=memory_mb, what=what):
            kind = kind_of(outcome)
            figures.counts[outcome.path.name.split("-")[0], kind] += 1
            if kind not in ALLOWED:
                figures.bad.append(outcome)
            if keep is not None and kind not in ("read", "refused"):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / outcome.path.name).write_bytes(outcome.path.read_bytes())
            outcome.path.unlink()
    return figures


def _files(seeds: Mapping[str, bytes], count: int, seed: int, folder: Path) -> Iterator[Path]:
    names = sorted(seeds)
    for number in range(count):
        name = names[number % len(names)]
        draw = random.Random(f"{seed} {number} {name}")
        kind, _, suffix = name.rpartition(".")
        path = folder / f"{kind.split('_')[0]}-{kind}-{number}.{suffix}"
        path.write_bytes(mutate(seeds[name], draw))
        yield path
