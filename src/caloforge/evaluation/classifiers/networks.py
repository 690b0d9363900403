"""The networks: dense, and ResNet-18 in two and three dimensions (arXiv:1512.03385).

Legend: ``n`` showers, ``D`` inputs, ``C`` channels, ``S`` the axes of an image, ``w`` channels of a stage,
``K`` outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.evaluation.classifiers.inputs import Layout
from caloforge.evaluation.classifiers.settings import ClassifierSettings

__all__ = ["Dense", "ResNet18", "make_network"]

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def make_network(width: int, outputs: int, layout: Layout, settings: ClassifierSettings) -> nn.Module:
    """A network for rows of ``width`` inputs: a ResNet-18 where they hold images, else a dense network."""
    if not layout.image:
        return Dense(width, outputs, settings.hidden, settings.layers, settings.dropout)
    copies = (width - 1) // (layout.cells.stop - layout.cells.start)  # cells, and their logarithms if any
    channels, *axes = layout.image
    return ResNet18((copies * channels, *axes), outputs, settings.widths)


class Dense(nn.Module):
    """Hidden layers with LeakyReLU(0.01) and dropout, and a linear output, (n, D) → (n, K)."""

    def __init__(self, inputs: int, outputs: int, hidden: int, layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        rest: list[nn.Module] = [nn.LeakyReLU(0.01)]
        for _ in range(layers - 1):
            rest += [*_dropped(dropout), nn.Linear(hidden, hidden), nn.LeakyReLU(0.01)]
        rest += _dropped(dropout)
        self.rest = nn.Sequential(*rest, nn.Linear(hidden, outputs))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.rest(self.first(x))
        return result


class Dropout(nn.Module):
    """Leaves out neurons at random, from a stream of its own: others train beside it at the same time."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.seed = share, int(torch.randint(2**62, ()))
        self._generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if self._generator is None:
            self._generator = torch.Generator(x.device).manual_seed(self.seed)
        kept = torch.empty_like(x).bernoulli_(1 - self.share, generator=self._generator)
        return x * kept / (1 - self.share)


def _dropped(share: float) -> list[nn.Module]:
    return [Dropout(share)] if share else []


class BasicBlock(nn.Module):
    """relu(shortcut(x) + BN(conv(relu(BN(conv(x)))))) with 3-wide convolutions, (n, w, \\*S)."""

    def __init__(self, dims: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        convolution, norm = CONVOLUTION[dims], NORM[dims]
        self.body = nn.Sequential(
            convolution(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            norm(outputs),
            nn.ReLU(),
            convolution(outputs, outputs, 3, padding=1, bias=False),
            norm(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                convolution(inputs, outputs, 1, stride=stride, bias=False), norm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.body(x))


class ResNet18(nn.Module):
    """ResNet-18 on images with the incident energy joined before the last layer, (n, D) → (n, K).

    Strides halve an axis and round up, so an axis of any length ends at 1 at the least and small meshes need
    no other network.

    Args:
        shape: channels and axes of the image, (C, \\*S) with two or three axes.
        outputs: K.
        widths: channels of the four stages; (32, 64, 64, 128) in the CaloChallenge.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        dims = len(shape) - 1
        self.stem = nn.Sequential(
            CONVOLUTION[dims](shape[0], widths[0], 7, stride=2, padding=3, bias=False),
            NORM[dims](widths[0]),
            nn.ReLU(),
            POOL[dims](3, stride=2, padding=1),
        )
        stages = []
        for inputs, width, stride in zip((widths[0], *widths), widths, (1, 2, 2, 2), strict=False):
            stages += [BasicBlock(dims, inputs, width, stride), BasicBlock(dims, width, width, 1)]
        self.stages = nn.Sequential(*stages)
        self.energy = nn.BatchNorm1d(1)
        self.output = nn.Linear(widths[-1] + 1, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Rows of log₁₀ E_inc and the image, (n, 1 + C·S)."""
        # the shapes in brackets are those of data set 2 in three dimensions
        energy = self.energy(x[:, :1])  # (n, 1)
        image = x[:, 1:].reshape(-1, *self.shape)  # (n, C, *S)          (n, 1, 45, 16, 9)
        image = self.stem(image)  # (n, w₁, *S/4)                        (n, 32, 12, 4, 3)
        image = self.stages(image)  # (n, w₄, *S/32)                     (n, 128, 2, 1, 1)
        pooled = image.flatten(2).mean(dim=2)  # (n, w₄)
        result: Tensor = self.output(torch.cat([pooled, energy], dim=1))  # (n, K)
        return result
