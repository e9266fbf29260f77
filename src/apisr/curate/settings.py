"""What a curation does: one validated set of options, from a preset, a TOML file and the command line.

>>> load_settings(preset="reference").parts
8
>>> load_settings(overrides={"cuont": 3})
Traceback (most recent call last):
...
apisr.core.errors.InputError: the options of curate: unknown key 'cuont'. Did you mean 'count'?
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from apisr.core.config import Presets, read_toml_file, validated

#: ``paper`` and ``reference`` (the released code's way): the files of the folder ``presets``.
PRESETS = Presets("apisr.curate")

#: Videos longer than this keep ``count_long`` frames.
LONG_VIDEO_S = 30 * 60


class CurateSettings(BaseModel):
    """Options of a curation. They belong to the dataset: a dataset is continued with the same ones or not at all."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    frames: Literal["intra", "key"] = Field("intra", description="all intra pictures, or only random access points")
    every: int = Field(1, ge=1, description="score one in so many intra frames")
    spacing_s: float = Field(
        0.5, ge=0, description="score no two frames closer than this (videos of intra frames only)"
    )
    score: str = Field("auto", description="auto, classical, icnet or the name of a no-reference metric")
    count: int = Field(10, ge=1, description="frames kept of each video")
    count_long: int | None = Field(None, ge=1, description="frames kept of a video of more than 30 minutes")
    reserve: int = Field(
        0, ge=0, description="next best frames of each video, used in place of duplicates across videos"
    )
    parts: int = Field(1, ge=1, description="parts of a video that give their best frames each")
    distance_s: float = Field(1.0, ge=0, description="least time between kept frames")
    leave_out_fades: bool = Field(True, description="leave out frames inside fades and cross-fades")
    crop_bars: bool = Field(True, description="cut letterbox and pillarbox bars")
    height: Annotated[int, Field(ge=16, le=16384)] | Literal["native", "keep"] = Field(
        720, description="production height in lines: a number, native (estimated; 720 where unsure) or keep"
    )
    resample: Literal["bicubic", "lanczos", "box"] = Field("bicubic", description="kernel for shrinking")
    multiple_of: int = Field(1, ge=1, le=64, description="cut sides to multiples of this")
    format: Literal["png", "webp", "avif"] = Field("png", description="file format, always lossless")
    screen: tuple[Literal["nudity", "anime"], ...] = Field((), description="screening models to run")
    nudity_threshold: float = Field(0.4, ge=0, le=1, description="flag pictures with a nudity score from here")
    anime_threshold: float = Field(0.1, ge=0, le=1, description="flag pictures with an anime score below this")
    enhance: bool = Field(False, description="also write the picture with enhanced lines (paper 3.3)")

    def frames_for(self, duration_s: float) -> int:
        """Return how many frames are kept of a video of this length."""
        return self.count_long if self.count_long is not None and duration_s > LONG_VIDEO_S else self.count


def load_settings(
    *, preset: str = "paper", config: Path | None = None, overrides: Mapping[str, object] | None = None
) -> CurateSettings:
    """Put settings together: preset, then a TOML file, then single values.

    Args:
        preset: a name of :data:`PRESETS`.
        config: a TOML file with some of the keys of :class:`CurateSettings`.
        overrides: single values; None values are left out.

    Raises:
        InputError: unknown preset or key, a value out of range, an unreadable file.
    """
    values = PRESETS.load(preset)
    if config is not None:
        values |= read_toml_file(config)
        validated(CurateSettings, values, name=f"'{config}'")
    values |= {key: value for key, value in (overrides or {}).items() if value is not None}
    return validated(CurateSettings, values, name="the options of curate")
