"""Layer energies by a causal transformer: the total, then layer after layer the ratio of what is left.

The factorisation and the transformer that gives each ratio its state are those of CaloDREAM (Favaro, Ore,
Palacios Schweitzer, Plehn, arXiv:2405.09629). What turns a state and a normal number into a ratio is a head:
conditional flow matching, as published, or a spline, whose density is known.

Step 0 draws the total T_0, as y = logit(T_0/(c·E_inc)); step i ≥ 1 splits what is left into layer i − 1 and
the layers behind it, T_{i−1} = E_{i−1} + T_i, as y = log E_{i−1} − log T_i. Where one of the two is empty, a
log-normal value below the threshold stands for it, so that its y lies beyond those of all legal splits; where
nothing is left there is nothing to draw. So layer energies and y determine each other, empty layers included.

Legend: ``n`` showers, ``Z`` layers and steps, ``C`` context numbers, ``W`` width, t the threshold of cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.coordinates import fill_below
from caloforge.models.coordinates.layer_energies import tails
from caloforge.models.energies.base import ENERGIES, LayerEnergyModel, LayerEnergySettings
from caloforge.models.energies.causal_transformer import CausalTransformer, KeyValueCache
from caloforge.models.energies.heads import HEADS

__all__ = ["LayerEnergyTransformer", "Splits", "TransformerSettings"]

LARGEST = 25.0
"""|y| is kept within it; stands for a ratio of 10⁻¹¹."""
KNOWN = 5
"""Numbers of the shower so far that a step is given."""


class Splits(NamedTuple):
    """Layer energies as the steps that made them; columns are steps.

    Attributes:
        y: see the head of this module, (n, Z); 0 where nothing was left.
        active: whether there was anything to draw, (n, Z).
        tails: T_0 … T_{Z−1}, (n, Z).
    """

    y: Tensor
    active: Tensor
    tails: Tensor

    @classmethod
    def from_energies(
        cls, energies: Tensor, incident: Tensor, threshold: Tensor | float, scale: float, below: Tensor
    ) -> Splits:
        """Steps of layer energies (n, Z), each 0 or ≥ t; ``below`` (n, Z) < t stands for empty parts."""
        left = tails(energies)
        part = torch.cat([left[:, :1], energies[:, :-1]], dim=1)
        rest = torch.cat([scale * incident[:, None] - left[:, :1], left[:, 1:]], dim=1)
        part, rest = (torch.where(x >= threshold, x, below).log() for x in (part, rest))
        y = part - rest
        active = F.pad(left[:, :-1] > 0, (1, 0), value=True)
        return cls(torch.where(active, y.clamp(-LARGEST, LARGEST), 0.0), active, left)


def _split(left: Tensor, y: Tensor, threshold: Tensor | float) -> Tensor:
    """The part of ``left`` (n,) that goes to the layer; neither it nor the rest lies between 0 and t."""
    part, rest = left * y.sigmoid(), left * (-y).sigmoid()
    # where both are below the threshold the larger takes all
    none = (part < threshold) & ((rest >= threshold) | (part < rest))
    return torch.where(none, 0.0, torch.where(rest < threshold, left, part))


class TransformerSettings(LayerEnergySettings):
    """See `LayerEnergySettings`; what is smaller than there by default."""

    kind: str = "transformer"
    blocks: int = Field(3, ge=1)
    hidden: int = Field(64, ge=1)
    bins: int = Field(10, ge=2)
    bound: float = Field(5.0, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)

    @field_validator("head")
    @classmethod
    def _known_head(cls, name: str) -> str:
        HEADS[name]
        return name


@ENERGIES.add("transformer")
class LayerEnergyTransformer(LayerEnergyModel):
    """Loss and sampler of layer energies (n, Z)."""

    Settings = TransformerSettings
    mean: Tensor
    std: Tensor

    def __init__(self, settings: TransformerSettings, layers: int, context: int) -> None:
        super().__init__(settings, layers, context)
        s, width = settings, settings.hidden
        self.layers, self.scale, self.fill = layers, s.scale, s.width
        self.enter = nn.Linear(context + KNOWN + 1, width)
        self.place = nn.Parameter(0.3 * torch.randn(layers, width))
        self.transformer = CausalTransformer(width, s.blocks, s.heads, s.dropout)
        self.head = HEADS[s.head](s)
        self.register_buffer("mean", torch.zeros(layers))
        self.register_buffer("std", torch.ones(layers))

    @property
    def noise_size(self) -> int:
        return self.layers

    def begin_fit(self) -> None:
        self._sums = torch.zeros(3, self.layers, dtype=torch.float64)

    def fit_batch(self, energies: Tensor, incident: Tensor, threshold: float) -> None:
        y, active, _ = self._splits(energies, incident, threshold, torch.full_like(energies, 0.5))
        known = torch.where(active, y, 0.0).double()
        self._sums += torch.stack([active.double(), known, known.square()]).sum(dim=1).cpu()

    def end_fit(self) -> None:
        count, total, squares = self._sums
        mean = total / count.clamp_min(1)
        variance = squares / count.clamp_min(1) - mean.square()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(count > 1, variance.clamp_min(1e-6).sqrt(), 1.0))
        del self._sums

    def _splits(
        self, energies: Tensor, incident: Tensor, threshold: Tensor | float, uniform: Tensor
    ) -> Splits:
        below = threshold * fill_below(uniform, self.fill).exp()
        kept = torch.where(energies >= threshold, energies, 0.0)
        return Splits.from_energies(kept, incident, threshold, self.scale, below)

    def _tokens(
        self, context: Tensor, y: Tensor, known: tuple[Tensor, ...], threshold: Tensor | float, place: Tensor
    ) -> Tensor:
        """Tokens (…, W) of context (…, C), the standardised y (…) of the step before, and what is known.

        ``known`` are energies of the shower, of the layers left, the last and the one before, and the sum of
        energy times depth, (…) each; all 0 before the total is drawn.
        """
        total, left, last, before, moment = known
        logs = [torch.log1p(x / threshold) / 4 for x in (total, left, last, before)]
        share = (left / total.clamp_min(threshold) + 1e-3).log() / 4 + 1
        depth = 2 * moment / (total - left).clamp_min(threshold) - 1
        numbers = torch.stack([logs[0] - 1, logs[1] - 1, share, 2 * (logs[2] - logs[3]), depth, y], dim=-1)
        entered: Tensor = self.enter(torch.cat([context, numbers], dim=-1))
        return entered + place

    def loss(
        self,
        energies: Tensor,
        incident: Tensor,
        context: Tensor,
        threshold: Tensor | float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Negative log-likelihood of y (splines) or error of the velocity, summed over steps: (n,)."""
        uniform = torch.rand(
            energies.shape, generator=generator, device=energies.device, dtype=energies.dtype
        )
        z, states, active = self.states(energies, incident, context, threshold, uniform)
        return torch.where(active, self.head.loss(z, states, generator), 0.0).sum(dim=1)

    def states(
        self, energies: Tensor, incident: Tensor, context: Tensor, threshold: Tensor | float, uniform: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Standardised y (n, Z) of layer energies, the state of each step (n, Z, W), whether it is active.

        ``uniform`` (n, Z) in (0, 1) places empty parts.
        """
        y, active, left = self._splits(energies, incident, threshold, uniform)
        z = (y - self.mean) / self.std
        kept = torch.where(energies >= threshold, energies, 0.0)
        depth = torch.arange(self.layers, device=z.device) / self.layers

        def delayed(x: Tensor, steps: int) -> Tensor:
            return F.pad(x, (steps, 0))[:, : self.layers]

        known = (
            delayed(left[:, :1].expand_as(left), 1),
            delayed(left, 1),
            delayed(kept, 2),
            delayed(kept, 3),
            delayed((kept * depth).cumsum(dim=1), 2),
        )
        steps = context[:, None].expand(-1, self.layers, -1)
        tokens = self._tokens(steps, delayed(z, 1), known, threshold, self.place)
        return z, self.transformer(tokens), active

    def sample(self, noise: Tensor, incident: Tensor, context: Tensor, threshold: Tensor | float) -> Tensor:
        """Layer energies (n, Z) of noise (n, Z); they sum to the total that was drawn."""
        cache = KeyValueCache(noise.shape[0], self.layers, self.transformer)
        y = total = left = last = before = moment = torch.zeros_like(incident)
        energies: list[Tensor] = []
        for i, z in enumerate(noise.unbind(dim=1)):
            known = (total, left, last, before, moment)
            token = self._tokens(context, y, known, threshold, self.place[i])
            y = self.head.sample(z, self.transformer.step(token, i, cache))
            raw = (y * self.std[i] + self.mean[i]).clamp(-LARGEST, LARGEST)
            if i == 0:
                total = self.scale * incident * raw.sigmoid()
                total = left = torch.where(total >= threshold, total, 0.0)
                continue
            before, last = last, _split(left, raw, threshold)
            energies.append(last)
            left = torch.where(last > 0, torch.where(last < left, left * (-raw).sigmoid(), 0.0), left)
            moment = moment + last * ((i - 1) / self.layers)
        return torch.stack([*energies, left], dim=1)
