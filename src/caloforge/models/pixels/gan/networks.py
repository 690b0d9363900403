"""The networks of PE-GAN and IEA-GAN: BigGAN-deep, whose images are the sensors of an event.

Legend: ``n`` events of ``S`` sensors with images of (H, W), ``B`` sources of background, ``Z`` numbers of
noise, ``R`` numbers of noise of the relations, ``E`` numbers that a sensor is, ``K`` = E + Z, ``D`` numbers
of the critic's sphere.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from caloforge.models.networks.spectral import SpectralConv, SpectralLinear, SpectralNetwork
from caloforge.models.pixels.gan.blocks import Attention, CriticBlock, GeneratorBlock, event_norm
from caloforge.models.pixels.gan.relations import Relations, SensorRows
from caloforge.runtime.precision import bf16_autocast

__all__ = ["EventCritic", "EventGenerator"]

Size = tuple[int, int]
DARK = -2.0
"""Before tanh; images begin nearly empty, as real ones are."""


def _orthogonal(network: nn.Module) -> None:
    """Weights of all layers begin as orthogonal matrices."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(module.weight)


class _Blocks(SpectralNetwork):
    """What both networks are: blocks, of which one may be followed by attention.

    Args:
        patch: images are made and seen in squares of so many cells, whose cells are channels.
        recompute: blocks keep nothing for gradients but their inputs.
    """

    blocks: nn.ModuleList
    attention: nn.ModuleDict

    def __init__(self, patch: int, recompute: bool) -> None:
        super().__init__()
        self.patch, self.recompute = patch, recompute

    def _attend(self, widths: Sequence[int], depth: int, after: int | None) -> None:
        """Attention after so many changes of the size, ``depth`` blocks each; None for none."""
        self.attention = nn.ModuleDict()
        if after is not None:
            self.attention[str(after * depth - 1)] = Attention(widths[after])

    def _through(self, x: Tensor, *given: Any) -> Tensor:
        """What the blocks make, one after the other, of ``x`` and what all are given.

        Their inside is made again for gradients, instead of being kept, if wanted.
        """
        again = self.recompute and torch.is_grad_enabled()
        for i, block in enumerate(self.blocks):
            if again:
                x = checkpoint(block, x, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, *given)
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        return x

    def _weights(self) -> AbstractContextManager[None]:
        """Weights are normalised once for all layers, unless blocks compute anything again."""
        return nullcontext() if self.recompute else self.normalised()


class EventGenerator(_Blocks):
    """Noise of an event → images of all its sensors, between −1 and 1.

    Args:
        sensors, size: S, (H, W), which ``patch`` and then as many halvings as ``widths`` has steps divide.
        widths: channels at the beginning and after each doubling.
        patch: images are made in squares of so many cells, whose cells are channels.
        depth: blocks of each size, the last of which doubles.
        latent, embedding: Z, E.
        relation_noise: R; None where sensors are not related.
        prior: whether a number of each sensor is known before.
        rates: B; 0 where it is not told of rates.
        heads: of the relations.
        attention: after so many doublings; None for none.
        recompute: blocks keep nothing for gradients but their inputs.
    """

    def __init__(
        self,
        sensors: int,
        size: Size,
        widths: Sequence[int],
        *,
        patch: int,
        depth: int,
        latent: int,
        embedding: int,
        relation_noise: int | None,
        prior: bool,
        rates: int,
        heads: int,
        attention: int | None,
        recompute: bool,
    ) -> None:
        super().__init__(patch, recompute)
        self.start = tuple(s // patch // 2 ** (len(widths) - 1) for s in size)
        self.rows = SensorRows(sensors, embedding, prior=prior, spectral=False)
        self.rates = SpectralLinear(rates, embedding) if rates else None
        self.relate = None
        if relation_noise is not None:
            self.relate = nn.Sequential(
                SpectralLinear(embedding + relation_noise, embedding),
                Relations(embedding, heads, embedding, spectral=False),
            )
        told = embedding + latent
        self.first = SpectralLinear(told, widths[0] * self.start[0] * self.start[1])
        self.blocks = nn.ModuleList(
            GeneratorBlock(a, b if last else a, told, double=last)
            for a, b in pairwise(widths)
            for last in [False] * (depth - 1) + [True]
        )
        self._attend(widths, depth, attention)
        self.gain, self.shift = nn.Parameter(torch.ones(widths[-1])), nn.Parameter(torch.zeros(widths[-1]))
        self.last = SpectralConv(widths[-1], patch**2, 3, padding=1)
        _orthogonal(self)
        nn.init.constant_(self.last.get_parameter("bias"), DARK)

    def told(self, latent: Tensor, relation: Tensor | None, prior: Tensor, rates: Tensor) -> Tensor:
        """What the layers are told of each sensor of each event, (n, S, K)."""
        rows = self.rows(prior).expand(len(latent), -1, -1)
        if self.rates is not None:
            rows = rows + self.rates(rates)[:, None]
        if self.relate is not None and relation is not None:
            rows = self.relate(torch.cat([rows, relation], dim=2))
        return torch.cat([rows, latent], dim=2)

    def forward(
        self, latent: Tensor, relation: Tensor | None, prior: Tensor, rates: Tensor, bf16: bool = False
    ) -> Tensor:
        """(n, S, Z), (n, S, R), (S,) and logarithms (n, B) → (n, S, H, W)."""
        events, sensors = latent.shape[:2]
        with self._weights():
            told = self.told(latent, relation, prior, rates).flatten(0, 1)
            told = told.bfloat16() if bf16 else told  # once, not in each layer
            with bf16_autocast(latent.device, bf16):
                x = self.first(told).view(len(told), -1, *self.start)
                x = x.contiguous(memory_format=torch.channels_last)  # in which convolutions are fastest
                x = self._through(x, told, events)
                x = self.last(F.relu(event_norm(x, events, self.gain, self.shift), inplace=True))
        x = F.pixel_shuffle(torch.tanh(x.float()), self.patch)
        return x.view(events, sensors, *x.shape[2:])


class EventCritic(_Blocks):
    """Images of all sensors of events → scores, and places of sensors and of their images on a sphere.

    Args:
        sensors: S.
        widths: channels after the first convolution and after each halving.
        patch: images are seen in squares of so many cells, whose cells are channels.
        depth: blocks of each size, the first of which halves.
        sphere: D.
        relational: whether the images of an event are related before they get a place.
        prior: whether a number of each sensor is known before.
        rates: B; 0 where it is not told of rates. Scores are then those of a projection (arXiv:1802.05637).
        heads: of the relations.
        attention: after so many halvings; None for none.
        recompute: blocks keep nothing for gradients but their inputs.
    """

    def __init__(
        self,
        sensors: int,
        widths: Sequence[int],
        *,
        patch: int,
        depth: int,
        sphere: int,
        relational: bool,
        prior: bool,
        rates: int,
        heads: int,
        attention: int | None,
        recompute: bool,
    ) -> None:
        super().__init__(patch, recompute)
        self.first = SpectralConv(patch**2, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            CriticBlock(a if halve else b, b, halve=halve, first=i == 0 and halve)
            for i, (a, b) in enumerate(pairwise(widths))
            for halve in [True] + [False] * (depth - 1)
        )
        self._attend(widths, depth, attention)
        features = widths[-1]
        self.score = SpectralLinear(features, 1)
        self.rates = SpectralLinear(rates, features) if rates else None
        self.relate = Relations(features, heads, features, spectral=True) if relational else None
        self.place = SpectralLinear(features, sphere)
        self.norm = nn.LayerNorm(sphere) if relational else None
        self.rows = SensorRows(sensors, sphere, prior=prior, spectral=True)
        _orthogonal(self)

    def forward(self, images: Tensor, rates: Tensor, bf16: bool = False) -> tuple[Tensor, Tensor]:
        """(n, S, H, W) and logarithms (n, B) → scores (n, S) and places of length 1 (n, S, D)."""
        with self._weights():
            features = self.features(images.flatten(0, 1)[:, None], bf16).view(*images.shape[:2], -1)
            placed = self.place(features if self.relate is None else self.relate(features))
            if self.norm is not None:
                placed = self.norm(placed)
            scores = self.score(features)[..., 0]
            if self.rates is not None:
                scores = scores + (features * self.rates(rates)[:, None]).sum(dim=-1)
        return scores, F.normalize(placed, dim=-1)

    def features(self, images: Tensor, bf16: bool) -> Tensor:
        """Of images (m, 1, H, W), each by itself, (m, features)."""
        with bf16_autocast(images.device, bf16):
            x = F.pixel_unshuffle(images, self.patch)
            x = self._through(self.first(x.contiguous(memory_format=torch.channels_last)))
            return F.relu(x).sum(dim=(2, 3), dtype=torch.float32)

    def proxies(self, prior: Tensor) -> Tensor:
        """Places of the sensors themselves, of length 1, (S, D)."""
        return F.normalize(self.rows(prior), dim=-1)
