"""The page of the app in a real browser: mouse, keyboard, phone width, dark, three languages, a machine that dies."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

pytest.importorskip("starlette", reason="the extra 'app' is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from app_servers import Server, running, started, wait_until
from browsers import opened, serious_findings
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from apisr.app.handlers import NotAdded
from apisr.app.store import Settings
from apisr.app.upscaling import option_words

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(ROOT / "examples", tmp_path_factory.mktemp("folder") / "examples")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("home"), folder) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with opened(browser, server.address) as page:
        yield page


def clear(page: Page, server: Server) -> None:
    for job in server.state()["jobs"]:
        if job["status"] in ("waiting", "running", "paused"):
            server.post(f"/api/jobs/{job['id']}/cancel", {})
    wait_until(lambda: all(job["status"] not in ("running",) for job in server.state()["jobs"]))
    for job in server.state()["jobs"]:
        server.post(f"/api/jobs/{job['id']}/{'remove'}", {})
    for item in server.state()["items"]:
        server.ask("DELETE", f"/api/items/{item['id']}")
    expect(page.locator("#cards > li")).to_have_count(0)


def drawing(path: Path, size: tuple[int, int] = (160, 120)) -> Path:
    Image.effect_mandelbrot(size, (-2, -1, 1, 1), 60).convert("RGB").save(path)
    return path


def test_a_person_upscales_a_picture(page: Page, server: Server, tmp_path: Path) -> None:
    clear(page, server)
    source = drawing(tmp_path / "drawing.png")
    page.set_input_files("#pick-files", source)
    card = page.locator("#cards > li")
    expect(card).to_have_count(1)
    expect(card.locator(".facts")).to_contain_text("160×120")
    expect(page.locator("#compare-after")).to_have_attribute("src", containing("/api/cache/"), timeout=60_000)
    natural = page.evaluate(
        "() => { const image = document.getElementById('compare-after');"
        " return image.decode().then(() => image.naturalWidth); }"
    )
    assert natural == 320
    page.locator("#slider").fill("25")
    assert "25%" in page.locator("#compare-after").evaluate("element => element.style.clipPath")
    expect(page.locator("#plan")).to_contain_text("320", timeout=60_000)
    expect(card.locator(".estimate")).to_contain_text(re.compile("320×240 · About .* about .*B"), timeout=60_000)
    expect(page.locator("#start-total")).to_contain_text("About")
    page.locator("#start").click()
    job = page.locator("#jobs > li")
    expect(job.locator(".status")).to_contain_text("Done", timeout=90_000)
    with page.expect_download() as download:
        job.locator("[data-action=download]").click()
    fetched = download.value.path()
    again = tmp_path / "again.png"
    subprocess.run(
        [sys.executable, "-m", "apisr", "upscale", str(source), "-o", str(again), "-q"], check=True, timeout=120
    )
    assert Path(fetched).read_bytes() == again.read_bytes()
    job.locator("[data-action=details]").click()
    expect(page.locator("#details-command")).to_contain_text("apisr upscale")
    page.keyboard.press("Escape")


def test_a_person_upscales_a_clip_by_keyboard_alone(page: Page, server: Server) -> None:
    clear(page, server)
    page.locator("#open-browse").focus()
    page.keyboard.press("Enter")
    box = page.locator("#browse-list label", has_text="clip.mkv").locator("input")
    box.focus()
    page.keyboard.press("Space")
    page.locator("#browse-add").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#cards > li")).to_have_count(1)
    expect(page.locator("#cards .facts")).to_contain_text("640×360", timeout=60_000)
    page.locator("#cards .picture").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#look-time")).to_be_visible()
    expect(page.locator("#compare-after")).to_have_attribute("src", containing("/api/cache/"), timeout=90_000)
    expect(page.locator("#cards .kept")).to_contain_text("audio (aac, jpn): copy", timeout=120_000)
    page.locator("#overview").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#start").focus()
    page.keyboard.press("Enter")
    job = page.locator("#jobs > li")
    expect(job.locator(".status")).to_contain_text("Running", timeout=60_000)
    job.locator("[data-action=pause]").focus()
    page.keyboard.press("Enter")
    expect(job.locator(".status")).to_contain_text("Paused", timeout=60_000)
    job.locator("[data-action=resume]").press("Enter")
    expect(job.locator(".status")).to_contain_text("Done", timeout=240_000)


def test_a_bad_file_says_so(page: Page, server: Server, tmp_path: Path) -> None:
    clear(page, server)
    bad = tmp_path / "<img src=x onerror=alert(1)>.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n cut")
    page.set_input_files("#pick-files", bad)
    expect(page.locator("#cards .error")).to_be_visible(timeout=60_000)
    assert page.locator("#cards img[src=x]").count() == 0
    text = tmp_path / "text.png"
    text.write_text("this is text")
    page.set_input_files("#pick-files", tmp_path / "text.png")
    expect(page.locator("#cards .error").nth(1)).to_be_visible(timeout=60_000)


def test_what_was_left_out_stays_in_sight(page: Page, server: Server, tmp_path: Path) -> None:
    clear(page, server)
    (tmp_path / "notes.txt").write_text("not a picture")
    page.set_input_files("#pick-files", [drawing(tmp_path / "a.png"), tmp_path / "notes.txt"])
    line = page.locator("#uploads li", has_text="1 file left out (not a picture or a video): notes.txt")
    expect(line).to_be_visible()
    line.get_by_role("button").click()
    expect(line).to_have_count(0)


def test_files_of_a_picked_folder_are_left_out_with_their_reasons(page: Page, server: Server, folder: Path) -> None:
    clear(page, server)
    picked = folder / "picked"
    picked.mkdir()
    drawing(picked / "a.png")
    for number in range(8):
        (picked / f"{number}.txt").write_text("not a picture")
    (picked / "dead.png").symlink_to("nowhere.png")
    (picked / "out.png").symlink_to("/etc/passwd")
    page.locator("#open-browse").click()
    page.locator("#browse-list label", has_text="picked").locator("input").check()
    page.locator("#browse-add").click()
    expect(page.locator("#cards > li")).to_have_count(1)
    lines = [
        "8 files left out (not a picture or a video): 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt and 2 more",
        "1 file left out (a pipe, a device, or a link that leads nowhere): dead.png",
        "1 file left out (a link that leads out of the folder): out.png",
    ]
    rows = page.locator("#uploads li")
    expect(rows.locator(".line")).to_have_text(lines)
    for left in (2, 1, 0):
        rows.first.get_by_role("button").click()
        expect(rows).to_have_count(left)
    clear(page, server)


def test_every_reason_for_leaving_a_file_out_has_a_text(page: Page) -> None:
    reasons = [name for part in get_args(NotAdded) for name in (get_args(part) or (part,))]
    assert {"other-kind", "not-accepted", "outside"} <= set(reasons)
    keys = [f"leftOut-{reason}" for reason in reasons if reason != "earlier-output"]  # the page finds no outputs
    labels = "async (keys) => { const { t } = await import('/static/js/i18n.js'); return keys.map((key) => t(key)); }"
    assert not set(page.evaluate(labels, keys)) & set(keys)


def test_a_bad_file_can_be_removed_after_the_page_was_opened_again(
    page: Page, server: Server, tmp_path: Path, browser: Browser
) -> None:
    clear(page, server)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    page.set_input_files("#pick-files", tmp_path / "bad.png")
    expect(page.locator("#cards .error")).to_be_visible(timeout=60_000)
    with opened(browser, server.address) as again:
        expect(again.locator("#cards > li")).to_have_count(1)
        again.locator("#cards input[type=checkbox]").check()
        expect(again.locator("#start")).to_be_disabled()
        again.locator("#remove-selected").click()
        expect(again.locator("#cards > li")).to_have_count(0)


def test_a_preset_is_saved_by_keyboard_and_escape_saves_nothing(page: Page, server: Server) -> None:
    clear(page, server)
    page.locator("#size").select_option("x4")
    page.locator("#save-preset").press("Enter")
    page.keyboard.type("Four times")
    page.keyboard.press("Enter")
    expect(page.locator("#preset")).to_have_value("Four times")
    page.locator("#save-preset").press("Enter")
    page.keyboard.type("Not this one")
    page.keyboard.press("Escape")
    expect(page.locator("#ask")).to_be_hidden()
    expect(page.locator("#preset option")).to_have_count(2)
    page.locator("#size").select_option("")
    page.locator("#preset").select_option("Four times")
    expect(page.locator("#size")).to_have_value("x4")
    page.locator("#remove-preset").click()
    expect(page.locator("#preset option")).to_have_count(1)


def test_what_the_server_refuses_is_seen(page: Page, server: Server) -> None:
    clear(page, server)
    page.route("**/api/queue/pause", refuse)
    page.locator("#pause-queue").click()
    expect(page.locator("#trouble")).to_contain_text("not now")
    page.locator("#trouble button").click()
    expect(page.locator("#trouble")).to_be_hidden()
    page.unroute("**/api/queue/pause")


def refuse(route: Route) -> None:
    route.fulfill(status=400, json={"error": "not now", "code": "busy"})


def is_said(page: Page, address: str, method: str, act: Callable[[], object]) -> None:
    """A request that is refused, and one without an answer, are both said; `opened` fails where a script stops."""
    failures = {"not now": refuse, "The app does not answer": Route.abort}
    for words, fail in failures.items():
        page.route(address, partial(_answer, method, fail))
        act()
        expect(page.locator("#trouble")).to_contain_text(words)
        page.locator("#trouble button").click()
        page.unroute(address)


def _answer(method: str, fail: Callable[[Route], None], route: Route) -> None:
    if route.request.method == method:
        fail(route)
    else:
        route.continue_()


def test_every_request_that_fails_is_seen(page: Page, server: Server, folder: Path, tmp_path: Path) -> None:
    clear(page, server)
    (folder / "inside").mkdir()
    dialog = page.locator("#browse")

    def add() -> None:
        page.locator("#open-browse").click()
        expect(dialog).to_be_visible()
        page.locator("#browse-list label", has_text="clip.mkv").locator("input").click()
        page.locator("#browse-add").click()

    is_said(page, "**/api/browse*", "GET", page.locator("#open-browse").click)
    expect(dialog).to_be_hidden()
    page.locator("#open-browse").click()
    page.route("**/api/browse*", refuse)
    page.locator("#browse-list .folder").first.click()
    expect(page.locator("#trouble")).to_contain_text("not now")
    expect(dialog).to_be_hidden()  # it would cover what is said
    page.unroute("**/api/browse*")
    page.locator("#trouble button").click()
    is_said(page, "**/api/add", "POST", add)
    expect(page.locator("#cards > li")).to_have_count(0)

    def save() -> None:
        page.locator("#save-preset").press("Enter")
        page.keyboard.type("Kept")
        page.keyboard.press("Enter")

    is_said(page, "**/api/presets/*", "PUT", save)
    expect(page.locator("#preset option")).to_have_count(1)
    save()
    expect(page.locator("#preset")).to_have_value("Kept")
    is_said(page, "**/api/presets/*", "DELETE", page.locator("#remove-preset").click)
    expect(page.locator("#preset option")).to_have_count(2)
    page.locator("#remove-preset").click()
    expect(page.locator("#preset option")).to_have_count(1)

    page.set_input_files("#pick-files", drawing(tmp_path / "refused.png"))
    expect(page.locator("#start")).to_be_enabled(timeout=60_000)
    is_said(page, "**/api/jobs", "POST", page.locator("#start").click)
    expect(page.locator("#start")).to_be_enabled()
    page.locator("#pause-queue").click()
    expect(page.locator("#pause-queue")).to_have_text("Resume the queue")
    page.locator("#start").click()
    details = page.locator("#jobs [data-action=details]")
    is_said(page, "**/api/jobs/*", "GET", details.click)
    expect(page.locator("#details")).to_be_hidden()
    details.click()
    expect(page.locator("#details-command")).to_contain_text("apisr upscale")
    page.keyboard.press("Escape")
    page.locator("#pause-queue").click()
    expect(page.locator("#pause-queue")).to_have_text("Pause the queue")
    clear(page, server)


def cut_off(route: Route) -> None:
    route.abort()


def spoil(route: Route) -> None:
    route.fulfill(status=200, content_type="image/png", body="no picture")


@pytest.mark.parametrize(
    ("fail", "words"),
    [(refuse, "not now"), (cut_off, "The app does not answer"), (spoil, "cannot show this picture")],
    ids=["refused", "no answer", "spoiled"],
)
def test_a_picture_that_does_not_come_says_why(
    page: Page, server: Server, tmp_path: Path, fail: Callable[[Route], None], words: str
) -> None:
    clear(page, server)
    trouble = page.locator("#trouble")

    def is_said(address: str, act: Callable[[], object]) -> None:
        page.route(address, fail)
        expect(trouble).to_be_hidden()
        act()
        expect(trouble).to_be_visible(timeout=60_000)
        expect(trouble).to_contain_text(words)
        page.wait_for_load_state("networkidle")  # two pictures may fail at once
        page.unroute(address)
        page.evaluate("document.getElementById('trouble').hidden = true")

    is_said("**/items/*/frame*", lambda: page.set_input_files("#pick-files", drawing(tmp_path / "unseen.png")))
    expect(page.locator("#compare-after")).to_have_attribute("src", containing("/api/cache/"), timeout=60_000)
    is_said("**/api/cache/*", lambda: page.locator("#zoom").select_option("8"))
    page.locator("#start").click()
    details = page.locator("#jobs [data-action=details]")
    expect(page.locator("#jobs .state-done")).to_have_count(1, timeout=60_000)
    page.route("**/jobs/*/frame*", fail)
    details.click()
    expect(page.locator("#details-trouble")).to_contain_text(words)
    page.unroute("**/jobs/*/frame*")
    page.locator("#details-close").click()
    details.click()
    expect(page.locator("#result-after")).to_have_js_property("naturalWidth", 320)
    expect(page.locator("#details-trouble")).to_be_hidden()
    page.locator("#details-close").click()
    clear(page, server)


def test_a_language_that_does_not_come_changes_nothing(page: Page) -> None:
    page.route("**/i18n/ja.json", lambda route: route.abort())
    page.locator("#language").select_option("ja")
    expect(page.locator("#trouble")).to_contain_text("The app does not answer")
    expect(page.locator("#language")).to_have_value("en")
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_page_whose_first_request_fails_loads_later(browser: Browser, server: Server) -> None:
    with opened(browser, server.address) as page:
        page.route(re.compile("/api/(state|events)"), lambda route: route.abort())
        page.reload()
        expect(page.locator("#trouble")).to_contain_text("The app does not answer")
        expect(page.locator("#offline")).to_be_visible()
        expect(page.locator("#open-browse")).to_be_hidden()
        page.unroute(re.compile("/api/(state|events)"))
        expect(page.locator("#offline")).to_be_hidden()
        expect(page.locator("#open-browse")).to_be_visible()


def test_a_command_that_may_not_be_copied_is_selected(page: Page, server: Server, tmp_path: Path) -> None:
    clear(page, server)
    page.set_input_files("#pick-files", drawing(tmp_path / "copied.png"))
    expect(page.locator("#start")).to_be_enabled(timeout=60_000)
    page.locator("#start").click()
    page.locator("#jobs [data-action=details]").click()
    page.evaluate("delete Navigator.prototype.clipboard")  # as with plain http from another machine
    page.locator("#copy-command").click()
    assert page.evaluate("getSelection().toString()").startswith("apisr upscale")
    page.keyboard.press("Escape")
    clear(page, server)


def test_two_tabs_agree(browser: Browser, page: Page, server: Server, tmp_path: Path) -> None:
    clear(page, server)
    with opened(browser, server.address) as other:
        page.set_input_files("#pick-files", drawing(tmp_path / "tabs.png"))
        expect(other.locator("#cards > li")).to_have_count(1)
        page.locator("#pause-queue").click()
        expect(other.locator("#pause-queue")).to_have_text("Resume the queue")
        other.locator("#pause-queue").click()
        expect(page.locator("#pause-queue")).to_have_text("Pause the queue")


@pytest.mark.parametrize(("code", "word"), [("ja", "ファイルを選択"), ("zh-Hans", "选择文件"), ("en", "Choose files")])
def test_three_languages(page: Page, code: str, word: str) -> None:
    page.locator("#language").select_option(code)
    expect(page.locator("label.button.primary")).to_have_text(word)
    assert page.evaluate("document.documentElement.lang") == code
    texts = page.evaluate("[...document.querySelectorAll('[data-text]')].map(one => one.textContent)")
    assert all(texts)
    page.locator("#language").select_option("en")


def test_advice_names_the_controls_of_the_page(page: Page, server: Server) -> None:
    clear(page, server)
    page.locator("#open-browse").click()
    page.locator("#browse-list label", has_text="clip.mkv").locator("input").check()
    page.locator("#browse-add").click()
    page.locator("#cards .picture").click()
    page.locator("#settings-form details summary").click()
    page.locator("[name=codec]").select_option("libx265")
    page.locator("[name=crf]").fill("60")
    page.locator("[name=crf]").blur()
    expect(page.locator("#cards .estimate")).to_contain_text("“Video quality” 60", timeout=120_000)
    expect(page.locator("#plan")).to_contain_text("“Video quality” 60")
    assert "--" not in page.locator("#cards").inner_text() + page.locator("#plan").inner_text()
    clear(page, server)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the fast model a is taken; --model b is slower.", "the fast model a is taken; “Model” b is slower."),
        ("Give --scale or --height.", "Give “Size” or “Size”."),
        (
            "cannot read 'x --crf.png'. Leave --tta out.",
            "cannot read 'x --crf.png'. Leave “Average of eight flips” out.",
        ),
        ("Use --restart, or --restart.", "Use --restart, or --restart. (--restart: on the command line.)"),
        ("Use -o or --format.", "Use -o or “Picture format”. (-o: on the command line.)"),
        ("10 - 20, a-b, well--known: as it is.", "10 - 20, a-b, well--known: as it is."),
    ],
)
def test_options_of_the_command_line_become_words_of_the_page(page: Page, message: str, shown: str) -> None:
    assert page.evaluate("async (text) => (await import('/static/js/i18n.js')).forPage(text)", message) == shown


def test_every_option_of_the_page_has_its_control(page: Page) -> None:
    given = dict.fromkeys(Settings.model_fields, 1)
    words = {*option_words(given, "picture"), *option_words(given, "video")}
    controls = page.evaluate("async () => (await import('/static/js/i18n.js')).CONTROLS")
    assert {word for word in words if word.startswith("--")} == set(controls)
    labels = "async (keys) => { const { t } = await import('/static/js/i18n.js'); return keys.map((key) => t(key)); }"
    texts = page.evaluate(labels, list(controls.values()))
    assert not set(texts) & set(controls.values())


def test_languages_have_the_same_texts() -> None:
    import json

    folder = ROOT / "src" / "apisr" / "app" / "static" / "i18n"
    names = {path.stem: set(json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")}
    english = {name for name in names["en"] if "#" not in name}
    assert names["ja"] == names["zh-Hans"] == english


@pytest.mark.parametrize("width", [360, 768, 3840])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_width_and_theme(browser: Browser, server: Server, width: int, scheme: str, tmp_path: Path) -> None:
    with opened(browser, server.address, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        clear(page, server)
        page.set_input_files("#pick-files", drawing(tmp_path / "wide.png"))
        page.locator("#cards .picture").first.click()
        expect(page.locator("#look-body")).to_be_visible(timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in ground[4:-1].split(",")) < 200) == (scheme == "dark")
        assert serious_findings(page) == []


def test_reduced_motion_is_respected(browser: Browser, server: Server) -> None:
    with opened(browser, server.address, reduced_motion="reduce") as page:
        assert page.locator("#start").evaluate("element => getComputedStyle(element).transitionDuration") == "0s"


def test_the_page_goes_on_after_the_server_was_killed(browser: Browser, tmp_path: Path) -> None:
    home = tmp_path / "home"
    picture = drawing(tmp_path / "large.png", (1600, 1200))
    with ExitStack() as stack:
        with running(home) as server:
            page = stack.enter_context(opened(browser, server.address))
            page.set_input_files("#pick-files", picture)
            expect(page.locator("#cards .facts")).to_contain_text("1600×1200", timeout=60_000)
            page.locator("#start").click()
            expect(page.locator("#jobs .status")).to_contain_text("Running", timeout=60_000)
            server.process.kill()
            server.process.wait()
            expect(page.locator("#offline")).to_be_visible(timeout=30_000)
        with running(home, port=server.port) as again:
            expect(page.locator("#offline")).to_be_hidden(timeout=60_000)
            expect(page.locator("#jobs .status")).to_contain_text("Done", timeout=240_000)
            assert again.state()["jobs"][0]["status"] == "done"


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("prlimit") is None, reason="prlimit is of Linux")
def test_a_disk_that_takes_no_more(browser: Browser, tmp_path: Path) -> None:
    """The system refuses files over 60 kB (as a full disk does): the upload and the job say so, the app goes on."""
    fits, large = drawing(tmp_path / "fits.png", (150, 120)), noise(tmp_path / "large.png")
    limit = ["prlimit", f"--fsize={60_000}"]
    command = ["app", "--no-browser", "--port", "0", "--home", str(tmp_path / "home")]
    with (
        started(command, tmp_path / "home", limit=limit) as server,
        opened(browser, server.address) as page,
    ):
        page.set_input_files("#pick-files", large)
        expect(page.locator("#uploads .error")).to_contain_text("File too large")
        page.set_input_files("#pick-files", fits)
        expect(page.locator("#cards > li")).to_have_count(1)
        expect(page.locator("#start")).to_be_enabled()
        page.locator("#size").select_option("x4")
        page.locator("#start").click()
        job = page.locator("#jobs > li")
        expect(job.locator(".status")).to_contain_text("Failed", timeout=120_000)
        expect(job.locator(".error")).not_to_be_empty()
        assert [path.name for path in (tmp_path / "home" / "results").iterdir() if path.suffix == ".png"] == []
        assert [path.name for path in (tmp_path / "home" / "uploads").rglob("*") if path.is_file()] == ["fits.png"]
        assert server.ask("GET", "/api/state").status == 200


def noise(path: Path) -> Path:
    Image.effect_noise((400, 400), 90).convert("RGB").save(path)
    return path


def containing(text: str) -> object:
    return re.compile(re.escape(text))
