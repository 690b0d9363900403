"""What a halving's network says of its splits, of all that they know."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.tensor_cache import TensorCache
from caloforge.models.tree.split import n_outputs

__all__ = ["SplitNetwork"]

WIDEST = 3.0
"""Places of the components of a mixture begin between −3 and 3."""


class SplitNetwork(nn.Module):
    """What is known of L splits (L, K) → what `split` reads, (L, 3 + 3M).

    The first layer has weights for each stage of layers, whose neighbours are at other distances, and a term
    for each place. It takes what is known in units of its standard deviation, so that weak hints are learnt
    as soon as strong ones.

    Args:
        known: K.
        places: what is fixed of each place, (P, F).
        stages: of each place, (P,).
        width, depth: of the network; its blocks are residual.
        components: M.
    """

    places: Tensor
    stages: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, known: int, places: Tensor, stages: Tensor, *, width: int, depth: int, components: int
    ) -> None:
        super().__init__()
        self.components = components
        enter = nn.Linear(known, width)
        self.n_stages = int(stages.max()) + 1
        self.enter = nn.Parameter(enter.weight.detach().clone().repeat(self.n_stages, 1, 1))
        self.place = nn.Linear(places.shape[1], width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, n_outputs(components))
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("stages", stages, persistent=False)
        self.register_buffer("mean", torch.zeros(self.n_stages, known))
        self.register_buffer("std", torch.ones(self.n_stages, known))
        self._derived: TensorCache[Tensor] = TensorCache()
        with torch.no_grad():
            self.head.weight.mul_(0.3)
            self.head.bias.zero_()
            self.head.bias[3 + components : 3 + 2 * components] = torch.linspace(-WIDEST, WIDEST, components)

    def forward(self, known: Tensor, place: Tensor, sizes: Sequence[int], bf16: bool = False) -> Tensor:
        """Of splits whose rows of ``known`` (L, K) are in the order of stages, ``sizes`` in each.

        With ``bf16`` products are computed in bfloat16.
        """
        with torch.autocast(known.device.type, dtype=torch.bfloat16, enabled=bf16):
            parts = torch.split(known, list(sizes))
            h = torch.cat([F.linear(x, w) for x, w, n in zip(parts, self.entered(), sizes, strict=True) if n])
            return self._rest(h.to(known.dtype) + self.placed()[place])

    def at_stage(self, known: Tensor, placed: Tensor, stage: int, bf16: bool = False) -> Tensor:
        """The same (n, L, 3 + 3M) of a pass, of what its splits know (n, L, K) and `placed` (L, W)."""
        with torch.autocast(known.device.type, dtype=torch.bfloat16, enabled=bf16):
            return self._rest(F.linear(known, self.entered()[stage]).to(known.dtype) + placed)

    def _rest(self, h: Tensor) -> Tensor:
        """What follows the first layer, of its sums (…, W)."""
        out: Tensor = self.head(self.hidden(h))
        return out.to(h.dtype)

    def hidden(self, h: Tensor) -> Tensor:
        """What the head is told, of the sums (…, W) of the first layer."""
        for block in self.blocks:
            h = h + block(F.silu(h))
        return F.silu(h)

    def entered(self) -> Tensor:
        """Weights of the first layer for what is known as it is, (stages, width, K)."""
        return self._derived("enter", (self.enter, self.std), lambda: self.enter / self.std[:, None])

    def placed(self) -> Tensor:
        """What each place adds to the first layer, (P, width)."""

        def derive() -> Tensor:
            centre = (self.entered() @ self.mean[..., None])[..., 0]
            placed: Tensor = self.place(self.places) - centre[self.stages]
            return placed

        return self._derived(
            "place", (self.place.weight, self.place.bias, self.enter, self.mean, self.std), derive
        )

    def weights(self) -> list[Tensor]:
        """All parameters, mean and standard deviation."""
        layers = (self.place, self.head, *self.blocks)
        return [
            self.enter,
            self.mean,
            self.std,
            *(layer.weight for layer in layers),
            *(layer.bias for layer in layers),
        ]
