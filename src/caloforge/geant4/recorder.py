"""Records energy deposits at a fraction of the cost of the simulation; used in worker processes only.

Nine steps in ten through a thin silicon layer are photons that leave nothing, and calling Python for each of
them costs more than everything else here. Python is therefore called for charged particles only, and for
photons with an energy at which the photo-electric effect, the only process in which a photon itself leaves
energy, is not negligible: filters in C++ decide. With hadrons about, nothing is filtered. Primitive scorers
can have filters, hence the multi-functional detector (``G4VSensitiveDetector.filter`` cannot be set in
geant4-pybind 0.1.3).
"""

# ruff: noqa: N802  (names of methods are Geant4's)

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import geant4_pybind as g4
import numpy as np
from numpy.typing import NDArray

__all__ = ["PHOTON_LIMIT_MEV", "Recorder", "step_of_neutral", "whole_step"]

PHOTON_LIMIT_MEV = 0.3
LIGHT_Z = 20  # up to here, the photo-electric effect above the limit leaves less than 1e-6 of the energy


Record = Callable[[Any, Any], bool]
Row = Callable[[Any, "array[float]"], Record]
"""Makes what appends a row to an array of doubles for every deposit of a step, Geant4's only one."""


class _Scorer(g4.G4VPrimitiveScorer):  # type: ignore[misc]
    """Appends a row for every deposit to an array of doubles.

    Geant4 has one step object per process, with fixed step points. Their Python wrappers and bound methods
    are therefore made once, at the first call, which then puts a cheaper function in its own place.
    """

    def __init__(self, name: str, sink: array[float], row: Row) -> None:
        super().__init__(name, 0)
        self.sink, self.row = sink, row
        self.ProcessHits = self._first  # type: ignore[method-assign]

    def Initialize(self, collections: Any) -> None:
        """Nothing to register: there is no hits collection."""

    def ProcessHits(self, step: Any, history: Any) -> bool:  # pragma: no cover - replaced in __init__
        raise NotImplementedError

    def _first(self, step: Any, history: Any) -> bool:
        record = self.row(step, self.sink)
        self.ProcessHits = record  # type: ignore[assignment, method-assign]
        return record(step, history)


def end_of_step(step: Any, sink: array[float]) -> Record:
    """Rows (energy, x, y, z), MeV and mm at the end of the step."""
    end = step.GetPostStepPoint()
    deposited, view = step.GetTotalEnergyDeposit, _view(end, 3)
    if view is not None:
        append, extend, read = sink.append, sink.frombytes, view.tobytes

        def record(_step: Any, _history: Any) -> bool:
            if energy := deposited():
                append(energy)
                extend(read())
            return True

        return record
    where, extend_floats = end.GetPosition, sink.extend

    def record_slowly(_step: Any, _history: Any) -> bool:
        if energy := deposited():
            p = where()
            extend_floats((energy, p.x, p.y, p.z))
        return True

    return record_slowly


def whole_step(step: Any, sink: array[float]) -> Record:
    """Rows (energy, x, y, z, x', y', z', t): MeV, mm at the start and the end of the step, ns at its end."""
    return _from_to(step, step.GetPreStepPoint(), sink)


def step_of_neutral(step: Any, sink: array[float]) -> Record:
    """Rows as those of `whole_step`, of particles that leave energy at the end of their steps only."""
    return _from_to(step, step.GetPostStepPoint(), sink)


def _from_to(step: Any, start: Any, sink: array[float]) -> Record:
    end = step.GetPostStepPoint()
    deposited, first, last = step.GetTotalEnergyDeposit, _view(start, 3), _view(end, 4)
    if first is not None and last is not None:
        append, extend, read_first, read_last = sink.append, sink.frombytes, first.tobytes, last.tobytes

        def record(_step: Any, _history: Any) -> bool:
            if energy := deposited():
                append(energy)
                extend(read_first())
                extend(read_last())
            return True

        return record
    extend_floats = sink.extend

    def record_slowly(_step: Any, _history: Any) -> bool:
        if energy := deposited():
            p, q = start.GetPosition(), end.GetPosition()
            extend_floats((energy, p.x, p.y, p.z, q.x, q.y, q.z, end.GetGlobalTime()))
        return True

    return record_slowly


def _view(point: Any, n: int) -> memoryview | None:
    """The first ``n`` of x, y, z, t of a step point in memory, or None where that is not known to work.

    Through the binding, a position costs four calls and as many objects, half of all the time that scoring
    takes. In Geant4 11.4 position and time are the first members of ``G4StepPoint``, which has no virtual
    functions, and in pybind11 a table of addresses follows the head of the Python object. Both are used only
    with the version of the binding for which this was tested, and are compared with the binding's answer.
    """
    if version("geant4-pybind") != "0.1.3":
        return None
    address: int | None = id(point) + object.__basicsize__
    for _ in range(2):  # the wrapper points to a table, whose first entry points to the object
        if not address:
            return None
        address = ctypes.c_void_p.from_address(address).value
    if not address:
        return None
    values = (ctypes.c_double * n).from_address(address)
    p = point.GetPosition()
    known = (p.x, p.y, p.z, point.GetGlobalTime())
    return memoryview(values).cast("B") if tuple(values) == known[:n] else None


class Recorder:
    """The sensitive detector of what is read out.

    Args:
        name: of the sensitive detector.
        heaviest_z: largest atomic number in what is read out, which decides which photons matter.
        hadrons: record every particle, since neutral hadrons leave energy too.
        charged, neutral: what is recorded of a deposit of a charged and of a neutral particle.

    Attributes:
        detector: what to attach to their logical volumes, once `attach` was called.
    """

    def __init__(
        self,
        name: str,
        *,
        heaviest_z: int,
        hadrons: bool,
        charged: Row = end_of_step,
        neutral: Row = end_of_step,
    ) -> None:
        self._name, self._charged, self._neutral = name, charged, neutral
        self._sink = array("d")
        self._hadrons = hadrons
        self._light = heaviest_z <= LIGHT_Z
        self.detector: Any = None

    def attach(self) -> None:
        """Make the sensitive detector; to be called where Geant4 constructs its own."""
        if self._hadrons:
            neutral = g4.G4SDNeutralFilter("neutral")
        else:
            limit = PHOTON_LIMIT_MEV if self._light else 1e12
            neutral = g4.G4SDParticleWithEnergyFilter("neutral", 0.0, limit)
            neutral.add("gamma")
        filters = {"charged": g4.G4SDChargedFilter("charged"), "neutral": neutral}
        self.detector = g4.G4MultiFunctionalDetector(self._name)
        self._keep: list[Any] = list(filters.values())
        for (name, chosen), row in zip(filters.items(), (self._charged, self._neutral), strict=True):
            scorer = _Scorer(name, self._sink, row)
            scorer.SetFilter(chosen)
            self.detector.RegisterPrimitive(scorer)
            self._keep.append(scorer)

    def clear(self) -> None:
        """Forget the deposits of the last event."""
        del self._sink[:]

    def deposits(self, columns: int = 4) -> NDArray[np.float64]:
        """Deposits since `clear`: (D, 4) = (energy MeV, x, y, z mm), or ``columns`` of other rows; a copy."""
        return np.array(self._sink, dtype=np.float64).reshape(-1, columns)
