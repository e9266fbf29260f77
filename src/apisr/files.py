"""Writing files so that a failed run never looks like a success.

Everything that the package writes goes through :func:`replacing`: the content is written beside the target under a
``.partial`` name and renamed when it is complete. Nothing that exists is replaced unless asked.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as partial:
    ...     _ = partial.write_text("done")
    >>> (folder / "a.txt").read_text()
    'done'
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Generator
from pathlib import Path

from apisr.errors import InputError, RunError


def partial_path(target: Path) -> Path:
    """Return the name under which `target` is written until it is complete (same folder, same suffix last)."""
    return target.with_name(f"{target.stem}.partial{target.suffix}")


def check_target(target: Path, *, overwrite: bool = False) -> None:
    """Check that `target` may be written, before any work is done.

    Raises:
        InputError: it exists and `overwrite` is false, it is a folder, or its folder cannot be written.
    """
    if target.is_dir():
        raise InputError(f"cannot write '{target}': it is a folder. Give a file name.")
    if target.exists() and not overwrite:
        raise InputError(f"'{target}' exists. Give another name or add --overwrite.")
    parent = target.parent
    while not parent.exists():
        if parent.parent == parent:
            raise InputError(f"cannot write '{target}': no such folder.")
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(f"cannot write '{target}': '{parent}' is a file, not a folder.")
    if not _writable(parent):
        raise InputError(
            f"cannot write '{target}': no permission to write in '{parent}'. Choose another folder with -o."
        )


@contextlib.contextmanager
def replacing(target: Path, *, overwrite: bool = False, keep_partial: bool = False) -> Generator[Path]:
    """Give a partial name to write to; rename it to `target` when the block ends without an error.

    Args:
        target: the final name; missing parent folders are made.
        overwrite: replace an existing file.
        keep_partial: keep what was written when the block fails (under the partial name only).

    Raises:
        InputError: see :func:`check_target`.
        RunError: the disk is full or the file system refused.
    """
    check_target(target, overwrite=overwrite)
    partial = partial_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if target.exists() and not overwrite:
            raise RunError(f"'{target}' appeared while it was being made; it is left as it is.")
        partial.replace(target)
    except BaseException as error:
        if not keep_partial:
            with contextlib.suppress(OSError):
                partial.unlink()
        if isinstance(error, OSError):
            raise _explained(error, target) from error
        raise


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _explained(error: OSError, target: Path) -> RunError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"cannot write '{target}': the disk is full. Free some space or choose another folder with -o.")
    return RunError(f"cannot write '{target}': {error.strerror or error}.")


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)
