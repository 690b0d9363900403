"""Writing showers: the CaloChallenge's HDF5 layout, plus conditions, mesh and provenance as additions.

Other readers find ``incident_energies`` (N, 1) and ``showers`` (N, V), MeV, and may ignore the rest:
``incident_theta``, ``incident_phi`` (N,) rad, ``incident_pdg`` (N,), ``incident_detector`` (N,) text,
``impact_point`` (N, 2) mm, further per-shower columns, and the attributes ``caloforge_format``, ``mesh``
and ``provenance`` (both JSON).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.showers import BATCH, Showers, check_energies
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError

__all__ = ["FORMAT_VERSION", "ShowerWriter", "write_showers"]

FORMAT_VERSION = 1
CHUNK_BYTES = 1 << 20


class ShowerWriter:
    """Appends showers to a file that appears under its name only when it is complete.

    A context manager: data go to ``<path>.partial``, which is renamed at a clean exit and removed otherwise.

    Args:
        path: the file to make.
        mesh: cells of the showers.
        provenance: what makes them; JSON-able.
        compression: gzip level 0-9.
        overwrite: replace an existing file; otherwise that is a DataError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mesh: Mesh,
        *,
        provenance: Mapping[str, Any] | None = None,
        compression: int = 1,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.mesh = mesh
        self._compression = compression
        if self.path.exists() and not overwrite:
            raise DataError(f"{self.path} exists; choose another name or allow overwriting (--overwrite)")
        if self.path.is_dir():
            raise DataError(f"{self.path} is a folder; give the name of a file")
        self._partial = self.path.with_name(self.path.name + ".partial")
        self.provenance = dict(provenance or {})
        self._file: h5py.File | None = None
        self.n_written = 0

    def __enter__(self) -> ShowerWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = h5py.File(self._partial, "w")
        except OSError as error:
            raise DataError(f"cannot write {self._partial}: {error}") from error
        self._file.attrs["caloforge_format"] = FORMAT_VERSION
        self._file.attrs["mesh"] = json.dumps(self.mesh.to_dict())
        return self

    def append(
        self, energies: ArrayLike, conditions: Conditions, extra: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Add showers: energies (n, \\*mesh.shape) or (n, V), MeV, and their n conditions."""
        if self._file is None:
            raise DataError("a ShowerWriter must be used in a with statement")
        array = np.asarray(energies, dtype=np.float32)
        if array.shape[1:] not in (self.mesh.shape, (self.mesh.n_voxels,)) or len(array) != len(conditions):
            raise DataError(
                f"energies of shape {array.shape} do not fit {len(conditions)} conditions on the {self.mesh}"
            )
        flat = array.reshape(len(array), self.mesh.n_voxels)
        check_energies(flat, str(self.path), self.n_written)
        columns: dict[str, NDArray[Any]] = {
            "incident_energies": conditions.energy[:, None],
            "showers": flat,
            "incident_theta": conditions.theta,
            "incident_phi": conditions.phi,
            "incident_pdg": conditions.particle,
            "incident_detector": conditions.detector.astype(object),
        }
        if conditions.impact is not None:
            columns["impact_point"] = conditions.impact
        columns |= extra or {}
        try:
            if self.n_written and set(columns) != set(self._file):
                raise DataError(
                    f"columns {sorted(columns)} differ from those already written, {sorted(self._file)}"
                )
            for name, column in columns.items():
                data_set = self._file[name] if name in self._file else self._create(name, column)
                data_set.resize(self.n_written + len(flat), axis=0)
                data_set[self.n_written :] = column
        except OSError as error:
            raise DataError(f"cannot write {self._partial}: {error}; is the disk full?") from error
        self.n_written += len(flat)

    def _create(self, name: str, column: NDArray[Any]) -> h5py.Dataset:
        assert self._file is not None
        dtype = h5py.string_dtype() if column.dtype == object else column.dtype
        row_bytes = max(1, int(np.prod(column.shape[1:]))) * max(1, column.dtype.itemsize)
        rows = int(np.clip(CHUNK_BYTES // row_bytes, 1, 4096))
        packed = {"compression": "gzip", "compression_opts": self._compression, "shuffle": True}
        return self._file.create_dataset(
            name,
            shape=(0, *column.shape[1:]),
            maxshape=(None, *column.shape[1:]),
            dtype=dtype,
            chunks=(rows, *column.shape[1:]),
            **(packed if name == "showers" else {}),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        assert file is not None
        try:
            if kind is None:
                self.provenance.setdefault("n_showers", self.n_written)
                file.attrs["provenance"] = json.dumps(self.provenance, default=str)
            file.close()
            if kind is None:
                with self._partial.open("rb") as written:
                    os.fsync(written.fileno())
                self._partial.replace(self.path)
        except OSError as problem:
            self._partial.unlink(missing_ok=True)
            raise DataError(f"cannot write {self.path}: {problem}; is the disk full?") from problem
        if kind is not None:
            self._partial.unlink(missing_ok=True)


def write_showers(
    showers: Showers, path: str | os.PathLike[str], *, compression: int = 1, overwrite: bool = False
) -> None:
    """Write showers to a file in slices, so that they need not fit in memory."""
    writer = ShowerWriter(
        path, showers.mesh, provenance=showers.provenance, compression=compression, overwrite=overwrite
    )
    with writer:
        start = 0
        for energies, conditions in showers.batches(BATCH):
            stop = start + len(conditions)
            writer.append(
                energies, conditions, {name: col[start:stop] for name, col in showers.extra.items()}
            )
            start = stop
        if not len(showers):
            writer.append(showers.energies, showers.conditions, showers.extra)
