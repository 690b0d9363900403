"""What parametrised showers have in common: no weights that are trained, and layers whose energy lies in
hits.

Legend: ``n`` showers, ``Z`` layers, ``V`` voxels. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.detector.mesh import Mesh
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.coordinates import Layers
from caloforge.models.parametrised.hits import hit_cells

__all__ = ["ParametrisedModel"]


class ParametrisedModel(GeneratorModel):
    """A generator that is complete without training, or after `fit`.

    Attributes:
        layers: which voxels make up which layer.
        threshold: of cells, MeV.
    """

    class Settings(GeneratorModel.Settings):
        """What all have in common.

        Attributes:
            threshold_mev: cells below are empty; by default the least cell energy in the showers it is fitted
                to, or else the detector's.
        """

        threshold_mev: float | None = Field(None, gt=0)

    block_size: ClassVar[int] = 128
    settings: Settings
    threshold: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, Any] | None = None) -> None:
        super().__init__(mesh, settings)
        self.layers = Layers.of(mesh)
        self.register_buffer("threshold", torch.tensor(self.settings.threshold_mev or 1.0))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """None: there is nothing to train."""
        return {}

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Not called, since there are no parts."""
        raise NotImplementedError(f"a {type(self).__name__} has no part {part!r} to train")

    def in_hits(
        self, noise: Tensor, energies: Tensor, hits: Tensor, shares: Tensor, conditions: ConditionTensors
    ) -> Tensor:
        """Showers (n, \\*shape) of layer energies (n, Z) in about so many hits (n, Z), see `hit_cells`."""
        if conditions.layer_energies is not None:
            energies = conditions.layer_energies
        else:
            energies = torch.where(energies < self.threshold, 0.0, energies)
        cells = hit_cells(noise, energies, hits, shares, self.layers, self.threshold)
        return cells.view(-1, *self.mesh.shape)
