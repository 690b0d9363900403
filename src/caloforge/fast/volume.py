"""A model in the place of a volume of a user's own Geant4 program."""

# ruff: noqa: N802  (names of methods are Geant4's)

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import geant4_pybind as g4
import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data.quantities import Quantity, parse_range, whole_number
from caloforge.detector.detector import Detector
from caloforge.errors import SimulationError
from caloforge.fast.client import ShowerClient
from caloforge.fast.envelope import Envelope, Frame
from caloforge.fast.own_server import server_of
from caloforge.fast.placing import deposits, shower_number
from caloforge.geant4.acceptance import ELECTROMAGNETIC, Acceptance, Incident
from caloforge.runtime.seeds import derived_seed
from caloforge.runtime.streams import checked_seed

if TYPE_CHECKING:
    from caloforge.checkpoint.checkpoint import Checkpoint

__all__ = ["FastShower", "FastVolume"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FastShower:
    """A shower that a model made in the place of a particle. ``K`` cells with energy.

    Attributes:
        run, event, track: whose.
        particle: PDG code.
        energy: kinetic energy at the face, MeV.
        time: global time there, ns.
        position, direction: there, (3,), in the world.
        energies: (K,) MeV, as Geant4 would leave them in what is read out.
        positions: (K, 3) mm, in the world: a random place in each of the model's cells.
    """

    run: int
    event: int
    track: int
    particle: int
    energy: float
    time: float
    position: Floats
    direction: Floats
    energies: Floats
    positions: Floats


@dataclass(frozen=True, eq=False)
class _Taken:
    run: int
    event: int
    incident: Incident
    frame: Frame
    time: float


class FastVolume:
    """Lets a model make the showers of e-, e+ and photons that enter a volume of your own Geant4 world.

    They end at its face; all others, and those outside the model's range, stay Geant4's. A shower is a
    function of the model, the seed, and the numbers of its run, event and track. A context, around the runs.

    Args:
        volume: name of a logical volume, or of a region; a volume that is the root of a region of its own
            costs Geant4 nothing where it simulates itself.
        hits: is given each shower, at the end of its event, before sensitive detectors and your own action
            hear of that.
        model: a checkpoint, its folder or name, or the socket of a server (``caloforge serve``), for which
            torch is not needed in this process; by default the model that comes with the detector.
        detector: the calorimeter that the volume is, its name, file or `Detector`; by default the one that
            the model knows.
        rotation, translation: of the detector file's frame in that of the volume, see `Envelope`.
        front: names of the regions from which particles come; by default all that are not in the volume. Each
            step in them costs a call of Python.
        above: kinetic energy from which particles are taken over, the model's lowest by default.
        together: make showers when there are at least so many of them, rather than in each event; the last
            ones when the context ends.
        seed: of the showers.
        settings, device, precision, kernels: as `caloforge.generate` has them; a server has its own.

    Attributes:
        taken: how many particles the model took over.
        refused: how many it did not, by the reason.

    Raises:
        CheckpointError, ConditionError, SimulationError: the model or the server cannot be used.
    """

    def __init__(
        self,
        volume: str,
        hits: Callable[[FastShower], None],
        model: Checkpoint | str | os.PathLike[str] | None = None,
        *,
        detector: str | os.PathLike[str] | Detector | None = None,
        rotation: ArrayLike | None = None,
        translation: ArrayLike | None = None,
        front: Collection[str] | None = None,
        above: Quantity | None = None,
        together: int = 1,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
        kernels: str = "auto",
    ) -> None:
        self._volume, self._hits, self._place = volume, hits, (rotation, translation)
        self._front = front
        self._above = None if above is None else parse_range(above, "energy")[0]
        self._together, self._seed = whole_number("together", together), checked_seed(seed)
        self.taken, self.refused = 0, Counter[str]()
        self._waiting: list[_Taken] = []
        known = Detector.load(detector) if isinstance(detector, str | os.PathLike) else detector
        with ExitStack() as stack:
            name = known.name if known else None
            served = server_of(model, name, settings, 1, device, precision, kernels)
            path, offer = stack.enter_context(served)
            if known is None:
                if len(offer.ranges) > 1:
                    names = ", ".join(offer.ranges)
                    raise SimulationError(f"{offer.name} knows {names}: say which (detector=…)")
                known = Detector.load(next(iter(offer.ranges)))
            self.detector, self._cells = known, offer.mesh(known.name)
            inside = np.full((1, 3), 0.5)
            self._cells.points(np.zeros(1, dtype=np.int64), inside)  # raises where it cannot tell
            self._valid = offer.ranges[known.name]
            self._client = stack.enter_context(ShowerClient(path))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._make()
        finally:
            self._stack.close()

    def attach(self) -> None:
        """Take the place of the volume; call it in ``ConstructSDandField()``, or after Initialize().

        Raises:
            SimulationError: there is no such volume, the detector does not lie in it, or a region in front
                has a stepping action already.
        """
        if isinstance(g4.G4RunManager.GetRunManager(), g4.G4MTRunManager):
            raise SimulationError("a model can take the place of a volume in a serial run manager only")
        envelope = Envelope(self._volume, self.detector, *self._place)
        acceptance = Acceptance.of(self.detector, self._cells, self._valid, self._above, envelope.sides)
        chosen = [r for r in envelope.regions if self._front is None or r.GetName() in self._front]
        if not chosen:
            raise SimulationError(f"no region in front of {self._volume!r} is one of {self._front}")
        gates = [region.GetRegionalSteppingAction() for region in chosen]
        for region, gate in zip(chosen, gates, strict=True):
            if not (gate is None or isinstance(gate, _Gate)):
                raise SimulationError(
                    f"the region {region.GetName()!r} in front of {self._volume!r} has a stepping action "
                    "already, and there is one for each"
                )
        take = partial(self._take, envelope=envelope, acceptance=acceptance)
        self._keep = [_Gate() if gate is None else gate for gate in gates]
        for region, gate in zip(chosen, self._keep, strict=True):
            gate.takers.append(take)
            region.SetRegionalSteppingAction(gate)
        self._end = _End(self._volume, self._finish_event)
        g4.G4SDManager.GetSDMpointer().AddNewDetector(self._end)

    def _take(self, step: Any, envelope: Envelope, acceptance: Acceptance) -> None:
        """Take a particle over that a step has brought to the face, if the model knows it."""
        point = step.GetPostStepPoint()
        energy = point.GetKineticEnergy()
        if energy < acceptance.above:
            return
        track = step.GetTrack()
        particle = track.GetDefinition().GetPDGEncoding()
        if particle not in ELECTROMAGNETIC:
            return
        frame = envelope.enters(step)
        if frame is None:
            return
        position = frame.position(point.GetPosition())
        told: Incident | str = "place"
        if envelope.at_face(position):
            direction = frame.direction(point.GetMomentumDirection())
            told = acceptance.take(track.GetTrackID(), particle, energy, position, direction)
        if isinstance(told, str):
            self.refused[told] += 1
            return
        manager = g4.G4RunManager.GetRunManager()
        run, event = manager.GetCurrentRun().GetRunID(), manager.GetCurrentEvent().GetEventID()
        self._waiting.append(_Taken(run, event, told, frame, point.GetGlobalTime()))
        self.taken += 1
        track.SetTrackStatus(g4.fStopAndKill)

    def _finish_event(self) -> None:
        if len(self._waiting) >= self._together:
            self._make()

    def _make(self) -> None:
        """Make the showers of all who wait."""
        waiting, self._waiting = self._waiting, []
        for run, group in groupby(waiting, key=lambda taken: taken.run):
            part = list(group)
            seed = derived_seed(self._seed, "fast.run", run) if run else self._seed
            numbers = np.array([shower_number(taken.event, taken.incident.track) for taken in part])
            incidents = [taken.incident for taken in part]
            told = Incident.conditions(incidents, self.detector.name, "impact" in self._valid)
            made = self._client.make(seed, numbers, told)
            for taken, number, cells in zip(part, numbers, made, strict=True):
                energies, positions = deposits(
                    cells, taken.incident, self._cells, self.detector, seed, int(number)
                )
                x, frame = taken.incident, taken.frame
                self._hits(
                    FastShower(
                        run,
                        taken.event,
                        x.track,
                        x.particle,
                        x.energy,
                        taken.time,
                        frame.in_world(np.array([x.position]))[0],
                        np.array(x.direction) @ frame.turn,
                        energies,
                        frame.in_world(positions),
                    )
                )


class _Gate(g4.G4UserSteppingAction):  # type: ignore[misc]
    """Shows the steps of a region to those who take particles over."""

    def __init__(self) -> None:
        super().__init__()
        self.takers: list[Callable[[Any], None]] = []

    def UserSteppingAction(self, step: Any) -> None:
        for take in self.takers:
            take(step)


class _End(g4.G4VSensitiveDetector):  # type: ignore[misc]
    """Hears of the end of events, before sensitive detectors whose names are in no folder."""

    def __init__(self, name: str, finish: Callable[[], None]) -> None:
        super().__init__(f"/caloforge/{name}")
        self.finish = finish

    def ProcessHits(self, step: Any, history: Any) -> bool:
        return False

    def EndOfEvent(self, hits: Any) -> None:
        self.finish()
