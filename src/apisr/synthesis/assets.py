"""The art that scenes are composed of: where it comes from, under which licence, and drawing from it.

The paper trains on 3,740 frames of commercial anime, which nobody may pass on. The models in the wheel are trained on
art whose licence allows it (:data:`SOURCES`). Any other folder of art can be composed too:

- ``<kind>/<source>/*.webp`` (any picture format), with the kinds ``sprites``, ``backgrounds``, ``lineart`` and
  ``vector``: pictures are used as what their folder says;
- a folder without these names: pictures with transparent parts are sprites, all others backgrounds.

    >>> Assets.none().pick("sprites", np.random.default_rng(0)) is None
    True
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from apisr.core.errors import InputError
from apisr.core.media import find_media
from apisr.image import read_picture
from apisr.synthesis.pixels import Layer

KINDS = ("sprites", "backgrounds", "lineart", "vector")
#: Decoded pictures that stay in memory.
_KEPT_PICTURES = 48


@dataclass(frozen=True)
class Source:
    """One source of art: where it comes from and under which licence.

    Attributes:
        name: folder name below the kind.
        origin: repository or package that publishes it.
        licence: SPDX-like name.
        credit: author, where the licence asks for it.
        used: whether shipped models train on it (copyleft and share-alike art is left out).
    """

    name: str
    origin: str
    licence: str
    credit: str = ""
    used: bool = True


SOURCES = (
    Source("taisei", "github.com/taisei-project/taisei (portraits)", "CC-BY-4.0", "art by afensorm"),
    Source("nova_vn", "github.com/Lunatic-Works/Nova", "MIT"),
    Source("renpy", "github.com/renpy/renpy (demo, The Question)", "MIT"),
    Source("suika2", "github.com/ktabata/suika2", "MIT"),
    Source("ltcrpg", "github.com/freeCodeCamp/LearnToCodeRPG", "BSD-3-Clause"),
    Source("sachi", "github.com/squishy-scsi/squishy", "BSD-3-Clause", "art by Tyson Tan"),
    Source("taisei_lineart", "github.com/taisei-project/taisei-rawmedia", "MIT"),
    Source("dialogic", "github.com/dialogic-godot/dialogic", "MIT"),
    Source("openclipart", "openclipart", "public domain"),
    Source("dicebear", "dicebear", "CC-BY-4.0 / CC0-1.0"),
    Source("gophers_marialetta", "github.com/MariaLetta/free-gophers-pack", "CC0-1.0"),
    Source("morevna", "morevna", "CC0-1.0"),
    Source("snowy_vn", "github.com/SnowyYANG/godot-visual-novel", "CC-BY-SA-4.0", used=False),
    Source("plasma_wallpapers", "plasma-workspace-wallpapers", "LGPL-3.0 / CC-BY-SA-4.0", used=False),
    Source("openmoji", "openmoji", "CC-BY-SA-4.0", used=False),
    Source("hedgewars", "hedgewars", "GPL-2.0", used=False),
    Source("ktuberling", "ktuberling", "GPL-2.0-or-later", used=False),
    Source("synfig_examples", "synfig-examples", "GPL-2.0-or-later", used=False),
)

_FONT_HINTS = {
    "japanese": ("cjk", "ipaex", "dotgothic", "takao", "mplus", "notosansjp", "notoserifjp"),
    "chinese": ("cjk", "wqy"),
    "korean": ("cjk", "nanum"),
    "thai": ("thai",),
    "arabic": ("arabic", "dejavusans.", "dejavusans-bold."),
    "hebrew": ("hebrew",),
    "devanagari": ("devanagari",),
    "greek": ("dejavu", "liberation", "notosans["),
    "cyrillic": ("dejavu", "liberation", "notosans["),
}
#: Scripts whose fonts have no Latin letters.
_SCRIPTS_ALONE = ("thai", "arabic", "hebrew", "devanagari")


class Assets:
    """A collection of art, indexed once, decoded on demand (the last pictures stay in memory).

    Args:
        files: kind -> picture files.
        fonts: script -> font files; none: no text is written.
    """

    def __init__(self, files: dict[str, tuple[Path, ...]], fonts: dict[str, tuple[Path, ...]]) -> None:
        self.files = files
        self.fonts = fonts
        self._read = functools.lru_cache(maxsize=_KEPT_PICTURES)(_read_rgba)

    def __reduce__(self) -> tuple[type[Assets], tuple[object, object]]:
        """Travel to worker processes without the decoded pictures."""
        return Assets, (self.files, self.fonts)

    @classmethod
    def none(cls) -> Assets:
        """Return a collection without files: scenes are then made of what the program draws by itself."""
        return cls(dict.fromkeys(KINDS, ()), {})

    @classmethod
    def open(cls, folder: Path, *, fonts: Path | None = None, sources: Sequence[str] | None = None) -> Assets:
        """Index a folder of art.

        Args:
            folder: holds ``<kind>/<source>/`` folders of pictures, or pictures in any order.
            fonts: folder of TrueType or OpenType fonts for the text in the scenes; None writes no text.
            sources: names of the source folders to use; None takes all but those that :data:`SOURCES` lists as unused.

        Raises:
            InputError: the folder does not exist or holds no picture to use.
        """
        if not folder.is_dir():
            raise InputError(f"cannot read the art folder '{folder}': there is no such folder.", code="no-such-folder")
        by_kind = any((folder / kind).is_dir() for kind in KINDS)
        files = _files_by_kind(folder, sources) if by_kind else _files_by_transparency(folder)
        if not any(files.values()):
            expected = f"in {', '.join(KINDS)} below it" if by_kind else "below it"
            raise InputError(
                f"cannot compose scenes from '{folder}': no pictures {expected}. Give a folder of drawings.",
                code="no-pictures",
            )
        return cls(files, fonts_by_script(fonts) if fonts is not None else {})

    def pick(self, kind: str, rng: Generator) -> Layer | None:
        """Draw one picture of a kind; None where there is none.

        A folder's chance lies between "every folder alike" and "every file alike".

        Returns:
            float32 RGBA ``(h, w, 4)`` in [0, 1], colours not multiplied by alpha.
        """
        paths = self.files[kind]
        if not paths:
            return None
        folders = sorted({path.parent for path in paths})
        counts = np.array([sum(path.parent == folder for path in paths) for folder in folders]) ** 0.75
        folder = folders[int(rng.choice(len(folders), p=counts / counts.sum()))]
        own = [path for path in paths if path.parent == folder]
        return self._read(own[int(rng.integers(len(own)))]).astype(np.float32) * np.float32(1 / 255)


def fonts_by_script(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Sort the fonts of a folder by the scripts that their names say they have.

    Raises:
        InputError: there is no font in it.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".ttf", ".otf", ".ttc"})
    if not paths:
        raise InputError(f"cannot use '{folder}' for text: no .ttf, .otf or .ttc file below it.", code="no-fonts")
    alone = {_FONT_HINTS[script][0] for script in _SCRIPTS_ALONE}
    found = {"latin": tuple(path for path in paths if not any(hint in path.name.lower() for hint in alone))}
    for script, hints in _FONT_HINTS.items():
        found[script] = tuple(path for path in paths if any(hint in path.name.lower() for hint in hints))
    return {script: files for script, files in found.items() if files}


def _files_by_kind(folder: Path, sources: Sequence[str] | None) -> dict[str, tuple[Path, ...]]:
    unused = {source.name for source in SOURCES if not source.used}

    def is_used(path: Path, kind: str) -> bool:
        parts = path.relative_to(folder / kind).parts
        name = parts[0] if len(parts) > 1 else ""
        return name in sources if sources is not None else name not in unused

    return {kind: tuple(path for path in _pictures(folder / kind) if is_used(path, kind)) for kind in KINDS}


def _files_by_transparency(folder: Path) -> dict[str, tuple[Path, ...]]:
    pictures = tuple(_pictures(folder))
    sprites = tuple(path for path in pictures if _has_alpha(path))
    drawn_over = set(sprites)
    backgrounds = tuple(path for path in pictures if path not in drawn_over)
    return {**dict.fromkeys(KINDS, ()), "sprites": sprites, "backgrounds": backgrounds}


def _pictures(folder: Path) -> Iterable[Path]:
    return find_media(folder, kinds=("picture",)).found if folder.is_dir() else ()


def _has_alpha(path: Path) -> bool:
    """Whether the head of a picture file says that it has transparent parts."""
    try:
        with Image.open(path) as image:
            return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        return False  # what it is comes out when it is read


def _read_rgba(path: Path) -> NDArray[np.uint8]:
    pixels = read_picture(path).pixels
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    channels = pixels.shape[2]
    colours = pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    alpha = pixels[..., -1:] if channels in (2, 4) else np.full_like(pixels[..., :1], 255)
    return np.ascontiguousarray(np.concatenate([colours, alpha], axis=2)).astype(np.uint8, copy=False)
