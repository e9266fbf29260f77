"""Child processes of the app: one line of JSON each way for every message.

A worker answers requests one after the other. Its crash fails the request that it was working on and nothing else; the
next request starts a new one. It ends with the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from apisr.app.advice import TRY_AGAIN
from apisr.core.errors import Cancelled, InputError, RunError
from apisr.core.text import printable

#: Longest message of a worker, in bytes.
MAX_LINE_BYTES = 8 << 20
_STOP_SECONDS = 20.0

EventFn = Callable[[dict[str, object]], None]


@dataclass
class _Waiting:
    answer: asyncio.Future[dict[str, object]]
    on_event: EventFn | None = None
    cancelled: bool = False
    process: asyncio.subprocess.Process | None = None


@dataclass
class WorkerProcess:
    """A child process that is started when it is first needed.

    Attributes:
        name: what it is for; shown in errors.
    """

    name: str
    _process: asyncio.subprocess.Process | None = None
    _reader: asyncio.Task[None] | None = None
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _waiting: dict[int, _Waiting] = field(default_factory=dict[int, _Waiting])
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(
        self, do: str, arguments: Mapping[str, object], *, on_event: EventFn | None = None
    ) -> dict[str, object]:
        """Send a request and wait for its answer.

        Args:
            do: name of a task in :mod:`apisr.app.worker`.
            arguments: its arguments.
            on_event: called with every event that comes before the answer.

        Raises:
            InputError: the task refused its input.
            RunError: the task failed, or the process died.
            Cancelled: :meth:`cancel` was called before the process had started.
        """
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[number] = _Waiting(answer, on_event)
        try:
            process = await self._started()
            if waiting.cancelled:
                raise Cancelled("cancelled.", code="cancelled")
            waiting.process = process
            await self._send(process, {"id": number, "do": do, "arguments": dict(arguments)})
            reply = await answer
        finally:
            self._waiting.pop(number, None)
        error = reply.get("error")
        if isinstance(error, dict):
            values = {str(key): str(value) for key, value in error.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            kind = InputError if values.get("exit_code") == "2" else RunError
            raise kind(_by_names(values.get("message", "failed"), arguments), code=values.get("code"))
        result = reply.get("result")
        return result if isinstance(result, dict) else {}  # pyright: ignore[reportUnknownVariableType]

    async def cancel(self) -> None:
        """Ask what is waited for to stop at its next safe point; its answer then says that it was cancelled."""
        for waiting in self._waiting.values():
            waiting.cancelled = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(RunError):  # it has just ended by itself
                await self._send(self._process, {"do": "cancel"})

    async def stop(self, *, patience_s: float = _STOP_SECONDS) -> None:
        """End the process: politely, and for good if it goes on for longer than `patience_s`."""
        async with self._starting:  # one that is being started is ended, too
            process = self._process
        if process is None:
            return
        if process.returncode is None:
            await self.cancel()
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), patience_s)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader
        self._process = None

    async def _started(self) -> asyncio.subprocess.Process:
        async with self._starting:
            process = self._process
            if process is not None and _has_ended(process.pid):
                await process.wait()
            if process is None or process.returncode is not None:
                process = self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "apisr.app.worker"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=MAX_LINE_BYTES,
                )
                self._reader = asyncio.create_task(self._read(process))
            return process

    async def _send(self, process: asyncio.subprocess.Process, message: Mapping[str, object]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            await process.stdin.drain()
        except (ConnectionError, BrokenPipeError):
            raise RunError(f"the process for {self.name} has ended. {TRY_AGAIN}", code="worker-died") from None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                message: dict[str, object] = json.loads(line)
            except ValueError:
                continue
            waiting = self._waiting.get(int(str(message.get("id", 0))))
            if waiting is None:
                continue
            event = message.get("event")
            if isinstance(event, dict):
                if waiting.on_event is not None:
                    waiting.on_event(event)  # pyright: ignore[reportUnknownArgumentType]
            elif not waiting.answer.done():
                waiting.answer.set_result(message)
        code = await process.wait()
        died = {"message": f"the process for {self.name} {_how_it_ended(code)}. {TRY_AGAIN}", "code": "worker-died"}
        for waiting in self._waiting.values():
            if waiting.process is process and not waiting.answer.done():
                waiting.answer.set_result({"error": died})


def _has_ended(pid: int) -> bool:
    """Whether a child process has died, also where the event loop has not heard of it yet."""
    if not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _how_it_ended(code: int) -> str:
    """Return how a process ended, in words.

    >>> _how_it_ended(3)
    'ended with status 3'
    >>> _how_it_ended(-11)
    'was ended by signal 11'
    """
    if code >= 0:
        return f"ended with status {code}"
    is_killed = os.name == "posix" and code == -signal.SIGKILL
    return f"was ended by signal {-code}" + (" (the system does that where memory runs out)" if is_killed else "")


def _by_names(message: str, arguments: Mapping[str, object]) -> str:
    """Return a message for the page, in which files have their names and not their paths.

    >>> _by_names("cannot read '/home/a/b.png'.", {"path": "/home/a/b.png", "time": 0})
    "cannot read 'b.png'."
    """
    values: list[object] = []
    for value in arguments.values():
        values += cast("list[object]", value) if isinstance(value, list) else [value]
    for text in sorted((value for value in values if isinstance(value, str)), key=len, reverse=True):
        if Path(text).is_absolute():
            message = message.replace(text, Path(text).name)
    return printable(message)
