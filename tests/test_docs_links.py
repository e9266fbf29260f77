"""Links: the check of outside addresses against a server of this machine; documents that are no pages of the site."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def links(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("check_links")


@pytest.fixture
def server() -> Iterator[tuple[str, Counter[str]]]:
    """A server with good, moved, missing, busy and HEAD-less addresses; counts what it is asked."""
    asked: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked[f"{self.command} {self.path}"] += 1
            times = asked[f"{self.command} {self.path}"]
            status = {"/good": 200, "/moved": 301, "/gone": 404, "/get-only": 405, "/busy": 503}.get(self.path, 404)
            if (self.path, self.command) == ("/get-only", "GET") or (self.path == "/busy" and times > 1):
                status = 200
            self.send_response(status)
            if status == 301:
                self.send_header("Location", "/good")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET = answer  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", asked
    http.shutdown()
    thread.join()
    http.server_close()


def test_answers(links: ModuleType, server: tuple[str, Counter[str]]) -> None:
    base, asked = server
    waits: list[float] = []
    answers = {
        path: links.ask(base + path, wait=waits.append) for path in ("/good", "/moved", "/gone", "/get-only", "/busy")
    }
    assert {path: answer.problem for path, answer in answers.items() if answer.problem} == {"/gone": "status 404"}
    assert answers["/moved"].moved_to == f"{base}/good"
    assert asked["GET /get-only"] == 1
    assert waits == [1.0]
    assert asked["HEAD /busy"] == 2


def test_a_server_that_is_not_there(links: ModuleType) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as gone:
        port = gone.server_port
    answer = links.ask(f"http://127.0.0.1:{port}/", wait=lambda seconds: None)
    assert "refused" in answer.problem.lower()


def test_the_whole_run(
    links: ModuleType,
    server: tuple[str, Counter[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, _ = server
    monkeypatch.setattr(links, "EXAMPLES", ("example.org",))
    page = tmp_path / "page.md"
    page.write_text(f"[a]({base}/good#part) <{base}/gone>, https://example.org/x.", encoding="utf-8")
    assert links.main([str(page)]) == 1
    printed = capsys.readouterr().out
    assert f"FAILED  {base}/gone: status 404 ({page})" in printed
    assert "2 addresses, 1 failed" in printed
    page.write_text(f"{base}/good.", encoding="utf-8")
    assert links.main([str(page)]) == 0


def test_the_documents_name_addresses(links: ModuleType) -> None:
    found = links.addresses(links.documents())
    assert "https://github.com/Kiteretsu77/APISR" in found
    assert not any(address.endswith((".", ",", ")")) for address in found)


@pytest.mark.parametrize(
    "page",
    sorted([*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("tests/data/**/README.md")]),
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_links_of_documents_that_are_no_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
            assert anchor in slugs, target
