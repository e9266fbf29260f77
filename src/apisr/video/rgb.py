"""From the frames of a video to RGB and back.

Two paths lead to RGB. The ordinary cases go through libswscale's filter with accurate rounding, bicubic chroma and the
chroma position stated (a plain ``reformat`` takes 4:2:0 chroma as centred, which shifts colour by a quarter of a chroma
sample). Measured on flat colours: never more than 0.51 code values from the exact result, limited range comes back bit
for bit. The rest is computed here in float32 with cubic chroma filters: full range (where libswscale is up to 2.4
values off, and 3 codes in 10 bits), gray, YCgCo, odd subsampling.

The signal is never linearised: networks are trained on gamma-coded pictures, and PQ and HLG signals are, like
gamma, roughly uniform to the eye. High dynamic range therefore passes in its own coding.

    >>> import numpy as np
    >>> from apisr.video.colour import Colour
    >>> bars = Colour(matrix=1, primaries=1, transfer=1, full_range=False, chroma="left")
    >>> gray = np.full((4, 4, 3), 128, np.uint8)
    >>> frame = FromRgb(bars, "yuv420p")(gray)
    >>> np.array_equal(ToRgb(bars, np.uint8)(frame), gray)
    True
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import av
import cv2
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import DTypeLike, NDArray

from apisr.image import ImageF32, ImageInt
from apisr.video.colour import LUMA_WEIGHTS, ChromaPosition, Colour, bit_depth, chroma_shift

_SWSCALE = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
_SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
_SWSCALE_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
_WIDE_WHITE_GAIN = 65535 / 65280
_SWSCALE_LEAST_LINES = 32
_CUBIC_A = -0.5


class ToRgb:
    """Converts the decoded frames of one stream to RGB.

    Args:
        colour: what the numbers of the frames mean.
        dtype: uint8, or uint16 (the full range 0 to 65535 is used whatever the depth of the frames).
    """

    def __init__(self, colour: Colour, dtype: DTypeLike) -> None:
        self.colour = colour
        self.dtype = np.dtype(dtype)
        self._worker = VideoReformatter()
        self._graph: tuple[tuple[str, int, int], Graph] | None = None

    def __call__(self, frame: av.VideoFrame) -> ImageInt:
        """Return ``(height, width, 3)`` RGB of a planar or packed YUV, gray, palette or RGB frame."""
        name = frame.format.name
        if frame.format.is_rgb or frame.format.has_palette:
            return _rgb_frame(frame, self.dtype, self._worker)
        high_bit_depth = self.dtype == np.uint16
        if (bit_depth(name) > 8) == high_bit_depth and _swscale_exact(self.colour, name, frame.height):
            return self._filtered(frame, high_bit_depth=high_bit_depth)
        planar = _planar(frame, self._worker)
        bits = bit_depth(planar.format.name)
        planes = [plane.astype(np.float32) for plane in plane_arrays(planar)]
        luma = planes[0]
        if len(planes) < 3:
            neutral = np.full_like(luma, float(1 << (bits - 1)))
            planes = [luma, neutral, neutral]
        shift = chroma_shift(planar.format.name)
        height, width = luma.shape
        wide = [_enlarged(plane, shift, self.colour.chroma)[:height, :width] for plane in planes[1:3]]
        white = float(np.iinfo(self.dtype.name).max)
        values = cv2.transform(cv2.merge([luma, *wide]), _yuv_to_rgb(self.colour, bits) * white)
        return cast(ImageInt, _rounded(cast(ImageF32, values), white, self.dtype))

    def _filtered(self, frame: av.VideoFrame, *, high_bit_depth: bool) -> ImageInt:
        key = (frame.format.name, frame.width, frame.height)
        if self._graph is None or self._graph[0] != key:
            self._graph = (key, _scale_graph(*key, "rgb48le" if high_bit_depth else "rgb24", self.colour, side="in"))
        _tag(frame, self.colour)
        tags = frame.color_primaries, frame.color_trc
        frame.color_primaries = frame.color_trc = 1  # they play no part in this, and libswscale refuses some of them
        rgb = _through(self._graph[1], frame).to_ndarray()
        frame.color_primaries, frame.color_trc = tags
        if high_bit_depth:  # libswscale calls 65280 white
            rgb = cv2.multiply(rgb, cast(Any, (_WIDE_WHITE_GAIN,) * 4))
        return cast(ImageInt, np.ascontiguousarray(rgb))


class FromRgb:
    """Converts RGB to the frames that an encoder takes.

    Args:
        colour: what the numbers of the frames shall mean; the tags are set on them.
        pixel_format: a planar YUV, ``nv12``/``p010le``, gray or RGB format.
    """

    def __init__(self, colour: Colour, pixel_format: str) -> None:
        self.colour = colour
        self.pixel_format = pixel_format
        self._worker = VideoReformatter()
        self._graph: tuple[tuple[str, int, int], Graph] | None = None

    def __call__(self, rgb: ImageInt) -> av.VideoFrame:
        """Return a frame of the pixel format made from ``(height, width, 3)`` uint8 or uint16 RGB, full range."""
        layout = VideoFormat(self.pixel_format)
        high_bit_depth = rgb.dtype == np.uint16
        if layout.is_rgb:
            return self._rgb(rgb, high_bit_depth=high_bit_depth)
        if (bit_depth(self.pixel_format) > 8) == high_bit_depth and _swscale_exact(
            self.colour, self.pixel_format, rgb.shape[0]
        ):
            frame = self._filtered(rgb, high_bit_depth=high_bit_depth)
        else:
            frame = _yuv_frame(rgb, self.colour, self.pixel_format, self._worker)
        _tag(frame, self.colour)
        return frame

    def _rgb(self, rgb: ImageInt, *, high_bit_depth: bool) -> av.VideoFrame:
        bits = bit_depth(self.pixel_format)
        if high_bit_depth and bits != 16:
            frame = _gbr_frame(rgb, self.pixel_format, bits)
        else:
            frame = av.VideoFrame.from_ndarray(
                cast(Any, np.ascontiguousarray(rgb)), format="rgb48le" if high_bit_depth else "rgb24"
            )
            frame = self._worker.reformat(frame, format=self.pixel_format, interpolation=_SWSCALE)
        frame.color_range = 2
        frame.colorspace = 0
        frame.color_primaries = self.colour.primaries
        frame.color_trc = self.colour.transfer
        return frame

    def _filtered(self, rgb: ImageInt, *, high_bit_depth: bool) -> av.VideoFrame:
        if high_bit_depth:
            rgb = cast(ImageInt, cv2.multiply(rgb, cast(Any, (1 / _WIDE_WHITE_GAIN,) * 4)))
        source = av.VideoFrame.from_ndarray(
            cast(Any, np.ascontiguousarray(rgb)), format="rgb48le" if high_bit_depth else "rgb24"
        )
        source.color_range = 2
        source.colorspace = 0
        key = (source.format.name, source.width, source.height)
        if self._graph is None or self._graph[0] != key:
            self._graph = (key, _scale_graph(*key, self.pixel_format, self.colour, side="out"))
        return _through(self._graph[1], source)


def plane_arrays(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """Return writable views of the planes of a planar frame, cut to the picture: uint8, or uint16 above 8 bits."""
    arrays: list[NDArray[Any]] = []
    dtype = np.uint16 if bit_depth(frame.format.name) > 8 else np.uint8
    for plane in frame.planes:
        rows = np.frombuffer(cast(Any, plane), dtype).reshape(plane.height, -1)
        arrays.append(rows[:, : plane.width])
    return arrays


def _swscale_exact(colour: Colour, pixel_format: str, height: int) -> bool:
    """Whether libswscale is exact to a code value here: known matrices, ordinary subsampling, limited range."""
    shift = chroma_shift(pixel_format)
    bits = bit_depth(pixel_format)
    layout = VideoFormat(pixel_format)
    if height < _SWSCALE_LEAST_LINES:  # pictures of 4 and 8 lines come out with wrong chroma in half of them
        return False
    ordinary = max(shift) <= 1 and len(layout.components) >= 3 and not layout.is_big_endian
    return ordinary and colour.matrix in _SWSCALE_MATRICES and bits <= 12 and not colour.full_range


def _scale_graph(name: str, width: int, height: int, target: str, colour: Colour, *, side: str) -> Graph:
    """Build a filter graph that converts between YUV (on `side` ``in`` or ``out``) and RGB with the chroma position."""
    graph = Graph()
    graph.threads = 1  # more gain nothing here, and PyAV 19 keeps them until the garbage collector runs
    source = graph.add_buffer(width=width, height=height, format=VideoFormat(name), time_base=Fraction(1, 1000))
    scale = graph.add(
        "scale",
        f"flags={_SCALE_FLAGS}:{side}_color_matrix={_SWSCALE_MATRICES[colour.matrix]}"
        f":{side}_range={'full' if colour.full_range else 'limited'}:{side}_chroma_loc={colour.chroma}",
    )
    graph.link_nodes(source, scale, graph.add("format", f"pix_fmts={target}"), graph.add("buffersink")).configure()
    return graph


def _through(graph: Graph, frame: av.VideoFrame) -> av.VideoFrame:
    if frame.pts is None:
        frame.pts = 0
    graph.push(frame)
    return cast(av.VideoFrame, graph.pull())


def _tag(frame: av.VideoFrame, colour: Colour) -> None:
    frame.colorspace = colour.matrix
    frame.color_range = 2 if colour.full_range else 1
    frame.color_primaries = colour.primaries
    frame.color_trc = colour.transfer


def _planar(frame: av.VideoFrame, worker: VideoReformatter) -> av.VideoFrame:
    """Unpack packed YUV (no arithmetic): nv12, p010, yuyv and the like."""
    layout = frame.format
    single = len(layout.components) == 1
    if (layout.is_planar or single) and len(frame.planes) in (1, 3, 4) and not layout.is_big_endian:
        return frame
    if len(layout.components) < 3:
        target = "gray" if bit_depth(layout.name) == 8 else layout.name.replace("be", "le")
    else:
        bits = bit_depth(layout.name)
        sampling = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (0, 1): "440", (2, 0): "411", (2, 2): "410"}
        target = f"yuv{sampling[chroma_shift(layout.name)]}p{'' if bits == 8 else f'{bits}le'}"
    return _repacked(frame, target, worker)


def _repacked(frame: av.VideoFrame, target: str, worker: VideoReformatter) -> av.VideoFrame:
    """Change how samples lie in memory; the tags are neutral meanwhile, since some make libswscale refuse."""
    tags = frame.colorspace, frame.color_range
    frame.colorspace, frame.color_range = 1, 1
    out = worker.reformat(frame, format=target, interpolation=_SWSCALE)
    for one in (frame, out):
        one.colorspace, one.color_range = tags
    return out


def _rgb_frame(frame: av.VideoFrame, dtype: DTypeLike, worker: VideoReformatter) -> ImageInt:
    name = frame.format.name
    bits = bit_depth(name)
    if bits == 8:
        out = worker.reformat(frame, format="rgb24", interpolation=_SWSCALE)
        small = np.ascontiguousarray(out.to_ndarray()).astype(np.uint8, copy=False)
        return small if dtype == np.uint8 else cast(ImageInt, small.astype(np.uint16) * np.uint16(257))
    if frame.format.is_planar and not frame.format.is_big_endian and "f" not in name.removeprefix("gbr"):
        green, blue, red = plane_arrays(frame)[:3]
        values = cv2.merge([red.astype(np.float32), green.astype(np.float32), blue.astype(np.float32)])
        white = float(np.iinfo(dtype).max)
        return cast(ImageInt, _rounded(cast(ImageF32, values * (white / ((1 << bits) - 1))), white, dtype))
    wide = np.ascontiguousarray(worker.reformat(frame, format="rgb48le", interpolation=_SWSCALE).to_ndarray())
    if dtype == np.uint16:
        return cast(ImageInt, wide)
    return cast(ImageInt, _rounded(wide.astype(np.float32) / 257.0, 255.0, np.uint8))


def _gbr_frame(rgb: ImageInt, pixel_format: str, bits: int) -> av.VideoFrame:
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], pixel_format)
    top = float((1 << bits) - 1)
    values = _rounded(rgb.astype(np.float32) * (top / 65535.0), top, np.uint16 if bits > 8 else np.uint8)
    for plane, channel in zip(plane_arrays(frame), (1, 2, 0), strict=True):
        plane[...] = values[:, :, channel]
    return frame


def _yuv_frame(rgb: ImageInt, colour: Colour, pixel_format: str, worker: VideoReformatter) -> av.VideoFrame:
    layout = VideoFormat(pixel_format)
    bits = bit_depth(pixel_format)
    shift = chroma_shift(pixel_format)
    planar_name = pixel_format
    if len(layout.components) > 1 and len({component.plane for component in layout.components}) != 3:
        sampling = {(1, 1): "420", (1, 0): "422", (0, 0): "444"}[shift]
        planar_name = f"yuv{sampling}p{'' if bits == 8 else f'{bits}le'}"
    height, width = rgb.shape[:2]
    white = float(np.iinfo(rgb.dtype).max)
    values = cast(ImageF32, cv2.transform(rgb.astype(np.float32), _rgb_to_yuv(colour, bits, white)))
    frame = av.VideoFrame(width, height, planar_name)
    targets = plane_arrays(frame)
    top = float((1 << bits) - 1)
    dtype = np.uint16 if bits > 8 else np.uint8
    targets[0][...] = _rounded(np.ascontiguousarray(values[:, :, 0]), top, dtype)
    for index in range(1, len(targets)):
        small = _reduced(np.ascontiguousarray(values[:, :, index]), shift, colour.chroma)
        targets[index][...] = _rounded(small, top, dtype)
    return frame if planar_name == pixel_format else _repacked(frame, pixel_format, worker)


def _code_range(colour: Colour, bits: int) -> tuple[float, float, float, float]:
    """Return (luma black, luma span, chroma zero, chroma span) in codes (H.273, equations 20 to 26)."""
    if colour.full_range:
        span = float((1 << bits) - 1)
        return 0.0, span, float(1 << (bits - 1)), span
    unit = float(1 << (bits - 8))
    return 16 * unit, 219 * unit, 128 * unit, 224 * unit


def _signal_matrix(colour: Colour) -> NDArray[np.float64]:
    """Return the 3x3 matrix from R'G'B' to Y'CbCr with Y' in [0, 1] and Cb, Cr in [-0.5, 0.5]."""
    if colour.matrix == 8:
        return np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0.0, -0.5]])
    red, blue = LUMA_WEIGHTS[colour.matrix]
    luma = np.array([red, 1.0 - red - blue, blue])
    cb = (np.array([0.0, 0.0, 1.0]) - luma) / (2 * (1 - blue))
    cr = (np.array([1.0, 0.0, 0.0]) - luma) / (2 * (1 - red))
    return np.stack([luma, cb, cr])


def _rgb_to_yuv(colour: Colour, bits: int, white: float) -> NDArray[np.float64]:
    black, luma_span, zero, chroma_span = _code_range(colour, bits)
    spans = np.array([[luma_span], [chroma_span], [chroma_span]])
    return np.hstack([_signal_matrix(colour) * spans / white, np.array([[black], [zero], [zero]])])


def _yuv_to_rgb(colour: Colour, bits: int) -> NDArray[np.float64]:
    black, luma_span, zero, chroma_span = _code_range(colour, bits)
    inverse = np.linalg.inv(_signal_matrix(colour)) / np.array([luma_span, chroma_span, chroma_span])
    return np.hstack([inverse, -inverse @ np.array([[black], [zero], [zero]])])


def _rounded(values: ImageF32, top: float, dtype: DTypeLike) -> NDArray[Any]:
    np.clip(values, 0.0, top, out=values)
    values += np.float32(0.5)
    return values.astype(dtype)


def _cubic(distance: float) -> float:
    """Return Keys's cubic kernel (a = -0.5) at a distance in samples."""
    x = abs(distance)
    if x < 1:
        return (_CUBIC_A + 2) * x**3 - (_CUBIC_A + 3) * x**2 + 1
    if x < 2:
        return _CUBIC_A * (x**3 - 5 * x**2 + 8 * x - 4)
    return 0.0


def _offset(position: ChromaPosition, *, vertical: bool) -> float:
    """Return where a chroma sample sits, in luma samples after the first luma sample of its group."""
    if not vertical:
        return 0.5 if position in ("center", "top", "bottom") else 0.0
    return 0.5 if position in ("center", "left") else 0.0 if position.startswith("top") else 1.0


def _enlarged(plane: ImageF32, shift: tuple[int, int], position: ChromaPosition) -> ImageF32:
    """Interpolate a chroma plane to the luma grid."""
    if shift == (0, 0):
        return plane
    across, down = 1 << shift[0], 1 << shift[1]
    height, width = plane.shape
    out = np.empty((height * down, width * across), np.float32)
    for row in range(down):
        kernel_y = _interpolator(row, down, _offset(position, vertical=True) if down == 2 else (down - 1) / 2)
        for column in range(across):
            kernel_x = _interpolator(column, across, _offset(position, vertical=False) if across == 2 else 0.0)
            out[row::down, column::across] = cv2.sepFilter2D(
                plane, cv2.CV_32F, kernel_x, kernel_y, borderType=cv2.BORDER_REPLICATE
            )
    return out


def _interpolator(phase: int, factor: int, offset: float) -> NDArray[np.float32]:
    where = (phase - offset) / factor
    return np.array([_cubic(tap - where) for tap in range(-2, 3)], np.float32)


def _reduced(plane: ImageF32, shift: tuple[int, int], position: ChromaPosition) -> ImageF32:
    """Low-pass a full-size colour plane and keep the samples of the chroma grid."""
    if shift == (0, 0):
        return plane
    across, down = 1 << shift[0], 1 << shift[1]
    kernel_x = _reducer(across, _offset(position, vertical=False) if across == 2 else 0.0)
    kernel_y = _reducer(down, _offset(position, vertical=True) if down == 2 else (down - 1) / 2)
    smooth = cv2.sepFilter2D(plane, cv2.CV_32F, kernel_x, kernel_y, borderType=cv2.BORDER_REPLICATE)
    return cast(ImageF32, np.ascontiguousarray(smooth[::down, ::across]))


def _reducer(factor: int, offset: float) -> NDArray[np.float32]:
    if factor == 1:
        return np.ones(1, np.float32)
    taps = np.array([_cubic((tap - offset) / factor) for tap in range(-2 * factor, 2 * factor + 1)])
    return (taps / taps.sum()).astype(np.float32)
