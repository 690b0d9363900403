"""Events of several particles each, as they are shot at a detector. ``N`` events, ``M`` particles in all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.errors import ConditionError
from caloforge.runtime.structured import json_text

__all__ = ["EventList", "events_digest", "without_lists"]


@dataclass(frozen=True, eq=False)
class EventList:
    """What is shot where a `Beam` shoots one particle at a time.

    Attributes:
        all: the particles of all events in order, (M,).
        ends: one behind the last particle of each event, (N,).
        first: number of the first event, where they are a part of more.
    """

    all: Conditions
    ends: NDArray[np.int64]
    first: int = 0

    @classmethod
    def of(cls, events: Sequence[Conditions] | Conditions) -> EventList:
        """Events given by their particles, or of one each; ConditionError where there is none, or in one."""
        if isinstance(events, Conditions):
            sizes, particles = [1] * len(events), events
        else:
            sizes = [len(event) for event in events]
            particles = Conditions.concatenate(events) if sizes else Conditions([])
        if not sizes or not all(sizes):
            where = f"event {sizes.index(0)} has" if sizes else "there are"
            raise ConditionError(f"{where} no particles; each event needs at least one")
        ends = np.cumsum(sizes, dtype=np.int64)
        if (particles.particle == 0).any():
            event = np.searchsorted(ends, np.flatnonzero(particles.particle == 0)[0], side="right")
            raise ConditionError(f"of a particle in event {event} it is not said which, for example e-")
        return cls(particles, ends)

    def __len__(self) -> int:
        return len(self.ends)

    def part(self, start: int, stop: int) -> EventList:
        """The events with the numbers start … stop − 1, which they keep."""
        bounds = np.concatenate([[0], self.ends])[start - self.first : stop - self.first + 1]
        return EventList(self.all[bounds[0] : bounds[-1]], bounds[1:] - bounds[0], start)

    def particles(
        self, detector: str, seed: int, numbers: NDArray[np.int64]
    ) -> tuple[Conditions, NDArray[np.int64]]:
        """The particles of the events with these numbers (n,), and how many each has (n,)."""
        places = numbers - self.first
        begins = np.concatenate([[0], self.ends[:-1]])[places]
        sizes = self.ends[places] - begins
        rows = np.concatenate([np.arange(a, a + n) for a, n in zip(begins, sizes, strict=True)])
        return self.all[rows], sizes

    def conditions(self, detector: str, seed: int, numbers: NDArray[np.int64]) -> Conditions:
        """What a file says of these events: all energy; direction and place of the first particle.

        The particle is 0 where they are of several kinds.
        """
        particles, sizes = self.particles(detector, seed, numbers)
        begins = np.cumsum(sizes) - sizes
        low, high = (f.reduceat(particles.particle, begins) for f in (np.minimum, np.maximum))
        first = particles[begins]
        return Conditions(
            np.add.reduceat(particles.energy, begins),
            first.theta,
            first.phi,
            np.where(low == high, low, 0),
            detector,
            first.impact,
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description that `from_dict` reads."""
        names = ("energy", "theta", "phi", "particle", "impact")
        columns = {name: getattr(self.all, name) for name in names}
        told = {name: None if column is None else column.tolist() for name, column in columns.items()}
        return {"ends": self.ends.tolist(), **({"first": self.first} if self.first else {}), **told}

    @classmethod
    def from_dict(cls, description: dict[str, Any]) -> EventList:
        columns = {name: value for name, value in description.items() if name not in ("ends", "first")}
        ends = np.asarray(description["ends"], dtype=np.int64)
        return cls(Conditions(**columns), ends, description.get("first", 0))


def events_digest(described: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that differ where any event of `EventList.to_dict` does."""
    return hashlib.sha256(json_text(described).encode()).hexdigest()[:16]


def without_lists(provenance: Any) -> Any:
    """The same, in which lists of events, which the data hold, are told by number and digest."""
    if isinstance(provenance, list):
        return [without_lists(part) for part in provenance]
    if not isinstance(provenance, dict):
        return provenance
    if {"ends", "energy", "theta", "phi"} <= provenance.keys():
        return {"n": len(provenance["ends"]), "digest": events_digest(provenance)}
    return {name: without_lists(value) for name, value in provenance.items()}
