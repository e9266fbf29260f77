"""What a child process of the app does: look at files, preview crops, upscale. ``python -m apisr.app.worker``.

Messages are lines of JSON on standard input and output. ``{"id": 1, "do": "probe", "arguments": {...}}`` is answered
with any number of ``{"id": 1, "event": {...}}`` and one ``{"id": 1, "result": {...}}`` (or ``"error"`` in its place).
A line ``{"do": "cancel"}`` stops the task that runs.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TextIO

import apisr
from apisr.app.advice import CHECK_DISK, RELOAD
from apisr.app.looking import Looker
from apisr.core.errors import ApisrError, InputError
from apisr.core.processes import end_with_parent
from apisr.core.progress import Cancel, Progress

Arguments = Mapping[str, object]
Task = Callable[["Worker", Arguments, Callable[[dict[str, object]], None]], Mapping[str, object]]


class Worker:
    """Answers requests one after the other.

    Args:
        answers: where answers are written.
    """

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self._mutex = threading.Lock()
        self._requests: queue.Queue[tuple[dict[str, object], Cancel] | None] = queue.Queue()
        self._open: list[Cancel] = []  # of all requests that are not answered yet; each has its own from the start
        self.cancel = Cancel()
        self.looker = Looker()

    def read(self, lines: TextIO) -> None:
        """Take messages until there are no more; a request to cancel is heard at once."""
        for line in lines:
            try:
                message: dict[str, object] = json.loads(line)
            except ValueError:
                continue
            if message.get("do") == "cancel":
                self._cancel_all()
            else:
                self._open.append(Cancel())
                self._requests.put((message, self._open[-1]))
        self._cancel_all()
        self._requests.put(None)

    def _cancel_all(self) -> None:
        for cancel in list(self._open):
            cancel.request()

    def work(self) -> None:
        """Do what is asked until there is nothing more to come."""
        while (request := self._requests.get()) is not None:
            message, self.cancel = request
            answer = self._answer(message)
            self._open.remove(self.cancel)
            self._send(message.get("id"), answer)

    def _answer(self, message: dict[str, object]) -> dict[str, object]:
        task = TASKS.get(str(message.get("do")))
        arguments = message.get("arguments")
        try:
            if task is None or not isinstance(arguments, dict):
                raise InputError(
                    f"expected one of {', '.join(TASKS)}, got '{message.get('do')}'. {RELOAD}", code="unknown-task"
                )
            return {"result": task(self, arguments, lambda event: self._send(message.get("id"), {"event": event}))}  # pyright: ignore[reportUnknownArgumentType]
        except ApisrError as error:
            return {"error": {"message": str(error), "code": error.code, "exit_code": error.exit_code}}
        except FileNotFoundError:
            return {"error": {"message": f"the file is gone. {RELOAD}", "code": "no-such-file", "exit_code": 2}}
        except OSError as error:
            reason = f"the disk says: {error.strerror or error}. {CHECK_DISK}"
            return {"error": {"message": reason, "code": "disk", "exit_code": 1}}
        except MemoryError:
            reason = "there is not enough memory for this. Close other programs, or choose a smaller size."
            return {"error": {"message": reason, "code": "out-of-memory", "exit_code": 1}}
        except Exception as error:  # noqa: BLE001 - one request fails, the next is answered
            reason = f"{type(error).__name__}: {error}".replace("\n", " ")
            return {"error": {"message": reason, "code": "failed", "exit_code": 1}}

    def _send(self, number: object, message: dict[str, object]) -> None:
        with self._mutex:
            self._answers.write(json.dumps({"id": number, **message}, default=str) + "\n")
            self._answers.flush()


def probe(worker: Worker, arguments: Arguments, event: Callable[[dict[str, object]], None]) -> Mapping[str, object]:
    """Say what a file is, and write its thumbnail."""
    return worker.looker.probe(_path(arguments, "path"), thumbnail=_path(arguments, "thumbnail"))


def frame(worker: Worker, arguments: Arguments, event: Callable[[dict[str, object]], None]) -> Mapping[str, object]:
    """Write a picture, or the frame of a video at a time, as PNG."""
    return worker.looker.write_frame(
        _path(arguments, "path"),
        _time(arguments),
        _path(arguments, "output"),
        longest_px=_whole(arguments, "longest_px"),
    )


def preview(worker: Worker, arguments: Arguments, event: Callable[[dict[str, object]], None]) -> Mapping[str, object]:
    """Upscale a crop and write it, and the source's crop, as PNG."""
    box = arguments.get("box")
    if not isinstance(box, list) or len(box) != 4:  # pyright: ignore[reportUnknownArgumentType]
        raise InputError(f"expected a crop as left, top, width, height. {RELOAD}", code="bad-request")
    left, top, width, height = (_px(value) for value in box)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return worker.looker.preview(
        _path(arguments, "path"),
        _time(arguments),
        (left, top, width, height),
        _settings(arguments),
        before=_path(arguments, "before"),
        after=_path(arguments, "after"),
    )


def plan(worker: Worker, arguments: Arguments, event: Callable[[dict[str, object]], None]) -> Mapping[str, object]:
    """Say what an upscale would do: name and size of the output, streams, notices, time and bytes."""
    return worker.looker.plan(_path(arguments, "source"), _path(arguments, "folder"), _settings(arguments))


def upscale(worker: Worker, arguments: Arguments, event: Callable[[dict[str, object]], None]) -> Mapping[str, object]:
    """Upscale one file."""
    from apisr.app.upscaling import upscale_file

    def tell(progress: Progress) -> None:
        event(
            {
                "kind": progress.kind,
                "stage": progress.stage,
                "done": progress.done,
                "total": progress.total,
                "unit": progress.unit,
                "message": progress.message,
            }
        )

    return upscale_file(
        _path(arguments, "source"),
        _path(arguments, "target"),
        _settings(arguments),
        progress=tell,
        cancel=worker.cancel,
        part=_part(arguments),
    )


def targets(worker: Worker, arguments: Arguments, event: Callable[[dict[str, object]], None]) -> Mapping[str, object]:
    """Say what the outputs of many files are called."""
    sources = arguments.get("sources")
    if not isinstance(sources, list):
        raise InputError(f"expected a list 'sources'. {RELOAD}", code="bad-request")
    paths = [Path(str(source)) for source in sources]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    found = worker.looker.targets(paths, _path(arguments, "folder"), _settings(arguments))
    return {"targets": [str(path) for path in found]}


def made(worker: Worker, arguments: Arguments, event: Callable[[dict[str, object]], None]) -> Mapping[str, object]:
    """Say which of some existing files was made of a source with the settings."""
    existing = arguments.get("existing")
    if not isinstance(existing, list):
        raise InputError(f"expected a list 'existing'. {RELOAD}", code="bad-request")
    paths = [Path(str(path)) for path in existing]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    found = worker.looker.made_before(_path(arguments, "source"), paths, _settings(arguments))
    return {"made": None if found is None else str(found)}


def forget(worker: Worker, arguments: Arguments, event: Callable[[dict[str, object]], None]) -> Mapping[str, object]:
    """Remove the segments of an output that nobody will go on with."""
    apisr.Upscaler.discard(_path(arguments, "target"))
    return {}


TASKS: dict[str, Task] = {
    "targets": targets,
    "made": made,
    "probe": probe,
    "frame": frame,
    "preview": preview,
    "plan": plan,
    "upscale": upscale,
    "forget": forget,
}


def _path(arguments: Arguments, name: str) -> Path:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise InputError(f"expected a path as '{name}'. {RELOAD}", code="bad-request")
    return Path(value)


def _whole(arguments: Arguments, name: str) -> int | None:
    value = arguments.get(name)
    return value if isinstance(value, int) else None


def _px(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 31:
        raise InputError(f"expected a crop in whole pixels. {RELOAD}", code="bad-request")
    return value


def _time(arguments: Arguments) -> Fraction:
    value = arguments.get("time", 0)
    if not isinstance(value, int | float | str):
        raise InputError(f"expected 'time' in seconds. {RELOAD}", code="bad-request")
    return Fraction(str(value))


def _part(arguments: Arguments) -> tuple[Fraction, Fraction] | None:
    value = arguments.get("part")
    if not isinstance(value, list) or len(value) != 2:  # pyright: ignore[reportUnknownArgumentType]
        return None
    begin, end = (Fraction(str(second)) for second in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return begin, end


def _settings(arguments: Arguments) -> dict[str, object]:
    value = arguments.get("settings")
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def main() -> None:
    """Run until standard input is closed. Whatever a library prints goes to standard error."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(answers)
    threading.Thread(target=worker.read, args=(sys.stdin,), name="apisr-requests", daemon=True).start()
    try:
        worker.work()
    except (BrokenPipeError, KeyboardInterrupt):
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
