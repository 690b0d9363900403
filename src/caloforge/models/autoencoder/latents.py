"""What autoencoders have in common: encoders whose latents are normal, and how far distributions are apart.

Legend: ``n`` examples, ``L`` latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["GaussianEncoder", "encoded", "kl_to_standard", "mmd", "sorted_kernel_mmd"]

LOG_STD = 5.0
"""Logarithms of standard deviations are kept within ±."""
FIRST_LOG_STD = -2.0
"""In the beginning latents say something of their shower, else decoders learn not to listen."""


class GaussianEncoder(nn.Module):
    """Dense layers to means and logarithms of standard deviations, (n, I) → (n, L) each."""

    def __init__(self, inputs: int, hidden: Sequence[int], latent: int) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for a, b in pairwise((inputs, *hidden)):
            steps += [nn.Linear(a, b), nn.SiLU()]
        last = nn.Linear((inputs, *hidden)[-1], 2 * latent)
        with torch.no_grad():
            last.bias[latent:] = FIRST_LOG_STD
        self.network = nn.Sequential(*steps, last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.network(x).chunk(2, dim=1)
        return mean, log_std.clamp(-LOG_STD, LOG_STD)


def encoded(encoder: nn.Module, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A latent of each example (n, L), drawn from what the encoder says, and its log q, (n,)."""
    mean, log_std = encoder(x)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    log_q = -(log_std + 0.5 * noise.square() + 0.5 * math.log(2 * math.pi)).sum(dim=1)
    return mean + log_std.exp() * noise, log_q


def kl_to_standard(mean: Tensor, log_std: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mean, std²) (n, L) from N(0, 1), (n,)."""
    return 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(dim=1)


def mmd(x: Tensor, y: Tensor, alphas: Sequence[float]) -> Tensor:
    """Squared maximum mean discrepancy of x (…, n, D) and y (…, m, D), (…), all pairs counted.

    The kernel is the sum of exp(−α·|x − y|²) over α of ``alphas``.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        distance = (a[..., :, None, :] - b[..., None, :, :]).square().sum(dim=-1)
        return torch.stack([(-alpha * distance).exp() for alpha in alphas]).sum(dim=0).mean(dim=(-2, -1))

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def sorted_kernel_mmd(x: Tensor, y: Tensor, *, cells: int, window: int, stride: int, alpha: float) -> Tensor:
    """`mmd` of cells in windows of their order, BIB-AE's post-processor's loss (arXiv:2005.05334), (n,).

    The largest ``cells`` values of x and of y (n, V) are sorted; windows of so many of them, ``stride``
    apart, are compared each by itself, and the mean over windows is taken.
    """
    count = min(cells, x.shape[1])
    size = min(window, count)
    ours, theirs = (v.topk(count, dim=1).values.unfold(1, size, stride)[..., None] for v in (x, y))
    return mmd(ours, theirs, (alpha,)).mean(dim=1)
