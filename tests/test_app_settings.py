"""Settings of the app's page in a real browser: what outlives a reload, the way back to defaults, wrong numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("starlette", reason="the extra 'app' is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from app_servers import Server, png, running
from browsers import opened
from playwright.sync_api import Browser, Page, expect


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("home")) as server:
        for name in ("a.png", "b.png"):
            assert server.upload(name, png()).status == 200
        yield server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with opened(browser, server.address) as page:
        yield page


def reload(page: Page) -> None:
    page.reload()
    page.wait_for_selector("html[data-ready=yes]", state="attached")


def test_settings_and_selection_outlive_a_reload(page: Page) -> None:
    page.locator("#size").select_option("h720")
    page.locator("#strength").fill("0.3")
    page.locator("#settings-form details summary").click()
    page.locator("[name=quality]").fill("77")
    page.locator("[name=tta]").check()
    page.locator("#models input[value=apisr-x4]").check()
    page.locator("#strength").fill("0.3")
    page.locator("#cards input[type=checkbox]").first.check()
    expect(page.locator("#start")).to_have_text("Upscale 1 file")
    reload(page)
    expect(page.locator("#size")).to_have_value("h720")
    expect(page.locator("#strength")).to_have_value("0.3")
    expect(page.locator("#strength-text")).to_have_text("0.3")
    expect(page.locator("[name=quality]")).to_have_value("77")
    expect(page.locator("[name=tta]")).to_be_checked()
    expect(page.locator("#models input[value=apisr-x4]")).to_be_checked()
    expect(page.locator("#start")).to_have_text("Upscale 1 file")
    expect(page.locator("#start")).to_be_enabled()


@pytest.mark.parametrize(
    "stored",
    [
        "{cut",
        "3",
        "null",
        '{"settings": "x", "preset": {}}',
        '{"settings": {"model": "gone", "scale": 9, "codec": "mpeg2", "crf": 99, "strength": 7}, "preset": "no"}',
    ],
)
def test_kept_settings_that_mean_nothing_now_are_passed_over(page: Page, stored: str) -> None:
    page.evaluate("text => { localStorage.settings = text; localStorage.selected = text; }", stored)
    reload(page)
    expect(page.locator("#models input:checked")).to_have_value("")
    for name in ("#size", "[name=codec]", "[name=crf]", "#preset"):
        expect(page.locator(name)).to_have_value("")
    expect(page.locator("#strength-text")).to_have_text("default")
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.locator("#start")).to_be_disabled()


def test_the_strength_goes_back_to_its_default(page: Page) -> None:
    strength, back = page.locator("#strength"), page.locator("#strength-default")
    expect(page.locator("#strength-text")).to_have_text("default")
    expect(strength).to_have_class("undetermined")
    expect(strength).to_have_attribute("aria-valuetext", "default")
    expect(back).to_be_hidden()
    strength.fill("0.2")
    expect(page.locator("#strength-text")).to_have_text("0.2")
    expect(strength).not_to_have_class("undetermined")
    back.click()
    expect(page.locator("#strength-text")).to_have_text("default")
    expect(strength).to_have_class("undetermined")
    chosen = "async () => (await import('/static/js/settings.js')).current()"
    assert "strength" not in page.evaluate(chosen)
    strength.click()  # in the middle, where the hollow thumb stands
    expect(page.locator("#strength-text")).to_have_text("0.5")
    assert page.evaluate(chosen)["strength"] == 0.5


def test_the_preset_none_is_the_defaults(page: Page, server: Server) -> None:
    assert (
        server.ask("PUT", "/api/presets/Mine", b'{"settings": {"scale": 4, "strength": 0.2, "tta": true}}').status
        == 200
    )
    reload(page)
    page.locator("#preset").select_option("Mine")
    expect(page.locator("#size")).to_have_value("x4")
    reload(page)
    expect(page.locator("#preset")).to_have_value("Mine")
    page.locator("#preset").select_option("")
    expect(page.locator("#size")).to_have_value("")
    expect(page.locator("#strength-text")).to_have_text("default")
    expect(page.locator("[name=tta]")).not_to_be_checked()
    assert page.evaluate("async () => (await import('/static/js/settings.js')).current()") == {}


def test_a_number_out_of_range_is_refused_beside_its_field(page: Page, server: Server) -> None:
    page.locator("#cards input[type=checkbox]").first.check()
    expect(page.locator("#cards .estimate").first).to_contain_text("About", timeout=120_000)
    page.locator("#settings-form details summary").click()
    field, line = page.locator("[name=quality]"), page.locator("#quality-error")
    field.fill("500")
    expect(line).to_have_text("A number from 1 to 100, in steps of 1.")
    expect(field).to_have_attribute("aria-invalid", "true")
    field.blur()
    page.locator("#settings-form details summary").click()
    page.locator("#start").click()
    expect(field).to_be_focused()
    expect(line).to_be_visible()
    assert server.state()["jobs"] == []
    expect(page.locator("#cards .estimate").first).to_contain_text("About")
    assert "Input should be" not in page.locator("body").inner_text()
    field.fill("90")
    expect(line).to_be_hidden()
