"""Training: the paper's two stages (section 4.1), from pictures to a model file.

Read it in this order: a run is described by one TOML file (:mod:`apisr.train.config`); its networks, optimisers and
losses are built (:mod:`apisr.train.build`); one step moves them (:mod:`apisr.train.step`); the trainer repeats it,
validates and saves (:mod:`apisr.train.trainer`). Crops come from :mod:`apisr.train.data`, first weights from
:mod:`apisr.train.init`, equations 4 to 6 are :mod:`apisr.train.losses`.

Needs the extra ``train``; this package itself imports nothing heavy.
"""
