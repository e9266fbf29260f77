"""Colour profiles: which belong to the pixels, conversion of CMYK and Lab, profiles from PNG's gamma."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageCms

from apisr.image.types import ImageInt, ImageU8

#: x and y of white, red, green, blue of sRGB.
SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
#: PNG's gAMA of sRGB.
SRGB_GAMMA = 1 / 2.2

_D50 = np.array([0.96422, 1.0, 0.82521])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
#: From XYZ of D50 to linear sRGB (IEC 61966-2-1, adapted by Bradford).
_XYZ_TO_SRGB = np.array(
    [
        [3.13425994, -1.61719782, -0.49068516],
        [-0.97875507, 1.91613505, 0.03344623],
        [0.07194227, -0.22895821, 1.40520599],
    ]
)
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
    space = {"CMYK": b"CMYK", "LAB": b"Lab "}.get(image.mode)
    if isinstance(profile, bytes) and space is not None and profile_space(profile) == space:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = _converted(image, source)
        except (ImageCms.PyCMSError, OSError, ValueError):  # a damaged profile: as if there were none
            converted = None
        if converted is not None:
            return converted
    if image.mode == "LAB":
        converted = _converted(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
        if converted is not None:
            return converted
    return image.convert("RGB")


def _converted(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image | None:
    """Convert to sRGB; Lab without the tables that LittleCMS makes beforehand, which are up to 37 levels off."""
    exact = ImageCms.Flags.NOOPTIMIZE if image.mode == "LAB" else ImageCms.Flags.NONE
    return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB", flags=exact)


def cmyk_to_rgb(pixels: ImageU8, profile: object) -> ImageU8:
    """Convert CMYK ``(H, W, 4)`` or CMYK and alpha ``(H, W, 5)`` (more is more ink) to sRGB.

    Args:
        pixels: as stored.
        profile: the ICC profile of the file, None without one.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels[..., :4]), "CMYK")
    if profile is not None:
        image.info["icc_profile"] = profile
    rgb = np.asarray(to_rgb(image), np.uint8)
    return np.concatenate([rgb, pixels[..., 4:]], axis=2)


def lab_to_rgb(pixels: ImageInt, *, signed: bool) -> ImageInt:
    """Convert Lab of D50 ``(H, W, 3)``, or with alpha, to sRGB of the same depth.

    Args:
        pixels: L from black (0) to white (the highest value), a and b in steps of 1 (8 bits) or 1/256 (16 bits).
        signed: whether a and b have a sign (TIFF's CIELab); else their zero lies in the middle (ICC, Photoshop).
    """
    peak = np.iinfo(pixels.dtype).max
    middle = (peak + 1) // 2
    offset = (pixels[..., 1:3].astype(np.int32) + (middle if signed else 0)) % (peak + 1) - middle
    lightness = pixels[..., 0].astype(np.float32) * np.float32(100 / peak)
    a, b = (offset[..., index].astype(np.float32) / np.float32((peak + 1) / 256) for index in (0, 1))
    middle_f = (lightness + 16) / 116
    shares = np.stack([middle_f + a / 500, middle_f, middle_f - b / 200], axis=2)
    cubes = np.where(shares > 6 / 29, shares**3, (shares - 4 / 29) * np.float32(3 * (6 / 29) ** 2))
    linear = np.clip((cubes * _D50.astype(np.float32)) @ _XYZ_TO_SRGB.T.astype(np.float32), 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    rgb = (coded * peak + 0.5).astype(pixels.dtype)
    return np.concatenate([rgb, pixels[..., 3:]], axis=2)


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
