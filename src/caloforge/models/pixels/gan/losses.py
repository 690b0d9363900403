"""Losses of the places that a critic gives the images of an event on a sphere, and of weights.

Legend: ``n`` events, ``S`` sensors, ``D`` numbers of a place, whose length is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["contrastive", "intra_event", "orthogonality", "uniformity"]

SPREAD = 2.0
"""t of the uniformity."""


def _off_diagonal(square: Tensor, fill: float) -> Tensor:
    """(n, S, S) with ``fill`` on the diagonal."""
    return square.masked_fill(torch.eye(square.shape[-1], dtype=torch.bool, device=square.device), fill)


def contrastive(places: Tensor, proxies: Tensor) -> Tensor:
    """Mean of −log exp(x_i·p_i) / (exp(x_i·p_i) + Σ_{k≠i} exp(x_i·x_k)): 2C of ContraGAN (arXiv:2006.12681).

    Of places x (n, S, D) of the images of an event and p (S, D) of the sensors, at the temperature 1.
    """
    own = (places * proxies).sum(dim=-1, keepdim=True)
    others = _off_diagonal(places @ places.mT, -torch.inf)
    return (torch.cat([own, others], dim=-1).logsumexp(dim=-1) - own[..., 0]).mean()


def uniformity(places: Tensor) -> Tensor:
    """Mean over events of log of the mean of exp(−t |x_i − x_k|²) of pairs of images (arXiv:2005.10242)."""
    exponents = _off_diagonal(2 * SPREAD * (places @ places.mT - 1), -torch.inf)
    sensors = places.shape[1]
    return (exponents.flatten(1).logsumexp(dim=1) - math.log(sensors * (sensors - 1))).mean()


def intra_event(fake: Tensor, real: Tensor) -> Tensor:
    """Mean of KL(real, fake) of the softmax of each row of the Gram matrices (n, S, S) of places.

    What images of an event are to each other shall be alike in real and generated events (IEA-GAN).
    """
    of_fake, of_real = ((places @ places.mT).log_softmax(dim=-1) for places in (fake, real.detach()))
    return F.kl_div(of_fake, of_real, reduction="none", log_target=True).sum(dim=-1).mean()


def orthogonality(weights: Iterable[Tensor]) -> Tensor:
    """Σ ½ |W·Wᵀ without its diagonal|² of weights as matrices W, of BigGAN.

    |W·Wᵀ| = |Wᵀ·W|, of which the smaller one is computed.
    """
    shapes: dict[torch.Size, list[Tensor]] = {}
    for weight in weights:
        shapes.setdefault(weight.shape, []).append(weight)
    terms = []
    for alike in shapes.values():  # a few operations for all of one shape
        w = torch.stack(alike).flatten(2)
        gram = w @ w.mT if w.shape[1] <= w.shape[2] else w.mT @ w
        terms.append((gram.square().sum() - w.square().sum(dim=2).square().sum()) / 2)
    return torch.stack(terms).sum()
