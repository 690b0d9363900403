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

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.coordinates import fill_below
from caloforge.models.coordinates.layer_energies import tails
from caloforge.models.energies.base import LayerEnergyModel
from caloforge.models.energies.causal_transformer import CausalTransformer, KeyValueCache
from caloforge.models.energies.inductive import SplineNetwork

__all__ = ["Head", "LayerEnergyTransformer", "Splits"]

Head = Literal["splines", "flow-matching"]

LARGEST = 25.0
"""|y| is kept within it; stands for a ratio of 10⁻¹¹."""
DRAWS = 4
"""Times and noises of a state in a training step; the network that sees them is small."""
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
        cls, energies: Tensor, incident: Tensor, threshold: float, scale: float, below: Tensor
    ) -> Splits:
        """Steps of layer energies (n, Z), each 0 or ≥ t; ``below`` (n, Z) < t stands for empty parts."""
        left = tails(energies)
        part = torch.cat([left[:, :1], energies[:, :-1]], dim=1)
        rest = torch.cat([scale * incident[:, None] - left[:, :1], left[:, 1:]], dim=1)
        part, rest = (torch.where(x >= threshold, x, below).log() for x in (part, rest))
        y = part - rest
        active = F.pad(left[:, :-1] > 0, (1, 0), value=True)
        return cls(torch.where(active, y.clamp(-LARGEST, LARGEST), 0.0), active, left)


def _split(left: Tensor, y: Tensor, threshold: float) -> Tensor:
    """The part of ``left`` (n,) that goes to the layer; neither it nor the rest lies between 0 and t."""
    part, rest = left * y.sigmoid(), left * (-y).sigmoid()
    # where both are below the threshold the larger takes all
    none = (part < threshold) & ((rest >= threshold) | (part < rest))
    return torch.where(none, 0.0, torch.where(rest < threshold, left, part))


class LayerEnergyTransformer(LayerEnergyModel):
    """Loss and sampler of layer energies (n, Z).

    Args:
        layers, context: Z and C.
        width, depth, heads, dropout: of the transformer.
        head: "splines" or "flow-matching".
        head_depth: hidden layers of the head.
        bins, bound: of the splines.
        steps: midpoint steps of the flow.
        scale: c, larger than any ΣE/E_inc.
        fill: width of the values that stand for empty parts, see `fill_below`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: int,
        context: int,
        *,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        head: Head,
        head_depth: int,
        bins: int,
        bound: float,
        steps: int,
        scale: float,
        fill: float,
    ) -> None:
        super().__init__()
        self.layers, self.scale, self.fill = layers, scale, fill
        self.enter = nn.Linear(context + KNOWN + 1, width)
        self.place = nn.Parameter(0.3 * torch.randn(layers, width))
        self.transformer = CausalTransformer(width, depth, heads, dropout)
        self.head: _Head = (
            _SplineHead(width, head_depth, bins, bound)
            if head == "splines"
            else _FlowMatchingHead(width, head_depth, steps)
        )
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

    def _splits(self, energies: Tensor, incident: Tensor, threshold: float, uniform: Tensor) -> Splits:
        below = threshold * fill_below(uniform, self.fill).exp()
        kept = torch.where(energies >= threshold, energies, 0.0)
        return Splits.from_energies(kept, incident, threshold, self.scale, below)

    def _tokens(
        self, context: Tensor, y: Tensor, known: tuple[Tensor, ...], threshold: float, place: Tensor
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
        threshold: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Negative log-likelihood of y (splines) or error of the velocity, summed over steps: (n,)."""
        uniform = torch.rand(
            energies.shape, generator=generator, device=energies.device, dtype=energies.dtype
        )
        z, states, active = self.states(energies, incident, context, threshold, uniform)
        return torch.where(active, self.head.loss(z, states, generator), 0.0).sum(dim=1)

    def states(
        self, energies: Tensor, incident: Tensor, context: Tensor, threshold: float, uniform: Tensor
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

    def sample(self, noise: Tensor, incident: Tensor, context: Tensor, threshold: float) -> Tensor:
        """Layer energies (n, Z) of noise (n, Z); they sum to the total that was drawn."""
        cache = KeyValueCache(len(noise), self.layers, self.transformer)
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


class _Head(nn.Module, ABC):
    """How one number is distributed, given a state (…, W)."""

    @abstractmethod
    def loss(self, z: Tensor, states: Tensor, generator: torch.Generator | None) -> Tensor:
        """Loss of numbers z (n, Z), given states (n, Z, W): (n, Z)."""

    @abstractmethod
    def sample(self, noise: Tensor, states: Tensor) -> Tensor:
        """Numbers (n,) of standard normal noise (n,), given states (n, W)."""


class _SplineHead(_Head):
    """A shift, a scale and a rational-quadratic spline; the loss is −log p."""

    def __init__(self, width: int, depth: int, bins: int, bound: float) -> None:
        super().__init__()
        self.network = SplineNetwork(width, width, depth, bins, bound)

    def loss(self, z: Tensor, states: Tensor, generator: torch.Generator | None) -> Tensor:
        return -self.network.log_prob(z, states)

    def sample(self, noise: Tensor, states: Tensor) -> Tensor:
        return self.network.sample(noise, states)


class _FlowMatchingHead(_Head):
    """The velocity along the line from data to noise, x_t = (1 − t)·z + t·ε (arXiv:2210.02747)."""

    def __init__(self, width: int, depth: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.state = nn.Linear(width, width)
        self.number = nn.Linear(1, width, bias=False)
        self.time = nn.Linear(5, width, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.Linear(width, 1)

    def _embedded(self, t: Tensor) -> Tensor:
        """Times (…) → (…, W)."""
        waves = [f(k * torch.pi * t) for k in (1, 2) for f in (torch.sin, torch.cos)]
        embedded: Tensor = self.time(torch.stack([t, *waves], dim=-1))
        return embedded

    def _velocity(self, x: Tensor, condition: Tensor) -> Tensor:
        """dx/dt (…) at x (…), given the embedding of state and time, (…, W)."""
        h = condition + self.number(x[..., None])
        for block in self.blocks:
            h = h + block(F.silu(h))
        velocity: Tensor = self.out(F.silu(h))[..., 0]
        return velocity

    def loss(self, z: Tensor, states: Tensor, generator: torch.Generator | None) -> Tensor:
        t = torch.rand((DRAWS, *z.shape), generator=generator, device=z.device, dtype=z.dtype)
        noise = torch.randn((DRAWS, *z.shape), generator=generator, device=z.device, dtype=z.dtype)
        velocity = self._velocity((1 - t) * z + t * noise, self.state(states) + self._embedded(t))
        return (velocity - (noise - z)).square().mean(dim=0)

    def sample(self, noise: Tensor, states: Tensor) -> Tensor:
        state, x = self.state(states), noise
        times = self._embedded(torch.linspace(1, 0, 2 * self.steps + 1, device=x.device, dtype=x.dtype))
        for start, middle in zip(times[:-1:2], times[1::2], strict=True):  # midpoint steps
            half = x - self._velocity(x, state + start) / (2 * self.steps)
            x = x - self._velocity(half, state + middle) / self.steps
        return x
