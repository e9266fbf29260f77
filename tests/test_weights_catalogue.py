"""Fetching releases from a real HTTP server on this machine: whole, resumed, broken, wrong, empty, by two at once."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from apisr.core.errors import ApisrError
from apisr.weights import releases
from apisr.weights.releases import CATALOGUE, Release, adopt, cached, check, fetch

CONTENT = np.random.default_rng(0).bytes(300_000)


@contextlib.contextmanager
def refused(code: str) -> Iterator[None]:
    """The block ends in an error of this code."""
    with pytest.raises(ApisrError) as caught:
        yield
    assert caught.value.code == code, str(caught.value)


@dataclass
class Server:
    """What the server sends and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    etag: str = '"one"'
    cut_after: int | None = None
    cuts_left: int = 0
    status: int = 200
    delay_s: float = 0.0
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.ranges.append(wanted)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = 0
            if wanted and self.headers.get("If-Range") == state.etag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                total = len(state.content)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.send_header("ETag", state.etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.delay_s:
                threading.Event().wait(state.delay_s)
            if state.cuts_left and state.cut_after is not None:
                state.cuts_left -= 1
                self.wfile.write(body[: state.cut_after])
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            del format, args

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}/model.pth"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def release(server: Server) -> Release:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Release("test", "model.pth", server.url, "http://example.org", "compact", 4, "CC0", "", len(CONTENT), digest)


def test_fetches_once(server: Server, release: Release, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(release, folder=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(release, folder=tmp_path) == path
    assert len(server.ranges) == 1
    assert cached(release, tmp_path) == path
    assert not list(tmp_path.glob(".*.download*"))


def test_goes_on_where_the_connection_broke(server: Server, release: Release, tmp_path: Path) -> None:
    server.cut_after, server.cuts_left = 100_000, 1
    assert fetch(release, folder=tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-"]


def test_starts_anew_when_the_file_changed_meanwhile(server: Server, release: Release, tmp_path: Path) -> None:
    (tmp_path / ".model.pth.download").write_bytes(b"old" * 100)
    (tmp_path / ".model.pth.download.tag").write_text('"zero"')
    assert fetch(release, folder=tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=300-"]


def test_a_connection_that_always_breaks_ends_with_advice(
    server: Server, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "_ATTEMPTS", 2)
    server.cut_after, server.cuts_left = 10, 99
    with refused("download-failed"):
        fetch(release, folder=tmp_path)
    assert not (tmp_path / "model.pth").exists()
    server.cuts_left = 0
    assert fetch(release, folder=tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=20-"


def test_wrong_content_is_never_used(server: Server, release: Release, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    with refused("wrong-download"):
        fetch(release, folder=tmp_path)
    assert cached(release, tmp_path) is None
    assert not list(tmp_path.glob("*.pth"))


def test_an_empty_answer_is_never_used(
    server: Server, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "_ATTEMPTS", 1)
    server.content = b""
    with refused("download-failed"):
        fetch(replace(release, size_bytes=None, sha256=None), folder=tmp_path)
    assert cached(release, tmp_path) is None


def test_missing_page(server: Server, release: Release, tmp_path: Path) -> None:
    server.status = 404
    with refused("download-failed"):
        fetch(release, folder=tmp_path)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("damage", [b"", CONTENT[:1000], CONTENT[:-1] + b"?"])
def test_damaged_file_is_reported_and_replaced(server: Server, release: Release, tmp_path: Path, damage: bytes) -> None:
    path = fetch(release, folder=tmp_path)
    path.write_bytes(damage)
    with refused("model-damaged"):
        cached(release, tmp_path)
    assert fetch(release, folder=tmp_path).read_bytes() == CONTENT


def test_prefix_and_first_download_are_held_to(server: Server, release: Release, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from apisr.networks import build

    torch.save(build("compact", {"features": 8, "depth": 1}).state_dict(), tmp_path / "small.pth")
    server.content = content = (tmp_path / "small.pth").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    loose = replace(release, sha256=None, size_bytes=None)
    assert check(replace(loose, sha256_prefix=digest[:8]), fetch(loose, folder=tmp_path)) == digest
    with refused("model-damaged"):
        check(replace(loose, sha256_prefix="00000000"), _without_record(tmp_path / "model.pth", tmp_path))
    (tmp_path / "model.pth").write_bytes(content[::-1])
    with refused("model-damaged"):
        cached(loose, tmp_path)  # no hash was published: that of the first download counts
    assert fetch(loose, folder=tmp_path).read_bytes() == content


def _without_record(path: Path, folder: Path) -> Path:
    twin = folder / "twin.pth"
    twin.write_bytes(path.read_bytes())
    return twin


def _fetch_in_process(release: Release, folder: Path) -> None:
    fetch(release, folder=folder)


def test_two_processes_at_once_download_once(server: Server, release: Release, tmp_path: Path) -> None:
    server.delay_s = 0.5
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fetch_in_process, args=(release, tmp_path)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert (tmp_path / "model.pth").read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_no_direct_address_says_where(tmp_path: Path) -> None:
    with refused("no-address"):
        fetch(CATALOGUE["ic9600"], folder=tmp_path)


def test_an_address_can_be_given(server: Server, release: Release, tmp_path: Path) -> None:
    nowhere, digest = replace(release, url=None, sha256=None, size_bytes=None), hashlib.sha256(CONTENT).hexdigest()
    with refused("bad-address"):
        fetch(nowhere, folder=tmp_path, url="file:///etc/passwd")
    with refused("bad-sha256"):
        fetch(nowhere, folder=tmp_path, url=server.url, sha256="abc")
    with refused("bad-sha256"):
        fetch(release, folder=tmp_path, url=server.url, sha256="0" * 64)
    with refused("wrong-download"):
        fetch(nowhere, folder=tmp_path, url=server.url, sha256="0" * 64)
    assert not list(tmp_path.glob("*.pth"))
    assert fetch(nowhere, folder=tmp_path, url=server.url, sha256=digest.upper()).read_bytes() == CONTENT


def test_what_no_hash_tells_the_content_must(server: Server, release: Release, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from apisr.networks import build

    unknown = replace(release, sha256=None, size_bytes=None)
    torch.save(build("rrdb", {"blocks": 1, "features": 8, "growth": 4}).state_dict(), tmp_path / "other.pth")
    server.content = (tmp_path / "other.pth").read_bytes()
    with refused("wrong-download"):
        fetch(unknown, folder=tmp_path / "cache")
    with refused("wrong-release"):
        adopt(unknown, tmp_path / "other.pth", folder=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.pth"))
    assert not list((tmp_path / "cache").glob(".*.download*"))


def test_a_file_saved_by_hand_is_taken_over(release: Release, tmp_path: Path) -> None:
    mine, cache = tmp_path / "Downloads (2).pth", tmp_path / "cache"
    with refused("no-such-model"):
        adopt(release, mine, folder=cache)
    mine.write_bytes(CONTENT[:-1])
    with refused("wrong-release"):
        adopt(release, mine, folder=cache)
    mine.write_bytes(CONTENT)
    path = adopt(release, mine, folder=cache)
    assert path == cache / "model.pth"
    assert path.read_bytes() == mine.read_bytes() == CONTENT
    assert cached(release, cache) == path == adopt(release, mine, folder=cache)
    mine.write_bytes(CONTENT[::-1])
    with refused("release-exists"):
        adopt(release, mine, folder=cache)
    assert path.read_bytes() == CONTENT


def test_catalogue_is_consistent() -> None:
    from apisr.networks import NETWORKS

    files = [release.file_name for release in CATALOGUE.values()]
    assert len(set(files)) == len(files)
    for release in CATALOGUE.values():
        assert release.architecture in NETWORKS
        assert release.licence
        assert release.url is None or (release.url.startswith("https://") and release.url.endswith(release.file_name))
        assert release.sha256 is None or len(release.sha256) == 64
        if release.sha256_prefix:
            assert release.sha256_prefix in release.file_name
            assert (release.sha256 or release.sha256_prefix).startswith(release.sha256_prefix)
