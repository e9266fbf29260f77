"""The errors that users meet.

    ApisrError           exit code 1   something failed while working
    |-- RunError         exit code 1   a run that started could not be completed
    |   `-- Cancelled    exit code 130 the user stopped the run
    `-- InputError       exit code 2   bad input: a file, an option, a combination
        |-- ModelError   exit code 2   a model file that cannot be used
        `-- MissingExtra exit code 2   an optional dependency is not installed

The message is one line: what was expected, what was found, what to do. The code is a stable name of the kind of error
(``"work-folder-busy"``): programs and tests match it, people read the sentence.

    >>> InputError("'a.png' exists. Give another name or add --overwrite.", code="output-exists").code
    'output-exists'
"""

from __future__ import annotations

from typing import ClassVar

from apisr.core.text import printable


class ApisrError(Exception):
    """Base of all errors that are shown to users as one line.

    Args:
        message: the line. What cannot be seen in it, as a line break in the name of a file, becomes an escape.
        code: stable name of the kind of error, lower case with hyphens; by default that of the class.
    """

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(printable(message))
        self.code = code or self.default_code


class RunError(ApisrError):
    """A run that started could not be completed (full disk, decoder failure, lost worker)."""

    default_code = "run-failed"


class Cancelled(RunError):  # noqa: N818 - it is what happened, not a mistake
    """The user stopped the run; what was finished is kept."""

    exit_code = 130
    default_code = "cancelled"


class InputError(ApisrError):
    """Bad input: a file that cannot be read, an option out of range, an impossible combination."""

    exit_code = 2
    default_code = "bad-input"


class ModelError(InputError):
    """A model file that is damaged, unknown or does not fit the request."""

    default_code = "bad-model"


class MissingExtra(InputError):  # noqa: N818 - named for what it tells the user
    """An optional dependency is needed and not installed.

    Args:
        extra: name of the extra, for example ``"torch"``.
        purpose: what it is needed for, for example ``"to load 'model.pth'"``.
    """

    default_code = "missing-extra"

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        self.purpose = purpose
        super().__init__(
            f"the extra '{extra}' is needed {purpose}. Install it in the clone of the project with: "
            f'python -m pip install ".[{extra}]"'
        )

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        """Travel between processes."""
        return MissingExtra, (self.extra, self.purpose)
