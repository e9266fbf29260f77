"""The server of the app: who may ask, what a name can do, what outlives it. Every request goes over a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from app_servers import Server, launched, png, running, wait_until, workers_of
from PIL import Image

pytest.importorskip("starlette", reason="the extra 'app' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'app' is not installed")

from apisr.app.store import Job, Settings, Store, safe_name
from apisr.core.errors import InputError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("folder")
    (folder / "sub").mkdir()
    Image.new("RGB", (40, 30), "red").save(folder / "sub" / "a <b>&'.png")
    (folder / "note.txt").write_text("no picture")
    (folder / "out").symlink_to("/etc")
    with running(tmp_path_factory.mktemp("home"), folder) as server:
        yield server


def test_the_page_opens_by_its_address_only(server: Server) -> None:
    assert server.ask("GET", "/", cookie=False).status == 401
    assert server.ask("GET", "/?token=wrong", cookie=False).status == 401
    opened = server.ask("GET", f"/?token={server.token}", cookie=False)
    assert (opened.status, opened.headers["location"]) == (303, "/")
    assert "httponly" in opened.headers["set-cookie"].lower()
    assert "samesite=strict" in opened.headers["set-cookie"].lower()
    page = server.ask("GET", "/")
    assert page.status == 200
    assert b"/static/js/main.js" in page.body


def test_every_answer_carries_the_policy(server: Server) -> None:
    for path in ("/", "/api/state", "/static/style.css", "/nothing"):
        headers = server.ask("GET", path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "", "127.0.0.1:1"])
def test_other_host_names_are_refused(server: Server, host: str) -> None:
    assert server.ask("GET", "/api/state", headers={"Host": host}).status in (400, 421)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
    ],
)
def test_requests_of_other_pages_are_refused(server: Server, headers: dict[str, str]) -> None:
    assert server.ask("POST", "/api/queue/pause", b"{}", headers).status == 403
    assert server.state()["paused"] is False


def test_the_token_is_asked_before_anything_is_read(server: Server) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    with connection:
        head = f"POST /api/upload?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        head += "Content-Length: 99999999999\r\n\r\n"
        connection.sendall(head.encode())
        assert b"401" in connection.recv(200)
    assert not list((server.home / "uploads").glob("*")) or all(
        path.is_dir() for path in (server.home / "uploads").iterdir()
    )


@pytest.mark.parametrize("length", ["-1", "1e3", "abc", "+5", "0x10"])
def test_odd_lengths_are_refused(server: Server, length: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = (
            f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: {server.cookie}\r\n"
            f"Content-Length: {length}\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert b" 400 " in connection.recv(200)


def test_bodies_have_a_limit(server: Server) -> None:
    assert server.post("/api/jobs", {"items": ["x" * (2 << 20)]}).status == 400
    assert server.ask("POST", "/api/jobs", b"not json").json["code"] == "bad-request"
    assert server.ask("POST", "/api/jobs", b"[" * 100_000).json["code"] == "bad-request"
    assert (
        server.post("/api/jobs", {"items": [], "settings": {"model": "x", "path": "/etc"}}).json["code"]
        == "bad-setting"
    )


def test_nothing_outside_the_folder_is_reached(server: Server) -> None:
    root = server.ask("GET", "/api/browse?id=").json
    names = {entry["name"]: entry for entry in root["entries"]}  # type: ignore[index, union-attr]
    assert set(names) == {"sub"}
    inside = server.ask("GET", f"/api/browse?id={names['sub']['id']}").json
    assert [entry["name"] for entry in inside["entries"]] == ["a <b>&'.png"]  # type: ignore[index, union-attr]
    for path in ("../..", "/etc/passwd", "0" * 24):
        assert server.ask("GET", f"/api/browse?id={quote(path)}").status == 404
        assert server.post("/api/add", {"ids": [path]}).status == 404
    for name in ("..%2F..%2Fstate.json", ".token", "../.token", "%2e%2e%2f.token"):
        assert server.ask("GET", f"/api/cache/{name}").status == 404
    for path in ("/static/..%2f..%2fserver.py", "/static/%2e%2e/server.py", "/static//etc/passwd"):
        assert server.ask("GET", path).status == 404


@pytest.mark.parametrize(
    "name", ["../../evil.png", "C:\\evil.png", "/etc/evil.png", "a\0b.png", ".png", "x" * 400 + ".png"]
)
def test_names_never_become_paths(server: Server, name: str) -> None:
    answer = server.upload(name, png())
    assert answer.status == 200
    shown = str(answer.json["name"])
    assert "/" not in shown
    assert "\\" not in shown
    stored = [path for path in (server.home / "uploads").rglob("*") if path.name == shown]
    assert stored
    assert all(path.resolve().is_relative_to(server.home.resolve()) for path in stored)
    assert server.ask("DELETE", f"/api/items/{answer.json['id']}").status == 200
    assert not [path for path in stored if path.exists()]


def test_what_is_not_a_picture_is_refused_and_not_kept(server: Server) -> None:
    before = set((server.home / "uploads").rglob("*"))
    answer = server.upload("a.txt", b"hello")
    assert (answer.status, answer.json["code"]) == (400, "not-media")
    assert set((server.home / "uploads").rglob("*")) == before


def test_an_upload_that_breaks_off_leaves_nothing(server: Server) -> None:
    before = set((server.home / "uploads").rglob("*"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = (
            f"POST /api/upload?name=cut.png HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            f"Cookie: {server.cookie}\r\nContent-Length: 1000\r\n\r\n"
        )
        connection.sendall(head.encode() + png()[:50])
        wait_until(lambda: set((server.home / "uploads").rglob("*.part")) > set(), seconds=20)
    wait_until(lambda: set((server.home / "uploads").rglob("*")) == before, seconds=20)


def test_a_damaged_picture_says_so_and_the_server_goes_on(server: Server) -> None:
    answer = server.upload("cut.png", png()[:40])
    assert answer.status == 200
    name = answer.json["id"]
    wait_until(lambda: any(item["id"] == name and item["error"] for item in server.state()["items"]))
    shown = next(item for item in server.state()["items"] if item["id"] == name)
    assert str(server.home) not in str(shown["error"])
    assert server.ask("DELETE", f"/api/items/{name}").status == 200


def test_paths_are_not_shown(server: Server) -> None:
    item = server.upload("shown.png", png()).json
    assert "path" not in item
    assert str(server.home) not in server.ask("GET", "/api/state").body.decode()


def test_a_picture_is_the_same_as_on_the_command_line(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "same.png"
    Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 60).convert("RGB").save(source)
    item = server.upload("same.png", source.read_bytes()).json
    answer = server.post("/api/jobs", {"items": [item["id"]], "settings": {"scale": 2}})
    assert answer.status == 200, answer.body
    job = answer.json["jobs"][0]  # type: ignore[index]
    wait_until(lambda: server.job(job)["status"] in ("done", "failed"))
    assert server.job(job)["status"] == "done"
    output = server.ask("GET", f"/api/jobs/{job}/output")
    again = tmp_path / "again.png"
    subprocess.run(
        [sys.executable, "-m", "apisr", "upscale", str(source), "-o", str(again), "--scale", "2", "-q"],
        check=True,
        timeout=120,
    )
    assert output.body == again.read_bytes()
    part = server.ask("GET", f"/api/jobs/{job}/output", headers={"Range": "bytes=0-7"})
    assert (part.status, part.body) == (206, b"\x89PNG\r\n\x1a\n")


def test_a_crashed_worker_fails_its_job_only(server: Server) -> None:
    item = server.upload("crash.png", png(1200, 900)).json
    job = server.post("/api/jobs", {"items": [item["id"]], "settings": {"scale": 4, "tta": True}}).json["jobs"][0]  # type: ignore[index]

    def state() -> dict[str, object]:
        return server.job(job)

    wait_until(lambda: state()["status"] == "running" and bool(workers_of(server.process.pid)))
    for pid in workers_of(server.process.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: state()["status"] == "failed")
    small = server.upload("after.png", png()).json
    after = server.post("/api/jobs", {"items": [small["id"]], "settings": {}}).json["jobs"][0]  # type: ignore[index]
    wait_until(lambda: server.job(after)["status"] == "done")


def test_work_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home) as server:
        item = server.upload("big.png", png(1600, 1200)).json
        job = server.post("/api/jobs", {"items": [item["id"]], "settings": {"scale": 2}}).json["jobs"][0]  # type: ignore[index]
        wait_until(lambda: server.state()["jobs"][0]["status"] == "running")
        children = workers_of(server.process.pid)
        server.process.kill()
        server.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), seconds=30)
    with running(home) as server:
        assert [one["id"] for one in server.state()["jobs"]] == [job]
        wait_until(lambda: server.state()["jobs"][0]["status"] == "done", seconds=240)
        assert server.ask("GET", f"/api/jobs/{job}/output").body[:4] == b"\x89PNG"


def test_it_ends_quietly_while_pages_wait(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with errors.open("w") as stderr, running(tmp_path / "home", stderr=stderr) as server:
        item = server.upload("slow.png", png(400, 300)).json
        wait_until(lambda: bool(server.state()["items"][0]["info"]))
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as events:
            for path, body in (("/api/events", ""), (f"/api/items/{item['id']}/plan", "{}")):
                head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                head += f"Cookie: {server.cookie}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                asking = events if not body else socket.create_connection(("127.0.0.1", server.port), timeout=60)
                asking.sendall(head.encode())
            assert events.recv(100).startswith(b"HTTP/1.1 200")
            server.stop()
            asking.close()
        assert server.process.returncode is not None
    assert "Traceback" not in errors.read_text()


def test_a_request_that_does_not_get_on_is_ended(tmp_path: Path) -> None:
    program = (
        "import sys; from apisr.app import connections, security; from apisr.cli import main\n"
        "connections.HEAD_SECONDS = security.BODY_SECONDS = 0.2\n"
        "main(['app', '--no-browser', '--port', '0', '--home', sys.argv[1]])"
    )
    errors = tmp_path / "errors"
    with (
        errors.open("w") as stderr,
        launched([sys.executable, "-c", program, str(tmp_path / "home")], tmp_path / "home", stderr=stderr) as server,
    ):
        host = f"Host: 127.0.0.1:{server.port}\r\nCookie: {server.cookie}\r\n"
        for start in ("", "GET / HT", f"GET / HTTP/1.1\r\n{host}"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
                connection.sendall(start.encode())
                assert connection.recv(100) == b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\n{host}\r\n".encode())
            answer = b""
            while not answer.endswith(b"</html>\n"):
                answer += connection.recv(1 << 16)
            connection.sendall(b"GET /again")
            assert connection.recv(100) == b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(f"POST /api/jobs HTTP/1.1\r\n{host}Content-Length: 9\r\n\r\n{{}}".encode())
            assert b" 400 " in connection.recv(100)
        assert server.ask("GET", "/").status == 200


def test_what_is_no_request_is_not_news_for_the_terminal(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with errors.open("w") as stderr, running(tmp_path / "home", stderr=stderr) as server:
        host = f"Host: 127.0.0.1:{server.port}\r\nCookie: {server.cookie}\r\n"
        for request in (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01",
            f"POST /api/jobs HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nZZZ\r\n",
            f"GET / HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
                connection.sendall(request.encode("latin-1"))
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(100)
        assert server.ask("GET", "/").status == 200
        server.stop()
    assert errors.read_text().strip() == ""


def test_a_second_app_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path, folder=None)
    with pytest.raises(InputError) as caught:
        Store(tmp_path, folder=None)
    assert caught.value.code == "app-running"
    store.close()
    Store(tmp_path, folder=None).close()


def test_state_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    store = Store(tmp_path, folder=None)
    store.state.presets["mine"] = Settings(scale=4)
    store.close()
    store = Store(tmp_path, folder=None)
    assert store.state.presets["mine"].scale == 4
    store.close()
    (tmp_path / "state.json").write_text("{broken")
    store = Store(tmp_path, folder=None)
    assert store.state.presets == {}
    store.close()
    assert len(list(tmp_path.glob("state-unreadable-*.json"))) == 1


def test_outputs_do_not_meet(tmp_path: Path) -> None:
    store = Store(tmp_path, folder=None)
    target = tmp_path / "results" / "a_x2.png"
    store.state.jobs.append(
        Job(id="1", item="1", name="a.png", kind="picture", source=tmp_path, target=target, settings=Settings())
    )
    assert store.free_target(target).name == "a_x2-2.png"
    store.close()


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("a.png", "a.png"),
        ("", "file"),
        ("...", "file"),
        ("a\nb\x1b[31m.png", "ab[31m.png"),
        ("図.mkv", "図.mkv"),
        ("a/b/c.png", "c.png"),
    ],
)
def test_names_are_made_safe(given: str, safe: str) -> None:
    assert safe_name(given) == safe


def test_time_and_size_are_measured(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "measured.png"
    Image.effect_mandelbrot((320, 240), (-2, -1, 1, 1), 60).convert("RGB").save(source)
    item = server.upload("measured.png", source.read_bytes()).json
    wait_until(lambda: any(one["id"] == item["id"] and one["info"] for one in server.state()["items"]))
    plan = server.post(f"/api/items/{item['id']}/plan", {"settings": {"scale": 2}}).json
    assert (plan["size"], plan["streams"]) == ("640×480", [])
    assert float(str(plan["seconds"])) > 0
    server.post("/api/queue/pause", {})
    job = server.post("/api/jobs", {"items": [item["id"]], "settings": {"scale": 2}}).json["jobs"][0]  # type: ignore[index]

    def state() -> dict[str, object]:
        return server.job(job)

    wait_until(lambda: state()["expected_s"] == plan["seconds"])
    server.post("/api/queue/resume", {})
    wait_until(lambda: state()["status"] == "done", seconds=240)
    written = len(server.ask("GET", f"/api/jobs/{job}/output").body)
    assert written / 3 < float(str(plan["bytes"])) < 3 * written


def test_impossible_settings_are_said_in_the_plan(server: Server) -> None:
    item = server.upload("impossible.png", png()).json
    answer = server.post(f"/api/items/{item['id']}/plan", {"settings": {"model": "no-such-network"}})
    assert (answer.status, "no-such-network" in str(answer.json["error"])) == (404, True)
    answer = server.post(f"/api/items/{item['id']}/plan", {"settings": {"scale": 99}})
    assert (answer.status, answer.json["code"]) == (400, "bad-setting")


def test_the_source_is_part_of_the_command(server: Server) -> None:
    item = server.upload("command.png", png()).json
    settings = {"model": "apisr-x2", "source": "soft"}
    job = server.post("/api/jobs", {"items": [item["id"]], "settings": settings}).json["jobs"][0]  # type: ignore[index]
    assert "--model apisr-x2 --source soft" in str(server.ask("GET", f"/api/jobs/{job}").json["command"])


@pytest.mark.skipif(sys.platform != "linux", reason="the program is that of Linux")
def test_the_folder_of_a_result_is_opened_on_this_machine_only(tmp_path: Path) -> None:
    program, noted = tmp_path / "bin" / "xdg-open", tmp_path / "noted"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > "{noted}.part"\nmv "{noted}.part" "{noted}"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    with running(tmp_path / "home", PATH=path, DISPLAY=":0") as server:
        item = server.upload("shown.png", png()).json
        job = server.post("/api/jobs", {"items": [item["id"]], "settings": {}}).json["jobs"][0]  # type: ignore[index]
        assert server.post(f"/api/jobs/{job}/folder", {}).status == 404
        wait_until(lambda: server.state()["jobs"][0]["status"] == "done", seconds=240)
        assert server.state()["can_open"] is True
        assert server.post(f"/api/jobs/{job}/folder", {}).status == 200
        wait_until(noted.exists)
        assert Path(noted.read_text()) == (tmp_path / "home" / "results").resolve()
    for arguments, screen in (([], ""), (["--host", "0.0.0.0"], ":0")):
        with running(tmp_path / "home", *arguments, PATH=path, DISPLAY=screen, WAYLAND_DISPLAY="") as server:
            assert server.state()["can_open"] is False
            assert server.post(f"/api/jobs/{job}/folder", {}).json["code"] == "not-local"
