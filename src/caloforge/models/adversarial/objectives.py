"""What critic and generator are trained for, of scores (n,) of real and generated showers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["Objective", "critic_loss", "generator_loss", "gradient_penalty"]

Objective = Literal["wasserstein", "hinge", "plain", "non-saturating"]
"""Of Arjovsky et al. (arXiv:1701.07875), Lim and Ye (arXiv:1705.02894) and, twice, Goodfellow et al.
(arXiv:1406.2661), who minimise log(1 − σ(D)) or, as everybody does, −log σ(D)."""


def critic_loss(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """Mean loss of the critic."""
    if objective == "wasserstein":
        return (fake - real).mean()
    if objective == "hinge":
        return (torch.relu(1 - real) + torch.relu(1 + fake)).mean()
    return (softplus(-real) + softplus(fake)).mean()


def generator_loss(objective: Objective, fake: Tensor) -> Tensor:
    """Mean loss of the generator."""
    if objective == "plain":
        return -softplus(fake).mean()
    if objective == "non-saturating":
        return softplus(-fake).mean()
    return -fake.mean()


def gradient_penalty(
    score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean of (|∇D| − 1)² between real and generated showers (n, D), WGAN-GP (arXiv:1704.00028).

    Gradients are enabled for it, also in validation.
    """
    with torch.enable_grad():
        mix = torch.rand(len(real), 1, generator=generator, device=real.device).to(real.dtype)
        between = torch.lerp(fake.detach().to(real.dtype), real, mix).requires_grad_()
        (slope,) = torch.autograd.grad(score(between).sum(), between, create_graph=True)
        penalty: Tensor = (slope.norm(dim=1) - 1).square().mean()
        return penalty
