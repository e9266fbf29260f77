"""Official releases that can be fetched, and fetching them safely.

Nothing is used before it is whole and right: a download goes to a hidden file beside the target, goes on where it
stopped if the connection breaks or the program was killed, is checked (size, SHA-256, or the beginning of it that some
projects put into the file name), and only then renamed. A lock file keeps two processes from fetching the same file at
once; the second waits and finds it ready. Where no hash was ever published, that of the first download is recorded and
held to, and where torch is installed the file must hold the network that was asked for.

Some releases have no direct address (they lie behind a page with a button). For them the address is given
(``fetch(release, url=...)``), or the file that a person has saved is taken over (:func:`adopt`).

    >>> from apisr.weights.releases import CATALOGUE
    >>> CATALOGUE["realesr-animevideov3"].licence
    'BSD-3-Clause'
    >>> path = fetch(CATALOGUE["realesr-animevideov3"])            # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from apisr.core.errors import ModelError, RunError
from apisr.core.files import atomic_path, sha256_file, write_error
from apisr.core.locks import wait_for_lock
from apisr.core.text import parse_json
from apisr.weights.model import CardDict

#: Called with (bytes so far, bytes in all or None).
OnBytes = Callable[[int, int | None], None]

_CHUNK = 1 << 18
_ATTEMPTS = 4
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Release:
    """One published file.

    Attributes:
        name: how it is asked for.
        file_name: name of the published file.
        url: where it is; None if there is no direct address.
        page: the project's page.
        architecture: the network inside.
        scale: what it enlarges by; None for networks that do not.
        licence: of the file, or of the repository that publishes it.
        paper: title of the paper.
        size_bytes: of the file, where known.
        sha256: all 64 digits where known.
        sha256_prefix: the first digits, where the file name holds them.
    """

    name: str
    file_name: str
    url: str | None
    page: str
    architecture: str
    scale: int | None
    licence: str
    paper: str
    size_bytes: int | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None


_APISR = "https://github.com/Kiteretsu77/APISR"
_REAL = "https://github.com/xinntao/Real-ESRGAN"
_APISR_PAPER = "APISR: Anime Production Inspired Real-World Anime Super-Resolution (CVPR 2024)"
_REAL_PAPER = "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (ICCVW 2021)"
_VGG_PAPER = "Very Deep Convolutional Networks for Large-Scale Image Recognition (ICLR 2015)"


def _apisr(name: str, file_name: str, version: str, architecture: str, scale: int) -> Release:
    url = f"{_APISR}/releases/download/{version}/{file_name}"
    return Release(name, file_name, url, _APISR, architecture, scale, "GPL-3.0 (of its repository)", _APISR_PAPER)


_RELEASES = (
    _apisr("apisr-grl-x4", "4x_APISR_GRL_GAN_generator.pth", "v0.1.0", "grl", 4),
    _apisr("apisr-rrdb-x2", "2x_APISR_RRDB_GAN_generator.pth", "v0.1.0", "rrdb", 2),
    _apisr("apisr-rrdb-x4", "4x_APISR_RRDB_GAN_generator.pth", "v0.2.0", "rrdb", 4),
    _apisr("apisr-dat-x4", "4x_APISR_DAT_GAN_generator.pth", "v0.3.0", "dat", 4),
    Release(
        "realesr-animevideov3",
        "realesr-animevideov3.pth",
        f"{_REAL}/releases/download/v0.2.5.0/realesr-animevideov3.pth",
        _REAL,
        "compact",
        4,
        "BSD-3-Clause",
        _REAL_PAPER,
        2_504_012,
        "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
    ),
    Release(
        "realesrgan-anime-6b",
        "RealESRGAN_x4plus_anime_6B.pth",
        f"{_REAL}/releases/download/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
        _REAL,
        "rrdb",
        4,
        "BSD-3-Clause",
        _REAL_PAPER,
        17_938_799,
        "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
    ),
    Release(
        "danbooru-resnet50",
        "resnet50-13306192.pth",
        "https://github.com/RF5/danbooru-pretrained/releases/download/v0.1/resnet50-13306192.pth",
        "https://github.com/RF5/danbooru-pretrained",
        "resnet50",
        None,
        "MIT (of its repository)",
        "Deep Residual Learning for Image Recognition (CVPR 2016)",
        sha256_prefix="13306192",
    ),
    Release(
        "vgg19",
        "vgg19-dcbb9e9d.pth",
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "https://github.com/pytorch/vision",
        "vgg",
        None,
        "BSD-3-Clause",
        _VGG_PAPER,
        574_673_361,
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        "dcbb9e9d",
    ),
    Release(
        "vgg16",
        "vgg16-397923af.pth",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "https://github.com/pytorch/vision",
        "vgg",
        None,
        "BSD-3-Clause",
        _VGG_PAPER,
        sha256_prefix="397923af",
    ),
    Release(
        "ic9600",
        "ck.pth",
        None,
        "https://github.com/tinglyfeng/IC9600",
        "icnet",
        None,
        "see its repository",
        "IC9600: A Benchmark Dataset for Automatic Image Complexity Assessment (TPAMI 2023)",
    ),
)

#: Name -> release.
CATALOGUE: dict[str, Release] = {release.name: release for release in _RELEASES}


def cache_folder() -> Path:
    """Return the folder of fetched files: ``$APISR_CACHE``, or the user's cache folder."""
    import platformdirs

    chosen = os.environ.get("APISR_CACHE")
    return (Path(chosen) if chosen else platformdirs.user_cache_path("apisr")) / "models"


def release_named(name: str) -> Release:
    """Return the release called `name`.

    Raises:
        ModelError: there is none.
    """
    if name not in CATALOGUE:
        raise ModelError(f"no release is called '{name}'. Known: {', '.join(CATALOGUE)}.", code="no-such-model")
    return CATALOGUE[name]


def cached(release: Release, folder: Path | None = None) -> Path | None:
    """Return the fetched file, or None; raises ModelError if it is there but wrong (see :func:`check`)."""
    path = (folder or cache_folder()) / release.file_name
    if not path.is_file():
        return None
    check(release, path)
    return path


def check(release: Release, path: Path, *, recorded_for: Path | None = None) -> str:
    """Check a fetched file and return its SHA-256.

    Args:
        release: what the file should be.
        path: the file.
        recorded_for: the file whose recorded SHA-256 counts, if not `path`.

    Raises:
        ModelError: it is empty, or its size or SHA-256 is not that of the release (or of the first download).
    """
    size = path.stat().st_size
    advice = f"Fetch it again: apisr models fetch {release.name}"
    if size == 0:
        raise ModelError(f"'{path}' is empty (0 bytes). {advice}", code="model-damaged")
    if release.size_bytes is not None and size != release.size_bytes:
        raise ModelError(f"'{path}' has {size} bytes, expected {release.size_bytes}. {advice}", code="model-damaged")
    digest = sha256_file(path)
    expected = release.sha256 or _recorded(recorded_for or path) or release.sha256_prefix or ""
    if not digest.startswith(expected):
        raise ModelError(
            f"'{path}' has the SHA-256 {digest[:16]}..., expected {expected[:16]}... {advice}",
            code="model-damaged",
        )
    return digest


def fetch(
    release: Release,
    *,
    folder: Path | None = None,
    url: str | None = None,
    sha256: str | None = None,
    progress: OnBytes | None = None,
) -> Path:
    """Download a release unless it is there, and return its path.

    Safe to be called by several processes at once and to be killed at any time; a later call goes on where it stopped.

    Args:
        release: what to fetch.
        folder: where to keep it; None is :func:`cache_folder`.
        url: address to take it from, in place of the catalogue's.
        sha256: what the file must have, where the catalogue knows none.
        progress: called after every piece that has come.

    Raises:
        ModelError: the release has no direct address and none is given, or a SHA-256 that cannot be.
        RunError: the server cannot be reached, or what it sends is not the release.
    """
    folder = folder or cache_folder()
    release = _with_sha256(release, sha256)
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise ModelError(
                f"cannot fetch from '{url}': expected an address that begins with http:// or https://.",
                code="bad-address",
            )
        release = replace(release, url=url)
    target = folder / release.file_name
    folder.mkdir(parents=True, exist_ok=True)
    with wait_for_lock(folder / f".{release.file_name}.lock"):
        if target.is_file():
            with contextlib.suppress(ModelError):
                check(release, target)
                return target
        if release.url is None:
            raise ModelError(
                f"'{release.name}' has no direct address. Get {release.file_name} from {release.page}, then run: "
                f"apisr models fetch {release.name} --file {release.file_name} (or --url ADDRESS)",
                code="no-address",
            )
        partial = folder / f".{release.file_name}.download"
        _download(release, release.url, partial, progress)
        try:
            _keep(release, partial, target)
        except ModelError as error:
            raise RunError(
                f"what {release.url} sends is not '{release.name}': {error}", code="wrong-download"
            ) from error
    return target


def adopt(release: Release, file: Path, *, folder: Path | None = None, sha256: str | None = None) -> Path:
    """Take over a release that is on this machine already: check it, copy it into the cache, and return its path there.

    Args:
        release: what the file should be.
        file: the file; it stays where it is.
        folder: where to keep the copy; None is :func:`cache_folder`.
        sha256: what the file must have, where the catalogue knows none.

    Raises:
        ModelError: no such file, not the release, or the cache holds another, whole file of that name.
    """
    folder = folder or cache_folder()
    release = _with_sha256(release, sha256)
    if not file.is_file():
        raise ModelError(
            f"cannot read '{file}': no such file. Give the file that you saved from {release.page}.",
            code="no-such-model",
        )
    target = folder / release.file_name
    folder.mkdir(parents=True, exist_ok=True)
    with wait_for_lock(folder / f".{release.file_name}.lock"):
        if target.is_file():
            known = None
            with contextlib.suppress(ModelError):
                known = check(release, target)
            if known is not None and known == sha256_file(file):
                return target
            if known is not None:
                raise ModelError(
                    f"'{release.name}' is there already, and '{file}' is another file. Remove '{target}'.",
                    code="release-exists",
                )
        partial = folder / f".{release.file_name}.download"
        try:
            shutil.copyfile(file, partial)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise write_error(error, partial) from error
        try:
            _keep(release, partial, target)
        except ModelError as error:
            raise ModelError(f"'{file}' is not '{release.name}': {error}", code="wrong-release") from error
    return target


def _keep(release: Release, partial: Path, target: Path) -> None:
    """Check a file that has arrived and give it its name; a wrong one is removed."""
    try:
        digest = check(release, partial, recorded_for=target)
        if release.sha256 is None and release.sha256_prefix is None:
            _check_network(release, partial)
    except ModelError:
        partial.unlink(missing_ok=True)
        raise
    _record(target, release, digest)
    partial.replace(target)


def _check_network(release: Release, path: Path) -> None:
    """Look into a file whose hash nobody published: it must hold the network (where torch is there to tell)."""
    if importlib.util.find_spec("torch") is None:
        return
    from apisr.weights.checkpoint import read_checkpoint

    found = read_checkpoint(path).network
    if found.name != release.architecture:
        raise ModelError(f"it holds {found.title}, expected {release.architecture}.", code="wrong-release")


def _with_sha256(release: Release, sha256: str | None) -> Release:
    if sha256 is None:
        return release
    sha256 = sha256.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ModelError(f"'{sha256}' is not a SHA-256: expected 64 hexadecimal digits.", code="bad-sha256")
    if release.sha256 not in (None, sha256):
        raise ModelError(
            f"'{release.name}' has the published SHA-256 {release.sha256}, not {sha256}. Leave --sha256 out, or fetch "
            "under another name.",
            code="bad-sha256",
        )
    return replace(release, sha256=sha256)


def _download(release: Release, url: str, partial: Path, progress: OnBytes | None) -> None:
    """Fill `partial`; try again from where it stopped when the connection breaks."""
    import urllib.error

    for attempt in range(_ATTEMPTS):
        try:
            _download_once(url, partial, progress)
            return
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection
            if error.code == 416:  # the partial file is longer than the published one: start anew
                partial.unlink(missing_ok=True)
            elif error.code < 500:
                raise RunError(
                    f"cannot fetch '{release.name}': {url} answers {error.code} {error.reason}.", code="download-failed"
                ) from error
            problem: Exception = error
        except (OSError, EOFError) as error:
            problem = error
        if attempt + 1 < _ATTEMPTS:
            time.sleep(0.2 * 2**attempt)
            continue
        raise RunError(
            f"cannot fetch '{release.name}' from {url}: {problem}. Try again (it goes on where it stopped), "
            f"or get {release.file_name} from {release.page} by hand.",
            code="download-failed",
        ) from problem


def _download_once(url: str, partial: Path, progress: OnBytes | None) -> None:
    import urllib.request

    have = partial.stat().st_size if partial.is_file() else 0
    tag_path = partial.with_name(partial.name + ".tag")
    tag = tag_path.read_text(encoding="utf-8") if have and tag_path.is_file() else ""
    headers = {"User-Agent": "apisr", "Accept-Encoding": "identity"}
    if have and tag:  # without the server's mark of the version, a longer file may be another one
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        resumed = answer.status == 206 and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        start = have if resumed else 0
        with _written(tag_path):
            tag_path.write_text(
                answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "", encoding="utf-8"
            )
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        done = start
        with _written(partial), partial.open("ab" if resumed else "wb") as file:
            while chunk := _read(answer):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done != total:
        raise EOFError(f"the connection ended after {done} of {total} bytes")
    if done == 0:
        raise EOFError("the server sent 0 bytes")
    tag_path.unlink(missing_ok=True)


def _read(answer: IO[bytes]) -> bytes:
    """Return what comes next; a connection that breaks is not an error of the disk."""
    try:
        return answer.read(_CHUNK)
    except OSError as error:
        raise EOFError(str(error)) from error


@contextlib.contextmanager
def _written(path: Path) -> Generator[None]:
    """Say what is wrong where a file of the cache cannot be written: trying again would not help."""
    try:
        yield
    except OSError as error:
        raise write_error(error, path) from error


def _record_path(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _record(target: Path, release: Release, digest: str) -> None:
    content: CardDict = {"name": release.name, "url": release.url, "sha256": digest, "licence": release.licence}
    with atomic_path(_record_path(target), overwrite=True) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _recorded(target: Path) -> str | None:
    try:
        return str(parse_json(_record_path(target).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
