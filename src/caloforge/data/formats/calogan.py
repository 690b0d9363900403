"""Three layers of liquid argon and lead, CaloGAN (arXiv:1705.02355, 1712.10321; Mendeley pvn3xc3wy5.1).

``energy`` (N, 1) GeV; ``layer_0`` (N, 3, 96), ``layer_1`` (N, 12, 12), ``layer_2`` (N, 12, 6) in MeV, as
(φ, η) (not in GeV: CaloGAN's own code multiplies ``energy`` by 1000 and leaves the layers as they are);
``overflow`` (N, 3), what missed the cells, is kept as the column ``overflow``.

The layers are squares of 480 mm, 90, 347 and 43 mm deep. η is taken as x and φ as y, centred on the axis.
The particle follows from the file's name (gamma, eplus, piplus); θ is 0, along the mesh's z axis.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from caloforge.data.conditions import Conditions
from caloforge.data.formats.base import FORMATS, FileFormat
from caloforge.data.formats.hdf5 import (
    HDF5Source,
    StackedSource,
    file_attributes,
    read_column,
    read_condition,
    require_shape,
)
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh, RaggedBoxLayer, RaggedBoxMesh
from caloforge.errors import DataError

__all__ = ["CaloGAN", "calogan_mesh"]

SHAPES = ((3, 96), (12, 12), (12, 6))
DEPTHS_MM = (90.0, 347.0, 43.0)
WIDTH_MM = 480.0
_PARTICLES = {"gamma": "gamma", "photon": "gamma", "eplus": "e+", "positron": "e+", "piplus": "pi+"}


def calogan_mesh() -> RaggedBoxMesh:
    """The 504 cells of CaloGAN: 3 × 96, 12 × 12 and 12 × 6 in (φ, η) = (y, x)."""
    z = np.concatenate([[0.0], np.cumsum(DEPTHS_MM)]).tolist()

    def edges(n: int) -> tuple[float, ...]:
        return tuple(((np.arange(n + 1) / n - 0.5) * WIDTH_MM).tolist())

    layers = (
        RaggedBoxLayer(i, edges(n_y), edges(n_x), (z[i], z[i + 1])) for i, (n_y, n_x) in enumerate(SHAPES)
    )
    return RaggedBoxMesh(tuple(layers))


@FORMATS.add("CaloGAN")
class CaloGAN(FileFormat):
    """Files of CaloGAN."""

    name: ClassVar[str] = "CaloGAN"
    order: ClassVar[int] = 40

    def matches(self, file: h5py.File) -> bool:
        """True for files with ``energy`` and ``layer_0`` to ``layer_2``."""
        return all(name in file for name in ("energy", "layer_0", "layer_1", "layer_2"))

    def read(self, path: Path, file: h5py.File, mesh: Mesh | None, ignore: tuple[str, ...]) -> Showers:
        """Showers of a CaloGAN file, in MeV."""
        mesh = mesh or calogan_mesh()
        if mesh.layer_sizes.tolist() != [a * b for a, b in SHAPES]:
            raise DataError(f"{path}: layers of {SHAPES} cells do not fit the {mesh}")
        names = [f"layer_{i}" for i in range(len(SHAPES))]
        counts = {
            name: require_shape(file, name, shape, "showers, φ, η")
            for name, shape in zip(names, SHAPES, strict=True)
        }
        n = counts["layer_0"]
        if len(set(counts.values())) > 1:
            raise DataError(
                f"{path}: the layers have different numbers of showers, {counts}; they must agree"
            )
        energy = read_condition(file, "energy", n, unit="GeV", scale=1000.0, positive=True)
        particle = next((code for word, code in _PARTICLES.items() if word in path.stem.lower()), 0)
        conditions = Conditions(energy, theta=0.0, phi=0.0, particle=particle, detector="calogan")
        provenance = {
            "file": path.name,
            "layout": self.name,
            "attributes": file_attributes(file),
            "assumed": ({"particle": particle} if particle else {})
            | {
                "theta": 0.0,
                "phi": 0.0,
                "unit": "GeV of energy, MeV of layers",
                "axes": "layer, φ = y, η = x",
            },
        }
        extra = {}
        if "overflow" in file and "overflow" not in ignore:
            require_shape(file, "overflow", (3,), "showers, layers")
            extra["overflow"] = read_column(file, "overflow")
            if len(extra["overflow"]) != n:
                raise DataError(f"{path}, data set 'overflow': {len(extra['overflow'])} rows for {n} showers")
        source = StackedSource([HDF5Source(path, name, n) for name in names])
        return Showers(source, conditions, mesh, provenance, extra)
