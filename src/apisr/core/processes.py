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
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_WATCH_EVERY_S = 1.0


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
