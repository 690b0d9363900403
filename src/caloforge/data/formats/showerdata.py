"""The files of the package showerdata: point clouds (x, y, z, E) or (x, y, z, E, t), mm and GeV.

``showers`` (N,) has the points of each shower, one after the other; ``shape`` says how many numbers a point
has. Points of a shower lie in the coordinates of the mesh; those outside are left out. Written are the
centres of cells with energy, and the mesh as an attribute, by which such a file is read again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.formats.base import FORMATS, FileFormat
from caloforge.data.formats.hdf5 import HDF5Source, file_attributes, read_column, read_condition
from caloforge.data.formats.sliced import on_cells
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.errors import DataError, MeshError
from caloforge.runtime.structured import parse_json

__all__ = ["GEV", "VERSION", "ShowerDataFile"]

GEV = 1000.0
COLUMNS = {"showers", "energies", "directions", "pdg", "shape", "num_points"}
VERSION = "0.7.0"
"""Of the package whose files these are."""


@FORMATS.add("showerdata")
class ShowerDataFile(FileFormat):
    """Point clouds."""

    name: ClassVar[str] = "showerdata"
    order: ClassVar[int] = 35

    def matches(self, file: h5py.File) -> bool:
        """True for files with all data sets of the package."""
        return set(file) >= COLUMNS

    def read(self, path: Path, file: h5py.File, mesh: Mesh | None, ignore: tuple[str, ...]) -> Showers:
        """Showers on the cells of the mesh, in MeV."""
        attributes = file_attributes(file)
        mesh = _mesh(path, attributes.get("caloforge_mesh"), mesh)
        n = len(file["showers"])
        energy = read_condition(file, "energies", n, unit="GeV", scale=GEV, positive=True)
        direction, shape = read_column(file, "directions").astype(np.float64), read_column(file, "shape")
        if direction.shape != (n, 3) or shape.shape != (3,) or shape[2] not in (4, 5):
            raise DataError(
                f"{path}: directions of shape {direction.shape} and points of shape {shape.tolist()}; (N, 3) "
                "and (N, points, 4 or 5) are needed"
            )
        length = np.linalg.norm(direction, axis=1)
        theta = np.arccos(np.clip(direction[:, 2] / np.where(length > 0, length, 1), -1, 1))
        phi = np.arctan2(direction[:, 1], direction[:, 0])
        detector = str(attributes.get("caloforge_detector", "")).strip()
        conditions = Conditions(energy, theta, phi, read_column(file, "pdg").reshape(-1), detector)
        cells = mesh

        def convert(stored: NDArray[Any]) -> NDArray[np.float32]:
            clouds = [np.asarray(cloud, dtype=np.float64).reshape(-1, shape[2]) for cloud in stored]
            points = np.concatenate([np.empty((0, shape[2])), *clouds])
            row = np.repeat(np.arange(len(clouds)), [len(cloud) for cloud in clouds])
            cell = cells.index(points[:, :3])
            inside = cell >= 0
            energies = GEV * points[inside, 3]
            return on_cells(path, row[inside], cell[inside], energies, (len(clouds), cells.n_voxels))

        provenance: dict[str, Any] = {"file": path.name, "layout": self.name, "attributes": attributes}
        provenance["assumed"] = {"unit": "GeV", "coordinates": f"of the {cells}"}
        return Showers(HDF5Source(path, "showers", n, convert), conditions, cells, provenance)


def _mesh(path: Path, told: object, given: Mesh | None) -> Mesh:
    if told is None or given is not None:
        if given is None:
            raise DataError(
                f"{path}: point clouds do not say what cells there are; give the mesh (mesh=..., --mesh)"
            )
        return given
    try:
        return mesh_from_dict(parse_json(str(told)))
    except (MeshError, ValueError) as error:
        raise DataError(f"{path}, attribute 'caloforge_mesh': {error}") from error
