"""Electromagnetic showers in five detectors, LEMURS (arXiv:2509.05108, Zenodo 17045562).

``showers`` (N, 9, 16, 45) = (r, φ, z) and ``incident_energy`` (N,) in MeV, ``incident_theta`` and
``incident_phi`` (N,) in rad. The detector follows from the file's name (Par04SiW, Par04SciPb,
ODD, FCCeeCLD, FCCeeALLEGRO, in any case, with or without separators); its mesh from the detector file of
that name. Particles are photons unless the attribute ``particle`` says otherwise.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.formats.base import FORMATS, FileFormat
from caloforge.data.formats.hdf5 import HDF5Source, file_attributes, read_condition, require_shape
from caloforge.data.showers import Showers
from caloforge.detector.calochallenge import calochallenge_mesh
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError, DetectorError

__all__ = ["Lemurs"]

STORED = (9, 16, 45)
_DETECTORS = {
    "par04siw": "par04-siw",
    "par04scipb": "par04-scipb",
    "odd": "odd-ecal",
    "fcceecld": "cld-ecal",
    "fcceeallegro": "allegro-ecal",
}


@FORMATS.add("LEMURS")
class Lemurs(FileFormat):
    """Files of LEMURS."""

    name: ClassVar[str] = "LEMURS"
    order: ClassVar[int] = 20

    def matches(self, file: h5py.File) -> bool:
        """True for files with ``showers`` and ``incident_energy`` (in the singular)."""
        return "showers" in file and "incident_energy" in file

    def read(self, path: Path, file: h5py.File, mesh: Mesh | None, ignore: tuple[str, ...]) -> Showers:
        """Showers of a LEMURS file, in the order (z, φ, r)."""
        plain = re.sub(r"[^a-z0-9]", "", path.stem.lower())
        detector = next((name for word, name in _DETECTORS.items() if word in plain), "")
        mesh = mesh or _mesh_of(path, detector)
        if mesh.shape != STORED[::-1]:
            raise DataError(f"{path}: showers of shape {STORED} = (r, φ, z) do not fit the {mesh}")
        n = require_shape(file, "showers", STORED, "showers, r, φ, z")
        attributes = file_attributes(file)
        particle = str(attributes.get("particle", "gamma"))
        conditions = Conditions(
            read_condition(file, "incident_energy", n, unit="MeV", positive=True),
            read_condition(file, "incident_theta", n, unit="rad"),
            read_condition(file, "incident_phi", n, unit="rad"),
            particle,
            detector,
        )
        provenance = {
            "file": path.name,
            "layout": self.name,
            "attributes": attributes,
            "assumed": ({"detector": detector} if detector else {})
            | ({} if "particle" in attributes else {"particle": particle})
            | {"unit": "MeV, rad"},
        }
        return Showers(HDF5Source(path, "showers", n, _to_z_phi_r), conditions, mesh, provenance)


def _mesh_of(path: Path, detector: str) -> Mesh:
    if detector == "par04-siw":
        return calochallenge_mesh("2")
    from caloforge.detector.detector import Detector  # reads TOML with pydantic; only here is it needed

    if not detector:
        raise DataError(
            f"{path}: looks like LEMURS showers, but the name tells none of the detectors "
            f"{', '.join(_DETECTORS)}; rename the file or give the mesh (--mesh)"
        )
    try:
        return Detector.load(detector).mesh
    except DetectorError as error:
        raise DataError(f"{path}: the mesh of {detector} is not known; give it (--mesh). {error}") from error


def _to_z_phi_r(stored: NDArray[np.float64]) -> NDArray[np.float64]:
    return stored.transpose(0, 3, 2, 1)
