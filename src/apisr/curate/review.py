"""The review page: a contact sheet of a dataset, and a person's decisions.

A small server on this machine alone, from the standard library. The page shows only the pictures in view, so that ten
thousand of them scroll like a hundred. A decision is in the manifest, on the disk, before its key press is answered.

The page's address carries a secret; requests without it, or for another host name, are refused before anything of them
is read, so that no other page in the browser can decide or look. Requests have limits of size, time and number.

    >>> with Review(Path("dataset")) as review:  # doctest: +SKIP
    ...     print(review.url)
    ...     review.serve()
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import cast
from urllib.parse import parse_qs, urlsplit

from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.files import path_inside
from apisr.core.pages import render
from apisr.core.text import printable
from apisr.curate.dataset import hold_dataset
from apisr.curate.decide import decide_by_person
from apisr.curate.manifest import Row, read_manifest, write_manifest

#: Longest request body that is read, in bytes (a decision on 100,000 pictures).
MAX_BODY_BYTES = 4 << 20
#: Seconds without a byte after which a connection is closed.
IDLE_S = 20.0
#: Connections that are served at once; more are closed at once.
MAX_CONNECTIONS = 64

_MIME = {".png": "image/png", ".webp": "image/webp", ".avif": "image/avif", ".jpg": "image/jpeg"}


class Review:
    """A server that shows one dataset; it holds the dataset for itself while it is open.

    Args:
        dataset: the dataset's folder.
        port: port on 127.0.0.1; 0 takes a free one.

    Raises:
        InputError: no dataset, a dataset in use, or a port in use.
    """

    def __init__(self, dataset: Path, *, port: int = 0) -> None:
        self.dataset = dataset
        self._rows, self._settings_json = read_manifest(dataset)
        self._token = secrets.token_urlsafe(16)
        self._stack = contextlib.ExitStack()
        self._mutex = threading.Lock()
        self._open = True
        self._stack.enter_context(hold_dataset(dataset))
        try:
            self._server = _Server(("127.0.0.1", port), self)
        except (OSError, OverflowError) as error:
            self._stack.close()
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"cannot use port {port}: {reason}. Choose another with --port.", code="port-in-use"
            ) from error
        self._stack.callback(self._server.server_close)

    def __enter__(self) -> Review:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._mutex:  # connections that are still alive must not write once the dataset is given back
            self._open = False
        self._stack.close()

    @property
    def url(self) -> str:
        """Address of the page, with its secret."""
        return f"http://127.0.0.1:{self._server.server_port}/?token={self._token}"

    def serve(self) -> None:
        """Answer requests until :meth:`stop` is called from another thread (or Ctrl-C)."""
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """End :meth:`serve`."""
        self._server.shutdown()

    def allowed(self, host: str, token: str) -> bool:
        """Return whether a request comes from the page."""
        names = {f"127.0.0.1:{self._server.server_port}", f"localhost:{self._server.server_port}"}
        return host in names and hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode())

    def listing(self) -> bytes:
        """Return all rows as JSON: what the page needs to know of them."""
        rows = [
            {
                "id": row.id,
                "source": printable(row.source),
                "time": round(row.time_s, 3),
                "kind": row.frame_kind,
                "score": round(row.score, 4),
                "nudity": row.nudity,
                "anime": row.anime,
                "native": row.native_height if row.native_kernel else None,
                "width": row.width,
                "height": row.height,
                "hash": row.hash,
                "flags": list(row.flags),
                "duplicate": row.duplicate_of,
                "decision": row.decision,
                "person": row.decided_by == "person",
            }
            for row in self._rows
        ]
        values = {"name": printable(self.dataset.resolve().name), "rows": rows}
        return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()

    def decide(self, ids: list[str], decision: str) -> None:
        """Write a person's decision on some pictures to the manifest.

        Raises:
            InputError: unknown picture or decision.
            RunError: the manifest cannot be written, or the review has ended.
        """
        with self._mutex:
            if not self._open:
                raise RunError("the review has ended.", code="review-ended")
            rows = decide_by_person(self._rows, ids, decision)
            write_manifest(self.dataset, rows, settings_json=self._settings_json)
            self._rows = rows

    def file(self, kind: str, identifier: str) -> tuple[bytes, str] | None:
        """Return a picture (``thumb`` or ``image``) and its type, None where there is none."""
        row = next((row for row in self._rows if row.id == identifier), None)
        if row is None:
            return None
        try:
            path = self._path(kind, row)
            if path.suffix not in _MIME or not path.is_file():
                return None
            return path.read_bytes(), _MIME[path.suffix]
        except (InputError, OSError):
            return None

    def _path(self, kind: str, row: Row) -> Path:
        parts = Path(row.file).parts
        if kind == "thumb" and len(parts) == 3:
            small = path_inside(self.dataset, f"thumbs/{parts[1]}/{row.id}.jpg")
            if small.is_file():
                return small
        return path_inside(self.dataset, row.file)


class _Server(ThreadingHTTPServer):
    """Serves a limited number of connections, each in a thread."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], review: Review) -> None:
        self.review = review
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Say nothing of connections that break or take too long."""


class _Handler(BaseHTTPRequestHandler):
    """Answers the page's requests."""

    protocol_version = "HTTP/1.1"
    server_version = "apisr"
    sys_version = ""

    def setup(self) -> None:
        """Limit how long this connection may be silent."""
        super().setup()
        self.connection.settimeout(IDLE_S)

    @property
    def _review(self) -> Review:
        return cast("_Server", self.server).review

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query, max_num_fields=8)
        if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # whatever follows was not asked for and is not read
        if not self._allowed(query.get("token", [""])[0]):
            return
        if address.path == "/":
            nonce = secrets.token_urlsafe(16)
            page = render("apisr.curate", "review.html.j2", nonce=nonce)
            self._send(page.encode("utf-8"), "text/html; charset=utf-8", nonce=nonce)
        elif address.path == "/rows":
            self._send(self._review.listing(), "application/json")
        elif address.path in ("/thumb", "/image"):
            found = self._review.file(address.path[1:], query.get("id", [""])[0])
            if found is None:
                self._fail(HTTPStatus.NOT_FOUND, "no such picture")
            else:
                self._send(*found, cache=True)
        else:
            self._fail(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        if not self._allowed(self.headers.get("X-Token", "")):
            return
        if urlsplit(self.path).path != "/decide":
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
            return
        size = self._body_size()
        if size is None:
            return
        try:
            values: object = json.loads(self.rfile.read(size))
            if not isinstance(values, dict) or not isinstance(values.get("ids"), list):
                raise TypeError("expected {ids, decision}")
            self._review.decide([str(identifier) for identifier in values["ids"]], str(values.get("decision")))
        except (ValueError, TypeError, RecursionError) as error:
            self._fail(HTTPStatus.BAD_REQUEST, f"not a decision: {error}")
        except ApisrError as error:
            self._fail(HTTPStatus.BAD_REQUEST, str(error))
        else:
            self._send(b"{}", "application/json")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gives
        """Say nothing: the terminal shows the address only."""

    def _allowed(self, token: str) -> bool:
        hosts = self.headers.get_all("Host") or [""]
        if len(hosts) == 1 and self._review.allowed(hosts[0], token):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "open the page by the address that 'apisr review' printed")
        return False

    def _body_size(self) -> int | None:
        """Return the length of the body; None where it was refused."""
        lengths = self.headers.get_all("Content-Length") or []
        if self.headers.get("Transfer-Encoding") is not None or not lengths:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "send Content-Length")
        elif len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdecimal()) or len(lengths[0]) > 12:
            self._refuse(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        elif int(lengths[0]) > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too much at once")
        else:
            return int(lengths[0])
        return None

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer without having read the body, which therefore ends the connection."""
        self.close_connection = True
        self._fail(status, message)

    def _send(
        self,
        data: bytes,
        kind: str,
        *,
        cache: bool = False,
        status: HTTPStatus = HTTPStatus.OK,
        nonce: str | None = None,
    ) -> None:
        policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        if nonce is not None:
            policy += f"; img-src 'self'; connect-src 'self'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'"
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Content-Security-Policy": policy,
            "Cache-Control": "private, max-age=3600" if cache else "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)

    def _fail(self, status: HTTPStatus, message: str) -> None:
        self._send(json.dumps({"error": message}).encode(), "application/json", status=status)
