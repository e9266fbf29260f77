"""A network that is loaded once and called many times: what :func:`apisr.load` returns.

>>> import numpy as np, apisr
>>> model = apisr.load(scale=2)
>>> model(np.zeros((10, 12, 3), np.uint8)).shape
(20, 24, 3)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError

if TYPE_CHECKING:
    from apisr.engines import Engine, ModelTraits
    from apisr.upscale.sequence import FrameSequence
    from apisr.weights import Model

Value = TypeVar("Value", np.uint8, np.uint16, np.float32)


@dataclass(frozen=True)
class LoadedModel:
    """A network in an engine, ready to be called on pictures.

    Attributes:
        model: the file, its card, and what is known of it.
        engine: what runs it.
    """

    model: Model
    engine: Engine

    @property
    def name(self) -> str:
        """Return the name of the model."""
        return self.model.name

    @property
    def scale(self) -> int:
        """Return the network's own factor."""
        return self.engine.traits.scale

    @property
    def traits(self) -> ModelTraits:
        """Return how the network relates output to input: scale, halo, multiple, fixed size."""
        return self.engine.traits

    @property
    def card(self) -> Mapping[str, object]:
        """Return the model's card: licence, data, training, scores."""
        return self.model.card

    def __call__(
        self, pictures: NDArray[Value], *, scale: float | None = None, tile_px: int | None = None
    ) -> NDArray[Value]:
        """Upscale one picture or a batch.

        Args:
            pictures: ``(H, W)`` gray, ``(H, W, C)`` or a batch ``(N, H, W, C)``. uint8 and uint16 with C = 1 gray,
                2 gray and alpha, 3 RGB, 4 RGB and alpha (straight); float32 in [0, 1] with C = 1 or 3.
            scale: factor of the output; None is the network's own, others are resampled from it.
            tile_px: side of the tiles that go through the network; None for what the memory allows.

        Returns:
            ``scale`` times as high and wide, with the dtype and the axes of the input. Floats are not clipped.

        Raises:
            InputError: another shape or dtype, floats that are not finite or far from [0, 1], or a factor or a tile
                out of range.
        """
        array = np.asarray(pictures)
        _check(array)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if tile_px is not None and (type(tile_px) is not int or tile_px < 1):
            raise InputError(f"expected a whole number of pixels from 1, got tile_px={tile_px!r}.", code="bad-tile")
        if scale is not None and not 0.1 <= scale <= 16:
            raise InputError(f"expected a scale from 0.1 to 16, got {scale:g}.", code="bad-scale")
        if array.ndim == 4:
            return np.stack([self._upscaled(picture, scale, tile_px) for picture in array])
        if array.ndim == 2:
            return self._upscaled(array[..., None], scale, tile_px)[..., 0]
        return self._upscaled(array, scale, tile_px)

    def sequence(
        self, *, scale: float | None = None, height: int | None = None, reuse: Literal["exact", "off"] = "exact"
    ) -> FrameSequence:
        """Return what upscales the frames of one video in order and does not compute again what did not change.

        >>> import numpy as np, apisr
        >>> frames = apisr.load(scale=2).sequence()
        >>> drawing = np.zeros((40, 40, 3), np.uint8)
        >>> for frame in (drawing, drawing, drawing):
        ...     big = frames(frame)
        >>> frames.stats.frames, frames.stats.whole_frames
        (3, 2)

        Args:
            scale: factor of the output; None is the network's own, others are resampled from it.
            height: rows of the output, in place of a factor.
            reuse: ``off`` computes every frame whole; the results are the same bits.

        Raises:
            InputError: a scale and a height, or one of them is out of range.
        """
        from apisr.upscale.sequence import FrameSequence
        from apisr.upscale.sizes import SizeRequest

        return FrameSequence(self.engine, size=SizeRequest(scale, height), reuse=reuse)

    def __repr__(self) -> str:
        """Return name, factor and engine."""
        return f"<{self.name}: x{self.scale} on {self.engine.name}>"

    def _upscaled(self, picture: NDArray[Value], scale: float | None, tile_px: int | None) -> NDArray[Value]:
        from apisr.image import from_float, resize, to_float
        from apisr.upscale.picture import upscale_pixels
        from apisr.upscale.sizes import SizeRequest

        height, width = picture.shape[:2]
        rows, columns = SizeRequest(factor=scale).of_picture(height, width, scale=self.scale)
        if picture.dtype == np.float32:
            values = self._upscaled_floats(cast("NDArray[np.float32]", picture), tile_px)
            return cast(
                "NDArray[Value]", values if values.shape[:2] == (rows, columns) else resize(values, rows, columns)
            )
        output = cast(
            "NDArray[Value]", upscale_pixels(cast("NDArray[np.uint8]", picture), self.engine, tile_px=tile_px)
        )
        if output.shape[:2] == (rows, columns):
            return output
        resized = resize(to_float(cast("NDArray[np.uint8]", output)), rows, columns)
        return cast("NDArray[Value]", from_float(resized, cast("np.dtype[np.uint8]", picture.dtype)))

    def _upscaled_floats(self, picture: NDArray[np.float32], tile_px: int | None) -> NDArray[np.float32]:
        from apisr.upscale.tiles import plan_model_tiles, run_tile, window_of

        height, width, channels = picture.shape
        scale = self.scale
        colour = picture if channels == 3 else np.repeat(picture, 3, axis=2)
        output = np.empty((scale * height, scale * width, 3), np.float32)
        for tile in plan_model_tiles(height, width, self.traits, tile_px):
            window = cast("NDArray[np.float32]", window_of(cast("NDArray[np.uint8]", colour), tile.window))
            output[tile.core.scaled(scale).slices] = run_tile(self.engine, window, tile)
        return output if channels == 3 else output.mean(axis=2, keepdims=True)


def _check(array: NDArray[np.generic]) -> None:
    from apisr.image import check_floats

    known = array.dtype.name in ("uint8", "uint16", "float32")
    if not known or array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise InputError(
            "expected an array (height, width), (height, width, channels) or (number, height, width, channels) of "
            f"uint8, uint16 or float32, got shape {array.shape} of {array.dtype}. "
            "Convert it first, for example with numpy.asarray(picture).",
            code="bad-array",
        )
    channels = array.shape[-1] if array.ndim > 2 else 1
    if channels > 4 or (array.dtype == np.float32 and channels not in (1, 3)):
        expected = "1 or 3 channels last for float32" if array.dtype == np.float32 else "1 to 4 channels last"
        raise InputError(
            f"expected {expected}, got shape {array.shape}. Move the channels to the end.", code="bad-array"
        )
    if array.dtype == np.float32:
        check_floats(cast("NDArray[np.float32]", array))
