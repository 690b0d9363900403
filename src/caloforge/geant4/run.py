"""What every run of Geant4 here shares: physics, seeds, the run itself; used in worker processes only."""

# ruff: noqa: N802  (names of methods are Geant4's)

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import geant4_pybind as g4
import numpy as np
from numpy.typing import NDArray

from caloforge.runtime.streams import uniforms

__all__ = ["Run", "engine_seeds"]


class _ReducedPhysics(g4.G4VModularPhysicsList):  # type: ignore[misc]
    """What FTFP_BERT uses for e-, e+ and gamma, without what needs the official data."""

    def __init__(self) -> None:
        super().__init__()
        self.em = g4.G4EmStandardPhysics()
        self.RegisterPhysics(self.em)


def engine_seeds(
    seed: int, numbers: NDArray[np.int64], detector: str, energy: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Seeds of Geant4's random engine for showers or events (n,): (n, 5), the last of them 0.

    128 bits for MixMax, Geant4's default engine, which gives every such seed a stream of its own. The binding
    reads words up to a zero, which therefore must end them and not occur among them.

    Those of other detectors and of other energies are others: where a photon converts is the first that is
    drawn, and showers of hundreds of detectors made with one seed would share it.

    Args:
        seed: of all random numbers.
        numbers: of the events, (n,).
        detector: name.
        energy: of all particles of each event, MeV, (n,); to a keV.
    """
    words = (uniforms(seed, numbers, f"geant4.engine.{detector}", 4) * (2.0**32 - 1)).astype(np.int64) + 1
    if energy is not None:
        words[:, 0] = (words[:, 0] ^ (np.rint(1000 * energy).astype(np.int64) & 0xFFFFFFFF)).clip(1)
    return np.concatenate([words, np.zeros((len(words), 1), dtype=np.int64)], axis=1)


class _EndOfEvent(g4.G4UserEventAction):  # type: ignore[misc]
    def __init__(self, end: Callable[[int], None]) -> None:
        super().__init__()
        self.end = end

    def EndOfEventAction(self, event: Any) -> None:
        self.end(event.GetEventID())


class _Actions(g4.G4VUserActionInitialization):  # type: ignore[misc]
    def __init__(self, make: Callable[[], Sequence[Any]]) -> None:
        super().__init__()
        self.make = make

    def Build(self) -> None:
        self.parts = self.make()
        for part in self.parts:
            self.SetUserAction(part)


class Run:
    """Geant4's run manager, initialised; only one can exist in a process.

    Args:
        construction: makes volumes and sensitive detectors.
        actions: makes user actions, the primaries' among them.
        end: called after each event with its number in the batch.
        official: FTFP_BERT on the official data sets, otherwise electromagnetic physics only.
        cut_mm: production cut, as a range.
        step_limits: heed the longest steps of volumes.
        commands: Geant4 commands applied before initialisation.
    """

    def __init__(
        self,
        construction: Any,
        actions: Callable[[], Sequence[Any]],
        end: Callable[[int], None],
        *,
        official: bool,
        cut_mm: float,
        step_limits: bool = False,
        commands: Sequence[str] = (),
    ) -> None:
        self._manager = g4.G4RunManagerFactory.CreateRunManager(g4.G4RunManagerType.Serial)
        physics = g4.FTFP_BERT() if official else _ReducedPhysics()
        if step_limits:
            physics.RegisterPhysics(g4.G4StepLimiterPhysics())
        physics.SetVerboseLevel(0)
        physics.SetDefaultCutValue(cut_mm)
        self._keep = (physics, construction, _Actions(lambda: [*actions(), _EndOfEvent(end)]))
        for part in self._keep:
            self._manager.SetUserInitialization(part)
        for text in ("/process/em/verbose 0", "/process/verbose 0", *commands):
            code = g4.G4UImanager.GetUIpointer().ApplyCommand(text)  # None or 0 is success
            if code:
                raise RuntimeError(f"Geant4 refused the command {text!r} with code {code}")
        self._manager.Initialize()

    def events(self, n: int) -> None:
        """Make ``n`` events."""
        gc.disable()  # the callbacks make no cycles, and a collection every few hundred deposits costs time
        try:
            self._manager.BeamOn(n)
        finally:
            gc.enable()
