"""What a campaign makes: the table ``[generate]`` or ``[simulate]`` of its file.

What decides showers is told in one way of a machine (`Work.decided_here`) and of a file that is there already
(`Work.decided_by`): where both are equal, so are the showers.
"""

from __future__ import annotations

import hashlib
import resource
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from caloforge.data.conditions import Conditions
from caloforge.data.event_list import EventList
from caloforge.data.fingerprint import conditions_digest
from caloforge.data.formats import open_showers
from caloforge.data.showers import Showers
from caloforge.detector.description import kind_of
from caloforge.runtime.host import host_class
from caloforge.runtime.shards import MOST, Shard
from caloforge.runtime.structured import json_text, parse_json
from caloforge.settings import Settings

__all__ = ["Generate", "Simulate", "Work"]

Made = Mapping[str, Any]
BEAM = ("particle", "energy", "spectrum", "theta", "phi", "impact", "allow_outside")
SELF, CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN


class Work(Settings, ABC):
    """How the showers of a campaign are made."""

    @field_validator("detector", check_fields=False)
    @classmethod
    def _a_calorimeter(cls, detector: str | None) -> str | None:
        if detector is not None and kind_of(detector) == "pixel":
            raise ValueError(
                f"{detector} is a pixel detector, and campaigns are of showers; its events are made by "
                "caloforge simulate --shard K/N and joined by caloforge data merge"
            )
        return detector

    @abstractmethod
    def make(
        self, n: int, seed: int, shard: Shard, out: Path, folder: Path, *, resume: bool = True
    ) -> Showers:
        """A shard of n showers in the file ``out``, by one core.

        ``folder`` is where names of files begin. What is there already and is the same is left.
        """

    @abstractmethod
    def decided_here(self, n: int, seed: int, folder: Path) -> dict[str, Any]:
        """All that decides the showers if this machine makes them, but for their numbers; JSON-able."""

    @abstractmethod
    def decided_by(self, made: Made) -> dict[str, Any]:
        """The same, by the provenance of a file; KeyError or TypeError where it was made otherwise."""

    @abstractmethod
    def numbers(self, made: Made) -> tuple[int, int]:
        """Number of the first shower of a file, and how many there are."""

    def total(self, folder: Path) -> int | None:
        """How many showers there are where their conditions are given; None otherwise."""
        return None

    def expected(self, n: int, seed: int, shard: Shard, folder: Path) -> str:
        """Digest of the conditions of a shard, "" where what decides the showers says them."""
        return ""

    def digest(self, made: Made) -> str:
        """The digest in the provenance of a file that `expected` gives."""
        return ""

    @abstractmethod
    def probe(self, n: int, seed: int, wanted: int, folder: Path) -> tuple[Showers, float, float]:
        """Some of the n showers, about as many as are wanted; seconds of a core, and MiB, that they took."""


class Generate(Work):
    """``[generate]``: what `caloforge.generate` is asked for.

    Attributes:
        model: a checkpoint's folder or name; by default the model of the detector.
        detector, particle, energy, spectrum, theta, phi: as `caloforge.generate` has them, in text.
        conditions: files of showers whose conditions are taken, one after the other, in place of the energy.
        settings: other values of the model's settings, by dotted key.
        device, precision, kernels, allow_extrapolation: as there.
    """

    model: str | None = None
    detector: str | None = None
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
        if self.model is None and self.detector is None:
            raise ValueError("say which model, or the detector whose model is taken")
        if (self.energy is None) == (not self.conditions):
            raise ValueError('give either energy, like "1-50GeV", or conditions, files of showers')
        return self

    def _asked(self, folder: Path) -> dict[str, Any]:
        told = self.model_dump(exclude={"model", "settings", "conditions"})
        model, detector = (_place(name, folder) for name in (self.model, self.detector))
        told["detector"] = detector
        told["checkpoint"] = _checkpoint(model, detector, json_text(self.settings))
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
        from caloforge.runtime.devices import device_name

        asked = self._asked(folder)
        request = GenerationRequest.resolve(
            asked.pop("checkpoint"), n=n, seed=seed, shard=Shard(1, min(n, MOST)), **asked
        )
        told = {"packages": {"numpy": version("numpy")}, "host": host_class()}
        performance = {"device": device_name(request.device)}
        return self.decided_by(told | {"request": request.description, "performance": performance})

    def decided_by(self, made: Made) -> dict[str, Any]:
        request = dict(made["request"])
        for name in ("n", "first", "conditions"):
            del request[name]
        host = made["host"] if request["device"] == "cpu" else made["performance"]["device"]
        return request | {"code": f"{request['code']}, numpy {made['packages']['numpy']}", "host": host}

    def numbers(self, made: Made) -> tuple[int, int]:
        return int(made["request"]["first"]), int(made["request"]["n"])

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

    def probe(self, n: int, seed: int, wanted: int, folder: Path) -> tuple[Showers, float, float]:
        from caloforge.generation.generate import generate

        asked, count = self._asked(folder), min(n, wanted)
        if self.conditions:
            asked["conditions"] = asked["conditions"][_spread(n, count)]
        with tempfile.TemporaryDirectory(prefix="caloforge-probe-") as place:
            out = Path(place) / "probe.h5"
            made = generate(
                asked.pop("checkpoint"), out=out, n=count, seed=seed, threads=1, progress=False, **asked
            )
            told = made.provenance["performance"]
            return made.load(), float(told["seconds"]), float(told["peak_memory_mib"])


class Simulate(Work):
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
        detector = str(_place(self.detector, folder))
        if self.fast is None:
            from caloforge.geant4.simulate import simulate

            return simulate(detector, out=out, **asked)
        from caloforge.fast.simulate import simulate_fast

        model = None if self.fast == "auto" else _place(self.fast, folder)
        return simulate_fast(detector, model, out=out, above=self.above, **asked)

    def decided_here(self, n: int, seed: int, folder: Path) -> dict[str, Any]:
        return self.decided_by(self.probe(n, seed, 1, folder)[0].provenance)

    def decided_by(self, made: Made) -> dict[str, Any]:
        told = dict(made["settings"])
        for name in ("n", "chunk"):
            del told[name]
        for name in ("first", "shard", "events"):
            told.pop(name, None)
        versions = ", ".join(
            [f"caloforge {made['caloforge'].replace('+changes', '')}", f"numpy {made['packages']['numpy']}"]
        )
        return told | {"code": versions, "host": made["host"]}

    def numbers(self, made: Made) -> tuple[int, int]:
        return int(made["settings"].get("first", 0)), int(made["settings"]["n"])

    def total(self, folder: Path) -> int | None:
        return len(_conditions(self.conditions, folder)) if self.conditions else None

    def _events(self, n: int, folder: Path) -> Conditions | None:
        return _conditions(self.conditions, folder)[:n] if self.conditions else None

    def expected(self, n: int, seed: int, shard: Shard, folder: Path) -> str:
        events = self._events(n, folder)
        return "" if events is None else _digest(EventList.of(events).part(*shard.span(n)).to_dict())

    def digest(self, made: Made) -> str:
        events = made["settings"].get("events")
        return "" if events is None else _digest(events)

    def probe(self, n: int, seed: int, wanted: int, folder: Path) -> tuple[Showers, float, float]:
        events = self._events(n, folder)
        with tempfile.TemporaryDirectory(prefix="caloforge-probe-") as place:
            out = Path(place) / "probe.h5"
            if events is None:
                made = self.make(n, seed, Shard(1, max(1, n // wanted)), out, folder, resume=False)
            else:
                chosen = events[_spread(n, wanted)]
                asked = {"reduced_data": self.reduced_data, "events": chosen}
                made = self._simulated(asked, seed, Shard(), out, folder, False)
            kibibytes = sum(resource.getrusage(who).ru_maxrss for who in (SELF, CHILDREN))
            return made.load(), float(made.extra["geant4_cpu_seconds"].sum()), kibibytes / 2**10


def _place(name: str | None, folder: Path) -> str | None:
    """A file or folder that is named from ``folder`` on, or else a name."""
    return str(folder / name) if name is not None and (folder / name).exists() else name


@cache
def _checkpoint(model: str | None, detector: str | None, settings: str) -> Any:
    """A checkpoint, read once in each process."""
    from caloforge.generation.request import resolve_checkpoint

    return resolve_checkpoint(model, detector, parse_json(settings))


def _conditions(names: tuple[str, ...], folder: Path) -> Conditions:
    """Conditions of showers in several files."""
    return _conditions_in(tuple(str(_place(name, folder)) for name in names))


@cache
def _conditions_in(paths: tuple[str, ...]) -> Conditions:
    """The same, read once in each process."""
    return Conditions.concatenate([open_showers(path).conditions for path in paths])


def _spread(n: int, wanted: int) -> NDArray[np.int64]:
    """About so many of n numbers, of all of them: files may be ordered, by energy say."""
    return np.linspace(0, n - 1, min(n, wanted)).astype(np.int64)


def _digest(events: Mapping[str, Any]) -> str:
    return hashlib.sha256(json_text(events).encode()).hexdigest()[:16]
