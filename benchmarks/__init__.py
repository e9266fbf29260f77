"""Benchmarks: ratios measured in one run, on the machine at hand. `python -m benchmarks` runs all suites."""

from __future__ import annotations


class Skip(Exception):  # noqa: N818 - not an error: the suite cannot run on this machine, and says why
    """Raised by a suite that cannot run here; the message is the reason."""
