"""Giving the machine back after an encoder has taken it.

SVT-AV1, when it runs as the administrator (in a container, say), puts the calling thread and its own threads under the
real-time scheduler at the highest priority; everything else on the machine then waits. :func:`leave_realtime` undoes
that for all threads of this process.

    >>> leave_realtime()
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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
