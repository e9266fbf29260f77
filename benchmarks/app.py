"""The app's page with 500 files

A server of its own, the page in a headless Chromium, 500 small pictures. "longest task" is the processor time of the
longest piece of work of the page during the step (frames are held up by no more than that). "page MB" is the heap of
the page after a collection, "server MB" the resident memory of the server's own process, "workers MB" that of its
children.

Run: python -m benchmarks app
"""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from benchmarks import Skip

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page

NEEDS = ("starlette", "uvicorn", "playwright")
FILES, QUICK_FILES = 500, 50
DONE, QUICK_DONE = 100, 10
_SECONDS = 600.0
_TRACED = ["toplevel"]


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Add files, queue them, let some be done; look at the page and the server after each step."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise Skip("no Chromium on this machine")
    files, done = (QUICK_FILES, QUICK_DONE) if quick else (FILES, DONE)
    with tempfile.TemporaryDirectory(prefix="apisr-bench-") as folder, _server(Path(folder)) as server:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page()
            page.goto(server.address)
            page.wait_for_selector("html[data-ready=yes]", state="attached")
            session = page.context.new_cdp_session(page)
            browser.start_tracing(page=page, categories=_TRACED)
            rows = [_row("empty page", page, session, server)]
            server.post("/api/queue/pause", {})
            for number in range(files):
                server.upload(f"picture {number:03}.png", _picture(number))
            server.wait(lambda state: all(item["info"] for item in state["items"]))
            page.wait_for_function(f"() => document.querySelectorAll('#cards > li').length === {files}")
            rows.append(_row(f"{files} files added", page, session, server))
            ids = [item["id"] for item in server.state()["items"]]
            server.post("/api/jobs", {"items": ids, "settings": {}})
            page.wait_for_function(f"() => document.querySelectorAll('#jobs > li').length === {files}")
            rows.append(_row(f"{files} files queued", page, session, server))
            server.post("/api/queue/resume", {})
            for count in (done // 2, done):
                server.wait(lambda state, count=count: sum(job["status"] == "done" for job in state["jobs"]) >= count)
                rows.append(_row(f"{count} files done", page, session, server))
            browser.close()
    return rows


class _Server:
    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.pid, self.address = process.pid, address
        self._base = address.partition("/?")[0]
        self._token = parse_qs(urlsplit(address).query)["token"][0]

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {self._token}"}
        with urllib.request.urlopen(urllib.request.Request(self._base + path, body, headers, method=method)) as answer:
            return answer.read()

    def post(self, path: str, values: object) -> None:
        self._ask("POST", path, json.dumps(values).encode())

    def upload(self, name: str, content: bytes) -> None:
        self._ask("POST", f"/api/upload?name={quote(name)}", content)

    def state(self) -> dict[str, list[dict[str, object]]]:
        return json.loads(self._ask("GET", "/api/state"))

    def wait(self, condition: Callable[[dict[str, list[dict[str, object]]]], bool]) -> None:
        end = time.monotonic() + _SECONDS
        while not condition(self.state()):
            if time.monotonic() > end:
                raise Skip("the machine is too busy")
            time.sleep(0.5)


@contextmanager
def _server(home: Path) -> Iterator[_Server]:
    command = [sys.executable, "-m", "apisr", "app", "--no-browser", "--port", "0", "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield _Server(process, process.stdout.readline().strip())
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _row(step: str, page: Page, session: CDPSession, server: _Server) -> dict[str, object]:
    page.wait_for_timeout(2000)
    browser = page.context.browser
    assert browser is not None
    longest = _longest_task_ms(browser.stop_tracing())
    session.send("HeapProfiler.collectGarbage")
    heap = page.evaluate("performance.memory.usedJSHeapSize")
    browser.start_tracing(page=page, categories=_TRACED)
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text(encoding="ascii").split()
    return {
        "after": step,
        "longest task ms": longest,
        "page MB": heap / 1e6,
        "server MB": _resident_mb(server.pid),
        "workers MB": sum(_resident_mb(int(child)) for child in children),
    }


def _longest_task_ms(trace: bytes) -> float:
    """Processor time of the longest task of a page's main thread."""
    events = json.loads(trace)["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    times = [event.get("tdur", 0) for event in events if (event["pid"], event["tid"]) in mains and event["ph"] == "X"]
    return max(times, default=0) / 1000


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _picture(number: int) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.linear_gradient("L").resize((48, 36)).rotate(number).convert("RGB").save(content, "PNG")
    return content.getvalue()
