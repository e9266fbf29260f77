"""Training: the paper's two stages (section 4.1), from pictures to a model file.

Read it in this order: a run is described by one TOML file (:mod:`apisr.train.config`); its networks, optimisers and
losses are built (:mod:`apisr.train.build`); one step moves them (:mod:`apisr.train.step`); the trainer repeats it,
validates and saves (:mod:`apisr.train.trainer`). Crops come from :mod:`apisr.train.data`, first weights from
:mod:`apisr.train.init`, equations 4 to 6 are :mod:`apisr.train.losses`.

Needs the extra ``train``; this package itself imports nothing heavy.
"""

from __future__ import annotations

import importlib.util

from apisr.core.errors import MissingExtra

_NEEDED = ("torch", "safetensors", "lightning")


def check_extra() -> None:
    """Check that what training needs is installed, before any of it is imported.

    Raises:
        MissingExtra: it is not; the message names the extra.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra("train", f"to train ({missing[0]} is not installed)")
