"""Addresses at which no cluster answers: one line within seconds, and nothing of Ray on the screen."""

from __future__ import annotations

import http.server
import importlib.util
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code

from apisr.core.cluster import check_answers
from apisr.image import write_picture


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def web_server() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("address", ["nowhere.invalid:6379", "host", "host:", ":6379", "host:port", "host:70000"])
def test_an_address_that_cannot_be(address: str) -> None:
    with raises_code("no-cluster"):
        check_answers(address)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_nobody_answers(scheme: str) -> None:
    with raises_code("no-cluster"):
        check_answers(f"{scheme}127.0.0.1:{unused_port()}")


def test_a_server_that_says_nothing_is_not_waited_for(silent: int) -> None:
    began = time.monotonic()
    with raises_code("no-cluster"):
        check_answers(f"127.0.0.1:{silent}", within_s=0.5)
    assert time.monotonic() - began < 3


@pytest.mark.filterwarnings("ignore")
def test_a_server_of_another_kind(web_server: int) -> None:
    with raises_code("no-cluster") as refused:
        check_answers(f"127.0.0.1:{web_server}")
    assert "no Ray" in str(refused.value)


@pytest.mark.parametrize("address", ["auto", "local", "other://somewhere"])
def test_addresses_that_ray_finds_itself(address: str) -> None:
    check_answers(address)


@pytest.mark.parametrize("environment", [False, True])
def test_an_unreachable_cluster_is_one_line(
    tmp_path: Path, tiny_x2: Path, monkeypatch: pytest.MonkeyPatch, environment: bool
) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra 'cluster' is not installed")
    address = f"127.0.0.1:{unused_port()}"
    if environment:
        monkeypatch.setenv("RAY_ADDRESS", address)
    write_picture(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    command = [sys.executable, "-m", "apisr", "upscale", "a.png", "-o", "b.png", "-m", str(tiny_x2), "--quiet"]
    command += ["--cluster", "auto" if environment else address]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("apisr: error: no Ray cluster at")
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
