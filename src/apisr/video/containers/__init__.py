"""File formats: one file each, with what it can carry and the few things that libav does not pass on.

A format is added with a file that defines `ENTRIES` (file ending -> :class:`~apisr.video.containers.base.Container`)
and one line in :mod:`apisr.video.containers.registry`.
"""
