"""Campaigns of showers: the tables ``[generate]`` and ``[simulate]`` of their files."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from caloforge.campaign.record import Cost
from caloforge.campaign.work import Generated, Made, Simulated, Work, checkpoint_of, place_of
from caloforge.data.conditions import Conditions
from caloforge.data.event_list import EventList, events_digest
from caloforge.data.fingerprint import conditions_digest
from caloforge.data.formats import open_showers
from caloforge.data.packing import PackedEnergies
from caloforge.data.showers import Showers
from caloforge.data.writer import ShowerWriter
from caloforge.detector.description import kind_of
from caloforge.runtime.shards import MOST, Shard
from caloforge.runtime.structured import json_text

__all__ = ["Generate", "OfShowers", "Simulate"]

BEAM = ("particle", "energy", "spectrum", "theta", "phi", "impact", "allow_outside")
ROW_BYTES = 80
"""Bytes of a shower's conditions."""


class OfShowers(Work):
    """Showers in a calorimeter."""

    @field_validator("detector", check_fields=False)
    @classmethod
    def _a_calorimeter(cls, detector: str | None) -> str | None:
        if detector is not None and kind_of(detector) == "pixel":
            raise ValueError(
                f"{detector} is a pixel detector, of which there are no showers; its events are those of the "
                "tables [generate_events] and [simulate_events]"
            )
        return detector

    def opened(self, path: Path, *, allow_external: bool = False) -> Showers:
        return open_showers(path, allow_external=allow_external)

    def bytes_each(self, made: Showers) -> float:
        packed = PackedEnergies.pack(made.energies.reshape(len(made), -1))
        return packed.content.nbytes / len(made) + ROW_BYTES

    def writer(self, path: Path, like: Showers, made_by: Made, *, overwrite: bool) -> ShowerWriter:
        return ShowerWriter(path, like.mesh, provenance=made_by, overwrite=overwrite)

    def equal(self, one: Showers, other: Showers) -> bool:
        pairs = zip(one.batches(), other.batches(), strict=True)
        return one.conditions == other.conditions and all(np.array_equal(a, b) for (a, _), (b, _) in pairs)


class Generate(OfShowers, Generated):
    """``[generate]``: what `caloforge.generate` is asked for.

    Attributes:
        model, detector: see `Generated`.
        particle, energy, spectrum, theta, phi: as `caloforge.generate` has them, in text.
        conditions: files of showers whose conditions are taken, one after the other, in place of the energy.
        settings: other values of the model's settings, by dotted key.
        device, precision, kernels, allow_extrapolation: as there.
    """

    particle: str | None = None
    energy: str | None = None
    spectrum: str = "log-uniform"
    theta: str | None = None
    phi: str | None = None
    conditions: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)
    device: str = "auto"
    precision: str = "auto"
    kernels: str = "auto"
    allow_extrapolation: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.energy is None) == (not self.conditions):
            raise ValueError('give either energy, like "1-50GeV", or conditions, files of showers')
        return self

    def _asked(self, folder: Path) -> dict[str, Any]:
        told = self.model_dump(exclude={"model", "settings", "conditions"})
        model, detector = (place_of(name, folder) for name in (self.model, self.detector))
        told["detector"] = detector
        told["checkpoint"] = checkpoint_of(model, detector, json_text(self.settings), self.particle)
        if self.conditions:
            given = _conditions(self.conditions, folder)
            told |= {"conditions": given, "energy": None, "spectrum": "log-uniform"}
        return told

    def make(
        self, n: int, seed: int, shard: Shard, out: Path, folder: Path, *, resume: bool = True
    ) -> Showers:
        from caloforge.generation.generate import generate

        asked = self._asked(folder)
        checkpoint = asked.pop("checkpoint")
        return generate(
            checkpoint,
            out=out,
            n=n,
            seed=seed,
            shard=shard,
            threads=1,
            resume=resume,
            progress=False,
            **asked,
        )

    def decided_here(self, n: int, seed: int, folder: Path) -> dict[str, Any]:
        from caloforge.generation.request import GenerationRequest

        asked = self._asked(folder)
        request = GenerationRequest.resolve(
            asked.pop("checkpoint"), n=n, seed=seed, shard=Shard(1, min(n, MOST)), **asked
        )
        return self.described_here(request.description, request.device)

    def total(self, folder: Path) -> int | None:
        return len(_conditions(self.conditions, folder)) if self.conditions else None

    def expected(self, n: int, seed: int, shard: Shard, folder: Path) -> str:
        from caloforge.generation.conditions import incident_conditions

        names = ("detector", "particle", "conditions", "energy", "theta", "phi", "spectrum", "checkpoint")
        asked = {name: value for name, value in self._asked(folder).items() if name in names}
        if asked["detector"] is not None:
            from caloforge.detector.detector import Detector

            asked["detector"] = Detector.name_of(asked["detector"])
        found, _ = incident_conditions(asked.pop("checkpoint"), n=n, seed=seed, shard=shard, **asked)
        return conditions_digest(found)

    def digest(self, made: Made) -> str:
        return str(made["request"]["conditions"])

    def probe(self, n: int, seed: int, wanted: int, folder: Path) -> tuple[Made, Cost]:
        from caloforge.generation.generate import generate

        asked, count = self._asked(folder), min(n, wanted)
        if self.conditions:
            asked["conditions"] = asked["conditions"][_spread(n, count)]
        make = partial(generate, asked.pop("checkpoint"), n=count, seed=seed, threads=1, progress=False)
        return self.probed(lambda out: make(out=out, **asked))


class Simulate(OfShowers, Simulated):
    """``[simulate]``: what `caloforge.simulate` is asked for.

    Attributes:
        detector: name or file.
        fast: a model that makes the showers of electrons, positrons and photons; "auto" for the detector's.
        above: the energy from which on it does.
        particle, energy, spectrum, theta, phi, impact, allow_outside, reduced_data: as there, in text.
        conditions: files of showers whose conditions are taken, one after the other, in place of all these
            but the last.
    """

    detector: str
    fast: str | None = None
    above: str | None = None
    particle: str = "e-"
    energy: str = "1-10GeV"
    spectrum: str = "log-uniform"
    theta: str | None = None
    phi: str | None = None
    impact: str | None = None
    allow_outside: bool = False
    reduced_data: bool = False
    conditions: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        beam = [name for name in BEAM if name in self.model_fields_set]
        if self.conditions and beam:
            raise ValueError(f"conditions say what is shot; leave out {', '.join(beam)}")
        return self

    @model_validator(mode="after")
    def _above_what(self) -> Self:
        if self.above is not None and self.fast is None:
            raise ValueError("above says from which energy on a model takes over; say which: fast")
        return self

    def make(
        self, n: int, seed: int, shard: Shard, out: Path, folder: Path, *, resume: bool = True
    ) -> Showers:
        asked: dict[str, Any] = {"reduced_data": self.reduced_data, "n": n, "events": self._events(n, folder)}
        if not self.conditions:
            asked |= {name: getattr(self, name) for name in BEAM}
        return self._simulated(asked, seed, shard, out, folder, resume)

    def _simulated(
        self, asked: dict[str, Any], seed: int, shard: Shard, out: Path, folder: Path, resume: bool
    ) -> Showers:
        asked |= {"seed": seed, "shard": shard, "workers": 1, "resume": resume, "progress": False}
        detector = str(place_of(self.detector, folder))
        if self.fast is None:
            from caloforge.geant4.simulate import simulate

            return simulate(detector, out=out, **asked)
        from caloforge.fast.simulate import simulate_fast

        model = None if self.fast == "auto" else place_of(self.fast, folder)
        return simulate_fast(detector, model, out=out, above=self.above, **asked)

    def total(self, folder: Path) -> int | None:
        return len(_conditions(self.conditions, folder)) if self.conditions else None

    def _events(self, n: int, folder: Path) -> Conditions | None:
        return _conditions(self.conditions, folder)[:n] if self.conditions else None

    def expected(self, n: int, seed: int, shard: Shard, folder: Path) -> str:
        events = self._events(n, folder)
        return "" if events is None else events_digest(EventList.of(events).part(*shard.span(n)).to_dict())

    def digest(self, made: Made) -> str:
        events = made["settings"].get("events")
        return "" if events is None else events_digest(events)

    def probe(self, n: int, seed: int, wanted: int, folder: Path) -> tuple[Made, Cost]:
        events = self._events(n, folder)
        if events is None:
            return super().probe(n, seed, wanted, folder)
        asked: dict[str, Any] = {"reduced_data": self.reduced_data, "events": events[_spread(n, wanted)]}
        return self.probed(lambda out: self._simulated(asked, seed, Shard(), out, folder, False))


def _conditions(names: tuple[str, ...], folder: Path) -> Conditions:
    """Conditions of showers in several files."""
    return _conditions_in(tuple(str(place_of(name, folder)) for name in names))


@cache
def _conditions_in(paths: tuple[str, ...]) -> Conditions:
    """The same, read once in each process."""
    return Conditions.concatenate([open_showers(path).conditions for path in paths])


def _spread(n: int, wanted: int) -> NDArray[np.int64]:
    """About so many of n numbers, of all of them: files may be ordered, by energy say."""
    return np.linspace(0, n - 1, min(n, wanted)).astype(np.int64)
