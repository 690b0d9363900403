"""A distribution of incident conditions: every shower's come from the streams of (seed, shower number)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.quantities import Range
from caloforge.errors import ConditionError
from caloforge.runtime.streams import uniforms

__all__ = ["Beam", "Spectrum", "impact_points", "spectrum_named"]

Spectrum = Literal["log-uniform", "uniform"]


def spectrum_named(name: str) -> Spectrum:
    """``name`` if it is a spectrum; ConditionError otherwise."""
    for known in get_args(Spectrum):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise ConditionError(f"spectrum must be 'log-uniform' or 'uniform', got {name!r}")


def impact_points(
    x: Range, y: Range, seed: int, numbers: NDArray[np.int64], streams: str
) -> NDArray[np.float64]:
    """Impact points of the showers with these numbers, (n, 2), mm, uniform in these ranges."""
    u = uniforms(seed, numbers, f"{streams}.impact", 2)
    return np.stack([a + (b - a) * u[:, i] for i, (a, b) in enumerate((x, y))], axis=-1)


@dataclass(frozen=True)
class Beam:
    """The distribution of incident conditions.

    Attributes:
        particle: Geant4's name, for example ``"e-"``, or its PDG code; 0 where unknown.
        energies: kinetic energy ranges in MeV; shower ``i`` takes number ``i`` modulo their number.
        spectrum: how energies lie in a range of non-zero width.
        theta, phi: ranges of the direction, rad; uniform.
        impact_x, impact_y: ranges of the impact point on the face of a box, mm; uniform. None for a cylinder.
    """

    particle: str | int
    energies: tuple[Range, ...]
    spectrum: Spectrum
    theta: Range
    phi: Range
    impact_x: Range | None
    impact_y: Range | None

    def conditions(
        self, detector: str, seed: int, numbers: NDArray[np.int64], *, streams: str = "geant4"
    ) -> Conditions:
        """Conditions of the showers with these numbers (n,).

        ``streams`` is what the names of the streams begin with: what draws from one seed under two names
        shares no numbers.
        """
        low, high = np.array(self.energies)[numbers % len(self.energies)].T
        u = uniforms(seed, numbers, f"{streams}.energy", 1)[:, 0]
        if self.spectrum == "log-uniform":
            drawn = low * np.exp(u * np.log(high / low))
        else:
            drawn = low + u * (high - low)
        energy = np.where(low == high, low, drawn)
        direction = uniforms(seed, numbers, f"{streams}.direction", 2)
        theta, phi = (a + (b - a) * direction[:, i] for i, (a, b) in enumerate((self.theta, self.phi)))
        impact = None
        if self.impact_x is not None and self.impact_y is not None:
            impact = impact_points(self.impact_x, self.impact_y, seed, numbers, streams)
        return Conditions(energy, theta, phi, self.particle, detector, impact)

    def particles(
        self, detector: str, seed: int, numbers: NDArray[np.int64]
    ) -> tuple[Conditions, NDArray[np.int64]]:
        """The particles of events with these numbers, and how many each has: one."""
        return self.conditions(detector, seed, numbers), np.ones(len(numbers), dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description that `from_dict` reads."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, description: dict[str, Any]) -> Beam:
        pairs = {
            name: None
            if description[name] is None
            else (float(description[name][0]), float(description[name][1]))
            for name in ("theta", "phi", "impact_x", "impact_y")
        }
        energies = tuple((float(low), float(high)) for low, high in description["energies"])
        return cls(
            particle=description["particle"],
            energies=energies,
            spectrum=description["spectrum"],
            theta=pairs["theta"] or (0.0, 0.0),
            phi=pairs["phi"] or (0.0, 0.0),
            impact_x=pairs["impact_x"],
            impact_y=pairs["impact_y"],
        )
