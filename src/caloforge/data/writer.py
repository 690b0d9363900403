"""Writing showers: the CaloChallenge's HDF5 layout, plus conditions, mesh and provenance as additions.

Other readers find ``incident_energies`` (N, 1) and ``showers`` (N, V), MeV, and may ignore the rest:
``incident_theta``, ``incident_phi`` (N,) rad, ``incident_pdg`` (N,), ``incident_detector`` (N,) text,
``impact_point`` (N, 2) mm, further per-shower columns, and the attributes ``caloforge_format``, ``mesh``
and ``provenance`` (both JSON). All data sets have checksums.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.formats.base import FORMAT_VERSION
from caloforge.data.formats.hdf5 import HDF5_ERRORS, access_through
from caloforge.data.packing import COMPRESSION, PackedEnergies, chunk_rows, inflated
from caloforge.data.patient_file import PatientFile
from caloforge.data.showers import BATCH, Showers
from caloforge.data.sources import as_energies, check_energies
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError
from caloforge.runtime.files import output_file, plain
from caloforge.runtime.locks import file_lock
from caloforge.runtime.signals import interrupts_deferred

__all__ = ["Layout", "ShowerWriter", "write_showers"]

Layout = Literal["caloforge", "calochallenge"]
_BASIC = ("incident_energies", "showers")
_RESERVED = (*_BASIC, "incident_theta", "incident_phi", "incident_pdg", "incident_detector", "impact_point")


class ShowerWriter:
    """Appends showers to a file that appears under its name only when it is complete.

    A context manager: data go to ``<path>.partial``, which is renamed at a clean exit and removed otherwise.
    Killed outright, it leaves the ``.partial``, which the next writer of that name replaces. One process at a
    time writes to a name.

    Args:
        path: the file to make, or a link to it.
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
        compression: int = COMPRESSION,
        overwrite: bool = False,
        layout: Layout = "caloforge",
    ) -> None:
        self.path = output_file(path)
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
        self._held, self._complete = ExitStack(), False
        self._check_target()

    def _check_target(self) -> None:
        if self.path.exists() and not self._overwrite:
            raise DataError(f"{self.path} exists; choose another name or allow overwriting (--overwrite)")

    def __enter__(self) -> ShowerWriter:
        with ExitStack() as stack:
            stack.enter_context(file_lock(self.path))
            self._check_target()  # another process may have been faster
            stack.callback(self._drop_partial)
            self._disk = PatientFile(self._partial)
            stack.callback(self._disk.close)
            with interrupts_deferred():
                self._file = _new_file(self._partial, self._disk)
                if self._layout == "caloforge":
                    self._file.attrs["caloforge_format"] = FORMAT_VERSION
                    self._describe(self._file, "mesh", json.dumps(self.mesh.to_dict()))
            self._held = stack.pop_all()
        return self

    def _drop_partial(self) -> None:
        if not self._complete:
            self._partial.unlink(missing_ok=True)

    def append(
        self, energies: ArrayLike, conditions: Conditions, extra: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Add showers: energies (n, \\*mesh.shape) or (n, V), MeV, their n conditions and further columns.

        Raises DataError, before anything is written, where shapes, columns or energies are wrong; and where
        the disk is full, after which nothing more can be written.
        """
        file, flat = self._opened(), self._checked(energies, len(conditions))
        columns = self._columns(conditions, extra or {})
        for start in range(0, max(1, len(conditions)), BATCH):
            part = slice(start, min(start + BATCH, len(conditions)))
            with interrupts_deferred():
                self._extend(file, {name: column[part] for name, column in columns.items()})
                self._write(self._showers(file, len(flat[part])), self.n_written, flat[part])
                self.n_written += part.stop - part.start

    def append_all(self, showers: Showers, progress: Callable[[int, int], None] | None = None) -> None:
        """Add showers in slices, so that they need not fit in memory.

        ``progress`` is called with the number written and the number in all.
        """
        for start in range(0, max(1, len(showers)), BATCH):
            stop = min(start + BATCH, len(showers))
            extra = {name: column[start:stop] for name, column in showers.extra.items()}
            self.append(showers.read(start, stop), showers.conditions[start:stop], extra)
            if progress is not None:
                progress(stop, len(showers))

    def append_packed(
        self,
        energies: PackedEnergies,
        conditions: Conditions,
        extra: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """As `append`, for energies that are checked and compressed: full chunks are moved as they are."""
        file, n = self._opened(), len(conditions)
        if energies.n_voxels != self.mesh.n_voxels or len(energies) != n:
            raise DataError(
                f"{len(energies)} showers of {energies.n_voxels} voxels do not fit {n} conditions on the "
                f"{self.mesh}"
            )
        columns, at = self._columns(conditions, extra or {}), self.n_written
        with interrupts_deferred():
            self._extend(file, columns)
            stored = self._showers(file, n)
            for rows, block in energies.blocks():
                if rows == stored.chunks[0] and at % rows == 0:
                    stored.id.write_direct_chunk((at, 0), block)
                    self._raise_disk_error()
                else:
                    self._write(stored, at, inflated(block, rows, energies.n_voxels))
                at += rows
            self.n_written = at

    def _opened(self) -> h5py.File:
        if self._file is None:
            raise DataError("a ShowerWriter must be used in a with statement")
        return self._file

    def _checked(self, energies: ArrayLike, n: int) -> NDArray[np.float32]:
        """Energies (n, V) that fit the mesh and are legal."""
        array = as_energies(energies, str(self.path))
        if (
            array.ndim < 2
            or array.shape[1:] not in (self.mesh.shape, (self.mesh.n_voxels,))
            or len(array) != n
        ):
            raise DataError(f"energies of shape {array.shape} do not fit {n} conditions on the {self.mesh}")
        flat = array.reshape(n, self.mesh.n_voxels)
        check_energies(flat, str(self.path), self.n_written)
        return flat

    def _columns(self, conditions: Conditions, extra: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All columns but the showers."""
        file, n = self._opened(), len(conditions)
        columns: dict[str, NDArray[Any]] = {"incident_energies": conditions.energy[:, None]}
        if self._layout == "calochallenge":
            return columns
        columns["incident_theta"] = conditions.theta
        columns["incident_phi"] = conditions.phi
        columns["incident_pdg"] = conditions.particle
        columns["incident_detector"] = _as_bytes(conditions.detector)
        if conditions.impact is not None:
            columns["impact_point"] = conditions.impact
        for name, values in extra.items():
            column = np.asarray(values)
            if name in _RESERVED or "/" in name or column.shape[:1] != (n,):
                raise DataError(
                    f"{self.path}: cannot add column {name!r} of shape {column.shape}; it needs {n} rows and "
                    f"a name without '/' and other than {', '.join(_RESERVED)}"
                )
            columns[name] = _as_bytes(column) if column.dtype.kind in "UO" else column
        if "showers" in file and {*columns, "showers"} != set(file):
            raise DataError(
                f"{self.path}: columns {sorted([*columns, 'showers'])} differ from the first ones, "
                f"{sorted(file)}"
            )
        for name, column in columns.items():
            if name in file and file[name].shape[1:] != column.shape[1:]:
                raise DataError(f"{self.path}: column {name!r} changed its shape to {column.shape}")
        return columns

    def _extend(self, file: h5py.File, columns: Mapping[str, NDArray[Any]]) -> None:
        for name, column in columns.items():
            self._write(self._longer(file, name, column.shape, column.dtype), self.n_written, column)

    def _showers(self, file: h5py.File, n: int) -> h5py.Dataset:
        return self._longer(file, "showers", (n, self.mesh.n_voxels), np.dtype(np.float32))

    def _longer(
        self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> h5py.Dataset:
        """The data set with room for (n, ...) more rows."""
        data_set = file[name] if name in file else self._create(file, name, shape[1:], dtype)
        if dtype.kind == "S" and dtype.itemsize > data_set.dtype.itemsize:  # a text longer than all before
            before = data_set[: self.n_written]
            del file[name]
            data_set = self._create(file, name, shape[1:], dtype)
            data_set.resize(self.n_written, axis=0)
            self._write(data_set, 0, before)
        data_set.resize(self.n_written + shape[0], axis=0)
        return data_set

    def _write(self, data_set: h5py.Dataset, start: int, rows: NDArray[Any]) -> None:
        if data_set.dtype.kind == "S":
            rows = rows.astype(data_set.dtype)  # which says that they are UTF-8
        data_set[start : start + len(rows)] = rows
        self._raise_disk_error()

    def _create(self, file: h5py.File, name: str, row: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
        row_bytes = max(1, int(np.prod(row))) * max(1, dtype.itemsize)
        packed = {"compression": "gzip", "compression_opts": self._compression, "shuffle": True}
        return file.create_dataset(
            name,
            shape=(0, *row),
            maxshape=(None, *row),
            dtype=h5py.string_dtype(length=dtype.itemsize) if dtype.kind == "S" else dtype,
            chunks=(chunk_rows(row_bytes), *row),
            **(packed if name == "showers" else {"fletcher32": True}),  # gzip has a checksum of its own
        )

    @staticmethod
    def _describe(file: h5py.File, name: str, text: str) -> None:
        """Set an attribute, of a fixed length: texts of any length have no checksum in HDF5."""
        content = text.encode()
        file.attrs.create(name, content, dtype=h5py.string_dtype(length=len(content)))

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
        try:
            if kind is None and "showers" not in self._file:
                self.append(np.zeros((0, self.mesh.n_voxels), dtype=np.float32), Conditions([]))
            with interrupts_deferred():
                if kind is None and self._layout == "caloforge":
                    self.provenance["n_showers"] = self.n_written
                    self._describe(self._file, "provenance", json.dumps(self.provenance, default=plain))
                try:
                    self._file.close()
                except HDF5_ERRORS:
                    if disk.error is None:
                        raise
            if kind is None:
                self._raise_disk_error()
                disk.sync()
                self._complete = True
                if self.path.exists() and not self._overwrite:
                    raise DataError(
                        f"{self.path} was made by someone else meanwhile; the showers are in {self._partial}"
                    )
                self._partial.replace(self.path)
        except OSError as problem:
            raise DataError(f"cannot write {self.path}: {problem}; is the disk full?") from problem
        finally:
            self._file = self._disk = None
            self._held.close()


def _new_file(path: Path, disk: PatientFile) -> h5py.File:
    """A file without times, for HDF5 1.10 and later, with checksums of names and places, too."""
    access, creation = access_through(disk), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    creation.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access))


def _as_bytes(texts: NDArray[Any]) -> NDArray[np.bytes_]:
    """Texts as UTF-8, all of one length, so that checksums cover them."""
    encoded = np.char.encode(texts.astype(np.str_), "utf-8")
    return encoded.astype(np.bytes_).reshape(texts.shape)  # older numpy makes other arrays of empty ones


def write_showers(
    showers: Showers,
    path: str | os.PathLike[str],
    *,
    compression: int = COMPRESSION,
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
        writer.append_all(showers, progress)
