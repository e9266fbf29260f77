"""What the app keeps on the disk: files that were added, jobs, presets; and the ids that stand for paths.

The page never sends a path. Every file below the folder of the app gets an id that follows from a secret and its path;
an id that was not given out is answered with "no such file". State is one JSON file, written anew as a whole.

    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()), folder=None)
    >>> safe_name("../../etc/passwd")
    'passwd'
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import shutil
import threading
import time
import unicodedata
from collections.abc import Collection, Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from apisr.app.address import forget_address, running_page
from apisr.app.advice import RELOAD
from apisr.core.errors import InputError
from apisr.core.files import real_path, write_atomic
from apisr.core.locks import HeldLock, take_lock
from apisr.core.media import MediaKind
from apisr.core.text import printable

JobStatus = Literal["waiting", "running", "paused", "done", "failed", "cancelled"]

#: Longest name of a file that is written, in bytes of UTF-8 (file systems end at 255; outputs get a label).
MAX_NAME_BYTES = 180
#: What follows the last dot of a name is its ending if it is no longer than this.
MAX_SUFFIX_BYTES = 20
#: Lines of a job's log that are kept.
MAX_LOG_LINES = 200
#: Name of the folder of an upload.
_UPLOAD = re.compile(r"[0-9a-f]{16}")
#: A model is called by its name here; paths (and names that are files) are for the command line.
_MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"


class Settings(BaseModel):
    """What a person chose for a job; every field is an option of ``apisr upscale``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, pattern=_MODEL_NAME)
    strength: float | None = Field(None, ge=0, le=1)
    source: Literal["auto", "crisp", "soft"] = "auto"
    scale: float | None = Field(None, ge=1, le=8)
    height: int | None = Field(None, ge=16, le=17280)
    tta: bool = False
    format: Literal["png", "jpg", "webp", "avif", "tif"] | None = None
    quality: int | None = Field(None, ge=1, le=100)
    container: Literal["mkv", "mp4", "mov", "webm"] | None = None
    codec: Literal["libx264", "libx265", "libsvtav1", "ffv1"] | None = None
    crf: float | None = Field(None, ge=0, le=63)
    hold: Literal["off", "auto", "strong"] = "auto"


class Item(BaseModel):
    """A file that was added.

    Attributes:
        id: its id.
        path: where it lies.
        name: its name, for people.
        kind: picture or video.
        uploaded: whether it lies in the app's own folder (and goes when it is taken away).
        info: what was found out about it; None until then.
        error: why it cannot be read.
    """

    id: str
    path: Path
    name: str
    kind: MediaKind
    uploaded: bool = False
    info: dict[str, object] | None = None
    error: str = ""


class Job(BaseModel):
    """One file to upscale, waiting, running or ended.

    Attributes:
        id: its id.
        item: id of the file.
        name: name of the file, for people.
        kind: picture or video.
        source: where the file lies.
        target: where the output goes.
        settings: what was chosen.
        status: how far it is.
        done: finished units.
        total: units in all; None while that is not known.
        unit: what is counted, ``"frames"`` or ``"pixels"``.
        speed: units per second; 0 while that is not known.
        seconds_left: until it ends; None while that is not known.
        expected_s: how long it will take, measured before it begins.
        expected_bytes: how large the output will be, measured before it begins.
        message: why it failed.
        log: what was said during the work, each line with its time.
        result: what came of it, as ``apisr upscale --json`` prints it.
        added: when it was added, in seconds since 1970.
        seconds: how long it has worked.
    """

    id: str
    item: str
    name: str
    kind: MediaKind
    source: Path
    target: Path
    settings: Settings
    status: JobStatus = "waiting"
    done: float = 0.0
    total: float | None = None
    unit: str = ""
    speed: float = 0.0
    seconds_left: float | None = None
    expected_s: float | None = None
    expected_bytes: int | None = None
    message: str = ""
    log: list[str] = Field(default_factory=list[str])
    result: dict[str, object] | None = None
    added: float = Field(default_factory=time.time)
    seconds: float = 0.0


class State(BaseModel):
    """Everything that outlives the server."""

    items: list[Item] = Field(default_factory=list[Item])
    jobs: list[Job] = Field(default_factory=list[Job])
    presets: dict[str, Settings] = Field(default_factory=dict[str, Settings])
    paused: bool = False


class Store:
    """The app's folder.

    Args:
        home: the app's own folder (state, uploads, previews, results).
        folder: a folder of the user whose files may be picked, and that results may go to; None for uploads only.

    Raises:
        InputError: another app uses the folder, or it cannot be written.
    """

    def __init__(self, home: Path, *, folder: Path | None) -> None:
        self.home = home
        self.folder = folder.resolve() if folder else None
        self._lock = self._taken()
        self._mutex = threading.RLock()
        self._secret = self._kept_secret("secret")
        self._paths: dict[str, Path] = {}
        self.state = self._read()

    @property
    def token(self) -> str:
        """The secret that opens the page; it stays the same so that a bookmark goes on working."""
        return self._kept_secret("token").hex()

    @property
    def uploads(self) -> Path:
        """Folder of uploaded files."""
        return self.home / "uploads"

    @property
    def cache(self) -> Path:
        """Folder of thumbnails and previews; it is emptied when the server starts."""
        return self.home / "cache"

    @property
    def results(self) -> Path:
        """Folder that outputs are written to."""
        return self.folder / "upscaled" if self.folder else self.home / "results"

    def close(self) -> None:
        """Write the state and give the folder back."""
        try:
            self.save()
        finally:
            forget_address(self.home)
            self._lock.release()

    def save(self) -> None:
        """Write the state to the disk."""
        with self._mutex:
            text = json.dumps(self.state.model_dump(mode="json"), indent=1)  # ASCII: names need not be UTF-8
        write_atomic(self.home / "state.json", text.encode(), overwrite=True)

    def id_of(self, path: Path) -> str:
        """Give out the id of a path below the folders of the app.

        Raises:
            InputError: the path lies elsewhere.
        """
        real = real_path(path)
        if not self.is_inside(path):
            raise InputError(
                f"'{path.name}' lies outside of the folder that the app was started with. Upload it, or start the app "
                "with its folder: apisr app FOLDER",
                code="path-outside",
            )
        name = hmac.new(self._secret, str(real).encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:24]
        with self._mutex:
            self._paths[name] = real
        return name

    def path_of(self, name: str) -> Path:
        """Return the path of an id.

        Raises:
            InputError: the id was not given out, or its file is gone or leads elsewhere now.
        """
        path = self._paths.get(name)
        if path is None or not path.exists() or not self.is_inside(path):
            raise InputError(f"no such file. {RELOAD}", code="no-such-file")
        return path

    def item(self, name: str) -> Item:
        """Return an item by its id.

        Raises:
            InputError: there is none.
        """
        for item in self.state.items:
            if item.id == name and self.is_inside(item.path):
                return item
        raise InputError(f"no such file. {RELOAD}", code="no-such-file")

    def job(self, name: str) -> Job:
        """Return a job by its id.

        Raises:
            InputError: there is none.
        """
        for job in self.state.jobs:
            if job.id == name:
                return job
        raise InputError(f"no such job. {RELOAD}", code="no-such-job")

    def result_of(self, job: Job) -> Path:
        """Return the finished output of a job.

        Raises:
            InputError: there is none, or something else lies in its place now.
        """
        if job.status != "done" or not job.target.is_file() or not self.is_inside(job.target):
            raise InputError(
                "there is no result: the job has not made it, or it was moved away. Add the file to the queue again.",
                code="no-such-file",
            )
        return job.target

    def is_inside(self, path: Path) -> bool:
        """Return whether a path lies, with its links followed, below a folder of the app."""
        real = real_path(path)
        return any(real.is_relative_to(root) for root in self._roots())

    def add_item(self, path: Path, kind: MediaKind, *, uploaded: bool = False) -> Item:
        """Add a file; one that is there already is returned as it is."""
        name = self.id_of(path)
        with self._mutex:
            for item in self.state.items:
                if item.id == name:
                    return item
            item = Item(id=name, path=real_path(path), name=printable(path.name), kind=kind, uploaded=uploaded)
            self.state.items.append(item)
        return item

    def remove_item(self, item: Item) -> None:
        """Take a file out of the list; an upload is deleted if no job needs it, a file of the user never is."""
        with self._mutex:
            self.state.items = [other for other in self.state.items if other.id != item.id]
            needed = any(job.source == item.path and job.status != "done" for job in self.state.jobs)
        if item.uploaded and not needed and real_path(item.path).is_relative_to(real_path(self.uploads)):
            shutil.rmtree(item.path.parent, ignore_errors=True)

    def upload_path(self, name: str) -> Path:
        """Return where an upload is written: a folder of its own, so that equal names do not meet."""
        folder = self.uploads / secrets.token_hex(8)  # see _UPLOAD
        folder.mkdir(parents=True)
        return folder / safe_name(name)

    def free_target(self, target: Path, *, taken: Collection[Path] = ()) -> Path:
        """Return a name for an output that neither a file nor another job (nor `taken`) has."""
        taken = {*taken, *(job.target for job in self.state.jobs)}
        return next(name for name in _names_of(target) if name not in taken and not name.exists())

    def outputs_like(self, target: Path) -> list[Path]:
        """Return the files that have the name of an output, or one of :meth:`free_target` instead of it."""
        return list(takewhile(Path.is_file, _names_of(target)))

    def _taken(self) -> HeldLock:
        home = self.home
        try:
            lock = take_lock(home / ".lock", busy=f"another 'apisr app' uses '{home}'.", code="app-running")
        except InputError as error:
            if error.code != "app-running":
                raise
            page = running_page(home)
            advice = f"Its page: {page}" if page else "Use its page, or end it."
            raise InputError(f"{error} {advice}", code=error.code) from None
        forget_address(home)  # of an app that was killed
        return lock

    def _roots(self) -> list[Path]:
        return [self.home.resolve()] + ([self.folder] if self.folder else [])

    def _kept_secret(self, name: str) -> bytes:
        path = self.home / f".{name}"
        try:
            found = bytes.fromhex(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            found = b""
        if len(found) < 16:
            found = secrets.token_bytes(16)
            path.touch(mode=0o600)
            path.write_text(found.hex(), encoding="ascii")
        return found

    def _read(self) -> State:
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir(parents=True, exist_ok=True)
        try:
            text = (self.home / "state.json").read_text(encoding="utf-8")
            state = State.model_validate(json.loads(text))
        except FileNotFoundError:
            return State()
        except (OSError, ValueError, RecursionError, ValidationError):
            stamp = time.strftime("%Y%m%d-%H%M%S")
            (self.home / "state.json").rename(self.home / f"state-unreadable-{stamp}.json")
            return State()
        self._remove_lost_uploads(state)
        state.items = [item for item in state.items if item.path.is_file()]
        for item in state.items:
            self._register(item.path)
        for job in state.jobs:
            self._register(job.source)
            self._register(job.target)
            if job.status == "running":
                job.status = "waiting"
                job.log.append("the app was closed; it goes on where it stood")
        return state

    def _remove_lost_uploads(self, state: State) -> None:
        """Remove what no file and no job needs: uploads that a killed server left half written, or took away late."""
        needed = {path.parent for path in [*(item.path for item in state.items), *(job.source for job in state.jobs)]}
        uploads = real_path(self.uploads)
        for folder in uploads.iterdir() if uploads.is_dir() else ():
            if folder not in needed and _UPLOAD.fullmatch(folder.name) and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)

    def _register(self, path: Path) -> None:
        """Give out an id for a path of an earlier run; one that lies outside now gets none."""
        try:
            self.id_of(path)
        except InputError:
            return


def _names_of(target: Path) -> Iterator[Path]:
    """Return ``a.png``, ``a-2.png``, ``a-3.png`` and so on."""
    yield target
    for number in count(2):
        yield target.with_name(f"{target.stem}-{number}{target.suffix}")


def safe_name(name: str) -> str:
    """Return the name of a file that may be written: no folders, no control characters, not too long, never empty."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(character for character in name if character.isprintable() and character not in '<>:"|?*')
    name = name.strip(" .") or "file"
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > MAX_SUFFIX_BYTES:
        stem, dot, suffix = name, "", ""
    kept = stem.encode()[: MAX_NAME_BYTES - len(f"{dot}{suffix}".encode())].decode(errors="ignore")
    return f"{kept}{dot}{suffix}"
