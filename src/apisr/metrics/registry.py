"""Metrics by name: one syntax for training, curation and evaluation.

A name is that of a built-in metric (:func:`built_in`), ``st-lpips``, or any metric of pyiqa by pyiqa's own name.

    >>> open_metric("psnr", border_px=8).better
    'higher'
    >>> open_metric("pnsr")
    Traceback (most recent call last):
    ...
    apisr.core.errors.InputError: there is no metric 'pnsr'. Did you mean 'psnr'? ...

Adding a metric is one file of this package: a pure function, and a tuple ``METRICS`` with its
:class:`~apisr.metrics.metric.Definition`.
"""

from __future__ import annotations

from functools import cache

from apisr.core.config import nearest
from apisr.core.discovery import modules_with
from apisr.core.errors import InputError
from apisr.metrics.metric import Definition, Metric

#: Names whose weights our reports spell out, and what pyiqa calls them.
_PYIQA_NAMES = {"maniqa-koniq": "maniqa"}
_AMBIGUOUS = {
    "maniqa": "MANIQA has several sets of weights whose scores cannot be compared. Write maniqa-koniq or maniqa-pipal."
}
_OTHERS = "Others: st-lpips, and every metric of pyiqa by its name there."


@cache
def built_in() -> dict[str, Definition]:
    """Return the metrics that need no extra, by name."""
    found: dict[str, Definition] = {}
    for module in modules_with("apisr.metrics", "METRICS"):
        found |= {definition.name: definition for definition in module.METRICS}
    return found


def open_metric(name: str, *, border_px: int = 0, device: str = "cpu", seed: int = 0) -> Metric:
    """Make a metric ready to run.

    Args:
        name: see the module.
        border_px: cut at each side before a built-in metric looks.
        device: ``auto``, ``cpu``, ``cuda``, ...; for metrics that are networks.
        seed: for metrics that draw random numbers.

    Raises:
        InputError: no such metric, or a name that leaves the weights open.
        MissingExtra: it needs an extra that is not installed.
        Undefined: it cannot be computed on this machine (its weights cannot be had); the message is the reason.
    """
    if name in _AMBIGUOUS:
        raise InputError(f"the metric '{name}' is not one metric: {_AMBIGUOUS[name]}", code="ambiguous-metric")
    if name in built_in():
        return built_in()[name].opened(border_px)
    if name == "st-lpips":
        from apisr.metrics.st_lpips import open_st_lpips

        return open_st_lpips(device=device)
    from apisr.metrics.learned import missing_pyiqa, open_pyiqa, pyiqa_names

    known = pyiqa_names()
    pyiqa_name = _PYIQA_NAMES.get(name, name)
    if pyiqa_name not in known:
        near = nearest(name, list(built_in()), cutoff=0.75)
        if not known and near is None:
            raise missing_pyiqa(name)
        near = near or nearest(name, known)
        hint = f" Did you mean '{near}'?" if near else ""
        listed = ", ".join(built_in())
        raise InputError(f"there is no metric '{name}'.{hint} Built in: {listed}. {_OTHERS}", code="unknown-metric")
    return open_pyiqa(name, pyiqa_name, device=device, seed=seed)
