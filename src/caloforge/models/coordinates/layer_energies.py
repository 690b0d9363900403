"""Layer energies as logits of ratios: how much of the incident energy is seen, and how the rest splits.

    u_0 = Σ_k E_k/(c·E_inc),    u_{n+1} = E_n/T_n  with the tail  T_n = Σ_{k≥n} E_k,    n = 0 ... Z − 2

CaloFlow, CaloINN and CaloDREAM (arXiv:2106.05285, 2312.09290, 2405.09629). ``n`` showers, ``Z`` layers, MeV.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["energy_logits", "layer_energies_from_logits", "tails"]


def tails(layer_energies: Tensor) -> Tensor:
    """T_n = Σ_{k≥n} E_k: (n, Z) → (n, Z)."""
    return layer_energies.flip(-1).cumsum(-1).flip(-1)


def energy_logits(layer_energies: Tensor, energy: Tensor, scale: float = 1.0, bound: float = 25.0) -> Tensor:
    """z = logit(u), (n, Z), of layer energies (n, Z) ≥ 0 and incident energies (n,).

    Formed from the energies themselves: z_0 = log T_0 − log(c·E_inc − T_0), z_{n+1} = log E_n − log T_{n+1},
    within ±bound, which stands for ±∞; 0/0, in an empty tail, gives −bound. Unlike the logit of a rounded u,
    this keeps a tail of 10⁻⁹ of the energy in float32.

    Args:
        layer_energies, energy: MeV.
        scale: c, so large that u_0 ≤ 1.
        bound: 25 stands for a ratio of 10⁻¹¹.
    """
    left = tails(layer_energies)
    part = torch.cat([left[:, :1], layer_energies[:, :-1]], dim=1)
    seen = (scale * energy.to(left.dtype)[:, None] - left[:, :1]).clamp(min=0.0)
    rest = torch.cat([seen, left[:, 1:]], dim=1)
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
    return (scale * energy).to(z.dtype)[:, None] * shares
