"""Photons in the ILD's silicon-tungsten calorimeter, "Getting High" (arXiv:2005.05334, Zenodo 3826103).

Group ``30x30``: ``energy`` (N, 1) GeV and ``layers`` (N, 30, 30, 30) GeV, here taken as (layer, y, x): the
first axis is the depth, the other two are transverse and the file does not name them. The mesh is that of
the detector ``ild-ecal``; particles are photons along the calorimeter's z axis, recorded as θ = 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions
from caloforge.data.formats.base import FORMATS, FileFormat
from caloforge.data.formats.hdf5 import HDF5Source, file_attributes, read_condition, require_shape
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError

__all__ = ["GettingHigh"]

GROUP = "30x30"
DETECTOR = "ild-ecal"
MEV_PER_GEV = 1000.0


@FORMATS.add("Getting High")
class GettingHigh(FileFormat):
    """Files of "Getting High"."""

    name: ClassVar[str] = "Getting High"
    order: ClassVar[int] = 30

    def matches(self, file: h5py.File) -> bool:
        """True for files with the group ``30x30``."""
        return isinstance(file.get(GROUP), h5py.Group)

    def read(self, path: Path, file: h5py.File, mesh: Mesh | None, ignore: tuple[str, ...]) -> Showers:
        """Showers of a Getting High file, in MeV."""
        for name in ("energy", "layers"):
            if name not in file[GROUP]:
                raise DataError(
                    f"{path}: group {GROUP!r} has no data set {name!r}; it has {', '.join(file[GROUP])}"
                )
        if mesh is None:
            from caloforge.detector.detector import (
                Detector,  # reads TOML with pydantic; only here is it needed
            )

            mesh = Detector.load(DETECTOR).mesh
        if mesh.shape != (30, 30, 30):
            raise DataError(f"{path}: showers of shape (30, 30, 30) = (layer, y, x) do not fit the {mesh}")
        n = require_shape(file, f"{GROUP}/layers", (30, 30, 30), "showers, layer, y, x")
        energy = read_condition(file, f"{GROUP}/energy", n, unit="GeV", scale=MEV_PER_GEV, positive=True)
        conditions = Conditions(energy, theta=0.0, phi=0.0, particle="gamma", detector=DETECTOR)
        provenance = {
            "file": path.name,
            "layout": self.name,
            "attributes": file_attributes(file),
            "assumed": {
                "particle": "gamma",
                "detector": DETECTOR,
                "theta": 0.0,
                "phi": 0.0,
                "unit": "GeV",
                "axes": "layer, y, x",
            },
        }
        source = HDF5Source(path, f"{GROUP}/layers", n, _to_mev)
        return Showers(source, conditions, mesh, provenance)


def _to_mev(stored: NDArray[np.float64]) -> NDArray[np.float64]:
    return stored * MEV_PER_GEV
