"""The layout of the CaloChallenge, with caloforge's additions where they are present."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from caloforge.data.conditions import Conditions
from caloforge.data.formats.hdf5 import HDF5Source, read_column
from caloforge.data.showers import Showers
from caloforge.detector.calochallenge import calochallenge_mesh
from caloforge.detector.mesh import Mesh, mesh_from_dict
from caloforge.errors import DataError

__all__ = ["matches", "read"]

_BY_SIZE = {368: "1-photons", 533: "1-pions", 6480: "2", 40500: "3"}
_KNOWN = {
    "incident_energies", "showers", "incident_theta", "incident_phi", "incident_pdg", "incident_detector",
    "impact_point",
}  # fmt: skip


def matches(file: h5py.File) -> bool:
    """True for files with ``incident_energies`` (N, 1) and ``showers`` (N, V)."""
    return "incident_energies" in file and "showers" in file and file["showers"].ndim == 2


def read(path: Path, file: h5py.File, mesh: Mesh | None) -> Showers:
    """Showers of a CaloChallenge or caloforge file; the mesh follows from the file or the number of voxels."""
    stored = file["showers"]
    n, n_voxels = stored.shape
    if mesh is None:
        if "caloforge_format" in file.attrs:
            mesh = mesh_from_dict(json.loads(str(file.attrs["mesh"])))
        elif n_voxels in _BY_SIZE:
            mesh = calochallenge_mesh(_BY_SIZE[n_voxels])
        else:
            raise DataError(
                f"{path}: {n_voxels} voxels are none of the CaloChallenge's {sorted(_BY_SIZE)}; name the mesh (--mesh)"
            )
    if mesh.n_voxels != n_voxels:
        raise DataError(
            f"{path}, data set 'showers': {n_voxels} voxels a shower, but the {mesh} has {mesh.n_voxels}"
        )
    energy = read_column(file, "incident_energies")
    if energy.size != n:
        raise DataError(
            f"{path}: 'incident_energies' has {energy.size} rows and 'showers' has {n}; they must agree"
        )
    bad = np.flatnonzero(~(np.isfinite(energy.ravel()) & (energy.ravel() > 0)))
    if len(bad):
        raise DataError(
            f"{path}, data set 'incident_energies': shower {bad[0]} has {energy.ravel()[bad[0]]} MeV; must be positive"
        )

    def column(name: str, default: object) -> object:
        return read_column(file, name) if name in file else default

    detector = column("incident_detector", str(file.attrs.get("detector", "")))
    if isinstance(detector, np.ndarray):
        detector = np.array([d.decode() if isinstance(d, bytes) else str(d) for d in detector], dtype=np.str_)
    particle = column("incident_pdg", str(file.attrs["particle"]) if "particle" in file.attrs else 0)
    conditions = Conditions(
        energy.ravel(),
        column("incident_theta", np.pi / 2),  # type: ignore[arg-type]
        column("incident_phi", 0.0),  # type: ignore[arg-type]
        particle,  # type: ignore[arg-type]
        detector,  # type: ignore[arg-type]
        column("impact_point", None),  # type: ignore[arg-type]
    )
    if "provenance" in file.attrs:
        provenance = json.loads(str(file.attrs["provenance"]))
    else:
        provenance = {k: v.item() if isinstance(v, np.generic) else str(v) for k, v in file.attrs.items()}
    extra = {name: read_column(file, name) for name in file if name not in _KNOWN and len(file[name]) == n}
    return Showers(HDF5Source(path, "showers", n), conditions, mesh, provenance, extra)
