"""Layer after layer of cells by one flow as a loop, whose round graphs hold once; see `RowLoop`.

Legend: ``n`` showers, mesh (Z, P, R), ``V`` context numbers of a layer, ``H`` layers before that are known,
``L`` showers whose layer is made: all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from caloforge.models.loops import RowLoop

__all__ = ["LayerLoop"]

MakeLayer = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class LayerLoop(RowLoop):
    """Its state are H layers of no energy, then those of the shower, as far as they are made.

    Args:
        make: cells (L, P, R) of a layer whose number is (1,), of noise (L, P, R), of the layers before, the
            last first, and the sum of all that are made (L, H + 1 (+ 1 of the coarse shower), P, R), of
            context numbers (L, V), and of the energies of the layer, (L, 1).
        history: H.
        shape: of the mesh.
        vector: V.
    """

    repeated: ClassVar[bool] = True
    before: Tensor

    def __init__(self, make: MakeLayer, history: int, shape: tuple[int, int, int], vector: int) -> None:
        n_z, rows, columns = shape
        super().__init__(torch.arange(1, n_z + 1)[:, None], n_z * rows * columns)
        self.make, self.history, self.cells, self.vector = make, history, (rows, columns), vector
        self.register_buffer("before", torch.arange(history - 1, -1, -1), persistent=False)

    def begin(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        energies, vectors, *maps = given
        numbers = torch.cat([energies[..., None], vectors, *(x.flatten(2) for x in maps)], dim=2)
        empty = energies[:, :1] * 0
        size = self.size + self.history * self.cells[0] * self.cells[1]
        return energies.T >= 0, numbers.transpose(0, 1), empty.expand(-1, size)

    def told(self, place: Tensor, shower: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        return shower, numbers

    def step(self, state: Tensor, turn: Tensor, *rows: Tensor) -> Tensor:
        shower, numbers = rows
        layers = torch.unflatten(state, 1, (-1, *self.cells))
        known = torch.cat(
            [layers.index_select(1, turn + self.before), layers.sum(dim=1, keepdim=True)], dim=1
        )
        energy, vector, maps = torch.split(
            numbers, [1, self.vector, numbers.shape[1] - 1 - self.vector], dim=1
        )
        noise, *coarse = torch.split(torch.unflatten(maps, 1, (-1, *self.cells)), 1, dim=1)
        maps = torch.cat([known.index_select(0, shower), *coarse], dim=1)
        cells = self.make(turn, noise[:, 0], maps, vector, energy)
        at = (turn + self.history).expand_as(shower)
        return layers.index_put((shower, at), cells).flatten(1)

    def end(self, state: Tensor) -> Tensor:
        return state[:, -self.size :]
