"""What models have in common that draw layer energies first and then cells given them.

Legend: ``n`` showers, ``Z`` layers, ``C`` context numbers. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from caloforge.data.showers import Showers
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import FIT_BATCH, Layers, energy_range
from caloforge.models.energies.base import LayerEnergyModel, layer_energy_model
from caloforge.settings import KindSettings

__all__ = ["CellSettings", "LayersThenCells", "fitted_batches"]


class CellSettings(GeneratorModel.Settings):
    """What settings of models of cells have in common.

    Attributes:
        width: of the values that stand for empty cells, in logarithms of energy, see `fill_below`.
        smear: relative smearing of energies in training; keeps densities finite where the energy of a layer
            or of a coarse cell fixes that of its last cell.
        threshold_mev: cells below are empty; by default the least cell energy in the training showers.
        bf16: networks in bfloat16 (splines stay in float32); "auto" where the device multiplies it natively.
    """

    width: float = Field(2.0, gt=0)
    smear: float = Field(0.01, ge=0)
    threshold_mev: float | None = Field(None, gt=0)
    bf16: bool | Literal["auto"] = "auto"


class LayersThenCells(GeneratorModel):
    """A generator with a model of layer energies, incident context and one threshold.

    A subclass calls `_add_layer_energies` where it builds its networks.

    Attributes:
        layers: which voxels make up which layer.
        incident: what networks are given of the incident particle, (n, C).
        energy_flow: the model of layer energies.
        threshold: of cells, MeV.
    """

    threshold: Tensor

    def _add_layer_energies(self, settings: KindSettings, threshold_mev: float | None = None) -> None:
        self.layers = Layers.of(self.mesh)
        self.incident = IncidentContext()
        self.energy_flow = layer_energy_model(settings, self.mesh.n_layers, IncidentContext.size)
        self._threshold_mev = threshold_mev
        self.register_buffer("threshold", torch.tensor(threshold_mev or 1.0))

    def fit(self, showers: Showers) -> None:
        for _ in self.fitted_batches(showers):
            pass

    def fitted_batches(self, showers: Showers, least: float | None = None) -> Iterator[Batch]:
        """See `fitted_batches`; sets the threshold, to ``least`` where the settings do not say what it is."""
        threshold = self._threshold_mev or (energy_range(showers)[0] if least is None else least)
        self.threshold.fill_(threshold)

        def layer_energies(batch: Batch) -> tuple[Tensor, Tensor, float]:
            return self.layers.sum(batch.energies), batch.energy, threshold

        return fitted_batches(showers, self.incident, self.energy_flow, layer_energies)

    def layer_energy_losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean loss of the layer energies."""
        sums, incident = self.layers.sum(batch.energies), self.incident(batch)
        loss = self.energy_flow.loss(sums, batch.energy, incident, self.threshold, generator)
        return {"loss": loss.mean()}

    def layer_energies(self, noise: Tensor, incident: Tensor, conditions: ConditionTensors) -> Tensor:
        """Layer energies (n, Z) of a generation: those that are given, or those that the noise stands for."""
        if conditions.layer_energies is not None:
            return conditions.layer_energies
        return self.energy_flow.sample(noise, conditions.energy, incident, self.threshold)


def fitted_batches(
    showers: Showers,
    incident: IncidentContext,
    energies: LayerEnergyModel | None = None,
    layer_energies: Callable[[Batch], tuple[Tensor, Tensor, float]] | None = None,
    *,
    detectors: tuple[str, ...] = (),
    size: int = FIT_BATCH,
) -> Iterator[Batch]:
    """The batches of the training split, each after incident context and layer energies have taken it in.

    Their statistics are set when the last batch is done, so that a model that fits more does it in the same
    reading.

    Args:
        showers: the training split.
        incident, energies: whose statistics are fitted.
        layer_energies: of a batch, (n, Z), with incident energies (n,) and threshold, in one unit; what
            ``energies`` are fitted to.
        detectors: names that the batches' detector index counts.
        size: showers of a batch.
    """
    incident.begin_fit()
    if energies is not None:
        energies.begin_fit()
    for cells, conditions in showers.batches(size):
        batch = Batch.with_energies(cells, conditions, detectors)
        incident.fit_batch(batch)
        if energies is not None:
            assert layer_energies is not None
            energies.fit_batch(*layer_energies(batch))
        yield batch
    incident.end_fit()
    if energies is not None:
        energies.end_fit()
