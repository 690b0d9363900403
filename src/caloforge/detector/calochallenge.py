"""The four binnings of the Fast Calorimeter Simulation Challenge 2022 (arXiv:2410.21611)."""

from __future__ import annotations

from typing import Literal

from caloforge.detector.mesh import CylinderMesh, Mesh, RaggedCylinderMesh, RaggedLayer
from caloforge.errors import MeshError

__all__ = ["CaloChallengeSet", "calochallenge_mesh"]

CaloChallengeSet = Literal["1-photons", "1-pions", "2", "3"]

_SET_1_PHOTONS: list[tuple[int, int, tuple[float, ...]]] = [
    (0, 1, (0, 5, 10, 30, 50, 100, 200, 400, 600)),
    (1, 10, (0, 2, 4, 6, 8, 10, 12, 15, 20, 30, 40, 50, 70, 90, 120, 150, 200)),
    (2, 10, (0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 130, 160, 200, 250, 300, 350, 400)),
    (3, 1, (0, 50, 100, 200, 400, 600)),
    (12, 1, (0, 100, 200, 400, 1000, 2000)),
]
_SET_1_PIONS: list[tuple[int, int, tuple[float, ...]]] = [
    (0, 1, (0, 5, 10, 30, 50, 100, 200, 400, 600)),
    (1, 10, (0, 1, 4, 7, 10, 15, 30, 50, 90, 150, 200)),
    (2, 10, (0, 5, 10, 20, 30, 50, 80, 130, 200, 300, 400)),
    (3, 1, (0, 50, 100, 200, 400, 600)),
    (12, 10, (0, 10, 20, 30, 50, 80, 100, 130, 160, 200, 250, 300, 350, 400, 1000, 2000)),
    (13, 10, (0, 10, 20, 30, 50, 80, 100, 130, 160, 200, 250, 300, 350, 400, 600, 1000, 2000)),
    (14, 1, (0, 50, 100, 150, 200, 250, 300, 400, 600, 1000, 2000)),
]


def calochallenge_mesh(data_set: CaloChallengeSet | str) -> Mesh:
    """Mesh of data set ``"1-photons"``, ``"1-pions"``, ``"2"`` or ``"3"``.

    They have 368, 533, 6480 and 40500 voxels. Those of set 1 have no depths, so that nothing can be scored.
    """
    if data_set == "2":
        return CylinderMesh.regular(n_z=45, dz=3.4, n_phi=16, n_r=9, dr=4.65)
    if data_set == "3":
        return CylinderMesh.regular(n_z=45, dz=3.4, n_phi=50, n_r=18, dr=2.325)
    tables = {"1-photons": _SET_1_PHOTONS, "1-pions": _SET_1_PIONS}
    if data_set not in tables:
        raise MeshError(f"unknown CaloChallenge data set {data_set!r}; expected 1-photons, 1-pions, 2 or 3")
    return RaggedCylinderMesh(tuple(RaggedLayer(n, p, r) for n, p, r in tables[data_set]))
