"""Detectors as data files, and the meshes that read them out."""

from typing import TYPE_CHECKING

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
from caloforge.lazy import lazily

if TYPE_CHECKING:
    from caloforge.detector.detector import Detector
    from caloforge.detector.mesh.pixel import PixelMesh
    from caloforge.detector.pixel import PixelDetector

__getattr__, __dir__ = lazily(  # what reads TOML with pydantic
    __name__, {"Detector": "detector", "PixelDetector": "pixel", "PixelMesh": "mesh.pixel"}
)

__all__ = [
    "BoxMesh",
    "CylinderMesh",
    "Detector",
    "Grouping",
    "Mesh",
    "PixelDetector",
    "PixelMesh",
    "RaggedBoxLayer",
    "RaggedBoxMesh",
    "RaggedCylinderMesh",
    "RaggedLayer",
    "calochallenge_mesh",
    "mesh_from_dict",
    "read_binning_xml",
    "write_binning_xml",
]
