"""What adversarial generators have in common: a critic, a generator, and showers with a threshold.

Legend: ``n`` showers, ``V`` cells, ``Z`` layers, ``K`` numbers of context. Energies are MeV.

The critic sees what is decoded: cells below the threshold are empty, layers closed. What a cut takes away has
no gradient, so gradients are those of the shower before the cut.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.data.showers import Showers
from caloforge.models.adversarial.objectives import Objective, critic_loss, generator_loss, gradient_penalty
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.conditions.momentum import MomentumContext
from caloforge.models.coordinates import Layers, energy_range, log_energy, renormalise_layers
from caloforge.models.coordinates.powers import PowerEnergies
from caloforge.models.energies.base import LayerEnergyChoice, LayerEnergyModel, layer_energy_model
from caloforge.models.energies.layers_then_cells import fitted_batches
from caloforge.models.networks.spectral import power_iteration

__all__ = ["AdversarialModel", "AdversarialSettings"]

DECADES = 8.0
"""Divisor of logarithms of layer energies over the threshold, as context."""
LIT_AT = (0.05, 0.3, 1.0)
"""Coordinates at which a cell counts as lit, smoothly, for `AdversarialModel.summary`."""
LEAST_SUM = 1e-12
"""MeV that the tentative cells of a layer have at least."""


class AdversarialSettings(GeneratorModel.Settings):
    """What settings of adversarial models have in common.

    Attributes:
        latent: numbers of noise.
        objective: "wasserstein", "hinge", "plain" or "non-saturating".
        penalty: weight of the gradient penalty; 0 for none.
        spectral: layers of the critic have spectral norm 1.
        conditional: networks are told of the incident particle; otherwise showers are those of the whole
            sample, whatever conditions are asked for.
        energies: a model of layer energies, trained beside, to which showers are brought; None where the
            generator makes them itself.
        power, knee: of `PowerEnergies`, in which networks see cells.
        threshold_mev: cells below are empty; by default the least cell energy in the training showers.
    """

    latent: int = Field(64, ge=1)
    objective: Objective = "wasserstein"
    penalty: float = Field(10.0, ge=0)
    spectral: bool = False
    conditional: bool = True
    energies: LayerEnergyChoice | None = None
    power: float = Field(0.25, ge=0, le=1)
    knee: float = Field(1.0, gt=0)
    threshold_mev: float | None = Field(None, gt=0)


class AdversarialModel(GeneratorModel):
    """Critic and generator; parts "critic", "generator" and, with a model of layer energies, "energies".

    A subclass calls `_begin`, builds its networks, hands them to `_build` and says what the generator
    proposes.
    """

    threshold: Tensor
    sizes: Tensor
    settings: AdversarialSettings

    def _begin(self) -> int:
        """Add what does not depend on the networks; returns K."""
        s = self.settings
        self.layers = Layers.of(self.mesh)
        self.incident = MomentumContext()
        self.cells = PowerEnergies(s.power, s.knee)
        self.register_buffer("threshold", torch.tensor(s.threshold_mev or 1.0))
        self.register_buffer("sizes", torch.tensor(self.layers.sizes, dtype=torch.float32), persistent=False)
        told = MomentumContext.size if s.conditional else 0
        self.energy_flow: LayerEnergyModel | None = None
        if s.energies is not None:
            self.energy_flow = layer_energy_model(s.energies, self.mesh.n_layers, MomentumContext.size)
            told += self.mesh.n_layers
        return told

    def _build(self, generator: nn.Module, critic: nn.Module) -> None:
        self.generator, self.critic = generator, critic

    @property
    def summary_size(self) -> int:
        """S, numbers of `summary`."""
        return (1 + len(LIT_AT)) * self.mesh.n_layers

    @abstractmethod
    def proposed(
        self, noise: Mapping[str, Tensor], context: Tensor, conditions: ConditionTensors
    ) -> tuple[Tensor, Tensor | None]:
        """Tentative cell energies (n, V) ≥ 0 and, where the generator makes them, layer energies (n, Z)."""

    @abstractmethod
    def score(self, seen: Tensor, context: Tensor, conditions: ConditionTensors) -> Tensor:
        """What the critic thinks of showers whose cells it sees as coordinates ``seen`` (n, V), (n,)."""

    def guidance(self, energies: Tensor, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Further losses of the generator, weighted, by name; of generated energies (n, V) for a batch."""
        return {}

    def summary(self, seen: Tensor) -> Tensor:
        """Energy and smooth shares of lit cells of each layer, (n, S), of coordinates (n, V)."""
        energies = self.cells.inverse(seen.clamp_min(0))
        lit = [self.layers.sum(-torch.expm1(-seen / level)) / self.sizes for level in LIT_AT]
        return torch.cat([log_energy(self.layers.sum(energies), self.threshold, DECADES), *lit], dim=1)

    def context(self, conditions: ConditionTensors) -> Tensor:
        """What networks are told, (n, K)."""
        told = [conditions.energy.new_zeros(conditions.energy.shape[0], 0)]
        if self.settings.conditional:
            told.append(self.incident(conditions))
        if conditions.layer_energies is not None and self.energy_flow is not None:
            told.append(log_energy(conditions.layer_energies, self.threshold, DECADES))
        return torch.cat(told, dim=1)

    def fit(self, showers: Showers) -> None:
        threshold = self.settings.threshold_mev or energy_range(showers)[0]
        self.threshold.fill_(threshold)
        self.cells.begin_fit(threshold)
        self.begin_fit()

        def layer_energies(batch: Batch) -> tuple[Tensor, Tensor, float]:
            return self.layers.sum(batch.energies), batch.energy, threshold

        for batch in fitted_batches(showers, self.incident, self.energy_flow, layer_energies):
            self.cells.fit_batch(batch.energies)
            self.fit_batch(batch)
        self.cells.end_fit()
        self.end_fit()

    def begin_fit(self) -> None:
        """Start collecting what else is fitted to the training split."""

    def fit_batch(self, batch: Batch) -> None:
        """Take a batch of the training split in."""

    def end_fit(self) -> None:
        """Keep what was collected as buffers."""

    def parts(self) -> dict[str, list[nn.Parameter]]:
        networks = {"critic": self.critic, "generator": self.generator}
        if self.energy_flow is not None:
            networks["energies"] = self.energy_flow
        return {name: list(network.parameters()) for name, network in networks.items()}

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Of the critic, with the "gap" by which it prefers real showers, or of the generator."""
        sums = self.layers.sum(batch.energies)
        if part == "energies":
            assert self.energy_flow is not None
            incident = self.incident(batch)
            loss = self.energy_flow.loss(sums, batch.energy, incident, self.threshold, generator)
            return {"loss": loss.mean()}
        if self.energy_flow is not None:
            batch = replace(batch, layer_energies=sums)
        context, noise = self.context(batch), self.noise(len(batch), generator)
        if part == "generator":
            energies = self.generated(noise, batch, generator)
            scores = self.score(self.cells(energies), context, batch)
            adversarial = generator_loss(self.settings.objective, scores)
            further = self.guidance(energies, batch, generator)
            return {"loss": adversarial + sum(further.values()), "adversarial": adversarial, **further}
        with torch.no_grad():
            fake = self.cells(self.generated(noise, batch, generator))
        real = self.cells(batch.energies.flatten(1))
        return self.critic_losses(lambda seen: self.score(seen, context, batch), real, fake, generator)

    def critic_losses(
        self, score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Of a critic whose scores of real and generated examples (n, D) are (n,) or (n, *)."""
        of_real, of_fake = score(real), score(fake)
        losses = {"loss": critic_loss(self.settings.objective, of_real, of_fake)}
        losses["gap"] = (of_real - of_fake).mean()
        if self.settings.penalty:
            penalty = gradient_penalty(score, real, fake, generator)
            losses["loss"] = losses["loss"] + self.settings.penalty * penalty
            losses["penalty"] = penalty
        return losses

    def after_step(self, part: str) -> None:
        if part == "critic" and self.settings.spectral:
            power_iteration(self.critic)

    def generated(self, noise: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> Tensor:
        """Showers to train with, (n, V): those of `decode`, with the gradients of what was proposed.

        In training they are moved as real ones are, by operations of their own.
        """
        decoded, proposed = self._closed(noise, batch)
        energies = proposed + (decoded - proposed).detach()
        if self.training and self.augmentation is not None:
            move = self.augmentation(batch, generator)
            energies = move(energies.view(-1, *self.mesh.shape)).flatten(1)
        return energies

    def _closed(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> tuple[Tensor, Tensor]:
        """Showers (n, V) cut at the threshold and, where layers have energies to have, closed; and uncut."""
        known = conditions
        if known.layer_energies is None and self.energy_flow is not None:
            incident = self.incident(conditions)
            drawn = self.energy_flow.sample(noise["energies"], conditions.energy, incident, self.threshold)
            known = replace(conditions, layer_energies=drawn)
        cells, layers = self.proposed(noise, self.context(known), known)
        layers = layers if known.layer_energies is None else known.layer_energies
        if layers is None:
            return torch.where(cells >= self.threshold, cells, 0.0), cells
        factor = layers / self.layers.sum(cells).clamp_min(LEAST_SUM)
        closed = renormalise_layers(cells.detach(), layers.detach(), self.layers, self.threshold)
        return closed, cells * self.layers.spread(factor)

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        return self._closed(noise, conditions)[0].view(-1, *self.mesh.shape)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        latent: dict[str, tuple[int, ...]] = {"latent": (self.settings.latent,)}
        return latent if self.energy_flow is None else {"energies": (self.energy_flow.noise_size,)} | latent
