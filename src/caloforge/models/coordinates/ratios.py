"""Layer energies as ratios: how much of the incident energy is seen, and how the rest splits layer by layer.

    u_0 = Σ_k E_k/(c·E_inc),    u_{n+1} = E_n/T_n  with the tail  T_n = Σ_{k≥n} E_k,    n = 0 ... Z − 2

CaloFlow, CaloINN and CaloDREAM (arXiv:2106.05285, 2312.09290, 2405.09629). ``n`` showers, ``Z`` layers, MeV.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from caloforge.models.coordinates.base import (
    Context,
    Transform,
    per_energy,
    positive,
    require_all,
    sum_examples,
)

__all__ = [
    "EnergyLogits",
    "EnergyRatios",
    "energy_logits",
    "energy_ratios",
    "layer_energies_from_logits",
    "layer_energies_from_ratios",
]

ROUNDING = 1e-6
TOO_LARGE = "it is ΣE_layer/(c·E_inc), which must not exceed 1; choose a larger scale c"


def _tails(layer_energies: Tensor) -> Tensor:
    """T_n = Σ_{k≥n} E_k: (n, Z) → (n, Z)."""
    return layer_energies.flip(-1).cumsum(-1).flip(-1)


def energy_ratios(layer_energies: Tensor, energy: Tensor, scale: float = 1.0) -> Tensor:
    """u (n, Z) of layer energies (n, Z) and incident energies (n,), MeV; 0/0, in an empty tail, is 0."""
    tails = _tails(layer_energies)
    seen = tails[:, :1] / per_energy(scale * energy, tails)
    below = torch.where(tails > 0, tails, 1.0)
    return torch.cat([seen, (layer_energies / below)[:, :-1]], dim=1)


def layer_energies_from_ratios(u: Tensor, energy: Tensor, scale: float = 1.0) -> Tensor:
    """Undo `energy_ratios`: E_n = u_{n+1}·T_n with T_n = c·E_inc·u_0·Π_{k≤n}(1 − u_k), k ≥ 1.

    Ratios outside [0, 1] are a network's overshoot and are set to the end of the interval (u_0: to ≥ 0).
    """
    first, rest = u[:, :1].clamp(min=0.0), u[:, 1:].clamp(0.0, 1.0)
    left = torch.cat([torch.ones_like(first), (1 - rest).cumprod(-1)], dim=1)
    tails = per_energy(scale * energy, u) * first * left
    return tails * torch.cat([rest, torch.ones_like(first)], dim=1)


def energy_logits(layer_energies: Tensor, energy: Tensor, scale: float = 1.0, bound: float = 25.0) -> Tensor:
    """z = logit(u), (n, Z), from the energies themselves: z_0 = log T_0 − log(c·E_inc − T_0),
    z_{n+1} = log E_n − log T_{n+1}, within ±bound, which stands for ±∞; 0/0 gives −bound.

    Unlike the logit of a rounded u, this keeps a tail of 10⁻⁹ of the energy in float32.
    """
    tails = _tails(layer_energies)
    part = torch.cat([tails[:, :1], layer_energies[:, :-1]], dim=1)
    rest = torch.cat([(per_energy(scale * energy, tails) - tails[:, :1]).clamp(min=0.0), tails[:, 1:]], dim=1)
    both = (part > 0) & (rest > 0)
    z = torch.where(both, part, 1.0).log() - torch.where(both, rest, 1.0).log()
    end = torch.where(part > 0, bound, -bound).to(z.dtype)
    return torch.where(both, z, end).clamp(-bound, bound)


def layer_energies_from_logits(z: Tensor, energy: Tensor, scale: float = 1.0) -> Tensor:
    """Undo `energy_logits`, with log T_n = log(c·E_inc) + log σ(z_0) + Σ_{1≤k≤n} log σ(−z_k)."""
    rest = z[:, 1:]
    log_left = torch.cat([torch.zeros_like(z[:, :1]), logsigmoid(-rest).cumsum(-1)], dim=1)
    log_share = torch.cat([logsigmoid(rest), torch.zeros_like(z[:, :1])], dim=1)
    shares = torch.exp(logsigmoid(z[:, :1]) + log_left + log_share)
    return per_energy(scale * energy, z) * shares


class EnergyRatios(Transform):
    """Layer energies (n, Z) ↔ ratios u (n, Z) in [0, 1]; see the head of this module.

    Zeros: behind the last layer with energy u is 0 and its place is marked by the u = 1 before it. The
    log-determinant, −log(c·E_inc) − Σ_{n≤Z−2} log T_n, leaves out the tails that are 0.
    In float32 energies come back within about 10⁻⁶ of the total; see `EnergyLogits` where that is not enough.

    Args:
        scale: c, so large that u_0 ≤ 1.

    Raises:
        DataError: u_0 > 1, or an energy is negative.
    """

    kind = "energy-ratios"

    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        self.scale = positive("scale", scale)

    def config(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        energy = self.need(context, "energy").to(x.dtype)
        require_all(x >= 0, x, "a layer energy must not be negative")
        u = energy_ratios(x, energy, self.scale)
        require_all(u[:, :1] <= 1 + ROUNDING, u[:, :1], TOO_LARGE)
        tails = _tails(x)[:, :-1]
        known = torch.where(tails > 0, tails, 1.0)
        return u, -(self.scale * energy).log() - sum_examples(known.log())

    def inverse(self, y: Tensor, context: Context) -> Tensor:
        return layer_energies_from_ratios(y, self.need(context, "energy").to(y.dtype), self.scale)


class EnergyLogits(Transform):
    """Layer energies (n, Z) ↔ logits of their ratios (n, Z), exact where `EnergyRatios` and `Logit` saturate.

    Put `AddNoise` before it, so that no ratio is exactly 0 or 1 and no value piles up at ±bound.
    A coordinate at ±bound does not depend on the energies, and the log-determinant leaves its terms out.

    Args:
        scale: c, so large that u_0 ≤ 1.
        bound: |z| stays within it; 25 stands for a ratio of 10⁻¹¹.

    Raises:
        DataError: u_0 > 1, or an energy is negative.
    """

    kind = "energy-logits"

    def __init__(self, scale: float = 2.0, bound: float = 25.0) -> None:
        super().__init__()
        self.scale, self.bound = positive("scale", scale), positive("bound", bound)

    def config(self) -> dict[str, Any]:
        return {"scale": self.scale, "bound": self.bound}

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        energy = self.need(context, "energy").to(x.dtype)
        require_all(x >= 0, x, "a layer energy must not be negative")
        u_0 = _tails(x)[:, :1] / per_energy(self.scale * energy, x)
        require_all(u_0 <= 1 + ROUNDING, u_0, TOO_LARGE)
        z = energy_logits(x, energy, self.scale, self.bound)
        # dz/dT of a ratio T'/T: with |dz/du| = 1/(σ(z)σ(−z)) and du/dT' = 1/T
        tails = torch.cat([per_energy(self.scale * energy, x), _tails(x)[:, :-1]], dim=1)
        inside = (z.abs() < self.bound) & (tails > 0)
        slope = -logsigmoid(z) - logsigmoid(-z) - torch.where(tails > 0, tails, 1.0).log()
        return z, sum_examples(torch.where(inside, slope, 0.0))

    def inverse(self, y: Tensor, context: Context) -> Tensor:
        return layer_energies_from_logits(y, self.need(context, "energy").to(y.dtype), self.scale)
