"""One Geant4 run manager with a detector; used in worker processes only, one per process.

Legend: ``D`` deposits of an event.
"""

# ruff: noqa: N802  (names of methods are Geant4's)

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import geant4_pybind as g4
import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.particles import pdg_name
from caloforge.detector.detector import Detector
from caloforge.errors import SimulationError
from caloforge.geant4.acceptance import Acceptance, Incident
from caloforge.geant4.gate import Gate, TakingGate
from caloforge.geant4.recorder import Recorder
from caloforge.geant4.run import Run, engine_seeds
from caloforge.geant4.world import ENTRY_MM, World, build_world

__all__ = ["Engine", "Event", "from_shower_frame", "to_shower_frame"]

Floats = NDArray[np.float64]
SURFACE_MM = 1e-6  # closer than this to the face is on it
NUDGE_MM = 1e-3  # a step that ends on the far surface of its layer belongs to that layer, not to the next


@dataclass
class Event:
    """What one event left in the sensitive layers.

    Attributes:
        number: shower number.
        energies: (D,) MeV, as deposited, not divided by the sampling fraction.
        positions: (D, 3) mm, end points of the steps.
        entrance: (3,) mm, where the primary entered the detector.
        direction: (3,), its direction there.
        cpu_seconds: time Geant4 took, of this process.
        taken: particles that a model takes over, whose energy is not among the deposits.
        refused: how many it does not, by the reason.
    """

    number: int
    energies: Floats
    positions: Floats
    entrance: Floats
    direction: Floats
    cpu_seconds: float
    taken: Sequence[Incident] = ()
    refused: Mapping[str, int] = field(default_factory=dict)


def to_shower_frame(positions: Floats, entrance: Floats, direction: Floats, roll: float = 0.0) -> Floats:
    """Positions (D, 3) from the entrance point, turned by Rz(−φ), Ry(−θ), Rz(roll): z along ``direction``."""
    turned = (positions - entrance) @ _rotation(direction, roll).T
    turned[:, 2] -= NUDGE_MM
    return np.asarray(turned)


def from_shower_frame(positions: Floats, entrance: Floats, direction: Floats, roll: float = 0.0) -> Floats:
    """The inverse of `to_shower_frame`."""
    return np.asarray((positions + np.array([0.0, 0.0, NUDGE_MM])) @ _rotation(direction, roll) + entrance)


def _rotation(direction: Floats, roll: float) -> Floats:
    theta = math.acos(max(-1.0, min(1.0, float(direction[2]))))
    phi = math.atan2(float(direction[1]), float(direction[0]))
    ct, st, cp, sp, cr, sr = *_cos_sin(theta), *_cos_sin(phi), *_cos_sin(roll)
    rz = np.array([[cp, sp, 0.0], [-sp, cp, 0.0], [0.0, 0.0, 1.0]])
    ry = np.array([[ct, 0.0, -st], [0.0, 1.0, 0.0], [st, 0.0, ct]])
    turn = np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(turn @ ry @ rz)


def _cos_sin(angle: float) -> tuple[float, float]:
    return math.cos(angle), math.sin(angle)


class _Construction(g4.G4VUserDetectorConstruction):  # type: ignore[misc]
    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def Construct(self) -> Any:
        self.engine.world = build_world(self.engine.detector)
        return self.engine.world.physical

    def ConstructSDandField(self) -> None:
        world, manager = self.engine.world, g4.G4SDManager.GetSDMpointer()
        pairs: list[tuple[Any, list[Any]]] = []
        if self.engine.scoring:
            recorder = self.engine.recorder
            recorder.attach()
            pairs = [(recorder.detector, world.sensitive), (self.engine.gate, [world.entry])]
        for sensitive_detector, volumes in pairs:
            manager.AddNewDetector(sensitive_detector)
            for volume in volumes:
                self.SetSensitiveDetector(volume, sensitive_detector)


class _Gun(g4.G4VUserPrimaryGeneratorAction):  # type: ignore[misc]
    """Shoots the events of the current batch one after the other, each with its own random numbers."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.gun = g4.G4ParticleGun(1)
        self.particle = 0

    def GeneratePrimaries(self, event: Any) -> None:
        engine = self.engine
        i = event.GetEventID()
        engine.begin()
        g4.HepRandom.setTheSeeds(engine.seeds[i].tolist(), 4)
        for row in range(engine.begins[i], engine.begins[i + 1]):
            self.shoot(row, event)

    def shoot(self, row: int, event: Any) -> None:
        """Add a particle of the batch to an event."""
        c = self.engine.conditions
        particle = int(c.particle[row])
        if particle != self.particle:
            definition = g4.G4ParticleTable.GetParticleTable().FindParticle(particle)
            if definition is None:
                raise SimulationError(
                    f"Geant4 knows no particle {pdg_name(particle)!r} (PDG code {particle})"
                )
            self.gun.SetParticleDefinition(definition)
            self.particle = particle
        start, direction = self.engine.start(row)
        self.gun.SetParticleEnergy(float(c.energy[row]))
        self.gun.SetParticlePosition(g4.G4ThreeVector(*start))
        self.gun.SetParticleMomentumDirection(g4.G4ThreeVector(*direction))
        self.gun.GeneratePrimaryVertex(event)


class Engine:
    """Geant4, initialised for one detector; only one can exist in a process.

    Args:
        detector: what to build.
        official: full FTFP_BERT on the official data sets; otherwise electromagnetic physics only.
        scoring: False builds no sensitive detector at all, to measure what scoring costs.
        actions: make further user actions (tracking, stepping), for validation.
        commands: Geant4 commands applied before initialisation.
        acceptance: which particles a model takes over at the face; None for none.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        official: bool,
        scoring: bool = True,
        actions: tuple[Callable[[], Any], ...] = (),
        commands: tuple[str, ...] = (),
        acceptance: Acceptance | None = None,
    ) -> None:
        self.detector, self.scoring = detector, scoring
        self.world: World = World()
        self.recorder = Recorder("recorder", heaviest_z=detector.heaviest_sensitive_z, hadrons=official)
        at_face = self._at_face
        self.gate = Gate(at_face) if acceptance is None else TakingGate(at_face, acceptance)
        self.conditions: Conditions
        self.begins: list[int]
        self.seeds: NDArray[np.int64]
        self._numbers: NDArray[np.int64]
        self._done: Callable[[Event], None]
        self._run = Run(
            _Construction(self),
            lambda: [_Gun(self), *(make() for make in actions)],
            self.end,
            official=official,
            cut_mm=detector.production_cut_mm,
            commands=commands,
        )

    def run(
        self,
        conditions: Conditions,
        numbers: NDArray[np.int64],
        seed: int,
        done: Callable[[Event], None],
        sizes: NDArray[np.int64] | None = None,
    ) -> None:
        """Simulate the events ``numbers`` (n,); ``done`` gets each in turn.

        Args:
            conditions: of the particles of all events, in order.
            numbers: of the events.
            seed: of all random numbers.
            done: hears of each event.
            sizes: how many particles each event has, (n,); one by default.
        """
        self.conditions, self._numbers, self._done = conditions, numbers, done
        self.begins = [0, *np.cumsum(np.ones_like(numbers) if sizes is None else sizes).tolist()]
        energy = np.add.reduceat(conditions.energy, self.begins[:-1])
        self.seeds = engine_seeds(seed, numbers, self.detector.name, energy)
        self._run.events(len(numbers))

    def _at_face(self, position: Any) -> bool:
        if self.detector.shape == "box":
            return bool(position.z > -SURFACE_MM)
        assert self.detector.inner_radius_mm is not None
        return math.hypot(position.x, position.y) > self.detector.inner_radius_mm - SURFACE_MM

    def start(self, i: int) -> tuple[Floats, Floats]:
        """Starting point (3,) mm and direction (3,) of particle ``i`` of the batch."""
        c = self.conditions
        theta, phi = float(c.theta[i]), float(c.phi[i])
        st, ct = math.sin(theta), math.cos(theta)
        if theta == 0.0:
            st, ct = 0.0, 1.0
        direction = np.array([st * math.cos(phi), st * math.sin(phi), ct])
        if self.detector.shape == "cylinder":
            return np.zeros(3), direction
        face = np.zeros(3)
        if c.impact is not None:
            face[:2] = c.impact[i]
        return face - direction * (ENTRY_MM * 0.999 / ct), direction

    def begin(self) -> None:
        """Called before each event."""
        self.recorder.clear()
        self.gate.clear()
        self._clock = time.process_time()

    def end(self, i: int) -> None:
        """Called after each event: hands its deposits on."""
        seconds = time.process_time() - self._clock
        if self.gate.found is None:  # the primary interacted before the face: take its straight line
            point, direction = self.start(self.begins[i])
            self.gate.found = point + direction * self._distance(point, direction), direction
        entrance, direction = self.gate.found
        deposits = self.recorder.deposits()
        event = Event(
            int(self._numbers[i]),
            deposits[:, 0],
            deposits[:, 1:],
            entrance,
            direction,
            seconds,
            self.gate.taken,
            self.gate.refused,
        )
        self._done(event)

    def _distance(self, point: Floats, direction: Floats) -> float:
        if self.detector.shape == "box":
            return float(-point[2] / direction[2])
        assert self.detector.inner_radius_mm is not None
        return self.detector.inner_radius_mm / math.hypot(direction[0], direction[1])
