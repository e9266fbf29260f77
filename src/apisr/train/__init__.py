"""Training: the paper's two stages (section 4.1), from a dataset to a model file.

A run is described by one TOML file (:mod:`apisr.train.config`), fed by a source of aligned crops
(:mod:`apisr.train.data`, :mod:`apisr.train.feed`), driven by one loop (:mod:`apisr.train.loop`) over the losses of
equations 4 to 6 (:mod:`apisr.train.losses`) and judged on fixed pairs (:mod:`apisr.train.validate`). It leaves a folder
with the resolved configuration, ``metrics.jsonl``, panels, checkpoints and the weights.

Needs the extra ``train``; this package itself imports nothing heavy.
"""
