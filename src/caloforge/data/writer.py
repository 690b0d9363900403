"""Writing showers: the CaloChallenge's HDF5 layout, plus conditions, mesh and provenance as additions.

Other readers find ``incident_energies`` (N, 1) and ``showers`` (N, V), MeV, and may ignore the rest:
``incident_theta``, ``incident_phi`` (N,) rad, ``incident_pdg`` (N,), ``incident_detector`` (N,) text,
``impact_point`` (N, 2) mm, further per-shower columns, and the attributes ``caloforge_format``, ``mesh``
and ``provenance`` (both JSON). All data sets have checksums.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, get_args

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.formats.base import FORMAT_VERSION
from caloforge.data.hdf5_writer import HDF5Writer, as_bytes
from caloforge.data.packing import COMPRESSION, PackedEnergies, inflated
from caloforge.data.showers import BATCH, Showers
from caloforge.data.sources import as_energies, check_energies
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError
from caloforge.runtime.signals import interrupts_deferred
from caloforge.runtime.structured import json_text

__all__ = ["Layout", "ShowerWriter", "write_showers"]

Layout = Literal["caloforge", "calochallenge"]
_BASIC = ("incident_energies", "showers")
_RESERVED = (*_BASIC, "incident_theta", "incident_phi", "incident_pdg", "incident_detector", "impact_point")


class ShowerWriter(HDF5Writer):
    """Appends showers to a file that appears under its name only when it is complete, see `HDF5Writer`.

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

    what: ClassVar[str] = "showers"
    packed: ClassVar[tuple[str, ...]] = ("showers",)
    batch: ClassVar[int] = BATCH

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
        super().__init__(path, provenance=provenance, compression=compression, overwrite=overwrite)
        self.mesh, self._layout = mesh, layout
        if layout not in get_args(Layout):
            raise DataError(f"layout must be one of {get_args(Layout)}, got {layout!r}")

    def _begin(self, file: h5py.File) -> None:
        if self._layout == "caloforge":
            file.attrs["caloforge_format"] = FORMAT_VERSION
            self._describe(file, "mesh", json_text(self.mesh.to_dict()))

    def _finish(self, file: h5py.File) -> None:
        if "showers" not in file:
            self.append(np.zeros((0, self.mesh.n_voxels), dtype=np.float32), Conditions([]))
        if self._layout == "caloforge":
            super()._finish(file)

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
        columns["incident_detector"] = as_bytes(conditions.detector)
        if conditions.impact is not None:
            columns["impact_point"] = conditions.impact
        for name, values in extra.items():
            column = np.asarray(values)
            if name in _RESERVED or "/" in name or column.shape[:1] != (n,):
                raise DataError(
                    f"{self.path}: cannot add column {name!r} of shape {column.shape}; it needs {n} rows and "
                    f"a name without '/' and other than {', '.join(_RESERVED)}"
                )
            columns[name] = as_bytes(column) if column.dtype.kind in "UO" else column
        if "showers" in file and {*columns, "showers"} != set(file):
            raise DataError(
                f"{self.path}: columns {sorted([*columns, 'showers'])} differ from the first ones, "
                f"{sorted(file)}"
            )
        for name, column in columns.items():
            if name in file and file[name].shape[1:] != column.shape[1:]:
                raise DataError(f"{self.path}: column {name!r} changed its shape to {column.shape}")
        return columns

    def _showers(self, file: h5py.File, n: int) -> h5py.Dataset:
        return self._longer(file, "showers", (n, self.mesh.n_voxels), np.dtype(np.float32))


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
