"""Decode files in child processes with a memory limit, so that one bad file never ends the whole run.

A child takes one path after another on its standard input and answers with a line of JSON. It is started anew when it
dies, and when a file takes too long.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

#: A file that takes longer than this counts as a hang.
LIMIT_S = 60.0
_TESTS = str(Path(__file__).resolve().parent.parent)
Media = Literal["datasets", "pictures", "videos"]

_CODE = """
import json, resource, sys
limit = int(sys.argv[1]) << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
import warnings
warnings.simplefilter("ignore")
from apisr.core.errors import ApisrError
if sys.argv[2] == "pictures":
    from apisr.image import read_picture

    def read(path):
        picture = read_picture(path)
        return f"{len(picture.frames)} of {picture.pixels.shape} {picture.pixels.dtype}"
elif sys.argv[2] == "datasets":
    from fuzz.reading import read
else:
    from fuzz.watching import watch as read
for line in sys.stdin:
    path = json.loads(line)
    try:
        answer = {"kind": "read", "detail": read(path)}
    except ApisrError as error:
        text = str(error)
        kind = "refused" if text.isprintable() and error.code != "unexpected" else "other error"
        answer = {"kind": kind, "detail": text, "code": error.code}
    except BaseException as error:
        answer = {"kind": "other error", "detail": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    Attributes:
        path: the file.
        kind: ``"read"``, ``"refused"`` (one clear line), ``"other error"``, ``"died"`` or ``"hung"``.
        detail: size of the picture, or what was said.
        code: of a refusal.
    """

    path: Path
    kind: str
    detail: str
    code: str = ""


class Child:
    """A process that decodes; arguments as :func:`decode_in_children`."""

    def __init__(self, memory_mb: int, what: Media) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(memory_mb), what],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([_TESTS, *sys.path])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._stdout, selectors.EVENT_READ)

    def decode(self, path: Path) -> Outcome:
        """Decode one file; the child is not to be used again after ``"died"`` or ``"hung"``."""
        if self._process.stdin is None:
            raise RuntimeError("the child has no input")
        self._process.stdin.write(json.dumps(str(path)) + "\n")
        self._process.stdin.flush()
        if not self._ready.select(LIMIT_S):
            return Outcome(path, "hung", f"no answer in {LIMIT_S:g} s")
        line = self._stdout.readline()
        if not line:
            return Outcome(path, "died", f"exit status {self._process.wait()}")
        return Outcome(path, **json.loads(line))

    def end(self) -> None:
        """End the process."""
        self._ready.close()
        self._process.kill()
        self._process.communicate()

    @property
    def _stdout(self) -> IO[str]:
        if self._process.stdout is None:
            raise RuntimeError("the child has no output")
        return self._process.stdout


def decode_in_children(paths: Iterable[Path], *, memory_mb: int = 2048, what: Media = "pictures") -> Iterator[Outcome]:
    """Decode files one after another and say what came of each.

    Args:
        paths: the files.
        memory_mb: limit of address space of a child (libraries and threads take about 1 GB of it untouched).
        what: what the files are.
    """
    child = Child(memory_mb, what)
    try:
        for path in paths:
            outcome = child.decode(path)
            yield outcome
            if outcome.kind in ("died", "hung"):
                child.end()
                child = Child(memory_mb, what)
    finally:
        child.end()
