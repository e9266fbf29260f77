"""Picking files, results that are there, and the order of the queue, on the app's page in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra 'app' is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from app_servers import Server, png, running, wait_until
from browsers import opened
from playwright.sync_api import Browser, Page, expect


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    for name in ("inner/a.png", "inner/b.png", "c.png"):
        (folder / name).write_bytes(png())
    with running(tmp_path / "home", folder) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with opened(browser, server.address) as page:
        yield page


def test_a_folder_is_opened_by_its_name_and_picked_by_its_box(page: Page) -> None:
    page.locator("#open-browse").click()
    expect(page.locator("#browse-list label", has_text="c.png")).to_contain_text("100 bytes")
    folder = page.get_by_role("button", name="Open: inner")
    expect(folder).to_have_text("📁 inner")
    folder.click()
    expect(page.locator("#browse-title")).to_have_text("inner")
    every, add = page.locator("#browse-all"), page.locator("#browse-add")
    expect(add).to_be_disabled()
    every.check()
    expect(page.locator("#browse-list input:checked")).to_have_count(2)
    page.locator("#browse-list input").first.uncheck()
    expect(every).to_have_js_property("indeterminate", value=True)
    page.locator("#browse-list .folder").first.click()
    expect(every).not_to_be_checked()
    page.locator("#browse-list li", has_text="inner").locator("input").check()
    add.click()
    expect(page.locator("#added")).to_have_text("2 files were added.")
    expect(page.locator("#live")).to_have_text("2 files were added.")


def test_files_that_are_listed_already_are_selected(page: Page) -> None:
    def pick(name: str) -> None:
        page.locator("#open-browse").click()
        page.locator("#browse-list li", has_text=name).locator("input").check()
        page.locator("#browse-add").click()

    pick("inner")
    expect(page.locator("#selected-count")).to_have_text("2 selected")
    expect(page.locator("#look-name")).to_have_text("a.png", timeout=60_000)
    page.locator("#select-all").click()
    expect(page.locator("#selected-count")).to_have_text("0 selected")
    pick("inner")
    line = "0 files were added. 2 were listed already and are selected."
    expect(page.locator("#added")).to_have_text(line)
    expect(page.locator("#live")).to_have_text(line)
    expect(page.locator("#cards input:checked")).to_have_count(2)
    pick("c.png")
    expect(page.locator("#added")).to_have_text("1 file was added.")
    expect(page.locator("#selected-count")).to_have_text("3 selected")


def test_files_that_cannot_be_read_are_not_counted(page: Page, server: Server) -> None:
    assert server.upload("cut.png", png()[:40]).status == 200
    assert server.upload("good.png", png()).status == 200
    expect(page.locator("#cards .error")).to_have_count(2)
    expect(page.locator("#cards .error:visible")).to_have_count(1, timeout=60_000)
    page.locator("#select-all").check()
    expect(page.locator("#selected-count")).to_have_text("1 selected")
    expect(page.locator("#remove-selected")).to_be_enabled()


def test_a_result_that_is_there_is_shown_and_made_again_when_asked(page: Page, server: Server) -> None:
    item = server.upload("a.png", png()).json["id"]
    (job,) = server.post("/api/jobs", {"items": [item], "settings": {}}).json["jobs"]  # type: ignore[misc]
    wait_until(lambda: server.state()["jobs"][0]["status"] == "done")
    name = server.state()["jobs"][0]["output"]
    page.locator("#cards input").check()
    page.locator("#start").click()
    line = f"The result is there already, made with these settings: {name}"
    expect(page.locator("#there-text")).to_have_text(line)
    expect(page.locator("#live")).to_have_text(line)
    expect(page.locator("#jobs > li")).to_have_count(1)
    page.locator("#there-show").click()
    expect(page.locator("#details")).to_be_visible()
    expect(page.locator("#result-after")).to_have_attribute("src", re.compile(f"/api/jobs/{job}/frame"))
    page.locator("#details-close").click()
    page.locator("#there-again").click()
    expect(page.locator("#there")).to_be_hidden()
    expect(page.locator("#jobs .state-done")).to_have_count(2, timeout=60_000)


def test_buttons_of_the_order_end_with_it(page: Page, server: Server) -> None:
    assert server.post("/api/queue/pause", {}).status == 200
    items = [server.upload(f"{name}.png", png()).json["id"] for name in "abc"]
    assert server.post("/api/jobs", {"items": items, "settings": {}}).status == 200
    rows = page.locator("#jobs > li")
    expect(rows).to_have_count(3)
    up, down = "[data-action=up]", "[data-action=down]"
    for row, ends in enumerate([("true", "false"), ("false", "false"), ("false", "true")]):
        for action, end in zip((up, down), ends, strict=True):
            expect(rows.nth(row).locator(action)).to_have_attribute("aria-disabled", end)
    rows.nth(1).locator(up).press("Enter")
    expect(rows.first.locator(".name")).to_contain_text("b.png")
    expect(rows.first.locator(up)).to_have_attribute("aria-disabled", "true")
    expect(rows.first.locator(up)).to_be_focused()
    page.keyboard.press("Enter")
    expect(rows.first.locator(".name")).to_contain_text("b.png")


def test_texts_of_the_preview_follow_the_language(page: Page, server: Server) -> None:
    assert server.upload("a.png", png()).status == 200
    page.locator("#cards .picture").click()
    expect(page.locator("#look-seconds")).to_contain_text("this crop took", timeout=60_000)
    page.locator("#language").select_option("ja")
    expect(page.locator("#look-seconds")).to_contain_text("この部分は")
    expect(page.locator("#cards .facts")).to_contain_text("100 バイト")
