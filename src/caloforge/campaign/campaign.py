"""A campaign: one TOML file that says which showers are made, and a folder in which their shards appear.

n = 1_000_000                     # showers
seed = 7
shard_size = 10_000               # showers of a file, at most
out = "siw/{shard}.h5"            # from this file's folder on; one campaign a folder
host = "x86_64 GenuineIntel avx"  # class of the hosts; by default that of the first one

[generate]                        # or [simulate], [generate_events], [simulate_events]
model = "showertree-siw"
energy = "1-100GeV"

Nobody coordinates: whoever finds a shard missing locks its name, makes it and seals it with its checksum.
What is decided by who begins, such as the class of hosts, stands in ``campaign.json`` in the folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from caloforge.campaign.events import GenerateEvents, SimulateEvents
from caloforge.campaign.record import Cost, Record, plain
from caloforge.campaign.showers import Generate, Simulate
from caloforge.campaign.work import Product, Work
from caloforge.errors import DataError, RecipeError
from caloforge.runtime.chunks import differences
from caloforge.runtime.files import read_json, read_toml
from caloforge.runtime.shards import MOST, Shard
from caloforge.runtime.streams import MOST_SHOWERS
from caloforge.settings import Settings, explain

__all__ = ["Campaign", "CampaignFile", "Seal"]

PLACE = "{shard}"
WHOLE = Shard()
KINDS = ("generate", "simulate", "generate_events", "simulate_events")


class CampaignFile(Settings):
    """What stands in a campaign's file; see the module."""

    largest_number: ClassVar[int] = (1 << 64) - 1

    n: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    shard_size: int = Field(ge=1, le=MOST_SHOWERS)
    out: str
    host: str | None = None
    generate: Generate | None = None
    simulate: Simulate | None = None
    generate_events: GenerateEvents | None = None
    simulate_events: SimulateEvents | None = None

    @field_validator("out")
    @classmethod
    def _a_pattern(cls, out: str) -> str:
        folder, _, name = out.rpartition("/")
        if name.count(PLACE) != 1 or PLACE in folder or not name.endswith(".h5"):
            raise ValueError(f"must be like folder/{PLACE}.h5, with {PLACE} once, in the name of the file")
        return out

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if len(self._tables()) != 1:
            tables = ", ".join(f"[{name}]" for name in KINDS)
            raise ValueError(f"give one of the tables {tables}")
        return self

    def _tables(self) -> dict[str, Work]:
        return {name: work for name in KINDS if (work := getattr(self, name)) is not None}

    @property
    def table(self) -> tuple[str, Work]:
        """The name of its table, and how that makes showers."""
        return next(iter(self._tables().items()))


@dataclass(frozen=True)
class Seal:
    """What says that a shard is finished, in a file beside it.

    Attributes:
        campaign: the mark of the campaign's record.
        shard: which one, ``"17/1000"``.
        sha256: of the whole file.
        bytes: its size.
    """

    campaign: str
    shard: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path, shard: Shard, record: Record) -> Self:
        """The seal that a file gets."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(record.mark, str(shard), digest, path.stat().st_size)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The seal in a file, None where there is none; DataError where it is damaged."""
        if not path.exists():
            return None
        told = read_json(path)
        try:
            return cls(**told)
        except TypeError as error:
            raise DataError(
                f"{path} is no seal of a shard ({error}); delete it, and run makes it anew"
            ) from error


class Campaign:
    """A campaign as its file has it.

    Attributes:
        path: the file.
        work: how showers are made.
        n, seed: how many, and of which seed.
        shards: in how many files.
        folder: where the shards are.
    """

    def __init__(self, path: Path, told: CampaignFile) -> None:
        self.path, self.home = path, path.resolve().parent
        kind, work = told.table
        self.work: Work = work
        given = work.total(self.home)
        n = told.n or given
        if n is None:
            raise RecipeError(f"{path}: n: say how many {work.what} are to be made")
        if given is not None and n > given:
            raise RecipeError(f"{path}: n: {n:,} showers are wanted, but there are conditions for {given:,}")
        self.n, self.seed, self.host = n, told.seed, told.host
        self.shards = -(-n // told.shard_size)
        if self.shards > MOST:
            raise RecipeError(f"{path}: shard_size: {self.shards:,} files are too many; make larger ones")
        out = self.home / told.out
        self.folder, self.pattern = out.parent, out.name
        digest = work.expected(n, self.seed, Shard(), self.home) if given is not None else None
        fields = type(work).model_fields.items()
        usual = {name: field.get_default(call_default_factory=True) for name, field in fields}
        table, self._usual = (
            {f"{kind}.{name}": value for name, value in plain(of).items()}
            for of in (work.model_dump(mode="json"), usual)
        )
        numbers = {"n": n, "seed": told.seed, "shard_size": told.shard_size}
        self.asked: dict[str, Any] = plain({**numbers, "names": self.pattern, **table, "given": digest})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Campaign:
        """The campaign in a TOML file; RecipeError where it is malformed, naming the key."""
        table = read_toml(path, error=RecipeError)
        try:
            told = CampaignFile.model_validate(table)
        except ValidationError as error:
            raise RecipeError(explain(error, os.fspath(path))) from None
        return cls(Path(path), told)

    def __iter__(self) -> Iterator[Shard]:
        """All shards in order."""
        return (Shard(number, self.shards) for number in range(1, self.shards + 1))

    def file(self, shard: Shard) -> Path:
        """Where a shard is when it is finished."""
        return self.folder / self.pattern.replace(PLACE, shard.padded)

    def seal(self, shard: Shard) -> Path:
        """Where its seal is."""
        return self.file(shard).with_suffix(".sum")

    def strangers(self) -> list[Path]:
        """Files in the folder that are called as shards are, and are none."""
        own = {self.file(shard).name for shard in self}
        name = re.compile(re.escape(self.pattern).replace(re.escape(PLACE), r"\d+"))
        there = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [path for path in there if name.fullmatch(path.name) and path.name not in own]

    def is_finished(self, shard: Shard, record: Record) -> bool:
        """True where a shard is there, whole and sealed, as far as the size of the file tells."""
        seal, path = Seal.read(self.seal(shard)), self.file(shard)
        return (
            seal is not None
            and seal.campaign == record.mark
            and path.is_file()
            and path.stat().st_size == seal.bytes
        )

    def missing(self, share: Shard = WHOLE) -> list[Shard]:
        """Shards of a share of the campaign that are not finished."""
        start, stop = share.span(self.shards)
        shards = [Shard(number, self.shards) for number in range(start + 1, stop + 1)]
        record = self.begun()
        return [shard for shard in shards if record is None or not self.is_finished(shard, record)]

    def begun(self) -> Record | None:
        """The record of whoever began, None before; DataError where it is that of another campaign."""
        record = Record.read(self.folder)
        if record is not None:
            record.require_asked(self.asked, self._usual, self.folder)
        return record

    def decided_here(self) -> dict[str, Any]:
        """What decides the showers if this machine makes them; DataError where its class is not wanted."""
        decided: dict[str, Any] = plain(self.work.decided_here(self.n, self.seed, self.home))
        if self.host is not None and decided["host"] != self.host:
            raise DataError(
                f"{self.path} wants hosts of the class {self.host!r}, and this one is {decided['host']!r}: "
                "its showers could differ in the last bits. Run it elsewhere, or change host before it begins"
            )
        return decided

    @cached_property
    def record(self) -> Record:
        """The record, after this machine was found to make the same showers; begins the campaign if need be.

        Raises:
            DataError: it would not, or the folder is that of another campaign or cannot be written.
        """
        record, decided = self.begun(), self.decided_here()
        if record is None:
            self.refuse_strangers()
            cost = self.cost(decided.get("block_size", self.work.few))
            self.require_free(cost.disk(self.n, self.shards))
            record = Record(self.asked, decided, cost).write(self.folder)
            record.require_asked(self.asked, self._usual, self.folder)
        record.require_decided(decided, self.folder)
        return record

    def refuse_strangers(self) -> None:
        """DataError where files of the folder are called as shards are, and are none."""
        found = self.strangers()
        if found:
            raise DataError(
                f"{found[0]} is called as the shards of {self.path} are, and is none of them "
                f"({len(found)} such files); give the campaign a folder of its own (out)"
            )

    def cost(self, wanted: int) -> Cost:
        """What showers cost, by a probe of about so many."""
        return self.work.probe(self.n, self.seed, min(wanted, self.n), self.home)[1]

    def require_space(self, record: Record, missing: Sequence[Shard]) -> None:
        """DataError where these shards do not fit on the disk."""
        spans = [shard.span(self.n) for shard in missing]
        needed = record.cost.disk(sum(stop - start for start, stop in spans), len(missing))
        self.require_free(needed)

    @property
    def place(self) -> Path:
        """The folder, or where it will be made."""
        return next(path for path in (self.folder, *self.folder.parents) if path.exists())

    def require_free(self, needed: int) -> None:
        """DataError where there is no room for so many bytes."""
        free = shutil.disk_usage(self.place).free
        if needed > free:
            raise DataError(
                f"there is no space for the plan: what is missing takes about {needed / 1e9:,.1f} GB, and "
                f"{free / 1e9:,.1f} GB are free at {self.place}. Make room, make fewer showers, or choose "
                "another place (out)"
            )

    def differs(self, showers: Product, shard: Shard, record: Record) -> str:
        """In what a file is not a shard of this campaign, in words; "" where it is."""
        try:
            decided = plain(self.work.decided_by(showers.provenance))
            first, n = self.work.numbers(showers.provenance)
        except (KeyError, TypeError, ValueError):
            return "its provenance does not say that it was made so"
        if found := differences(record.decided, decided):
            return found
        start, stop = shard.span(self.n)
        if (first, first + n) != (start, stop) or len(showers) != n:
            return f"it holds the {self.work.what} {first} to {first + n - 1}, not {start} to {stop - 1}"
        expected = self.work.expected(self.n, self.seed, shard, self.home)
        if expected != self.work.digest(showers.provenance):
            return f"its {self.work.what} have other conditions"
        return ""
