"""Being a good neighbour: a quick start, the cores there are, workers that end with their parent, giving way.

SVT-AV1, when it runs as the administrator (in a container, say), puts the calling thread and its own threads under the
real-time scheduler at the highest priority; everything else on the machine then waits. :func:`leave_realtime` undoes
that for all threads of this process.

    >>> leave_realtime()
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_WATCH_EVERY_S = 1.0
_waiting: list[subprocess.Popen[bytes]] = []
#: Program that waits until the other end of its standard input is closed.
#: It leaves its parent first: Ray kills the children of a worker with it.
_REMOVE = """
import os, shutil, sys
if hasattr(os, "fork") and os.fork():
    os._exit(0)
sys.stdin.buffer.read()
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


@contextlib.contextmanager
def loading() -> Generator[None]:
    """Import without looking for garbage: what is loaded stays to the end, and looking through it slows the start."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def remove_with_process(folder: Path) -> None:
    """Remove a folder of this process when the process ends, however that happens.

    A process of its own, in a session of its own, waits for the end of a pipe that nobody but this process holds.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _REMOVE, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/" if os.name == "posix" else None,
        start_new_session=True,
    )
    _waiting.append(process)  # the pipe is held to the end of this process
    if hasattr(os, "fork"):
        process.wait()


def end_with_parent() -> None:
    """Make this worker process end when the process that started it ends, however that happens.

    Call it first in a worker (it suits as the ``initializer`` of a pool). Linux tells the worker by a signal; elsewhere
    a thread looks once a second whether the parent is still there. The signal is bound to the thread that forked the
    worker, so the thread that makes a pool must live as long as the pool; the watching thread covers the rest.
    """
    import multiprocessing

    started_by = multiprocessing.parent_process()  # known even if it ended before this line
    parent = os.getppid() if started_by is None or started_by.pid is None else started_by.pid
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="apisr-parent-watch", daemon=True).start()


@contextlib.contextmanager
def stopping_cleanly() -> Generator[None]:
    """Let the signals that would end this program at once end it as Ctrl-C does: what it holds for a time is removed.

    Signals that something else takes care of already stay as they are.
    """
    changed: list[int] = []
    if threading.current_thread() is threading.main_thread():
        changed = [number for number in stop_signals() if signal.getsignal(number) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def stop_signals() -> tuple[int, ...]:
    """Return the signals that ask a run to stop: Ctrl-C, SIGTERM, and the end of the terminal (SIGHUP).

    A program that was begun to outlive its terminal (``nohup``) ignores the last one, and goes on ignoring it.

    >>> signal.SIGINT in stop_signals()
    True
    """
    hangup: int | None = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, hangup


def usable_cores() -> int:
    """Return how many processor cores this process may use: those it is bound to, less what its container leaves.

    >>> usable_cores() >= 1
    True
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def leave_realtime() -> None:
    """Put every thread of this process that is under a real-time scheduler back under the usual one (Linux)."""
    tasks = Path("/proc/self/task")
    if not hasattr(os, "sched_setscheduler") or not tasks.is_dir():
        return
    for task in tasks.iterdir():
        with contextlib.suppress(OSError, ValueError):
            number = int(task.name)
            if os.sched_getscheduler(number) in (os.SCHED_FIFO, os.SCHED_RR):
                os.sched_setscheduler(number, os.SCHED_OTHER, os.sched_param(0))
