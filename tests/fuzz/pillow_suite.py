"""Run a folder of pictures through reading, each in a child with a memory limit, and count what comes of it.

Meant for Pillow's ``Tests/images`` (in its source archive), pictures that nobody of this project made:

    python -m tests.fuzz.pillow_suite /tmp/pillow/Tests/images
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from tests.fuzz.child import Outcome, decode_in_children


def main() -> int:
    """Run the suite and print figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory-mb", type=int, default=4096, help="limit of address space of a child")
    parser.add_argument("--list", action="store_true", help="list every file that was not read")
    arguments = parser.parse_args()
    from apisr.core.media import PICTURE_SUFFIXES

    files = sorted(
        path for path in arguments.folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
    )
    counts: Counter[str] = Counter()
    bad: list[Outcome] = []
    for outcome in decode_in_children(files, memory_mb=arguments.memory_mb):
        counts[outcome.kind] += 1
        if outcome.kind not in ("read", "refused"):
            bad.append(outcome)
        if arguments.list and outcome.kind != "read":
            sys.stderr.write(f"{outcome.kind}: {outcome.path.name}: {outcome.detail}\n")
    sys.stdout.write(json.dumps({"files": len(files), **counts}, indent=2) + "\n")
    for outcome in bad:
        sys.stdout.write(f"{outcome.kind}: {outcome.path}: {outcome.detail}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
