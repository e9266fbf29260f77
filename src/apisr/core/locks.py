"""The one lock: two runs never work on the same output, work folder or dataset at once.

The lock is the operating system's (by filelock), so it goes with the process that holds it, however that process ends.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with hold_lock(folder / ".lock", busy="another run works here"):
    ...     pass
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

from apisr.core.errors import InputError


@contextlib.contextmanager
def hold_lock(path: Path, *, busy: str, code: str = "busy") -> Generator[None]:
    """Hold a lock file for this process while the block runs.

    Args:
        path: the lock file; missing folders above it are made. It stays on disk, empty.
        busy: the line that is shown when another process (or another part of this one) holds it.
        code: code of that error.

    Raises:
        InputError: the lock is held by somebody else, or cannot be made.
    """
    lock = take_lock(path, busy=busy, code=code)
    try:
        yield
    finally:
        lock.release()


class HeldLock:
    """A lock that is held until :meth:`release`; made by :func:`take_lock`."""

    def __init__(self, path: Path, lock: object) -> None:
        self.path = path
        self._lock = lock

    def release(self) -> None:
        """Give the lock back; nothing happens if it was given back before."""
        from filelock import BaseFileLock

        if isinstance(self._lock, BaseFileLock):
            self._lock.release()


def take_lock(path: Path, *, busy: str, code: str = "busy") -> HeldLock:
    """Take a lock and keep it; the arguments are those of :func:`hold_lock`.

    Raises:
        InputError: another process holds it (`code`), or the disk knows no locks (``"cannot-lock"``).
    """
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0, is_singleton=False)
        lock.acquire()
    except Timeout:
        raise InputError(busy, code=code) from None
    except OSError as error:
        raise InputError(
            f"cannot lock '{path}': {error.strerror or error}. Choose a folder on a disk that knows locks.",
            code="cannot-lock",
        ) from error
    return HeldLock(path, lock)


@contextlib.contextmanager
def wait_for_lock(path: Path) -> Generator[None]:
    """Hold a lock file while the block runs, after waiting for whoever holds it: the work is then found done.

    Args:
        path: the lock file; missing folders above it are made.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path, is_singleton=False):
        yield
