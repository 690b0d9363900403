"""Showers of a model inside a Geant4 run, and a server that makes them for several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.lazy import lazily

if TYPE_CHECKING:
    from caloforge.fast.client import ShowerClient
    from caloforge.fast.server import ShowerServer
    from caloforge.fast.simulate import simulate_fast
    from caloforge.fast.volume import FastShower, FastVolume

__getattr__, __dir__ = lazily(
    __name__,
    {
        "FastShower": "volume",
        "FastVolume": "volume",
        "ShowerClient": "client",
        "ShowerServer": "server",
        "simulate_fast": "simulate",
    },
)

__all__ = ["MEMORY_MIB", "FastShower", "FastVolume", "ShowerClient", "ShowerServer", "simulate_fast"]

MEMORY_MIB = 256
"""That showers under way in a server may take, by default."""
