"""Run the benchmark suites and write `docs/benchmarks.md`.

    python -m benchmarks                      all suites, results on stdout and into docs/benchmarks.md
    python -m benchmarks reuse peers          these only: their sections are replaced, the others stay
    python -m benchmarks --quick --dry-run    short runs, nothing written
    python -m benchmarks --list

A suite is a module `benchmarks/NAME.py`. What it must have:

- a docstring: its first line is the section's title, the rest (until a line that starts with "Run:") goes under it;
- ``run(*, quick: bool = False) -> list[dict[str, object]]``: the rows of its table, one dict a row, the keys are the
  column heads (all rows the same keys in the same order; units in the heads: ``"frames/s"``, ``"peak MiB"``; values
  str, int or float; a float is printed with four significant digits; None prints as a dash). Speeds are given as
  RATIOS measured in the same run (both sides alternate within it), beside the absolute numbers of this machine.

A module without `run` is no suite but a script of its own (or a helper), and is left alone.

What a suite may have:

- ``NEEDS``: names of modules that must be importable, e.g. ``("torch",)``; without them the suite is skipped with the
  reason;
- raise `benchmarks.Skip("reason")` when it cannot run here (no GPU, no ../shared): the section says so.

Random inputs come from a seed in the suite. A suite takes a few minutes on two cores, under a minute with
``quick=True``. It prints nothing; `python -m benchmarks NAME --dry-run` shows it alone.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from apisr.core.text import counted
from benchmarks import Skip

HERE = Path(__file__).parent
TARGET = HERE.parent / "docs" / "benchmarks.md"
VERSIONS_OF = ("apisr", "numpy", "opencv-python-headless", "onnxruntime", "openvino", "av", "torch", "ncnn")

Row = dict[str, object]


def main(argv: list[str] | None = None) -> int:
    """Parse the line, run the suites, write the page; the exit code is 1 if a suite failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmark suites.")
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    parser.add_argument("--quick", action="store_true", help="short runs (numbers are rougher)")
    parser.add_argument("--dry-run", action="store_true", help="do not write docs/benchmarks.md")
    parser.add_argument("--list", action="store_true", help="name the suites and stop")
    options = parser.parse_args(argv)
    files = sorted(path for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    names = [path.stem for path in files if "\ndef run(" in path.read_text(encoding="utf-8")]
    if options.list:
        print("\n".join(names))
        return 0
    unknown = sorted(set(options.suites) - set(names))
    if unknown:
        parser.error(f"unknown suite {', '.join(unknown)}; there are {', '.join(names)}")
    failed = False
    sections: dict[str, str] = {}
    for name in options.suites or names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        try:
            sections[name] = section(name, quick=options.quick)
        except Exception as error:  # noqa: BLE001 - a suite that fails must not lose the others' results
            failed = True
            print(f"{name} FAILED: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        print(sections[name])
    if not options.dry_run:
        write(sections)
        print(f"wrote {TARGET}", file=sys.stderr)
    return int(failed)


def section(name: str, *, quick: bool) -> str:
    """Run one suite and return its section in Markdown."""
    module = importlib.import_module(f"benchmarks.{name}")
    title, _, text = (module.__doc__ or name).strip().partition("\n")
    text = re.split(r"^Run:", text, flags=re.MULTILINE)[0].strip()
    stamp = f"{datetime.now(UTC):%Y-%m-%d}, {hardware()}; {versions()}{'; quick run' if quick else ''}"
    body = _body(module, quick=quick)
    parts = [f"<!-- suite {name} -->", f"## {title.rstrip('.')}", text, body, f"*{stamp}*", f"<!-- end {name} -->"]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(rows: list[Row]) -> str:
    """Lay out rows as a Markdown table."""
    if not rows:
        return "No rows."
    heads = list(rows[0])
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(row.get(head)) for head in heads) + " |" for row in rows]
    return "\n".join(lines)


def write(sections: dict[str, str], target: Path = TARGET) -> None:
    """Put the sections into the page; sections of suites that did not run stay as they are."""
    text = target.read_text(encoding="utf-8") if target.exists() else ""
    kept = dict(re.findall(r"(?s)(?:<!-- suite (\w+) -->)(.*?<!-- end \1 -->\n)", text))
    merged = {name: f"<!-- suite {name} -->{body}" for name, body in kept.items()} | sections
    head = (
        "# Benchmarks\n\nWritten by `python -m benchmarks`; each section says when and where it was measured. "
        "Compare the "
        "ratios: both sides of a ratio ran in turn in one process run. The absolute numbers are those of that "
        "machine.\n"
    )
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join([head, *(merged[name] for name in sorted(merged))]), encoding="utf-8")


def hardware() -> str:
    """Name processor, number of usable cores, memory and GPU."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text(errors="replace"))
        model = found[1].strip() if found else model
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    return f"{model}, {counted(usable, 'core')}, {memory:.0f} GiB, {_gpu()}"


def versions() -> str:
    """Name the versions of what is installed of the libraries that matter."""
    found = [f"Python {platform.python_version()}"]
    for name in VERSIONS_OF:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _gpu() -> str:
    if importlib.util.find_spec("torch") is None:
        return "no GPU"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _body(module: ModuleType, *, quick: bool) -> str:
    missing = [name for name in getattr(module, "NEEDS", ()) if importlib.util.find_spec(name) is None]
    if missing:
        return f"Not run here: {', '.join(missing)} is not installed."
    try:
        return table(module.run(quick=quick))
    except Skip as reason:
        return f"Not run here: {reason}."


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    return str(value).replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
