"""Many machines: a pool of workers on a Ray cluster, where a worker that dies is replaced and its item done again.

A worker is an object with ``work(item)`` and ``close()`` that lives in a process on a machine of the cluster. This
module knows nothing of what the items are.

    ray start --head                                  # on the first machine
    ray start --address=first:6379                    # on the others

    >>> pool = ActorPool(Squarer, address="local")                                          # doctest: +SKIP
    >>> dict(pool.map_unordered(range(3)))                                                  # doctest: +SKIP
    {0: 0, 1: 1, 2: 4}
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from apisr.core.errors import ApisrError, InputError, MissingExtra, RunError
from apisr.core.progress import Cancel

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

#: An item is given up after this many workers died over it.
ATTEMPTS = 4
_CLOSE_WITHIN_S = 10
_LOOK_EVERY_S = 0.5
_ANSWER_WITHIN_S = 5.0
#: How a client of HTTP/2 begins: the preface and an empty frame of settings. A server answers with its own settings.
_FRAME_HEAD_BYTES, _SETTINGS = 9, b"\x04"
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + bytes(5)


class Worker(Protocol[T_contra, R_co]):
    """Lives in a process on a machine of the cluster and does one item after the other."""

    def work(self, item: T_contra, /) -> R_co:
        """Do one item."""
        ...

    def close(self) -> None:
        """Remove what is on this machine's disk; a worker that is killed is not asked.

        See :class:`apisr.core.worker_folder.WorkerFolder`.
        """
        ...


@dataclass(frozen=True)
class Lost:
    """Stands for the answer to an item over which too many workers died."""

    error: RunError


@dataclass
class _Item(Generic[T]):
    value: T
    deaths: int = 0


def connect(address: str) -> Any:
    """Connect to a cluster, or start one on this machine for ``"local"``; return the ``ray`` module.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: no cluster answers at that address.
    """
    ray = _ray()
    if ray.is_initialized():
        return ray
    check_answers((os.environ.get("RAY_ADDRESS") or "auto") if address == "auto" else address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise _no_cluster(address, reason) from error
    return ray


def check_answers(address: str, *, within_s: float = _ANSWER_WITHIN_S) -> None:
    """Check that something at an address speaks gRPC as Ray does; Ray itself asks without end.

    Args:
        address: ``"host:6379"`` or ``"ray://host:10001"``; others, as ``"auto"`` and ``"local"``, are left to Ray.
        within_s: how long the whole check may take.

    Raises:
        InputError: nothing answers there, or something else does.
    """
    scheme, _, place = address.rpartition("://")
    if address in ("auto", "local") or scheme not in ("", "ray"):
        return
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise _no_cluster(address, "expected host:port, auto or local")
    reasons = [f"no answer within {within_s:g} s"]

    def ask() -> None:  # in a thread: looking a name up has no time limit of its own
        try:
            reasons.append(_greeted(host.strip("[]"), int(port), within_s))
        except OSError as error:
            reasons.append(error.strerror or str(error))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(within_s)
    if reasons[-1]:
        raise _no_cluster(address, reasons[-1])


def _greeted(host: str, port: int, within_s: float) -> str:
    """Greet a server as a client of gRPC does; return what is wrong with its answer, nothing where it is right."""
    with socket.create_connection((host, port), timeout=within_s) as connection:
        if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
            return ""
        connection.sendall(_GREETING)
        answer = connection.recv(_FRAME_HEAD_BYTES, socket.MSG_WAITALL)
    return "" if answer[3:4] == _SETTINGS else "what answers there is no Ray"


def _no_cluster(address: str, reason: str) -> InputError:
    return InputError(
        f"no Ray cluster at '{address}' ({reason}). Start one with 'ray start --head' and give its address.",
        code="no-cluster",
    )


class ActorPool(Generic[T, R]):
    """Gives items to workers as they become free; workers that die are replaced.

    Args:
        worker: class of the workers.
        arguments: what the workers are made with; they travel to the machines.
        address: of the cluster (``"host:6379"``, ``"auto"``, ``"local"``).
        workers: how many; by default one per graphics card, or one per machine where there is none.
        on_start: called with the handle of every new worker before its first item.
        label: names an item in messages.
        cancel: stops the work, also in the middle of an item.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: no cluster answers at that address.
    """

    def __init__(
        self,
        worker: Callable[..., Worker[T, R]],
        arguments: tuple[object, ...] = (),
        *,
        address: str,
        workers: int | None = None,
        on_start: Callable[[Any], None] | None = None,
        label: Callable[[T], str] = lambda item: f"'{item}'",
        cancel: Cancel | None = None,
    ) -> None:
        self._ray = connect(address)
        self._worker = worker
        self._arguments = arguments
        self._size = workers or self._default_size()
        self._on_start = on_start
        self._label = label
        self._cancel = cancel or Cancel()
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[_Item[T], Any]] = {}
        self._failed_starts = 0
        exceptions = self._ray.exceptions
        self._death = (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.ObjectLostError)

    def map_unordered(self, items: Iterable[T]) -> Generator[tuple[T, R | Lost]]:
        """Yield (item, answer) as the items are finished; items are taken when a worker is free for one.

        Raises:
            ApisrError: what a worker raised, or no worker can be started.
            Cancelled: a stop was asked for; workers in the middle of an item are ended.
        """
        coming = iter(items)
        again: list[_Item[T]] = []
        try:
            while True:
                self._hand_out(coming, again)
                if not self._running:
                    return
                ready = self._wait()
                item, worker = self._running.pop(ready)
                try:
                    answer = self._ray.get(ready)
                except self._death as error:
                    item.deaths += 1
                    if item.deaths < ATTEMPTS:
                        again.append(item)
                        continue
                    answer = Lost(self._too_many_deaths(item, error))
                except self._ray.exceptions.RayTaskError as error:
                    self._idle.append(worker)  # it is closed with the others
                    raise _original(error) from error
                else:
                    self._idle.append(worker)
                yield item.value, answer
        finally:
            self._end()

    def start_worker(self) -> Any:
        """Start one worker: on a card of its own where the cluster has cards, spread over the machines elsewhere.

        Raises:
            ApisrError: the worker cannot be made there.
        """
        cards = self._ray.cluster_resources().get("GPU", 0)
        actor = self._ray.remote(num_cpus=1, num_gpus=1 if cards else 0, max_restarts=0, scheduling_strategy="SPREAD")(
            self._worker
        )
        handle = actor.remote(*self._arguments)
        try:
            if self._on_start is not None:
                self._on_start(handle)
        except BaseException as error:
            self._ray.kill(handle)
            if isinstance(error, self._ray.exceptions.RayTaskError) and not isinstance(error, self._death):
                raise _original(error) from error
            raise
        return handle

    def _wait(self) -> object:
        """Return the handle of the next answer; a stop is not kept waiting for it."""
        while True:
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_LOOK_EVERY_S)
            if ready:
                return ready[0]
            self._cancel.check()

    def _hand_out(self, coming: Iterator[T], again: list[_Item[T]]) -> None:
        while self._idle or len(self._running) < self._size:
            item = again.pop() if again else next((_Item(value) for value in coming), None)
            if item is None:
                return
            try:
                worker = self._idle.pop() if self._idle else self.start_worker()
                self._running[worker.work.remote(item.value)] = (item, worker)
            except self._death as error:
                again.append(item)
                self._failed_starts += 1
                if self._failed_starts > ATTEMPTS + self._size:
                    raise RunError(
                        f"no worker of the cluster can be started ({_line(error)}).", code="no-worker"
                    ) from error

    def _too_many_deaths(self, item: _Item[T], error: Exception) -> RunError:
        return RunError(
            f"{item.deaths} workers of the cluster died over {self._label(item.value)} ({_line(error)}). "
            "Finished parts are kept: run the command again.",
            code="workers-died",
        )

    def _default_size(self) -> int:
        cards = int(self._ray.cluster_resources().get("GPU", 0))
        machines = sum(1 for node in self._ray.nodes() if node["Alive"])
        return max(1, cards or machines)

    def _end(self) -> None:
        with contextlib.suppress(Exception):
            self._ray.get([worker.close.remote() for worker in self._idle], timeout=_CLOSE_WITHIN_S)
        for worker in [*self._idle, *(worker for _, worker in self._running.values())]:
            with contextlib.suppress(Exception):
                self._ray.kill(worker)
        self._idle.clear()
        self._running.clear()


def or_raise(answers: Generator[tuple[T, R | Lost]]) -> Generator[tuple[T, R]]:
    """Yield the answers of :meth:`ActorPool.map_unordered`; raise for the first item that was lost.

    Raises:
        RunError: too many workers died over an item.
    """
    with contextlib.closing(answers):
        for item, answer in answers:
            if isinstance(answer, Lost):
                raise answer.error
            yield item, answer


def _original(error: Any) -> Exception:
    """Return what went wrong on the worker, as it would be raised here."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ApisrError):
        return cause
    return RunError(f"a worker of the cluster failed: {_line(cause or error)}", code="worker-failed")


def _line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:200]


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about the user's work leaves the machine
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtra("cluster", "for --cluster") from error
