"""CaloGAN: a stream of locally connected layers for each layer of cells, and attention from layer to layer.

Paganini, de Oliveira and Nachman, arXiv:1705.02355 and 1712.10321. The critic has a stream for each layer,
too, sees energies and shares of lit cells, and how showers of a batch differ among one another.

Legend: ``n`` showers, ``V`` cells, ``Z`` layers of (H, W) cells, ``K`` numbers of context. Energies are MeV.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.detector.mesh import Mesh, RaggedBoxMesh, RaggedCylinderMesh
from caloforge.models.adversarial.model import AdversarialModel, AdversarialSettings
from caloforge.models.adversarial.objectives import Objective
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.networks.locally_connected import LocallyConnected
from caloforge.models.networks.tensor_cache import TensorCache

__all__ = ["CaloGAN"]

SLOPE = 0.3
"""Of leaky ReLUs."""
LEAST_VARIANCE = 1e-5
"""What is added to variances that are divided by."""
CARRIED = -10.0
"""Bias of what is carried over from the layer in front, so that a generator begins without."""
LEAST_USUAL = 1e-3
"""Coordinate that images begin with where training showers have none."""
GEV = 1000.0
FAR_GEV = 5.0
"""A total energy so far from the incident one is told to the critic as such."""

Size = tuple[int, int]


class Stream(nn.Module):
    """Noise and context (n, I) → the image of one layer, (H, W, 1, n), of any sign.

    Nothing is between dense layer and convolution: they are one product of matrices, and showers are last.
    """

    def __init__(self, inputs: int, size: Size, filters: tuple[int, int, int]) -> None:
        super().__init__()
        (rows, columns), (first, second, third) = size, filters
        self.start = (first, rows + 2, columns + 2)
        self.dense = nn.Linear(inputs, math.prod(self.start))
        self.convolution = nn.Conv2d(first, second, 2)
        self.norm = ShowerNorm(second)
        self.local = LocallyConnected(second, third, (rows + 1, columns + 1), (2, 2))
        self.last = LocallyConnected(third, 1, size, (2, 2), same=True)
        self.derived: TensorCache[tuple[Tensor, Tensor]] = TensorCache()

    def forward(self, x: Tensor, bf16: bool = False) -> Tensor:
        """The first product, which takes nearly all of the time, in bfloat16 if ``bf16``."""
        dtype = torch.bfloat16 if bf16 else x.dtype
        parameters = (*self.dense.parameters(), *self.convolution.parameters())
        weight, bias = self.derived(dtype, parameters, lambda: self._both(dtype))
        _, rows, columns = self.start
        x = torch.addmm(bias, weight, x.T.to(dtype)).float().view(rows - 1, columns - 1, -1, x.shape[0])
        x = self.local(self.norm(F.leaky_relu(x, SLOPE)))
        image: Tensor = self.last(F.leaky_relu(x, SLOPE))
        return image

    def _both(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weights (H·W·C, I) and biases (H·W·C, 1) of the convolution after the dense layer."""
        of_inputs = F.conv2d(self.dense.weight.T.reshape(-1, *self.start), self.convolution.weight)
        bias = self.convolution(self.dense.bias.view(1, *self.start))
        weight, bias = (t.permute(2, 3, 1, 0).flatten(0, 2).to(dtype) for t in (of_inputs, bias))
        return weight, bias


class ShowerNorm(nn.Module):
    """(H, W, C, n) with mean 0 and variance 1 in each shower, scaled and shifted by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(dim=(0, 1, 2))
        scale = (x.square().mean(dim=(0, 1, 2)) + LEAST_VARIANCE).rsqrt()
        return torch.addcmul(self.bias, x, self.weight * scale)


class Generator(nn.Module):
    """A `Stream` for each layer; each but the first is mixed with the one in front by attention."""

    def __init__(self, inputs: int, sizes: list[Size], filters: tuple[int, int, int]) -> None:
        super().__init__()
        self.streams = nn.ModuleList(Stream(inputs, size, filters) for size in sizes)
        self.attention = nn.ModuleList(_attention(size) for size in sizes[1:])

    def forward(self, x: Tensor, bf16: bool = False) -> Tensor:
        """(n, I) → (n, V)."""
        images: list[Tensor] = []
        for i, stream in enumerate(self.streams):
            image = stream(x, bf16)
            if i:
                both = torch.cat([image, _resized(images[-1], image.shape[:2])], dim=2)
                image = (self.attention[i - 1](both).softmax(dim=2) * both).sum(dim=2, keepdim=True)
            images.append(image)
        return torch.cat([image.flatten(0, 2) for image in images]).T.contiguous()


def _resized(images: Tensor, size: Size) -> Tensor:
    """Bilinear images (H, W, 1, n) → (H′, W′, 1, n)."""
    channels = images.permute(2, 3, 0, 1)  # showers are channels, which are last in memory
    made = F.interpolate(channels, size, mode="bilinear", align_corners=False)
    return made.permute(2, 3, 0, 1)


def _attention(size: Size) -> LocallyConnected:
    """Weights of a layer's own image and of what is carried over, before the softmax."""
    weights = LocallyConnected(2, 2, size, (3, 3), same=True)
    with torch.no_grad():
        weights.bias[:, 1] = CARRIED
    return weights


class MinibatchDiscrimination(nn.Module):
    """How near the other showers of the batch are in B projections, (n, F) → (n, B) (arXiv:1606.03498)."""

    def __init__(self, features: int, kernels: int, dims: int) -> None:
        super().__init__()
        self.shape = (kernels, dims)
        self.projections = nn.Linear(features, kernels * dims, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        m = self.projections(x).view(x.shape[0], *self.shape)
        distance = (m[:, None] - m[None]).abs().sum(dim=-1)  # (n, n, B)
        return torch.exp(-distance).mean(dim=1)


class CriticStream(nn.Module):
    """The image of one layer (n, H·W) → features (n, F)."""

    def __init__(self, size: Size, filters: tuple[int, int]) -> None:
        super().__init__()
        first, second = filters
        self.size = size
        self.convolution = nn.Conv2d(1, first, 2)
        self.local = LocallyConnected(first, second, size, (3, 3), stride=(1, 2), same=True)
        self.last = LocallyConnected(second, second, self.local.size, (2, 2), stride=(1, 2), same=True)
        self.features = second * math.prod(self.last.size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(F.pad(x.view(-1, 1, *self.size), (0, 1, 0, 1))).permute(2, 3, 1, 0)
        for layer in (self.local, self.last):
            x = layer(F.leaky_relu(x, SLOPE))
        return F.leaky_relu(x, SLOPE).flatten(0, 2).T


class Critic(nn.Module):
    """Streams of each layer, minibatch discrimination and numbers of the shower → scores (n,)."""

    def __init__(
        self, sizes: list[Size], filters: tuple[int, int], lit: int, numbers: int, minibatch: tuple[int, int]
    ) -> None:
        super().__init__()
        streams = [CriticStream(size, filters) for size in sizes]
        features = sum(stream.features for stream in streams)
        self.streams = nn.ModuleList(streams)
        self.cells = [math.prod(size) for size in sizes]
        self.of_features = MinibatchDiscrimination(features, *minibatch)
        self.of_lit = MinibatchDiscrimination(lit, *minibatch)
        self.last = nn.Linear(features + 2 * minibatch[0] + lit + numbers, 1, bias=False)

    def forward(self, seen: Tensor, lit: Tensor, numbers: Tensor) -> Tensor:
        """Cells (n, V), shares of lit cells (n, L) and further numbers (n, N) → (n,)."""
        layers = seen.split_with_sizes(self.cells, dim=1)
        features = torch.cat(
            [stream(layer) for stream, layer in zip(self.streams, layers, strict=True)], dim=1
        )
        known = [features, self.of_features(features), self.of_lit(lit), lit, numbers]
        score: Tensor = self.last(torch.cat(known, dim=1))[:, 0]
        return score


class CaloGAN(AdversarialModel):
    """CaloGAN on any of caloforge's meshes.

    What the critic sees of a shower hangs on the others of its batch, which in a training of several
    processes are those of a process's share.
    """

    class Settings(AdversarialSettings):
        """Sizes of the networks.

        Attributes:
            scaled_noise: noise is multiplied by E/100 GeV, as published.
            filters: channels of a stream after its dense layer, convolution and first local layer.
            critic_filters: channels of a critic's stream after its convolution and in its local layers.
            minibatch: projections of the minibatch discrimination, and numbers of each.
            energy_loss: weight of |ΣE − E_inc| in GeV in the generator's loss.
            bf16: the generator's dense layers in bfloat16; "auto" where the device multiplies it natively.
        """

        objective: Objective = "non-saturating"
        penalty: float = Field(0.0, ge=0)
        scaled_noise: bool = False
        filters: tuple[int, int, int] = (12, 8, 4)
        critic_filters: tuple[int, int] = (16, 8)
        minibatch: tuple[int, int] = (10, 10)
        energy_loss: float = Field(0.05, ge=0)
        bf16: bool | Literal["auto"] = False

    usual: Tensor
    sees_batch: ClassVar[bool] = True  # its critic discriminates minibatches
    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box", "ragged-cylinder", "ragged-box")
    example: ClassVar[Mapping[str, Any]] = {
        "latent": 4,
        "filters": (3, 2, 2),
        "critic_filters": (2, 2),
        "minibatch": (2, 2),
    }
    settings: Settings

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        context, sizes = self._begin(), _sizes(mesh)
        lit = self.summary_size - mesh.n_layers
        numbers = 2 * mesh.n_layers + 3 + context
        self.register_buffer("usual", torch.zeros(mesh.n_voxels))
        self._build(
            Generator(s.latent + context, sizes, s.filters),
            Critic(sizes, s.critic_filters, lit, numbers, s.minibatch),
        )

    def begin_fit(self) -> None:
        self._sums, self._n = torch.zeros_like(self.usual, dtype=torch.float64), 0

    def fit_batch(self, batch: Batch) -> None:
        self._sums += self.cells(batch.energies.flatten(1)).double().sum(dim=0)
        self._n += len(batch)

    def end_fit(self) -> None:
        """Images begin at the mean shower: that most cells are empty would take a generator long to find."""
        mean = self._sums / (self._n * self.cells.scale.double())
        self.usual.copy_(mean.clamp_min(LEAST_USUAL).expm1().log())
        del self._sums, self._n

    def proposed(
        self, noise: Mapping[str, Tensor], context: Tensor, conditions: ConditionTensors
    ) -> tuple[Tensor, Tensor | None]:
        scale = conditions.energy[:, None] / (100 * GEV) if self.settings.scaled_noise else 1.0
        images = self.generator(torch.cat([noise["latent"] * scale, context], dim=1), self.bf16)
        return self.cells.inverse(F.softplus(self.usual + images)), None

    def score(self, seen: Tensor, context: Tensor, conditions: ConditionTensors) -> Tensor:
        sums = self.layers.sum(self.cells.inverse(seen.clamp_min(0))) / GEV
        energy = conditions.energy[:, None] / GEV
        apart = (sums.sum(dim=1, keepdim=True) - energy).abs()
        far = 10 * (apart > FAR_GEV).to(sums)
        logs, lit = self.summary(seen).tensor_split((self.mesh.n_layers,), dim=1)
        numbers = torch.cat([sums / 10, logs, energy / 100, apart, far, context], dim=1)
        scores: Tensor = self.critic(seen, lit, numbers)
        return scores

    def guidance(self, energies: Tensor, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        if not self.settings.energy_loss:
            return {}
        apart = (energies.sum(dim=1) - batch.energy).abs().mean() / GEV
        return {"energy": self.settings.energy_loss * apart}


def _sizes(mesh: Mesh) -> list[Size]:
    """Rows and columns of the cells of each layer."""
    if isinstance(mesh, RaggedBoxMesh | RaggedCylinderMesh):
        return [layer.shape for layer in mesh.layers]
    layers, rows, columns = mesh.shape
    return [(rows, columns)] * layers
