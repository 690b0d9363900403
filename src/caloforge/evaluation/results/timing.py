"""Time a shower takes."""

from __future__ import annotations

from pydantic import Field

from caloforge.evaluation.results.base import Details, Number, Result

__all__ = ["Timing"]


class Timing(Result):
    """Time a shower takes, Geant4 against the generator, at the generated energies."""

    geant4_ms: float | None
    """ms per shower at the generated showers' mean energy; None if unknown."""
    geant4_ms_per_gev: float | None
    """CPU time per GeV of incident energy in the reference."""
    generator_ms: float | None
    """ms per shower of the generated sample; None if its provenance does not tell."""
    speed_up: float | None
    """``geant4_ms / generator_ms``."""
    mean_energy_mev: Number
    """Mean incident energy of the generated showers."""
    performance: Details = Field(default_factory=dict)
    """What the generator recorded: batch size, threads, device, peak memory, …"""
