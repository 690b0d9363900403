"""What every run of Geant4 here shares: physics lists, seeds, commands; used in worker processes only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import geant4_pybind as g4
import numpy as np
from numpy.typing import NDArray

from caloforge.runtime.streams import uniforms

__all__ = ["apply_commands", "engine_seeds", "physics_list"]


class _ReducedPhysics(g4.G4VModularPhysicsList):  # type: ignore[misc]
    """What FTFP_BERT uses for e-, e+ and gamma, without what needs the official data."""

    def __init__(self) -> None:
        super().__init__()
        self.em = g4.G4EmStandardPhysics()
        self.RegisterPhysics(self.em)


def physics_list(official: bool, cut_mm: float, *, step_limits: bool = False) -> Any:
    """FTFP_BERT on the official data sets, otherwise electromagnetic physics only.

    Args:
        official: whether Geant4 finds its official data sets.
        cut_mm: production cut, as a range.
        step_limits: heed the longest steps of volumes.
    """
    physics = g4.FTFP_BERT() if official else _ReducedPhysics()
    if step_limits:
        physics.RegisterPhysics(g4.G4StepLimiterPhysics())
    physics.SetVerboseLevel(0)
    physics.SetDefaultCutValue(cut_mm)
    return physics


def engine_seeds(seed: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Seeds of Geant4's random engine for showers or events (n,): (n, 5), the last of them 0.

    128 bits for MixMax, Geant4's default engine, which gives every such seed a stream of its own. The binding
    reads words up to a zero, which therefore must end them and not occur among them.
    """
    words = (uniforms(seed, numbers, "geant4.engine", 4) * (2.0**32 - 1)).astype(np.int64) + 1
    return np.concatenate([words, np.zeros((len(words), 1), dtype=np.int64)], axis=1)


def apply_commands(commands: Iterable[str]) -> None:
    """Apply Geant4 commands."""
    for text in commands:
        code = g4.G4UImanager.GetUIpointer().ApplyCommand(text)  # None or 0 is success
        if code:
            raise RuntimeError(f"Geant4 refused the command {text!r} with code {code}")
