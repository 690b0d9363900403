"""Pixel events: hits, the rate factors of their backgrounds, and where they came from, sliced lazily.

Legend: ``N`` events, ``S`` sensors, ``B`` sources of background.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caloforge.data.chosen import Index, chosen_rows, split_rows
from caloforge.data.pixels.hits import PixelHits
from caloforge.detector.pixel import PixelDetector
from caloforge.errors import ConditionError, DataError

__all__ = ["EVENTS", "ArrayHits", "HitSource", "PixelConditions", "PixelEvents", "rates_digest"]

EVENTS = 20
"""Events of a batch: about 1.4 million hits of Belle II's pixel detector, 7 MB."""
HIT_BYTES = 5
"""Of a hit in memory: the number of its cell and its charge."""
UNKNOWN = -1


class HitSource(Protocol):
    """Where hits come from: arrays in memory, or files that are read in slices."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> PixelHits:
        """Hits of events start … stop − 1, checked."""
        ...


class ArrayHits:
    """Hits in memory."""

    def __init__(self, hits: PixelHits) -> None:
        self._hits = hits
        self._first = hits.first

    def __len__(self) -> int:
        return len(self._hits)

    def read(self, start: int, stop: int) -> PixelHits:
        here, hits = slice(self._first[start], self._first[stop]), self._hits
        return PixelHits(hits.shape, hits.counts[start:stop], hits.u[here], hits.v[here], hits.charge[here])


class _Joined:
    """Several sources, one after the other."""

    def __init__(self, parts: Sequence[PixelEvents]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> PixelHits:
        pieces = [
            part.read(max(start - int(first), 0), min(stop - int(first), len(part)))
            for part, first in zip(self._parts, self._starts, strict=False)
            if start < first + len(part) and stop > first
        ]
        return PixelHits.concatenate(pieces) if pieces else self._parts[0].read(0, 0)


def rates_digest(rates: NDArray[np.float64]) -> str:
    """Sixteen hexadecimal digits that differ where a rate (N, B) does."""
    return hashlib.sha256(np.ascontiguousarray(rates).tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class PixelConditions:
    """What is known of N events before their hits.

    Attributes:
        sources: names of the B sources of background.
        rates: (N, B) factor of each, 1 at the nominal rate, NaN where it is not known.
        seed: (N,) of the run that made the event.
        number: (N,) of the event in that run, -1 where it is not known.

    Raises:
        ConditionError: a rate is negative or infinite, or the arrays have other lengths.
    """

    sources: tuple[str, ...]
    rates: NDArray[np.float64]
    seed: NDArray[np.uint64]
    number: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.rates)
        if self.rates.shape != (n, len(self.sources)) or self.seed.shape != (n,) or self.number.shape != (n,):
            raise ConditionError(
                f"rates {self.rates.shape}, seeds {self.seed.shape} and numbers {self.number.shape} do not "
                f"fit the sources {', '.join(self.sources)}"
            )
        bad = np.argwhere((self.rates < 0) | np.isinf(self.rates))
        if len(bad):
            row, source = bad[0]
            raise ConditionError(
                f"event {row} has {self.rates[row, source]:g} as rate of {self.sources[source]}; rates are "
                "factors of the nominal one, 0 or more and finite"
            )

    @staticmethod
    def unknown(sources: tuple[str, ...], n: int) -> PixelConditions:
        """Of n events of which nothing is known."""
        return PixelConditions(
            sources,
            np.full((n, len(sources)), np.nan),
            np.zeros(n, dtype=np.uint64),
            np.full(n, UNKNOWN, dtype=np.int64),
        )

    @property
    def unknown_rates(self) -> NDArray[np.int64]:
        """Events of which a rate is not known."""
        return np.flatnonzero(np.isnan(self.rates).any(axis=1))

    def ranges(self) -> dict[str, list[float] | None]:
        """Lowest and highest factor of each source, None where one is not known."""
        known = len(self) and not len(self.unknown_rates)
        return {
            name: [float(column.min()), float(column.max())] if known else None
            for name, column in zip(self.sources, self.rates.T, strict=True)
        }

    @property
    def digest(self) -> str:
        """That of the rates, see `rates_digest`."""
        return rates_digest(self.rates)

    def __len__(self) -> int:
        return len(self.rates)

    def __getitem__(self, index: slice | NDArray[Any]) -> PixelConditions:
        return PixelConditions(self.sources, self.rates[index], self.seed[index], self.number[index])


class PixelEvents:
    """N events of a pixel detector. Their hits may lie on disk and are read only when asked for.

    Args:
        source: their hits.
        conditions: rate factors and seeds.
        detector: the sensors, in whose order the hits are.
        provenance: what made them; JSON-able.
        extra: further columns, (N, ...).
    """

    def __init__(
        self,
        source: HitSource,
        conditions: PixelConditions,
        detector: PixelDetector,
        provenance: Mapping[str, Any] | None = None,
        extra: Mapping[str, NDArray[Any]] | None = None,
        *,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self._source, self._rows = source, np.arange(len(source)) if rows is None else rows
        self.conditions, self.detector = conditions, detector
        self.provenance: dict[str, Any] = dict(provenance or {})
        self.extra = {name: np.asarray(column) for name, column in (extra or {}).items()}
        for name, column in {"the conditions": conditions.rates, **self.extra}.items():
            if len(column) != len(self._rows):
                raise DataError(f"{len(self._rows)} events but {len(column)} rows of {name}")

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<{len(self)} events of {self.detector.name}, {' × '.join(map(str, self.detector.shape))}>"

    @cached_property
    def n_bytes(self) -> int:
        """Memory that all hits take, about, as the first events tell."""
        n = min(len(self), EVENTS)
        return len(self) * HIT_BYTES * len(self.read(0, n).u) // max(n, 1)

    def read(self, start: int, stop: int) -> PixelHits:
        """Hits of events start … stop − 1; what follows one another in the file is read at once."""
        rows = self._rows[start:stop]
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        parts = [self._source.read(int(run[0]), int(run[-1]) + 1) for run in runs]
        return PixelHits.concatenate(parts) if parts else PixelHits.none(self.detector.shape)

    def dense(self, event: int) -> NDArray[np.uint8]:
        """Charges of one event, (S, U, V)."""
        images = self[[event]].read(0, 1).dense()
        return images.reshape(self.detector.shape)

    def batches(self, size: int = EVENTS) -> Iterator[tuple[PixelHits, PixelConditions]]:
        """Hits and conditions of consecutive events, ``size`` at most."""
        if size < 1:
            raise DataError(f"a batch must have at least 1 event, got {size}")
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield self.read(start, stop), self.conditions[start:stop]

    def __getitem__(self, index: Index) -> PixelEvents:
        """Events at a slice, an index array or a boolean mask; nothing is read from disk yet."""
        chosen = chosen_rows(index, len(self), "events")
        return PixelEvents(
            self._source,
            self.conditions[chosen],
            self.detector,
            self.provenance,
            {name: column[chosen] for name, column in self.extra.items()},
            rows=self._rows[chosen],
        )

    def split(self, *fractions: float, seed: int | None = None) -> tuple[PixelEvents, ...]:
        """Disjoint parts with the given fractions; a last part takes what is left, if anything.

        Without a seed the order is kept, with one the events are shuffled.
        """
        return tuple(self[rows] for rows in split_rows(len(self), fractions, seed))

    @staticmethod
    def concatenate(parts: Sequence[PixelEvents]) -> PixelEvents:
        """Join events of one detector, in order; DataError where the detectors or their sources differ."""
        if not parts:
            raise DataError("there is nothing to concatenate")
        first = parts[0]
        for part in parts[1:]:
            part.require_like(first, "events to concatenate")
        columns = ("rates", "seed", "number")
        made = {"action": "concatenate", "parts": [part.provenance for part in parts]}
        common = set(first.extra).intersection(*(part.extra for part in parts))
        return PixelEvents(
            _Joined(parts),
            PixelConditions(
                first.conditions.sources,
                *(np.concatenate([getattr(part.conditions, name) for part in parts]) for name in columns),
            ),
            first.detector,
            made if len(parts) > 1 else first.provenance,
            {name: np.concatenate([part.extra[name] for part in parts]) for name in sorted(common)},
        )

    def require_like(self, other: PixelEvents, what: str) -> None:
        """Raise DataError unless sensors, read-out and sources of background are those of ``other``."""
        mine, theirs = self.detector.decisive(), other.detector.decisive()
        different = [name for name in mine if mine[name] != theirs.get(name)]
        if different:
            raise DataError(
                f"{what}: {self.detector.name} and {other.detector.name} differ in {', '.join(different)}"
            )
