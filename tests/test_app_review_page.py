"""The review page in a real browser: what a person sees, presses and touches ends in the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra 'app' is not installed")
pytest.importorskip("pyarrow", reason="the extra 'curate' is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from app_servers import Server, running, started, wait_until
from browsers import opened, serious_findings
from playwright.sync_api import Browser, Page, expect
from test_app_review import REPORT
from test_curate_review import make_dataset

from apisr.curate.manifest import Row, read_manifest

COUNT = 10_000
CHOSEN = "#room [aria-selected=true]"


@contextmanager
def reviewing(dataset: Path) -> Iterator[Server]:
    with started(["review", str(dataset), "--no-browser"], dataset) as server:
        yield server


def address(server: Server) -> str:
    entry = server.ask("GET", "/api/library").json["datasets"][0]  # type: ignore[index]
    return f"http://127.0.0.1:{server.port}/review?dataset={entry['id']}&token={server.token}"


def rows_of(dataset: Path) -> dict[str, Row]:
    return {row.id: row for row in read_manifest(dataset)[0]}


def saved(page: Page) -> None:
    page.wait_for_selector("body[data-saving='0']", state="attached")


def chosen(page: Page) -> str:
    return str(page.locator(CHOSEN).get_attribute("data-id"))


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_ten_thousand_pictures_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    make_dataset(tmp_path, COUNT)
    with reviewing(tmp_path) as server, opened(browser, address(server)) as page:
        tiles = page.locator("#room > .tile")
        assert 0 < tiles.count() < 200
        assert tiles.first.get_attribute("aria-setsize") == str(COUNT)
        first = [str(tiles.nth(place).get_attribute("data-id")) for place in range(3)]
        before = rows_of(tmp_path)
        assert [(before[name].decision, before[name].flags) for name in first] == [("review", ("subtitle",))] * 3
        scores = [before[name].score for name in first]
        assert scores == sorted(scores, reverse=True)
        press(page, "a", "r")  # accept the first, reject the second
        saved(page)
        rows = rows_of(tmp_path)
        assert [rows[name].decision for name in first] == ["accept", "reject", "review"]
        assert rows[first[1]].decided_by == "person"
        assert chosen(page) == first[2]
        press(page, "u")
        saved(page)
        assert rows_of(tmp_path)[first[1]].decision == "review"
        assert chosen(page) == first[1]
        press(page, "z")
        page.wait_for_function("() => document.querySelector('#zoom-pictures img')?.naturalWidth === 159")
        press(page, "Escape", "End")
        expect(page.locator("#zoom")).to_be_hidden()
        expect(page.locator(CHOSEN)).to_have_attribute("aria-posinset", str(COUNT))
        assert tiles.count() < 200
        page.locator("#show").select_option("flag:subtitle")
        expect(tiles.first).to_have_attribute("aria-setsize", str(COUNT // 10))


def test_mouse(browser: Browser, tmp_path: Path) -> None:
    make_dataset(tmp_path, 40)
    with reviewing(tmp_path) as server, opened(browser, address(server)) as page:
        page.locator("#room > .tile").nth(3).click()
        name = chosen(page)
        expect(page.locator('#side [data-fact="decision"]')).to_contain_text("by the machine")
        page.locator(".review-actions .reject").first.click()
        saved(page)
        assert rows_of(tmp_path)[name].decision == "reject"
        page.locator("#room > .tile").nth(3).dblclick()
        expect(page.locator("#zoom")).to_be_visible()
        page.locator('#zoom [data-action="next"]').click()
        assert chosen(page) != name
        page.locator('#zoom [data-action="accept"]').click()
        page.locator('#zoom [data-action="close"]').click()
        expect(page.locator("#zoom")).to_be_hidden()
        page.locator("#sort").select_option("low")
        page.locator("#room").press("Home")
        expect(page.locator('#side [data-fact="score"]')).to_have_text("0")


def swipe(page: Page, selector: str, distance: int) -> None:
    """A finger that moves to the side over the middle of an element."""
    box = page.locator(selector).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)
    points: list[tuple[str, list[dict[str, float]]]] = [("touchStart", [{"x": x, "y": y}])]
    points += [("touchMove", [{"x": x + distance * step / 5, "y": y}]) for step in range(1, 6)]
    for kind, where in [*points, ("touchEnd", [])]:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})
    session.detach()


def test_touch_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    make_dataset(tmp_path, 40)
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with reviewing(tmp_path) as server, opened(browser, address(server), **phone) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.locator("#room > .tile").nth(2).tap()
        name = chosen(page)
        page.locator(".review-actions .accept").first.tap()
        saved(page)
        assert (rows_of(tmp_path)[name].decision, rows_of(tmp_path)[name].decided_by) == ("accept", "person")
        page.locator('#review [data-action="side"]').tap()
        expect(page.locator("#side")).to_be_visible()
        page.locator('#review [data-action="side"]').tap()
        page.locator('#review [data-action="zoom"]').tap()
        expect(page.locator("#zoom-pictures img")).to_be_visible()
        before = chosen(page)
        swipe(page, "#zoom-pictures", -150)
        page.wait_for_function(f"() => document.querySelector('{CHOSEN}').dataset.id !== '{before}'")
        swipe(page, "#zoom-pictures", 150)
        page.wait_for_function(f"() => document.querySelector('{CHOSEN}').dataset.id === '{before}'")


def test_a_lost_server_is_said_and_taken_back(browser: Browser, tmp_path: Path) -> None:
    make_dataset(tmp_path, 20)
    with ExitStack() as stack:
        with reviewing(tmp_path) as server:
            page = stack.enter_context(opened(browser, address(server)))
            server.stop()
        before = page.locator(CHOSEN).get_attribute("class")
        name = chosen(page)
        press(page, "r")
        expect(page.locator("#problem")).to_contain_text("Not saved")
        expect(page.locator(f'[data-id="{name}"]')).to_have_attribute("class", str(before))
    assert all(row.decided_by == "machine" for row in rows_of(tmp_path).values())


def test_two_tabs_agree(browser: Browser, tmp_path: Path) -> None:
    make_dataset(tmp_path, 20)
    with (
        reviewing(tmp_path) as server,
        opened(browser, address(server)) as page,
        opened(browser, address(server)) as other,
    ):
        name = chosen(page)
        press(page, "r")
        expect(other.locator(f'[data-id="{name}"]')).to_have_class("tile is-reject")


def test_the_app_leads_to_datasets_and_reports(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    make_dataset(folder / "set", 20)
    (folder / "set" / "report.html").write_text("<title>Dataset report</title><p id=text>the report of the set</p>")
    (folder / "scores").mkdir()
    (folder / "scores" / "report.html").write_text(REPORT)
    with running(tmp_path / "home", folder) as server:
        with opened(browser, server.address) as page:
            page.get_by_role("link", name="Datasets and reports").click()
            page.get_by_role("link", name="set", exact=True).click()
            expect(page.locator("#room > .tile").first).to_be_visible()
            page.get_by_role("link", name="Report", exact=True).click()
            expect(page.frame_locator("#report-frame").locator("#text")).to_have_text("the report of the set")
            page.get_by_role("link", name="Back").click()
            expect(page.locator("#room > .tile").first).to_be_visible()
        server.post("/api/queue/resume", {})
        with ExitStack() as stack:
            page = stack.enter_context(opened_without_watch(browser, server.address))
            page.goto(f"http://127.0.0.1:{server.port}/review")
            page.get_by_role("link", name="scores/report.html").click()
            text = page.frame_locator("#report-frame").locator("#text")
            expect(text).to_have_text("cookie refused, parent refused, server refused")
        assert server.state()["paused"] is False


@contextmanager
def opened_without_watch(browser: Browser, address: str) -> Iterator[Page]:
    """A page whose frames may report what was refused to them."""
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    page.goto(address)
    yield page
    context.close()


@pytest.mark.parametrize("width", [360, 1280, 3840])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_width_and_theme(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    make_dataset(tmp_path, 30)
    options: dict[str, object] = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with reviewing(tmp_path) as server, opened(browser, address(server), **options) as page:
        expect(page.locator("#room > .tile").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_findings(page) == []
        press(page, "z")
        expect(page.locator("#zoom-pictures img")).to_be_visible()
        assert serious_findings(page) == []


@pytest.mark.parametrize(("code", "word"), [("ja", "採用"), ("zh-Hans", "接受"), ("en", "Accept")])
def test_three_languages(browser: Browser, tmp_path: Path, code: str, word: str) -> None:
    make_dataset(tmp_path, 10)
    with reviewing(tmp_path) as server, opened(browser, address(server)) as page:
        page.locator("#language").select_option(code)
        expect(page.locator(".review-actions .accept").first).to_contain_text(word)
        wait_until(every_text(page))


def every_text(page: Page) -> Callable[[], bool]:
    script = "[...document.querySelectorAll('[data-text]')].every(one => one.textContent)"
    return lambda: bool(page.evaluate(script))
