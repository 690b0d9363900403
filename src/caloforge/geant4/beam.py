"""What is shot at a detector: a beam from quantities, within what the detector's description is valid for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from caloforge.data.beam import Beam, spectrum_named
from caloforge.data.matching import ROUNDING
from caloforge.data.particles import pdg_code, pdg_name
from caloforge.data.quantities import Quantity, Range, parse_energies, parse_range
from caloforge.detector.detector import Detector
from caloforge.errors import ConditionError

__all__ = ["make_beam"]


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
    spectrum_name = spectrum_named(spectrum)
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
    name = pdg_name(pdg_code(particle))
    beam = Beam(name, tuple(energies), spectrum_name, theta_range, phi_range, impact_x, impact_y)
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
        if a < lowest * (1 - ROUNDING) or b > highest * (1 + ROUNDING):
            raise ConditionError(
                f"energy {a:g}-{b:g} MeV is outside the valid range of {detector.name}, "
                f"{lowest:g}-{highest:g} MeV; {hint}"
            )
    a, b = detector.theta_range_rad
    if beam.theta[0] < a - ROUNDING or beam.theta[1] > b + ROUNDING:
        raise ConditionError(
            f"theta {beam.theta[0]:g}-{beam.theta[1]:g} rad is outside the valid range of {detector.name}, "
            f"{a:g}-{b:g} rad; {hint}"
        )
