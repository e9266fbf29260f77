"""Writing files so that a failed run never looks like a success.

Everything that the package writes goes through :func:`atomic_path` or :func:`write_atomic`: the content is written
beside the target under a ``.partial`` name, flushed to the disk, and renamed when it is complete. Nothing that exists
is replaced unless asked.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as partial:
    ...     _ = partial.write_text("done")
    >>> (folder / "a.txt").read_text()
    'done'
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Generator
from io import BufferedReader
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from apisr.core.errors import ApisrError, InputError, RunError

#: Names of files have at most this many bytes on the file systems in use.
_NAME_BYTES = 255
_PIPE_OR_DEVICE = "it is a pipe or a device"


def partial_path(target: Path) -> Path:
    """Return the name under which `target` is written until it is complete (same folder, same suffix last)."""
    return target.with_name(name_with(target.stem, f".partial{target.suffix}"))


def name_with(stem: str, ending: str) -> str:
    """Return ``stem + ending``; a stem for which a file system has no room is cut and told apart by its hash.

    >>> name_with("ep", ".partial.mkv"), len(name_with("x" * 250, ".partial.mkv"))
    ('ep.partial.mkv', 255)
    """
    encoded, room = os.fsencode(stem), _NAME_BYTES - len(os.fsencode(ending))
    if len(encoded) <= room:
        return stem + ending
    mark = f"~{hashlib.sha256(encoded).hexdigest()[:8]}"
    kept = encoded[: room - len(mark)].decode("utf-8", "ignore")
    return kept + mark + ending


def check_target(target: Path, *, overwrite: bool = False) -> None:
    """Check that `target` may be written, before any work is done.

    Raises:
        InputError: it exists and `overwrite` is false, it is a folder, or its folder cannot be written.
    """
    if real_path(target).is_symlink():
        raise InputError(f"cannot write '{target}': it is a link that leads in a circle.", code="cannot-write")
    for path in (target, partial_path(target)):
        if path.is_dir():
            raise InputError(
                f"cannot write '{target}': {'it' if path == target else repr(path.name)} is a folder. "
                "Give another file name.",
                code="output-is-folder",
            )
    if target.exists() and not overwrite:
        raise InputError(f"'{target}' exists. Give another name or add --overwrite.", code="output-exists")
    parent = target.parent
    while not parent.exists():
        if parent.is_symlink():
            raise InputError(f"cannot write '{target}': '{parent}' is a link that leads nowhere.", code="cannot-write")
        if parent.parent == parent:
            raise InputError(f"cannot write '{target}': no such folder.", code="cannot-write")
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(f"cannot write '{target}': '{parent}' is a file, not a folder.", code="cannot-write")
    if not _writable(parent):
        raise InputError(
            f"cannot write '{target}': no permission to write in '{parent}'. Choose another folder with -o.",
            code="cannot-write",
        )


@contextlib.contextmanager
def atomic_path(target: Path, *, overwrite: bool = False, keep_partial: bool = False) -> Generator[Path]:
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
        claim = _claim(partial, target)
    except OSError as error:
        raise write_error(error, target) from error
    try:
        yield partial
        if target.exists() and not overwrite:
            raise RunError(f"'{target}' appeared while it was being made; it is left as it is.", code="output-exists")
        if partial.is_file():
            flush_to_disk(partial)
        partial.replace(target)
    except BaseException as error:
        if not keep_partial:
            with contextlib.suppress(OSError):
                partial.unlink()
        if isinstance(error, OSError):
            raise write_error(error, target) from error
        raise
    finally:
        if claim is not None:
            os.close(claim)


def write_atomic(target: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write bytes so that `target` is either complete or absent; errors as in :func:`atomic_path`."""
    with atomic_path(target, overwrite=overwrite) as partial:
        with partial.open("wb") as file:
            file.write(content)
        written = partial.stat().st_size
        if written != len(content):
            raise RunError(
                f"cannot write '{target}': {written} of {len(content)} bytes reached the disk.", code="short-write"
            )


def refused_to_keep(path: Path, content: bytes) -> str:
    """Write a file of a cache; return why that is not possible, which stops nobody, else an empty text."""
    try:
        write_atomic(path, content, overwrite=True)
    except (OSError, ApisrError) as error:
        return str(error)
    return ""


def flush_to_disk(path: Path) -> None:
    """Wait until what was written to a file is on the disk (a disk that is full says so here at the latest)."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that holds a folder, or will hold it."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def path_inside(folder: Path, name: str) -> Path:
    """Return ``folder/name`` for a relative name that comes from a manifest, card, archive or report.

    Raises:
        InputError: the name is absolute or leads out of the folder (by ``..`` or a link).

    >>> path_inside(Path("data"), "a/b.png").as_posix()
    'data/a/b.png'
    """
    path = folder / name
    outside = not name or "\0" in name or Path(name).is_absolute() or PureWindowsPath(name).is_absolute()
    if outside or not real_path(path).is_relative_to(real_path(folder)):
        raise InputError(f"'{name}' leads out of '{folder}' and is not followed.", code="path-outside")
    return path


def read_plain(path: Path, *, at_most: int = 64 << 20) -> bytes:
    """Read a text of settings, records or a report: a plain file, and not a longer one than it has reason to be.

    Raises:
        OSError: it cannot be read, is a pipe or a device (whoever reads one may wait for ever), or is too long.

    >>> read_plain(Path("/dev/null"))
    Traceback (most recent call last):
    OSError: [Errno 22] it is a pipe or a device
    """
    content = bytearray()
    try:
        with open_regular(path) as file:
            while part := file.read(1 << 20):  # never at_most at once: Python makes room for all that is asked for
                content += part
                if len(content) > at_most:
                    raise OSError(errno.EFBIG, f"it is longer than {at_most >> 20} MB")
    except InputError as error:
        raise OSError(errno.EINVAL, _PIPE_OR_DEVICE) from error
    return bytes(content)


def real_path(path: Path) -> Path:
    """Return a path without links and dots; links that lead in a circle stay, in every version of Python."""
    return Path(os.path.realpath(path))


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, and never wait for one: a pipe or a device is refused before it is opened.

    (Opening a pipe would let its writer begin, and closing it would end the writer. One that comes in a file's place
    at that very moment is refused all the same.)

    Raises:
        InputError: it is a pipe or a device (``"not-a-file"``).
        OSError: it cannot be opened.
    """

    def at_once(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    if _is_pipe_or_device(path.stat()):
        raise not_a_file(path)
    file = open(path, "rb", opener=at_once)  # noqa: SIM115 - pathlib has no opener; the caller closes it
    if _is_pipe_or_device(os.fstat(file.fileno())):
        file.close()
        raise not_a_file(path)
    return file


def not_a_file(path: Path) -> InputError:
    """Return what is said of a pipe or a device where a file is expected."""
    return InputError(
        f"cannot read '{path}': {_PIPE_OR_DEVICE}. Pipes are read by 'apisr upscale - -o -'.", code="not-a-file"
    )


def _is_pipe_or_device(status: os.stat_result) -> bool:
    return not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


class FileIdentity:
    """By what a file that is replaced or changed while it is read is noticed.

    Args:
        path: its name.
        file: the open file.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._opened = os.fstat(file.fileno())

    def check_unchanged(self) -> None:
        """Check that the file of this name is still the one that was opened, and as it was.

        Raises:
            RunError: it is not (``"source-changed"``).
        """
        try:
            now = self._path.stat()
        except OSError:
            raise source_changed(self._path) from None
        before = self._opened
        same = os.path.samestat(now, before) and now.st_size == before.st_size
        if not same or now.st_mtime_ns != before.st_mtime_ns:
            raise source_changed(self._path)


def source_changed(path: Path) -> RunError:
    """Return what is said of a file that is no longer the one that was opened."""
    return RunError(
        f"'{path}' was changed or replaced while it was read. Start again when it is complete.", code="source-changed"
    )


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_error(error: OSError, target: Path) -> RunError:
    """Return what is said of an error of the file system while `target` was written."""
    cut_short = error.errno is None and " requested and " in str(error)  # how NumPy says that not all was written
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or cut_short:
        return RunError(
            f"cannot write '{target}': the disk is full. Free some space or choose another folder with -o.",
            code="disk-full",
        )
    if error.errno == errno.EFBIG:
        return RunError(f"cannot write '{target}': the file is larger than this system allows.", code="file-too-large")
    return RunError(f"cannot write '{target}': {error.strerror or error}.", code="cannot-write")


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _claim(partial: Path, target: Path) -> int | None:
    """Make or take over a partial file and lock it, so that two runs never write into one.

    The lock is on the file that is written, and goes with it when it is renamed. Those of :mod:`apisr.core.locks` need
    a file of their own: some versions of filelock empty what they lock, and on Windows it could not be renamed.

    Returns:
        The descriptor that holds the lock; None on systems without locks of this kind.

    Raises:
        RunError: another run is writing it.
        OSError: it cannot be made.
    """
    if partial.is_symlink() or (partial.exists() and partial.stat().st_nlink > 1):
        partial.unlink()  # a link: what it leads to is somebody else's
    try:
        import fcntl
    except ImportError:
        return None
    while True:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), partial.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise RunError(
                f"another run is writing '{target}'. Wait for it, or give another name.", code="output-busy"
            ) from None
        except FileNotFoundError:
            pass  # whoever held it has just finished
        except OSError:  # a file system without locks
            return descriptor
        os.close(descriptor)
