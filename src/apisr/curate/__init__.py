"""From a shelf of videos to a training set (paper 3.1).

Intra frames are read (:mod:`apisr.video.intra`), measured (:mod:`~apisr.curate.frames`,
:mod:`~apisr.curate.complexity`), selected (:mod:`~apisr.curate.select`), screened (:mod:`~apisr.curate.screen`) and
written (:mod:`~apisr.curate.production`), a video at a time (:mod:`~apisr.curate.video`) by several workers
(:mod:`~apisr.curate.workers`). The whole run (:mod:`~apisr.curate.run`) decides over all videos
(:mod:`~apisr.curate.decide`) and writes a dataset (:mod:`~apisr.curate.dataset`) with a manifest
(:mod:`~apisr.curate.manifest`), which a person looks at (:mod:`~apisr.curate.review`).
"""
