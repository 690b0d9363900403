"""Meshes whose layers have different cells, so that a shower is one flat row of voxels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from caloforge.detector.mesh.base import Floats, Ints, Mesh, checked_cells, checked_edges, checked_frame
from caloforge.errors import MeshError

__all__ = ["Depth", "Layer", "RaggedMesh", "checked_depth"]

Depth = tuple[float, float]


class Layer(Protocol):
    """A layer of a ragged mesh: the detector's number of it, how many cells it has, its depth if known."""

    @property
    def number(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def z_edges(self) -> Depth | None: ...


def checked_depth(number: int, z_edges: Sequence[float] | None) -> Depth | None:
    """The depth as (front, back), mm, or None; MeshError unless it is two rising edges."""
    if z_edges is None:
        return None
    edges = checked_edges(f"z_edges of layer {number}", z_edges)
    if len(edges) != 2:
        raise MeshError(f"z_edges of layer {number} must be two edges, (front, back) in mm, got {edges}")
    return edges[0], edges[1]


class RaggedMesh(Mesh):
    """Shared by the meshes that list their layers."""

    @property
    @abstractmethod
    def _layers(self) -> Sequence[Layer]: ...

    def __post_init__(self) -> None:
        checked_frame(self.frame)
        numbers = [layer.number for layer in self._layers]
        if not numbers or sorted(set(numbers)) != numbers:
            raise MeshError(f"layer numbers must be increasing and there must be at least one, got {numbers}")
        checked_cells(sum(layer.size for layer in self._layers))

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

    def _thickness(self, layer: Layer) -> float:
        return 1.0 if layer.z_edges is None else layer.z_edges[1] - layer.z_edges[0]

    def _in_layer(self, layer: Layer, z: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
        if layer.z_edges is None:
            raise MeshError(f"layer {layer.number} has no z_edges, so deposits cannot be scored on this mesh")
        return (z >= layer.z_edges[0]) & (z < layer.z_edges[1])
