"""Colour profiles: which belong to the pixels, conversion of CMYK and Lab, profiles from PNG's gamma."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageCms

#: x and y of white, red, green, blue of sRGB.
SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
#: PNG's gAMA of sRGB.
SRGB_GAMMA = 1 / 2.2

_D50 = np.array([0.96422, 1.0, 0.82521])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SPACES = {b"RGB ": (3, 4), b"GRAY": (1, 2)}


def profile_space(profile: bytes) -> bytes:
    """Return the colour space that an ICC profile is for: ``b"RGB "``, ``b"GRAY"``, ``b"CMYK"``, ``b"Lab "``."""
    return profile[16:20] if len(profile) >= 128 and profile[36:40] == b"acsp" else b""


def profile_fits(profile: bytes, channels: int) -> bool:
    """Return whether a profile describes pixels of so many channels (alpha counted)."""
    return channels in _SPACES.get(profile_space(profile), ())


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert CMYK, Lab, YCbCr or HSV to sRGB, through the profile if it is one of that space."""
    profile = image.info.get("icc_profile")
    wanted = {"CMYK": b"CMYK", "LAB": b"Lab "}.get(image.mode)
    if isinstance(profile, bytes) and wanted is not None and profile_space(profile) == wanted:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):  # a damaged profile: as if there were none
            converted = None
        if converted is not None:
            return converted
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if converted is not None:
            return converted
    return image.convert("RGB")


def is_srgb(gamma: float | None, chromaticities: Sequence[float] | None) -> bool:
    """Return whether PNG's gAMA and cHRM say what a viewer assumes anyway."""
    usual = gamma is None or abs(gamma - SRGB_GAMMA) < 0.002
    return usual and (
        chromaticities is None
        or all(abs(got - sure) < 0.002 for got, sure in zip(chromaticities, SRGB_CHROMATICITIES, strict=True))
    )


def gamma_profile(gamma: float | None, chromaticities: Sequence[float] | None, *, gray: bool) -> bytes | None:
    """Make the ICC profile (version 2) that says the same as PNG's gAMA and cHRM.

    Args:
        gamma: exponent with which light was encoded, None for that of sRGB.
        chromaticities: x and y of white, red, green and blue; None for those of sRGB.
        gray: whether the picture has no colours.

    Returns:
        The profile; None where the numbers describe no colour space.
    """
    exponent = 1 / (gamma or SRGB_GAMMA)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256)) if 0 < exponent < 255 else b""
    if not curve:
        return None
    tags = [(b"desc", _description("Gamma of a PNG file")), (b"cprt", b"text\0\0\0\0No copyright\0")]
    tags.append((b"wtpt", _xyz(_D50)))
    if gray:
        tags.append((b"kTRC", curve))
    else:
        columns = _primaries(chromaticities or SRGB_CHROMATICITIES)
        if columns is None:
            return None
        tags += [(name, _xyz(columns[:, index])) for index, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
        tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return _profile(b"GRAY" if gray else b"RGB ", tags)


def _primaries(chromaticities: Sequence[float]) -> np.ndarray | None:
    """Return the matrix from linear RGB to XYZ of D50; None where there is none."""
    points = np.asarray(chromaticities, np.float64).reshape(4, 2)
    if (points <= 0).any() or (points.sum(axis=1) > 1).any():
        return None
    xyz = np.stack([points[:, 0], points[:, 1], 1 - points.sum(axis=1)]) / points[:, 1]
    white, primaries = xyz[:, 0], xyz[:, 1:]
    if abs(np.linalg.det(primaries)) < 1e-6:
        return None
    columns = primaries * np.linalg.solve(primaries, white)
    scale = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    return np.linalg.inv(_BRADFORD) @ scale @ _BRADFORD @ columns


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _description(text: str) -> bytes:
    content = text.encode("ascii") + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(content)) + content + bytes(8 + 3 + 67)


def _profile(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    position = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags:
        table += name + struct.pack(">II", position + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", 0, bytes(4), 0x02100000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(value * 65536) for value in _D50))
    header = header.ljust(128, b"\0")
    whole = header + table + body
    return struct.pack(">I", len(whole)) + whole[4:]
