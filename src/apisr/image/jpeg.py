"""Damage inside a JPEG file: libjpeg goes on after it, and Pillow keeps to itself what libjpeg says."""

from __future__ import annotations

import contextlib
import re

import numpy as np

from apisr.image.stderr import LIBJPEG, captured_stderr

#: Of what libjpeg says, what is about the codes of the pixels. Bytes before other marks (end, header) are harmless.
_ABOUT_CODES = re.compile(
    r"premature end of data segment|bad (?:Huffman|arithmetic) code|instead of RST"
    r"|extraneous bytes before marker 0x(?:c4|d[0-7])"
)
NOTICE = "the file is damaged in places: parts of the picture may be wrong"


def is_damaged(data: bytes) -> bool:
    """Whether libjpeg, as OpenCV brings it, finds codes that do not fit; all are read, for an eighth of the size."""
    import cv2

    flags = cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION
    with captured_stderr(LIBJPEG) as lines, contextlib.suppress(cv2.error):
        cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return any(_ABOUT_CODES.search(line) for line in lines)
