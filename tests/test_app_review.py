"""The review of a dataset on the app's page: who may decide, what reports can do, mouse, touch and keyboard."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra 'app' is not installed")
pytest.importorskip("pyarrow", reason="the extra 'curate' is not installed")

from app_servers import Server, running, started
from test_curate_review import make_dataset

from apisr.curate.manifest import Row, read_manifest, write_manifest

REPORT = """<!doctype html><title>x: apisr evaluate</title><body><p id="text">drawn</p><script>
let said = [];
try { said.push(document.cookie || "no cookie"); } catch { said.push("cookie refused"); }
try { said.push(parent.document.title); } catch { said.push("parent refused"); }
document.getElementById("text").textContent = said.join(", ");
fetch("/api/queue/pause", {method: "POST", body: "{}"}).catch(() => 0)
  .then(() => fetch("/api/state").catch(() => { document.getElementById("text").textContent += ", server refused"; }));
</script></body>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two datasets (one leads outside by a link), a report and a page of somebody."""
    folder = tmp_path_factory.mktemp("folder")
    make_dataset(folder / "sets" / "small", 30)
    rows = make_dataset(folder / "evil", 4)
    secret = folder.parent / "secret.png"
    secret.write_bytes(b"secret")
    (folder / "evil" / "images" / "link.png").symlink_to(secret)
    link = Row(id="link", source="", source_sha256="", file="images/link.png")
    write_manifest(folder / "evil", [*rows, link])
    (folder / "scores").mkdir()
    (folder / "scores" / "report.html").write_text(REPORT)
    (folder / "scores" / "other.html").write_text("<p>a page of somebody</p>")
    (folder / "outside.html").symlink_to("/etc/passwd")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("home"), folder) as server:
        yield server


def entries(server: Server, kind: str) -> dict[str, str]:
    return {entry["place"]: entry["id"] for entry in server.ask("GET", "/api/library").json[kind]}  # type: ignore[union-attr]


def test_datasets_and_reports_of_the_folder_are_listed(server: Server, folder: Path) -> None:
    assert set(entries(server, "datasets")) == {"evil", "sets/small"}
    assert set(entries(server, "reports")) == {"scores/report.html"}
    assert server.ask("GET", "/api/library").json["folder"] == folder.name


def test_decisions_are_on_the_disk_before_the_answer(server: Server, folder: Path) -> None:
    folder /= "decided"
    make_dataset(folder, 20)
    path = f"/api/datasets/{entries(server, 'datasets')['decided']}/decisions"
    assert server.post(path, {"ids": ["p-00007"], "decision": "reject"}).status == 200
    rows = {row.id: row for row in read_manifest(folder)[0]}
    assert (rows["p-00007"].decision, rows["p-00007"].decided_by) == ("reject", "person")
    assert (rows["p-00008"].decision, rows["p-00008"].decided_by) == ("accept", "machine")
    for body in ({"ids": ["no"], "decision": "reject"}, {"ids": ["p-00007"], "decision": "?"}, {"ids": "p-00007"}, {}):
        assert server.post(path, body).status == 400
    for text in (b"[" * 100_000, b"{", b"null", b'{"ids": [[]]}', b"\x00"):
        assert server.ask("POST", path, text).status == 400
    assert {row.id for row in read_manifest(folder)[0] if row.decided_by == "person"} == {"p-00007"}


def test_strangers_neither_see_nor_decide(server: Server) -> None:
    dataset = entries(server, "datasets")["sets/small"]
    body = json.dumps({"ids": ["p-00001"], "decision": "reject"}).encode()
    path = f"/api/datasets/{dataset}/decisions"
    for method, place in (("GET", "/review"), ("GET", f"/api/datasets/{dataset}"), ("POST", path)):
        assert server.ask(method, place, body if method == "POST" else None, cookie=False).status == 401
    assert server.ask("POST", path, body, {"Origin": "http://evil.example"}).status == 403
    assert server.ask("POST", path, body, {"Host": "evil.example"}).status == 421
    listed = server.ask("GET", f"/api/datasets/{dataset}").json["rows"]
    assert not any(row["person"] for row in listed)  # type: ignore[union-attr]


@pytest.mark.parametrize("length", ["-1", "+5", "0x10", "1e3"])
def test_odd_lengths_are_refused_without_reading(server: Server, length: str) -> None:
    dataset = entries(server, "datasets")["sets/small"]
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = f"POST /api/datasets/{dataset}/decisions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        connection.sendall(f"{head}Cookie: {server.cookie}\r\nContent-Length: {length}\r\n\r\n".encode())
        assert b" 400 " in connection.recv(200)


def test_nothing_but_pictures_of_the_dataset_is_sent(server: Server) -> None:
    small, evil = (entries(server, "datasets")[name] for name in ("sets/small", "evil"))
    sent = server.ask("GET", f"/api/datasets/{small}/pictures/p-00007")
    assert (sent.headers["content-type"], sent.body[:4]) == ("image/png", b"\x89PNG")
    for dataset, name in (
        (evil, "link"),
        (small, "..%2f..%2fmanifest.parquet"),
        (small, "manifest.parquet"),
        (small, "%00"),
    ):
        assert server.ask("GET", f"/api/datasets/{dataset}/pictures/{name}").status == 404
    for name in ("0" * 24, "..", "%2e%2e", entries(server, "reports")["scores/report.html"]):
        assert server.ask("GET", f"/api/datasets/{name}").status == 404


def test_reports_are_in_a_sandbox(server: Server) -> None:
    report = entries(server, "reports")["scores/report.html"]
    sent = server.ask("GET", f"/reports/{report}")
    policy = dict(part.strip().partition(" ")[::2] for part in sent.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert "allow-same-origin" not in policy["sandbox"]
    assert policy["frame-ancestors"] == "'self'"
    for name in (entries(server, "datasets")["evil"], "0" * 24, "..%2f..%2fstate.json"):
        assert server.ask("GET", f"/reports/{name}").status == 404


def test_apisr_review_serves_that_dataset_alone(tmp_path: Path) -> None:
    make_dataset(tmp_path / "set", 5)
    with started(["review", str(tmp_path / "set"), "--no-browser"], tmp_path) as server:
        assert server.ask("GET", "/").headers["location"] == "/review"
        assert server.ask("GET", "/review").status == 200
        assert server.ask("GET", "/api/library").json["alone"] is True
        for path in ("/api/state", "/api/browse?id="):
            assert server.ask("GET", path).status == 404
        assert server.upload("a.png", b"\x89PNG").status == 404
        opened = server.ask("GET", f"/review?dataset=abc&token={server.token}", cookie=False)
        assert (opened.status, opened.headers["location"]) == (303, "/review?dataset=abc")
        server.stop()


def test_two_servers_do_not_take_each_others_cookie(server: Server, tmp_path: Path) -> None:
    with running(tmp_path / "home") as other:
        both = {"Cookie": f"{server.cookie}; {other.cookie}"}
        for one in (server, other):
            assert one.ask("GET", "/api/state", headers=both).status == 200
        assert other.ask("GET", "/api/state", headers={"Cookie": server.cookie}).status == 401
