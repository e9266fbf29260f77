"""The long round by hand: ``python -m tests.fuzz pictures --count 5000 --seed 7 --keep /tmp/bad``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .datasets import fuzz_datasets
from .pictures import fuzz_pictures
from .videos import fuzz_videos


def main() -> int:
    """Run and print the figures as JSON; 1 if a file was neither read nor refused in one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["datasets", "pictures", "videos"])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-mb", type=int, default=2048)
    parser.add_argument("--keep", type=Path, help="folder for the files that were neither read nor refused")
    arguments = parser.parse_args()
    fuzz = {"datasets": fuzz_datasets, "pictures": fuzz_pictures, "videos": fuzz_videos}[arguments.what]
    figures = fuzz(arguments.count, seed=arguments.seed, memory_mb=arguments.memory_mb, keep=arguments.keep)
    formats = sorted({name for name, _ in figures.counts})
    rows = {
        name: {kind: count for (found, kind), count in sorted(figures.counts.items()) if found == name}
        for name in formats
    }
    sys.stdout.write(json.dumps({"tried": figures.tried, **figures.kinds(), "formats": rows}, indent=2) + "\n")
    for outcome in figures.bad:
        sys.stdout.write(f"{outcome.kind}: {outcome.path.name}: {outcome.detail}\n")
    return 1 if figures.bad else 0


if __name__ == "__main__":
    sys.exit(main())
