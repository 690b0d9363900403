"""What was learnt of the showers of a sample, or of a part of it, in an HDF5 file: a `Reading` without cells.

Who makes a part of a production reads it where it is. The files of all parts together are what reading the
whole would have given, but for the rounding of sums. Of each shower they hold conditions, features, further
observables, a fingerprint, how many cells are in each bin of energy, and the cells in which the reference is
brightest; of all of them sums. The reference comes first, since it decides about bins and cells.

Legend: ``N`` showers, ``D`` observables, ``B`` bins, ``K`` cells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.data.formats.hdf5 import file_attributes, open_file, read_column, read_condition, require_shape
from caloforge.data.hdf5_writer import HDF5Writer, as_bytes
from caloforge.data.sources import Energies
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.errors import CaloforgeError, DataError
from caloforge.evaluation.features import FeatureMaker, Features
from caloforge.evaluation.reading import Reading, Scales
from caloforge.evaluation.tables import MEMORY_LIMIT
from caloforge.runtime.shards import Shard
from caloforge.runtime.structured import json_text, parse_json

__all__ = ["FORMAT", "GEANT4_SECONDS", "NoCells", "Stored", "empty_reading", "has_cells", "write_reading"]

FORMAT = "caloforge_features"
VERSION = 1
"""Raised when anything that is stored changes its meaning."""
ROWS = 4096
GEANT4_SECONDS = "geant4_cpu_seconds"
OF_A_PART = ("n", "first", "conditions", "shard", "chunk", "batch_size")
"""What differs in the descriptions of parts of one production."""


class NoCells:
    """In the place of the cells of n showers that are not there; a source of `Showers`."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def read(self, start: int, stop: int) -> Energies:
        """Raises DataError, as `take` does."""
        return self.take(np.arange(start, stop))

    def take(self, index: NDArray[np.int64]) -> Energies:
        raise DataError("files of features hold no cells; name the files of the showers, too")


def has_cells(showers: Showers) -> bool:
    """Whether more than features is known of the showers."""
    return not isinstance(showers.source, NoCells)


class _Writer(HDF5Writer):
    """Writes blocks of showers and, at the end, sums."""

    what: ClassVar[str] = "showers"

    def write(self, reading: Reading, told: Mapping[str, Any]) -> None:
        """Write everything."""
        file = self._opened()
        file.attrs[FORMAT] = VERSION
        for name, value in told.items():
            self._describe(file, name, json_text(value))
        columns, observables = _columns(reading), list(reading.columns.columns().values())
        self.packed = ("observables", *columns)  # type: ignore[misc]
        for start in range(0, max(1, len(reading.showers)), ROWS):
            block = {name: values[start : start + ROWS] for name, values in columns.items()}
            n = len(block["e_total"])
            block["observables"] = np.array([c[start : start + ROWS] for c in observables]).reshape(-1, n).T
            self._extend(file, block)
            self.n_written += n
        for name, values in (_fixed(reading) | _sums(reading)).items():
            file.create_dataset(name, data=values)
            self._raise_disk_error()


def write_reading(reading: Reading, path: Path, *, role: str, overwrite: bool = False) -> None:
    """Write what was learnt; ``reading`` must have kept its brightest cells of all showers.

    Args:
        reading: of a sample or a part of it.
        path: an HDF5 file.
        role: "reference" or "generated".
        overwrite: replace a file that is there; otherwise that is a DataError.
    """
    showers = reading.showers
    told = {
        "mesh": showers.mesh.to_dict(),
        "role": role,
        "reference": _mark(showers.mesh, reading.scales),
        "part": _part(showers),
        "observables": list(reading.columns.columns()),
    }
    with _Writer(path, provenance=showers.provenance, overwrite=overwrite) as writer:
        writer.write(reading, told)


def _mark(mesh: Mesh, scales: Scales) -> str:
    """Sixteen hexadecimal digits that differ where cells are counted or kept otherwise."""
    digest = hashlib.sha256(f"{mesh.fingerprint} {scales.depth_mm!r}".encode())
    for values in (scales.edges, scales.cells):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


def _part(showers: Showers) -> dict[str, Any]:
    """Of which production the showers are, as far as their provenance tells, and which part of it."""
    told = showers.provenance.get("request", showers.provenance.get("settings"))
    if showers.provenance.get("action") not in ("generate", "simulate") or not isinstance(told, Mapping):
        return {"made": "", "shard": ""}
    settings = showers.provenance.get("settings")
    shard = settings.get("shard", "1/1") if isinstance(settings, Mapping) else "1/1"
    made = json_text({name: value for name, value in told.items() if name not in OF_A_PART})
    return {"made": hashlib.sha256(made.encode()).hexdigest()[:16], "shard": str(shard)}


def _columns(reading: Reading) -> dict[str, NDArray[Any]]:
    """What is stored of every shower, but for observables."""
    conditions = reading.showers.conditions
    columns: dict[str, NDArray[Any]] = {
        "incident_energies": conditions.energy,
        "incident_theta": conditions.theta,
        "incident_phi": conditions.phi,
        "incident_pdg": conditions.particle,
        "incident_detector": as_bytes(conditions.detector),
        **_feature_columns(reading.features),
        "fingerprint": reading.prints.values,
        "cell_counts": reading.counts.per_shower,
        "brightest": reading.brightest.shares,
    }
    if conditions.impact is not None:
        columns["impact_point"] = conditions.impact
    if GEANT4_SECONDS in reading.showers.extra:
        columns[GEANT4_SECONDS] = reading.showers.extra[GEANT4_SECONDS]
    return columns


def _feature_columns(features: Features) -> dict[str, NDArray[np.float64]]:
    """The arrays that features consist of, but for the incident energy."""
    return {
        "e_total": features.e_total,
        "e_layer": features.e_layer,
        "sparsity": features.sparsity,
        **{f"centre_{axis}": values for axis, values in features.centre.items()},
        **{f"width_{axis}": values for axis, values in features.width.items()},
    }


def _fixed(reading: Reading) -> dict[str, NDArray[Any]]:
    """What is no sum."""
    scales, span = reading.scales, reading.span
    return {
        "depth": np.array([scales.depth_mm]),
        "edges": scales.edges,
        "cells": scales.cells,
        "span": np.array([span.smallest, span.largest, span.limit]),
        "hits": np.array([span.hits]),
        "lowest": span.lowest,
    }


def _sums(reading: Reading) -> dict[str, NDArray[np.float64]]:
    """Sums over showers, to be read or added to."""
    found = {f"mean/{name}": values for name, values in reading.mean.totals().items()}
    found |= {f"sums/{name}": values for name, values in reading.sums.totals().items()}
    return found | {"sums/outside": reading.counts.n_outside}


class Stored:
    """A file of `write_reading`.

    Attributes:
        path: the file.
        mesh, conditions, provenance: of the showers.
        role: "reference" or "generated".
        scales: by which cells were counted; ``reference`` is their mark.
        made: of which production the showers are, "" where that is not known.
        shard: which part of it.
        seconds: CPU time of Geant4, (N,), where it is known.

    Raises:
        DataError: it is something else, damaged, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_file(path) as file:
            told = file_attributes(file)
            if FORMAT not in told:
                raise DataError(f"{path}: not a file of features (caloforge evaluate --features-out)")
            if told[FORMAT] != VERSION:
                raise DataError(f"{path}: features of version {told[FORMAT]}, not {VERSION}; make them anew")
            try:
                names = ("mesh", "role", "reference", "part", "observables", "provenance")
                mesh, self.role, self.reference, part, self._names, self.provenance = (
                    parse_json(told[name]) for name in names
                )
                self.mesh = mesh_from_dict(mesh)
                self.made, self.shard = str(part["made"]), Shard.parse(part["shard"] or None)
                self.conditions = self._conditions(file)
                depth, edges, cells = (read_column(file, name) for name in ("depth", "edges", "cells"))
                self.scales = Scales(float(depth[0]), edges, cells)
                self.seconds = read_column(file, GEANT4_SECONDS) if GEANT4_SECONDS in file else None
                self.prints = read_column(file, "fingerprint")
            except (KeyError, TypeError, ValueError, IndexError, CaloforgeError) as error:
                raise DataError(f"{path}: damaged features ({error}); make them anew") from error

    def __len__(self) -> int:
        return len(self.conditions)

    def showers(self) -> Showers:
        """The showers, without their cells."""
        extra = {} if self.seconds is None else {GEANT4_SECONDS: self.seconds}
        return Showers(NoCells(len(self)), self.conditions, self.mesh, self.provenance, extra)

    def _conditions(self, file: h5py.File) -> Conditions:
        n = require_shape(file, "incident_energies", (), "showers")
        energy = read_condition(file, "incident_energies", n, unit="MeV", positive=True)
        theta, phi = (read_condition(file, f"incident_{name}", n, unit="rad") for name in ("theta", "phi"))
        impact = read_column(file, "impact_point") if "impact_point" in file else None
        particle, detector = (read_column(file, f"incident_{name}") for name in ("pdg", "detector"))
        return Conditions(energy, theta, phi, particle, detector, impact)

    def add_to(self, reading: Reading, start: int) -> None:
        """Put everything into a reading of more showers, from number ``start`` on."""
        with open_file(self.path) as file:
            for first in range(0, len(self), ROWS):
                self._add_rows(file, reading, slice(first, min(first + ROWS, len(self))), start)
            smallest, largest, limit = self._column(file, "span", (3,))
            span = reading.span
            span.limit = min(span.limit, float(limit))
            lowest, hits = read_column(file, "lowest"), int(self._column(file, "hits", (1,))[0])
            span.add(lowest, np.array([smallest, largest]), hits)
            for name, total in _sums(reading).items():
                total += self._column(file, name, total.shape)
        reading.mean.n += len(self)
        reading.sums.n += len(self)

    def _add_rows(self, file: h5py.File, reading: Reading, rows: slice, start: int) -> None:
        n, place = rows.stop - rows.start, slice(start + rows.start, start + rows.stop)
        reading.features.incident_energy[place] = self.conditions.energy[rows]
        for name, values in _feature_columns(reading.features).items():
            values[place] = self._column(file, name, (n, *values.shape[1:]), rows)
        observables = self._column(file, "observables", (n, len(self._names)), rows)
        reading.columns.append(dict(zip(self._names, observables.T, strict=True)))
        reading.prints.add(self.prints[rows])
        bins, cells = len(self.scales.edges) - 1, len(self.scales.cells)
        reading.counts.add_counted(self._column(file, "cell_counts", (n, bins), rows), np.zeros(2))
        kept = reading.brightest.rows(place.start)
        shares = self._column(file, "brightest", (n, cells), rows)
        reading.brightest.keep(shares[kept], self.conditions.energy[rows][kept])

    def _column(
        self, file: h5py.File, name: str, shape: tuple[int, ...], rows: slice = slice(None)
    ) -> NDArray[Any]:
        values = read_column(file, name, rows)
        if values.shape != shape:
            raise DataError(f"{self.path}, data set {name!r}: shape {values.shape}, expected {shape}")
        return values


def empty_reading(showers: Showers, scales: Scales) -> Reading:
    """A reading of showers, to which `Stored.add_to` adds what is known of them."""
    reading = Reading(showers, scales.depth_mm, scales)
    reading.features = FeatureMaker(showers.mesh).empty(len(showers), MEMORY_LIMIT)
    return reading
