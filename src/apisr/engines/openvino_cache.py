"""Compiled networks on the disk, with checksums: OpenVINO loads what it finds there, also where a part of it is lost.

Each network has a folder of its own, so that nothing is read but what it needs.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator
from pathlib import Path

from apisr.core.files import refused_to_keep, sha256_file
from apisr.core.locks import wait_for_lock

_SUM = ".sha256"


@contextlib.contextmanager
def checked_folder(folder: Path, *identity: object) -> Generator[dict[str, str]]:
    """Give the options that name the folder of a compiled network, in which nothing is damaged.

    Args:
        folder: holds the folders of all networks.
        identity: what decides what is compiled.
    """
    own = folder / hashlib.sha256(repr(identity).encode()).hexdigest()[:24]
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(wait_for_lock(own / "lock"))
            for path in own.glob("*.blob"):
                if not is_whole(path):
                    path.unlink()
                    sum_path(path).unlink(missing_ok=True)
        except OSError:  # a read-only home: compiled anew at every start
            options: dict[str, str] = {}
        else:
            options = {"CACHE_DIR": str(own)}
        yield options
        if options:
            with contextlib.suppress(OSError):
                for path in own.glob("*.blob"):
                    seal(path)


def is_whole(path: Path) -> bool:
    """Whether a file is what it was when :func:`seal` was called; files that were never sealed are not."""
    try:
        return sum_path(path).read_text(encoding="ascii") == sha256_file(path)
    except (OSError, ValueError):
        return False


def seal(path: Path) -> None:
    """Write the checksum of a file beside it, if it has none."""
    if not sum_path(path).exists():
        refused_to_keep(sum_path(path), sha256_file(path).encode())


def sum_path(path: Path) -> Path:
    """Return where the checksum of a file is."""
    return path.with_name(path.name + _SUM)
