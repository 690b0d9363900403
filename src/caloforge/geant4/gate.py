"""The face of a calorimeter: where the primary enters, and which particles a model takes over there.

Used in worker processes only.
"""

# ruff: noqa: N802  (names of methods are Geant4's)

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import geant4_pybind as g4
import numpy as np
from numpy.typing import NDArray

from caloforge.geant4.acceptance import ELECTROMAGNETIC, Acceptance, Incident

__all__ = ["Gate", "TakingGate"]

Floats = NDArray[np.float64]


class Gate(g4.G4VSensitiveDetector):  # type: ignore[misc]
    """Notes where the primary leaves the entry volume for the detector, then sleeps until the next event.

    Args:
        at_face: tells whether a position is on the face.

    Attributes:
        found: position (3,) and direction (3,) of the primary there; None where it has not come.
        taken, refused: what a model takes over, and how many it does not, by reason: none here.
    """

    def __init__(self, at_face: Callable[[Any], bool]) -> None:
        super().__init__("gate")
        self.at_face = at_face
        self.clear()

    def clear(self) -> None:
        """Begin another event."""
        self.found: tuple[Floats, Floats] | None = None
        self.taken: list[Incident] = []
        self.refused: Counter[str] = Counter()
        self.Activate(True)

    def ProcessHits(self, step: Any, history: Any) -> bool:
        if step.GetTrack().GetTrackID() == 1 and self.note(step.GetPostStepPoint()):
            self.Activate(False)
        return True

    def note(self, point: Any) -> bool:
        """Note the end of a step of the primary where it is on the face."""
        position = point.GetPosition()
        if not self.at_face(position):
            return False
        d = point.GetMomentumDirection()
        self.found = np.array([position.x, position.y, position.z]), np.array([d.x, d.y, d.z])
        return True


class TakingGate(Gate):
    """Also ends the tracks of e± and photons that a model takes over; all others go on.

    Called for each step in front of the face: through air they are few.
    """

    def __init__(self, at_face: Callable[[Any], bool], acceptance: Acceptance) -> None:
        super().__init__(at_face)
        self.acceptance = acceptance

    def ProcessHits(self, step: Any, history: Any) -> bool:
        track, point = step.GetTrack(), step.GetPostStepPoint()
        number = track.GetTrackID()
        if number == 1 and self.found is None:
            self.note(point)
        energy, particle = point.GetKineticEnergy(), track.GetDefinition().GetPDGEncoding()
        if energy < self.acceptance.above or particle not in ELECTROMAGNETIC:
            return True
        p = point.GetPosition()
        if not self.at_face(p):
            return True
        d = point.GetMomentumDirection()
        told = self.acceptance.take(number, particle, energy, (p.x, p.y, p.z), (d.x, d.y, d.z))
        if isinstance(told, str):
            self.refused[told] += 1
        else:
            self.taken.append(told)
            track.SetTrackStatus(g4.fStopAndKill)
        return True
