"""Read-out meshes: the cells into which the energy of a shower is binned.

Legend: ``Z`` layers, ``P`` φ bins, ``R`` radial bins, ``V`` voxels in all, ``N`` showers or deposits.
Lengths are mm, angles rad. Flattened order is layer (slowest), φ or y, r or x (fastest).
A mesh whose ``frame`` is ``"shower"`` has its origin where the particle enters the detector and its
z axis along the particle; one whose ``frame`` is ``"detector"`` is fixed to the detector's face.

A new kind is a new file here, or a class elsewhere: see docs/how-to/extending.md.
"""

from __future__ import annotations

from typing import Any

from caloforge.detector.mesh.base import MESHES, Floats, Frame, Ints, Mesh
from caloforge.detector.mesh.box import BoxMesh
from caloforge.detector.mesh.cylinder import CylinderMesh
from caloforge.detector.mesh.ragged_box import RaggedBoxLayer, RaggedBoxMesh
from caloforge.detector.mesh.ragged_cylinder import RaggedCylinderMesh, RaggedLayer
from caloforge.detector.mesh.regular import RegularMesh
from caloforge.errors import MeshError

__all__ = [
    "MESHES",
    "BoxMesh",
    "CylinderMesh",
    "Floats",
    "Frame",
    "Ints",
    "Mesh",
    "RaggedBoxLayer",
    "RaggedBoxMesh",
    "RaggedCylinderMesh",
    "RaggedLayer",
    "RegularMesh",
    "mesh_from_dict",
]


def mesh_from_dict(description: dict[str, Any]) -> Mesh:
    """Rebuild a mesh from `Mesh.to_dict`; raises MeshError where the description is malformed."""
    try:
        fields = dict(description)
    except (TypeError, ValueError) as error:
        raise MeshError(f"a mesh description must be a table, got {description!r}") from error
    kind = fields.pop("kind", None)
    mesh = MESHES[str(kind)]
    try:
        return mesh.from_dict(fields)
    except (TypeError, KeyError, ValueError, ArithmeticError) as error:
        raise MeshError(f"malformed {kind} mesh description: {error}") from error
