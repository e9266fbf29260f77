"""The folder of a worker on its machine: it goes when the worker ends, however that happens.

>>> folder = WorkerFolder("apisr-example-")
>>> (folder.path / "picture.png").write_bytes(b"...")
3
>>> folder.remove()
>>> folder.path.exists()
False
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from apisr.core.errors import ApisrError
from apisr.core.locks import take_lock
from apisr.core.processes import remove_with_process

_IN_USE = "in-use"
#: A lock file this young may belong to a worker that is about to take the lock.
_STARTING_S = 60.0


class WorkerFolder:
    """A new folder among the temporary files, with a lock in it that is held as long as the process lives.

    Three things remove it: :meth:`remove`; the end of this process (:func:`apisr.core.processes.remove_with_process`);
    and, where the machine itself went down, the next worker that makes a folder of this kind.

    Args:
        prefix: how the names of folders of this kind begin.

    Attributes:
        path: the folder.
    """

    def __init__(self, prefix: str) -> None:
        remove_abandoned_folders(prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        remove_with_process(self.path)
        self._lock = take_lock(self.path / _IN_USE, busy="another worker has this folder")

    def remove(self) -> None:
        """Remove the folder with all that is in it; nothing happens if it is gone."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Generator[Path]:
    """Make a folder among the temporary files for as long as the block runs.

    What a power cut or ``kill -9`` leaves of it, the next that is made with the prefix removes.

    >>> with temporary_folder("apisr-example-") as folder:
    ...     folder.is_dir()
    True
    >>> folder.exists()
    False
    """
    remove_abandoned_folders(prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        lock = take_lock(Path(name) / _IN_USE, busy="another program has this folder")
        try:
            yield Path(name)
        finally:
            lock.release()


def remove_abandoned_folders(prefix: str) -> None:
    """Remove the folders of workers that were killed: those whose locks nobody holds, a minute after they were made.

    Args:
        prefix: how their names begin.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        mark = folder / _IN_USE
        try:
            if folder.is_symlink() or mark.is_symlink() or not mark.is_file():
                continue
            if time.time() - mark.stat().st_mtime < _STARTING_S:
                continue
            take_lock(mark, busy="a worker has this folder").release()
        except (ApisrError, OSError):
            continue
        shutil.rmtree(folder, ignore_errors=True)
