"""Ends particles at the face of a volume of a user's Geant4 world; loaded when it is attached there."""

# ruff: noqa: N802  (names of methods are Geant4's)

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import geant4_pybind as g4

from caloforge.errors import SimulationError
from caloforge.fast.envelope import Envelope, Frame
from caloforge.geant4.acceptance import ELECTROMAGNETIC, Acceptance, Incident

__all__ = ["Taken", "VolumeGate"]


@dataclass(frozen=True, eq=False)
class Taken:
    """A particle that a model takes over.

    Attributes:
        run, event: whose.
        incident: what the model is told, in the detector's frame.
        frame: which that is.
        time: when it came, ns.
    """

    run: int
    event: int
    incident: Incident
    frame: Frame
    time: float


class VolumeGate:
    """Watches what comes to a volume, through a stepping action of the regions in front.

    Args:
        envelope: the volume.
        acceptance: which particles a model takes over.
        front: names of the regions, all outside of the volume by default.
        taken, refused: where those are noted that are taken over, and how many are not, by the reason.
        finish: called at the end of each event.

    Raises:
        SimulationError: a region has another stepping action, there is none of these names, or Geant4 runs in
            threads.
    """

    def __init__(
        self,
        envelope: Envelope,
        acceptance: Acceptance,
        front: Collection[str] | None,
        taken: list[Taken],
        refused: Counter[str],
        finish: Callable[[], None],
    ) -> None:
        self.envelope, self.acceptance, self.taken, self.refused = envelope, acceptance, taken, refused
        self._manager = g4.G4RunManager.GetRunManager()
        if isinstance(self._manager, g4.G4MTRunManager):
            raise SimulationError("a model can take the place of a volume in a serial run manager only")
        regions = [r for r in envelope.regions if front is None or r.GetName() in front]
        if not regions:
            raise SimulationError(f"no region in front of {envelope.name!r} is one of {front}")
        actions = [region.GetRegionalSteppingAction() for region in regions]
        for region, action in zip(regions, actions, strict=True):
            if not (action is None or isinstance(action, _Steps)):
                raise SimulationError(
                    f"the region {region.GetName()!r} in front of {envelope.name!r} has a stepping action "
                    "already, and there is one for each"
                )
        self._keep = (
            [_Steps() if action is None else action for action in actions],
            _End(envelope.name, finish),
        )
        for region, steps in zip(regions, self._keep[0], strict=True):
            steps.gates.append(self)
            region.SetRegionalSteppingAction(steps)
        g4.G4SDManager.GetSDMpointer().AddNewDetector(self._keep[1])

    def see(self, step: Any) -> None:
        """Take a particle over that a step has brought to the face, if the model knows it."""
        point = step.GetPostStepPoint()
        energy = point.GetKineticEnergy()
        if energy < self.acceptance.above:
            return
        track = step.GetTrack()
        particle = track.GetDefinition().GetPDGEncoding()
        if particle not in ELECTROMAGNETIC:
            return
        frame = self.envelope.enters(step)
        if frame is None:
            return
        position = frame.position(point.GetPosition())
        told: Incident | str = "place"
        if self.envelope.at_face(position):
            direction = frame.direction(point.GetMomentumDirection())
            told = self.acceptance.take(track.GetTrackID(), particle, energy, position, direction)
        if isinstance(told, str):
            self.refused[told] += 1
            return
        run, event = self._manager.GetCurrentRun(), self._manager.GetCurrentEvent()
        self.taken.append(Taken(run.GetRunID(), event.GetEventID(), told, frame, point.GetGlobalTime()))
        track.SetTrackStatus(g4.fStopAndKill)


class _Steps(g4.G4UserSteppingAction):  # type: ignore[misc]
    """Shows the steps of a region to the gates of all volumes behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[VolumeGate] = []

    def UserSteppingAction(self, step: Any) -> None:
        for gate in self.gates:
            gate.see(step)


class _End(g4.G4VSensitiveDetector):  # type: ignore[misc]
    """Hears of the end of events, before sensitive detectors whose names are in no folder."""

    def __init__(self, name: str, finish: Callable[[], None]) -> None:
        super().__init__(f"/caloforge/{name}")
        self.finish = finish

    def ProcessHits(self, step: Any, history: Any) -> bool:
        return False

    def EndOfEvent(self, hits: Any) -> None:
        self.finish()
