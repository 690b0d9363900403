"""Models that need no training: ``gflash:DETECTOR`` is GFlash for a detector, given by name or file."""

from __future__ import annotations

import math
from typing import Any

from caloforge.detector.detector import Detector
from caloforge.errors import DetectorError
from caloforge.models.parametrised.gflash import PARTICLES, GFlash

__all__ = ["GFLASH", "gflash", "gflash_range"]

GFLASH = "gflash:"
"""What names of such models begin with."""


def gflash(detector: Detector) -> GFlash:
    """The parametrisation of showers in a detector, on its own cells.

    Raises:
        DetectorError: its materials are not known, its layers too coarse, or it is not for e± or photons.
        MeshError: its cells are not such that a parametrised shower can be shared out on them.
    """
    return GFlash(detector.mesh, {"detector": detector}).eval()


def gflash_range(model: GFlash) -> dict[str, Any]:
    """Valid range of the parametrisation: that of the detector's description, as far as the formulas hold.

    Where nothing else is said, showers are "usual": of electrons at normal incidence, as `simulate` makes
    them.
    """
    detector = model.settings.detector
    particles = [name for name in PARTICLES if name in detector.particles]
    if not particles:
        raise DetectorError(
            f"{detector.name} is described for {', '.join(detector.particles)}, the parametrisation is for "
            f"{', '.join(PARTICLES)} only; simulate showers with Geant4 and train a model on them"
        )
    (low, high), (first, last) = detector.energy_range_mev, detector.theta_range_rad
    low = max(low, model.lowest_energy())
    if low > high:
        raise DetectorError(
            f"the parametrisation of showers in {detector.name} holds from {low:.4g} MeV on, and "
            f"it is described up to {high:.4g} MeV"
        )
    theta = min(max(detector.normal_theta, first), last)
    x, y = detector.impact_x_mm, detector.impact_y_mm
    impact = {"impact": list(zip(x, y, strict=True))} if x[0] < x[1] or y[0] < y[1] else {}
    return {
        "energy": (low, high),
        "theta": (first, last),
        "phi": (-2 * math.pi, 2 * math.pi),
        "particle": particles,
        "detector": [detector.name],
        "usual": {"particle": particles[0], "theta": theta, "phi": 0.0},
        **impact,
    }
