"""Time a shower takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Timing"]


@dataclass(frozen=True)
class Timing:
    """Time a shower takes, Geant4 against the generator, at the generated energies.

    Attributes:
        geant4_ms: ms per shower at the generated showers' mean energy; None if unknown.
        geant4_ms_per_gev: CPU time per GeV of incident energy in the reference.
        generator_ms: ms per shower of the generated sample; None if its provenance does not tell.
        speed_up: ``geant4_ms / generator_ms``.
        mean_energy_mev: mean incident energy of the generated showers.
        performance: what the generator recorded: batch size, threads, device, peak memory, …
    """

    geant4_ms: float | None
    geant4_ms_per_gev: float | None
    generator_ms: float | None
    speed_up: float | None
    mean_energy_mev: float
    performance: dict[str, Any] = field(default_factory=dict)
