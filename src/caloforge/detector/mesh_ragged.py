"""Meshes whose layers have different cells, so that a shower is one flat row of voxels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from caloforge.detector.mesh_base import (
    Floats,
    Frame,
    Ints,
    Mesh,
    bin_of,
    checked_edges,
    checked_frame,
    phi_bin,
)
from caloforge.errors import MeshError

__all__ = ["RaggedBoxLayer", "RaggedBoxMesh", "RaggedCylinderMesh", "RaggedLayer"]

Depth = tuple[float, float]


def _checked_depth(number: int, z_edges: Sequence[float] | None) -> Depth | None:
    if z_edges is None:
        return None
    edges = checked_edges(f"z_edges of layer {number}", z_edges)
    if len(edges) != 2:
        raise MeshError(f"z_edges of layer {number} must be two edges, (front, back) in mm, got {edges}")
    return edges[0], edges[1]


@dataclass(frozen=True)
class RaggedLayer:
    """A layer of a ragged cylinder: its number, φ bins, radial edges and, if known, its depth, mm."""

    number: int
    n_phi: int
    r_edges: tuple[float, ...]
    z_edges: Depth | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "r_edges", checked_edges(f"r_edges of layer {self.number}", self.r_edges))
        object.__setattr__(self, "z_edges", _checked_depth(self.number, self.z_edges))
        if self.n_phi < 1 or self.n_phi != int(self.n_phi):
            raise MeshError(f"layer {self.number} has {self.n_phi} φ bins; a whole number ≥ 1 is needed")
        if self.r_edges[0] < 0:
            raise MeshError(f"r_edges of layer {self.number} must not be negative, got {self.r_edges[0]}")

    @property
    def size(self) -> int:
        return self.n_phi * (len(self.r_edges) - 1)


@dataclass(frozen=True)
class RaggedBoxLayer:
    """A layer of a ragged box: its number, edges in y and x and, if known, its depth, mm."""

    number: int
    y_edges: tuple[float, ...]
    x_edges: tuple[float, ...]
    z_edges: Depth | None = None

    def __post_init__(self) -> None:
        for name in ("y_edges", "x_edges"):
            edges = checked_edges(f"{name} of layer {self.number}", getattr(self, name))
            object.__setattr__(self, name, edges)
        object.__setattr__(self, "z_edges", _checked_depth(self.number, self.z_edges))

    @property
    def shape(self) -> tuple[int, int]:
        """Cells in (y, x); x is fastest in the flat order."""
        return len(self.y_edges) - 1, len(self.x_edges) - 1

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]


class _RaggedMesh(Mesh):
    """Shared by the meshes that list their layers."""

    @property
    @abstractmethod
    def _layers(self) -> Sequence[RaggedLayer | RaggedBoxLayer]: ...

    def __post_init__(self) -> None:
        checked_frame(self.frame)
        numbers = [layer.number for layer in self._layers]
        if not numbers or sorted(set(numbers)) != numbers:
            raise MeshError(f"layer numbers must be increasing and there must be at least one, got {numbers}")

    @property
    def shape(self) -> tuple[int]:
        return (self.n_voxels,)

    @property
    def layer_sizes(self) -> Ints:
        return np.array([layer.size for layer in self._layers], dtype=np.int64)

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        return tuple(layer.number for layer in self._layers)

    def __str__(self) -> str:
        return f"{self.kind} mesh of {self.n_layers} layers, {self.n_voxels} voxels"

    def _z_centres(self) -> Floats:
        depth = [np.nan if la.z_edges is None else sum(la.z_edges) / 2 for la in self._layers]
        return np.repeat(depth, self.layer_sizes)

    def _thickness(self, layer: RaggedLayer | RaggedBoxLayer) -> float:
        return 1.0 if layer.z_edges is None else layer.z_edges[1] - layer.z_edges[0]

    def _in_layer(
        self, layer: RaggedLayer | RaggedBoxLayer, z: Floats
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        if layer.z_edges is None:
            raise MeshError(f"layer {layer.number} has no z_edges, so deposits cannot be scored on this mesh")
        return (z >= layer.z_edges[0]) & (z < layer.z_edges[1])


@dataclass(frozen=True, eq=False)
class RaggedCylinderMesh(_RaggedMesh):
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

    def index(self, positions: ArrayLike) -> Ints:
        x, y, z = self._xyz(positions)
        r = np.hypot(x, y)
        result = np.full(len(r), -1, dtype=np.int64)
        for layer, offset in zip(self.layers, self.layer_offsets, strict=False):
            i_r, n_r = bin_of(r, layer.r_edges), len(layer.r_edges) - 1
            here = self._in_layer(layer, z) & (i_r >= 0) & (i_r < n_r)
            result = np.where(here, offset + phi_bin(x, y, layer.n_phi) * n_r + i_r, result)
        return result

    def to_dict(self) -> dict[str, Any]:
        layers = [
            {"number": int(la.number), "n_phi": int(la.n_phi), "r_edges": list(la.r_edges)}
            | ({} if la.z_edges is None else {"z_edges": list(la.z_edges)})
            for la in self.layers
        ]
        return {"kind": self.kind, "frame": self.frame, "layers": layers}


@dataclass(frozen=True, eq=False)
class RaggedBoxMesh(_RaggedMesh):
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

    def index(self, positions: ArrayLike) -> Ints:
        x, y, z = self._xyz(positions)
        result = np.full(len(x), -1, dtype=np.int64)
        for layer, offset in zip(self.layers, self.layer_offsets, strict=False):
            i_y, i_x = bin_of(y, layer.y_edges), bin_of(x, layer.x_edges)
            n_y, n_x = layer.shape
            here = self._in_layer(layer, z) & (i_y >= 0) & (i_y < n_y) & (i_x >= 0) & (i_x < n_x)
            result = np.where(here, offset + i_y * n_x + i_x, result)
        return result

    def to_dict(self) -> dict[str, Any]:
        layers = [
            {"number": int(la.number), "y_edges": list(la.y_edges), "x_edges": list(la.x_edges)}
            | ({} if la.z_edges is None else {"z_edges": list(la.z_edges)})
            for la in self.layers
        ]
        return {"kind": self.kind, "frame": self.frame, "layers": layers}
