"""A model in the place of a volume of a user's own Geant4 program."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data.quantities import Quantity, parse_range, whole_number
from caloforge.detector.detector import Detector
from caloforge.errors import SimulationError
from caloforge.fast.client import ShowerClient
from caloforge.fast.own_server import server_of
from caloforge.fast.placing import deposits, shower_number
from caloforge.geant4.acceptance import Acceptance, Incident
from caloforge.runtime.seeds import derived_seed
from caloforge.runtime.streams import checked_seed

if TYPE_CHECKING:
    from caloforge.checkpoint.checkpoint import Checkpoint
    from caloforge.fast.gate import Taken

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
        refused: how many particles the model did not take over, by the reason.

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
        self.refused = Counter[str]()
        self._waiting: list[Taken] = []
        self._made = 0
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
        from caloforge.fast.envelope import Envelope
        from caloforge.fast.gate import VolumeGate

        envelope = Envelope(self._volume, self.detector, *self._place)
        acceptance = Acceptance.of(self.detector, self._cells, self._valid, self._above, envelope.sides)
        self._gate = VolumeGate(
            envelope, acceptance, self._front, self._waiting, self.refused, self._finish_event
        )

    @property
    def taken(self) -> int:
        """How many particles the model took over."""
        return self._made + len(self._waiting)

    def _finish_event(self) -> None:
        if len(self._waiting) >= self._together:
            self._make()

    def _make(self) -> None:
        """Make the showers of all who wait."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self._made += len(waiting)
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
