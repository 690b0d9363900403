"""A user's own Geant4 program: ``own_world.py SETTINGS`` prints what happened as JSON, an event a line.

The world is a GDML file. Without sockets of servers no model is in it.
"""

# ruff: noqa: N802  (names of methods are Geant4's)

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from caloforge.geant4.environment import find_data

os.environ.update(find_data(reduced=True).environment)

import geant4_pybind as g4

from caloforge.errors import SimulationError
from caloforge.fast import FastShower, FastVolume
from caloforge.geant4.run import Run

SEEDS = [11, 12, 13, 14]


class World(g4.G4VUserDetectorConstruction):
    """A GDML file, a sensitive detector, models, and some that cannot be where they are said to be."""

    def __init__(
        self, gdml: str, models: list[FastVolume], wrong: list[FastVolume], showers: list[FastShower]
    ) -> None:
        super().__init__()
        self.gdml, self.models, self.wrong, self.showers = gdml, models, wrong, showers
        self.refused: list[str] = []

    def Construct(self) -> Any:
        self.parser = g4.G4GDMLParser()
        self.parser.Read(self.gdml, False)
        return self.parser.GetWorldVolume()

    def ConstructSDandField(self) -> None:
        self.readout = Readout(self.showers)
        g4.G4SDManager.GetSDMpointer().AddNewDetector(self.readout)
        self.SetSensitiveDetector("barrel", self.readout)
        for model in self.models:
            model.attach()
        for model in self.wrong:
            try:
                model.attach()
            except SimulationError as error:
                self.refused.append(str(error))


class Readout(g4.G4VSensitiveDetector):
    """A sensitive detector that looks at the showers at the end of the event."""

    def __init__(self, showers: list[FastShower]) -> None:
        super().__init__("readout")
        self.showers, self.seen = showers, 0

    def ProcessHits(self, step: Any, history: Any) -> bool:
        return True

    def EndOfEvent(self, hits: Any) -> None:
        self.seen = len(self.showers)


class Gun(g4.G4VUserPrimaryGeneratorAction):
    """One particle an event."""

    def __init__(self, particles: list[dict[str, Any]]) -> None:
        super().__init__()
        self.particles, self.gun = particles, g4.G4ParticleGun(1)

    def GeneratePrimaries(self, event: Any) -> None:
        told = self.particles[event.GetEventID()]
        g4.HepRandom.setTheSeeds([*SEEDS, 0], 4)
        table = g4.G4ParticleTable.GetParticleTable()
        self.gun.SetParticleDefinition(table.FindParticle(told["particle"]))
        self.gun.SetParticleEnergy(told["energy"])
        self.gun.SetParticlePosition(g4.G4ThreeVector(*told["start"]))
        self.gun.SetParticleMomentumDirection(g4.G4ThreeVector(*told["direction"]))
        self.gun.GeneratePrimaryVertex(event)


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    showers: list[FastShower] = []
    with ExitStack() as stack:
        models, wrong = (
            [
                stack.enter_context(FastVolume(model.pop("volume"), showers.append, **model))
                for model in settings.get(name, [])
            ]
            for name in ("models", "wrong")
        )
        world = World(settings["gdml"], models, wrong, showers)

        def end(event: int) -> None:
            row = {"random": g4.HepRandom.getTheEngine().flat(), "seen": world.readout.seen}
            print(json.dumps(row | {"showers": [*map(plain, showers)]}), flush=True)
            showers.clear()

        run = Run(world, lambda: [Gun(settings["particles"])], end, official=False, cut_mm=1.0)
        for _ in range(settings["runs"]):
            run.events(len(settings["particles"]))
    counts = [[model.taken, model.refused] for model in models]
    print(json.dumps({"late": [*map(plain, showers)], "counts": counts, "refused": world.refused}))


def plain(shower: FastShower) -> dict[str, Any]:
    return {k: v.tolist() if hasattr(v, "tolist") else v for k, v in vars(shower).items()}


if __name__ == "__main__":
    main()
