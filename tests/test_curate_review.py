"""The review page, in a real browser: what a person sees and presses ends in the manifest."""

from __future__ import annotations

import contextlib
import importlib
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apisr.core.errors import InputError
from apisr.curate.manifest import Row, read_manifest, write_manifest
from apisr.curate.review import MAX_CONNECTIONS, Review
from apisr.image import write_picture

COUNT = 10_000


def make_dataset(folder: Path, count: int) -> list[Row]:
    """A dataset with `count` rows over 40 picture files; every tenth is flagged."""
    rng = np.random.default_rng(0)
    for number in range(40):
        colours = rng.integers(0, 256, (2, 3, 3), dtype=np.uint8)
        picture = np.kron(colours, np.ones((45, 53, 1), np.uint8)).astype(np.uint8)
        write_picture(folder / "images" / "v" / f"{number}.png", picture)
    rows = [
        Row(
            id=f"p-{number:05d}",
            source="a film/名前.mkv",
            source_sha256="0" * 64,
            time_s=number / 4,
            score=((number * 7919) % count) / count,
            hash=f"{(number * 2654435761) % 2**64:016x}",
            width=159,
            height=90,
            flags=("subtitle",) if number % 10 == 0 else (),
            decision="review" if number % 10 == 0 else "accept",
            file=f"images/v/{number % 40}.png",
            file_sha256="0" * 64,
        )
        for number in range(count)
    ]
    write_manifest(folder, rows)
    return rows


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Review]:
    with Review(folder) as review:
        thread = threading.Thread(target=review.serve)
        thread.start()
        try:
            yield review
        finally:
            review.stop()
            thread.join()


def request(url: str, *, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data=data, headers=headers or {}), timeout=60
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_decisions_are_on_the_disk_before_the_answer(tmp_path: Path) -> None:
    make_dataset(tmp_path, 50)
    with serving(tmp_path) as review:
        base, token = review.url.split("/?token=")

        def decide(body: Any) -> int:
            return request(f"{base}/decide", body=body, headers={"X-Token": token})[0]

        assert decide({"ids": ["p-00007"], "decision": "reject"}) == 200
        rows = {row.id: row for row in read_manifest(tmp_path)[0]}
        assert (rows["p-00007"].decision, rows["p-00007"].decided_by) == ("reject", "person")
        assert (rows["p-00008"].decision, rows["p-00008"].decided_by) == ("accept", "machine")
        assert decide({"ids": ["no"], "decision": "reject"}) == 400
        assert decide({"ids": ["p-00007"], "decision": "?"}) == 400
        assert decide([1]) == 400
        assert request(f"{base}/image?id=p-00007&token={token}")[1].startswith(b"\x89PNG")


def test_strangers_are_refused(tmp_path: Path) -> None:
    rows = make_dataset(tmp_path / "set", 5)
    tmp_path /= "set"
    (tmp_path.parent / "secret.png").write_bytes(b"secret")
    (tmp_path / "images" / "link.png").symlink_to(tmp_path.parent / "secret.png")
    write_manifest(tmp_path, [*rows[:4], Row(id="evil", source="", source_sha256="", file="images/link.png")])
    with serving(tmp_path) as review:
        base, token = review.url.split("/?token=")
        assert request(f"{base}/rows")[0] == 403
        assert request(f"{base}/rows?token=wrong")[0] == 403
        assert request(review.url, headers={"Host": "evil.example"})[0] == 403
        assert request(f"{base}/decide", body={"ids": ["p-00001"], "decision": "reject"})[0] == 403
        assert request(f"{base}/image?id=evil&token={token}")[0] == 404
        assert request(f"{base}/image?id=..%2f..%2fetc%2fpasswd&token={token}")[0] == 404
        with pytest.raises(InputError) as busy, Review(tmp_path):
            pass
        assert busy.value.code == "dataset-busy"
    assert all(row.decided_by == "machine" for row in read_manifest(tmp_path)[0])


def keys(page: Any, *names: str) -> None:
    for name in names:
        page.keyboard.press(name)


def test_ten_thousand_pictures_by_keyboard(tmp_path: Path, page: Any) -> None:
    folder = tmp_path / "set"
    make_dataset(folder, COUNT)
    with serving(folder) as review:
        page.goto(review.url)
        page.wait_for_selector("body[data-ready]", state="attached")
        assert page.evaluate("() => document.querySelectorAll('.card').length") < 200
        assert page.evaluate("() => rows.length") == COUNT
        shown = page.evaluate("() => shown.slice(0, 3).map((row) => [row.id, row.flags, row.decision])")
        assert all(flags == ["subtitle"] and decision == "review" for _, flags, decision in shown)
        scores = page.evaluate("() => shown.slice(0, 1000).map((row) => row.score)")
        assert scores == sorted(scores, reverse=True)
        keys(page, "a", "r")  # accept the first, reject the second
        page.wait_for_selector("body[data-saving='0']", state="attached")
        rows = {row.id: row for row in read_manifest(folder)[0]}
        assert [rows[shown[n][0]].decision for n in range(3)] == ["accept", "reject", "review"]
        assert rows[shown[1][0]].decided_by == "person"
        keys(page, "u")
        page.wait_for_selector("body[data-saving='0']", state="attached")
        assert {row.id: row for row in read_manifest(folder)[0]}[shown[1][0]].decision == "review"
        keys(page, "z")
        page.wait_for_function("() => document.querySelector('#zoom img')?.naturalWidth === 159")
        keys(page, "Escape", "End")  # Escape, End
        assert page.evaluate("() => here") == COUNT - 1
        assert page.evaluate("() => document.querySelectorAll('.card').length") < 200
        assert page.evaluate("() => !!document.querySelector('.card.here')")
        assert page.evaluate("() => document.querySelector('#zoom').classList.contains('open')") is False
        page.evaluate("() => { document.querySelector('#show').value='flag:subtitle'; arrange(false) }")
        assert page.evaluate("() => shown.length") == COUNT // 10
        assert page.screenshot().startswith(b"\x89PNG")


def test_a_lost_server_is_said_and_taken_back(tmp_path: Path, page: Any) -> None:
    folder = tmp_path / "set"
    make_dataset(folder, 20)
    with serving(folder) as review:
        page.goto(review.url)
        page.wait_for_selector("body[data-ready]", state="attached")
    first = page.evaluate("() => shown[0].decision")
    keys(page, "r")
    page.wait_for_selector("#error.open")
    assert "Not saved" in page.evaluate("() => document.querySelector('#error').textContent")
    assert page.evaluate("() => shown[0].decision") == first
    assert all(row.decided_by == "machine" for row in read_manifest(folder)[0])


def exchange(review: Review, text: str, *, then: float = 0.0) -> bytes:
    """Send raw bytes to the server, and read until it closes the connection or is silent for two seconds."""
    port = int(review.url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=2 + then) as connection:
        connection.sendall(text.replace("PORT", str(port)).encode())
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while part := connection.recv(1 << 16):
                answer += part
        return answer


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Content-Length: -1", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: 0x10", 400),
        ("Content-Length: ٣", 400),
        ("Content-Length: 1e3", 400),
        ("Content-Length: 99999999999999999999", 400),
        ("Content-Length: 5\r\nContent-Length: 50", 400),
        ("Content-Length: 99999999", 413),
        ("Transfer-Encoding: chunked", 411),
        ("Content-Type: application/json", 411),
    ],
)
def test_odd_lengths_are_refused_without_reading(tmp_path: Path, headers: str, status: int) -> None:
    make_dataset(tmp_path, 5)
    with serving(tmp_path) as review:
        token = review.url.split("/?token=")[1]
        head = f"POST /decide HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-Token: {token}\r\n{headers}\r\n\r\n"
        answer = exchange(review, head)
        assert answer.startswith(f"HTTP/1.1 {status}".encode())
        assert b"Connection: close" in answer
        assert request(review.url)[0] == 200  # it goes on serving


def test_the_token_is_asked_before_anything_is_read(tmp_path: Path) -> None:
    make_dataset(tmp_path, 5)
    with serving(tmp_path) as review:
        for length in ("-1", "5", "4000000"):
            head = f"POST /decide HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-Token: no\r\nContent-Length: {length}\r\n\r\n"
            answer = exchange(review, head)  # the body never comes: the answer does not wait for it
            assert answer.startswith(b"HTTP/1.1 403")
            assert answer.count(b"HTTP/1.1") == 1


def test_bodies_that_are_not_decisions(tmp_path: Path) -> None:
    make_dataset(tmp_path, 5)
    with serving(tmp_path) as review:
        base, token = review.url.split("/?token=")
        port = base.rpartition(":")[2]
        for body in ("[" * 100_000, "{", "null", '{"ids": "p-00001", "decision": "reject"}', '{"ids": [[]]}', "\x00"):
            head = f"POST /decide HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Token: {token}\r\nConnection: close\r\n"
            answer = exchange(review, f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}")
            assert answer.startswith(b"HTTP/1.1 400"), body[:20]
    assert all(row.decided_by == "machine" for row in read_manifest(tmp_path)[0])


def test_slow_and_many_connections_do_not_stop_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("apisr.curate.review"), "IDLE_S", 0.5)
    make_dataset(tmp_path, 5)
    with serving(tmp_path) as review:
        port = int(review.url.split(":")[2].split("/")[0])
        with contextlib.ExitStack() as stack:
            for _ in range(MAX_CONNECTIONS + 20):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
            while request_or_none(review.url) != 200:  # those that say nothing more are closed
                pass


def request_or_none(url: str) -> int | None:
    with contextlib.suppress(OSError):
        return request(url)[0]
    return None


def test_the_page_may_run_its_own_script_alone(tmp_path: Path) -> None:
    make_dataset(tmp_path, 5)
    with serving(tmp_path) as review, urllib.request.urlopen(review.url, timeout=20) as answer:
        page = answer.read().decode()
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        nonce = policy["script-src"].removeprefix("'nonce-").removesuffix("'")
        assert policy["default-src"] == "'none'"
        assert f'<script nonce="{nonce}">' in page
        assert answer.headers["X-Frame-Options"] == "DENY"
    with serving(tmp_path) as review, urllib.request.urlopen(review.url, timeout=20) as answer:
        assert nonce not in answer.read().decode()
