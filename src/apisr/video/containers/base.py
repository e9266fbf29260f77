"""What a file format can carry."""

from __future__ import annotations

from dataclasses import dataclass

PCM = frozenset(
    f"pcm_{kind}"
    for kind in (
        *("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "u8", "s8"),
        *("f32le", "f32be", "f64le", "f64be", "alaw", "mulaw"),
    )
)


@dataclass(frozen=True)
class Container:
    """What a file format can carry.

    Attributes:
        muxer: libav's name.
        video: codecs, None for any.
        audio: codecs, None for any.
        subtitle: codecs.
        data: codecs of data streams.
        attachments: whether it carries files (fonts).
        cover: whether it carries a cover picture.
        chapters: whether it carries chapters.
        variable_rate: whether frames may have any time (else they lie on the grid of a constant rate).
        default_video: encoder that is used when none is named.
        options: options for the muxer.
        pictures_only: whether it holds nothing but pictures, which are made of lossless segments at the end.
        structure: whether nested and ordered chapters and the levels of tags are kept when the source is Matroska, too.
    """

    muxer: str
    video: frozenset[str] | None
    audio: frozenset[str] | None
    subtitle: frozenset[str]
    data: frozenset[str] = frozenset()
    attachments: bool = False
    cover: bool = False
    chapters: bool = False
    variable_rate: bool = True
    default_video: str = "libx264"
    options: tuple[tuple[str, str], ...] = ()
    pictures_only: bool = False
    structure: bool = False
