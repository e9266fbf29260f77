"""The life of the server: who may connect, what answers, how it ends."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from apisr.app.address import keep_address
from apisr.app.answers import route
from apisr.app.events import Bus
from apisr.app.handlers import App
from apisr.app.reviewing import ReviewPages
from apisr.app.security import Guard, allowed_hosts, is_loopback
from apisr.app.store import Store
from apisr.core.errors import InputError


@dataclass(frozen=True)
class ServerOptions:
    """Where the server listens and what it shows.

    Attributes:
        host: address to listen on.
        port: port; 0 takes a free one.
        max_upload_bytes: longest upload.
        review_only: whether the review of datasets is the only page; FOLDER is the dataset then.
    """

    host: str = "127.0.0.1"
    port: int = 0
    max_upload_bytes: int = 64 * 10**9
    review_only: bool = False


def create_app(store: Store, bus: Bus, app: App | None, *, hosts: frozenset[str]) -> Starlette:
    """Return the ASGI application.

    Args:
        store: files, jobs, presets.
        bus: tells the pages what happens.
        app: files, previews and jobs; None where the review is the only page.
        hosts: accepted values of ``Host``, see :func:`apisr.app.security.allowed_hosts`.
    """
    routes = [route("GET", "/api/events", bus.answer), *ReviewPages(store, bus, alone=app is None).routes()]
    if app is not None:
        routes += app.routes()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        try:
            async with app.running() if app is not None else contextlib.nullcontext():
                yield
        finally:
            store.close()

    starlette = Starlette(
        routes=routes, middleware=[Middleware(Guard, token=store.token, hosts=hosts)], lifespan=lifespan
    )
    starlette.mount("/static", StaticFiles(packages=[("apisr.app", "static")]), name="static")
    return starlette


def serve(store: Store, options: ServerOptions, *, on_ready: Callable[[str], None]) -> None:
    """Run the server until it is interrupted.

    Args:
        store: files, jobs, presets; it is closed at the end.
        options: where the server listens and what it shows.
        on_ready: called with the address of the page, token included.

    Raises:
        InputError: the port is in use, or the address is not this machine's.
    """
    import uvicorn

    from apisr.app.connections import BrokenRequests, PunctualProtocol

    try:
        listener = _listener(options.host, options.port)
    except InputError:
        store.close()
        raise
    port = int(listener.getsockname()[1])
    bus = Bus()
    app = None
    if not options.review_only:
        app = App(store, bus, max_upload_bytes=options.max_upload_bytes, local=is_loopback(options.host))
    application = create_app(store, bus, app, hosts=allowed_hosts(options.host, port))
    config = uvicorn.Config(
        application,
        http=PunctualProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
        lifespan="on",
    )

    logging.getLogger("uvicorn.error").addFilter(BrokenRequests())

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            bus.close()  # the streams of open pages, and what they asked for, would otherwise be waited for
            if app is not None:
                await app.stop_asking()
            await super().shutdown(sockets)

    server = Server(config)
    address = _address(store, options, port)
    with contextlib.suppress(OSError):  # a full disk: a second app then cannot say where this one is
        keep_address(store.home, address)
    on_ready(address)
    server.run(sockets=[listener])


def _address(store: Store, options: ServerOptions, port: int) -> str:
    host = "127.0.0.1" if options.host in ("0.0.0.0", "::", "127.0.0.1") else options.host
    page = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if options.review_only and store.folder is not None:
        return f"{page}/review?dataset={quote(store.id_of(store.folder))}&token={store.token}"
    return f"{page}/?token={store.token}"


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot use {host}:{port}: {error.strerror}. Choose another with --port.", code="port-in-use"
        ) from error
    return listener
