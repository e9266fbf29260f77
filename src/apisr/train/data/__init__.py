"""From pictures to batches.

:mod:`~apisr.train.data.pictures` finds or composes high-resolution pictures, :mod:`~apisr.train.data.sources` degrades
each as a whole and cuts aligned crops of it (:mod:`~apisr.train.data.crops`), :mod:`~apisr.train.data.loader` mixes the
crops into batches. :mod:`~apisr.train.data.shards` does the degradation ahead, into files.
"""
