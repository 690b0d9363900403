"""Boxes whose layers have different cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from caloforge.detector.mesh.base import MESHES, Floats, Frame, Ints, bin_of, checked_edges, checked_whole
from caloforge.detector.mesh.box import BoxMesh
from caloforge.detector.mesh.ragged import Depth, RaggedMesh, checked_depth

__all__ = ["RaggedBoxLayer", "RaggedBoxMesh"]


@dataclass(frozen=True)
class RaggedBoxLayer:
    """A layer of a ragged box: its number, edges in y and x and, if known, its depth, mm."""

    number: int
    y_edges: tuple[float, ...]
    x_edges: tuple[float, ...]
    z_edges: Depth | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "number", checked_whole("the number of a layer", self.number, 0))
        for name in ("y_edges", "x_edges"):
            edges = checked_edges(f"{name} of layer {self.number}", getattr(self, name))
            object.__setattr__(self, name, edges)
        object.__setattr__(self, "z_edges", checked_depth(self.number, self.z_edges))

    @property
    def shape(self) -> tuple[int, int]:
        """Cells in (y, x); x is fastest in the flat order."""
        return len(self.y_edges) - 1, len(self.x_edges) - 1

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]


@MESHES.add("ragged-box")
@dataclass(frozen=True, eq=False)
class RaggedBoxMesh(RaggedMesh):
    """Box whose layers have different cells in y and x, as in CaloGAN (arXiv:1705.02355)."""

    layers: tuple[RaggedBoxLayer, ...]
    frame: Frame = "detector"
    kind: ClassVar[str] = "ragged-box"

    @property
    def _layers(self) -> Sequence[RaggedBoxLayer]:
        return self.layers

    def centres(self) -> dict[str, Floats]:
        y_parts, x_parts = [], []
        for layer in self.layers:
            y_e, x_e = np.array(layer.y_edges), np.array(layer.x_edges)
            y, x = np.meshgrid((y_e[1:] + y_e[:-1]) / 2, (x_e[1:] + x_e[:-1]) / 2, indexing="ij")
            y_parts.append(y.ravel())
            x_parts.append(x.ravel())
        return {"x": np.concatenate(x_parts), "y": np.concatenate(y_parts), "z": self._z_centres()}

    def volumes(self) -> Floats:
        parts = [
            (np.diff(la.y_edges)[:, None] * np.diff(la.x_edges) * self._thickness(la)).ravel()
            for la in self.layers
        ]
        return np.concatenate(parts)

    def _cells(self, place: int, x: Floats, y: Floats) -> Ints:
        layer = self.layers[place]
        i_y, i_x = bin_of(y, layer.y_edges), bin_of(x, layer.x_edges)
        n_y, n_x = layer.shape
        inside = (i_y >= 0) & (i_y < n_y) & (i_x >= 0) & (i_x < n_x)
        return np.where(inside, i_y * n_x + i_x, -1)

    def _alone(self, layer: RaggedBoxLayer) -> BoxMesh:
        return BoxMesh(self._depth(layer), layer.y_edges, layer.x_edges)

    def to_dict(self) -> dict[str, Any]:
        layers = [
            {"number": int(la.number), "y_edges": list(la.y_edges), "x_edges": list(la.x_edges)}
            | ({} if la.z_edges is None else {"z_edges": list(la.z_edges)})
            for la in self.layers
        ]
        return {"kind": self.kind, "frame": self.frame, "layers": layers}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RaggedBoxMesh:
        others = {key: value for key, value in fields.items() if key != "layers"}
        return cls(tuple(RaggedBoxLayer(**layer) for layer in fields["layers"]), **others)
