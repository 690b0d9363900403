"""Writing point clouds for the package showerdata, see `caloforge.data.formats.showerdata`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.exports.base import EXPORTS
from caloforge.data.formats.showerdata import GEV, VERSION
from caloforge.data.hdf5_writer import HDF5Writer
from caloforge.data.showers import BATCH, Showers
from caloforge.runtime.structured import json_text

__all__ = ["CloudWriter", "write_clouds"]

log = logging.getLogger(__name__)
ROWS = 256
"""Showers of a chunk."""


class CloudWriter(HDF5Writer):
    """Appends showers as the centres of their cells with energy, mm and GeV.

    Args:
        path: the file to make.
        showers: that will be written.
        provenance: what makes them.
        overwrite: replace an existing file.
    """

    what: ClassVar[str] = "showers"
    batch: ClassVar[int] = BATCH

    def __init__(
        self,
        path: str | os.PathLike[str],
        showers: Showers,
        *,
        provenance: Mapping[str, Any],
        overwrite: bool = False,
    ) -> None:
        super().__init__(path, provenance=provenance, overwrite=overwrite)
        self.mesh, self.most = showers.mesh, 0
        voxels = np.arange(self.mesh.n_voxels)
        self._points = self.mesh.points(voxels, np.full((len(voxels), 3), 0.5)).astype(np.float32)
        detectors = sorted(set(showers.conditions.detector.tolist()))
        self._detector = detectors[0] if len(detectors) == 1 else ""
        left_out = [*showers.extra, *(["impact points"] if showers.conditions.impact is not None else [])]
        left_out += ["names of detectors"] if len(detectors) > 1 else []
        if left_out:
            log.warning("%s: point clouds have no place for %s", path, ", ".join(left_out))

    def _begin(self, file: h5py.File) -> None:
        file.attrs["showerdata_version"] = VERSION
        self._describe(file, "caloforge_mesh", json_text(self.mesh.to_dict()))
        self._describe(file, "caloforge_detector", self._detector or " ")
        clouds = h5py.vlen_dtype(np.dtype(np.float32))
        file.create_dataset("showers", (0,), maxshape=(None,), dtype=clouds, chunks=(ROWS,))

    def _finish(self, file: h5py.File) -> None:
        file.create_dataset("shape", data=np.array([self.n_written, self.most, 4], dtype=np.int64))
        super()._finish(file)

    def append(
        self, rows: NDArray[np.float32], conditions: Conditions, extra: Mapping[str, Any] | None = None
    ) -> None:
        """Add showers: energies (n, \\*mesh.shape), MeV, and their conditions."""
        file, n = self._opened(), len(conditions)
        flat, clouds = rows.reshape(n, self.mesh.n_voxels), np.empty(n, dtype=object)
        for i, energies in enumerate(flat):
            cells = np.flatnonzero(energies)
            clouds[i] = (
                np.column_stack([self._points[cells], energies[cells] / GEV]).astype(np.float32).ravel()
            )
        sizes = np.count_nonzero(flat, axis=1).astype(np.int32)
        self.most = max(self.most, int(sizes.max(initial=0)))
        sine = np.sin(conditions.theta)
        direction = (sine * np.cos(conditions.phi), sine * np.sin(conditions.phi), np.cos(conditions.theta))
        columns = {
            "energies": (conditions.energy[:, None] / GEV).astype(np.float32),
            "directions": np.stack(direction, axis=1).astype(np.float32),
            "pdg": conditions.particle,
            "shower_ids": np.arange(self.n_written, self.n_written + n, dtype=np.int32),
            "num_points": sizes,
        }
        self._extend(file, columns)
        stored = file["showers"]
        stored.resize(self.n_written + n, axis=0)
        if n:
            stored[self.n_written :] = clouds
        self._raise_disk_error()
        self.n_written += n


@EXPORTS.add("showerdata")
def write_clouds(
    showers: Showers,
    path: Path,
    *,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the centres of cells with energy, in slices."""
    with CloudWriter(path, showers, provenance=provenance, overwrite=overwrite) as writer:
        writer.append_all(showers, progress)
