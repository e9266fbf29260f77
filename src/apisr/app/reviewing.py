"""The review page of the server: datasets below FOLDER, decisions on their pictures, and reports.

Reports are pages that other runs wrote. They are shown in a frame of their own and may do nothing but draw themselves:
their policy puts them into a sandbox with an origin that is nobody's, without network and without our cookie.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from apisr.app.advice import RELOAD
from apisr.app.answers import Json, SentFile, json_of, page_of, route, texts_of
from apisr.app.events import Bus
from apisr.app.library import find_library, is_report
from apisr.app.store import Store
from apisr.core.errors import InputError
from apisr.core.files import real_path
from apisr.core.text import printable

if TYPE_CHECKING:
    from apisr.curate.review import Review

#: Datasets whose rows are kept in memory.
MAX_OPEN = 4
#: How the formats of a dataset's pictures are called on the web.
PICTURE_TYPES = {".png": "image/png", ".webp": "image/webp", ".avif": "image/avif", ".jpg": "image/jpeg"}
#: What a report may do: draw itself from what is in it.
REPORT_HEADERS = {
    "Content-Security-Policy": (
        "sandbox allow-scripts allow-downloads; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Frame-Options": "SAMEORIGIN",
}


class ReviewPages:
    """Answers the requests of the review page.

    Args:
        store: knows which ids stand for which folders.
        bus: tells the other pages of decisions.
        alone: whether the server has no other page (``apisr review``).
    """

    def __init__(self, store: Store, bus: Bus, *, alone: bool = False) -> None:
        self._store = store
        self._bus = bus
        self._alone = alone
        self._open: dict[Path, Review] = {}
        self._mutex = threading.Lock()

    def routes(self) -> list[Route]:
        """Return all routes."""
        routes = [
            route("GET", "/review", self.page),
            route("GET", "/api/library", self.library),
            route("GET", "/api/datasets/{dataset}", self.rows),
            route("POST", "/api/datasets/{dataset}/decisions", self.decide),
            route("GET", "/api/datasets/{dataset}/pictures/{picture}", self.picture),
            route("GET", "/reports/{report}", self.report),
        ]
        return [*routes, route("GET", "/", self.to_review)] if self._alone else routes

    async def page(self, request: Request) -> Response:
        """Send the page."""
        return page_of(request, "review.html")

    async def to_review(self, request: Request) -> Response:
        """Lead to the only page."""
        return RedirectResponse("/review", status_code=303)

    async def library(self, request: Request) -> Response:
        """List the datasets and reports below FOLDER."""
        folder = self._store.folder
        found = await asyncio.to_thread(find_library, folder) if folder else None
        return Json(
            {
                "alone": self._alone,
                "folder": printable(folder.name) if folder else None,
                "datasets": [self._entry(path) for path in found.datasets] if found else [],
                "reports": [self._entry(path) for path in found.reports] if found else [],
                "more": bool(found and found.more),
            }
        )

    async def rows(self, request: Request) -> Response:
        """Send all rows of a dataset."""
        dataset = self._dataset(request)
        review = await asyncio.to_thread(self._review, dataset)
        listing = await asyncio.to_thread(review.listing)
        report = dataset / "report.html"
        shown = self._store.id_of(report) if report.is_file() else None
        return Json({**listing, "report": shown, "alone": self._alone})

    async def decide(self, request: Request) -> Response:
        """Write a decision; it is on the disk before the answer."""
        dataset = self._dataset(request)
        values = await json_of(request)
        ids, decision = texts_of(values.get("ids")), str(values.get("decision"))
        review = await asyncio.to_thread(self._review, dataset)
        await asyncio.to_thread(review.decide, ids, decision)
        self._bus.send("decided", {"dataset": request.path_params["dataset"], "ids": ids, "decision": decision})
        return Json({})

    async def picture(self, request: Request) -> Response:
        """Send a picture of a dataset, small with ``?size=small``."""
        dataset, name = self._dataset(request), request.path_params["picture"]
        small = request.query_params.get("size") == "small"
        content, kind = await asyncio.to_thread(self._picture, dataset, name, small=small)
        return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    async def report(self, request: Request) -> Response:
        """Send a report, in its sandbox."""
        path = self._store.path_of(request.path_params["report"])
        folder = self._store.folder
        if folder is None or not real_path(path).is_relative_to(folder) or not is_report(path):
            raise InputError(f"no such report. {RELOAD}", code="no-such-file")
        return SentFile(path, media_type="text/html; charset=utf-8", headers=REPORT_HEADERS)

    def _dataset(self, request: Request) -> Path:
        path = self._store.path_of(request.path_params["dataset"])
        folder = self._store.folder
        if folder is None or not real_path(path).is_relative_to(folder) or not path.is_dir():
            raise InputError(f"no such dataset. {RELOAD}", code="no-such-dataset")
        return path

    def _picture(self, dataset: Path, name: str, *, small: bool) -> tuple[bytes, str]:
        path = self._review(dataset).file(name, small=small)
        if path is None:
            raise InputError(f"there is no such picture in this dataset. {RELOAD}", code="no-such-picture")
        return path.read_bytes(), PICTURE_TYPES[path.suffix]

    def _review(self, dataset: Path) -> Review:
        from apisr.curate.review import Review

        with self._mutex:  # requests come from many threads; one of them reads the manifest, the others wait
            review = self._open.pop(dataset, None) or Review(dataset)
            self._open[dataset] = review
            while len(self._open) > MAX_OPEN:
                self._open.pop(next(iter(self._open)))
        return review

    def _entry(self, path: Path) -> dict[str, object]:
        assert self._store.folder is not None
        shown = path.relative_to(self._store.folder).as_posix()
        return {
            "id": self._store.id_of(path),
            "name": printable(path.name),
            "place": "" if shown == "." else printable(shown),
        }
