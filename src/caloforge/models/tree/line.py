"""How far the splits of a halving lie from the straight line of the incident particle.

Legend: ``n`` showers, ``P`` parents that are split, ``Z`` layers of (B, C) parents. Lengths are mm.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.detector.mesh import BoxMesh
from caloforge.models.tree.halvings import Halving

__all__ = ["PlaceNumbers", "SplitsToLine"]

FORMS = (lambda d: 0.3 * torch.asinh(d), torch.tanh)
"""Distances in cells as networks see them: from afar, and next to the line."""


class PlaceNumbers(nn.Module):
    """N numbers of a shower, of which each split knows K.

    Attributes:
        size: N.
        index: which of the numbers each split knows, (P + 1, K); of one more that does not exist, any.
    """

    size: int
    index: Tensor


class SplitsToLine(PlaceNumbers):
    """How far the places of a shower lie from its line.

    A split in x or y knows the place where it divides, from the line at the depth of its layer, and how far
    its middle lies from the line along the other axis.

    Args:
        mesh: a box.
        halving: of parents within layers.
    """

    places: Tensor

    def __init__(self, mesh: BoxMesh, halving: Halving) -> None:
        super().__init__()
        edges = [np.array(e) for e in (mesh.y_edges, mesh.x_edges)]
        n_z, n_b, n_c = halving.shape
        across = [
            _places(e, n, halving.axis == i + 1)
            for i, (e, n) in enumerate(zip(edges, (n_b, n_c), strict=True))
        ]
        self.rows = n_b
        self.cell = float(np.concatenate([np.diff(e) for e in edges]).mean())
        self.register_buffer("places", torch.from_numpy(np.concatenate(across)).float(), persistent=False)
        size = n_z * (n_b + n_c)
        self.size = len(FORMS) * size
        z, b, c = np.unravel_index(np.append(halving.cells, 0), halving.shape)
        first = np.stack([z * (n_b + n_c) + b, z * (n_b + n_c) + n_b + c], axis=1)
        self.index = torch.from_numpy(np.concatenate([first + i * size for i in range(len(FORMS))], axis=1))

    def forward(self, points: Tensor) -> Tensor:
        """Numbers (n, N) of points (x, y) of the line in each layer, (n, Z, 2)."""
        x, y = points.unbind(dim=2)
        distances = torch.cat(
            [self.places[: self.rows] - y[:, :, None], self.places[self.rows :] - x[:, :, None]], dim=2
        )
        distances = distances.flatten(1) / self.cell
        return torch.cat([form(distances) for form in FORMS], dim=1)


def _places(edges: NDArray[np.float64], n: int, halved: bool) -> NDArray[np.float64]:
    """Where n parents along an axis are divided, or their middles, (n,)."""
    cells, width = len(edges) - 1, 1
    while -(-cells // width) > n:
        width *= 2
    begin = np.arange(n) * width
    end = np.minimum(begin + width, cells)
    if halved:
        return np.asarray(edges[np.minimum(begin + width // 2, cells)])
    return np.asarray((edges[begin] + edges[end]) / 2)
