"""Expecting an error by its code."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from apisr.core.errors import ApisrError


@contextmanager
def raises_code(code: str) -> Generator[pytest.ExceptionInfo[ApisrError]]:
    """Expect an error of ours with this code in the block; give what :func:`pytest.raises` gives."""
    with pytest.raises(ApisrError) as caught:
        yield caught
    assert caught.value.code == code, caught.value
