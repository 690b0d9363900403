"""Voxels by layer: sums, padding of ragged layers, and exact closure with a threshold.

Legend: ``n`` showers, ``V`` voxels, ``Z`` layers, ``M`` cells of the largest layer. Energies are MeV.
Voxels come as (n, V) or with the mesh's axes (n, *shape) and leave in the shape they came in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.detector.mesh import Mesh
from caloforge.errors import MeshError, RecipeError
from caloforge.models.networks.fused import Fusable, fusable
from caloforge.runtime.compiled import traced

__all__ = ["Layers", "block_sums", "renormalise_layers"]

ROUNDING = 1e-6
"""A cell this part under the threshold is taken as being at it, so that rounding drops none."""
HINT = torch.finfo(torch.float32).tiny
"""MeV that the cell nearest to the axis has at least, so that it is the hottest where all are empty."""


class Layers(Fusable):
    """Which voxels make up which layer; the same few operations for regular and ragged meshes.

    Args:
        sizes: voxels in each layer, Z numbers, in the order of the flattened voxels.
        central: for each layer the cell, counted within the layer, that is nearest to the shower axis.

    Raises:
        RecipeError: a layer is empty, or ``central`` names a cell that its layer has not.
    """

    cells: Tensor
    slots: Tensor
    mask: Tensor
    owner: Tensor
    hint: Tensor
    first: Tensor

    def __init__(self, sizes: Sequence[int], central: Sequence[int] | None = None) -> None:
        super().__init__()
        self.sizes = tuple(int(s) for s in sizes)
        self.central = tuple(int(c) for c in (central if central is not None else [0] * len(self.sizes)))
        if not self.sizes or min(self.sizes) < 1 or len(self.central) != len(self.sizes):
            raise RecipeError(f"layers need positive sizes and one central cell each, got {self}")
        if not all(0 <= c < s for c, s in zip(self.central, self.sizes, strict=True)):
            raise RecipeError(f"a central cell lies outside its layer: {self}")
        size, width = torch.tensor(self.sizes), max(self.sizes)
        within = torch.arange(width)
        mask = within < size[:, None]
        first = size.cumsum(0) - size
        buffers = {
            "mask": mask,  # (Z, M), True where a padded cell exists
            "cells": torch.where(mask, first[:, None] + within, 0).flatten(),  # (Z·M,) voxel of a padded cell
            "slots": mask.flatten().nonzero()[:, 0],  # (V,) padded cell of a voxel
            "owner": torch.arange(len(size)).repeat_interleave(size),  # (V,) layer of a voxel
            "hint": HINT * F.one_hot(torch.tensor(self.central), width),  # (Z, M), MeV
            "first": within == 0,  # (M,)
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    @classmethod
    def of(cls, mesh: Mesh) -> Layers:
        """The layers of a mesh."""
        centres = mesh.centres()
        radii = np.split(np.hypot(centres["x"], centres["y"]), mesh.layer_offsets[1:-1])
        nearest = [int((r <= r.min() * (1 + 1e-9)).argmax()) for r in radii]  # first of equals
        return cls(mesh.layer_sizes.tolist(), nearest)

    def layer(self, i: int) -> Layers:
        """A single layer alone."""
        return Layers([self.sizes[i]], [self.central[i]])

    def __repr__(self) -> str:
        return f"Layers(sizes={self.sizes}, central={self.central})"

    @property
    def n_layers(self) -> int:
        return len(self.sizes)

    @property
    def n_voxels(self) -> int:
        return sum(self.sizes)

    @property
    def width(self) -> int:
        """M, the cells of the largest layer."""
        return max(self.sizes)

    @property
    def regular(self) -> bool:
        return min(self.sizes) == self.width

    def split(self, x: Tensor) -> Tensor:
        """Voxels by layer, ragged ones filled with zeros: (n, V) or (n, *shape) → (n, Z, M)."""
        if not traced() and (x.dim() < 2 or x.shape[1:].numel() != self.n_voxels):
            raise MeshError(f"values of shape {tuple(x.shape)} do not fit {self.n_voxels} voxels")
        flat, shape = x.flatten(1), (-1, self.n_layers, self.width)
        if self.regular:
            return flat.reshape(shape)
        return torch.where(self.mask, flat[:, self.cells].reshape(shape), 0.0)

    def join(self, y: Tensor) -> Tensor:
        """Undo `split`: (n, Z, M) → (n, V)."""
        flat = y.flatten(1)
        return flat if self.regular else flat[:, self.slots]

    def sum(self, x: Tensor) -> Tensor:
        """Energy in each layer: (n, V) or (n, *shape) → (n, Z). The same for any batch size."""
        return self.split(x).sum(-1)

    def spread(self, values: Tensor) -> Tensor:
        """Each voxel's layer's value: (n, Z) → (n, V)."""
        return values[:, self.owner]

    @fusable
    def closed(self, energies: Tensor, layer_energies: Tensor, threshold: Tensor | float) -> Tensor:
        """See `renormalise_layers`."""
        total = layer_energies.to(energies.dtype)[..., None]  # (n, Z, 1)
        limit = threshold - threshold * ROUNDING  # exact in float32, which a factor would not be
        proposed = torch.maximum(self.split(energies), self.hint)
        ordered, order = proposed.sort(dim=-1, descending=True, stable=True)  # (n, Z, M)
        shares = ordered / ordered[..., :1]
        fits = (shares * total >= limit * shares.cumsum(-1)) & (ordered >= limit)
        keep = fits | self.first
        kept = shares * keep
        scaled = kept * (total / kept.sum(-1, keepdim=True))
        scaled = torch.maximum(scaled, total.clamp(max=threshold)) * keep
        cells = torch.zeros_like(scaled).scatter(-1, order, scaled)
        return self.join(cells).reshape(energies.shape)


def block_sums(cells: Tensor, factors: Sequence[int]) -> Tensor:
    """Sums over blocks of (a, b, c) cells of a regular mesh: (n, Z, P, R) → (n, Z/a, P/b, R/c)."""
    (n, z, p, r), (a, b, c) = cells.shape, factors
    return cells.reshape(n, z // a, a, p // b, b, r // c, c).sum(dim=(2, 4, 6))


def renormalise_layers(
    energies: Tensor, layer_energies: Tensor, layers: Layers, threshold: Tensor | float = 0.0
) -> Tensor:
    """Cut and rescale so that each layer has its energy and no cell lies between 0 and the threshold.

    In each layer, with tentative cell energies w ≥ 0 and the energy E that it shall have:

    1. Cells with w < threshold are cut. If none is left, the hottest one stays alone; if all are zero, that
       is the cell nearest to the shower axis.
    2. The k hottest of the rest are kept and rescaled to E, with the largest k for which the faintest of
       them stays at or above the threshold: w_k·E/Σ_{i≤k} w_i ≥ threshold. The left side falls with k, so
       one sort finds what cutting and rescaling in turns would converge to.
    3. A layer with E = 0 is empty. If 0 < E < threshold both demands cannot be met: the energy is kept,
       in the hottest cell alone.

    Layers have their energy within 10⁻⁶ relative in float32, and what was closed stays as it is; but where a
    proposal misses E by more than that, a cell as near to the threshold as the miss may be cut.
    NaN or ∞ in a layer gives NaN in it.
    The threshold-aware renormalisation of L2LFlows (arXiv:2302.11594) serves the same end.

    Args:
        energies: w, MeV, (n, V) or (n, *shape).
        layer_energies: E ≥ 0, MeV, (n, Z).
        layers: which voxel belongs to which layer.
        threshold: of a cell, MeV.

    Returns:
        Energies in the shape of ``energies``, MeV.
    """
    return layers.closed(energies, layer_energies, threshold)
