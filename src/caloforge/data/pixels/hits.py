"""Hits of pixel events: sparse, in the order of event, sensor, u and v; dense where asked for.

Legend: ``n`` events, ``S`` sensors, ``U`` × ``V`` cells of a sensor, ``H`` hits. Charges are ADU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.pixel import PixelDetector
from caloforge.errors import DataError

__all__ = ["PixelHits", "check_hits"]

Shape = tuple[int, int, int]
COLUMNS = ("counts", "u", "v", "charge")


@dataclass(frozen=True)
class PixelHits:
    """Hits of n events.

    Attributes:
        shape: (S, U, V).
        counts: (n, S) hits of every sensor, which say what event and sensor a hit belongs to.
        u, v: (H,) its cell.
        charge: (H,) ADU.
    """

    shape: Shape
    counts: NDArray[np.int64]
    u: NDArray[np.uint16]
    v: NDArray[np.uint16]
    charge: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def event(self) -> NDArray[np.int64]:
        """(H,) from 0 to n − 1."""
        return np.repeat(np.arange(len(self)), self.counts.sum(axis=1))

    @property
    def sensor(self) -> NDArray[np.int64]:
        """(H,) from 0 to S − 1."""
        return np.repeat(np.tile(np.arange(self.shape[0]), len(self)), self.counts.ravel())

    @property
    def image(self) -> NDArray[np.int64]:
        """(H,) event · S + sensor."""
        return np.repeat(np.arange(self.counts.size), self.counts.ravel())

    @property
    def cell(self) -> NDArray[np.int64]:
        """(H,) (image · U + u) · V + v, which rises."""
        _, n_u, n_v = self.shape
        return np.asarray((self.image * n_u + self.u) * n_v + self.v)

    @property
    def first(self) -> NDArray[np.int64]:
        """Number of the first hit of each event and, last, H; (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.counts.sum(axis=1))])

    def dense(self) -> NDArray[np.uint8]:
        """All charges, (n, S, U, V): 7.7 MB for an event of 40 × 250 × 768 cells."""
        images = np.zeros((len(self), *self.shape), dtype=np.uint8)
        images[self.event, self.sensor, self.u, self.v] = self.charge
        return images

    @staticmethod
    def from_dense(images: NDArray[np.uint8]) -> PixelHits:
        """The hits of images (n, S, U, V)."""
        n, sensors, n_u, n_v = images.shape
        cell = np.flatnonzero(images)
        return PixelHits.from_cells((sensors, n_u, n_v), n, cell, images.reshape(-1)[cell])

    @staticmethod
    def from_cells(shape: Shape, n: int, cell: NDArray[np.int64], charge: NDArray[np.uint8]) -> PixelHits:
        """The hits of n events on cells (H,), which rise and are numbered as in `cell`."""
        images = n * shape[0]
        image, u, v = np.unravel_index(cell, (images, *shape[1:]))
        counts = np.bincount(image, minlength=images).reshape(n, shape[0])
        return PixelHits(shape, counts, u.astype(np.uint16), v.astype(np.uint16), charge)

    @staticmethod
    def none(shape: Shape) -> PixelHits:
        """Not a single event."""
        empty = np.zeros(0, dtype=np.uint16)
        return PixelHits(shape, np.zeros((0, shape[0]), dtype=np.int64), empty, empty, empty.astype(np.uint8))

    @staticmethod
    def concatenate(parts: Sequence[PixelHits]) -> PixelHits:
        """Events one after the other."""
        return PixelHits(
            parts[0].shape, *(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS)
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        """Named arrays that `from_columns` reads."""
        return {name: getattr(self, name) for name in COLUMNS}

    @classmethod
    def from_columns(cls, shape: Shape, columns: Mapping[str, NDArray[Any]]) -> PixelHits:
        """The inverse of `columns`; ``shape`` is (S, U, V), and what else is among them is ignored."""
        return cls(shape, *(columns[name] for name in COLUMNS))


def check_hits(hits: PixelHits, detector: PixelDetector, where: str, first: int = 0) -> None:
    """Raise DataError where hits cannot be of this detector, naming the event, sensor and cell.

    Each must be on a cell of its sensor, in order, one at most on each cell, its charge between threshold and
    largest. ``first`` is the number of the first event, for the message.
    """
    sensors, n_u, n_v = detector.shape
    if hits.counts.shape != (len(hits), sensors) or hits.shape != detector.shape:
        raise DataError(f"{where}: hits of {hits.shape} cells do not fit {detector.name}, {detector.shape}")
    if (hits.counts < 0).any() or hits.counts.sum() != len(hits.u):
        raise DataError(f"{where}: the index counts {hits.counts.sum()} hits where there are {len(hits.u)}")
    row = hits.image
    flat = hits.u.astype(np.int64) * n_v + hits.v
    low, high = detector.readout.threshold_adu, detector.readout.largest_adu
    problems = {
        f"lies beyond the {n_u} × {n_v} cells": (hits.u >= n_u) | (hits.v >= n_v),
        f"has a charge below the threshold of {low} ADU": hits.charge < low,
        f"has a charge above {high} ADU": hits.charge > high,
        "is out of order, or the second one on its cell": np.r_[
            False, (row[1:] == row[:-1]) & (flat[1:] <= flat[:-1])
        ][: len(row)],
    }
    for what, bad in problems.items():
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{where}: event {first + row[i] // sensors}, sensor "
                f"{detector.sensors[row[i] % sensors].name}: the hit at u {hits.u[i]}, v {hits.v[i]} of "
                f"{hits.charge[i]} ADU {what}; "
                f"{np.count_nonzero(bad)} hits are so. Repair them or leave these events out."
            )
