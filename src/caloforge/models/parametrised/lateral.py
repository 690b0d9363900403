"""Which part of a slice of a shower lies in which cell, in closed form: no spot has to be placed.

Spots of a component of radius R lie at r with the density 2rR²/(r² + R²)² and evenly in φ. Within a radius r
are r²/(r² + R²) of them, and in a rectangle with a corner on the axis and one at (x, y)

    G(x, y) = 1/2π · [ x/√(x² + R²) · atan(y/√(x² + R²)) + y/√(y² + R²) · atan(x/√(y² + R²)) ].

Legend: ``n`` showers, ``Z`` layers, ``S`` slices of each layer in depth, ``V`` voxels, ``B`` bins of the
largest layer. Lengths are mm.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.detector.mesh import BoxMesh, CylinderMesh, Mesh, RaggedBoxMesh, RaggedCylinderMesh
from caloforge.detector.mesh.base import Floats, Ints
from caloforge.errors import MeshError

__all__ = ["Cells", "Profile", "cells_of"]


@dataclass(frozen=True)
class Profile:
    """Radial profile of slices, each (n, Z, S): radii of core and tail, mm, and the part of the core."""

    core: Tensor
    tail: Tensor
    part: Tensor

    def mixed(self, within: Callable[[Tensor], Tensor]) -> Tensor:
        """A quantity ``within`` of one radius, summed over both components; the radius has an axis more."""
        core, tail, part = (x[..., None] for x in (self.core, self.tail, self.part))
        return part * within(core * core) + (1 - part) * within(tail * tail)


class Cells(nn.Module):
    """The cells of a mesh across the shower axis.

    Args:
        bins: for each layer the bin of each of its voxels.
        counts: how many voxels of a layer share a bin.
        width: B.
    """

    order: Tensor | None
    divided: Tensor

    def __init__(self, bins: Sequence[Ints], counts: Sequence[int], width: int) -> None:
        super().__init__()
        self.count = counts[0]
        alike = all(np.array_equal(b, bins[0]) for b in bins)
        order = None if alike else np.concatenate([i * width + b for i, b in enumerate(bins)])
        self.register_buffer("order", None if order is None else torch.from_numpy(order), persistent=False)
        self.register_buffer("divided", 1 / torch.tensor(counts)[:, None], persistent=False)  # (Z, 1)

    @abstractmethod
    def bins(self, profile: Profile, weights: Tensor, centre: Tensor | None) -> Tensor:
        """Part of a layer in each of its bins, (n, Z, B)."""

    def forward(self, profile: Profile, weights: Tensor, centre: Tensor | None) -> Tensor:
        """Part of what a layer gets that is in each voxel, (n, V); what is missing to 1 is outside.

        Args:
            profile: of all slices.
            weights: how the layer is shared among its slices, (n, Z, S).
            centre: where the shower axis passes the middle of the slices, x and y, (2, n, Z, S); None where
                that is the origin.
        """
        bins = self.bins(profile, weights, centre) * self.divided
        if self.order is None:
            return bins[:, :, None].expand(-1, -1, self.count, -1).flatten(1)
        return bins.flatten(1)[:, self.order]


class Rings(Cells):
    """Cells of cylinders around the shower axis: rings, evenly divided in φ."""

    squares: Tensor

    def __init__(self, edges: Sequence[Floats], n_phi: Sequence[int]) -> None:
        bins = [np.tile(np.arange(len(e) - 1), n) for e, n in zip(edges, n_phi, strict=True)]
        super().__init__(bins, n_phi, max(len(e) for e in edges) - 1)
        self.register_buffer("squares", _padded(edges).square(), persistent=False)  # (Z, B + 1)

    def bins(self, profile: Profile, weights: Tensor, centre: Tensor | None) -> Tensor:
        squares = self.squares[:, None]
        within = profile.mixed(lambda r2: squares / (squares + r2))  # (n, Z, S, B + 1)
        rings = (within * weights[..., None]).sum(2)
        return rings.diff(dim=-1)


class Rectangles(Cells):
    """Cells of boxes."""

    x: Tensor
    y: Tensor

    def __init__(self, y: Sequence[Floats], x: Sequence[Floats]) -> None:
        rows, columns = (max(len(e) for e in edges) - 1 for edges in (y, x))
        bins = [
            np.add.outer(np.arange(len(a) - 1) * columns, np.arange(len(b) - 1)).ravel()
            for a, b in zip(y, x, strict=True)
        ]
        super().__init__(bins, [1] * len(bins), rows * columns)
        self.register_buffer("y", _padded(y), persistent=False)  # (Z, Y + 1)
        self.register_buffer("x", _padded(x), persistent=False)  # (Z, X + 1)

    def bins(self, profile: Profile, weights: Tensor, centre: Tensor | None) -> Tensor:
        x, y = self.x[:, None], self.y[:, None]  # (Z, 1, ·)
        if centre is not None:
            x, y = x - centre[0, ..., None], y - centre[1, ..., None]

        def corner(r2: Tensor) -> Tensor:
            root_x, root_y = (x * x + r2).sqrt(), (y * y + r2).sqrt()  # (n, Z, S, ·)
            one = (x / root_x)[..., None, :] * (y[..., None] / root_x[..., None, :]).atan()
            other = (y / root_y)[..., None] * (x[..., None, :] / root_y[..., None]).atan()
            return (one + other).flatten(-2) / (2 * math.pi)

        corners = (profile.mixed(corner) * weights[..., None]).sum(2)  # (n, Z, (Y + 1)·(X + 1))
        grid = corners.reshape(*corners.shape[:2], self.y.shape[-1], self.x.shape[-1])
        return grid.diff(dim=-1).diff(dim=-2).clamp_min(0).flatten(-2)


def cells_of(mesh: Mesh) -> Cells:
    """The cells of a mesh; MeshError where a shower cannot be shared out on it in closed form."""
    if isinstance(mesh, CylinderMesh | RaggedCylinderMesh) and mesh.frame != "shower":
        raise MeshError(
            f"parametrised showers are shared out on cylinders around their axis, but the {mesh} is fixed "
            'to the detector; take a mesh of frame = "shower", or a box'
        )
    if isinstance(mesh, CylinderMesh):
        return Rings([np.array(mesh.r_edges)] * mesh.n_layers, [mesh.n_phi] * mesh.n_layers)
    if isinstance(mesh, RaggedCylinderMesh):
        return Rings([np.array(la.r_edges) for la in mesh.layers], [la.n_phi for la in mesh.layers])
    if isinstance(mesh, BoxMesh):
        return Rectangles([np.array(mesh.y_edges)] * mesh.n_layers, [np.array(mesh.x_edges)] * mesh.n_layers)
    if isinstance(mesh, RaggedBoxMesh):
        return Rectangles(
            [np.array(la.y_edges) for la in mesh.layers], [np.array(la.x_edges) for la in mesh.layers]
        )
    raise MeshError(f"parametrised showers are shared out on cylinders and boxes, not on a {mesh}")


def _padded(edges: Sequence[Floats]) -> Tensor:
    """Edges of all layers as one array; layers with fewer have their last one several times."""
    width = max(len(e) for e in edges)
    return torch.from_numpy(np.stack([np.pad(e, (0, width - len(e)), "edge") for e in edges])).float()
