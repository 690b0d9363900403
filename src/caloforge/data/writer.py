"""Writing showers: the CaloChallenge's HDF5 layout, plus conditions, mesh and provenance as additions.

Other readers find ``incident_energies`` (N, 1) and ``showers`` (N, V), MeV, and may ignore the rest:
``incident_theta``, ``incident_phi`` (N,) rad, ``incident_pdg`` (N,), ``incident_detector`` (N,) text,
``impact_point`` (N, 2) mm, further per-shower columns, and the attributes ``caloforge_format``, ``mesh``
and ``provenance`` (both JSON).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.formats.hdf5 import HDF5_ERRORS
from caloforge.data.patient_file import PatientFile
from caloforge.data.showers import BATCH, Showers
from caloforge.data.sources import as_energies, check_energies
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError
from caloforge.runtime.signals import interrupts_deferred

__all__ = ["FORMAT_VERSION", "Layout", "ShowerWriter", "write_showers"]

FORMAT_VERSION = 1
CHUNK_BYTES = 1 << 20
Layout = Literal["caloforge", "calochallenge"]
_BASIC = ("incident_energies", "showers")
_RESERVED = (*_BASIC, "incident_theta", "incident_phi", "incident_pdg", "incident_detector", "impact_point")


class ShowerWriter:
    """Appends showers to a file that appears under its name only when it is complete.

    A context manager: data go to ``<path>.partial``, which is renamed at a clean exit and removed otherwise.
    Killed outright, it leaves the ``.partial``, which the next writer of that name replaces.

    Args:
        path: the file to make.
        mesh: cells of the showers.
        provenance: what makes them; JSON-able.
        compression: gzip level 0-9.
        overwrite: replace an existing file; otherwise that is a DataError.
        layout: ``"calochallenge"`` writes ``incident_energies`` and ``showers`` and nothing else.

    Raises:
        DataError: the file exists or cannot be written, the disk is full, or showers do not fit the mesh.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mesh: Mesh,
        *,
        provenance: Mapping[str, Any] | None = None,
        compression: int = 1,
        overwrite: bool = False,
        layout: Layout = "caloforge",
    ) -> None:
        self.path = Path(path)
        self.mesh = mesh
        self.provenance = dict(provenance or {})
        self.n_written = 0
        self._compression, self._overwrite, self._layout = compression, overwrite, layout
        if layout not in get_args(Layout) or compression not in range(10):
            raise DataError(
                f"layout must be one of {get_args(Layout)} and compression 0-9, got {layout!r}, {compression}"
            )
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._file: h5py.File | None = None
        self._disk: PatientFile | None = None
        self._check_target()

    def _check_target(self) -> None:
        if self.path.is_dir():
            raise DataError(f"{self.path} is a folder; give the name of a file")
        if self.path.exists() and not self._overwrite:
            raise DataError(f"{self.path} exists; choose another name or allow overwriting (--overwrite)")

    def __enter__(self) -> ShowerWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the folder {self.path.parent}: {error.strerror}") from error
        self._disk = PatientFile(self._partial)
        with interrupts_deferred():
            self._file = h5py.File(self._disk, "w")
            if self._layout == "caloforge":
                self._file.attrs["caloforge_format"] = FORMAT_VERSION
                self._file.attrs["mesh"] = json.dumps(self.mesh.to_dict())
        return self

    def append(
        self, energies: ArrayLike, conditions: Conditions, extra: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Add showers: energies (n, \\*mesh.shape) or (n, V), MeV, their n conditions and further columns.

        Raises DataError, before anything is written, where shapes, columns or energies are wrong; and where
        the disk is full, after which nothing more can be written.
        """
        if self._file is None or self._disk is None:
            raise DataError("a ShowerWriter must be used in a with statement")
        columns = self._columns(energies, conditions, extra or {})
        for start in range(0, max(1, len(conditions)), BATCH):
            part = slice(start, min(start + BATCH, len(conditions)))
            stop = self.n_written + part.stop - part.start
            with interrupts_deferred():
                for name, column in columns.items():
                    data_set = self._file[name] if name in self._file else self._create(name, column)
                    data_set.resize(stop, axis=0)
                    data_set[self.n_written :] = column[part]
                    self._raise_disk_error()
                self.n_written = stop

    def _columns(
        self, energies: ArrayLike, conditions: Conditions, extra: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        assert self._file is not None
        array, n = as_energies(energies, str(self.path)), len(conditions)
        if (
            array.ndim < 2
            or array.shape[1:] not in (self.mesh.shape, (self.mesh.n_voxels,))
            or len(array) != n
        ):
            raise DataError(f"energies of shape {array.shape} do not fit {n} conditions on the {self.mesh}")
        flat = array.reshape(n, self.mesh.n_voxels)
        check_energies(flat, str(self.path), self.n_written)
        columns: dict[str, NDArray[Any]] = {"incident_energies": conditions.energy[:, None], "showers": flat}
        if self._layout == "calochallenge":
            return columns
        columns["incident_theta"] = conditions.theta
        columns["incident_phi"] = conditions.phi
        columns["incident_pdg"] = conditions.particle
        columns["incident_detector"] = conditions.detector.astype(object)
        if conditions.impact is not None:
            columns["impact_point"] = conditions.impact
        for name, values in extra.items():
            column = np.asarray(values)
            if name in _RESERVED or "/" in name or column.shape[:1] != (n,):
                raise DataError(
                    f"{self.path}: cannot add column {name!r} of shape {column.shape}; it needs {n} rows and "
                    f"a name without '/' and other than {', '.join(_RESERVED)}"
                )
            columns[name] = column.astype(object) if column.dtype.kind == "U" else column
        if "showers" in self._file and set(columns) != set(self._file):
            raise DataError(
                f"{self.path}: columns {sorted(columns)} differ from the first ones, {sorted(self._file)}"
            )
        for name, column in columns.items():
            if name in self._file and self._file[name].shape[1:] != column.shape[1:]:
                raise DataError(f"{self.path}: column {name!r} changed its shape to {column.shape}")
        return columns

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

    def _raise_disk_error(self) -> None:
        assert self._disk is not None
        if self._disk.error is not None:
            error = self._disk.error
            raise DataError(
                f"cannot write {self._partial}: {error.strerror}; {self.n_written} showers were written. "
                "Free space or choose another place."
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        assert self._disk is not None
        disk = self._disk
        complete = False
        try:
            if kind is None and "showers" not in self._file:
                self.append(np.zeros((0, self.mesh.n_voxels), dtype=np.float32), Conditions([]))
            with interrupts_deferred():
                if kind is None and self._layout == "caloforge":
                    self.provenance["n_showers"] = self.n_written
                    self._file.attrs["provenance"] = json.dumps(self.provenance, default=str)
                try:
                    self._file.close()
                except HDF5_ERRORS:
                    if disk.error is None:
                        raise
            if kind is None:
                self._raise_disk_error()
                disk.sync()
                complete = True
                if self.path.exists() and not self._overwrite:
                    raise DataError(
                        f"{self.path} was made by someone else meanwhile; the showers are in {self._partial}"
                    )
                self._partial.replace(self.path)
        except OSError as problem:
            raise DataError(f"cannot write {self.path}: {problem}; is the disk full?") from problem
        finally:
            self._file = self._disk = None
            disk.close()
            if not complete:
                self._partial.unlink(missing_ok=True)


def write_showers(
    showers: Showers,
    path: str | os.PathLike[str],
    *,
    compression: int = 1,
    overwrite: bool = False,
    layout: Layout = "caloforge",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write showers to a file in slices, so that they need not fit in memory; see `ShowerWriter`.

    ``progress`` is called with the number written and the number in all.
    """
    writer = ShowerWriter(
        path,
        showers.mesh,
        provenance=showers.provenance,
        compression=compression,
        overwrite=overwrite,
        layout=layout,
    )
    with writer:
        for start in range(0, max(1, len(showers)), BATCH):
            stop = min(start + BATCH, len(showers))
            extra = {name: column[start:stop] for name, column in showers.extra.items()}
            writer.append(showers.read(start, stop), showers.conditions[start:stop], extra)
            if progress is not None:
                progress(stop, len(showers))
