"""What of the weights of a part is learnt when it goes on from trained ones: few numbers of few showers.

Legend: ``R`` rank.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["UPDATES", "Everything", "LowRank", "Tables"]


class Everything:
    """All weights.

    Args:
        weights: of the part.
        rank: R.

    Attributes:
        weights: those that change.
        learnt: what the optimiser moves.
    """

    def __init__(self, weights: list[nn.Parameter], rank: int) -> None:
        self.weights = weights
        self.learnt: list[nn.Parameter] = weights

    def take_gradients(self) -> None:
        """Give what is learnt its gradients, of those of the weights."""

    def change_weights(self) -> None:
        """Set the weights to what was learnt."""

    def tensors(self) -> list[Tensor]:
        """What a training that goes on needs besides the weights."""
        return []


class Tables(Everything):
    """Weights with fewer than two axes: biases and scales (BitFit, E. Ben Zaken et al., arXiv:2106.10199).

    What a model keeps of its detectors, such as thresholds, is fitted to the new showers before.
    """

    def __init__(self, weights: list[nn.Parameter], rank: int) -> None:
        super().__init__([w for w in weights if w.ndim < 2], rank)


class LowRank(Everything):
    """Matrices W = W₀ + A B with A (m, R), B (R, n), and `Tables` (LoRA, E. Hu et al., arXiv:2106.09685).

    A weight of more axes is the matrix that is most nearly square; one that has as few numbers as A and B is
    learnt as it is. A begins at 0, B at random with a variance of 1/R: a step of Adam then changes W by as
    much as one of W itself.
    """

    def __init__(self, weights: list[nn.Parameter], rank: int) -> None:
        super().__init__(weights, rank)
        self.learnt, self._low = [], []
        random = torch.Generator().manual_seed(0)
        for weight in weights:
            m, n = _shape(weight)
            if rank * (m + n) >= weight.numel():
                self.learnt.append(weight)
                continue
            a, b = weight.new_zeros(m, rank), torch.randn(rank, n, generator=random).to(weight) / rank**0.5
            factors = nn.Parameter(a), nn.Parameter(b)
            self.learnt += factors
            self._low.append((weight, weight.detach().clone(), *factors))

    @torch.no_grad()
    def take_gradients(self) -> None:
        for weight, _, a, b in self._low:
            if weight.grad is None:
                a.grad = b.grad = None
                continue
            gradient = weight.grad.view(len(a), -1)
            a.grad, b.grad = gradient @ b.T, a.T @ gradient

    @torch.no_grad()
    def change_weights(self) -> None:
        for weight, start, a, b in self._low:
            weight.copy_(start + (a @ b).view_as(start))

    def tensors(self) -> list[Tensor]:
        return [tensor.detach() for _, *own in self._low for tensor in own]


def _shape(weight: Tensor) -> tuple[int, int]:
    """Rows and columns of the matrix that a weight is."""
    rows = [math.prod(weight.shape[:i]) for i in range(weight.ndim)]
    m = min((m for m in rows if m), key=lambda m: m + weight.numel() // m)
    return m, weight.numel() // m


UPDATES: dict[str, type[Everything]] = {"tables": Tables, "low-rank": LowRank, "all": Everything}
"""By name, cheap ones first."""
