"""Electrons of Geant4's example Par04 at fixed energies and angles (Zenodo 6082201).

One data set for each energy, named "1", "2", "4", … "1024" in GeV, each (N, 18, 50, 45) = (r, φ, z) in MeV,
in files ``{SiW,SciPb}_angle_{50..90}.h5`` whose name tells the detector and θ in degrees (90: normal
incidence). They are read in order of energy. The cells are those that the example sets: r 2.325 mm and
z 3.4 mm for SiW, 4 mm and 5.6 mm for SciPb.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.formats.base import FORMATS, FileFormat
from caloforge.data.formats.hdf5 import HDF5Source, file_attributes, require_shape
from caloforge.data.showers import Showers
from caloforge.data.sources import ConcatenatedSource
from caloforge.detector.mesh import CylinderMesh, Mesh
from caloforge.errors import DataError

__all__ = ["Par04"]

STORED = (18, 50, 45)
_CELLS_MM = {"SiW": (3.4, 2.325), "SciPb": (5.6, 4.0)}
_DETECTORS = {"SiW": "par04-siw", "SciPb": "par04-scipb"}
_FILE_NAME = re.compile(r"(SiW|SciPb)_angle_(\d+(?:\.\d+)?)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(\.\d+)?")


@FORMATS.add("Par04")
class Par04(FileFormat):
    """Files of Geant4's example Par04."""

    name: ClassVar[str] = "Par04"
    order: ClassVar[int] = 50

    def matches(self, file: h5py.File) -> bool:
        """True for files all of whose names are numbers."""
        return len(file) > 0 and all(_NUMBER.fullmatch(name) for name in file)

    def read(self, path: Path, file: h5py.File, mesh: Mesh | None, ignore: tuple[str, ...]) -> Showers:
        """Showers of a Par04 file, by increasing energy, in the order (z, φ, r)."""
        found = _FILE_NAME.search(path.name)
        if found is None:
            raise DataError(
                f"{path}: looks like Par04 showers, whose detector and angle are told by the file's name "
                "alone; name it like SiW_angle_90.h5 or SciPb_angle_50.h5"
            )
        material = {name.lower(): name for name in _CELLS_MM}[found[1].lower()]
        theta = math.radians(float(found[2]))
        if mesh is None:
            dz, dr = _CELLS_MM[material]
            mesh = CylinderMesh.regular(n_z=45, dz=dz, n_phi=50, n_r=18, dr=dr)
        if mesh.shape != STORED[::-1]:
            raise DataError(f"{path}: showers of shape {STORED} = (r, φ, z) do not fit the {mesh}")
        energies_gev = sorted((name for name in file if name not in ignore), key=float)
        if not energies_gev:
            raise DataError(f"{path}: no data set is left to read")
        counts = [require_shape(file, name, STORED, "showers, r, φ, z") for name in energies_gev]
        for name in energies_gev:
            if float(name) <= 0:
                raise DataError(
                    f"{path}, data set {name!r}: the name is the energy in GeV and must be above 0"
                )
        energy = np.repeat([float(name) * 1000 for name in energies_gev], counts)
        sources = [
            HDF5Source(path, name, n, _to_z_phi_r) for name, n in zip(energies_gev, counts, strict=True)
        ]
        conditions = Conditions(energy, theta=theta, phi=0.0, particle="e-", detector=_DETECTORS[material])
        provenance = {
            "file": path.name,
            "layout": self.name,
            "attributes": file_attributes(file),
            "assumed": {
                "particle": "e-",
                "detector": _DETECTORS[material],
                "theta": theta,
                "phi": 0.0,
                "unit": "MeV, GeV in names",
            },
        }
        return Showers(ConcatenatedSource(sources), conditions, mesh, provenance)


def _to_z_phi_r(stored: NDArray[np.float64]) -> NDArray[np.float64]:
    return stored.transpose(0, 3, 2, 1)
