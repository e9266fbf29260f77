"""The errors that users meet.

    ApisrError           exit code 1   something failed while working
    |-- RunError         exit code 1   a run that started could not be completed
    `-- InputError       exit code 2   bad input: a file, an option, a combination
        |-- ModelError   exit code 2   a model file that cannot be used
        `-- MissingExtra exit code 2   an optional dependency is not installed

Every message is one line that says what was expected, what was found, and what to do.
"""

from __future__ import annotations


class ApisrError(Exception):
    """Base of all errors that are shown to users as one line."""

    exit_code = 1


class RunError(ApisrError):
    """A run that started could not be completed (full disk, decoder failure, lost worker)."""

    exit_code = 1


class InputError(ApisrError):
    """Bad input: a file that cannot be read, an option out of range, an impossible combination."""

    exit_code = 2


class ModelError(InputError):
    """A model file that is damaged, unknown or does not fit the request."""


class MissingExtra(InputError):  # noqa: N818 - named for what it tells the user
    """An optional dependency is needed and not installed.

    Args:
        extra: name of the extra, for example ``"torch"``.
        purpose: what it is needed for, for example ``"to load 'model.pth'"``.
    """

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        self.purpose = purpose
        super().__init__(f"the extra '{extra}' is needed {purpose}. Install it with: pip install 'apisr[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        """Travel between processes."""
        return MissingExtra, (self.extra, self.purpose)
