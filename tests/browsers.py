"""The distribution's Chromium for tests, and axe-core where it was installed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
expect.set_options(timeout=30_000)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Where `npm install axe-core` was run.
AXE = Path(os.environ.get("APISR_NODE_MODULES", ROOT / "node_modules")) / "axe-core" / "axe.min.js"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@contextlib.contextmanager
def launched(*flags: str) -> Iterator[Browser]:
    """A headless Chromium; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, address: str, *, ready: str = "html[data-ready=yes]", **options: object) -> Iterator[Page]:
    """A page in a fresh profile; what its scripts report as an error fails the test."""
    context = browser.new_context(locale="en-US", **options)  # type: ignore[arg-type]
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(address, timeout=120_000)
    page.wait_for_selector(ready, state="attached", timeout=120_000)
    yield page
    context.close()
    assert [text for text in problems if "Failed to load resource" not in text] == []


def serious_findings(page: Page) -> list[object]:
    """What axe-core finds on the page that keeps people out; nothing where it is not installed."""
    if not AXE.exists():
        return []
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[list[object]] = page.evaluate(
        "() => axe.run().then(result => result.violations.map("
        "one => [one.id, one.impact, one.nodes.map(node => node.html).slice(0, 3)]))"
    )
    return [one for one in found if one[1] in ("serious", "critical")]
