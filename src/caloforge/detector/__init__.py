"""Detectors as data files, and the meshes that read them out."""

from caloforge.detector.binning_xml import read_binning_xml, write_binning_xml
from caloforge.detector.calochallenge import calochallenge_mesh
from caloforge.detector.grouping import Grouping
from caloforge.detector.mesh import (
    BoxMesh,
    CylinderMesh,
    Mesh,
    RaggedBoxLayer,
    RaggedBoxMesh,
    RaggedCylinderMesh,
    RaggedLayer,
    mesh_from_dict,
)

__all__ = [
    "BoxMesh",
    "CylinderMesh",
    "Grouping",
    "Mesh",
    "RaggedBoxLayer",
    "RaggedBoxMesh",
    "RaggedCylinderMesh",
    "RaggedLayer",
    "calochallenge_mesh",
    "mesh_from_dict",
    "read_binning_xml",
    "write_binning_xml",
]
