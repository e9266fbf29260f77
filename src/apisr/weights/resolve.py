"""Finding a model by its name or by the path of its file.

>>> resolve_model("apisr-x2-fast").scale
2
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from apisr.core.config import nearest
from apisr.core.errors import ModelError
from apisr.weights.model import ONNX_SUFFIXES, RUN_WEIGHTS, TORCH_SUFFIXES, Model, list_models, shipped_model

#: What people call the networks of others, without capitals and separators, and our names of them.
ALIASES = {
    "animevideov3": "realesr-animevideov3",
    "realesrganimevideov3": "realesr-animevideov3",
    "realesrgananimevideov3": "realesr-animevideov3",
    "anime6b": "realesrgan-anime-6b",
    "x4plusanime": "realesrgan-anime-6b",
    "x4plusanime6b": "realesrgan-anime-6b",
    "realesrgananime": "realesrgan-anime-6b",
    "realesrganx4plusanime": "realesrgan-anime-6b",
    "realesrganx4plusanime6b": "realesrgan-anime-6b",
}


def resolve_model(name_or_path: str | Path, *, scale: int | None = None) -> Model:
    """Find a model by name (shipped or fetched) or by the path of its file, and check it.

    Args:
        name_or_path: ``"NAME"``, a file ending in .onnx, .safetensors, .pth, .pt or .ckpt, or the folder of a training
            run: its best weights, or else the last ones.
        scale: what the model must enlarge by; None accepts any.

    Returns:
        The model; its file's SHA-256 equals the one in the card where there is one.

    Raises:
        ModelError: no such model, a damaged or unknown file, or another scale.
        MissingExtra: the file needs torch, which is not installed.
    """
    model = _find(name_or_path, scale)
    if scale is not None and model.scale != scale:
        raise ModelError(
            f"model '{model.name}' enlarges {model.scale} times, but {scale} times was asked. "
            f"Use --scale {model.scale} or another model.",
            code="model-other-scale",
        )
    return model


def _find(name_or_path: str | Path, scale: int | None) -> Model:
    text = str(name_or_path)
    names = [text, *([f"{text}-x{scale}", f"{text}_x{scale}"] if scale else [])]
    for name in names:
        shipped = shipped_model(name)
        if shipped is not None:
            return shipped
    path = Path(name_or_path)
    if path.is_file():
        return _from_file(path)
    of_run = next((path / name for name in RUN_WEIGHTS if (path / name).is_file()), None)
    if of_run is not None:
        return _from_file(of_run)
    fetched = _fetched(names)
    if fetched is not None:
        return fetched
    other = known_as(text)
    if other is not None and other != text:
        return _find(other, scale)
    if path.suffix.lower() in ONNX_SUFFIXES + TORCH_SUFFIXES or len(path.parts) > 1:
        raise ModelError(f"cannot read the model '{path}': no such file.", code="no-such-model")
    near = nearest(text.lower(), _names())
    hint = f" Did you mean '{near}'?" if near else ""
    known = ", ".join(model.name for model in list_models()) or "none shipped"
    raise ModelError(
        f"unknown model '{text}'.{hint} Known: {known}; to be fetched: apisr models list. "
        "Give one of these or the path of a model file.",
        code="no-such-model",
    )


def known_as(text: str) -> str | None:
    """Return the model that a name means, whatever its capitals and separators; None if there is none.

    >>> known_as("APISR_x2"), known_as("RealESRGAN_x4plus_anime_6B"), known_as("nobody")
    ('apisr-x2', 'realesrgan-anime-6b', None)
    """
    from apisr.weights.releases import CATALOGUE

    files = {_plain(Path(release.file_name).stem): name for name, release in CATALOGUE.items()}
    return (files | ALIASES | {_plain(name): name for name in _names()}).get(_plain(text))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _names() -> list[str]:
    from apisr.weights.releases import CATALOGUE

    networks = (name for name, release in CATALOGUE.items() if release.scale is not None)
    return [*(model.name for model in list_models()), *networks]


def _fetched(names: list[str]) -> Model | None:
    """A release of the catalogue that was fetched before; a message with what to do if it was not."""
    from apisr.weights.releases import CATALOGUE, cached

    for name in names:
        release = CATALOGUE.get(name)
        if release is None:
            continue
        path = cached(release)
        if path is None:
            raise ModelError(
                f"the model '{name}' is not on this machine yet. Run: apisr models fetch {name}",
                code="model-not-fetched",
            )
        model = _from_file(path)
        return replace(model, name=name, card={**model.card, "license": release.licence, "paper": release.paper})
    return None


def _from_file(path: Path) -> Model:
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        raise ModelError(f"the model '{path}' is empty (0 bytes). Fetch it again.", code="model-damaged")
    if suffix in ONNX_SUFFIXES:
        from apisr.weights.formats.onnx_probe import read_onnx_model

        return read_onnx_model(path)
    if suffix in TORCH_SUFFIXES:
        from apisr.weights.checkpoint import read_checkpoint_model

        return read_checkpoint_model(path)
    expected = ", ".join(ONNX_SUFFIXES + TORCH_SUFFIXES)
    raise ModelError(f"'{path}' is not a model file (expected {expected}; found '{path.suffix}').", code="not-a-model")
