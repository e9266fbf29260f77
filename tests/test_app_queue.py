"""The queue of the app and what stands beside it: results that are there, order, the log, the address of the first."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_servers import Server, png, running, wait_until
from video_clips import make_clip

pytest.importorskip("starlette", reason="the extra 'app' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'app' is not installed")

from apisr.app.address import ADDRESS_FILE, keep_address
from apisr.app.events import Bus
from apisr.app.queue import Queue
from apisr.app.store import Job, JobStatus, Settings, Store
from apisr.core.errors import InputError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "home") as server:
        yield server


def is_done(server: Server, job: object) -> bool:
    return server.job(job)["status"] == "done"


def test_work_that_was_done_is_not_done_again_unasked(server: Server) -> None:
    item = server.upload("a.png", png()).json["id"]
    wanted: dict[str, object] = {"items": [item], "settings": {"scale": 2}}
    (first,) = server.post("/api/jobs", wanted).json["jobs"]  # type: ignore[misc]
    wait_until(lambda: is_done(server, first))
    results = server.home / "results"
    name = next(path.name for path in results.iterdir() if path.suffix == ".png")
    found = {"jobs": [], "there": [{"job": first, "item": item, "name": name}]}
    assert server.post("/api/jobs", wanted).json == found
    assert len(server.state()["jobs"]) == 1
    assert server.post(f"/api/jobs/{first}/remove", {}).status == 200
    (shown,) = server.post("/api/jobs", wanted).json["there"]  # type: ignore[misc]
    assert (server.job(shown["job"])["status"], server.job(shown["job"])["ready"]) == ("done", True)
    assert server.ask("GET", f"/api/jobs/{shown['job']}/output").body == (results / name).read_bytes()
    other = {**wanted, "settings": {"scale": 3}}
    assert len(server.post("/api/jobs", other).json["jobs"]) == 1  # type: ignore[arg-type]
    again = server.post("/api/jobs", {**wanted, "again": True}).json
    assert again["there"] == []
    wait_until(lambda: all(is_done(server, job) for job in again["jobs"]))  # type: ignore[union-attr]
    assert len([path for path in results.iterdir() if path.suffix == ".png"]) == 3


def test_a_job_that_a_killed_server_had_finished_is_done(tmp_path: Path) -> None:
    from apisr.app.upscaling import upscale_file
    from apisr.core.progress import Cancel, no_progress

    source, target = tmp_path / "a.png", tmp_path / "out" / "a.png"
    source.write_bytes(png())
    statuses = [
        upscale_file(source, target, {"scale": 2.0}, progress=no_progress, cancel=Cancel())["status"] for _ in range(2)
    ]
    assert statuses == ["done", "skipped"]


def test_the_log_says_paused_of_a_paused_job(server: Server, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=96)
    item = server.upload("clip.mkv", clip.read_bytes()).json["id"]
    wanted = {"items": [item], "settings": {"model": "apisr-x2-fast"}}
    (job,) = server.post("/api/jobs", wanted).json["jobs"]  # type: ignore[misc]

    def log() -> str:
        return "\n".join(server.ask("GET", f"/api/jobs/{job}").json["log"])  # type: ignore[arg-type]

    wait_until(lambda: server.job(job)["status"] == "running")
    assert server.post(f"/api/jobs/{job}/pause", {}).status == 200
    wait_until(lambda: server.job(job)["status"] == "paused", seconds=120)
    assert "paused; it goes on where it stood" in log()
    assert "cancelled" not in log()


@pytest.mark.parametrize(
    ("wished", "becomes"), [("4231", "4123"), ("3124", "1324"), ("1243", "1243"), ("43", "4132"), ("", "1234")]
)
def test_no_job_gets_before_the_one_that_runs(tmp_path: Path, wished: str, becomes: str) -> None:
    store = Store(tmp_path, folder=None)
    statuses: dict[str, JobStatus] = {"1": "running", "2": "waiting", "3": "paused", "4": "done"}
    for name, status in statuses.items():
        job = Job(
            id=name,
            item=name,
            name=name,
            kind="picture",
            source=tmp_path / name,
            target=tmp_path / f"{name}.png",
            settings=Settings(),
            status=status,
        )
        store.state.jobs.append(job)
    Queue(store, Bus()).order(list(wished))
    assert "".join(job.id for job in store.state.jobs) == becomes
    store.close()


def test_a_second_app_says_where_the_first_one_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home) as server:
        kept = home / ADDRESS_FILE
        wait_until(kept.is_file)
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        command = [sys.executable, "-m", "apisr", "app", "--no-browser", "--port", "0", "--home", str(home)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert second.returncode != 0
        assert server.address in second.stderr
        server.stop()
    assert not kept.exists()


def test_an_address_that_nobody_answers_is_not_said(tmp_path: Path) -> None:
    keep_address(tmp_path, "http://127.0.0.1:9/?token=old")
    store = Store(tmp_path, folder=None)
    assert not (tmp_path / ADDRESS_FILE).exists(), "that of an app that was killed goes"
    for address in ("http://127.0.0.1:9/?token=old", "file:///etc/passwd", "nonsense", "http://[", ""):
        keep_address(tmp_path, address)
        with pytest.raises(InputError, match="Use its page, or end it") as caught:
            Store(tmp_path, folder=None)
        assert "token" not in str(caught.value)
    store.close()
