"""Who may ask: the host, the origin and the token of a request, and the headers of every answer.

A page of another site that is open in the same browser can send requests to this machine. Three things stop it: the
``Host`` header must name this server (against rebinding), the ``Origin`` of a request that changes something must be
this server's own, and every request carries a token, as a cookie that only this server's pages send.

    >>> allowed_hosts("127.0.0.1", 8000) >= {"127.0.0.1:8000", "localhost:8000"}
    True
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection
from urllib.parse import urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apisr.app.advice import RELOAD
from apisr.core.errors import InputError

#: Longest body of a request that is not an upload, in bytes.
MAX_BODY_BYTES = 1 << 20
#: Time in which such a body must have come.
BODY_SECONDS = 20.0
#: Start of the name of the cookie; the port follows, because browsers send cookies to all ports of a machine.
COOKIE = "apisr_token_"
#: Pages that can be opened with the token in their address.
PAGES = ("/", "/review")
_OPEN = "Open the page by the address that 'apisr app' or 'apisr review' printed."
_COOKIE_SECONDS = 90 * 24 * 3600

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
        "connect-src 'self'; font-src 'self'; manifest-src 'self'; frame-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def allowed_hosts(host: str, port: int) -> frozenset[str]:
    """Return the values of ``Host`` that this server answers to.

    Args:
        host: the address that the server listens on; for all addresses the machine's own names are added.
        port: its port.
    """
    names = {"127.0.0.1", "localhost", "[::1]"}
    if host in ("0.0.0.0", "::"):
        names |= _own_addresses()
    else:
        names.add(f"[{host}]" if ":" in host else host)
    return frozenset({f"{name}:{port}" for name in names})


class Guard:
    """Middleware that lets requests of this server's own pages pass and refuses the rest.

    Args:
        app: what answers the requests that pass.
        token: the secret that opens the page.
        hosts: accepted values of ``Host``.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Collection[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)  # reports have a narrower policy of their own
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope)
        refusal = self._refusal(request)
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        if headers.get("host", "") not in self._hosts:
            return _refused(421, "wrong-host", f"this address is not served here. {_OPEN}")
        if not _same_origin(headers):
            return _refused(403, "other-page", f"requests of other pages are refused. {_OPEN}")
        if _bad_length(headers):
            return _refused(400, "bad-request", f"the length of the request is not a number. {RELOAD}")
        cookie = COOKIE + headers.get("host", "").rpartition(":")[2]
        token = request.query_params.get("token", "")
        if request.url.path in PAGES and self._matches(token):
            answer = RedirectResponse(_without_token(request), status_code=303)
            answer.set_cookie(cookie, self._token, max_age=_COOKIE_SECONDS, httponly=True, samesite="strict")
            return answer
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if not (self._matches(request.cookies.get(cookie, "")) or self._matches(bearer)):
            return _refused(401, "no-token", f"expected the token of this page. {_OPEN}")
        return None

    def _matches(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes | None:
    """Return the body of a request, None if it is longer than the limit.

    Raises:
        InputError: it has not come in :data:`BODY_SECONDS`.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    return None
    except TimeoutError:
        raise InputError(f"the request stopped before its end. {RELOAD}", code="bad-request") from None
    return bytes(body)


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_token(request: Request) -> str:
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key != "token"]
    return f"{request.url.path}?{urlencode(pairs)}" if pairs else request.url.path


def _same_origin(headers: Headers) -> bool:
    """Tell whether a request comes from this server's own page, or from no page at all."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    origin = headers.get("origin")
    return origin is None or origin == f"http://{headers.get('host', '')}"


def _bad_length(headers: Headers) -> bool:
    length = headers.get("content-length")
    return length is not None and not (length.isascii() and length.isdecimal())


def _refused(status: int, code: str, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason, "code": code}, status_code=status)


def _own_addresses() -> set[str]:
    import contextlib
    import socket

    names = {socket.gethostname()}
    with contextlib.suppress(OSError):
        names |= {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # no packet is sent: the system says which address it would use
        names.add(str(probe.getsockname()[0]))
    return names
