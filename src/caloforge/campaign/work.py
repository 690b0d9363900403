"""What a campaign makes: one table of its file, such as ``[generate]`` or ``[simulate]``.

What decides showers is told in one way of a machine (`Work.decided_here`) and of a file that is there already
(`Work.decided_by`): where both are equal, so are the showers. What holds for showers holds for
events of pixel detectors (`caloforge.campaign.events`).
"""

from __future__ import annotations

import resource
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import model_validator

from caloforge.campaign.record import Cost
from caloforge.data.hdf5_writer import HDF5Writer
from caloforge.data.pixels import PixelEvents
from caloforge.data.showers import Showers
from caloforge.runtime.host import host_class
from caloforge.runtime.shards import Shard
from caloforge.runtime.structured import parse_json
from caloforge.settings import Settings

__all__ = ["Generated", "Made", "Product", "Simulated", "Work", "checkpoint_of", "place_of"]

Made = Mapping[str, Any]
"""The provenance of a file."""
Product = Showers | PixelEvents
NUMBERED = {"n", "chunk", "first", "shard", "events", "conditions"}
"""What of a request differs from shard to shard, or follows from how many there are."""
SELF, CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN


class Work(Settings, ABC):
    """How the showers, or events, of a campaign are made.

    Attributes:
        what: is made, in the plural.
        few: of them are probed before the campaign begins, where they are not made in blocks.
    """

    what: ClassVar[str] = "showers"
    few: ClassVar[int] = 4

    @abstractmethod
    def make(
        self, n: int, seed: int, shard: Shard, out: Path, folder: Path, *, resume: bool = True
    ) -> Product:
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
    def probe(self, n: int, seed: int, wanted: int, folder: Path) -> tuple[Made, Cost]:
        """Provenance and cost of some of the n showers, about as many as are wanted."""

    @abstractmethod
    def opened(self, path: Path, *, allow_external: bool = False) -> Product:
        """What is in a file, or, where that is allowed, in the files that it names."""

    @abstractmethod
    def bytes_each(self, made: Any) -> float:
        """Bytes of a shower in a file, but for its further columns."""

    @abstractmethod
    def writer(self, path: Path, like: Any, made_by: Made, *, overwrite: bool) -> HDF5Writer:
        """What writes a file of those that are like these."""

    @abstractmethod
    def equal(self, one: Any, other: Any) -> bool:
        """Whether two files, or parts of them, hold the same."""

    @abstractmethod
    def spent(self, made: Product) -> tuple[float, float]:
        """Seconds of a core that it took to make these, just now, and memory, MiB."""

    def probed(self, make: Callable[[Path], Product]) -> tuple[Made, Cost]:
        """Provenance and cost of what is made into a file."""
        with tempfile.TemporaryDirectory(prefix="caloforge-probe-") as place:
            made = make(Path(place) / "probe.h5")
            seconds, memory_mib = self.spent(made)
            rest = sum(column.itemsize * column[0].size for column in made.extra.values())
            bytes_each = self.bytes_each(made) + rest
            return made.provenance, Cost(seconds / len(made), bytes_each, memory_mib, len(made))


class Generated(Work):
    """What a model makes.

    Attributes:
        model: a checkpoint's folder or name; by default the model of the detector.
        detector: name or file.
    """

    model: str | None = None
    detector: str | None = None

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.model is None and self.detector is None:
            raise ValueError("say which model, or the detector whose model is taken")
        return self

    def described_here(self, description: Mapping[str, Any], device: Any) -> dict[str, Any]:
        """`Work.decided_here` of a request, by its description, on a device of torch."""
        from caloforge.runtime.devices import device_name

        told = {"packages": {"numpy": version("numpy")}, "host": host_class()}
        return self.decided_by(
            told | {"request": description, "performance": {"device": device_name(device)}}
        )

    def decided_by(self, made: Made) -> dict[str, Any]:
        request = {name: value for name, value in made["request"].items() if name not in NUMBERED}
        host = made["host"] if request["device"] == "cpu" else made["performance"]["device"]
        return request | {"code": f"{request['code']}, numpy {made['packages']['numpy']}", "host": host}

    def numbers(self, made: Made) -> tuple[int, int]:
        return int(made["request"]["first"]), int(made["request"]["n"])

    def spent(self, made: Product) -> tuple[float, float]:
        told = made.provenance["performance"]
        return float(told["seconds"]), float(told["peak_memory_mib"])


class Simulated(Work):
    """What Geant4 makes."""

    def decided_here(self, n: int, seed: int, folder: Path) -> dict[str, Any]:
        return self.decided_by(self.probe(n, seed, 1, folder)[0])

    def decided_by(self, made: Made) -> dict[str, Any]:
        told = {name: value for name, value in made["settings"].items() if name not in NUMBERED}
        versions = ", ".join(
            [f"caloforge {made['caloforge'].replace('+changes', '')}", f"numpy {made['packages']['numpy']}"]
        )
        return told | {"code": versions, "host": made["host"]}

    def numbers(self, made: Made) -> tuple[int, int]:
        return int(made["settings"].get("first", 0)), int(made["settings"]["n"])

    def probe(self, n: int, seed: int, wanted: int, folder: Path) -> tuple[Made, Cost]:
        shard = Shard(1, max(1, n // wanted))
        return self.probed(lambda out: self.make(n, seed, shard, out, folder, resume=False))

    def spent(self, made: Product) -> tuple[float, float]:
        kibibytes = sum(resource.getrusage(who).ru_maxrss for who in (SELF, CHILDREN))
        return float(np.sum(made.extra["geant4_cpu_seconds"])), kibibytes / 2**10


def place_of(name: str | None, folder: Path) -> str | None:
    """A file or folder that is named from ``folder`` on, or else a name."""
    return str(folder / name) if name is not None and (folder / name).exists() else name


@cache
def checkpoint_of(model: str | None, detector: str | None, settings: str, particle: str | None = None) -> Any:
    """A checkpoint, read once in each process; ``settings`` are JSON."""
    from caloforge.generation.request import resolve_checkpoint

    return resolve_checkpoint(model, detector, parse_json(settings), particle)
