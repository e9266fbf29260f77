"""Small valid pictures of every kind that is read, and the run that damages them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from .damage import Figures, fuzz_seeds

_HEIGHT, _WIDTH = 24, 33


def fuzz_pictures(count: int, *, seed: int = 0, memory_mb: int = 2048, keep: Path | None = None) -> Figures:
    """Damage the seeds and read each result in a child with a memory limit.

    Args:
        count: how many files.
        seed: of all draws; the same seed gives the same files.
        memory_mb: limit of address space of the child.
        keep: a folder for the files that were neither read nor refused.
    """
    return fuzz_seeds(valid_pictures(), count, what="pictures", seed=seed, memory_mb=memory_mb, keep=keep)


def valid_pictures() -> dict[str, bytes]:
    """Return name -> content of small valid pictures, the same at every call."""
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
    rgb = np.stack([rows * 10, columns * 7, (rows * columns) % 256], axis=2).astype(np.uint8)
    rgba = np.dstack([rgb, (255 - columns * 5).astype(np.uint8)])
    return {**_png(rgb, rgba), **_jpeg(rgb), **_animated(rgb, rgba), **_tiff(rgb, rgba), **_others(rgb, rgba)}


def _saved(pixels: np.ndarray, format_name: str, mode: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, format_name, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _png(rgb: np.ndarray, rgba: np.ndarray) -> dict[str, bytes]:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "1girl, masterpiece")
    texts.add_itxt("Title", "\u984c\u540d", "ja", "Titel")
    texts.add_text("long", "abc" * 500, zip=True)
    import cv2

    deep = cv2.imencode(".png", rgb.astype(np.uint16) * 257)[1].tobytes()
    return {
        "png_rgb.png": _saved(rgb, "PNG", pnginfo=texts, dpi=(72, 72)),
        "png_rgba.png": _saved(rgba, "PNG"),
        "png_gray.png": _saved(rgb, "PNG", "L", transparency=10),
        "png_palette.png": _saved(rgb, "PNG", "P", transparency=3),
        "png_bits.png": _saved(rgb, "PNG", "1"),
        "png_deep.png": deep,
    }


def _jpeg(rgb: np.ndarray) -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    return {
        "jpeg_plain.jpg": _saved(rgb, "JPEG", exif=exif.tobytes(), comment=b"a comment"),
        "jpeg_progressive.jpg": _saved(rgb, "JPEG", progressive=True),
        "jpeg_cmyk.jpg": _saved(rgb, "JPEG", "CMYK"),
        "jpeg_gray.jpg": _saved(rgb, "JPEG", "L"),
    }


def _animated(rgb: np.ndarray, rgba: np.ndarray) -> dict[str, bytes]:
    frames = [Image.fromarray(np.roll(rgba, 3 * index, axis=1)) for index in range(3)]
    found = {}
    for name, format_name in (("gif", "GIF"), ("webp", "WEBP"), ("avif", "AVIF"), ("apng", "PNG")):
        buffer = io.BytesIO()
        frames[0].save(buffer, format_name, save_all=True, append_images=frames[1:], duration=50, loop=2)
        found[f"{name}_animated.{'png' if name == 'apng' else name}"] = buffer.getvalue()
    return found | {
        "gif_still.gif": _saved(rgb, "GIF", "P"),
        "webp_lossy.webp": _saved(rgba, "WEBP", quality=80),
        "webp_lossless.webp": _saved(rgb, "WEBP", lossless=True),
        "avif_still.avif": _saved(rgba, "AVIF", quality=60),
    }


def _tiff(rgb: np.ndarray, rgba: np.ndarray) -> dict[str, bytes]:
    deep = rgb.astype(np.uint16) * 257

    def written(*pages: np.ndarray, **options: object) -> bytes:
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer, bigtiff=bool(options.pop("bigtiff", False))) as file:
            for page in pages:
                file.write(page, photometric="rgb", metadata=None, **options)  # type: ignore[arg-type]
        return buffer.getvalue()

    return {
        "tiff_strips.tif": written(rgb, rowsperstrip=5),
        "tiff_tiles.tif": written(deep, tile=(16, 16), compression="zlib", predictor=True),
        "tiff_big.tif": written(deep, bigtiff=True),
        "tiff_pages.tif": written(rgb, deep, rgba[::2], compression="zlib"),
        "tiff_float.tif": written(rgb.astype(np.float32) / 255),
        "tiff_planes.tif": written(np.ascontiguousarray(deep.transpose(2, 0, 1)), planarconfig="separate"),
        "tiff_lzw.tif": _saved(rgb, "TIFF", compression="tiff_lzw"),
        "tiff_jpeg.tif": _saved(rgb, "TIFF", compression="jpeg"),
        "tiff_fax.tif": _saved(rgb, "TIFF", "1", compression="group4"),
        "tiff_palette.tif": _saved(rgb, "TIFF", "P"),
    }


def _others(rgb: np.ndarray, rgba: np.ndarray) -> dict[str, bytes]:
    height, width = rgb.shape[:2]
    psd = b"8BPS\0\1" + bytes(6) + b"\0\3" + height.to_bytes(4, "big") + width.to_bytes(4, "big") + b"\0\x08\0\3"
    psd += bytes(12) + b"\0\0" + rgb.transpose(2, 0, 1).tobytes()
    pfm = b"PF\n%d %d\n-1.0\n" % (width, height) + (rgb / np.float32(255)).astype("<f4")[::-1].tobytes()
    return {
        "bmp_rgb.bmp": _saved(rgb, "BMP"),
        "bmp_palette.bmp": _saved(rgb, "BMP", "P"),
        "tga_plain.tga": _saved(rgba, "TGA"),
        "tga_packed.tga": _saved(rgb, "TGA", compression="tga_rle"),
        "ico_small.ico": _saved(rgba, "ICO", sizes=[(16, 16), (24, 24)]),
        "jp2_plain.jp2": _saved(rgb, "JPEG2000"),
        "psd_flat.psd": psd,
        "pnm_binary.ppm": b"P6 %d %d 255\n" % (width, height) + rgb.tobytes(),
        "pnm_text.pgm": b"P2 %d %d 255\n" % (width, height) + b" ".join(b"%d" % value for value in rgb[..., 0].flat),
        "pnm_float.pfm": pfm,
        "pnm_pam.pam": b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" % (width, height)
        + rgba.tobytes(),
        "qoi_plain.qoi": _saved(rgba, "QOI"),
    }
