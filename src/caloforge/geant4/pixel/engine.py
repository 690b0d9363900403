"""One Geant4 run manager with a pixel detector; used in worker processes only, one per process.

An event of Geant4 holds all primaries of all sources in the window of one read-out. Legend: ``D`` deposits.
"""

# ruff: noqa: N802  (names of methods are Geant4's)

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import geant4_pybind as g4
import numpy as np
from numpy.typing import NDArray

from caloforge.detector.pixel import PixelDetector
from caloforge.geant4.pixel.sources import particles_of_event
from caloforge.geant4.pixel.world import PixelWorld
from caloforge.geant4.recorder import Recorder, step_of_neutral, whole_step
from caloforge.geant4.run import Run, engine_seeds

__all__ = ["Deposits", "PixelEngine"]

Floats = NDArray[np.float64]
SILICON = 14


class Deposits(NamedTuple):
    """What one event left in active silicon.

    Attributes:
        sensor: (D,) its number.
        energy: (D,) MeV.
        start, end: (D, 3) mm, of the step.
        time: (D,) ns.
    """

    sensor: NDArray[np.int64]
    energy: Floats
    start: Floats
    end: Floats
    time: Floats


class _Construction(g4.G4VUserDetectorConstruction):  # type: ignore[misc]
    def __init__(self, engine: PixelEngine) -> None:
        super().__init__()
        self.engine = engine

    def Construct(self) -> Any:
        self.engine.world = PixelWorld(self.engine.detector)
        return self.engine.world.physical

    def ConstructSDandField(self) -> None:
        world, manager = self.engine.world, g4.G4SDManager.GetSDMpointer()
        for recorder, volume in zip(self.engine.recorders, world.sensitive, strict=True):
            recorder.attach()
            manager.AddNewDetector(recorder.detector)
            self.SetSensitiveDetector(volume, recorder.detector)
        world.attach_field()


class _Primaries(g4.G4VUserPrimaryGeneratorAction):  # type: ignore[misc]
    def __init__(self, engine: PixelEngine) -> None:
        super().__init__()
        self.engine = engine
        self.gun = g4.G4ParticleGun(1)

    def GeneratePrimaries(self, event: Any) -> None:
        particles = self.engine.begin(event.GetEventID())
        table, gun = g4.G4ParticleTable.GetParticleTable(), self.gun
        for code in np.unique(particles.pdg).tolist():
            gun.SetParticleDefinition(table.FindParticle(code))
            of_kind = np.flatnonzero(particles.pdg == code)
            columns = (particles.energy, particles.start, particles.direction, particles.time)
            for energy, start, direction, t in zip(
                *(column[of_kind].tolist() for column in columns), strict=True
            ):
                gun.SetParticleEnergy(energy)
                gun.SetParticlePosition(g4.G4ThreeVector(*start))
                gun.SetParticleMomentumDirection(g4.G4ThreeVector(*direction))
                gun.SetParticleTime(t)
                gun.GeneratePrimaryVertex(event)


class PixelEngine:
    """Geant4, initialised for one pixel detector; only one can exist in a process.

    Args:
        detector: what to build.
        official: full FTFP_BERT on the official data sets; otherwise electromagnetic physics only.
    """

    def __init__(self, detector: PixelDetector, *, official: bool) -> None:
        self.detector = detector
        self.world: PixelWorld
        self.recorders = [
            Recorder(
                sensor.name, heaviest_z=SILICON, hadrons=official, charged=whole_step, neutral=step_of_neutral
            )
            for sensor in detector.sensors
        ]
        self._run = Run(
            _Construction(self),
            lambda: [_Primaries(self)],
            self.end,
            official=official,
            cut_mm=detector.production_cut_mm,
            step_limits=True,
        )

    def run(
        self,
        rates: Floats,
        numbers: NDArray[np.int64],
        seed: int,
        done: Callable[[int, Deposits, float], None],
    ) -> None:
        """Simulate the events ``numbers`` (n,) with these rate factors (n, S).

        ``done`` gets each event's number, deposits and the CPU seconds that Geant4 took.
        """
        self._rates, self._numbers, self._seed, self._done = rates, numbers, seed, done
        self._engine_seeds = engine_seeds(seed, numbers, self.detector.name)
        self._run.events(len(numbers))

    def begin(self, i: int) -> Any:
        """The primaries of event ``i`` of the batch; called before each event."""
        for recorder in self.recorders:
            recorder.clear()
        self._clock = time.process_time()
        particles = particles_of_event(
            self.detector.sources,
            self._rates[i],
            self.detector.readout.window_us,
            self._seed,
            int(self._numbers[i]),
        )
        g4.HepRandom.setTheSeeds(self._engine_seeds[i].tolist(), 4)
        return particles

    def end(self, i: int) -> None:
        """Called after each event: hands its deposits on."""
        seconds = time.process_time() - self._clock
        parts = [recorder.deposits(8) for recorder in self.recorders]
        rows = np.concatenate(parts)
        sensor = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        deposits = Deposits(sensor, rows[:, 0], rows[:, 1:4], rows[:, 4:7], rows[:, 7])
        self._done(int(self._numbers[i]), deposits, seconds)
