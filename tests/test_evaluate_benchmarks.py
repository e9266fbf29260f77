"""The command that runs all benchmark suites: it finds them, and keeps the sections of those that did not run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def python(code: str) -> str:
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return made.stdout


def test_suites_are_found() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"peers", "reuse"} <= set(made.stdout.split())
    wrong = subprocess.run([sys.executable, "-m", "benchmarks", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "unknown suite nothing" in wrong.stderr


def test_sections_that_did_not_run_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    code = (
        "from pathlib import Path; from benchmarks.__main__ import write\n"
        f"page = Path({str(page)!r})\n"
        "make = lambda name, text: f'<!-- suite {name} -->\\n\\n## {text}\\n\\n<!-- end {name} -->\\n'\n"
        "write({'b': make('b', 'old b'), 'a': make('a', 'old a')}, page)\n"
        "write({'a': make('a', 'new a')}, page)\n"
    )
    python(code)
    text = page.read_text(encoding="utf-8")
    assert "new a" in text
    assert "old b" in text
    assert "old a" not in text
    assert text.index("new a") < text.index("old b")
    assert text.count("# Benchmarks") == 1


def test_rows_become_a_table() -> None:
    code = (
        "from benchmarks.__main__ import table\n"
        "print(table([{'name': 'x|y', 'ratio': 1.23456, 'n': None}, {'name': 'z', 'ratio': 20480.6, 'n': 3}]))"
    )
    assert python(code).splitlines() == [
        "| name | ratio | n |",
        "|---|---|---|",
        "| x\\|y | 1.235 | - |",
        "| z | 20481 | 3 |",
    ]
