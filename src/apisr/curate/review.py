"""The review page: a contact sheet of a dataset, and a person's decisions.

A small server on this machine alone, from the standard library. The page shows only the pictures in view, so that ten
thousand of them scroll like a hundred. A decision is in the manifest, on the disk, before its key press is answered.

The page's address carries a secret; requests without it, or for another host name, are refused, so that no other page
in the browser can decide or look.

    >>> with Review(Path("dataset")) as review:  # doctest: +SKIP
    ...     print(review.url)
    ...     review.serve()
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from apisr.core.errors import ApisrError, InputError, RunError
from apisr.curate.manifest import Row, decide, read_manifest, write_manifest
from apisr.curate.pipeline import dataset_lock

#: Longest request body that is read, in bytes (a decision on 100,000 pictures).
MAX_BODY_BYTES = 4 << 20

_MIME = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}


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
        self._stack.enter_context(dataset_lock(dataset))
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        except OSError as error:
            self._stack.close()
            raise InputError(f"cannot use port {port}: {error.strerror}. Choose another with --port.") from error
        self._server.daemon_threads = True
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
        """Tell whether a request comes from the page."""
        names = {f"127.0.0.1:{self._server.server_port}", f"localhost:{self._server.server_port}"}
        return host in names and hmac.compare_digest(token.encode(), self._token.encode())

    def page(self) -> bytes:
        """Return the page itself."""
        return resources.files("apisr.curate").joinpath("review.html").read_bytes()

    def listing(self) -> bytes:
        """Return all rows as JSON: what the page needs to know of them."""
        rows = [
            {
                "id": row.id,
                "source": row.source,
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
        return json.dumps({"name": self.dataset.resolve().name, "rows": rows}, ensure_ascii=False).encode()

    def decide(self, ids: list[str], decision: str) -> None:
        """Write a person's decision on some pictures to the manifest.

        Raises:
            InputError: unknown picture or decision.
            RunError: the manifest cannot be written, or the review has ended.
        """
        with self._mutex:
            if not self._open:
                raise RunError("the review has ended.")
            rows = decide(self._rows, ids, cast(Any, decision))
            write_manifest(self.dataset, rows, settings_json=self._settings_json)
            self._rows = rows

    def file(self, kind: str, identifier: str) -> tuple[bytes, str] | None:
        """Return a picture (``thumb`` or ``image``) and its type, None where there is none."""
        row = next((row for row in self._rows if row.id == identifier), None)
        if row is None:
            return None
        path = self._thumbnail(row) if kind == "thumb" else self.dataset / row.file
        if path is None or not path.resolve().is_relative_to(self.dataset.resolve()) or not path.is_file():
            return None
        return path.read_bytes(), _MIME.get(path.suffix, "application/octet-stream")

    def _thumbnail(self, row: Row) -> Path | None:
        parts = Path(row.file).parts
        if len(parts) != 3:
            return None
        small = self.dataset / "thumbs" / parts[1] / f"{row.id}.jpg"
        return small if small.is_file() else self.dataset / row.file


def _handler(review: Review) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = parse_qs(address.query)
            if not self._allowed(query.get("token", [""])[0]):
                return
            name = address.path
            if name == "/":
                self._send(review.page(), "text/html; charset=utf-8")
            elif name == "/rows":
                self._send(review.listing(), "application/json")
            elif name in ("/thumb", "/image"):
                found = review.file(name[1:], query.get("id", [""])[0])
                if found is None:
                    self._fail(HTTPStatus.NOT_FOUND, "no such picture")
                else:
                    self._send(*found, cache=True)
            else:
                self._fail(HTTPStatus.NOT_FOUND, "no such page")

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            if size > MAX_BODY_BYTES:
                self.close_connection = True
                self._fail(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too much at once")
                return
            body = self.rfile.read(size)
            if not self._allowed(self.headers.get("X-Token", "")):
                return
            if urlsplit(self.path).path != "/decide":
                self._fail(HTTPStatus.NOT_FOUND, "no such page")
                return
            try:
                values: Any = json.loads(body)
                review.decide([str(identifier) for identifier in values["ids"]], str(values["decision"]))
            except (ValueError, KeyError, TypeError) as error:
                self._fail(HTTPStatus.BAD_REQUEST, f"not a decision: {error}")
            except ApisrError as error:
                self._fail(HTTPStatus.BAD_REQUEST, str(error))
            else:
                self._send(b"{}", "application/json")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the base class gives
            """Say nothing: the terminal shows the address only."""

        def _allowed(self, token: str) -> bool:
            if review.allowed(self.headers.get("Host", ""), token):
                return True
            self._fail(HTTPStatus.FORBIDDEN, "open the page by the address that 'apisr review' printed")
            return False

        def _send(self, data: bytes, kind: str, *, cache: bool = False, status: HTTPStatus = HTTPStatus.OK) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "private, max-age=3600" if cache else "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(data)

        def _fail(self, status: HTTPStatus, message: str) -> None:
            self._send(json.dumps({"error": message}).encode(), "application/json", status=status)

    return Handler
