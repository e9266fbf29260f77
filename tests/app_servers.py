"""A running app for tests: requests over a real socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, quote, urlsplit

from PIL import Image


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return json.loads(self.body)


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    token: str
    home: Path

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        cookie: bool = True,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Cookie": self.cookie} if cookie else {}
        sent |= headers or {}
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(
                response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    @property
    def cookie(self) -> str:
        return f"apisr_token_{self.port}={self.token}"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def post(self, path: str, values: object) -> Answer:
        return self.ask("POST", path, json.dumps(values).encode())

    def upload(self, name: str, content: bytes) -> Answer:
        return self.ask("POST", f"/api/upload?name={quote(name)}", content)

    def state(self) -> dict[str, list[dict[str, object]]]:
        return self.ask("GET", "/api/state").json  # type: ignore[return-value]

    def job(self, name: object) -> dict[str, object]:
        return next(job for job in self.state()["jobs"] if job["id"] == name)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


@contextlib.contextmanager
def running(
    home: Path, *arguments: object, port: int = 0, stderr: IO[str] | None = None, **environment: str
) -> Iterator[Server]:
    """`apisr app` with its own folder."""
    command = ["app", *map(str, arguments), "--no-browser", "--port", str(port), "--home", str(home)]
    with started(command, home, environment, stderr=stderr) as server:
        yield server


@contextlib.contextmanager
def started(
    command: list[str],
    home: Path,
    environment: Mapping[str, str] | None = None,
    *,
    limit: list[str] | None = None,
    stderr: IO[str] | None = None,
) -> Iterator[Server]:
    """A command that prints the address of its page and serves it.

    Args:
        command: of apisr, with its arguments.
        home: the app's own folder.
        environment: variables that are added.
        limit: a command that runs the other one (`prlimit --fsize=...`).
        stderr: where what it says goes; None for that of the tests.
    """
    command = [*(limit or []), sys.executable, "-m", "apisr", *command]
    with launched(command, home, environment, stderr=stderr) as server:
        yield server


@contextlib.contextmanager
def launched(
    command: list[str], home: Path, environment: Mapping[str, str] | None = None, *, stderr: IO[str] | None = None
) -> Iterator[Server]:
    """The same for a whole command line."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=variables) as process:
        try:
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().strip())
            assert address.port, "the app printed no address"
            yield Server(process, address.port, parse_qs(address.query)["token"][0], home)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


def wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def png(width: int = 40, height: int = 30) -> bytes:
    import io

    content = io.BytesIO()
    Image.new("RGB", (width, height), "orange").save(content, "PNG")
    return content.getvalue()


def workers_of(pid: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, timeout=20, check=False)
    return [int(line) for line in done.stdout.split()]
