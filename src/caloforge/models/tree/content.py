"""How much of each layer is read out, as the splits of a halving are told.

Legend: ``n`` showers, ``P`` parents that are split, ``Z`` layers of the mesh.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caloforge.models.tree.halvings import Halving
from caloforge.models.tree.line import PlaceNumbers

__all__ = ["LayerContent"]


class LayerContent(PlaceNumbers):
    """Of halves of the layers how unequal their content is and how much both have; of others, that around.

    Args:
        halving: of any axis.
        layers: Z.
    """

    sides: Tensor

    def __init__(self, halving: Halving, layers: int) -> None:
        super().__init__()
        z = np.append(np.unravel_index(halving.cells, halving.shape)[0], 0)
        n = halving.shape[0]
        self.halves = halving.axis == 0
        if self.halves:
            width = 1
            while -(-layers // width) > halving.child_shape[0]:
                width *= 2
            child = np.arange(layers) // width
            sides = np.zeros((2, n, layers))
            sides[child % 2, child // 2, np.arange(layers)] = 1
            self.register_buffer("sides", torch.from_numpy(sides).float(), persistent=False)
            self.size, index = 2 * n, np.stack([z, n + z], axis=1)
        else:
            self.size, index = n + 2, z[:, None] + np.arange(3)
        self.index = torch.from_numpy(index)

    def forward(self, content: Tensor) -> Tensor:
        """Numbers (n, N) of the content of each layer, (n, Z)."""
        if not self.halves:
            return torch.nn.functional.pad(content, (1, 1))
        left, right = (content @ side.T for side in self.sides)
        both = left + right
        unequal = (left - right) / torch.where(both > 0, both, 1.0)
        return torch.cat([unequal, both / self.sides.sum(dim=(0, 2))], dim=1)
