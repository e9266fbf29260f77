"""The losses of equations 4 to 6, as functions of pictures in [0, 1].

:mod:`~apisr.train.losses.pixel` and :mod:`~apisr.train.losses.similarity` compare pictures,
:mod:`~apisr.train.losses.perceptual` their features, :mod:`~apisr.train.losses.adversarial` asks a discriminator, and
:mod:`~apisr.train.losses.generator` is their weighted sum: equation 4.
"""
