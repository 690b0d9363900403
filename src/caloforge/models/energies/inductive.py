"""How the energy is shared among layers: the total, then each layer given those before it.

Legend: ``n`` showers, ``Z`` layers, ``C`` context numbers, ``K`` spline bins, t the cell threshold.

p(E_1 … E_Z | context) = p(w | context) · Π_i p(v_i | w, v_1 … v_{i−1}, context) with w = log(ΣE/E_inc) and
v_i the `log_threshold` of E_i. All layers share one network, so that one shower is Z training examples; the
factors are splines of one number, so that a density needs one pass and a sample Z small ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.coordinates import RunningMoments, exp_threshold, fill_below, log_threshold
from caloforge.models.energies.base import ENERGIES, LayerEnergyDensity, LayerEnergySettings
from caloforge.models.networks.fused import Fusable, fusable
from caloforge.models.networks.splines.kernel import HasSplineKernel
from caloforge.models.networks.splines.splines import (
    n_spline_parameters,
    rational_quadratic,
    rational_quadratic_image,
)

__all__ = ["InductiveSettings", "LongitudinalFlow", "SplineNetwork"]

HISTORY = 4
SUMMARY = 4
TOTAL_FLOOR = 1e-6


class SplineNetwork(HasSplineKernel):
    """Features (*, F) → shift, log scale and spline of one number."""

    def __init__(self, features: int, hidden: int, depth: int, bins: int, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.enter = nn.Linear(features, hidden)
        self.blocks = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth))
        self.head = nn.Linear(hidden, 2 + n_spline_parameters(bins))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def _coefficients(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shift, logarithm of the scale (*) and spline (Q, *) of what `enter` gives, (*, H)."""
        for block in self.blocks:
            h = h + block(F.silu(h))
        rows = F.silu(h).flatten(0, -2)
        out = torch.addmm(self.head.bias[:, None], self.head.weight, rows.T).view(-1, *h.shape[:-1])
        return out[0], out[1].clamp(-5, 5), out[2:]

    def log_prob(self, v: Tensor, features: Tensor) -> Tensor:
        """log p(v | features), of the shape of v."""
        shift, log_scale, spline = self._coefficients(self.enter(features))
        u = (v - shift) * log_scale.exp()
        z, slope = rational_quadratic(u, spline, bound=self.bound, compiled=self.compiled)
        return slope + log_scale - 0.5 * z.square() - 0.5 * math.log(2 * math.pi)

    def sample(self, z: Tensor, features: Tensor) -> Tensor:
        """The v that standard normal z stands for."""
        return self.sample_entered(z, self.enter(features))

    def sample_entered(self, z: Tensor, h: Tensor) -> Tensor:
        """The same, given what `enter` makes of the features, (*, H)."""
        shift, log_scale, spline = self._coefficients(h)
        u = rational_quadratic_image(z, spline, bound=self.bound, inverse=True, compiled=self.compiled)
        return torch.addcmul(shift, u, (-log_scale).exp())


class InductiveSettings(LayerEnergySettings):
    """See `LayerEnergySettings`."""

    kind: str = "inductive"


@ENERGIES.add("inductive")
class LongitudinalFlow(LayerEnergyDensity, Fusable):
    """Density and sampler of layer energies (n, Z), MeV."""

    Settings = InductiveSettings
    mean: Tensor
    std: Tensor
    total_mean: Tensor
    total_std: Tensor
    position: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self, settings: InductiveSettings, layers: int, context: int) -> None:
        super().__init__(settings, layers, context)
        self.layers, self.width = layers, settings.width
        sizes = (settings.hidden, settings.depth, settings.bins, settings.bound)
        self.total = SplineNetwork(context, *sizes)
        self.layer = SplineNetwork(context + 1 + layers + HISTORY + SUMMARY, *sizes)
        for name in ("mean", "total_mean"):
            self.register_buffer(name, torch.zeros(layers if name == "mean" else ()))
        for name in ("std", "total_std"):
            self.register_buffer(name, torch.ones(layers if name == "std" else ()))
        position, zero = torch.linspace(0, 1, layers), torch.zeros(layers)
        # what brings `_known` to order one: v as it is, then 2·left − 1, log/4 + 1 and twice the depths
        offset = [*[zero] * HISTORY, zero - 1, zero + 1, zero - 1, 2 * position]
        buffers = {
            "position": position,  # (Z,)
            "scale": torch.tensor([*[1.0] * HISTORY, 2.0, 0.25, 2.0, -2.0]),  # (HISTORY + SUMMARY,)
            "offset": torch.stack(offset, dim=1),  # (Z, HISTORY + SUMMARY)
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    @property
    def noise_size(self) -> int:
        """Normal numbers that one shower takes."""
        return self.layers + 1

    def begin_fit(self) -> None:
        """Start collecting the statistics of the training split."""
        self._moments, self._total_moments = RunningMoments((self.layers,)), RunningMoments(())

    def fit_batch(self, energies: Tensor, incident: Tensor, threshold: float) -> None:
        """Add layer energies (n, Z) and incident energies (n,), MeV."""
        generator = torch.Generator().manual_seed(self._moments.count)
        uniform = torch.rand(energies.shape, generator=generator)  # layers that are never hit vary too
        self._moments.add(self._values(energies, threshold, uniform))
        self._total_moments.add(self._ratio(energies, incident))

    def end_fit(self) -> None:
        """Keep the statistics collected since `begin_fit` as buffers."""
        self._moments.store(self.mean, self.std)
        self._total_moments.store(self.total_mean, self.total_std)
        del self._moments, self._total_moments

    def _values(self, energies: Tensor, threshold: Tensor | float, uniform: Tensor) -> Tensor:
        return log_threshold(energies, threshold, fill_below(uniform, self.width))

    @staticmethod
    def _ratio(energies: Tensor, incident: Tensor) -> Tensor:
        return (energies.sum(dim=-1) / incident).clamp_min(TOTAL_FLOOR).log()

    def _known(
        self, past: Sequence[Tensor], seen: Tensor, depth_sum: Tensor, total: Tensor, offset: Tensor
    ) -> Tensor:
        """What is known of the layers before: v of the last ones, fraction left, its logarithm, mean depth.

        All are (…), the result (…, HISTORY + SUMMARY); the last column is the depth since.
        """
        left = (1 - seen / total).clamp(0, 1)
        mean_depth = depth_sum / seen.clamp_min(TOTAL_FLOOR)
        known = torch.stack([*past, left, (left + 1e-4).log(), mean_depth, mean_depth], dim=-1)
        return torch.addcmul(offset, known, self.scale)

    def log_prob(
        self, energies: Tensor, incident: Tensor, context: Tensor, threshold: Tensor | float, uniform: Tensor
    ) -> Tensor:
        """log p of layer energies (n, Z) with uniform noise (n, Z) in place of empty layers: (n,)."""
        n, layers = energies.shape
        w = (self._ratio(energies, incident) - self.total_mean) / self.total_std
        v = (self._values(energies, threshold, uniform) - self.mean) / self.std
        total = energies.sum(dim=-1, keepdim=True).clamp_min(threshold)
        before = F.pad(energies.cumsum(dim=-1), (1, 0))[:, :-1]
        depth = F.pad((energies * self.position).cumsum(dim=-1), (1, 0))[:, :-1]
        past = F.pad(v, (HISTORY, 0))
        history = [past[:, HISTORY - k : HISTORY - k + layers] for k in range(1, HISTORY + 1)]
        features = torch.cat(
            [
                torch.cat([context, w[:, None]], dim=-1)[:, None].expand(-1, layers, -1),
                torch.eye(layers, device=energies.device).expand(n, -1, -1),
                self._known(history, before, depth, total, self.offset),
            ],
            dim=-1,
        )  # (n, Z, F)
        return self.total.log_prob(w, context) + self.layer.log_prob(v, features).sum(dim=-1)

    @fusable
    def _step(
        self,
        z: Tensor,
        state: tuple[list[Tensor], Tensor, Tensor, Tensor],
        entered: Tensor,
        bias: Tensor,
        of_layer: list[Tensor],
        threshold: Tensor | float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """v, the energy of a layer, and sums of the energies and of energy times depth with it; all (n,).

        Args:
            z: noise, (n,).
            state: v of the last layers, the two sums so far, and the total.
            entered, bias: what the network's first layer makes of context and total, (n, H), and of the
                layer's number, (H,).
            of_layer: rows of the layer in offset, mean, std and position.
            threshold: of cells.
        """
        past, seen, depth, total = state
        offset, mean, std, position = of_layer
        known = self._known(past, seen, depth, total, offset)
        changing = self.layer.enter.weight[:, -known.shape[-1] :]
        v = self.layer.sample_entered(z, F.linear(known, changing, bias) + entered)
        energy = exp_threshold(torch.addcmul(mean, v, std), threshold)
        return v, energy, seen + energy, torch.addcmul(depth, energy, position)

    def sample(self, noise: Tensor, incident: Tensor, context: Tensor, threshold: Tensor | float) -> Tensor:
        """Layer energies (n, Z), MeV, of noise (n, Z + 1); they sum to the sampled total."""
        w = self.total.sample(noise[:, 0], context)
        total = torch.addcmul(self.total_mean, w, self.total_std).exp() * incident
        total = torch.where(total >= threshold, total, 0.0)
        least = total.clamp_min(threshold)
        # what the first layer of the network makes of the features that are the same for all layers, and of
        # the layer's number
        sizes = [context.shape[1] + 1, self.layers, HISTORY + SUMMARY]
        same, place, _ = torch.split(self.layer.enter.weight, sizes, dim=1)
        entered, place = (
            F.linear(torch.cat([context, w[:, None]], dim=-1), same),
            place.T + self.layer.enter.bias,
        )
        zero = torch.zeros_like(total)
        past, seen, depth, energies = [zero] * HISTORY, zero, zero, []
        steps = zip(noise.T[1:], place, self.offset, self.mean, self.std, self.position, strict=True)
        for z, bias, *of_layer in steps:
            v, energy, seen, depth = self._step(
                z, (past, seen, depth, least), entered, bias, of_layer, threshold
            )
            past = [v, *past[:-1]]
            energies.append(energy)
        stacked = torch.stack(energies, dim=-1)
        scaled = stacked * (total / stacked.sum(dim=-1).clamp_min(TOTAL_FLOOR))[:, None]
        scaled = torch.where(scaled >= threshold, scaled, 0.0)
        kept = scaled.sum(dim=-1, keepdim=True)
        return scaled * torch.where(kept > 0, total[:, None] / kept.clamp_min(TOTAL_FLOOR), 0.0)
