"""Between a faithful model and its vivid twin: the weights of both, mixed.

A faithful model (stage 1 of the training) keeps what is there; a vivid one (stage 2, with perceptual and adversarial
losses) invents a little. Stage 2 starts from stage 1 and does not go far, so that all weights on the line between the
two make working networks, and the way from one to the other is smooth. (Mixing the two *pictures* is not the same, and
costs two passes.) The idea of interpolating networks is that of ESRGAN (Wang et al., ECCV Workshops 2018, section 3.4).

The twin of ``NAME.onnx`` is ``NAME-vivid.onnx`` beside it. The two files must be the same but for the values of their
floating-point initialisers and their metadata; the mixed file is the first with those values replaced, so that neither
torch nor onnx is needed. (Values that the exporter computed from weights are mixed as they are; the networks of this
package have their weights in the file unchanged.)

    >>> from apisr.weights import resolve_model
    >>> between(resolve_model("apisr-x4-fast"), 0.5).name                                     # doctest: +SKIP
    'apisr-x4-fast, strength 0.5'
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from apisr.core.errors import ApisrError, InputError, ModelError
from apisr.core.files import atomic_path
from apisr.weights.formats.onnx import GRAPH, INITIALISER, METADATA, Initialiser, fields, initialiser, with_sha256
from apisr.weights.model import VIVID, Model, list_models
from apisr.weights.resolve import resolve_model


def between(model: Model, strength: float, *, cache: Path | None = None) -> Model:
    """Return the model between `model` and its vivid twin.

    Args:
        model: the faithful one or the vivid one of a pair (``apisr.weights.resolve_model``).
        strength: 0 gives the faithful model, 1 the vivid one.
        cache: folder that keeps mixed files; None is the one of fetched files. Where it cannot be written, a file lasts
            as long as the process.

    Returns:
        A model whose file has a SHA-256 of its own, named by the hashes of the two and the strength.

    Raises:
        InputError: the strength is not in 0..1, or the model has no twin.
        ModelError: the two are not of equal structure.
        RunError: nothing can be written, neither there nor where temporary files go.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"expected a strength from 0 (faithful) to 1 (vivid), got {strength:g}.", code="bad-strength")
    faithful, vivid = _pair(model)
    if strength in (0, 1):
        return vivid if strength else faithful
    from apisr.weights.releases import cache_folder

    content = mixed(faithful.path.read_bytes(), vivid.path.read_bytes(), strength, names=(faithful.name, vivid.name))
    digest = hashlib.sha256(content).hexdigest()
    key = hashlib.sha256(f"{faithful.sha256} {vivid.sha256} {strength!r}".encode()).hexdigest()[:24]
    path = (cache or cache_folder() / "between") / f"{faithful.path.stem}-{key}.onnx"
    path = _kept(path, content)
    card = {**faithful.card, "strength": strength, "between": [faithful.sha256, vivid.sha256]}
    name = f"{faithful.name}, strength {strength:g}"
    rims = (faithful.traits.rim_px, vivid.traits.rim_px)
    traits = replace(faithful.traits, rim_px=None if None in rims else max(rim for rim in rims if rim is not None))
    return replace(faithful, name=name, path=path, sha256=digest, card=card, traits=traits)


def mixed(faithful: bytes, vivid: bytes, strength: float, *, names: tuple[str, str] = ("first", "second")) -> bytes:
    """Mix two ONNX files of equal structure: ``(1 - strength)*faithful + strength*vivid`` for every initialiser.

    Raises:
        ModelError: they differ in more than the values of floating-point initialisers and metadata.
    """
    apart = ModelError(
        f"the models '{names[0]}' and '{names[1]}' are not of equal structure, so nothing lies between them. "
        "Leave out --strength.",
        code="twins-differ",
    )
    try:
        first, second = _skeleton(faithful), _skeleton(vivid)
    except ValueError as error:
        raise ModelError(
            f"cannot read '{names[0]}' or '{names[1]}': not an ONNX file, or damaged ({error}).",
            code="not-an-onnx-file",
        ) from error
    if first.rest != second.rest or _described(first) != _described(second):
        raise apart
    result = bytearray(faithful)
    for one, other in zip(first.values, second.values, strict=True):
        a, b = (np.frombuffer(data[v.start : v.end], v.dtype) for data, v in ((faithful, one), (vivid, other)))
        value = (1 - strength) * a.astype(np.float64) + strength * b.astype(np.float64)
        result[one.start : one.end] = value.astype(one.dtype).tobytes()
    return with_sha256(bytes(result))


def _kept(path: Path, content: bytes) -> Path:
    """Return where `content` lies: at `path`, or in a folder of this process where that cannot be written."""
    if _holds(path, content):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content)
    except (OSError, ApisrError):
        path = _folder_of_process() / path.name
        if not _holds(path, content):
            _write(path, content)
    return path


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file is there and what it should be: one that was damaged meanwhile is made again."""
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path, overwrite=True) as partial:
        partial.write_bytes(content)


@functools.cache
def _folder_of_process() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="apisr-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _pair(model: Model) -> tuple[Model, Model]:
    base = model.path.stem.removesuffix(VIVID)
    paths = [model.path.with_name(f"{base}{ending}{model.path.suffix}") for ending in ("", VIVID)]
    if model.format != "onnx" or not all(path.is_file() for path in paths):
        pairs = [known.name for known in list_models() if _has_twin(known)]
        have = f"Models with one: {', '.join(pairs)}." if pairs else "No model that ships has one yet."
        raise InputError(
            f"model '{model.name}' has no vivid twin ('{base}{VIVID}'), which strength needs. {have}",
            code="no-vivid-twin",
        )
    faithful, vivid = (model if path == model.path else _opened(path, model) for path in paths)
    if (replace(faithful.traits, rim_px=None), faithful.architecture) != (
        replace(vivid.traits, rim_px=None),
        vivid.architecture,
    ):
        raise ModelError(
            f"the models '{faithful.name}' and '{vivid.name}' are not of equal structure, so nothing lies between "
            "them. Leave out --strength.",
            code="twins-differ",
        )
    return faithful, vivid


def _opened(path: Path, model: Model) -> Model:
    """The other file of a pair: by its name where the first is shipped (its hash is then checked), else as a file."""
    shipped = any(known.path == model.path for known in list_models())
    return resolve_model(path.stem if shipped else path)


def _has_twin(model: Model) -> bool:
    return model.path.with_name(f"{model.path.stem}{VIVID}.onnx").is_file()


@dataclass(frozen=True)
class _Skeleton:
    """An ONNX file without the values of its floating-point initialisers and without metadata."""

    rest: bytes
    values: tuple[Initialiser, ...]


def _skeleton(data: bytes) -> _Skeleton:
    rest: list[bytes] = []
    values: list[Initialiser] = []
    for number, start, end in fields(data, 0, len(data)):
        if number == METADATA:
            continue
        if number != GRAPH:
            rest.append(data[start:end])
            continue
        for inner, inner_start, inner_end in fields(data, start, end):
            value = initialiser(data, inner_start, inner_end) if inner == INITIALISER else None
            if value is None:
                rest.append(bytes([inner]) + data[inner_start:inner_end])
            else:
                values.append(value)
    if not rest and not values:
        raise ValueError("no graph in it")
    return _Skeleton(b"\0".join(rest), tuple(values))


def _described(skeleton: _Skeleton) -> list[tuple[str, str, bytes]]:
    return [(value.name, value.dtype.str, value.description) for value in skeleton.values]
