"""Read-out meshes: the cells into which the energy of a shower is binned.

Legend: ``Z`` layers, ``P`` φ bins, ``R`` radial bins, ``V`` voxels in all, ``N`` showers or deposits.
Lengths are mm, angles rad. Flattened order is layer (slowest), φ or y, r or x (fastest).
A mesh whose ``frame`` is ``"shower"`` has its origin where the particle enters the detector and its
z axis along the particle; one whose ``frame`` is ``"detector"`` is fixed to the detector's face.

`mesh_base` holds what all meshes can do, `mesh_regular` those with three axes, `mesh_ragged` the others.
"""

from __future__ import annotations

from typing import Any

from caloforge.detector.mesh_base import Floats, Frame, Ints, Mesh
from caloforge.detector.mesh_ragged import RaggedBoxLayer, RaggedBoxMesh, RaggedCylinderMesh, RaggedLayer
from caloforge.detector.mesh_regular import BoxMesh, CylinderMesh, RegularMesh
from caloforge.errors import MeshError

__all__ = [
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
    try:
        if kind == "cylinder":
            return CylinderMesh(**fields)
        if kind == "box":
            return BoxMesh(**fields)
        if kind == "ragged-cylinder":
            cylinders = tuple(RaggedLayer(**layer) for layer in fields.pop("layers"))
            return RaggedCylinderMesh(cylinders, **fields)
        if kind == "ragged-box":
            boxes = tuple(RaggedBoxLayer(**layer) for layer in fields.pop("layers"))
            return RaggedBoxMesh(boxes, **fields)
    except (TypeError, KeyError, ValueError) as error:
        raise MeshError(f"malformed {kind} mesh description: {error}") from error
    raise MeshError(
        f"unknown mesh kind {kind!r}; expected 'cylinder', 'box', 'ragged-cylinder' or 'ragged-box'"
    )
