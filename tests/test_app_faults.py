"""What goes wrong under a running app: odd folders, early stops, lost results, cut uploads, slow pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_servers import Answer, Server, png, running, wait_until, workers_of
from video_clips import make_clip

pytest.importorskip("starlette", reason="the extra 'app' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'app' is not installed")

import apisr
from apisr.app.events import Bus
from apisr.app.store import Settings, Store
from apisr.app.worker_process import WorkerProcess


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "home") as server:
        yield server


def add_job(server: Server, item: object, **settings: object) -> str:
    answer = server.post("/api/jobs", {"items": [item], "settings": settings})
    assert answer.status == 200, answer.body
    return answer.json["jobs"][0]  # type: ignore[index]


def ended(server: Server, job: str) -> str:
    wait_until(lambda: server.job(job)["status"] in ("done", "failed", "cancelled", "paused"), seconds=120)
    return str(server.job(job)["status"])


def test_pipes_links_and_names_that_are_not_text(tmp_path: Path) -> None:
    """A pipe stopped the whole server, which waited for its other end; a name of other bytes broke every answer."""
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "password.png").symlink_to("/etc/passwd")
    (folder / "again").symlink_to(folder)
    (folder / 'a"\n\u202egnp.png').write_bytes(png())
    raw = os.fsencode(folder) + b"/n\xfe.png"
    try:
        Path(os.fsdecode(raw)).write_bytes(png())
    except OSError:
        pytest.skip("this disk takes names in UTF-8 alone")
    with running(tmp_path / "home", folder) as server:
        listing = server.ask("GET", "/api/browse")
        assert listing.status == 200
        entries: list[dict[str, str]] = listing.json["entries"]  # type: ignore[assignment]
        assert [entry["name"] for entry in entries] == ["again", 'a"\\x0a\\u202egnp.png', "n\\xfe.png"]
        added = server.post("/api/add", {"ids": [entry["id"] for entry in entries]})
        left_out = {
            "not-a-file": {"count": 1, "names": ["pipe.png"]},
            "outside": {"count": 1, "names": ["password.png"]},
        }
        items = server.state()["items"]
        ids = [item["id"] for item in items]
        assert added.json == {"items": ids, "added": 2, "listed": 0, "left_out": left_out}
        assert len(items) == 2, "the folder that leads to itself adds nothing"
        jobs = [add_job(server, item["id"], scale=2) for item in items]
        assert [ended(server, job) for job in jobs] == ["done", "done"]
        assert all(server.ask("GET", f"/api/jobs/{job}/output").body[:4] == b"\x89PNG" for job in jobs)
        state = server.state()
    with running(tmp_path / "home", folder) as server:
        assert server.state()["jobs"] == state["jobs"], "it outlives the server"
    written = {os.fsencode(path.name) for path in (folder / "upscaled").iterdir()}
    assert written == {b'a"\n\xe2\x80\xaegnp.png', b"n\xfe.png"}


def test_a_stop_before_the_work_has_begun_is_a_stop(server: Server) -> None:
    """It was lost while the process started, and the job went on to its end."""
    item = server.upload("a.png", png(200, 150)).json["id"]
    job = add_job(server, item, scale=2)
    wait_until(lambda: server.job(job)["status"] != "waiting")
    assert server.post(f"/api/jobs/{job}/cancel", {}).status == 200
    assert ended(server, job) == "cancelled"
    assert list((server.home / "results").rglob("*")) == []


def test_a_queue_that_is_held_for_a_moment_goes_on(server: Server, tmp_path: Path) -> None:
    """A job that had not stopped yet when the queue went on stayed paused for ever."""
    clip = make_clip(tmp_path / "clip.mkv", frames=48)
    item = server.upload("clip.mkv", clip.read_bytes()).json["id"]
    job = add_job(server, item, model="apisr-x2-fast")
    wait_until(lambda: server.job(job)["status"] == "running")
    for action in ("pause", "resume", "pause", "resume"):
        assert server.post(f"/api/queue/{action}", {}).status == 200
    assert ended(server, job) == "done"


def test_nothing_else_is_sent_in_place_of_a_result(server: Server) -> None:
    item = server.upload("a.png", png()).json["id"]
    job = add_job(server, item, scale=2)
    assert ended(server, job) == "done"
    result = server.home / "results" / "a.png"
    addresses = [f"/api/jobs/{job}/output", f"/api/jobs/{job}/output?inline=1", f"/api/jobs/{job}/frame"]
    assert [server.ask("GET", address).status for address in addresses] == [200, 200, 200]
    result.unlink()
    assert server.job(job)["ready"] is False
    for replace in (lambda: None, result.mkdir, lambda: result.symlink_to("/etc/passwd"), lambda: os.mkfifo(result)):
        replace()
        answers = [server.ask("GET", address) for address in addresses]
        assert [(answer.status, answer.json["code"]) for answer in answers] == [(404, "no-such-file")] * 3
        if os.path.lexists(result):
            result.rmdir() if result.is_dir() else result.unlink()
    # the same of a source
    source = next((server.home / "uploads").rglob("a.png"))
    source.unlink()
    gone = server.ask("GET", f"/api/items/{item}/frame")
    assert (gone.status, gone.json["code"]) == (404, "no-such-file")
    assert str(server.home) not in gone.body.decode()
    source.symlink_to("/etc/passwd")
    assert server.ask("GET", f"/api/items/{item}/frame").json["code"] == "no-such-file"


def test_models_are_names_here(server: Server) -> None:
    item = server.upload("a.png", png()).json["id"]
    for model in ("/etc/passwd", "../a.onnx", "a.onnx", "x" * 100_000, "a\0b", ""):
        answer = server.post(f"/api/items/{item}/plan", {"settings": {"model": model}})
        assert (answer.status, answer.json["code"]) == (400, "bad-setting"), model
    for body in (b'{"settings": {"scale": NaN}}', b'{"settings": {"model": "\\ud800"}}'):
        answer = server.ask("POST", f"/api/items/{item}/plan", body)
        assert (answer.status, answer.json["code"]) == (400, "bad-request")
    for box in ([0, 0, 1e308, 1], ["9" * 5000, 0, 1, 1], [10**400, 0, 1, 1], [0.5, 0, 1, 1], [True, False, 5, 5]):
        answer = server.post(f"/api/items/{item}/preview", {"box": box, "settings": {}})
        assert (answer.status, answer.json["code"]) == (400, "bad-request"), box
    assert server.ask("GET", f"/api/cache/{'a' * 300}").json["code"] == "no-such-file"


def test_uploads_that_a_killed_server_left_are_removed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home) as server:
        kept = server.upload("kept.png", png()).json["id"]
        head = f"POST /api/upload?name=cut.png HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: {server.cookie}\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + png())
            wait_until(lambda: bool(list((home / "uploads").rglob("*.part"))))
            server.process.kill()
            server.process.wait()
    (home / "uploads" / "mine").mkdir()
    assert len(list((home / "uploads").rglob("*.part"))) == 1
    with running(home) as server:
        assert [item["id"] for item in server.state()["items"]] == [kept]
    assert sorted(path.name for path in (home / "uploads").rglob("*") if path.suffix or path.name == "mine") == [
        "kept.png",
        "mine",
    ]


def test_a_job_that_is_removed_takes_its_segments_with_it(server: Server, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=240)
    item = server.upload("clip.mkv", clip.read_bytes()).json["id"]
    job = add_job(server, item, model="apisr-x2-fast")
    results = server.home / "results"
    wait_until(lambda: any(results.glob("*.segments/*")))
    for pid in workers_of(server.process.pid):
        os.kill(pid, 9)
    assert ended(server, job) == "failed"
    folder = next(results.glob("*.segments"))
    (folder / "note.txt").write_text("somebody else's")
    assert server.post(f"/api/jobs/{job}/remove", {}).status == 200
    assert [path.name for path in results.rglob("*")] == [folder.name, "note.txt"]


def test_a_page_that_does_not_keep_up_connects_again() -> None:
    """Its stream stayed open and silent for ever; one that ends makes the browser ask for everything anew."""

    async def run() -> list[str]:
        bus = Bus()
        with bus.page() as slow:
            for number in range(5000):
                bus.send("job", {"number": number})
            return [await slow.get(), slow.empty(), bus.pages]  # type: ignore[list-item]

    assert asyncio.run(run()) == [None, True, 0]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a." + "\U0001f600" * 100, "a." + "\U0001f600" * 44),
        ("\U0001f600" * 100 + ".png", "\U0001f600" * 44 + ".png"),
        ("." + "p" * 300, "p" * 180),
    ],
)
def test_long_names_are_cut_between_letters(tmp_path: Path, given: str, kept: str) -> None:
    store = Store(tmp_path / "home", folder=None)
    try:
        path = store.upload_path(given)
        path.write_bytes(b"")
        assert path.name == kept
    finally:
        store.close()


def test_settings_of_the_page_are_ascii_on_the_disk(tmp_path: Path) -> None:
    """Names of files need not be UTF-8; the state must be written and read with them."""
    store = Store(tmp_path / "home", folder=None)
    path = store.uploads / "0123456789abcdef" / os.fsdecode(b"n\xfe.png")
    path.parent.mkdir(parents=True)
    try:
        path.write_bytes(png())
    except OSError:
        store.close()
        pytest.skip("this disk takes names in UTF-8 alone")
    store.add_item(path, "picture", uploaded=True)
    store.state.presets["ü"] = Settings()
    store.close()
    assert (
        json.loads((tmp_path / "home" / "state.json").read_bytes().decode("ascii"))["items"][0]["name"] == "n\\xfe.png"
    )
    store = Store(tmp_path / "home", folder=None)
    assert [item.path for item in store.state.items] == [path]
    store.close()


def test_a_worker_that_died_unseen_is_replaced(tmp_path: Path) -> None:
    """The server's loop was busy when it was killed: the next request is answered, not refused."""
    (tmp_path / "a.png").write_bytes(png(12, 8))
    request = {"path": str(tmp_path / "a.png"), "thumbnail": str(tmp_path / "thumbnail.webp")}

    async def asked() -> list[dict[str, object]]:
        worker = WorkerProcess("previews")
        try:
            answers = [await worker.ask("probe", request)]
            for _ in range(2):
                process = worker._process
                assert process is not None
                os.kill(process.pid, signal.SIGKILL)
                time.sleep(0.3)
                answers.append(await worker.ask("probe", request))
        finally:
            await worker.stop()
        return answers

    first, *others = asyncio.run(asked())
    assert first
    assert others == [first, first]


def test_killed_workers_cost_no_other_model_its_work(server: Server, tmp_path: Path) -> None:
    """All child processes are killed while a video runs, another model is looked at and a third one waits."""
    clip = make_clip(tmp_path / "clip.mkv", frames=1000)
    video = server.upload("clip.mkv", clip.read_bytes()).json["id"]
    still = server.upload("still.png", png(64, 48)).json["id"]
    wait_until(lambda: all(item["info"] for item in server.state()["items"]))
    job = add_job(server, video, model="apisr-x2-fast")
    waiting = add_job(server, still, model="apisr-x4-fast")
    results = server.home / "results"
    wait_until(lambda: any(results.glob("*.segments/*.segment")), seconds=120)
    look = {"box": [0, 0, 32, 32], "settings": {"model": "apisr-x2"}}
    assert server.post(f"/api/items/{still}/preview", look).status == 200
    segment = next(results.glob("*.segments/*.segment"))
    finished = segment.stat().st_ino, segment.stat().st_mtime_ns
    assert server.job(job)["status"] == "running"
    for pid in workers_of(server.process.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.job(job)["status"] != "running")
    failed = server.job(job)
    assert (failed["status"], failed["ready"]) == ("failed", False)
    assert "signal 9" in str(failed["message"])
    assert not (results / str(failed["output"])).exists()
    assert server.post(f"/api/items/{still}/preview", look).status == 200
    assert ended(server, waiting) == "done"
    assert server.ask("GET", f"/api/jobs/{waiting}/output").body[:4] == b"\x89PNG"
    assert server.post(f"/api/jobs/{job}/retry", {}).status == 200
    seen = {finished}
    while server.job(job)["status"] in ("waiting", "running"):
        with contextlib.suppress(FileNotFoundError):
            seen.add((segment.stat().st_ino, segment.stat().st_mtime_ns))
    assert server.job(job)["status"] == "done"
    assert seen == {finished}, "the finished part was made again"
    with apisr.open_video(results / str(failed["output"])) as made:
        assert made.index.pts.size == 1000


def test_every_refusal_says_what_to_do(server: Server, tmp_path: Path) -> None:
    item = server.upload("a.png", png()).json["id"]
    job = add_job(server, item, scale=2)
    assert ended(server, job) == "done"
    (server.home / "results" / "a.png").unlink()
    refusals: dict[str, Answer] = {
        "wrong-host": server.ask("GET", "/api/state", headers={"Host": "other.example"}),
        "other-page": server.ask("GET", "/api/state", headers={"Origin": "http://other.example"}),
        "no-token": server.ask("GET", "/api/state", cookie=False),
        "no-folder": server.ask("GET", "/api/browse"),
        "not-media": server.upload("a.txt", b"text"),
        "no-such-job": server.ask("GET", "/api/jobs/0"),
        "no-such-file": server.ask("GET", "/api/items/0/thumbnail"),
        "no-such-file (preview)": server.ask("GET", f"/api/cache/{'0' * 24}.png"),
        "no-such-file (result)": server.ask("GET", f"/api/jobs/{job}/output"),
        "no-such-file (report)": server.ask("GET", "/reports/0"),
        "no-such-file (dataset)": server.ask("GET", "/api/datasets/0"),
        "wrong-kind": server.post(f"/api/items/{item}/clip", {}),
        "wrong-state": server.post(f"/api/jobs/{job}/resume", {}),
        "unknown-action": server.post(f"/api/jobs/{job}/sing", {}),
        "unknown-action (queue)": server.post("/api/queue/sing", {}),
        "not-local": server.post(f"/api/jobs/{job}/folder", {}),
        "bad-setting": server.post(f"/api/items/{item}/plan", {"settings": {"scale": 99}}),
        "bad-request": server.ask("POST", "/api/jobs", b"not json"),
        "bad-request (list)": server.post("/api/jobs", []),
        "bad-request (ids)": server.post("/api/jobs", {"items": "a"}),
        "bad-request (id)": server.post("/api/jobs", {"items": [item, None]}),
        "bad-request (long)": server.post("/api/jobs", {"items": ["a" * (1 << 20)]}),
        "bad-request (time)": server.ask("GET", f"/api/items/{item}/frame?time=-1"),
        "bad-request (name)": server.ask("PUT", "/api/presets/%20", b"{}"),
        "bad-request (crop)": server.post(f"/api/items/{item}/preview", {"box": [0, 0, 1000, 1]}),
        "bad-request (box)": server.post(f"/api/items/{item}/preview", {}),
    }
    for kind, answer in refusals.items():
        assert answer.status in range(400, 500), (kind, answer.body)
        assert answer.json["code"] == kind.partition(" ")[0], (kind, answer.body)
        _, _, advice = str(answer.json["error"]).partition(". ")
        assert advice, (kind, answer.body)
        assert str(server.home) not in answer.body.decode()
