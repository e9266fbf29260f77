"""GRL, the network of the paper; see :mod:`apisr.networks.grl.network`."""

from apisr.networks.grl.network import ARCHITECTURE, DEFAULTS, GRL

__all__ = ["ARCHITECTURE", "DEFAULTS", "GRL"]
