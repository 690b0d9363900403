"""Cylinders whose layers have different cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from caloforge.detector.mesh.base import (
    MESHES,
    Floats,
    Frame,
    Ints,
    bin_of,
    checked_edges,
    checked_whole,
    phi_bin,
)
from caloforge.detector.mesh.cylinder import CylinderMesh
from caloforge.detector.mesh.ragged import Depth, RaggedMesh, checked_depth
from caloforge.errors import MeshError

__all__ = ["RaggedCylinderMesh", "RaggedLayer"]


@dataclass(frozen=True)
class RaggedLayer:
    """A layer of a ragged cylinder: its number, φ bins, radial edges and, if known, its depth, mm."""

    number: int
    n_phi: int
    r_edges: tuple[float, ...]
    z_edges: Depth | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "number", checked_whole("the number of a layer", self.number, 0))
        object.__setattr__(self, "r_edges", checked_edges(f"r_edges of layer {self.number}", self.r_edges))
        object.__setattr__(self, "z_edges", checked_depth(self.number, self.z_edges))
        object.__setattr__(self, "n_phi", checked_whole(f"n_phi of layer {self.number}", self.n_phi, 1))
        if self.r_edges[0] < 0:
            raise MeshError(f"r_edges of layer {self.number} must not be negative, got {self.r_edges[0]}")

    @property
    def shape(self) -> tuple[int, int]:
        """Cells in (φ, r); r is fastest in the flat order."""
        return self.n_phi, len(self.r_edges) - 1

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]


@MESHES.add("ragged-cylinder")
@dataclass(frozen=True, eq=False)
class RaggedCylinderMesh(RaggedMesh):
    """Cylinder whose layers have different φ and radial bins, as in CaloChallenge data set 1."""

    layers: tuple[RaggedLayer, ...]
    frame: Frame = "shower"
    kind: ClassVar[str] = "ragged-cylinder"

    @property
    def _layers(self) -> Sequence[RaggedLayer]:
        return self.layers

    def centres(self) -> dict[str, Floats]:
        r_parts, phi_parts = [], []
        for layer in self.layers:
            r_e, phi_e = np.array(layer.r_edges), np.linspace(-np.pi, np.pi, layer.n_phi + 1)
            phi, r = np.meshgrid((phi_e[1:] + phi_e[:-1]) / 2, (r_e[1:] + r_e[:-1]) / 2, indexing="ij")
            r_parts.append(r.ravel())
            phi_parts.append(phi.ravel())
        r, phi = np.concatenate(r_parts), np.concatenate(phi_parts)
        return {"x": r * np.cos(phi), "y": r * np.sin(phi), "z": self._z_centres(), "r": r, "phi": phi}

    def volumes(self) -> Floats:
        parts = []
        for layer in self.layers:
            area = np.pi * np.diff(np.array(layer.r_edges) ** 2) / layer.n_phi
            parts.append(np.tile(area * self._thickness(layer), layer.n_phi))
        return np.concatenate(parts)

    def _cells(self, place: int, x: Floats, y: Floats) -> Ints:
        layer = self.layers[place]
        i_r, n_r = bin_of(np.hypot(x, y), layer.r_edges), layer.shape[1]
        return np.where((i_r >= 0) & (i_r < n_r), phi_bin(x, y, layer.n_phi) * n_r + i_r, -1)

    def _alone(self, layer: RaggedLayer) -> CylinderMesh:
        return CylinderMesh(self._depth(layer), layer.n_phi, layer.r_edges)

    def to_dict(self) -> dict[str, Any]:
        layers = [
            {"number": int(la.number), "n_phi": int(la.n_phi), "r_edges": list(la.r_edges)}
            | ({} if la.z_edges is None else {"z_edges": list(la.z_edges)})
            for la in self.layers
        ]
        return {"kind": self.kind, "frame": self.frame, "layers": layers}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RaggedCylinderMesh:
        others = {key: value for key, value in fields.items() if key != "layers"}
        return cls(tuple(RaggedLayer(**layer) for layer in fields["layers"]), **others)
