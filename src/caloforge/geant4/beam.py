"""What is shot at the detector: particle, energies, directions and impact points by shower number.

Quantities are text with units (``"10GeV"``, ``"1-50GeV"``, ``"60-90deg"``, ``"-20..20mm"``) or plain
numbers in MeV, rad and mm. Every shower's numbers come from the streams of (seed, shower number).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.detector.detector import Detector
from caloforge.errors import ConditionError
from caloforge.streams import uniforms

__all__ = ["Beam", "Quantity", "Range", "Spectrum", "make_beam", "parse_energies", "parse_range"]

Range = tuple[float, float]
Quantity = float | str | Sequence[float]
Spectrum = Literal["log-uniform", "uniform"]

UNITS = {
    "energy": {"eV": 1e-6, "keV": 1e-3, "MeV": 1.0, "GeV": 1e3, "TeV": 1e6},
    "angle": {"rad": 1.0, "mrad": 1e-3, "deg": math.pi / 180, "°": math.pi / 180},
    "length": {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3},
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*([a-zA-Z°]*)\s*(?:(?:-|\.\.)\s*({_NUMBER})\s*([a-zA-Z°]*)\s*)?")


def parse_range(value: Quantity, kind: Literal["energy", "angle", "length"]) -> Range:
    """(lowest, highest) in MeV, rad or mm of a number, a pair, or text with a unit; a single value twice.

    Raises ConditionError where text has no unit or a wrong one, or the range is reversed or not finite.
    """
    if isinstance(value, str):
        low, high = _parse_text(value, kind)
    elif isinstance(value, Sequence):
        if len(value) != 2:
            raise ConditionError(f"a range of {kind} has two numbers, got {list(value)}")
        low, high = float(value[0]), float(value[1])
    else:
        low = high = float(value)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConditionError(f"{kind} {value!r}: expected a finite number or lowest-highest")
    return low, high


def _parse_text(text: str, kind: str) -> Range:
    units = UNITS[kind]
    example = {"energy": "10GeV or 1-50GeV", "angle": "1.57rad or 60-90deg", "length": "3mm or -20..20mm"}[
        kind
    ]
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ConditionError(f"cannot read the {kind} {text!r}; write it like {example}")
    first, first_unit, second, second_unit = match.groups()
    unit = (second_unit if second is not None else first_unit) or first_unit
    if not unit:
        raise ConditionError(f"the {kind} {text!r} has no unit; write it like {example}")
    for name in (first_unit or unit, unit):
        if name not in units:
            raise ConditionError(f"{name!r} in {text!r} is no unit of {kind}; known are {', '.join(units)}")
    low = float(first) * units[first_unit or unit]
    return low, low if second is None else float(second) * units[unit]


def parse_energies(value: Quantity) -> list[Range]:
    """Energy ranges in MeV: of one value or range, or of a list (``"1GeV,10GeV"`` or numbers in MeV)."""
    items: list[Any] = list(value) if not isinstance(value, int | float | str) else [value]
    items = [part for item in items for part in (item.split(",") if isinstance(item, str) else [item])]
    ranges = [parse_range(item, "energy") for item in items]
    if not ranges or any(low <= 0 for low, _ in ranges):
        raise ConditionError(f"energies must be positive, got {value!r}")
    return ranges


@dataclass(frozen=True)
class Beam:
    """The distribution of incident conditions.

    Attributes:
        particle: Geant4's name, for example ``"e-"``.
        energies: kinetic energy ranges in MeV; shower ``i`` takes number ``i`` modulo their number.
        spectrum: how energies lie in a range of non-zero width.
        theta, phi: ranges of the direction, rad; uniform.
        impact_x, impact_y: ranges of the impact point on the face of a box, mm; uniform. None for a cylinder.
    """

    particle: str
    energies: tuple[Range, ...]
    spectrum: Spectrum
    theta: Range
    phi: Range
    impact_x: Range | None
    impact_y: Range | None

    def conditions(self, detector: str, seed: int, numbers: NDArray[np.int64]) -> Conditions:
        """Conditions of the showers with these numbers (n,)."""
        low, high = np.array(self.energies)[numbers % len(self.energies)].T
        u = uniforms(seed, numbers, "geant4.energy", 1)[:, 0]
        if self.spectrum == "log-uniform":
            drawn = low * np.exp(u * np.log(high / low))
        else:
            drawn = low + u * (high - low)
        energy = np.where(low == high, low, drawn)
        direction = uniforms(seed, numbers, "geant4.direction", 2)
        theta, phi = (a + (b - a) * direction[:, i] for i, (a, b) in enumerate((self.theta, self.phi)))
        impact = None
        if self.impact_x is not None and self.impact_y is not None:
            u2 = uniforms(seed, numbers, "geant4.impact", 2)
            impact = np.stack(
                [a + (b - a) * u2[:, i] for i, (a, b) in enumerate((self.impact_x, self.impact_y))], axis=-1
            )
        return Conditions(energy, theta, phi, self.particle, detector, impact)

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


def make_beam(
    detector: Detector,
    *,
    particle: str = "e-",
    energy: Quantity = "1-10GeV",
    spectrum: str = "log-uniform",
    theta: Quantity | None = None,
    phi: Quantity | None = None,
    impact: Sequence[Quantity] | str | None = None,
    allow_outside: bool = False,
) -> Beam:
    """A beam on ``detector``; what is None takes the detector's normal incidence, φ = 0 and impact spread.

    Raises ConditionError where a value is malformed or, unless ``allow_outside``, beyond the valid range.
    """
    if spectrum not in ("log-uniform", "uniform"):
        raise ConditionError(f"spectrum must be 'log-uniform' or 'uniform', got {spectrum!r}")
    energies = parse_energies(energy)
    theta_range = parse_range(detector.normal_theta if theta is None else theta, "angle")
    phi_range = parse_range(0.0 if phi is None else phi, "angle")
    impact_x: Range | None = None
    impact_y: Range | None = None
    if detector.shape == "box":
        impact_x, impact_y = detector.impact_x_mm, detector.impact_y_mm
        if impact is not None:
            parts = impact.split(",") if isinstance(impact, str) else list(impact)
            if len(parts) != 2:
                raise ConditionError(f"impact needs x and y, for example '0mm,-20..20mm', got {impact!r}")
            impact_x, impact_y = (parse_range(part, "length") for part in parts)
    elif impact is not None:
        raise ConditionError(
            f"{detector.name} is a cylinder: particles start at its centre and have no impact point"
        )
    spectrum_name: Spectrum = "uniform" if spectrum == "uniform" else "log-uniform"
    beam = Beam(particle, tuple(energies), spectrum_name, theta_range, phi_range, impact_x, impact_y)
    _check_range(detector, beam, allow_outside)
    return beam


def _check_range(detector: Detector, beam: Beam, allow_outside: bool) -> None:
    low, high = 0.0, math.pi if detector.shape == "cylinder" else math.nextafter(math.pi / 2, 0)
    if beam.theta[0] < low or beam.theta[1] > high:
        raise ConditionError(
            f"theta {beam.theta} rad cannot hit {detector.name}: it must lie in [{low:g}, {high:.4g}]"
        )
    if allow_outside:
        return
    hint = "allow_outside=True (--allow-outside) simulates it nevertheless"
    if beam.particle not in detector.particles:
        raise ConditionError(
            f"{detector.name} is described for {', '.join(detector.particles)}, not {beam.particle!r}; {hint}"
        )
    lowest, highest = detector.energy_range_mev
    for a, b in beam.energies:
        if a < lowest * (1 - 1e-9) or b > highest * (1 + 1e-9):
            raise ConditionError(
                f"energy {a:g}-{b:g} MeV is outside the valid range of {detector.name}, "
                f"{lowest:g}-{highest:g} MeV; {hint}"
            )
    a, b = detector.theta_range_rad
    if beam.theta[0] < a - 1e-9 or beam.theta[1] > b + 1e-9:
        raise ConditionError(
            f"theta {beam.theta[0]:g}-{beam.theta[1]:g} rad is outside the valid range of {detector.name}, "
            f"{a:g}-{b:g} rad; {hint}"
        )
