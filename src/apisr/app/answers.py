"""Requests read and checked, and our errors turned into answers with one line."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates
from starlette.types import Receive, Scope, Send

from apisr.app.advice import CHECK_DISK, RELOAD
from apisr.app.security import MAX_BODY_BYTES, read_body
from apisr.app.store import Settings
from apisr.core.errors import ApisrError, InputError, RunError
from apisr.core.text import printable

Handler = Callable[[Request], Awaitable[Response]]

_TEMPLATES = Jinja2Templates(
    env=Environment(
        loader=PackageLoader("apisr.app"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
)


class Json(JSONResponse):
    """JSON in ASCII, because names of files need not be text that UTF-8 can say."""

    def render(self, content: object) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class SentFile(FileResponse):
    """A file; one that goes in the last moment is answered with "no such file" too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or the part of it that is asked for."""
        try:
            await super().__call__(scope, receive, send)
        except RuntimeError:  # nothing was sent yet
            await Json({"error": f"the file is gone. {RELOAD}", "code": "no-such-file"}, status_code=404)(
                scope, receive, send
            )


def route(method: str, path: str, handler: Handler) -> Route:
    """Return a route whose errors become answers."""
    return Route(path, answering(handler), methods=[method])


def answering(handler: Handler) -> Handler:
    """Turn our errors into answers with one line."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=499)
        except RunError as error:
            return Json({"error": printable(str(error)), "code": error.code}, status_code=500)
        except ApisrError as error:
            missing = error.code.startswith("no-such")
            return Json({"error": printable(str(error)), "code": error.code}, status_code=404 if missing else 400)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            return Json({"error": f"the disk says: {reason}. {CHECK_DISK}", "code": "disk"}, status_code=500)

    return answer


async def json_of(request: Request) -> dict[str, object]:
    """Return the JSON object in the body of a request.

    Raises:
        InputError: it is too long, not JSON, or not an object.
    """
    body = await read_body(request)
    if body is None:
        raise InputError(
            f"the request is longer than {MAX_BODY_BYTES >> 20} MiB. Ask for fewer files at once.", code="bad-request"
        )
    try:
        values: object = json.loads(body or b"{}", parse_constant=_no_number)
        json.dumps(values, ensure_ascii=False).encode("utf-8")  # halves of characters are no text
    except (ValueError, RecursionError):
        raise InputError(f"expected JSON, got something else. {RELOAD}", code="bad-request") from None
    if not isinstance(values, dict):
        raise InputError(f"expected a JSON object, got {type(values).__name__}. {RELOAD}", code="bad-request")
    return cast("dict[str, object]", values)


def texts_of(value: object) -> list[str]:
    """Return a list of texts, checked.

    Raises:
        InputError: it is not one.
    """
    if not isinstance(value, list):
        raise InputError(f"expected a list of ids, got {type(value).__name__}. {RELOAD}", code="bad-request")
    items = cast("list[object]", value)
    others = [item for item in items if not isinstance(item, str)]
    if others:
        raise InputError(f"expected ids that are text, got {type(others[0]).__name__}. {RELOAD}", code="bad-request")
    return cast("list[str]", items)


def settings_of(value: object) -> Settings:
    """Return what a person chose, checked.

    Raises:
        InputError: an unknown setting, or a value out of range.
    """
    try:
        return Settings.model_validate(value or {})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise InputError(
            f"settings: {key or 'all'}: {problem['msg']}. Choose another value.", code="bad-setting"
        ) from None


def seconds_of(text: str) -> float:
    """Return a time in seconds, checked.

    Raises:
        InputError: it is not a number, is negative, or is over 10,000,000 seconds.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 10_000_000:
        raise InputError(
            f"expected a time from 0 to 10,000,000 seconds, got '{text[:40]}'. Choose a moment of the video.",
            code="bad-request",
        )
    return seconds


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def page_of(request: Request, name: str) -> Response:
    """Return a page of the folder ``templates``."""
    return _TEMPLATES.TemplateResponse(request, name)
