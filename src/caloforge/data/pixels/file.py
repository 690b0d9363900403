"""Pixel events in HDF5.

``hits/u``, ``hits/v`` and ``hits/charge`` (H,) hold the hits of all events in the order of event, sensor, u
and v; ``index/first`` (N,) is the first hit of an event and ``index/counts`` (N, S) the number of hits on
each of its sensors, whose names are in ``sensors`` (S,). ``rates`` (N, B), ``seed`` and ``number`` (N,) are
the conditions, further data sets with N rows columns. The attributes ``caloforge_pixel_format``,
``detector``, ``sources`` and ``provenance`` say the rest (the last three in JSON). All data sets have
checksums.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.formats.base import PIXEL_FORMAT
from caloforge.data.formats.hdf5 import (
    HDF5_ERRORS,
    StoredRows,
    damaged,
    file_attributes,
    keep_open,
    open_file,
    read_column,
    stored_in,
)
from caloforge.data.hdf5_writer import HDF5Writer, as_bytes
from caloforge.data.packing import COMPRESSION
from caloforge.data.pixels.events import EVENTS, PixelConditions, PixelEvents
from caloforge.data.pixels.hits import PixelHits, check_hits
from caloforge.detector.pixel import PixelDetector
from caloforge.errors import CaloforgeError, ConditionError, DataError, DetectorError
from caloforge.runtime.signals import interrupts_deferred
from caloforge.runtime.structured import json_text, parse_json

__all__ = ["PixelWriter", "open_pixel_file", "write_events"]

VERSION = 1
HITS = ("u", "v", "charge")
CHUNK_HITS = 1 << 17
CONDITIONS = ("rates", "seed", "number")
_RESERVED = {"hits", "index", "sensors", *CONDITIONS}


class PixelWriter(HDF5Writer):
    """Appends pixel events to a file that appears under its name only when it is complete, see `HDF5Writer`.

    Args:
        path, provenance, compression, overwrite: as there.
        detector: the sensors.
        sources: names of the sources of background whose rates are written.
    """

    what: ClassVar[str] = "events"
    packed: ClassVar[tuple[str, ...]] = (*(f"hits/{name}" for name in HITS), "index/counts")
    batch: ClassVar[int] = EVENTS

    def __init__(
        self,
        path: str | os.PathLike[str],
        detector: PixelDetector,
        sources: tuple[str, ...],
        *,
        provenance: Mapping[str, Any] | None = None,
        compression: int = COMPRESSION,
        overwrite: bool = False,
    ) -> None:
        super().__init__(path, provenance=provenance, compression=compression, overwrite=overwrite)
        self.detector, self.sources = detector, sources
        self.n_hits = 0
        self._columns: set[str] = set()

    def _begin(self, file: h5py.File) -> None:
        file.attrs[PIXEL_FORMAT] = VERSION
        self._describe(file, "detector", json_text(self.detector.to_dict()))
        self._describe(file, "sources", json_text(self.sources))
        names = as_bytes(np.array([sensor.name for sensor in self.detector.sensors]))
        self._write(self._longer(file, "sensors", names.shape, names.dtype), 0, names)

    def _finish(self, file: h5py.File) -> None:
        if not self.n_written:
            self.append(PixelHits.none(self.detector.shape), PixelConditions.unknown(self.sources, 0))
        super()._finish(file)

    def _rows_of_chunk(self, name: str, row_bytes: int) -> int:
        return CHUNK_HITS if name.startswith("hits/") else super()._rows_of_chunk(name, row_bytes)

    def append(
        self, hits: PixelHits, conditions: PixelConditions, extra: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Add n events; DataError, before anything is written, where they do not fit or hits are illegal."""
        file, n = self._opened(), len(hits)
        check_hits(hits, self.detector, str(self.path), self.n_written)
        if conditions.sources != self.sources or len(conditions) != n:
            raise DataError(
                f"{self.path}: {n} events need as many rates of {', '.join(self.sources)}, got "
                f"{len(conditions)} of {', '.join(conditions.sources)}"
            )
        per_event = hits.counts.sum(axis=1)
        columns: dict[str, NDArray[Any]] = {
            "index/first": self.n_hits + np.cumsum(per_event) - per_event,
            "index/counts": hits.counts.astype(np.uint32),
            **{name: getattr(conditions, name) for name in CONDITIONS},
            **{name: np.asarray(column) for name, column in (extra or {}).items()},
        }
        for name, column in columns.items():
            if len(column) != n or (name in (extra or {}) and (name in _RESERVED or "/" in name)):
                raise DataError(f"{self.path}: cannot add {len(column)} rows of {name!r} to {n} events")
        if self.n_written and (missing := {*columns} ^ self._columns):
            raise DataError(f"{self.path}: only some of the events have {', '.join(sorted(missing))}")
        self._columns = {*columns}
        with interrupts_deferred():
            self._extend(file, {f"hits/{name}": getattr(hits, name) for name in HITS}, self.n_hits)
            self._extend(file, columns)
            self.n_hits += len(hits.u)
            self.n_written += n


def write_events(
    events: PixelEvents,
    path: str | os.PathLike[str],
    *,
    compression: int = COMPRESSION,
    overwrite: bool = False,
) -> None:
    """Write events to a file in batches; see `PixelWriter`."""
    sources = events.conditions.sources
    with PixelWriter(
        path,
        events.detector,
        sources,
        provenance=events.provenance,
        compression=compression,
        overwrite=overwrite,
    ) as writer:
        writer.append_all(events)


class _StoredHits(StoredRows):
    """Hits of a file."""

    def __init__(self, path: Path, n: int, n_hits: int, detector: PixelDetector) -> None:
        super().__init__(path, n)
        self.detector, self._n_hits = detector, n_hits
        self._opened: tuple[int, h5py.File] | None = None

    def read(self, start: int, stop: int) -> PixelHits:
        """As `HitSource.read`."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), open_file(self.path, self._how)
        keep_open(self)
        file, rows = self._opened[1], slice(start, stop)
        counts = read_column(file, "index/counts", rows).astype(np.int64)
        first = read_column(file, "index/first", rows).astype(np.int64)
        per_event = counts.sum(axis=1)
        begin = int(first[0]) if stop > start else 0
        if (
            first != begin + np.cumsum(per_event) - per_event
        ).any() or begin + per_event.sum() > self._n_hits:
            raise DataError(f"{self.path}: the index of events {start} to {stop - 1} does not fit the hits")
        here = slice(begin, begin + int(per_event.sum()))
        u, v, charge = (read_column(file, f"hits/{name}", here) for name in HITS)
        hits = PixelHits(self.detector.shape, counts, u, v, charge)
        check_hits(hits, self.detector, str(self.path), start)
        return hits


def open_pixel_file(path: Path) -> PixelEvents:
    """The events of a file, whose hits are read when they are needed.

    Raises:
        DataError: it is missing, damaged, of another kind or of a later version, or inconsistent.
    """
    with open_file(path) as file:
        try:
            return _read(path, file)
        except (ConditionError, DetectorError) as error:
            raise DataError(f"{path}: {error}") from error
        except HDF5_ERRORS as error:
            if not damaged(error):
                raise
            raise DataError(f"{path}: the file is damaged ({error}); get it again") from error


def _read(path: Path, file: h5py.File) -> PixelEvents:
    if PIXEL_FORMAT not in file.attrs:
        raise DataError(
            f"{path}: this is no file of pixel events; it has {', '.join(sorted(file)) or 'nothing'}"
        )
    about = file_attributes(file)
    try:
        if int(about[PIXEL_FORMAT]) > VERSION:
            raise DataError(
                f"{path}: made by a newer caloforge (format {about[PIXEL_FORMAT]}); update caloforge"
            )
        detector = PixelDetector.from_dict(dict(parse_json(about["detector"])))
        sources = tuple(map(str, parse_json(about["sources"])))
        made = dict(parse_json(about["provenance"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CaloforgeError):
            raise
        raise DataError(f"{path}: its attributes are damaged ({error!r}); get the file again") from error
    names, ours = read_column(file, "sensors").tolist(), [sensor.name for sensor in detector.sensors]
    if names != ours:
        i = next((i for i, pair in enumerate(zip(names, ours, strict=False)) if pair[0] != pair[1]), 0)
        raise DataError(
            f"{path}: its {len(names)} sensors are not in the order of their numbers: number {i} is "
            f"{names[i] if names else 'none'} instead of {ours[i]}. Sorted as text they would be mixed up; "
            "write the file with the sensors in the order of layer, ladder and sensor."
        )
    n = (stored_in(file, "number").shape or (0,))[0]
    shapes = {"rates": (n, len(sources)), "seed": (n,), "index/counts": (n, len(ours)), "index/first": (n,)}
    for name, shape in (shapes | {"number": (n,)}).items():
        _require(file, name, shape, "iuf" if name == "rates" else "iu")
    for name in HITS:
        _require(file, f"hits/{name}", stored_in(file, "hits/u").shape[:1] or (0,), "u")
    rates, seed, number = (read_column(file, name) for name in CONDITIONS)
    extra = {name: read_column(file, name) for name in file if name not in _RESERVED}
    conditions = PixelConditions(
        sources, rates.astype(np.float64), seed.astype(np.uint64), number.astype(np.int64)
    )
    n_hits = stored_in(file, "hits/u").shape[0]
    return PixelEvents(_StoredHits(path, n, n_hits, detector), conditions, detector, made, extra)


def _require(file: h5py.File, name: str, shape: tuple[int, ...], kinds: str) -> None:
    """Raise DataError where a data set has not this shape, or holds other numbers."""
    stored = stored_in(file, name)
    if stored.shape != shape or stored.dtype.kind not in kinds:
        raise DataError(
            f"{file.filename}, data set {name!r}: shape {stored.shape} of type {stored.dtype} does not fit "
            f"the others, for which it must be {shape}; the file is incomplete"
        )
