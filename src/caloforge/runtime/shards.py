"""Shards of a production: one of N consecutive parts of its showers, which need nothing of each other.

A shower is a function of the seed and its number, so that who makes the shards, where, and in what order
decides nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from caloforge.errors import ConditionError

__all__ = ["MOST", "Shard"]

MOST = 10**9
"""Shards of a production, at most."""


@dataclass(frozen=True)
class Shard:
    """Part ``number`` (from 1 on) of ``of`` parts, whose sizes differ by one at most; by default the whole.

    Raises:
        ConditionError: there is no such part.
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MOST:
            raise ConditionError(
                f"there is no shard {self}: of N shards the first is 1/N and the last N/N, N at most {MOST:,}"
            )

    @classmethod
    def parse(cls, shard: Shard | str | None) -> Shard:
        """The shard that a text like ``"17/1000"`` names; the whole for None."""
        if shard is None:
            return cls()
        if isinstance(shard, Shard):
            return shard
        match = re.fullmatch(r"(\d{1,10})/(\d{1,10})", shard, re.ASCII)
        if match is None:
            raise ConditionError(f"a shard is written K/N, for example 17/1000, got {shard!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def is_whole(self) -> bool:
        """True where there are no other parts."""
        return self.of == 1

    @property
    def padded(self) -> str:
        """Its number with as many digits as the last one's, so that names of files sort."""
        return f"{self.number:0{len(str(self.of))}}"

    @property
    def word(self) -> str:
        """What it adds to the name of a file; nothing for the whole."""
        return "" if self.is_whole else f"shard{self.padded}of{self.of}"

    def span(self, n: int) -> tuple[int, int]:
        """Where it begins and ends among n things; ConditionError where they are fewer than the shards."""
        if self.of > max(n, 1):
            raise ConditionError(f"{n:,} cannot be cut into {self.of:,} shards: some would be empty")
        return n * (self.number - 1) // self.of, n * self.number // self.of
