"""Meshes whose layers have different cells, so that a shower is one flat row of voxels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from caloforge.detector.mesh.base import Floats, Ints, Mesh, checked_cells, checked_edges, checked_frame
from caloforge.errors import MeshError

__all__ = ["Depth", "Layer", "RaggedMesh", "checked_depth"]

Depth = tuple[float, float]


class Layer(Protocol):
    """A layer of a ragged mesh: the detector's number of it, how many cells it has, its depth if known."""

    @property
    def number(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int]: ...

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

    @abstractmethod
    def _cells(self, place: int, x: Floats, y: Floats) -> Ints:
        """Cell of each point within the layer in this place, −1 outside."""

    @abstractmethod
    def _alone(self, layer: Any) -> Mesh:
        """A layer as a mesh of equal layers; MeshError where its depth is not known."""

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

    @property
    def layer_depths(self) -> Floats:
        return np.array([(np.nan, np.nan) if la.z_edges is None else la.z_edges for la in self._layers])

    def index(self, positions: ArrayLike) -> Ints:
        x, y, z = self._xyz(positions)
        result = np.full(len(x), -1, dtype=np.int64)
        for place, layer in enumerate(self._layers):
            cells = self._cells(place, x, y)
            result = np.where(
                self._in_layer(layer, z) & (cells >= 0), self.layer_offsets[place] + cells, result
            )
        return result

    def points(self, voxels: Ints, u: Floats) -> Floats:
        places, result = self.voxel_layers[voxels], np.empty((len(voxels), 3))
        for place in np.unique(places):
            here = places == place
            alone = self._alone(self._layers[place])
            result[here] = alone.points(voxels[here] - self.layer_offsets[place], u[here])
        return result

    def neighbour_pairs(self) -> dict[str, Ints]:
        """Within a layer cells of one edge in common; between layers those of which one holds the other's
        centre."""
        depth, second, third = self.axis_names
        centres = self.centres()
        x, y = centres["x"], centres["y"]
        pairs = {name: [np.zeros((2, 0), dtype=np.int64)] for name in (depth, second, third)}
        for place, layer in enumerate(self._layers):
            start, end = self.layer_offsets[place : place + 2]
            grid = np.arange(start, end).reshape(layer.shape)
            pairs[third].append(np.stack([grid[:, :-1].ravel(), grid[:, 1:].ravel()]))
            closed = second == "phi" and len(grid) > 2
            following = np.roll(grid, -1, axis=0) if closed else grid[1:]
            pairs[second].append(np.stack([grid[: len(following)].ravel(), following.ravel()]))
            if place + 1 < self.n_layers:
                front, back = np.arange(start, end), np.arange(end, self.layer_offsets[place + 2])
                behind = self._cells(place + 1, x[front], y[front])
                before = self._cells(place, x[back], y[back])
                both = [
                    np.stack([front, end + behind])[:, behind >= 0],
                    np.stack([start + before, back])[:, before >= 0],
                ]
                pairs[depth].append(np.unique(np.concatenate(both, axis=1), axis=1))
        return {name: np.concatenate(parts, axis=1) for name, parts in pairs.items()}

    def _z_centres(self) -> Floats:
        return np.repeat(self.layer_depths.sum(axis=1) / 2, self.layer_sizes)

    def _thickness(self, layer: Layer) -> float:
        return 1.0 if layer.z_edges is None else layer.z_edges[1] - layer.z_edges[0]

    def _in_layer(self, layer: Layer, z: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
        front, back = self._depth(layer)
        return (z >= front) & (z < back)

    def _depth(self, layer: Layer) -> Depth:
        if layer.z_edges is None:
            raise MeshError(f"layer {layer.number} has no z_edges, so deposits cannot be scored on this mesh")
        return layer.z_edges
