"""How much memory there is: of the machine, of its container, and what a request may take of it.

A file of a few bytes can ask for gigabytes. Whoever allocates by what a file says asks :func:`check_memory` first.

    >>> available_memory() > 0
    True
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from apisr.core.errors import InputError

#: Share of the available memory that one picture may take.
SHARE_OF_AVAILABLE = 0.6
#: What is assumed where the system does not say.
FALLBACK_BYTES = 4 << 30
#: A request below this is not at fault: the memory is.
_SMALL_BYTES = 32 << 20
#: Settings of glibc's mallopt(3): how many blocks are mapped by themselves, how much free memory at the end is kept.
_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1


def total_memory() -> int:
    """Return the memory of the machine or of the container that this process runs in, in bytes."""
    found = FALLBACK_BYTES
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        found = _windows_memory()[0]
    limit = _cgroup_number("memory.max", "memory/memory.limit_in_bytes")
    return min(found, limit) if limit else found


def available_memory() -> int:
    """Return how many bytes can be taken without swapping, by the machine's and the container's own count."""
    found = total_memory() // 2
    if sys.platform == "win32":
        return _windows_memory()[1]
    with contextlib.suppress(OSError, ValueError, StopIteration, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    limit = _cgroup_number("memory.max", "memory/memory.limit_in_bytes")
    used = _cgroup_number("memory.current", "memory/memory.usage_in_bytes")
    if limit and limit < total_memory() * 4:
        found = min(found, max(0, limit - (used or 0) + _reclaimable()))
    return min(found, total_memory(), _address_space_left())


def check_memory(needed_bytes: int, *, what: str, advice: str = "Use a smaller picture.") -> None:
    """Check that a request fits into the memory, before it is allocated.

    Args:
        needed_bytes: what will be allocated.
        what: whose request it is, for the message: ``"'a.png' (60000x60000 pixels)"``.
        advice: what to do instead, where the request is not small itself.

    Raises:
        InputError: with code ``"too-large"``.
    """
    budget = int(available_memory() * SHARE_OF_AVAILABLE)
    if needed_bytes > budget:
        if needed_bytes < _SMALL_BYTES:
            advice = "Close other programs, or raise the limit of memory (ulimit -v, the container)."
        raise InputError(
            f"{what} needs {memory_text(needed_bytes)} of memory, {memory_text(budget)} can be taken. {advice}",
            code="too-large",
        )


def memory_text(size_bytes: int) -> str:
    """Return an amount of memory for people.

    >>> memory_text(3 << 29), memory_text(70_000), memory_text(0)
    ('1.5 GB', '0.07 MB', '0.00 MB')
    """
    if size_bytes >= 1 << 30:
        return f"{size_bytes / 2**30:.1f} GB"
    return f"{size_bytes / 2**20:.{0 if size_bytes >= 10 << 20 else 2}f} MB"


def keep_freed_memory() -> bool:
    """Let this process keep memory that it frees, for work that takes and frees the same large blocks over and over.

    glibc gives blocks of more than 32 MiB back to the system at once, so that each step of a training has its pages
    cleared and mapped anew. It is told not to; other allocators stay as they are, and so does one that the environment
    has set up (``MALLOC_...``, ``GLIBC_TUNABLES``). It holds until the process ends.

    Returns:
        Whether the allocator was told.
    """
    if not sys.platform.startswith("linux") or any(
        name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ
    ):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    told = [mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)]
    return all(told)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: libraries that are loaded late find no room for themselves.

    >>> is_out_of_memory(ImportError("libssl.so: failed to map segment from shared object"))
    True
    """
    if isinstance(error, ImportError | OSError):
        return any(word in str(error) for word in ("failed to map segment", "cannot allocate memory"))
    return isinstance(error, MemoryError)


def _cgroup_number(*names: str) -> int | None:
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            return int((Path("/sys/fs/cgroup") / name).read_text(encoding="ascii"))
    return None


def _reclaimable() -> int:
    with contextlib.suppress(OSError, ValueError, StopIteration, IndexError):
        lines = Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return 0


def _address_space_left() -> int:
    """Return what ``ulimit -v`` leaves to this process."""
    unlimited = 1 << 62
    if sys.platform == "win32":
        return unlimited
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return unlimited
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return max(0, limit - pages * os.sysconf("SC_PAGE_SIZE"))
    return limit


def _windows_memory() -> tuple[int, int]:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *[
                (name, ctypes.c_ulonglong)
                for name in ("total", "free", "page", "page_free", "virtual", "virtual_free", "more")
            ],
        ]

    status = Status()
    status.length = ctypes.sizeof(status)
    loader = getattr(ctypes, "windll", None)
    if loader is None or not loader.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return FALLBACK_BYTES, FALLBACK_BYTES // 2
    return int(status.total), int(status.free)
