"""Numbered pictures, which carry nothing but pictures."""

from __future__ import annotations

from apisr.video.containers.base import Container

PICTURES = Container("image2", frozenset({"ffv1"}), frozenset(), frozenset(), default_video="ffv1")
