"""Ask every outside address of the documents whether it answers. Run it by hand: it needs the network.

    python scripts/check_links.py                 README, docs, and the other documents
    python scripts/check_links.py docs/faq.md     these files only

Links between the pages are checked by `mkdocs build --strict`, those of the other documents by the tests. An address
is asked with HEAD, and with GET where HEAD is refused; redirects are followed and named. Each host is asked by one
connection at a time, at most once in half a second.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https?://[^\s<>()\[\]\"'`|]+")
#: Addresses that are examples, and machines of the reader's own.
EXAMPLES = ("example.org", "example.com", "localhost", "127.0.0.1")
TIMEOUT_S, ATTEMPTS, BUSY = 20.0, 3, (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """What came of one address: ``problem`` is empty if it answers."""

    address: str
    problem: str = ""
    moved_to: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Check the documents; 1 if an address does not answer."""
    parser = argparse.ArgumentParser(description="Ask every outside address of the documents whether it answers.")
    parser.add_argument("files", nargs="*", type=Path)
    files = parser.parse_args(arguments).files or documents()
    places = addresses(files)
    failed = 0
    for answer in ask_all(places):
        where = ", ".join(str(path) for path in places[answer.address])
        if answer.problem:
            failed += 1
            sys.stdout.write(f"FAILED  {answer.address}: {answer.problem} ({where})\n")
        elif answer.moved_to:
            sys.stdout.write(f"moved   {answer.address} -> {answer.moved_to} ({where})\n")
    sys.stdout.write(f"{len(places)} addresses, {failed} failed\n")
    return int(failed > 0)


def documents() -> list[Path]:
    """Return every document that holds addresses for people."""
    named = [*ROOT.glob("*.md"), ROOT / "CITATION.cff", ROOT / "pyproject.toml", *ROOT.glob("*/README.md")]
    return sorted({*named, *(ROOT / "docs").rglob("*.md")})


def addresses(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Return every outside address with the files that name it."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        for address in sorted({match.rstrip(".,;:") for match in ADDRESS.findall(path.read_text(encoding="utf-8"))}):
            if urlsplit(address).hostname not in EXAMPLES:
                found[address.partition("#")[0]].append(path)
    return dict(found)


def ask_all(wanted: Iterable[str], *, pause_s: float = 0.5) -> Iterator[Answer]:
    """Ask the addresses, hosts side by side, and yield the answers."""
    by_host: dict[str, list[str]] = defaultdict(list)
    for address in wanted:
        by_host[urlsplit(address).netloc].append(address)

    def ask_host(of_one: list[str]) -> list[Answer]:
        answers = []
        for number, address in enumerate(of_one):
            if number:
                time.sleep(pause_s)
            answers.append(ask(address))
        return answers

    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(ask_host, by_host.values()):
            yield from answers


def ask(address: str, *, wait: Callable[[float], None] = time.sleep) -> Answer:
    """Ask one address; a busy server is asked again."""
    problem = ""
    for attempt in range(ATTEMPTS):
        try:
            landed = _open(address, "HEAD")
        except urllib.error.HTTPError as error:
            if error.code in BUSY:
                problem = f"status {error.code}"
                wait(_seconds(error.headers.get("Retry-After")) or 2.0**attempt)
                continue
            return _again_with_get(address)
        except (OSError, ValueError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
            wait(2.0**attempt)
            continue
        return Answer(address, moved_to=landed if landed.rstrip("/") != address.rstrip("/") else "")
    return Answer(address, problem)


def _again_with_get(address: str) -> Answer:
    try:
        _open(address, "GET")
    except urllib.error.HTTPError as error:
        return Answer(address, f"status {error.code}")
    except (OSError, ValueError) as error:
        return Answer(address, str(error))
    return Answer(address)


def _open(address: str, method: str) -> str:
    request = urllib.request.Request(address, method=method, headers={"User-Agent": "apisr-link-check"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return answer.geturl()


def _seconds(text: str | None) -> float:
    return min(float(text), 60.0) if text and text.isdigit() else 0.0


if __name__ == "__main__":
    raise SystemExit(main())
