"""Composed scenes: seeded training pictures made of openly licensed art.

:mod:`apisr.synthesis.assets` knows the art and its licences, :mod:`apisr.synthesis.compose` makes scenes of it.
"""
