"""What of the incident particle can be read off an image: a regressor, whose features guide a generator.

Legend: ``n`` showers, ``V`` cells, ``K`` numbers of context, ``H`` features. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import RecipeError
from caloforge.models.adversarial.images import ImageTrunk
from caloforge.models.batch import Batch
from caloforge.models.conditions.momentum import MomentumContext
from caloforge.models.coordinates import energy_range
from caloforge.models.coordinates.powers import PowerEnergies
from caloforge.models.energies.layers_then_cells import fitted_batches
from caloforge.models.trainable import Trainable
from caloforge.settings import Settings

__all__ = ["ImageRegressor"]

FAR = 0.5
"""Standard deviations that means of conditions may be apart for a regressor to be of use."""


class ImageRegressor(Trainable):
    """Estimates momentum, impact point and label, `MomentumContext`, of showers; makes none.

    The loss is the mean squared error of the standardised numbers that vary.
    """

    class Settings(Settings):
        """Sizes of the network.

        Attributes:
            width, levels, hidden: of its `ImageTrunk`.
            power, knee: of `PowerEnergies`.
            threshold_mev: cells below are empty; by default the least cell energy in the training showers.
        """

        width: int = Field(16, ge=1)
        levels: int = Field(3, ge=1, le=8)
        hidden: int = Field(128, ge=1)
        power: float = Field(0.25, ge=0, le=1)
        knee: float = Field(1.0, gt=0)
        threshold_mev: float | None = Field(None, gt=0)

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    example: ClassVar[Mapping[str, Any]] = {"width": 4, "levels": 1, "hidden": 8}
    settings: Settings
    threshold: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s, (n_layers, rows, columns) = self.settings, mesh.shape
        self.incident = MomentumContext()
        self.cells = PowerEnergies(s.power, s.knee)
        self.register_buffer("threshold", torch.tensor(s.threshold_mev or 1.0))
        self.trunk = ImageTrunk(
            n_layers,
            (rows, columns),
            0,
            periodic=mesh.periodic[1],
            width=s.width,
            levels=s.levels,
            hidden=s.hidden,
        )
        self.last = nn.Linear(s.hidden, MomentumContext.size)

    def fit(self, showers: Showers) -> None:
        threshold = self.settings.threshold_mev or energy_range(showers)[0]
        self.threshold.fill_(threshold)
        self.cells.begin_fit(threshold)
        for batch in fitted_batches(showers, self.incident):
            self.cells.fit_batch(batch.energies)
        self.cells.end_fit()

    def features(self, energies: Tensor) -> Tensor:
        """(n, H) of energies (n, V)."""
        images = self.cells(energies).view(-1, *self.mesh.shape)
        features: Tensor = self.trunk(images, images.new_zeros(len(images), 0))
        return features

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        estimate = self.last(self.features(batch.energies.flatten(1)))
        errors = (estimate - self.incident(batch)).square().mean(dim=0)
        named = zip(MomentumContext.names, errors, strict=True)
        return {"loss": errors.mean(), **{f"error of {name}": error.detach() for name, error in named}}

    def require_conditions(self, incident: MomentumContext) -> None:
        """RecipeError unless it was trained at conditions like those whose statistics are given."""
        own, wanted = self.incident.varying(), incident.varying()
        if own != wanted:
            raise RecipeError(
                f"the regressor was trained on showers that vary in {', '.join(own) or 'nothing'}, those to "
                f"train on vary in {', '.join(wanted) or 'nothing'}; train a regressor on the same showers"
            )
        mean, std = incident.mean.to(self.device), incident.std.to(self.device)
        apart = (self.incident.mean - mean).abs() / torch.maximum(self.incident.std, std)
        far = [name for name, d in zip(incident.names, apart.tolist(), strict=True) if d > FAR]
        if far:
            raise RecipeError(
                f"the regressor was trained on showers of another {', '.join(far)}; train one on the same "
                "showers"
            )
