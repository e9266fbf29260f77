"""An encoder that takes the machine must give it back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from apisr.degrade.codecs import round_trip


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed on Linux only")
def test_av1_leaves_no_thread_under_the_realtime_scheduler() -> None:
    round_trip(np.zeros((64, 96, 3), np.uint8), "av1", crf=40)
    kinds: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # a thread of something else that has just ended
            kinds.add(os.sched_getscheduler(int(task.name)))
    assert os.SCHED_OTHER in kinds
    assert not kinds & {os.SCHED_FIFO, os.SCHED_RR}
