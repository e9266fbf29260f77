"""What every decoder shares: the budget that is asked before anything is allocated, and errors that are one line."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO, Protocol

from PIL import Image

from apisr.core.errors import ApisrError, InputError, MissingExtra
from apisr.core.files import open_regular
from apisr.core.memory import check_memory
from apisr.image.types import Frame, PictureInfo

#: A chunk of metadata that unpacks to more than this is left out.
MAX_METADATA_BYTES = 64 << 20


class Decoder(Protocol):
    """An open picture file: what is known of it, and its frames one after another."""

    info: PictureInfo

    def frames(self) -> Generator[Frame]:
        """Decode the frames from the first on; may be called again."""
        ...


class Budget:
    """Says no to pictures that are too large, before they are decoded.

    Args:
        path: the file, for messages.
        max_pixels: refuse more pixels than this; None: what the memory allows.
    """

    def __init__(self, path: Path, max_pixels: int | None = None) -> None:
        self.path = path
        self.max_pixels = max_pixels

    def check(self, width: int, height: int, *, bytes_per_pixel: float, frames: int = 1) -> None:
        """Check a size that the header of the file states.

        Args:
            width: in pixels.
            height: in pixels.
            bytes_per_pixel: all that decoding takes.
            frames: how many are in memory at once.

        Raises:
            InputError: too large (``"too-large"``), or no picture has this size (``"damaged-picture"``).
        """
        if width <= 0 or height <= 0:
            raise InputError(
                f"cannot read '{self.path}': its header says {width}x{height} pixels. The file is damaged.",
                code="damaged-picture",
            )
        what = f"'{self.path}' ({width}x{height} pixels{f', {frames} frames' if frames > 1 else ''})"
        if self.max_pixels is None:
            needed = int(width * height * bytes_per_pixel * frames)
            check_memory(needed, what=what, advice="Use a smaller picture, or --max-pixels if it is meant.")
        elif width * height * frames > self.max_pixels:
            raise InputError(
                f"{what} is larger than the {self.max_pixels} pixels that are allowed. Raise --max-pixels.",
                code="too-large",
            )


@contextlib.contextmanager
def decoder_errors(path: Path) -> Generator[None]:
    """Turn whatever a decoder raises into one line.

    Decoders of damaged files raise almost anything (struct.error, KeyError, TypeError, errors of their own), so this
    is the one place of the room that catches everything.

    Raises:
        InputError: ``"damaged-picture"``, or ``"too-large"`` when memory ran out.
        MissingExtra: a decoder of the extra ``formats`` is needed.
    """
    _silence_libraries()
    try:
        yield
    except (ApisrError, GeneratorExit):
        raise
    except MemoryError as error:
        raise InputError(
            f"'{path}' needs more memory than there is. Use a smaller picture.", code="too-large"
        ) from error
    except Image.DecompressionBombError as error:  # a picture inside the file is larger than its head says
        raise InputError(
            f"'{path}' holds a picture that is too large ({' '.join(str(error).split())}).", code="too-large"
        ) from error
    except Exception as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        if "requires the 'imagecodecs' package" in detail:  # so says tifffile of rare ways to compress
            raise MissingExtra("formats", f"to read '{path}'") from error
        raise InputError(
            f"cannot read '{path}': the picture is damaged, cut off or of a kind that is not supported ({detail}).",
            code="damaged-picture",
        ) from error


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading at any place.

    Raises:
        InputError: it is missing, a folder, not readable (``"cannot-read"``), a pipe or a device (``"not-a-file"``), or
            empty (``"empty-file"``).
    """
    try:
        if path.is_dir():
            raise InputError(f"cannot read '{path}': it is a folder. Give a picture.", code="cannot-read")
        file = open_regular(path)
    except FileNotFoundError as error:
        raise InputError(f"cannot read '{path}': no such file.", code="cannot-read") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read '{path}': {reason}.", code="cannot-read") from error
    file.seek(0, io.SEEK_END)
    if file.tell() == 0:
        file.close()
        raise InputError(f"cannot read '{path}': the file is empty (0 bytes).", code="empty-file")
    file.seek(0)
    return file


def _silence_libraries() -> None:
    """Keep remarks of the decoders about odd metadata off the user's screen; errors are raised all the same."""
    warnings.filterwarnings("ignore", module=r"(PIL|tifffile|pillow_heif)\b")
    for name in ("tifffile", "PIL"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
