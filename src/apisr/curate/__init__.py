"""From a shelf of videos to a training set (paper 3.1).

Intra frames are read (:mod:`apisr.video.intra`), measured (:mod:`~apisr.curate.frames`,
:mod:`~apisr.curate.complexity`), selected (:mod:`~apisr.curate.select`), screened (:mod:`~apisr.curate.screen`),
written with a manifest (:mod:`~apisr.curate.pipeline`, :mod:`~apisr.curate.manifest`) and looked at by a person
(:mod:`~apisr.curate.review`).
"""
