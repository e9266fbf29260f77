"""The life of the server: who may connect, what answers, how it ends."""

from __future__ import annotations

import socket
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from apisr.app.handlers import App
from apisr.app.security import Guard, allowed_hosts
from apisr.app.store import Store
from apisr.core.errors import InputError


def create_app(store: Store, *, hosts: frozenset[str], max_upload_bytes: int) -> Starlette:
    """Return the ASGI application.

    Args:
        store: files, jobs, presets.
        hosts: accepted values of ``Host``, see :func:`apisr.app.security.allowed_hosts`.
        max_upload_bytes: longest upload.
    """
    app = App(store, max_upload_bytes=max_upload_bytes)
    starlette = Starlette(
        routes=app.routes(),
        middleware=[Middleware(Guard, token=store.token, hosts=hosts)],
        lifespan=app.lifespan,
    )
    starlette.mount("/static", StaticFiles(packages=[("apisr.app", "static")]), name="static")
    return starlette


def serve(store: Store, *, host: str, port: int, max_upload_bytes: int, on_ready: Callable[[str], None]) -> None:
    """Run the server until it is interrupted.

    Args:
        store: files, jobs, presets; it is closed at the end.
        host: address to listen on.
        port: port; 0 takes a free one.
        max_upload_bytes: longest upload.
        on_ready: called with the address of the page, token included.

    Raises:
        InputError: the port is in use, or the address is not this machine's.
    """
    import uvicorn

    listener = _listener(host, port)
    real_port = int(listener.getsockname()[1])
    app = create_app(store, hosts=allowed_hosts(host, real_port), max_upload_bytes=max_upload_bytes)
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "127.0.0.1") else host
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, timeout_keep_alive=30, lifespan="on"
    )
    server = uvicorn.Server(config)
    on_ready(f"http://{f'[{shown}]' if ':' in shown else shown}:{real_port}/?token={store.token}")
    server.run(sockets=[listener])


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
