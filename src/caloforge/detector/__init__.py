"""Detectors as data files, and the meshes that read them out."""

from caloforge.detector.calochallenge import calochallenge_mesh
from caloforge.detector.mesh import (
    BoxMesh,
    CylinderMesh,
    Mesh,
    RaggedCylinderMesh,
    RaggedLayer,
    mesh_from_dict,
)

__all__ = [
    "BoxMesh",
    "CylinderMesh",
    "Mesh",
    "RaggedCylinderMesh",
    "RaggedLayer",
    "calochallenge_mesh",
    "mesh_from_dict",
]
